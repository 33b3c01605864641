"""Placements ``cache`` and ``stream``: batches are decoded from the cube's files, a few ahead of the one in use."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
from numpy.typing import NDArray

from training.batch import Batch
from training.loading.ahead import Job, read_ahead
from training.loading.blocks import how_far_ahead, pieces_of, sample_bytes
from training.loading.order import Epoch, Part
from training.loading.samples import Samples
from training.loading.source import Source
from training.loading.transfer import Sent, Transfer

__all__ = ["streamed"]


def streamed(
    parts: Iterator[Part],
    order: Epoch,
    *,
    source: Source,
    samples: Samples,
    transfer: Transfer,
    threads: int,
    batch_size: int,
    share: tuple[int, int],
) -> Generator[Batch]:
    """The batches of these parts of an epoch, in their order.

    Args:
        parts: in the order of the epoch.
        order: of the epoch.
        source: of the chips; what it read ahead is given up at the end.
        samples: what is known beside them.
        transfer: to the device that trains.
        threads: that decode.
        batch_size: of global batches.
        share: number of this rank, and of ranks.
    """
    samples.load()  # here, not in the threads that decode, of which several would
    windows = _Windows(source, order, batch_size=batch_size, share=share)
    own = -(-batch_size // share[1])
    jobs = (_job(part, windows, source=source, samples=samples, transfer=transfer, threads=threads) for part in parts)
    coming = read_ahead(jobs, threads=threads, ahead=how_far_ahead(own * sample_bytes(source, samples)))
    try:
        for stop, sent in coming:
            windows.leave(stop)
            arrived = [transfer.receive(sent)]
            del sent
            yield arrived.pop()  # nothing here holds on to a batch that the consumer has let go of
    finally:
        coming.close()
        source.close()


def _job(
    part: Part, windows: _Windows, *, source: Source, samples: Samples, transfer: Transfer, threads: int
) -> Job[tuple[int, Sent]]:
    windows.enter(part)
    chips, making = transfer.empty((len(part.rows), *source.chip_shape)), samples.making(part.rows)

    def finish() -> tuple[int, Sent]:
        return part.stop, transfer.send(making.batch(chips))

    return Job(making.pieces(pieces_of(source, part.rows, chips, threads=threads)), finish)


class _Windows:
    """Reads windows ahead, one more than is in use, and gives up those that are done.

    Ranks of one machine share the pages of its files, and one of them may be some batches behind: then a window is given
    up one later.
    """

    def __init__(self, source: Source, order: Epoch, *, batch_size: int, share: tuple[int, int]) -> None:
        self._source, self._order = source, order
        self._batch_size, self._share = batch_size, share
        self._lag = int(share[1] > 1)
        self._expected: int | None = None
        self._left = 0

    def enter(self, part: Part) -> None:
        """This part is about to be read."""
        touched = self._order.windows(part.start, part.stop)
        if self._expected is None:
            self._expected = self._left = touched[0]
        for window in range(self._expected, min(touched[-1] + 2, self._order.num_windows)):
            self._source.expect(self._order.window(window), own=self._own(window))
            self._expected = window + 1

    def leave(self, place: int) -> None:
        """All before this place of the epoch has been read."""
        done = int(np.searchsorted(self._order.starts, place, side="right")) - 1 - self._lag
        while self._left < done:
            self._source.release(self._order.window(self._left))
            self._left += 1

    def _own(self, window: int) -> NDArray[np.bool_]:
        """(n,) which samples of a window are this rank's."""
        rank, ranks = self._share
        batch, place = np.divmod(np.arange(*self._order.starts[window : window + 2]), self._batch_size)
        size = np.minimum(self._batch_size, len(self._order) - batch * self._batch_size)
        own: NDArray[np.bool_] = (place >= rank * size // ranks) & (place < (rank + 1) * size // ranks)
        return own
