"""CQL2 text that the parser bears: asked before it is parsed, by whoever takes filters from outside."""

from __future__ import annotations

import re
from itertools import accumulate

__all__ = ["filter_faults"]

# The parser is recursive, backtracks, and takes the process with it when its stack ends: what no person writes is refused
# before it gets there.
MAX_LENGTH, MAX_PARENTHESES, MAX_NOTS, MAX_SIGNS = 10_000, 16, 64, 500


def filter_faults(text: str) -> list[str]:
    """In what a filter is longer, or nested deeper, than can be parsed safely; nothing where it is fine."""
    depths = [0, *accumulate({"(": 1, ")": -1}.get(character, 0) for character in text)]
    return [
        f"{name} is {got}, at most {most} is allowed"
        for name, got, most in (
            ("its length", len(text), MAX_LENGTH),
            ("its nesting of parentheses", max(depths) - min(depths), MAX_PARENTHESES),
            ("its number of NOTs", len(re.findall(r"\bnot\b", text, re.IGNORECASE)), MAX_NOTS),
            ("its number of signs", sum(map(text.count, "+-*/^%")), MAX_SIGNS),
        )
        if got > most
    ]
