"""Numbers of bytes as people read them."""

from __future__ import annotations

import math

__all__ = ["told_bytes"]

UNITS = ("B", "kB", "MB", "GB", "TB")


def told_bytes(count: int) -> str:
    """A number of bytes in powers of 1000, with one digit behind the point."""
    power = min(len(UNITS) - 1, int(math.log10(count) // 3)) if count else 0
    return f"{count / 1000**power:.1f} {UNITS[power]}" if power else f"{count} B"
