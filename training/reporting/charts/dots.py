"""Datasets by diversity: how diverse each is, how that goes with scores, and what one dataset changes about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.correlation import Correlation
from training.figures import INK, draw_points
from training.relating.verdict import number
from training.reporting.charts.looks import HINT, SMALL, WIDTH, Looks, light_grid, panels, titled
from training.reporting.digits import decimal

__all__ = ["diversity_figure", "ladder_figure", "leave_one_out_figure", "relations_figure"]

Bounds = Mapping[str, tuple[float, float]]


def diversity_figure(
    values: Mapping[str, Mapping[str, float]], bounds: Mapping[str, Bounds], *, order: Sequence[str], looks: Looks
) -> Figure:
    """A panel a measure, a row a dataset: the entropy as a dot with its 95 % interval; none where it is not known.

    Args:
        values: by measure (in words) and dataset.
        bounds: of the intervals, likewise.
        order: datasets, the first on top.
        looks: of the datasets.
    """
    figure, axes = panels(1, len(values), width=WIDTH, height=0.27 * len(order) + 0.9, sharey=True)
    for axis, (measure, of) in zip(axes[0], values.items(), strict=True):
        for row, name in enumerate(order):
            value = of.get(name, np.nan)
            if not np.isfinite(value):
                axis.text(0.02, row, "not known", transform=axis.get_yaxis_transform(), va="center", fontsize=HINT, color=INK,
                          alpha=0.6, style="italic")  # fmt: skip
                continue
            low, high = bounds.get(measure, {}).get(name, (value, value))
            axis.plot([low, high], [row, row], color=looks.color(name), linewidth=1.4)
            axis.scatter(value, row, s=30, color=looks.color(name), marker=looks.marker(name), linewidths=0, zorder=3)
            axis.annotate(f"{value:.2f}", (max(high, value), row), xytext=(5, 0), textcoords="offset points", va="center",
                          fontsize=HINT, color=INK)  # fmt: skip
        known = [v for v in of.values() if np.isfinite(v)]
        span = max(known, default=1) - min(known, default=0)
        axis.set_xlim(min(known, default=0) - 0.1 * (span or 1), max(known, default=1) + 0.32 * (span or 1))
        axis.set_yticks(range(len(order)), [looks.titles[name] for name in order])
        axis.set_ylim(len(order) - 0.4, -0.6)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        axis.set_xlabel("nat", fontsize=SMALL)
        titled(axis, measure)
        light_grid(axis)
    return figure


def relations_figure(
    found: Mapping[str, Correlation], bounds: Mapping[str, Bounds], *, looks: Looks, ylabel: str
) -> Figure:
    """A panel a measure: diversity against score, with the intervals of both, the coefficient, its p and the verdict.

    Datasets are called by what stands at their points, in the correlations, the bounds and the looks.
    """
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    figure, axes = panels(rows, columns, width=WIDTH if columns > 1 else 5.4, height=3.3 * rows)
    for i, axis in enumerate(axes.flat):
        if i >= len(found):
            axis.set_visible(False)
            continue
        measure, one = list(found.items())[i]
        points = dict(zip(one.datasets, zip(one.values, one.scores, strict=True), strict=True))
        spread = {name: sd for name, sd in zip(one.datasets, one.score_sd, strict=True) if np.isfinite(sd)}
        draw_points(
            axis, points, xlabel=f"{measure} entropy (nat)", ylabel=ylabel if i % columns == 0 else "",
            correlation=None, spread=spread, bounds=bounds.get(measure, {}), styles=looks.styles,
        )  # fmt: skip
        rho = "undefined" if np.isnan(one.rho) else decimal(one.rho, 3)
        axis.set_title(
            f"ρ = {rho}, p = {number(one.p)}, n = {one.n}: {one.verdict.word}", loc="left", fontsize=9.5, color=INK
        )
    return figure


def leave_one_out_figure(found: Mapping[str, Correlation], *, looks: Looks) -> Figure:
    """A panel a measure, a row a dataset: the coefficient without that dataset; filled where p is then at most alpha."""
    names = [name for name in looks.titles if any(name in one.datasets for one in found.values())]
    figure, axes = panels(1, len(found), width=WIDTH, height=0.27 * len(names) + 1.0, sharey=True)
    for axis, (measure, one) in zip(axes[0], found.items(), strict=True):
        axis.axvline(0, color=INK, linewidth=0.8, linestyle=":")
        if np.isfinite(one.rho):
            axis.axvline(one.rho, color=INK, linewidth=1.0, alpha=0.55)
        for left in one.leave_one_out:
            if np.isfinite(left.rho):
                _draw_left(axis, names.index(left.dataset), left.rho, left.p <= one.alpha, looks, left.dataset)
        axis.set_yticks(range(len(names)), [f"without {looks.titles[name]}" for name in names])
        axis.set(xlim=(-1.05, 1.05), ylim=(len(names) - 0.4, -0.6), xticks=(-1, -0.5, 0, 0.5, 1))
        axis.set_xticklabels(["−1", "−.5", "0", ".5", "1"])
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        axis.set_xlabel("ρ", fontsize=SMALL)
        titled(axis, measure)
        light_grid(axis)
    return figure


def ladder_figure(
    scores: Mapping[str, Mapping[str, tuple[float, float]]], *, words: Mapping[str, str], looks: Looks
) -> Figure:
    """A panel a rung: each dataset's mean score on the rung against that of the study itself.

    Args:
        scores: by rung and dataset, the score on the rung and in the study.
        words: what is said above each panel.
        looks: of the datasets.
    """
    columns = min(3, len(scores))
    rows = -(-len(scores) // columns)
    figure, axes = panels(rows, columns, width=WIDTH if columns > 1 else 5.4, height=3.1 * rows)
    for i, axis in enumerate(axes.flat):
        if i >= len(scores):
            axis.set_visible(False)
            continue
        rung, points = list(scores.items())[i]
        draw_points(
            axis, points, xlabel=f"mean score on the rung {rung}",
            ylabel="mean score in the study" if i % columns == 0 else "", correlation=None, spread={},
            styles=looks.styles,
        )  # fmt: skip
        titled(axis, words[rung], width=44)
    return figure


def _draw_left(axis: Axes, row: int, rho: float, significant: bool, looks: Looks, name: str) -> None:
    color = looks.color(name)
    axis.scatter(rho, row, s=34, marker=looks.marker(name), facecolors=color if significant else "none", edgecolors=color,
                 linewidths=1.2, zorder=3)  # fmt: skip
