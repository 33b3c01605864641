"""Croissant 1.1 with GeoCroissant 1.0: the dataset described for programs that know neither us nor Parquet.

Source: https://docs.mlcommons.org/croissant/docs/croissant-geo-spec.html (version 1.0, 2026-01-29).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from catalog.published.layout import ITEMS_PATH
from publish.facts import Band, DatasetFacts, describe_sampling
from publish.manifest import describe_file
from publish.shards import CHIP_SCHEMA, SENSOR_SCHEMA, Shard

__all__ = ["croissant"]

HUB = "https://huggingface.co/datasets"
PARQUET = "application/x-parquet"  # as mlcroissant knows it

# The context that Croissant 1.1 prescribes, and GeoCroissant's prefix.
_CR = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileObject fileProperty fileSet format "
    "includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform"
)
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "geocr": "http://mlcommons.org/croissant/geo/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _CR.split()},
}

# What the less obvious columns mean, for the fields of the record set.
MEANINGS: Mapping[str, str] = {
    "pixels": "Raw pixels, C order (time, band, y, x), of the type in dtype and the size in shape.",
    "dtype": "NumPy type of the pixels with its byte order.",
    "lon": "Longitude of the chip's centre, degrees, EPSG:4326.",
    "lat": "Latitude of the chip's centre, degrees, EPSG:4326.",
    "datetime": "Acquisition of the first date.",
    "datetimes": "Acquisition of each date, in the order of the time axis.",
    "epsg": "EPSG code of the chip's own grid.",
    "transform": "Affine transform from pixel to that grid, row by row.",
    "spectral_entropy": "Spectral entropy of the chip, nats.",
    "valid_fraction": "Share of pixels that have data.",
    "scene_ids": "Source scenes, one a date.",
    "sensors": "Sensor of each band; empty for the main source's.",
    "scales": "Of each band: the value of a pixel is pixel * scale + offset, where the pixel is not 0.",
    "offsets": "Of each band; see scales.",
    "units": "Of each band's values.",
}


def croissant(facts: DatasetFacts, folder: Path, shards: list[Shard], *, description: str) -> dict[str, Any]:
    """The JSON-LD document of a dataset's folder; the items must be written already, the chips planned."""
    url = f"{HUB}/{facts.repo}" if facts.repo else "."
    west, south, east, north = facts.bbox
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": facts.name,
        "description": description,
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/geo/1.0"],
        "version": (facts.version or "0").removeprefix("v"),
        "license": list(facts.licenses),
        "url": url,
        "identifier": facts.subset_hash,
        "citeAs": f"{facts.title}. {url}. SHA-256 of the set of samples: {facts.subset_hash}",
        "isLiveDataset": False,
        "spatialCoverage": {"@type": "Place", "geo": {"@type": "GeoShape", "box": f"{south} {west} {north} {east}"}},
        "temporalCoverage": "/".join(facts.interval),
        "geocr:coordinateReferenceSystem": "EPSG:4326",
        "geocr:spatialResolution": _quantity(facts.resolution_m, "m"),
        "geocr:samplingStrategy": describe_sampling(facts),
        "geocr:spatialBias": _spatial_bias(facts),
        **_bands(facts),
        "distribution": _distribution(facts, folder, shards),
        "recordSet": [_record_set(facts)],
    }
    return document


def _spatial_bias(facts: DatasetFacts) -> str:
    counts: Mapping[str, int] = facts.statistics.get("continent", {}).get("counts", {})
    total = sum(counts.values())
    if not total:
        return f"All samples lie within {', '.join(f'{side:.2f}' for side in facts.bbox)} (west, south, east, north)."
    shares = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return "Share of samples by continent: " + ", ".join(f"{name} {n / total:.1%}" for name, n in shares if n) + "."


def _bands(facts: DatasetFacts) -> dict[str, Any]:
    names = [band.name for band in facts.bands]
    configuration = {"@type": "geocr:BandConfiguration", "geocr:totalBands": len(names), "geocr:bandNameList": names}
    spectral = [_spectral_band(band) for band in facts.bands if band.wavelength_nm is not None]
    out: dict[str, Any] = {"geocr:bandConfiguration": configuration}
    return {**out, "geocr:spectralBandMetadata": spectral} if spectral else out


def _spectral_band(band: Band) -> dict[str, Any]:
    wavelength = _quantity(band.wavelength_nm, "nm")
    return {"@type": "geocr:SpectralBand", "name": band.name, "geocr:centerWavelength": wavelength}


def _quantity(value: float | None, unit: str) -> dict[str, Any]:
    return {"@type": "QuantitativeValue", "value": value, "unitText": unit}


def _distribution(facts: DatasetFacts, folder: Path, shards: list[Shard]) -> list[dict[str, Any]]:
    prefix = f"{HUB}/{facts.repo}/resolve/main/" if facts.repo else ""
    record = describe_file(folder / ITEMS_PATH)
    items = {
        "@type": "cr:FileObject",
        "@id": "items",
        "name": "items",
        "description": "STAC items with geometry, labels and the shard and row of each chip.",
        "contentUrl": f"{prefix}{ITEMS_PATH}",
        "contentSize": f"{record.bytes} B",
        "encodingFormat": PARQUET,
        "sha256": record.sha256,
    }
    includes = [f"data/{split}-*.parquet" for split in facts.splits]
    chips = {"@type": "cr:FileSet", "@id": "shards", "name": "shards", "encodingFormat": PARQUET, "includes": includes}
    chips["description"] = f"{len(shards)} files of chips; their checksums are in MANIFEST.json."
    if not facts.repo:
        return [items, chips]
    repository = {
        "@type": "cr:FileObject",
        "@id": "repository",
        "name": "repository",
        "description": "The repository on the Hugging Face Hub.",
        "contentUrl": f"{HUB}/{facts.repo}/tree/main",
        "encodingFormat": "git+https",
        "sha256": "https://github.com/mlcommons/croissant/issues/80",  # Croissant's own word for "changes by commit"
    }
    return [repository, items, {**chips, "containedIn": {"@id": "repository"}}]


def _record_set(facts: DatasetFacts) -> dict[str, Any]:
    fields = [_field(field, facts) for field in (SENSOR_SCHEMA if facts.sensors else CHIP_SCHEMA)]
    return {"@type": "cr:RecordSet", "@id": "chips", "name": "chips", "key": {"@id": "chips/id"}, "field": fields}


def _field(field: pa.Field, facts: DatasetFacts) -> dict[str, Any]:
    repeated = pa.types.is_list(field.type)
    out: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"chips/{field.name}",
        "name": field.name,
        "dataType": _data_type(field.type.value_type if repeated else field.type),
        "source": {"fileSet": {"@id": "shards"}, "extract": {"column": field.name}},
    }
    if field.name in MEANINGS:
        out["description"] = MEANINGS[field.name]
    if repeated:
        out |= {"isArray": True, "arrayShape": "-1"}
    return out


def _data_type(dtype: pa.DataType) -> str:
    if pa.types.is_integer(dtype):
        return "sc:Integer"
    if pa.types.is_floating(dtype):
        return "sc:Float"
    if pa.types.is_timestamp(dtype):
        return "sc:DateTime"
    return "sc:Text"  # Croissant has no type for bytes; its readers give text as bytes
