"""What every site must satisfy, whatever the strategy that drew it."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from pwcat.document import Document

__all__ = ["Constraints", "Exclusion"]


class Exclusion(Document):
    """Places to stay away from, such as the footprints of an evaluation set."""

    path: str = Field(
        description="a vector file, GeoParquet, or CSV with `lon` and `lat`: points, boxes or polygons; relative to the recipe"
    )
    buffer_km: float = Field(0.0, ge=0, description="no part of a chip comes nearer than this")


class Constraints(Document):
    """Conditions on sites, and how many are held in reserve."""

    min_spacing_km: float = Field(0.0, ge=0, description="geodesic distance between any two sites")
    min_land_fraction: float = Field(
        0.0, ge=0, le=1, description="share of a chip that the layer `continent` calls land"
    )
    exclude: list[Exclusion] = Field(default_factory=list, description="zones that no chip touches")
    max_sites_per_scene: int | None = Field(None, ge=1)
    min_sites_per_scene: int = Field(1, ge=1, description="sites are drawn in groups that share their scenes")
    reserve_fraction: float = Field(
        0.0, ge=0, le=1, description="extra sites, as a share of the samples, for those that turn out to have no pixels"
    )

    @field_validator("min_sites_per_scene")
    @classmethod
    def _below_most(cls, least: int, info: ValidationInfo) -> int:
        most = info.data.get("max_sites_per_scene")
        if most is not None and least > most:
            raise ValueError(f"`min_sites_per_scene` ({least}) is more than `max_sites_per_scene` ({most})")
        return least
