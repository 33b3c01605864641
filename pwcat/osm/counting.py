"""What a map holds, counted: entities by the kind of thing they are, tags by key and value. Counts of tiles add."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["ENTITY", "MAIN_KEYS", "OTHER", "TAG", "count_things", "entity_class", "tag_class"]

ENTITY: Final = "entity"
TAG: Final = "tag"
OTHER: Final = "other"

# Keys that say what a thing is, by the "Map features" of the OpenStreetMap wiki: what happens in a building, then what stands,
# then what grows or lies there, then lines and borders. An entity is of the first that it has.
MAIN_KEYS: Final = (
    "amenity", "shop", "office", "craft", "healthcare", "tourism", "leisure", "emergency", "historic", "military",
    "railway", "public_transport", "aeroway", "aerialway", "highway", "building", "building:part", "power", "telecom",
    "man_made", "waterway", "water", "natural", "landuse", "place", "barrier", "route", "geological", "boundary",
)  # fmt: skip

# Values that are classes are lower-case words, in OpenStreetMap; numbers, names and free text are none.
_CLASS = re.compile(r"[a-z][a-z_\-]*(;[a-z][a-z_\-]*)*")


def tag_class(key: str, value: str) -> str:
    """What a tag is counted as: ``key=value`` where the value is a class, else ``key=*``.

    It hangs on nothing but the tag, so that counts of parts of a map add up to those of the whole.
    """
    return f"{key}={value}" if _CLASS.fullmatch(value) else f"{key}=*"


def entity_class(keys: set[str]) -> str:
    """What an entity is counted as: the first of :data:`MAIN_KEYS` that it has, or ``other``."""
    return next((key for key in MAIN_KEYS if key in keys), OTHER)


def count_things(entities: pa.Table) -> dict[str, dict[str, int]]:
    """Entities and tags by class, each by name; an entity counts once in every tile that holds a piece of it.

    Args:
        entities: columns ``part`` and ``tags`` of :data:`pwcat.osm.schema.ENTITY_SCHEMA`.
    """
    tags = entities.filter(pc.equal(entities["part"], 0))["tags"].combine_chunks()
    if not len(tags):
        return {}
    first, last = tags.offsets[0].as_py(), tags.offsets[-1].as_py()
    keys, values = (part.slice(first, last - first) for part in (tags.keys, tags.items))
    return {ENTITY: _entities(tags, keys), TAG: _tags(keys, values)}


def _entities(tags: pa.MapArray, keys: pa.Array) -> dict[str, int]:
    """Classes of entities: the least place among the main keys of any of their tags."""
    known = pc.fill_null(pc.index_in(keys, pa.array(MAIN_KEYS)), len(MAIN_KEYS)).to_numpy()
    starts = tags.offsets.to_numpy()[:-1] - tags.offsets[0].as_py()  # no entity is without tags
    places = np.bincount(np.minimum.reduceat(known, starts), minlength=len(MAIN_KEYS) + 1)
    names = (*MAIN_KEYS, OTHER)
    return dict(sorted((names[place], int(places[place])) for place in np.flatnonzero(places)))


def _tags(keys: pa.Array, values: pa.Array) -> dict[str, int]:
    pairs = pa.table({"key": keys, "value": values}).group_by(["key", "value"]).aggregate([([], "count_all")])
    counts: Counter[str] = Counter()
    columns = (pairs[name].to_pylist() for name in ("key", "value", "count_all"))
    for key, value, count in zip(*columns, strict=True):
        counts[tag_class(key, value)] += count
    return dict(sorted(counts.items()))
