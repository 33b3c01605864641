"""One process at a time, and none kept out by the dead."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from pwcat.errors import PwcatError
from pwcat.lock import locked

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
