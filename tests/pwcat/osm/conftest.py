"""Small maps, written as extracts of OpenStreetMap."""

import numpy as np
import osmium
import pytest
from osmium.osm import mutable


class DrawnMap:
    """Nodes, ways and relations, written in the order of their types, or in any other."""

    def __init__(self) -> None:
        self.objects = []
        self._nodes = 0

    def node(self, lon, lat, number=None, **tags):
        self._nodes += 1
        number = number or self._nodes
        self.objects.append(("n", mutable.Node(id=number, version=1, location=(lon, lat), tags=tags)))
        return number

    def way(self, number, places, tags, *, missing=0):
        """A way along places, of which the first and the last may be the same; nodes after the first are left out."""
        refs = {}
        for n, place in enumerate(places):
            if place not in refs:
                refs[place] = 10_000 + self._nodes if 0 < n <= missing else self.node(*place)
                self._nodes += 1
        self.objects.append(
            ("w", mutable.Way(id=number, version=1, nodes=[refs[place] for place in places], tags=tags))
        )

    def relation(self, number, members, tags):
        self.objects.append(("r", mutable.Relation(id=number, version=1, members=members, tags=tags)))

    def write(self, path, *, shuffled=None):
        order = sorted(range(len(self.objects)), key=lambda n: ("nwr".index(self.objects[n][0]), self.objects[n][1].id))
        if shuffled is not None:
            order = np.random.default_rng(shuffled).permutation(len(order)).tolist()
        with osmium.SimpleWriter(str(path), overwrite=True) as writer:
            for n in order:
                writer.add(self.objects[n][1])
        return path


@pytest.fixture
def drawn():
    return DrawnMap()
