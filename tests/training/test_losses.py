"""Losses of samples: the same whatever they are batched with, near what training says, and a column of the catalog."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from catalog.query import open_catalog
from catalog.subset import load_subset
from pwcat.cli import cli
from pwcat.errors import CatalogError, TrainingError
from training.chance import Chance
from training.loader import in_order
from training.losses import SampleChance, column_name, measure_losses, sample_losses
from training.models import build_model
from training.models.folder import weights_hash
from training.normalize import measure

SATMAE = {"image_size": 32, "patch_size": 16, "dim": 48, "depth": 1, "heads": 2, "group_dim": 16, "decoder_dim": 32,
          "decoder_depth": 1, "decoder_heads": 2, "decoder_group_dim": 8}  # fmt: skip


@pytest.fixture(scope="module")
def model(subset):
    torch.manual_seed(0)
    bare = build_model("satmae", SATMAE)
    bare.normalization = measure(subset, bands=bare.bands)
    return bare


def test_each_sample_draws_its_own_numbers():
    whole, part = SampleChance([1, 2, 3, 4]), SampleChance([4, 2])
    for draw in (lambda c: c.uniform(3, 2), lambda c: c.normal(5), lambda c: c.uniform(), lambda c: c.integers(9, 4)):
        torch.testing.assert_close(draw(whole)[[3, 1]], draw(part), rtol=0, atol=0)
    assert isinstance(whole, Chance)
    assert whole.share == 1
    assert whole.uniform(2).shape == (4, 2)


def test_the_loss_of_a_sample_does_not_hang_on_batch_order_or_subset(model, subset, everything):
    losses = sample_losses(model, subset, repeats=2, batch_size=48, device="cpu")
    assert losses.shape == (48,)
    assert losses.dtype == np.float32
    assert len(np.unique(losses)) == 48
    np.testing.assert_allclose(sample_losses(model, subset, repeats=2, batch_size=7, device="cpu"), losses, rtol=1e-5)
    some = subset.select(np.arange(1, 48, 5))
    np.testing.assert_allclose(sample_losses(model, some, repeats=2, device="cpu"), losses[1::5], rtol=1e-5)
    here = everything.column("collection") == "everywhere"
    np.testing.assert_allclose(sample_losses(model, everything, repeats=2, device="cpu")[here], losses, rtol=1e-5)


def test_so_it_is_with_series(subset):
    torch.manual_seed(0)
    model = build_model("presto", {"dim": 32, "depth": 1, "decoder_dim": 32, "decoder_depth": 1})
    losses = sample_losses(model, subset, repeats=2, batch_size=48, device="cpu")
    assert np.isfinite(losses).all()
    some = subset.select(np.arange(1, 48, 5))
    np.testing.assert_allclose(
        sample_losses(model, some, repeats=2, batch_size=3, device="cpu"), losses[1::5], rtol=1e-4
    )


def test_masks_are_those_of_the_seed_and_more_of_them_steady_the_mean(model, subset):
    one = sample_losses(model, subset, repeats=1, device="cpu")
    np.testing.assert_array_equal(sample_losses(model, subset, repeats=1, device="cpu"), one)
    other = sample_losses(model, subset, repeats=1, seed=1, device="cpu")
    assert (one != other).all()
    many = sample_losses(model, subset, repeats=16, device="cpu")
    assert (
        np.abs(many - sample_losses(model, subset, repeats=16, seed=5, device="cpu")).mean()
        < np.abs(one - other).mean()
    )


def test_their_mean_is_the_loss_of_training(model, subset):
    (batch,) = in_order(subset, bands=model.bands, block=len(subset))
    with torch.inference_mode():
        inputs = model.prepare(batch, chance=Chance(0, total=len(subset)))
        expected, each = float(model(**inputs)), model.sample_losses(**inputs)
    assert float(each.mean()) == pytest.approx(expected, rel=1e-5)
    assert sample_losses(model, subset, repeats=8, device="cpu").mean() == pytest.approx(expected, rel=0.1)


def test_samples_that_are_compared_have_as_many_to_be_compared_with(subset):
    torch.manual_seed(0)
    tower = {"architecture": "satmae", "config": SATMAE, "frozen": False}
    model = build_model("satclip", {"degrees": 4, "hidden": 32, "dim": 16, "tower": tower})
    model.tower.normalization = model.normalization = measure(subset, bands=model.bands)
    losses = sample_losses(model, subset, repeats=2, batch_size=20, device="cpu")
    assert np.isfinite(losses).all()
    np.testing.assert_array_equal(sample_losses(model, subset, repeats=2, batch_size=20, device="cpu"), losses)
    with torch.no_grad():
        model.logit_scale.fill_(-30)  # all are alike then, and the loss is ln of how many a sample is compared with
    for size, others in ((20, 20), (48, 48), (100, 48)):
        flat = sample_losses(model, subset, repeats=1, batch_size=size, device="cpu")
        np.testing.assert_allclose(flat, np.log(others), rtol=1e-5)


def test_what_cannot_be_measured_is_refused(model, subset):
    with pytest.raises(TrainingError, match="the subset holds no samples"):
        sample_losses(model, subset.only(np.array([], dtype=np.int64)))
    bare = build_model("satmae", SATMAE)
    with pytest.raises(TrainingError, match="no normalisation"):
        sample_losses(bare, subset)


@pytest.fixture
def root(tiny_catalog, tmp_path):
    """The catalog, its cubes shared."""
    for name in ("europe", "everywhere"):
        folder = tmp_path / "catalog" / name
        folder.mkdir(parents=True)
        for path in (tiny_catalog / name).iterdir():
            if path.is_dir():
                (folder / path.name).symlink_to(path)
            else:
                shutil.copy(path, folder / path.name)
    return tmp_path / "catalog"


def test_the_command_writes_a_column_that_can_be_searched(run, root):
    result = CliRunner().invoke(
        cli, ["losses", str(run.path), str(root), "--repeats", "2", "--device", "cpu", "--json"]
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["name"] == "loss:small"
    assert told["samples"] == 80
    assert told["made"]["recipe_hash"] == run.recipe_hash
    assert told["made"]["weights_hash"] == weights_hash(run.load_model())
    catalog = open_catalog(root)
    losses = catalog.search().column("loss:small")
    assert told["mean"] == pytest.approx(losses.mean())
    assert told["percentiles"]["50"] == pytest.approx(np.median(losses))
    assert told["highest"][0][2] == pytest.approx(losses.max())
    assert told["highest"][0][1] == catalog.search().column("id")[losses.argmax()]
    hard = catalog.search(filter=f'"loss:small" > {np.median(losses)}')
    assert len(hard) == 40
    assert catalog.collection("europe").columns["loss:small"].made["run"] == "small"
    again = CliRunner().invoke(cli, ["losses", str(run.path), str(root), "--device", "cpu"])
    assert isinstance(again.exception, CatalogError)
    assert "there is a column 'loss:small' already (loss of SatMAE" in str(again.exception)


def test_the_command_shows_a_summary_and_writes_a_file_instead(run, root, tmp_path):
    file = tmp_path / "losses.parquet"
    options = ["--device", "cpu", "--repeats", "1", "--name", "loss:x", "--highest", "2", "-o", str(file)]
    result = CliRunner().invoke(cli, ["losses", str(run.path), str(root / "europe"), *options])
    assert result.exit_code == 0, result.output
    assert "over 32 samples" in result.output
    assert "Percentiles 1, 5, 25, 50, 75, 95, 99:" in result.output
    assert f"pwcat catalog columns CATALOG --add {file}" in "".join(result.output.split("\n")).replace("  ", " ")
    assert not list(root.glob("*/columns"))
    assert CliRunner().invoke(cli, ["catalog", "columns", str(root), "--add", str(file)]).exit_code == 0
    expected = measure_losses(run.path, load_subset(root / "europe"), repeats=1, device="cpu").values
    np.testing.assert_array_equal(load_subset(root / "europe").column("loss:x"), expected.astype(np.float32))


def test_names_of_columns_are_made_of_folders():
    assert column_name("runs/My Run (2)") == "loss:my-run-2"
    assert column_name(Path("/runs/europe_1.0")) == "loss:europe_1.0"
    assert column_name("/") == "loss:run"
