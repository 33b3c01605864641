import math
import shutil

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pwcat.errors import TrainingError
from training.batch import Batch
from training.chance import Chance
from training.flops import training_flops
from training.models import ARCHITECTURES, build_model, config_faults, config_of
from training.models.blocks import Attention, grid_code, line_code
from training.models.satmae import SatMAE, SatMAEConfig

SMALL = {"image_size": 32, "patch_size": 8}


def small(**changes):
    torch.manual_seed(0)
    return SatMAE.tiny(**{**SMALL, **changes})


def images(count=4, size=32, seed=0):
    return torch.rand(count, 10, size, size, generator=torch.Generator().manual_seed(seed))


def noise(x, model, seed=0):
    return Chance(seed, total=len(x)).uniform(model.config.num_tokens)


def loss_of(model, x, seed=0):
    return model(x, noise(x, model, seed))


def group_indices(config):
    """Indices of each group's bands."""
    return [[config.bands.index(band) for band in group] for group in config.groups]


def counted(run):
    """Operations by torch; fused attention would count what it does twice."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.fixture(scope="module")
def base():
    return SatMAE(SatMAEConfig())


def test_base_has_the_weights_of_the_released_one(base):
    state = base.state_dict()
    assert len(state) == 264
    assert sum(tensor.numel() for tensor in state.values()) == 111_624_448
    assert sum(p.numel() for p in base.parameters() if p.requires_grad) == 111_493_248
    encoder = [name for name in state if not name.startswith(("decoder", "mask_token"))]
    assert sum(state[name].numel() for name in encoder) == 85_625_600


def test_large_has_329_million_weights():
    with torch.device("meta"):
        large = SatMAE.large()
    assert (large.config.dim, large.config.depth, large.config.heads) == (1024, 24, 16)
    assert len(large.state_dict()) == 264 + 12 * 12
    assert sum(tensor.numel() for tensor in large.state_dict().values()) == 329_212_928
    assert sum(p.numel() for p in large.parameters()) == 329_044_608


def test_base_sees_109_of_its_433_tokens(base):
    assert base.config.num_tokens == 432
    seen = []
    for blocks in (base.blocks, base.decoder_blocks):
        hook = blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
        base.eval().sample_losses(images(1, 96), torch.rand(1, 432))
        hook.remove()
    assert seen == [1 + 108, 1 + 432]


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 20, "patch_size": 5},
        {"image_size": 32, "patch_size": 32},
        {"bands": ("B04", "B03", "B08"), "groups": (("B08",), ("B03", "B04"))},
        {"bands": ("VV", "VH"), "groups": (("VH", "VV"),), "head_order": "released"},
    ],
)
def test_any_patch_size_and_band_groups_train(changes):
    model = small(**changes)
    size = model.config.image_size
    x = torch.rand(3, len(model.bands), size, size)
    loss = loss_of(model, x)
    loss.backward()
    assert torch.isfinite(loss)
    assert model.encode_images(x).shape == (3, 96)
    assert counted(lambda: loss_of(model, x).backward()) == 3 * model.flops_per_sample()


@pytest.mark.parametrize(("group", "bands", "outputs"), [(0, 4, 256), (1, 4, 256), (2, 2, 128)])
def test_base_has_the_released_names_and_shapes(base, group, bands, outputs):
    state = base.state_dict()
    assert state[f"patch_embed.{group}.proj.weight"].shape == (768, bands, 8, 8)
    assert state[f"decoder_pred.{group}.weight"].shape == (outputs, 512)
    for name in ("attn.qkv.weight", "attn.proj.bias", "norm1.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc2.bias"):
        assert f"blocks.11.{name}" in state
        assert f"decoder_blocks.7.{name}" in state


@pytest.mark.parametrize(
    ("name", "shape", "total", "norm"),
    [
        ("pos_embed", (1, 145, 512), 34653.1647, 192.0),
        ("channel_embed", (1, 3, 256), 404.2655, 19.5959),
        ("decoder_pos_embed", (1, 145, 384), 25953.4559, math.sqrt(144 * 384 / 2)),
        ("decoder_channel_embed", (1, 4, 128), 267.1394, 16.0),
    ],
)
def test_fixed_codes_are_the_released_ones(base, name, shape, total, norm):
    code = base.state_dict()[name].double()
    assert code.shape == shape
    assert code.sum().item() == pytest.approx(total, abs=1e-3)
    assert code.norm().item() == pytest.approx(norm, abs=1e-4)


def test_grid_code_tells_the_column_first():
    code = grid_code(3, dim=8)
    assert not code[0].any()
    np.testing.assert_array_equal(code[1 + 3 * 2 + 1, :4], line_code(np.array([1]), dim=4)[0])  # row 2, column 1
    np.testing.assert_array_equal(code[1 + 3 * 2 + 1, 4:], line_code(np.array([2]), dim=4)[0])


def test_attention_equals_plain_products():
    torch.manual_seed(0)
    attention, x = Attention(12, heads=3), torch.randn(2, 5, 12)
    q, k, v = (part.view(2, 5, 3, 4).transpose(1, 2) for part in attention.qkv(x).chunk(3, dim=-1))
    weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(4), dim=-1)
    expected = attention.proj((weights @ v).transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.9])
def test_mask_hides_exactly_its_share_of_every_image(ratio):
    model = small(mask_ratio=ratio)
    _, mask = model.reconstruct(images(), noise(images(), model))
    assert mask.shape == (4, 3, 16)
    visible = int(48 * (1 - ratio))
    assert (mask.sum(dim=(1, 2)) == 48 - visible).all()
    assert len({tuple(row.flatten().tolist()) for row in mask}) == 4


def test_masks_come_from_chance_alone():
    model = small()
    drawn = [loss_of(model, images(), seed=7).item() for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert loss_of(model, images(), seed=8).item() != drawn[0]


def slow_loss(model, x, pred, mask):
    """The definition, patch by patch."""
    c, p = model.config, model.config.patch_size
    total, hidden = 0.0, 0
    for b in range(len(x)):
        for place in range(c.num_patches):
            row, column = divmod(place, c.grid_side)
            patch = x[b, :, row * p : (row + 1) * p, column * p : (column + 1) * p]
            if c.norm_pix_loss:
                patch = (patch - patch.mean()) / torch.sqrt(patch.var() + 1e-6)
            for g, bands in enumerate(group_indices(c)):
                if mask[b, g, place]:
                    errors = [((pred[b, band, place] - patch[band].flatten()) ** 2).mean() for band in bands]
                    total, hidden = total + sum(errors) / len(errors), hidden + 1
    return total / hidden


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_loss_is_the_mean_over_hidden_tokens(norm_pix_loss):
    model, x = small(norm_pix_loss=norm_pix_loss), images(2)
    loss, (pred, mask) = loss_of(model, x), model.reconstruct(x, noise(x, model))
    assert pred.shape == (2, 10, 16, 64)
    assert loss.item() == pytest.approx(slow_loss(model, x, pred, mask).item(), rel=1e-5)


@pytest.mark.parametrize(("norm_pix_loss", "expected"), [(False, 0.443611), (True, 1.132893)])
def test_loss_by_hand(norm_pix_loss, expected):
    """Band b is b / 10 everywhere and zeros are predicted; 4 tokens of the first group are hidden, and all 16 of the others.

    Plain, a token's loss is the mean of its bands' squares: .1025, .2475 and .725 for B02 to B04 and B08, B05 to B8A, B11 and
    B12; (4 x .1025 + 16 x .2475 + 16 x .725) / 36 = .443611. Standardised, the mean of all is .45 and the variance of 640
    values 64 x .825 / 639: (4 x .1025 + 16 x .0225 + 16 x .1625) / 36 over that (and 1e-6) = 1.132893.
    """
    model = small(norm_pix_loss=norm_pix_loss)
    for head in model.decoder_pred:
        torch.nn.init.zeros_(head.weight)
    x = (torch.arange(10) / 10).view(1, 10, 1, 1).expand(1, 10, 32, 32)
    order = torch.arange(48.0).view(1, 48)  # the first 12 stay visible
    assert model(x, order).item() == pytest.approx(expected, abs=2e-6)


def test_each_head_predicts_the_bands_of_its_own_group():
    model, tokens = small(), torch.randn(1, 48, 64)
    for g, own in enumerate(model._heads(tokens)):
        expected = model.decoder_pred[g](tokens.view(1, 3, 16, 64)[:, g])
        torch.testing.assert_close(own.flatten(2), expected)


def test_released_head_order_joins_heads_group_by_group():
    model, tokens = small(head_order="released"), torch.randn(1, 48, 64)
    pred, grouped = model._heads(tokens), tokens.view(1, 3, 16, 64)
    first, second = (model.decoder_pred[g](grouped[:, g]).view(1, 16, 4, 64) for g in (0, 1))
    torch.testing.assert_close(pred[1][:, :, 0], first[:, :, 3])  # B05, from the fourth output of the first head
    torch.testing.assert_close(pred[0][:, :, 3], second[:, :, 2])  # B08, from the third of the second


def test_reconstruction_has_the_bands_in_their_order():
    model, x = small(), images(1)
    c = model.config
    patches = torch.cat(model._split(model.patches(x)), dim=2)
    pred, mask = model.reconstruct(x, noise(x, model))
    assert pred.shape == (1, 10, 16, 64)
    heads = model._predict(patches, model.mask(noise(x, model))[0])
    for g, bands in enumerate(group_indices(c)):
        for position, band in enumerate(bands):
            torch.testing.assert_close(pred[:, band], heads[g][:, :, position])
            place = patches[0, 5, sum(len(own) for own in c.groups[:g]) + position]  # row 1, column 1 of 4 x 4
            torch.testing.assert_close(place.view(8, 8), x[0, band, 8:16, 8:16])
    assert mask.shape == (1, 3, 16)


def test_tokens_are_those_of_a_convolution(base):
    x = images(2, 96)
    tokens = base.tokens(base.patches(x)).unflatten(1, (3, 144))
    codes = base.tokens(base.patches(torch.zeros_like(x))).unflatten(1, (3, 144))
    for g, bands in enumerate(group_indices(base.config)):
        proj = base.patch_embed[g].proj
        expected = proj(x[:, bands]).flatten(2).transpose(1, 2) - proj.bias
        torch.testing.assert_close(tokens[:, g] - codes[:, g], expected, atol=1e-5, rtol=1e-4)


def test_decoder_sees_visible_tokens_where_they_belong():
    model, x = small(), images(1)
    keep, mask = model.mask(noise(x, model))
    tokens = model.tokens(model.patches(x))
    latent = model._encode(tokens[:, keep[0]])
    seen = []
    model.decoder_blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model._decode(latent, keep)
    bare = (seen[0] - model._decoder_code())[0, 1:]
    embedded = model.decoder_embed(latent)[0, 1:]
    torch.testing.assert_close(bare[keep[0]], embedded, atol=1e-5, rtol=1e-4)
    hidden = bare[mask[0].bool()]
    torch.testing.assert_close(hidden, model.mask_token[0].expand_as(hidden), atol=1e-5, rtol=1e-4)


def test_gradient_reaches_every_weight_and_no_fixed_code():
    model = small()
    loss_of(model, images(8)).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    codes = {"pos_embed", "channel_embed", "decoder_pos_embed", "decoder_channel_embed"}
    assert codes == set(model.state_dict()) - set(dict(model.named_parameters()))
    assert not any(model.get_buffer(name).requires_grad for name in codes)


def test_same_seed_same_loss_and_gradient():
    models = [small(), small()]
    losses = [loss_of(model, images()) for model in models]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == losses[1].item()
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs)


@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="torch.compile needs a C++ compiler on a CPU"
)
def test_compiled_loss_and_gradient_are_the_uncompiled_ones():
    options = {"depth": 1, "dim": 32, "heads": 2, "group_dim": 8, "decoder_dim": 32, "image_size": 16}
    model = small(**options, head_order="released")
    x = images(2, 16)
    plain = loss_of(model, x)
    plain.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.manual_seed(0)
    compiled = torch.compile(model, dynamic=False)(x, noise(x, model))
    compiled.backward()
    torch.testing.assert_close(compiled, plain, rtol=1e-5, atol=1e-6)
    for p, wanted in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, wanted, rtol=1e-4, atol=1e-6)


def test_one_batch_is_overfitted():
    model, x = small(), images(4) * 0.2 + torch.linspace(0, 0.8, 10).view(1, 10, 1, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        loss = loss_of(model, x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_encode_is_the_mean_of_all_patch_tokens():
    model, x = small().eval(), images(3)
    embedding = model.encode_images(x)
    assert embedding.shape == (3, 96)
    torch.testing.assert_close(embedding, model._encode(model.tokens(model.patches(x)))[:, 1:].mean(1))


def test_dense_embeddings_are_those_of_the_patches_and_their_mean_is_the_embedding(made_up):
    """Channel groups and places would be mixed up by another order of axes: a patch moved must move its embedding alone."""
    model = small().eval()
    model.normalization = made_up(model.bands)
    chips = torch.randint(1, 4000, (3, 10, 32, 32), generator=torch.Generator().manual_seed(1)).to(torch.uint16)
    batch = Batch.of_chips(chips, bands=model.bands)
    dense = model.encode_dense(batch)
    assert dense.shape == (3, 4, 4, 96)
    assert dense.dtype == torch.float32
    torch.testing.assert_close(dense.mean(dim=(1, 2)), model.encode(batch))
    tokens = model._encode(model.tokens(model.patches(model.scale(chips))))[:, 1:]
    for group in (0, 16, 32):  # row 2, column 3 of each group
        tokens[:, group + 11] += 1.0
    expected = torch.stack([tokens[:, g * 16 : (g + 1) * 16] for g in range(3)]).mean(dim=0).view(3, 4, 4, 96)
    moved = (expected - dense).abs().amax(dim=(0, 3))
    assert moved.argmax() == 2 * 4 + 3
    assert (moved > 1e-4).sum() == 1


def test_larger_chips_are_cut_to_their_middle_for_dense_embeddings(made_up):
    model = small().eval()
    model.normalization = made_up(model.bands)
    chips = torch.randint(1, 4000, (2, 10, 40, 40)).to(torch.uint16)
    whole, middle = (Batch.of_chips(part, bands=model.bands) for part in (chips, chips[..., 4:36, 4:36]))
    assert torch.equal(model.encode_dense(whole), model.encode_dense(middle))


def test_gradients_of_embeddings_reach_the_whole_encoder(made_up):
    for encode in ("encode", "encode_dense"):
        model = small()
        model.normalization = made_up(model.bands)
        batch = Batch.of_chips(torch.randint(1, 4000, (2, 10, 32, 32)).to(torch.uint16), bands=model.bands)
        getattr(model, encode)(batch).square().sum().backward()
        without = {name for name, p in model.named_parameters() if p.grad is None}
        assert without == {name for name, _ in model.named_parameters() if name.startswith(("decoder", "mask_token"))}


def test_embed_without_normalisation_is_refused():
    with pytest.raises(TrainingError, match="no normalisation"):
        small().embed(torch.zeros(1, 10, 32, 32))


def test_config_lists_every_fault():
    with pytest.raises(TrainingError, match=r"patch_size 7.*heads 5 must divide.*mask_ratio 1\.5"):
        SatMAEConfig(patch_size=7, heads=5, mask_ratio=1.5)
    with pytest.raises(TrainingError, match="exactly once"):
        SatMAEConfig(groups=(("B02", "B03"), ("B03",)))


def test_registry_builds_the_same_model_from_its_config():
    model = small(mask_ratio=0.6)
    again = build_model("satmae", config_of(model))
    assert again.config == model.config
    assert config_faults("satmae", {"depth": "deep", "colour": 1})[0].startswith("depth")
    with pytest.raises(TrainingError, match=r"'resnet' is unknown.*satmae"):
        build_model("resnet")
    assert "satmae" in ARCHITECTURES


def test_embed_refuses_chips_of_other_bands_or_size():
    model = SatMAE.tiny()
    model.normalization = object()  # never reached
    chips = torch.zeros(1, len(model.config.bands) + 2, 96, 96, dtype=torch.uint16)
    with pytest.raises(
        TrainingError, match=r"this model takes chips of \(band, y, x\) \(10, 96, 96\).*got \(12, 96, 96\)"
    ):
        model.embed(chips)


def test_embed_refuses_numbers_with_fractions(made_up):
    """Reflectance is scaled as if it were digital numbers: all chips would be the same black."""
    model = small()
    model.normalization = made_up(model.bands)
    chips = torch.full((1, 10, 32, 32), 0.2)
    with pytest.raises(TrainingError, match=r"digital numbers \(uint16\).*float32.*times 10,000"):
        model.embed(chips)


def test_no_images_have_no_embeddings(made_up):
    model = small()
    model.normalization = made_up(model.bands)
    assert model.embed(torch.zeros(0, 10, 32, 32, dtype=torch.uint16)).shape == (0, model.embedding_dim)


def test_the_encoder_alone_gives_the_same_embeddings():
    model = small().eval()
    whole = model.encode_images(images())
    encoder = model.encoder_only()
    assert torch.equal(encoder.encode_images(images()), whole)
    assert not [name for name in encoder.state_dict() if name.startswith(("decoder", "mask_token"))]
    encoder.encode_images(images()).square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_operations_of_encoding_are_those_that_torch_counts():
    model = small().eval().encoder_only()
    forward, first = model.encoding_flops()
    assert counted(lambda: model.encode_images(images(2)).sum().backward()) == 2 * training_flops(forward, first=first)


@pytest.mark.parametrize(
    ("preset", "changes", "giga"),
    [("base", {}, 132.3), ("large", {}, 276.6), ("base", {"decoder_depth": 2}, 76.3), ("tiny", {}, 0.2)],
)
def test_operations_of_a_training_sample_are_those_that_torch_counts(preset, changes, giga):
    with torch.device("meta"):  # shapes alone, so that the whole model is quick
        model = getattr(SatMAE, preset)(**changes)
        x, drawn = torch.rand(2, 10, 96, 96), torch.rand(2, model.config.num_tokens)
    assert counted(lambda: model(x, drawn).backward()) == 2 * model.flops_per_sample()
    assert model.flops_per_sample() / 1e9 == pytest.approx(giga, abs=0.05)
