"""Figures of a study: functions that take data and return a matplotlib ``Figure``; nothing is shown or saved here.

Colours are Okabe and Ito's, told apart by the colour-blind; every dataset also has a marker of its own. Backgrounds are
clear and lines take ``INK``, so that a page can set both (see :mod:`training.report`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    import geopandas as gpd

    from training.correlation import Correlation

__all__ = [
    "COLORS",
    "INK",
    "MARKERS",
    "bar_figure",
    "blank_figure",
    "chips_figure",
    "color_limits",
    "draw_points",
    "heat_figure",
    "inked",
    "label_points",
    "map_figure",
    "relations_figure",
    "scatter_figure",
    "style_of",
]

INK = "#3c3c3d"  # a grey that nothing else uses: a page replaces it by its own text colour
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8A8A8A", "#B8A800")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STRETCH = (1, 96)  # percentiles of each band that true colour spans: clouds may be white
BRIGHTEST = 3000  # DN: reflectance 0.3, where the usual true colour of Sentinel-2 ends
GAMMA = 0.6  # brightens what is dark: forest and water reflect a tenth of what bare ground does
MANY = 5000  # points beyond which a map is drawn as pixels, not as shapes


def style_of(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each dataset; together they repeat after 64."""
    turns = len(MARKERS)
    return {name: (COLORS[i % len(COLORS)], MARKERS[(i + i // turns) % turns]) for i, name in enumerate(names)}


def map_figure(places: Mapping[str, np.ndarray], *, land: gpd.GeoDataFrame | None = None) -> Figure:
    """A world map of samples, a colour and a marker a dataset.

    Args:
        places: for each dataset (n, 2) longitudes and latitudes, EPSG:4326.
        land: polygons to draw beneath, EPSG:4326; only a grid without them.
    """
    figure, axes = blank_figure(9.6, 4.7)
    figure.set_layout_engine("none")  # an axes of fixed aspect and a legend below it are laid out by hand
    axes.set_position((0.06, 0.18, 0.92, 0.80))
    if land is not None:
        land.plot(ax=axes, facecolor=INK, edgecolor="none", alpha=0.13, aspect=None)
    styles, total = style_of(list(places)), sum(map(len, places.values()))
    for name, lonlat in places.items():
        color, marker = styles[name]
        axes.scatter(
            x=lonlat[:, 0],
            y=lonlat[:, 1],
            s=26 if total < 2000 else 4,
            c=color,
            marker=marker,
            alpha=0.8,
            linewidths=0,
            label=f"{name} ({len(lonlat):,})",
            rasterized=total > MANY,
        )
    axes.set(xlabel="", ylabel="")  # geopandas names the axes; degrees with N and E say the same
    axes.set(xlim=(-180, 180), ylim=(-60, 84), xticks=range(-180, 181, 60), yticks=range(-60, 81, 30))
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}°{'W' if value < 0 else 'E' if value else ''}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}°{'S' if value < 0 else 'N' if value else ''}")
    axes.set_aspect("equal")
    axes.grid(True, color=INK, alpha=0.12, linewidth=0.6)
    figure.legend(
        ncols=4,
        loc="lower center",
        frameon=False,
        labelcolor=INK,
        markerscale=1.3 if total < 2000 else 2.6,
        fontsize=10,
    )
    return figure


def color_limits(chips_by_dataset: Mapping[str, np.ndarray]) -> np.ndarray:
    """Lowest and highest shown value of each band over all datasets, (2, 3): one stretch for all, so that they compare.

    The highest is at most reflectance 0.3, as Sentinel-2's true colour is usually shown: clouds and snow may saturate.

    Args:
        chips_by_dataset: (n, 3, H, W) digital numbers of red, green and blue; 0 is no data.
    """
    bands = [np.concatenate([chips[:, band].ravel() for chips in chips_by_dataset.values()]) for band in range(3)]
    held = [band[band > 0] for band in bands]
    limits: np.ndarray = np.array([np.percentile(band, STRETCH) if len(band) else (0, 1) for band in held]).T
    return np.asarray(np.minimum(limits, np.array([[BRIGHTEST / 2], [BRIGHTEST]])))


def chips_figure(chips_NCHW: np.ndarray, *, limits: np.ndarray) -> Figure:
    """A row of chips in true colour, each pixel a square.

    Args:
        chips_NCHW: (n, 3, H, W) digital numbers of red, green and blue.
        limits: what :func:`color_limits` gave.
    """
    low, high = limits[:, :, None, None]
    shown = np.clip((chips_NCHW - low) / np.maximum(high - low, 1), 0, 1) ** GAMMA
    figure = Figure(figsize=(1.2 * len(shown), 1.2), facecolor="none")
    for column, image in enumerate(shown):
        axes = figure.add_axes((column / len(shown), 0, 0.97 / len(shown), 1))
        axes.imshow(image.transpose(1, 2, 0), interpolation="none")
        axes.set_axis_off()
    return figure


def bar_figure(
    values: Mapping[str, float],
    *,
    label: str,
    intervals: Mapping[str, tuple[float, float]],
    maximum: float | None = None,
) -> Figure:
    """Horizontal bars of one measure by dataset, with its interval; a dataset without a value gets no bar.

    Args:
        values: the measure of each dataset, the first on top.
        label: what it is, with its unit.
        intervals: lower and upper bound, where known.
        maximum: the highest possible value, drawn as a line.
    """
    figure, axes = blank_figure(4.6, 0.34 * len(values) + 0.9)
    styles = style_of(list(values))
    for row, (name, value) in enumerate(values.items()):
        if not np.isfinite(value):
            axes.annotate(
                "no value", (0, row), xytext=(4, 0), textcoords="offset points", va="center", color=INK, fontsize=9
            )
            continue
        axes.barh(row, value, color=styles[name][0], height=0.66)
        low, high = intervals.get(name, (value, value))
        if high > low:
            axes.plot([low, high], [row, row], color=INK, linewidth=1.3)
        axes.annotate(
            f"{value:.2f}", (max(value, high), row), xytext=(4, 0), textcoords="offset points", va="center", color=INK,
            fontsize=9,
        )  # fmt: skip
    if maximum is not None:
        axes.axvline(maximum, color=INK, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(values)), list(values))
    axes.invert_yaxis()
    axes.set_xlabel(label)
    top = max(
        [*(v for v in values.values() if np.isfinite(v)), *(high for _, high in intervals.values()), maximum or 0]
    )
    axes.set_xlim(0, 1.18 * top if top > 0 else 1)
    return figure


def scatter_figure(
    points: Mapping[str, tuple[float, float]],
    *,
    xlabel: str,
    ylabel: str,
    correlation: Correlation | None,
    spread: Mapping[str, float] | None = None,
) -> Figure:
    """Diversity against score, a point a dataset, with the coefficient and its p above.

    Args:
        points: diversity and score of each dataset.
        xlabel: what the diversity is, with its unit.
        ylabel: what the score is.
        correlation: of these points.
        spread: how far the score goes to either side (its deviation over seeds), where known.
    """
    figure, axes = blank_figure(4.6, 3.5)
    draw_points(axes, points, xlabel=xlabel, ylabel=ylabel, correlation=correlation, spread=spread or {})
    return figure


def relations_figure(results: Sequence[Correlation]) -> Figure:
    """All that was found of several measures: each against the score, and below their intervals and leave-one-out ranges.

    Args:
        results: correlations with one score, as :func:`training.correlation.correlate_table` gives them.
    """
    columns = min(2, len(results))
    rows = -(-len(results) // columns)
    below = 0.42 * len(results) + 1.5
    figure = Figure(figsize=(4.8 * columns, 3.4 * rows + below), layout="constrained", facecolor="none")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[3.4] * rows + [below])
    names = list(dict.fromkeys(name for result in results for name in result.datasets))
    for i, result in enumerate(results):
        axes = inked(figure.add_subplot(grid[i // columns, i % columns], facecolor="none"))
        pairs = dict(zip(result.datasets, zip(result.values, result.scores, strict=True), strict=True))
        spread = {name: sd for name, sd in zip(result.datasets, result.score_sd, strict=True) if np.isfinite(sd)}
        points = {name: pairs.get(name, (np.nan, np.nan)) for name in names}  # one look a dataset in every panel
        draw_points(axes, points, xlabel=result.by, ylabel=result.score, correlation=result, spread=spread)
    _draw_relations(inked(figure.add_subplot(grid[rows, :], facecolor="none")), results)
    return figure


def draw_points(
    axes: Axes,
    points: Mapping[str, tuple[float, float]],
    *,
    xlabel: str,
    ylabel: str,
    correlation: Correlation | None,
    spread: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]] | None = None,
    styles: Mapping[str, tuple[str, str]] | None = None,
) -> None:
    """Draw diversity against score into axes, names at the points.

    Args:
        axes: where to.
        points: diversity and score of each dataset.
        xlabel: what the diversity is, with its unit.
        ylabel: what the score is; empty for none.
        correlation: of these points, whose coefficient is put above; ``None`` to say nothing.
        spread: how far a score goes to either side, where known.
        bounds: lower and upper bound of a diversity, where known.
        styles: colour and marker of each; by their order where not given.
    """
    styles = styles or style_of(list(points))
    for name, (x, y) in points.items():
        color, marker = styles[name]
        if name in spread:
            axes.plot([x, x], [y - spread[name], y + spread[name]], color=color, linewidth=1.3, zorder=2)
        if bounds and name in bounds:
            axes.plot(bounds[name], [y, y], color=color, linewidth=1.3, zorder=2)
        axes.scatter(x, y, s=52, color=color, marker=marker, linewidths=0, zorder=3)
    axes.margins(x=0.26, y=0.14)
    label_points(axes, points)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(True, color=INK, alpha=0.12, linewidth=0.6)
    if correlation is not None:
        whose = correlation.method.capitalize()
        text = (
            f"{whose} {correlation.rho:.2f}, p = {correlation.p:.3f}"
            if np.isfinite(correlation.rho)
            else f"{whose} undefined: no spread"
        )
        axes.set_title(f"{text}   (n = {correlation.n})", loc="left", fontsize=11, color=INK)


def _draw_relations(axes: Axes, results: Sequence[Correlation]) -> None:
    """A row a measure: a line for the 95 % interval, a bar from the smallest to the largest leave-one-out value, a dot."""
    for row, result in enumerate(results):
        color = COLORS[0] if result.verdict.word == "shown" else INK
        axes.plot([result.ci_low, result.ci_high], [row, row], color=color, linewidth=1.3, zorder=2)
        without = [left.rho for left in result.leave_one_out if np.isfinite(left.rho)]
        if without:
            axes.plot([min(without), max(without)], [row, row], color=color, linewidth=7, alpha=0.3, zorder=2,
                      solid_capstyle="butt")  # fmt: skip
        axes.scatter(result.rho, row, s=52, color=color, linewidths=0, zorder=3)
        axes.annotate(
            result.verdict.word, (1.02, row), xycoords=("axes fraction", "data"), va="center", color=color, fontsize=10
        )
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(results)), [result.by for result in results])
    axes.set(xlim=(-1.03, 1.03), ylim=(len(results) - 0.4, -0.6))
    axes.set_xlabel("coefficient with 95 % interval (line), and without any one dataset (bar)")


def label_points(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each name beside its point, on the first of six sides where it covers no name written before."""
    finite = {name: point for name, point in points.items() if np.isfinite(point).all()}
    axes.autoscale_view()  # limits are otherwise settled only when the figure is drawn
    to_axes = axes.transData + axes.transAxes.inverted()
    written: list[tuple[float, float, float, float]] = []
    for name, point in sorted(finite.items(), key=lambda item: -item[1][1]):
        x, y = to_axes.transform(point)
        width, height = 0.019 * len(name), 0.062  # of the axes, about, at this size of letters
        sides = [(0.025, 0.0), (-0.025 - width, 0.0), (0.01, 0.055), (0.01, -0.055), (-width, 0.055), (-width, -0.055)]
        boxes = [(x + dx, y + dy, x + dx + width, y + dy + height) for dx, dy in sides]
        inside = [box for box in boxes if box[0] >= 0 and box[2] <= 1] or boxes
        free = [box for box in inside if not any(_overlap(box, other) for other in written)]
        box = (free or inside)[0]
        written.append(box)
        leftward = box[0] < x - 0.02  # anchored at the end that is near the point: widths are estimates
        text = axes.text(
            box[2] if leftward else box[0], box[1], name, transform=axes.transAxes, va="center",
            ha="right" if leftward else "left", color=INK, fontsize=9,
        )  # fmt: skip
        text.set_in_layout(False)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def heat_figure(values_RC: np.ndarray, *, rows: Sequence[str], columns: Sequence[str], label: str) -> Figure:
    """A matrix of scores as shades with their numbers; empty where there is none.

    Args:
        values_RC: the scores; NaN is none.
        rows: what was pretrained on.
        columns: where it was tested.
        label: what the numbers are.
    """
    figure, axes = blank_figure(1.05 * len(columns) + 1.8, 0.42 * len(rows) + 1.3)
    image = axes.imshow(np.ma.masked_invalid(values_RC), cmap="cividis", aspect="auto")
    low, high = np.nanmin(values_RC), np.nanmax(values_RC)
    for (row, column), value in np.ndenumerate(values_RC):
        if np.isfinite(value):
            dark = (value - low) < 0.55 * (high - low) or high == low
            axes.text(
                column, row, f"{value:.2f}", ha="center", va="center", fontsize=9, color="white" if dark else "black"
            )
    axes.set_xticks(range(len(columns)), list(columns))
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label(label, color=INK)
    bar.ax.tick_params(colors=INK, labelsize=9)
    bar.outline.set_visible(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def blank_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure (inches) with one axes, clear, with ink for everything that is not data."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    return figure, inked(figure.add_subplot(facecolor="none"))


def inked(axes: Any) -> Axes:
    """The axes with ink for everything that is not data, and lines on two sides."""
    axes.tick_params(colors=INK, labelsize=10)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_linewidth(0.8)
        spine.set_visible(side in {"left", "bottom"})
    return axes  # type: ignore[no-any-return]
