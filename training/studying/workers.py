"""Several processes of one machine at work on a study, each on a device; each is its own ``pwcat study work``.

A process that dies (out of memory, say) takes none of the others with it: the job it had is counted as failed, and another
process takes its place.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from training.studying.job import Job
from training.studying.leases import holder_in
from training.studying.records import Failed, Records
from training.studying.running import Event
from training.studying.taking import failures_of

__all__ = ["Crew"]

ASK_EVERY_S = 0.2
PATIENCE_S = 120.0  # for a checkpoint, after a signal
MOST_DEATHS = 20
FAILED_EXIT = 1  # of a worker: it did what it could, and some jobs failed


@dataclass(kw_only=True)
class _Member:
    process: subprocess.Popen[str]
    device: str
    reader: threading.Thread

    def close(self) -> None:
        """What is left to be read is read, once the process is gone."""
        self.reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


@dataclass(kw_only=True)
class Crew:
    """Processes at work; see :meth:`work`.

    Attributes:
        folder: of the study.
        jobs: all of its jobs.
        records: what is done.
        devices: of each process.
        arguments: of ``pwcat study work`` beside folder and device.
        threads: of each on a processor; ``None`` for its share of the cores.
        tell: told of everything that the processes tell.
    """

    folder: Path
    jobs: Sequence[Job]
    records: Records
    devices: Sequence[str]
    arguments: Sequence[str] = ()
    threads: int | None = None
    tell: Callable[[Event], None]
    _members: list[_Member] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self) -> None:
        """Let the processes work until none is left.

        Raises:
            KeyboardInterrupt: SIGINT or SIGTERM came; the processes have given back their jobs.
        """
        deaths, retry = 0, ",".join(sorted(failures_of(self.jobs, self.records)))
        self.arguments = [*self.arguments, *(["--retry", retry] if retry else [])]
        with self._ended():
            self._members = [self._start(device) for device in self.devices]
            while self._members:
                time.sleep(ASK_EVERY_S)
                for member in [each for each in self._members if each.process.poll() is not None]:
                    self._members.remove(member)
                    member.close()
                    if member.process.returncode in (0, FAILED_EXIT):
                        continue
                    deaths += 1
                    self._bury(member)
                    if deaths < MOST_DEATHS:
                        self._members.append(self._start(member.device))

    def _start(self, device: str) -> _Member:
        command = [
            sys.executable,
            "-m",
            "pwcat",
            "study",
            "work",
            str(self.folder),
            "--device",
            device,
            *self.arguments,
        ]
        threads = str(self.threads or max(1, (os.cpu_count() or 1) // len(self.devices)))
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        # in a session of its own: Ctrl-C reaches this process, which passes it on once
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True, stdin=subprocess.PIPE
        )
        reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        reader.start()
        return _Member(process=process, device=device, reader=reader)

    def _read(self, process: subprocess.Popen[str]) -> None:
        by_name = {job.name: job for job in self.jobs}
        assert process.stdout is not None
        for line in process.stdout:
            with suppress(ValueError, KeyError, TypeError):  # a library that prints
                values = json.loads(line)
                event = Event(**{**values, "job": by_name[values["job"]]})
                with self._lock:
                    self.tell(event)

    def _bury(self, member: _Member) -> None:
        """Count the job that a dead process had as failed, so that those that go on do not die of it as well."""
        code = member.process.returncode
        died = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        for job in self.jobs:
            holder = holder_in(self.records.of(job)) if self.records.done(job) is None else None
            if holder and holder.pid == member.process.pid and not holder.released:
                memory = ": the system may have been out of memory; give it fewer workers" if code == -9 else ""
                failed = Failed(job=job.name, key=job.key, why=f"its process ended by {died}{memory}")
                self.records.write_failed(job, failed)
                self.tell(Event(what="failed", job=job, words=failed.why))

    @contextmanager
    def _ended(self) -> Iterator[None]:
        """Let no process outlive the block: each is asked to end, and waited for while it writes a checkpoint."""
        try:
            yield
        finally:
            for member in self._members:
                with suppress(ProcessLookupError):
                    member.process.terminate()
            until = time.monotonic() + PATIENCE_S
            for member in self._members:
                try:
                    member.process.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    member.process.kill()
                    member.process.wait()
                member.close()
