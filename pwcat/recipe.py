"""A recipe: one YAML document that says everything about one dataset, validated once, at the border."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from pwcat.errors import RecipeError
from pwcat.providers import PROVIDERS

__all__ = ["Layer", "Recipe", "describe_faults", "load_recipe"]

LayerName = Literal["continent", "biome", "landcover"]
Domain = Literal["land", "globe", "scenes"]


class _Document(BaseModel):
    # Checks across fields are validators of the last field they need: pydantic skips those of a whole model as soon as one
    # of its fields is wrong, and a recipe's faults are told all at once.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class UniformSampler(_Document):
    """Sites uniform by area on the sphere, within a domain."""

    strategy: Literal["uniform"]
    domain: Domain = Field(
        "land", description="land: the continent layer; globe: anywhere; scenes: where the source has scenes"
    )


class OneHotSampler(_Document):
    """Sites uniform by area within one class of one layer."""

    strategy: Literal["one_hot"]
    layer: LayerName = Field(description="the layer whose class is wanted")
    value: str = Field(min_length=1, description="the class, as the layer names it")
    domain: Domain = Field(
        "land", description="land: the continent layer; globe: anywhere; scenes: where the source has scenes"
    )


class Source(_Document):
    """Where scenes come from: a provider by name, and one collection of it."""

    provider: str = Field(description=f"one of {', '.join(PROVIDERS)}")
    collection: str = Field(min_length=1)
    url: str | None = Field(None, description="the STAC API; needed for `stac`, known for the others")
    path: str | None = Field(
        None, description="`archive` only: the folder, relative to the recipe; it is served while needed"
    )
    fallback: list[Source] = Field(
        default_factory=list, description="sources of the same acquisitions; kept for later, and refused for now"
    )

    @field_validator("fallback")
    @classmethod
    def _unused(cls, fallback: list[Source]) -> list[Source]:
        if fallback:
            raise ValueError("no other source is tried yet when one fails: leave `fallback` out")
        return fallback

    @field_validator("provider")
    @classmethod
    def _known(cls, provider: str) -> str:
        if provider not in PROVIDERS:
            raise ValueError(f"unknown provider {provider!r}: choose one of {', '.join(PROVIDERS)}")
        return provider

    @field_validator("path")
    @classmethod
    def _found_somewhere(cls, path: str | None, info: ValidationInfo) -> str | None:
        if not {"provider", "url"} <= info.data.keys():
            return path
        provider, url = info.data["provider"], info.data["url"]
        if provider == "archive" and (url is None) == (path is None):
            raise ValueError("an archive needs either `path` (a folder) or `url` (where it is served)")
        if provider != "archive" and path is not None:
            raise ValueError("`path` is for the provider `archive`")
        if url is None and path is None and PROVIDERS[provider].url is None:
            raise ValueError(f"provider {provider!r} needs a `url`")
        return path


class When(_Document):
    """Which dates: a span, how cloudy a scene may be, and how many dates a site has."""

    start: date
    end: date
    max_cloud_cover: float = Field(20.0, ge=0, le=100, description="per cent of the scene")
    dates_per_site: int | None = Field(None, ge=1, le=366, description="the span is cut into this many equal windows")
    months: list[Annotated[int, Field(ge=1, le=12)]] | None = Field(
        None, min_length=1, description="one date in each of these months of the first year that has them"
    )

    @field_validator("end")
    @classmethod
    def _ordered(cls, end: date, info: ValidationInfo) -> date:
        start = info.data.get("start", end)
        if end < start:
            raise ValueError(f"`end` ({end}) lies before `start` ({start})")
        return end

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


class Chip(_Document):
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


class Layer(_Document):
    """A region layer: a vector file with a class field, a class raster, or a collection of class rasters."""

    path: str | None = Field(None, description="a vector or raster file, relative to the recipe")
    field: str | None = Field(None, description="vector files: the attribute that holds the class")
    classes: Literal["igbp", "worldcover"] | dict[int, str] | None = Field(
        None, description="raster files: what the values mean"
    )
    collection: str | None = Field(None, description="a collection of class rasters at the recipe's own source")
    asset: str = Field("map", description="collections: the asset that holds the classes")

    @field_validator("collection")
    @classmethod
    def _one_kind(cls, collection: str | None, info: ValidationInfo) -> str | None:
        if not {"path", "field", "classes"} <= info.data.keys():
            return collection
        path, field, classes = (info.data[name] for name in ("path", "field", "classes"))
        if (path is None) == (collection is None):
            raise ValueError("a layer is either a `path` or a `collection`")
        if path is not None and (field is None) == (classes is None):
            raise ValueError("a file needs `field` (vector) or `classes` (raster), and not both")
        return collection


class RegionLayers(_Document):
    """The layers that label sites. A layer left out leaves its labels empty."""

    continent: Layer | None = None
    biome: Layer | None = None
    landcover: Layer | None = None

    @field_validator("continent", "biome")
    @classmethod
    def _polygons(cls, layer: Layer | None) -> Layer | None:
        if layer is not None and layer.field is None:
            raise ValueError("this layer is a vector file: give `path` and `field`")
        return layer

    @field_validator("landcover")
    @classmethod
    def _rasters(cls, layer: Layer | None) -> Layer | None:
        if layer is not None and layer.field is not None:
            raise ValueError("land cover is a class raster: give `path` and `classes`, or `collection`")
        return layer


class Split(_Document):
    """Validation samples lie in whole spatial blocks, never in random rows."""

    val_fraction: float = Field(0.1, ge=0, lt=1)
    block_km: float = Field(50.0, gt=0)


class Recipe(_Document):
    """One dataset: how many samples, where, when, from which source, with which bands, from which seed."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="lower case, digits, . _ -; names the folder")
    title: str = Field(min_length=1)
    license: str = Field(min_length=1, description="SPDX identifier of the dataset made")
    attribution: str | None = Field(None, description="whose data it is made from, as they ask to be named")
    num_samples: int = Field(ge=1, le=50_000_000)
    seed: int = Field(0, ge=0)
    sampler: Annotated[UniformSampler | OneHotSampler, Field(discriminator="strategy")]
    source: Source
    when: When
    chip: Chip
    regions: RegionLayers = RegionLayers()
    split: Split = Split()

    @model_validator(mode="after")
    def _reachable(self) -> Recipe:
        faults = _unreachable(self.model_dump())
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of this recipe, defaults included; in every artefact made from it."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_yaml(self) -> str:
        """This recipe as a YAML document that loads back to the same hash."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_recipe(path: str | Path) -> Recipe:
    """The recipe in a YAML file.

    Raises:
        RecipeError: the file is missing or no YAML, or the recipe has faults; all of them are listed with their path.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as exc:
        raise RecipeError(f"{path}: not a readable YAML document: {' '.join(str(exc).split())}") from exc
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys, got {type(document).__name__}")
    try:
        return Recipe.model_validate(document)
    except ValidationError as exc:
        raise RecipeError(describe_faults(path, exc, more=_unreachable(document))) from exc


def _unreachable(document: Mapping[str, Any]) -> list[str]:
    """Layers that the sampler needs and the document lacks; read from the raw document, which may have other faults."""
    sampler, regions = document.get("sampler"), document.get("regions") or {}
    if not isinstance(sampler, Mapping) or not isinstance(regions, Mapping):
        return []
    faults, layer = [], sampler.get("layer")
    if sampler.get("strategy") == "one_hot" and layer in RegionLayers.model_fields and regions.get(layer) is None:
        faults.append(f"sampler: one_hot needs the layer `regions.{layer}`")
    if sampler.get("domain", "land") == "land" and regions.get("continent") is None:
        faults.append("sampler: the domain `land` needs the layer `regions.continent`")
    return faults


def describe_faults(path: Path, exc: ValidationError, *, more: Sequence[str] = ()) -> str:
    """Every fault of a document, one a line: where it is, what is wrong, what was got; then ``more`` of them, once each."""
    faults = [_fault(error) for error in exc.errors()]
    faults += [fault for fault in more if not any(fault in told for told in faults)]
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    return "\n  ".join([f"{path}: {count}, nothing was done", *faults])


def _fault(error: Any) -> str:
    tags = {"uniform", "one_hot"}  # pydantic names the member of the union; the user wrote no such key
    where = ".".join(str(part) for part in error["loc"] if part not in tags) or "recipe"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "unknown key"
    got = error.get("input")
    silent = error["type"] == "missing" or isinstance(got, dict) or (error["type"] == "value_error" and got is None)
    shown = "" if silent else f" (got {reprlib.repr(got)})"
    return f"{where}: {message}{shown}"
