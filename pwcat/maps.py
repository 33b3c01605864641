"""A plan as a map of the world: where its sites lie, by the classes of a layer, or how densely.

The projection is Equal Earth (EPSG:8857): areas are true, so that what looks dense is dense.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from pwcat.costs.expected import NO_LAYERS, class_codes, is_text
from pwcat.errors import PwcatError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon
    from matplotlib.path import Path

__all__ = ["draw_map"]

# Okabe and Ito's colours and Tol's wine and olive, told apart by the colour-blind; most frequent class first.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#882255", "#999933", "#332288")
OTHER, NONE = "#5F5F5F", "#A6A6A6"
INK, SEA, LAND, GRATICULE = "#2B2B2B", "#FFFFFF", "#E4E2DC", "#D9DDE0"

WIDTH_IN, HEIGHT_IN, DPI = 16.0, 10.2, 100  # 1600 x 1020 pixels
MANY = 20_000  # sites beyond which their density is drawn
MANY_SHAPES = 4000  # points beyond which a vector file holds them as pixels
HEXAGONS = (100, 220)  # across the world, fewer where sites are few: 340 to 155 km each
LABEL_CHARACTERS = 57
LAND_TOLERANCE_DEG = 0.03  # a seventh of a pixel


def draw_map(
    table: pa.Table,
    *,
    title: str,
    colour_by: str = "biome",
    land: Iterable[shapely.Geometry] | None = None,
    attribution: str | None = None,
) -> Figure:
    """A world map of a plan's sites: points in the colours of a layer's classes, or density beyond :data:`MANY` sites.

    Args:
        table: of the plan: ``lon``, ``lat`` (EPSG:4326) and the layer's column.
        title: stands above the map.
        colour_by: the layer.
        land: polygons to draw beneath, EPSG:4326.
        attribution: stands below the map.

    Raises:
        PwcatError: the table has no such layer.
    """
    from matplotlib.figure import Figure

    groups = _groups(table, colour_by)
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, facecolor="white")
    rows = -(-len(groups) // 3)
    axes = figure.add_axes((0.012, 0.07 + 0.026 * rows, 0.976, 0.83 - 0.026 * rows))
    edge = _draw_world(axes, land)
    dense = len(table) > MANY
    x, y = _project(np.column_stack([table["lon"].to_numpy(), table["lat"].to_numpy()]))
    if dense:
        _draw_density(figure, axes, x, y).set_clip_path(edge)
    else:
        _draw_points(axes, x, y, groups)
    layer = colour_by.replace("_", " ")
    what = f"their density; counts by {layer} below" if dense else f"by {layer}"
    figure.text(0.02, 0.962, title, fontsize=22, fontweight="bold", color=INK, va="center")
    figure.text(0.02, 0.923, f"{len(table):,} samples, {what}", fontsize=15, color=INK, va="center")
    notes = " · ".join(filter(None, (attribution, "Equal Earth projection (EPSG:8857)")))
    figure.text(0.98, 0.018, notes, fontsize=10.5, color="#6B6B6B", ha="right", va="center")
    _draw_legend(figure, groups, coloured=not dense)
    return figure


class _Group:
    """Sites that share a colour: a class, the rarer classes together, or those that have none."""

    def __init__(self, name: str, colour: str, rows: NDArray[np.intp]) -> None:
        self.name, self.colour, self.rows = name, colour, rows

    @property
    def label(self) -> str:
        """Name, cut to what fits a column, and count."""
        fits = len(self.name) <= LABEL_CHARACTERS
        return f"{self.name if fits else self.name[: LABEL_CHARACTERS - 1].rstrip() + '…'}  {len(self.rows):,}"


def _groups(table: pa.Table, layer: str) -> list[_Group]:
    """At most eleven: the classes by frequency, the rest as one, and those without a class."""
    layers = [field.name for field in table.schema if is_text(field.type) and field.name not in NO_LAYERS - {"stratum"}]
    if layer not in {*layers, "split"}:
        raise PwcatError(f"the plan has no layer {layer!r} to colour by; it has {', '.join([*layers, 'split'])}")
    codes, names = class_codes(table[layer])
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    order = [code for code in np.lexsort((np.array(names), -counts)) if counts[code]]
    shown = order if len(order) <= len(COLOURS) else order[: len(COLOURS)]
    groups = [_Group(names[k], COLOURS[i], np.flatnonzero(codes == k)) for i, k in enumerate(shown)]
    if rest := order[len(shown) :]:
        groups.append(_Group(f"{len(rest):,} other classes", OTHER, np.flatnonzero(np.isin(codes, rest))))
    if (codes < 0).any():
        groups.append(_Group("none", NONE, np.flatnonzero(codes < 0)))
    return groups


def _project(lonlat: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eastings and northings in metres, EPSG:8857, of ``(n, 2)`` longitudes and latitudes."""
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:8857", always_xy=True).transform(lonlat[:, 0], lonlat[:, 1])
    return np.asarray(x), np.asarray(y)


def _draw_world(axes: Axes, land: Iterable[shapely.Geometry] | None) -> Polygon:
    """The outline of the earth, which is answered, its graticule, and land."""
    lat = np.linspace(-90, 90, 181)
    edge_lat = np.concatenate([lat, lat[::-1]])
    x, y = _project(np.column_stack([np.repeat([-180.0, 180.0], len(lat)), edge_lat]))
    (edge,) = axes.fill(x, y, facecolor=SEA, edgecolor="none", zorder=0)
    for lon in range(-150, 180, 30):
        axes.plot(*_project(np.column_stack([np.full(len(lat), float(lon)), lat])), color=GRATICULE, lw=0.7, zorder=1)
    for parallel in range(-60, 90, 30):
        line = np.column_stack([[-180.0, 180.0], [parallel, parallel]])  # parallels are straight
        axes.plot(*_project(line), color=GRATICULE, lw=0.7, zorder=1)
    if land is not None and (path := _land_path(land)) is not None:
        from matplotlib.patches import PathPatch

        # edged in its own colour, so that no seams show where polygons meet
        patch = axes.add_patch(PathPatch(path, facecolor=LAND, edgecolor=LAND, linewidth=0.5, zorder=2))
        patch.set_clip_path(edge)
    axes.plot(np.append(x, x[0]), np.append(y, y[0]), color="#9AA3A8", lw=1.0, zorder=5)
    axes.set_aspect("equal")
    axes.margins(0.008)
    axes.set_axis_off()
    return edge


def _land_path(land: Iterable[shapely.Geometry]) -> Path | None:
    """All rings of the polygons in one path; outer ones turn left and holes right, so that holes stay open."""
    from matplotlib.path import Path
    from shapely.geometry.polygon import orient

    world = shapely.box(-180, -90, 180, 90)
    parts = shapely.get_parts(np.array([shape for shape in land if shape is not None], dtype=object))
    parts = parts[np.isin(shapely.get_type_id(parts), (shapely.GeometryType.POLYGON,))]
    parts = shapely.make_valid(shapely.simplify(parts, LAND_TOLERANCE_DEG, preserve_topology=False))
    parts = shapely.get_parts(shapely.get_parts(shapely.intersection(parts, world)))
    parts = parts[(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)]
    rings = shapely.get_rings([orient(part) for part in shapely.segmentize(parts, 2.0)])
    if not len(rings):
        return None
    xy = [np.column_stack(_project(shapely.get_coordinates(ring))) for ring in rings]
    return Path.make_compound_path(*(Path(ring, closed=True) for ring in xy))


def _draw_points(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], groups: Sequence[_Group]) -> None:
    """The frequent classes first, so that the rare ones are seen; those without a class beneath all."""
    size = float(np.clip(20_000 / max(len(x), 1), 5, 46))
    for group in sorted(groups, key=lambda each: (each.name != "none", -len(each.rows))):
        axes.scatter(
            x[group.rows],
            y[group.rows],
            s=size,
            c=group.colour,
            alpha=0.9 if len(x) < 2000 else 0.75,
            linewidths=0.5 if size > 12 else 0.0,
            edgecolors="white" if size > 12 else "none",
            rasterized=len(x) > MANY_SHAPES,
            zorder=4,
        )


def _draw_density(figure: Figure, axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> PolyCollection:
    """Sites a hexagon, on a scale of powers of ten; hexagons without a site stay clear."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm

    across = int(np.clip(0.6 * np.sqrt(len(x)), *HEXAGONS))
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    grid = (across, round((top - bottom) / (right - left) * across / np.sqrt(3)))
    cells = axes.hexbin(
        x,
        y,
        gridsize=grid,
        extent=(left, right, bottom, top),
        mincnt=1,
        norm=LogNorm(),
        cmap=ListedColormap(colormaps["YlGnBu"](np.linspace(0.3, 1.0, 256))),
        linewidths=0.1,
        zorder=4,
    )
    area = (right - left) / grid[0] * (top - bottom) / grid[1] / 2 / 1e6
    bar = figure.colorbar(cells, cax=figure.add_axes((0.735, 0.93, 0.24, 0.014)), orientation="horizontal")
    bar.ax.tick_params(labelsize=11, color=INK, labelcolor=INK)
    bar.ax.set_title(f"samples a hexagon of {area:,.0f} km²", fontsize=11.5, color=INK, loc="left", pad=6)
    return cells


def _draw_legend(figure: Figure, groups: Sequence[_Group], *, coloured: bool) -> None:
    """The classes with their counts, in three columns below the map, read row by row."""
    from matplotlib.lines import Line2D

    columns = min(3, len(groups))
    by_row = [groups[k] for column in range(columns) for k in range(column, len(groups), columns)]
    marks = [Line2D([], [], ls="", marker="o", ms=9, mec="none", mfc=group.colour) for group in by_row]
    figure.legend(
        marks,
        [group.label for group in by_row],
        loc="lower left",
        bbox_to_anchor=(0.012, 0.035),
        ncols=columns,
        fontsize=11,
        labelcolor=INK,
        frameon=False,
        handletextpad=0.3 if coloured else -1.2,
        columnspacing=1.8,
    )
    if not coloured:
        for mark in figure.legends[-1].legend_handles:
            if mark is not None:
                mark.set_visible(False)
