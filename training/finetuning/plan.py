"""How the samples of an epoch are cut into steps, and how fast each step learns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.finetuning.recipe import FinetuneRecipe
from training.looping.schedule import learning_rate

__all__ = ["Plan"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of a fine-tuning.

    Attributes:
        recipe: what asks for them.
        samples: training samples.
    """

    recipe: FinetuneRecipe
    samples: int

    @property
    def steps_per_pass(self) -> int:
        """Steps in which every sample is seen once."""
        return math.ceil(self.samples / self.recipe.step_samples(self.samples))

    @property
    def passes(self) -> int:
        """Times that an epoch sees each sample: several, where there are so few that the least steps are not made else."""
        return max(1, math.ceil(self.recipe.least_steps / (self.recipe.epochs * self.steps_per_pass)))

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.passes * self.steps_per_pass

    @property
    def total_steps(self) -> int:
        """Steps of all epochs."""
        return self.recipe.epochs * self.steps_per_epoch

    def lr(self, done: int) -> float:
        """Learning rate of the head in the step after so many others."""
        return learning_rate(
            done,
            peak=self.recipe.peak_lr(self.samples),
            warmup_steps=self.recipe.warmup_epochs * self.steps_per_epoch,
            total_steps=self.total_steps,
            schedule=self.recipe.schedule,
        )

    def steps(self, rows: NDArray[np.int64], rng: np.random.Generator) -> list[list[NDArray[np.int64]]]:
        """The batches of each step of an epoch, shuffled; steps are of nearly equal size, as are the batches of a step."""
        passes = [np.array_split(rng.permutation(rows), self.steps_per_pass) for _ in range(self.passes)]
        return [
            np.array_split(step, math.ceil(len(step) / self.recipe.batch_size)) for steps in passes for step in steps
        ]
