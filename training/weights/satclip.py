"""Weights of SatCLIP's location encoder, as Klemmer et al. (2023) release them.

A checkpoint of theirs is Lightning's: ``state_dict``, whose names begin with ``model.``, and ``hyper_parameters`` among
others. The location network is in it twice, as ``location.nnet`` and as ``nnet``; the image towers, ResNets and a ViT of
other packages, are not among ours and are left out: what SatCLIP is used for is the location encoder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pwcat.errors import TrainingError
from training.weights.converted import Converted
from training.weights.reading import tensors_of

__all__ = ["convert"]

NET = "location.nnet."
COPY = "nnet."  # the same network again
SCALE = "logit_scale"
# What the hyper-parameters must say where they say it: another basis or network has other embeddings of the same weights.
KNOWN = {"le_type": "sphericalharmonics", "pe_type": "siren", "harmonics_calculation": "analytic"}


def convert(checkpoint: Mapping[str, Any]) -> Converted:
    """A checkpoint as config and state dict of a location encoder.

    Raises:
        TrainingError: it holds no location encoder, one of another basis or network, or two that differ.
    """
    weights = tensors_of(checkpoint)
    _require_known(checkpoint.get("hyper_parameters"))
    net = _network(weights)
    config = _shape(net)
    scale = weights.get(SCALE, torch.tensor(math.log(1 / 0.07)))
    state = {f"{NET}{name}": tensor.double() for name, tensor in net.items()} | {SCALE: scale.float().reshape(())}
    return Converted(config, state, None, _notes(weights))


def _require_known(options: Any) -> None:
    told = options if isinstance(options, Mapping) else {}
    if faults := [
        f"{key} {told[key]!r}, not {value!r}" for key, value in KNOWN.items() if told.get(key, value) != value
    ]:
        raise TrainingError(
            "only location encoders of spherical harmonics by their analytic form and a SIREN can be imported; this one has "
            + "; ".join(faults)
        )


def _network(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The location network's tensors by their names in it, from either copy."""
    copies = [
        {name.removeprefix(start): tensor for name, tensor in weights.items() if name.startswith(start)}
        for start in (NET, COPY)
    ]
    first, second = copies
    if not (first or second):
        raise TrainingError(
            f"these weights have no location encoder: no name begins with {NET} or {COPY}; the first are "
            + ", ".join(list(weights)[:5])
        )
    differing = [name for name in first if name in second and not torch.equal(first[name], second[name])]
    if differing:
        raise TrainingError(
            f"the two copies of the location network differ in {', '.join(differing)}: which one is meant?"
        )
    return first or second


def _shape(net: Mapping[str, Tensor]) -> dict[str, Any]:
    layers = 1 + max((int(m.group(1)) for name in net if (m := re.match(r"layers\.(\d+)\.", name))), default=-1)
    if not layers or "last_layer.weight" not in net:
        raise TrainingError(f"the location network is no SIREN as released: it has {', '.join(net)}")
    hidden, width = net["layers.0.weight"].shape
    degrees = math.isqrt(width)
    if degrees**2 != width:
        raise TrainingError(
            f"the location network takes {width} inputs, which are no harmonics of whole degrees (L * L of them)"
        )
    return {"degrees": degrees, "hidden": hidden, "layers": layers, "dim": net["last_layer.weight"].shape[0]}


def _notes(weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    tower = sum(tensor.numel() for name, tensor in weights.items() if not name.startswith((NET, COPY, SCALE)))
    left_out = (f"The image tower ({tower:,} values) is not among ours and was left out: places alone can be encoded",)
    return (
        "Near the poles, degrees above 30 differ from the released code by up to its rounding: about a thousandth there",
        *(left_out if tower else ()),
    )
