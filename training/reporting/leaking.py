"""Scores with all test samples beside those without the ones that lie near what a model was pretrained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from training.correlation import mean_dense_ranks
from training.reporting.blocks import Block, Cell, Fold, Row, Section, Sheet, Words
from training.reporting.cells import Score, grid_of
from training.reporting.digits import DECIMALS, MISSING, amount, decimal, signed_decimal
from training.reporting.records import CONTROL, Records
from training.reporting.standings import Standings, mean_of

__all__ = ["LeftOut", "leaks_caveat", "leaks_section", "left_out_of"]

CLEAN = "leaks=none"  # test samples that do not leak, as evaluations name them


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Test samples of a task.

    Attributes:
        task: which.
        tests: all there are, in the draw that has most.
        leaking: those of them that leak.
        unknown: samples of the task whose place is not known, so that they count as not leaking; NaN where that is not told.
    """

    task: str
    tests: int
    leaking: int
    unknown: float


def left_out_of(records: Records) -> list[LeftOut]:
    """How many test samples of each task leak; none where scores without them were not made."""
    rows = records.results
    rows = rows[rows["primary"] & (rows["rung"] == "") & rows["num_test"].notna()]
    looked_at = set(rows.loc[rows["group"].astype(str).str.startswith("leaks="), "task"])
    clean = rows["group"] == CLEAN
    rows = rows[clean | ((rows["group"] == "all") & (rows["drawn"] == "")) | rows["own"]].assign(clean=clean)
    rows = rows[rows["task"].isin(looked_at)]
    if rows.empty:
        return []
    draw = ["task", "probe", "size", "seed", "drawn"]
    tests = rows.pivot_table(index=draw, columns="clean", values="num_test", aggfunc="max", observed=True, dropna=False)
    tests = tests.reindex(columns=[False, True]).dropna(subset=[False]).fillna(0)  # no row: all of them leak
    per_draw = tests.groupby(["task", "probe", "size", "seed"], observed=True, dropna=False).sum()
    most = per_draw.assign(leaking=per_draw[False] - per_draw[True]).groupby("task", observed=True).max()
    return [
        LeftOut(
            task=str(task), tests=int(row[False]), leaking=int(row["leaking"]), unknown=_unknown(records, str(task))
        )
        for task, row in most.iterrows()
    ]


def _unknown(records: Records, task: str) -> float:
    told = [
        s.done.facts.get("unknown") for s in records.jobs if s.done and s.job.kind == "leaks" and s.job.task == task
    ]
    return float(max((n for n in told if n is not None), default=np.nan))


def leaks_caveat(held: Sequence[LeftOut]) -> str:
    """What to say on top; empty where nothing leaks."""
    told = [f"{amount(each.leaking)} of {amount(each.tests)} of {each.task}" for each in held if each.leaking]
    if not told:
        return ""
    return (
        f"Test samples lie near a pretraining sample: {', '.join(told)}. They count in all scores but those of the section "
        "on leaks."
    )


def leaks_section(
    held: Sequence[LeftOut], headline: Sequence[Standings], others: Sequence[Standings]
) -> Section | None:
    """Scores with and without them side by side, and how many were left out; ``None`` where that was not looked for."""
    if not held:
        return None
    blocks: list[Block] = [
        Words(
            "The same models, on all test samples and without those near a pretraining sample of any dataset. "
            "The same samples are left out for all, so that rows can be compared. Where scores fall without them, they were "
            "flattered; where the order changes, it rested on them."
        ),
        _counts(held),
        *(_sheet(standings) for standings in headline),
    ]
    if others:
        blocks.append(Fold(title="Of the other probes", blocks=[_sheet(standings) for standings in others]))
    return Section(key="leaks", title="Without test samples near pretraining samples", blocks=blocks)


def _counts(held: Sequence[LeftOut]) -> Sheet:
    heads = ("Task", "Test samples", "Left out", "Share", "Place unknown")
    rows = [(each.task, amount(each.tests), amount(each.leaking), _share(each), amount(each.unknown)) for each in held]
    return Sheet(
        name="leaks",
        title="Test samples left out",
        heads=heads,
        rows=tuple(Row(cells=tuple(Cell(text=text) for text in row)) for row in rows),
        frame=pd.DataFrame([vars(each) for each in held]),
        note="Of the draw that has most. Samples whose place is unknown could not be looked at, and stay in.",
    )


def _share(held: LeftOut) -> str:
    return f"{100 * held.leaking / max(held.tests, 1):.1f} %"


def _sheet(standings: Standings) -> Sheet:
    """Two columns a column of the main table, and the mean and the rank likewise."""
    view, titles = standings.view, standings.view.records.titles
    clean = _clean(standings)
    ranks = _ranks(standings, clean)
    several = len(standings.averaged) > 1
    heads = [
        head for column in (*standings.columns, *(["Mean"] if several else []), "Rank") for head in (column, "without")
    ]
    rows, frame = [], []
    for name in standings.order:
        pairs = {c: (standings.scores[name][c], clean[name][c]) for c in standings.columns}
        if several:
            pairs["mean"] = (standings.mean(name), mean_of([clean[name][c] for c in standings.averaged]))
        cells = [cell for whole, part in pairs.values() for cell in _two(whole, part)]
        ranked = [standings.ranks.get(name), ranks.get(name)]
        cells += [Cell(text=MISSING if rank is None else f"{rank:.2f}") for rank in ranked]
        rows.append(Row(cells=(Cell(text=titles[name]), *cells), dataset=name, control=name == CONTROL))
        frame += [
            {
                "dataset": name, "model": view.model, "probe": view.probe, "column": column, "all": whole.mean,
                "without": part.mean, "without_low": part.low, "without_high": part.high, "rank_all": ranked[0],
                "rank_without": ranked[1],
            }
            for column, (whole, part) in pairs.items()
        ]  # fmt: skip
    return Sheet(
        name=f"leaks-{view.key}",
        title=f"{view.title}: with all test samples, and without those that leak",
        heads=("Pretrained on", *heads),
        rows=tuple(rows),
        frame=pd.DataFrame(frame),
        note=f"{view.setting[:1].upper()}{view.setting[1:]}. In brackets, what that changes.",
    )


def _two(whole: Score, part: Score) -> tuple[Cell, Cell]:
    changed = f" ({signed_decimal(part.mean - whole.mean, 3)})" if whole.complete and part.complete else ""
    held = f" {part.held} of {part.units}" if part.held and not part.complete else ""
    return Cell(text=decimal(whole.mean)), Cell(text=decimal(part.mean), spread=changed or held)


def _clean(standings: Standings) -> dict[str, dict[str, Score]]:
    """Scores without leaking samples of what the main table has; a task all of whose samples leak is missing."""
    view, results = standings.view, standings.view.records.results
    rows = results[
        results["primary"] & (results["rung"] == "") & (results["group"] == CLEAN)
        & (results["model"] == view.model) & (results["probe"] == view.probe)
        & (results["size"].isna() if np.isnan(view.size) else results["size"] == view.size)
    ]  # fmt: skip
    rows = rows[(rows["drawn"] != "") if view.within else (rows["drawn"] == "")]
    if rows.empty:
        return {name: dict.fromkeys(row, mean_of([])) for name, row in standings.scores.items()}
    grid = grid_of(rows.assign(group=rows["drawn"].astype(str) if view.within else "all"))
    return {name: {c: grid.score(name, view.units(c)) for c in row} for name, row in standings.scores.items()}


def _ranks(standings: Standings, clean: dict[str, dict[str, Score]]) -> dict[str, float]:
    names = [name for name in standings.ranks if all(clean[name][c].complete for c in standings.ranked)]
    signed = {
        n: [(-1 if standings.view.records.lower(c) else 1) * clean[n][c].mean for c in standings.ranked] for n in names
    }
    return mean_dense_ranks(signed, decimals=DECIMALS) if signed else {}
