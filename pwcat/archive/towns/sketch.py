"""A map being drawn: nodes, ways and relations of one town, as OpenStreetMap has them.

Points are metres east and south of the town's north-western corner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

__all__ = ["Member", "Relation", "Sketch", "Tags", "Way"]

Tags = dict[str, str]
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Way:
    """Nodes in a row; ``seen`` says whether it is in the picture, ``mapped`` whether it is on the map."""

    nodes: tuple[int, ...]
    tags: Tags
    seen: bool = True
    mapped: bool = True

    @property
    def closed(self) -> bool:
        """Whether it ends where it began."""
        return len(self.nodes) > 3 and self.nodes[0] == self.nodes[-1]


@dataclass(frozen=True, kw_only=True)
class Member:
    """A member of a relation: a way, by its place in the sketch; ``None`` is one that the extract does not hold."""

    way: int | None
    role: str


@dataclass(frozen=True, kw_only=True)
class Relation:
    """Ways that make one thing together; ``mapped`` as of a way."""

    members: tuple[Member, ...]
    tags: Tags
    mapped: bool = True


@dataclass(kw_only=True)
class Sketch:
    """What is drawn so far.

    Attributes:
        xy: metres east and south of the north-western corner, of each node.
        node_tags: tags of nodes that have any, by place.
        ways: likewise.
        relations: likewise.
    """

    xy: list[Point] = field(default_factory=list)
    node_tags: dict[int, Tags] = field(default_factory=dict)
    ways: list[Way] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)

    def node(self, at: Sequence[float] | NDArray[np.float64], tags: Tags | None = None) -> int:
        """A new node; its place comes back."""
        self.xy.append((float(at[0]), float(at[1])))
        if tags:
            self.node_tags[len(self.xy) - 1] = tags
        return len(self.xy) - 1

    def way(self, nodes: Iterable[int], tags: Tags, *, seen: bool = True, mapped: bool = True) -> int:
        """A new way through nodes that are there; its place comes back."""
        self.ways.append(Way(nodes=tuple(nodes), tags=tags, seen=seen, mapped=mapped))
        return len(self.ways) - 1

    def path(self, points: Iterable[Sequence[float] | NDArray[np.float64]], tags: Tags) -> int:
        """A new way through new nodes."""
        return self.way([self.node(point) for point in points], tags)

    def ring(
        self,
        points: Iterable[Sequence[float] | NDArray[np.float64]],
        tags: Tags,
        *,
        seen: bool = True,
        mapped: bool = True,
    ) -> int:
        """A new closed way through new nodes; the first point is not repeated."""
        nodes = [self.node(point) for point in points]
        return self.way([*nodes, nodes[0]], tags, seen=seen, mapped=mapped)

    def area(self, shape: shapely.Geometry, tags: Tags, *, mapped: bool = True) -> None:
        """New closed ways around an area, and a multipolygon where it has holes; what is no area is left out."""
        for polygon in shapely.get_parts(shape):
            if polygon.geom_type != "Polygon" or polygon.area < 20:
                continue
            if not polygon.interiors:
                self.ring(polygon.exterior.coords[:-1], tags, mapped=mapped)
                continue
            rings = [polygon.exterior, *polygon.interiors]
            ways = [self.ring(ring.coords[:-1], {}, mapped=mapped) for ring in rings]
            members = [Member(way=way, role="inner" if i else "outer") for i, way in enumerate(ways)]
            whole = {"type": "multipolygon", **tags}
            self.relations.append(Relation(members=tuple(members), tags=whole, mapped=mapped))

    def points(self, way: Way) -> NDArray[np.float64]:
        """Where the nodes of a way are, (n, 2) metres."""
        return np.array([self.xy[node] for node in way.nodes])
