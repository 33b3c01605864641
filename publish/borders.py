"""Where files and row groups end: at borders of classes and of the globe's cells: what is added elsewhere moves nothing.

Rows come in the order of a Hilbert curve. A run of rows is cut in two near its middle, where the curve crosses the border of
the largest cell there; then each half again. Which border is the largest hangs on places alone: where some samples come to a
run, the cuts of all other runs stay what they were, and so do their bytes. Cuts at fixed numbers of rows would all move.
"""

from __future__ import annotations

from collections.abc import Iterator

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

__all__ = ["class_runs", "halves", "place_keys", "runs_within"]

Keys = NDArray[np.uint32]
Run = tuple[int, int]

# A cut is looked for within this share of a run from its middle, to either side: a wider one finds larger cells, and makes
# runs less alike. Seven cuts deep, the longest run of a uniform dataset is then about twice the shortest.
REACH = 1 / 16
AT_ONCE = 65_536


def place_keys(lonlat: NDArray[np.float64]) -> Keys:
    """Place of each sample along a Hilbert curve over the globe, ``(n,)``; cells of the last level are some 600 m wide.

    Args:
        lonlat: ``(n, 2)``, EPSG:4326.
    """
    keys = np.empty(len(lonlat), dtype=np.uint32)
    for start in range(0, len(lonlat), AT_ONCE):
        points = gpd.GeoSeries(shapely.points(lonlat[start : start + AT_ONCE]), crs="EPSG:4326")
        keys[start : start + AT_ONCE] = points.hilbert_distance(total_bounds=(-180, -90, 180, 90))
    return keys


def halves(keys: Keys, times: int) -> list[Run]:
    """The rows cut in two so many times over: ``2 ** times`` runs, each of one row at least.

    Args:
        keys: of each row, ``(n,)``, ``n >= 2 ** times``.
        times: how often.
    """
    runs = [(0, len(keys))]
    for left in range(times - 1, -1, -1):
        cuts = [_cut(keys, run, least=2**left) for run in runs]
        runs = [half for (start, stop), cut in zip(runs, cuts, strict=True) for half in ((start, cut), (cut, stop))]
    return runs


def runs_within(keys: Keys, most: int) -> Iterator[Run]:
    """The rows cut in two until no run has more than ``most``, in order."""
    waiting = [(0, len(keys))] if len(keys) else []
    while waiting:
        run = start, stop = waiting.pop()
        if stop - start <= most:
            yield run
        else:
            cut = _cut(keys, run, least=1)
            waiting += [(cut, stop), (start, cut)]


def class_runs(classes: NDArray[np.int64], keys: Keys, most: int) -> Iterator[Run]:
    """Runs of at most so many rows, each of one class as far as classes fill one; small neighbours share a run.

    Args:
        classes: of each row, ``(n,)``, ascending.
        keys: of each row, ``(n,)``, ascending within a class.
        most: rows of a run.
    """
    ends = [*(np.flatnonzero(np.diff(classes)) + 1).tolist(), len(classes)] if len(classes) else []
    begun = start = 0  # of the run that small classes share; of the class
    for end in ends:
        if end - begun > most and start > begun:
            yield begun, start
            begun = start
        if end - start > most:
            yield from ((start + first, start + last) for first, last in runs_within(keys[start:end], most))
            begun = end
        start = end
    if begun < start:
        yield begun, start


def _cut(keys: Keys, run: Run, *, least: int) -> int:
    """The row that begins the second half of a run; each half has ``least`` rows or more."""
    start, stop = run
    middle, reach = (start + stop) // 2, int((stop - start) * REACH)
    first, last = max(start + least, middle - reach), min(stop - least, middle + reach)
    crossed = keys[first : last + 1] ^ keys[first - 1 : last]  # its highest bit: the largest cell that the curve left
    return first + int(np.argmax(crossed)) if crossed.any() else min(max(middle, first), last)
