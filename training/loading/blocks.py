"""Chips of a subset in its own order, a block at a time, decoded by several threads.

That is how they are measured, held and embedded: every chip once, neighbours together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.loading.ahead import Job
from training.loading.samples import Samples
from training.loading.source import Source

__all__ = ["AHEAD_BYTES", "MOST_AHEAD", "block_jobs", "chip_bytes", "how_far_ahead", "pieces_of", "sample_bytes"]

T = TypeVar("T")
Chips = NDArray[np.uint16]
Rows = NDArray[np.int64]

# Chips that one thread decodes at a time: enough that handing them out costs nothing, few enough to share out a batch.
PIECE_CHIPS = (8, 64)
PIECES_A_THREAD = 4
# Decoded chips that wait for the model take no more than this, but for two batches, which overlap decoding with training.
AHEAD_BYTES = 2**28
MOST_AHEAD = 8


def chip_bytes(source: Source) -> int:
    """Bytes of one decoded chip."""
    return 2 * int(np.prod(source.chip_shape))


def sample_bytes(source: Source, samples: Samples) -> int:
    """Bytes of a sample in a batch: of its chip, and about of what lies on its tile, where that is read."""
    return chip_bytes(source) + (samples.reader.tile_bytes if samples.reader else 0)


def how_far_ahead(batch_bytes: int) -> int:
    """Batches of this size to have in the making."""
    return max(2, min(MOST_AHEAD, AHEAD_BYTES // max(1, batch_bytes)))


def pieces_of(source: Source, rows: Rows, out: Tensor, *, threads: int) -> list[Callable[[], None]]:
    """The work of decoding some rows, in pieces for several threads; ``out`` is (n, T, C, H, W). No piece without bands."""
    if not source.chip_shape[1]:
        return []
    fewest, most = PIECE_CHIPS
    chips: Chips = out.numpy()
    size = max(fewest, min(most, -(-len(rows) // (PIECES_A_THREAD * threads))))
    return [
        partial(source.read_into, chips[start : start + size], rows[start : start + size])
        for start in range(0, len(rows), size)
    ]


def block_jobs(
    source: Source,
    rows: slice,
    *,
    block: int,
    threads: int,
    into: Callable[[int, int], Tensor],
    then: Callable[[slice, Tensor], T],
) -> Iterator[Job[T]]:
    """Jobs that decode a stretch of a subset's rows, block by block.

    Args:
        source: of the chips.
        rows: the stretch.
        block: rows at a time.
        threads: that will do the pieces.
        into: the tensor for the rows from, to; (n, T, C, H, W), in memory.
        then: what a block's result is, of its rows and chips; called in the thread that finished it.
    """
    for start in range(rows.start, rows.stop, block):
        stop = min(start + block, rows.stop)
        out = into(start, stop)
        pieces = pieces_of(source, np.arange(start, stop), out, threads=threads)
        yield Job(pieces, partial(then, slice(start, stop), out))
