"""Processes that push: each is forked from one that has imported everything and asked nothing, so that it begins at once.

The client reads ``HF_ENDPOINT`` when it is imported, so that one ``Pushers`` is of one Hub.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

SOURCE = """
import json, logging, os, sys, time, traceback
from pathlib import Path
import hf_xet, huggingface_hub.hf_api, huggingface_hub._commit_api, huggingface_hub._snapshot_download
import publish.pushing.committing as committing, publish.pushing.retrying as retrying
from publish.hub import fetch_folder, preview_paths, preview_push, push_folder
from publish.publication import Destination, deliver
from publish.pushing.progress import silent
from pwcat.errors import PublishError


def work(action, folder=None, batch_files=1, silence_s=None, level="WARNING", states=False, **options):
    logging.basicConfig(level=level)
    committing.BATCH_FILES = batch_files
    if silence_s:
        retrying.SILENCE_TIMEOUT_S = silence_s
    told, slept = [], []
    time.sleep = slept.append  # the client's back-off, and ours
    try:
        if action == "push":
            done = push_folder(Path(folder), message="Release", progress=told.append if states else silent, **options)
            return {**vars(done), "unchanged": done.unchanged, "states": [vars(state) for state in told], "slept": slept}
        if action == "deliver":  # what is asked of the builder is to be nothing
            deliver(lambda path: 1 / 0, Destination(to=Path(folder), **options), kind="dataset", message="", load=str)
        if action == "preview":
            return dict(vars(preview_push(Path(folder), **options)))
        if action == "preview paths":
            return dict(vars(preview_paths(**options)))
        return {"folder": str(fetch_folder(**options))}
    except PublishError as exc:
        traceback.print_exc()
        return {"error": str(exc), "slept": slept}


for line in sys.stdin:
    ask = json.loads(line)
    if "wait" in ask:
        print(os.waitstatus_to_exitcode(os.waitpid(ask["wait"], 0)[1]), flush=True)
        continue
    out = Path(ask.pop("out"))
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    os.environ.update(ask.pop("environment", {}))
    for number, end in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{out}.{end}", os.O_WRONLY | os.O_CREAT), number)
    status = 1
    try:
        result = work(**ask)
        out.write_text(json.dumps(result))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
"""


class Pushing:
    """One of them."""

    def __init__(self, pushers, pid, out):
        self.pushers, self.pid, self.out = pushers, pid, out

    @property
    def printed(self):
        return "".join(Path(f"{self.out}.{end}").read_text() for end in ("out", "err"))

    def result(self):
        status = self.pushers.ask({"wait": self.pid})
        assert status == 0, f"exit {status}: {self.printed}"
        return json.loads(self.out.read_text())

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        assert self.pushers.ask({"wait": self.pid}) == -signal.SIGKILL


class Pushers:
    """Use as a context manager."""

    def __init__(self, hub, folder):
        self.folder, self.count = Path(folder), 0
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home = self.folder / "home"
        quick = {"HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms", "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "1"}
        keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
        env = {**keep, **quick, "OMP_NUM_THREADS": "1", **hub.environment(self.home)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SOURCE], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def ask(self, question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def begin(self, action, **options):
        """Let one begin; it goes on beside the test."""
        self.count += 1
        out = self.folder / f"{self.count}"
        return Pushing(self, self.ask({"action": action, "out": str(out), **options}), out)

    def push(self, folder, repo="lab/chips", kind="dataset", **options):
        """What a push gave, or ``{"error": ...}``."""
        return self.begin("push", folder=str(folder), repo=repo, kind=kind, **options).result()
