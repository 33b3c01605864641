"""Whose turn a job is, among processes of several machines that share nothing but a folder.

A lease is a file of a generation: ``lease.0001``, then ``lease.0002``, and so on. Whoever makes the file of the next
generation first has the job; the file system lets one alone do that (a hard link to a new name, which is atomic on NFS too).
The holder touches its file every few seconds. One that was not touched for a while, by the clock of those who look on, is
given up, and so at once is one whose process is gone from this very computer: then the next generation may be made. No file
of a lease is ever removed before its job is done, so that two who find the same lease abandoned cannot both take it.

Locks of the system (``flock``) would do on one machine; on shared file systems they are often not passed on.
"""

from __future__ import annotations

import json
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pwcat.atomic import replacing

__all__ = ["Holder", "Lease", "Watch", "holder_in", "this_computer"]

BEAT_S = 5.0
# Many beats: a shared file system may stand still for a while, and work that is done twice costs more than waiting.
STALE_S = 60.0
NAME = re.compile(r"lease\.(\d{4,})")


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who has a job, as its lease says.

    Attributes:
        path: of the lease.
        token: of this very lease.
        computer: where the process is: machine, boot and namespace of processes.
        pid: of the process.
        born: when it was started, in the system's ticks: numbers of processes are used again.
        host: name of the machine, for people.
        device: that it works on.
        released: whether it was given back.
    """

    path: Path
    token: str
    computer: str
    pid: int
    born: str
    host: str
    device: str
    released: bool

    @property
    def said(self) -> str:
        """For people."""
        return f"process {self.pid} on {self.host}"

    def is_gone(self) -> bool:
        """Whether it is known to be dead: asked of processes of this computer alone."""
        return self.computer == this_computer() and _born(self.pid) != self.born


def this_computer() -> str:
    """A machine since its start, and the namespace in which its processes have numbers (containers have their own)."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)


def _born(pid: int) -> str:
    """When a process was started; empty where there is none, or where only that much can be told: that it is there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return "gone"
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return "gone"
        except PermissionError:
            pass
        return ""
    return "gone" if fields[0] in "ZX" else fields[19]


def holder_in(folder: Path) -> Holder | None:
    """Who has, or had last, the job of a folder; ``None`` where nobody had."""
    newest = max(_generations(folder), default=None)
    return _read(newest[1]) if newest else None


def _generations(folder: Path) -> Iterator[tuple[int, Path]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if found := NAME.fullmatch(entry.name):
                yield int(found[1]), Path(entry.path)


def _read(path: Path) -> Holder | None:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Holder(path=path, **values)
    except (OSError, ValueError, TypeError):  # it went with its job, or its writer was killed on a system without links
        return None


@dataclass(kw_only=True)
class Watch:
    """Looks on at leases of others, to see whether their holders still touch them; of one process.

    Attributes:
        stale_s: seconds without a touch after which a lease is given up.
        clock: seconds.
    """

    stale_s: float = STALE_S
    clock: Callable[[], float] = time.monotonic
    _seen: dict[Path, tuple[int, float]] = field(default_factory=dict)

    def is_abandoned(self, path: Path) -> bool:
        """Whether nobody will go on with the job of a lease; a lease has to be seen untouched for a while for that."""
        try:
            touched = path.stat().st_mtime_ns
        except FileNotFoundError:
            return False  # its job was done just now
        holder = _read(path)
        if holder and (holder.released or holder.is_gone()):
            return True
        before, since = self._seen.get(path, (None, 0.0))
        if before != touched:
            self._seen[path] = (touched, self.clock())
            return False
        return self.clock() - since > self.stale_s

    def take(self, folder: Path, *, device: str = "", beat_s: float = BEAT_S) -> Lease | None:
        """The lease of the job of a folder, which is made; ``None`` where another process has it."""
        folder.mkdir(parents=True, exist_ok=True)
        number, newest = max(_generations(folder), default=(0, None))
        if newest is not None and not self.is_abandoned(newest):
            return None
        lease = Lease(folder=folder, number=number + 1, device=device, beat_s=beat_s, stale_s=self.stale_s)
        return lease if lease.made() else None


class Lease:
    """A job that is this process's, as long as it is kept. Made by :meth:`Watch.take`."""

    def __init__(self, *, folder: Path, number: int, device: str, beat_s: float, stale_s: float) -> None:
        self.folder, self.number = folder, number
        self.path = folder / f"lease.{number:04d}"
        self._beat_s, self._stale_s = beat_s, stale_s
        self._values: dict[str, Any] = {
            "token": uuid.uuid4().hex,
            "computer": this_computer(),
            "pid": os.getpid(),
            "born": _born(os.getpid()),
            "host": platform.node() or "this computer",
            "device": device,
            "released": False,
        }

    def made(self) -> bool:
        """Try to be the one who makes the file; whether that is so."""
        draft = self.folder / f".lease.{self._values['token']}"
        draft.write_text(json.dumps(self._values), encoding="utf-8")
        try:
            os.link(draft, self.path)
        except FileExistsError:
            pass  # of another, or of this process: an answer that was lost on the way is asked for again
        except OSError:
            self._make_alone()
        finally:
            draft.unlink(missing_ok=True)
        return self.is_mine()

    def _make_alone(self) -> None:
        """Where the file system has no links."""
        with suppress(FileExistsError):
            file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            with os.fdopen(file, "w", encoding="utf-8") as opened:
                opened.write(json.dumps(self._values))

    def is_mine(self) -> bool:
        """Whether the job is still this process's: no later generation, and this one's own words in its file."""
        number, newest = max(_generations(self.folder), default=(0, None))
        holder = _read(newest) if newest is not None and number == self.number else None
        return holder is not None and holder.token == self._values["token"] and not holder.released

    @contextmanager
    def kept(self, lost: Callable[[], None]) -> Iterator[None]:
        """Touch the file while a block runs; ``lost`` is called, from another thread, once another process has the job."""
        done = threading.Event()
        thread = threading.Thread(target=self._beat, args=(done, lost), name="pwcat-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _beat(self, done: threading.Event, lost: Callable[[], None]) -> None:
        touched = time.monotonic()
        while not done.wait(self._beat_s):
            try:
                if not self.is_mine():
                    return lost()
                os.utime(self.path)
                touched = time.monotonic()
            except OSError:
                if time.monotonic() - touched > self._stale_s:
                    return lost()
        return None

    def release(self) -> None:
        """Give the job back, to be taken at once."""
        if self.is_mine():
            with replacing(self.path) as part:
                part.write_text(json.dumps({**self._values, "released": True}), encoding="utf-8")

    def clear(self) -> None:
        """Remove this lease and earlier ones: the job is done, which is written down already."""
        for number, path in _generations(self.folder):
            if number <= self.number:
                path.unlink(missing_ok=True)
