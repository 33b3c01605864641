"""``spectral``: more candidates than wanted are looked at in low resolution, and those with the wanted spectra taken."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator

from pwcat.document import Document
from pwcat.samplers.strata import SamplerDocument, Stratum

if TYPE_CHECKING:
    from pwcat.samplers import PlainSampler
    from pwcat.samplers.world import World

__all__ = ["Spectral", "Target"]


class Target(Document):
    """A wanted distribution of spectral entropy."""

    edges: list[float] = Field(
        min_length=2, description="of the bins, nats, ascending; values beyond count in the outer bins"
    )
    weights: list[float] = Field(description="share of the sites in each bin")

    @field_validator("edges")
    @classmethod
    def _ascending(cls, edges: list[float]) -> list[float]:
        if any(after <= before for before, after in pairwise(edges)):
            raise ValueError("`edges` must ascend")
        return edges

    @field_validator("weights")
    @classmethod
    def _one_a_bin(cls, weights: list[float], info: ValidationInfo) -> list[float]:
        if min(weights, default=0) < 0 or sum(weights) <= 0:
            raise ValueError("weights must not be negative, nor all zero")
        if "edges" in info.data and len(weights) != (bins := len(info.data["edges"]) - 1):
            raise ValueError(f"{bins + 1} edges make {bins} bin{'s' if bins > 1 else ''}, and each wants a weight")
        return weights


class Spectral(SamplerDocument):
    """Sites of another strategy, chosen by the spectral entropy of their pixels under its quotas and all constraints.

    Candidates are scored on pixels ``factor`` times as coarse; some are read in full as well, and the plan tells how well
    the one ranks the other. GDAL takes the coarse pixels from the nearest overview.
    """

    strategy: Literal["spectral"]
    base: PlainSampler = Field(description="where candidates come from, and the quotas")
    candidates: float = Field(5.0, gt=1, le=100, description="for each site that is wanted")
    aim: Literal["highest"] | Target = Field("highest", description="highest mean entropy, or a distribution of it")
    factor: int = Field(4, ge=1, le=64, description="how many times coarser than the chip the pixels are that score it")
    bands: list[str] | None = Field(None, min_length=1, description="that are scored; all of the chip's where left out")
    calibrate: int = Field(100, ge=0, description="candidates that are read in full as well")

    def layers(self) -> list[tuple[str, str]]:
        """Those of the base."""
        return self.base.layers()

    def draws_from_scenes(self) -> bool:
        """As the base does."""
        return self.base.draws_from_scenes()

    def strata(self, n: int, *, world: World) -> list[Stratum]:
        """Those of the base; which of their candidates are taken is decided once they are scored."""
        return self.base.strata(n, world=world)
