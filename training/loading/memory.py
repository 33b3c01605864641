"""How much memory there is for chips: on this machine, and on a card."""

from __future__ import annotations

import os
from pathlib import Path

import torch

__all__ = ["available_ram", "free_on"]

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def available_ram() -> int | None:
    """Bytes of memory that may hold what is read, pages of files that can be given up among them; ``None`` if unknown.

    In a container with a limit, no more than is left of that.
    """
    known = [amount for amount in (_of_machine(), _of_container()) if amount is not None]
    return min(known, default=None)


def free_on(device: torch.device) -> tuple[int, int]:
    """Bytes free on a CUDA device, and of all its memory; what torch keeps for itself and does not use counts as free."""
    free, total = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device), total


def _of_machine() -> int | None:
    try:
        lines = MEMINFO.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:  # elsewhere than on Linux: half of what is built in
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _of_container() -> int | None:
    """What a container's limit leaves, its pages of files not counted: they are given up when others are read."""
    try:
        limit, used = int((CGROUP / "memory.max").read_text()), int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(stat["file"]))
    except (OSError, ValueError, KeyError):  # no such files, or no limit: "max"
        return None
