"""What a study's folder knows of its jobs: done, failed, under way. One folder a job and key, files that appear whole."""

from __future__ import annotations

import json
import platform
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pwcat.atomic import replacing
from training.studying.job import Job

__all__ = ["Done", "Failed", "Records"]

DONE, FAILED, PROGRESS, ROWS = "done.json", "failed.json", "progress.json", "rows.json"


@dataclass(frozen=True, kw_only=True)
class Done:
    """A job that is done, and what it took.

    Attributes:
        job: its name.
        key: its key.
        seconds: wall time, over all parts of an interrupted pretraining.
        gpu_hours: hours of GPUs; 0 without one.
        bytes: left on disk.
        device: where it was done last.
        host: machine where it was done last.
        units: amount of work by which times are compared: samples, or samples times epochs.
        facts: what later jobs and tables want to know.
        finished: seconds since 1970.
    """

    job: str
    key: str
    seconds: float
    gpu_hours: float = 0.0
    bytes: int = 0
    device: str = ""
    host: str = field(default_factory=platform.node)
    units: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    finished: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A job that failed: why, in a line, and with the traceback where it was no fault of the user's."""

    job: str
    key: str
    why: str
    traceback: str = ""
    host: str = field(default_factory=platform.node)
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    when: float = field(default_factory=time.time)


@dataclass(kw_only=True)
class Records:
    """The folder ``jobs`` of a study.

    Attributes:
        folder: of the study.
    """

    folder: Path
    _done: dict[str, Done] = field(default_factory=dict)

    def of(self, job: Job) -> Path:
        """The folder of a job."""
        return self.folder / "jobs" / job.slug

    def done(self, job: Job) -> Done | None:
        """What a job that is done took; what is done stays so."""
        if job.slug not in self._done:
            values = _read(self.of(job) / DONE)
            if values is None or values.get("key") != job.key:
                return None
            self._done[job.slug] = Done(**{**values, "job": job.name})
        return self._done[job.slug]

    def failed(self, job: Job) -> Failed | None:
        """Why a job failed the last time."""
        values = _read(self.of(job) / FAILED)
        return Failed(**values) if values else None

    def progress(self, job: Job) -> dict[str, Any]:
        """How far a job has come: done, total, words; empty where that is not told."""
        return _read(self.of(job) / PROGRESS) or {}

    def rows(self, job: Job) -> list[dict[str, Any]]:
        """What a job of scores gave."""
        found = _read(self.of(job) / ROWS)
        return list(found["rows"]) if found else []

    def write_done(self, job: Job, done: Done, *, rows: list[dict[str, Any]] | None = None) -> None:
        """Write down that a job is done, its rows first."""
        if rows is not None:
            _write(self.of(job) / ROWS, {"rows": rows})
        _write(self.of(job) / DONE, asdict(done))
        for name in (FAILED, PROGRESS):
            (self.of(job) / name).unlink(missing_ok=True)

    def write_failed(self, job: Job, failed: Failed) -> None:
        """Write down why a job failed."""
        _write(self.of(job) / FAILED, asdict(failed))
        (self.of(job) / PROGRESS).unlink(missing_ok=True)

    def write_progress(self, job: Job, values: Mapping[str, Any]) -> None:
        """Write down how far a job has come."""
        _write(self.of(job) / PROGRESS, values)

    def slugs(self) -> set[str]:
        """Names of all jobs that are done, of this study and of what it was before."""
        return {path.parent.name for path in (self.folder / "jobs").glob(f"*/{DONE}")}


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or lost by a power cut: then it is as if it were not
        return None
    return values if isinstance(values, dict) else None
