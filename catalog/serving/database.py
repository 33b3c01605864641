"""DuckDB for many requests at once: a cursor for each, a bound on its time, and no way to anything but the items."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import duckdb
import pyarrow as pa

from catalog.querying.engine import Engine
from catalog.serving.limits import Limits
from catalog.serving.refusals import RefusedError

__all__ = ["Database", "Session", "settings_of"]

log = logging.getLogger(__name__)

AGAIN_S = 0.05
_BROKEN = "the database failed; the server's log says more"
_BUSY = "the server is busy with other searches; try again in a moment"


class Session:
    """One request's use of the database.

    Attributes:
        broken: whether the database failed for good, and has to be opened again.
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, *, seconds: float) -> None:
        self._cursor, self._seconds = cursor, seconds
        self._lock, self._ended, self._late = threading.Lock(), threading.Event(), False
        self.broken = False

    def read(self, sql: str, values: Sequence[Any]) -> pa.Table:
        """The answer to a query.

        Raises:
            RefusedError: it takes too long, or values of the query do not go together.
        """
        if self._late:
            raise self._too_slow()
        try:
            return self._cursor.sql(sql, params=list(values)).to_arrow_table()
        except duckdb.InterruptException as exc:
            raise self._too_slow() from exc
        except duckdb.IOException as exc:
            raise RefusedError(
                "items of the catalog cannot be read; the server's log says more",
                status=HTTPStatus.INTERNAL_SERVER_ERROR,
            ) from exc
        except duckdb.OutOfMemoryException as exc:
            raise RefusedError("the search needs more memory than it may have; narrow it, or sort by less") from exc
        except (duckdb.InternalException, duckdb.FatalException) as exc:
            self.broken = True
            log.error("the database broke, and is opened again: %s; the query: %s", _first_line(exc), sql)
            raise RefusedError(_BROKEN, status=HTTPStatus.INTERNAL_SERVER_ERROR) from exc
        except duckdb.Error as exc:
            raise RefusedError(f"the search cannot be answered: {_first_line(exc)}") from exc

    def stop(self) -> None:
        """End the query that is running, and refuse further ones; for a timer's thread, which it keeps until the session ends.

        An interrupt that comes just before a query begins is lost on it, so that one is not enough.
        """
        self._late = True
        while not self._ended.is_set():
            with self._lock:
                if not self._ended.is_set():
                    self._cursor.interrupt()
            self._ended.wait(AGAIN_S)

    def close(self) -> None:
        """Give the cursor back; a timer that is late finds it closed."""
        self._ended.set()
        with self._lock:
            self._cursor.close()

    def _too_slow(self) -> RefusedError:
        return RefusedError(
            f"the search took longer than {self._seconds:g} s and was stopped; narrow it, by bbox, datetime or collections"
        )


def settings_of(limits: Limits) -> tuple[str, ...]:
    """Bounds of the database itself; it writes nothing, not even what does not fit into its memory."""
    return (f"SET GLOBAL memory_limit = '{limits.memory}'", "SET GLOBAL temp_directory = ''")


class Database:
    """The items' files, for reading.

    Args:
        open_engine: opens the database; asked again when it broke.
        limits: of a request.
    """

    def __init__(self, open_engine: Callable[[], Engine], *, limits: Limits) -> None:
        self._open_engine, self._limits = open_engine, limits
        self._engine = open_engine()
        self._slots = threading.BoundedSemaphore(limits.queries)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session that is stopped when its time is over.

        Raises:
            RefusedError: others keep the database busy for too long.
        """
        if not self._slots.acquire(timeout=self._limits.wait_seconds):
            raise RefusedError(_BUSY, status=HTTPStatus.SERVICE_UNAVAILABLE)
        try:
            session = Session(self._engine.cursor(), seconds=self._limits.seconds)
            timer = threading.Timer(self._limits.seconds, session.stop)
            timer.daemon = True
            timer.start()
            try:
                yield session
            finally:
                timer.cancel()
                session.close()
                if session.broken:
                    self._engine = self._open_engine()
        finally:
            self._slots.release()


def _first_line(exc: Exception) -> str:
    return str(exc).splitlines()[0]
