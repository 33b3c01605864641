"""A few steps of the real training, timed; nothing is left of them. Benchmarks are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from training.looping.distributed import from_main, joined
from training.looping.stopping import Stop
from training.looping.throughput import Peak, peak_memory_mb
from training.pretrain import Trainer, pick_device
from training.recipe import TrainRecipe

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Trial", "time_steps"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What the timed steps of a training took.

    Attributes:
        steps: that were timed, after those of warm-up.
        seconds: that they took.
        samples: that they took in, of all ranks.
        samples_per_second: the one by the other.
        wait_share: share of the time in which the loop waited for data, 0..1.
        mfu: model operations a second, of ``peak``, 0..1.
        peak: the measured rate of matrix products.
        flops_per_sample: model operations of a sample.
        placement: where the chips were.
        peak_memory_mb: most memory held at once, in MB (10^6 bytes).
        final_loss: of the last step.
    """

    steps: int
    seconds: float
    samples: int
    samples_per_second: float
    wait_share: float
    mfu: float
    peak: Peak
    flops_per_sample: int
    placement: str
    peak_memory_mb: float
    final_loss: float


def time_steps(
    subset: Subset, recipe: TrainRecipe, *, steps: int, warmup_steps: int = 5, device: str | None = None
) -> Trial:
    """How fast a recipe trains on a subset: steps of the same loop as in :func:`training.pretrain.pretrain`.

    Args:
        subset: the samples; epochs follow each other as long as the steps last, within the recipe's epochs.
        recipe: how to train, compiled or not.
        steps: to time.
        warmup_steps: before them: kernels are chosen, the model is compiled, files come into the cache.
        device: torch device; the best there is where none is given.

    Raises:
        TrainingError: the data do not fit the model, memory does not suffice, or the recipe has fewer steps than asked for.
    """
    with joined(device or pick_device()) as target, TemporaryDirectory(prefix="pwcat-trial-") as folder:
        if target.type == "cuda":
            torch.cuda.reset_peak_memory_stats(target)
        trainer = Trainer(subset, recipe, Path(from_main(folder)), device=target)
        trainer.start()
        trainer.require_steps(warmup_steps + steps)
        told = list(trainer.steps(Stop(), last=warmup_steps + steps, saving=False))[warmup_steps:]
        seconds = sum(step.samples / step.samples_per_second for step in told)
        samples = sum(step.samples for step in told)
        waited = sum(step.wait_share * step.samples / step.samples_per_second for step in told)
        flops = trainer.model.flops_per_sample()
        return Trial(
            steps=len(told),
            seconds=seconds,
            samples=samples,
            samples_per_second=samples / seconds,
            wait_share=waited / seconds,
            mfu=samples / seconds * flops / trainer.peak.flops,
            peak=trainer.peak,
            flops_per_sample=flops,
            placement=trainer.batches.placement,
            peak_memory_mb=peak_memory_mb(target),
            final_loss=told[-1].loss,
        )
