"""Speed limits of OpenStreetMap as numbers."""

from __future__ import annotations

import math
import re
from typing import Final

__all__ = ["speed_limit"]

# The kinds of value are those of the OpenStreetMap wiki, "Key:maxspeed"; km/h is meant where no unit is given.
_KMH: Final = {
    "": 1.0, "km/h": 1.0, "kmh": 1.0, "kph": 1.0, "mph": 1.609344, "knots": 1.852, "knot": 1.852, "kn": 1.852,
}  # fmt: skip
# "US:urban" is 25 mph in the source's task generator (utils.h); it takes "walk" for nothing, which is some 5 km/h.
_WORDS: Final = {"walk": 5.0, "us:urban": 25 * 1.609344}
_FASTEST: Final = 500.0  # more is a slip of the pen: trains that run on a timetable stay below
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(km/h|kmh|kph|mph|knots|knot|kn)?\s*(?:@.*)?", re.DOTALL)


def speed_limit(value: str) -> float:
    """The speed of a value of ``maxspeed``, km/h; NaN where it tells no number.

    "50", "30 mph", "30mph", "6 knots", "walk" (5) and "US:urban" (25 mph) are speeds; of several ("50;70", "80|60",
    "120 @ (wet)") it is the highest. "none", "signals", "variable" and codes of countries ("RO:urban") tell none, nor do 0 and
    numbers beyond 500 km/h.
    """
    found = (_one(part) for part in re.split(r"[;|]", value.casefold()))
    return max((speed for speed in found if not math.isnan(speed)), default=math.nan)


def _one(text: str) -> float:
    if (known := _WORDS.get(text.strip())) is not None:
        return known
    match = _PART.fullmatch(text)
    speed = float(match[1]) * _KMH[match[2] or ""] if match else math.nan
    return speed if 0 < speed <= _FASTEST else math.nan
