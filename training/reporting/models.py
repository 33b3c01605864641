"""Models beside one another: a row a model, a probe and what it was pretrained on, a column a group of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from training.correlation import mean_dense_ranks
from training.reporting.blocks import Cell, Row, Sheet
from training.reporting.cells import Score
from training.reporting.digits import DECIMALS, MISSING
from training.reporting.records import CONTROL
from training.reporting.standings import Standings, head_of, score_cell
from training.reporting.views import probe_words

__all__ = ["models_sheet"]

LEAKY = "-leaky"  # what names of tasks end in whose inputs tell the answer
Key = tuple[str, str, str]  # model, probe, what it was pretrained on


def models_sheet(every: Sequence[Standings]) -> Sheet | None:
    """All models in one table, the best rank first; ``None`` where no two models are scored on the same tasks."""
    columns = _shared(every)
    if not columns:
        return None
    scores = {
        (s.view.model, s.view.probe, name): s.scores[name]
        for s in every
        for name in s.order
        if any(s.scores[name][column].complete for column in columns if column in s.scores[name])
    }
    lower = {column: every[0].view.records.lower(column) for column in columns}
    best, near = _best(scores, columns, lower)
    records = every[0].view.records
    honest = [column for column in columns if not all(task.endswith(LEAKY) for task in records.tasks(column))]
    ranks = _ranks(scores, honest, lower)
    order = sorted(scores, key=lambda key: ranks.get(key, np.inf))
    heads = [next(head_of(s.view, column) for s in every if column in s.columns) for column in columns]
    untrained, titles = records.untrained, records.titles
    rows = []
    for key in order:
        model, probe, name = key
        origin = "nothing to train" if model in untrained else "random weights" if name == CONTROL else titles[name]
        row = scores[key]
        cells = [
            score_cell(row[c], best=key in best[c], near=key in near[c]) if c in row else Cell(text=MISSING)
            for c in columns
        ]
        rank = Cell(text=f"{ranks[key]:.2f}" if key in ranks else MISSING)
        words = (Cell(text=model), Cell(text=probe_words(probe)), Cell(text=origin))
        rows.append(Row(cells=(*words, *cells, rank), dataset=name, control=name == CONTROL and model not in untrained))
    return Sheet(
        name="scores-models",
        title="Every model beside the others",
        heads=("Model", "Probe", "Pretrained on", *heads, "Rank"),
        rows=tuple(rows),
        frame=_frame(scores, order, columns, ranks),
        note="Best in bold; † overlaps the best's interval. Rows that lack a score have no rank."
        + (" Ranks leave out leaky tasks, whose inputs tell the answer." if honest != columns else ""),
        words=(0, 1, 2),
    )


def _shared(every: Sequence[Standings]) -> list[str]:
    """Columns that more than one model has."""
    models: dict[str, set[str]] = {}
    for standings in every:
        for column in standings.columns:
            models.setdefault(column, set()).add(standings.view.model)
    return [column for column in models if len(models[column]) > 1]


def _best(
    scores: Mapping[Key, Mapping[str, Score]], columns: Sequence[str], lower: Mapping[str, bool]
) -> tuple[dict[str, set[Key]], dict[str, set[Key]]]:
    """Rows whose score is the best as it is printed, and rows whose interval overlaps that of the best, by column."""
    best: dict[str, set[Key]] = {}
    near: dict[str, set[Key]] = {}
    for column in columns:
        held = {key: row[column] for key, row in scores.items() if column in row and row[column].complete}
        sign = -1 if lower[column] else 1
        top = max((round(sign * score.mean, DECIMALS) for score in held.values()), default=np.nan)
        best[column] = {key for key, score in held.items() if round(sign * score.mean, DECIMALS) == top}
        first = max(held.values(), key=lambda score: sign * score.mean, default=None)
        near[column] = {
            key
            for key, score in held.items()
            if first is not None and key not in best[column] and score.low <= first.high and first.low <= score.high
        }
    return best, near


def _ranks(
    scores: Mapping[Key, Mapping[str, Score]], columns: Sequence[str], lower: Mapping[str, bool]
) -> dict[Key, float]:
    """Mean dense ranks of the rows that have every column."""
    full = {
        "\0".join(key): [(-1 if lower[c] else 1) * row[c].mean for c in columns]
        for key, row in scores.items()
        if all(c in row and row[c].complete for c in columns)
    }
    ranks = mean_dense_ranks(full, decimals=DECIMALS) if full else {}
    return {_key(name): rank for name, rank in ranks.items()}


def _key(name: str) -> Key:
    model, probe, dataset = name.split("\0")
    return model, probe, dataset


def _frame(
    scores: Mapping[Key, Mapping[str, Score]], order: Sequence[Key], columns: Sequence[str], ranks: Mapping[Key, float]
) -> pd.DataFrame:
    rows = []
    for key in order:
        model, probe, name = key
        row: dict[str, object] = {"model": model, "probe": probe, "dataset": name, "rank": ranks.get(key, np.nan)}
        for column in columns:
            if (score := scores[key].get(column)) is not None:
                row |= {f"{column}-mean": score.mean, f"{column}-low": score.low, f"{column}-high": score.high}
        rows.append(row)
    return pd.DataFrame(rows)
