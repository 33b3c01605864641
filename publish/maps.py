"""The map of published tiles: its entities and tags beside the chips, and what the card says of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.items import MAP_SCHEMA, repeat
from catalog.published.layout import ENTITIES_PATH, TAGS_PATH
from catalog.query import Collection
from catalog.subset import Subset
from publish.manifest import FileRecord, describe_file
from pwcat.osm.document import MapRecipe
from pwcat.osm.entities import ENTITIES, TAGS, read_entities
from pwcat.osm.schema import ENTITY_SCHEMA
from pwcat.osm.vocabulary import MEMORY, ROWS, TagCounter

__all__ = ["attribution_of", "has_map", "is_map", "map_columns", "write_map"]

TILES_AT_ONCE = 2048

# Tags as a list of keys and values, boxes as any list: the `datasets` library has no maps, nor lists of one length.
_PLAIN: Final = {
    "tags": pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.string())])),
    "box": pa.list_(pa.float32()),
}
ENTITY_ROWS: Final = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("collection", pa.string()),
        *(field.with_type(_PLAIN.get(field.name, field.type)) for field in ENTITY_SCHEMA if field.name != "index"),
    ]
)


_WRITTEN: Final[dict[str, Any]] = {
    "compression": "zstd",
    "compression_level": 3,
    "write_page_index": True,
    "use_content_defined_chunking": True,
}
_KEYS: Final = pa.schema(
    [("collection", pa.string()), ("osm_type", pa.string()), ("osm_id", pa.int64()), ("row", pa.int64())]
)
_FIRST_ROWS: Final = 'SELECT min("row") AS "row" FROM read_parquet($keys) GROUP BY collection, osm_type, osm_id'


def is_map(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe, as JSON, is that of a collection of map tiles."""
    return recipe.get("kind") == "map"


def attribution_of(recipe: Mapping[str, Any]) -> str | None:
    """Whom a recipe asks to be named, as one line."""
    if is_map(recipe):
        return MapRecipe.model_validate(dict(recipe), context={"planned": True}).attribution
    attribution = recipe.get("attribution")
    return None if attribution is None else str(attribution)


def has_map(subset: Subset) -> bool:
    """Whether any of a subset's collections has entities."""
    return any(collection.place.has(ENTITIES) for collection in subset.collections)


def map_columns(subset: Subset) -> list[str]:
    """Columns that items of map tiles have besides, where all of a subset's have them."""
    return [
        name for name in MAP_SCHEMA.names if all(name in collection.items.columns for collection in subset.collections)
    ]


def write_map(subset: Subset, folder: Path) -> dict[str, FileRecord]:
    """The records of ``map/entities.parquet`` and ``map/tags.parquet``, the map of exactly these tiles.

    Rows of entities name the item that they lie on, in the order of the collections' own files; tags are counted over the tiles
    that are published.

    Args:
        subset: of map tiles, some at least.
        folder: of the publication.
    """
    (folder / "map").mkdir()
    whole = subset.collections[0]
    is_whole = len(subset.collections) == 1 and len(subset) == whole.items.num_rows
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        keys = None if is_whole else Path(scratch) / "keys.parquet"
        rows = _write_rows(subset, folder / ENTITIES_PATH, keys=keys)
        if keys is None:  # its tags are counted already
            shutil.copyfile(whole.path / TAGS, folder / TAGS_PATH)
        else:
            _count_tags(subset, folder / TAGS_PATH, keys=keys, rows=rows)
    tags = pq.read_metadata(folder / TAGS_PATH).num_rows
    return {
        ENTITIES_PATH: describe_file(folder / ENTITIES_PATH, rows=rows),
        TAGS_PATH: describe_file(folder / TAGS_PATH, rows=tags),
    }


def _write_rows(subset: Subset, path: Path, *, keys: Path | None) -> int:
    """Write the entities of a subset's tiles, and which entity each row is of where that is asked for; how many rows."""
    rows = 0
    schema = ENTITY_ROWS.with_metadata({"geo": json.dumps(_GEO)})
    with ExitStack() as files:
        writer = files.enter_context(pq.ParquetWriter(path, schema, **_WRITTEN))
        beside = None if keys is None else files.enter_context(pq.ParquetWriter(keys, _KEYS, compression="lz4"))
        for collection, name, part in _parts(subset):
            writer.write_table(_published(collection, name, part).cast(ENTITY_ROWS))
            if beside is not None:
                named = repeat(collection.name, len(part), pa.string())
                numbers = pa.array(np.arange(rows, rows + len(part)))
                beside.write_table(pa.table([named, part["osm_type"], part["osm_id"], numbers], schema=_KEYS))
            rows += len(part)
    return rows


def _count_tags(subset: Subset, path: Path, *, keys: Path, rows: int) -> None:
    """Count the tags of a subset's tiles; an entity on several of them counts once, at its first row."""
    first = _first_rows(keys, rows)
    counter, start = TagCounter(keys.parent), 0
    for number, (_, _, part) in enumerate(_parts(subset, columns=["index", "tags"])):
        bits = np.unpackbits(first[start // 8 : (start + len(part) + 7) // 8])[start % 8 :][: len(part)]
        counter.add(_numbered(part, number), part["tags"].combine_chunks(), pa.array(bits.astype(bool)))
        start += len(part)
    counter.write(path)


def _first_rows(keys: Path, rows: int) -> NDArray[np.uint8]:
    """A bit a row: whether it is the first of its entity. What memory does not hold of them DuckDB keeps in files."""
    first = np.zeros((rows + 7) // 8, dtype=np.uint8)
    settings = {"memory_limit": MEMORY, "temp_directory": str(keys.parent / "keys"), "threads": 2}
    with duckdb.connect(config=settings) as connection:
        found = connection.sql(_FIRST_ROWS, params={"keys": str(keys)})
        for batch in found.to_arrow_reader(ROWS):
            at = batch["row"].to_numpy()
            np.bitwise_or.at(first, at // 8, (128 >> (at % 8)).astype(np.uint8))
    return first


_GEO: Final = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {"geometry": {"encoding": "WKB", "geometry_types": []}},
}


def _parts(
    subset: Subset, *, columns: Sequence[str] | None = None
) -> Iterator[tuple[Collection, dict[int, str], pa.Table]]:
    """Entities of a subset's tiles, some tiles at a time, with their collection and the item of each tile."""
    ids = subset.column("id")
    for collection, rows in subset.parts():
        if not collection.place.has(ENTITIES):
            continue
        index = subset.index[rows]
        order = np.argsort(index)
        names = ids[rows][order]
        for start in range(0, len(order), TILES_AT_ONCE):
            chosen = index[order][start : start + TILES_AT_ONCE]
            names_of = dict(zip(chosen.tolist(), names[start : start + TILES_AT_ONCE].tolist(), strict=True))
            part = read_entities(collection.path, chosen, columns)
            if len(part):
                yield collection, names_of, part


def _published(collection: Collection, name_of: Mapping[int, str], part: pa.Table) -> pa.Table:
    """Entities as they are published."""
    index, tags = part["index"].to_numpy(), part["tags"].combine_chunks()
    places, named = np.unique(index, return_inverse=True)
    ids = pa.array([name_of[int(place)] for place in places]).take(pa.array(named))
    first, last = tags.offsets[0].as_py(), tags.offsets[-1].as_py()
    pairs = pa.StructArray.from_arrays(
        [tags.keys.slice(first, last - first), tags.items.slice(first, last - first)], names=["key", "value"]
    )
    lists = pa.ListArray.from_arrays(pc.subtract(tags.offsets, first), pairs)
    columns = {name: part[name] for name in part.column_names if name != "index"}
    return pa.table(
        {"id": ids, "collection": repeat(collection.name, len(part), pa.string()), **columns} | {"tags": lists}
    ).select(ENTITY_ROWS.names)


def _numbered(part: pa.Table, number: int) -> pa.Array:
    """The tile of each row, other numbers in other stretches: tiles of two collections may have the same."""
    return pc.add(part["index"].combine_chunks(), number * 2**40)
