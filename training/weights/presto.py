"""Weights of Presto as Tseng et al. (2023) release them: a plain state dict, whose names are those of ours.

Widths and depths are read from the tensors. Heads cannot be; the released model has 8 in both parts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pwcat.errors import TrainingError
from training.models.presto_network import MAX_STEPS, month_code, position_code
from training.weights.converted import Converted
from training.weights.reading import rounding, tensors_of

__all__ = ["convert"]

HEADS = 8  # Source: config/default.json of the released code
CODES_TOLERANCE = 1e-5  # codes are made in float64 and kept in float32
NOTES = (
    "Radar of the pretraining is sigma nought of Google Earth Engine, heights are those of SRTM, Sentinel-2 is Level-1C",
    "Pretrained on series of 12 months; --set months=N for others, up to 24",
)


def convert(checkpoint: Mapping[str, Any]) -> Converted:
    """A state dict of Presto as config and state dict; it needs no normalisation.

    Raises:
        TrainingError: it lacks a part of Presto, or its codes of months and positions are not the fixed ones.
    """
    weights = tensors_of(checkpoint)
    needed = ("encoder.pos_embed", "decoder.pos_embed", "encoder.blocks.0.mlp.fc1.weight", "decoder.mask_token")
    if missing := [name for name in needed if name not in weights]:
        raise TrainingError(
            f"these weights are no whole Presto: {', '.join(missing)} missing. Encoders alone, as finetuned models keep "
            "them, cannot be imported"
        )
    weights |= _codes(weights)
    hidden, dim = weights["encoder.blocks.0.mlp.fc1.weight"].shape
    config = {
        "dim": dim,
        "depth": _depth(weights, "encoder.blocks"),
        "heads": HEADS,
        "mlp_ratio": hidden / dim,
        "decoder_dim": len(weights["decoder.mask_token"]),
        "decoder_depth": _depth(weights, "decoder.decoder_blocks"),
        "decoder_heads": HEADS,
    }
    return Converted(config, weights, None, NOTES)


def _depth(weights: Mapping[str, Tensor], blocks: str) -> int:
    return len({found.group(1) for name in weights if (found := re.match(rf"{re.escape(blocks)}\.(\d+)\.", name))})


def _codes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The fixed codes, in full where the file rounds them; those of the file must be these.

    Raises:
        TrainingError: they are others.
    """
    found = {}
    for part in ("encoder", "decoder"):
        place = weights[f"{part}.pos_embed"]
        expected = {f"{part}.pos_embed": position_code(MAX_STEPS, dim=place.shape[-1])[None]}
        if (month := weights.get(f"{part}.month_embed.weight")) is not None:
            expected[f"{part}.month_embed.weight"] = month_code(month.shape[-1])
        for name, code in expected.items():
            theirs, ours = weights[name], torch.from_numpy(code)
            near = max(CODES_TOLERANCE, rounding(theirs))
            if theirs.shape != ours.shape or not bool(((theirs.double() - ours).abs() <= near).all()):
                raise TrainingError(f"{name} is not the fixed code that Presto has: this is another model")
            found[name] = ours.float() if near > CODES_TOLERANCE else theirs
    return found
