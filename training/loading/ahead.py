"""Work done ahead by a few threads: results in order, a bounded number of them in the making.

A piece of work is done by whichever thread is free; the thread that does a result's last piece finishes it. What goes
wrong in a thread is raised where the result is asked for. The threads end with the iterator, after the pieces that they
are at: none is left behind, whether it ended, failed, was closed or interrupted.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Job", "num_threads", "read_ahead"]

T = TypeVar("T")

MOST_THREADS = 8
NAME = "pwcat-loader"


@dataclass(frozen=True)
class Job(Generic[T]):
    """One result in the making.

    Attributes:
        pieces: what is to be done for it, by any threads, in any order; at least one.
        finish: called once all of them are done, in the thread that did the last; gives the result.
    """

    pieces: Sequence[Callable[[], None]]
    finish: Callable[[], T]


def num_threads(shared_by: int = 1) -> int:
    """Threads that read for one of so many processes of this machine: those it has cores for, but not many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_THREADS, cores // shared_by))


def read_ahead(jobs: Iterator[Job[T]], *, threads: int, ahead: int) -> Generator[T]:
    """The results of jobs in their order.

    Args:
        jobs: taken one by one, in the thread that asks for results.
        threads: that do the pieces.
        ahead: results in the making, or made and not asked for yet.
    """
    stopped = threading.Event()
    pool = ThreadPoolExecutor(threads, thread_name_prefix=NAME)
    making: deque[Future[T]] = deque()

    def top_up() -> None:
        while len(making) < ahead and (job := next(jobs, None)) is not None:
            making.append(_start(pool, job, stopped))

    try:
        top_up()
        while making:
            done = [making.popleft().result()]
            top_up()
            yield done.pop()  # nothing here holds on to a result that the caller has let go of
    finally:
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _start(pool: ThreadPoolExecutor, job: Job[T], stopped: threading.Event) -> Future[T]:
    result: Future[T] = Future()
    lock, left = threading.Lock(), len(job.pieces)

    def work(piece: Callable[[], None]) -> None:
        nonlocal left
        if stopped.is_set():
            return
        try:
            piece()
            with lock:
                left -= 1
                last = left == 0
            if last:
                result.set_result(job.finish())
        except BaseException as exc:
            with lock:
                if not result.done():
                    result.set_exception(exc)

    for piece in job.pieces:
        pool.submit(work, piece)
    return result
