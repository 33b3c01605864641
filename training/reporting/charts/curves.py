"""Scores by how many samples a probe learned from: label-efficiency curves, and their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from training.figures import INK
from training.reporting.charts.looks import HINT, SMALL, WIDTH, Looks, apart, legend_above, light_grid, panels, titled
from training.reporting.digits import amount

__all__ = ["Curve", "CurvePanel", "curve_panels", "small_multiples"]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line.

    Attributes:
        dataset: whose.
        middle_S: score at each size; NaN where there is none.
        low_S: lower edge of the band.
        high_S: upper edge.
    """

    dataset: str
    middle_S: np.ndarray
    low_S: np.ndarray
    high_S: np.ndarray


@dataclass(frozen=True, kw_only=True)
class CurvePanel:
    """Lines that share axes.

    Attributes:
        title: above them.
        sizes_S: samples learned from, for the axis; of "all" what that was, or NaN.
        labels_S: what stands at each.
        curves: the lines.
        zero: whether to draw where nothing differs.
    """

    title: str
    sizes_S: np.ndarray
    labels_S: tuple[str, ...]
    curves: tuple[Curve, ...]
    zero: bool = False


def curve_panels(held: Sequence[CurvePanel], *, looks: Looks, xlabel: str, ylabel: str) -> Figure:
    """Panels side by side, two in a row, with names at the ends of the lines."""
    columns = min(2, len(held))
    lines = -(-len(held) // columns)
    figure, axes = panels(lines, columns, width=WIDTH if columns > 1 else 6.4, height=2.9 * lines + 0.2)
    for i, axis in enumerate(axes.flat):
        if i >= len(held):
            axis.set_visible(False)
            continue
        _draw(axis, held[i], looks)
        titled(axis, held[i].title, width=60)
        axis.set_xlabel(xlabel if i >= len(held) - columns else "", fontsize=SMALL)
        axis.set_ylabel(ylabel if i % columns == 0 else "", fontsize=SMALL)
        _name_lines(axis, held[i], looks, inches=2.1)
    return figure


def small_multiples(
    held: Mapping[str, Mapping[str, CurvePanel]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    looks: Looks,
    xlabel: str,
) -> Figure:
    """A small panel for each row and column that has one, the same axis along a row; colours are told below."""
    figure, axes = panels(len(rows), len(columns), width=WIDTH, height=1.55 * len(rows) + 0.8, sharey="row")  # type: ignore[arg-type]
    names: dict[str, None] = {}
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            panel, axis = held.get(row, {}).get(column), axes[i, j]
            axis.tick_params(labelsize=HINT)
            if i == 0:
                axis.set_title(column, fontsize=SMALL, color=INK)
            if j == 0:
                axis.set_ylabel(row, fontsize=SMALL, color=INK)
            if panel is None:
                axis.text(0.5, 0.5, "no test\nsamples", transform=axis.transAxes, ha="center", va="center", fontsize=HINT,
                          color=INK, alpha=0.6)  # fmt: skip
                axis.set_xticks([])
                continue
            _draw(axis, panel, looks, thin=True)
            if i < len(rows) - 1:
                axis.set_xticklabels([])
            names |= dict.fromkeys(curve.dataset for curve in panel.curves)
    figure.supxlabel(xlabel, fontsize=SMALL, color=INK)
    legend_above(figure, looks, [name for name in looks.titles if name in names])
    return figure


def _draw(axes: Axes, panel: CurvePanel, looks: Looks, *, thin: bool = False) -> None:
    places = _places(panel.sizes_S)
    for curve in panel.curves:
        color, line = looks.color(curve.dataset), looks.line(curve.dataset)
        axes.fill_between(places, curve.low_S, curve.high_S, color=color, alpha=0.10 if thin else 0.13, linewidth=0)
        control = curve.dataset == looks.control
        axes.plot(
            places, curve.middle_S, color=color, linestyle=line, linewidth=1.2 if thin else 1.7,
            marker=looks.marker(curve.dataset), markersize=2.5 if thin else 4.5,
            markerfacecolor="none" if control else color,
        )  # fmt: skip
    if panel.zero:
        axes.axhline(0, color=INK, linewidth=0.9, linestyle=":")
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(list(panel.labels_S))
    light_grid(axes)


def _places(sizes_S: np.ndarray) -> np.ndarray:
    """On a logarithmic axis; what has no number stands as far right of the last as that of the one before."""
    logs = np.log10(np.where(np.isfinite(sizes_S), sizes_S, np.nan))
    step = float(np.nanmean(np.diff(logs[np.isfinite(logs)]))) if np.isfinite(logs).sum() > 1 else 1.0
    last = float(np.nanmax(logs)) if np.isfinite(logs).any() else 0.0
    return np.where(np.isfinite(logs), logs, last + step)


def _name_lines(axes: Axes, panel: CurvePanel, looks: Looks, *, inches: float) -> None:
    """Names right of where lines end, moved apart where they would cover each other."""
    places = _places(panel.sizes_S)
    ends = [(c.dataset, *_end(places, c.middle_S)) for c in panel.curves if np.isfinite(c.middle_S).any()]
    if not ends:
        return
    low, high = axes.get_ylim()
    gap = (high - low) * (HINT * 1.12 / 72) / inches
    moved = apart(np.array([y for _, _, y in ends]), gap)
    right = float(places.max())
    span = float(np.ptp(places)) or 1.0
    for (name, x, y), at in zip(ends, moved, strict=True):
        color, start = looks.color(name), right + 0.07 * span
        axes.plot([x + 0.015 * span, start], [y, at], color=color, linewidth=0.6, alpha=0.7, clip_on=False)
        axes.text(start + 0.008 * span, at, looks.titles[name], va="center", fontsize=HINT, color=INK)
    widest = max(len(looks.titles[name]) for name, _, _ in ends)
    axes.set_xlim(places.min() - 0.04 * span, right + span * (0.1 + 0.02 * widest))
    axes.set_ylim(min(low, moved.min() - gap), max(high, moved.max() + gap))


def _end(places_S: np.ndarray, middle_S: np.ndarray) -> tuple[float, float]:
    last = int(np.flatnonzero(np.isfinite(middle_S))[-1])
    return float(places_S[last]), float(middle_S[last])


def size_label(size: float) -> str:
    """What stands at a size of the axis."""
    return "all" if not np.isfinite(size) else amount(size) if size < 1000 else f"{size / 1000:g}k"
