"""One fine-tuning: the steps of an optimiser, the choice of an epoch, the prediction of the test samples."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwcat.errors import TrainingError
from training.chance import Chance
from training.finetuning.layers import drop_paths, freeze_below, layer_groups
from training.finetuning.network import Network
from training.finetuning.objective import Judge, Objective
from training.finetuning.plan import Plan
from training.finetuning.recipe import FinetuneRecipe
from training.finetuning.samples import Sampled, Samples
from training.finetuning.views import Viewer, mix, uncut
from training.models.base import Model
from training.probing.kinds import Predicted
from training.resampling import Draw
from training.tasks.base import TaskData

__all__ = ["Progress", "Tuning"]

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """Samples as they were read, as the network saw them, and what it made of them."""

    read: Sampled
    seen: Sampled
    outputs: Tensor


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A copy of a model and its head, and what they learn.

    Attributes:
        recipe: how.
        draw: of which samples.
        device: that trains.
        samples: the task's.
        objective: what is learnt.
        viewer: how samples look.
        network: what is trained.
        groups: its parameters that train, with their scales.
        plan: the steps.
    """

    recipe: FinetuneRecipe
    draw: Draw
    device: torch.device
    samples: Samples
    objective: Objective
    viewer: Viewer
    network: Network
    groups: list[dict[str, Any]]
    plan: Plan

    @classmethod
    def of(
        cls,
        model: Model,
        data: TaskData,
        draw: Draw,
        *,
        recipe: FinetuneRecipe,
        device: torch.device,
        other_units: bool,
    ) -> Tuning:
        """That of a model, before its first step."""
        samples = Samples(model, data, other_units=other_units)
        objective = Objective.of(data, draw.rest)
        network = Network(model, outputs=objective.outputs, head=recipe.head, dense=objective.dense).to(device)
        groups = layer_groups(
            network.model, network.head, weight_decay=recipe.weight_decay, layer_decay=recipe.layer_decay
        )
        freeze_below(network.model, groups)
        drop_paths(network.model, recipe.drop_path)
        samples.hold(np.sort(draw.train), budget_mb=recipe.memory_budget_mb)
        return cls(
            recipe=recipe,
            draw=draw,
            device=device,
            samples=samples,
            objective=objective,
            viewer=Viewer.of(model, fit=data.info.fit, dense=objective.dense, recipe=recipe),
            network=network,
            groups=groups,
            plan=Plan(recipe=recipe, samples=len(draw.rest)),
        )

    def train(self, progress: Progress) -> dict[str, Any]:
        """Train; the network is left with the weights of the best epoch, or the last. What to tell of it."""
        optimizer = torch.optim.AdamW(self.groups, lr=0.0, betas=self.recipe.betas, fused=True)
        forward: Callable[..., Tensor] = (
            torch.compile(self.network, dynamic=False) if self.recipe.compile else self.network
        )
        rng = np.random.default_rng([self.draw.seed, 1])
        validation = np.asarray(self.draw.train[self.draw.validation])
        best, kept, at, epoch = (-math.inf, -math.inf), self._weights(), 0, 0
        for epoch in range(1, self.recipe.epochs + 1):
            self._epoch(epoch, optimizer=optimizer, forward=forward, rng=rng, progress=progress)
            score = self._judged(validation) if len(validation) else (float(epoch), 0.0)
            if score > best or at == 0:
                best, at = score, epoch
                kept = self._weights() if len(validation) else []
            elif self.recipe.patience is not None and epoch - at >= self.recipe.patience:
                break
        if not len(validation):
            return {"epoch": epoch, "epochs": epoch}
        self._restore(kept)
        return {"epoch": at, "epochs": epoch, "validation": best[0]}

    def predict(self, chosen: dict[str, Any]) -> Predicted:
        """The prediction of the test samples."""
        found = []
        with closing(self._shown(np.asarray(self.draw.test))) as parts:
            for part in parts:
                said = self.objective.decide(part.outputs, part.seen.masks)
                found.append(uncut(said, part.read.masks).cpu())
        return self.objective.predicted(found, chosen)

    def _epoch(
        self,
        epoch: int,
        *,
        optimizer: torch.optim.Optimizer,
        forward: Callable[..., Tensor],
        rng: np.random.Generator,
        progress: Progress,
    ) -> None:
        self._set_training()
        steps = self.plan.steps(self.draw.rest, rng)
        done = (epoch - 1) * len(steps)
        lost = torch.zeros((), device=self.device)
        with closing(self.samples.each(rows for step in steps for rows in step)) as batches:
            for number, step in enumerate(steps, done):
                lr, count = self.plan.lr(number), sum(map(len, step))
                for group in optimizer.param_groups:
                    group["lr"] = lr * group["scale"]
                for rows in step:
                    loss = self._loss(next(batches), forward, rng) * (len(rows) / count)
                    torch.autograd.backward(loss)
                    lost += loss.detach()
                self._clip()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                progress(number + 1, self.plan.total_steps)
        if not math.isfinite(float(lost)):
            raise self._diverged(epoch)

    def _loss(self, sampled: Sampled, forward: Callable[..., Tensor], rng: np.random.Generator) -> Tensor:
        chance = Chance(int(rng.integers(2**63)), total=len(sampled.batch))
        with torch.no_grad():
            seen = self.viewer.drawn(sampled.to(self.device), chance)
            targets = self._targets(seen)
            if self.objective.mixes:
                seen, targets = mix(seen, targets, recipe=self.viewer.recipe, rng=rng)
        with self._autocast():
            outputs = forward(seen.batch)
        return self.objective.loss(outputs, targets, smoothing=self.recipe.label_smoothing)

    @torch.no_grad()
    def _shown(self, rows: NDArray[np.int64]) -> Generator[_Shown]:
        """The network's outputs of these rows, some at a time; nothing is drawn."""
        self.network.eval()
        size = self.recipe.batch_size
        groups = (rows[start : start + size] for start in range(0, len(rows), size))
        with closing(self.samples.each(groups)) as batches:
            for sampled in batches:
                read = sampled.to(self.device)
                seen = self.viewer.plain(read)
                with self._autocast():
                    outputs = self.network(seen.batch)
                yield _Shown(read=read, seen=seen, outputs=outputs)

    def _judged(self, rows: NDArray[np.int64]) -> tuple[float, float]:
        judge = Judge(self.objective, self.device)
        with closing(self._shown(rows)) as parts:
            for part in parts:
                judge.add(part.outputs, self._targets(part.seen))
        return judge.score()

    def _targets(self, seen: Sampled) -> Tensor:
        if seen.masks is not None:
            return seen.masks
        return self.objective.targets[torch.from_numpy(seen.batch.rows)].to(self.device)

    def _autocast(self) -> torch.autocast:
        half = self.recipe.dtype(self.device) == torch.bfloat16
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half)

    def _set_training(self) -> None:
        """A model of which nothing trains does as in evaluation."""
        self.network.train()
        if not any(parameter.requires_grad for parameter in self.network.model.parameters()):
            self.network.model.eval()

    def _clip(self) -> None:
        if self.recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._trained(), self.recipe.clip_norm)

    def _trained(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.groups for parameter in group["params"]]

    def _changed(self) -> list[Tensor]:
        """What a step changes: what trains, and the running statistics of the head."""
        return [*self._trained(), *self.network.head.buffers()]

    def _weights(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self._changed()]

    def _restore(self, kept: list[Tensor]) -> None:
        with torch.no_grad():
            for tensor, value in zip(self._changed(), kept, strict=True):
                tensor.copy_(value)

    def _diverged(self, epoch: int) -> TrainingError:
        rate = self.recipe.peak_lr(self.plan.samples)
        half = ", try precision: float32" if self.recipe.dtype(self.device) == torch.bfloat16 else ""
        return TrainingError(
            f"fine-tuning: in epoch {epoch} of {self.recipe.epochs} the loss was no number, at a peak learning rate of "
            f"{rate:.3g}. Lower lr or base_lr, set clip_norm, lengthen warmup_epochs{half}"
        )
