"""``mixture``: other strategies side by side, each with a share: half Europe and half everywhere."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pwcat.document import Document
from pwcat.samplers.strata import SamplerDocument, Stratum, apportion

if TYPE_CHECKING:
    from pwcat.samplers import PlainSampler
    from pwcat.samplers.world import World

__all__ = ["Mixture", "Part"]

log = logging.getLogger(__name__)


class Part(Document):
    """One strategy and its share."""

    weight: float = Field(gt=0, description="share of the sites; weights need not add up to one")
    sampler: PlainSampler


class Mixture(SamplerDocument):
    """The strata of several strategies; a site may satisfy more than one of them."""

    strategy: Literal["mixture"]
    parts: list[Part] = Field(min_length=1)

    def layers(self) -> list[tuple[str, str]]:
        """Those of the parts."""
        return [pair for part in self.parts for pair in part.sampler.layers()]

    def draws_from_scenes(self) -> bool:
        """Where one of the parts does."""
        return any(part.sampler.draws_from_scenes() for part in self.parts)

    def strata(self, n: int, *, world: World) -> list[Stratum]:
        """The strata of each part, for its share of ``n``; names that occur twice get a number."""
        counts = apportion(n, [part.weight for part in self.parts])
        if 0 in counts:
            log.warning("%d sites are too few for every part: nothing is drawn of %d of them", n, counts.count(0))
        strata = [
            stratum
            for part, count in zip(self.parts, counts, strict=True)
            if count
            for stratum in part.sampler.strata(count, world=world)
        ]
        seen: Counter[str] = Counter()
        named = []
        for stratum in strata:
            seen[stratum.name] += 1
            again = f" ({seen[stratum.name]})" if seen[stratum.name] > 1 else ""
            named.append(replace(stratum, name=stratum.name + again))
        return named
