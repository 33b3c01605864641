"""``points``: bring your own places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from pwcat.samplers.strata import SamplerDocument, Stratum

if TYPE_CHECKING:
    from pwcat.samplers.world import World

__all__ = ["Points"]

# Sites that are handed on at once.
CHUNK = 65_536


class Points(SamplerDocument):
    """The places of a file, each at most once; of lines and polygons the centroid."""

    strategy: Literal["points"]
    path: str = Field(min_length=1, description="vector file, Parquet or CSV, relative to the recipe")
    lon: str | None = Field(
        None, description="tables: the column of longitudes; by default `lon`, `longitude`, `x` or the like"
    )
    lat: str | None = Field(None, description="tables: the column of latitudes; by default `lat`, `latitude` or `y`")
    order: Literal["random", "file"] = Field("random", description="the order in which places are taken")

    @field_validator("lat")
    @classmethod
    def _both(cls, lat: str | None, info: ValidationInfo) -> str | None:
        if (lat is None) != (info.data.get("lon") is None):
            raise ValueError("give both `lon` and `lat`, or neither")
        return lat

    def strata(self, n: int, *, world: World) -> list[Stratum]:
        """One stratum, named after the file.

        Raises:
            RegionError: the file is missing, unreadable or empty.
        """
        from pwcat.geo.places import read_places

        path = world.base_dir / Path(self.path).expanduser()
        lonlat = read_places(path, lon=self.lon, lat=self.lat).centres()
        return [Stratum(name=path.name, wanted=n, candidates=_Listed(lonlat, self.order == "random"), listed=True)]


@dataclass(frozen=True, eq=False)
class _Listed:
    lonlat: NDArray[np.float64]
    shuffle: bool

    def __call__(self, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        lonlat = rng.permutation(self.lonlat) if self.shuffle else self.lonlat
        return (lonlat[start : start + CHUNK] for start in range(0, len(lonlat), CHUNK))
