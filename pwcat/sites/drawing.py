"""Drawing sites: stratum by stratum, in rounds, until each quota is met under every constraint."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import RegionError
from pwcat.recipe import Recipe
from pwcat.regions import Regions
from pwcat.samplers.strata import Stratum
from pwcat.sites.columns import Sites, rank_within
from pwcat.sites.exclusion import open_exclusions
from pwcat.sites.filling import LEAST_A_ROUND, Filling, target_of
from pwcat.sites.judging import Judge
from pwcat.sites.placing import Located
from pwcat.sites.shortfall import Circumstances

__all__ = ["Drawn", "Locator", "OnDrawn", "accept_in_order", "choose_sites", "draw_candidates", "unheard"]

# Candidates of all strata together, a round, at most.
MOST_A_ROUND = 262_144

# Candidates for each site that a group still wants.
GROUP_CANDIDATES = 8


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How far drawing has come.

    Attributes:
        placed: sites, the reserve included.
        wanted: likewise.
        filled: strata that have all of theirs.
        strata: in all.
        tried: candidates.
    """

    placed: int
    wanted: int
    filled: int
    strata: int
    tried: int


# Told after each round.
OnDrawn = Callable[[Drawn], None]


def unheard(drawn: Drawn) -> None:
    """Nobody looks on."""


class Locator(Protocol):
    """Finds where the chips of sites lie."""

    @property
    def asks(self) -> bool:
        """Whether each lot of candidates is a question to a source."""
        ...

    def dated(self, lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which sites have dates, ``(n,)``; only these are to be placed."""
        ...

    def locate(self, lonlat: NDArray[np.float64], *, avoid: Collection[int] = ()) -> Located:
        """Placements of those of the sites that can be placed; scene numbers, of those to avoid too, are the locator's own."""
        ...

    def group(self, lonlat: NDArray[np.float64], scenes: NDArray[np.int64]) -> Located:
        """Placements of those of the sites that lie whole in these very scenes, one a date."""
        ...

    def inside(self, scenes: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """``(n, 2)`` points uniform by area in the footprint that these scenes share."""
        ...

    def circumstances(self) -> Circumstances:
        """What advice hangs on, where sites could not be had."""
        ...


def choose_sites(
    recipe: Recipe,
    strata: Sequence[Stratum],
    *,
    regions: Regions,
    locator: Locator,
    base_dir: Path,
    progress: OnDrawn = unheard,
) -> tuple[Sites, Sites]:
    """The sites of a recipe, and its reserve; each stratum's in the order in which they were drawn.

    Args:
        recipe: says the constraints, the chip and the seed.
        strata: whose quotas are to be met.
        regions: layers that label.
        locator: finds scenes, or does without.
        base_dir: the folder that relative paths of the recipe start from.
        progress: told how far it has come.

    Raises:
        RegionError, SourceError: a quota cannot be met; says of each how many could be placed, why, and what to relax.
    """
    _require_groups(recipe, strata)
    filling = Filling(recipe, strata, enough=[stratum.wanted for stratum in strata])
    sites = _draw(filling, regions=regions, locator=locator, base_dir=base_dir, progress=progress)
    return _divide(sites, strata)


def draw_candidates(
    recipe: Recipe,
    strata: Sequence[Stratum],
    *,
    times: float,
    regions: Regions,
    locator: Locator,
    base_dir: Path,
    progress: OnDrawn = unheard,
) -> Sites:
    """``times`` as many sites as are wanted, reserve included, or as many as there are; not yet held apart from each other.

    For the other arguments and errors see :func:`choose_sites`.
    """
    together = {"min_spacing_km": 0.0, "max_sites_per_scene": None, "reserve_fraction": 0.0}
    loose = recipe.model_copy(update={"constraints": recipe.constraints.model_copy(update=together)})
    more = [replace(stratum, wanted=int(np.ceil(times * target_of(recipe, stratum)))) for stratum in strata]
    filling = Filling(loose, more, enough=[stratum.wanted for stratum in strata])
    return _draw(filling, regions=regions, locator=locator, base_dir=base_dir, progress=progress)


def accept_in_order(recipe: Recipe, strata: Sequence[Stratum], candidates: Sites) -> tuple[Sites, Sites]:
    """Sites and reserve from candidates, the first first, as quotas, spacing and scenes allow.

    Raises:
        RegionError: a quota cannot be met from these candidates.
    """
    filling = Filling(recipe, strata, enough=[stratum.wanted for stratum in strata])
    for part in filling.parts:
        part.tried, part.exhausted = int((candidates.stratum == part.number).sum()), True
    filling.accept(candidates)
    about = Circumstances(
        chip_km=recipe.chip_km,
        dates=candidates.placements.scene.shape[1],
        clouds=recipe.when.max_cloud_cover,
        scored=True,
    )
    return _divide(filling.result(about), strata)


def _require_groups(recipe: Recipe, strata: Sequence[Stratum]) -> None:
    least = recipe.constraints.min_sites_per_scene
    small = [f"{stratum.name} ({stratum.wanted})" for stratum in strata if stratum.wanted < least]
    if small:
        raise RegionError(
            f"{recipe.name}: `constraints.min_sites_per_scene` ({least}) is more than some strata want in all: "
            f"{', '.join(small[:10])}; lower it, or ask for more samples"
        )


def _divide(sites: Sites, strata: Sequence[Stratum]) -> tuple[Sites, Sites]:
    """Those that are wanted, and the reserve."""
    kept = rank_within(sites.stratum) < np.array([stratum.wanted for stratum in strata])[sites.stratum]
    return sites.take(kept), sites.take(~kept)


def _draw(filling: Filling, *, regions: Regions, locator: Locator, base_dir: Path, progress: OnDrawn) -> Sites:
    """Rounds over all open strata, until none is."""
    zones = open_exclusions(filling.limits.exclude, base_dir=base_dir)
    judge = Judge(filling.recipe, filling.strata, regions=regions, zones=zones, dated=locator.dated, drop=filling.drop)
    while working := [part for part in filling.parts if part.open]:
        lonlat = [part.next_round(max(LEAST_A_ROUND, MOST_A_ROUND // len(working))) for part in working]
        stratum = np.repeat([part.number for part in working], [len(lot) for lot in lonlat])
        sites = judge.judge(
            np.concatenate(lonlat),
            stratum,
            partial(locator.locate, avoid=filling.full_scenes()),
            free=filling.far_from_accepted,
        )
        if filling.limits.min_sites_per_scene > 1:
            _fill_scenes(filling, sites, judge, locator)
        else:
            filling.accept(sites)
        for part in working:
            part.end_round(asks=locator.asks)
        progress(_drawn(filling))
    return filling.result(locator.circumstances())


def _drawn(filling: Filling) -> Drawn:
    return Drawn(
        placed=sum(part.placed for part in filling.parts),
        wanted=sum(part.target for part in filling.parts),
        filled=sum(part.placed >= part.target for part in filling.parts),
        strata=len(filling.parts),
        tried=sum(part.tried for part in filling.parts),
    )


def _fill_scenes(filling: Filling, seeds: Sites, judge: Judge, locator: Locator) -> None:
    """Around each seed, a group of sites that shares its scenes; seeds whose scenes hold no whole group are dropped."""
    least = filling.limits.min_sites_per_scene
    for row in range(len(seeds)):
        part = filling.parts[int(seeds.stratum[row])]
        missing = (part.stratum.wanted if part.placed < part.stratum.wanted else part.target) - part.placed
        if missing <= 0:
            continue
        size = missing if missing < 2 * least else least
        seed, scenes = seeds.take(np.array([row])), seeds.placements.scene[row]
        around = locator.inside(scenes, GROUP_CANDIDATES * size, part.rng)
        more = judge.judge(
            around,
            np.full(len(around), part.number),
            partial(locator.group, scenes=scenes),
            free=filling.far_from_accepted,
        )
        filling.accept_group(Sites.concat([seed, more]), size)
