"""The parts of fine-tuning: rates by depth, branches left out, views of samples, steps of an epoch, what is best."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from training.batch import Bands, Batch
from training.chance import Chance
from training.finetuning.layers import drop_paths, freeze_below, layer_groups
from training.finetuning.network import BatchNorm
from training.finetuning.objective import Judge, Objective
from training.finetuning.plan import Plan
from training.finetuning.recipe import FinetuneRecipe
from training.finetuning.samples import Sampled
from training.finetuning.views import Viewer, mix, uncut
from training.models.blocks import Block
from training.models.presto import Presto, PrestoConfig
from training.models.satclip import SatCLIP, SatCLIPConfig
from training.models.satmae import SatMAE

BANDS = ("B02", "B03", "class")


def recipe(**changes):
    return FinetuneRecipe(**{"warmup_epochs": 0, **changes})


# Rates by depth


def scales(model, *, layer_decay=0.75):
    """The scale and the weight decay of each parameter that trains, by name."""
    head = nn.Sequential(nn.LayerNorm(model.embedding_dim), nn.Linear(model.embedding_dim, 1))
    groups = layer_groups(model, head, weight_decay=0.05, layer_decay=layer_decay)
    names = {id(p): name for name, p in [*model.named_parameters(), *head.named_parameters(prefix="head")]}
    found = [(names[id(p)], (g["scale"], g["weight_decay"])) for g in groups for p in g["params"]]
    assert len(found) == len(dict(found))
    return dict(found)


def test_rates_of_satmae_fall_by_depth():
    """Three blocks: embeddings .75^4, blocks .75^3, .75^2 and .75, the head 1; biases, norms and the token do not decay."""
    found = scales(SatMAE.tiny())
    assert found["cls_token"] == (pytest.approx(0.31640625), 0.0)
    assert found["patch_embed.2.proj.weight"] == (pytest.approx(0.31640625), 0.05)
    assert found["patch_embed.2.proj.bias"] == (pytest.approx(0.31640625), 0.0)
    assert found["blocks.0.attn.qkv.weight"] == (pytest.approx(0.421875), 0.05)
    assert found["blocks.1.mlp.fc1.weight"] == (pytest.approx(0.5625), 0.05)
    assert found["blocks.2.norm1.weight"] == (pytest.approx(0.75), 0.0)
    assert found["norm.weight"] == (pytest.approx(0.75), 0.0)
    assert found["head.1.weight"] == (1.0, 0.05)
    assert found["head.0.weight"] == (1.0, 0.0)
    assert not [name for name in found if name.startswith(("decoder", "mask_token"))]


def test_rates_of_presto_and_satclip_fall_by_depth():
    presto = scales(Presto(PrestoConfig(depth=2)))
    assert presto["encoder.channel_embed.weight"] == (pytest.approx(0.421875), 0.05)
    assert presto["encoder.latlon_embed.bias"] == (pytest.approx(0.421875), 0.0)
    assert presto["encoder.blocks.0.mlp.fc2.weight"] == (pytest.approx(0.5625), 0.05)
    assert presto["encoder.norm.bias"] == (pytest.approx(0.75), 0.0)
    assert not [name for name in presto if "pos_embed" in name or "month_embed" in name or name.startswith("decoder")]
    satclip = scales(SatCLIP(SatCLIPConfig(degrees=4, hidden=8, dim=8)))
    assert satclip["location.nnet.layers.0.weight"][0] == pytest.approx(0.421875)
    assert satclip["location.nnet.layers.1.weight"][0] == pytest.approx(0.5625)
    assert satclip["location.nnet.last_layer.weight"][0] == pytest.approx(0.75)
    assert "logit_scale" not in satclip


@pytest.mark.parametrize("model", [SatMAE.tiny(), Presto(), SatCLIP(SatCLIPConfig(degrees=4, hidden=8, dim=8))])
def test_layers_hold_all_of_an_encoder_once(model):
    found = set(scales(model, layer_decay=1.0))
    encoder = {
        "satmae": ("cls_token", "patch_embed", "blocks", "norm"),
        "presto": ("encoder",),
        "satclip": ("location",),
    }
    wanted = {
        name for name, p in model.named_parameters() if p.requires_grad and name.startswith(encoder[model.architecture])
    }
    assert {name for name in found if not name.startswith("head")} == wanted


def test_without_rates_the_head_alone_trains():
    model = SatMAE.tiny()
    head = nn.Linear(96, 3)
    groups = layer_groups(model, head, weight_decay=0.05, layer_decay=0.0)
    assert [group["scale"] for group in groups] == [1.0, 1.0]
    assert not freeze_below(model, groups)
    assert not any(p.requires_grad for p in model.parameters())


def test_what_was_frozen_stays_so():
    model = SatMAE.tiny()
    model.blocks[0].requires_grad_(False)
    groups = layer_groups(model, nn.Linear(96, 3), weight_decay=0.0, layer_decay=1.0)
    assert freeze_below(model, groups)
    assert not any(p.requires_grad for p in [*model.blocks[0].parameters(), *model.decoder_blocks.parameters()])
    assert all(p.requires_grad for p in model.blocks[1].parameters())


# Branches left out


def test_drop_path_rises_with_the_depth():
    model = SatMAE.tiny()
    drop_paths(model, 0.2)
    assert [block.drop_path for block in model.blocks] == pytest.approx([0.0, 0.1, 0.2])
    assert all(block.drop_path == 0 for block in model.decoder_blocks)
    drop_paths(SatCLIP(SatCLIPConfig(degrees=4, hidden=8, dim=8)), 0.2)


def test_branches_are_left_out_of_whole_samples_in_training_alone():
    """Of 4,000 samples a quarter keeps the input, to a few parts in a hundred; the mean stays that of the whole block."""
    torch.manual_seed(0)
    block = Block(8, heads=2)
    nn.init.zeros_(block.attn.proj.weight)
    nn.init.ones_(block.attn.proj.bias)
    nn.init.zeros_(block.mlp.fc2.weight)
    nn.init.constant_(block.mlp.fc2.bias, 10.0)
    block.drop_path = 0.5
    x = torch.zeros(4000, 3, 8)
    added = block(x)
    assert torch.equal(added, added[:, :1, :1].expand_as(added))
    values, counts = added[:, 0, 0].unique(return_counts=True)
    assert values.tolist() == [0.0, 2.0, 20.0, 22.0]
    assert (counts / 4000).tolist() == pytest.approx([0.25] * 4, abs=0.03)
    assert torch.equal(block.eval()(x), torch.full_like(x, 11.0))


# The head's norm


def test_batch_norm_knows_where_embeddings_lie_from_the_first_batch():
    norm, x = BatchNorm(2), torch.tensor([[1e4, 1.0], [1e4 + 2, 3.0]])
    torch.testing.assert_close(norm(x), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.eval()(x), norm.train()(x))
    single = norm(torch.tensor([[1e4 + 1, 2.0]]))
    torch.testing.assert_close(single, torch.zeros(1, 2))


# Views


def sampled(count=6, size=12, times=2, masked=True, seed=0):
    """Chips that tell by their digital numbers where each pixel was, and masks that say the same as their third band."""
    rng = np.random.default_rng(seed)
    chips = rng.integers(1000, 60000, (count, times, 3, size, size)).astype(np.uint16)
    masks = rng.integers(0, 5, (count, size, size)).astype(np.int16)
    chips[:, :, 2] = (masks + 1)[:, None]
    bands = Bands(names=BANDS, scale=(1e-4,) * 3, offset=(0.0,) * 3, unit=("1", "1", "class"))
    batch = Batch.of_chips(torch.from_numpy(chips), bands=BANDS)
    batch = Batch(**{**vars(batch), "bands": bands})
    return Sampled(batch=batch, masks=torch.from_numpy(masks) if masked else None)


def numbers(seen):
    return seen.batch.chips.to(torch.int32)


@pytest.mark.parametrize(
    ("fit", "size", "changes"),
    [
        ("crop", 12, {"flip": "both", "crop": "none"}),
        ("crop", 7, {"flip": "both", "crop": "random"}),
        ("crop", 1, {"flip": "none", "crop": "none"}),  # windows of pixels
        ("resize", 8, {"flip": "horizontal", "crop": "resized"}),
        ("crop", 20, {"flip": "none", "crop": "resized"}),
    ],
)
def test_masks_go_with_their_chips(fit, size, changes):
    viewer = Viewer(size=size, fit=fit, dense=True, recipe=recipe(**changes))
    one, other = (viewer.drawn(sampled(), Chance(seed, total=6)) for seed in (0, 1))
    assert one.masks.shape[1:] == one.batch.chips.shape[-2:] == (12 if size == 1 else size,) * 2
    for time in range(2):
        assert torch.equal(numbers(one)[:, time, 2], one.masks + 1)
    same = viewer.drawn(sampled(), Chance(0, total=6))
    assert torch.equal(numbers(same), numbers(one))
    assert size == 1 or not torch.equal(numbers(other), numbers(one))


def test_no_data_stays_no_data_and_nothing_else_becomes_it():
    before = sampled(masked=False)
    chips = before.batch.chips.clone()
    chips[:, 0, :, :, :6] = 0
    before = Sampled(batch=Batch(**{**vars(before.batch), "chips": chips}), masks=None)
    how = recipe(crop="resized", erase=1.0, mixup=0.8, flip="none", min_scale=0.9)
    viewer = Viewer(size=12, fit="resize", dense=False, recipe=how)
    seen = numbers(viewer.drawn(before, Chance(0, total=6)))
    empty = (seen[:, 0, 0] == 0).float().mean().item()
    assert 0.25 < empty < 0.5
    assert (seen[:, 1, :2] > 0).all()
    mixed, _ = mix(before, torch.eye(6), recipe=recipe(mixup=0.8), rng=np.random.default_rng(0))
    assert torch.equal(numbers(mixed)[:, 0, 0] == 0, chips[:, 0, 0].to(torch.int32) == 0)


def test_mixup_takes_the_weighted_mean_of_pairs():
    before = sampled(count=3, masked=False)
    mixed, targets = mix(before, torch.eye(3), recipe=recipe(mixup=1.0), rng=np.random.default_rng(5))
    share = targets[0, 0].item()
    assert 0.05 < share < 0.95
    torch.testing.assert_close(targets, torch.tensor([[share, 0, 1 - share], [0, 1, 0], [1 - share, 0, share]]))
    own = numbers(before).double()
    expected = (share * own + (1 - share) * own.flip(0))[:, :, :2]
    assert (numbers(mixed)[:, :, :2] - expected).abs().max() <= 0.51
    assert set(numbers(mixed)[:, :, 2].unique().tolist()) <= set(own[:, :, 2].unique().tolist())


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels():
    before, whole = sampled(count=2, masked=False), []
    for seed in range(20):
        mixed, targets = mix(before, torch.eye(2), recipe=recipe(cutmix=1.0), rng=np.random.default_rng(seed))
        kept = (numbers(mixed) == numbers(before))[0, 0, 0].float().mean().item()
        assert targets[0, 0].item() == pytest.approx(kept, abs=0.01)
        assert targets.sum(dim=1).tolist() == pytest.approx([1.0, 1.0])
        whole.append(kept)
    assert min(whole) < 0.4 < 0.9 < max(whole)


def test_a_rectangle_of_every_sample_is_erased_and_its_pixels_have_no_class():
    how = recipe(crop="none", flip="none", erase=1.0)
    before = sampled(count=200)
    seen = Viewer(size=12, fit="crop", dense=True, recipe=how).drawn(before, Chance(0, total=200))
    erased = seen.masks == -1
    assert torch.equal(numbers(seen)[:, 0, 2] == 0, erased)  # of classes there is no noise
    changed = (numbers(seen) != numbers(before))[:, 0, 0]
    assert not (changed & ~erased).any()
    shares = erased.float().mean(dim=(1, 2))
    assert shares.mean().item() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)
    kept = Viewer(size=12, fit="crop", dense=True, recipe=recipe(crop="none", flip="none", erase=0.5))
    some = (kept.drawn(before, Chance(0, total=200)).masks == -1).any(dim=2).any(dim=1)
    assert some.float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_masks_finer_than_chips_are_cut_alike():
    before = sampled(size=12)
    fine = Sampled(batch=before.batch, masks=before.masks.repeat_interleave(2, 1).repeat_interleave(2, 2))
    seen = Viewer(size=6, fit="crop", dense=True, recipe=recipe()).plain(fine)
    assert torch.equal(seen.masks, fine.masks[:, 6:18, 6:18])
    whole = uncut(seen.masks, fine.masks)
    assert torch.equal(whole[:, 6:18, 6:18], seen.masks)
    assert (whole == -1).sum() == 6 * (24 * 24 - 12 * 12)


# Steps


def test_of_few_samples_an_epoch_is_several_passes():
    plan = Plan(recipe=FinetuneRecipe(epochs=30, least_steps=250, batch_size=128, accumulate=8), samples=100)
    assert (plan.steps_per_pass, plan.passes, plan.total_steps) == (1, 9, 270)
    steps = plan.steps(np.arange(100), np.random.default_rng(0))
    assert len(steps) == 9
    assert all(sorted(np.concatenate(step)) == list(range(100)) for step in steps)
    many = Plan(recipe=FinetuneRecipe(epochs=30, least_steps=250, batch_size=128, accumulate=8), samples=700_000)
    assert (many.passes, many.steps_per_epoch) == (1, math.ceil(700_000 / 1024))


def test_a_step_is_cut_into_batches_of_nearly_equal_size():
    plan = Plan(recipe=recipe(least_steps=0, batch_size=8, accumulate=2), samples=37)
    steps = plan.steps(np.arange(37), np.random.default_rng(0))
    assert [[len(rows) for rows in step] for step in steps] == [[7, 6], [6, 6], [6, 6]]


def test_the_rate_rises_and_falls_over_all_steps():
    plan = Plan(recipe=FinetuneRecipe(epochs=10, warmup_epochs=2, least_steps=40, lr=0.1, batch_size=50), samples=100)
    assert plan.steps_per_epoch == 4
    assert [plan.lr(step) for step in (0, 4, 8, 24, 40)] == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0])


# What is best


def objective(kind, outputs, **fields):
    return Objective(kind=kind, outputs=outputs, targets=torch.zeros(0, outputs), **fields)


def test_epochs_are_judged_by_score_then_by_loss():
    judge = Judge(objective("classification", 2), torch.device("cpu"))
    right, unsure = torch.tensor([[4.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.1, 0.0], [0.1, 0.0]])
    judge.add(right, torch.eye(2))
    judge.add(unsure, torch.eye(2))
    assert judge.score()[0] == 0.75
    sure = Judge(objective("classification", 2), torch.device("cpu"))
    sure.add(right, torch.eye(2))
    surer = Judge(objective("classification", 2), torch.device("cpu"))
    surer.add(2 * right, torch.eye(2))
    assert surer.score() > sure.score()
    broken = Judge(objective("classification", 2), torch.device("cpu"))
    broken.add(right * float("nan"), torch.eye(2))
    assert broken.score() == (-math.inf, -math.inf)


def test_labels_are_judged_by_micro_f1_numbers_by_error_pixels_by_their_union():
    labels = Judge(objective("multilabel", 3), torch.device("cpu"))
    labels.add(torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([[1.0, 0.0, 1.0]]))
    assert labels.score()[0] == pytest.approx(2 * 1 / (2 + 2))
    numbers_ = Judge(objective("regression", 1), torch.device("cpu"))
    numbers_.add(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]]))
    assert numbers_.score() == (pytest.approx(-2.5), pytest.approx(-2.5))
    pixels = Judge(objective("segmentation", 3), torch.device("cpu"))
    masks = torch.tensor([[[0, 0], [1, -1]]], dtype=torch.int16)
    said = torch.tensor([[0, 1], [1, 1]])
    pixels.add(nn.functional.one_hot(said, 3).permute(2, 0, 1)[None].float(), masks)
    assert pixels.score()[0] == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_losses_are_torchs():
    rng = torch.Generator().manual_seed(0)
    outputs = torch.randn(4, 3, generator=rng)
    classes = torch.tensor([0, 2, 1, 1])
    loss = objective("classification", 3).loss(outputs, nn.functional.one_hot(classes, 3).float(), smoothing=0.1)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(outputs, classes, label_smoothing=0.1))
    dense = torch.randn(2, 3, 4, 4, generator=rng)
    masks = torch.randint(-1, 3, (2, 4, 4), generator=rng).to(torch.int16)
    expected = nn.functional.cross_entropy(dense, masks.long(), ignore_index=-1)
    torch.testing.assert_close(objective("segmentation", 3).loss(dense, masks), expected)
    assert objective("segmentation", 3).loss(dense, torch.full_like(masks, -1)) == 0
