"""Geometries compared exactly, inside queries: DuckDB's own extension for that would have to be downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from threading import get_ident
from typing import Any

import pyarrow as pa

__all__ = ["FUNCTIONS", "RELATIONS"]

# Relation of a filter, and what shapely calls it.
RELATIONS: Mapping[str, str] = {
    "s_intersects": "intersects",
    "s_within": "within",
    "s_contains": "contains",
    "s_disjoint": "disjoint",
}


@lru_cache(maxsize=256)
def _prepared(wkt: str, thread: int) -> Any:
    """The geometry, for one thread: a prepared one builds its index at its first use, which two threads must not do at once."""
    import shapely

    geometry = shapely.from_wkt(wkt)
    shapely.prepare(geometry)
    return geometry


def _relation(name: str) -> Callable[[pa.Array, pa.Array], pa.Array]:
    # shapely prepares its first argument: that is to be the filter's geometry, so each relation is asked the other way round.
    other_way = {"intersects": "intersects", "within": "contains", "contains": "within", "disjoint": "disjoint"}[name]

    def compare(outlines: pa.Array, geometry: pa.Array) -> pa.Array:
        """Whether each outline, WKB, has the relation to the geometry, WKT: the same in all rows."""
        import shapely

        if not len(outlines):
            return pa.array([], pa.bool_())
        shapes = shapely.from_wkb(outlines.to_numpy(zero_copy_only=False))
        return pa.array(getattr(shapely, other_way)(_prepared(geometry[0].as_py(), get_ident()), shapes))

    return compare


# Name in SQL: the function, the types of its parameters, and of its result.
FUNCTIONS: Mapping[str, tuple[Callable[..., Any], list[str], str]] = {
    f"pwcat_{name}": (_relation(name), ["BLOB", "VARCHAR"], "BOOLEAN") for name in RELATIONS.values()
}
