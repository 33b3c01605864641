"""What a publication says of itself: every number and name in the card, the STAC collection and Croissant comes from here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from catalog.measures.separation import describe_separation
from catalog.subset import Subset
from publish.describing.papers import Following, following
from publish.describing.sampling import describe_recipe
from publish.describing.terms import is_copernicus
from publish.maps import attribution_of, has_map, is_map
from publish.shards import split_names
from pwcat.cube import SensorBand
from pwcat.errors import PublishError
from pwcat.osm.targets import TARGETS
from pwcat.providers.redaction import bare

__all__ = [
    "Band",
    "DatasetFacts",
    "dataset_facts",
    "describe_dataset",
    "describe_sampling",
    "public_recipe",
    "software_versions",
    "title_of",
]


MOST_NAMED = 3  # collections in the short name of a dataset


@dataclass(frozen=True, kw_only=True)
class Band:
    """One band; wavelength (nm) and native ground sampling (m) are ``None`` where the cube does not know them.

    Attributes:
        sensor: Which it is of; empty for those of the main source.
        scale: The value of a pixel is pixel * scale + offset, where the pixel is not 0.
        offset: See ``scale``.
        unit: Of the value.
    """

    name: str
    wavelength_nm: float | None
    gsd_m: float | None
    sensor: str
    scale: float
    offset: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """Recorded facts of one dataset.

    Attributes:
        name: Short name, as of a folder.
        title: One line.
        repo: ``organisation/name`` on the Hub, if it goes there.
        version: Name of the release, if it has one.
        whole: Whether it is all of its collections, rather than a choice from them.
        licenses: SPDX identifiers, one a collection, without repeats.
        subset_hash: Hash of the exact set of samples.
        query: What found them, as the subset notes it.
        recipes: The resolved recipe of each collection, by name, with no absolute paths.
        recipe_hashes: Their hashes, by name of the collection.
        num_samples: Chips.
        splits: Chips of each split.
        bands: In the order of the band axis.
        chip_shape: ``(time, band, y, x)``.
        resolution_m: Ground sampling of the chips.
        scale: The value of a pixel of the main source is its number times this, plus ``offset``.
        offset: See ``scale``.
        bbox: ``(west, south, east, north)``, EPSG:4326.
        interval: First and last acquisition of any date of any sample, ISO 8601.
        statistics: As ``Subset.stats()`` gives them.
        mean_valid_fraction: Mean share of pixels with data; ``None`` where no sample's is known.
        separation: How far apart the splits lie, as :func:`catalog.measures.separation.describe_separation` says.
        own_split: Whether its splits were made for this subset, rather than by the recipes.
        papers: Which of its recipes are those of a paper.
        has_map: Whether entities of a map go with them.
    """

    name: str
    title: str
    repo: str | None
    version: str | None
    whole: bool
    licenses: tuple[str, ...]
    subset_hash: str
    query: Mapping[str, Any]
    recipes: Mapping[str, Mapping[str, Any]]
    recipe_hashes: Mapping[str, str]
    num_samples: int
    splits: Mapping[str, int]
    bands: tuple[Band, ...]
    chip_shape: tuple[int, int, int, int]
    resolution_m: float
    scale: float
    offset: float
    bbox: tuple[float, float, float, float]
    interval: tuple[str, str]
    statistics: Mapping[str, Any]
    mean_valid_fraction: float | None
    separation: tuple[Mapping[str, Any], ...] = ()
    own_split: bool = False
    papers: tuple[Following, ...] = ()
    has_map: bool = False

    @property
    def of_tiles(self) -> bool:
        """Whether the samples are tiles of a map, whose pixels are no reflectance."""
        return any(is_map(recipe) for recipe in self.recipes.values())

    @property
    def has_images(self) -> bool:
        """Whether pixels are more than zeros: maps may have none."""
        return not self.of_tiles or any(recipe.get("images") for recipe in self.recipes.values())

    @property
    def attributions(self) -> Mapping[str, str | None]:
        """Whom each collection asks to be named, by its name."""
        return {name: attribution_of(recipe) for name, recipe in self.recipes.items()}

    @property
    def sensors(self) -> tuple[Band, ...]:
        """Bands that are not the main source's; their pixels are no reflectance."""
        return tuple(band for band in self.bands if band.sensor)

    @property
    def is_copernicus(self) -> bool:
        """Whether the pixels are Copernicus Sentinel data; those of a local archive are so only if attributed so."""
        return any(is_copernicus(recipe) for recipe in self.recipes.values())


def dataset_facts(subset: Subset, *, repo: str | None, release: str | None) -> DatasetFacts:
    """The facts of a subset.

    Raises:
        PublishError: Its collections' pixels mean different things, so that no card could say what they are.
    """
    collections = subset.collections
    recipes = {c.name: public_recipe(c.recipe) for c in collections}
    _require_one_meaning(subset)
    first = collections[0]
    whole = len(subset) == sum(collection.stats["num_samples"] for collection in collections)
    short = "-".join(collection.name for collection in collections[:MOST_NAMED]) + ("" if whole else "-subset")
    return DatasetFacts(
        name=repo.rpartition("/")[2] if repo else short,
        title=title_of([" ".join(str(recipe["title"]).split()) for recipe in recipes.values()])
        + ("" if whole else " (subset)"),
        repo=repo,
        version=release,
        whole=whole,
        licenses=_distinct(recipe["license"] for recipe in recipes.values()),
        subset_hash=subset.hash,
        query=json.loads(json.dumps(subset.query, default=str)),
        recipes=recipes,
        recipe_hashes={c.name: c.recipe_hash for c in collections},
        num_samples=len(subset),
        splits=_split_counts(subset),
        bands=_bands(subset),
        chip_shape=subset.chip_shape,
        resolution_m=float(first.cube.attrs["resolution_m"]),
        scale=float(first.cube.attrs["scale"]),
        offset=float(first.cube.attrs["offset"]),
        bbox=_bbox(subset),
        interval=_interval(subset),
        statistics=subset.stats(),
        mean_valid_fraction=pc.mean(subset.columns(["div:valid_fraction"])["div:valid_fraction"]).as_py(),
        separation=_separation(subset, tiles=any(is_map(recipe) for recipe in recipes.values())),
        own_split="pwcat:split" in subset.own,
        papers=following({collection.name: collection.recipe for collection in collections}),
        has_map=has_map(subset),
    )


def title_of(titles: Sequence[str]) -> str:
    """One line: of many collections the first are named, as in the short name."""
    named, more = titles[:MOST_NAMED], len(titles) - MOST_NAMED
    return f"{'; '.join(named)}; and {more} more" if more > 0 else " and ".join(named)


def _require_one_meaning(subset: Subset) -> None:
    """That pixels of all collections are read in the same way: of one scale, one offset, one resolution."""
    names = ("scale", "offset", "resolution_m")
    told = {c.name: tuple(float(c.cube.attrs[name]) for name in names) for c in subset.collections}
    if len(set(told.values())) > 1:
        listed = "; ".join(f"{name}: {', '.join(f'{v:g}' for v in values)}" for name, values in told.items())
        raise PublishError(
            f"pixels of these collections mean different things ({', '.join(names)}: {listed}): publish them apart"
        )


def _separation(subset: Subset, *, tiles: bool) -> tuple[Mapping[str, Any], ...]:
    """Distances between the splits; tiles of one grid touch, and none overlap."""
    width = subset.chip_shape[-1] * float(subset.collections[0].cube.attrs["resolution_m"]) / 1000
    coded = subset.columns(["pwcat:split"])["pwcat:split"].combine_chunks().dictionary_encode()
    splits = np.array(coded.dictionary.to_pylist(), dtype=object)[coded.indices.to_numpy()]  # one object a split

    def outlines(rows: NDArray[np.int64]) -> NDArray[np.object_]:
        return np.asarray(shapely.from_wkb(subset.only(rows).columns(["geometry"])["geometry"].to_numpy()))

    return tuple(describe_separation(subset.lonlat, splits, width_km=0.0 if tiles else width, outlines=outlines))


def _split_counts(subset: Subset) -> dict[str, int]:
    counted = subset.columns(["pwcat:split"])["pwcat:split"].value_counts()
    counts = {entry["values"].as_py(): entry["counts"].as_py() for entry in counted}
    return {split: counts[split] for split in split_names(subset)}


def describe_dataset(facts: DatasetFacts) -> str:
    """A few sentences for someone who has never heard of the dataset."""
    if facts.of_tiles:
        return _describe_tiles(facts)
    times, bands, height, width = facts.chip_shape
    kind = "Sentinel-2" if facts.is_copernicus else "satellite"
    dates = "on one date" if times == 1 else f"on {times} dates each"
    beside = dict.fromkeys(band.sensor for band in facts.sensors)
    whose = f" ({len(facts.sensors)} of them of {', '.join(beside)})" if beside else ""
    size = "single pixels" if height == width == 1 else f"{height} × {width} pixels"
    return (
        f"{_count(facts.num_samples, f'{kind} image chip')} for pretraining Earth-observation models: {size} at "
        f"{facts.resolution_m:g} m, {bands} bands{whose}, {dates}. Each says where and when it was taken, its continent, biome "
        "and land cover, and how varied its spectrum is. The recipe that chose the places is given in full, so that the "
        "dataset can be made again, changed, and compared with others."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number > 1 else ''}"


def _describe_tiles(facts: DatasetFacts) -> str:
    """The same of tiles of a map."""
    _, bands, height, width = facts.chip_shape
    things = facts.statistics.get("entity")
    what = []
    if things:
        what.append(
            f"{things['num_labelled']:,} entities of a map with their tags and shapes, in coordinates of their tile"
        )
    if facts.has_images:
        what.append(f"images of {bands} bands, {height} × {width} pixels a tile")
    return (
        f"{_count(facts.num_samples, 'tile')} of the web mercator grid, to learn from maps and images: {', and '.join(what)}. "
        f"Each says where it lies, its continent, biome and land cover where these are known, and the labels of {len(TARGETS)} "
        "tasks on maps. Tiles of one group are of one split. The recipe is given in full, so that the dataset can be made "
        "again, changed, and compared with others."
    )


def describe_sampling(facts: DatasetFacts) -> str:
    """How places and scenes were chosen, in sentences, as the recipes say."""
    sentences = [describe_recipe(recipe) for recipe in facts.recipes.values()]
    if not facts.whole:
        sentences.append(f"From these, a query chose {facts.num_samples:,} samples.")
    return " ".join(sentences)


def public_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe to show to others: absolute paths, which name folders of the maker's machine, become file names.

    Addresses lose user, password and query, which recipes of older versions may have.
    """

    def shorten(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: shorten(name, inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [shorten(key, inner) for inner in value]
        if key == "url" and value:
            return bare(value)
        return (
            Path(value).name
            if key in ("path", "files", "tiles", "within") and isinstance(value, str) and Path(value).is_absolute()
            else value
        )

    return {name: shorten(name, value) for name, value in recipe.items()}


def _distinct(values: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(value) for value in values if value))


def _bands(subset: Subset) -> tuple[Band, ...]:
    known = subset.collections[0].cube.to_xarray()

    def number(name: str, i: int) -> float | None:
        value = float(known[name].values[i])
        return value if np.isfinite(value) else None

    cube = subset.collections[0].cube
    scale, offset = float(cube.attrs["scale"]), float(cube.attrs["offset"])
    plain = SensorBand(sensor="", scale=scale, offset=offset, unit="1", gsd_m=np.nan)
    meanings = cube.meanings or [plain] * len(subset.bands)
    return tuple(
        Band(
            name=name,
            wavelength_nm=number("wavelength_nm", i),
            gsd_m=number("gsd_m", i),
            sensor=meaning.sensor,
            scale=meaning.scale,
            offset=meaning.offset,
            unit=meaning.unit,
        )
        for i, (name, meaning) in enumerate(zip(subset.bands, meanings, strict=True))
    )


def _bbox(subset: Subset) -> tuple[float, float, float, float]:
    """West, south, east, north of all samples; the whole circle where one lies across the antimeridian."""
    box = subset.columns(["bbox"])["bbox"].combine_chunks()
    xmin, ymin, xmax, ymax = (box.field(side).to_numpy() for side in ("xmin", "ymin", "xmax", "ymax"))
    if (xmin > xmax).any():
        return -180.0, float(ymin.min()), 180.0, float(ymax.max())
    return float(xmin.min()), float(ymin.min()), float(xmax.max()), float(ymax.max())


def _interval(subset: Subset) -> tuple[str, str]:
    """First and last acquisition of all dates: items know the first date of a sample alone, the cubes each one."""
    dates = [collection.cube.dates(subset.index[rows]) for collection, rows in subset.parts()]
    ends = min(int(some.min()) for some in dates), max(int(some.max()) for some in dates)
    first, last = (f"{np.datetime64(moment, 's')}Z" for moment in ends)
    return first, last


def software_versions() -> dict[str, str]:
    """Versions of what the bytes of a publication hang on."""
    return {name: version(name) for name in ("pwcat", "pyarrow", "numpy", "pillow", "matplotlib")}
