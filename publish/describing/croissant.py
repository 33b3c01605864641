"""Croissant 1.1 with GeoCroissant 1.0: the dataset described for programs that know neither us nor Parquet.

Source: https://docs.mlcommons.org/croissant/docs/croissant-geo-spec.html (version 1.0, 2026-01-29).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from catalog.published.layout import DATA_FOLDER
from publish.describing.cards import HUB_LICENSES
from publish.describing.columns import meaning_of
from publish.describing.facts import Band, DatasetFacts, describe_sampling
from publish.manifest import MANIFEST, FileRecord

if TYPE_CHECKING:
    from publish.describing.documents import Config

__all__ = ["croissant"]

HUB = "https://huggingface.co/datasets"
PARQUET = "application/x-parquet"  # as mlcroissant knows it

DESCRIPTIONS: Mapping[str, str] = {
    "chips": "Chips with their pixels, place, dates and labels, one a row.",
    "items": "STAC items with geometry, labels and the shard and row of each chip.",
    "preview": "Thumbnails of some samples.",
    "entities": "What one tile holds of one entity of the map: tags, geometry, vertices in tile coordinates.",
    "tags": "Tags of the map with their counts.",
}
KEYED = ("chips", "items", "preview")  # whose rows are told apart by their id

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


def croissant(
    facts: DatasetFacts, configs: Mapping[str, Config], records: Mapping[str, FileRecord], *, description: str
) -> dict[str, Any]:
    """The JSON-LD document of a dataset's folder.

    Args:
        facts: Recorded facts.
        configs: What ``load_dataset`` finds: each is a set of records here.
        records: Of the tables that were written.
        description: Some sentences.
    """
    url = f"{HUB}/{facts.repo}" if facts.repo else "."
    west, south, east, north = facts.bbox
    creator = {"creator": {"@type": "Organization", "name": facts.repo.partition("/")[0]}} if facts.repo else {}
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": facts.name,
        "description": description,
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/geo/1.0"],
        "version": (facts.version or "0").removeprefix("v"),
        "license": [_license(license) for license in facts.licenses],
        "url": url,
        **creator,
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
        "distribution": _distribution(facts, configs, records),
        "recordSet": [_record_set(name, config, facts) for name, config in configs.items()],
    }
    return document


def _license(license: str) -> str:
    """The page of an SPDX identifier that the Hub knows; others as they are."""
    return f"https://spdx.org/licenses/{license}.html" if license in HUB_LICENSES else license


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


def _distribution(
    facts: DatasetFacts, configs: Mapping[str, Config], records: Mapping[str, FileRecord]
) -> list[dict[str, Any]]:
    """The files of each config: one with its checksum, or several by their patterns."""
    files = [
        _file_object(name, path, records[path], facts)
        for name, config in configs.items()
        for path in config.files.values()
        if path in records
    ]
    shards = [path for path in records if path.startswith(f"{DATA_FOLDER}/")]
    chips = {
        "@type": "cr:FileSet",
        "@id": "shards",
        "name": "shards",
        "description": f"{len(shards)} files of chips; their checksums are in {MANIFEST}.",
        "encodingFormat": PARQUET,
        "includes": list(configs["chips"].files.values()),
    }
    if not facts.repo:
        return [*files, chips]
    repository = {
        "@type": "cr:FileObject",
        "@id": "repository",
        "name": "repository",
        "description": "The repository on the Hugging Face Hub.",
        "contentUrl": f"{HUB}/{facts.repo}/tree/{facts.version or 'main'}",
        "encodingFormat": "git+https",
        "sha256": "https://github.com/mlcommons/croissant/issues/80",  # Croissant's own word for "changes by commit"
    }
    return [repository, *files, {**chips, "containedIn": {"@id": "repository"}}]


def _file_object(name: str, path: str, record: FileRecord, facts: DatasetFacts) -> dict[str, Any]:
    prefix = f"{HUB}/{facts.repo}/resolve/{facts.version or 'main'}/" if facts.repo else ""
    return {
        "@type": "cr:FileObject",
        "@id": f"{name}-file",
        "name": f"{name}-file",
        "description": DESCRIPTIONS[name],
        "contentUrl": f"{prefix}{path}",
        "contentSize": f"{record.bytes} B",
        "encodingFormat": PARQUET,
        "sha256": record.sha256,
    }


def _record_set(name: str, config: Config, facts: DatasetFacts) -> dict[str, Any]:
    """The rows of a config; columns of structures are left to readers of Parquet."""
    columns = [field for field in config.schema if not _is_nested(field.type)]
    out: dict[str, Any] = {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": DESCRIPTIONS[name],
        "field": [_field(name, field, facts) for field in columns],
    }
    return out | ({"key": {"@id": f"{name}/id"}} if name in KEYED else {})


def _is_nested(dtype: pa.DataType) -> bool:
    inner = dtype.value_type if pa.types.is_list(dtype) else dtype
    return bool(pa.types.is_nested(inner))


def _field(record_set: str, field: pa.Field, facts: DatasetFacts) -> dict[str, Any]:
    repeated = pa.types.is_list(field.type)
    files = {"fileSet": {"@id": "shards"}} if record_set == "chips" else {"fileObject": {"@id": f"{record_set}-file"}}
    out: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{record_set}/{field.name}",
        "name": field.name,
        "dataType": _data_type(field.type.value_type if repeated else field.type),
        "source": {**files, "extract": {"column": field.name}},
    }
    if meaning := meaning_of(field.name.removeprefix("div:")):
        out["description"] = meaning
    if repeated:
        out |= {"isArray": True, "arrayShape": "-1"}
    if field.name == "pixels":
        out |= _bands(facts)
    return out


def _data_type(dtype: pa.DataType) -> str:
    if pa.types.is_integer(dtype):
        return "sc:Integer"
    if pa.types.is_floating(dtype):
        return "sc:Float"
    if pa.types.is_boolean(dtype):
        return "sc:Boolean"
    if pa.types.is_timestamp(dtype):
        return "sc:DateTime"
    return "sc:Text"  # Croissant has no type for bytes; its readers give text as bytes
