"""A collection's items as GeoParquet, which some providers keep beside their API: one file, or a folder of files by time.

The Planetary Computer does so (asset ``geoparquet-items``, ``abfs://items/<collection>.parquet``, the storage account in
``table:storage_options``; parts by week or month, whose names hold their span). Reading it costs the API nothing. It is a
snapshot: what came after its date is not in it.

Files are read row group by row group. Those whose statistics of ``bbox`` and ``datetime`` rule them out are skipped; of the
others, first the columns that decide, then, where any row is wanted, all columns, some hundred rows at a time: memory is a
row group's as it is stored, which is a tenth of what its items are.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import numpy as np
import obstore
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import requests
import shapely
import stac_geoparquet.arrow
from numpy.typing import NDArray
from obstore.exceptions import BaseError
from obstore.store import AzureStore, HTTPStore, LocalStore, ObjectStore, from_url

from pwcat.errors import SourceError
from pwcat.providers.guard import proxy_of, why_refused
from pwcat.providers.redaction import unsign
from pwcat.providers.signing import tokens_of
from pwcat.providers.source import OpenSource
from pwcat.providers.transport import Patience, make_session

__all__ = ["Snapshot", "find_snapshot"]

# Rows that become items together.
ROWS_AT_ONCE = 500

# A span in the name of a part: part-0012_2020-01-06T00:00:00+00:00_2020-01-13T00:00:00+00:00.parquet
_SPAN = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)?)_(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)?)")
# Of Azure: what it is part of would be another address otherwise.
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_DECIDING = ("bbox", "geometry", "datetime", "start_datetime", "end_datetime")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file: where it is in its store, its bytes, and the last time it was written."""

    path: str
    size: int
    modified: datetime


class _Blob(io.RawIOBase):
    """A file in a store as a file of Python: each read is one request for those very bytes."""

    def __init__(self, store: ObjectStore, part: Part) -> None:
        self._store, self._part, self._at = store, part, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes from the start."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go there."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._part.size}[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer, as far as there are bytes."""
        length = max(min(len(buffer), self._part.size - self._at), 0)
        if length:
            buffer[:length] = memoryview(obstore.get_range(self._store, self._part.path, start=self._at, length=length))
            self._at += length
        return length


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The files of a snapshot.

    Attributes:
        name: its address, unsigned.
        store: that has them.
        parts: by path.
    """

    name: str
    store: ObjectStore
    parts: tuple[Part, ...]

    @property
    def date(self) -> str:
        """The day on which the last of its files was written."""
        return max(part.modified for part in self.parts).astimezone(UTC).date().isoformat()

    def items(self, *, datetime: str | None, sites: NDArray[np.float64] | None) -> Iterator[list[dict[str, Any]]]:
        """Items of a span that hold a site, some hundred rows of a row group at a time.

        Args:
            datetime: an interval as STAC has it; ``None`` for any time.
            sites: ``(n, 2)`` longitudes and latitudes; ``None`` for anywhere.

        Raises:
            SourceError: a file cannot be read.
        """
        wanted = _Wanted(datetime, sites)
        for part in self.parts:
            if not wanted.may_have_name(part.path):
                continue
            try:
                with _Blob(self.store, part) as blob:
                    yield from _items_of(pq.ParquetFile(pa.PythonFile(blob, mode="r")), wanted)
            except (BaseError, OSError, pa.ArrowException, KeyError) as exc:
                raise SourceError(f"{self.name}: {part.path} cannot be read: {_said(exc, self.name)}") from exc


def find_snapshot(source: OpenSource, *, patience: Patience | None = None) -> Snapshot:
    """The snapshot that the source's collection names.

    Raises:
        SourceError: it names none, or its store does not answer.
    """
    key, patience = source.record.geoparquet or "", patience or Patience()
    asset = _collection(source, patience).get("assets", {}).get(key)
    if asset is None or not asset.get("href"):
        raise SourceError(f"{source.provider}: collection {source.collection} has no asset {key!r}")
    href = str(asset["href"])
    source.check(href)
    source.watch(href)
    try:
        store, path = _store_of(href, asset, source)
        parts = tuple(sorted(_parts(store, path), key=lambda part: part.path))
    except (BaseError, OSError) as exc:
        raise SourceError(f"{unsign(href)} cannot be opened: {_said(exc, href)}") from exc
    if not parts:
        raise SourceError(f"{unsign(href)} holds no Parquet file")
    return Snapshot(name=source.freeze(href), store=store, parts=parts)


def _collection(source: OpenSource, patience: Patience) -> Mapping[str, Any]:
    url = f"{source.url}/collections/{source.collection}"
    try:
        with make_session(patience, trusted=None if source.allow_private else source.url) as session:
            answer = session.get(url, timeout=patience.timeout_s)
            answer.raise_for_status()
            document: Mapping[str, Any] = answer.json()
            return document
    except (requests.RequestException, ValueError) as exc:
        raise SourceError(f"{unsign(url)} does not answer: {_said(exc, url)}") from exc


def _said(exc: Exception, href: str) -> str:
    """An error in one line, unsigned; object stores add pages to theirs, and know nothing of a refusal of ours."""
    return why_refused(href) or unsign(" ".join(str(exc).partition("Debug source")[0].split()))[:300]


def _store_of(href: str, asset: Mapping[str, Any], source: OpenSource) -> tuple[ObjectStore, str]:
    """The store of an address, and the path in it."""
    parts = urlsplit(href)
    if parts.scheme in ("abfs", "abfss", "az"):
        account = str((asset.get("table:storage_options") or {}).get("account_name", ""))
        if not _ACCOUNT.fullmatch(account):
            raise SourceError(f"{unsign(href)}: its storage account is called {account!r}, as none can be")
        signing = source.signing or source.profile.signing
        token = None if signing is None else tokens_of(signing).token(account, parts.netloc)
        config: Any = {"account_name": account} | ({"sas_token": token} if token else {"skip_signature": True})
        return AzureStore(parts.netloc, config=config), unquote(parts.path.strip("/"))
    if parts.scheme in ("http", "https"):
        options: Any = {"allow_http": True} | ({"proxy_url": proxy} if (proxy := proxy_of(href)) else {})
        return HTTPStore.from_url(f"{parts.scheme}://{parts.netloc}", client_options=options), unquote(
            parts.path.strip("/")
        )
    if parts.scheme in ("s3", "gs"):
        return from_url(f"{parts.scheme}://{parts.netloc}"), unquote(parts.path.strip("/"))
    path = Path(url2pathname(parts.path) if parts.scheme == "file" else href).resolve()
    return LocalStore(path.parent), path.name


def _parts(store: ObjectStore, path: str) -> Iterator[Part]:
    """The file of that path, or the Parquet files of that folder."""
    try:
        found = obstore.head(store, path)
        yield Part(path=path, size=found["size"], modified=found["last_modified"])
    except FileNotFoundError:
        for batch in obstore.list(store, prefix=path):
            yield from (
                Part(path=one["path"], size=one["size"], modified=one["last_modified"])
                for one in batch
                if one["path"].endswith(".parquet")
            )


class _Wanted:
    """What is wanted of a snapshot: a span and sites."""

    def __init__(self, span: str | None, sites: NDArray[np.float64] | None) -> None:
        self.start, self.end = _interval(span)
        self.points = None if sites is None else shapely.points(sites)
        self.tree = None if sites is None else shapely.STRtree(self.points)

    def may_have_name(self, path: str) -> bool:
        """Whether a file may have such items, by the span in its name."""
        match = _SPAN.search(path)
        if match is None:
            return True
        start, end = (_moment(text) for text in match.groups())
        return start <= self.end and end >= self.start - timedelta(days=1)  # names may be of days, or of their midnight

    def may_have_group(self, group: pq.RowGroupMetaData) -> bool:
        """Whether a row group may have such items, by its statistics."""
        least, most = _statistics(group)
        if "datetime" in least and not {"start_datetime", "end_datetime"} & least.keys():
            start, end = least["datetime"], most["datetime"]
            if isinstance(start, datetime) and (_utc(start) > self.end or _utc(end) < self.start):
                return False
        corners = [
            values.get(f"bbox.{name}") for values, name in zip((least, least, most, most), _CORNERS, strict=True)
        ]
        if self.tree is None or None in corners:
            return True
        return bool(self.tree.query(shapely.box(*corners)).size)

    def rows(self, table: pa.Table) -> NDArray[np.bool_]:
        """Which rows are wanted, ``(n,)``."""
        mask = self._in_span(table)
        if self.tree is not None and mask.any():
            footprints = shapely.from_wkb(_wkb(table["geometry"]))
            held = np.unique(self.tree.query(footprints, predicate="intersects")[0])
            mask &= np.isin(np.arange(len(mask)), held)
        return mask

    def _in_span(self, table: pa.Table) -> NDArray[np.bool_]:
        """By the item's own span where it has one, else by its moment."""
        moment = _micros(table, "datetime")
        start, end = (_micros(table, name) for name in ("start_datetime", "end_datetime"))
        start, end = (np.where(np.isnan(edge), moment, edge) for edge in (start, end))
        first, last = (edge.timestamp() * 1e6 for edge in (self.start, self.end))
        return np.asarray((start <= last) & (end >= first))


_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def _items_of(file: pq.ParquetFile, wanted: _Wanted) -> Iterator[list[dict[str, Any]]]:
    deciding = [name for name in _DECIDING if name in file.schema_arrow.names]
    for number in range(file.metadata.num_row_groups):
        if not wanted.may_have_group(file.metadata.row_group(number)):
            continue
        mask = wanted.rows(file.read_row_group(number, columns=deciding))
        yield from _rows_of(file, number, mask) if mask.any() else ()


def _rows_of(file: pq.ParquetFile, number: int, mask: NDArray[np.bool_]) -> Iterator[list[dict[str, Any]]]:
    """Items of some rows of a row group."""
    start = 0
    for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=[number]):
        wanted = pa.array(mask[start : start + len(batch)])
        start += len(batch)
        if wanted.true_count:
            yield list(stac_geoparquet.arrow.stac_table_to_items(pa.Table.from_batches([batch.filter(wanted)])))


def _statistics(group: pq.RowGroupMetaData) -> tuple[dict[str, Any], dict[str, Any]]:
    """Least and most of the columns that say them."""
    least, most = {}, {}
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema.split(".")[0] in _DECIDING and column.is_stats_set and column.statistics.has_min_max:
            least[column.path_in_schema] = column.statistics.min
            most[column.path_in_schema] = column.statistics.max
    return least, most


def _wkb(column: pa.ChunkedArray) -> NDArray[np.object_]:
    plain = column.combine_chunks()
    storage = plain.storage if isinstance(plain, pa.ExtensionArray) else plain
    return np.array(storage.to_pylist(), dtype=object)


def _micros(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column of moments in microseconds since the epoch; NaN where there is none."""
    if name not in table.column_names:
        return np.full(len(table), np.nan)
    column = table[name]
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = column.to_pylist()
        return np.array([np.nan if text is None else _moment(text).timestamp() * 1e6 for text in texts])
    whole = pc.cast(column, pa.timestamp("us", tz="UTC")) if pa.types.is_timestamp(column.type) else column
    return np.asarray(pc.cast(pc.cast(whole, pa.int64()), pa.float64()).to_numpy(), dtype=np.float64)


def _interval(span: str | None) -> tuple[datetime, datetime]:
    if span is None:
        return _EARLIEST, _LATEST
    first, _, last = span.partition("/")
    last = last or first
    return (
        _EARLIEST if first in ("", "..") else _moment(first),
        _LATEST if last in ("", "..") else _moment(last),
    )


def _moment(text: str) -> datetime:
    return _utc(datetime.fromisoformat(text))


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
