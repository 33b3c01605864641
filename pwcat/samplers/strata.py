"""What every strategy comes down to: strata, each with how many sites are wanted, from where, and with which labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pwcat.document import Document

if TYPE_CHECKING:
    from pwcat.samplers.world import World

__all__ = ["Candidates", "Domain", "SamplerDocument", "Stratum", "apportion"]

Domain = Literal["land", "globe", "scenes"]

# Sites as they are drawn, ``(k, 2)`` longitude and latitude (EPSG:4326) at a time, from the generator that is passed in.
# An iterator that ends has no more to give.
Candidates = Callable[[np.random.Generator], Iterator[NDArray[np.float64]]]


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """One part of a sample.

    Attributes:
        name: for people: ``Europe``, ``Europe × Tundra``, ``uniform``.
        wanted: how many sites.
        candidates: where they are drawn from, in the order in which they are taken.
        labels: classes that a site may have, by layer; a layer not named here may say anything.
        domain: that candidates are drawn in; ``None``: the strategy has none.
        listed: candidates are a list of places, which is worth trying to its end; others are drawn as long as sites come.
    """

    name: str
    wanted: int
    candidates: Candidates
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    domain: Domain | None = None
    listed: bool = False


class SamplerDocument(Document):
    """Base of the strategies: what a recipe may say of one, and what it draws."""

    strategy: str

    def layers(self) -> list[tuple[str, str]]:
        """Layers of the recipe's ``regions`` that this needs: each with the reason, as in "``REASON`` needs the layer …"."""
        return []

    def draws_from_scenes(self) -> bool:
        """Whether it draws where the source has scenes, whose footprints must then be known before."""
        return False

    def strata(self, n: int, *, world: World) -> list[Stratum]:
        """``n`` sites as strata, whose ``wanted`` add up to ``n``.

        Raises:
            RegionError: a class or file that it needs is not there, or there is nothing to draw from.
        """
        raise NotImplementedError


def apportion(n: int, shares: Sequence[float]) -> list[int]:
    """``n`` as whole numbers in proportion to ``shares``, by largest remainder; ties go to the first.

    Equal shares give numbers that differ by one at most, and are equal where they can be.
    """
    weights = np.asarray(shares, dtype=np.float64)
    exact = n * weights / weights.sum()
    whole = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - whole), kind="stable")
    whole[order[: n - int(whole.sum())]] += 1
    return [int(number) for number in whole]
