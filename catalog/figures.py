"""Figures of the atlas as SVG: small, the same bytes each time, in the colours of the page that holds them.

Functions take data and return the text of an ``<svg>``; lines and letters take the page's colours by class or ``currentColor``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

__all__ = ["histogram_svg", "interval_svg", "map_svg", "nice_ticks"]

# The world in Equal Earth (EPSG:8857), metres from the middle to its edges; 1,000 units across.
EAST_M, NORTH_M = 17_243_959.1, 8_392_927.6
WIDTH = 1000
HEIGHT = round(WIDTH * NORTH_M / EAST_M)
# Beyond so many samples a dot stands for those of a cell of the map, so that a page of a million samples stays small.
MOST_DOTS = 3000
CELL = 5  # units


def map_svg(
    lonlat: NDArray[np.float64],
    groups: Mapping[str, tuple[str, NDArray[np.bool_]]],
    *,
    land: Sequence[Sequence[int]],
    title: str,
) -> str:
    """A world map of samples, the frequent groups below the rare ones.

    Args:
        lonlat: ``(n, 2)``, EPSG:4326.
        groups: by name, a colour and which samples, ``(n,)``; in the order of their frequency.
        land: rings as :meth:`catalog.land.Land.rings` gives them.
        title: for those who do not see it.
    """
    parts = [f'<path class="sea" d="{_edge()}"/>']
    outlines = "".join(_ring(np.array(ring, dtype=np.float64).reshape(-1, 2) / 100) for ring in land)
    parts.append(f'<path class="land" fill-rule="evenodd" d="{outlines}"/>')
    xy = _project(lonlat)
    dots = _cells(xy, groups) if len(lonlat) > MOST_DOTS else None
    size = max(3.0, min(8.0, 260 / math.sqrt(max(1, len(lonlat)))))
    for name, (colour, held) in groups.items():
        found = _dots(xy[held], size) if dots is None else dots[name]
        for width, path in found.items():
            parts.append(f'<path class="dots" stroke="{colour}" stroke-width="{width:.1f}" d="{path}"/>')
    return f'<svg class="map" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def _project(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Units of the map, ``(n, 2)``, y down."""
    transformer = Transformer.from_crs("EPSG:4326", "EPSG:8857", always_xy=True)
    x, y = transformer.transform(lonlat[:, 0], lonlat[:, 1])
    scale = (WIDTH - 4) / 2 / EAST_M
    return np.column_stack([WIDTH / 2 + np.asarray(x) * scale, HEIGHT / 2 - np.asarray(y) * scale])


def _edge() -> str:
    lat = np.linspace(-90, 90, 61)
    lon = np.repeat([-180.0, 180.0], len(lat))
    return _ring(np.column_stack([lon, np.concatenate([lat, lat[::-1]])]))


def _ring(lonlat: NDArray[np.float64]) -> str:
    points = np.round(_project(lonlat), 1)
    kept = points[np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))]
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in kept) + "Z"


def _dots(xy: NDArray[np.float64], width: float) -> dict[float, str]:
    places = np.unique(np.round(xy, 1), axis=0)
    return {width: "".join(f"M{x:g} {y:g}h0" for x, y in places)}


def _cells(xy: NDArray[np.float64], groups: Mapping[str, tuple[str, NDArray[np.bool_]]]) -> dict[str, dict[float, str]]:
    """Dots that stand for cells: each of the group that most of its samples are of, larger where there are more."""
    columns = WIDTH // CELL + 1
    number = (xy[:, 1] // CELL).astype(np.int64) * columns + (xy[:, 0] // CELL).astype(np.int64)
    cells, where = np.unique(number, return_inverse=True)
    counts_GC = np.stack([np.bincount(where[held], minlength=len(cells)) for _, held in groups.values()])
    total_C = counts_GC.sum(axis=0)
    sizes = np.linspace(0.45, 1.05, 4) * CELL
    levels = np.log(total_C) / max(math.log(total_C.max()), 1e-9)
    level_C = np.minimum(3, (4 * levels).astype(np.int64))
    found: dict[str, dict[float, str]] = {}
    for group, name in enumerate(groups):
        mine = counts_GC.argmax(axis=0) == group
        found[name] = {}
        for level, width in enumerate(sizes):
            chosen = cells[mine & (level_C == level)]
            path = "".join(
                f"M{x:g} {y:g}h0"
                for x, y in zip((chosen % columns + 0.5) * CELL, (chosen // columns + 0.5) * CELL, strict=True)
            )
            if path:
                found[name][float(width)] = path
    return found


def nice_ticks(low: float, high: float, *, wanted: int = 6) -> list[float]:
    """Round numbers between two bounds, about as many as wanted."""
    rough = max(high - low, 1e-9) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= rough * (1 - 1e-9))
    return [round(k * step, 10) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def histogram_svg(
    counts: Sequence[int], *, low: float, high: float, marks: Sequence[float] = (), title: str, colour: str
) -> str:
    """A histogram of equal bins between two bounds, with lines at some values.

    Args:
        counts: of the bins.
        low: lower bound of the first.
        high: upper bound of the last.
        marks: values to draw a line at.
        title: for those who do not see it.
        colour: of the bars.
    """
    width, base, height = 360, 92, 112
    most = max([1, *counts])
    step = width / max(1, len(counts))
    tall = [(base - 6) * n / most for n in counts]
    bars = "".join(
        f'<rect x="{k * step + 0.4:.1f}" y="{base - high_k:.1f}" width="{step - 0.8:.1f}" height="{high_k:.1f}"/>'
        for k, high_k in enumerate(tall)
        if high_k
    )

    def at(value: float) -> float:
        return (value - low) / (high - low) * width

    lines = "".join(f'<line class="mark" x1="{at(v):.1f}" x2="{at(v):.1f}" y1="0" y2="{base}"/>' for v in marks)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}"><g fill="{colour}">{bars}</g>{lines}'
        f"{_axis(at, nice_ticks(low, high), width, base)}</svg>"
    )


def _axis(at: Callable[[float], float], ticks: Sequence[float], width: int, base: int) -> str:
    """A line with numbers below it; those at its ends stay within."""
    letters = []
    for value in ticks:
        x = at(value)
        anchor = "start" if x < 8 else "end" if x > width - 8 else "middle"
        letters.append(f'<text x="{x:.1f}" y="{base + 15}" text-anchor="{anchor}">{value:g}</text>')
    return f'<g class="axis"><line x1="0" x2="{width}" y1="{base}" y2="{base}"/>{"".join(letters)}</g>'


def interval_svg(
    rows: Sequence[tuple[str, float, float, float, str]], *, title: str, maximum: float | None = None
) -> str:
    """Values with their intervals, a row each.

    Args:
        rows: name, value, lower and upper bound, and colour; not a number where there is none.
        title: for those who do not see it.
        maximum: the highest possible value, drawn as a line.
    """
    width, left, row = 460, 130, 24
    base = row * len(rows) + 4
    known = [number for _, value, low, high, _ in rows for number in (value, low, high) if math.isfinite(number)]
    top = max([maximum or 0.0, *known, 1e-9]) * 1.02

    def at(value: float) -> float:
        return left + value / top * (width - left - 52)

    parts = []
    if maximum is not None:
        parts.append(f'<line class="most" x1="{at(maximum):.1f}" x2="{at(maximum):.1f}" y1="0" y2="{base}"/>')
    for k, (name, value, low, high, colour) in enumerate(rows):
        y = row * k + row / 2 + 1
        short = name if len(name) <= 18 else name[:17] + "…"
        parts.append(f'<text class="name" x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(short)}</text>')
        if not math.isfinite(value):
            parts.append(f'<text x="{left}" y="{y + 4:.1f}">none</text>')
            continue
        if math.isfinite(low) and math.isfinite(high):
            parts.append(
                f'<line class="interval" stroke="{colour}" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{y}" y2="{y}"/>'
            )
        parts.append(f'<circle cx="{at(value):.1f}" cy="{y}" r="4.6" fill="{colour}"/>')
        end = at(high if math.isfinite(high) else value)
        parts.append(f'<text class="value" x="{end + 9:.1f}" y="{y + 4:.1f}">{value:.2f}</text>')
    ticks = "".join(
        f'<text x="{at(v):.1f}" y="{base + 15}" text-anchor="middle">{v:g}</text>' for v in nice_ticks(0, top, wanted=5)
    )
    axis = f'<g class="axis"><line x1="{left}" x2="{width}" y1="{base}" y2="{base}"/>{ticks}</g>'
    return (
        f'<svg viewBox="0 0 {width} {base + 22}" role="img" aria-label="{escape(title)}">{"".join(parts)}{axis}</svg>'
    )
