"""``entities.parquet`` as it is written: sorted rows become those of the schema, in row groups that end with a tile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pwcat.osm.schema import ENTITY_SCHEMA, KINDS, OSM_TYPES
from pwcat.osm.sorting import Stretch
from pwcat.osm.tiles import decode_tiles
from pwcat.osm.vocabulary import TagCounter

__all__ = ["GROUP_ROWS", "EntityFileWriter", "EntityWriter"]

# A row group has so many rows or more, to the end of a tile: some thirty tiles of a town at zoom 16. Readers decode whole
# groups, so that fewer rows cost less for tiles drawn at random, and more make the file's own description shorter.
GROUP_ROWS: Final = 8_192

_WORDS: Final = ("tile", "osm_type", "kind", "tags.key_value.key", "tags.key_value.value")
_FLOATS: Final = ("xy.list.element", "box.list.element")


class EntityFileWriter:
    """Takes rows of tiles in their order, and writes them in row groups that end with a tile.

    Args:
        path: of the file.
        zoom: of the tiles.
        bounds: west, south, east, north of all geometries, degrees; not told where not given, or NaN.

    Attributes:
        schema: of the rows.
    """

    def __init__(self, path: Path, *, zoom: int, bounds: NDArray[np.float64] | None = None) -> None:
        self._waiting: list[pa.Table] = []  # rows of a group that is not full, and
        self._counts: list[NDArray[np.int64]] = []  # how many each of its tiles has
        self.schema = ENTITY_SCHEMA.with_metadata(_metadata(zoom, bounds))
        self._file = pq.ParquetWriter(
            path,
            self.schema,
            compression="zstd",
            use_dictionary=list(_WORDS),
            use_byte_stream_split=list(_FLOATS),
            write_page_checksum=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, rows: pa.Table, counts: NDArray[np.int64]) -> None:
        """Write rows of some tiles, all of each.

        Args:
            rows: of :attr:`schema`.
            counts: ``(tiles,)`` how many each tile has, in their order.
        """
        self._waiting.append(rows)
        self._counts.append(counts)
        self._write_groups(least=GROUP_ROWS)

    def close(self) -> None:
        """Write what waits; the file is whole."""
        try:
            self._write_groups(least=1)
        finally:
            self._file.close()

    def _write_groups(self, least: int) -> None:
        """Write what waits, in groups of so many rows or more, and keep the rest: where stretches end does not show."""
        if not self._waiting:
            return
        rows, ends = pa.concat_tables(self._waiting), np.cumsum(np.concatenate(self._counts))
        written = 0
        for end in _group_ends(ends):
            if end - written >= least:
                self._file.write_table(
                    rows.slice(written, end - written).combine_chunks(), row_group_size=end - written
                )
                written = end
        left = np.diff(ends[ends > written], prepend=written)
        self._waiting, self._counts = ([rows.slice(written)], [left]) if len(left) else ([], [])


class EntityWriter:
    """Takes sorted stretches of rows, numbers their tiles and writes them.

    Args:
        path: of the file; it is there when the writer is left.
        zoom: of the tiles.
        bounds: west, south, east, north of all geometries, degrees; NaN without any.
        also: sorted codes of tiles that are numbered even where they have no row.
        counter: is given the tags.

    Attributes:
        codes: of the tiles, by number, in parts.
        counts: how many rows each has, in parts.
        entities: how many stand for an entity.
        rows: how many were written.
    """

    def __init__(
        self,
        path: Path,
        *,
        zoom: int,
        bounds: NDArray[np.float64],
        also: NDArray[np.int64],
        counter: TagCounter,
    ) -> None:
        self._zoom = zoom
        self._also = also
        self._counter = counter
        self._tiles = 0
        self.codes: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        self.counts: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        self.entities = 0
        self.rows = 0
        self._file = EntityFileWriter(path, zoom=zoom, bounds=bounds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, stretch: Stretch) -> None:
        """Write the rows of a stretch, which begins where the one before ended."""
        code = stretch.rows["code"].to_numpy()
        low, high = np.searchsorted(self._also, [stretch.start, stretch.stop])
        codes = np.union1d(code, self._also[low:high])
        place = np.searchsorted(codes, code)
        counts = np.bincount(place, minlength=len(codes))
        rows = self._rows(stretch.rows, codes, place)
        if len(rows):
            self._count(rows, stretch.rows["first"])
            self._file.write(rows, counts)
        self.codes.append(codes)
        self.counts.append(counts)
        self._tiles += len(codes)
        self.rows += len(rows)

    def _count(self, rows: pa.Table, first: pa.ChunkedArray) -> None:
        first = first.combine_chunks()
        self.entities += first.true_count
        self._counter.add(rows["index"].combine_chunks(), rows["tags"].combine_chunks(), first)

    def _rows(self, table: pa.Table, codes: NDArray[np.int64], place: NDArray[np.int64]) -> pa.Table:
        x, y = decode_tiles(codes)
        names = [f"{self._zoom}/{one}/{other}" for one, other in zip(x.tolist(), y.tolist(), strict=True)]
        columns: dict[str, Any] = {
            "index": place + self._tiles,
            "tile": pa.array(names, pa.string()).take(pa.array(place)),
            "osm_type": pa.array(OSM_TYPES).take(table["osm_type"]),
            "part": _numbers_within(table),
            "kind": pa.array(KINDS).take(table["kind"]),
        }
        arrays = [columns[name] if name in columns else table[name] for name in ENTITY_SCHEMA.names]
        return pa.Table.from_arrays(
            [pa.array(each) if isinstance(each, np.ndarray) else each for each in arrays], schema=self._file.schema
        ).combine_chunks()


def _numbers_within(table: pa.Table) -> NDArray[np.int32]:
    """The number of each row among those of its entity on its tile."""
    numbers = np.arange(len(table))
    begins = np.zeros(len(table), dtype=bool)
    begins[:1] = True
    for name in ("code", "osm_type", "osm_id"):
        values = table[name].to_numpy()
        begins[1:] |= values[1:] != values[:-1]
    return (numbers - np.maximum.accumulate(np.where(begins, numbers, 0))).astype(np.int32)


def _group_ends(ends: NDArray[np.int64]) -> list[int]:
    """Ends of row groups of tiles that end at these rows; the last may not be full."""
    groups, start = [], 0
    for end in ends.tolist():
        if end - start >= GROUP_ROWS:
            groups.append(end)
            start = end
    return groups if not len(ends) or start == ends[-1] else [*groups, int(ends[-1])]


def _metadata(zoom: int, bounds: NDArray[np.float64] | None) -> dict[str, str]:
    """GeoParquet 1.1, in EPSG:4326 with longitude first (OGC:CRS84), which is what it takes where no CRS is said."""
    geometry: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Point", "LineString", "Polygon"]}
    if bounds is not None and np.isfinite(bounds).all():
        geometry["bbox"] = bounds.tolist()
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    return {"geo": json.dumps(geo), "pwcat:zoom": str(zoom)}
