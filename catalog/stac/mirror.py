"""``items.parquet``: the items of a collection as STAC GeoParquet, in Hilbert order, a row group at a time."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from catalog.items import complete_items
from pwcat.atomic import replacing
from pwcat.errors import CatalogError
from pwcat.sites.columns import hilbert_order

__all__ = ["ROW_GROUP_ROWS", "centres_of", "open_items", "read_items", "sorted_items", "write_items"]

# Above some 600,000 rows, groups of 50,000 in Hilbert order let a box skip most of the file (xopr's measurements).
ROW_GROUP_ROWS = 50_000
# Columns whose values are all different, and their encodings, without a dictionary: files are a sixth smaller, and ids read
# twice as quickly. Coordinates differ in their last bytes alone from row to row, ids in their last signs.
_DISTINCT: Mapping[str, str] = {
    "id": "DELTA_BYTE_ARRAY",
    "geometry": "PLAIN",
    **{f"bbox.{name}": "BYTE_STREAM_SPLIT" for name in ("xmin", "ymin", "xmax", "ymax")},
    **{f"proj:centroid.{name}": "BYTE_STREAM_SPLIT" for name in ("lat", "lon")},
    "div:spectral_entropy": "BYTE_STREAM_SPLIT",
    "div:spectral_entropy_codebook": "BYTE_STREAM_SPLIT",
    "div:spectral_entropy_covariance": "BYTE_STREAM_SPLIT",
    "div:landcover_share": "PLAIN",
    "pwcat:index": "DELTA_BINARY_PACKED",
}
# The version of STAC GeoParquet, whose documents name the collection: https://github.com/radiantearth/stac-geoparquet-spec
MIRROR_VERSION = "1.1.0"


def sorted_items(rows: pa.Table) -> pa.Table:
    """The items along a Hilbert curve over the globe, by their centres; as they are where they lie so.

    Samples of one cell of the curve, some 600 m, lie in the order of the cube, or of their ids where there is none: the same
    samples always have the same order.
    """
    if not len(rows):
        return rows
    first = _first_order(rows)
    order = first[hilbert_order(centres_of(rows)[first])]
    return rows if bool((np.diff(order) > 0).all()) else rows.take(pa.array(order))


def _first_order(rows: pa.Table) -> NDArray[np.int64]:
    """Rows by their place in the cube; by id where not all have one."""
    name = "pwcat:index"
    key = name if name in rows.column_names and not rows[name].null_count else "id"
    return np.asarray(pc.sort_indices(rows, sort_keys=[(key, "ascending")]).to_numpy(), dtype=np.int64)


def centres_of(rows: pa.Table) -> NDArray[np.float64]:
    """Longitude and latitude of the sites, ``(n, 2)``; the middle of the box where a site is not told."""
    boxes = rows["bbox"].combine_chunks()
    west, south, east, north = (pc.struct_field(boxes, k).to_numpy(zero_copy_only=False) for k in range(4))
    centres = np.column_stack([np.where(west <= east, (west + east) / 2, 180.0), (south + north) / 2])
    if "proj:centroid" in rows.column_names:
        sites = rows["proj:centroid"].combine_chunks()
        told = np.column_stack([pc.struct_field(sites, name).to_numpy(zero_copy_only=False) for name in ("lon", "lat")])
        centres = np.where(np.isnan(told), centres, told)
    return centres


def write_items(path: Path, rows: pa.Table, *, collection: str, document: Mapping[str, Any] | None = None) -> None:
    """Write STAC GeoParquet (GeoParquet 1.1 with bbox covering), whole or not at all.

    What is the same for every item is added a row group at a time, so that it never lies in memory for all of them.

    Args:
        path: the file.
        rows: columns of :data:`catalog.items.ITEM_SCHEMA`, those at least that differ from sample to sample, in the order
            wanted.
        collection: name of the dataset.
        document: its STAC Collection, kept in the file's notes, so that the file can be read alone.
    """
    about = {"version": MIRROR_VERSION, "collections": {collection: dict(document)} if document else {}}
    notes = {"geo": json.dumps(_geo(rows["geometry"])), "stac-geoparquet": json.dumps(about, ensure_ascii=False)}
    schema = complete_items(rows.slice(0, 0), collection=collection).schema.with_metadata(notes)
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(
            temporary, schema, compression="zstd", write_page_checksum=True, **_encodings(schema)
        ) as writer,
    ):
        for start in range(0, len(rows), ROW_GROUP_ROWS):
            group = complete_items(rows.slice(start, ROW_GROUP_ROWS), collection=collection)
            writer.write_table(group.cast(schema), row_group_size=ROW_GROUP_ROWS)


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """How a Parquet writer is to encode each column: by a dictionary, but where all values differ."""
    blank = io.BytesIO()
    pq.write_table(schema.empty_table(), blank)
    leaves = pq.ParquetFile(blank).schema
    paths = [leaves.column(k).path for k in range(len(leaves))]
    return {
        "use_dictionary": [path for path in paths if path not in _DISTINCT],
        "column_encoding": {path: _DISTINCT[path] for path in paths if path in _DISTINCT},
    }


def _geo(geometry: pa.ChunkedArray) -> dict[str, Any]:
    """The notes of GeoParquet. Without a CRS, which then is OGC:CRS84: longitude and latitude in that order."""
    column = {
        "encoding": "WKB",
        "geometry_types": _geometry_types(geometry),
        "covering": {"bbox": {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}},
    }
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _geometry_types(geometry: pa.ChunkedArray) -> list[str]:
    """Kinds of the outlines, by name, sorted: in well-known binary the order of bytes comes first, then the kind."""
    heads = pc.unique(pc.binary_slice(geometry, 0, 5)).to_pylist()
    return sorted({_KINDS[int.from_bytes(head[1:], "little" if head[0] else "big") & 0xFF] for head in heads if head})


_KINDS = {
    int(shapely.GeometryType.POINT): "Point",
    int(shapely.GeometryType.POLYGON): "Polygon",
    int(shapely.GeometryType.MULTIPOLYGON): "MultiPolygon",
}


def open_items(path: Path) -> pq.ParquetFile:
    """The items of a collection, opened: its footer is read, and nothing else.

    Raises:
        CatalogError: they are missing, cut short or no items.
    """
    again = f"describe the dataset again with `pwcat catalog build {path.parent}`"
    if not path.is_file():
        raise CatalogError(f"{path}: no items there; {again}")
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as exc:
        raise CatalogError(f"{path}: cut short or no Parquet ({exc}); {again}") from exc
    lacking = {"id", "geometry", "bbox", "datetime", "collection"} - set(file.schema_arrow.names)
    if lacking:
        file.close()
        raise CatalogError(f"{path}: no items: it has no column {', '.join(sorted(lacking))}; {again}")
    return file


def read_items(path: Path, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Items of a collection, every byte checked; columns that an older catalog lacks are left out.

    Raises:
        CatalogError: they are missing or damaged.
    """
    with open_items(path) as file:
        names = [name for name in file.schema_arrow.names if columns is None or name in columns]
        try:
            return file.read(names, use_threads=False)
        except (pa.ArrowException, OSError) as exc:
            again = f"describe the dataset again with `pwcat catalog build {path.parent}`"
            raise CatalogError(f"{path}: damaged ({exc}); {again}") from exc
