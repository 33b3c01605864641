"""A whole town on paper, with the faults that real maps have."""

from __future__ import annotations

import numpy as np

from pwcat.archive.towns.blocks import fill_blocks
from pwcat.archive.towns.ground import Ground
from pwcat.archive.towns.sketch import Member, Relation, Sketch
from pwcat.archive.towns.streets import draw_barriers, lay_streets

__all__ = ["draw_town"]


def draw_town(rng: np.random.Generator, ground: Ground) -> Sketch:
    """Everything on that ground."""
    sketch = Sketch()
    barriers = draw_barriers(rng, ground, sketch)
    streets = lay_streets(rng, ground, sketch, barriers)
    fill_blocks(rng, ground, sketch, streets=streets, barriers=barriers)
    _draw_faults(rng, ground, sketch)
    return sketch


def _draw_faults(rng: np.random.Generator, ground: Ground, sketch: Sketch) -> None:
    """What mappers leave behind: areas that cross themselves, ways of one point, members that are not there, odd tags."""
    x, y = rng.uniform(0.2, 0.8, 2) * ground.side_m
    bow = [(x, y), (x + 18, y + 12), (x + 18, y), (x, y + 12)]
    sketch.ring(bow, {"landuse": "grass", "note": "Grünfläche 🌳 يتقاطع"}, seen=False)
    twice = sketch.node((x + 30, y))
    sketch.way(
        [twice, twice, sketch.node((x + 42, y + 3)), sketch.node((x + 47, y + 9))], {"barrier": "fence"}, seen=False
    )
    sketch.way([twice, twice], {"barrier": "wall"}, seen=False)
    sketch.path([(x + 30, y + 5), (x + 40, y + 5)], {})
    lost = sketch.ring([(x, y + 30), (x + 25, y + 30), (x + 25, y + 52)], {})
    members = (Member(way=lost, role="outer"), Member(way=None, role="inner"))
    sketch.relations.append(Relation(members=members, tags={"type": "multipolygon", "landuse": "cemetery"}))
    first = next(i for i, way in enumerate(sketch.ways) if "highway" in way.tags)
    route = Relation(members=(Member(way=first, role=""),), tags={"type": "route", "route": "bus", "ref": "1"})
    sketch.relations.append(route)
    sketch.node((x + 50, y + 30), {"source": "survey 2019", "tiger:cfcc": "A41"})
    sketch.node((x + 52, y + 30), {"natural": "tree", "description": "ß" * 255})
