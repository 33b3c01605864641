"""EuroSAT: the kit's real chips, and small files in both layouts of its release."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from pwcat.errors import TrainingError
from training.tasks import BENCHMARKS, open_task
from training.tasks.eurosat import BANDS, CLASSES, IMAGES

# B10 is the darkest, and every band of a chip tells which it is: 100 times its place, and the class
LEVELS = {band: 100 * (place + 1) for place, band in enumerate(BANDS)} | {"B10": 10}


def write_chip(
    path: Path, *, code: int = 0, bands: tuple[str, ...] = BANDS, side: int = 64, crs: str | None = "EPSG:32631"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {} if crs is None else {"crs": crs, "transform": from_origin(500_000 + 640 * code, 5_000_000, 10, 10)}
    profile = {"driver": "GTiff", "count": len(bands), "height": side, "width": side, "dtype": "uint16"}
    with rasterio.open(path, "w", **profile, **place) as raster:
        raster.write(np.stack([np.full((side, side), LEVELS[band] + code, dtype=np.uint16) for band in bands]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two chips of each class for training, one for each other side, as on Zenodo."""
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for code, name in enumerate(CLASSES):
        for number, split in enumerate(("train", "train", "val", "test"), start=1):
            write_chip(tmp_path / "EuroSAT_MS" / name / f"{name}_{number}.tif", code=code)
            lists[split].append(f"{name}_{number}.jpg")  # as the lists have them
    for split, names in lists.items():
        (tmp_path / f"eurosat-{split}.txt").write_text("\n".join(names) + "\n")
    return tmp_path


def test_bands_classes_and_splits_are_those_of_the_release(folder: Path) -> None:
    data = open_task("eurosat", folder)

    assert data.info.classes == CLASSES
    assert {split: int((data.splits == split).sum()) for split in ("train", "val", "test")} == {
        "train": 20,
        "val": 10,
        "test": 10,
    }
    rows = np.array([39, 0, 17])
    (batch,) = data.batches(rows, bands=("B8A", "B09", "B02"), block=8)
    expected = [[LEVELS[band] + data.targets[row] for band in ("B8A", "B09", "B02")] for row in rows]
    np.testing.assert_array_equal(batch.chips[:, 0, :, 5, 7].numpy(), expected)
    assert batch.chips.shape == (3, 1, 3, 64, 64)
    np.testing.assert_array_equal(batch.rows, rows)
    assert [str(data.ids[row]).rpartition("_")[0] for row in range(40)] == [CLASSES[code] for code in data.targets]


def test_middles_of_chips_are_where_their_files_say(folder: Path) -> None:
    lonlat = open_task("eurosat", folder).lonlat

    # 320 m east of the zone's meridian, at a northing of 4 999 680 m
    assert lonlat[0] == pytest.approx([3.00406, 45.1508], abs=1e-3)
    assert (np.diff(np.unique(lonlat[:, 0])) > 0.005).all()


@pytest.mark.parametrize("layout", IMAGES[1:])
def test_older_layouts_are_the_same(folder: Path, layout: str) -> None:
    before = open_task("eurosat", folder)
    for name in CLASSES:
        (folder / layout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / "EuroSAT_MS" / name, folder / layout / name)

    assert open_task("eurosat", folder).hash == before.hash


def test_hash_tells_splits_and_files_apart(folder: Path) -> None:
    before = open_task("eurosat", folder).hash
    train, test = folder / "eurosat-train.txt", folder / "eurosat-test.txt"
    swapped = (
        train.read_text().replace("Forest_1.jpg", "Forest_4.jpg"),
        test.read_text().replace("Forest_4", "Forest_1"),
    )
    train.write_text(swapped[0])
    test.write_text(swapped[1])

    assert open_task("eurosat", folder).hash != before


def test_chips_that_no_list_names_are_counted(folder: Path) -> None:
    write_chip(folder / "EuroSAT_MS" / "Forest" / "Forest_99.tif")

    assert open_task("eurosat", folder).left_out == {"in no list of a split": 1}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of the test's own writing
def test_chips_without_a_place_are_read_and_their_places_unknown(folder: Path) -> None:
    write_chip(folder / "EuroSAT_MS" / "River" / "River_1.tif", code=8, crs=None)

    data = open_task("eurosat", folder)

    assert data.ids[np.isnan(data.lonlat).any(axis=1)].tolist() == ["River_1"]


def test_every_fault_is_told_with_where_to_get_it(folder: Path) -> None:
    images = folder / "EuroSAT_MS"
    (images / "Forest" / "Forest_1.tif").unlink()
    (images / "Forest" / "Forest_2.tif").write_bytes(b"")
    whole = (images / "River" / "River_3.tif").read_bytes()
    (images / "River" / "River_3.tif").write_bytes(whole[: len(whole) // 2])
    (images / "River" / "River_4.tif").write_text("<VRTDataset/>")
    write_chip(images / "Pasture" / "Pasture_1.tif", bands=BANDS[:12])
    write_chip(images / "Pasture" / "Pasture_2.tif", side=32)

    faults = BENCHMARKS["eurosat"].faults(folder)

    assert [fault.partition("; ")[0] for fault in faults] == [
        "1 of 40 files: has 12 bands, and not 13 (Pasture_1.tif)",
        "1 of 40 files: is empty (Forest_2.tif)",
        "1 of 40 files: is missing (Forest_1.tif)",
        "1 of 40 files: is no GeoTIFF, or damaged (River_4.tif)",
        "1 of 40 files: is not 64 x 64 pixels (Pasture_2.tif)",
        "1 of 40 files: is not whole (River_3.tif)",
    ]
    assert all(f"pwcat tasks fetch eurosat -o {folder}" in fault for fault in faults)
    with pytest.raises(
        TrainingError, match=r"cannot be read: 1 of 40 files: has 12 bands.*is not whole \(River_3.tif\)"
    ):
        open_task("eurosat", folder)


def test_lists_are_wanted_whole(folder: Path) -> None:
    (folder / "eurosat-val.txt").unlink()
    (folder / "eurosat-test.txt").write_text("Wald_1.jpg\nForest_1.jpg\n", encoding="utf-8")

    faults = BENCHMARKS["eurosat"].faults(folder)

    assert len(faults) == 3
    assert "eurosat-val.txt is missing: get it from https" in faults[0]
    assert "of no class of EuroSAT (Wald_1)" in faults[1]
    assert "1 chips are in more than one list" in faults[2]


def test_a_folder_of_nothing_says_what_is_wanted(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "ä not there"):
        (fault,) = BENCHMARKS["eurosat"].faults(place)
        assert f"{place} " in fault
        assert "pwcat tasks fetch eurosat" in fault
    (tmp_path / "file").write_text("x")
    assert "is a file, and no folder" in BENCHMARKS["eurosat"].faults(tmp_path / "file")[0]


def test_downloads_that_lie_about_are_told(tmp_path: Path) -> None:
    (tmp_path / "EuroSAT_MS.zip").write_bytes(b"PK")
    (tmp_path / ".EuroSATallBands.zip.part").write_bytes(b"PK")

    (fault,) = BENCHMARKS["eurosat"].faults(tmp_path)

    assert "but EuroSAT_MS.zip, to be unpacked there" in fault
    assert "but a download that has not ended (.EuroSATallBands.zip.part)" in fault


def test_bands_in_the_order_of_the_paper_are_refused(folder: Path) -> None:
    wrong = (*BANDS[:8], "B8A", *BANDS[8:12])
    for path in folder.glob("EuroSAT_MS/*/*.tif"):
        write_chip(path, bands=wrong)

    with pytest.raises(
        TrainingError, match=r"band 11 of the files is the darkest, where that of cirrus \(B10\) is band 10"
    ):
        open_task("eurosat", folder)


def test_a_chip_that_vanishes_after_opening_is_named(folder: Path) -> None:
    data = open_task("eurosat", folder)
    (folder / "EuroSAT_MS" / "AnnualCrop" / "AnnualCrop_1.tif").unlink()

    with pytest.raises(TrainingError, match=r"AnnualCrop_1\.tif cannot be read"):
        next(data.batches(np.array([0]), bands=("B02",)))


@pytest.mark.kit
def test_the_real_chips_of_the_kit(kit: Path, tmp_path: Path) -> None:
    for path in (kit / "s2_other/eotdl_eurosat").glob("*.tif"):
        to = tmp_path / path.stem.rpartition("_")[0] / path.name
        to.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, to)
    for split, name in (("train", "AnnualCrop_1"), ("val", "AnnualCrop_2"), ("test", "Forest_1")):
        (tmp_path / f"eurosat-{split}.txt").write_text(f"{name}.jpg\n")

    data = open_task("eurosat", tmp_path)

    assert data.targets.tolist() == [0, 0, 1]
    assert data.lonlat == pytest.approx(np.array([[28.559, 44.035], [-0.196, 52.623], [9.468, 50.258]]), abs=1e-3)
    (batch,) = data.batches(bands=("B08", "B8A", "B09", "B10"))
    near, narrow, vapour, cirrus = batch.chips.float().mean(dim=(0, 1, 3, 4)).tolist()
    assert narrow == pytest.approx(near, rel=0.25)  # both are near infrared
    assert cirrus < 20 < vapour < near / 2
