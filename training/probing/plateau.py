"""A hidden layer that is trained until validation gets no better, as GeoJEPA's authors train their heads.

Source: pyscripts/torch_transfer.py of GeoJEPA at 675ce0b. There the weights that are restored at the end are a reference, and
so those of the last epoch; here they are those of the best, as meant. Its last, smaller batch is not dropped here.

Shapes: N samples, D length of an embedding, H hidden units, K numbers that the head gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.probing.given import tensors_of
from training.probing.heads import Head, decode
from training.probing.kinds import EVERY, Kind, Predicted, num_outputs
from training.probing.one_draw import OneDraw
from training.resampling import Draw

__all__ = ["PlateauProbe"]

CHUNK = 8192  # samples predicted at once


@dataclass(frozen=True, kw_only=True)
class PlateauProbe(OneDraw):
    """512 units with GELU and dropout on embeddings as they are; AdamW, slower on plateaus, the best epoch is kept.

    Of numbers the loss is smooth L1, squared below ``beta``; where none to learn from is negative, none is predicted. Draws
    without a validation part are trained for all epochs.

    Attributes:
        beta: of the loss: 5 for buildings, 0.5 for traffic signals, 1 for speeds in the source.
        hidden: units.
        dropout: share of them that a step leaves out.
        rate: learning rate at first.
        decay: AdamW's weight decay.
        batch: samples of a step, at most.
        epochs: at most.
        slower: what the rate is multiplied with after ``wait`` epochs without a better validation loss.
        wait: see above.
        stop: epochs without a better validation loss after which it ends.
        device: torch device.
        name: in tables.
    """

    beta: float = 1.0
    hidden: int = 512
    dropout: float = 0.1
    rate: float = 1e-3
    decay: float = 1e-4
    batch: int = 1024
    epochs: int = 200
    slower: float = 0.7
    wait: int = 10
    stop: int = 35
    device: str = "cpu"
    name: str = "mlp-plateau"
    kinds: tuple[Kind, ...] = EVERY

    def fit_many(
        self, features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int
    ) -> list[Head]:
        """See :meth:`training.probes.Probe.fit_many`."""
        features, targets = tensors_of(self, features_ND, targets_N, kind, num_classes)
        return [_Training.of(self, features, targets, draw, kind, num_classes).head() for draw in draws]


@dataclass(frozen=True, kw_only=True)
class _Training:
    """A head in training.

    Attributes:
        probe: its settings.
        features_ND: of all samples.
        targets_N: of all samples.
        draw: which of them are learnt from.
        kind: what is predicted.
        low: what predicted numbers are not below.
        layers: weights (D, H) and (H, K) with their biases.
        generator: where every draw comes from.
    """

    probe: PlateauProbe
    features_ND: Tensor
    targets_N: Tensor
    draw: Draw
    kind: Kind
    low: float
    layers: list[Tensor]
    generator: torch.Generator

    @classmethod
    def of(
        cls, probe: PlateauProbe, features_ND: Tensor, targets_N: Tensor, draw: Draw, kind: Kind, num_classes: int
    ) -> _Training:
        outputs = 1 if kind == "classification" and num_classes == 2 else num_outputs(kind, num_classes)
        generator = torch.Generator(device=features_ND.device).manual_seed(draw.seed)
        layers = [
            *_layer(features_ND.shape[1], probe.hidden, generator),
            *_layer(probe.hidden, outputs, generator),
        ]
        counts = kind == "regression" and bool((targets_N[draw.learnt] >= 0).all())
        return cls(
            probe=probe, features_ND=features_ND, targets_N=targets_N, draw=draw, kind=kind,
            low=0.0 if counts else -math.inf, layers=layers, generator=generator,
        )  # fmt: skip

    def head(self) -> Head:
        """Train, and the head of the best epoch."""
        probe, held_out = self.probe, torch.from_numpy(self.draw.train[self.draw.validation])
        optimizer = torch.optim.AdamW(self.layers, lr=probe.rate, weight_decay=probe.decay)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=probe.slower, patience=probe.wait)
        learnt = torch.from_numpy(self.draw.rest if len(held_out) else self.draw.learnt)
        best, kept, at, epoch = math.inf, self._copied(), 0, 0
        for epoch in range(1, probe.epochs + 1):
            self._learn(learnt, optimizer)
            if not len(held_out):
                continue
            with torch.no_grad():
                loss = float(self._loss(self._outputs(held_out), held_out))
            schedule.step(loss)
            if loss < best:
                best, kept, at = loss, self._copied(), epoch
            elif epoch - at >= probe.stop:
                break
        layers = kept if len(held_out) else self._copied()
        chosen = {"epoch": at or epoch, "epochs": epoch, "num_validation": len(held_out)}
        return _Trained(layers=layers, low=self.low, kind=self.kind, chosen=chosen)

    def _learn(self, rows: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """One epoch."""
        order = rows[torch.randperm(len(rows), generator=self.generator, device=self.generator.device).cpu()]
        for part in torch.tensor_split(order, max(1, math.ceil(len(rows) / self.probe.batch))):
            loss = self._loss(self._outputs(part, drop=self._drop), part)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def _drop(self, hidden_BH: Tensor) -> Tensor:
        kept = torch.rand(hidden_BH.shape, generator=self.generator, device=hidden_BH.device) >= self.probe.dropout
        return hidden_BH * kept / (1 - self.probe.dropout)

    def _outputs(self, rows: Tensor, drop: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        return _apply(self.features_ND[rows.to(self.features_ND.device)], self.layers, drop)

    def _loss(self, outputs_BK: Tensor, rows: Tensor) -> Tensor:
        truth = self.targets_N[rows.to(self.targets_N.device)]
        if self.kind == "regression":
            low = self.low if not outputs_BK.requires_grad else -math.inf
            return functional.smooth_l1_loss(outputs_BK[:, 0].clamp(min=low), truth.float(), beta=self.probe.beta)
        if self.kind == "classification" and outputs_BK.shape[1] > 1:
            return functional.cross_entropy(outputs_BK, truth)
        return functional.binary_cross_entropy_with_logits(outputs_BK, truth.float().reshape(outputs_BK.shape))

    def _copied(self) -> list[Tensor]:
        return [each.detach().clone() for each in self.layers]


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """A head of one draw, as :class:`training.probing.heads.Head`."""

    layers: Sequence[Tensor]
    low: float
    kind: Kind
    chosen: dict[str, Any]

    def predict(self, features_MD: np.ndarray) -> Predicted:
        """See :meth:`training.probing.heads.Head.predict`."""
        features = torch.from_numpy(np.ascontiguousarray(features_MD, dtype=np.float32))
        parts = [_apply(part.to(self.layers[0].device), self.layers) for part in torch.split(features, CHUNK)]
        outputs_MK = torch.cat(parts) if parts else self.layers[3].new_zeros(0, len(self.layers[3]))
        if self.kind == "classification" and outputs_MK.shape[1] == 1:
            outputs_MK = torch.cat([torch.zeros_like(outputs_MK), outputs_MK], dim=1)  # class 1 where it is above 0
        return decode(outputs_MK.clamp(min=self.low), self.kind, self.chosen)


def _layer(length: int, outputs: int, generator: torch.Generator) -> list[Tensor]:
    """Weights and bias as torch's ``Linear`` draws them."""
    bound = 1 / math.sqrt(length)
    drawn = torch.empty(length + 1, outputs, device=generator.device).uniform_(-bound, bound, generator=generator)
    return [drawn[:-1].clone().requires_grad_(), drawn[-1].clone().requires_grad_()]


def _apply(x_BD: Tensor, layers: Sequence[Tensor], drop: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    first, first_bias, last, last_bias = layers
    hidden_BH = functional.gelu(x_BD @ first + first_bias)
    return (hidden_BH if drop is None else drop(hidden_BH)) @ last + last_bias
