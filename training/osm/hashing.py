"""Hashes of texts, 64 bits each: the same on every machine and in every version.

FNV-1a over the bytes in UTF-8, then MurmurHash3's finaliser, which mixes all bits (Fowler, Noll & Vo 1991, RFC 9923; Appleby
2011).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.osm.compiling import compiled

__all__ = ["hash_pairs", "hash_slices"]

BASIS, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # of FNV-1a
MIX_1, MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)  # of MurmurHash3
SHIFT = np.uint64(33)
BETWEEN = np.uint64(0xFF)  # no byte of UTF-8

Hashes = NDArray[np.uint64]


def hash_pairs(keys: pa.Array, values: pa.Array, *, seed: int = 0) -> Hashes:
    """A hash of each key and value, (n,); they are no nulls.

    Args:
        keys: texts.
        values: as many.
        seed: another one gives other hashes.
    """
    found = np.empty(len(keys), dtype=np.uint64)
    _hash_pairs(*_bytes_of(keys), *_bytes_of(values), np.uint64(seed), found)
    return found


def hash_slices(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], *, seed: int = 0
) -> Hashes:
    """A hash of each slice of some bytes, (n,)."""
    found = np.empty(len(starts), dtype=np.uint64)
    _hash_slices(data, starts, ends, np.uint64(seed), found)
    return found


def _bytes_of(texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Where each text begins and ends in the bytes of all."""
    whole = texts.cast(pa.large_string())
    _, offsets, data = whole.buffers()
    places = (
        np.frombuffer(offsets, dtype=np.int64)[whole.offset : whole.offset + len(whole) + 1] if len(whole) else None
    )
    return (
        np.zeros(1, dtype=np.int64) if places is None else places,
        np.empty(0, dtype=np.uint8) if data is None else np.frombuffer(data, dtype=np.uint8),
    )


@compiled
def _mixed(h: np.uint64) -> np.uint64:
    h = (h ^ (h >> SHIFT)) * MIX_1
    h = (h ^ (h >> SHIFT)) * MIX_2
    return h ^ (h >> SHIFT)


@compiled
def _hash_slices(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], seed: np.uint64, out: Hashes
) -> None:
    for i in range(len(starts)):
        h = BASIS ^ seed
        for place in range(starts[i], ends[i]):
            h = (h ^ np.uint64(data[place])) * PRIME
        out[i] = _mixed(h)


@compiled
def _hash_pairs(
    key_places: NDArray[np.int64],
    keys: NDArray[np.uint8],
    value_places: NDArray[np.int64],
    values: NDArray[np.uint8],
    seed: np.uint64,
    out: Hashes,
) -> None:
    for i in range(len(out)):
        h = BASIS ^ seed
        for place in range(key_places[i], key_places[i + 1]):
            h = (h ^ np.uint64(keys[place])) * PRIME
        h = (h ^ BETWEEN) * PRIME
        for place in range(value_places[i], value_places[i + 1]):
            h = (h ^ np.uint64(values[place])) * PRIME
        out[i] = _mixed(h)
