"""Train and validation samples, apart in space: whole blocks go to one side or the other."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["EARTH_RADIUS_KM", "spatial_split"]

# Mean radius R1 of the Earth (IUGG).
EARTH_RADIUS_KM = 6371.0088


def spatial_split(
    lonlat: NDArray[np.float64], *, val_fraction: float, block_km: float, seed: int
) -> NDArray[np.object_]:
    """``"train"`` or ``"val"`` for each site, ``(n,)``.

    Blocks are cells of an equal-area grid, ``block_km`` a side. They are taken for validation in the order of a hash of
    cell and seed, as long as at least half of a block still fits under ``val_fraction`` of the samples; so a split hangs
    on the sites and the seed alone, and a fraction of zero gives none.

    Args:
        lonlat: ``(n, 2)``, EPSG:4326.
        val_fraction: wanted share of validation samples.
        block_km: side of a block at the equator, kilometres; everywhere its area.
        seed: the recipe's.
    """
    column = np.floor(np.deg2rad(lonlat[:, 0]) * EARTH_RADIUS_KM / block_km).astype(np.int64)
    row = np.floor(np.sin(np.deg2rad(lonlat[:, 1])) * EARTH_RADIUS_KM / block_km).astype(np.int64)
    cells, block_of, counts = np.unique(np.column_stack([column, row]), axis=0, return_inverse=True, return_counts=True)
    order = sorted(range(len(cells)), key=lambda k: _hash(int(cells[k, 0]), int(cells[k, 1]), seed))
    for_validation = np.zeros(len(cells), dtype=bool)
    missing = val_fraction * len(lonlat)
    for block in order:
        if counts[block] / 2 < missing and counts[block] < len(lonlat):
            for_validation[block] = True
            missing -= counts[block]
    return np.where(for_validation[block_of.reshape(-1)], "val", "train").astype(object)


def _hash(column: int, row: int, seed: int) -> bytes:
    return hashlib.sha256(f"{column},{row},{seed}".encode()).digest()
