"""Builds that are killed, run out of disk or meet each other: the next one makes of it what would have been."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pwcat.building.ledger import read_ledger
from pwcat.cube import shard_path
from pwcat.errors import SourceError
from pwcat.materialize import build_cube

HERE = Path(__file__).parent
KILLS = 50
ROOM_BYTES = 80_000  # on the small disk, beside the plan: less than the cube and the ledger need


@dataclass
class Builder:
    """The process that forks builds; see builder.py."""

    process: subprocess.Popen[str]

    def _ask(self, task: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, folder: Path, url: str, **more: object) -> int:
        return self._ask({"folder": str(folder), "url": url, **more})

    def end(self, number: int) -> tuple[int, str]:
        """Wait for a build's end: its exit code and what it said."""
        code, words = self._ask({"end": number})
        return code, words

    def run(self, *command: object) -> int:
        """Run a command where the builds run."""
        return self._ask({"run": list(map(str, command))})

    def close(self) -> None:
        self.process.communicate(timeout=30)


def open_builder(*before: str) -> Builder:
    command = [*before, sys.executable, str(HERE / "builder.py")]
    return Builder(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))


@pytest.fixture(scope="module")
def builder():
    opened = open_builder()
    yield opened
    opened.close()


def shards_in(folder):
    return [shard for shard in range(8) if shard_path(folder / "cube.zarr", shard).is_file()]


def test_killed_at_fifty_moments_a_build_ends_as_if_undisturbed(builder, calm, copy_plan, undisturbed, tmp_path):
    """Each build is the rerun of one that was killed, until one comes through; then the next folder."""
    rng = np.random.default_rng(0)
    lasted = []
    for number in range(3):
        folder = copy_plan(tmp_path / f"whole{number}")
        started = time.monotonic()
        assert builder.end(builder.start(folder, calm.url)) == (0, "")
        lasted.append(time.monotonic() - started)
        undisturbed.is_end_of(folder)
    span = statistics.median(lasted)
    kills = ends = 0
    folder = copy_plan(tmp_path / "killed0")
    while kills < KILLS:
        process = builder.start(folder, calm.url)
        time.sleep(rng.uniform(0, span))
        os.kill(process, signal.SIGKILL)
        code, said = builder.end(process)
        assert (code, said) in ((-signal.SIGKILL, ""), (0, ""))
        if code:
            kills += 1
            if (folder / "cube.zarr" / "chips" / "zarr.json").is_file():
                undisturbed.is_on_the_way(folder)
        if not code or kills == KILLS or rng.random() < 0.1:
            assert builder.end(builder.start(folder, calm.url)) == (0, "")
            undisturbed.is_end_of(folder)
            ends += 1
            folder = copy_plan(tmp_path / f"killed{ends}")
    assert ends >= 3


def test_of_two_builds_at_once_one_builds_and_the_other_says_so(builder, faulty, planned, undisturbed):
    case = faulty.case({"path": "^/assets/", "delay": 0.1})
    both = [builder.start(planned, case.url) for _ in range(2)]
    ends = sorted(builder.end(process) for process in both)
    assert ends[0] == (0, "")
    code, said = ends[1]
    assert code == 2
    told = rf"pwcat: {planned}: another build is at work already \(process ({both[0]}|{both[1]}) on .+\); wait for .*\n"
    assert re.fullmatch(told, said)
    undisturbed.is_end_of(planned)


def test_files_that_may_not_grow_are_one_line_and_the_next_build_mends_it(builder, calm, planned, undisturbed):
    """As a quota ends a build: no file may be larger than this."""
    code, said = builder.end(builder.start(planned, calm.url, fsize=4000))
    assert code == 2
    assert re.fullmatch(
        r"pwcat: shard \d+ .*cannot be made: .*File too large.*the same command makes what is missing\n", said
    )
    assert list(planned.rglob("*.partial")) == []
    assert shards_in(planned) == []
    assert builder.end(builder.start(planned, calm.url)) == (0, "")
    undisturbed.is_end_of(planned)


def test_a_full_disk_is_one_line_and_the_next_build_mends_it(calm, planned, undisturbed, tmp_path):
    """On a disk of its own, in a namespace of mounts of its own; where that is not allowed, there is nothing to test."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no namespaces of mounts here")
    builder, disk = open_builder(*unshare), tmp_path / "disk"
    disk.mkdir()
    try:
        room = sum(-(-path.stat().st_size // 4096) * 4096 for path in planned.iterdir()) + ROOM_BYTES
        if builder.run("mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", disk):
            pytest.skip("no tmpfs can be mounted here")
        assert builder.run("cp", "-r", planned, disk / "tiny") == 0
        code, said = builder.end(builder.start(disk / "tiny", calm.url))
        assert code == 2
        assert re.fullmatch(r"pwcat: .*No space left on device.*the same command makes what is missing\n", said)
        assert builder.run("mount", "-o", "remount,size=64m", disk) == 0
        assert builder.end(builder.start(disk / "tiny", calm.url)) == (0, "")
        assert builder.run("cp", "-r", disk / "tiny", tmp_path / "made") == 0
    finally:
        builder.close()
    undisturbed.is_end_of(tmp_path / "made")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_worker_that_is_killed_costs_nothing(faulty, planned, undisturbed):
    from distributed import LocalCluster

    case = faulty.case({"path": "^/assets/", "delay": 0.05})
    killed: list[int] = []
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:

        def kill(now):
            if now.shards and not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        report = build_cube(planned, source=case.source, scheduler=cluster.scheduler_address, progress=kill)
    assert killed
    assert report.counts == {"written": 16}
    undisturbed.is_end_of(planned)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_scheduler_that_is_killed_is_one_line_and_the_next_build_goes_on(
    faulty, calm, planned, undisturbed, tmp_path
):
    case = faulty.case({"path": "^/assets/", "delay": 0.1})
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [*dask, "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)], **quiet
    )
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file)]
    workers = subprocess.Popen(
        [*worker, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "5"],
        **quiet,
    )
    try:
        address = _address_in(file)

        def kill(now):
            if now.shards:
                scheduler.kill()

        with pytest.raises(SourceError, match=r"the Dask scheduler at .* is gone; what is done stays") as caught:
            build_cube(planned, source=case.source, scheduler=address, progress=kill)
        assert "\n" not in str(caught.value)
        done = len(shards_in(planned))
        assert 0 < done < 8
        undisturbed.is_on_the_way(planned)
        assert set(read_ledger(planned)["status"].to_pylist()) == {"written"}
        report = build_cube(planned, source=calm.source)
        assert report.counts == {"written": 16}
        undisturbed.is_end_of(planned)
    finally:
        for process in (scheduler, workers):
            process.kill()
            process.wait()
    undisturbed.is_end_of(planned)  # nobody who was given up has written since


def _address_in(file: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if file.is_file() and (text := file.read_text()):
            address: str = json.loads(text)["address"]
            if _has_worker(address):
                return address
        time.sleep(0.1)
    raise AssertionError("no scheduler with a worker came up")


def _has_worker(address: str) -> bool:
    from distributed import Client

    with Client(address, timeout=10, set_as_default=False) as client:
        return bool(client.nthreads())
