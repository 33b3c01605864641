"""The streets of a town: a bent grid, with bridges where main streets cross a river, a motorway or a railway."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.archive.towns.ground import Field, Ground
from pwcat.archive.towns.sketch import Sketch, Tags

__all__ = ["HALF_WIDTHS_M", "Barriers", "Streets", "draw_barriers", "lay_streets"]

MAIN = ("primary", "secondary", "tertiary")
HALF_WIDTHS_M = {"motorway": 7.5, "primary": 8.0, "secondary": 6.5, "tertiary": 5.0, "residential": 3.5, "service": 2.5,
                 "footway": 1.2, "path": 1.0}  # fmt: skip
LONGEST_BRIDGE_M = 160.0
Corner = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Barriers:
    """What streets cannot cross but by bridges.

    Attributes:
        river: its water.
        lines: axis and half width of what goes on it, by ``motorway`` and ``rail``.
    """

    river: shapely.Geometry
    lines: dict[str, shapely.LineString]

    @property
    def ground(self) -> shapely.Geometry:
        """Ground on which no street and no house lies."""
        strips = [self.lines[name].buffer(20 if name == "motorway" else 9) for name in self.lines]
        return shapely.union_all([self.river.buffer(5), *strips])


@dataclass(frozen=True, kw_only=True)
class Streets:
    """The grid of streets.

    Attributes:
        corners: (I, J, 2) metres, where lines meet.
        kinds: ``highway`` of the street from a corner along the first axis, (I-1, J), and along the second, (I, J-1), empty
            where there is none.
        names: likewise.
    """

    corners: NDArray[np.float64]
    kinds: tuple[NDArray[np.object_], NDArray[np.object_]]
    names: tuple[NDArray[np.object_], NDArray[np.object_]]


def draw_barriers(rng: np.random.Generator, ground: Ground, sketch: Sketch) -> Barriers:
    """A river through most towns, a motorway past some, a railway through some; drawn on the map."""
    river = shapely.Polygon()
    if rng.random() < 0.65:
        axis, width = _across(rng, ground, bend=0.08), float(rng.uniform(10, 34))
        river = shapely.intersection(axis.buffer(width), ground.square)
        sketch.area(river, {"natural": "water", "water": "river"})
        name = {"name": f"{rng.choice(ground.manner.stems)}"}
        _lay(sketch, ground, axis, {"waterway": "river", **name}, over=shapely.Polygon(), sides=(0.0,))
    lines: dict[str, shapely.LineString] = {}
    if rng.random() < 0.35:
        lines["motorway"] = _across(rng, ground, bend=0.03)
        speed = ground.manner.speeds["motorway"]
        tags = {
            "highway": "motorway",
            "oneway": "yes",
            "lanes": "2",
            "maxspeed": speed,
            "ref": f"A{rng.integers(1, 99)}",
        }
        _lay(sketch, ground, lines["motorway"], {**tags, "surface": "asphalt"}, over=river, sides=(-10.0, 10.0))
    if rng.random() < 0.4:
        lines["rail"] = _across(rng, ground, bend=0.02)
        over = shapely.union_all([river, *(line.buffer(20) for line in lines.values() if line is not lines["rail"])])
        tags = {"railway": "rail", "gauge": "1435", "electrified": str(rng.choice(["contact_line", "no"]))}
        _lay(sketch, ground, lines["rail"], tags, over=over, sides=(0.0,))
    return Barriers(river=river, lines=lines)


def lay_streets(rng: np.random.Generator, ground: Ground, sketch: Sketch, barriers: Barriers) -> Streets:
    """Draw streets, bridges, signals, crossings and bus stops."""
    corners, classes = _grid(rng, ground)
    work = _Laying(rng=rng, ground=ground, sketch=sketch, corners=corners, wet=barriers.ground)
    work.place_signals(classes)
    num_i, num_j = corners.shape[:2]
    kinds = (np.full((num_i - 1, num_j), "", object), np.full((num_i, num_j - 1), "", object))
    names = (np.full((num_i - 1, num_j), "", object), np.full((num_i, num_j - 1), "", object))
    for axis, count in enumerate((num_j, num_i)):
        for k in range(count):
            line = [(i, k) for i in range(num_i)] if axis == 0 else [(k, j) for j in range(num_j)]
            there = (slice(None), k) if axis == 0 else (k, slice(None))
            kinds[axis][there], names[axis][there] = work.lay_line(line, classes[axis][k])
    return Streets(corners=corners, kinds=kinds, names=names)


def _grid(rng: np.random.Generator, ground: Ground) -> tuple[NDArray[np.float64], tuple[list[str], list[str]]]:
    """Corners, (I, J, 2), and the class of each line: those of fixed j, those of fixed i."""
    half, step = 0.75 * ground.side_m, ground.manner.block_m
    places, ranks = [], []
    for _ in range(2):
        steps = step * rng.uniform(0.75, 1.35, math.ceil(2 * half / step) + 1)
        at = np.cumsum(steps) - half - step
        first, every = int(rng.integers(0, 5)), int(rng.integers(4, 6))
        kinds = ["residential"] * len(at)
        for n, k in enumerate(range(first, len(at), every)):
            kinds[k] = MAIN[(n + 1) % 3] if n % 2 else MAIN[int(rng.integers(1, 3))]
        kinds[min(range(first, len(at), every), key=lambda k: abs(at[k]))] = "primary"
        places.append(at)
        ranks.append(kinds)
    p, q = np.meshgrid(places[0], places[1], indexing="ij")
    turn = rng.uniform(-math.pi / 4, math.pi / 4)
    xy = np.stack([p * math.cos(turn) - q * math.sin(turn), p * math.sin(turn) + q * math.cos(turn)], -1)
    xy += ground.side_m / 2
    flat = xy.reshape(-1, 2)
    bent = flat + ground.manner.bend * np.column_stack([Field.draw(rng, wavelength_m=900).at(flat) for _ in range(2)])
    return bent.reshape(xy.shape), (ranks[1], ranks[0])


def _across(rng: np.random.Generator, ground: Ground, *, bend: float) -> shapely.LineString:
    """A wavering line from beyond one side of the town to beyond the other."""
    side, n = ground.side_m, 24
    turn = rng.uniform(0, 2 * math.pi)
    along = np.linspace(-1.0, 1.0, n) * side
    off = rng.uniform(-0.35, 0.35) * side + bend * side * np.sin(along / side * rng.uniform(2, 6) + rng.uniform(0, 6))
    x = side / 2 + along * math.cos(turn) - off * math.sin(turn)
    y = side / 2 + along * math.sin(turn) + off * math.cos(turn)
    return shapely.LineString(np.column_stack([x, y]))


def _lay(
    sketch: Sketch,
    ground: Ground,
    axis: shapely.LineString,
    tags: Tags,
    *,
    over: shapely.Geometry,
    sides: Sequence[float],
) -> None:
    """Draw lines beside an axis, each a bridge where it is over something."""
    for side in sides:
        line = shapely.offset_curve(axis, side) if side else axis
        line = shapely.intersection(line, ground.square)
        for part in _lines(shapely.difference(line, over)):
            sketch.path(part.coords, tags)
        for part in _lines(shapely.intersection(line, over)):
            sketch.path(part.coords, {**tags, "bridge": "yes", "layer": "1"})


def _lines(shape: shapely.Geometry) -> Iterator[shapely.LineString]:
    return (part for part in shapely.get_parts(shape) if part.geom_type == "LineString" and part.length > 1)


@dataclass(kw_only=True)
class _Laying:
    """Streets under way: which nodes stand at corners, and what is on them."""

    rng: np.random.Generator
    ground: Ground
    sketch: Sketch
    corners: NDArray[np.float64]
    wet: shapely.Geometry
    nodes: dict[Corner, int] = field(default_factory=dict)
    at_corner: dict[Corner, Tags] = field(default_factory=dict)

    def place_signals(self, classes: tuple[list[str], list[str]]) -> None:
        """Choose the junctions that have signals: the greater and the denser, the likelier."""
        num_i, num_j = self.corners.shape[:2]
        density = self.ground.density_at(self.corners.reshape(-1, 2)).reshape(num_i, num_j)
        chance = self.rng.random((num_i, num_j))
        for i in range(num_i):
            for j in range(num_j):
                mains = (classes[0][j] in MAIN) + (classes[1][i] in MAIN)
                likely = (0.0, 0.02 + 0.16 * density[i, j], 0.30 + 0.65 * density[i, j])[mains]
                if chance[i, j] < likely:
                    self.at_corner[i, j] = {"highway": "traffic_signals"}
                elif mains and chance[i, j] > 1 - 0.6 * density[i, j]:
                    self.at_corner[i, j] = {"highway": "crossing", "crossing": "uncontrolled"}

    def lay_line(self, line: Sequence[Corner], kind: str) -> tuple[list[str], list[str]]:
        """Draw one line of the grid; the ``highway`` of each of its edges and its name come back, empty where there is none."""
        points = np.array([self.corners[corner] for corner in line])
        edges = shapely.linestrings(np.stack([points[:-1], points[1:]], 1))
        inside = shapely.length(shapely.intersection(self.ground.square, edges)) > 2
        blocked = shapely.intersects(self.wet, edges)
        middles = (points[:-1] + points[1:]) / 2
        density = self.ground.density_at(middles) + 0.05 * self.rng.standard_normal(len(edges))
        wanted = inside & ((kind in MAIN) | (density > 0.14))
        name, tags = self._tags(kind)
        run = _Run(self, kind, tags)
        for k, edge in enumerate(edges):
            if not wanted[k]:
                run.end()
                continue
            if kind in MAIN:
                self._furnish(points[k], points[k + 1], float(density[k]))
            run.extend(self._pieces(edge, line[k], line[k + 1], blocked=bool(blocked[k]), main=kind in MAIN))
        run.end()
        there = [kind if wanted[k] else "" for k in range(len(edges))]
        return there, [name if one else "" for one in there]

    def _tags(self, kind: str) -> tuple[str, Tags]:
        """The name and the tags of a street."""
        rng, manner = self.rng, self.ground.manner
        name = manner.name(rng)
        tags = {"highway": kind}
        if kind in MAIN or rng.random() < 0.85:
            tags["name"] = name
        if rng.random() < (0.95 if kind in MAIN else self.ground.posted):
            slower = kind in ("secondary", "tertiary") and rng.random() < 0.2
            tags["maxspeed"] = manner.speeds["tertiary" if slower else kind]
        if kind in MAIN and rng.random() < 0.7:
            tags["lanes"] = {"primary": "4", "secondary": str(rng.choice(["2", "3"])), "tertiary": "2"}[kind]
        if rng.random() < 0.5:
            surfaces = ["asphalt", "asphalt", "concrete"] if kind in MAIN else ["asphalt", "paving_stones", "unpaved"]
            tags["surface"] = str(rng.choice(surfaces))
        for key, value, likely in (("oneway", "yes", 0.1), ("lit", "yes", 0.3), ("sidewalk", "both", 0.25)):
            if rng.random() < likely:
                tags[key] = value
        return name, tags

    def _furnish(self, start: NDArray[np.float64], end: NDArray[np.float64], density: float) -> None:
        """Bus stops beside a main street."""
        if self.rng.random() < 0.35 * density + 0.03:
            along = end - start
            across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1.0)
            at = start + along * self.rng.uniform(0.3, 0.7) + 9 * across
            if self._is_free(at):
                tags = {"highway": "bus_stop", "public_transport": "platform"}
                self.sketch.node(at, tags | ({"shelter": "yes"} if self.rng.random() < 0.3 else {}))

    def _is_free(self, at: NDArray[np.float64]) -> bool:
        return bool(shapely.contains_xy(self.ground.square, *at)) and not shapely.contains_xy(self.wet, *at)

    def _pieces(
        self, edge: shapely.LineString, a: Corner, b: Corner, *, blocked: bool, main: bool
    ) -> Iterator[tuple[str, list[int]]]:
        """What an edge consists of, from ``a`` to ``b``: ``street`` and ``bridge``, with their nodes."""
        length = edge.length
        (low, high), stops = _spans(edge, self.ground.square)[0], list[tuple[float, float]]()
        if blocked:
            stops = _spans(edge, self.wet)
        cuts = sorted({low, high, *(cut for stop in stops for cut in stop if low < cut < high)})
        crossing = 13.0
        if main and low == 0 and length > 40 and self.at_corner.get(a, {}).get("highway") == "traffic_signals":
            cuts = sorted({*cuts, crossing}) if cuts[1] > crossing else cuts
        nodes = [self._node(edge, cut, a, b, length, is_crossing=cut == crossing) for cut in cuts]
        for (start, end), first, last in zip(pairwise(cuts), nodes, nodes[1:], strict=False):
            middle = (start + end) / 2
            yield "bridge" if any(one <= middle <= other for one, other in stops) else "street", [first, last]

    def _node(
        self, edge: shapely.LineString, cut: float, a: Corner, b: Corner, length: float, *, is_crossing: bool
    ) -> int:
        if cut in (0.0, length):
            corner = a if cut == 0 else b
            if corner not in self.nodes:
                self.nodes[corner] = self.sketch.node(self.corners[corner])
            return self.nodes[corner]
        at = edge.interpolate(cut)
        tags = {"highway": "crossing", "crossing": "traffic_signals"} if is_crossing else None
        return self.sketch.node((at.x, at.y), tags)

    def finish(self, kind: str, piece: str, nodes: list[int], tags: Tags) -> None:
        """Draw a street, or a bridge; a small street has no bridge, but now and then one on foot."""
        if piece == "street":
            self.sketch.way(nodes, tags)
            self._mark(nodes)
            return
        length = sum(math.dist(self.sketch.xy[m], self.sketch.xy[n]) for m, n in pairwise(nodes))
        if kind in MAIN and length <= LONGEST_BRIDGE_M:
            self.sketch.way(nodes, {**tags, "bridge": "yes", "layer": "1"})
        elif length <= LONGEST_BRIDGE_M / 2 and self.rng.random() < 0.18:
            self.sketch.way(nodes, {"highway": "footway", "bridge": "yes", "layer": "1"})

    def _mark(self, nodes: Iterable[int]) -> None:
        """Put signals and crossings on the corners that a street has."""
        for corner, node in self.nodes.items():
            if corner in self.at_corner and node in nodes and node not in self.sketch.node_tags:
                self.sketch.node_tags[node] = self.at_corner[corner]


@dataclass
class _Run:
    """Pieces of one kind in a row, that become one way."""

    work: _Laying
    kind: str
    tags: Tags
    piece: str = ""
    nodes: list[int] = field(default_factory=list)

    def extend(self, pieces: Iterable[tuple[str, list[int]]]) -> None:
        for piece, nodes in pieces:
            if piece != self.piece or not self.nodes or self.nodes[-1] != nodes[0]:
                self.end()
                self.piece, self.nodes = piece, nodes[:1]
            self.nodes += nodes[1:]

    def end(self) -> None:
        if len(self.nodes) > 1:
            self.work.finish(self.kind, self.piece, self.nodes, self.tags)
        self.nodes = []


def _spans(edge: shapely.LineString, ground: shapely.Geometry) -> list[tuple[float, float]]:
    """From where to where along an edge it lies on some ground, metres."""
    spans = []
    for part in _lines(shapely.intersection(edge, ground)):
        ends = sorted(edge.project(shapely.Point(end)) for end in (part.coords[0], part.coords[-1]))
        low, high = ends[0], ends[1]
        spans.append((0.0 if low < 0.5 else low, edge.length if edge.length - high < 0.5 else high))
    return spans
