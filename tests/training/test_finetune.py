"""Fine-tuning end to end: it learns what there is to learn, of every kind, and nothing but its draw decides how."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from pwcat.errors import RecipeError, TrainingError
from training.batch import UNKNOWN_TIME, Bands, Batch
from training.finetune import FinetuneRecipe, finetune, list_finetune_recipes, load_finetune_recipe, recipe_for
from training.finetuning.plan import Plan
from training.models.presto import Presto, PrestoConfig
from training.models.satclip import SatCLIP, SatCLIPConfig
from training.models.satmae import SatMAE, SatMAEConfig
from training.resampling import Draw
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import FileChips, PlaceChips

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
FAST = {
    "epochs": 10,
    "least_steps": 0,
    "batch_size": 16,
    "lr": 5e-3,
    "warmup_epochs": 1,
    "flip": "none",
    "crop": "none",
}


def recipe(**changes):
    return FinetuneRecipe(**{**FAST, **changes})


def satmae(made_up, seed=0):
    torch.manual_seed(seed)
    small = {"dim": 24, "depth": 2, "heads": 2, "group_dim": 8, "decoder_dim": 16, "decoder_depth": 1}
    config = SatMAEConfig(image_size=16, patch_size=8, decoder_heads=2, decoder_group_dim=4, **small)
    return SatMAE(config, normalization=made_up(BANDS)).eval()


def presto():
    torch.manual_seed(0)
    fields = {"dim": 16, "heads": 2, "decoder_dim": 16, "decoder_heads": 2, "depth": 1, "decoder_depth": 1, "months": 3}
    return Presto(PrestoConfig(**fields)).eval()


def satclip():
    torch.manual_seed(0)
    return SatCLIP(SatCLIPConfig(degrees=6, hidden=32, dim=16)).eval()


def data_of(chips, targets, *, kind, classes=(), fit="resize", masks=None, times=None, lonlat=None):
    """A task of chips (N, C, H, W) or (N, T, C, H, W)."""
    chips = chips[:, None] if chips.ndim == 4 else chips
    count, dates = chips.shape[:2]
    lonlat = np.tile([10.0, 50.0], (count, 1)) if lonlat is None else lonlat
    read = {} if masks is None else {"read_masks": lambda rows: masks[rows]}
    reader = FileChips(
        bands=Bands.reflectance(BANDS),
        shape=chips.shape[1:],
        lonlat=lonlat,
        times=np.full((count, dates), UNKNOWN_TIME) if times is None else times,
        read=lambda rows: chips[rows],
        **read,
    )
    metric = {"classification": "accuracy", "multilabel": "micro_f1", "regression": "r2", "segmentation": "macro_f1"}
    return TaskData(
        info=TaskInfo(name="made-up", title="Made up", kind=kind, metric=metric[kind], classes=classes, fit=fit),
        ids=np.array([f"s{i}" for i in range(count)], dtype=object),
        lonlat=lonlat,
        splits=np.full(count, "train", dtype=object),
        targets=targets,
        chips=reader,
        hash="0" * 64,
    )


def draw_of(train, test, *, validation=0, seed=0):
    train = np.arange(*train) if isinstance(train, tuple) else np.arange(train)
    mask = np.zeros(len(train), dtype=bool)
    mask[:validation] = True
    return Draw(train=train, test=np.arange(*test), validation=mask, seed=seed)


def noise(count, size=16, seed=0, dates=None):
    shape = (count, *((dates,) if dates else ()), len(BANDS), size, size)
    return np.random.default_rng(seed).integers(500, 1500, shape).astype(np.uint16)


def brighter(chips, band, by):
    """The chips with a band brighter by a number for each of them, in place."""
    chips[..., BANDS.index(band), :, :] += by.astype(np.uint16).reshape(-1, *[1] * (chips.ndim - 2))


def planted(kind, count=96, seed=0, dates=None):
    """Chips whose brightness tells their target, and the majority's or the mean's score."""
    rng, chips = np.random.default_rng(seed), noise(count, seed=seed, dates=dates)
    amounts = rng.uniform(0, 600, (count, 2))
    brighter(chips, "B08", amounts[:, 0])
    brighter(chips, "B03", amounts[:, 1])
    if kind == "regression":
        return chips, 3 * amounts[:, 0] + 5000
    labels = amounts > 300
    return chips, labels if kind == "multilabel" else labels[:, 0].astype(np.int64)


def test_a_small_set_is_learnt_by_heart(made_up):
    """Chips of noise and classes drawn at random: only what the encoder learns can tell them apart."""
    data = data_of(noise(12), np.arange(12) % 3, kind="classification", classes=("a", "b", "c"))
    steps = []
    found = finetune(
        satmae(made_up),
        data,
        draw_of(12, (0, 12)),
        recipe=recipe(epochs=60, drop_path=0.1),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert (found.values == data.targets).mean() == 1.0
    assert found.scores.shape == (12, 3)
    assert found.chosen == {"epoch": 60, "epochs": 60, "num_train": 12}
    assert steps == [(done, 60) for done in range(1, 61)]


@pytest.mark.parametrize("head", ["linear", "layer_norm", "batch_norm"])
def test_classes_by_brightness(made_up, head):
    chips, targets = planted("classification")
    data = data_of(chips, targets, kind="classification", classes=("dark", "bright"))
    found = finetune(satmae(made_up), data, draw_of(64, (64, 96), validation=16), recipe=recipe(head=head))
    majority = max(targets[64:].mean(), 1 - targets[64:].mean())
    assert (found.values == targets[64:]).mean() > majority + 0.2
    assert 1 <= found.chosen["epoch"] <= found.chosen["epochs"] <= 10
    assert found.chosen["validation"] > 0.7


def test_several_labels_each(made_up):
    chips, targets = planted("multilabel")
    data = data_of(chips, targets, kind="multilabel", classes=("red", "green"))
    found = finetune(satmae(made_up), data, draw_of(64, (64, 96)), recipe=recipe(epochs=15))
    assert found.values.dtype == bool
    accuracy = (found.values == targets[64:]).mean(axis=0)
    assert (accuracy > np.maximum(targets[64:].mean(axis=0), 1 - targets[64:].mean(axis=0)) + 0.2).all()


def test_numbers_come_back_in_their_units(made_up):
    chips, targets = planted("regression")
    data = data_of(chips, targets, kind="regression")
    found = finetune(satmae(made_up), data, draw_of(64, (64, 96), validation=10), recipe=recipe(epochs=20))
    assert found.scores is None
    r2 = 1 - ((found.values - targets[64:]) ** 2).sum() / ((targets[64:] - targets[64:].mean()) ** 2).sum()
    assert r2 > 0.7
    alike = replace(data, targets=np.full(96, 7.0))
    same = finetune(satmae(made_up), alike, draw_of(64, (64, 96)), recipe=recipe(epochs=2))
    assert same.values == pytest.approx(np.full(32, 7.0), abs=1e-3)


def checkered(count=64, size=16, seed=0):
    """Chips whose quarters are dark or bright, which is their pixels' class; the first row of pixels has none."""
    rng, chips = np.random.default_rng(seed), noise(count, size, seed)
    quarters = rng.integers(2, size=(count, 2, 2))
    masks = quarters.repeat(size // 2, axis=1).repeat(size // 2, axis=2).astype(np.int16)
    chips[:, BANDS.index("B08")] += (masks * 600).astype(np.uint16)
    masks[:, 0] = -1
    return chips, masks


@pytest.mark.parametrize("crop", ["none", "resized"])
def test_classes_of_pixels(made_up, crop):
    chips, masks = checkered()
    data = data_of(chips, np.zeros((64, 0)), kind="segmentation", classes=("dark", "bright"), masks=masks)
    draw = draw_of(48, (48, 64), validation=8)
    found = finetune(satmae(made_up), data, draw, recipe=recipe(epochs=15, crop=crop, flip="both"))
    assert found.values.shape == (16, 16, 16)
    assert found.values.dtype == np.int16
    known = masks[48:] >= 0
    right = (found.values == masks[48:])[known].mean()
    assert right > max(masks[48:][known].mean(), 1 - masks[48:][known].mean()) + 0.2


def test_pixels_that_are_cut_away_are_not_predicted(made_up):
    chips, masks = checkered(count=20, size=24)
    data = data_of(chips, np.zeros((20, 0)), kind="segmentation", classes=("dark", "bright"), masks=masks, fit="crop")
    found = finetune(satmae(made_up), data, draw_of(16, (16, 20)), recipe=recipe(epochs=2, crop="random"))
    assert found.values.shape == (4, 24, 24)
    assert (found.values[:, 4:20, 4:20] >= 0).all()
    around = np.ones((24, 24), dtype=bool)
    around[4:20, 4:20] = False
    assert (found.values[:, around] == -1).all()


def test_every_pixel_of_a_series_has_its_class():
    rng = np.random.default_rng(0)
    masks = rng.integers(2, size=(24, 6, 6)).astype(np.int16)
    chips = noise(24, size=6, dates=2)
    chips[:, :, BANDS.index("B08")] += (masks * 2500).astype(np.uint16)[:, None]
    times = np.tile(np.array(["2021-01-10", "2021-02-10"], dtype="datetime64[s]").astype(np.int64), (24, 1))
    data = data_of(
        chips, np.zeros((24, 0)), kind="segmentation", classes=("a", "b"), masks=masks, times=times, fit="crop"
    )
    found = finetune(presto(), data, draw_of(16, (16, 24)), recipe=recipe(batch_size=4, epochs=6))
    assert (found.values == masks[16:]).mean() > 0.95


def test_presto_learns_from_series():
    chips, targets = planted("classification", dates=2)
    times = np.tile(np.array(["2021-01-10", "2021-02-10"], dtype="datetime64[s]").astype(np.int64), (96, 1))
    data = data_of(chips, targets, kind="classification", classes=("a", "b"), times=times)
    found = finetune(presto(), data, draw_of(64, (64, 96)), recipe=recipe(epochs=25))
    assert (found.values == targets[64:]).mean() > max(targets[64:].mean(), 1 - targets[64:].mean()) + 0.2


def test_satclip_learns_of_places():
    rng = np.random.default_rng(0)
    lonlat = np.column_stack([rng.uniform(-180, 180, 120), rng.uniform(-80, 80, 120)])
    north = (lonlat[:, 1] > 0).astype(np.int64)
    data = replace(
        data_of(noise(120, size=1), north, kind="classification", classes=("south", "north"), lonlat=lonlat),
        chips=PlaceChips(lonlat=lonlat),
    )
    found = finetune(satclip(), data, draw_of(80, (80, 120)), recipe=recipe(epochs=15, mixup=0.8, erase=0.5))
    assert (found.values == north[80:]).mean() > max(north[80:].mean(), 1 - north[80:].mean()) + 0.2
    unknown = replace(data, lonlat=np.where(np.arange(120)[:, None] == 100, np.nan, lonlat))
    with pytest.raises(TrainingError, match="1 of 40 samples have none"):
        finetune(satclip(), unknown, draw_of(80, (80, 120)), recipe=recipe(epochs=2, batch_size=64))


def test_a_frozen_model_is_a_linear_head_on_its_embeddings(made_up):
    chips, targets = planted("classification")
    data = data_of(chips, targets, kind="classification", classes=("dark", "bright"))
    model, draw = satmae(made_up), draw_of(40, (64, 96), seed=3)
    how = recipe(layer_decay=0.0, head="linear", weight_decay=0.1, epochs=4)
    found = finetune(model, data, draw, recipe=how)
    with torch.no_grad():
        embeddings = model.encode(Batch.of_chips(torch.from_numpy(chips), bands=BANDS))
    weight, bias = torch.zeros(2, 24, requires_grad=True), torch.zeros(2, requires_grad=True)
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=how.betas)
    plan, rng, number = Plan(recipe=how, samples=40), np.random.default_rng([3, 1]), 0
    for _ in range(4):
        for (rows,) in plan.steps(draw.rest, rng):
            rng.integers(2**63)  # what the chips' views would be drawn with
            for group in optimizer.param_groups:
                group["lr"] = plan.lr(number)
            outputs = functional.linear(embeddings[rows], weight, bias)
            optimizer.zero_grad()
            functional.cross_entropy(outputs, torch.from_numpy(targets[rows])).backward()
            optimizer.step()
            number += 1
    expected = functional.linear(embeddings[draw.test], weight, bias).detach().numpy()
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)


def test_the_draw_decides_and_nothing_else(made_up):
    chips, targets = planted("classification", count=40)
    data = data_of(np.pad(chips, [(0, 0), (0, 0), (2, 2), (2, 2)], "edge"), targets, kind="classification",
                   classes=("a", "b"), fit="crop")  # fmt: skip
    model = satmae(made_up)
    before = copy.deepcopy(model.state_dict())
    how = recipe(
        epochs=2, drop_path=0.3, mixup=0.8, cutmix=1.0, erase=0.5, flip="both", crop="random", label_smoothing=0.1
    )
    draw = draw_of(24, (24, 40), validation=6)
    first = finetune(model, data, draw, recipe=how)
    torch.rand(7)
    model.train()
    state = torch.get_rng_state()
    again = finetune(model, data, draw, recipe=replace_recipe(how, memory_budget_mb=0))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert first.chosen == again.chosen
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert all(block.drop_path == 0 for block in model.blocks)
    other = finetune(model, data, replace(draw, seed=1), recipe=how)
    assert not np.array_equal(first.scores, other.scores)


def replace_recipe(how, **changes):
    return how.model_copy(update=changes)


def test_accumulated_batches_make_the_same_steps(made_up):
    chips, targets = planted("regression", count=40)
    data = data_of(chips, targets, kind="regression")
    how = recipe(epochs=2, head="layer_norm", batch_size=32)
    whole = finetune(satmae(made_up), data, draw_of(32, (32, 40)), recipe=how)
    parts = finetune(
        satmae(made_up), data, draw_of(32, (32, 40)), recipe=replace_recipe(how, batch_size=8, accumulate=4)
    )
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-4)


def test_the_best_epoch_predicts_and_patience_ends_it(made_up):
    """Validation samples of turned classes: what is learnt makes them worse, so that the first epoch is the best."""
    chips, targets = planted("classification")
    turned = np.where(np.arange(96) < 16, 1 - targets, targets)
    data = data_of(chips, turned, kind="classification", classes=("a", "b"))
    found = finetune(satmae(made_up), data, draw_of(64, (64, 96), validation=16), recipe=recipe(epochs=30, patience=4))
    assert found.chosen["epochs"] < 30
    assert found.chosen["epochs"] - found.chosen["epoch"] == 4


def test_one_class_and_one_sample_are_no_trouble(made_up):
    data = data_of(noise(3), np.zeros(3, dtype=np.int64), kind="classification", classes=("a", "b"))
    found = finetune(satmae(made_up), data, draw_of(1, (1, 3)), recipe=recipe(epochs=2, head="batch_norm", mixup=1.0))
    assert found.values.tolist() == [0, 0]


def test_masks_without_any_class_teach_nothing(made_up):
    chips, masks = checkered(count=8)
    data = data_of(chips, np.zeros((8, 0)), kind="segmentation", classes=("a", "b"), masks=np.full_like(masks, -1))
    found = finetune(satmae(made_up), data, draw_of(6, (6, 8), validation=2), recipe=recipe(epochs=2))
    assert set(np.unique(found.values)) <= {0, 1}
    assert found.chosen["validation"] == 0.0


def test_a_loss_that_is_no_number_is_told(made_up):
    chips, targets = planted("classification", count=40)
    data = data_of(chips, targets, kind="classification", classes=("a", "b"))
    with pytest.raises(TrainingError, match=r"the loss was no number, at a peak learning rate of 1e\+35\. Lower lr"):
        finetune(satmae(made_up), data, draw_of(32, (32, 40)), recipe=recipe(lr=1e35))


def test_what_cannot_be_fine_tuned_is_told(made_up):
    data = data_of(noise(4), np.arange(4) % 2, kind="classification", classes=("a", "b"))
    with pytest.raises(
        TrainingError, match=r"at least one sample to train on and one to test on, and there are 0 and 2"
    ):
        finetune(satmae(made_up), data, Draw(train=np.arange(0), test=np.arange(2), validation=np.zeros(0, bool)))
    masks = np.zeros((4, 16, 16), dtype=np.int16)
    pixels = data_of(noise(4), np.zeros((4, 0)), kind="segmentation", classes=("a", "b"), masks=masks)
    with pytest.raises(TrainingError, match="embeds a sample as a whole"):
        finetune(satclip(), pixels, draw_of(2, (2, 4)), recipe=recipe())
    numbers = replace(data, info=replace(data.info, kind="regression"), targets=np.array([1.0, np.nan, 2.0, 3.0]))
    with pytest.raises(TrainingError, match="1 targets are not numbers"):
        finetune(satmae(made_up), numbers, draw_of(2, (2, 4)), recipe=recipe())


def test_compiled_it_gives_the_same(made_up, monkeypatch):
    """As one graph a batch; the compiler's own backend is left out, for the sake of time."""
    chips, targets = planted("classification", count=40)
    data = data_of(chips, targets, kind="classification", classes=("a", "b"))
    plain = finetune(satmae(made_up), data, draw_of(32, (32, 40)), recipe=recipe(epochs=2))
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **options: compile_(module, backend="aot_eager", **options))
    compiled = finetune(satmae(made_up), data, draw_of(32, (32, 40)), recipe=recipe(epochs=2, compile=True))
    np.testing.assert_allclose(compiled.scores, plain.scores, atol=1e-5)


def test_shipped_recipes_are_the_published_ones(made_up):
    assert list_finetune_recipes() == ["plain", "presto", "satmae", "tiny"]
    own = load_finetune_recipe("satmae")
    assert (own.epochs, own.layer_decay, own.weight_decay, own.drop_path) == (30, 0.75, 0.05, 0.2)
    assert (own.mixup, own.cutmix, own.label_smoothing, own.warmup_epochs) == (0.8, 1.0, 0.1, 5)
    assert own.peak_lr(700_000) == pytest.approx(2e-4 * 1024 / 256)
    assert own.peak_lr(100) == pytest.approx(2e-4 * 100 / 256)
    released = load_finetune_recipe("presto")
    assert (released.lr, released.epochs, released.patience, released.batch_size) == (3e-4, 100, 3, 64)
    assert recipe_for(presto()) == released
    assert recipe_for(satmae(made_up)).name == "tiny"
    assert recipe_for(satclip()).name == "plain"
    with torch.device("meta"):
        assert recipe_for(SatMAE.base()) == own


def test_faults_of_a_recipe_are_told_together(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 3\nwarmup_epochs: 3\nlayer_decay: 2\ncolour: red\nlr: 1e-3\nbase_lr: 1e-3\n")
    with pytest.raises(RecipeError, match="base_lr and lr are two ways"):
        load_finetune_recipe(path)
    path.write_text("epochs: 3\nwarmup_epochs: 3\nlayer_decay: 2\ncolour: red\n")
    with pytest.raises(RecipeError, match=r"warmup_epochs: 3 must be below epochs 3.*layer_decay: .*colour: Extra"):
        load_finetune_recipe(path)
    with pytest.raises(RecipeError, match=r"no fine-tuning recipe 'satmea'.*plain, presto, satmae, tiny"):
        load_finetune_recipe("satmea")
    path.write_text("- 1\n")
    with pytest.raises(RecipeError, match="must hold a mapping"):
        load_finetune_recipe(path)
    path.write_text("epochs: 3\nwarmup_epochs: 0\n")
    mine = load_finetune_recipe(path)
    assert (mine.name, mine.lr) == ("mine", 1e-3)
    assert mine.hash == FinetuneRecipe(epochs=3, warmup_epochs=0, memory_budget_mb=1).hash
    assert mine.hash != FinetuneRecipe(epochs=3, warmup_epochs=0, flip="none").hash
