"""GeoJEPA through pretraining, checkpoints and embeddings, on a small map."""

import json

import numpy as np
import pytest
import torch

from pwcat.errors import TrainingError
from training.chance import Chance
from training.checkpoint import load_model_folder, load_state
from training.embed import embed_subset
from training.loader import in_order
from training.losses import measure_losses
from training.models.folder import weights_hash
from training.pretrain import pretrain
from training.recipe import load_train_recipe
from training.run import load_run

SMALL = {
    "model.dim": "16",
    "model.depth": "1",
    "model.heads": "2",
    "model.predictor": "{dim: 8, depth: 1, heads: 2}",
    "model.tags": "{dim: 32, least_count: 1}",
    "model.max_entities": "8",
    "epochs": "3",
    "batch_size": "16",
    "optimizer.warmup_epochs": "1",
    "checkpoint.every_epochs": "1",
}
BANDS = "[B04, B03, B02]"
ENCODER = f"image_size: 16, patch_size: 8, bands: {BANDS}, groups: [{BANDS}], dim: 8, depth: 1, heads: 2, group_dim: 4"
IMAGE = f"{{config: {{{ENCODER}}}}}"
FEW = "recipe: geometry-tiny, epochs: 1, least_steps: 2, optimizer.warmup_epochs: 0"
SHAPES = f"{{dim: 16, training: {{{FEW}, model.width: 8, model.layers: 1, model.telling: 8}}}}"


def recipe_of(name="geojepa-tiny", **overrides):
    whole = {"model.image": IMAGE} if "i" in name.split("-")[1][1:] else {}
    whole |= {"model.geometry": SHAPES} if name.split("-")[1].startswith("g") else {}
    changed = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_train_recipe(name, overrides={**SMALL, **whole, **changed})


def log_of(run):
    return [
        {key: row[key] for key in row if key not in {"samples_per_s", "wait_share", "mfu", "memory_mb"}}
        for row in run.metrics
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory, one_map):
    """A finished run of tags, shapes and images."""
    return pretrain(one_map, recipe_of("geojepa-gti-tiny"), tmp_path_factory.mktemp("geojepa") / "run", device="cpu")


def test_a_run_leaves_a_model_that_embeds_tiles_and_entities(run, one_map):
    assert run.finished
    model = run.load_model()
    assert model.config.vocabulary[0] == "building"
    assert not model.training
    assert model.config.geometry.weights_hash == weights_hash(model.reader.geometry)
    assert not any(p.requires_grad for p in model.reader.geometry.parameters())
    values = embed_subset(model, one_map)
    assert values.shape == (48, 32)
    assert np.isfinite(values).all()
    (batch,) = in_order(one_map, bands=model.bands, block=48, entities=True)
    with torch.no_grad():
        np.testing.assert_allclose(model.encode(batch).numpy(), values, rtol=1e-4, atol=1e-5)
        assert model.encode_entities(batch).shape == (len(batch.entities), 16)


def test_collapse_is_watched_once_an_epoch(run):
    watched = [row for row in run.metrics if "effective_rank" in row]
    assert [row["step"] for row in watched] == [3, 6, 9]
    assert all(1 < row["effective_rank"] <= 16 == row["watched_samples"] for row in watched)
    told = json.loads((run.path / "run.json").read_text())["watched"]
    assert told == {key: watched[-1][key] for key in told}
    assert told["step"] == 9


def test_resumed_equals_uninterrupted_to_the_bit(run, one_map, tmp_path):
    recipe = recipe_of("geojepa-gti-tiny")
    assert run.load_model().config.dropout == 0.1
    part = pretrain(one_map, recipe, tmp_path, device="cpu", stop_after_steps=4)
    assert part.steps == 4
    state = torch.random.get_rng_state()
    whole = pretrain(one_map, recipe, tmp_path, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert log_of(whole) == log_of(run)
    assert weights_hash(load_model_folder(whole.path)) == weights_hash(load_model_folder(run.path))
    ours, theirs = (load_state(r.checkpoint)["optimizer"]["state"] for r in (whole, run))
    assert all(torch.equal(ours[key]["exp_avg_sq"], theirs[key]["exp_avg_sq"]) for key in theirs)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("geojepa-tiny", {"precision": "bfloat16"}),
        ("geojepa-gt-tiny", {"accumulate": "2", "model__registers": "2"}),
        ("geojepa-ti-tiny", {"precision": "bfloat16", "batch_size": "47", "optimizer__ema_decay": "0.9"}),
    ],
)
def test_variants_and_options_train(one_map, tmp_path, name, options):
    run = pretrain(one_map, recipe_of(name, epochs="2", **options), tmp_path, device="cpu")
    assert run.finished
    assert all(np.isfinite(row["loss"]) and row["loss"] > 0 for row in run.metrics)
    model = run.load_model()
    assert model.bands == (("B04", "B03", "B02") if "-ti-" in name else ())
    assert (model.reader.geometry is not None) == ("-gt-" in name)


def test_the_same_batch_over_and_over_is_learned(one_map):
    from training.models import build_model

    torch.manual_seed(0)
    model = build_model("geojepa", recipe_of(model__dropout="0.0", model__vicreg_beta="0.0").model)
    model.fit(one_map, device=torch.device("cpu"), folder=None)
    model.train()
    (batch,) = in_order(one_map, bands=(), block=48, entities=True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(40):
        with torch.no_grad():
            inputs = model.prepare(batch, chance=Chance(3, total=48))
        loss = model(**inputs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


def test_schedules_are_those_of_the_recipe(one_map, tmp_path):
    recipe = recipe_of(
        optimizer__lr="0.01",
        optimizer__final_lr="0.004",
        optimizer__warmup_from="0.5",
        optimizer__weight_decay_end="0.4",
    )
    run = pretrain(one_map, recipe, tmp_path, device="cpu")
    rates = [row["lr"] for row in run.metrics]
    assert rates[:4] == pytest.approx([0.005, 0.005 + 0.005 / 3, 0.005 + 0.01 / 3, 0.01])
    assert rates[6] == pytest.approx(0.004 + 0.006 / 2)
    groups = load_state(run.checkpoint)["optimizer"]["param_groups"]
    decays = [group["weight_decay"] for group in groups]
    assert decays == [pytest.approx(0.04 + 0.36 * 8 / 9), 0.0]


def test_losses_of_samples_are_told_and_repeatable(run, one_map):
    first, second = (measure_losses(run.path, one_map, repeats=2, batch_size=16, device="cpu") for _ in range(2))
    assert np.isfinite(first.values).all()
    assert np.array_equal(first.values, second.values)


def test_a_network_of_shapes_of_a_folder_is_not_trained_again(run, one_map, tmp_path):
    (shapes,) = (path for path in (run.path / "geometry").iterdir() if (path / "config.json").is_file())
    recipe = recipe_of("geojepa-gt-tiny", model__geometry=f"{{origin: {shapes}}}", epochs="2")
    other = pretrain(one_map, recipe, tmp_path / "run", device="cpu", stop_after_steps=1)
    assert not (tmp_path / "run" / "geometry").exists()
    config = other.load_model().config.geometry
    assert (config.origin, config.weights_hash) == (shapes.name, run.load_model().config.geometry.weights_hash)
    told = load_run(other.path).recipe["model"]["geometry"]
    assert told["origin"] == shapes.name


def test_chips_that_are_no_maps_are_refused(subset, tmp_path):
    with pytest.raises(TrainingError, match="take map collections alone"):
        pretrain(subset, recipe_of(), tmp_path, device="cpu")
