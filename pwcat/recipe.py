"""A recipe: one YAML document that says everything about one dataset, validated once, at the border."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError, ValidationInfo, field_validator, model_validator

from pwcat.constraints import Constraints
from pwcat.document import Document, read_recipe_file
from pwcat.errors import RecipeError
from pwcat.faults import describe_faults
from pwcat.layers import RegionLayers
from pwcat.providers import PROVIDERS
from pwcat.providers.document import Source
from pwcat.providers.redaction import bare
from pwcat.regions.datasets import DEFAULTS
from pwcat.samplers import AnySampler, Spectral
from pwcat.sensors.document import SENSOR_NAME, Sensor, sensor_faults

__all__ = ["Chip", "Phenology", "Recipe", "Source", "Split", "When", "differing_keys", "load_recipe"]


# Scenes that a median is made of where the recipe does not say: an odd number, so that it is a pixel of one of them.
MOST_SCENES = 5

# Pixels a side that a chip must have to be scored.
LEAST_SCORED_PX = 4

# Keys of a source that say how it may be asked, and who else; nothing of what was planned hangs on them.
_ASKING = {"fallback", "allow_private", "requests_per_s", "search"}

_SAMPLER: TypeAdapter[Any] = TypeAdapter(AnySampler)


class Phenology(Document):
    """Dates that differ from place to place: a table of places, and columns that say when the seasons come there."""

    path: str = Field(description="table or vector file of places, relative to the recipe")
    columns: list[str] = Field(min_length=1, description="of dates, or of days of the year; each gives one date")
    days: int = Field(30, ge=0, le=183, description="before and after each of these dates that a scene may be of")
    max_km: float | None = Field(None, gt=0, description="to the nearest place; sites beyond are not taken")
    lon: str | None = Field(None, description="column of longitudes; found by its name where not given")
    lat: str | None = Field(None, description="column of latitudes")

    @field_validator("columns")
    @classmethod
    def _distinct(cls, columns: list[str]) -> list[str]:
        if len(set(columns)) != len(columns):
            raise ValueError(f"`columns` repeats itself: {', '.join(columns)}")
        return columns

    @field_validator("lat")
    @classmethod
    def _both(cls, lat: str | None, info: ValidationInfo) -> str | None:
        if (lat is None) != (info.data.get("lon") is None):
            raise ValueError("give both `lon` and `lat`, or neither")
        return lat


class When(Document):
    """Which dates: a span, how cloudy a scene may be, how many dates a site has, and how many scenes make one."""

    start: date
    end: date
    max_cloud_cover: float = Field(20.0, ge=0, le=100, description="per cent of the scene")
    max_chip_cloud: float | None = Field(
        None, ge=0, le=100, description="per cent of a chip that may be cloud, shadow or no data, by the quality band"
    )
    dates_per_site: int | None = Field(None, ge=1, le=366, description="the span is cut into this many equal windows")
    months: list[Annotated[int, Field(ge=1, le=12)]] | None = Field(
        None, min_length=1, description="one date in each of these months of the first year that has them; or `all`"
    )
    phenology: Phenology | None = Field(None, description="dates of the nearest place of a table")
    composite: Literal["nearest", "median"] = Field(
        "nearest", description="what a date is made of: one scene, or several"
    )
    most_scenes: int | None = Field(
        None, ge=2, le=50, validate_default=True, description=f"that a median is made of; {MOST_SCENES} where not given"
    )

    @field_validator("end")
    @classmethod
    def _ordered(cls, end: date, info: ValidationInfo) -> date:
        start = info.data.get("start", end)
        if end < start:
            raise ValueError(f"`end` ({end}) lies before `start` ({start})")
        return end

    @field_validator("months", mode="before")
    @classmethod
    def _every(cls, months: Any) -> Any:
        return list(range(1, 13)) if months == "all" else months

    @field_validator("months")
    @classmethod
    def _distinct(cls, months: list[int] | None, info: ValidationInfo) -> list[int] | None:
        faults = []
        if months is not None and info.data.get("dates_per_site") is not None:
            faults.append("give `dates_per_site` or `months`, not both")
        if months is not None and len(set(months)) != len(months):
            faults.append(f"`months` repeats itself: {months}")
        if faults:
            raise ValueError("; ".join(faults))
        return months

    @field_validator("phenology")
    @classmethod
    def _alone(cls, phenology: Phenology | None, info: ValidationInfo) -> Phenology | None:
        others = [f"`{name}`" for name in ("dates_per_site", "months") if info.data.get(name) is not None]
        if phenology is not None and others:
            raise ValueError(f"its columns say the dates: leave {' and '.join(others)} out")
        return phenology

    @field_validator("most_scenes")
    @classmethod
    def _of_a_median(cls, most: int | None, info: ValidationInfo) -> int | None:
        median = info.data.get("composite", "median") == "median"
        if most is not None and not median:
            raise ValueError("is for `composite: median`; the nearest scene is one")
        return MOST_SCENES if median and most is None else most

    @property
    def num_dates(self) -> int:
        """How many dates a site has."""
        columns = self.phenology.columns if self.phenology is not None else []
        return len(self.months or columns) or self.dates_per_site or 1


class Chip(Document):
    """The pixels of one sample."""

    size_px: int = Field(ge=1, le=2048)
    resolution_m: float = Field(
        10.0, gt=0, description="ground sampling of the chip; coarser bands are resampled to it"
    )
    bands: list[str] = Field(min_length=1)
    resampling: Literal["nearest", "bilinear"] = "nearest"
    harmonise: bool = Field(True, description="remove the +1000 offset of Sentinel-2 baselines from 04.00 on")

    @field_validator("bands")
    @classmethod
    def _distinct(cls, bands: list[str]) -> list[str]:
        repeated = sorted({band for band in bands if bands.count(band) > 1})
        if repeated:
            raise ValueError(f"`bands` repeats {', '.join(repeated)}")
        return bands


class Split(Document):
    """Validation samples lie in whole spatial blocks, never in random rows."""

    val_fraction: float = Field(0.1, ge=0, lt=1)
    block_km: float = Field(50.0, gt=0)


class Recipe(Document):
    """One dataset: how many samples, where, when, from which source, with which bands, from which seed."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="lower case, digits, . _ -; names the folder")
    title: str = Field(min_length=1)
    license: str = Field(min_length=1, description="SPDX identifier of the dataset made")
    attribution: str | None = Field(None, description="whose data it is made from, as they ask to be named")
    num_samples: int = Field(ge=1, le=50_000_000)
    seed: int = Field(0, ge=0)
    sampler: AnySampler
    constraints: Constraints = Constraints()
    source: Source
    when: When
    chip: Chip
    regions: RegionLayers = RegionLayers()
    split: Split = Split()
    sensors: dict[Annotated[str, Field(pattern=SENSOR_NAME)], Sensor] = Field(
        default_factory=dict,
        exclude_if=operator.not_,  # a recipe without them keeps the hash that it had before there were any
        description="sources beside the main one whose bands stand behind the chip's, on the same pixels",
    )

    @model_validator(mode="after")
    def _reachable(self) -> Recipe:
        faults = _unreachable(self.model_dump())
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def chip_km(self) -> float:
        """Side of a chip, kilometres."""
        return self.chip.size_px * self.chip.resolution_m / 1000

    @property
    def bands(self) -> list[str]:
        """All bands of the cube, in its order: the chip's, then each sensor's."""
        return [*self.chip.bands, *(band for sensor in self.sensors.values() for band in sensor.bands)]

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of this recipe, defaults included; in every artefact made from it."""
        document = self.model_dump(mode="json")
        if self.sensors:  # their order is that of the cube's bands
            document["sensors"] = list(document["sensors"].items())
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def differs_from(self, other: Recipe) -> list[str]:
        """Dotted keys in which another recipe would be planned otherwise.

        What a source may be asked, and who stands in for it, is none of them: `fallback`, `allow_private`, `requests_per_s` and
        `search` of the source and of sensors' sources.
        """
        return differing_keys(_planned(self), _planned(other))

    def to_yaml(self) -> str:
        """This recipe as a YAML document that loads back to the same hash."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _planned(recipe: Recipe) -> dict[str, Any]:
    """What a plan hangs on, as a document."""
    document = recipe.model_dump(mode="json")
    for part in (document, *document.get("sensors", {}).values()):
        part["source"] = {key: value for key, value in part["source"].items() if key not in _ASKING}
        part["source"]["url"] = bare(part["source"]["url"] or "")  # older plans may have a password in it
    document["the order of sensors"] = list(document.get("sensors", {}))  # it is that of the cube's bands
    return document


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> list[str]:
    """Dotted keys of two documents whose values differ."""
    keys: list[str] = []
    for key in dict.fromkeys([*one, *other]):
        mine, yours = one.get(key), other.get(key)
        if isinstance(mine, Mapping) and isinstance(yours, Mapping):
            keys += differing_keys(mine, yours, f"{path}{key}.")
        elif mine != yours:
            keys.append(f"{path}{key}")
    return keys


def load_recipe(path: str | Path, *, planned: bool = False) -> Recipe:
    """The recipe in a YAML file.

    Args:
        path: of the file.
        planned: whether it is the copy beside a plan; in one of older versions, addresses may not be fit to be published.

    Raises:
        RecipeError: the file is missing or no YAML, or the recipe has faults; all of them are listed with their path.
    """
    path = Path(path)
    document = read_recipe_file(path)
    try:
        return Recipe.model_validate(document, context={"planned": planned})
    except ValidationError as exc:
        raise RecipeError(describe_faults(path, exc, document=document, more=_unreachable(document))) from exc


def _unreachable(document: Mapping[str, Any]) -> list[str]:
    """What contradicts itself across parts of a recipe; read from the raw document, which may have other faults."""
    regions, constraints = document.get("regions") or {}, document.get("constraints") or {}
    if not isinstance(regions, Mapping) or not isinstance(constraints, Mapping):
        return []
    try:
        sampler = _SAMPLER.validate_python(document.get("sampler"))
    except ValidationError:  # told already
        sampler = None
    needed = [(layer, f"sampler: {why}") for layer, why in sampler.layers()] if sampler else []
    if constraints.get("min_land_fraction"):
        needed.append(("continent", "constraints: `min_land_fraction`"))
    missing = {layer: why for layer, why in reversed(needed) if regions.get(layer) is None}  # the first reason stays
    faults = [f"{why} needs the layer `regions.{layer}`{_hint(layer)}" for layer, why in reversed(missing.items())]
    chip = document.get("chip")
    if isinstance(sampler, Spectral) and isinstance(chip, Mapping):
        faults += _unscorable(sampler, chip, document.get("when"), constraints)
    faults += _unjudged(document) + _ungrouped(document.get("when"), constraints)
    return faults + sensor_faults(document)


def _unjudged(document: Mapping[str, Any]) -> list[str]:
    """Sources whose chips cannot be judged by a quality band, where that is asked for."""
    when, source = document.get("when"), document.get("source")
    if not isinstance(when, Mapping) or when.get("max_chip_cloud") is None or not isinstance(source, Mapping):
        return []
    others = source.get("fallback") or []
    sources = [each for each in (source, *(others if isinstance(others, list) else [])) if isinstance(each, Mapping)]
    return [
        f"when.max_chip_cloud: no quality band is known of {collection} at {provider}"
        for provider, collection in ((each.get("provider"), each.get("collection")) for each in sources)
        if isinstance(provider, str) and isinstance(collection, str)
        if provider in PROVIDERS and PROVIDERS[provider].collection(collection).quality is None
    ]


def _ungrouped(when: Any, constraints: Mapping[str, Any]) -> list[str]:
    """Dates that sites of a group could not share."""
    least = constraints.get("min_sites_per_scene", 1)
    if not isinstance(when, Mapping) or not isinstance(least, int) or least <= 1:
        return []
    ways = {
        "when.phenology": when.get("phenology") is not None,
        "when.composite: median": when.get("composite") == "median",
    }
    return [
        f"constraints.min_sites_per_scene: sites of a group share one scene a date, which `{way}` does not keep to"
        for way, asked in ways.items()
        if asked
    ]


def _hint(layer: str) -> str:
    dataset = DEFAULTS.get(layer)
    return f", such as `{layer}: {dataset}`" if dataset else ""


def _unscorable(sampler: Spectral, chip: Mapping[str, Any], when: Any, constraints: Mapping[str, Any]) -> list[str]:
    """What a choice by spectra cannot do."""
    faults, size, bands = [], chip.get("size_px"), chip.get("bands")
    if isinstance(size, int) and size // sampler.factor < LEAST_SCORED_PX:
        faults.append(
            f"sampler.factor: a chip of {size} px has {size // sampler.factor} a side when it is {sampler.factor} times "
            f"coarser; {LEAST_SCORED_PX} are the least that say anything of its spectrum"
        )
    if isinstance(bands, list) and (strange := [band for band in sampler.bands or [] if band not in bands]):
        faults.append(f"sampler.bands: {', '.join(strange)} is not among the bands of the chip")
    if isinstance(least := constraints.get("min_sites_per_scene", 1), int) and least > 1:
        faults.append(
            "constraints.min_sites_per_scene: a choice by spectra takes sites one by one, and cannot keep groups"
        )
    if isinstance(when, Mapping) and when.get("composite") == "median":
        faults.append(
            "when.composite: a choice by spectra scores the one scene nearest to each date, which tells nothing of a `median` "
            "of several; take `nearest`, or another strategy"
        )
    return faults
