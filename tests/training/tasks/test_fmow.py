"""FMoW-Sentinel: small files in the layout of its release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.transform import from_origin

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME
from training.tasks import BENCHMARKS, open_task
from training.tasks.fmow import BANDS, CLASSES

LEVELS = {band: 100 * (place + 1) for place, band in enumerate(BANDS)} | {"B10": 10}
# side, category, location, image, timestamp, polygon
ROWS = [
    (
        "train",
        "airport",
        0,
        6,
        "2016-04-16T18:44:27.405Z",
        "POLYGON ((32.6 39.7, 32.8 39.7, 32.8 39.9, 32.6 39.9, 32.6 39.7))",
    ),
    (
        "train",
        "zoo",
        12,
        100,
        "2015-10-01T00:00:00Z",
        "POLYGON ((-58 -34, -57.5 -34, -57.5 -33.5, -58 -33.5, -58 -34))",
    ),
    (
        "val",
        "airport",
        0,
        0,
        "2017-01-01T00:00:00Z",
        "POLYGON ((179.9 -17, -179.9 -17, -179.9 -16.8, 179.9 -16.8, 179.9 -17))",
    ),
    (
        "test",
        "multi-unit_residential",
        3,
        101,
        "2019-07-02T12:00:00Z",
        "POLYGON ((1e-1 5.2, 0.3 5.2, 0.3 5.4, 0.1 5.4, 0.1 5.2))",
    ),
]
FOLDER = {"train": "train", "val": "val", "test": "test_gt"}


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Pixels (C, H, W) as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", crs="EPSG:4326", transform=from_origin(0, 0, 1e-4, 1e-4), **profile) as raster:
        raster.write(pixels)


def flat(bands: tuple[str, ...] = BANDS, *, height: int = 40, width: int = 50) -> np.ndarray:
    """Pixels that tell their band."""
    return np.stack([np.full((height, width), LEVELS[band], dtype=np.uint16) for band in bands])


def image(folder: Path, row: int) -> Path:
    side, category, location, number, *_ = ROWS[row]
    name = f"{category}_{location}"
    return folder / "fmow-sentinel" / FOLDER[side] / category / name / f"{name}_{number}.tif"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    columns = ["side", "category", "location_id", "image_id", "timestamp", "polygon"]
    table = pd.DataFrame(ROWS, columns=columns)
    for side, name in {"train": "train.csv", "val": "val.csv", "test": "test_gt.csv"}.items():
        table[table["side"] == side].drop(columns="side").to_csv(tmp_path / name)  # with an index, as released
    for row in range(len(ROWS)):
        write_image(image(tmp_path, row), flat())
    return tmp_path


def test_tables_are_the_samples(folder: Path) -> None:
    data = open_task("fmow-sentinel", folder)

    assert data.ids.tolist() == [
        "train/airport/0/6",
        "train/zoo/12/100",
        "val/airport/0/0",
        "test/multi-unit_residential/3/101",
    ]
    assert data.splits.tolist() == ["train", "train", "val", "test"]
    assert [CLASSES[code] for code in data.targets] == ["airport", "zoo", "airport", "multi-unit_residential"]
    assert data.num_classes == 62
    assert data.lonlat[[0, 1, 3]] == pytest.approx(np.array([[32.7, 39.8], [-57.75, -33.75], [0.2, 5.3]]))
    assert abs(data.lonlat[2]) == pytest.approx([180, 16.9])  # across the antimeridian, the short way round
    (batch,) = data.batches(bands=("B02",))
    assert batch.months[:, 0].tolist() == [3, 9, 0, 6]
    assert batch.times[1, 0].item() == int(np.datetime64("2015-10-01", "s").astype(int))


def test_images_of_any_size_come_to_96_pixels_as_satmae_shows_them(folder: Path) -> None:
    ramp = np.tile(np.arange(1, 221, dtype=np.uint16), (109, 1))  # 109 x 220: shown at its own resolution, the middle
    write_image(image(folder, 1), np.stack([ramp * (1 if band == "B10" else 20) for band in BANDS]))
    data = open_task("fmow-sentinel", folder)

    (batch,) = data.batches(np.array([1, 0]), bands=("B10", "B8A", "B09"))

    assert batch.chips.shape == (2, 1, 3, 96, 96)
    np.testing.assert_array_equal(batch.chips[0, 0, 0].numpy(), ramp[:96, 62:158])
    np.testing.assert_array_equal(batch.chips[1, 0, :, 10, 90].numpy(), [10, 900, 1000])


def test_values_that_are_no_numbers_are_no_data(folder: Path) -> None:
    values = flat(height=40, width=40).astype(np.float64)
    values[:, :20] = np.nan
    write_image(image(folder, 0), values)

    (batch,) = open_task("fmow-sentinel", folder).batches(np.array([0]), bands=("B02",))

    assert (batch.chips[0, 0, 0, :46] == 0).all()
    assert (batch.chips[0, 0, 0, 50:] == 200).all()


def test_places_and_times_that_are_missing_are_unknown(folder: Path) -> None:
    table = pd.read_csv(folder / "train.csv")
    table["polygon"] = [np.nan, "POLYGON EMPTY"]
    table["timestamp"] = ["", "yesterday"]
    table.to_csv(folder / "train.csv")

    data = open_task("fmow-sentinel", folder)

    assert np.isnan(data.lonlat[:2]).all()
    (batch,) = data.batches(np.array([0, 1]), bands=("B02",))
    assert (batch.times == UNKNOWN_TIME).all()
    assert (batch.months == -1).all()


@pytest.mark.parametrize("moved", ["test", "plain", "twice"])
def test_other_ways_to_unpack_are_found(folder: Path, moved: str) -> None:
    before = open_task("fmow-sentinel", folder)
    images = folder / "fmow-sentinel"
    if moved == "test":
        (images / "test_gt").rename(images / "test")
    elif moved == "plain":
        for side in ("train", "val", "test_gt"):
            (images / side).rename(folder / side)
        images.rmdir()
    else:
        images.rename(folder / "x")
        images.mkdir()
        (folder / "x").rename(images / "fmow-sentinel")

    after = open_task("fmow-sentinel", folder)

    assert after.hash == before.hash
    assert next(after.batches(bands=("B03",))).chips.shape == (4, 1, 1, 96, 96)


def test_every_fault_is_told(folder: Path) -> None:
    image(folder, 0).unlink()
    image(folder, 1).write_bytes(b"")

    faults = BENCHMARKS["fmow-sentinel"].faults(folder)

    assert [fault.partition("; ")[0] for fault in faults] == [
        "1 of 4 files: is missing (airport_0_6.tif)",
        "1 of 4 files: is empty (zoo_12_100.tif)",
    ]
    assert "stacks.stanford.edu" in faults[0]
    with pytest.raises(TrainingError, match=r"task fmow-sentinel: .* is missing .* is empty"):
        open_task("fmow-sentinel", folder)


def test_damage_within_files_is_told_by_a_check(folder: Path) -> None:
    whole = image(folder, 0).read_bytes()
    image(folder, 0).write_bytes(whole[: len(whole) // 2])
    write_image(image(folder, 1), flat(BANDS[:1]))  # as those that failed to download for the release

    faults = BENCHMARKS["fmow-sentinel"].faults(folder)

    assert [fault.partition("; ")[0] for fault in faults] == [
        "1 of 4 files: has 1 bands, and not 13, of those looked into (zoo_12_100.tif)",
        "1 of 4 files: is not whole, of those looked into (airport_0_6.tif)",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "val.csv is missing: get it from https://stacks"),
        ("", "val.csv cannot be read"),
        ("category,location_id,image_id\nairport,0,0\n", "val.csv cannot be read"),
        ("category,location_id,image_id,timestamp,polygon\n", "val.csv is empty or not whole"),
        ("category,location_id,image_id,timestamp,polygon\nairport,0,\n", "val.csv is empty or not whole"),
        (
            "category,location_id,image_id,timestamp,polygon\nSchloß,0,0,,\n",
            "has categories that FMoW-Sentinel has not: Schloß",
        ),
    ],
)
def test_tables_that_are_not_whole_are_told(folder: Path, text: str | None, said: str) -> None:
    if text is None:
        (folder / "val.csv").unlink()
    else:
        (folder / "val.csv").write_text(text, encoding="utf-8")

    (fault,) = BENCHMARKS["fmow-sentinel"].faults(folder)

    assert said in fault


def test_bands_in_another_order_are_refused(folder: Path) -> None:
    for row in range(len(ROWS)):
        write_image(image(folder, row), flat((*BANDS[:8], *BANDS[9:], "B8A")))

    with pytest.raises(
        TrainingError, match=r"band 10 of the images is the darkest, where that of cirrus \(B10\) is band 11"
    ):
        open_task("fmow-sentinel", folder)
