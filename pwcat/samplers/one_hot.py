"""``one_hot``: sites uniform by area within one class of one layer, such as one continent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pwcat.samplers.strata import Domain, SamplerDocument, Stratum
from pwcat.samplers.uniform import Uniform

if TYPE_CHECKING:
    from pwcat.samplers.world import World

__all__ = ["OneHot"]


class OneHot(SamplerDocument):
    """Sites uniform by area within one class of one layer: ``uniform`` inside it."""

    strategy: Literal["one_hot"]
    layer: str = Field(description="the layer whose class is wanted")
    value: str = Field(min_length=1, description="the class, as the layer names it")
    domain: Domain = Field("land", description="as for `uniform`")

    def layers(self) -> list[tuple[str, str]]:
        """The layer, and that of the domain."""
        on_land = [("continent", "the domain `land`")] if self.domain == "land" else []
        return [(self.layer, "one_hot"), *on_land]

    def draws_from_scenes(self) -> bool:
        """Where the domain says so."""
        return self.domain == "scenes"

    def strata(self, n: int, *, world: World) -> list[Stratum]:
        """One stratum, named after the class."""
        inside = Uniform(strategy="uniform", domain=self.domain, inside={self.layer: self.value})
        return inside.strata(n, world=world)
