"""Which scores stand in one table: those of a model and a probe, at the size that the study is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from training.reporting.cells import Grid, Score, grid_of
from training.reporting.records import Records

__all__ = ["View", "foremost", "views_of"]

# in the order of tables; the first of HEADLINE that a study has is what its figures show
ORDER = ("knn", "linear", "logistic", "ridge", "mlp", "forest", "finetune")
HEADLINE = ("linear", "logistic", "ridge", "mlp", "knn", "forest", "finetune")
WORDS = {"knn": "k-NN", "linear": "linear probe", "logistic": "logistic regression", "mlp": "MLP", "ridge": "ridge regression",
         "forest": "random forest", "finetune": "fine-tuning"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class View:
    """Scores of one model and one probe.

    Attributes:
        records: what they are of.
        model: its name.
        probe: its name.
        rows: primary scores over all test samples, of every size; of draws within groups, those of each group.
        size: the few-shot size that the main table shows; NaN of all training samples.
        within: whether draws were made within groups (continents), whose mean is then shown.
    """

    records: Records
    model: str
    probe: str
    rows: pd.DataFrame
    size: float
    within: bool

    @property
    def key(self) -> str:
        """For names of files."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.model}-{self.probe}".lower()).strip("-")

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.model}, {probe_words(self.probe)}"

    @property
    def setting(self) -> str:
        """How many samples the probe learned from, in words."""
        size = "all training samples" if np.isnan(self.size) else f"{self.size:.0f} training samples a draw"
        return (
            f"{size}, drawn and tested within each group of places, then averaged over these" if self.within else size
        )

    @property
    def sizes(self) -> list[float]:
        """Few-shot sizes in order, all samples (NaN) last."""
        found = self.rows["size"].unique()
        return [
            *sorted(float(size) for size in found if np.isfinite(size)),
            *([np.nan] if np.isnan(found).any() else []),
        ]

    @cached_property
    def grid(self) -> Grid:
        """Scores at the view's size."""
        return self.at(self.size)

    def at(self, size: float) -> Grid:
        """Scores at a size (NaN: all samples)."""
        return grid_of(self.rows[_same(self.rows["size"], size)])

    def units(self, column: str) -> list[tuple[str, str]]:
        """Tasks of a column, by group where draws are within groups: all that any dataset has scores of."""
        rows = self.rows[(self.rows["column"] == column)]
        return [(str(task), str(group)) for task, group in rows[["task", "group"]].drop_duplicates().to_numpy()]

    @property
    def columns(self) -> list[str]:
        """Columns of the main table that this model and probe have any score in."""
        held = set(self.rows["column"])
        return [column for column in self.records.columns if column in held]

    def score(self, dataset: str, column: str) -> Score:
        """The score of a cell of the main table."""
        return self.grid.score(dataset, self.units(column))


def probe_words(probe: str) -> str:
    """A probe as papers call it; ``knn-5`` is k-NN with k = 5."""
    name, _, rest = probe.partition("-")
    words = WORDS.get(name, name)
    return words if not rest else f"{words}, k = {rest}" if name == "knn" and rest.isdigit() else f"{words} {rest}"


def views_of(records: Records) -> list[View]:
    """One for each model and probe, models as they come, probes from the plainest."""
    rows = records.results
    rows = rows[rows["primary"]]
    found = []
    for model in rows["model"].unique():
        own = rows[rows["model"] == model]
        for probe in sorted(own["probe"].unique(), key=lambda name: (_place(name, ORDER), name)):
            view = _view(records, str(model), str(probe), own[own["probe"] == probe])
            if view is not None:
                found.append(view)
    return found


def foremost(views: Sequence[View]) -> list[View]:
    """Of each model the one view that figures show."""
    models = dict.fromkeys(view.model for view in views)
    return [
        min((v for v in views if v.model == model), key=lambda v: (_place(v.probe, HEADLINE), v.probe))
        for model in models
    ]


def _view(records: Records, model: str, probe: str, rows: pd.DataFrame) -> View | None:
    """Scores over all samples where there are any, else within groups; at the full size, else the largest."""
    everywhere = rows[(rows["group"] == "all") & (rows["drawn"] == "")]
    drawn = rows[rows["own"]]
    chosen = everywhere if len(everywhere) else drawn
    if not len(chosen):
        return None
    sizes = chosen["size"]
    size = float("nan") if sizes.isna().any() else float(sizes.max())
    return View(records=records, model=model, probe=probe, rows=chosen, size=size, within=not len(everywhere))


def _place(probe: str, order: Sequence[str]) -> int:
    name = probe.partition("-")[0]
    return order.index(name) if name in order else len(order)


def _same(sizes: pd.Series, size: float) -> pd.Series:
    return sizes.isna() if np.isnan(size) else sizes == size
