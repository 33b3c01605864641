"""What is known of a dataset that was made here: from its plan, its recipe, its ledger and its cube."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import pyarrow as pa

from catalog.extension import CLASS_LAYERS
from catalog.items import ZARR_MEDIA_TYPE
from catalog.stac.collection import CUBE_ASSET, PARQUET, CollectionFacts
from catalog.stac.describing import CODEBOOK
from pwcat.cube import DIMS, NODATA, OFFSET, SCALE, Cube
from pwcat.plan import FrozenPlan

__all__ = ["bands_of", "facts_of", "pixel_bands_of", "sources_of"]

# Files beside the cube: key, file, media type, roles, title.
_FILES: Final = (
    ("plan", "plan.parquet", PARQUET, ["metadata"], "Samples, scenes and pixel windows"),
    ("reserve", "reserve.parquet", PARQUET, ["metadata"], "Extra sites, in the order in which they replace samples"),
    ("replacements", "replacements.parquet", PARQUET, ["metadata"], "Samples replaced from the reserve"),
    ("scenes", "scenes.parquet", PARQUET, ["source"], "The frozen STAC answer"),
    ("sensors", "sensors.parquet", PARQUET, ["metadata"], "Items of each sensor for each sample and date"),
    ("recipe", "recipe.yaml", "application/yaml", ["metadata"], "The recipe it was made from"),
    ("codebook", CODEBOOK, PARQUET, ["metadata"], "Reflectance spectra that the samples' pixels are counted to"),
)
_SOMETIMES: Final = frozenset({"reserve", "replacements", "sensors", "codebook"})
_CHIPS: Final = {"type": ZARR_MEDIA_TYPE, "roles": ["data"], "title": "Chips, Zarr v3"}


def sources_of(plan: FrozenPlan, ledger: pa.Table) -> list[str]:
    """Who served pixels, by name, sorted: the recipe's source and sensors, and those that stood in for it."""
    served = ledger["source"].combine_chunks().flatten().unique().to_pylist()
    recorded = {source for source in served if source}
    beside = {one.source.name for one in plan.recipe.sensors.values()}
    return sorted((recorded or {plan.recipe.source.name}) | beside)


def facts_of(plan: FrozenPlan, cube: Cube, *, sources: Sequence[str], num_samples: int) -> CollectionFacts:
    """The facts of a collection that a build made.

    Args:
        plan: of the collection.
        cube: its chips.
        sources: who served pixels.
        num_samples: samples that have pixels.
    """
    recipe = plan.recipe
    made = f"made by pwcat from a recipe ({recipe.hash[:12]})"
    times, _, height, width = cube.chip_shape
    return CollectionFacts(
        name=recipe.name,
        title=recipe.title,
        description=f"{recipe.title}. {num_samples} samples, {made}.",
        license=recipe.license,
        recipe_hash=recipe.hash,
        layers={name: plan.layers.get(name) for name in (*CLASS_LAYERS, "ecoregion")},
        providers=_providers(plan, sources),
        citation=f"{recipe.title}. Dataset {recipe.name!r}, {made}" + _credit(recipe.attribution),
        bands=bands_of(cube),
        pixel_bands=pixel_bands_of(cube),
        pixels_per_sample=times * height * width,
        assets={"cube": _cube_asset(plan, cube), **_files(plan)},
        item_assets={"chips": _CHIPS},
        summaries={"gsd": [recipe.chip.resolution_m]},
        extra={
            "pwcat:sources": list(sources),
            "pwcat:version": version("pwcat"),
            "pwcat:chip": {"shape": list(cube.chip_shape), "resolution_m": recipe.chip.resolution_m},
        },
    )


def _credit(attribution: str | None) -> str:
    return f". {attribution}" if attribution else "."


def _providers(plan: FrozenPlan, sources: Sequence[str]) -> list[dict[str, Any]]:
    """Whose data it is made from, and what was done to them."""
    recipe = plan.recipe
    sampler = str(recipe.sampler.strategy)
    lineage = (
        f"{recipe.num_samples} sites chosen by the sampler {sampler!r} (seed {recipe.seed}); chips of "
        f"{recipe.chip.size_px} x {recipe.chip.size_px} pixels of {recipe.chip.resolution_m:g} m cut from scenes of "
        f"{', '.join(sources)}, on the grids of the scenes; recipe {recipe.hash}"
    )
    processor = {
        "name": "pwcat",
        "roles": ["processor"],
        "processing:lineage": lineage,
        "processing:software": {"pwcat": version("pwcat")},
        "processing:expression": {"format": "pwcat-recipe-sha256", "expression": recipe.hash},
    }
    producer = [{"name": recipe.attribution, "roles": ["producer"]}] if recipe.attribution else []
    return [*producer, processor]


def bands_of(cube: Cube) -> list[dict[str, Any]]:
    """Bands by name; where sensors stand beside the source, with what the numbers of theirs mean."""
    bands: list[dict[str, Any]] = [{"name": band} for band in cube.bands]
    for band, meaning in zip(bands, cube.meanings, strict=False):
        if meaning.sensor:
            told = {"raster:scale": meaning.scale, "raster:offset": meaning.offset, "unit": meaning.unit, "nodata": 0}
            band |= {"description": f"of the sensor {meaning.sensor}", **told}
    return bands


def pixel_bands_of(cube: Cube) -> list[dict[str, Any]]:
    """The bands with all that is known of their pixels: what numbers mean, wavelength in micrometres, sampling in metres."""
    scale, offset = float(cube.attrs.get("scale", SCALE)), float(cube.attrs.get("offset", OFFSET))
    plain = {"data_type": "uint16", "nodata": NODATA, "raster:scale": scale, "raster:offset": offset}
    wavelengths, samplings = _known(cube, "wavelength_nm"), _known(cube, "gsd_m")
    bands = []
    for band, wavelength, sampling in zip(bands_of(cube), wavelengths, samplings, strict=True):
        told: dict[str, Any] = {**plain, **band}
        if math.isfinite(wavelength):
            told["eo:center_wavelength"] = round(wavelength / 1000, 6)
        if math.isfinite(sampling):
            told["gsd"] = sampling
        bands.append(told)
    return bands


def _known(cube: Cube, name: str) -> list[float]:
    values = cube.stored(name)
    return [math.nan] * len(cube.bands) if values is None else [float(value) for value in values]


def _cube_asset(plan: FrozenPlan, cube: Cube) -> dict[str, Any]:
    """The store, as the extensions for Zarr and for data cubes have it."""
    return {
        **CUBE_ASSET,
        "cube:dimensions": _dimensions(plan, cube),
        "cube:variables": _variables(),
    }


def _dimensions(plan: FrozenPlan, cube: Cube) -> dict[str, Any]:
    """Dimensions of the chips. Rows and columns are counted: where they lie on Earth differs from sample to sample."""
    times, _, height, width = cube.chip_shape
    when = plan.recipe.when
    pixel = "its place is that of the item: proj:code and proj:transform"
    return {
        "sample": {
            "type": "count",
            "extent": [0, cube.num_samples - 1],
            "step": 1,
            "description": "samples; pwcat:index of the items",
        },
        "time": {
            "type": "temporal",
            "extent": [str(when.start), str(when.end)],
            "step": None,
            "description": f"dates of a sample, {times}, in order; the variable datetime says when",
        },
        "band": {"type": "bands", "values": list(cube.bands), "description": "bands, in order"},
        "y": {"type": "count", "extent": [0, height - 1], "step": 1, "description": f"rows, southwards; {pixel}"},
        "x": {"type": "count", "extent": [0, width - 1], "step": 1, "description": f"columns, eastwards; {pixel}"},
    }


_COORDINATES: Final[Mapping[str, tuple[int, str, str | None]]] = {
    "id": (1, "sample id", None),
    "lon": (1, "longitude of the site, EPSG:4326", "°"),
    "lat": (1, "latitude of the site, EPSG:4326", "°"),
    "epsg": (1, "CRS of the chip's pixel grid", None),
    "x0": (1, "left edge of the chip in that CRS", "m"),
    "y0": (1, "upper edge of the chip in that CRS", "m"),
    "valid_fraction": (1, "share of pixels with data in every band and date", None),
    "datetime": (2, "acquisition, seconds since 1970-01-01 UTC", "s"),
    "scene_id": (2, "STAC item that the pixels come from", None),
}


def _variables() -> dict[str, Any]:
    chips = {
        "variable_type": "data",
        "dimensions": list(DIMS),
        "data_type": "uint16",
        "nodata": NODATA,
        "description": "pixels; what their numbers mean is said band by band",
    }
    told: dict[str, Any] = {"chips": chips}
    for name, (count, meaning, unit) in _COORDINATES.items():
        variable = {"variable_type": "auxiliary", "dimensions": list(DIMS[:count]), "description": meaning}
        told[name] = {**variable, **({"unit": unit} if unit else {})}
    return told


def _files(plan: FrozenPlan) -> dict[str, dict[str, Any]]:
    return {
        key: {"href": f"./{file}", "type": kind, "roles": roles, "title": title}
        for key, file, kind, roles, title in _FILES
        if key not in _SOMETIMES or (plan.folder / file).is_file()
    }
