"""Scores as a card tells them: tables by region, and the results that the Hub indexes. All of it is from ``scores.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from huggingface_hub import EvalResult

from training.evaluate import Scores, Summary
from training.probing.kinds import Kind
from training.scores import LEVEL, METRIC_WORDS, Measure

__all__ = ["RegionRow", "RegionTable", "eval_results", "merged", "regions_of"]

# What the Hub calls tasks (hub-docs, model cards); it has no name for numbers of places.
TASK_TYPES: Mapping[Kind, str] = {
    "classification": "image-classification",
    "multilabel": "image-classification",
    "segmentation": "image-segmentation",
    "regression": "other",
}
GROUPINGS = {"continent": "continent", "biome": "biome", "landcover": "land cover"}
DECIMALS = 6


@dataclass(frozen=True, kw_only=True)
class RegionRow:
    """What each probe scored in one region; ``None`` where it has no score there.

    Attributes:
        name: of the region.
        num_test: test samples in it, mean over the draws.
        measures: of each probe of the table.
    """

    name: str
    num_test: float
    measures: tuple[Measure | None, ...]


@dataclass(frozen=True, kw_only=True)
class RegionTable:
    """A task's own metric by region.

    Attributes:
        label: of the regions, such as "continent".
        folded: whether a card shows it only when asked: all but continents.
        probes: names, in the order of the columns.
        rows: the regions, by name.
    """

    label: str
    folded: bool
    probes: tuple[str, ...]
    rows: tuple[RegionRow, ...]


def regions_of(scores: Scores) -> list[RegionTable]:
    """Tables of a task's own metric, one for each way in which test samples are grouped: continents, biomes, land cover.

    Of few-shot draws these are the largest; scores drawn within a region are headlines of their own, and not repeated. What
    a task asks for is no grouping of it: of one biome, there is only one answer.
    """
    found = {result.probe: _by_group(scores, result.probe) for result in scores.results}
    tables = (_table(found, grouping) for grouping in GROUPINGS if grouping != scores.task)
    return [table for table in tables if table.rows]


def eval_results(scores: Sequence[Scores]) -> list[EvalResult]:
    """The headlines of all tasks as the Hub indexes them: a task's own metric with probe, 95 % interval and test samples.

    Scores of random weights are no results of the model, and are left out; so are figures that have no value.
    """
    return [result for task in scores if not task.control for result in _results(task)]


def merged(scores: Sequence[Scores]) -> list[Scores]:
    """Scores of the same samples and draws by several probes as one each, in the order in which they came.

    A study scores probe by probe; a card has a table a task.
    """
    together: dict[str, Scores] = {}
    for each in scores:
        told = asdict(replace(each, results=[], spread={}))
        key = json.dumps(told, sort_keys=True)
        if (before := together.get(key)) is None:
            together[key] = each
        else:
            known = {result.probe for result in before.results}
            more = [result for result in each.results if result.probe not in known]
            together[key] = replace(before, results=[*before.results, *more], spread=before.spread or each.spread)
    return list(together.values())


def _by_group(scores: Scores, probe: str) -> dict[str, Summary]:
    wanted = (each for each in scores.summaries(probe) if (each.size, each.drawn) == (scores.largest_size, ""))
    return {each.group: each for each in wanted if math.isfinite(each.measure.mean)}


def _table(found: Mapping[str, Mapping[str, Summary]], grouping: str) -> RegionTable:
    prefix = f"{grouping}="
    names = sorted({group for groups in found.values() for group in groups if group.startswith(prefix)})
    rows = []
    for name in names:
        there = [groups.get(name) for groups in found.values()]
        num_test = next(each.num_test for each in there if each is not None)
        measures = tuple(each.measure if each is not None else None for each in there)
        rows.append(RegionRow(name=name.removeprefix(prefix), num_test=num_test, measures=measures))
    return RegionTable(label=GROUPINGS[grouping], folded=grouping != "continent", probes=tuple(found), rows=tuple(rows))


def _results(task: Scores) -> Iterator[EvalResult]:
    for result in task.results:
        for told in task.headlines(result.probe):
            if math.isfinite(told.measure.mean):
                yield _result(task, result.probe, told)


def _result(task: Scores, probe: str, told: Summary) -> EvalResult:
    within = f" in {told.drawn.partition('=')[2]}" if told.drawn else ""
    return EvalResult(
        task_type=TASK_TYPES[task.kind],
        task_name=task.title,
        dataset_type=task.task,
        dataset_name=task.source or task.title,
        dataset_config=str(task.sampling.get("how", "")),
        dataset_revision=task.task_hash,
        dataset_args=dict(task.sampling),
        metric_type=told.metric,
        metric_name=f"{METRIC_WORDS[told.metric]} by {probe}{within}",
        metric_value=round(told.measure.mean, DECIMALS),
        metric_args=_args(probe, told),
    )


def _args(probe: str, told: Summary) -> dict[str, Any]:
    values = {"probe": probe, "level": LEVEL, "repeats": len(told.measure.values), "test_samples": told.num_test}
    ends = {"ci_low": told.measure.ci_low, "ci_high": told.measure.ci_high}
    return values | {name: round(end, DECIMALS) for name, end in ends.items() if math.isfinite(end)}
