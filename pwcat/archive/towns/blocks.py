"""What lies between the streets: houses, flats, shops, works, parks, schools, fields and woods, by how dense the town is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.archive.towns.ground import Ground
from pwcat.archive.towns.sketch import Member, Relation, Sketch, Tags
from pwcat.archive.towns.streets import HALF_WIDTHS_M, Barriers, Streets

__all__ = ["fill_blocks"]

# Of a building by what stands on its block: width along the street, depth, gap to the next, distance from the street, metres.
LOTS = {
    "houses": ((9, 14), (8, 12), (11, 22), (5, 9)),
    "terraces": ((10, 18), (9, 12), (6, 14), (3, 5)),
    "flats": ((22, 42), (12, 16), (8, 16), (4, 8)),
    "shops": ((14, 30), (14, 24), (2, 8), (3, 5)),
    "works": ((28, 55), (20, 36), (10, 22), (8, 14)),
    "farms": ((12, 22), (9, 14), (60, 160), (10, 30)),
}
VALUES = {
    "houses": ("house", "detached", "house", "residential"),
    "terraces": ("terrace", "semidetached_house", "residential", "house"),
    "flats": ("apartments", "apartments", "residential"),
    "shops": ("retail", "commercial", "apartments", "office"),
    "works": ("industrial", "warehouse", "industrial"),
    "farms": ("farm", "house", "barn"),
}
LEVELS = {"houses": (1, 3), "terraces": (2, 4), "flats": (3, 11), "shops": (2, 7), "works": (1, 3), "farms": (1, 3)}
LANDUSE = {"houses": "residential", "terraces": "residential", "flats": "residential", "shops": "retail",
           "works": "industrial", "field": "farmland", "wood": "forest", "meadow": "meadow"}  # fmt: skip
SHOPS = ("supermarket", "bakery", "clothes", "hairdresser", "convenience", "kiosk", "books", "florist")
AMENITIES = ("restaurant", "cafe", "bank", "pharmacy", "bar", "fast_food", "atm", "bench", "dentist", "post_box")
Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Ground between four streets.

    Attributes:
        corners: (4, 2) metres.
        kinds: ``highway`` of the street along each side, from a corner to the next; empty where there is none.
        names: of these streets.
        density: in its middle.
        use: what stands on it.
    """

    corners: Points
    kinds: tuple[str, ...]
    names: tuple[str, ...]
    density: float
    use: str

    @property
    def shape(self) -> shapely.Polygon:
        """Its outline."""
        return shapely.Polygon(self.corners)


def fill_blocks(
    rng: np.random.Generator, ground: Ground, sketch: Sketch, *, streets: Streets, barriers: Barriers
) -> None:
    """Draw everything between the streets."""
    blocks = list(_blocks(rng, ground, streets))
    free = shapely.difference(ground.square, barriers.ground.buffer(3))
    shapely.prepare(free)
    _draw_landuse(rng, ground, sketch, blocks)
    for block in blocks:
        plot = shapely.intersection(shapely.buffer(block.shape, -9, join_style="mitre"), free)
        if block.use == "park":
            _draw_park(rng, sketch, plot)
        elif block.use == "school":
            _draw_school(rng, ground, sketch, plot, block)
        else:
            _draw_buildings(rng, ground, sketch, block, free)
            if block.use in ("shops", "works") and rng.random() < 0.4:
                _draw_parking(rng, sketch, plot, block, ground.square)
        _draw_places(rng, ground, sketch, block, free)


def _blocks(rng: np.random.Generator, ground: Ground, streets: Streets) -> Iterator[Block]:
    corners = streets.corners
    square = shapely.prepared.prep(ground.square)
    along, across = streets.kinds
    names_along, names_across = streets.names
    for i in range(corners.shape[0] - 1):
        for j in range(corners.shape[1] - 1):
            four = np.array([corners[i, j], corners[i + 1, j], corners[i + 1, j + 1], corners[i, j + 1]])
            if not square.intersects(shapely.Polygon(four)):
                continue
            density = float(ground.density_at(four.mean(0)[None])[0])
            kinds = (along[i, j], across[i + 1, j], along[i, j + 1], across[i, j])
            names = (names_along[i, j], names_across[i + 1, j], names_along[i, j + 1], names_across[i, j])
            yield Block(corners=four, kinds=kinds, names=names, density=density, use=_use(rng, density, kinds))


def _use(rng: np.random.Generator, density: float, kinds: Sequence[str]) -> str:
    """What stands on a block, by its density."""
    uses: dict[str, float]
    if density < 0.14 or sum(map(bool, kinds)) < 2:
        uses = {"field": 0.45, "wood": 0.2, "meadow": 0.25, "farms": 0.1}
    elif density < 0.45:
        uses = {"houses": 0.74, "terraces": 0.06, "park": 0.08, "school": 0.03, "works": 0.06, "meadow": 0.03}
    elif density < 0.7:
        uses = {"houses": 0.25, "terraces": 0.35, "flats": 0.2, "park": 0.09, "school": 0.04, "shops": 0.07}
    else:
        uses = {"flats": 0.42, "shops": 0.33, "terraces": 0.12, "park": 0.1, "school": 0.03}
    return str(rng.choice(list(uses), p=list(uses.values())))


def _draw_landuse(rng: np.random.Generator, ground: Ground, sketch: Sketch, blocks: Sequence[Block]) -> None:
    """Draw what land is used for, blocks of one use together; from above it is seen, mapped or not."""
    mapped = {value: bool(rng.random() < 0.6) for value in sorted(set(LANDUSE.values()))}
    for value in sorted(mapped):
        shapes = [block.shape for block in blocks if LANDUSE.get(block.use) == value]
        key = "natural" if value == "forest" and rng.random() < 0.3 else "landuse"
        whole = shapely.intersection(shapely.union_all(shapes), ground.square)
        sketch.area(whole, {key: "wood" if key == "natural" else value}, mapped=mapped[value])


def _draw_park(rng: np.random.Generator, sketch: Sketch, plot: shapely.Geometry) -> None:
    for part in shapely.get_parts(plot):
        if part.geom_type != "Polygon" or part.area < 900:
            continue
        sketch.area(part, {"leisure": "park"})
        west, south, east, north = part.bounds
        middle = part.representative_point()
        if part.area > 4000 and rng.random() < 0.45:
            pond = middle.buffer(rng.uniform(8, 0.12 * math.sqrt(part.area) + 9), quad_segs=3)
            sketch.area(shapely.intersection(pond, part), {"natural": "water", "water": "pond"})
        for _ in range(2):
            ends = shapely.LineString([(rng.uniform(west, east), south), (rng.uniform(west, east), north)])
            path = shapely.intersection(ends, part)
            if path.geom_type == "LineString" and path.length > 20:
                sketch.path(path.coords, {"highway": str(rng.choice(["footway", "path"]))})
        for x, y in zip(rng.uniform(west, east, 6), rng.uniform(south, north, 6), strict=True):
            if shapely.contains_xy(part, x, y):
                sketch.node((x, y), {"natural": "tree"} if rng.random() < 0.7 else {"amenity": "bench"})


def _draw_school(
    rng: np.random.Generator, ground: Ground, sketch: Sketch, plot: shapely.Geometry, block: Block
) -> None:
    if plot.geom_type != "Polygon" or plot.area < 2500:
        return
    sketch.area(plot, {"amenity": "school", "name": f"{rng.choice(ground.manner.stems)}"})
    u, v = _axes(block)
    middle = np.array(plot.representative_point().coords[0])
    for shift, size, tags in (
        (-0.18, (34.0, 16.0), {"building": "school"}),
        (0.18, (38.0, 24.0), {"leisure": "pitch", "sport": "soccer"}),
    ):
        at = middle + shift * math.sqrt(plot.area) * v
        shape = _rectangle(at - u * size[0] / 2 - v * size[1] / 2, u, v, *size)
        if shapely.contains(plot, shapely.Polygon(shape)):
            sketch.ring(shape, tags)


def _draw_parking(
    rng: np.random.Generator, sketch: Sketch, plot: shapely.Geometry, block: Block, square: shapely.Polygon
) -> None:
    u, v = _axes(block)
    middle = block.corners.mean(0)
    shape = shapely.Polygon(_rectangle(middle - u * 14 - v * 11, u, v, 28, 22))
    if not plot.is_empty and shapely.contains(plot, shape):
        sketch.area(shape, {"amenity": "parking"} | ({"surface": "asphalt"} if rng.random() < 0.5 else {}))
        if shapely.contains_xy(square, *(street := block.corners[:2].mean(0))):
            sketch.path([middle, street], {"highway": "service"})


def _draw_buildings(
    rng: np.random.Generator, ground: Ground, sketch: Sketch, block: Block, free: shapely.Geometry
) -> None:
    """Draw buildings along the block's streets, and round a courtyard where it is dense."""
    if block.use not in LOTS:
        return
    if block.use in ("flats", "shops") and rng.random() < 0.12 and _draw_courtyard(rng, ground, sketch, block, free):
        return
    outlines = [(outline, side) for side in range(4) if block.kinds[side] for outline in _row(rng, block, side)]
    if not outlines:
        return
    stands = shapely.contains(free, [shapely.Polygon(outline) for outline, _ in outlines])
    number = int(rng.integers(1, 60))
    for (outline, side), fits in zip(outlines, stands, strict=True):
        number += 2
        if fits:
            tags = _building_tags(rng, ground, block.use, number, block.names[side])
            sketch.ring(outline, tags, mapped=bool(rng.random() < ground.mapped))


def _row(rng: np.random.Generator, block: Block, side: int) -> Iterator[Points]:
    """Outlines of the buildings along one side of a block."""
    widths, depths, gaps, setbacks = LOTS[block.use]
    start, end = block.corners[side], block.corners[(side + 1) % 4]
    length = float(np.hypot(*(end - start)))
    u = (end - start) / max(length, 1e-6)
    v = np.array([-u[1], u[0]])
    if (block.corners.mean(0) - start) @ v < 0:
        v = -v
    depth, setback = rng.uniform(*depths), rng.uniform(*setbacks) + HALF_WIDTHS_M[block.kinds[side]]
    taken = setback + (depth if side % 2 else 0) + 3  # rows of two sides would meet in the corner
    filled = 1.0 if block.use == "farms" else min(1.0, 0.5 + 0.6 * block.density)
    at = taken + rng.uniform(0, 8)
    while True:
        width = rng.uniform(*widths)
        if at + width > length - taken:
            return
        if rng.random() < filled:
            deep = depth * rng.uniform(0.85, 1.1)
            outline = _rectangle(start + u * at + v * (setback + rng.uniform(-1, 1)), u, v, width, deep)
            yield _with_wing(rng, outline) if rng.random() < 0.3 else outline
            if block.use == "houses" and rng.random() < 0.12:
                yield _rectangle(start + u * (at + 2) + v * (setback + deep + 6), u, v, 5, 4)
        at += width + rng.uniform(*gaps)


def _with_wing(rng: np.random.Generator, outline: Points) -> Points:
    """A rectangle with one corner cut out."""
    a, b, c, d = outline
    s, t = rng.uniform(0.35, 0.65, 2)
    return np.array([a, b, b + t * (c - b), b + t * (c - b) + s * (a - b), c + s * (d - c), d])


def _draw_courtyard(
    rng: np.random.Generator, ground: Ground, sketch: Sketch, block: Block, free: shapely.Geometry
) -> bool:
    """Draw one building all around a block; whether it has room."""
    outer = shapely.buffer(block.shape, -11, join_style="mitre")
    inner = shapely.buffer(outer, -14, join_style="mitre")
    if outer.geom_type != "Polygon" or inner.geom_type != "Polygon" or inner.area < 200:
        return False
    if not shapely.contains(free, outer):
        return False
    rings = [sketch.ring(shape.exterior.coords[:-1], {}) for shape in (outer, inner)]
    members = (Member(way=rings[0], role="outer"), Member(way=rings[1], role="inner"))
    tags = _building_tags(rng, ground, block.use, int(rng.integers(1, 60)), next(filter(None, block.names), ""))
    sketch.relations.append(Relation(members=members, tags={"type": "multipolygon", **tags}))
    return True


def _building_tags(rng: np.random.Generator, ground: Ground, use: str, number: int, street: str) -> Tags:
    tags = {"building": "yes" if rng.random() < ground.plain else str(rng.choice(VALUES[use]))}
    if rng.random() < ground.numbered:
        tags["addr:housenumber"] = str(number)
        if street:
            tags["addr:street"] = street
    if rng.random() < ground.storeyed:
        tags["building:levels"] = str(rng.integers(*LEVELS[use]))
    if use in ("houses", "terraces") and rng.random() < 0.05:
        tags["roof:shape"] = str(rng.choice(["gabled", "hipped", "flat"]))
    return tags


def _draw_places(
    rng: np.random.Generator, ground: Ground, sketch: Sketch, block: Block, free: shapely.Geometry
) -> None:
    """Draw shops and other places along the streets: the denser, the more; the greater the street, the more."""
    for side, kind in enumerate(block.kinds):
        if not kind:
            continue
        often = 0.5 * block.density**2 * (1.0 if kind == "residential" else 2.5)
        often *= 2.0 if block.use == "shops" else 1.0
        start, end = block.corners[side], block.corners[(side + 1) % 4]
        for along in rng.uniform(0.15, 0.85, rng.poisson(often)):
            at = start + (end - start) * along
            at = at + (block.corners.mean(0) - at) * 0.12
            if not shapely.contains_xy(free, *at):
                continue
            key, values = ("shop", SHOPS) if rng.random() < 0.45 else ("amenity", AMENITIES)
            tags = {key: str(rng.choice(values))}
            if rng.random() < 0.4:
                tags["name"] = str(rng.choice(ground.manner.stems))
            sketch.node(at, tags)


def _axes(block: Block) -> tuple[Points, Points]:
    """Unit vectors along the block's first side, and inwards."""
    u = block.corners[1] - block.corners[0]
    u = u / max(float(np.hypot(*u)), 1e-6)
    v = np.array([-u[1], u[0]])
    return u, v if (block.corners.mean(0) - block.corners[0]) @ v > 0 else -v


def _rectangle(corner: Points, u: Points, v: Points, width: float, depth: float) -> Points:
    return np.array([corner, corner + u * width, corner + u * width + v * depth, corner + v * depth])
