"""GEO-Bench: small files in the layout of its release, with pickles of the benchmark's own classes."""

from __future__ import annotations

import datetime
import json
import os
import pickle
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import affine
import h5py
import numpy as np
import pytest
import rasterio.crs

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME
from training.models.satmae import BANDS as SATMAE
from training.tasks import BENCHMARKS, open_task
from training.tasks.files.pickles import array_of, day_of, numbers_of, read_pickle, read_text_pickle
from training.tasks.geobench import RELEASED
from training.tasks.geobench_files import EUROSAT, NAMES

KEYS = {band: key for key, band in NAMES.items()}
LEVEL_2A = [name for name in NAMES if name != KEYS["B10"]]
SO2SAT = ["01 - VH.Real", "02 - VH.Imaginary", "05 - VH.LEE Filtered"] + [
    KEYS[band] for band in ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
]


class Described:
    """As the benchmark describes a band, or a task; pickled under its names."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["PWCAT_TEST_EVIL"],)


@pytest.fixture(autouse=True)
def classes() -> Iterator[None]:
    """Modules of the names that the release was written under, for as long as a test writes."""
    for name in ("geobench", "geobench.dataset", "geobench.label", "geobench.task"):
        sys.modules[name] = types.ModuleType(name)
    for module, name in (("dataset", "Sentinel2"), ("label", "Classification"), ("task", "TaskSpecifications")):
        made = type(name, (Described,), {"__module__": f"geobench.{module}"})
        setattr(sys.modules[f"geobench.{module}"], name, made)
    yield
    for name in ("geobench", "geobench.dataset", "geobench.label", "geobench.task"):
        del sys.modules[name]


def made(module: str, name: str, /, **fields: Any) -> Any:
    return getattr(sys.modules[f"geobench.{module}"], name)(**fields)


def write_sample(
    path: Path,
    arrays: dict[str, np.ndarray],
    *,
    label: Any = None,
    mask: np.ndarray | None = None,
    date: datetime.date | None = None,
    place: tuple[Any, Any] = (None, None),
    protocol: int = 4,
) -> None:
    """A sample as the benchmark writes it: an array a band, and one pickle of all that is known."""
    told: dict[str, Any] = {} if label is None else {"label": label}
    order = []
    with h5py.File(path, "w") as file:
        for name, array in {**arrays, **({} if mask is None else {"label": mask})}.items():
            key = name if date is None or name == "label" else f"{name}_{date}"
            file.create_dataset(key, data=array)
            info = made("dataset", "Sentinel2", name=name, alt_names=("x",), spatial_resolution=10.0, wavelength=0.4)
            told[key] = {
                "date": date,
                "date_id": date,
                "spatial_resolution": np.float64(10),
                "band_info": info,
                "meta_info": None,
                "transform": place[0],
                "crs": place[1],
            }
            order.append(key)
        told["bands_order"] = order
        file.attrs["pickle"] = str(pickle.dumps(told, protocol=protocol))


def levels(names: Sequence[str], *, side: int, factor: float = 100, kind: type = np.int16) -> dict[str, np.ndarray]:
    """Arrays that tell their place in the file: ``factor`` times one plus it."""
    return {name: np.full((side, side), factor * (place + 1), dtype=kind) for place, name in enumerate(names)}


def write_partition(folder: Path, **samples: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "default_partition.json").write_text(json.dumps({"train": [], "valid": [], "test": [], **samples}))


def write_specs(folder: Path, **kind: Any) -> None:
    specs = made("task", "TaskSpecifications", dataset_name="x", label_type=made("label", "Classification", **kind))
    (folder / "task_specs.pkl").write_bytes(pickle.dumps(specs, protocol=4))


@pytest.fixture
def eurosat(tmp_path: Path) -> Path:
    """m-eurosat as released: names in the order of the sensor, pixels in that of EuroSAT, whose tenth band is the darkest."""
    folder = tmp_path / "m-eurosat"
    write_partition(folder, train=["id_0000", "id_0001"], valid=["id_0002"], test=["id_0003"])
    for number in range(4):
        arrays = levels(list(NAMES), side=64)
        arrays[KEYS["B09"]][:] = 5  # where B10 lies in truth
        write_sample(folder / f"id_{number:04d}.hdf5", arrays, label=number)
    write_specs(folder, n_classes=10, _class_names=[f"Größe {code}" for code in range(10)])
    return tmp_path


def test_bands_are_what_they_are_and_not_what_they_are_called(eurosat: Path) -> None:
    data = open_task("m-eurosat", eurosat)

    assert data.chips.bands.names == EUROSAT
    (batch,) = data.batches(bands=("B8A", "B09", "B10", "B11", "B08"))
    # B8A lies last, under the name of B12; the three before it are one name off
    np.testing.assert_array_equal(batch.chips[0, 0, :, 0, 0].numpy(), [1300, 900, 5, 1100, 800])
    assert data.splits.tolist() == ["train", "train", "val", "test"]
    assert data.targets.tolist() == [0, 1, 2, 3]
    assert data.info.classes[3] == "Größe 3"
    assert np.isnan(data.lonlat).all()


def test_files_written_anew_with_right_names_are_read_by_them(eurosat: Path) -> None:
    right = [KEYS[band] for band in EUROSAT]
    for path in eurosat.glob("m-eurosat/*.hdf5"):
        arrays = levels(right, side=64)
        arrays[KEYS["B10"]][:] = 5
        write_sample(path, arrays, label=0)

    (batch,) = open_task("m-eurosat", eurosat).batches(bands=("B8A", "B09", "B10"))

    np.testing.assert_array_equal(batch.chips[0, 0, :, 0, 0].numpy(), [1300, 900, 5])


def test_an_order_that_puts_cirrus_elsewhere_is_refused(eurosat: Path) -> None:
    for path in eurosat.glob("m-eurosat/*.hdf5"):
        arrays = levels(list(NAMES), side=64)
        arrays[KEYS["B10"]][:] = 5  # as if the names were right
        write_sample(path, arrays, label=0)

    with pytest.raises(TrainingError, match="what should be B11 is the darkest band, and not B10"):
        open_task("m-eurosat", eurosat)


def test_brick_kilns_have_ten_bands_and_a_picture(tmp_path: Path) -> None:
    write_partition(tmp_path, train=["examples_1_0"], valid=["examples_1_1"], test=["examples_2_0"])
    corners = {"examples_1_0": (90.1, 24.0), "examples_1_1": (90.2, 24.5), "examples_2_0": (89.0, 23.0)}
    for name, (west, north) in corners.items():
        arrays = levels(list(NAMES), side=64)
        for key in list(NAMES)[10:]:
            arrays[key][:] = 80
        place = (affine.Affine(0.0001, 0, west, 0, -0.0001, north), "EPSG:4326")
        write_sample(tmp_path / f"{name}.hdf5", arrays, label=np.int64(1), place=place)

    data = open_task("m-brick-kiln", tmp_path)

    (batch,) = data.batches(bands=("B06", "B07", "B8A", "B08", "B11", "B12", "B09"))
    # B06 was never exported: B07 stands in for it, as B8A does for B09
    np.testing.assert_array_equal(batch.chips[0, 0, :, 0, 0].numpy(), [600, 600, 700, 800, 900, 1000, 700])
    assert data.lonlat == pytest.approx(np.array([[90.1032, 23.9968], [90.2032, 24.4968], [89.0032, 22.9968]]))
    for path in tmp_path.glob("*.hdf5"):
        write_sample(path, levels(list(NAMES), side=64), label=1)
    with pytest.raises(TrainingError, match=r"last three arrays have values up to 1300, where .* a picture of 8 bits"):
        open_task("m-brick-kiln", tmp_path)


def test_forty_three_labels(tmp_path: Path) -> None:
    write_partition(tmp_path, train=["id_0"], valid=["id_1"], test=["id_2"])
    labels = np.random.default_rng(0).integers(0, 2, (3, 43))
    for number in range(3):
        arrays = levels(LEVEL_2A, side=120, kind=np.float32)
        write_sample(tmp_path / f"id_{number}.hdf5", arrays, label=labels[number], protocol=2 + number)

    data = open_task("m-bigearthnet", tmp_path)

    np.testing.assert_array_equal(data.targets, labels.astype(bool))
    assert data.targets.dtype == bool
    assert data.num_classes == 43
    assert data.chips.bands.names == RELEASED["m-bigearthnet"].bands


def test_local_climate_zones_are_reflectance_from_0_to_1(tmp_path: Path) -> None:
    write_partition(tmp_path, train=["id_0"], test=["id_1"])
    for number in range(2):
        arrays = levels(SO2SAT, side=32, factor=0.01, kind=np.float32)
        arrays[KEYS["B04"]][0, :4] = [np.nan, -0.2, 0.0, 0.00001]
        write_sample(tmp_path / f"id_{number}.hdf5", arrays, label=16)

    data = open_task("m-so2sat", tmp_path)

    (batch,) = data.batches(bands=("B02", "B04", "B12", "B01", "B09"))
    np.testing.assert_array_equal(batch.chips[0, 0, :, 5, 5].numpy(), [400, 600, 1300, 400, 1100])
    # neither a number, nor light: no data; a little light is not none
    np.testing.assert_array_equal(batch.chips[0, 0, 1, 0, :4].numpy(), [0, 0, 0, 1])
    for path in tmp_path.glob("*.hdf5"):
        write_sample(path, levels(SO2SAT, side=32), label=16)
    with pytest.raises(TrainingError, match="values up to 1300, where the official ones lie between 0 and 10"):
        open_task("m-so2sat", tmp_path)


def test_cashew_masks_and_days(tmp_path: Path) -> None:
    folder = tmp_path / "segmentation_v1.0" / "m-cashew-plant"  # as the whole release is unpacked
    write_partition(folder, train=["sample_0", "sample_1"], test=["sample_2"])
    scene = (affine.Affine(10, 0, 400_000, 0, -10, 1_100_000), rasterio.crs.CRS.from_epsg(32631))
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 7, (3, 256, 256))
    masks[0, 0, :2] = 9, -3
    for number in range(3):
        day = datetime.date(2019, 11, 15 + number)
        write_sample(
            folder / f"sample_{number}.hdf5",
            levels([*LEVEL_2A, "Cloud Probability"], side=256, kind=np.float32),
            mask=masks[number],
            date=day,
            place=scene,
        )

    data = open_task("m-cashew-plant", tmp_path)

    assert data.info.kind == "segmentation"
    assert data.targets.shape == (3, 0)
    got = data.masks(np.array([2, 0]))
    np.testing.assert_array_equal(got[0], masks[2])
    np.testing.assert_array_equal(got[1, 0, :3], [-1, -1, masks[0, 0, 2]])
    (batch,) = data.batches(bands=("B8A", "B12"))
    np.testing.assert_array_equal(batch.chips[1, 0, :, 3, 3].numpy(), [900, 1200])
    assert batch.months[:, 0].tolist() == [10, 10, 10]
    assert np.diff(batch.times[:, 0]).tolist() == [86400, 86400]
    # the place of the scene is of no chip, but its continent is of all
    assert np.isnan(data.lonlat).all()
    assert set(data.groups["continent"]) == {"Africa"}
    assert data.info.classes[1] == "well-managed plantation"


def test_crops_are_bytes_of_reflectance(tmp_path: Path) -> None:
    write_partition(tmp_path, train=["a_0001_0"], test=["a_0002_0"])
    for name in ("a_0001_0", "a_0002_0"):
        mask = np.full((256, 256), 7)
        write_sample(
            tmp_path / f"{name}.hdf5", levels([*LEVEL_2A, "Cloud Probability"], side=256, factor=10), mask=mask
        )

    (batch,) = open_task("m-SA-crop-type", tmp_path).batches(bands=("B02",))

    assert batch.chips[0, 0, 0, 0, 0].item() == round(20 / 255 * 1e4)
    assert (batch.times == UNKNOWN_TIME).all()
    for name in ("a_0001_0", "a_0002_0"):
        write_sample(tmp_path / f"{name}.hdf5", levels(LEVEL_2A, side=256), mask=np.full((256, 256), 7))
    with pytest.raises(TrainingError, match="values up to 1200, where the official ones lie between 0 and 255"):
        open_task("m-SA-crop-type", tmp_path)


def test_every_fault_is_told(eurosat: Path) -> None:
    folder = eurosat / "m-eurosat"
    whole = (folder / "id_0000.hdf5").read_bytes()
    (folder / "id_0000.hdf5").write_bytes(whole[: len(whole) // 2])
    (folder / "id_0001.hdf5").unlink()
    (folder / "id_0002.hdf5").write_bytes(b"")
    write_sample(folder / "id_0003.hdf5", levels(list(NAMES), side=64), label=10)

    faults = BENCHMARKS["m-eurosat"].faults(eurosat)

    assert [fault.partition(";")[0] for fault in faults] == [
        "1 of 4 files: has a label that is no class from 0 to 9 (id_0003.hdf5)",
        "1 of 4 files: is empty (id_0002.hdf5)",
        "1 of 4 files: is missing (id_0001.hdf5)",
        "1 of 4 files: is no HDF5, or not whole (id_0000.hdf5)",
    ]
    assert all(f"pwcat tasks fetch m-eurosat -o {eurosat}" in fault for fault in faults)
    with pytest.raises(TrainingError, match=r"task m-eurosat: .* cannot be read: 1 of 4 files: has a label"):
        open_task("m-eurosat", eurosat)


def test_a_wrong_number_of_bands_is_told(eurosat: Path) -> None:
    for path in eurosat.glob("m-eurosat/*.hdf5"):
        write_sample(path, levels(list(NAMES)[:12], side=64), label=0)

    (fault,) = BENCHMARKS["m-eurosat"].faults(eurosat)

    assert fault.startswith("the files have no band B12, but 01 - Coastal aerosol")


def test_samples_in_several_orders_are_told(eurosat: Path) -> None:
    write_sample(eurosat / "m-eurosat/id_0002.hdf5", levels(list(NAMES)[::-1], side=64), label=0)

    (fault,) = BENCHMARKS["m-eurosat"].faults(eurosat)

    assert "has bands in another order than the first (id_0002.hdf5)" in fault


def test_chips_of_another_size_are_refused(eurosat: Path) -> None:
    write_sample(eurosat / "m-eurosat/id_0000.hdf5", levels(list(NAMES), side=32), label=0)

    with pytest.raises(TrainingError, match=r"is \(32, 32\).* where \(64, 64\) is expected"):
        open_task("m-eurosat", eurosat)


@pytest.mark.parametrize("text", ["", "{", '{"train": ["a"]}', '{"train": [], "valid": [], "test": []}', "[1]"])
def test_a_partition_that_is_not_whole_is_told(eurosat: Path, text: str) -> None:
    (eurosat / "m-eurosat/default_partition.json").write_text(text)

    (fault,) = BENCHMARKS["m-eurosat"].faults(eurosat)

    assert "default_partition.json" in fault
    assert "pwcat tasks fetch m-eurosat" in fault


def test_names_that_lead_elsewhere_are_not_followed(eurosat: Path) -> None:
    write_partition(eurosat / "m-eurosat", train=["../../secret", "id_0000"])

    (fault,) = BENCHMARKS["m-eurosat"].faults(eurosat)

    assert "as no file can be (../../secret)" in fault


def test_pickles_run_nothing(eurosat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proof = tmp_path / "was run"
    monkeypatch.setenv("PWCAT_TEST_EVIL", str(proof))
    evil = pickle.dumps({"bands_order": [], "x": Evil()})
    with h5py.File(eurosat / "m-eurosat/id_0001.hdf5", "a") as file:
        file.attrs["pickle"] = str(evil)

    (fault,) = BENCHMARKS["m-eurosat"].faults(eurosat)

    assert "has a pickle that is damaged, or not the official one (id_0001.hdf5)" in fault
    with pytest.raises(TrainingError, match=r"it names (posix|nt)\.mkdir; it was read as data, and nothing was run"):
        read_pickle(evil, what="this")
    with pytest.raises(TrainingError, match="is no bytes literal"):
        read_text_pickle("__import__('os').mkdir('x')", what="this")
    assert not proof.exists()
    pickle.loads(evil)  # noqa: S301 the proof that it would
    assert proof.exists()


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04", b"\x80\x04]", b"cos\nsystem\n(S'x'\ntR.", b"\x80\x04K\x01Q.", b"I1\n" * 9]
)
def test_damaged_pickles_are_told(data: bytes) -> None:
    with pytest.raises(TrainingError, match="this is damaged, or not the official one"):
        read_pickle(data, what="this")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_give_what_was_written(protocol: int) -> None:
    written = {
        "labels": np.arange(6, dtype=np.int64).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "number": np.float64(2.5),
        "day": datetime.date(2020, 2, 29),
        "place": affine.Affine(10, 0, 5, 0, -10, 7),
        "objects": np.array([{}], dtype=object),
    }

    read = read_text_pickle(str(pickle.dumps(written, protocol=protocol)), what="this")

    np.testing.assert_array_equal(array_of(read["labels"]), written["labels"])
    np.testing.assert_array_equal(array_of(read["columns"]), written["columns"])
    assert array_of(read["number"]) == 2.5
    assert day_of(read["day"]) == int(np.datetime64("2020-02-29", "s").astype(int))
    assert numbers_of(read["place"], 6) == (10, 0, 5, 0, -10, 7)
    assert array_of(read["objects"]) is None


def test_reading_is_by_rows_alone(eurosat: Path) -> None:
    data = open_task("m-eurosat", eurosat)
    (eurosat / "m-eurosat/id_0003.hdf5").unlink()

    batches = list(data.batches(np.array([2, 0]), bands=("B02",), block=1))

    assert [batch.rows.tolist() for batch in batches] == [[2], [0]]
    with pytest.raises(TrainingError, match=r"id_0003\.hdf5 cannot be read"):
        next(data.batches(np.array([3]), bands=("B02",)))


@pytest.mark.parametrize("name", RELEASED)
def test_models_find_their_bands_in_every_task(name: str) -> None:
    released = RELEASED[name]

    assert set(SATMAE) <= {*released.bands, *released.stand_ins}
    assert set(released.stand_ins.values()) <= set(released.bands)
    assert not set(released.stand_ins) & set(released.bands)


def test_hash_tells_labels_and_splits_apart(eurosat: Path) -> None:
    folder = eurosat / "m-eurosat"
    hashes = {open_task("m-eurosat", eurosat).hash}
    write_partition(folder, train=["id_0000"], valid=["id_0001", "id_0002"], test=["id_0003"])
    hashes.add(open_task("m-eurosat", eurosat).hash)
    arrays = levels(list(NAMES), side=64)
    arrays[KEYS["B09"]][:] = 5
    write_sample(folder / "id_0001.hdf5", arrays, label=7)
    hashes.add(open_task("m-eurosat", eurosat).hash)

    assert len(hashes) == 3
