"""The probe of nearest neighbours; heads of several draws and numbers of neighbours search once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.probing.given import tensors_of
from training.probing.heads import Head, decode
from training.probing.kinds import EVERY, Kind, Predicted
from training.probing.neighbours import Precision
from training.probing.one_draw import OneDraw
from training.probing.votes import FEW, votes, votes_of_many
from training.resampling import Draw

__all__ = ["KNNProbe", "predict_with_all"]


@dataclass(frozen=True)
class KNNProbe(OneDraw):
    """Vote of the ``k`` nearest training samples by cosine similarity, each vote weighing ``exp(similarity / 0.07)``.

    Of numbers, the mean of the neighbours' with the same weights; a label is predicted where it has over half of the votes.

    Attributes:
        k: neighbours; with fewer training samples all of them vote.
        device: torch device.
        precision: what candidates are found by on a CPU, of more than 4,096 samples; the answer is the same. See
            :func:`training.probing.neighbours.nearest`.
    """

    k: int
    device: str = "cpu"
    precision: Precision = "auto"
    kinds: tuple[Kind, ...] = EVERY

    @property
    def name(self) -> str:
        """``knn-`` and the number of neighbours."""
        return f"knn-{self.k}"

    def fit_predict_many(
        self, features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int
    ) -> list[Predicted]:
        """See :meth:`training.probes.Probe.fit_predict_many`."""
        features, targets = tensors_of(self, features_ND, targets_N, kind, num_classes)
        targets_NK = _voted_on(targets, kind, num_classes)
        predicted: dict[int, Predicted] = {}
        for i, means_MK in votes(features, targets_NK, draws, k=self.k, precision=self.precision):
            predicted[i] = _elected(means_MK, kind, min(self.k, len(draws[i].learnt)))
        return [predicted[i] for i in range(len(draws))]

    def fit_many(
        self, features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int
    ) -> list[Head]:
        """See :meth:`training.probes.Probe.fit_many`: its training samples are kept."""
        known = _Known(features_ND=features_ND, targets_N=targets_N, kind=kind, num_classes=num_classes)
        return [_Neighbours(probe=self, known=known, rows=np.sort(draw.learnt)) for draw in draws]


def _voted_on(targets_N: Tensor, kind: Kind, num_classes: int) -> Tensor:
    """What neighbours are asked for, (N, K)."""
    if kind == "classification":
        return functional.one_hot(targets_N, num_classes).float()
    return targets_N.float() if kind == "multilabel" else targets_N[:, None]


def _elected(means_MK: Tensor, kind: Kind, neighbours: int) -> Predicted:
    return decode(means_MK - 0.5 if kind == "multilabel" else means_MK, kind, {"k": neighbours})


@dataclass(frozen=True, kw_only=True, eq=False)
class _Known:
    """Samples of which draws are made, and what they vote on."""

    features_ND: np.ndarray
    targets_N: np.ndarray
    kind: Kind
    num_classes: int


@dataclass(frozen=True, kw_only=True)
class _Neighbours:
    """The training samples of one draw: rows of what is known."""

    probe: KNNProbe
    known: _Known
    rows: np.ndarray

    @property
    def chosen(self) -> dict[str, Any]:
        """See :attr:`training.probing.heads.Head.chosen`."""
        return {"k": min(self.probe.k, len(self.rows))}

    def predict(self, features_MD: np.ndarray) -> Predicted:
        """See :meth:`training.probing.heads.Head.predict`."""
        known, learnt = self.known, len(self.rows)
        unknown = np.zeros((len(features_MD), *known.targets_N.shape[1:]), dtype=known.targets_N.dtype)
        draw = Draw(
            train=np.arange(learnt),
            test=np.arange(learnt, learnt + len(features_MD)),
            validation=np.zeros(learnt, bool),
        )
        (predicted,) = self.probe.fit_predict_many(
            np.concatenate([known.features_ND[self.rows], features_MD]),
            np.concatenate([known.targets_N[self.rows], unknown]),
            [draw],
            kind=known.kind,
            num_classes=known.num_classes,
        )
        return predicted


def predict_with_all(heads: Sequence[Head], features_MD: np.ndarray) -> list[Predicted]:
    """What each of these heads predicts for the same samples; those of neighbours search for them once."""
    found: dict[int, Predicted] = {}
    for members in _of_one_search(heads):
        found |= _searched_once(members, features_MD)
    return [found[i] if i in found else head.predict(features_MD) for i, head in enumerate(heads)]


def _of_one_search(heads: Sequence[Head]) -> list[dict[int, _Neighbours]]:
    """Heads of neighbours by place that draw on the same samples, and on many of them."""
    groups: dict[Any, dict[int, _Neighbours]] = {}
    for i, head in enumerate(heads):
        if isinstance(head, _Neighbours) and len(head.rows) > FEW:
            key = _data_of(head.known), head.probe.device, head.probe.precision
            groups.setdefault(key, {})[i] = head
    return [members for members in groups.values() if len(members) > 1]


def _data_of(known: _Known) -> tuple[Any, ...]:
    return id(known.features_ND), id(known.targets_N), known.kind, known.num_classes


def _searched_once(heads: dict[int, _Neighbours], features_MD: np.ndarray) -> dict[int, Predicted]:
    first = next(iter(heads.values()))
    known, probe = first.known, first.probe
    features, targets = tensors_of(probe, known.features_ND, known.targets_N, known.kind, known.num_classes)
    rows = {head.rows.tobytes(): head.rows for head in heads.values()}
    ks = sorted({head.probe.k for head in heads.values()})
    told = votes_of_many(
        torch.from_numpy(np.ascontiguousarray(features_MD, dtype=np.float32)).to(probe.device),
        features,
        _voted_on(targets, known.kind, known.num_classes),
        list(rows.values()),
        ks=ks,
        precision=probe.precision,
    )
    means = {
        (draw, k): each for draw, of_draw in zip(rows, told, strict=True) for k, each in zip(ks, of_draw, strict=True)
    }
    return {
        i: _elected(means[head.rows.tobytes(), head.probe.k], known.kind, head.chosen["k"]) for i, head in heads.items()
    }
