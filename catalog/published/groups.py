"""Row groups of Parquet files, read by ranges: of each no more than the columns wanted, and each once while it is kept."""

from __future__ import annotations

import io
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.published.fetching import in_parallel, merged
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.querying.places import Place

__all__ = ["RowGroups"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# Decoded bytes of row groups that are kept, the newest use last: some of the 32 MiB that pwcat writes.
KEPT_BYTES = 512 << 20
# The end of a file that is asked for first: most footers lie in it.
FOOTER_BYTES = 64 << 10


class RowGroups:
    """Columns of row groups of a place's Parquet files. Threads may share it."""

    def __init__(self, place: Place, *, most: int = KEPT_BYTES) -> None:
        self._place = place
        self._footers: _Kept[str, pq.FileMetaData] = _Kept(lambda _: 0, most=None)
        self._tables: _Kept[tuple[str, int, tuple[str, ...]], pa.Table] = _Kept(lambda table: table.nbytes, most=most)

    def footer(self, path: str) -> pq.FileMetaData:
        """What a file says of its row groups.

        Raises:
            CatalogError: it is no Parquet file, or cannot be read.
        """
        return self._footers.get(path, lambda: self._read_footer(path))

    def _read_footer(self, path: str) -> pq.FileMetaData:
        end = self._place.tail(path, FOOTER_BYTES)
        needed = int.from_bytes(end[-8:-4], "little") + 8
        try:
            footer = end if needed <= len(end) else self._place.tail(path, needed)
            return pq.read_metadata(pa.BufferReader(footer))
        except (pa.ArrowException, OSError) as exc:
            raise CatalogError(f"{self._place}/{path}: is no whole Parquet file ({_first_line(exc)})") from exc

    def starts(self, path: str) -> NDArray[np.int64]:
        """The first row of each row group of a file, and the number of rows."""
        footer = self.footer(path)
        counts = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
        return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def read(self, path: str, group: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of a row group.

        Raises:
            CatalogError: it cannot be read, or has no such column.
        """
        return self._tables.get((path, group, tuple(columns)), lambda: self._fetch(path, group, columns))

    def holds(self, path: str, group: int, columns: Sequence[str]) -> bool:
        """Whether these columns of a row group are kept."""
        return self._tables.holds((path, group, tuple(columns)))

    def give_up(self, is_useless: Callable[[str, int], bool]) -> None:
        """Keep nothing of row groups that will not be asked for again, by file and number."""
        self._tables.give_up(lambda key: is_useless(key[0], key[1]))

    def take(self, path: str, rows: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Some columns of some rows of a file, in the order asked for."""
        groups = np.searchsorted(self.starts(path), rows, side="right") - 1
        wanted = np.unique(groups)
        tables = in_parallel(lambda group: self.read(path, int(group), columns), wanted.tolist())
        if not len(wanted):
            return self.footer(path).schema.to_arrow_schema().empty_table().select(list(columns))
        before = np.cumsum([0, *(len(table) for table in tables)])[:-1]
        places = rows - self.starts(path)[groups] + before[np.searchsorted(wanted, groups)]
        return pa.concat_tables(tables).take(pa.array(places))

    def bytes_of(self, path: str, group: int, columns: Sequence[str]) -> int:
        """Bytes that are fetched for some columns of a row group."""
        return sum(end - start for start, end in self._spans(path, group, columns))

    def _fetch(self, path: str, group: int, columns: Sequence[str]) -> pa.Table:
        spans = self._spans(path, group, columns)
        parts = [(start, self._place.range(path, start, end - start)) for start, end in spans]
        source = pa.PythonFile(_Parts(parts, size=self._place.size(path)), mode="r")
        try:
            with pq.ParquetFile(source, metadata=self.footer(path)) as file:
                return file.read_row_group(group, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as exc:
            raise CatalogError(f"{self._place}/{path}: row group {group} cannot be read ({_first_line(exc)})") from exc

    def _spans(self, path: str, group: int, columns: Sequence[str]) -> list[tuple[int, int]]:
        """Where some columns of a row group lie, first and end; neighbours as one."""
        footer = self.footer(path)
        if missing := sorted(set(columns) - set(footer.schema.to_arrow_schema().names)):
            raise CatalogError(f"{self._place}/{path}: has no column {', '.join(missing)}")
        return merged(_chunks(footer.row_group(group), set(columns)))


def _chunks(group: pq.RowGroupMetaData, columns: set[str]) -> Iterator[tuple[int, int]]:
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema.partition(".")[0] in columns:
            first = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                first = min(first, chunk.dictionary_page_offset)
            yield first, first + chunk.total_compressed_size


def _first_line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]


class _Parts(io.RawIOBase):
    """A file of which some stretches are there."""

    def __init__(self, parts: Sequence[tuple[int, bytes]], *, size: int) -> None:
        super().__init__()
        self._parts, self._size, self._at = parts, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._size)[whence] + offset
        return self._at

    def read(self, length: int = -1) -> bytes:
        for start, part in self._parts:
            if start <= self._at < start + len(part):
                got = part[self._at - start : None if length < 0 else self._at - start + length]
                self._at += len(got)
                return got
        raise OSError(f"byte {self._at} was not fetched")


class _Kept(Generic[K, T]):
    """What was made for a key, made once; what was used longest ago is given up where there is too much.

    Args:
        weigh: bytes of one.
        most: of all; no bound where ``None``.
    """

    def __init__(self, weigh: Callable[[T], int], *, most: int | None) -> None:
        self._weigh, self._most = weigh, most
        self._weight = 0
        self._made: OrderedDict[K, Future[T]] = OrderedDict()
        self._lock = Lock()
        _all_kept.add(self)

    def renew(self) -> None:
        """Go on with what is made: of what another thread was making, nothing comes along into a forked process."""
        self._made = OrderedDict((key, one) for key, one in self._made.items() if one.done())
        self._lock = Lock()

    def get(self, key: K, make: Callable[[], T]) -> T:
        """What is kept for a key; made where nothing is, while others who want the same wait."""
        with self._lock:
            known = self._made.get(key)
            future: Future[T] = Future() if known is None else known
            self._made[key] = future
            self._made.move_to_end(key)
        if known is None:
            self._make(key, future, make)
        return future.result()

    def holds(self, key: K) -> bool:
        """Whether it is made and kept."""
        with self._lock:
            return key in self._made and self._made[key].done()

    def give_up(self, is_useless: Callable[[K], bool]) -> None:
        """Keep nothing for some keys."""
        with self._lock:
            for key in [key for key, one in self._made.items() if one.done() and is_useless(key)]:
                self._weight -= self._weigh(self._made.pop(key).result())

    def _make(self, key: K, future: Future[T], make: Callable[[], T]) -> None:
        try:
            made = make()
        except BaseException as exc:
            with self._lock:
                self._made.pop(key, None)
            future.set_exception(exc)
            return
        future.set_result(made)
        with self._lock:
            self._weight += self._weigh(made)
            self._give_up(but=key)

    def _give_up(self, *, but: K) -> None:
        for key in [key for key, one in self._made.items() if one.done() and key != but]:
            if self._most is None or self._weight <= self._most:
                return
            self._weight -= self._weigh(self._made.pop(key).result())


_all_kept: weakref.WeakSet[_Kept[Any, Any]] = weakref.WeakSet()


def _renew_all() -> None:
    for kept in list(_all_kept):
        kept.renew()


os.register_at_fork(after_in_child=_renew_all)
