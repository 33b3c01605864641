"""The proxy ladder: would a smaller study have put the datasets in the same order?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from training.correlation import Correlation
from training.relating.rungs import Beside, beside
from training.relating.verdict import number, signed
from training.reporting.blocks import Block, Cell, Picture, Row, Section, Sheet, Words
from training.reporting.charts.dots import ladder_figure
from training.reporting.charts.looks import Looks
from training.reporting.digits import MISSING, decimal, hours
from training.reporting.records import Records
from training.reporting.standings import Standings
from training.reporting.views import View, foremost

__all__ = ["ladder_section"]


def ladder_section(every: Sequence[Standings], *, full: Records, looks: Looks) -> Section | None:
    """Each rung's mean scores beside the study's, of all probes that both have; ``None`` without rungs.

    Args:
        every: main tables of the study itself.
        full: records with the rows of all rungs.
        looks: of the datasets.
    """
    rungs = [str(rung) for rung in full.results["rung"].unique() if rung]
    if not rungs:
        return None
    climbed, rows, frame = [], [], []
    for view in (standings.view for standings in every):
        for rung in rungs:
            small = _rows_of(full.results[full.results["rung"] == rung], view)
            if len(small):
                # the name is that of `pwcat study ladder`, so that the intervals are the same, too
                both = beside(_rows_of(view.records.results, view), small, name=f"{rung}/{view.model}/{view.probe}")
                row, record = _row(view, full, rung, both)
                rows.append(row)
                frame.append(record)
                climbed.append((view, rung, both.pairs, both.found))
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


def _rows_of(rows: pd.DataFrame, view: View) -> pd.DataFrame:
    return rows[(rows["model"] == view.model) & (rows["probe"] == view.probe)]


def _row(view: View, full: Records, rung: str, both: Beside) -> tuple[Row, dict[str, object]]:
    pairs, found = both.pairs, both.found
    first = {None: "", True: "yes", False: "no"}[both.same_best]
    gpu, seconds = _cost(full, rung)
    interval = (
        f"{signed(found.ci_low)} to {signed(found.ci_high)}".replace("-", "−")
        if found and np.isfinite(found.ci_low)
        else "none"
    )
    texts = (
        view.title, rung, str(len(pairs)), _coefficient(found), interval, number(found.p) if found else MISSING,
        first or MISSING, f"{gpu:.1f}" if np.isfinite(gpu) else MISSING, hours(seconds),
    )  # fmt: skip
    record = {
        "model": view.model, "probe": view.probe, "rung": rung, "n": len(pairs),
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
