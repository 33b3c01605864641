"""Small datasets in the layouts that others publish, with pixels that say where they are."""

from __future__ import annotations

import csv
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from catalog.importers import find_importer
from catalog.importers.adding import Added, Wishes, add_dataset
from catalog.importers.importer import Options
from pwcat.layers import RegionLayers
from pwcat.regions import Regions
from pwcat.regions.opening import open_regions

L2A = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
L1C = (*L2A[:10], "B10", *L2A[10:])

# Corners of chips on land: southern France, Kenya.
FRANCE, KENYA = (32631, 500_000.0, 4_900_020.0), (32737, 300_000.0, 9_900_040.0)


def chip(bands: int, size: int, *, seed: int = 0, offset: int = 0) -> np.ndarray:
    """``(band, y, x)`` DN of 500 to 4,000, other in each band."""
    rng = np.random.default_rng(seed)
    dn = 500 + 200 * np.arange(bands)[:, None, None] + rng.integers(0, 800, (bands, size, size))
    return (dn + offset).astype(np.uint16)


def tif(pixels: np.ndarray, where: tuple[int, float, float] | None, *, step: float = 10.0, **profile: Any) -> bytes:
    """The bytes of a GeoTIFF of pixels ``(band, y, x)``, whose upper left corner is there."""
    told = {"dtype": pixels.dtype, "count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2], **profile}
    if where is not None:
        told |= {"crs": f"EPSG:{where[0]}", "transform": from_origin(where[1], where[2], step, step)}
    with MemoryFile() as memory:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with memory.open(driver="GTiff", **told) as target:
                target.write(pixels)
        return bytes(memory.read())


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The functions of this module that make pixels and files."""
    return SimpleNamespace(
        chip=chip, tif=tif, write_csv=write_csv, ssl4eo_store=ssl4eo_store, major_tom_row=major_tom_row, FRANCE=FRANCE
    )


@pytest.fixture
def geotiffs(tmp_path: Path) -> Path:
    """S2-100K's layout, with dates: ``index.csv`` and ``images/*.tif`` of twelve bands; the third has the offset."""
    folder = tmp_path / "tiles"
    (folder / "images").mkdir(parents=True)
    rows = []
    for number, (where, offset) in enumerate([(FRANCE, 0), (KENYA, 0), (FRANCE, 1000)]):
        name = f"patch_{number}.tif"
        (folder / "images" / name).write_bytes(tif(chip(12, 32, seed=number, offset=offset), where))
        baseline = "04.00" if offset else "02.08"
        rows.append({"fn": name, "lon": 3.0, "lat": 44.2, "date": f"2021-07-0{number + 1}", "baseline": baseline})
    write_csv(folder / "index.csv", rows)
    return folder


def major_tom_row(
    cell: str, product: str, *, where: tuple[int, float, float] = FRANCE, seed: int = 0
) -> dict[str, Any]:
    """A row of Core-S2L2A, of 96 pixels of 10 m: the bands are GeoTIFFs on their own grids."""
    step = {**dict.fromkeys(L2A, 20), **dict.fromkeys(("B02", "B03", "B04", "B08"), 10), "B01": 60, "B09": 60}
    row: dict[str, Any] = {
        "product_id": product,
        "grid_cell": cell,
        "timestamp": product.split("_")[2],
        "thumbnail": b"PNG",
    }
    for number, band in enumerate(L2A):
        pixels = chip(12, 960 // step[band], seed=seed)[number : number + 1]
        row[band] = tif(pixels, where, step=step[band])
    return {**row, "cloud_mask": tif(np.zeros((1, 96, 96), np.uint8), where)}


PRODUCTS = (
    "S2B_MSIL2A_20230824T131249_N0509_R138_T24LTQ_20230824T200728",
    "S2A_MSIL2A_20180405T103021_N0207_R108_T31SFD_20180405T141122",
    "S2B_MSIL2A_20200124T134639_N9999_R024_T21JVL_20230827T211620",
)


@pytest.fixture
def major_tom(tmp_path: Path) -> Path:
    """Core-S2L2A's layout: ``images/part_*.parquet``, a row a row group, and ``metadata.parquet``."""
    folder = tmp_path / "Core-S2L2A"
    (folder / "images").mkdir(parents=True)
    rows = [major_tom_row(f"{number}U_1R", product, seed=number) for number, product in enumerate(PRODUCTS)]
    pq.write_table(pa.Table.from_pylist(rows[:2]), folder / "images" / "part_00001.parquet", row_group_size=1)
    pq.write_table(pa.Table.from_pylist(rows[2:]), folder / "images" / "part_00002.parquet", row_group_size=1)
    pq.write_table(pa.table({"grid_cell": ["0U_1R"], "product_id": [PRODUCTS[0]]}), folder / "metadata.parquet")
    return folder


def ssl4eo_store(
    path: Path, samples: Sequence[str], *, seed: int = 0, bands: Sequence[str] = L2A, together: int = 1
) -> None:
    """A store of SSL4EO-S12 v1.1, Zarr edition: zipped Zarr v2, offset 1000, dates in chunks of their own."""
    n, times, size = len(samples), 4, 32
    dn = np.stack(
        [[chip(len(bands), size, seed=seed + 10 * i + t, offset=1000) for t in range(times)] for i in range(n)]
    )
    steps = np.arange(size) * 10.0
    day = np.datetime64("2020-03-01T10:00:01", "ns") + np.arange(times) * np.timedelta64(90, "D")
    mask = np.zeros((n, times, size, size), np.uint8)
    mask[0, 0, 0, :] = 6
    dataset = xr.Dataset(
        {
            "bands": (("sample", "time", "band", "y", "x"), dn.astype(np.int16)),
            "center_lat": ("sample", np.full(n, 44.25)),
            "center_lon": ("sample", np.full(n, 3.002)),
            "cloud_mask": (("sample", "time", "y", "x"), mask),
            "crs": ("sample", np.full(n, FRANCE[0])),
            "file_id": (("sample", "time"), np.array([[f"scene_{s}_{t}" for t in range(times)] for s in samples])),
            "sample_id": (("sample", "time"), np.array([[f"{s}_{t}" for t in range(times)] for s in samples])),
            "time_": (("sample", "time"), np.tile(day, (n, 1))),
            "x_": (("sample", "x"), np.tile(FRANCE[1] + 5 + steps, (n, 1))),
            "y_": (("sample", "y"), np.tile(FRANCE[2] - 5 - steps, (n, 1))),
        },
        coords={
            "band": np.array(bands),
            "sample": np.array(list(samples)),
            "time": np.arange(times),
            "x": np.arange(size),
            "y": np.arange(size),
        },
    )
    plain = path.parent / "plain"
    chunks = {"bands": {"chunks": (together, 1, len(bands), size, size)}}
    dataset.to_zarr(plain, zarr_format=2, consolidated=True, encoding=chunks)
    shutil.make_archive(str(path.with_suffix("")), "zip", plain)
    shutil.rmtree(plain)


@pytest.fixture
def ssl4eo(tmp_path: Path) -> Path:
    """SSL4EO-S12 v1.1's layout, as ``wget`` leaves it: train and val, S2L2A, one store each."""
    folder = tmp_path / "ssl4eo-s12"
    for split, samples in (("train", ["0080717", "0060573"]), ("val", ["0000173"])):
        (folder / split / "S2L2A").mkdir(parents=True)
        name = f"ssl4eos12_{split}_seasonal_data_000001.zarr.zip"
        ssl4eo_store(folder / split / "S2L2A" / name, samples, seed=len(samples), together=len(samples))
    return folder


@pytest.fixture
def fmow(tmp_path: Path) -> Path:
    """fMoW-Sentinel's layout: images of several sizes; one that failed to download, and one that is not there."""
    folder = tmp_path / "fmow"
    rows = []
    polygon = "POLYGON ((3.0 44.2, 3.0 44.204, 3.005 44.204, 3.005 44.2, 3.0 44.2))"
    for image, (size, where) in enumerate([(40, FRANCE), (48, None), (0, FRANCE), (None, None)]):
        place = folder / "train" / "airport" / "airport_0"
        place.mkdir(parents=True, exist_ok=True)
        if size is not None:
            pixels = chip(13, size, seed=image) if size else np.zeros((1, 8, 8), np.uint16)
            (place / f"airport_0_{image}.tif").write_bytes(tif(pixels, where))
        rows.append(
            {
                "category": "airport",
                "location_id": 0,
                "image_id": image,
                "timestamp": "2017-03-05T00:00:00Z",
                "polygon": polygon,
            }
        )
    write_csv(folder / "train.csv", rows)
    return folder


@pytest.fixture(scope="session")
def regions(archive_dir: Path) -> Regions:
    """The synthetic archive's layers: continent and biome."""
    layers = {
        "continent": {"path": "continent.fgb", "field": "continent"},
        "biome": {"path": "biome.fgb", "field": "biome"},
    }
    return open_regions(RegionLayers.model_validate(layers), base_dir=archive_dir / "regions", source=None)


Add = Callable[..., Added]


@pytest.fixture
def add(tmp_path: Path) -> Add:
    """Add a folder as the collection ``it``, and say what came of it."""

    def adding(
        folder: Path, format_name: str, *, regions: Regions | None = None, progress: Any = None, **said: Any
    ) -> Added:
        wishes = {name: said.pop(name) for name in list(said) if name in Wishes.__dataclass_fields__}
        return add_dataset(
            folder,
            catalog=tmp_path / "catalog",
            wishes=Wishes(**{"name": "it", **wishes}),
            importer=find_importer(format_name),
            options=Options(**said),
            regions=regions,
            progress=progress or (lambda done, total: None),
        )

    return adding
