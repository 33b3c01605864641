"""One step of the optimiser on one device or many: forward, backward, clipping, update; nothing here waits for the device."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from training.batch import Batch
from training.chance import Chance
from training.looping.distributed import world_size
from training.looping.ema import Ema
from training.looping.optimizer import adamw
from training.models.base import Model
from training.recipe import TrainRecipe

__all__ = ["Engine", "Share"]

# Torch 2.13 names it anew, and warns of the old name
NAMES = inspect.signature(DistributedDataParallel.__init__).parameters
SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in NAMES else "broadcast_buffers"


@dataclass(frozen=True, kw_only=True)
class Share:
    """What this rank has of one global batch.

    Attributes:
        batch: its samples.
        chance: draws for them; it knows how many the global batch has.
    """

    batch: Batch
    chance: Chance


class Engine:
    """A model, its optimiser and, where one is asked for, the average of its weights.

    Args:
        model: with its normalisation; it is moved to the device.
        recipe: how to train.
        device: of this rank.
    """

    def __init__(self, model: Model, recipe: TrainRecipe, *, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.model = model.to(device)
        self.model.train()
        self.optimizer = adamw(
            model, lr=recipe.lr, betas=recipe.optimizer.betas, weight_decay=recipe.optimizer.weight_decay
        )
        decay = model.ema_decay if recipe.optimizer.ema_decay is None else recipe.optimizer.ema_decay
        self.ema = Ema(model, decay=decay) if decay is not None else None
        self._wrapped = _wrap(model, device)
        # each shape is compiled for itself: that of most batches, and that of an epoch's last
        self._forward: Callable[..., Tensor] = (
            torch.compile(self._wrapped, dynamic=False) if recipe.compile else self._wrapped
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix products."""
        half = {"auto": self.device.type == "cuda", "float32": False, "bfloat16": True}[self.recipe.precision]
        return torch.bfloat16 if half else torch.float32

    @property
    def evaluated(self) -> Model:
        """The model that evaluation is to load: with the averaged weights where there are any."""
        return self.ema.model if self.ema else self.model

    def step(
        self,
        shares: Sequence[Share],
        *,
        number: int,
        lr: float,
        weight_decay: float | None = None,
        total_steps: int | None = None,
    ) -> Tensor:
        """Train on the batches of one step; loss and gradient norm, (2,) float32 on the device.

        The loss is this rank's: its average over ranks is that of the global batch. The norm is the same on all.

        Args:
            shares: this rank's part of each of the batches whose gradients make the step.
            number: of the step, from 1.
            lr: learning rate.
            weight_decay: of what decays; as in the recipe where ``None``.
            total_steps: of the whole training; this is the last step where ``None``.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if weight_decay is not None:
            self.optimizer.param_groups[0]["weight_decay"] = weight_decay
        loss = self._backward(shares)
        norm = self._clipped()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.after_step(number, number if total_steps is None else total_steps)
        if self.ema:
            self.ema.update(self.model, step=number)
        return torch.stack([loss, norm])

    @torch.no_grad()
    def watch(self, shares: Sequence[Share]) -> dict[str, float]:
        """What the model says of itself, on the batches of a step; see :meth:`training.models.base.Model.watch`."""
        if not self.model.is_watched:
            return {}
        self.model.eval()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            told = self.model.watch([share.batch.to(self.device) for share in shares])
        self.model.train()
        return told

    def is_finite(self) -> bool:
        """Whether all weights are numbers; this waits for the device."""
        norms = torch._foreach_norm(list(self.model.parameters()), ord=float("inf"))
        return bool(torch.stack(list(norms)).isfinite().all())

    def _backward(self, shares: Sequence[Share]) -> Tensor:
        total = sum(share.chance.total for share in shares)
        loss = torch.zeros((), device=self.device)
        for number, share in enumerate(shares, 1):
            with self._alone() if number < len(shares) else nullcontext():
                part = self._loss(share) * (share.chance.total / total)
                torch.autograd.backward(part)
            loss += part.detach()
        return loss

    def _loss(self, share: Share) -> Tensor:
        with torch.no_grad():
            inputs = self.model.prepare(share.batch.to(self.device), chance=share.chance, augment=self.recipe.augment)
        with (
            self._dropping_out(share.chance),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16),
        ):
            return self._forward(**inputs)

    @contextmanager
    def _dropping_out(self, chance: Chance) -> Iterator[None]:
        """Begin torch's own generator anew for a batch, and leave it as it was: what drops out is a function of the batch.

        Ranks differ in it, so that more of them drop out other units than one.
        """
        if not self.model.drops_out:
            yield
            return
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(chance.seed + chance.rows.start)
            yield

    def _alone(self) -> AbstractContextManager[Any]:
        """Without telling the other ranks of the gradients, which are told with the last batch of the step."""
        return self._wrapped.no_sync() if isinstance(self._wrapped, DistributedDataParallel) else nullcontext()

    def _clipped(self) -> Tensor:
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        limit = self.recipe.optimizer.clip_norm
        if limit is not None:
            torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm


def _wrap(model: Model, device: torch.device) -> Model | DistributedDataParallel:
    if world_size() == 1:
        return model
    options: dict[str, Any] = {SYNC_BUFFERS: False}  # codes are fixed, and the same everywhere
    # of gradients whose axes of length one have other strides, which costs nothing
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True, **options)
