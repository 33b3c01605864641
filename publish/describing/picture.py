"""``map.png``: where the samples lie, as a picture for the card.

Samples from far apart are points on a map of the world. Those of one region are drawn as what they are, outlines of chips on
the ground, beside a small world that says where the region is.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from catalog.land import sketched_land
from catalog.published.layout import PICTURE_PATH
from catalog.subset import Subset
from publish.shards import split_names
from pwcat.maps import COLOURS, draw_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["write_picture"]

LAYERS = ("biome", "landcover", "continent")
NOTE = "coasts are a coarse sketch"
INK, GREY, LAND, LINE = "#2B2B2B", "#6B6B6B", "#E4E2DC", "#D9DDE0"
REGION_DEG = (
    6.0  # samples within so many degrees are of one region: outlines of chips are seen, a world's coasts are not
)
LEAST_DEG = 0.01
LEAST_SIDE = 0.004  # of the map: about four pixels
MANY = 5000  # chips beyond which each is a point


def write_picture(subset: Subset, folder: Path, *, title: str) -> None:
    """Draw the samples on a map.

    The coasts are our own sketch, and the file says nothing of when or by what it was made: the same samples give the same
    bytes on every computer, as long as Matplotlib is of the same version.

    Args:
        subset: the samples.
        folder: of the publication.
        title: stands above the map.
    """
    from matplotlib import style

    boxes = _boxes(subset)
    bounds = np.array([*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)])
    across = bool((boxes[:, 0] > boxes[:, 2]).any())
    title = title.replace("$", r"\$")  # which would begin a formula
    with style.context("default"), warnings.catch_warnings():  # whatever the user's own settings are
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        if across or max(bounds[2:] - bounds[:2]) > REGION_DEG:
            figure = _draw_world(subset, title=title)
        else:
            figure = _draw_region(subset, boxes, bounds, title=title)
        figure.savefig(folder / PICTURE_PATH, metadata={"Software": None})


def _draw_world(subset: Subset, *, title: str) -> Figure:
    columns = {name: subset.columns([f"div:{name}"])[f"div:{name}"] for name in LAYERS}
    layer = next((name for name, values in columns.items() if values.null_count < len(values)), "split")
    values = columns.get(layer, subset.columns(["pwcat:split"])["pwcat:split"])
    table = pa.table({"lon": subset.lonlat[:, 0], "lat": subset.lonlat[:, 1], layer: values})
    return draw_map(table, title=title, colour_by=layer, land=sketched_land().polygons, attribution=NOTE)


def _boxes(subset: Subset) -> NDArray[np.float64]:
    """West, south, east, north of each sample, ``(n, 4)``."""
    box = subset.columns(["bbox"])["bbox"].combine_chunks()
    return np.column_stack([box.field(side).to_numpy() for side in ("xmin", "ymin", "xmax", "ymax")])


def _draw_region(subset: Subset, boxes: NDArray[np.float64], bounds: NDArray[np.float64], *, title: str) -> Figure:
    """The bounds of the chips, by split; as points where they are too many or too small to be seen."""
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 9), dpi=100, facecolor="white")
    axes = figure.add_axes((0.06, 0.1, 0.6, 0.78))
    tiny = float(np.median(boxes[:, 3] - boxes[:, 1])) < LEAST_SIDE * max(bounds[2:] - bounds[:2])
    splits = subset.columns(["pwcat:split"])["pwcat:split"]
    for number, split in enumerate(split_names(subset)):
        mine = boxes[pc.equal(splits, split).to_numpy()]
        colour, label = COLOURS[number % len(COLOURS)], f"{split}  {len(mine):,}"
        if tiny or len(boxes) > MANY:
            middle = (mine[:, :2] + mine[:, 2:]) / 2
            size = 16 if len(boxes) < MANY else 2
            axes.scatter(middle[:, 0], middle[:, 1], s=size, c=colour, marker="s", linewidths=0, label=label)
        else:
            corners = mine[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
            axes.add_collection(
                PolyCollection(corners, facecolor=colour, edgecolor="white", lw=0.4, alpha=0.85, label=label)
            )
    _frame(axes, bounds)
    _locate(figure.add_axes((0.7, 0.5, 0.28, 0.3)), subset.lonlat.mean(axis=0))
    figure.legend(
        loc="upper left", bbox_to_anchor=(0.69, 0.46), frameon=False, fontsize=13, labelcolor=INK, borderaxespad=0
    )
    figure.text(0.02, 0.955, title, fontsize=22, fontweight="bold", color=INK, va="center")
    figure.text(0.02, 0.915, f"{len(subset):,} samples as they lie, by split", fontsize=15, color=INK, va="center")
    figure.text(0.98, 0.02, f"longitude and latitude, degrees; {NOTE}", fontsize=10.5, color=GREY, ha="right")
    return figure


def _frame(axes: Axes, bounds: NDArray[np.float64]) -> None:
    """A window around the bounds in which a kilometre is as long northwards as eastwards."""
    west, south, east, north = bounds
    pad = 0.04 * max(east - west, north - south, LEAST_DEG)
    axes.set(xlim=(west - pad, east + pad), ylim=(south - pad, north + pad))
    axes.set_aspect(1 / max(np.cos(np.radians((south + north) / 2)), 0.05), adjustable="box", anchor="C")
    axes.grid(color=LINE, lw=0.7)
    axes.set_axisbelow(True)
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.tick_params(labelsize=11, color=GREY, labelcolor=INK)
    for side in axes.spines.values():
        side.set_color(GREY)


def _locate(axes: Axes, lonlat: NDArray[np.float64]) -> None:
    """The world with one mark on it."""
    from matplotlib.collections import PolyCollection

    rings = [shapely.get_coordinates(shapely.get_exterior_ring(part)) for part in sketched_land().polygons]
    axes.add_collection(PolyCollection(rings, facecolor=LAND, edgecolor="#4A4F52", lw=0.4))
    axes.scatter(lonlat[:1], lonlat[1:], s=110, c=COLOURS[5], edgecolors="white", linewidths=1.2, zorder=3)
    axes.set(xlim=(-180, 180), ylim=(-90, 90), xticks=[], yticks=[])
    axes.set_aspect(1)
    for side in axes.spines.values():
        side.set_color(LINE)
