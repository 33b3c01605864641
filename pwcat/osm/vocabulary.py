"""The tags of a map with their counts: ``tags.parquet``, counted outside of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pwcat.osm.schema import TAG_SCHEMA

__all__ = ["TagCounter"]

MEMORY: Final = "512MB"  # beyond it DuckDB goes on in files
ROWS: Final = 65_536

_SUMMED: Final = (
    "SELECT key, value, CAST(sum(count) AS BIGINT) AS count, CAST(sum(tiles) AS BIGINT) AS tiles "
    "FROM read_parquet($parts) GROUP BY key, value ORDER BY count DESC, key, value"
)


class TagCounter:
    """Counts tags of entities by stretches of tiles; a tile is in one stretch.

    Args:
        folder: where counts of the stretches are written; it is there, and whoever made it removes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: list[Path] = []

    def add(self, index: pa.Array, tags: pa.MapArray, first: pa.Array) -> None:
        """Count the tags of some rows.

        Args:
            index: the tile of each row.
            tags: its tags.
            first: whether it stands for its entity, which may have others.
        """
        offsets = tags.offsets.to_numpy()  # a slice keeps the keys of the whole
        start, length = int(offsets[0]), int(offsets[-1] - offsets[0])
        of = np.repeat(np.arange(len(tags)), np.diff(offsets))
        flat = pa.table(
            {
                "index": index.take(pa.array(of)),
                "key": tags.keys.slice(start, length),
                "value": tags.items.slice(start, length),
                "count": first.cast(pa.int64()).take(pa.array(of)),
            }
        )
        by_tile = flat.group_by(["index", "key", "value"]).aggregate([("count", "sum")])
        counts = by_tile.group_by(["key", "value"]).aggregate([("count_sum", "sum"), ("count_sum", "count")])
        path = self._folder / f"tags-{len(self._parts):06d}.parquet"
        named = counts.rename_columns({"count_sum_sum": "count", "count_sum_count": "tiles"})
        pq.write_table(named, path, compression="lz4")
        self._parts.append(path)

    def write(self, path: Path) -> None:
        """Write :data:`~pwcat.osm.schema.TAG_SCHEMA`: the most frequent first, then by key and value."""
        with pq.ParquetWriter(
            path, TAG_SCHEMA, compression="zstd", write_page_checksum=True, write_page_index=True
        ) as writer:
            if not self._parts:
                return
            settings = {"memory_limit": MEMORY, "temp_directory": str(self._folder / "duckdb"), "threads": 2}
            with duckdb.connect(config=settings) as connection:
                parts = [str(part) for part in self._parts]
                for batch in connection.sql(_SUMMED, params={"parts": parts}).to_arrow_reader(ROWS):
                    writer.write_batch(batch.cast(TAG_SCHEMA))
