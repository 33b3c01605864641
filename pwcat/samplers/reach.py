"""Where a domain can lie at all, so that nothing is drawn or counted through where it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.samplers.strata import Domain

if TYPE_CHECKING:
    from pwcat.samplers.world import World

__all__ = ["reach_of"]


def reach_of(domain: Domain, labels: Mapping[str, tuple[str, ...]], *, world: World) -> NDArray[np.bool_] | None:
    """Cells of :mod:`pwcat.regions.cells` that may hold a site of the domain with these labels; ``None``: any cell may.

    For ``scenes``, cells that the bounding box of a footprint, or of one of its parts, touches.
    """
    labelled = world.mask(labels, domain=domain)
    if domain != "scenes":
        return labelled
    scenes = _under(world)
    return scenes if labelled is None else scenes & labelled


def _under(world: World) -> NDArray[np.bool_]:
    from pwcat.regions.cells import SHAPE, cell_of

    bounds = np.unique(shapely.bounds(shapely.get_parts(np.asarray(world.footprints, dtype=object))), axis=0)
    mask = np.zeros(SHAPE, dtype=bool)
    top, left = np.divmod(cell_of(bounds[:, [0, 3]]), SHAPE[1])
    bottom, right = np.divmod(cell_of(bounds[:, [2, 1]]), SHAPE[1])
    for row, last_row, column, last_column in zip(top, bottom, left, right, strict=True):
        mask[row : last_row + 1, column : last_column + 1] = True
    return mask
