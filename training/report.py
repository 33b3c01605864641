"""One self-contained page about a study: table of scores, map, chips, diversity, correlations, how to rerun.

The page holds everything it shows: figures are inline SVG whose ink is the page's text colour, so that it reads on light
and dark screens alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from training.correlation import LEAST, Correlation, correlate_table, mean_dense_ranks
from training.figures import (
    bar_figure,
    chips_figure,
    color_limits,
    heat_figure,
    map_figure,
    scatter_figure,
    style_of,
)  # fmt: skip
from training.loader import read_chips
from training.reporting.inline import environment, inline_png, inline_svg, svg_text

if TYPE_CHECKING:
    import geopandas as gpd

    from catalog.subset import Subset
    from training.evaluate import Scores

__all__ = ["Cell", "Dataset", "Study", "cells_of", "describe_dataset", "relate", "render_report"]

CONTINENT = "continent="  # begins the names of such groups
TRUE_COLOR = ("B04", "B03", "B02")
# measure: (key of its value in stats.json, words for people)
MEASURES = {
    "spectral": ("mean", "Spectral"),
    "continent": ("shannon", "Continent"),
    "biome": ("shannon", "Biome"),
    "landcover": ("shannon", "Land cover"),
}


@dataclass(frozen=True)
class Cell:
    """One score: its mean, and its standard deviation over repeats where there were several."""

    mean: float
    sd: float | None = None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset, and what came of pretraining on it.

    Attributes:
        name: what it is called in tables and plots.
        num_samples: chips.
        lonlat: (n, 2), EPSG:4326.
        rgb: a few chips in red, green and blue (B04, B03, B02), (n, 3, H, W) digital numbers.
        statistics: as in its ``stats.json``.
        scores: what models pretrained on it scored, by name of the column.
        by_continent: score within each continent, of the column that the study says.
    """

    name: str
    num_samples: int
    lonlat: np.ndarray
    rgb: np.ndarray
    statistics: Mapping[str, Any]
    scores: Mapping[str, Cell]
    by_continent: Mapping[str, float] = field(default_factory=dict)

    def value(self, measure: str) -> float:
        """Its diversity by a measure; NaN where that was not computed."""
        found = self.statistics.get(measure, {}).get(MEASURES[measure][0])
        return float("nan") if found is None else float(found)

    def interval(self, measure: str) -> tuple[float, float]:
        """The bounds of that diversity's interval; NaN where unknown."""
        entry = self.statistics.get(measure, {})
        low, high = entry.get("ci_low"), entry.get("ci_high")
        return (float("nan"), float("nan")) if low is None or high is None else (float(low), float(high))

    @property
    def mean_score(self) -> float:
        """The unweighted mean of its scores."""
        return float(np.mean([cell.mean for cell in self.scores.values()]))


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that a report tells.

    Attributes:
        title: of the page.
        lead: one paragraph: what was done.
        caveat: what the numbers cannot say.
        datasets: in the order of the legends.
        control: scores of random weights, the row "none"; empty where there are none.
        facts: short facts for the top of the page, words to value.
        rerun: commands, one a line.
        notes: definitions and provenance, a paragraph each.
        tested: what the scores were computed on, for the table's caption.
        heat_label: what ``Dataset.by_continent`` holds.
    """

    title: str
    lead: str
    caveat: str
    datasets: Sequence[Dataset]
    control: Mapping[str, Cell] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    rerun: str = ""
    notes: Sequence[str] = ()
    tested: str = ""
    heat_label: str = "accuracy"

    @property
    def columns(self) -> list[str]:
        """Names of the scores that every dataset has, in the order of the first."""
        first, *others = self.datasets
        return [name for name in first.scores if all(name in other.scores for other in others)]


def cells_of(scores: Sequence[Scores]) -> dict[str, Cell]:
    """The scores of evaluations as columns of the table, named by task and probe, and by group where drawn within one."""
    return {
        " ".join(filter(None, (each.task, result.probe, told.drawn.partition("=")[2]))): Cell(
            told.measure.mean, told.measure.sd
        )
        for each in scores
        for result in each.results
        for told in each.headlines(result.probe)
    }


def describe_dataset(
    subset: Subset,
    *,
    name: str,
    scores: Sequence[Scores] = (),
    statistics: Mapping[str, Any] | None = None,
    num_chips: int = 6,
    heat_probe: str = "logistic",
) -> Dataset:
    """What a report tells of a subset and of the scores of the model pretrained on it.

    Args:
        subset: the samples that were pretrained on.
        name: what to call it.
        scores: evaluations of the model.
        statistics: its diversity where known already; counted from the subset otherwise.
        num_chips: chips to show, evenly spaced in the subset, which is in spatial order.
        heat_probe: the probe whose scores within each continent are shown; of the first evaluation.
    """
    shown = np.unique(np.linspace(0, len(subset) - 1, num_chips).round().astype(np.int64))
    within = [told for s in scores[:1] for r in s.results if r.probe == heat_probe for told in s.summaries(r.probe)]
    return Dataset(
        name=name,
        num_samples=len(subset),
        lonlat=subset.lonlat,
        rgb=read_chips(subset, shown, bands=TRUE_COLOR),
        statistics=subset.stats() if statistics is None else statistics,
        scores=cells_of(scores),
        by_continent={
            told.group.removeprefix(CONTINENT): told.measure.mean for told in within if told.group.startswith(CONTINENT)
        },
    )


def relate(datasets: Sequence[Dataset], *, rng: np.random.Generator) -> dict[str, Correlation]:
    """The correlation of each measure of diversity with the mean score, over the datasets that have both."""
    values = {measure: [d.value(measure) for d in datasets] for measure in MEASURES}
    table = pd.DataFrame({"score": [d.mean_score if d.scores else float("nan") for d in datasets], **values})
    table.index = pd.Index([d.name for d in datasets], name="dataset")
    enough = [measure for measure in MEASURES if table[[measure, "score"]].notna().all(axis=1).sum() >= LEAST]
    found = correlate_table(table.reset_index(), score="score", by=enough, rng=rng)
    return dict(zip(enough, found, strict=True))


def render_report(
    study: Study, *, correlations: Mapping[str, Correlation], land: gpd.GeoDataFrame | None = None
) -> str:
    """The page, as HTML that needs nothing beside it.

    Args:
        study: what to tell.
        correlations: what :func:`relate` gave.
        land: polygons for the map, EPSG:4326.
    """
    names = [dataset.name for dataset in study.datasets]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            study=study,
            measures={measure: words for measure, (_, words) in MEASURES.items()},
            correlations=correlations,
            rows=_table(study),
            colors={name: color for name, (color, _) in style_of(names).items()},
            best=_best(study),
            map=_drawn(
                map_figure({d.name: d.lonlat for d in study.datasets}, land=land),
                name="map",
                title="World map of samples",
            ),
            chips=_chips(study),
            bars={measure: _bars(study, measure) for measure in MEASURES},
            scatters={measure: _scatter(study, measure, correlations.get(measure)) for measure in MEASURES},
            heat=_heat(study),
        )
    )


def _table(study: Study) -> list[dict[str, Any]]:
    """Rows of the main table, the best rank first; the control last, ranked with the others."""
    scores = {d.name: [d.scores[column].mean for column in study.columns] for d in study.datasets}
    if study.control:
        scores["none"] = [study.control[column].mean for column in study.columns]
    ranks = mean_dense_ranks(scores) if study.columns else dict.fromkeys(scores, float("nan"))
    rows = [
        {
            "name": d.name,
            "cells": [d.scores[c] for c in study.columns],
            "rank": ranks[d.name],
            "n": d.num_samples,
            "control": False,
        }
        for d in study.datasets
    ]
    rows.sort(key=lambda row: (row["rank"], row["name"]))
    if study.control:
        cells = [study.control[column] for column in study.columns]
        rows.append({"name": "none", "cells": cells, "rank": ranks["none"], "n": 0, "control": True})
    return rows


def _best(study: Study) -> list[float]:
    rows = [*(d.scores for d in study.datasets), *([study.control] if study.control else [])]
    return [max(row[column].mean for row in rows) for column in study.columns]


def _chips(study: Study) -> dict[str, Markup]:
    shown = {d.name: d.rgb for d in study.datasets if len(d.rgb)}
    if not shown:
        return {}
    limits = color_limits(shown)
    return {name: inline_png(chips_figure(rgb, limits=limits), title=f"Chips of {name}") for name, rgb in shown.items()}


def _bars(study: Study, measure: str) -> Markup:
    values = {d.name: d.value(measure) for d in study.datasets}
    intervals = {d.name: d.interval(measure) for d in study.datasets if all(map(math.isfinite, d.interval(measure)))}
    words = f"{MEASURES[measure][1]} entropy (nat)"
    return _drawn(bar_figure(values, label=words, intervals=intervals), name=f"bar-{measure}", title=words)


def _scatter(study: Study, measure: str, correlation: Correlation | None) -> Markup:
    points = {d.name: (d.value(measure), d.mean_score) for d in study.datasets if d.scores}
    words = f"{MEASURES[measure][1]} entropy (nat)"
    figure = scatter_figure(points, xlabel=words, ylabel="mean score", correlation=correlation)
    return _drawn(figure, name=f"scatter-{measure}", title=f"{words} against mean score")


def _heat(study: Study) -> Markup | None:
    columns = sorted({name for d in study.datasets for name in d.by_continent})
    rows = [d for d in study.datasets if d.by_continent]
    if not rows:
        return None
    values = np.array([[d.by_continent.get(column, float("nan")) for column in columns] for d in rows])
    figure = heat_figure(values, rows=[d.name for d in rows], columns=columns, label=study.heat_label)
    return _drawn(
        figure, name="heat", title=f"{study.heat_label} by pretraining dataset and continent of the test samples"
    )


def _drawn(figure: Figure, *, name: str, title: str) -> Markup:
    return inline_svg(svg_text(figure, name=name), name=name, title=title)
