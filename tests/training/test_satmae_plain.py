"""SatMAE's loss by a plain program of numpy, in double precision, that shares nothing with the model but its weights."""

import math

import numpy as np
import pytest
import torch

from training.models.satmae import SatMAE, SatMAEConfig

SIDE, PATCH = 4, 2  # places along an image, pixels along a place
BANDS = ("a", "b", "c", "d", "e")
GROUPS = (("a", "d"), ("b", "c", "e"))
WIDTH, HEADS, CODE = 24, 3, 8
DECODER_WIDTH, DECODER_HEADS, DECODER_CODE = 16, 2, 4
VISIBLE = 8


def sines(position, length):
    rates = [10000 ** (-k / (length / 2)) for k in range(length // 2)]
    return [math.sin(position * rate) for rate in rates] + [math.cos(position * rate) for rate in rates]


def code(place, group, *, width, group_width):
    """Column, row and group; the class token is at no place."""
    half = (width - group_width) // 2
    where = [0.0] * (2 * half) if place is None else sines(place % SIDE, half) + sines(place // SIDE, half)
    return np.array(where + sines(group, group_width))


def normed(x, weights, name):
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def block(x, weights, name, *, heads):
    queries, keys, values = np.split(
        linear(normed(x, weights, f"{name}.norm1"), weights, f"{name}.attn.qkv"), 3, axis=1
    )
    size, mixed = x.shape[1] // heads, np.zeros_like(x)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        scores = np.exp(queries[:, own] @ keys[:, own].T / math.sqrt(size))
        mixed[:, own] = scores / scores.sum(1, keepdims=True) @ values[:, own]
    x = x + linear(mixed, weights, f"{name}.attn.proj")
    hidden = linear(normed(x, weights, f"{name}.norm2"), weights, f"{name}.mlp.fc1")
    hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
    return x + linear(hidden, weights, f"{name}.mlp.fc2")


def pixels(image, place, band):
    top, left = place // SIDE * PATCH, place % SIDE * PATCH
    return image[BANDS.index(band), top : top + PATCH, left : left + PATCH].ravel()


def plain_loss(weights, image, noise, *, norm_pix_loss, released):
    tokens = [(group, place) for group in range(len(GROUPS)) for place in range(SIDE**2)]
    kept = sorted(range(len(tokens)), key=lambda number: noise[number])[:VISIBLE]
    seen = [weights["cls_token"].ravel()]
    for group, place in (tokens[number] for number in kept):
        patch = np.concatenate([pixels(image, place, band) for band in GROUPS[group]])
        kernel = weights[f"patch_embed.{group}.proj.weight"].reshape(WIDTH, -1)
        embedded = kernel @ patch + weights[f"patch_embed.{group}.proj.bias"]
        seen.append(embedded + code(place, group, width=WIDTH, group_width=CODE))
    x = np.stack(seen)
    for number in range(2):
        x = block(x, weights, f"blocks.{number}", heads=HEADS)
    x = linear(normed(x, weights, "norm"), weights, "decoder_embed")
    full = np.tile(weights["mask_token"].reshape(1, -1), (1 + len(tokens), 1))
    full[0] = x[0] + code(None, len(GROUPS), width=DECODER_WIDTH, group_width=DECODER_CODE)
    for number, latent in zip(kept, x[1:], strict=True):
        full[1 + number] = latent
    for number, (group, place) in enumerate(tokens):
        full[1 + number] += code(place, group, width=DECODER_WIDTH, group_width=DECODER_CODE)
    x = normed(block(full, weights, "decoder_blocks.0", heads=DECODER_HEADS), weights, "decoder_norm")
    errors = []
    for number in set(range(len(tokens))) - set(kept):
        group, place = tokens[number]
        whole = np.concatenate([pixels(image, place, band) for band in BANDS])
        mean, spread = (whole.mean(), math.sqrt(whole.var(ddof=1) + 1e-6)) if norm_pix_loss else (0.0, 1.0)
        joined = [
            part
            for head in range(len(GROUPS))
            for part in linear(x[1 + head * SIDE**2 + place][None], weights, f"decoder_pred.{head}").reshape(
                -1, PATCH**2
            )
        ]
        in_order = BANDS if released else [band for bands in GROUPS for band in bands]
        guesses = dict(zip(in_order, joined, strict=True))
        wrong = [np.mean((guesses[b] - (pixels(image, place, b) - mean) / spread) ** 2) for b in GROUPS[group]]
        errors.append(np.mean(wrong))
    return float(np.mean(errors))


@pytest.mark.parametrize("norm_pix_loss", [False, True])
@pytest.mark.parametrize("head_order", ["band", "released"])
def test_the_loss_is_that_of_a_plain_program(norm_pix_loss, head_order):
    torch.manual_seed(1)
    model = SatMAE(
        SatMAEConfig(
            image_size=SIDE * PATCH, patch_size=PATCH, bands=BANDS, groups=GROUPS, dim=WIDTH, depth=2, heads=HEADS,
            group_dim=CODE, decoder_dim=DECODER_WIDTH, decoder_depth=1, decoder_heads=DECODER_HEADS,
            decoder_group_dim=DECODER_CODE, norm_pix_loss=norm_pix_loss, head_order=head_order,
        )
    )  # fmt: skip
    for parameter in model.parameters():  # biases and norms too: at their start they hide what is done with them
        parameter.data += 0.2 * torch.randn_like(parameter)
    x, noise = torch.rand(3, len(BANDS), SIDE * PATCH, SIDE * PATCH), torch.rand(3, 2 * SIDE**2)
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    expected = [
        plain_loss(weights, one, own, norm_pix_loss=norm_pix_loss, released=head_order == "released")
        for one, own in zip(x.double().numpy(), noise.numpy(), strict=True)
    ]
    with torch.no_grad():
        got = model.sample_losses(x, noise)
    np.testing.assert_allclose(got.numpy(), expected, rtol=2e-5)
