"""Where each dataset does well: scores by continent, biome and land cover of the test samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from training.reporting.blocks import Block, Fold, Picture, Section, Words
from training.reporting.cells import Grid, grid_of
from training.reporting.charts.heat import HeatPanel, heat_panels
from training.reporting.charts.looks import Looks
from training.reporting.records import CONTROL, Records
from training.reporting.standings import head_of
from training.reporting.views import View

__all__ = ["GROUPINGS", "PlaceScores", "places_of", "places_section"]

GROUPINGS = {"continent": "continent", "biome": "biome", "landcover": "land cover"}


@dataclass(frozen=True, kw_only=True)
class PlaceScores:
    """Scores of one view by one grouping of the test samples.

    Attributes:
        view: of what.
        grouping: "continent", "biome" or "landcover".
        places: names of the groups that have test samples in any task.
        datasets: pretrained on, the control last.
        values: for each column of the main table, score of each dataset at each place; NaN where there is none, or not of all
            tasks that have samples there.
        counts: for each column, test samples at each place, over tasks.
    """

    view: View
    grouping: str
    places: tuple[str, ...]
    datasets: tuple[str, ...]
    values: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]


def places_of(view: View, grouping: str) -> PlaceScores | None:
    """Scores by places at the view's size; ``None`` where there are none."""
    rows = _rows(view, grouping)
    if not len(rows):
        return None
    grid = grid_of(rows)
    places = tuple(sorted({group.partition("=")[2] for _, group in grid.units}))
    datasets = tuple(name for name in view.records.names if name in grid.datasets)
    values, counts = {}, {}
    for column in view.columns:
        tasks = set(view.records.tasks(column))
        units = [[u for u in grid.units if u[0] in tasks and u[1] == f"{grouping}={place}"] for place in places]
        if any(units):
            values[column] = np.array([[_mean(grid, name, own) for own in units] for name in datasets])
            counts[column] = np.array([_tests(grid, own) for own in units])
    return PlaceScores(
        view=view, grouping=grouping, places=places, datasets=datasets, values=values, counts=counts
    )  # fmt: skip


def places_section(headline: Sequence[View], others: Sequence[View], *, records: Records, looks: Looks) -> Section:
    """A heat map a grouping: of each model its first probe; continents also of the other probes, to be unfolded."""
    blocks: list[Block] = [
        Words(
            "Rows are what was pretrained on, columns where the test samples are; where there are many or long names "
            "of places, the other way round. A number is the mean over seeds and over the tasks that have samples "
            "there, n how many samples these are. Places differ in difficulty, so that shades compare datasets at one "
            "place: how far each is from the mean of the pretrained ones. Hatched: no test samples, or not of all "
            "tasks; that is not zero."
        )
    ]
    for grouping, words in GROUPINGS.items():
        shown = [found for view in headline if (found := places_of(view, grouping))]
        folded = [found for view in others if grouping == "continent" and (found := places_of(view, grouping))]
        blocks.extend(_picture(found, records, looks) for found in shown)
        if folded:
            pictures = [_picture(found, records, looks) for found in folded]
            blocks.append(Fold(title=f"By {words}: the other probes", blocks=pictures))
    if len(blocks) == 1:
        blocks = [Words("No scores by place: none of the tasks knows where its samples are, or they were not grouped.")]
    return Section(key="places", title="Where each one does well", blocks=blocks)


def places_frame(views: Sequence[View]) -> pd.DataFrame:
    """All scores by place as a long table, of every view."""
    rows = []
    for view in views:
        for grouping in GROUPINGS:
            found = places_of(view, grouping)
            for column, values_DP in (found.values if found else {}).items():
                assert found is not None
                for (d, p), value in np.ndenumerate(values_DP):
                    rows.append(
                        {
                            "model": view.model, "probe": view.probe, "column": column, "grouping": grouping,
                            "place": found.places[p], "dataset": found.datasets[d], "value": value,
                            "num_test": found.counts[column][p],
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def home_of(titles: dict[str, str], places: Sequence[str]) -> dict[str, str]:
    """The place that a dataset is of, where one of its names is that of a place."""
    known = {_plain(place): place for place in places}
    found = {}
    for name, title in titles.items():
        place = known.get(_plain(name)) or known.get(_plain(title))
        if place:
            found[name] = place
    return found


def _rows(view: View, grouping: str) -> pd.DataFrame:
    """Primary rows at the view's size in groups of this kind; of draws over all places, or else of those within each."""
    results = view.records.results
    rows = results[
        results["primary"] & (results["rung"] == "")
        & (results["model"] == view.model) & (results["probe"] == view.probe)
        & (results["grouping"] == grouping)
    ]  # fmt: skip
    rows = rows[rows["size"].isna() if np.isnan(view.size) else rows["size"] == view.size]
    everywhere = rows[rows["drawn"] == ""]
    return everywhere if len(everywhere) else rows[rows["own"]]


def _mean(grid: Grid, dataset: str, units: Sequence[tuple[str, str]]) -> float:
    return grid.score(dataset, units).mean if units else float("nan")


def _tests(grid: Grid, units: Sequence[tuple[str, str]]) -> float:
    """Test samples of units; those of datasets that were scored on fewer are the same samples."""
    places = [grid.units.index(unit) for unit in units]
    if not places:
        return float("nan")
    tests = grid.tests_DU[:, places]
    known = np.isfinite(tests)
    return float(np.where(known, tests, 0).max(axis=0).sum()) if known.any() else float("nan")


def _picture(found: PlaceScores, records: Records, looks: Looks) -> Picture:
    view, words = found.view, GROUPINGS[found.grouping]
    panels = [
        HeatPanel(title=head_of(view, c), values_DP=values, counts_P=found.counts[c], lower=records.lower(c))
        for c, values in found.values.items()
    ]
    home = home_of({n: records.titles[n] for n in found.datasets if n != CONTROL}, found.places)
    figure = heat_panels(panels, datasets=found.datasets, places=found.places, home=home, looks=looks)
    framed = " Framed: tested where it was pretrained." if home else ""
    return Picture(
        name=f"places-{found.grouping}-{view.key}",
        title=f"Scores by pretraining dataset and {words} of the test samples, {view.title}",
        figure=figure,
        caption=f"{view.title}, by {words} of the test samples; {view.setting}.{framed}",
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
