"""Builds in processes of their own, started at once: all is imported once, and each build is a fork of that.

Reads a line of JSON a build, ``{"folder": …, "url": …, "fsize": …}``, and answers with the build's process id; the word ``end``
with the number of one, and its exit code (less than 0: the signal that killed it) and its last words come back. Exit codes are
those of the command line: 2 for a fault that a user can mend, told in one line.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import pwcat.readers.stackstac
import pwcat.readers.tiles
import pwcat.readers.wire  # noqa: F401
from pwcat.errors import PwcatError
from pwcat.materialize import build_cube
from pwcat.providers import OpenSource


def build(task: dict[str, Any]) -> int:
    """Build in this process."""
    if size := task.get("fsize"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    source = OpenSource(provider="archive", url=task["url"], collection="s2-l2a-synthetic")
    try:
        build_cube(Path(task["folder"]), source=source, reader=task.get("reader", "tiles"))
    except PwcatError as exc:
        sys.stderr.write(f"pwcat: {exc}\n")
        return 2
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def start(task: dict[str, Any]) -> tuple[int, Any]:
    """A build's process, and where it writes its last words."""
    words = tempfile.TemporaryFile("w+")  # noqa: SIM115
    number = os.fork()
    if number == 0:
        os.dup2(words.fileno(), 2)
        code = 1
        try:
            code = build(task)
        finally:
            sys.stderr.flush()
            os._exit(code)
    return number, words


def main() -> None:
    """Serve until input ends."""
    running: dict[int, Any] = {}
    for line in sys.stdin:
        task = json.loads(line)
        if "end" in task:
            status = os.waitstatus_to_exitcode(os.waitpid(task["end"], 0)[1])
            words = running.pop(task["end"])
            words.seek(0)
            answer: object = [status, words.read()]
            words.close()
        elif "run" in task:
            answer = subprocess.run(task["run"], capture_output=True, check=False).returncode
        else:
            answer, words = start(task)
            running[answer] = words
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
