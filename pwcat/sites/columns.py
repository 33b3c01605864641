"""Sites as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.sites.placing import Placements

__all__ = ["Sites", "hilbert_order", "rank_within"]


@dataclass(kw_only=True)
class Sites:
    """Places with their labels and where their chips lie.

    Attributes:
        lonlat: ``(n, 2)``, EPSG:4326.
        stratum: ``(n,)`` number of the stratum.
        codes: class of each layer, ``(n,)``, an index into the layer's classes; -1 where it has none.
        landcover_shares: ``(n, k)`` area shares of the classes of ``landcover``; ``(n, 0)`` without that layer.
        placements: ``n`` of them; their ``site`` means nothing here.
    """

    lonlat: NDArray[np.float64]
    stratum: NDArray[np.int64]
    codes: dict[str, NDArray[np.int16]]
    landcover_shares: NDArray[np.float32]
    placements: Placements

    def __len__(self) -> int:
        return len(self.lonlat)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Sites:
        """Some of them."""
        return Sites(
            lonlat=self.lonlat[rows],
            stratum=self.stratum[rows],
            codes={name: column[rows] for name, column in self.codes.items()},
            landcover_shares=self.landcover_shares[rows],
            placements=self.placements.take(rows),
        )

    @staticmethod
    def concat(parts: Sequence[Sites]) -> Sites:
        """All of several, one after the other."""
        return Sites(
            lonlat=np.concatenate([part.lonlat for part in parts]),
            stratum=np.concatenate([part.stratum for part in parts]),
            codes={name: np.concatenate([part.codes[name] for part in parts]) for name in parts[0].codes},
            landcover_shares=np.concatenate([part.landcover_shares for part in parts]),
            placements=Placements.concat([part.placements for part in parts]),
        )


def rank_within(stratum: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each site among those of its stratum, from 0."""
    order = np.argsort(stratum, kind="stable")
    starts = np.searchsorted(stratum[order], np.arange(stratum.max(initial=-1) + 1))
    rank = np.empty(len(stratum), dtype=np.int64)
    rank[order] = np.arange(len(stratum)) - starts[stratum[order]]
    return rank


def hilbert_order(lonlat: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows along a Hilbert curve over the globe, so that neighbours in order are neighbours in place.

    Args:
        lonlat: ``(n, 2)``, EPSG:4326.
    """
    points = gpd.GeoSeries(shapely.points(lonlat), crs="EPSG:4326")
    distance = points.hilbert_distance(total_bounds=(-180, -90, 180, 90)).to_numpy()
    return np.argsort(distance, kind="stable")
