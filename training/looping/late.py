"""Values of a step, read when the next one is under way: the host never waits for the device's newest work."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Late"]

T = TypeVar("T")


class Late(Generic[T]):
    """One step's values on their way from the device, with what the host knows of that step.

    Args:
        ahead: let the host go on before they have arrived; without it each step is handed back at once.
    """

    def __init__(self, *, ahead: bool) -> None:
        self._ahead = ahead
        self._coming: tuple[Tensor, torch.cuda.Event | None, T] | None = None

    def put(self, values: Tensor, note: T) -> tuple[list[float], T] | None:
        """Send off a step's values, a vector on the device; what comes back is the step before, ``None`` at the first."""
        sent = (*_send(values), note)
        if not self._ahead:
            self._coming = sent
            return self.take()
        before, self._coming = self.take(), sent
        return before

    def take(self) -> tuple[list[float], T] | None:
        """The values that are under way, waited for; ``None`` where there are none."""
        if self._coming is None:
            return None
        (values, arrived, note), self._coming = self._coming, None
        if arrived is not None:
            arrived.synchronize()
        return values.tolist(), note


def _send(values: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    if values.device.type != "cuda":
        return values.clone(), None
    kept = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    kept.copy_(values, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()
    return kept, arrived
