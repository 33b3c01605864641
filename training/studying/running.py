"""One process at work on a study: takes jobs in turn and does them, until none is left that it could do."""

from __future__ import annotations

import _thread
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from pwcat.errors import BusyError, PwcatError
from training.studying.doing import Outcome, UnfinishedError, Workshop
from training.studying.job import Job
from training.studying.records import Done, Failed, Records
from training.studying.results import write_results
from training.studying.shelf import OpenedStudy, hash_in
from training.studying.taking import Queue, Taken

__all__ = ["Event", "Worker"]

log = logging.getLogger(__name__)

ASK_EVERY_S = 0.5
TELL_EVERY_S = 1.0
GATHER_EVERY_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened to a job.

    Attributes:
        what: started, under way, done, failed, lost (another process has it now), or stopped (by the end of its time).
        job: to which.
        words: more.
        done: of ``total``, where it is under way.
        total: likewise.
    """

    what: Literal["started", "under way", "done", "failed", "lost", "stopped"]
    job: Job
    words: str = ""
    done: int = 0
    total: int = 0


def _silent(event: Event) -> None:
    pass


@dataclass(kw_only=True)
class Worker:
    """Does the jobs of a study; see :meth:`work`.

    Attributes:
        folder: of the study.
        study: what is to be done there.
        jobs: all of its jobs, in order.
        chosen: those of them to be done now.
        queue: of these.
        device: torch device.
        max_minutes: after which no job is begun, and pretraining stops with a checkpoint; ``None`` for no limit.
        tell: told of everything.
    """

    folder: Path
    study: OpenedStudy
    jobs: Sequence[Job]
    chosen: Sequence[Job]
    queue: Queue
    device: str = "cpu"
    max_minutes: float | None = None
    tell: Callable[[Event], None] = _silent
    _gathered: float = field(default_factory=time.monotonic)
    _told: float = 0.0
    _lost: bool = False

    @property
    def records(self) -> Records:
        """What is done."""
        return self.queue.records

    def work(self) -> bool:
        """Do jobs until none is left; whether all that were chosen are done.

        Raises:
            KeyboardInterrupt: SIGINT or SIGTERM came; the job at hand was given back.
            PwcatError: the folder became another study's while this one was at work.
        """
        if self.study.document.threads and not self.device.startswith("cuda"):
            torch.set_num_threads(self.study.document.threads)
        until = None if self.max_minutes is None else time.monotonic() + 60 * self.max_minutes
        shop = Workshop(
            folder=self.folder,
            records=self.records,
            jobs={job.name: job for job in self.jobs},
            study=self.study,
            device=self.device,
            until=until,
        )
        while until is None or time.monotonic() < until:
            self._require_same_study()
            taken = self.queue.take()
            if taken == "nothing":
                break
            if isinstance(taken, Taken):
                self._do(taken, shop)
            else:
                time.sleep(ASK_EVERY_S)
            self._gather()
        self._require_same_study()
        write_results(self.folder, self.study, self.jobs, self.records)
        return all(self.records.done(job) for job in self.chosen)

    def _do(self, taken: Taken, shop: Workshop) -> None:
        job, lease, started = taken.job, taken.lease, time.monotonic()
        self._lost = False
        self.tell(Event(what="started", job=job))
        try:
            with lease.kept(self._lose):
                outcome = shop.do(job, lambda done, total, words="": self._under_way(job, done, total, words))
            if not lease.is_mine():
                return self.tell(Event(what="lost", job=job))
            self.records.write_done(job, self._done(job, outcome, time.monotonic() - started), rows=outcome.rows)
            lease.clear()
            self.tell(Event(what="done", job=job))
        except UnfinishedError:
            lease.release()
            self.tell(Event(what="stopped", job=job))
        except BusyError:  # the last holder, given up while it stood still, has woken: it ends soon
            lease.release()
            time.sleep(ASK_EVERY_S)
        except KeyboardInterrupt:
            if not self._lost:
                lease.release()
                raise
            self.tell(Event(what="lost", job=job))
        except Exception as exc:
            self._failed(taken, exc)
        return None

    def _lose(self) -> None:
        """Called by the thread of the lease: what the main thread does is another's now."""
        self._lost = True
        _thread.interrupt_main()

    def _failed(self, taken: Taken, exc: Exception) -> None:
        """Write down why a job failed; what does not need it goes on."""
        mine = isinstance(exc, PwcatError | OSError | MemoryError | torch.OutOfMemoryError)
        why = " ".join(str(exc).split()) or type(exc).__name__
        failed = Failed(
            job=taken.job.name,
            key=taken.job.key,
            why=why if mine else f"{type(exc).__name__}: {why}",
            traceback="" if mine else "".join(traceback.format_exception(exc)),
        )
        self.records.write_failed(taken.job, failed)
        taken.lease.release()
        self.tell(Event(what="failed", job=taken.job, words=failed.why))

    def _done(self, job: Job, outcome: Outcome, seconds: float) -> Done:
        seconds = outcome.seconds if outcome.seconds is not None else seconds
        hours = seconds / 3600 if self.device.startswith("cuda") and job.kind not in {"archive", "dataset"} else 0.0
        return Done(
            job=job.name,
            key=job.key,
            seconds=round(seconds, 3),
            gpu_hours=round(outcome.gpu_hours if outcome.gpu_hours is not None else hours, 5),
            bytes=outcome.bytes,
            device=_device_said(self.device),
            units=outcome.units,
            facts=outcome.facts,
        )

    def _under_way(self, job: Job, done: int, total: int, words: str) -> None:
        now = time.monotonic()
        if now - self._told < TELL_EVERY_S and done < total:
            return
        self._told = now
        with suppress(OSError):  # a full disk is told by the job itself
            self.records.write_progress(job, {"done": done, "total": total, "words": words})
        self.tell(Event(what="under way", job=job, words=words, done=done, total=total))

    def _gather(self) -> None:
        """Bring the tables up to date now and then, for those who look on."""
        if time.monotonic() - self._gathered > GATHER_EVERY_S:
            write_results(self.folder, self.study, self.jobs, self.records)
            self._gathered = time.monotonic()

    def _require_same_study(self) -> None:
        if hash_in(self.folder) != self.study.hash:
            raise PwcatError(
                f"{self.folder} was made another study's while this process was at work: its jobs that are done stay; run "
                "`pwcat study run` there again to go on with what the study is now"
            )


def _device_said(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    return f"{device}, {torch.get_num_threads()} threads"
