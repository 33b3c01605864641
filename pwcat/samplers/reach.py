"""Where a domain can lie at all, so that nothing is drawn or counted through where it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.geo.antimeridian import within_reach
from pwcat.samplers.strata import Domain

if TYPE_CHECKING:
    from pwcat.samplers.world import World

__all__ = ["reach_of"]


def reach_of(domain: Domain, labels: Mapping[str, tuple[str, ...]], *, world: World) -> NDArray[np.bool_] | None:
    """Cells of :mod:`pwcat.regions.cells` that may hold a site of the domain with these labels; ``None``: any cell may.

    For ``scenes``, cells that the bounding box of a footprint, or of one of its parts, touches.
    """
    from pwcat.regions.coverage import cells_under

    labelled = world.mask(labels, domain=domain)
    if domain != "scenes":
        return labelled
    scenes = cells_under(within_reach(shapely.get_parts(np.asarray(world.footprints, dtype=object))))
    return scenes if labelled is None else scenes & labelled
