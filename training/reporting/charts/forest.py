"""All scores of a study at one look: a point and its interval for every dataset, probe, model and group of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from training.figures import INK, MARKERS
from training.reporting.cells import Score
from training.reporting.charts.looks import HINT, SMALL, WIDTH, Looks, light_grid, panels, titled

__all__ = ["forest_figure", "stability_figure"]

# of a model, by probe, dataset and column
Scores = Mapping[str, Mapping[str, Mapping[str, Score]]]


def forest_figure(
    models: Mapping[str, Scores],
    *,
    columns: Sequence[str],
    heads: Mapping[str, str],
    order: Sequence[str],
    looks: Looks,
) -> Figure:
    """Rows of panels are models, columns groups of tasks; within a panel a line a dataset, a marker a probe.

    Args:
        models: scores.
        columns: groups of tasks.
        heads: what each is called above its panels.
        order: datasets, the first on top.
        looks: of the datasets.
    """
    probes = list(dict.fromkeys(probe for scores in models.values() for probe in scores))
    own = {model: [c for c in columns if _any(scores, c)] for model, scores in models.items()}
    per_row = max(1, min(4, max(map(len, own.values()))))
    figure, axes, start = _grid(own, per_row, 0.5 + 0.27 * len(order))
    for model, scores in models.items():
        for j, column in enumerate(own[model]):
            panel = axes[start[model] + j // per_row, j % per_row]
            panel.set_visible(True)
            _draw_panel(panel, scores, probes, column, order, looks)
            _keep_points_apart(panel, scores, column)
            titled(panel, heads[column], width=26 if per_row > 2 else 50)
            if len(models) > 1 and j % per_row == 0:
                panel.set_ylabel(model, fontsize=10.5, fontweight="bold")
    _probe_legend(figure, probes)
    return figure


def stability_figure(held: Mapping[str, tuple[Sequence[str], np.ndarray]], *, looks: Looks) -> Figure:
    """How often the row's dataset ranks above the column's when seeds are drawn anew; two side by side.

    Args:
        held: for each title the datasets, the first rank first, and probabilities (D, D).
        looks: of the datasets.
    """
    columns = 2
    lines = -(-len(held) // columns)
    most = max(len(names) for names, _ in held.values())
    figure, axes = panels(lines, columns, width=WIDTH, height=(0.26 * most + 1.0) * lines)
    for i, panel in enumerate(axes.flat):
        if i >= len(held):
            panel.set_visible(False)
            continue
        title, (names, above_DD) = list(held.items())[i]
        _draw_matrix(panel, above_DD, [looks.titles[name] for name in names])
        titled(panel, title)
    return figure


def _draw_matrix(panel: Axes, above_DD: np.ndarray, labels: Sequence[str]) -> None:
    """The half above the diagonal: the other says the same."""
    shown = np.where(np.triu(np.ones_like(above_DD), k=1) > 0, above_DD, np.nan)
    panel.imshow(np.ma.masked_invalid(shown), cmap="BrBG", vmin=-0.35, vmax=1.35, aspect="auto")
    for (row, column), value in np.ndenumerate(shown):
        if np.isfinite(value):
            text = ">.99" if 0.995 <= value < 1 else "<.01" if 0 < value < 0.005 else f"{value:.2f}"
            text = text[1:] if text.startswith("0.") else text
            ink = "white" if abs(value - 0.5) > 0.42 else "black"
            panel.text(column, row, text, ha="center", va="center", fontsize=HINT, color=ink)
    panel.set_xticks(range(1, len(labels)), labels[1:], rotation=35, ha="right", rotation_mode="anchor")
    panel.set_yticks(range(len(labels) - 1), labels[:-1])
    panel.set(xlim=(0.5, len(labels) - 0.5), ylim=(len(labels) - 1.5, -0.5))
    panel.tick_params(length=0, labelsize=HINT)
    for spine in panel.spines.values():
        spine.set_visible(False)


def _any(scores: Scores, column: str) -> bool:
    """Whether any dataset has a score, or a part of one, in a column."""
    return any(row[column].held for of in scores.values() for row in of.values() if column in row)


def _grid(own: Mapping[str, Sequence[str]], per_row: int, tall: float) -> tuple[Figure, np.ndarray, dict[str, int]]:
    """Hidden panels, and the line at which each model's begin."""
    start, lines = {}, 0
    for model, held in own.items():
        start[model] = lines
        lines += -(-len(held) // per_row)
    width = 6.6 if per_row == 1 else WIDTH
    figure, axes = panels(max(lines, 1), per_row, width=width, height=tall * max(lines, 1) + 0.5, sharey=True)
    for panel in axes.flat:
        panel.set_visible(False)
    return figure, axes, start


def _draw_panel(
    panel: Axes, scores: Scores, probes: Sequence[str], column: str, order: Sequence[str], looks: Looks
) -> None:
    shift = {probe: 0.0 if len(probes) == 1 else 0.5 * (k / (len(probes) - 1) - 0.5) for k, probe in enumerate(probes)}
    for row, name in enumerate(order):
        found = False
        for k, probe in enumerate(probes):
            score = scores.get(probe, {}).get(name, {}).get(column)
            if score is None or not score.complete:
                continue
            found, y, color = True, row + shift[probe], looks.color(name)
            if np.isfinite(score.low):
                panel.plot([score.low, score.high], [y, y], color=color, linewidth=1.1, alpha=0.8, zorder=2)
            face = "none" if name == looks.control else color
            panel.scatter(
                score.mean, y, s=24, marker=MARKERS[k % len(MARKERS)], facecolors=face, edgecolors=color,
                linewidths=0.9, zorder=3,
            )  # fmt: skip
        if not found:
            panel.text(0.02, row, "missing", transform=panel.get_yaxis_transform(), va="center", fontsize=SMALL, color=INK,
                       alpha=0.6, style="italic")  # fmt: skip
    panel.set_yticks(range(len(order)), [looks.titles[name] for name in order])
    panel.set_ylim(len(order) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    light_grid(panel)


def _keep_points_apart(panel: Axes, scores: Scores, column: str) -> None:
    """End the axis where intervals of few seeds would press all points together: they are cut, and the tables have them."""
    held = [row[column] for of in scores.values() for row in of.values() if column in row and row[column].complete]
    if not held:
        return
    means = np.array([score.mean for score in held])
    span = max(float(np.ptp(means)), 0.05 * float(np.abs(means).max()))
    low, high = panel.get_xlim()
    panel.set_xlim(max(low, means.min() - 2 * span), min(high, means.max() + 2 * span))


def _probe_legend(figure: Figure, probes: Sequence[str]) -> None:
    if len(probes) < 2:
        return
    handles = [
        Line2D([], [], linestyle="none", marker=MARKERS[k % len(MARKERS)], color=INK, markersize=5, label=probe)
        for k, probe in enumerate(probes)
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(6 if figure.get_figwidth() > 8 else 3, len(probes)),
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
    )
