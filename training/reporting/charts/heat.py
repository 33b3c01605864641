"""Where each dataset does well: pretraining data by place of the test samples, as shades with their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from training.figures import INK
from training.reporting.charts.looks import HINT, WIDTH, Looks, panels, titled, wrapped
from training.reporting.digits import decimal

__all__ = ["HeatPanel", "heat_panels"]

LONG = 16  # letters of a name beyond which places are rows
LEAST = 0.005  # the last digit that is written: a smaller difference has no shade of its own
COLORS = "BrBG"


@dataclass(frozen=True, kw_only=True)
class HeatPanel:
    """One matrix.

    Attributes:
        title: above it.
        values_DP: score of dataset D at place P; NaN where there is none.
        counts_P: test samples at each place; NaN where unknown.
        lower: whether less is better.
    """

    title: str
    values_DP: np.ndarray
    counts_P: np.ndarray
    lower: bool = False


def heat_panels(
    held: Sequence[HeatPanel], *, datasets: Sequence[str], places: Sequence[str], home: Mapping[str, str], looks: Looks
) -> Figure:
    """A matrix a group of tasks. A cell's shade is how far its score is from the mean of the datasets at that place.

    Args:
        held: one or more matrices of the same datasets and places.
        datasets: pretrained on, the control last where it is there.
        places: of the test samples.
        home: the place that a dataset is of, whose cell is framed.
        looks: of the datasets.
    """
    across = max(map(len, places)) <= LONG and len(places) <= 8
    columns = min(2, len(held))
    lines = -(-len(held) // columns)
    size = len(datasets) if across else len(places)
    tall = (0.3 * size + 0.85) if across else (0.24 * size + 1.25)
    figure, axes = panels(lines, columns, width=WIDTH if columns > 1 else 6.6, height=tall * lines + 0.7)
    shades = [_shades(panel, looks.control in datasets) for panel in held]
    limit = max((float(np.nanmax(np.abs(shade))) for shade in shades if np.isfinite(shade).any()), default=0.0)
    limit = max(limit, LEAST)
    norm = Normalize(-limit, limit)
    for i, axis in enumerate(axes.flat):
        if i >= len(held):
            axis.set_visible(False)
            continue
        _draw(axis, held[i], shades[i], across=across, norm=norm, datasets=datasets, places=places, home=home, looks=looks,
              labelled=i % columns == 0)  # fmt: skip
    _bar(figure, norm, [axis for axis in axes.flat if axis.get_visible()])
    return figure


def _shades(panel: HeatPanel, control: bool) -> np.ndarray:
    """Score less the mean over the pretrained datasets at the place, larger the better; the control no more than these span."""
    pretrained = panel.values_DP[:-1] if control else panel.values_DP
    known = np.isfinite(pretrained)
    mean_P = np.where(known, pretrained, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    shade = np.where(known.any(axis=0), panel.values_DP - mean_P, np.nan) * (-1 if panel.lower else 1)
    span = np.abs(shade[: len(pretrained)])
    limit = np.nanmax(span) if np.isfinite(span).any() else np.inf
    return np.asarray(np.clip(shade, -limit, limit))


def _draw(
    axes: Axes, panel: HeatPanel, shade_DP: np.ndarray, *, across: bool, norm: Normalize, datasets: Sequence[str],
    places: Sequence[str], home: Mapping[str, str], looks: Looks, labelled: bool,
) -> None:  # fmt: skip
    shade, values = (shade_DP, panel.values_DP) if across else (shade_DP.T, panel.values_DP.T)
    axes.imshow(np.ma.masked_invalid(shade), cmap=COLORS, norm=norm, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        _write(axes, row, column, value, float(shade[row, column]), norm)
    for d, name in enumerate(datasets):
        if home.get(name) in places:
            p = list(places).index(home[name])
            x, y = (p, d) if across else (d, p)
            axes.add_patch(Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, fill=False, edgecolor="black", linewidth=1.2))
    titles = [looks.titles[name] for name in datasets]
    told = [
        f"{wrapped(p, 10 if across else 30)}{_count(n, across)}" for p, n in zip(places, panel.counts_P, strict=True)
    ]
    if across:
        axes.set_xticks(range(len(places)), told)
        axes.set_yticks(range(len(datasets)), titles if labelled else [""] * len(titles))
    else:
        axes.set_xticks(range(len(datasets)), titles, rotation=40, ha="right", rotation_mode="anchor")
        names = told if labelled else [_count(n, False).strip(" ·") for n in panel.counts_P]
        axes.set_yticks(range(len(places)), names)
    axes.tick_params(length=0, labelsize=HINT)
    for spine in axes.spines.values():
        spine.set_visible(False)
    titled(axes, panel.title, width=60)


def _write(axes: Axes, row: int, column: int, value: float, shade: float, norm: Normalize) -> None:
    if not np.isfinite(value):
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", edgecolor=INK, linewidth=0, alpha=0.35)
        )
        return
    red, green, blue, _ = colormaps[COLORS](norm(shade if np.isfinite(shade) else 0))
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.52
    axes.text(column, row, decimal(value), ha="center", va="center", fontsize=8, color="white" if dark else "black")


def _count(number: float, across: bool) -> str:
    if not np.isfinite(number):
        return ""
    return f"\nn = {number:,.0f}" if across else f" · {number:,.0f}"


def _bar(figure: Figure, norm: Normalize, axes: Sequence[Axes]) -> None:
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(norm=norm, cmap=COLORS), ax=list(axes), location="bottom", aspect=60, fraction=0.04,
                          shrink=0.5, pad=0.02)  # fmt: skip
    bar.set_label("better or worse than the mean of the pretrained datasets at that place", color=INK, fontsize=HINT)
    bar.ax.tick_params(colors=INK, labelsize=HINT)
    bar.outline.set_visible(False)
