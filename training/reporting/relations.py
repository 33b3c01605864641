"""Does diversity go with scores: the engine of :mod:`training.correlation` on a study's datasets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from training.correlation import LEAST, RULE, Correlation, correlate_table
from training.relating.verdict import number, signed
from training.reporting.blocks import Block, Cell, Fold, Picture, Row, Section, Sheet, Words
from training.reporting.charts.dots import leave_one_out_figure, relations_figure
from training.reporting.charts.looks import Looks
from training.reporting.digits import MISSING, decimal
from training.reporting.diversity import bounds_of
from training.reporting.records import CONTROL, MEASURES, Records
from training.reporting.standings import Standings
from training.reporting.views import View

__all__ = ["Relations", "relations_of", "relations_section"]


@dataclass(frozen=True, kw_only=True)
class Relations:
    """What was found for one model and probe.

    Attributes:
        view: whose mean scores.
        found: the correlation of each measure, by its words; empty where too few datasets have both.
        fewest: datasets with a mean score and a diversity.
    """

    view: View
    found: Mapping[str, Correlation]
    fewest: int


def relations_of(standings: Standings, *, rng: np.random.Generator) -> Relations:
    """How each measure goes with the mean score over datasets; the control has no diversity and is none of them."""
    records = standings.view.records
    held = [measure for measure in MEASURES if measure in records.datasets]
    table = _table(standings, held)
    counts = {measure: _datasets(table, measure) for measure in held}
    enough = [measure for measure in held if counts[measure] >= LEAST]
    found = correlate_table(table, score="score", by=enough, rng=rng) if enough else []
    return Relations(
        view=standings.view,
        found={MEASURES[measure]: one for measure, one in zip(enough, found, strict=True)},
        fewest=max(counts.values(), default=0),
    )


def relations_section(
    headline: Sequence[Relations], others: Sequence[Relations], *, records: Records, looks: Looks
) -> Section:
    """The section: plots, what leaving one dataset out does, verdicts, and a table of everything."""
    blocks: list[Block] = [
        Words(
            "Spearman's ρ between each diversity and the mean score over columns, a point a dataset. Bars are the 95 % "
            "interval of the diversity and the standard deviation of the score over seeds."
        )
    ]
    for relations in headline:
        blocks.extend(_blocks(relations, records, looks))
    if any(relations.found for relations in headline):
        blocks.append(_sheet(headline, name="relations"))
    if any(relations.found for relations in others):
        blocks.append(Fold(title="Of the other probes", blocks=[_sheet(others, name="relations-others")]))
    blocks.append(Words(f"Rule. {RULE} Over {LEAST} datasets at least; see docs/correlate.md.", soft=True))
    return Section(key="relations", title="Does diversity go with the score?", blocks=blocks)


def _blocks(relations: Relations, records: Records, looks: Looks) -> list[Block]:
    view, key = relations.view, relations.view.key
    if not relations.found:
        return [Words(
            f"{view.title}: {relations.fewest} datasets have both a diversity and a mean score, and at least {LEAST} "
            "are needed; nothing can be said."
        )]  # fmt: skip
    verdicts = [Words(_verdict(words, one)) for words, one in relations.found.items()]
    if all(np.isnan(one.rho) for one in relations.found.values()):
        return [Words(f"{view.title}:"), *verdicts]
    titles, named = records.titles, looks.by_title()
    limits = {words: {titles[n]: b for n, b in bounds_of(records, m).items()} for m, words in MEASURES.items()}
    figure = relations_figure(relations.found, limits, looks=named, ylabel="mean score")
    left = leave_one_out_figure(relations.found, looks=named)
    caption = f"{view.title}. p is two-sided and exact, over all orders, up to 12 datasets; drawn beyond."
    return [
        Picture(name=f"relations-{key}", title=f"Diversity against mean score, {view.title}", figure=figure, caption=caption),
        *verdicts,
        Picture(
            name=f"leave-one-out-{key}", title=f"Rank correlation without each dataset, {view.title}", figure=left,
            caption="ρ without each dataset in turn; the solid line is ρ of all. Filled: p at most .05 without it.",
        ),
    ]  # fmt: skip


def _verdict(words: str, one: Correlation) -> str:
    letter = f"ρ {decimal(one.rho, 3)} over {one.n} datasets, p {number(one.p)} ({number(one.p_values['t'])} by Student's t). "
    why = one.verdict.why.removeprefix(f"p {number(one.p)}. ").replace("rho", "ρ")
    return f"**{words}: {one.verdict.word}.** {letter if np.isfinite(one.rho) else ''}{_true_minus(why)}"


def _true_minus(text: str) -> str:
    return re.sub(r"-(?=\.\d)", "−", text)


def _table(standings: Standings, measures: Sequence[str]) -> pd.DataFrame:
    """A row a replicate of each dataset that has a mean score."""
    datasets, titles = standings.view.records.datasets, standings.view.records.titles
    rows: list[dict[str, object]] = []
    for name in standings.scores:
        score = standings.mean(name)
        if name == CONTROL or not score.complete or name not in datasets.index:
            continue
        known = {m: pd.to_numeric(pd.Series([datasets.at[name, m]]), errors="coerce").iloc[0] for m in measures}
        values = score.replicates + (score.mean - score.replicates.mean())  # where seeds differ between tasks
        values = np.array([score.mean]) if len(values) == 1 or np.ptp(values) == 0 else np.round(values, 12)
        rows.extend({"dataset": titles[name], "score": value, **known} for value in values)
    return pd.DataFrame(rows, columns=["dataset", "score", *measures])


def _datasets(table: pd.DataFrame, measure: str) -> int:
    return int(table.loc[table[measure].notna(), "dataset"].nunique())


def _sheet(every: Sequence[Relations], *, name: str) -> Sheet:
    heads = ("Model and probe", "Diversity", "ρ", "95 %", "p exact", "p by t", "p Holm", "n", "without one", "verdict")
    rows, frame = [], []
    for relations in every:
        for words, one in relations.found.items():
            exact = number(one.p) + ("" if one.p_by == "exact" else " (drawn)")
            without = [left.rho for left in one.leave_one_out if np.isfinite(left.rho)]
            span = f"{signed(min(without))} to {signed(max(without))}" if without else MISSING
            interval = f"{signed(one.ci_low)} to {signed(one.ci_high)}" if np.isfinite(one.ci_low) else "none"
            texts = (
                relations.view.title, words, decimal(one.rho, 3), interval,
                exact, number(one.p_values["t"]), number(one.p_holm), str(one.n), span, one.verdict.word,
            )  # fmt: skip
            rows.append(Row(cells=tuple(Cell(text=_true_minus(t)) for t in texts)))
            frame.append(
                {
                    "model": relations.view.model, "probe": relations.view.probe, "measure": one.by, "rho": one.rho,
                    "ci_low": one.ci_low, "ci_high": one.ci_high, "p": one.p, "p_by": one.p_by, "p_t": one.p_values["t"],
                    "p_holm": one.p_holm, "n": one.n, "without_low": min(without, default=np.nan),
                    "without_high": max(without, default=np.nan), "detectable": one.detectable, "verdict": one.verdict.word,
                }
            )  # fmt: skip
    first = next(one for relations in every for one in relations.found.values())
    power = (
        f"{first.n} datasets find a true |ρ| of {decimal(first.detectable)} in 80 % of studies."
        if np.isfinite(first.detectable)
        else ""
    )
    note = f"95 %: BCa bootstrap over datasets. Holm corrects over the {first.family} diversities. {power}"
    return Sheet(
        name=name, title="Rank correlation of diversity with the mean score", heads=heads, rows=tuple(rows),
        frame=pd.DataFrame(frame), note=note, words=(0, 1, 9),
    )  # fmt: skip
