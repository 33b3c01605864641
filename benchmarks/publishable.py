"""A collection of made-up sites that can be published: recipe, items in Hilbert order, statistics, a cube of real pixels.

Pixels are pieces of the kit's twelve real Sentinel-2 tiles, moved, mirrored and brightened by the sample's number, so that
no two are the same and each is the same in every collection; without the kit, of smooth fields with noise. Spectral
entropies are those of the pixels. A collection that has grown holds the samples of the smaller one, and some more: over all
the globe, or in one place.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from made_collection import _draw_fields
from measured import KIT
from numpy.typing import NDArray

from catalog.items import item_rows, list_column
from catalog.measures.tally import Tally
from catalog.spectral import measure
from catalog.stac.collection import CollectionFacts
from catalog.stac.describing import as_reflectance
from catalog.store import write_collection
from pwcat.cube import CubeSpec, create_cube, encode_shard, open_cube, write_coordinates, write_shard
from pwcat.recipe import Recipe
from pwcat.sites.columns import hilbert_order

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
BIOMES = 14
TILES = 12
SHARD_BYTES = 64 * 2**20


def make_collection(
    folder: Path, *, chips: int, size_px: int, times: int = 1, more: int = 0, crowded: bool = False
) -> Path:
    """Write a collection of so many samples, and some more, to a folder, which is made.

    Args:
        folder: of the collection; its name is the collection's.
        chips: samples, uniform on the sphere without the poles.
        size_px: side of a chip.
        times: dates of a sample.
        more: samples beside them.
        crowded: whether those lie in a box of ten degrees, rather than everywhere.
    """
    lonlat, number = _sites(chips, more, crowded)
    recipe = _recipe(folder.name, len(number), size_px)
    side = 2 * len(BANDS) * times * size_px**2
    per_shard = 2 ** max(0, (SHARD_BYTES // side).bit_length() - 1)
    spec = CubeSpec(
        num_samples=len(number), num_times=times, bands=BANDS, size_px=size_px, shard_size=min(4096, per_shard)
    )
    folder.mkdir(parents=True)
    cube = folder / "cube.zarr"
    create_cube(cube, spec, attributes={"recipe_hash": recipe.hash, "resolution_m": 10.0})
    dates = 1_609_459_200 + (number[:, None] % 365) * 86_400 + np.arange(times) * 30 * 86_400
    write_coordinates(cube, {"datetime": dates})
    tiles, entropy, opened = _tiles(), np.empty(len(number)), open_cube(cube)

    def write(shard: int) -> None:
        own = number[shard * spec.shard_size : (shard + 1) * spec.shard_size]
        chips = np.stack([_chip(tiles, int(one), spec) for one in own])
        write_shard(cube, shard, encode_shard(spec, shard, chips))
        measured = measure(as_reflectance(opened, chips), codebook=None, bands=BANDS)
        entropy[shard * spec.shard_size :][: len(own)] = measured.band_histogram

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, range(spec.num_shards)))
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    rows = _items(recipe, lonlat, number, dates, entropy)
    facts = CollectionFacts(
        name=folder.name, title=recipe.title, description="Made up.", license=recipe.license, recipe_hash=recipe.hash,
        pixels_per_sample=times * size_px**2,
    )  # fmt: skip
    write_collection(folder, items=rows, tally=Tally.of(rows), metadata=facts)
    assert open_cube(cube).num_samples == len(number)
    return folder


def _sites(chips: int, more: int, crowded: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Places and numbers of the samples, in Hilbert order."""
    rng, others = np.random.default_rng(0), np.random.default_rng(1)
    lonlat = np.column_stack([rng.uniform(-180, 180, chips), np.rad2deg(np.arcsin(rng.uniform(-0.8, 0.9, chips)))])
    west, east, low, high = (
        (10, 20, np.sin(np.deg2rad(40)), np.sin(np.deg2rad(50))) if crowded else (-180, 180, -0.8, 0.9)
    )
    added = np.column_stack([others.uniform(west, east, more), np.rad2deg(np.arcsin(others.uniform(low, high, more)))])
    lonlat = np.concatenate([lonlat, added])
    order = hilbert_order(lonlat)
    return lonlat[order], np.arange(len(lonlat))[order]


def _recipe(name: str, count: int, size_px: int) -> Recipe:
    return Recipe.model_validate(
        {
            "name": name, "title": "Made-up sites", "license": "CC-BY-4.0", "attribution": "nobody", "num_samples": count,
            "seed": 0, "sampler": {"strategy": "uniform", "domain": "globe"},
            "source": {"provider": "archive", "path": "archive", "collection": "made-up"},
            "when": {"start": "2021-01-01", "end": "2021-12-31"},
            "chip": {"size_px": max(16, size_px), "bands": list(BANDS)}, "split": {"val_fraction": 0.1, "block_km": 100},
        }
    )  # fmt: skip


def _tiles() -> NDArray[np.uint16]:
    """``(tile, band, 256, 256)``: the real ones, or fields."""
    paths = sorted((KIT / "s2_satclip").rglob("*.tif"))
    if not paths:
        return _draw_fields(np.random.default_rng(0), size_px=128, bands=len(BANDS))[:TILES]
    import rasterio

    found = []
    for path in paths:
        with rasterio.open(path) as raster:
            found.append(raster.read())
    return np.stack(found).astype(np.uint16)


def _chip(tiles: NDArray[np.uint16], number: int, spec: CubeSpec) -> NDArray[np.uint16]:
    """The chip of a sample, ``(time, band, y, x)``."""
    rng = np.random.default_rng([2, number])
    tile = tiles[rng.integers(len(tiles))]
    row, column = rng.integers(0, tile.shape[1], 2)
    ways = np.arange(spec.size_px)
    cut = tile[:, (row + ways)[:, None] % tile.shape[1], (column + ways) % tile.shape[2]][..., :: rng.choice([-1, 1])]
    brighter = rng.integers(0, 400, (spec.num_times, 1, 1, 1)).astype(np.uint16)
    return cut + brighter


def _items(
    recipe: Recipe,
    lonlat: NDArray[np.float64],
    number: NDArray[np.int64],
    dates: NDArray[np.int64],
    entropy: NDArray[np.float64],
) -> pa.Table:
    count = len(number)
    lon, lat = lonlat.T
    zone = 32601 + ((lon + 180) // 6).clip(0, 59) + np.where(lat < 0, 100, 0)
    biome = (lon // 30 * 5 + lat // 20 * 3) % BIOMES  # cells of some thousand kilometres
    share = 0.4 + number % 60 / 100
    fractions = pa.StructArray.from_arrays(
        [
            pa.array(np.char.add("cover ", (np.repeat(number, 2) % 11).astype(str))),
            np.column_stack([share, 1 - share]).ravel(),
        ],
        ["name", "fraction"],
    )
    plan = pa.table(
        {
            "id": pa.array(_named("site-", number)),
            "lon": lon, "lat": lat,
            "continent": np.char.add("continent ", (lon // 60).astype(int).astype(str)),
            "biome": np.char.add("biome ", biome.astype(int).astype(str)),
            "ecoregion": np.char.add("ecoregion ", (lon // 10).astype(int).astype(str)),
            "landcover": np.char.add("cover ", (number % 11).astype(str)),
            "landcover_fractions": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * 2, fractions),
            "scene_ids": list_column(np.repeat(_named("S2A_MSIL2A_", number)[:, None], dates.shape[1], axis=1)),
            "item": pa.nulls(count, pa.list_(pa.string())),
            "datetime": list_column(dates[:, :1].astype("datetime64[s]").astype("datetime64[us]")),
            "epsg": zone.astype(np.int32), "x0": 3e5 + number * 10.0, "y0": 5e6 + number * 10.0,
            "split": np.where(number % 10 == 0, "val", "train"), "pwcat:index": np.arange(count),
            "valid_fraction": np.ones(count),
        }
    )  # fmt: skip
    spectra = {"div:spectral_entropy": entropy}
    spectra |= {f"div:spectral_entropy_{kind}": 3 + number % 1000 / 1000 for kind in ("codebook", "covariance")}
    return item_rows(recipe.chip, plan, plan, spectra=spectra)


def _named(prefix: str, number: NDArray[np.int64]) -> NDArray[np.str_]:
    return np.char.add(prefix, np.char.zfill(number.astype(str), 8))
