"""What a sample's nearest training samples say of it, for many draws at once.

Each neighbour's word weighs ``exp(similarity / 0.07)``, as in DINO, SSL4Eco and Galileo.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.probing.neighbours import Precision, nearest
from training.probing.stacks import parts, stacked

if TYPE_CHECKING:
    from training.resampling import Draw

__all__ = ["TEMPERATURE", "votes"]

TEMPERATURE = 0.07
FEW = 4096  # training samples up to which the similarities of several draws are one product
NUMBERS = 1 << 25  # similarities in memory at once


def votes(
    features_ND: Tensor, targets_NK: Tensor, draws: Sequence[Draw], *, k: int, precision: Precision
) -> Iterator[tuple[int, Tensor]]:
    """Means (M, K) of the targets of each test sample's ``k`` nearest training samples, for each draw by its position.

    Args:
        features_ND: embeddings, float32.
        targets_NK: one-hot classes, labels, or values.
        draws: training and test samples; with fewer than ``k`` training samples all of them are asked.
        k: neighbours.
        precision: see :func:`training.probing.neighbours.nearest`.
    """
    few = [i for i, draw in enumerate(draws) if len(draw.learnt) <= FEW]
    for same in _same_test([draws[i].test for i in few]):
        members = [few[j] for j in same]
        for part in parts(
            [len(draws[i].learnt) for i in members], cost=lambda n: n * features_ND.shape[1], budget=NUMBERS
        ):
            yield from _together(features_ND, targets_NK, draws, [members[j] for j in part], k=k)
    for i in sorted(set(range(len(draws))) - set(few)):
        train = torch.from_numpy(draws[i].learnt).to(features_ND.device)
        rows_Mk, similarity_Mk = nearest(
            features_ND[draws[i].test], features_ND[train], k=min(k, len(train)), precision=precision
        )
        yield i, _mean(similarity_Mk[:, None], targets_NK[train[rows_Mk]][:, None])[:, 0]


def _together(
    features_ND: Tensor, targets_NK: Tensor, draws: Sequence[Draw], members: list[int], *, k: int
) -> Iterator[tuple[int, Tensor]]:
    stack = stacked([draws[i].learnt for i in members], dtype=features_ND.dtype, device=features_ND.device)
    draws_S, longest = stack.rows_SN.shape
    reference_CD = functional.normalize(features_ND[stack.rows_SN.flatten()], dim=1)
    padding_SN = torch.where(stack.real_SN > 0, 0.0, -torch.inf)
    test = torch.from_numpy(draws[members[0]].test).to(features_ND.device)
    found = []
    for block in torch.split(test, max(1, NUMBERS // max(1, len(reference_CD)))):
        similarity_MC = functional.normalize(features_ND[block], dim=1) @ reference_CD.T
        best = (similarity_MC.view(len(block), draws_S, longest) + padding_SN).topk(min(k, longest), dim=2)
        rows_MSk = stack.rows_SN.expand(len(block), -1, -1).gather(2, best.indices)
        found.append(_mean(best.values, targets_NK[rows_MSk]))
    means_MSK = torch.cat(found) if found else targets_NK.new_zeros(0, draws_S, targets_NK.shape[1])
    for s, i in enumerate(members):
        yield i, means_MSK[:, s]


def _mean(similarity_MSk: Tensor, targets_MSkK: Tensor) -> Tensor:
    weights_MSk = torch.exp((similarity_MSk - similarity_MSk[..., :1]) / TEMPERATURE)  # relative to the nearest
    sums_MSK = (weights_MSk[..., None].to(targets_MSkK.dtype) * targets_MSkK).sum(dim=2)
    return sums_MSK / weights_MSk.sum(dim=2)[..., None]


def _same_test(tests: Sequence[np.ndarray]) -> list[list[int]]:
    """Positions of draws that are tested on the same samples."""
    groups: dict[bytes, list[int]] = {}
    for i, test in enumerate(tests):
        groups.setdefault(np.ascontiguousarray(test).tobytes(), []).append(i)
    return list(groups.values())
