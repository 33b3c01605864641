"""Which scene serves which site, and where the chip lies on its pixel grid."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from pwcat.dates import Dates
from pwcat.recipe import Chip
from pwcat.scenes import Scene
from pwcat.search.questions import z_order
from pwcat.sites.offers import Offer, Offers, choose, orders_of

__all__ = ["Located", "Placements", "Placer", "chip_points", "place_nominally", "room_km"]

# How far a footprint, kept in degrees and rounded by its provider, may fall short of the pixels it stands for.
FOOTPRINT_TOLERANCE_PX = 1.0

# Sites looked up at once, and pairs of a site and a scene worked out at once: some 300 MB, however many scenes hold each site.
BATCH = 16_384
PAIRS = 1_000_000
# Outlines kept ready: some 10 kB each. Neighbouring sites ask for the same ones.
OUTLINES = 8_192


@dataclass(frozen=True, kw_only=True)
class Placements:
    """Where the chips of some of the sites lie, as columns.

    Attributes:
        site: ``(m,)`` row of the site, ascending, each once.
        scene: ``(m, t)`` number of the scene that serves each date window.
        epsg: ``(m,)`` CRS of ``x0`` and ``y0``.
        beside: ``(m, t, c)`` numbers of further scenes of each window, for a composite; -1 where there are no more.
        x0: ``(m,)`` easting of the chip's upper-left corner, metres, on the scenes' pixel grid.
        y0: ``(m,)`` northing of it.
    """

    site: NDArray[np.int64]
    scene: NDArray[np.int64]
    beside: NDArray[np.int64]
    epsg: NDArray[np.int64]
    x0: NDArray[np.float64]
    y0: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.site)

    def every_scene(self) -> NDArray[np.int64]:
        """``(m, t, 1 + c)`` numbers of all scenes of each window, the nearest first; -1 where there are no more."""
        return np.concatenate([self.scene[:, :, None], self.beside], axis=2)

    def renumbered(self, numbers: NDArray[np.int64]) -> Placements:
        """The same, with scenes called by ``numbers``, ``(scenes,)``."""
        beside = np.full_like(self.beside, -1)
        there = self.beside >= 0
        beside[there] = numbers[self.beside[there]]
        return replace(self, scene=numbers[self.scene], beside=beside)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Placements:
        """Some of them."""
        return Placements(**{name: column[rows] for name, column in vars(self).items()})

    @staticmethod
    def concat(parts: Sequence[Placements]) -> Placements:
        """All of several, one after the other."""
        return Placements(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


@dataclass(frozen=True, kw_only=True)
class Located:
    """What was found for some sites.

    Attributes:
        placements: of those that could be placed.
        full: ``(k,)`` rows of the sites that could be placed only in scenes to be avoided, ascending; the others have none.
    """

    placements: Placements
    full: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))


# Rows of sites, and pairs of a place among these rows and of a scene.
_Lot = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@lru_cache(maxsize=256)
def _to_grid(epsg: int) -> Transformer:
    return Transformer.from_crs("EPSG:4326", f"EPSG:{epsg}", always_xy=True)


class Placer:
    """Places chips in scenes. Within a date window the scene nearest to the wanted moment is taken, then the less cloudy, then
    the one first by id; all scenes of a site share one pixel grid. A composite takes further scenes of the window, the
    less cloudy first, then the nearer, then by id.

    Args:
        scenes: to choose from; they are numbered in this order.
        dates: windows, of which each wants a scene; the same everywhere, or by place.
        chip: size and resolution.
        most: scenes a window, at most.
    """

    def __init__(self, scenes: Sequence[Scene], dates: Dates, chip: Chip, *, most: int = 1) -> None:
        self._scenes = scenes
        self._dates = dates
        self._chip = chip
        self._beside = most - 1
        self._tree = shapely.STRtree([scene.footprint for scene in scenes])
        self._orders = orders_of(scenes, dates)
        self._epsg = np.array([scene.epsg for scene in scenes], dtype=np.int64)
        self._outlines: OrderedDict[int, shapely.Geometry] = OrderedDict()

    def place(self, sites: NDArray[np.float64], *, avoid: Collection[int] = ()) -> Placements:
        """Placements of the sites that a scene holds whole in every date window; sites that no dates reach have none.

        Args:
            sites: ``(n, 2)``, EPSG:4326; the middle of each chip.
            avoid: numbers of scenes that are not to be taken.
        """
        wanted = self._orders.wanted.copy()
        wanted[list(avoid)] = False
        placements = Placements.concat([self._place(sites, *lot) for lot in self._lots(sites, wanted)])
        return placements.take(np.argsort(placements.site))

    def locate(self, sites: NDArray[np.float64], *, avoid: Collection[int]) -> Located:
        """Placements as :meth:`place` gives them, and which of the other sites only the scenes to be avoided could hold."""
        placements = self.place(sites, avoid=avoid)
        if not len(avoid):
            return Located(placements=placements)
        others = np.delete(np.arange(len(sites)), placements.site)
        return Located(placements=placements, full=others[self.place(sites[others]).site])

    def place_in(self, sites: NDArray[np.float64], scenes: NDArray[np.int64]) -> Placements:
        """Placements of the sites that lie whole in these very scenes, one a date window."""
        x0, y0, whole = self._fit(sites, int(scenes[0]))
        for number in scenes[1:]:
            x, y, also = self._fit(sites, int(number))
            whole &= also & (x == x0) & (y == y0)
        rows = np.flatnonzero(whole)
        return Placements(
            site=rows,
            scene=np.tile(scenes, (len(rows), 1)),
            beside=np.empty((len(rows), len(scenes), 0), dtype=np.int64),
            epsg=np.full(len(rows), self._scenes[int(scenes[0])].epsg),
            x0=x0[rows],
            y0=y0[rows],
        )

    def _lots(self, sites: NDArray[np.float64], wanted: NDArray[np.bool_]) -> Iterator[_Lot]:
        """Sites, neighbours together, with the wanted scenes that they lie in; all those of a site are in one lot."""
        order = np.argsort(z_order(sites), kind="stable")
        for start in range(0, max(len(sites), 1), BATCH):
            rows = order[start : start + BATCH]
            site, scene = self._tree.query(shapely.points(sites[rows]), predicate="intersects")
            site, scene = site[wanted[scene]], scene[wanted[scene]]
            counts = np.bincount(site, minlength=len(rows))
            lot = ((np.cumsum(counts) - counts) // PAIRS)[site]
            cuts = np.flatnonzero(np.diff(lot)) + 1
            yield from ((rows, *part) for part in zip(np.split(site, cuts), np.split(scene, cuts), strict=True))

    def _place(
        self, sites: NDArray[np.float64], rows: NDArray[np.int64], site: NDArray[np.int64], scene: NDArray[np.int64]
    ) -> Placements:
        """Placements of a lot."""
        here = sites[rows]
        offers = Offers.of(self._offers(here, site, scene), self._epsg)
        near, clear = self._orders.rank(offers, here, clear=self._beside > 0)
        chosen = choose(offers, near, clear, self._beside)
        return Placements(
            site=rows[offers.site[chosen.at]],
            scene=chosen.scene,
            beside=chosen.beside,
            epsg=offers.epsg[chosen.at],
            x0=offers.x0[chosen.at],
            y0=offers.y0[chosen.at],
        )

    def _offers(self, sites: NDArray[np.float64], site: NDArray[np.int64], scene: NDArray[np.int64]) -> Iterator[Offer]:
        """Site, scene and upper-left corner, for each scene that holds the whole chip of a site that lies in it."""
        order = np.argsort(scene, kind="stable")
        site, scene = site[order], scene[order]
        starts = np.flatnonzero(np.diff(scene, prepend=-1))
        for number, here in zip(scene[starts].tolist(), np.split(site, starts[1:]), strict=False):
            x0, y0, whole = self._fit(sites[here], number)
            yield here[whole], np.full(int(whole.sum()), number), x0[whole], y0[whole]

    def _fit(
        self, sites: NDArray[np.float64], number: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Upper-left corners of the chips around sites, on the scene's grid, and whether the scene holds all of each."""
        scene, step = self._scenes[number], self._chip.resolution_m
        side = self._chip.size_px * step
        x, y = _to_grid(scene.epsg).transform(sites[:, 0], sites[:, 1])
        x0 = scene.left + np.round((np.asarray(x) - side / 2 - scene.left) / step) * step
        y0 = scene.top - np.round((scene.top - np.asarray(y) - side / 2) / step) * step
        whole = (x0 >= scene.left) & (x0 + side <= scene.left + scene.width_m)
        whole &= (y0 <= scene.top) & (y0 - side >= scene.top - scene.height_m)
        whole[whole] = shapely.covers(
            self._outline(number), shapely.box(x0[whole], y0[whole] - side, x0[whole] + side, y0[whole])
        )
        return x0, y0, whole

    def _outline(self, number: int) -> shapely.Geometry:
        """The scene's footprint on its own grid, prepared."""
        if number not in self._outlines:
            outline = _on_grid(self._scenes[number])
            outline = shapely.buffer(outline, FOOTPRINT_TOLERANCE_PX * self._chip.resolution_m)
            shapely.prepare(outline)
            self._outlines[number] = outline
            if len(self._outlines) > OUTLINES:
                self._outlines.popitem(last=False)
        self._outlines.move_to_end(number)
        return self._outlines[number]


def _on_grid(scene: Scene) -> shapely.Geometry:
    """The footprint in the CRS of the scene's grid."""
    to_grid = _to_grid(scene.epsg)
    return shapely.transform(scene.footprint, lambda xy: np.column_stack(to_grid.transform(xy[:, 0], xy[:, 1])))


def room_km(scene: Scene, chip: Chip) -> float:
    """A side that no chip in the scene exceeds: the shorter one of its grid, or of the footprint's bounds on that."""
    west, south, east, north = shapely.bounds(_on_grid(scene))
    slack = 2 * FOOTPRINT_TOLERANCE_PX * chip.resolution_m
    return float(min(scene.width_m, scene.height_m, east - west + slack, north - south + slack)) / 1000


def place_nominally(sites: NDArray[np.float64], chip: Chip, *, dates: int) -> Placements:
    """Where chips would lie on the grid of their UTM zone, without asking for a scene; scene numbers are -1.

    Zones are those of MGRS, and so of Sentinel-2's tiles: six degrees wide, but for south-west Norway and Svalbard.
    Beyond 84° N and 80° S, where UTM ends, the polar stereographic grids of UPS.
    """
    epsg = _utm(sites)
    step, side = chip.resolution_m, chip.size_px * chip.resolution_m
    x, y = np.empty(len(sites)), np.empty(len(sites))
    for code in np.unique(epsg):
        rows = np.flatnonzero(epsg == code)
        x[rows], y[rows] = _to_grid(int(code)).transform(sites[rows, 0], sites[rows, 1])
    return Placements(
        site=np.arange(len(sites)),
        scene=np.full((len(sites), dates), -1),
        beside=np.empty((len(sites), dates, 0), dtype=np.int64),
        epsg=epsg,
        x0=np.round((x - side / 2) / step) * step,
        y0=np.round((y + side / 2) / step) * step,
    )


def _utm(sites: NDArray[np.float64]) -> NDArray[np.int64]:
    lon, lat = sites.T
    zone = (np.floor((lon + 180) / 6) % 60 + 1).astype(np.int64)
    zone[(lat >= 56) & (lat < 64) & (lon >= 3) & (lon < 12)] = 32
    svalbard = (lat >= 72) & (lat <= 84) & (lon >= 0) & (lon < 42)
    zone[svalbard] = np.array([31, 33, 35, 37])[np.searchsorted([9, 21, 33], lon[svalbard], side="right")]
    epsg = np.where(lat >= 0, 32600, 32700) + zone
    return np.where(lat > 84, 32661, np.where(lat < -80, 32761, epsg))


def chip_points(placements: Placements, chip: Chip, *, points: int) -> NDArray[np.float64]:
    """``(m, points * points, 2)`` longitudes and latitudes of a regular grid of points in each chip, EPSG:4326.

    Nine points of a chip are projected, and the others found between them by a parabola each way: over a chip of 20 km that
    is exact to two decimetres. Beyond 80° of latitude, where meridians crowd, every point is projected.
    """
    steps = (np.arange(points) + 0.5) / points
    ends = np.array([0, 0.5, 1])
    parabola = np.column_stack([2 * (steps - 0.5) * (steps - 1), 4 * steps * (1 - steps), 2 * steps * (steps - 0.5)])
    grids = np.empty((len(placements), points, points, 2))
    for epsg in np.unique(placements.epsg):
        rows = np.flatnonzero(placements.epsg == epsg)
        control = _project(placements, chip, rows, ends)
        grids[rows] = np.einsum("rv,cw,nvwd->nrcd", parabola, parabola, control, optimize=True)
        polar = np.abs(control[:, 1, 1, 1]) > 80
        grids[rows[polar]] = _project(placements, chip, rows[polar], steps)
    grids[..., 0] = (grids[..., 0] + 180) % 360 - 180
    return grids.reshape(len(placements), points * points, 2)


def _project(
    placements: Placements, chip: Chip, rows: NDArray[np.int64], steps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``(n, k, k, 2)`` longitudes and latitudes at these shares of a chip's side from its upper left; rows of one CRS."""
    if not len(rows):
        return np.empty((0, len(steps), len(steps), 2))
    side = chip.size_px * chip.resolution_m
    x = placements.x0[rows, None, None] + steps[None, None, :] * side
    y = placements.y0[rows, None, None] - steps[None, :, None] * side
    to_grid = _to_grid(int(placements.epsg[rows[0]]))
    lon, lat = to_grid.transform(*np.broadcast_arrays(x, y), direction="INVERSE")
    middle = lon[:, len(steps) // 2, len(steps) // 2][:, None, None]
    return np.stack([middle + (lon - middle + 180) % 360 - 180, lat], axis=-1)  # on one side of the antimeridian
