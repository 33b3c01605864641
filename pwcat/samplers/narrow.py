"""Candidates that lie where none can be taken are left out before they cost anything: at sea, or where no scene is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.samplers.strata import Domain

if TYPE_CHECKING:
    from pwcat.samplers.world import World

__all__ = ["Narrow", "narrow_to"]

# Of candidates ``(n, 2)``, those that may be taken, in their order.
Narrow = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def narrow_to(domain: Domain, labels: Mapping[str, tuple[str, ...]], *, world: World) -> Narrow:
    """Leaves out candidates that for certain lie outside the domain, or have other labels; the rest is still to be checked."""
    mask = world.mask(labels, domain=domain)
    known = None if mask is None else mask.ravel()
    scenes = shapely.STRtree(list(dict.fromkeys(world.footprints))) if domain == "scenes" else None

    def narrow(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        from pwcat.regions.cells import cell_of

        if known is not None:
            lonlat = lonlat[known[cell_of(lonlat)]]
        if scenes is not None:
            lonlat = lonlat[np.unique(scenes.query(shapely.points(lonlat), predicate="intersects")[0])]
        return lonlat

    return narrow
