"""One process at a time, and none kept out by the dead."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from pwcat.errors import PwcatError
from pwcat.lock import holder_of, locked, locked_in_turn

HOLD = """
import sys, time
from pathlib import Path
from pwcat.lock import locked
with locked(Path(sys.argv[1]), doing="it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_told_who_is_first_and_may_when_he_is_done(tmp_path):
    path = tmp_path / "folder" / "_lock"
    with locked(path, doing="a build of x"):
        told = f"^a build of x is at work already \\(process {os.getpid()} on .+\\); wait for its end, or stop it"
        with pytest.raises(PwcatError, match=told), locked(path, doing="a build of x"):
            pass
    with locked(path, doing="a build of x"):
        assert re.fullmatch(rf"process {os.getpid()} on .+\n", path.read_text())


def test_an_error_inside_is_let_through_and_frees_it(tmp_path):
    with pytest.raises(ZeroDivisionError, match="inside"), locked(tmp_path / "_lock", doing="it"):
        raise ZeroDivisionError("inside")
    with locked(tmp_path / "_lock", doing="it"):
        pass


def test_a_killed_process_keeps_nobody_out(tmp_path):
    path = tmp_path / "_lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(PwcatError, match=f"process {process.pid} on"), locked(path, doing="it"):
        pass
    process.kill()
    process.communicate()
    with locked(path, doing="it"):
        pass


def test_who_waits_has_it_next_and_nothing_is_left(tmp_path):
    path, order = tmp_path / "new" / "folder" / ".lock", []

    def hold(number):
        with locked_in_turn(path, doing="it"):
            order.append(("in", number))
            time.sleep(0.01)
            order.append(("out", number))

    threads = [threading.Thread(target=hold, args=[number]) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [word for word, _ in order] == ["in", "out"] * 4  # one at a time
    assert order[::2] == [("in", number) for _, number in order[1::2]]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_a_killed_process_left_is_taken_over_and_what_others_put_beside_it_stays(tmp_path):
    path = tmp_path / "new" / ".lock"
    with locked_in_turn(path, doing="it"):
        (path.parent / "beside").touch()
    path.write_text("process 1 on another\n")
    with locked_in_turn(path, doing="it"):
        assert holder_of(path) is not None
    assert [file.name for file in path.parent.iterdir()] == ["beside"]


@pytest.mark.parametrize("lock", [locked, locked_in_turn])
def test_a_file_system_without_locks_is_told_in_a_line(tmp_path, monkeypatch, lock):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "folder" / "_lock"
    told = r"_lock cannot be locked \(No locks available\), .*; use a folder of a file system that has locks$"
    with pytest.raises(PwcatError, match=told), lock(path, doing="it"):
        pass
    if lock is locked_in_turn:
        assert list(tmp_path.iterdir()) == []
