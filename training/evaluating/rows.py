"""Scores in long form: a row a figure, as tables of studies and their reports read them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pwcat.atomic import replacing

if TYPE_CHECKING:
    from training.evaluating.document import Scores

__all__ = ["COLUMNS", "rows_of", "write_rows"]

# What an evaluation does not know of is empty, and is for a study to fill: dataset, model, pretrain_seed, task_group.
COLUMNS = (
    "dataset", "model", "run", "pretrain_seed", "weights_hash", "data_hash", "task", "task_group", "task_hash", "kind",
    "probe", "n_train", "size", "seed", "group", "metric", "primary", "value", "ci_low", "ci_high", "num_test", "drawn",
)  # fmt: skip


def rows_of(scores: Scores) -> list[dict[str, Any]]:
    """A row for each probe, draw, group of test samples and metric, with :data:`COLUMNS`.

    Numbers that there are none of are ``None`` (``size`` of all samples, ``pretrain_seed``), words are empty. A group without
    test samples in a draw has no row.
    """
    common = dict.fromkeys(COLUMNS, "") | {
        "pretrain_seed": None,
        "run": scores.run or "",
        "weights_hash": scores.weights_hash,
        "data_hash": scores.data_hash,
        "task": scores.task,
        "task_hash": scores.task_hash,
        "kind": scores.kind,
    }
    return [
        common
        | {
            "probe": result.probe,
            "n_train": num_train,
            "size": trial.size,
            "seed": trial.seed,
            "group": each.group,
            "metric": each.metric,
            "primary": each.metric == scores.metric,
            "value": each.values[i],
            "ci_low": each.ci_low[i],
            "ci_high": each.ci_high[i],
            "num_test": each.num_test[i],
            "drawn": trial.drawn,
        }
        for result in scores.results
        for i, (trial, num_train) in enumerate(zip(scores.trials, result.num_train(scores.trials), strict=True))
        for each in result.figures
        if each.num_test[i]
    ]


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as CSV, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
