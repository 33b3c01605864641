"""Weights of group-channel SatMAE, as SatMAE (Cong et al., 2022) and *Pretrain Where?* (Kaur et al., 2026) release them.

A checkpoint of theirs is a dict of ``model``, ``optimizer``, ``epoch``, ``scaler`` and ``args``, the parsed command line.
Widths, depths, patches and sizes are read from the tensors, bands and the kind of loss from ``args`` where there are any.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pwcat.errors import TrainingError
from training.models.blocks import fixed, grid_code, line_code
from training.normalize import Normalization
from training.weights.converted import Converted
from training.weights.reading import rounding, tensors_of

__all__ = ["convert"]

# Sentinel-2's bands in the order of the released code, with what its preprocessing takes for their mean and standard
# deviation, in reflectance times 10,000. Source: SatMAE, util/datasets.py, SentinelIndividualImageDataset.
STATISTICS = {
    "B01": (1370.19151926, 633.15169573), "B02": (1184.3824625, 650.2842772), "B03": (1120.77120066, 712.12507725),
    "B04": (1136.26026392, 965.23119807), "B05": (1263.73947144, 948.9819932), "B06": (1645.40315151, 1108.06650639),
    "B07": (1846.87040806, 1258.36394548), "B08": (1762.59530783, 1233.1492281), "B8A": (1972.62420416, 1364.38688993),
    "B09": (582.72633433, 472.37967789), "B10": (14.77112979, 14.3114637), "B11": (1732.16362238, 1310.36996126),
    "B12": (1247.91870117, 1087.6020813),
}  # fmt: skip
UNIT = "DN, reflectance*10000"
DROPPED = (0, 9, 10)  # B01, B09, B10: the default of both papers
GROUPS = ((0, 1, 2, 6), (3, 4, 5, 7), (8, 9))
# Heads cannot be read from tensors. Source: models_mae_group_channels.py, base, large and huge; decoders all have 16.
HEADS = {768: 12, 1024: 16, 1280: 16}
DECODER_HEADS = 16
CODES_TOLERANCE = 1e-4  # codes are made in float64 and kept in float32
NOTES = (
    "Normalisation is that of the released preprocessing, measured by its authors on FMoW-Sentinel (Level-1C-like)",
    "Images of Pretrain Where? were normalised before they were released, by numbers that are not known here: if these are its "
    "weights, they may want others",
    "Heads are read in the released order (head_order: released)",
)


def convert(checkpoint: Mapping[str, Any]) -> Converted:
    """A pretraining checkpoint as config, state dict and normalisation.

    Raises:
        TrainingError: it is no group-channel masked autoencoder: finetuned, temporal or of one group; its position codes
            are not the fixed ones; or bands cannot be told.
    """
    weights = tensors_of(checkpoint)
    _require_masked_autoencoder(weights)
    options = _options(checkpoint)
    config = {**_shape(weights), **_bands(weights, options)}
    config["norm_pix_loss"] = bool(options.get("norm_pix_loss", False))
    config["mask_ratio"] = float(options.get("mask_ratio", 0.75))
    config["head_order"] = "released"
    weights |= _codes(weights, config)
    notes: tuple[str, ...] = NOTES
    if options.get("spatial_mask"):
        notes += (
            "It was trained with whole places masked (spatial_mask); pretraining it further masks tokens one by one",
        )
    return Converted(config, weights, _normalization(config["bands"]), notes)


def _require_masked_autoencoder(weights: Mapping[str, Tensor]) -> None:
    if "patch_embed.proj.weight" in weights:
        raise TrainingError(
            "these weights embed all bands together (patch_embed.proj.weight), as the temporal and plain kinds of SatMAE "
            "do; only the group-channel kind can be imported"
        )
    if not any(name.startswith("decoder_blocks.") for name in weights):
        classes = f", a classifier of {len(weights['head.weight'])} classes" if "head.weight" in weights else ""
        raise TrainingError(
            f"these weights have no decoder: they are a finetuned encoder{classes}, whose positions were trained and which "
            "normalises after pooling, so that its embeddings would not be those of a SatMAE. Take the pretraining checkpoint "
            "(pretrain-vit-base-e199.pth, say) that it was finetuned from"
        )


def _options(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    args = checkpoint.get("args")
    if isinstance(args, argparse.Namespace):
        return vars(args)
    return dict(args) if isinstance(args, Mapping) else {}


def _shape(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Sizes of the model, from those of its tensors."""
    dim, _, patch_size, _ = weights["patch_embed.0.proj.weight"].shape
    places = _of(weights, "pos_embed").shape[1] - 1
    decoder_dim = _of(weights, "mask_token").shape[-1]
    return {
        "image_size": math.isqrt(places) * patch_size,
        "patch_size": patch_size,
        "dim": dim,
        "depth": _count(weights, r"blocks\.(\d+)\."),
        "heads": HEADS.get(dim, max(1, dim // 64)),
        "group_dim": _of(weights, "channel_embed").shape[-1],
        "decoder_dim": decoder_dim,
        "decoder_depth": _count(weights, r"decoder_blocks\.(\d+)\."),
        "decoder_heads": DECODER_HEADS,
        "decoder_group_dim": _of(weights, "decoder_channel_embed").shape[-1],
    }


def _bands(weights: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    """Names of bands and groups, from the command line or, without one, from the number of channels of each group."""
    channels = [
        weights[f"patch_embed.{group}.proj.weight"].shape[1]
        for group in range(_count(weights, r"patch_embed\.(\d+)\."))
    ]
    told = {"dropped_bands", "grouped_bands"} & set(options)
    dropped = (options.get("dropped_bands") or ()) if told else DROPPED
    kept = [band for number, band in enumerate(STATISTICS) if number not in dropped]
    groups = [list(group) for group in options.get("grouped_bands") or GROUPS]
    if [len(group) for group in groups] != channels or max(map(max, groups)) >= len(kept):
        raise TrainingError(
            f"groups of {', '.join(map(str, channels))} bands do not fit {'its args' if told else 'the default'}: groups "
            f"{groups} of {', '.join(kept)}. These weights were trained on bands that cannot be told from the file"
        )
    return {"bands": tuple(kept), "groups": tuple(tuple(kept[index] for index in group) for group in groups)}


def _codes(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The fixed codes, in full where the file rounds them.

    Raises:
        TrainingError: positions or groups are coded otherwise: a trained or otherwise ordered code has other values.
    """
    found = {}
    side, groups = config["image_size"] // config["patch_size"], len(config["groups"])
    for part, rows in (("", groups), ("decoder_", groups + 1)):
        group_dim = config[f"{part}group_dim"]
        codes = {
            f"{part}pos_embed": grid_code(side, dim=config[f"{part}dim"] - group_dim),
            f"{part}channel_embed": line_code(np.arange(rows), dim=group_dim),
        }
        for name, code in codes.items():
            theirs, ours = _of(weights, name), fixed(code)
            if theirs.shape != ours.shape:
                raise TrainingError(f"{name} is {tuple(theirs.shape)}, where a SatMAE has {tuple(ours.shape)}")
            if not (off := (theirs.float() - ours).abs().max().item()) <= max(CODES_TOLERANCE, rounding(theirs)):
                raise TrainingError(
                    f"{name} is up to {off:.2g} off the fixed code of SatMAE: it was trained, or has another layout"
                )
            found[name] = ours if rounding(theirs) > CODES_TOLERANCE else theirs
    return found


def _normalization(bands: Sequence[str]) -> Normalization:
    return Normalization(
        bands=tuple(bands),
        unit=UNIT,
        mean=tuple(STATISTICS[band][0] for band in bands),
        std=tuple(STATISTICS[band][1] for band in bands),
        percentiles={},
        num_pixels=(),
        num_samples=0,
        data_hash="FMoW-Sentinel, as released with SatMAE",
    )


def _of(weights: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise TrainingError(f"these weights lack {name}, which every SatMAE has: the file is of something else, or cut")
    return weights[name]


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    found = (re.match(pattern, name) for name in weights)
    return 1 + max((int(match.group(1)) for match in found if match), default=-1)
