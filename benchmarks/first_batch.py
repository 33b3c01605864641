"""Seconds from the start of a process to its first batch, for benchmarks/loader.py: it imports what training does.

python benchmarks/first_batch.py CATALOG START, with the start in seconds since 1970.
"""

import json
import sys
import time

steps = {}


def done(step: str) -> None:
    steps[step] = time.time() - float(sys.argv[2])


done("Python started")
import torch  # noqa: E402

done("torch imported")
from catalog.query import open_catalog  # noqa: E402
from training.loader import Loader  # noqa: E402

done("pwcat imported")
catalog = open_catalog(sys.argv[1])
done("catalog opened")
subset = catalog.search()
done("samples found")
loader = Loader(subset, bands=subset.bands, batch_size=256, seed=0, placement="stream")
done("Loader made")
batches = loader.epoch(0)
batch = next(batches)
done("first batch")
assert isinstance(batch.chips, torch.Tensor)
assert len(batch.chips) == 256
print(json.dumps(steps))
batches.close()
