"""What a study should have scored and has not: jobs that failed or have not run, as far as its document and scores tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from training.reporting.blocks import Cell, Row, Section, Sheet, Words
from training.reporting.digits import amount
from training.reporting.records import CONTROL, Records
from training.studying.job import EvaluateWork

__all__ = ["Completeness", "completeness_of", "missing_section"]

Key = tuple[str, str, int, str, str]  # dataset, model, pretraining seed, task, probe


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """Evaluations: what a dataset's model scored on a task with a probe, in all its draws.

    Attributes:
        expected: how many there should be.
        missing: those without any score.
        short: those that lack draws which the same task and probe have of another dataset, with how many of how many.
    """

    expected: int
    missing: tuple[Key, ...]
    short: tuple[tuple[Key, int, int], ...]

    @property
    def sentence(self) -> str:
        """What to say on top; empty where nothing is missing."""
        parts = []
        if self.missing:
            parts.append(
                f"{amount(len(self.missing))} of {amount(self.expected)} evaluations have no scores: their jobs failed "
                "or have not run, see below"
            )
        if self.short:
            parts.append(f"{amount(len(self.short))} lack draws that others have")
        return f"{'; '.join(parts)}. What is missing is left empty below, and its rows are not ranked." if parts else ""


def completeness_of(records: Records) -> Completeness:
    """Evaluations that the document asks for, or, where it does not tell, that other datasets have."""
    rows = records.results[records.results["primary"] & (records.results["rung"] == "")]
    columns = ["dataset", "model", "pretrain_seed", "task", "probe"]
    found = {_key(values) for values in rows[columns].drop_duplicates().itertuples(index=False)}
    expected = dict.fromkeys([*_expected(records, rows), *sorted(found)])
    draws = rows.drop_duplicates([*columns, "size", "seed", "drawn"]).groupby(columns, observed=True).size()
    most = draws.groupby(level=["model", "task", "probe"], observed=True).transform("max")
    short = [(_key(key), int(draws[key]), int(most[key])) for key in draws.index[draws < most]]
    return Completeness(
        expected=len(expected), missing=tuple(key for key in expected if key not in found), short=tuple(short)
    )


def missing_section(held: Completeness, records: Records) -> Section | None:
    """A table of what is missing; ``None`` where nothing is."""
    if not held.missing and not held.short:
        return None
    reasons = _reasons(records)
    heads = ("Pretrained on", "Model", "Pretraining seed", "Task", "Probe", "Draws", *(["Why"] if reasons else []))
    entries = [(key, "none", _why(key, reasons)) for key in held.missing]
    entries += [(key, f"{n} of {of}", _why(key, reasons)) for key, n, of in held.short]
    rows = [
        Row(
            cells=tuple(
                Cell(text=str(text))
                for text in (records.titles.get(key[0], key[0]), *key[1:], told, *([why] if reasons else []))
            ),
            dataset=key[0],
        )
        for key, told, why in entries[:MOST]
    ]
    frame = pd.DataFrame(
        [(*key, told, why) for key, told, why in entries],
        columns=["dataset", "model", "pretrain_seed", "task", "probe", "draws", "why"],
    )
    frame = frame if reasons else frame.drop(columns="why")
    more = f" The first {MOST} of {amount(len(entries))}; all are in tables/missing.csv." if len(entries) > MOST else ""
    return Section(
        key="missing",
        title="What is missing",
        blocks=[
            Words(f"{'' if reasons else '`pwcat study status` says why. '}`pwcat study run` makes up for it.{more}"),
            Sheet(name="missing", title="Evaluations without scores, or with too few draws", heads=heads, rows=tuple(rows),
                  frame=frame, words=(0, 1, 3, 4, 6)),
        ],
    )  # fmt: skip


MOST = 60  # rows shown


def _reasons(records: Records) -> dict[Key, str]:
    """Why jobs of scores are not done; probes as the study calls them."""
    failures = {status.job.name: status.why for status in records.jobs if status.state == "failed"}
    found: dict[Key, str] = {}
    for status in records.jobs:
        job, work = status.job, status.job.work
        if isinstance(work, EvaluateWork) and not job.rung and status.state != "done":
            key = (job.dataset, job.model, job.seed or 0, job.task, work.probe.probe)
            told = f"needs {status.why}, which failed: {failures.get(status.why, '')}"
            found[key] = {"failed": status.why, "blocked": told, "running": "under way"}.get(
                status.state, "not run yet"
            )
    return found


def _why(key: Key, reasons: Mapping[Key, str]) -> str:
    return reasons.get(key) or reasons.get((*key[:4], key[4].partition("-")[0]), "")


def _asks(entry: Mapping[str, Any], probe: str) -> bool:
    """Whether a model is scored by a probe; what follows "-" may be the member of a family, or its own name."""
    return not entry.get("probes") or bool({probe, probe.partition("-")[0]} & set(entry["probes"]))


def _key(values: Any) -> Key:
    dataset, model, seed, task, probe = values
    return str(dataset), str(model), int(seed), str(task), str(probe)


def _expected(records: Records, rows: pd.DataFrame) -> Iterator[Key]:
    """Every dataset with every model, seed, task and probe; probes of a task are those that any dataset has scores of."""
    document = records.document
    models, tasks = _named(document, "models"), _tasks(document)
    datasets = [str(entry["name"]) for entry in _named(document, "datasets").values()] or [
        n for n in records.names if n != CONTROL
    ]
    control = document.get("control", CONTROL in records.names)
    names = [*datasets, *([CONTROL] if control else [])]
    probes = rows.groupby("task", observed=True)["probe"].unique().to_dict()
    planned = [p if isinstance(p, str) else str(p.get("probe", "")) for p in document.get("probes") or ()]
    for model in models or rows["model"].unique():
        entry = models.get(model, {})
        trained = [str(entry["dataset"])] if entry.get("weights") and entry.get("dataset") else names
        trained = [CONTROL] if model in records.untrained else trained
        seeds = entry.get("seeds") or sorted(rows.loc[rows["model"] == model, "pretrain_seed"].unique()) or [0]
        for task in tasks or rows["task"].unique():
            if model not in (tasks.get(task, {}).get("models") or [model]):
                continue
            own = list(probes.get(task, ())) or tasks.get(task, {}).get("probes") or planned
            own = [probe for probe in own if _asks(entry, str(probe))]
            for dataset, seed, probe in product(trained, seeds, own):
                # random weights are drawn once or several times, and the probes of a family are told apart by what follows "-"
                if dataset != CONTROL or seed == min(seeds):
                    yield str(dataset), str(model), int(seed), str(task), str(probe)


def _named(document: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Any]]:
    held = document.get(key) or ()
    return {str(entry["name"]): entry for entry in held if isinstance(entry, Mapping) and "name" in entry}


def _tasks(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = {}
    for entry in document.get("tasks") or ():
        if isinstance(entry, Mapping) and "task" in entry:
            name = entry.get("name") or str(entry["task"]).replace(":", "-").replace("/", "-")
            found[str(name)] = entry
    return found
