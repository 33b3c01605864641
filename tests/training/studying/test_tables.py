"""Estimates, the ladder and the command line of studies."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from pwcat.errors import TrainingError
from training.commands.study import _print_event
from training.commands.study import study as command
from training.reporting import write_report
from training.study import Estimator, Event, load_study, plan_jobs, schedule_seconds
from training.studying.document import Archive
from training.studying.estimates import Estimate
from training.studying.job import ArchiveWork, Job
from training.studying.ladder import climb
from training.studying.records import Done, Records
from training.studying.results import COLUMNS, write_table
from training.studying.showing import duration, size
from training.studying.status import states_of


def job(name: str, *needs: str) -> Job:
    return Job(kind="archive", name=name, key="0", work=ArchiveWork(options=Archive()), needs=needs)


def left(name: str, seconds: float, *needs: str) -> Estimate:
    return Estimate(job=job(name, *needs), seconds=seconds, gpu_hours=0, bytes=0, how="guess")


def test_time_left_by_one_or_several() -> None:
    jobs = [left("a", 4), left("b", 3), left("c", 2, "a"), left("d", 1, "a", "b")]
    assert schedule_seconds(jobs, workers=1) == 10
    assert schedule_seconds(jobs, workers=2) == 6  # b ends at 3, a at 4; c from 4 to 6, d from 4 to 5
    assert schedule_seconds(jobs, workers=9) == 6  # the longest chain
    assert schedule_seconds([], workers=3) == 0


def test_times_of_jobs_that_are_done_are_those_of_the_others(write_study, tmp_path: Path) -> None:
    jobs = plan_jobs(load_study(write_study()))
    records = Records(folder=tmp_path / "out")
    first, second = [each for each in jobs if each.kind == "pretrain"]
    before = {e.job.name: e for e in estimator(jobs, tmp_path).estimate(states_of(jobs, records))}
    assert before[first.name].how == "arithmetic"
    records.write_done(first, Done(job=first.name, key=first.key, seconds=480.0, units=48 * 2, bytes=7))
    after = {e.job.name: e for e in estimator(jobs, tmp_path).estimate(states_of(jobs, records))}
    assert (after[first.name].how, after[first.name].seconds, after[first.name].bytes) == ("done", 0, 7)
    assert (after[second.name].how, after[second.name].seconds) == ("measured", pytest.approx(5.0 * 16 * 2))


def test_another_machines_rate_is_by_arithmetic(write_study, tmp_path: Path) -> None:
    jobs = plan_jobs(load_study(write_study()))
    states = states_of(jobs, Records(folder=tmp_path / "out"))
    slow, fast = (estimator(jobs, tmp_path, flops=flops).estimate(states) for flops in (1e12, 4e12))
    for one, other in zip(slow, fast, strict=True):
        if one.job.kind == "pretrain":
            assert one.seconds == pytest.approx(4 * other.seconds)
            assert one.gpu_hours == pytest.approx(one.seconds / 3600)


def estimator(jobs: list[Job], folder: Path, *, flops: float | None = None) -> Estimator:
    return Estimator(folder=folder, jobs={each.name: each for each in jobs}, flops=flops)


NAMES = ["a", "b", "c", "d", "e", "f"]


def write_scores(path: Path, values: list[float], *, task: str = "t") -> None:
    blank = dict.fromkeys(COLUMNS, "")
    rows = [
        {
            **blank,
            "dataset": name,
            "model": "m",
            "task": task,
            "probe": "knn-5",
            "group": group,
            "primary": primary,
            "value": v,
        }
        for name, value in zip([*NAMES, "none"], [*values, 9.0], strict=True)
        for group, primary, v in (("all", True, value), ("continent=Asia", True, -value), ("all", False, -value))
    ]
    write_table(path, COLUMNS, rows)


def test_a_rung_that_keeps_the_order_has_rho_1_and_one_that_turns_it_has_minus_1(tmp_path: Path) -> None:
    values = np.random.default_rng(0).permutation(6) / 10
    write_scores(tmp_path / "results.csv", values.tolist())
    write_scores(tmp_path / "rungs" / "same.csv", (values**3).tolist())
    write_scores(tmp_path / "rungs" / "turned.csv", (-values).tolist())
    same, turned = climb(tmp_path, ["same", "turned"])
    assert (same.rho, same.same_best, same.n) == (pytest.approx(1), True, 6)  # random weights are no dataset
    assert (turned.rho, turned.same_best) == (pytest.approx(-1), False)
    assert same.p == pytest.approx(2 / 720)  # of the 6! orders, one as good and one as bad


def test_a_process_whose_listener_was_killed_gives_its_job_back(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        with pytest.raises(KeyboardInterrupt):
            _print_event(Event(what="started", job=job("a")))


def write_groups(path: Path, scores: dict[str, list[float]]) -> None:
    """Scores of six datasets by task; the group of a task is what stands before its slash, its metric what follows."""
    blank = dict.fromkeys(COLUMNS, "") | {"model": "m", "probe": "knn-5", "group": "all", "primary": True}
    rows = []
    for task, values in scores.items():
        group, _, metric = task.partition("/")
        known = {"task": task, "task_group": group, "metric": metric.rstrip("123")}
        rows += [blank | known | {"dataset": n, "value": v} for n, v in zip(NAMES, values, strict=True)]
    write_table(path, COLUMNS, rows)


def test_groups_of_tasks_weigh_the_same_on_the_ladder_in_the_report_and_in_correlations(tmp_path: Path) -> None:
    """Six tasks of one benchmark, as noisy as they are, weigh as much as one of another."""
    rng = np.random.default_rng(1)
    whole, small = (
        {"FMoW/accuracy": rng.random(6), **{f"GEO/accuracy{i}": rng.random(6) for i in (1, 2, 3)}} for _ in range(2)
    )
    write_groups(tmp_path / "results.csv", {k: v.tolist() for k, v in whole.items()})
    write_groups(tmp_path / "rungs" / "short.csv", {k: v.tolist() for k, v in small.items()})
    step = climb(tmp_path, ["short"])[-1]
    means = [
        (of["FMoW/accuracy"] + np.mean([of[f"GEO/accuracy{i}"] for i in (1, 2, 3)], axis=0)) / 2
        for of in (whole, small)
    ]
    assert (step.task, step.rho) == ("mean score", pytest.approx(stats.spearmanr(*means).statistic))
    assert step.rho != pytest.approx(
        stats.spearmanr(*(np.mean(list(of.values()), axis=0) for of in (whole, small))).statistic
    )
    write_report(tmp_path)
    told = pd.read_csv(tmp_path / "report" / "tables" / "ladder.csv").iloc[0]
    assert [told[name] for name in ("rho", "ci_low", "ci_high", "p")] == pytest.approx(
        [step.rho, step.ci_low, step.ci_high, step.p]
    )


def test_of_errors_the_least_is_the_best_and_none_is_in_the_mean(tmp_path: Path) -> None:
    write_groups(tmp_path / "results.csv", {"a/rmse": [1, 2, 3, 4, 5, 6], "b/r2": [6, 5, 4, 3, 2, 1]})
    write_groups(tmp_path / "rungs" / "short.csv", {"a/rmse": [1, 2, 3, 4, 6, 5], "b/r2": [6, 5, 4, 3, 1, 2]})
    errors, scores, mean = climb(tmp_path, ["short"])
    assert errors.same_best
    assert (mean.rho, mean.p) == (scores.rho, scores.p)


def test_a_rung_of_some_tasks_is_compared_by_these(tmp_path: Path) -> None:
    write_groups(tmp_path / "results.csv", {"a/accuracy": [1, 2, 3, 4, 5, 6], "b/accuracy": [60, 50, 40, 30, 20, 10]})
    write_groups(tmp_path / "rungs" / "short.csv", {"a/accuracy": [1, 2, 3, 4, 5, 6]})
    assert [(step.task, step.rho) for step in climb(tmp_path, ["short"])] == [("a/accuracy", pytest.approx(1))]


def test_a_rung_of_equal_scores_has_no_order(tmp_path: Path) -> None:
    write_scores(tmp_path / "results.csv", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    write_scores(tmp_path / "rungs" / "flat.csv", [0.5] * 6)
    (step,) = climb(tmp_path, ["flat"])
    assert (step.rho, step.p) == (None, None)


def test_a_ladder_needs_rungs_and_scores(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the study has no rungs"):
        climb(tmp_path, [])
    with pytest.raises(TrainingError, match="no task was scored both by a rung and by the study yet"):
        climb(tmp_path, ["short"])


def test_times_and_sizes_for_people() -> None:
    assert [duration(each) for each in (3, 120, 9000, 400_000)] == ["3 s", "2 min", "2.5 h", "4.6 d"]
    assert [size(each) for each in (0, 12, 3400, 129e9)] == ["", "12 B", "3.4 kB", "129 GB"]


def test_the_command_runs_tells_and_fails_by_its_exit_code(write_study, tmp_path: Path, small_document) -> None:
    datasets = [*small_document()["datasets"][:1], {"name": "gone", "data": str(tmp_path / "nowhere")}]
    path = write_study(datasets=datasets, probes=["knn"], control=False)
    out = str(tmp_path / "out")

    def call(*arguments: str):
        return CliRunner().invoke(command, arguments, catch_exceptions=False)

    plan = json.loads(call("run", str(path), "-o", out, "--dry-run", "--json").stdout)
    assert len(plan["jobs"]) == 9
    assert not Path(out).exists()
    ended = call("run", str(path), "-o", out, "--json", "--devices", "cpu")
    assert ended.exit_code == 1
    told = json.loads(ended.stdout)
    assert (told["done"], [each["job"] for each in told["failed"]]) == (5, ["dataset/gone"])
    status = json.loads(call("status", out, "--json").stdout)
    assert [each["state"] for each in status["jobs"]].count("blocked") == 3
    table = call("status", out).stdout
    assert "failed" in table
    assert "3 more jobs need what failed" in table
    assert call("report", out).exit_code == 0
    missing = pd.read_csv(tmp_path / "out" / "report" / "tables" / "missing.csv")
    assert missing[["dataset", "probe"]].to_numpy().tolist() == [["gone", "knn-5"], ["gone", "knn-20"]]
    assert missing["why"].str.contains(r"^needs dataset/gone, which failed: .*nowhere").all()
    assert "say in which folder" in call("run", str(path)).output
