"""Numbers as tables write them."""

from __future__ import annotations

import math

__all__ = ["DECIMALS", "MISSING", "amount", "bounds", "decimal", "gigabytes", "hours", "signed_decimal"]

DECIMALS = 2  # as papers print scores; ranks take those equal that are printed equal
MISSING = "–"


def decimal(value: float, decimals: int = DECIMALS) -> str:
    """A score as papers print it: two decimals, without the leading zero, a true minus."""
    if not math.isfinite(value):
        return MISSING
    text = f"{abs(value):.{decimals}f}"
    if text.startswith("0."):
        text = text[1:]
    return f"−{text}" if value < 0 and float(f"{value:.{decimals}f}") != 0 else text


def signed_decimal(value: float, decimals: int = DECIMALS) -> str:
    """A difference, with its sign."""
    text = decimal(value, decimals)
    return text if text[0] in f"−{MISSING}" or not float(f"{value:.{decimals}f}") else f"+{text}"


def bounds(low: float, high: float, decimals: int = DECIMALS) -> str:
    """An interval; nothing where there is none."""
    return (
        f"[{decimal(low, decimals)}, {decimal(high, decimals)}]" if math.isfinite(low) and math.isfinite(high) else ""
    )


def amount(value: float) -> str:
    """A count with thousands apart."""
    return f"{value:,.0f}" if math.isfinite(value) else MISSING


def gigabytes(size: float) -> str:
    """Bytes in the unit that fits."""
    if not math.isfinite(size):
        return MISSING
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def hours(seconds: float) -> str:
    """A time in the unit that fits."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
