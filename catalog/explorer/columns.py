"""Samples as the explorer's page has them: plain columns in one block of bytes, which a browser views without copying.

The block is a JSON header and then the columns, each on a boundary of 8 bytes, little-endian:

======  =======================  =====================================================================================
bytes   what                     meaning
======  =======================  =====================================================================================
4       length of the header     unsigned; the header is padded with spaces so that the columns start on a boundary
        header                   JSON: ``rows``, ``of``, and for each column its ``name``, ``type`` (``f64``, ``i32``,
                                 ``u16``), ``offset`` in bytes after the header, and for classes their names
        columns                  classes are numbers of their names, 0 is none; days count from 1970-01-01
======  =======================  =====================================================================================

Rows come in an order drawn once by a fixed seed, so that no dataset covers another on the map, and so that the first rows are
a fair sample where there are more than are sent.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.query import Catalog

__all__ = ["CLASSES", "MOST_ROWS", "Columns", "read_columns"]

# Names on the page, and the items' columns.
CLASSES: Mapping[str, str] = {
    "collection": "collection",
    "continent": "div:continent",
    "biome": "div:biome",
    "ecoregion": "div:ecoregion",
    "landcover": "div:landcover",
    "split": "pwcat:split",
}
ENTROPY, DATE, PLACE, INDEX = "div:spectral_entropy", "datetime", "proj:centroid", "pwcat:index"
MOST_ROWS = 1_000_000  # 40 bytes each; more are thinned to these
MOST_CLASSES = 65_535
NO_DAY = -(2**31)
TYPES: Mapping[str, str] = {"<f8": "f64", "<i4": "i32", "<u2": "u16"}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of ``n`` samples, in the order of the page.

    Attributes:
        of: how many samples there are in all; more than ``n`` where they were thinned.
        ids: id of each sample.
        order: place of each sample in the answer of a search for everything.
        index: its row in its cube; -1 where it has none.
        values: ``lon``, ``lat`` (EPSG:4326), ``entropy`` (nats, NaN where unknown), ``day``, and numbers of classes, ``(n,)``.
        names: of each class column, number 1 first.
    """

    of: int
    ids: pa.Array
    order: NDArray[np.int64]
    index: NDArray[np.int64]
    values: Mapping[str, NDArray[Any]]
    names: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self) -> bytes:
        """The block of bytes that the page reads."""
        columns, parts, offset = [], [], 0
        for name, values in self.values.items():
            data = values.tobytes()
            told = {"name": name, "type": TYPES[values.dtype.str], "offset": offset}
            columns.append(told | ({"names": list(self.names[name])} if name in self.names else {}))
            parts.append(data + bytes(-len(data) % 8))
            offset += len(parts[-1])
        header = json.dumps({"rows": len(self), "of": self.of, "columns": columns}, ensure_ascii=False).encode()
        header += b" " * (-(len(header) + 4) % 8)
        return b"".join([struct.pack("<I", len(header)), header, *parts])

    def collection_of(self, row: int) -> str:
        """Name of the collection of a row."""
        return self.names["collection"][int(self.values["collection"][row]) - 1]


def read_columns(catalog: Catalog, *, most_rows: int = MOST_ROWS) -> Columns:
    """The samples of a catalog.

    Args:
        catalog: the catalog.
        most_rows: beyond so many samples, so many of them are taken, drawn by a fixed seed.

    Raises:
        CatalogError: items are missing or cannot be read; says which.
    """
    found = catalog.search()
    table = found.columns(["id", *CLASSES.values(), ENTROPY, DATE, PLACE, INDEX])
    order = np.random.default_rng(0).permutation(len(table))[:most_rows]
    taken = table.take(pa.array(order))
    place = taken[PLACE].combine_chunks()
    values: dict[str, NDArray[Any]] = {
        "lon": _numbers(place.field("lon"), "<f8", np.nan),
        "lat": _numbers(place.field("lat"), "<f8", np.nan),
        "entropy": _numbers(taken[ENTROPY].cast(pa.float64()), "<f8", np.nan),
        # Days begin at midnight UTC, as those of a search do; a cast to a date rounds down
        "day": _numbers(_moments(taken[DATE]).cast(pa.date32()).cast(pa.int32()), "<i4", NO_DAY),
    }
    names = {}
    for name, column in CLASSES.items():
        values[name], names[name] = _codes(taken[column].cast(pa.string()), name)
    return Columns(
        of=len(table),
        ids=taken["id"].combine_chunks(),
        order=order,
        index=_numbers(taken[INDEX].cast(pa.int64()), "<i8", -1),
        values=values,
        names=names,
    )


def _moments(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.timestamp("us", tz="UTC"))


def _numbers(column: pa.Array | pa.ChunkedArray, dtype: str, missing: float) -> NDArray[Any]:
    return pc.fill_null(column, pa.scalar(missing, column.type)).to_numpy(zero_copy_only=False).astype(dtype)


def _codes(column: pa.ChunkedArray, name: str) -> tuple[NDArray[np.uint16], list[str]]:
    """Numbers of classes, the most frequent first, and their names; 0 is none."""
    found = pc.value_counts(column.drop_null())
    names, counts = found.field("values").to_pylist(), found.field("counts").to_pylist()
    if len(names) > MOST_CLASSES:
        raise CatalogError(f"{name} has {len(names):,} classes, and the explorer shows at most {MOST_CLASSES:,}")
    ranked = [label for label, _ in sorted(zip(names, counts, strict=True), key=lambda pair: (-pair[1], pair[0]))]
    number = pc.index_in(column, pa.array(ranked, pa.string()))
    return (_numbers(number, "<i4", -1) + 1).astype("<u2"), ranked
