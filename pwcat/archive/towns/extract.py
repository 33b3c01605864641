"""Towns as one ``.osm.pbf``: nodes, ways, relations, each by ascending number, however many towns there are."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import osmium
from osmium.osm.mutable import Node, Relation, Way

from pwcat.archive import folder
from pwcat.archive.towns.ground import Ground
from pwcat.archive.towns.sketch import Sketch

__all__ = ["Extract"]

DAY = "2022-07-01T00:00:00Z"  # on which the map is said to be so
BEYOND = 1 << 40  # numbers of members that the extract does not hold


class Extract:
    """An extract being written; what is made of one town is kept no longer than that town.

    Ways and relations wait in files of their own beside it, for nodes come first.
    """

    def __init__(self, path: Path) -> None:
        """A new extract at ``path``, which appears whole when the block ends well."""
        self._path, self._stack = path, ExitStack()
        self._nodes = self._ways = self._relations = 0

    def __enter__(self) -> Extract:
        self._whole = self._stack.enter_context(folder.replacing(self._path))
        self._waiting = [self._path.with_name(f".{self._path.name}.{kind}.pbf") for kind in ("ways", "relations")]
        for path in self._waiting:
            self._stack.callback(path.unlink, missing_ok=True)
        header = osmium.io.Header()
        header.set("generator", "pwcat")
        header.set("osmosis_replication_timestamp", DAY)
        whole = osmium.io.File(str(self._whole), "pbf")
        self._writer = osmium.SimpleWriter(whole, header=header, overwrite=True)
        self._later = [osmium.SimpleWriter(str(path), overwrite=True) for path in self._waiting]
        return self

    def add(self, ground: Ground, sketch: Sketch) -> None:
        """Write a town."""
        first = self._nodes + 1
        lonlat = ground.lonlat(np.array(sketch.xy)).tolist()
        for k, (lon, lat) in enumerate(lonlat):
            self._writer.add_node(Node(id=first + k, location=(lon, lat), tags=sketch.node_tags.get(k, {})))
        self._nodes += len(lonlat)
        numbers: dict[int, int] = {}
        for k, way in enumerate(sketch.ways):
            if way.mapped:
                self._ways += 1
                numbers[k] = self._ways
                nodes = [first + node for node in way.nodes]
                self._later[0].add_way(Way(id=self._ways, nodes=nodes, tags=way.tags))
        for relation in filter(lambda one: one.mapped, sketch.relations):
            self._relations += 1
            members = [
                ("w", numbers.get(-1 if member.way is None else member.way, BEYOND + self._relations), member.role)
                for member in relation.members
            ]
            self._later[1].add_relation(Relation(id=self._relations, members=members, tags=relation.tags))

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool | None:
        try:
            for writer in self._later:
                writer.close()
            if kind is None:
                for path in self._waiting:
                    _copy(path, self._writer)
        finally:
            self._writer.close()
            closed = self._stack.__exit__(kind, *rest)  # type: ignore[arg-type]
        return closed


def _copy(path: Path, writer: osmium.SimpleWriter) -> None:
    for each in osmium.FileProcessor(str(path)):
        writer.add(each)
