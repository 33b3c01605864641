"""SatCLIP through pretraining, evaluation and checkpoints, on the small catalog."""

import numpy as np
import pytest
import torch

from pwcat.errors import TrainingError
from training.checkpoint import load_model_folder, load_state
from training.embed import embed_subset
from training.evaluate import Resampling, evaluate
from training.losses import measure_losses
from training.models.folder import weights_hash
from training.models.harmonics import spherical_harmonics
from training.models.siren import Siren
from training.pretrain import pretrain
from training.recipe import load_train_recipe
from training.run import load_run
from training.weights import import_weights

SMALL = {
    "model.degrees": "6",
    "model.hidden": "32",
    "model.dim": "16",
    "epochs": "3",
    "batch_size": "16",
    "checkpoint.every_epochs": "1",
    "optimizer.lr": "3e-3",
}
FRESH = {
    "model.tower.config.image_size": "24",
    "model.tower.config.patch_size": "8",
    "model.tower.config.dim": "32",
    "model.tower.config.depth": "1",
    "model.tower.config.heads": "2",
    "model.tower.config.group_dim": "8",
}


@pytest.fixture(scope="module")
def recipes(run):
    """Recipes of the two ways to train: of a tower that trains, and of cached views of a frozen one."""
    frozen = {"model.tower": f"{{origin: {run.path}, frozen: true}}", "cached_views": "2"}

    def make(kind, **overrides):
        ways = {"training": FRESH, "cached": frozen, "frozen": {**frozen, "cached_views": "0"}}
        changed = {key.replace("__", "."): value for key, value in overrides.items()}
        return load_train_recipe("satclip-tiny", overrides={**SMALL, **ways[kind], **changed})

    return make


@pytest.fixture(scope="module")
def runs(tmp_path_factory, subset, recipes):
    """A finished run of each kind."""
    folder = tmp_path_factory.mktemp("satclip")
    return {
        kind: pretrain(subset, recipes(kind), folder / kind, device="cpu") for kind in ("training", "cached", "frozen")
    }


def log_of(run):
    return [(row["step"], row["loss"], row["grad_norm"]) for row in run.metrics]


@pytest.mark.parametrize("kind", ["training", "cached", "frozen"])
def test_a_run_trains_what_it_should(runs, kind):
    run = runs[kind]
    assert run.finished
    assert (run.steps, len(run.metrics)) == (9, 9)
    assert all(np.isfinite(row["loss"]) and row["loss"] > 0 for row in run.metrics)
    assert run.placement == ("features" if kind == "cached" else "device")
    assert (run.path / "features").is_dir() == (kind == "cached")
    model = run.load_model()
    assert model.tower.config.frozen == (kind != "training")


def test_what_a_run_tells_of_its_tower_is_no_path_of_this_machine(runs, run):
    told = load_run(runs["cached"].path).recipe["model"]["tower"]
    assert told == {"origin": run.path.name, "frozen": True}
    assert not [text for text in (runs["cached"].path / "run.json").read_text().split('"') if text.startswith("/")]


@pytest.mark.parametrize("kind", ["training", "cached"])
@pytest.mark.parametrize("stop", [1, 4])
def test_resumed_equals_uninterrupted_to_the_bit(runs, subset, recipes, tmp_path, kind, stop):
    part = pretrain(subset, recipes(kind), tmp_path, device="cpu", stop_after_steps=stop)
    assert part.steps == stop
    whole = pretrain(subset, recipes(kind), tmp_path, device="cpu")
    assert log_of(whole) == log_of(runs[kind])
    assert weights_hash(load_model_folder(whole.path)) == weights_hash(load_model_folder(runs[kind].path))
    ours, theirs = (load_state(r.checkpoint)["optimizer"]["state"] for r in (whole, runs[kind]))
    assert all(torch.equal(ours[key]["exp_avg_sq"], theirs[key]["exp_avg_sq"]) for key in theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bfloat16", "optimizer__clip_norm": "0.1"},
        {"optimizer__ema_decay": "0.9", "accumulate": "2", "placement": "stream"},
    ],
    ids=["half precision, clipped", "averaged, accumulated, streamed"],
)
def test_the_loops_options_take_both_precisions_of_weights(runs, subset, recipes, tmp_path, options):
    run = pretrain(subset, recipes("training", **options), tmp_path, device="cpu", stop_after_steps=3)
    assert log_of(run)[0][1] == pytest.approx(log_of(runs["training"])[0][1], rel=0.2)
    kinds = {name: tensor.dtype for name, tensor in run.load_model().state_dict().items()}
    assert kinds["location.nnet.last_layer.weight"] == torch.float64
    assert kinds["projection.weight"] == torch.float32


def test_another_seed_another_loss(runs, subset, recipes, tmp_path):
    other = pretrain(subset, recipes("cached", seed="1"), tmp_path, device="cpu", stop_after_steps=2)
    assert log_of(other)[0] != log_of(runs["cached"])[0]


def test_a_frozen_towers_weights_are_those_of_its_run(runs, run):
    source, tower = run.load_model().state_dict(), runs["cached"].load_model().tower.encoder.state_dict()
    assert all(torch.equal(tensor, source[name]) for name, tensor in tower.items())


def test_an_origin_that_has_changed_is_noticed(runs, subset, recipes, run, tmp_path):
    from shutil import copytree

    origin = copytree(run.checkpoint, tmp_path / "origin")
    recipe = recipes("cached", model__tower=f"{{origin: {origin}, frozen: true}}")
    pretrain(subset, recipe, tmp_path / "run", device="cpu", stop_after_steps=1)
    model = load_model_folder(origin)
    with torch.no_grad():
        model.norm.weight[0] += 1
    model.save_pretrained(origin)
    with pytest.raises(TrainingError, match=r"checkpoint .* is of another model than the recipe's now: tower"):
        pretrain(subset, recipe, tmp_path / "run", device="cpu")


@pytest.mark.parametrize("task", ["landcover", "biome"])
def test_places_are_scored(runs, subset, tmp_path, task):
    scores = evaluate(
        runs["cached"].path,
        subset,
        task=task,
        probes=("linear",),
        sampling=Resampling(split="blocks", repeats=2),
        out_dir=tmp_path,
    )
    assert scores.task == task
    assert 0 <= scores.summary("linear").measure.mean <= 1


def test_places_are_embedded_without_their_chips(runs, subset):
    model = runs["training"].load_model()
    embeddings = embed_subset(model, subset)
    assert embeddings.shape == (48, 16)
    np.testing.assert_array_equal(embeddings, model.encode_locations(subset.lonlat).detach().numpy())


def test_imported_weights_embed_places(subset, tmp_path):
    torch.manual_seed(0)
    net = Siren(100, hidden=512, layers=2, outputs=256)
    state = {f"model.location.nnet.{name}": tensor for name, tensor in net.state_dict().items()}
    file = tmp_path / "satclip-vit16-l10.ckpt"
    torch.save({"state_dict": state, "hyper_parameters": {"le_type": "sphericalharmonics"}, "epoch": 499}, file)
    imported = import_weights("satclip", file, tmp_path / "model")
    embeddings = embed_subset(load_model_folder(imported.path), subset, cache_dir=tmp_path / "kept")
    basis = spherical_harmonics(torch.from_numpy(subset.lonlat), degrees=10)
    np.testing.assert_array_equal(embeddings, net(basis).detach().float().numpy())


def test_losses_of_samples_are_measured(runs, subset):
    found = [measure_losses(runs["frozen"].path, subset, repeats=1, batch_size=16, device="cpu") for _ in range(2)]
    np.testing.assert_array_equal(found[0].values, found[1].values)
    assert np.isfinite(found[0].values).all()


def test_random_weights_are_the_control(subset, recipes, tmp_path):
    scores = evaluate(
        None,
        subset,
        control=recipes("training"),
        probes=("linear",),
        sampling=Resampling(split="blocks", repeats=1),
        out_dir=tmp_path,
    )
    assert scores.control


def test_views_are_cached_for_frozen_towers_alone(subset, recipes, make_recipe, tmp_path):
    with pytest.raises(TrainingError, match="the image tower trains"):
        pretrain(subset, recipes("training", cached_views="2"), tmp_path / "a", device="cpu")
    with pytest.raises(TrainingError, match="a satmae has none"):
        pretrain(subset, make_recipe(cached_views="2"), tmp_path / "b", device="cpu")
    assert not list(tmp_path.iterdir())


def test_shipped_recipes_are_the_papers():
    recipe = load_train_recipe("satclip")
    assert (recipe.lr, recipe.effective_batch, recipe.epochs, recipe.optimizer.weight_decay) == (1e-4, 8192, 500, 0.01)
    assert recipe.model["degrees"] == 40
    assert recipe.augment.jitter_deg == 0.01
