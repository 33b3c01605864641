"""The proxy ladder: would a smaller study have put the datasets in the same order?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from training.correlation import LEAST, Correlation, correlate_table
from training.relating.verdict import number, signed
from training.reporting.blocks import Block, Cell, Picture, Row, Section, Sheet, Words
from training.reporting.charts.dots import ladder_figure
from training.reporting.charts.looks import Looks
from training.reporting.digits import MISSING, decimal, hours
from training.reporting.records import CONTROL, Records
from training.reporting.standings import Standings, standings_of
from training.reporting.views import View, foremost, views_of

__all__ = ["ladder_section"]


def ladder_section(
    every: Sequence[Standings], *, full: Records, looks: Looks, rng: np.random.Generator
) -> Section | None:
    """Each rung's mean scores beside the study's, of all probes that both have; ``None`` without rungs.

    Args:
        every: main tables of the study itself.
        full: records with the rows of all rungs.
        looks: of the datasets.
        rng: what intervals are drawn from.
    """
    rungs = {rung: _standings_on(full, rung, rng) for rung in full.results["rung"].unique() if rung}
    if not rungs:
        return None
    climbed, rows, frame = [], [], []
    for standings in every:
        for rung, small in rungs.items():
            if other := small.get((standings.view.model, standings.view.probe)):
                pairs = _pairs(standings, other)
                found = _related(pairs, rng)
                row, record = _row(standings, full, rung, pairs, found)
                rows.append(row)
                frame.append(record)
                climbed.append((standings.view, str(rung), pairs, found))
    sheet = Sheet(
        name="ladder",
        title="Rungs of the proxy ladder",
        heads=("Model and probe", "Rung", "n", "ρ", "95 %", "p exact", "Same best", "GPU hours", "Time"),
        rows=tuple(rows),
        frame=pd.DataFrame(frame),
        words=(0, 1),
        note="95 %: BCa bootstrap over datasets. Same best: whether the first dataset is first there too. Costs: of the rung.",
    )
    told = Words(
        "The same study made smaller, and Spearman's ρ between its mean scores and those of the study itself over the "
        "pretrained datasets: near 1, the small study would have put them in the same order."
    )
    blocks: list[Block] = [told, *_pictures(climbed, full, looks), sheet]
    return Section(key="ladder", title="Would a smaller study have told the same?", blocks=blocks)


Climbed = tuple[View, str, pd.DataFrame, Correlation | None]


def _pictures(climbed: Sequence[Climbed], full: Records, looks: Looks) -> list[Block]:
    """Of each model one figure, of the first probe that has points on a rung."""
    held = [each for each in climbed if len(each[2]) > 1]
    pictures: list[Block] = []
    for view in foremost([view for view, *_ in held]):
        scores, words = {}, {}
        for _, rung, pairs, found in (each for each in held if each[0] is view):
            scores[rung] = {full.titles[n]: (float(x), float(y)) for n, x, y in pairs.itertuples(index=False)}
            words[rung] = f"{rung}: ρ = {_coefficient(found)}"
        pictures.append(
            Picture(
                name=f"ladder-{view.key}",
                title=f"Mean scores on each rung against the study's, {view.title}",
                figure=ladder_figure(scores, words=words, looks=looks.by_title()),
                caption=f"{view.title}.",
            )
        )
    return pictures


def _standings_on(full: Records, rung: str, rng: np.random.Generator) -> dict[tuple[str, str], Standings]:
    """Main tables of a rung, by model and probe."""
    results = full.results[full.results["rung"] == rung].assign(rung="")
    views = views_of(replace(full, results=results))
    return {(view.model, view.probe): standings_of(view, rng=rng) for view in views}


def _pairs(standings: Standings, other: Standings) -> pd.DataFrame:
    """Mean scores of the datasets that have one on the rung and in the study, over the columns that both have."""
    columns = [column for column in standings.averaged if column in other.columns]
    rows = []
    for name in standings.scores:
        own = [standings.scores[name][c] for c in columns]
        theirs = [other.scores[name][c] for c in columns] if name in other.scores else []
        if name != CONTROL and columns and theirs and all(s.complete for s in (*own, *theirs)):
            means = [round(float(np.mean([s.mean for s in scores])), 12) for scores in (theirs, own)]
            rows.append((name, *means))
    return pd.DataFrame(rows, columns=["dataset", "rung", "study"])


def _related(pairs: pd.DataFrame, rng: np.random.Generator) -> Correlation | None:
    if len(pairs) < LEAST:
        return None
    return correlate_table(pairs, score="study", by=["rung"], rng=rng)[0]


def _row(
    standings: Standings, full: Records, rung: str, pairs: pd.DataFrame, found: Correlation | None
) -> tuple[Row, dict[str, object]]:
    first = "" if not len(pairs) else "yes" if pairs["rung"].idxmax() == pairs["study"].idxmax() else "no"
    gpu, seconds = _cost(full, rung)
    interval = (
        f"{signed(found.ci_low)} to {signed(found.ci_high)}".replace("-", "−")
        if found and np.isfinite(found.ci_low)
        else "none"
    )
    texts = (
        standings.view.title, rung, str(len(pairs)), _coefficient(found), interval, number(found.p) if found else MISSING,
        first or MISSING, f"{gpu:.1f}" if np.isfinite(gpu) else MISSING, hours(seconds),
    )  # fmt: skip
    record = {
        "model": standings.view.model, "probe": standings.view.probe, "rung": rung, "n": len(pairs),
        "rho": found.rho if found else np.nan, "ci_low": found.ci_low if found else np.nan,
        "ci_high": found.ci_high if found else np.nan, "p": found.p if found else np.nan, "same_best": first,
        "gpu_hours": gpu, "seconds": seconds,
    }  # fmt: skip
    return Row(cells=tuple(Cell(text=text) for text in texts)), record


def _coefficient(found: Correlation | None) -> str:
    return decimal(found.rho) if found else MISSING


def _cost(full: Records, rung: str) -> tuple[float, float]:
    """GPU hours and seconds of the jobs of a rung, whose names begin with their kind and the rung's."""
    if not {"job", "gpu_hours", "seconds"} <= set(full.costs):
        return float("nan"), float("nan")
    own = full.costs[full.costs["job"].astype(str).str.contains(f"/rung-{rung}/", regex=False)]
    numbers = own[["gpu_hours", "seconds"]].apply(pd.to_numeric, errors="coerce").sum(min_count=1)
    return float(numbers["gpu_hours"]), float(numbers["seconds"])
