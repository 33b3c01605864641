"""The main table: a row a dataset, a column a group of tasks; the best, what cannot be told from it, and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from training.correlation import Stability, mean_dense_ranks, rank_stability
from training.reporting.blocks import Cell, Row, Sheet
from training.reporting.cells import Score
from training.reporting.digits import DECIMALS, MISSING, bounds, decimal
from training.reporting.records import CONTROL
from training.reporting.views import View

__all__ = ["RANKS", "Standings", "combined_sheet", "sheet_of", "standings_of"]

RANKS = (
    "Rank: the mean over columns of the dense rank, 0 the best; scores equal to two decimals share one, and rows that "
    "lack a score have none. With it, its 95 % interval when seeds are drawn anew (draws together for all "
    "rows, which share them; pretraining seeds apart), and how often the row is then first. As in Kaur et al. (2026); from "
    "the cells of that paper's own main table the row of no pretraining has 4.75, where it prints 5.25."
)


@dataclass(frozen=True, kw_only=True)
class Standings:
    """A main table in figures.

    Attributes:
        view: what it is of.
        columns: groups of tasks.
        ranked: those of them that every ranked row has a score in.
        scores: of each dataset, by column.
        ranks: of each dataset that has all ``ranked`` columns.
        stability: of these ranks; ``None`` with a single seed.
    """

    view: View
    columns: tuple[str, ...]
    ranked: tuple[str, ...]
    scores: Mapping[str, Mapping[str, Score]]
    ranks: Mapping[str, float]
    stability: Stability | None

    @property
    def order(self) -> list[str]:
        """Datasets, the best rank first, those without one after them, the control last."""
        names = sorted(self.scores, key=lambda name: (self.ranks.get(name, np.inf), -self.mean(name).mean))
        return [*(n for n in names if n != CONTROL), *(n for n in names if n == CONTROL)]

    @property
    def averaged(self) -> list[str]:
        """Columns that the mean score is over: those in which more is better."""
        return [column for column in self.columns if not self.view.records.lower(column)]

    def mean(self, name: str) -> Score:
        """The unweighted mean of a dataset's columns, as one score."""
        return mean_of([self.scores[name][column] for column in self.averaged])

    def best(self, column: str) -> set[str]:
        """The datasets whose score is the best as it is printed."""
        held = {name: round(self._good(name, column), DECIMALS) for name in self.scores if self._held(name, column)}
        return {name for name, value in held.items() if value == max(held.values())}

    def near(self, column: str) -> set[str]:
        """Datasets whose interval overlaps that of the best, which are left out."""
        held = [name for name in self.scores if self._held(name, column)]
        if not held:
            return set()
        first = self.scores[max(held, key=lambda name: self._good(name, column))][column]
        others = set(held) - self.best(column)
        return {
            n for n in others if self.scores[n][column].low <= first.high and first.low <= self.scores[n][column].high
        }

    def _held(self, name: str, column: str) -> bool:
        return self.scores[name][column].complete

    def _good(self, name: str, column: str) -> float:
        return -self.scores[name][column].mean if self.view.records.lower(column) else self.scores[name][column].mean


def standings_of(view: View, *, rng: np.random.Generator) -> Standings:
    """The main table of a view."""
    columns = tuple(view.columns)
    awaited = view.model not in view.records.untrained  # of each dataset, though there is no score yet
    names = [name for name in view.records.names if name in view.grid.datasets or (awaited and name != CONTROL)]
    scores = {name: {column: view.score(name, column) for column in columns} for name in names}
    most = max(sum(s.complete for s in row.values()) for row in scores.values())
    full = [name for name, row in scores.items() if most and sum(s.complete for s in row.values()) == most]
    ranked = tuple(column for column in columns if all(scores[name][column].complete for name in full))
    full = [name for name in scores if ranked and all(scores[name][column].complete for column in ranked)]
    signed = {name: [_sign(view, c) * scores[name][c].mean for c in ranked] for name in full}
    return Standings(
        view=view,
        columns=columns,
        ranked=ranked,
        scores=scores,
        ranks=mean_dense_ranks(signed, decimals=DECIMALS) if signed else {},
        stability=_stability(view, {name: [scores[name][c] for c in ranked] for name in full}, ranked, rng),
    )


def mean_of(scores: Sequence[Score]) -> Score:
    """The unweighted mean of scores of different tasks; NaN where one of them is missing."""
    if not scores or not all(score.complete for score in scores):
        nan, none = float("nan"), np.empty(0)
        held = sum(score.complete for score in scores)
        return Score(
            mean=nan, sd=nan, low=nan, high=nan, replicates=none, pretrain_seeds=none, seeds=none, held=held,
            units=len(scores),
        )  # fmt: skip
    means_R = side_by_side(scores).mean(axis=1)
    longest = max(scores, key=lambda score: len(score.replicates))
    half = float(np.sqrt(sum(((s.high - s.low) / 2) ** 2 for s in scores)) / len(scores))
    mean = round(
        float(np.mean([score.mean for score in scores])), 12
    )  # equal tables give equal means, however they add up
    return Score(
        mean=mean,
        sd=float(means_R.std(ddof=1)) if len(means_R) > 1 else float("nan"),
        low=mean - half,
        high=mean + half,
        replicates=means_R,
        pretrain_seeds=longest.pretrain_seeds[: len(means_R)],
        seeds=longest.seeds[: len(means_R)],
        held=len(scores),
        units=len(scores),
    )


def side_by_side(scores: Sequence[Score]) -> np.ndarray:
    """Replicates of scores as columns, (R, scores): as many as the least repeated has, one alone standing for all."""
    several = [len(score.replicates) for score in scores if len(score.replicates) > 1]
    rows = min(several, default=1)
    parts = [s.replicates[:rows] if len(s.replicates) > 1 else np.full(rows, s.replicates[0]) for s in scores]
    return np.stack(parts, axis=1)


def sheet_of(standings: Standings) -> Sheet:
    """The table of a model and a probe."""
    view, titles = standings.view, standings.view.records.titles
    heads = [head_of(view, column) for column in standings.columns]
    heads += (
        (["Mean"] if len(standings.averaged) > 1 else []) + ["Rank"] + (["Ranks first"] if standings.stability else [])
    )
    best = {column: standings.best(column) for column in standings.columns}
    near = {column: standings.near(column) for column in standings.columns}
    rows = []
    for name in standings.order:
        cells = [
            score_cell(standings.scores[name][c], best=name in best[c], near=name in near[c]) for c in standings.columns
        ]
        mean = [score_cell(standings.mean(name))] if len(standings.averaged) > 1 else []
        cells = [Cell(text=titles[name]), *cells, *mean, *_rank_cells(standings, name)]
        rows.append(Row(cells=tuple(cells), dataset=name, control=name == CONTROL))
    return Sheet(
        name=f"scores-{view.key}",
        title=f"{view.title}: {view.setting}",
        heads=("Pretrained on", *heads),
        rows=tuple(rows),
        frame=_frame(standings),
        note=_note(standings),
    )


def combined_sheet(all_standings: Sequence[Standings]) -> Sheet:
    """Every model and probe beside one another: mean scores with ranks, and the rank over all columns of all of them."""
    records = all_standings[0].view.records
    titles, ranks = records.titles, overall_ranks(all_standings)
    order = sorted(records.names, key=lambda name: (name == CONTROL, ranks.get(name, np.inf)))
    order = [name for name in order if any(name in s.scores for s in all_standings)]
    rows, frame = [], []
    best = {s.view.key: max((round(s.mean(n).mean, DECIMALS) for n in s.scores if s.mean(n).complete), default=np.nan)
            for s in all_standings}  # fmt: skip
    for name in order:
        cells = [Cell(text=titles[name])]
        record: dict[str, object] = {"dataset": name, "rank": ranks.get(name, np.nan)}
        for s in all_standings:
            score = s.mean(name) if name in s.scores else mean_of([])
            rank = s.ranks.get(name, float("nan"))
            behind = f" · {rank:.2f}" if np.isfinite(rank) else ""
            text = decimal(score.mean)
            top = score.complete and round(score.mean, DECIMALS) == best[s.view.key]
            cells.append(Cell(text=text, spread=behind, best=top))
            record |= {f"{s.view.key}-mean": score.mean, f"{s.view.key}-rank": rank}
        cells.append(Cell(text=f"{ranks[name]:.2f}" if name in ranks else MISSING))
        rows.append(Row(cells=tuple(cells), dataset=name, control=name == CONTROL))
        frame.append(record)
    return Sheet(
        name="scores-all",
        title="Every model and probe: mean score · rank",
        heads=("Pretrained on", *(s.view.title for s in all_standings), "Rank over all"),
        rows=tuple(rows),
        frame=pd.DataFrame(frame),
        note="The last column ranks over all columns of all tables at once.",
    )


def overall_ranks(all_standings: Sequence[Standings]) -> dict[str, float]:
    """Mean dense rank over the columns of several tables, of the datasets that have all of these."""
    names = [name for name in all_standings[0].view.records.names if all(name in s.ranks for s in all_standings)]
    scores = {n: [_sign(s.view, c) * s.scores[n][c].mean for s in all_standings for c in s.ranked] for n in names}
    return mean_dense_ranks(scores, decimals=DECIMALS) if scores else {}


def head_of(view: View, column: str) -> str:
    """A column's name with its metric, and how many tasks it is the mean of."""
    tasks = len({task for task, _ in view.units(column)})
    several = f", {tasks} tasks" if tasks > 1 else ""
    less = ", less is better" if view.records.lower(column) else ""
    return f"{column} ({view.records.metrics(column)}{several}{less})"


def score_cell(score: Score, *, best: bool = False, near: bool = False) -> Cell:
    """Mean ± deviation, with the interval below; what is missing says how much of it is there."""
    if not score.complete:
        return Cell(text=MISSING, spread=f" {score.held} of {score.units}" if score.held else "")
    spread = f" ± {decimal(score.sd)}" if np.isfinite(score.sd) else ""
    return Cell(text=decimal(score.mean), spread=spread, bounds=bounds(score.low, score.high), best=best, near=near)


def _rank_cells(standings: Standings, name: str) -> list[Cell]:
    rank, stability = standings.ranks.get(name), standings.stability
    if rank is None:
        return [Cell(text=MISSING)] * (2 if stability else 1)
    if stability is None:
        return [Cell(text=f"{rank:.2f}")]
    place = stability.names.index(name)
    low, high = stability.low[place], stability.high[place]
    return [
        Cell(text=f"{rank:.2f}", bounds=f"[{low:.2f}, {high:.2f}]"),
        Cell(text=f"{100 * stability.first[place]:.0f} %"),
    ]


def _sign(view: View, column: str) -> int:
    return -1 if view.records.lower(column) else 1


def _stability(
    view: View, scores: Mapping[str, Sequence[Score]], ranked: Sequence[str], rng: np.random.Generator
) -> Stability | None:
    runs = {n: side_by_side(row) * [_sign(view, c) for c in ranked] for n, row in scores.items()} if ranked else {}
    if len(runs) < 2 or min(len(table) for table in runs.values()) < 2:
        return None
    return rank_stability(runs, rng=rng, decimals=DECIMALS, paired=_are_paired(list(scores.values())))


def _are_paired(rows: Sequence[Sequence[Score]]) -> bool:
    """Whether seeds are those of draws, the same for all datasets, and not of pretrainings, of which each has its own."""
    drawn = all(len(np.unique(score.pretrain_seeds)) <= 1 for row in rows for score in row)
    return drawn and all(len({tuple(score.seeds) for score in column}) == 1 for column in zip(*rows, strict=True))


def _note(standings: Standings) -> str:
    seeds = sorted(
        {len(score.replicates) for row in standings.scores.values() for score in row.values() if score.complete}
    )
    told = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}" if seeds else "no"
    repeated = "± is the standard deviation over them, brackets" if seeds and seeds[-1] > 1 else "brackets"
    parts = [
        f"{told} seed{'' if told == '1' else 's'} a cell; {repeated} the 95 % interval of the mean. Best in bold; † "
        "overlaps the best's interval."
    ]
    if left := [column for column in standings.columns if column not in standings.ranked]:
        parts.append(f"Ranks are without {', '.join(left)}, for want of scores.")
    if any(standings.view.records.lower(column) for column in standings.columns):
        parts.append("The mean is over columns in which more is better.")
    return " ".join(parts)


def _frame(standings: Standings) -> pd.DataFrame:
    rows = []
    for name in standings.order:
        cells = {**standings.scores[name], **({"mean": standings.mean(name)} if standings.averaged else {})}
        for column, score in cells.items():
            rows.append(
                {
                    "dataset": name, "model": standings.view.model, "probe": standings.view.probe, "column": column,
                    "mean": score.mean, "sd": score.sd, "low": score.low, "high": score.high,
                    "seeds": len(score.replicates), "tasks_scored": score.held, "tasks": score.units,
                    "best": column in standings.columns and name in standings.best(column),
                    "near_best": column in standings.columns and name in standings.near(column),
                    "rank": standings.ranks.get(name, np.nan),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)
