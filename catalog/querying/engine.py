"""The database that answers queries: DuckDB in this process, which may read the catalog's files and nothing else."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.published.layout import ITEMS_PATH
from catalog.querying.conditions import Seam
from catalog.querying.places import Folder, Place, RemoteFolder
from catalog.querying.queryables import COLUMN_TYPES
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["Engine", "Items", "Part", "quoted"]

ITEMS = "items.parquet"
# Settings of every connection: nothing is fetched from the net, geometries stay WKB, times are UTC.
_SETTINGS = (
    "SET GLOBAL autoinstall_known_extensions = false",
    "SET GLOBAL autoload_known_extensions = false",
    "SET GLOBAL enable_geoparquet_conversion = false",
    "SET GLOBAL parquet_metadata_cache = true",
    "SET GLOBAL TimeZone = 'UTC'",
    # DuckDB 2.0.0 breaks off, and is of no use afterwards, where rows below a limit are looked up late and a filter is on a
    # member of a struct, as bbox.xmin, that lies dictionary-encoded in the file.
    "SET GLOBAL disabled_optimizers = 'late_materialization'",
)
_UNANSWERED = "the query cannot be answered: "
_OF_STORE = f"{CatalogError.__qualname__}: "
# Requests to a far store in flight at once; what they wait for is the net, not a processor.
REMOTE_THREADS = 16


def _readable(folder: Path) -> list[Path]:
    """A catalog's folder, and where the collections lie that it links to: links are followed before it is asked."""
    linked = {path.resolve() for path in folder.iterdir() if path.is_symlink() and (path / ITEMS).is_file()}
    return [folder, *sorted(linked)]


class Engine:
    """One connection to DuckDB, opened when it is first needed and closed with the process; any thread may use it.

    Args:
        place: the catalog; files elsewhere cannot be read by any query.
        settings: more statements of SQL that set something, as a bound on memory.
    """

    _closing: weakref.finalize[Any, Engine]

    def __init__(self, place: Place, *, settings: Sequence[str] = ()) -> None:
        self.place = place
        self.settings = settings
        self._lock = threading.Lock()
        _engines.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """What it is by: another process opens a connection of its own."""
        return partial(Engine, settings=self.settings), (self.place,)

    def leave(self) -> None:
        """Leave the connection to the process that this one was forked from: its threads have not come along."""
        self._lock = threading.Lock()
        if (connection := self.__dict__.pop("_connection", None)) is not None:
            _left.append((connection, self.__dict__.pop("_closing").detach()))

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        connection = duckdb.connect()
        settings = [*_SETTINGS, *self.settings]
        if isinstance(self.place, RemoteFolder):
            connection.register_filesystem(self.place.store.file_system())
            settings.append(f"SET threads = {REMOTE_THREADS}")
        elif isinstance(self.place, Folder):
            settings += [
                f"SET allowed_directories = [{', '.join(quoted(f'{path}/') for path in _readable(self.place.path))}]",
                "SET enable_external_access = false",
            ]
        for statement in (*settings, "SET lock_configuration = true"):
            connection.execute(statement)
        _register_functions(connection)
        _close_at_exit(self, connection)
        return connection

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the same database, for one thread; close it after use."""
        with self._lock:
            connection = self._connection
        return connection.cursor()

    def table(self, sql: str, values: Sequence[Any] = (), **tables: pa.Table) -> pa.Table:
        """The answer to a query.

        Args:
            sql: made of names of columns and operators of ours alone.
            values: what its question marks stand for.
            tables: Arrow tables that the query names.

        Raises:
            CatalogError: it cannot be answered.
        """
        import duckdb

        with self.cursor() as cursor:
            for name, table in tables.items():
                cursor.register(name, table)
            try:
                return cursor.sql(sql, params=list(values)).to_arrow_table()
            except duckdb.Error as exc:
                raise CatalogError(_unreadable(exc) or f"{_UNANSWERED}{str(exc).splitlines()[0]}") from exc


def _unreadable(exc: BaseException) -> str | None:
    """That a file far away cannot be read, as the store said it: the database knows of it by its traceback alone."""
    if isinstance(cause := exc.__cause__ or exc.__context__, CatalogError):
        return str(cause)
    found = str(exc).rpartition(_OF_STORE)
    return found[2].splitlines()[0] if found[1] else None


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _register_functions(connection: duckdb.DuckDBPyConnection) -> None:
    """What filters need beyond SQL: geometries compared exactly."""
    from catalog.querying.geometry_sql import FUNCTIONS

    for name, (function, parameters, result) in FUNCTIONS.items():
        connection.create_function(name, function, parameters, result, type="arrow", null_handling="special")


def _close_at_exit(engine: Engine, connection: duckdb.DuckDBPyConnection) -> None:
    """Close the connection with the engine or the process: one that has functions of ours complains otherwise."""
    finish = weakref.finalize(engine, connection.close)
    engine._closing = finish
    atexit.register(finish)


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_left: list[Any] = []  # connections of another process: to close them would wait for its threads


def _leave_connections() -> None:
    for engine in list(_engines):
        engine.leave()


os.register_at_fork(after_in_child=_leave_connections)


@dataclass(frozen=True, kw_only=True)
class Part:
    """The rows of one collection, where a file of items holds those of several, one after the other, as of what was published.

    Attributes:
        name: of the collection, as the file's column ``pwcat:collection`` has it.
        first: its first row.
        count: how many rows it has.
        alone: whether the file has no others.
    """

    name: str
    first: int
    count: int
    alone: bool


@dataclass(frozen=True)
class Items:
    """The items of a collection, as queries see them: facts of the file's footer, read when first asked for.

    Attributes:
        engine: of the catalog.
        place: the collection's folder.
        part: the rows that are meant, where these are not all of the file; they are numbered as if they were alone.
        fits: what was found out of columns beside items that were written anew since; see :mod:`catalog.querying.beside`.
    """

    engine: Engine
    place: Place
    part: Part | None = None
    fits: dict[tuple[str, str, str], str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def address(self) -> str:
        """The file, as a literal of SQL."""
        return quoted(self.place.address(ITEMS))

    @cached_property
    def columns(self) -> dict[str, str]:
        """Columns of the file and their types in SQL.

        Raises:
            CatalogError: the file is missing, or is no whole Parquet file.
        """
        where = f"{self.place}/{ITEMS if self.part is None else ITEMS_PATH}"
        if not self.place.has(ITEMS):
            raise CatalogError(f"no items at {where}; build the collection again")
        try:
            # The address is quoted, and nothing of the user's is in it but the path of the catalog.
            found = self.engine.table(f"DESCRIBE SELECT * FROM read_parquet({self.address})")  # noqa: S608
        except CatalogError as exc:
            if not str(exc).startswith(_UNANSWERED):
                raise
            reason = str(exc).removeprefix(_UNANSWERED)
            raise CatalogError(
                f"{where} is no whole Parquet file ({reason}); `pwcat doctor` says what mends it"
            ) from exc
        columns = dict(zip(found["column_name"].to_pylist(), found["column_type"].to_pylist(), strict=True))
        if missing := [name for name in ("id", "bbox", "geometry") if name not in columns]:
            raise CatalogError(f"{where} holds no items: it has no column {', '.join(missing)}")
        return columns

    @cached_property
    def num_rows(self) -> int:
        """How many there are."""
        if self.part is not None:
            return self.part.count
        found = self.engine.table(f"SELECT num_rows FROM parquet_file_metadata({self.address})")  # noqa: S608
        return int(found["num_rows"][0].as_py())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file's footer: another one where the file was written anew with other contents."""
        return self.read_digest()

    def read_digest(self) -> str:
        """The same, of the file as it is now."""
        end = self.place.tail(ITEMS, 8)
        footer = self.place.tail(ITEMS, int.from_bytes(end[:4], "little") + 8)
        return sha256(footer).hexdigest()

    @property
    def may_cross(self) -> bool:
        """Whether a bounding box lies across the antimeridian."""
        return bool(self.seam.boxes)

    @cached_property
    def seam(self) -> Seam:
        """The bounding boxes that lie across the antimeridian.

        Such a box has ``xmin > xmax``, by more than 180 degrees: it is looked for in those row groups alone that, by their
        statistics, span as much.
        """
        spans = self.engine.table(
            "SELECT row_group_num_rows AS n, spread FROM ("  # noqa: S608
            " SELECT row_group_id, any_value(row_group_num_rows) AS row_group_num_rows,"
            " max(TRY_CAST(stats_max_value AS DOUBLE)) FILTER (path_in_schema = 'bbox, xmin')"
            " - min(TRY_CAST(stats_min_value AS DOUBLE)) FILTER (path_in_schema = 'bbox, xmax') AS spread"
            f" FROM parquet_metadata({self.address}) GROUP BY row_group_id) ORDER BY row_group_id"
        ).to_pylist()
        ranges, start = [], 0
        for span in spans:
            if span["spread"] is None or span["spread"] > 180:
                ranges.append(f"file_row_number BETWEEN {start} AND {start + span['n'] - 1}")
            start += span["n"]
        if not ranges:
            return Seam(boxes=())
        found = self.engine.table(
            f"SELECT bbox.xmin AS west, bbox.xmax AS east FROM read_parquet({self.address}) "  # noqa: S608
            f"WHERE ({' OR '.join(ranges)}) AND bbox.xmin > 0 AND bbox.xmax < 0 AND bbox.xmin > bbox.xmax"
        )
        return Seam(boxes=tuple(zip(found["west"].to_pylist(), found["east"].to_pylist(), strict=True)))

    @cached_property
    def source(self) -> str:
        """What stands behind ``FROM``: the file, with a null for each column of today's that it lacks."""
        lacking = [f'NULL::{kind} AS "{name}"' for name, kind in COLUMN_TYPES.items() if name not in self.columns]
        file = f"read_parquet({self.address})"
        if self.part is not None:
            return self._rows_of(self.part, file, lacking)
        if not lacking:
            return file
        return f"(SELECT *, file_row_number, {', '.join(lacking)} FROM {file})"  # noqa: S608

    def _rows_of(self, part: Part, file: str, lacking: Sequence[str]) -> str:
        own = [f"{quoted(part.name)} AS collection"] if "collection" in self.columns else []
        replaced = f" REPLACE ({', '.join(own)})" if own else ""
        more = "".join(f", {column}" for column in lacking)
        where = "" if part.alone else f' WHERE "pwcat:collection" = {quoted(part.name)}'
        return f"(SELECT *{replaced}, file_row_number - {part.first} AS file_row_number{more} FROM {file}{where})"  # noqa: S608

    def source_with(self, beside: Mapping[str, str]) -> str:
        """As :attr:`source`, with columns that are kept beside the items; the file alone where there are none.

        Args:
            beside: their names, each with what kind of value it is.

        Raises:
            CatalogError: one of them is damaged, or of other items.
        """
        if not beside:
            return self.source
        from catalog.querying.beside import joined

        return joined(self, beside)
