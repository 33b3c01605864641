"""Presto on a real cube of pixel series: three dates of a year from two other sources beside Sentinel-2, and no radar."""

import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
import torch
import yaml
import zarr
from rasterio.transform import from_origin

from catalog.subset import load_subset
from pwcat.archive import SynthOptions, add_scenes, synthesise_archive
from training.checkpoint import load_model_folder
from training.embed import embed_subset
from training.loader import in_order
from training.losses import measure_losses
from training.models.presto import Presto
from training.models.presto_series import read_series
from training.pretrain import pretrain
from training.recipe import list_train_recipes, load_train_recipe
from training.weights import import_weights

OPTICAL = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
YEAR = {"when": datetime(2021, 1, 1, tzinfo=UTC), "until": datetime(2021, 12, 31, 23, 59, tzinfo=UTC)}
WEATHER = {
    "temperature_2m": {"scale": 0.01, "offset": -100, "unit": "°C"},
    "total_precipitation": {"scale": 0.00005, "offset": -0.00005, "unit": "m"},
}
HEIGHTS = {"elevation": {"scale": 0.25, "offset": -1000.25, "unit": "m"}}


def write_world(path, *layers):
    """A file of the whole world in cells of two degrees; values hang on the latitude."""
    with rasterio.open(
        path, "w", driver="GTiff", height=90, width=180, count=len(layers), dtype="float32", crs="EPSG:4326",
        transform=from_origin(-180, 90, 2, 2), nodata=float("nan"),
    ) as file:  # fmt: skip
        latitude = np.repeat(np.linspace(89, -89, 90)[:, None], 180, axis=1)
        for number, layer in enumerate(layers, 1):
            file.write(layer(latitude).astype(np.float32), number)
    return path


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """24 pixel series of the embedded archive."""
    from catalog.store import build

    folder, files, root = (tmp_path_factory.mktemp(name) for name in ("archive", "files", "catalog"))
    synthesise_archive(folder, options=SynthOptions(places=1, test_places=0, dates=6, size_px=96))
    weather = write_world(files / "era5.tif", lambda lat: 30 - 0.4 * np.abs(lat), lambda lat: 0.05 + 0 * lat)
    add_scenes(folder, [weather], collection="era5", bands=list(WEATHER), **YEAR)
    heights = write_world(files / "dem.tif", lambda lat: 500 + 5 * lat)
    add_scenes(folder, [heights], collection="dem", bands=["elevation"], when=YEAR["when"])

    def source(collection):
        return {"provider": "archive", "path": str(folder), "collection": collection}

    document = {
        "name": "series", "title": "Series", "license": "CC0-1.0", "num_samples": 24, "seed": 0,
        "sampler": {"strategy": "uniform", "domain": "scenes"},
        "source": source("s2-l2a-synthetic"),
        "when": {"start": "2021-01-01", "end": "2021-12-31", "dates_per_site": 3, "max_cloud_cover": 60},
        "chip": {"size_px": 1, "bands": OPTICAL},
        "regions": {"continent": {"path": str(folder / "regions" / "continent.fgb"), "field": "continent"}},
        "sensors": {
            "era5": {"source": source("era5"), "bands": list(WEATHER), "within_days": 0, "encode": WEATHER},
            "dem": {"source": source("dem"), "bands": ["elevation", "slope"], "encode": HEIGHTS},
        },
    }  # fmt: skip
    recipe = files / "series.yaml"
    recipe.write_text(yaml.safe_dump(document, sort_keys=False))
    build(recipe, catalog=root)
    return load_subset(root / "series")


def tiny(**overrides):
    values = {"epochs": "4", "batch_size": "10", "checkpoint.every_epochs": "1", **overrides}
    return load_train_recipe("presto-tiny", overrides=values)


@pytest.fixture(scope="module")
def run(series, tmp_path_factory):
    """A finished run. Do not change it."""
    return pretrain(series, tiny(), tmp_path_factory.mktemp("runs") / "presto", device="cpu")


def losses_of(run):
    return [json.loads(line)["loss"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def weights_of(run):
    return load_model_folder(run.path).state_dict()


def test_dates_of_a_cube_become_months_and_its_bands_channels(series):
    (batch,) = in_order(series, bands=Presto().choose_bands(series.bands), times="all")
    assert batch.bands.names == (*OPTICAL, *WEATHER, "elevation", "slope")
    months = batch.times.numpy().astype("datetime64[s]").astype("datetime64[M]").astype(int)
    made = read_series(batch, steps=12)
    there = made.there_BL[:, :-1].view(24, 12, 9)
    for row in range(24):
        after = sorted(set(months[row] - months[row].min()))
        assert there[row].any(dim=1).nonzero().flatten().tolist() == after
        assert (made.months_BT[row, after] == torch.from_numpy(np.array(after) + months[row].min()) % 12).all()
    assert not there[..., 0].any()  # radar
    assert not there[..., 8].any()  # land cover
    celsius = 30 - 0.4 * batch.lonlat[:, 1].abs()  # in cells of two degrees
    scaled = made.x_BTC[:, 0, 12] * 35 - 1  # 273.15 - 272.15
    torch.testing.assert_close(scaled, celsius.float(), rtol=0, atol=0.5)


def test_the_tiny_recipe_trains_on_the_embedded_archive(run):
    losses = losses_of(run)
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.6 * np.mean(losses[:3])
    assert run.finished


def test_a_run_that_was_stopped_ends_as_one_that_was_not(series, run, tmp_path):
    recipe = tiny()
    pretrain(series, recipe, tmp_path / "again", device="cpu", stop_after_steps=5)
    again = pretrain(series, recipe, tmp_path / "again", device="cpu")
    assert losses_of(again) == losses_of(run)
    for name, tensor in weights_of(run).items():
        torch.testing.assert_close(weights_of(again)[name], tensor, rtol=0, atol=0)


def test_its_embeddings_and_losses_are_numbers(series, run):
    embeddings = embed_subset(load_model_folder(run.path), series)
    assert embeddings.shape == (24, 32)
    assert np.isfinite(embeddings).all()
    assert embeddings.std(axis=0).mean() > 0.01
    losses = measure_losses(run.path, series)
    assert np.isfinite(losses.values).all()


def test_a_sensor_without_any_data_is_as_one_that_is_not_there(series, tmp_path):
    (collection,) = series.collections
    shutil.copytree(collection.path.parent, tmp_path / "catalog")
    chips = zarr.open_group(tmp_path / "catalog" / "series" / "cube.zarr")["chips"]
    chips[:, :, len(OPTICAL) :] = 0
    blind = load_subset(tmp_path / "catalog" / "series")
    run = pretrain(blind, tiny(epochs="2"), tmp_path / "run", device="cpu")
    assert run.normalization["num_pixels"][len(OPTICAL) :] == [0] * 4
    assert np.isfinite(losses_of(run)).all()


def test_released_weights_read_the_cube_as_it_is(series, golden, tmp_path):
    model = import_weights("presto", golden / "presto_default_model.pt", tmp_path / "presto").model
    embeddings = embed_subset(model, series)
    assert embeddings.shape == (24, 128)
    assert np.isfinite(embeddings).all()


def test_recipes_are_shipped_and_the_large_one_is_the_released_training():
    assert {"presto", "presto-tiny"} <= set(list_train_recipes())
    recipe = load_train_recipe("presto")
    assert (recipe.lr, recipe.epochs, recipe.effective_batch) == (1e-3, 20, 4096)
    optimizer = recipe.optimizer
    assert (optimizer.betas, optimizer.weight_decay, optimizer.warmup_epochs) == ((0.9, 0.95), 0.05, 2)
