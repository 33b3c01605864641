"""A plan as a map of the world: where its sites lie, by the classes of a layer, or how densely.

The projection is Equal Earth (EPSG:8857): areas are true, so that what looks dense is dense.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from pwcat.costs.expected import class_codes, layers_of
from pwcat.errors import PwcatError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon
    from matplotlib.path import Path

__all__ = ["COLOURS", "draw_map", "united"]

# Okabe and Ito's colours and Tol's wine and olive, told apart by the colour-blind; then those that lie farthest from them and
# from each other in CIELAB, to all eyes and (by Machado's matrices of 2009) to eyes without red or green. They are given to the
# most frequent classes first.
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#882255", "#999933", "#332288",
    "#DD2244", "#335522", "#5588FF", "#662200", "#EE33FF", "#00DD66", "#FFAA99", "#7700BB", "#0000FF", "#BB0099",
    "#F0E442",
)  # fmt: skip
# More classes than that get the colours again, mixed with white, with black, with grey: enough for each continent's biomes.
# Still more classes share the colours, as countries do on a globe, and no legend names them.
MIXED = ((255, 0.45), (0, 0.45), (128, 0.5))
MOST_CLASSES = len(COLOURS) * (1 + len(MIXED))
NONE = "#A6A6A6"
INK, SEA, LAND, COAST, GRATICULE = "#2B2B2B", "#FFFFFF", "#E4E2DC", "#4A4F52", "#D9DDE0"

WIDTH_IN, MAP_IN, DPI = (
    16.0,
    7.75,
    100,
)  # 1600 pixels across, 775 of them for the map; title and legend take what they need
HEAD_IN, FOOT_IN = 1.0, 0.4
MANY = 20_000  # sites beyond which their density is drawn, unless a layer is asked for
MANY_SHAPES = 4000  # points beyond which a vector file holds them as pixels
HEXAGONS = (100, 220)  # across the world, fewer where sites are few: 340 to 155 km each
LAND_TOLERANCE_DEG = 0.03  # a seventh of a pixel
SEAM_DEG = (
    0.1  # half the width up to which a cleft between polygons is a seam: neighbours simplified apart from each other
)
GAP_DEG2 = 0.3  # holes in land up to this size are seams between polygons, or lakes of a few pixels
NEAR, LEAST_M = (
    0.3,
    3e6,
)  # share of the world's width up to which sites are looked at from near, and the least seen, metres
COLUMNS = 3  # of the legend
# Size of its type and inches a row: for a few short names, and for many or long ones, which are cut if they must be.
LARGE, SMALL = (11.0, 0.262), (8.5, 0.2)
MOST_LETTERS = 69
MANY_NAMES = 24  # more are set small; of classes whose colours are not named, so many are counted


def draw_map(
    table: pa.Table,
    *,
    title: str,
    colour_by: str = "biome",
    density: bool | None = None,
    land: Iterable[shapely.Geometry] | None = None,
    attribution: str | None = None,
) -> Figure:
    """A world map of a plan's sites: points in the colours of a layer's classes, or how many there are where.

    Args:
        table: of the plan: ``lon``, ``lat`` (EPSG:4326) and the layer's column.
        title: stands above the map.
        colour_by: the layer, whose classes are counted below the map in either case.
        density: whether to draw hexagons instead of points; ``None``: beyond :data:`MANY` sites.
        land: polygons to draw beneath, and their common outline above, EPSG:4326.
        attribution: stands below the map.

    Raises:
        PwcatError: the table has no such layer.
    """
    from matplotlib.figure import Figure

    dense = len(table) > MANY if density is None else density
    groups = _groups(table, colour_by)
    classes = sum(group.colour != NONE for group in groups)
    legend = _Legend(groups, named=classes <= MOST_CLASSES, marked=not dense)
    height = HEAD_IN + MAP_IN + legend.height_in + FOOT_IN
    figure = Figure(figsize=(WIDTH_IN, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.012, (legend.height_in + FOOT_IN) / height, 0.976, MAP_IN / height))
    edge = _draw_world(axes, land, coast_above=len(table) > MANY)
    x, y = _project(np.column_stack([table["lon"].to_numpy(), table["lat"].to_numpy()]))
    if dense:
        bar = figure.add_axes((0.735, 1 - 0.71 / height, 0.24, 0.14 / height))
        _draw_density(figure, axes, bar, x, y).set_clip_path(edge)
    else:
        _draw_points(axes, x, y, groups)
    _look_near(axes, x, y)
    layer = {"landcover": "land cover"}.get(colour_by, colour_by.replace("_", " "))
    what = f"their density; counts by {layer} below" if dense else f"by {layer}"
    if not dense and classes > MOST_CLASSES:
        what += f": {classes:,} classes, which share {len(COLOURS)} colours"
    figure.text(0.02, 1 - 0.39 / height, title, fontsize=22, fontweight="bold", color=INK, va="center")
    figure.text(0.02, 1 - 0.79 / height, f"{len(table):,} samples, {what}", fontsize=15, color=INK, va="center")
    notes = " · ".join(filter(None, (attribution, "Equal Earth projection (EPSG:8857)")))
    figure.text(0.98, 0.18 / height, notes, fontsize=10.5, color="#6B6B6B", ha="right", va="center")
    legend.draw(figure, bottom=FOOT_IN / height)
    return figure


@dataclass(frozen=True)
class _Group:
    """Sites of one class, or those that have none."""

    name: str
    colour: str
    rows: NDArray[np.intp]

    def label(self, most: int) -> str:
        """Name, cut to so many characters, and count."""
        name = self.name if len(self.name) <= most else self.name[: most - 1].rstrip() + "…"
        return f"{name}  {len(self.rows):,}"


def _groups(table: pa.Table, layer: str) -> list[_Group]:
    """The classes by frequency, and those without a class."""
    known = [*layers_of(table), *(name for name in ("stratum", "split") if name in table.column_names)]
    if layer not in known:
        raise PwcatError(f"the plan has no layer {layer!r} to colour by; it has {', '.join(known)}")
    codes, names = class_codes(table[layer])
    counts = np.bincount(codes + 1, minlength=len(names) + 1)
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])  # those without a class first
    order = [code for code in np.lexsort((np.array(names), -counts[1:])) if counts[code + 1]]
    colours = _colours() if len(order) <= MOST_CLASSES else COLOURS
    groups = [_Group(names[k], colours[i % len(colours)], rows[k + 1]) for i, k in enumerate(order)]
    return [*groups, *([_Group("none", NONE, rows[0])] if counts[0] else [])]


def _colours() -> list[str]:
    """:data:`MOST_CLASSES` colours, the purest first."""
    pure = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in COLOURS])
    mixed = [np.round(pure + share * (other - pure)).astype(int) for other, share in ((0, 0.0), *MIXED)]
    return ["#{:02X}{:02X}{:02X}".format(*rgb) for rgb in np.concatenate(mixed)]


def _project(lonlat: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eastings and northings in metres, EPSG:8857, of ``(n, 2)`` longitudes and latitudes."""
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:8857", always_xy=True).transform(lonlat[:, 0], lonlat[:, 1])
    return np.asarray(x), np.asarray(y)


def _draw_world(axes: Axes, land: Iterable[shapely.Geometry] | None, *, coast_above: bool) -> Polygon:
    """The outline of the earth, which is answered, its graticule, land, and the coast: below what is drawn, or above."""
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
        from matplotlib.patheffects import withStroke

        # The halo lets the coast stand out from what it lies on, light or dark
        halo = [withStroke(linewidth=1.7, foreground="white", alpha=0.8)]
        fill = PathPatch(path, facecolor=LAND, edgecolor="none", zorder=2)
        coast = PathPatch(path, facecolor="none", edgecolor=COAST, linewidth=0.6, path_effects=halo)
        coast.set_zorder(4.5 if coast_above else 3)
        for patch in (fill, coast):
            axes.add_patch(patch).set_clip_path(edge)
    axes.plot(np.append(x, x[0]), np.append(y, y[0]), color="#9AA3A8", lw=1.0, zorder=5)
    axes.set_aspect("equal")
    axes.margins(0.008)
    axes.set_axis_off()
    return edge


def _look_near(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Show the part of the world that the sites lie in, where that is small; at least :data:`LEAST_M` of it."""
    if not len(x):
        return
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    world_m = right - left
    aspect = (high - low) / world_m
    spread_m = max(np.ptp(x), np.ptp(y) / aspect) * 1.3
    if spread_m > NEAR * world_m:
        return
    width_m = max(spread_m, LEAST_M)
    middle_x, middle_y = (float(axis.min() + axis.max()) / 2 for axis in (x, y))
    axes.set_xlim(middle_x - width_m / 2, middle_x + width_m / 2)
    axes.set_ylim(middle_y - width_m / 2 * aspect, middle_y + width_m / 2 * aspect)


def _land_path(land: Iterable[shapely.Geometry]) -> Path | None:
    """All rings of the polygons' union in one path; outer ones turn left and holes right, so that holes stay open."""
    from matplotlib.path import Path
    from shapely.geometry.polygon import orient

    rings = shapely.get_rings([orient(part) for part in shapely.segmentize(united(land), 2.0)])
    if not len(rings):
        return None
    xy = [np.column_stack(_project(shapely.get_coordinates(ring))) for ring in rings]
    return Path.make_compound_path(*(Path(ring, closed=True) for ring in xy))


def united(land: Iterable[shapely.Geometry]) -> NDArray[np.object_]:
    """The polygons within the world, simplified and merged, so that no borders and no seams are left between them."""
    parts = _polygons(np.array([shape for shape in land if shape is not None], dtype=object))
    parts = shapely.make_valid(shapely.simplify(parts, LAND_TOLERANCE_DEG, preserve_topology=False))
    union = shapely.union_all(_polygons(parts))
    closed = shapely.buffer(shapely.buffer(union, SEAM_DEG, join_style="mitre"), -SEAM_DEG, join_style="mitre")
    whole = shapely.intersection(closed, shapely.box(-180, -90, 180, 90))
    return np.array([_without_gaps(part) for part in _polygons(np.array([whole], dtype=object))], dtype=object)


def _polygons(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """The single polygons among shapes and their parts."""
    parts = shapely.get_parts(shapely.get_parts(shapes))
    found: NDArray[np.object_] = parts[
        (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
    ]
    return found


def _without_gaps(polygon: shapely.Polygon) -> shapely.Polygon:
    holes = [ring for ring in polygon.interiors if shapely.area(shapely.polygons(ring)) > GAP_DEG2]
    return shapely.Polygon(polygon.exterior, holes)


def _draw_points(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], groups: Sequence[_Group]) -> None:
    """The frequent classes first, so that the rare ones are seen; those without a class beneath all."""
    many = len(x) > MANY
    size = float(np.clip(150_000 / len(x), 0.5, 5) if many else np.clip(20_000 / max(len(x), 1), 5, 46))
    alike: dict[str, list[NDArray[np.intp]]] = {}
    for group in sorted(groups, key=lambda each: (each.colour != NONE, -len(each.rows))):
        alike.setdefault(group.colour, []).append(group.rows)
    for colour, parts in alike.items():
        rows = np.concatenate(parts)
        axes.scatter(
            x[rows],
            y[rows],
            s=size,
            c=colour,
            alpha=0.9 if len(x) < 2000 or many else 0.75,
            linewidths=0.5 if size > 12 else 0.0,
            edgecolors="white" if size > 12 else "none",
            rasterized=len(x) > MANY_SHAPES,
            zorder=4,
        )


def _draw_density(
    figure: Figure, axes: Axes, bar: Axes, x: NDArray[np.float64], y: NDArray[np.float64]
) -> PolyCollection:
    """Sites a hexagon, on a logarithmic scale; hexagons without a site stay clear."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

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
    axes.set(xlim=(left, right), ylim=(bottom, top))
    area = (right - left) / grid[0] * (top - bottom) / grid[1] / 2 / 1e6
    scale = figure.colorbar(
        cells,
        cax=bar,
        orientation="horizontal",
        ticks=LogLocator(subs=(1, 2, 5)),
        format=StrMethodFormatter("{x:,.0f}"),
    )
    scale.ax.xaxis.set_minor_formatter(NullFormatter())
    scale.ax.tick_params(labelsize=11, color=INK, labelcolor=INK)
    scale.ax.set_title(f"samples a hexagon of {area:,.0f} km²", fontsize=11.5, color=INK, loc="left", pad=6)
    return cells


class _Legend:
    """The classes with their counts, in columns below the map, read row by row.

    They have the marks of the map, if it has any and each is of one class; else only the most frequent are named.
    """

    def __init__(self, groups: Sequence[_Group], *, named: bool, marked: bool) -> None:
        self.groups, self.marked = groups, marked and named
        shown = groups if named else groups[:MANY_NAMES]
        more = (
            [f"and {len(rest):,} more  {sum(len(group.rows) for group in rest):,}"]
            if (rest := groups[len(shown) :])
            else []
        )
        self.columns = max(1, min(COLUMNS, len(shown) + len(more)))
        for (self.type_pt, self.row_in), most in ((LARGE, 1000), (SMALL, 1000), (SMALL, MOST_LETTERS)):
            self.labels = [*(group.label(most) for group in shown), *more]
            if (len(shown) <= MANY_NAMES or self.type_pt == SMALL[0]) and self._fits():
                break

    def _fits(self) -> bool:
        """Whether the columns fit beside each other, marks and space between them included."""
        from matplotlib.font_manager import FontProperties
        from matplotlib.textpath import TextToPath

        font, measure = FontProperties(size=self.type_pt), TextToPath().get_text_width_height_descent
        widths = [measure(label, font, False)[0] / 72 for label in self.labels]
        widest = (max(widths[k :: self.columns], default=0.0) for k in range(self.columns))
        return sum(width + 4.5 * self.type_pt / 72 for width in widest) < 0.97 * WIDTH_IN

    @property
    def height_in(self) -> float:
        """Inches that it takes, a margin above included."""
        return self.row_in * -(-len(self.labels) // self.columns) + 0.15

    def draw(self, figure: Figure, *, bottom: float) -> None:
        """Draw it with its lower edge at a share of the figure's height."""
        from matplotlib.lines import Line2D

        colours = [group.colour for group in self.groups]
        by_row = [k for column in range(self.columns) for k in range(column, len(self.labels), self.columns)]
        size = 9 if self.type_pt > SMALL[0] else 7
        legend = figure.legend(
            [Line2D([], [], ls="", marker="o", ms=size, mec="none", mfc=colours[k]) for k in by_row],
            [self.labels[k] for k in by_row],
            loc="lower left",
            bbox_to_anchor=(0.012, bottom),
            borderaxespad=0,
            ncols=self.columns,
            fontsize=self.type_pt,
            labelcolor=INK,
            frameon=False,
            handletextpad=0.3 if self.marked else -1.2,
            columnspacing=1.8,
        )
        for mark in legend.legend_handles:
            if mark is not None:
                mark.set_visible(self.marked)
