"""How far a study has come: the state of each job, who is at it, why it failed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from training.studying.job import Job
from training.studying.leases import STALE_S, holder_in
from training.studying.records import Done, Records

__all__ = ["State", "Status", "states_of"]

State = Literal["done", "running", "failed", "blocked", "missing"]


@dataclass(frozen=True, kw_only=True)
class Status:
    """Of one job.

    Attributes:
        job: the job.
        state: "blocked" needs one that failed; "missing" was not begun, or waits for its next turn.
        done: what it took.
        who: the process at it.
        progress: how far that has come: done, total, words.
        why: it failed, or which one it waits for did.
    """

    job: Job
    state: State
    done: Done | None = None
    who: str = ""
    progress: dict[str, Any] | None = None
    why: str = ""

    @property
    def share(self) -> float:
        """Of the job that is done, 0..1."""
        if self.state == "done":
            return 1.0
        total = (self.progress or {}).get("total") or 0
        return min(1.0, self.progress["done"] / total) if self.progress and total else 0.0


def states_of(jobs: Sequence[Job], records: Records) -> list[Status]:
    """The state of each job, in order."""
    found: dict[str, Status] = {}
    for job in jobs:
        found[job.name] = _state(job, records, found)
    return list(found.values())


def _state(job: Job, records: Records, before: dict[str, Status]) -> Status:
    if done := records.done(job):
        return Status(job=job, state="done", done=done)
    if who := _at_work(job, records):
        return Status(job=job, state="running", who=who, progress=records.progress(job))
    if failed := records.failed(job):
        return Status(job=job, state="failed", why=failed.why, who=failed.host)
    for need in job.needs:
        if before[need].state in {"failed", "blocked"}:
            culprit = before[need].why if before[need].state == "blocked" else need
            return Status(job=job, state="blocked", why=culprit)
    return Status(job=job, state="missing", progress=records.progress(job))


def _at_work(job: Job, records: Records) -> str:
    """The process that has a job, as far as one look can tell: its lease was touched lately, by this machine's clock."""
    holder = holder_in(records.of(job))
    if holder is None or holder.released or holder.is_gone():
        return ""
    try:
        silent = time.time() - holder.path.stat().st_mtime
    except FileNotFoundError:
        return ""
    if silent > STALE_S:
        return ""
    return f"{holder.said}, {holder.device}" if holder.device else holder.said
