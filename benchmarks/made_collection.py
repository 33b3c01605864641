"""A collection of made-up chips in seconds, as a build would leave it: items, no statistics, a cube that is read for real.

Chips are smooth fields with the noise of a sensor, bands alike, so that they compress as scenes do (blosc-lz4 keeps about
.6 of them); each is a piece of one of a few hundred fields, brightened and turned, so that no two are the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.cube import (
    CubeSpec,
    SensorBand,
    create_cube,
    encode_shard,
    open_cube,
    shard_path,
    write_coordinates,
    write_shard,
)
from pwcat.recipe import Chip

FIELDS = 64  # from which chips are cut
RECIPE_HASH = "0" * 64
MONTH_S = 30 * 86_400


def write_collection(
    folder: Path,
    *,
    chips: int,
    size_px: int,
    bands: Sequence[str],
    times: int = 1,
    shard_size: int = 256,
    sensors: Sequence[SensorBand] = (),
    classes: Sequence[str] = (),
) -> float:
    """Write so many samples to a folder, which is made; gigabytes (10^9 bytes) that their chips take on disk.

    Args:
        folder: of the collection; its name is the collection's.
        chips: samples.
        size_px: side of a chip.
        bands: names, those of sensors last.
        times: dates of a sample, a month apart.
        shard_size: samples a file.
        sensors: what the last bands are.
        classes: bands whose numbers are 1 to 9.
    """
    spec = CubeSpec(num_samples=chips, num_times=times, bands=tuple(bands), size_px=size_px, shard_size=shard_size)
    rng = np.random.default_rng(0)
    lonlat = np.column_stack([rng.uniform(-180, 180, chips), np.rad2deg(np.arcsin(rng.uniform(-0.8, 0.9, chips)))])
    started = rng.integers(0, 365, chips) * 86_400 + 1_609_459_200  # 2021-01-01
    seconds = started[:, None] + np.arange(times) * MONTH_S
    _write_items(folder, spec, lonlat, seconds)
    cube = folder / "cube.zarr"
    create_cube(cube, spec, attributes={"recipe_hash": RECIPE_HASH}, sensors=sensors)
    write_coordinates(cube, {"datetime": seconds})
    numbered = [spec.bands.index(band) for band in classes]
    fields = _draw_fields(rng, size_px=size_px, bands=times * len(bands))

    def write(shard: int) -> int:
        cut = _cut(fields, spec, shard)
        cut[:, :, numbered] = 1 + cut[:, :, numbered] % 9
        payload = encode_shard(spec, shard, cut)
        write_shard(cube, shard, payload)
        return len(payload)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(write, range(spec.num_shards))) / 1e9


def forget_pages(folder: Path) -> None:
    """Ask the system to drop what it keeps of a collection's chips in memory, so that the disk is read."""
    cube = open_cube(folder / "cube.zarr")
    for shard in range(-(-cube.num_samples // cube.shard_size)):
        with shard_path(cube.path, shard).open("rb") as file:
            os.fsync(file.fileno())  # only pages that are written can be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _draw_fields(rng: np.random.Generator, *, size_px: int, bands: int) -> NDArray[np.uint16]:
    """(FIELDS, bands, 2 side, 2 side) of digital numbers: a coarse grid drawn out, in each band with a contrast of its own."""
    side, coarse = 2 * size_px, max(2, size_px // 4)
    grid = rng.normal(size=(FIELDS, coarse + 1, coarse + 1))
    at = np.linspace(0, coarse, side, endpoint=False)
    low, part = at.astype(int), at % 1
    rows = grid[:, low] * (1 - part[:, None]) + grid[:, low + 1] * part[:, None]
    smooth = rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part
    level, contrast = rng.uniform(600, 2600, bands), rng.uniform(150, 500, bands)
    values = (
        level[:, None, None]
        + contrast[:, None, None] * smooth[:, None]
        + rng.normal(0, 12, (FIELDS, bands, side, side))
    )
    return values.clip(1, 20_000).astype(np.uint16)


def _cut(fields: NDArray[np.uint16], spec: CubeSpec, shard: int) -> NDArray[np.uint16]:
    """Chips of a shard."""
    rng = np.random.default_rng([1, shard])
    count = min(spec.shard_size, spec.num_samples - shard * spec.shard_size)
    chips = np.empty((count, *spec.chip_shape), dtype=np.uint16)
    for number in range(count):
        row, column = rng.integers(0, spec.size_px + 1, 2)
        cut = fields[rng.integers(FIELDS), :, row : row + spec.size_px, column : column + spec.size_px]
        brighter = cut + np.uint16(rng.integers(0, 400))
        chips[number] = brighter[..., :: rng.choice([-1, 1])].reshape(spec.chip_shape)
    return chips


def _write_items(folder: Path, spec: CubeSpec, lonlat: NDArray[np.float64], seconds: NDArray[np.int64]) -> None:
    from catalog.extension import SCHEMA_URI
    from catalog.items import item_rows, list_column
    from catalog.stac.mirror import write_items

    count = spec.num_samples
    chip = Chip(size_px=max(16, spec.size_px), resolution_m=10, bands=["B02", "B03", "B04"])
    fractions = pa.array([[]] * count, pa.list_(pa.struct([("name", pa.string()), ("fraction", pa.float64())])))
    nothing, lists = pa.nulls(count, pa.string()), pa.nulls(count, pa.list_(pa.string()))
    plan = pa.table(
        {
            "id": pa.array([f"{folder.name}-{number:08d}" for number in range(count)]),
            "lon": lonlat[:, 0], "lat": lonlat[:, 1],
            "continent": nothing, "biome": nothing, "ecoregion": nothing, "landcover": nothing,
            "landcover_fractions": fractions, "scene_ids": pa.array([["made-up"]] * count), "item": lists,
            "datetime": list_column(seconds[:, :1].astype("datetime64[s]").astype("datetime64[us]")),
            "epsg": np.full(count, 32631, dtype=np.int32), "x0": np.full(count, 5e5), "y0": np.full(count, 5e6),
            "split": np.full(count, "train"), "pwcat:index": np.arange(count), "valid_fraction": np.ones(count),
        }
    )  # fmt: skip
    spectra = {f"div:spectral_entropy{kind}": np.full(count, np.nan) for kind in ("", "_codebook", "_covariance")}
    folder.mkdir(parents=True)
    write_items(folder / "items.parquet", item_rows(chip, plan, plan, spectra=spectra), collection=folder.name)
    (folder / "stats.json").write_text(json.dumps({"recipe_hash": RECIPE_HASH, "num_samples": count, "statistics": {}}))
    document = {"type": "Collection", "id": folder.name, "stac_version": "1.1.0", "stac_extensions": [SCHEMA_URI]}
    (folder / "collection.json").write_text(json.dumps(document))
