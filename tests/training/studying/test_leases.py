"""A lease is of one process at a time: whoever looks on, whoever dies, however often it changes hands."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from training.studying.leases import Watch, holder_in

STALE_S = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_lease_that_is_touched_is_nobody_elses(tmp_path: Path, clock: Clock) -> None:
    lease = Watch().take(tmp_path, device="cuda:1")
    assert lease is not None
    other = Watch(stale_s=STALE_S, clock=clock)
    for _ in range(5):
        clock.now += 0.9 * STALE_S
        assert other.take(tmp_path) is None
        os.utime(lease.path, ns=(0, int(clock.now * 1e9)))
    holder = holder_in(tmp_path)
    assert holder is not None
    assert (holder.pid, holder.device, holder.is_gone()) == (os.getpid(), "cuda:1", False)


def test_one_that_is_not_touched_is_taken_over_by_the_clock_of_those_who_look_on(tmp_path: Path, clock: Clock) -> None:
    lease = Watch().take(tmp_path)
    assert lease is not None
    os.utime(lease.path, (2e9, 2e9))  # by a server whose clock is years ahead
    other = Watch(stale_s=STALE_S, clock=clock)
    assert other.take(tmp_path) is None
    clock.now = STALE_S + 1
    taken = other.take(tmp_path)
    assert taken is not None
    assert not lease.is_mine()
    assert taken.is_mine()
    lease.release()  # of what it has lost
    assert taken.is_mine()
    assert Watch().take(tmp_path) is None


def test_one_that_is_given_back_is_taken_at_once(tmp_path: Path) -> None:
    for _ in range(3):
        lease = Watch().take(tmp_path)
        assert lease is not None
        lease.release()
        assert not lease.is_mine()


def test_one_of_a_process_that_is_gone_is_taken_at_once(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from training.studying.leases import Watch; Watch().take(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert Watch().take(tmp_path) is not None


def test_of_many_that_find_it_abandoned_one_alone_takes_it(tmp_path: Path, clock: Clock) -> None:
    first = Watch().take(tmp_path)
    watches = [Watch(stale_s=STALE_S, clock=clock) for _ in range(16)]
    for watch in watches:
        assert watch.take(tmp_path) is None
    clock.now = STALE_S + 1
    with ThreadPoolExecutor(len(watches)) as pool:
        taken = [lease for lease in pool.map(lambda watch: watch.take(tmp_path), watches) if lease]
    assert len(taken) == 1
    assert first is not None
    assert not first.is_mine()


def test_of_many_that_come_first_one_alone_takes_it(tmp_path: Path) -> None:
    for turn in range(20):
        folder = tmp_path / str(turn)
        with ThreadPoolExecutor(8) as pool:
            taken = [lease for lease in pool.map(lambda _, f=folder: Watch().take(f), range(8)) if lease]
        assert len(taken) == 1


def test_whoever_holds_it_touches_it_and_is_told_of_its_loss(tmp_path: Path) -> None:
    lost = threading.Event()
    lease = Watch().take(tmp_path, beat_s=0.01)
    assert lease is not None
    os.utime(lease.path, (1, 1))
    with lease.kept(lost.set):
        while lease.path.stat().st_mtime == 1:
            pass
        assert not lost.is_set()
        (tmp_path / "lease.0002").write_text("another's")
        assert lost.wait(60)


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert Watch().take(tmp_path) is not None
    assert Watch().take(tmp_path) is None


def test_what_is_done_leaves_no_lease(tmp_path: Path) -> None:
    for _ in range(2):
        lease = Watch().take(tmp_path)
        assert lease is not None
        lease.release()
    lease.clear()
    assert not list(tmp_path.iterdir())
