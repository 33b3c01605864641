"""Shards made by threads and by a real Dask cluster, whose workers and scheduler are killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from threading import Event, Timer
from threading import enumerate as all_threads

import cloudpickle
import pytest

from pwcat.atomic import replacing
from pwcat.building import execution
from pwcat.building.execution import run_shards
from pwcat.building.shards import ShardResult, ShardTask
from pwcat.costs.traffic import Traffic
from pwcat.cube import CubeSpec
from pwcat.errors import CubeError, SourceError
from pwcat.providers import OpenSource
from pwcat.recipe import Chip

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


@pytest.fixture
def task(tmp_path):
    """The task of shard 0; whoever makes it does as the test says."""
    (tmp_path / "plan.parquet").touch()
    return ShardTask(
        folder=tmp_path,
        spec=CubeSpec(num_samples=100, num_times=1, bands=("B02",), size_px=8, shard_size=1),
        shard=0,
        rows=[],
        scenes={},
        chip=Chip(bands=["B02"], size_px=8),
        source=OpenSource(provider="stac", url="http://127.0.0.1:1", collection="none"),
        plan_hash="",
        threads=1,
    )


def tasks(task, n):
    return (replace(task, shard=number) for number in range(n))


def made(task):
    return ShardResult(
        shard=task.shard,
        samples=1,
        bytes=round(1 / task.share),
        read=[0],
        retries=0,
        traffic=Traffic(),
    )


def run(work, every, **options):
    """Shards that were made, and what the run failed of."""
    done = []
    try:
        for result in run_shards(work, every, **options):
            done.append(result.shard)
    except Exception as exc:
        return sorted(done), exc
    return sorted(done), None


def test_every_task_is_done_and_few_are_taken_at_a_time(task):
    taken, results = 0, 0
    most = 0

    def counted():
        nonlocal taken, most
        for one in tasks(task, 50):
            taken += 1
            most = max(most, taken - results)
            yield one

    for _ in run_shards(made, counted()):
        results += 1
    assert results == 50
    assert most <= execution.LOCAL_SHARDS + execution.WAITING_TASKS


def test_while_no_shard_ends_it_is_told_how_many_are_at_work(task, monkeypatch):
    monkeypatch.setattr(execution, "TELL_AFTER_S", 0.01)
    told, ready = [], Event()

    def wait(flying):
        told.append(flying)
        if len(told) == 3:
            ready.set()

    def work(one):
        assert ready.wait(20)
        return made(one)

    assert run(work, tasks(task, 4), waiting=wait) == ([0, 1, 2, 3], None)
    assert told[:3] == [execution.LOCAL_SHARDS] * 3


def test_a_bug_is_told_with_its_shard_after_the_others_are_done(task):
    def work(one):
        return made(one) if one.shard not in (3, 7) else [][one.shard]

    done, exc = run(work, tasks(task, 12))
    assert done == [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]
    assert isinstance(exc, IndexError)
    assert exc.__notes__ == [
        "shard 3 and 1 more failed of this; what else could be made is made, and the same command tries again"
    ]


def test_a_shard_that_cannot_be_written_is_one_line(task):
    def work(one):
        if one.shard == 3:
            raise PermissionError(errno.EACCES, "Permission denied", "c/3")
        return made(one)

    done, exc = run(work, tasks(task, 12))
    assert len(done) == 11
    assert isinstance(exc, CubeError)
    assert str(exc).startswith("shard 3 cannot be made: [Errno 13] Permission denied: 'c/3'. What is done stays; ")


@pytest.mark.parametrize(
    ("failure", "most"), [(OSError(errno.ENOSPC, "No space left on device"), 3), (KeyError(1), 11)]
)
def test_what_awaits_all_shards_ends_the_run(task, failure, most):
    taken = []

    def counted():
        for one in tasks(task, 1000):
            taken.append(one.shard)
            yield one

    def work(one):
        raise failure

    _, exc = run(work, counted())
    assert exc is not None
    assert len(taken) <= most


def test_a_run_that_is_stopped_waits_for_no_reader_and_none_writes_afterwards(task, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "LET_WRITE_S", 0.01)
    reading, go_on = Event(), Event()

    def work(one):
        if one.shard:
            reading.set()
            go_on.wait()
        with replacing(tmp_path / f"shard-{one.shard}") as temporary:
            temporary.write_text("pixels")
        return made(one)

    results = run_shards(work, tasks(task, 10))
    assert next(results).shard == 0
    reading.wait()
    results.close()  # returns, though a thread reads on
    go_on.set()
    for thread in [thread for thread in all_threads() if thread.name == execution.THREAD_NAME]:
        thread.join(10)
        assert not thread.is_alive()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.parquet", "shard-0"]


def test_a_shard_that_is_being_written_when_a_run_is_stopped_is_waited_for(task, tmp_path):
    writing, go_on = Event(), Event()

    def work(one):
        with replacing(tmp_path / f"shard-{one.shard}") as temporary:
            if one.shard == 1:
                writing.set()
                go_on.wait(0.05)
            temporary.write_text("pixels")
        return made(one)

    results = run_shards(work, tasks(task, 2))
    next(results)
    writing.wait()
    results.close()
    assert (tmp_path / "shard-1").read_text() == "pixels"


@pytest.fixture(scope="module")
def two_workers():
    """Two worker processes of a thread each, which come back when they are killed; Dask gives up on all that was with one."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.comm.timeouts.connect": "5s"}),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as started,
    ):
        yield started


@pytest.fixture
def cluster(two_workers):
    """Their scheduler's address; both are there."""
    two_workers.wait_for_workers(2, timeout=60)
    return two_workers.scheduler_address


def test_each_process_of_a_cluster_has_its_share_of_the_sources_rate(task, cluster):
    assert {result.bytes for result in run_shards(made, tasks(task, 9), scheduler=cluster)} == {2}


def test_a_shard_whose_worker_is_killed_is_made_by_another(task, cluster):
    def work(one):
        first = one.folder / f"killed-{one.shard}"
        if one.shard == 3 and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return made(one)

    assert run(work, tasks(task, 8), scheduler=cluster) == (list(range(8)), None)
    assert (task.folder / "killed-3").exists()


def test_a_shard_that_kills_its_workers_is_given_up_and_the_others_are_made(task, cluster):
    def work(one):
        if one.shard == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return made(one)

    done, exc = run(work, tasks(task, 8), scheduler=cluster)
    assert done == [0, 1, 2, 4, 5, 6, 7]  # though some were with workers that died
    assert type(exc) is CubeError
    assert str(exc).startswith("shard 3: workers died whenever it was made, the last at tcp://")


def test_a_bug_on_a_worker_is_told_with_its_shard(task, cluster):
    def work(one):
        return made(one) if one.shard != 3 else [][one.shard]

    done, exc = run(work, tasks(task, 8), scheduler=cluster)
    assert done == [0, 1, 2, 4, 5, 6, 7]
    assert isinstance(exc, IndexError)
    assert exc.__notes__[0].startswith("shard 3 failed of this; ")


def test_workers_that_do_not_see_the_folder_are_told(task, cluster):
    done, exc = run(made, tasks(replace(task, folder=task.folder / "elsewhere"), 20), scheduler=cluster)
    assert (done, type(exc)) == ([], CubeError)
    assert "does not see" in str(exc)


def test_what_is_dropped_on_a_cluster_is_not_written(task, cluster):
    def work(one):
        (one.folder / "reading").touch()
        while not (one.folder / "go-on").exists():
            time.sleep(0.01)
        try:
            with replacing(one.folder / "shard") as temporary:
                temporary.write_text("pixels")
        finally:
            (one.folder / "ended").touch()
        return made(one)

    results = run_shards(lambda one: made(one) if one.shard < 2 else work(one), tasks(task, 3), scheduler=cluster)
    next(results)
    wait_for(task.folder / "reading")
    results.close()
    time.sleep(0.5)  # the scheduler's word that it is dropped reaches the worker
    (task.folder / "go-on").touch()
    wait_for(task.folder / "ended")
    assert not (task.folder / "shard").exists()


def wait_for(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} does not appear"
        time.sleep(0.01)


OWN_CLUSTER = """
import time
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0", protocol="tcp") as cluster:
        print(cluster.scheduler_address, flush=True)
        time.sleep(600)
"""


def test_a_scheduler_that_is_killed_is_one_line(task):
    with subprocess.Popen([sys.executable, "-c", OWN_CLUSTER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            results = run_shards(made, tasks(task, 1000), scheduler=address)
            assert len(list(islice(results, 5))) == 5
            process.kill()
            with pytest.raises(SourceError, match=rf"the Dask scheduler at {address} is gone; what is done stays"):
                list(results)
        finally:
            process.kill()


def test_workers_that_are_still_starting_are_waited_for(task):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=0, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp"
    ) as late:
        joining = Timer(0.5, late.scale, (1,))
        joining.start()
        assert run(made, tasks(task, 3), scheduler=late.scheduler_address) == ([0, 1, 2], None)
        joining.join()


def test_a_cluster_without_workers_is_told(task, monkeypatch):
    monkeypatch.setattr(execution, "SCHEDULER_TIMEOUT_S", 0.5)
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0", protocol="tcp") as empty,
        pytest.raises(SourceError, match=r"has no workers; start some with `dask worker tcp://"),
    ):
        list(run_shards(made, tasks(task, 1), scheduler=empty.scheduler_address))
