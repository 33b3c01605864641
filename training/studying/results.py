"""The tables of a study: results, datasets, costs. Each appears whole; results are the same bytes however they came about."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pwcat.atomic import replacing
from training.studying.describing import MEASURES
from training.studying.document import StudyDocument
from training.studying.job import DatasetWork, EmbedWork, EvaluateWork, Job
from training.studying.records import Done, Records
from training.studying.shelf import OpenedStudy

__all__ = ["COLUMNS", "COSTS", "DATASETS", "LADDER", "RESULTS", "RUNGS", "read_rows", "write_results", "write_table"]

RESULTS, DATASETS, COSTS, RUNGS, LADDER = "results.csv", "datasets.csv", "costs.csv", "rungs", "ladder.csv"
EMBEDDINGS = "embeddings.csv"
# fmt: off
COLUMNS = (
    "dataset", "model", "run", "pretrain_seed", "weights_hash", "data_hash", "task", "task_group", "task_hash", "kind", "probe",
    "n_train", "size", "seed", "group", "metric", "primary", "value", "ci_low", "ci_high", "num_test", "drawn",
)
# fmt: on
COST_COLUMNS = ("job", "kind", "dataset", "model", "task", "seconds", "gpu_hours", "bytes", "device")
EMBEDDING_COLUMNS = (
    "dataset", "model", "pretrain_seed", "rung", "task", "numbers", "samples",
    "effective_rank", "effective_rank_centred", "most",
)  # fmt: skip
DECIMALS = 6  # of figures: sums in another order differ farther behind


def write_results(folder: Path, study: OpenedStudy, jobs: Sequence[Job], records: Records) -> None:
    """Write ``results.csv``, ``rungs/*.csv``, ``datasets.csv``, ``embeddings.csv`` and ``costs.csv`` from what is done by now.

    Rows are in the order of the study's document. Another process may do the same at once: whoever comes last looks again
    whether more was done meanwhile, so that the last file has everything.
    """
    while True:
        done = {job.name: found for job in jobs if (found := records.done(job))}
        for rung in ("", *(each.name for each in study.document.rungs)):
            rows = (row for job in jobs if job.rung == rung and job.name in done for row in _rows(job, done, records))
            path = folder / RUNGS / f"{rung}.csv" if rung else folder / RESULTS
            write_table(path, COLUMNS, rows)
        write_table(folder / DATASETS, *_datasets(study.document, jobs, done))
        write_table(folder / EMBEDDINGS, EMBEDDING_COLUMNS, _embeddings(jobs, done))
        write_table(folder / COSTS, COST_COLUMNS, (_cost(job, done[job.name]) for job in jobs if job.name in done))
        if len(done) == sum(records.done(job) is not None for job in jobs):
            return


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none where it is not there yet."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _rows(job: Job, done: Mapping[str, Done], records: Records) -> Iterable[dict[str, Any]]:
    """The rows of a job, with what its scores do not know: what they are of."""
    if not isinstance(job.work, EvaluateWork):
        return
    run = job.work.model.run
    facts = done[run].facts if run in done else {}
    known = {
        "dataset": job.dataset,
        "model": job.model,
        "run": Path(facts["run"]).name if facts else "",
        "pretrain_seed": job.seed,
        "data_hash": facts.get("data_hash", ""),
        "task": job.task,
        "task_group": job.group,
    }
    for row in records.rows(job):
        yield {**row, **known}


def _cost(job: Job, done: Done) -> dict[str, Any]:
    kind = "dataset" if job.kind == "archive" else job.kind
    return {
        "job": job.name,
        "kind": kind,
        "dataset": job.dataset,
        "model": job.model,
        "task": job.task,
        "seconds": done.seconds,
        "gpu_hours": done.gpu_hours,
        "bytes": done.bytes,
        "device": done.device,
    }


def _embeddings(jobs: Sequence[Job], done: Mapping[str, Done]) -> Iterable[dict[str, Any]]:
    """How the embeddings of each model fill their space, a row a task."""
    for job in jobs:
        if isinstance(job.work, EmbedWork) and job.name in done and "spread" in (facts := done[job.name].facts):
            yield {
                "dataset": job.dataset,
                "model": job.model,
                "pretrain_seed": job.seed,
                "rung": job.rung,
                "task": job.task,
                "numbers": facts["dim"],
                **facts["spread"],
            }


def _datasets(
    document: StudyDocument, jobs: Sequence[Job], done: Mapping[str, Done]
) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """One row a dataset that is pretrained on: of its first view, where it has several."""
    bounds = [f"{measure}{end}" for measure in MEASURES for end in ("", "_low", "_high")]
    columns = ("dataset", "title", "num_samples", "hash", *bounds, "cloud", "valid", "bytes", "path")
    rows = []
    for entry in document.datasets:
        of_it = (j for j in jobs if isinstance(j.work, DatasetWork) and j.dataset == entry.name and j.name in done)
        if job := next(of_it, None):
            rows.append({"dataset": entry.name, **_described(job, done[job.name])})
    return columns, rows


def _described(job: Job, done: Done) -> dict[str, Any]:
    assert isinstance(job.work, DatasetWork)
    title = job.work.entry.title or (job.work.recipe or {}).get("title", "")
    known = {name: done.facts[name] for name in ("num_samples", "hash", "path")}
    return {"title": title, "bytes": done.bytes, **known, **done.facts["described"]}


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table where it is not there, with these very bytes, already."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    content = text.getvalue().encode()
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(content)


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(round(value, DECIMALS)) if isinstance(value, float) else value
