"""The atlas: one page about a catalog that needs nothing beside it, small enough for a dataset's card.

Map, biome by land cover, spectral entropy, chips by entropy, diversity with intervals, collections beside each other. The same
catalog gives the same bytes.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from catalog.explorer.pictures import COMPOSITES, composites_of, encode_png, render, scaling_of
from catalog.figures import histogram_svg, interval_svg, map_svg
from catalog.land import Land, land_of
from catalog.query import open_catalog
from catalog.subset import Subset, load_subset
from pwcat.atomic import replacing
from pwcat.errors import CatalogError, PwcatError
from pwcat.maps import COLOURS

__all__ = ["MOST_BYTES", "Part", "parts_of", "render_atlas", "write_atlas"]

# What cards can hold without pain; a page of the largest catalog that is shown whole stays below half of it.
MOST_BYTES = 2_000_000
MOST_PARTS = 24
LAND_TOLERANCE_DEG = 0.4
BINS = 48
QUANTILES = 5
CHIPS = 6  # of each quantile
CHIP_PX = 64
NONE = "#9aa0a3"
MEASURES: Mapping[str, tuple[str, str]] = {
    "continent": ("shannon", "Continent entropy"),
    "biome": ("shannon", "Biome entropy"),
    "landcover": ("shannon", "Land-cover entropy"),
    "spectral": ("mean", "Spectral entropy, mean"),
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One dataset of the page: a collection, or a saved subset.

    Attributes:
        name: what it is called.
        subset: its samples.
        colour: in all figures of the page.
        statistics: its diversity.
    """

    name: str
    subset: Subset
    statistics: Mapping[str, Any]
    colour: str = COLOURS[0]

    @property
    def entropy(self) -> NDArray[np.float64]:
        """Spectral entropy of its samples, ``(n,)`` nats; NaN where unknown."""
        column = self.subset.columns(["div:spectral_entropy"])["div:spectral_entropy"]
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)

    def value(self, measure: str) -> tuple[float, float, float]:
        """A measure and the bounds of its interval; NaN where there is none."""
        entry = self.statistics.get(measure, {})
        numbers = (entry.get(MEASURES[measure][0]), entry.get("ci_low"), entry.get("ci_high"))
        value, low, high = (math.nan if number is None else float(number) for number in numbers)
        return value, low, high


def parts_of(data: str | Path) -> list[Part]:
    """The datasets at a path: the collections of a catalog, one collection, or a saved subset.

    Raises:
        CatalogError: there is none of them, there are too many for a page, or they hold no samples.
    """
    if "://" not in str(data) and Path(data).is_file():
        subsets = {Path(data).stem: load_subset(data)}
    else:
        catalog = open_catalog(data)
        if len(catalog.collections) > MOST_PARTS:
            raise CatalogError(
                f"{data}: {len(catalog.collections)} collections, and a page compares at most {MOST_PARTS}: "
                "give one collection's folder, or a saved subset"
            )
        subsets = {name: catalog.search(collections=name) for name in catalog.collections}
    if not any(map(len, subsets.values())):
        raise CatalogError(f"{data}: there are no samples to show")
    return [
        Part(name=name, subset=subset, colour=COLOURS[k % len(COLOURS)], statistics=subset.stats())
        for k, (name, subset) in enumerate(subsets.items())
        if len(subset)
    ]


def write_atlas(data: str | Path, out: Path, *, title: str | None = None) -> int:
    """Write the page; return its size in bytes.

    Args:
        data: folder of a catalog or collection, or a saved subset.
        out: the page.
        title: of the page; the collection's, or the folder's name, where ``None``.

    Raises:
        CatalogError: there is nothing to show, or the page would be larger than :data:`MOST_BYTES`.
    """
    page = render_atlas(parts_of(data), title=title or _title(data)).encode()
    if len(page) > MOST_BYTES:
        raise CatalogError(
            f"the atlas of {data} would take {len(page):,} bytes, and at most {MOST_BYTES:,} go into a card: "
            "give one collection's folder, or a saved subset"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        temporary.write_bytes(page)
    return len(page)


def _title(data: str | Path) -> str:
    if "://" not in str(data) and Path(data).is_file():
        return Path(data).stem
    catalog = open_catalog(data)
    if len(catalog.members) == 1:
        return str(next(iter(catalog.members.values())).document.get("title") or catalog.place.name)
    return catalog.place.name


def render_atlas(parts: Sequence[Part], *, title: str, land: Land | None = None) -> str:
    """The page, as HTML that needs nothing beside it.

    Args:
        parts: what :func:`parts_of` gave.
        title: of the page.
        land: beneath the map; found as for the explorer where ``None``.
    """
    land = land or land_of(dict.fromkeys(member for part in parts for member in part.subset.collections))
    table = pa.concat_tables([_labels(part) for part in parts])
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("catalog", "templates"), PackageLoader("catalog", "explorer/page")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = lambda name: name.replace("_", " ")
    environment.globals["number"] = _number
    # Datasets without biomes are told apart by their names
    by = "biome" if table["div:biome"].null_count < len(table) else "dataset"
    labels = table["div:biome" if by == "biome" else "dataset"]
    colours = _class_colours(labels)
    return environment.get_template("atlas.html.j2").render(
        title=title,
        parts=parts,
        total=len(table),
        licences=sorted(
            {str(c.document.get("license") or "") for part in parts for c in part.subset.collections} - {""}
        ),
        version=version("pwcat"),
        land=land.source.partition(";")[0],
        map=Markup(_map(parts, labels, colours, land)),
        colours=colours,
        coloured_by=by,
        heat=_heat(table),
        histograms=[(part, Markup(svg)) for part, svg in zip(parts, _histograms(parts), strict=True)],
        galleries=_galleries(parts),
        measures={words: Markup(_intervals(parts, measure, words)) for measure, (_, words) in MEASURES.items()},
        shares={
            words: _shares(parts, layer)
            for layer, words in (("biome", "Biomes"), ("landcover", "Land cover"), ("continent", "Continents"))
        },
    )


def _labels(part: Part) -> pa.Table:
    table = part.subset.columns(["div:biome", "div:landcover"])
    return table.append_column("dataset", pa.repeat(pa.scalar(part.name), len(table)))


def _number(value: Any, digits: int = 3) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def _class_colours(column: pa.ChunkedArray) -> dict[str, str]:
    """A colour a class, the most frequent first; those without a class last."""
    counts = Counter(column.to_pylist())
    ranked = sorted((name for name in counts if name is not None), key=lambda name: (-counts[name], name))
    colours = {name: COLOURS[k] if k < len(COLOURS) else NONE for k, name in enumerate(ranked)}
    return colours | ({"none": NONE} if None in counts else {})


def _map(parts: Sequence[Part], labels: pa.ChunkedArray, colours: Mapping[str, str], land: Land) -> str:
    lonlat = np.concatenate([part.subset.lonlat for part in parts])
    names = np.array([name or "none" for name in labels.to_pylist()], dtype=object)
    there = np.isfinite(lonlat).all(axis=1)
    groups = {name: (colour, names[there] == name) for name, colour in colours.items()}
    rings = land.rings(tolerance_deg=LAND_TOLERANCE_DEG)
    return map_svg(lonlat[there], groups, land=rings, title=f"World map of {len(lonlat):,} samples")


def _heat(table: pa.Table) -> dict[str, Any]:
    """Samples by biome and land cover; shades go by the root of the counts, so that rare pairs are seen."""
    pairs = Counter(zip(table["div:biome"].to_pylist(), table["div:landcover"].to_pylist(), strict=True))
    rows = [name or "none" for name, _ in _ranked(table["div:biome"])]
    columns = [name or "none" for name, _ in _ranked(table["div:landcover"])]
    counts = {(biome or "none", cover or "none"): n for (biome, cover), n in pairs.items()}
    most = max(counts.values(), default=1)
    shades = {pair: round(math.sqrt(n / most), 3) for pair, n in counts.items()}
    known = rows != ["none"] or columns != ["none"]
    return {"rows": rows, "columns": columns, "counts": counts, "shades": shades, "known": known}


def _ranked(column: pa.ChunkedArray) -> list[tuple[str | None, int]]:
    return sorted(Counter(column.to_pylist()).items(), key=lambda pair: (pair[0] is None, -pair[1], pair[0] or ""))


def _histograms(parts: Sequence[Part]) -> list[str]:
    """One histogram a part, all over the same bins; lines at the quartiles."""
    values = [part.entropy[np.isfinite(part.entropy)] for part in parts]
    everything = np.concatenate(values)
    if not len(everything):
        return ["" for _ in parts]
    low, high = math.floor(everything.min() * 10) / 10, math.ceil(everything.max() * 10 + 1e-9) / 10
    edges = np.linspace(low, max(high, low + 0.1), BINS + 1)
    drawn = []
    for part, found in zip(parts, values, strict=True):
        counts = np.histogram(found, edges)[0].tolist()
        marks = np.percentile(found, (25, 50, 75)).tolist() if len(found) else []
        title = f"Spectral entropy of {part.name}, nats"
        drawn.append(histogram_svg(counts, low=edges[0], high=edges[-1], marks=marks, title=title, colour=part.colour))
    return drawn


def _intervals(parts: Sequence[Part], measure: str, words: str) -> str:
    rows = [(part.name, *part.value(measure), part.colour) for part in parts]
    return interval_svg(rows, title=f"{words} of each dataset with its 95 % interval, nats")


def _shares(parts: Sequence[Part], layer: str) -> list[tuple[str, list[float]]]:
    """Classes of a layer with their share in each part, the largest first."""
    counts = [part.statistics[layer]["counts"] for part in parts]
    totals = [max(1, sum(each.values())) for each in counts]
    shares = {
        name: [each.get(name, 0) / total for each, total in zip(counts, totals, strict=True)]
        for name in {name for each in counts for name in each}
    }
    return sorted(shares.items(), key=lambda item: (-sum(item[1]), item[0]))[:20]


def _galleries(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Chips in true colour from each fifth of the spectral entropies, the lowest first."""
    entropy = np.concatenate([part.entropy for part in parts])
    starts = np.cumsum([0, *(len(part.subset) for part in parts)])
    known = np.flatnonzero(np.isfinite(entropy))
    order = known[np.argsort(entropy[known], kind="stable")]
    galleries = []
    for rows in np.array_split(order, QUANTILES):
        if not len(rows):
            continue
        # A few more than are wanted, evenly spaced in the fifth: some may have no pixels
        spaced = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 2 * CHIPS)).round().astype(int))]
        chips = []
        for row in [*spaced[::2], *spaced[1::2]]:
            part = int(np.searchsorted(starts, row, side="right")) - 1
            chip = _chip(parts[part], int(row - starts[part]), float(entropy[row]))
            chips += [chip] if chip else []
            if len(chips) == CHIPS:
                break
        low, high = float(entropy[rows[0]]), float(entropy[rows[-1]])
        galleries.append({"low": low, "high": high, "chips": sorted(chips, key=lambda chip: chip["entropy"])})
    return galleries if any(gallery["chips"] for gallery in galleries) else []


def _chip(part: Part, row: int, entropy: float) -> dict[str, Any] | None:
    """A picture of one sample, and what stands beneath it; none where it has no pixels or no colours."""
    one = part.subset.select(np.array([row]))
    try:
        cube = one.collections[0].cube
        bands = composites_of(cube).get("true")
        if bands is None:
            return None
        chip = one.read(np.array([0]))[0]
    except PwcatError:
        return None
    scale, offset = scaling_of(cube)
    step = max(1, -(-chip.shape[-1] // CHIP_PX))
    pixels = render(chip[0], composite=COMPOSITES[0], bands=bands, scale=scale, offset=offset, step=step)
    code = base64.b64encode(encode_png(pixels)).decode()
    labels = one.columns(["id", "div:landcover", "div:biome"]).to_pylist()[0]
    return {
        "source": f"data:image/png;base64,{code}",
        "id": labels["id"],
        "landcover": (labels["div:landcover"] or "no land cover").replace("_", " "),
        "biome": labels["div:biome"] or "no biome",
        "entropy": entropy,
    }
