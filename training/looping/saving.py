"""When a checkpoint is due."""

from __future__ import annotations

import time

from training.recipe import Checkpoints

__all__ = ["Due"]


class Due:
    """Answers after each step whether a checkpoint is to be written, and knows which are never removed.

    Args:
        policy: of the recipe.
        steps_per_epoch: by which epochs are told.
    """

    def __init__(self, policy: Checkpoints, *, steps_per_epoch: int) -> None:
        self._policy, self._steps_per_epoch = policy, steps_per_epoch
        self._written = time.monotonic()

    @property
    def milestones(self) -> set[int]:
        """Steps whose checkpoints stay whatever else is removed."""
        return {epoch * self._steps_per_epoch for epoch in self._policy.milestones}

    def at(self, step: int) -> bool:
        """Whether one is due after this step."""
        p, epoch, within = self._policy, *divmod(step, self._steps_per_epoch)
        return (
            (p.every_epochs is not None and within == 0 and epoch % p.every_epochs == 0)
            or (p.every_steps is not None and step % p.every_steps == 0)
            or (p.every_minutes is not None and time.monotonic() - self._written >= 60 * p.every_minutes)
            or step in self.milestones
        )

    def written(self) -> None:
        """Count the minutes from now."""
        self._written = time.monotonic()
