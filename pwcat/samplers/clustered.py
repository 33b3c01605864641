"""``clustered``: sites around places, such as the cities of the world, or within a mask, such as natural forest."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from pwcat.document import Document
from pwcat.errors import RegionError
from pwcat.samplers.narrow import Narrow, narrow_to
from pwcat.samplers.reach import reach_of
from pwcat.samplers.strata import Domain, SamplerDocument, Stratum

if TYPE_CHECKING:
    from pwcat.geo.places import Places
    from pwcat.samplers.world import World

__all__ = ["Around", "Clustered", "Mask"]

log = logging.getLogger(__name__)

# Sites drawn at once, and how many draws may yield none before there are said to be none.
CHUNK = 16_384
FRUITLESS_CHUNKS = 64

# What a disc must touch, and what to do where none does.
WANTED: dict[Domain, tuple[str, str]] = {
    "land": ("land (domain `land`)", "take the domain `globe`"),
    "globe": ("the globe", "mend the places"),
    "scenes": ("a scene of the source (domain `scenes`)", "ask for the scenes of other dates or of another collection"),
}


class Around(Document):
    """The places that sites lie around."""

    path: str | None = Field(None, description="vector file, Parquet or CSV, relative to the recipe")
    dataset: Literal["ne-populated-places"] | None = Field(
        None, description="instead: a dataset of points in the cache"
    )
    weight: str | None = Field(None, description="attribute in proportion to which places get sites; none: all alike")
    lon: str | None = Field(
        None, description="tables: the column of longitudes; by default `lon`, `longitude`, `x` or the like"
    )
    lat: str | None = Field(None, description="tables: the column of latitudes; by default `lat`, `latitude` or `y`")

    @field_validator("dataset")
    @classmethod
    def _one_kind(cls, dataset: str | None, info: ValidationInfo) -> str | None:
        if "path" in info.data and (dataset is None) == (info.data["path"] is None):
            raise ValueError("the places are either those of a file (`path`) or of a `dataset`")
        return dataset

    @field_validator("lat")
    @classmethod
    def _both(cls, lat: str | None, info: ValidationInfo) -> str | None:
        if (lat is None) != (info.data.get("lon") is None):
            raise ValueError("give both `lon` and `lat`, or neither")
        return lat


class Mask(Document):
    """The classes that sites lie within."""

    layer: str = Field(description="a layer of `regions`")
    values: list[str] = Field(min_length=1, description="classes, as the layer names them")


class Clustered(SamplerDocument):
    """Uniform by area within geodesic discs around places, or within the classes of a mask."""

    strategy: Literal["clustered"]
    around: Around | None = Field(None, description="places that sites lie around")
    radius_km: float | None = Field(None, gt=0, le=5000, description="of the discs around places")
    mask: Mask | None = Field(None, description="instead: classes of a layer that sites lie within")
    domain: Domain = Field("land", description="as for `uniform`")

    @field_validator("radius_km")
    @classmethod
    def _of_discs(cls, radius_km: float | None, info: ValidationInfo) -> float | None:
        if "around" in info.data and (radius_km is None) != (info.data["around"] is None):
            raise ValueError(
                "`around` and `radius_km` belong together: places, and the radius of the discs around them"
            )
        return radius_km

    @field_validator("mask")
    @classmethod
    def _one_kind(cls, mask: Mask | None, info: ValidationInfo) -> Mask | None:
        if "around" in info.data and (mask is None) == (info.data["around"] is None):
            raise ValueError("clusters lie either `around` places or in a `mask`")
        return mask

    def layers(self) -> list[tuple[str, str]]:
        """That of the mask, and that of the domain."""
        on_land = [("continent", "the domain `land`")] if self.domain == "land" else []
        return ([(self.mask.layer, "the mask of clustered")] if self.mask else []) + on_land

    def draws_from_scenes(self) -> bool:
        """Where the domain says so."""
        return self.domain == "scenes"

    def strata(self, n: int, *, world: World) -> list[Stratum]:
        """One stratum.

        Raises:
            RegionError: the file or dataset is missing, a weight is no number, a class is unknown, or no place's disc
                touches the domain.
        """
        labels = world.labels_of(self.domain)
        if self.mask is not None:
            values = world.spell(self.mask.layer, self.mask.values)
            masked = {**labels, self.mask.layer: values}
            candidates = world.candidates(self.domain, {self.mask.layer: values})
            name = " or ".join(values)
            return [Stratum(name=name, wanted=n, candidates=candidates, labels=masked, domain=self.domain)]
        assert self.around is not None, "its validators saw to it"
        places = _read(self.around, world)
        name = f"within {self.radius_km:g} km of {Path(places.source).stem}"
        discs = self._discs(places, labels, world)
        return [Stratum(name=name, wanted=n, candidates=discs, labels=labels, domain=self.domain)]

    def _discs(self, places: Places, labels: Mapping[str, tuple[str, ...]], world: World) -> _Discs:
        """The discs that may touch the domain; the others would only be drawn in vain."""
        from pwcat.regions.cells import cell_of, grow

        assert self.around is not None, "its validators saw to it"
        assert self.radius_km is not None, "its validators saw to it"
        wanted, instead = WANTED[self.domain]
        count = "place" if len(places) == 1 else f"{len(places):,} places"
        none = (
            f"clustered: no disc of {self.radius_km:g} km around the {count} of {places.source} touches "
            f"{wanted}; see that longitude and latitude are not exchanged, raise `radius_km`, or {instead}"
        )
        centres, shares = places.centres(), _shares(places, self.around.weight)
        reach = reach_of(self.domain, labels, world=world)
        near = shares > 0
        if reach is not None:
            near &= grow(reach, self.radius_km).ravel()[cell_of(centres)]
        if not near.any():
            raise RegionError(none)
        return _Discs(
            centres=centres[near],
            shares=shares[near] / shares[near].sum(),
            radius_km=self.radius_km,
            narrow=narrow_to(self.domain, labels, world=world),
            none=none,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Discs:
    """Draws a place by its share, then a point uniform by area in the disc around it.

    A disc of angle ``t`` on the sphere has area ``2 pi (1 - cos t)``, so that ``cos t`` is uniform. Sites that the domain
    takes away are drawn anew anywhere: a place at the coast gets fewer.
    """

    centres: NDArray[np.float64]
    shares: NDArray[np.float64]
    radius_km: float
    narrow: Narrow
    none: str  # what is said if no draw lies in the domain

    def __call__(self, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        fruitless, any_ = 0, False
        while fruitless < FRUITLESS_CHUNKS:
            points = self.narrow(self._draw(rng))
            fruitless = 0 if len(points) else fruitless + 1
            if len(points):
                any_ = True
                yield points
        if not any_:
            raise RegionError(self.none)

    def _draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        from pwcat.geo.geodesy import EARTH_RADIUS_KM, destination

        start = rng.choice(len(self.centres), size=CHUNK, p=self.shares)
        haversine = rng.random(CHUNK) * np.sin(self.radius_km / EARTH_RADIUS_KM / 2) ** 2
        km = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(haversine))
        return destination(self.centres[start], rng.random(CHUNK) * 360, km)


def _read(around: Around, world: World) -> Places:
    from pwcat.geo.places import read_places

    if around.path is not None:
        path = world.base_dir / Path(around.path).expanduser()
    else:
        from pwcat.regions import dataset_path

        assert around.dataset is not None, "its validator saw to it"
        path = dataset_path(around.dataset)
    columns = [around.weight] if around.weight else []
    return read_places(path, columns=columns, lon=around.lon, lat=around.lat)


def _shares(places: Places, weight: str | None) -> NDArray[np.float64]:
    """Probability of each place, ``(n,)``."""
    if weight is None:
        return np.full(len(places), 1 / len(places))
    try:
        weights = places.columns[weight].astype(np.float64)
    except (TypeError, ValueError) as exc:
        raise RegionError(f"{places.source}: the weight {weight!r} is not a column of numbers") from exc
    known = np.isfinite(weights) & (weights >= 0)
    if not known.all():  # Natural Earth writes -99 for what it does not know
        log.warning(
            "%s: %r is missing or negative in %d of %d rows: these get no sites",
            places.source,
            weight,
            int((~known).sum()),
            len(known),
        )
        weights = np.where(known, weights, 0.0)
    if not weights.sum() > 0:
        raise RegionError(f"{places.source}: the weight {weight!r} is nowhere above zero")
    return np.asarray(weights / weights.sum())
