"""Live fuel moisture: small files in the layout of nasaharvest/presto, and the kit's real ones."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME
from training.embed import embed_task
from training.models import build_model
from training.models.presto_series import Series, read_series
from training.probes import RidgeProbe
from training.resampling import Draw
from training.scores import estimates
from training.tasks import open_task
from training.tasks.fuel_moisture import FuelMoisture
from training.tasks.monthly import digital_numbers, land_cover_numbers, monthly_bands, window_middles

SITES = ["Lost Creek, WY", "Bitter Canyon", "Lost Creek, WY", "Red Feather"]
DATES = ["2018-06-30", "2018-01-31", "2018-06-30", "2017-09-30"]
TARGETS = [161.5, 110.375, 161.5, 117.0]
WITHOUT_IMAGES = ("Nowhere", "2015-06-30", 50.0)  # a label that the arrays leave out


def make_files(folder: Path) -> np.ndarray:
    """The official layout, of four samples; gives the series."""
    (folder / "npy").mkdir(parents=True)
    rng = np.random.default_rng(0)
    series = np.empty((4, 3, 18))
    series[..., :2] = rng.uniform(-25, -5, (4, 3, 2))
    series[..., 2:13] = rng.integers(1, 9000, (4, 3, 11))
    series[..., 13] = rng.uniform(260, 305, (4, 3))
    series[..., 14] = rng.uniform(0, 0.02, (4, 3))
    series[..., 15:17] = rng.uniform(0, [3000, 40], (4, 1, 2))
    series[..., 17] = rng.uniform(-1, 1, (4, 3))
    months = [[(date.fromisoformat(day) + timedelta(30 * step - 90)).month - 1 for step in range(3)] for day in DATES]
    arrays = {
        "s1_s2_era5_srtm": series,
        "dynamic_world": np.array([[2, 2, 9], [0, 8, 1], [5, 5, 5], [9, 9, 9]], dtype=np.uint8),
        "month": np.array(months),
        "latlon": np.array([[43.7, -110.6], [34.5, -118.6], [43.7, -110.6], [np.nan, np.nan]]),
        "target": np.array(TARGETS),
        "is_test": np.array([0, 1, 0, 0]),
        "site": np.array(SITES),
    }
    for name, array in arrays.items():
        np.save(folder / "npy" / f"{name}.npy", array)
    told = [*zip(SITES[:1], DATES[:1], TARGETS[:1], strict=True), WITHOUT_IMAGES]
    told += zip(SITES[1:], DATES[1:], TARGETS[1:], strict=True)
    features = [
        {
            "type": "Feature",
            "properties": {"percent(t)": target, "site": site, "date": f"{day}T00:00:00"},
            "geometry": {"type": "Point", "coordinates": [-110.6, 43.7]},
        }
        for site, day, target in told
    ]
    (folder / "single_file_labels.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return series


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_files(tmp_path / "fuel_moisture")
    return tmp_path / "fuel_moisture"


def test_reads_the_official_layout(tmp_path: Path) -> None:
    series = make_files(tmp_path / "fuel_moisture")
    data = open_task("fuel-moisture", tmp_path)  # the folder around it will do

    assert data.ids.tolist() == [
        "Lost Creek, WY 2018-06-30",
        "Bitter Canyon 2018-01-31",
        "Lost Creek, WY 2018-06-30 (2)",
        "Red Feather 2017-09-30",
    ]
    assert data.splits.tolist() == ["train", "test", "train", "train"]
    np.testing.assert_array_equal(data.targets, TARGETS)
    np.testing.assert_array_equal(data.lonlat[:2], [[-110.6, 43.7], [-118.6, 34.5]])
    assert np.isnan(data.lonlat[3]).all()
    bands = data.chips.bands
    batch = next(data.batches(np.array([2, 0]), bands=bands.names, times="all", block=8))
    assert batch.chips is not None
    assert batch.chips.shape == (2, 3, 18, 1, 1)
    assert batch.chips.dtype == torch.uint16
    values = batch.chips[..., 0, 0].numpy() * np.array(bands.scale) + np.array(bands.offset)
    expected = series[[2, 0]][..., :17].copy()
    expected[..., 2:13] /= 10_000
    steps = np.array([*[0.0005] * 2, *[1e-12] * 11, 0.005, 1e-6, 0.125, 0.001])
    assert (np.abs(values[..., :17] - expected) <= steps * 1.001).all()
    assert batch.chips[:, :, 17, 0, 0].tolist() == [[6, 6, 6], [3, 3, 0]]  # class + 1, 0 where there is none
    assert batch.months.tolist() == [[3, 4, 5], [3, 4, 5]]  # windows that begin on 1 April, 1 May and 31 May


def test_presto_reads_what_its_own_code_makes_of_these_files(folder: Path) -> None:
    """Scaled as in the released code, by hand: (value + shift) / divisor, NDVI of B8 and B4."""
    data = open_task("fuel-moisture", folder)
    raw = np.load(folder / "npy/s1_s2_era5_srtm.npy")
    shift = np.array([25, 25, *[0] * 11, -272.15, 0, 0, 0])
    divisor = np.array([25, 25, *[10_000] * 11, 35, 0.03, 2000, 50])
    scaled = (raw[..., :17] + shift) / divisor
    red, near_infrared = scaled[..., 4], scaled[..., 8]
    ndvi = (near_infrared - red) / (near_infrared + red)
    released = np.concatenate([np.delete(scaled, 10, axis=2), ndvi[..., None]], axis=2)  # without B9
    expected = Series.of_arrays(
        torch.from_numpy(released),
        world_BT=torch.from_numpy(np.load(folder / "npy/dynamic_world.npy").astype(np.int64)),
        lonlat_B2=torch.from_numpy(data.lonlat),
        months_BT=torch.zeros(4, 3, dtype=torch.long),
    )
    batch = next(data.batches(bands=data.chips.bands.names, times="all"))
    series = read_series(batch, steps=3)
    torch.testing.assert_close(series.x_BTC, expected.x_BTC, atol=1e-3, rtol=0)
    torch.testing.assert_close(series.ground_B2, expected.ground_B2, atol=1e-3, rtol=0)
    torch.testing.assert_close(series.world_BT, expected.world_BT)
    torch.testing.assert_close(series.there_BL, expected.there_BL)
    torch.testing.assert_close(series.place_B3, expected.place_B3)


def test_numbers_that_are_not_there_are_no_data() -> None:
    series = np.full((1, 1, 18), np.nan)
    assert not digital_numbers(series).any()
    series[0, 0] = 1.0
    series[0, 0, 2] = 0.0
    series[0, 0, 3] = -3.0
    series[0, 0, 4] = np.inf
    numbers = digital_numbers(series)[0, 0, :, 0, 0]
    assert numbers[2:5].tolist() == [0, 0, 0]
    assert (np.delete(numbers, [2, 3, 4]) > 0).all()
    assert land_cover_numbers(np.array([[-1, 0, 8, 9, 200]])).ravel().tolist() == [0, 1, 9, 0, 0]
    assert monthly_bands().names == monthly_bands(land_cover=True).names[:-1]


def test_windows_of_thirty_days_fall_into_months_of_their_own() -> None:
    ends = np.array(["2018-06-30", "2018-03-01", "NaT"], dtype="datetime64[D]")
    times = window_middles(ends, steps=3)
    days = times[:2].astype("datetime64[s]").astype("datetime64[D]")
    assert days.astype(str).tolist() == [
        ["2018-04-16", "2018-05-16", "2018-06-15"],
        ["2017-12-16", "2018-01-15", "2018-02-14"],
    ]
    assert (times[2] == UNKNOWN_TIME).all()


def test_hash_is_of_the_files(folder: Path) -> None:
    before = open_task("fuel-moisture", folder).hash
    assert open_task("fuel-moisture", folder).hash == before
    targets = np.array([161.5, 110.375, 161.5, 117.0])
    np.save(folder / "npy/target.npy", targets)  # the same file
    assert open_task("fuel-moisture", folder).hash == before
    np.save(folder / "npy/is_test.npy", np.array([0, 1, 0, 1]))
    assert open_task("fuel-moisture", folder).hash != before


def test_missing_files_are_told_together_with_where_to_get_them(folder: Path) -> None:
    (folder / "npy/month.npy").unlink()
    (folder / "npy/site.npy").write_bytes(b"")
    faults = FuelMoisture().faults(folder)
    assert len(faults) == 2
    with pytest.raises(
        TrainingError, match=r"task fuel-moisture: .* cannot be read: .*month.npy is missing.*site.npy is empty"
    ):
        open_task("fuel-moisture", folder)
    assert all("https://github.com/nasaharvest/presto" in fault for fault in faults)


def test_half_downloaded_files_are_told(folder: Path) -> None:
    path = folder / "npy/s1_s2_era5_srtm.npy"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(TrainingError, match=r"s1_s2_era5_srtm\.npy is damaged or not downloaded to its end"):
        open_task("fuel-moisture", folder)


def test_labels_cut_short_are_told(folder: Path) -> None:
    path = folder / "single_file_labels.geojson"
    path.write_text(path.read_text()[:300])
    with pytest.raises(TrainingError, match=r"single_file_labels\.geojson is damaged or not downloaded to its end"):
        open_task("fuel-moisture", folder)


def test_files_of_two_editions_are_refused(folder: Path) -> None:
    np.save(folder / "npy/target.npy", np.array([1.0, 2.0, 3.0, 4.0]))
    with pytest.raises(TrainingError, match="does not tell the days of"):
        open_task("fuel-moisture", folder)


def test_other_shapes_are_refused(folder: Path) -> None:
    np.save(folder / "npy/s1_s2_era5_srtm.npy", np.zeros((4, 12, 18)))
    np.save(folder / "npy/latlon.npy", np.zeros((3, 2)))
    with pytest.raises(
        TrainingError, match=r"\(4, 12, 18\), where \(4, 3, 18\) is expected; .*latlon.npy has the shape \(3, 2\)"
    ):
        open_task("fuel-moisture", folder)


def test_the_kits_series_are_embedded_by_released_presto(kit: Path, golden: Path, tmp_path: Path) -> None:
    """735 test samples of other sites: a linear probe explains more than a third of what the mean leaves (R² of .47)."""
    from training.weights import import_weights

    data = open_task("fuel-moisture", kit / "s2_timeseries/presto")
    assert len(data) == 2313
    assert (data.splits == "test").sum() == 735
    assert np.isfinite(data.lonlat).all()
    model = import_weights("presto", golden / "presto_default_model.pt", tmp_path / "presto").model
    features = embed_task(model, data)
    train, test = (np.flatnonzero(data.splits == side) for side in ("train", "test"))
    draw = Draw(train=train, test=test, validation=np.arange(len(train)) % 5 == 0)
    predicted = RidgeProbe().fit_predict_many(features, data.targets, [draw], kind="regression", num_classes=0)[0]
    found = estimates(
        data.targets[test],
        predicted.values,
        kind="regression",
        metrics=["r2", "rmse"],
        rng=np.random.default_rng(0),
        resamples=50,
    )
    assert found["r2"].value > 0.4
    assert found["rmse"].value < 28.5  # 36.9 of the mean of the training samples
    assert found["r2"].ci_low > 0.3


def test_a_place_that_is_unknown_is_no_obstacle(folder: Path) -> None:
    data = open_task("fuel-moisture", folder)
    features = embed_task(build_model("presto", {"dim": 16, "heads": 2, "depth": 1}), data)
    assert features.shape == (4, 16)
    assert np.isfinite(features).all()
