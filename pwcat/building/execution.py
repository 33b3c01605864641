"""Shards made side by side, by threads of this process or the workers of a Dask cluster: a few at a time, results as they come.

Nothing grows with the number of shards: tasks are made when there is room for them, and forgotten when they are done.
"""

from __future__ import annotations

import errno
import logging
import platform
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Protocol

from pwcat.atomic import droppable
from pwcat.building.shards import ShardResult, ShardTask
from pwcat.errors import CubeError, PwcatError, SourceError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Work", "run_shards"]

Work = Callable[[ShardTask], ShardResult]

# Shards in flight on one machine: reading of one goes on while another is decoded and written.
LOCAL_SHARDS = 2
# Tasks that wait beside those in flight, so that nobody waits for the next one to be made and sent.
WAITING_TASKS = 1
# How long shards in flight may still write when a build is stopped; who reads on is given up.
LET_WRITE_S = 1.0
# How often it is told that none has ended.
TELL_AFTER_S = 1.0
THREAD_NAME = "pwcat-shard"  # the command line ends without waiting for threads of this name

SCHEDULER_TIMEOUT_S = 10.0
# A cluster that has lost all its workers is given so long to get others.
WITHOUT_WORKERS_S = 60.0
# How often the cluster is asked for its workers.
ASK_AFTER_S = 5.0
# A shard whose code fails is tried again elsewhere: another worker may have the disk or the memory.
RETRIES = 2

# Faults of the place that is written to: each further shard would meet them, too.
HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
# Where nothing has succeeded, this many failures are taken for what awaits all.
FAILED_AT_FIRST = 8


@dataclass(frozen=True)
class _Outcome:
    """A shard that ended: its result, or what it failed of."""

    shard: int
    result: ShardResult | BaseException


class _Crew(Protocol):
    """Who makes shards."""

    @property
    def room(self) -> int:
        """How many tasks it takes at once, those that wait included."""
        ...

    @property
    def places(self) -> int:
        """How many it works on at a time."""
        ...

    def start(self, task: ShardTask) -> None:
        """Take a task; returns at once."""
        ...

    def next(self) -> _Outcome | None:
        """Wait for one that ends; ``None`` where none has after a while."""
        ...


def run_shards(
    work: Work,
    tasks: Iterator[ShardTask],
    *,
    scheduler: str | None = None,
    waiting: Callable[[int], None] = lambda flying: None,
) -> Generator[ShardResult]:
    """Results of the tasks as they come; to be closed, for those in flight are dropped then.

    A shard that fails does not stop the others: its failure is raised once they are done. What cannot but fail again, a full
    disk say, ends the run at once.

    Args:
        work: makes a shard; for a cluster, a function that can be imported.
        tasks: taken from when there is room.
        scheduler: address of a Dask scheduler; threads of this process where ``None``.
        waiting: called with the number of shards at work, about every second in which none ends.

    Raises:
        SourceError: the scheduler does not answer, is lost, or has no workers.
        CubeError: shards cannot be written, or workers died over one.
        Exception: a fault in the code, as it is, with the shard's number in a note.
    """
    failures: list[_Outcome] = []
    done = 0
    with _crew(work, scheduler) as crew:
        for outcome in _outcomes(crew, tasks, waiting):
            if not isinstance(outcome.result, BaseException):
                done += 1
                yield outcome.result
                continue
            failures.append(outcome)
            if _is_hopeless(outcome.result) or (not done and len(failures) >= FAILED_AT_FIRST):
                break
    if failures:
        raise _failure(failures)


def _outcomes(crew: _Crew, tasks: Iterator[ShardTask], waiting: Callable[[int], None]) -> Iterator[_Outcome]:
    """What became of each task, with as many in flight as the crew has room for."""
    flying, left = 0, True
    while left or flying:
        while left and flying < crew.room:
            task = next(tasks, None)
            if task is None:
                left = False
            else:
                crew.start(task)
                flying += 1
        if flying:
            while (outcome := crew.next()) is None:
                waiting(min(flying, crew.places))
            yield outcome
            flying -= 1


def _is_hopeless(failure: BaseException) -> bool:
    return isinstance(failure, OSError) and failure.errno in HOPELESS


def _failure(failures: list[_Outcome]) -> BaseException:
    """The first failure, told with its shard's number: a line for what users can mend, the fault itself for bugs."""
    first, others = failures[0], len(failures) - 1
    cause = first.result
    assert isinstance(cause, BaseException)
    told = f"shard {first.shard}" + (f" and {others:,} more" if others else "")
    if isinstance(cause, PwcatError):
        failure: BaseException = _kind_of(cause)(f"{told}: {cause}; the same command makes what is missing")
    elif isinstance(cause, OSError):
        failure = CubeError(
            f"{told} cannot be made: {cause}. What is done stays; the same command makes what is missing"
        )
    else:
        cause.add_note(f"{told} failed of this; what else could be made is made, and the same command tries again")
        return cause
    failure.__cause__ = cause
    return failure


def _kind_of(cause: PwcatError) -> type[PwcatError]:
    return CubeError if isinstance(cause, _WorkersDied) else type(cause)


def _crew(work: Work, scheduler: str | None) -> AbstractContextManager[_Crew]:
    return _threads(work) if scheduler is None else _cluster(work, scheduler)


class _Threads:
    """Threads of this process. They are daemons: none that still reads keeps the process from ending."""

    def __init__(self, work: Work, count: int) -> None:
        self._work = work
        self._tasks: SimpleQueue[ShardTask | None] = SimpleQueue()
        self._outcomes: SimpleQueue[_Outcome] = SimpleQueue()
        self._dropped = Event()
        self._threads = [Thread(target=self._make, name=THREAD_NAME, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def room(self) -> int:
        return self.places + WAITING_TASKS

    @property
    def places(self) -> int:
        return len(self._threads)

    def start(self, task: ShardTask) -> None:
        self._tasks.put(task)

    def next(self) -> _Outcome | None:
        try:
            return self._outcomes.get(timeout=TELL_AFTER_S)
        except Empty:
            return None

    def close(self) -> None:
        """Drop what is in flight; a shard that is being written is waited for."""
        self._dropped.set()
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + LET_WRITE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _make(self) -> None:
        with droppable(self._dropped.is_set):
            while (task := self._tasks.get()) is not None and not self._dropped.is_set():
                self._outcomes.put(_Outcome(task.shard, _attempt(self._work, task)))


def _attempt(work: Work, task: ShardTask) -> ShardResult | BaseException:
    try:
        return work(task)
    except BaseException as exc:
        return exc


@contextmanager
def _threads(work: Work) -> Iterator[_Threads]:
    crew = _Threads(work, LOCAL_SHARDS)
    try:
        yield crew
    finally:
        crew.close()


class _WorkersDied(CubeError):
    """Every worker that made a shard died."""


class _Cluster:
    """The workers of a Dask scheduler, each thread of them a place, with one task more a thread waiting there."""

    def __init__(self, client: Client, address: str, work: Work) -> None:
        self._client, self._address, self._work = client, address, work
        self._flying: dict[str, tuple[ShardTask, Future]] = {}
        self._suspects: deque[ShardTask] = deque()
        self._tried_alone: set[int] = set()
        self._ended: SimpleQueue[Future] = SimpleQueue()
        self._asked = self._had_workers = time.monotonic()
        self._workers: dict[str, int] = {}
        self._await_workers()

    @property
    def room(self) -> int:
        if time.monotonic() - self._asked > ASK_AFTER_S:
            self._ask()
        return (1 + WAITING_TASKS) * self.places

    @property
    def places(self) -> int:
        return max(1, sum(self._workers.values()))

    def start(self, task: ShardTask) -> None:
        mine = replace(task, share=1 / max(1, len(self._workers)))
        future = self._client.submit(_make_on_worker, self._work, mine, pure=False, retries=RETRIES)
        self._flying[future.key] = (task, future)
        future.add_done_callback(self._ended.put)

    def next(self) -> _Outcome | None:
        while True:
            if self._suspects and not self._flying:
                self.start(self._suspects.popleft())
            try:
                future = self._ended.get(timeout=min(TELL_AFTER_S, ASK_AFTER_S))
            except Empty:
                if time.monotonic() - self._asked >= ASK_AFTER_S:
                    self._ask()
                    self._require_workers()
                return None
            task, _ = self._flying.pop(future.key)
            result = self._result_of(future)
            if not self._is_suspect(task, result):
                return _Outcome(task.shard, result)

    def _is_suspect(self, task: ShardTask, result: ShardResult | BaseException) -> bool:
        """Whether workers died over a shard for the first time; it is made once more then, alone.

        Dask suspects all tasks that were with a worker when it died, and mostly one of them alone is to blame.
        """
        if not isinstance(result, _WorkersDied) or task.shard in self._tried_alone:
            return False
        self._tried_alone.add(task.shard)
        self._suspects.append(task)
        return True

    def _result_of(self, future: Future) -> ShardResult | BaseException:
        from distributed import KilledWorker

        if future.cancelled():
            raise self._lost()
        try:
            result: ShardResult = future.result()
            return result
        except KilledWorker as exc:
            return _WorkersDied(
                f"workers died whenever it was made, the last at {exc.last_worker.address}, most likely for want of memory; "
                "their logs say more. Give workers more memory or fewer threads"
            )
        except Exception as exc:
            return exc

    def _await_workers(self) -> None:
        """Wait for the first worker: those that were started just before take some seconds."""
        try:
            self._client.wait_for_workers(1, timeout=SCHEDULER_TIMEOUT_S)
        except TimeoutError as exc:
            raise SourceError(
                f"the Dask scheduler at {self._address} has no workers; start some with `dask worker {self._address}`"
            ) from exc
        except (OSError, RuntimeError, ValueError) as exc:
            raise self._lost() from exc
        self._ask()

    def _ask(self) -> None:
        """Which workers there are, and how many threads each has."""
        self._asked = time.monotonic()
        try:
            self._workers = self._client.nthreads()
        except (OSError, TimeoutError, RuntimeError, ValueError) as exc:  # as a client says that its scheduler is gone
            raise self._lost() from exc
        if self._workers:
            self._had_workers = self._asked

    def _require_workers(self) -> None:
        if time.monotonic() - self._had_workers > WITHOUT_WORKERS_S:
            raise SourceError(
                f"the Dask scheduler at {self._address} has had no workers for {WITHOUT_WORKERS_S:.0f} s; what is done stays. "
                "Start workers, and the same command goes on from there"
            )

    def _lost(self) -> SourceError:
        return SourceError(
            f"the Dask scheduler at {self._address} is gone; what is done stays. Start another, and the same command goes on "
            "from there"
        )

    def close(self) -> None:
        """Drop what is in flight: tasks that wait are forgotten, those that run write nothing any more."""
        if self._flying and self._client.status == "running":
            self._client.cancel([future for _, future in self._flying.values()], force=True)


@contextmanager
def _cluster(work: Work, address: str) -> Iterator[_Cluster]:
    from distributed import Client

    with _quiet():
        try:
            client = Client(address, timeout=SCHEDULER_TIMEOUT_S)
        except (OSError, ValueError) as exc:
            raise SourceError(f"the Dask scheduler at {address} does not answer: {exc}") from exc
        crew = None
        try:
            crew = _Cluster(client, address, work)
            yield crew
        finally:
            if crew is not None:
                crew.close()
            client.close(timeout=LET_WRITE_S)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask from telling of lost connections in its own words and at length: what comes of them is told by us."""
    loggers = [logging.getLogger(f"distributed.{name}") for name in ("client", "core", "comm", "batched", "utils")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _make_on_worker(work: Work, task: ShardTask) -> ShardResult:
    """Make a shard on a worker, unless the scheduler has given up on it: it is somebody else's by then, or nobody's."""
    from distributed import get_worker

    if not any((task.folder / plan).is_file() for plan in ("plan.parquet", "tiles.parquet")):
        raise CubeError(
            f"a worker on {platform.node()} does not see {task.folder}; the folder must be there for all workers"
        )
    worker = get_worker()
    key = worker.get_current_task()

    def is_dropped() -> bool:
        state: Any = worker.state.tasks.get(key)
        return state is None or state.state != "executing"

    with droppable(is_dropped):
        return work(task)
