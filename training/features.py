"""Features of a frozen image tower, computed once: a few augmented views of each sample, kept beside the run.

Where a tower does not train, its output for a view never changes, and reading chips and running the tower again each epoch is
most of the work for nothing. So a few views of each sample are drawn and encoded before the first step, and training takes one
of them at random each time it sees the sample. The order of samples is that of the chips.

Blocks of samples are written whole, one file each, so that what a killed run had done is kept; at the end they become one file,
named by a hash of everything that bears on it.

Shapes: N samples, V views, D length of a feature, B batch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from training.batch import Batch
from training.chance import Chance, to_device
from training.loader import Loader
from training.loading.ahead import Job, num_threads, read_ahead
from training.loading.memory import free_on
from training.loading.order import own_rows
from training.loading.samples import Samples
from training.loading.source import Source
from training.looping.distributed import barrier
from training.models import Model
from training.models.folder import weights_hash
from training.models.satclip import SatCLIP
from training.models.tower import Tower
from training.normalize import Normalization
from training.recipe import Augment

__all__ = ["FEATURES", "FeatureLoader"]

log = logging.getLogger(__name__)

FEATURES = "features"  # folder of a run
FORMAT = "pwcat-features/1"  # part of the hash: to be raised when the way from chip to feature changes
BLOCK = 256
CARD_SHARE = 0.5  # of what is free on a card, what features may take

Progress = Callable[[int, int], None]


class FeatureLoader:
    """Batches of features in the order of the chips that they stand for; takes the place of a :class:`Loader`.

    Args:
        chips: the loader of the chips, which says the order and who has which part of a batch.
        model: a SatCLIP whose image tower is frozen. Its weights are those of the moment when features are computed.
        views: of each sample, V.
        augment: how a view is cut, flipped and blurred.
        seed: with the number of a block and of a view, fixes how.
        folder: where features are kept.
        dtype: of the tower's matrix products.
        block: samples encoded, and written, together.

    Attributes:
        waited: seconds that the consumer has waited for data so far; computing features is waiting too, unless
            :meth:`fill` has done it.

    Raises:
        TrainingError: the model has no frozen image tower.
    """

    placement_reason = "the image tower is frozen: its features are computed once and kept"

    def __init__(
        self,
        chips: Loader,
        model: Model,
        *,
        views: int,
        augment: Augment,
        seed: int,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        block: int = BLOCK,
    ) -> None:
        self._chips, self._model, self._tower = chips, *_frozen(model)
        self._views, self._augment, self._seed = views, augment, seed
        self._folder, self._dtype, self._block = folder, dtype, block
        self._samples = Samples(chips.subset, bands=chips.bands, times=chips.times)
        self._features: Tensor | NDArray[np.float16] | None = None
        self.waited = 0.0
        self._model.reads_features = True

    @property
    def placement(self) -> str:
        """That it is features which are kept."""
        return FEATURES

    @property
    def num_batches(self) -> int:
        """Global batches an epoch."""
        return self._chips.num_batches

    @property
    def decoded_bytes(self) -> int:
        """What all chips take, decoded."""
        return self._chips.decoded_bytes

    def measure(
        self,
        *,
        add: Callable[[Tensor], Tensor] = lambda counts: counts,
        keep_in: Path | None = None,
        progress: Progress = lambda done, total: None,
    ) -> Normalization:
        """Statistics of the chips; see :meth:`Loader.measure`."""
        return self._chips.measure(add=add, keep_in=keep_in, progress=progress)

    def fill(self, progress: Progress = lambda done, total: None) -> None:
        """Compute the features that are missing, or find them; else the first epoch does so."""
        self._hold(progress)

    def epoch(self, epoch: int, *, start_batch: int = 0) -> Generator[Batch]:
        """This rank's part of each global batch of an epoch, from ``start_batch`` on: features in place of chips."""
        order, chips = self._chips.order(epoch), self._chips
        began = time.perf_counter()
        features = self._hold()
        for number in range(start_batch, self.num_batches):
            start = number * chips.batch_size
            stop = min(start + chips.batch_size, len(order))
            own = own_rows(stop - start, rank=chips.rank, world_size=chips.world_size)
            batch = self._gather(features, order.rows(start, stop)[own])
            self.waited += time.perf_counter() - began
            yield batch
            began = time.perf_counter()

    def _gather(self, features: Tensor | NDArray[np.float16], rows: NDArray[np.int64]) -> Batch:
        wanted, device = torch.from_numpy(rows), self._chips.device
        if isinstance(features, Tensor):
            found = features.index_select(0, to_device(wanted, device))
        else:
            found = to_device(torch.from_numpy(features[rows]), device)
        return Batch(
            chips=None,
            bands=self._samples.bands,
            lonlat=to_device(self._samples.lonlat[wanted], device),
            times=to_device(self._samples.times[wanted], device),
            rows=rows,
            features=found.float(),
        )

    def _hold(self, progress: Progress = lambda done, total: None) -> Tensor | NDArray[np.float16]:
        if self._features is None:
            path = self._folder / f"{self._key()}.npy"
            barrier()  # all ranks look before one of them writes
            if path.is_file():
                log.info("features: found in %s", path)
            else:
                self._make(path, progress)
            self._features = self._placed(np.load(path, mmap_mode="r", allow_pickle=False))
        return self._features

    def _placed(self, features: NDArray[np.float16]) -> Tensor | NDArray[np.float16]:
        """On the card where they take no more than a part of it, else as they lie in their file."""
        device = self._chips.device
        if device.type == "cuda" and features.nbytes <= CARD_SHARE * free_on(device)[0]:
            return torch.from_numpy(np.array(features)).to(device)
        return features

    def _make(self, path: Path, progress: Progress) -> None:
        blocks, began = path.with_suffix(".blocks"), time.perf_counter()
        blocks.mkdir(parents=True, exist_ok=True)
        mine = range(self._num_blocks)[self._chips.rank :: self._chips.world_size]
        left = [number for number in mine if not _block_path(blocks, number).is_file()]
        log.info("features: %d views of %d samples; %d of %d blocks are there", self._views, self._total,
                 len(mine) - len(left), len(mine))  # fmt: skip
        with closing(self._read(left)) as batches:
            for done, (number, batch) in enumerate(batches, 1):
                _write(_block_path(blocks, number), self._encode(batch, number))
                progress(min(self._total, (len(mine) - len(left) + done) * self._block), self._total)
        barrier()
        if self._chips.rank == 0:
            self._join(blocks, path)
            shutil.rmtree(blocks)
        barrier()
        log.info("features: computed in %.1f s, kept in %s", time.perf_counter() - began, path)

    @property
    def _total(self) -> int:
        return len(self._chips.subset)

    @property
    def _num_blocks(self) -> int:
        return -(-self._total // self._block)

    def _read(self, numbers: list[int]) -> Generator[tuple[int, Batch]]:
        """Chips of these blocks, the next being read while one is encoded."""
        source = Source(self._chips.subset, bands=self._chips.bands, times="first")
        return read_ahead(self._jobs(source, numbers), threads=num_threads(self._chips.world_size), ahead=2)

    def _jobs(self, source: Source, numbers: list[int]) -> Iterator[Job[tuple[int, Batch]]]:
        for number in numbers:
            rows = np.arange(number * self._block, min((number + 1) * self._block, self._total))
            chips = np.empty((len(rows), *source.chip_shape), dtype=np.uint16)
            yield Job(
                pieces=[partial(source.read_into, chips, rows)],
                finish=lambda number=number, chips=chips, rows=rows: (  # type: ignore[misc]
                    number,
                    self._samples.batch(torch.from_numpy(chips), rows),
                ),
            )

    @torch.no_grad()
    def _encode(self, batch: Batch, number: int) -> NDArray[np.float16]:
        """Features (B, V, D) of a block."""
        moved, device = batch.to(self._chips.device), self._chips.device
        views = []
        for view in range(self._views):
            seed = int(np.random.SeedSequence([self._seed, number, view]).generate_state(1, dtype=np.uint32)[0])
            chance = Chance(seed, total=len(batch))
            images = self._model.images(moved, tower=self._tower, chance=chance, augment=self._augment)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._dtype == torch.bfloat16):
                views.append(self._tower(images).float())
        features = torch.stack(views, dim=1).half()
        if not features.isfinite().all():
            raise TrainingError(
                f"features of the image tower are no numbers, or beyond {torch.finfo(torch.float16).max:g}, in samples "
                f"{batch.rows[0]} to {batch.rows[-1]}: are these chips in the unit of its pretraining? Set cached_views: 0 "
                "to train from chips"
            )
        return features.cpu().numpy()

    def _join(self, blocks: Path, path: Path) -> None:
        shape = (self._total, self._views, self._tower.width)
        with replacing(path) as part:
            whole = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=shape)
            for number in range(self._num_blocks):
                whole[number * self._block : (number + 1) * self._block] = np.load(
                    _block_path(blocks, number), allow_pickle=False
                )
            whole.flush()
            del whole

    def _key(self) -> str:
        told = {
            "format": FORMAT,
            "weights": weights_hash(cast(Model, self._tower.encoder)),
            "scaling": self._tower.config.normalization,
            "data": self._chips.subset.hash,
            "bands": self._chips.bands,
            "views": self._views,
            "augment": self._augment.of_images(),
            "seed": self._seed,
            "block": self._block,
            "dtype": str(self._dtype),
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def _frozen(model: Model) -> tuple[SatCLIP, Tower]:
    if not isinstance(model, SatCLIP):
        raise TrainingError(
            f"cached_views is for models with a frozen image tower, and a {model.architecture} has none: set it to 0"
        )
    tower = model.require_tower()
    if not tower.config.frozen:
        raise TrainingError(
            "the image tower trains, so that its features change with every step: set model.tower.frozen, or cached_views: 0"
        )
    return model, tower


def _block_path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.npy"


def _write(path: Path, features: NDArray[np.float16]) -> None:
    with replacing(path) as part, part.open("wb") as file:
        np.save(file, features)
