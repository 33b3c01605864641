"""CropHarvest: small files in the layout of its release."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME
from training.embed import embed_task
from training.models import Model, build_model
from training.models.presto_series import read_series
from training.normalize import Normalization
from training.tasks import open_task
from training.tasks.cropharvest import CropHarvest

# index, dataset, is_crop, lat, lon, export_end_date, is_test, whether there is an array
POINTS = [
    (0, "geowiki-landcover-2017", 1, 10.0, 20.0, "2018-02-01", False, True),
    (1, "geowiki-landcover-2017", 0, 40.0, -100.0, "2018-02-01", False, True),
    (0, "kenya", 1, 0.5, 34.2, "2020-02-01", False, True),
    (1, "kenya", 0, 0.6, 34.3, "2020-02-01", True, True),  # inside a wall-to-wall test region
    (2, "kenya", 1, 0.7, 34.4, "2020-02-01", False, False),  # without images
    (3, "kenya", None, 0.8, 34.5, "2020-02-01", False, True),  # without a label
    (0, "togo-eval", 1, 8.0, 1.0, "2020-02-01", True, False),
    (1, "togo-eval", 0, 9.0, 1.1, "2020-02-01", True, False),
]


def series(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Months as the release has them."""
    months = rng.uniform(0, 1, (*shape, 12, 18))
    months[..., :2] = -10 - 10 * months[..., :2]
    months[..., 2:13] = np.rint(1 + 5000 * months[..., 2:13])
    months[..., 13] += 290
    months[..., 14] *= 0.01
    months[..., 15] *= 900
    months[..., 16] *= 30
    return months


def make_files(folder: Path, *, index: str = "index", points: list[tuple] = POINTS) -> dict[str, np.ndarray]:
    """The official layout; gives the arrays by file name."""
    rng = np.random.default_rng(0)
    (folder / "features/arrays").mkdir(parents=True)
    (folder / "test_features").mkdir()
    names = (index, "dataset", "is_crop", "lat", "lon", "export_end_date", "is_test")
    features, arrays = [], {}
    for point in points:
        properties = dict(zip(names, point[:7], strict=True)) | {
            "export_end_date": f"{point[5]}T00:00:00",
            "label": None,
        }
        features.append(
            {
                "type": "Feature",
                "properties": properties,
                "geometry": {"type": "Point", "coordinates": [point[4], point[3]]},
            }
        )
        if point[7]:
            name = f"{point[0]}_{point[1]}.h5"
            arrays[name] = series(rng)
            with h5py.File(folder / "features/arrays" / name, "w") as file:
                file["array"] = arrays[name]
                file.attrs["is_crop"] = point[2] or 0
    (folder / "labels.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    arrays["togo-eval.h5"] = series(rng, 3)
    with h5py.File(folder / "test_features/togo-eval.h5", "w") as file:
        file["x"] = arrays["togo-eval.h5"]
        file["y"], file["lats"], file["lons"] = (
            np.array([1, -1, 0]),
            np.array([8.0, 8.5, 9.0]),
            np.array([1.0, 1.0, 1.1]),
        )
    with h5py.File(folder / "test_features/Kenya_maize_2020_0_0.h5", "w") as file:
        file["x"], file["y"] = series(rng, 2), np.array([1, 0])
        file["lats"], file["lons"] = np.zeros(2), np.zeros(2)
    return arrays


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_files(tmp_path / "cropharvest")
    return tmp_path / "cropharvest"


@pytest.mark.parametrize("index", ["index", "dataset_index"])
def test_reads_the_official_layout(tmp_path: Path, index: str) -> None:
    arrays = make_files(tmp_path, index=index)
    data = open_task("cropharvest", tmp_path)

    assert data.ids.tolist() == [
        "0_geowiki-landcover-2017",
        "1_geowiki-landcover-2017",
        "0_kenya",
        "togo-eval/0",
        "togo-eval/2",
    ]
    assert data.targets.tolist() == [1, 0, 1, 1, 0]
    assert data.info.classes == ("non-crop", "crop")
    assert data.splits.tolist() == ["train", "train", "train", "test", "test"]
    assert data.left_out == {"no label": 1, "no series of images": 1}
    np.testing.assert_array_equal(data.lonlat[[0, 4]], [[20.0, 10.0], [1.1, 9.0]])
    bands = data.chips.bands
    batches = [*data.batches(np.array([4, 2, 3]), bands=bands.names, times="all", block=2)]
    assert [len(batch) for batch in batches] == [2, 1]
    chips = np.concatenate([batch.chips.numpy() for batch in batches if batch.chips is not None])
    values = chips[..., 0, 0] * np.array(bands.scale) + np.array(bands.offset)
    files = [arrays["togo-eval.h5"][2], arrays["0_kenya.h5"], arrays["togo-eval.h5"][0]]
    expected = np.stack(files)[..., :17]
    expected[..., 2:13] /= 10_000
    np.testing.assert_allclose(values, expected, atol=0.13)
    np.testing.assert_allclose(values[..., 2:13], expected[..., 2:13], atol=1e-12)
    # as CropHarvest exports: 360 days up to 1 February of the year of export_end_date, twelve months from February
    assert batches[0].months.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0]] * 2
    assert read_series(batches[0], steps=12).there_BL.sum(dim=1).tolist() == [97, 97]  # of 109: all but Dynamic World's
    few = next(data.batches(np.array([0]), bands=("B08", "B04"), times="first", block=2))
    assert few.chips is not None
    assert few.chips.shape == (1, 1, 2, 1, 1)


def test_presto_embeds_them(folder: Path) -> None:
    features = embed_task(build_model("presto", {"dim": 16, "heads": 2, "depth": 1}), open_task("cropharvest", folder))
    assert features.shape == (5, 16)
    assert len(np.unique(features, axis=0)) == 5


def test_models_of_images_refuse_single_pixels(folder: Path) -> None:
    data = open_task("cropharvest", folder)
    with pytest.raises(TrainingError, match="chips are 1 x 1 pixels, and 8 x 8 cannot be cut of them"):
        embed_task(small_satmae(("B02", "B03", "B04")), data)


def test_models_of_reflectance_refuse_decibels(folder: Path) -> None:
    data = open_task("cropharvest", folder)
    model = small_satmae(("B02", "VV"))
    with pytest.raises(
        TrainingError, match=r"trained on values in 'DN, reflectance\*10000', but these data are in .*VV: dB"
    ):
        embed_task(model, data)


def small_satmae(bands: tuple[str, ...]) -> Model:
    """A SatMAE of one group of bands, on chips of 8 pixels of reflectance."""
    n = len(bands)
    normalization = Normalization(
        bands=bands,
        unit="DN, reflectance*10000",
        mean=(1000.0,) * n,
        std=(500.0,) * n,
        percentiles={},
        num_pixels=(),
        num_samples=1,
        data_hash="-",
    )
    config = {
        "image_size": 8, "patch_size": 4, "bands": bands, "groups": (bands,), "dim": 48, "depth": 1, "heads": 2,
        "group_dim": 16, "decoder_dim": 32, "decoder_group_dim": 8, "decoder_depth": 1, "decoder_heads": 2,
    }  # fmt: skip
    return build_model("satmae", config, normalization=normalization)


def test_blocks_give_every_part_of_the_world_test_samples(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    points = [
        (k, "geowiki", int(rng.integers(2)), *rng.uniform([-50, -170], [60, 170]), "2018-02-01", False, True)
        for k in range(60)
    ]
    make_files(tmp_path, points=[*points, POINTS[6], (99, "geowiki", 1, None, None, "2018-02-01", False, True)])
    data = open_task("cropharvest-blocks", tmp_path)
    assert data.info.name == "cropharvest-blocks"
    assert len(data) == 62
    assert data.left_out == {"no coordinates": 1}
    assert 14 <= (data.splits == "test").sum() <= 23
    east = data.lonlat[:, 0] > 0
    assert set(data.splits[east]) == set(data.splits[~east]) == {"train", "test"}
    assert open_task("cropharvest", tmp_path).hash != data.hash
    np.testing.assert_array_equal(open_task("cropharvest-blocks", tmp_path).splits, data.splits)


def test_a_point_of_which_the_release_says_little_is_trained_on(tmp_path: Path) -> None:
    make_files(tmp_path, points=[*POINTS, (7, "farm", 1, 1.0, 2.0, None, None, True)])
    data = open_task("cropharvest", tmp_path)
    place = data.ids.tolist().index("7_farm")
    assert data.splits[place] == "train"
    batch = next(data.batches(np.array([place]), bands=("VV",), times="all"))
    assert (batch.times == UNKNOWN_TIME).all()


def test_both_tasks_read_the_same_folder(folder: Path) -> None:
    assert len(open_task("cropharvest-blocks", folder.parent)) == len(open_task("cropharvest", folder.parent)) == 5


def test_a_test_set_without_a_year_has_no_times(folder: Path) -> None:
    labels = json.loads((folder / "labels.geojson").read_text())
    labels["features"] = [each for each in labels["features"] if each["properties"]["dataset"] != "togo-eval"]
    (folder / "labels.geojson").write_text(json.dumps(labels))
    batch = next(open_task("cropharvest", folder).batches(bands=("VV",), times="all"))
    assert (batch.times[3:] == UNKNOWN_TIME).all()
    assert (batch.times[:3] != UNKNOWN_TIME).all()


def test_a_second_released_test_set_is_read_too(folder: Path) -> None:
    labels = json.loads((folder / "labels.geojson").read_text())
    labels["features"][-1]["properties"]["dataset"] = "china-crop"
    (folder / "labels.geojson").write_text(json.dumps(labels))
    with h5py.File(folder / "test_features/china-crop.h5", "w") as file:
        file["x"], file["y"] = series(np.random.default_rng(2), 1), np.array([1])
        file["lats"], file["lons"] = np.array([30.0]), np.array([110.0])
    assert open_task("cropharvest", folder).ids[-3:].tolist() == ["china-crop/0", "togo-eval/0", "togo-eval/2"]


def test_missing_parts_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "features.tar.gz").write_bytes(b"packed")
    (tmp_path / "labels.geojson.part").write_bytes(b"{")
    faults = CropHarvest().faults(tmp_path)
    assert [fault.split()[0] for fault in faults] == [
        "labels.geojson.part",
        "labels.geojson",
        "features.tar.gz",
        "test_features",
    ]
    with pytest.raises(
        TrainingError, match=r"not unpacked: tar -xzf features\.tar\.gz; .*https://zenodo\.org/records/10251170"
    ):
        open_task("cropharvest", tmp_path)


def test_labels_cut_short_are_told(folder: Path) -> None:
    path = folder / "labels.geojson"
    path.write_text(path.read_text()[:700])
    with pytest.raises(TrainingError, match=r"labels\.geojson is damaged or not downloaded to its end"):
        open_task("cropharvest", folder)


def test_other_labels_are_told(folder: Path) -> None:
    path = folder / "labels.geojson"
    path.write_text(path.read_text().replace("is_crop", "is_forest"))
    with pytest.raises(TrainingError, match=r"labels\.geojson has no column is_crop"):
        open_task("cropharvest", folder)


def test_arrays_cut_short_are_told(folder: Path) -> None:
    path = folder / "features/arrays/0_kenya.h5"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        TrainingError, match=r"1 files of features/arrays are too small to hold a series, such as 0_kenya\.h5"
    ):
        open_task("cropharvest", folder)


def test_archives_not_unpacked_to_their_end_are_told(folder: Path) -> None:
    whole = CropHarvest(whole=(len(POINTS), 7))
    with pytest.raises(
        TrainingError, match=r"features/arrays has 5 files, where whole releases have more than 7: features\.tar"
    ):
        whole.open(folder)
    assert len(CropHarvest(whole=(len(POINTS) + 1, 7)).open(folder)) == 5  # a part of the release that somebody cut out


def test_arrays_damaged_inside_are_told_when_they_are_read(folder: Path) -> None:
    path = folder / "features/arrays/0_kenya.h5"
    path.write_bytes(bytes(4000))
    data = open_task("cropharvest", folder)
    with pytest.raises(TrainingError, match=r"0_kenya\.h5 is damaged"):
        next(data.batches(bands=("VV",), times="all"))


def test_series_of_another_length_are_refused(folder: Path) -> None:
    with h5py.File(folder / "features/arrays/0_kenya.h5", "w") as file:
        file["array"] = np.zeros((24, 18))
    with pytest.raises(TrainingError, match=r"series of \(24, 18\), where \(12, 18\) is expected"):
        next(open_task("cropharvest", folder).batches(bands=("VV",), times="all"))


def test_test_files_missing_or_of_another_shape_are_told(folder: Path) -> None:
    with h5py.File(folder / "test_features/togo-eval.h5", "w") as file:
        file["x"], file["y"] = np.zeros((3, 12, 17)), np.zeros(3)
        file["lats"], file["lons"] = np.zeros(3), np.zeros(3)
    with pytest.raises(TrainingError, match=r"togo-eval\.h5 has arrays of the shapes .* where x is \(n, 12, 18\)"):
        open_task("cropharvest", folder)
    (folder / "test_features/togo-eval.h5").unlink()
    with pytest.raises(TrainingError, match=r"togo-eval\.h5 is missing or damaged"):
        open_task("cropharvest", folder)


def test_an_empty_folder_of_arrays_is_told(folder: Path) -> None:
    for path in (folder / "features/arrays").iterdir():
        path.unlink()
    with pytest.raises(TrainingError, match=r"features/arrays has no file of the points of labels\.geojson"):
        open_task("cropharvest", folder)
