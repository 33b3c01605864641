"""How fast training is: samples a second, the share of time spent waiting for data, and the use made of the device."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass

import torch

from training.looping.distributed import global_sum

__all__ = ["Meter", "Peak", "Rates", "measure_peak", "peak_memory_mb"]

# Long enough for a device to reach the rate that it keeps; sides of which products are at their fastest.
MEASURE_S = {"cuda": 0.5, "cpu": 0.05}
SIDES = {"cuda": 8192, "cpu": 512}


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The rate of matrix products that an MFU is of.

    Attributes:
        flops: operations a second, 2 a multiply-add, of all devices together.
        dtype: of the matrices.
        said: how it came about, for people.
    """

    flops: float
    dtype: str
    said: str


def measure_peak(device: torch.device, *, dtype: torch.dtype) -> Peak:
    """The rate that this machine reaches now in products of square matrices, summed over all ranks.

    It is a measured rate, not the one of the data sheet, which no program reaches: an MFU of it is the higher of the two.
    """
    flops = global_sum(torch.tensor(_product_rate(device, dtype=dtype), dtype=torch.float64)).item()
    name, side = str(dtype).removeprefix("torch."), SIDES.get(device.type, 512)
    return Peak(flops=flops, dtype=name, said=f"measured at the start: products of {side} x {side} matrices, {name}")


def _product_rate(device: torch.device, *, dtype: torch.dtype) -> float:
    side, wanted = SIDES.get(device.type, 512), MEASURE_S.get(device.type, 0.05)
    # of random numbers, as in training: of ones a card draws less power, and so runs faster than it ever will
    chance = torch.Generator(device).manual_seed(0)
    a = (0.1 * torch.randn(side, side, device=device, generator=chance)).to(dtype)
    out = torch.empty_like(a)
    torch.mm(a, a, out=out)
    _wait_for(device)
    started, rounds, seconds = time.perf_counter(), 0, 0.0
    while seconds < wanted:
        for _ in range(8):
            torch.mm(a, a, out=out)
        _wait_for(device)
        rounds, seconds = rounds + 8, time.perf_counter() - started
    return 2.0 * side**3 * rounds / seconds


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_mb(device: torch.device) -> float:
    """The most memory that was held at once, in MB (10^6 bytes): of the GPU by tensors, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What one step took.

    Attributes:
        seconds: from the reading of the step before to that of this one.
        samples_per_second: of all devices together.
        wait_share: of that time, the share in which the loop waited for data, 0..1.
        mfu: model operations a second, of the peak, 0..1.
    """

    seconds: float
    samples_per_second: float
    wait_share: float
    mfu: float


class Meter:
    """Turns the moments at which steps are read into rates.

    Args:
        flops_per_sample: of the model, forward and backward.
        peak: what it is a share of.
    """

    def __init__(self, *, flops_per_sample: int, peak: Peak) -> None:
        self._flops, self._peak = flops_per_sample, peak
        self._mark, self._waited = time.perf_counter(), 0.0

    def rest(self, *, waited: float) -> float:
        """Seconds since the last reading, which no step is charged with: a checkpoint was written, say."""
        now = time.perf_counter()
        seconds, self._mark, self._waited = now - self._mark, now, waited
        return seconds

    def read(self, *, samples: int, waited: float) -> Rates:
        """Rates of the step that has just been read.

        Args:
            samples: that it took, over all ranks.
            waited: seconds that the loop has waited for data since it began.
        """
        before = self._waited
        seconds = max(self.rest(waited=waited), 1e-9)
        rate = samples / seconds
        return Rates(
            seconds=seconds,
            samples_per_second=rate,
            wait_share=min(1.0, max(0.0, (waited - before) / seconds)),
            mfu=rate * self._flops / self._peak.flops,
        )
