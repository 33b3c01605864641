"""What is known of a copied collection: what its original says of itself, but for what the copy has of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from catalog.items import ZARR_MEDIA_TYPE
from catalog.query import Collection
from catalog.stac.collection import CUBE_ASSET, PARQUET, CollectionFacts
from catalog.stac.describing import CODEBOOK
from catalog.stac.made import bands_of, pixel_bands_of
from pwcat.copies import ORIGIN
from pwcat.cube import OFFSET, SCALE, Cube
from pwcat.osm.entities import ENTITIES, TAGS

__all__ = ["copied_facts", "layers_of"]

# Files beside the cube: key, file, media type, roles, title.
_FILES: Final = (
    ("entities", ENTITIES, PARQUET, ["data"], "Entities of the map, tile by tile, as GeoParquet"),
    ("tags", TAGS, PARQUET, ["metadata"], "The map's tags, with their counts"),
    ("recipe", "recipe.yaml", "application/yaml", ["metadata"], "The recipe that the original was made from"),
    ("codebook", CODEBOOK, PARQUET, ["metadata"], "Reflectance spectra that the samples' pixels are counted to"),
    ("origin", ORIGIN, "application/json", ["metadata"], "Where it was copied from"),
)
# Members of a collection's document that are made anew, or of the original's cube alone.
_OWN: Final = frozenset({"pwcat:recipe_hash"})


def copied_facts(collection: Collection, folder: Path, *, num_samples: int, source: str) -> CollectionFacts:
    """The facts of a copy.

    Args:
        collection: the original.
        folder: of the copy, with its cube and the files beside it.
        num_samples: of the copy.
        source: where it was copied from, in words.
    """
    document, cube = collection.document, Cube(folder / "cube.zarr")
    title = str(document.get("title") or collection.name)
    whole = int(collection.stats.get("num_samples") or num_samples)
    of = f"{num_samples:,} samples" if num_samples == whole else f"{num_samples:,} of its {whole:,} samples"
    scale, offset = (float(cube.attrs.get(name, plain)) for name, plain in (("scale", SCALE), ("offset", OFFSET)))
    times, _, height, width = cube.chip_shape
    made = f"dataset {collection.name!r} ({collection.recipe_hash[:12]})"
    return CollectionFacts(
        name=collection.name,
        title=title,
        description=f"{title}. {of}, copied from {source}: {made}.",
        license=str(document.get("license") or cube.attrs.get("license") or "other"),
        recipe_hash=collection.recipe_hash,
        layers=layers_of(collection),
        providers=document.get("providers") or (),
        citation=document.get("sci:citation"),
        publications=document.get("sci:publications") or (),
        bands=bands_of(cube),
        pixel_bands=pixel_bands_of(cube),
        stored=(SCALE / scale, -offset / scale) if (scale, offset) != (SCALE, OFFSET) else (1.0, 0.0),
        pixels_per_sample=times * height * width,
        assets={"cube": _cube_asset(document, cube), **_files(folder)},
        item_assets={"chips": {"type": ZARR_MEDIA_TYPE, "roles": ["data"], "title": "Chips, Zarr v3"}},
        summaries={"gsd": _sampling(document, cube)},
        extra={
            name: value for name, value in document.items() if name.startswith("pwcat:") and name not in _OWN and value
        },
    )


def layers_of(collection: Collection) -> dict[str, str | None]:
    """Source of each layer of a collection, as its statistics name them."""
    told = collection.stats.get("statistics") or {}
    return {name: one.get("layer") for name, one in told.items() if isinstance(one, Mapping) and "counts" in one}


def _sampling(document: Mapping[str, Any], cube: Cube) -> list[float]:
    """Ground sampling, metres."""
    told = (document.get("summaries") or {}).get("gsd") or [cube.attrs.get("resolution_m")]
    return [float(step) for step in told if step is not None]


def _cube_asset(document: Mapping[str, Any], cube: Cube) -> dict[str, Any]:
    """The store: what the original says of it, with as many samples as the copy has."""
    told = dict((document.get("assets") or {}).get("cube") or {})
    told.pop("bands", None)
    if dimensions := told.get("cube:dimensions"):
        sample = {**dimensions.get("sample", {}), "extent": [0, cube.num_samples - 1]}
        told["cube:dimensions"] = {**dimensions, "sample": sample}
    return {**CUBE_ASSET, **told, "href": CUBE_ASSET["href"]}


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        key: {"href": f"./{file}", "type": kind, "roles": roles, "title": title}
        for key, file, kind, roles, title in _FILES
        if (folder / file).is_file()
    }
