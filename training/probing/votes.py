"""What a sample's nearest training samples say of it, for many draws at once.

Each neighbour's word weighs ``exp(similarity / 0.07)``, as in DINO, SSL4Eco and Galileo.
"""

from __future__ import annotations

import math
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

__all__ = ["TEMPERATURE", "votes", "votes_of_many"]

TEMPERATURE = 0.07
FEW = 4096  # training samples up to which the similarities of several draws are one product
NUMBERS = 1 << 25  # similarities in memory at once
SHARED = 0.5  # of all training samples: draws of as many share a search
SPARE = 2  # times as many neighbours are searched for among all as a draw of average luck needs


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


def votes_of_many(
    queries_MD: Tensor,
    features_ND: Tensor,
    targets_NK: Tensor,
    rows: Sequence[np.ndarray],
    *,
    ks: Sequence[int],
    precision: Precision,
) -> list[list[Tensor]]:
    """Means (M, K) of the targets of each query's nearest training samples, for each draw and each number of neighbours.

    What :func:`votes` gives of large draws, of which most share most of their samples: all samples are searched once.

    Args:
        queries_MD: embeddings to be told of, float32.
        features_ND: embeddings of all training samples.
        targets_NK: one-hot classes, labels, or values.
        rows: training samples of each draw, ascending.
        ks: numbers of neighbours; with fewer training samples all of them are asked.
        precision: see :func:`training.probing.neighbours.nearest`.
    """
    told = []
    for i, (rows_Mk, similarity_Mk) in enumerate(
        nearest_of_each(queries_MD, features_ND, rows, k=max(ks), precision=precision)
    ):
        targets_MkK = targets_NK[rows_Mk]
        most = [min(k, len(rows[i])) for k in ks]
        told.append([_mean(similarity_Mk[:, None, :k], targets_MkK[:, None, :k])[:, 0] for k in most])
    return told


def nearest_of_each(
    queries_MD: Tensor, features_ND: Tensor, rows: Sequence[np.ndarray], *, k: int, precision: Precision
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows (M, k) of the nearest training samples of each draw, best first, and their similarities."""
    every = np.unique(np.concatenate(rows))
    shares = [len(each) / len(every) for each in rows]
    together = [i for i, share in enumerate(shares) if share >= SHARED]
    found = None
    if len(together) > 1:
        most = min(len(every), math.ceil(SPARE * k / min(shares[i] for i in together)) if min(shares) < 1 else k)
        places, similarity = nearest(queries_MD, features_ND[every], k=most, precision=precision)
        found = torch.from_numpy(every).to(places.device)[places], similarity
    for each, share in zip(rows, shares, strict=True):
        asked = min(k, len(each))
        if found is None or share < SHARED:
            yield _nearest_among(queries_MD, features_ND, each, k=asked, precision=precision)
            continue
        member_N = torch.zeros(len(features_ND), dtype=torch.bool)
        member_N[torch.from_numpy(each)] = True
        member_Mn = member_N.to(found[0].device)[found[0]]
        # of what was found, the members first, in their order
        first_Mk = member_Mn.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :asked]
        rows_Mk, similarity_Mk = found[0].gather(1, first_Mk), found[1].gather(1, first_Mk)
        short = (member_Mn.sum(dim=1) < asked).nonzero()[:, 0]
        if len(short):
            rows_Mk[short], similarity_Mk[short] = _nearest_among(
                queries_MD[short], features_ND, each, k=asked, precision=precision
            )
        yield rows_Mk, similarity_Mk


def _nearest_among(
    queries_MD: Tensor, features_ND: Tensor, rows_n: np.ndarray, *, k: int, precision: Precision
) -> tuple[Tensor, Tensor]:
    places_Mk, similarity_Mk = nearest(queries_MD, features_ND[rows_n], k=k, precision=precision)
    return torch.from_numpy(rows_n).to(places_Mk.device)[places_Mk], similarity_Mk


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
