"""Which job a process does next: the first that is not done, whose needs are, and that nobody else has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from training.studying.job import Job
from training.studying.leases import BEAT_S, Lease, Watch
from training.studying.records import Records

__all__ = ["Queue", "Taken", "failures_of"]

Left = Literal["nothing", "others"]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A job, and the lease by which it is this process's."""

    job: Job
    lease: Lease


@dataclass(kw_only=True)
class Queue:
    """The jobs of a study as one process sees them.

    Jobs that had failed when it began are tried again, once: by this process or another one, but not after it failed anew.

    Attributes:
        jobs: in order.
        records: of the study.
        watch: over the leases of others.
        device: that this process works on.
        beat_s: seconds between two touches of a lease.
        retry: failures that are tried again; those that are there now, where ``None``.
    """

    jobs: Sequence[Job]
    records: Records
    watch: Watch = field(default_factory=Watch)
    device: str = ""
    beat_s: float = BEAT_S
    retry: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.retry is None:
            self.retry = failures_of(self.jobs, self.records)

    def take(self) -> Taken | Left:
        """The next job; ``"others"`` where those that are left are being done by others, or wait for such."""
        open_jobs, blocked = [], set[str]()
        for job in self.jobs:
            if self.records.done(job) is not None:
                continue
            if self.has_failed(job) or any(need in blocked for need in job.needs):
                blocked.add(job.name)
            else:
                open_jobs.append(job)
        waiting = {job.name for job in open_jobs}
        for job in open_jobs:
            if waiting.isdisjoint(job.needs) and (lease := self._leased(job)):
                return Taken(job=job, lease=lease)
        return "others" if any(self.records.done(job) is None for job in open_jobs) else "nothing"

    def has_failed(self, job: Job) -> bool:
        """Whether a job failed since this process began."""
        failed = self.records.failed(job)
        return failed is not None and failed.id not in (self.retry or ())

    def _leased(self, job: Job) -> Lease | None:
        lease = self.watch.take(self.records.of(job), device=self.device, beat_s=self.beat_s)
        if lease is None:
            return None
        if self.records.done(job) is not None:  # by another, between a look and the lease
            lease.clear()
            return None
        if self.has_failed(job):
            lease.release()
            return None
        return lease


def failures_of(jobs: Sequence[Job], records: Records) -> frozenset[str]:
    """What failed so far, by the names of the failures."""
    return frozenset(failed.id for job in jobs if (failed := records.failed(job)))
