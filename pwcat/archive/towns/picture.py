"""An aerial image of a town: what its map says, as a camera would see it, and what the map leaves out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.warp import transform as transform_points
from shapely import affinity

from pwcat.archive.folder import Grid
from pwcat.archive.landscape import fractal_field
from pwcat.archive.towns.ground import Ground
from pwcat.archive.towns.sketch import Sketch, Tags, Way
from pwcat.archive.towns.streets import HALF_WIDTHS_M
from pwcat.archive.world import utm_epsg

__all__ = ["GSD_M", "grid_of", "render_picture"]

GSD_M = 2.0
HEM_M = 60.0  # of ground around the town
Floats = NDArray[np.float32]

# Colours of 255, red, green, blue, near infrared; the green of plants and the soil are the continent's.
GARDEN, FIELD, MEADOW, WOOD, PAVED, YARD, PITCH, WATER, ROAD, TRACK, RAIL, ROOF, FLAT_ROOF, SHADOW, TREE, MARK = range(
    1, 17
)
COLOURS: dict[int, tuple[float, float, float, float]] = {
    PAVED: (146, 142, 136, 140),
    YARD: (164, 156, 146, 150),
    PITCH: (88, 132, 66, 190),
    WATER: (44, 62, 74, 22),
    ROAD: (104, 104, 106, 98),
    TRACK: (176, 164, 142, 160),
    RAIL: (112, 98, 88, 104),
    FLAT_ROOF: (190, 188, 184, 176),
    SHADOW: (34, 38, 46, 40),
    TREE: (48, 72, 38, 170),
    MARK: (214, 212, 206, 206),
}
FLAT = {"apartments", "retail", "commercial", "office", "industrial", "warehouse", "school"}


@dataclass(frozen=True, kw_only=True)
class _Paint:
    """A shape in the grid's CRS, what it is painted as, and how much brighter than others of its kind."""

    shape: shapely.Geometry
    code: int
    tone: float = 0.0


def grid_of(ground: Ground, *, share: float = 1.0) -> Grid:
    """The grid of an image of a town, or of so much of it from the west: its UTM zone, pixels of 2 m, a hem around it."""
    side = ground.side_m
    corners = np.array([(x, y) for x in (-HEM_M, share * side + HEM_M) for y in (-HEM_M, side + HEM_M)])
    middle = ground.lonlat(np.array([[side / 2, side / 2]]))[0]
    crs = CRS.from_epsg(utm_epsg(lon=float(middle[0]), lat=float(middle[1])))
    x, y = transform_points(CRS.from_epsg(4326), crs, *ground.lonlat(corners).T.tolist())
    west, north = (math.floor(min(x) / GSD_M) * GSD_M, math.ceil(max(y) / GSD_M) * GSD_M)
    shape = (math.ceil((north - min(y)) / GSD_M), math.ceil((max(x) - west) / GSD_M))
    return Grid(crs=crs, shape=shape, transform=Affine(GSD_M, 0, west, 0, -GSD_M, north))


def render_picture(rng: np.random.Generator, ground: Ground, sketch: Sketch, grid: Grid) -> NDArray[np.uint8]:
    """The image of a town, (4, y, x): red, green, blue, near infrared; 0 is no data, and there is none of it."""
    xy = _projected(ground, sketch, grid)
    layers = list(_paints(rng, sketch, xy))
    code, tone = _rasterised(layers, grid)
    size = max(grid.shape)
    fine, middle, broad = (_field(rng, size, grid.shape, beta) for beta in (0.6, 1.6, 2.4))
    bare = code == 0
    code[bare & (broad > 0.9)] = WOOD
    code[bare & (broad <= 0.9)] = MEADOW
    leafy = np.select(
        [code == WOOD, code == GARDEN, code == MEADOW], [fine + middle > -0.4, fine + 0.6 * middle > 1.15, fine > 2.2]
    ).astype(bool)
    shaded = np.roll(leafy, (1, 1), (0, 1)) & ~leafy & ~np.isin(code, [ROOF, FLAT_ROOF, WATER])
    code[leafy], code[shaded] = TREE, SHADOW
    cars = np.isin(code, [ROAD, YARD]) & (rng.random(code.shape, np.float32) < 0.008)
    code[cars] = MARK
    return _developed(rng, _colours(rng, ground)[:, code], code=code, tone=tone, fine=fine, middle=middle)


def _developed(
    rng: np.random.Generator, colour: Floats, *, code: NDArray[np.uint8], tone: Floats, fine: Floats, middle: Floats
) -> NDArray[np.uint8]:
    """Colours with their grain, the light of the day and the noise of the camera."""
    calm = np.isin(code, [WATER, SHADOW])
    grain = np.where(calm, 0.03, 0.07).astype(np.float32) * fine + 0.06 * middle * ~calm + tone
    light = rng.normal(1, 0.06, 4).astype(np.float32) * np.float32(rng.uniform(0.85, 1.15))
    haze = np.float32(rng.uniform(0, 18)) * np.array([0.8, 0.9, 1.2, 0.3], np.float32)
    pixels = colour * np.exp(grain) * light[:, None, None] + haze[:, None, None]
    pixels += rng.standard_normal(pixels.shape, np.float32) * 2.5
    return np.clip(np.rint(pixels), 1, 255).astype(np.uint8)


def _field(rng: np.random.Generator, size: int, shape: tuple[int, int], beta: float) -> Floats:
    return fractal_field(rng, size_px=size, beta=beta)[: shape[0], : shape[1]]


def _colours(rng: np.random.Generator, ground: Ground) -> Floats:
    """Colours by code, (4, 17)."""
    manner = ground.manner
    green, soil = np.array(manner.green, float), np.array(manner.soil, float)
    dry = rng.uniform(0, 0.5)
    grass = (1 - dry) * green + dry * soil
    mixed = {
        GARDEN: [*(0.75 * grass + 0.25 * soil), 150 - 40 * dry],
        FIELD: [*(0.5 * green + 0.5 * soil), 150],
        MEADOW: [*grass, 165 - 50 * dry],
        WOOD: [*(0.62 * green), 175],
        ROOF: [*manner.roofs[int(rng.integers(len(manner.roofs)))], 120],
    }
    table = np.zeros((4, 17), np.float32)
    for code, colour in (COLOURS | mixed).items():
        table[:, code] = colour
    return table


def _projected(ground: Ground, sketch: Sketch, grid: Grid) -> NDArray[np.float64]:
    """Where nodes are in the grid's CRS, (n, 2)."""
    lonlat = ground.lonlat(np.array(sketch.xy))
    x, y = transform_points(CRS.from_epsg(4326), grid.crs, *lonlat.T.tolist())
    return np.column_stack([x, y])


def _paints(rng: np.random.Generator, sketch: Sketch, xy: NDArray[np.float64]) -> Iterator[_Paint]:
    """Shapes from the lowest to the highest."""
    areas: list[list[_Paint]] = [[], [], []]
    roofs: list[_Paint] = []
    for shape, tags in _shapes(sketch, xy):
        if "building" in tags:
            roofs.append(_roof(rng, shape, tags))
        elif found := _area(tags):
            level, code = found
            areas[level].append(_Paint(shape=shape, code=code, tone=0.10 * rng.standard_normal()))
    ways = sorted(sketch.ways, key=lambda way: "bridge" in way.tags)  # bridges are above what they cross
    roads = [painted for way in ways if way.seen and (painted := _line(way, xy))]
    for those in areas:
        yield from those
    yield from roads
    yield from _marks(sketch, xy)
    for roof in roofs:
        yield _Paint(shape=affinity.translate(roof.shape, 3.0, 4.0), code=SHADOW)
    yield from roofs


def _shapes(sketch: Sketch, xy: NDArray[np.float64]) -> Iterator[tuple[shapely.Polygon, Tags]]:
    """Areas that are seen, with their tags: first those of several rings."""
    for relation in sketch.relations:
        ways = [None if member.way is None else sketch.ways[member.way] for member in relation.members]
        if relation.tags["type"] == "multipolygon" and all(way is not None and way.closed for way in ways):
            outer, *inner = [xy[list(way.nodes)] for way in ways if way is not None]
            yield shapely.Polygon(outer, inner), relation.tags
    for way in sketch.ways:
        if way.closed and way.seen and way.tags:
            yield shapely.Polygon(xy[list(way.nodes)]), way.tags


def _area(tags: Tags) -> tuple[int, int] | None:
    """The level of an area, the lowest first, and what it is painted as."""
    if tags.get("natural") == "water":
        return 2, WATER
    if tags.get("leisure") == "pitch":
        return 2, PITCH
    if tags.get("amenity") == "parking":
        return 2, YARD
    if tags.get("amenity") == "school":
        return 1, YARD
    if tags.get("leisure") == "park":
        return 1, GARDEN
    codes = {
        "residential": GARDEN,
        "retail": PAVED,
        "industrial": YARD,
        "farmland": FIELD,
        "forest": WOOD,
        "meadow": MEADOW,
    }
    if tags.get("natural") == "wood":
        return 0, WOOD
    code = codes.get(tags.get("landuse", ""))
    return None if code is None else (0, code)


def _line(way: Way, xy: NDArray[np.float64]) -> _Paint | None:
    kind = way.tags.get("highway") or way.tags.get("railway")
    if way.closed or not kind or len(set(way.nodes)) < 2:
        return None
    line = shapely.LineString(xy[list(way.nodes)])
    if kind == "rail":
        return _Paint(shape=line.buffer(3.0, cap_style="flat"), code=RAIL)
    unpaved = way.tags.get("surface") == "unpaved" or kind in ("footway", "path")
    width = HALF_WIDTHS_M.get(kind, 3.0) + (1.5 if way.tags.get("lanes") == "4" else 0.0)
    return _Paint(shape=line.buffer(width, cap_style="flat"), code=TRACK if unpaved else ROAD)


def _marks(sketch: Sketch, xy: NDArray[np.float64]) -> Iterator[_Paint]:
    """White stripes where people cross."""
    for node, tags in sorted(sketch.node_tags.items()):
        if tags.get("highway") == "crossing":
            yield _Paint(shape=shapely.Point(xy[node]).buffer(2.6), code=MARK)


def _roof(rng: np.random.Generator, shape: shapely.Polygon, tags: Tags) -> _Paint:
    flat = tags["building"] in FLAT or shape.area > 350
    return _Paint(shape=shape, code=FLAT_ROOF if flat else ROOF, tone=0.16 * rng.standard_normal())


def _rasterised(layers: list[_Paint], grid: Grid) -> tuple[NDArray[np.uint8], Floats]:
    """Codes and tones of the topmost shape at each pixel; 0 where there is none."""
    if not layers:
        return np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.float32)
    number = rasterize(
        ((layer.shape, i + 1) for i, layer in enumerate(layers)),
        out_shape=grid.shape,
        transform=grid.transform,
        fill=0,
        dtype=np.int32,
    )
    codes = np.array([0, *(layer.code for layer in layers)], np.uint8)
    tones = np.array([0, *(layer.tone for layer in layers)], np.float32)
    return codes[number], tones[number]
