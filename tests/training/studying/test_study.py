"""Studies end the same however they came about: in one go, killed twenty times, by two processes at once."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from pwcat.errors import TrainingError
from training.study import Event, begin_study, plan_jobs, run_study, status_of, study_in
from training.studying.leases import holder_in

KILLS = 20
# What a process does to its folder: whatever it was about to do when it is killed is not done.
TOUCHES = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.utime"}


def work(study: str, folder: str, die_at: int | None, log: str) -> None:
    """Run a study in a process of its own; die by SIGKILL at so-manieth touch of its folder."""
    seen = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in TOUCHES and arguments and folder in str(arguments[0]):
            seen += 1
            if seen == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    with Path(log).open("a") as told:
        run_study(study, folder, tell=lambda event: print(event.what, event.job.name, file=told, flush=True))
    Path(log).with_suffix(".touches").write_text(str(seen))


@pytest.fixture(scope="module")
def processes():
    """Processes that have imported everything, and are apart from this one, in which torch has threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.study", "training.evaluate", "catalog.store"])
    return context


@pytest.fixture(scope="module")
def unbroken(processes, tmp_path_factory: pytest.TempPathFactory, small_document):
    """A study run in one go: its file, its folder, and how often it touched it."""
    place = tmp_path_factory.mktemp("unbroken")
    path, folder, log = place / "study.yaml", place / "out", place / "log"
    path.write_text(yaml.safe_dump(small_document()))
    process = processes.Process(target=work, args=(str(path), str(folder), None, str(log)))
    process.start()
    process.join()
    assert process.exitcode == 0
    return path, folder, int(log.with_suffix(".touches").read_text())


def rows_of(folder: Path, name: str = "results.csv") -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_killed_twenty_times_ends_in_the_same_bytes(processes, unbroken, tmp_path: Path) -> None:
    path, whole, touches = unbroken
    rng, folder, log = np.random.default_rng(0), tmp_path / "out", tmp_path / "log"
    for _ in range(KILLS):
        die_at = int(rng.integers(1, touches // KILLS))  # so that not even all of them together come to the end
        process = processes.Process(target=work, args=(str(path), str(folder), die_at, str(log)))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    last = processes.Process(target=work, args=(str(path), str(folder), None, str(log)))
    last.start()
    last.join()
    assert last.exitcode == 0
    for name in ("results.csv", "datasets.csv", "embeddings.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    started = [line for line in log.read_text().splitlines() if line.startswith("started")]
    assert len(started) > len(set(started)), "no job was interrupted"


def test_two_processes_share_the_jobs_and_end_in_the_same_bytes(processes, unbroken, tmp_path: Path) -> None:
    path, whole, _ = unbroken
    folder = tmp_path / "out"
    logs = [tmp_path / "one", tmp_path / "two"]
    both = [processes.Process(target=work, args=(str(path), str(folder), None, str(log))) for log in logs]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert (folder / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    told = "".join(log.read_text() for log in logs).splitlines()
    started = sorted(line.removeprefix("started ") for line in told if line.startswith("started"))
    assert started == sorted(job.name for job in plan_jobs(study_in(folder))), "a job was done twice, or by nobody"


def test_a_worker_that_dies_takes_no_other_with_it(unbroken, tmp_path: Path) -> None:
    path, whole, _ = unbroken
    folder, killed = tmp_path / "out", list[str]()

    def kill_one(event: Event) -> None:
        holder = holder_in(folder / "jobs" / event.job.slug)
        if event.what == "started" and event.job.kind in {"embed", "evaluate"} and holder and not killed:
            killed.append(event.job.name)
            os.kill(holder.pid, signal.SIGKILL)

    states = run_study(path, folder, workers=2, tell=kill_one)
    assert killed
    failed = {each.job.name: each.why for each in states if each.state == "failed"}
    assert failed.keys() <= set(killed)  # it may have been done the moment before
    assert all("its process ended by signal SIGKILL" in why for why in failed.values())
    assert {each.state for each in states} <= {"done", "failed", "blocked"}
    assert {each.state for each in run_study(None, folder, workers=2)} == {"done"}
    assert (folder / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()


def test_rows_say_what_they_are_of(unbroken) -> None:
    _, folder, _ = unbroken
    rows = rows_of(folder)
    assert list(dict.fromkeys(row["dataset"] for row in rows)) == ["here", "built", "none"]
    assert {row["probe"] for row in rows} == {"knn-5", "knn-20", "logistic"}  # ridge is for numbers
    for row in rows:
        assert (row["data_hash"] == "") == (row["dataset"] == "none")
        assert len(row["weights_hash"]) == len(row["task_hash"]) == 64
    primary = [row for row in rows if row["primary"] == "true" and row["group"] == "all"]
    assert len(primary) == 3 * 3 * 2  # datasets, probes, draws
    datasets = rows_of(folder, "datasets.csv")
    assert [row["dataset"] for row in datasets] == ["here", "built"]
    assert (
        float(datasets[0]["continent_low"]) <= float(datasets[0]["continent"]) <= float(datasets[0]["continent_high"])
    )
    embedded = rows_of(folder, "embeddings.csv")
    assert [row["dataset"] for row in embedded] == ["here", "built", "none"]
    assert all(1 <= float(row["effective_rank"]) <= float(row["most"]) for row in embedded)
    assert {row["job"] for row in rows_of(folder, "costs.csv")} == {job.name for job in plan_jobs(study_in(folder))}


def test_nothing_is_done_twice(unbroken, tmp_path: Path) -> None:
    path, folder, _ = unbroken
    told: list[str] = []
    states = run_study(path, folder, tell=lambda event: told.append(event.what))
    assert told == []
    assert {each.state for each in states} == {"done"}


def test_seeds_vary_what_they_should_and_nothing_else(write_study, tmp_path: Path, small_document) -> None:
    few = {"datasets": small_document()["datasets"][:1], "probes": ["knn"]}
    model = small_document()["models"][0]
    out = tmp_path / "out"
    run_study(write_study(**few, models=[{**model, "seeds": [0, 1]}]), out)
    by_seed = {seed: [row for row in rows_of(out) if row["pretrain_seed"] == seed] for seed in "01"}
    known = ("dataset", "task_hash", "seed", "group", "metric", "n_train", "num_test", "data_hash")
    assert [[row[name] for name in known] for row in by_seed["0"]] == [
        [r[name] for name in known] for r in by_seed["1"]
    ]
    for dataset in ("here", "none"):
        hashes = [{row["weights_hash"] for row in rows if row["dataset"] == dataset} for rows in by_seed.values()]
        assert [len(each) for each in hashes] == [1, 1]
        assert hashes[0] != hashes[1]
    one = tmp_path / "one"
    run_study(write_study("one.yaml", **few), one)  # without the second seed, the first gives what it gave beside it
    assert [{**row, "run": ""} for row in rows_of(one)] == [{**row, "run": ""} for row in by_seed["0"]]


def test_a_changed_study_does_anew_what_hangs_on_the_change_alone(write_study, tmp_path: Path, small_document) -> None:
    few = {"datasets": small_document()["datasets"][:1], "probes": ["knn"], "control": False}
    out, told = tmp_path / "out", list[str]()
    run_study(write_study(**few), out)

    def names(**changes: object) -> list[str]:
        told.clear()
        path = write_study(**{**few, **changes})
        run_study(path, out, tell=lambda event: told.append(event.job.name) if event.what == "started" else None)
        return list(told)

    assert names(probes=["knn", "logistic"]) == ["evaluate/tiny/here/s0/landcover/logistic/blocks"]
    task = {"task": "landcover", "data": "labelled", "min_samples": 5, "group": "Land", "name": "cover"}
    assert names(tasks=[task]) == ["embed/tiny/here/s0/cover", "evaluate/tiny/here/s0/cover/knn/blocks"]
    renamed = names(title="Another title", notes=["Nothing else."])
    assert renamed == []
    model = small_document()["models"][0]
    longer = {**model, "set": {**model["set"], "epochs": 3}}
    assert [name.split("/")[0] for name in names(models=[longer])] == ["pretrain", "embed", "evaluate"]
    assert names() == []  # back to the first: all of it is there still


def test_what_fails_says_why_and_stops_only_what_needs_it(
    write_study, tmp_path: Path, small_document, tiny_catalog
) -> None:
    datasets = [*small_document()["datasets"][:1], {"name": "gone", "data": str(tmp_path / "later")}]
    out = tmp_path / "out"
    path = write_study(datasets=datasets, probes=["knn"], control=False)
    states = {each.job.name: each for each in run_study(path, out)}
    assert states["dataset/gone"].state == "failed"
    assert str(tmp_path / "later") in states["dataset/gone"].why
    blocked = [name for name, each in states.items() if each.state == "blocked"]
    assert blocked == [name for name in states if "/gone/" in name]
    assert all(each.state == "done" for name, each in states.items() if "gone" not in name)
    assert {row["dataset"] for row in rows_of(out)} == {"here"}
    (tmp_path / "later").symlink_to(tiny_catalog / "everywhere")
    assert {each.state for each in run_study(None, out)} == {"done"}


def test_a_job_whose_process_died_is_taken_over(processes, unbroken, tmp_path: Path) -> None:
    path, _, touches = unbroken
    folder = tmp_path / "out"
    process = processes.Process(target=work, args=(str(path), str(folder), touches // 3, str(tmp_path / "log")))
    process.start()
    process.join()
    leases = list((folder / "jobs").glob("*/lease.*"))
    assert [json.loads(lease.read_text())["pid"] for lease in leases] == [process.pid]
    assert all(each.state != "running" for each in status_of(folder))
    assert {each.state for each in run_study(None, folder)} == {"done"}
    assert not list((folder / "jobs").glob("*/lease.*"))


def test_time_that_is_up_leaves_the_rest_for_the_next(write_study, tmp_path: Path, small_document) -> None:
    path = write_study(datasets=small_document()["datasets"][:1], probes=["knn"], control=False)
    states = run_study(path, tmp_path / "out", max_minutes=1e-9)
    assert {each.state for each in states} == {"missing"}
    assert {each.state for each in run_study(None, tmp_path / "out")} == {"done"}


def test_a_folder_of_something_else_is_left_alone(write_study, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all my work")
    with pytest.raises(TrainingError, match="holds other files and no study"):
        run_study(write_study(), tmp_path / "mine")


def test_what_another_process_was_about_to_write_is_no_other_file(write_study, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".study.yaml.elsewhere-1.0123abcd.part").write_text("hash: ")
    opened, changed = begin_study(write_study(), tmp_path / "out")
    assert opened.document.name
    assert not changed
