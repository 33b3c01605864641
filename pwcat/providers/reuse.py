"""Addresses at which another server answers by now: whatever was kept of their files is to be forgotten.

A port on loopback is used again, by other archives, too.
"""

from __future__ import annotations

from collections.abc import Callable

from pwcat.gdal import forget_files

__all__ = ["forget_address", "forgets"]

_FORGETTERS: list[Callable[[str], None]] = [forget_files]


def forgets(forget: Callable[[str], None]) -> Callable[[str], None]:
    """Have this called with the beginning of the addresses that are to be forgotten."""
    _FORGETTERS.append(forget)
    return forget


def forget_address(url: str) -> None:
    """Forget all that this process keeps of files whose addresses begin like this."""
    for forget in _FORGETTERS:
        forget(url)
