"""``uniform``: sites uniform by area on the sphere, on land, anywhere, where the source has scenes, or inside a region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pwcat.samplers.strata import Domain, SamplerDocument, Stratum

if TYPE_CHECKING:
    from pwcat.samplers.world import World

__all__ = ["Uniform"]


class Uniform(SamplerDocument):
    """Sites uniform by area on the sphere, within a domain, and within classes of layers where they are named."""

    strategy: Literal["uniform"]
    domain: Domain = Field(
        "land",
        description="land: where the layer `continent` has a class; globe: anywhere; scenes: where the source has scenes",
    )
    inside: dict[str, str | Annotated[list[str], Field(min_length=1)]] = Field(
        default_factory=dict, description="classes that a site may have, by layer: `{biome: [Tundra, Deserts]}`"
    )

    def layers(self) -> list[tuple[str, str]]:
        """The layer of the domain, and those of ``inside``."""
        on_land = [("continent", "the domain `land`")] if self.domain == "land" else []
        return on_land + [(name, "`inside`") for name in self.inside]

    def draws_from_scenes(self) -> bool:
        """Where the domain says so."""
        return self.domain == "scenes"

    def strata(self, n: int, *, world: World) -> list[Stratum]:
        """One stratum."""
        wanted = {name: [value] if isinstance(value, str) else value for name, value in self.inside.items()}
        inside = {name: world.spell(name, values) for name, values in wanted.items()}
        return [
            Stratum(
                name=" × ".join(" or ".join(values) for values in inside.values()) or "uniform",
                wanted=n,
                candidates=world.candidates(self.domain, inside),
                labels={**world.labels_of(self.domain), **inside},
                domain=self.domain,
            )
        ]
