"""Scenes that could serve a site, and which of them do: the order in which each window of dates would have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pwcat.dates import Dates, DateWindow
from pwcat.phenology import Seasons, SiteWindows
from pwcat.scenes import Scene

__all__ = ["Chosen", "Offer", "Offers", "Orders", "choose", "orders_of"]

# Site, scene and upper-left corner of the chips that one scene holds, a column each.
Offer = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Offers:
    """Scenes that hold a site's whole chip, ``(o,)`` each; those of one site on one pixel grid are together.

    Attributes:
        starts: ``(g,)`` the first offer of each site and grid.
    """

    site: NDArray[np.int64]
    scene: NDArray[np.int64]
    epsg: NDArray[np.int64]
    x0: NDArray[np.float64]
    y0: NDArray[np.float64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Iterable[Offer], epsg_of: NDArray[np.int64]) -> Offers:
        """From site, scene and upper-left corner, scene by scene."""
        none = np.empty(0, dtype=np.int64)
        columns = [np.concatenate(part) for part in zip((none, none, none / 1, none / 1), *parts, strict=True)]
        site, scene, x0, y0 = columns
        epsg = epsg_of[scene]
        order = np.lexsort((y0, x0, epsg, site))
        site, scene, epsg, x0, y0 = site[order], scene[order], epsg[order], x0[order], y0[order]
        changes = np.ones(len(site), dtype=bool)
        changes[1:] = (site[1:] != site[:-1]) | (epsg[1:] != epsg[:-1]) | (x0[1:] != x0[:-1]) | (y0[1:] != y0[:-1])
        return cls(site=site, scene=scene, epsg=epsg, x0=x0, y0=y0, starts=np.flatnonzero(changes))


class Orders(Protocol):
    """In which order a window would have scenes.

    Attributes:
        wanted: ``(scenes,)`` whether any window may want a scene.
    """

    wanted: NDArray[np.bool_]

    def rank(
        self, offers: Offers, sites: NDArray[np.float64], *, clear: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Place of each offer in each window's order, ``(t, o)``: the nearest first, and the least cloudy first.

        Infinite outside the window; distinct among the offers of a site. The second is empty where it is not asked for.
        """
        ...


def orders_of(scenes: Sequence[Scene], dates: Dates) -> Orders:
    """The order in which each window would have the scenes."""
    return _SeasonalOrders(scenes, dates) if isinstance(dates, Seasons) else _CommonOrders(scenes, dates)


class _Columns:
    """Of the scenes, what orders hang on: moment (UTC), cloud cover, place by id; ``(scenes,)`` each."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.time = np.array([scene.time.astimezone(UTC).replace(tzinfo=None) for scene in scenes], "datetime64[us]")
        self.cloud = np.array([scene.cloud_cover for scene in scenes], dtype=np.float64)
        by_id = sorted(range(len(scenes)), key=lambda number: scenes[number].id)
        self.place = np.empty(len(scenes), dtype=np.int64)
        self.place[by_id] = np.arange(len(scenes))


class _CommonOrders:
    """Orders that are the same for every site."""

    def __init__(self, scenes: Sequence[Scene], windows: Sequence[DateWindow]) -> None:
        self._columns, self._windows = _Columns(scenes), windows
        self._near = self._ranks(clear=False)
        self.wanted: NDArray[np.bool_] = np.asarray(np.isfinite(self._near).any(axis=0))

    def rank(
        self, offers: Offers, sites: NDArray[np.float64], *, clear: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See :class:`Orders`."""
        return self._near[:, offers.scene], self._clear[:, offers.scene] if clear else np.empty((0, 0))

    @cached_property
    def _clear(self) -> NDArray[np.float64]:
        return self._ranks(clear=True)

    def _ranks(self, *, clear: bool) -> NDArray[np.float64]:
        """Place of each scene in each window's order, ``(t, scenes)``, from 0; infinite for those outside it."""
        columns = self._columns
        ranks = np.full((len(self._windows), len(columns.time)), np.inf)
        day = columns.time.astype("datetime64[D]")
        for k, window in enumerate(self._windows):
            inside = np.flatnonzero((day >= np.datetime64(window.start)) & (day <= np.datetime64(window.end)))
            gap = np.abs(columns.time[inside] - np.datetime64(window.wanted.replace(tzinfo=None))).astype(np.int64)
            cloud, place = columns.cloud[inside], columns.place[inside]
            order = np.lexsort((place, gap, cloud) if clear else (place, cloud, gap))
            ranks[k, inside[order]] = np.arange(len(inside))
        return ranks


class _SeasonalOrders:
    """Orders that hang on where a site is."""

    def __init__(self, scenes: Sequence[Scene], seasons: Seasons) -> None:
        self._seasons = seasons
        columns = _Columns(scenes)
        self._time, self._cloud, self._by_id = columns.time, columns.cloud, columns.place
        self.wanted = np.ones(len(scenes), dtype=bool)

    def rank(
        self, offers: Offers, sites: NDArray[np.float64], *, clear: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See :class:`Orders`."""
        covered = self._seasons.covers(sites)
        windows, t = self._seasons.at(sites), len(self._seasons)
        near = np.full((t, len(offers.site)), np.inf)
        clearest = np.full(near.shape, np.inf) if clear else np.empty((0, 0))
        for k in range(t):
            rows = np.flatnonzero(covered[offers.site] & self._inside(windows, k, offers))
            scene = offers.scene[rows]
            gap = np.abs(self._time[scene] - windows.wanted[offers.site[rows], k]).astype(np.int64)
            cloud, name = self._cloud[scene], self._by_id[scene]
            near[k, rows[np.lexsort((name, cloud, gap))]] = np.arange(len(rows))
            if clear:
                clearest[k, rows[np.lexsort((name, gap, cloud))]] = np.arange(len(rows))
        return near, clearest

    def _inside(self, windows: SiteWindows, k: int, offers: Offers) -> NDArray[np.bool_]:
        day = self._time.astype("datetime64[D]")[offers.scene]
        return np.asarray((day >= windows.first[offers.site, k]) & (day <= windows.last[offers.site, k]))


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What serves the sites that can be served, in their order.

    Attributes:
        at: ``(m,)`` an offer of each on the grid that is taken.
        scene: ``(m, t)`` the scene of each window.
        beside: ``(m, t, c)`` further ones; -1 where there are no more.
    """

    at: NDArray[np.int64]
    scene: NDArray[np.int64]
    beside: NDArray[np.int64]


def choose(offers: Offers, near: NDArray[np.float64], clear: NDArray[np.float64], beside: int) -> Chosen:
    """The best scene of each window on each pixel grid, and of the grids that have all, the best by the first window.

    Args:
        offers: all there are.
        near: ``(t, o)`` place of each in each window's order, the nearest first.
        clear: likewise, the least cloudy first; only where ``beside`` is not 0.
        beside: further scenes of each window, at most.
    """
    starts, t = offers.starts, len(near)
    best = np.array([np.minimum.reduceat(rank, starts) if len(starts) else rank for rank in near])  # (t, grids)
    complete = np.flatnonzero(np.isfinite(best).all(axis=0))
    by_site = complete[np.lexsort((best[0, complete], offers.site[starts[complete]]))]
    chosen = by_site[np.flatnonzero(np.diff(offers.site[starts[by_site]], prepend=-1))]
    counts = np.diff(np.append(starts, len(offers.site)))[chosen]
    first = np.cumsum(counts) - counts
    rows = np.arange(counts.sum()) - np.repeat(
        first - starts[chosen], counts
    )  # all offers of the grids that are chosen
    grid = np.repeat(np.arange(len(chosen)), counts)
    scene = np.full((len(chosen), t), -1, dtype=np.int64)
    more = np.full((len(chosen), t, beside), -1, dtype=np.int64)
    for k in range(t):
        nearest = near[k, rows] == best[k, chosen][grid]
        scene[grid[nearest], k] = offers.scene[rows[nearest]]
        if beside:
            others = np.flatnonzero(np.isfinite(near[k, rows]) & ~nearest)
            others = others[np.lexsort((clear[k, rows[others]], grid[others]))]
            place = np.arange(len(others)) - np.searchsorted(grid[others], grid[others])
            taken = others[place < beside]
            more[grid[taken], k, place[place < beside]] = offers.scene[rows[taken]]
    return Chosen(at=starts[chosen], scene=scene, beside=more)
