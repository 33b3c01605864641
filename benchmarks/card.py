"""What a card can do by itself: products of matrices, attention, and what its data sheet says."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["DTYPES", "attention_rates", "card_of", "product_rates"]

# Dense bfloat16 of the data sheets, TFLOP/s, by part of the card's name.
DATASHEET = {
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "RTX 4090": 165,
}
DTYPES = ("bfloat16", "float32")
SIDES = {"cuda": 8192, "cpu": 1024}
MEASURE_S = {"cuda": 2.0, "cpu": 0.5}


def product_rates(device: str) -> dict[str, float]:
    """TFLOP/s of square products of random matrices, by type: the median of five stretches.

    Of zeros or ones a card draws less power, and clocks higher than it does in training.
    """
    side, rates = SIDES[device], {}
    for name in DTYPES:
        a, b = (torch.randn(side, side, device=device).to(getattr(torch, name)) for _ in range(2))
        stretches = [_rate(a, b, seconds=MEASURE_S[device] / 5) for _ in range(6)][1:]
        rates[name] = 2 * side**3 * sorted(stretches)[2] / 1e12
    return rates


def _rate(a: torch.Tensor, b: torch.Tensor, *, seconds: float) -> float:
    """Products a second."""
    out, rounds = torch.empty_like(a), 0
    _settle(a.device.type)
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds or not rounds:
        for _ in range(4):
            torch.mm(a, b, out=out)
        _settle(a.device.type)
        rounds += 4
    return rounds / passed if rounds and passed >= seconds else rounds / (time.perf_counter() - started)


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def attention_rates() -> list[dict[str, Any]]:
    """TFLOP/s of attention alone, forward and backward, by kernel, at the shapes of SatMAE-B; on a card."""
    rows = []
    for where, heads, length, width in (("encoder", 12, 109, 64), ("decoder", 16, 433, 32)):
        shape = (256, length, 3, heads, width)
        q, k, v = torch.randn(shape, device="cuda", dtype=torch.bfloat16).permute(2, 0, 3, 1, 4).detach().unbind(0)
        one = partial(_attend, [part.requires_grad_() for part in (q, k, v)], torch.randn_like(q))
        for kernel in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
            try:
                with sdpa_kernel(kernel):
                    seconds = _time_on_card(one)
            except RuntimeError as exc:  # a kernel that this card or build lacks
                rows.append({"where": where, "kernel": kernel.name, "failed": str(exc).splitlines()[0]})
                continue
            done = 3 * 4 * 256 * length**2 * heads * width
            rows.append({"where": where, "kernel": kernel.name, "ms": 1e3 * seconds, "tflops": done / seconds / 1e12})
    return rows


def _attend(parts: Sequence[torch.Tensor], gradient: torch.Tensor) -> None:
    torch.autograd.grad(torch.nn.functional.scaled_dot_product_attention(*parts), parts, gradient)


def _time_on_card(work: Callable[[], None]) -> float:
    """Seconds of one call, of twenty after five."""
    for _ in range(5):
        work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(20):
        work()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 20 / 1e3


def card_of(device: str) -> dict[str, Any]:
    """What the rows ran on."""
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if device != "cuda":
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "processor")
        return {"name": f"{model}, {torch.get_num_threads()} threads", **versions}
    about = torch.cuda.get_device_properties(0)
    known = next((rate for part, rate in DATASHEET.items() if part in about.name), None)
    return {"name": about.name, "memory_gb": about.total_memory / 1e9, "datasheet_bf16_tflops": known, **versions}
