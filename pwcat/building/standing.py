"""How far a build has come, in numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["OnStanding", "Standing", "untold"]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a build has come.

    Attributes:
        samples: that are settled, those of earlier runs included.
        total: samples of the plan.
        read: samples that this run has read, those of the reserve included.
        shards: that this run has made.
        bytes: of the pixels it has made, uncompressed.
        requests: that reading took; ``None`` where they are not measured.
        transferred: bytes of the answers; ``None`` where they are not measured.
        retries: requests that were sent again.
        seconds: that it has been reading and writing.
        flying: shards that are being made.
        quiet_s: seconds since one of this run was last done, or since it began.
    """

    samples: int
    total: int
    read: int = 0
    shards: int = 0
    bytes: int = 0
    requests: int | None = 0
    transferred: int | None = 0
    retries: int = 0
    seconds: float = 0.0
    flying: int = 0
    quiet_s: float = 0.0

    @property
    def chips_s(self) -> float:
        """Samples read a second."""
        return self.read / self.seconds if self.seconds else 0.0

    @property
    def mb_s(self) -> float | None:
        """Megabytes a second over the network; ``None`` where they are not measured."""
        if self.transferred is None:
            return None
        return self.transferred / 1e6 / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all samples are settled, at the rate so far; ``None`` before the first."""
        return (self.total - self.samples) / self.chips_s if self.read and self.chips_s else None


OnStanding = Callable[[Standing], None]


def untold(standing: Standing) -> None:
    """Tell nobody."""
