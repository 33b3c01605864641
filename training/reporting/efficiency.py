"""How scores grow with labelled samples, and how far datasets are from no pretraining and from the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from training.reporting.blocks import Block, Cell, Fold, Picture, Row, Section, Sheet, Words
from training.reporting.cells import Grid, Score, difference, grid_of
from training.reporting.charts.curves import Curve, CurvePanel, curve_panels, size_label, small_multiples
from training.reporting.charts.looks import Looks
from training.reporting.digits import MISSING, bounds, signed_decimal
from training.reporting.records import CONTROL, Records
from training.reporting.standings import Standings, head_of
from training.reporting.views import View

__all__ = ["differences_section", "efficiency_section"]

AXIS = "training samples of the probe"


def efficiency_section(headline: Sequence[View], others: Sequence[View], *, records: Records, looks: Looks) -> Section:
    """Curves over all test samples and within each continent."""
    blocks: list[Block] = [
        Words(
            "Scores by how many labelled samples the probe learned from. Lines are means over seeds, bands one "
            "standard deviation to either side; sizes are as the study draws them, in total or of each class."
        )
    ]
    drawn = [view for view in headline if len(view.sizes) > 1]
    for view in drawn:
        blocks.append(_curves(view, records, looks))
        if multiples := _by_continent(view, records, looks):
            blocks.append(multiples)
    folded = [_curves(view, records, looks) for view in others if len(view.sizes) > 1]
    if folded:
        blocks.append(Fold(title="Curves of the other probes", blocks=folded))
    if len(blocks) == 1:
        blocks = [Words("Every probe learned from one number of samples: there is no curve to draw.")]
    return Section(key="efficiency", title="How many labels it takes", blocks=blocks)


def differences_section(headline: Sequence[Standings], *, looks: Looks) -> Section:
    """Paired differences to the control and to the best dataset, by column; to the control also by size."""
    blocks: list[Block] = [
        Words(
            "Differences of two datasets whose probes learned from the same samples and were tested on the same ones, "
            "draw by draw, with 95 % intervals over seeds (Student's t): narrower than the intervals of the scores, in "
            "which test samples count too. Where there are several pretraining seeds, these are what differs."
        )
    ]
    for standings in headline:
        found = [_difference_sheet(standings, of) for of in ("none", "best")]
        blocks.extend(sheet for sheet in found if sheet)
        if picture := _difference_curves(standings.view, looks):
            blocks.append(picture)
    if len(blocks) == 1:
        blocks = [Words("There are no two datasets with scores to compare.")]
    return Section(key="differences", title="How far apart they are", blocks=blocks)


def efficiency_frame(views: Sequence[View]) -> pd.DataFrame:
    """All points of all curves, a row each."""
    rows = []
    for view in views:
        for size in view.sizes:
            grid = view.at(size)
            for column in view.columns:
                for name in view.records.names:
                    score = grid.score(name, view.units(column))
                    if score.complete:
                        rows.append(
                            {
                                "model": view.model, "probe": view.probe, "column": column, "dataset": name, "size": size,
                                "mean": score.mean, "sd": score.sd, "low": score.low, "high": score.high,
                                "seeds": len(score.replicates),
                            }
                        )  # fmt: skip
    return pd.DataFrame(rows)


def _curves(view: View, records: Records, looks: Looks) -> Picture:
    grids = {size: view.at(size) for size in view.sizes}
    panels = [
        _panel(head_of(view, column), grids, [view.units(column)] * len(grids), view, records)
        for column in view.columns
    ]
    return Picture(
        name=f"efficiency-{view.key}",
        title=f"Score by number of labelled samples, {view.title}",
        figure=curve_panels([p for p in panels if p.curves], looks=looks, xlabel=AXIS, ylabel="score"),
        caption=f"{view.title}.",
    )


def _by_continent(view: View, records: Records, looks: Looks) -> Picture | None:
    rows = records.results
    rows = rows[
        rows["primary"] & (rows["rung"] == "") & (rows["model"] == view.model)
        & (rows["probe"] == view.probe) & (rows["grouping"] == "continent")
    ]  # fmt: skip
    rows = rows[(rows["drawn"] == "") | rows["own"]]
    if (rows["drawn"] == "").any() and (rows["drawn"] != "").any():
        rows = (
            rows[rows["drawn"] != ""]
            if rows.loc[rows["drawn"] != "", "size"].nunique() > 1
            else rows[rows["drawn"] == ""]
        )
    sizes = sorted(rows["size"].unique(), key=lambda size: (np.isnan(size), size))
    if len(sizes) < 2:
        return None
    grids = {s: grid_of(rows[rows["size"].isna() if np.isnan(s) else rows["size"] == s]) for s in sizes}
    continents = sorted({group.partition("=")[2] for grid in grids.values() for _, group in grid.units})
    held: dict[str, dict[str, CurvePanel]] = {column: {} for column in view.columns}
    for column in view.columns:
        tasks = set(records.tasks(column))
        for continent in continents:
            units = [u for u in dict.fromkeys(u for g in grids.values() for u in g.units)
                     if u[0] in tasks and u[1] == f"continent={continent}"]  # fmt: skip
            panel = _panel(continent, grids, [units] * len(grids), view, records) if units else None
            if panel and panel.curves:
                held[column][continent] = panel
    return Picture(
        name=f"efficiency-continents-{view.key}",
        title=f"Score by number of labelled samples within each continent, {view.title}",
        figure=small_multiples(held, rows=view.columns, columns=continents, looks=looks, xlabel=AXIS),
        caption=f"{view.title}, by continent of the test samples.",
    )


def _panel(
    title: str, grids: dict[float, Grid], units: Sequence[Sequence[tuple[str, str]]], view: View, records: Records
) -> CurvePanel:
    sizes = list(grids)
    curves = []
    for name in records.names:
        scores = [grid.score(name, own) for grid, own in zip(grids.values(), units, strict=True)]
        if not any(score.complete for score in scores):
            continue
        middle = np.array([score.mean for score in scores])
        sd = np.nan_to_num([score.sd for score in scores])
        curves.append(Curve(dataset=name, middle_S=middle, low_S=middle - sd, high_S=middle + sd))
    return CurvePanel(
        title=title, sizes_S=_axis(sizes, view), labels_S=tuple(map(size_label, sizes)), curves=tuple(curves)
    )  # fmt: skip


def _axis(sizes: Sequence[float], view: View) -> np.ndarray:
    return np.array(sizes, dtype=np.float64)


def _reference(standings: Standings, column: str, of: str) -> str | None:
    if of == "none":
        score = standings.scores.get(CONTROL, {}).get(column)
        return CONTROL if score is not None and score.complete else None
    held = {n: row[column].mean for n, row in standings.scores.items() if row[column].complete and n != CONTROL}
    less = standings.view.records.lower(column)
    return (min if less else max)(held, key=lambda name: held[name]) if len(held) > 1 else None


def _difference_sheet(standings: Standings, of: str) -> Sheet | None:
    view, titles = standings.view, standings.view.records.titles
    references = {column: _reference(standings, column, of) for column in standings.columns}
    columns = [column for column, name in references.items() if name]
    if not columns:
        return None
    rows, frame = [], []
    for name in standings.order:
        if of == "none" and name == CONTROL:
            continue
        cells = [Cell(text=titles[name])]
        for column in columns:
            reference = references[column]
            assert reference is not None
            cell, record = _difference_cell(
                standings.scores[name][column], standings.scores[reference][column], name == reference
            )
            cells.append(cell)
            frame.append({"dataset": name, "reference": reference, "column": column, **record})
        rows.append(Row(cells=tuple(cells), dataset=name, control=name == CONTROL))
    heads = [f"{c}" if of == "none" else f"{c} (− {titles[references[c] or '']})" for c in columns]
    words = "no pretraining (none)" if of == "none" else "the best dataset of each column"
    return Sheet(
        name=f"differences-{of}-{view.key}",
        title=f"{view.title}: difference to {words}",
        heads=("Pretrained on", *heads),
        rows=tuple(rows),
        frame=pd.DataFrame(frame).assign(model=view.model, probe=view.probe),
        note=f"{view.setting[:1].upper()}{view.setting[1:]}. Bold: the interval leaves out zero.",
    )


def _difference_cell(one: Score, other: Score, same: bool) -> tuple[Cell, dict[str, float]]:
    if not one.complete or not other.complete:
        nan = float("nan")
        return Cell(text=MISSING), {"difference": nan, "low": nan, "high": nan}
    gap, low, high = difference(one, other)
    record = {"difference": gap, "low": low, "high": high}
    if same:
        return Cell(text="best"), record
    apart = bool(low > 0 or high < 0)
    return Cell(text=signed_decimal(gap, 3), bounds=bounds(low, high, 3), best=apart), record


def _difference_curves(view: View, looks: Looks) -> Picture | None:
    """Differences to the control by size."""
    sizes, records = view.sizes, view.records
    grids = {size: view.at(size) for size in sizes}
    if len(sizes) < 2 or not all(CONTROL in grid.datasets for grid in grids.values()):
        return None
    panels = []
    for column in view.columns:
        units = view.units(column)
        nothing = [grid.score(CONTROL, units) for grid in grids.values()]
        curves = []
        for name in records.names:
            scores = [grid.score(name, units) for grid in grids.values()]
            if name == CONTROL or not all(s.complete for s in (*scores, *nothing)):
                continue
            gaps = np.array(list(map(difference, scores, nothing)))
            curves.append(Curve(dataset=name, middle_S=gaps[:, 0], low_S=gaps[:, 1], high_S=gaps[:, 2]))
        panel = CurvePanel(
            title=head_of(view, column), sizes_S=_axis(sizes, view), labels_S=tuple(map(size_label, sizes)),
            curves=tuple(curves), zero=True,
        )  # fmt: skip
        panels.append(panel)
    if not any(panel.curves for panel in panels):
        return None
    return Picture(
        name=f"differences-{view.key}",
        title=f"Difference to no pretraining by number of labelled samples, {view.title}",
        figure=curve_panels([p for p in panels if p.curves], looks=looks, xlabel=AXIS, ylabel="difference to none"),
        caption=f"{view.title}: score less that of random weights. Bands: 95 % intervals over seeds.",
    )
