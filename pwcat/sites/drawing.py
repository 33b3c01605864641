"""Drawing sites: stratum by stratum, in rounds, until each quota is met under every constraint."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import RegionError
from pwcat.geo.geodesy import SiteIndex
from pwcat.recipe import Recipe
from pwcat.regions import Regions
from pwcat.samplers.strata import Stratum
from pwcat.sites.columns import Sites, rank_within
from pwcat.sites.exclusion import open_exclusions
from pwcat.sites.judging import Judge
from pwcat.sites.placing import Placements
from pwcat.sites.shortfall import Reason, Shortfall, unmet_error

__all__ = ["Locator", "accept_in_order", "choose_sites", "draw_candidates"]

log = logging.getLogger(__name__)

# Candidates a stratum and round, at least, and of all strata together, at most.
ROUND = (64, 262_144)

# Sites that are held against each other at once: spacing looks at pairs, and of crowded sites there are many.
TOGETHER = 16_384

# A stratum that fills less than this share of what it misses, in so many rounds, is said to be out of reach.
LEAST_PROGRESS, ROUNDS = 0.1, 20

# Candidates for each site that a group still wants.
GROUP_CANDIDATES = 8


class Locator(Protocol):
    """Finds where the chips of sites lie."""

    def locate(self, lonlat: NDArray[np.float64], *, avoid: Collection[int] = ()) -> Placements:
        """Placements of those of the sites that can be placed; scene numbers, of those to avoid too, are the locator's own."""
        ...

    def group(self, lonlat: NDArray[np.float64], scenes: NDArray[np.int64]) -> Placements:
        """Placements of those of the sites that lie whole in these very scenes, one a date."""
        ...

    def inside(self, scenes: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """``(n, 2)`` points uniform by area in the footprint that these scenes share."""
        ...


def choose_sites(
    recipe: Recipe, strata: Sequence[Stratum], *, regions: Regions, locator: Locator, base_dir: Path
) -> tuple[Sites, Sites]:
    """The sites of a recipe, and its reserve; each stratum's in the order in which they were drawn.

    Args:
        recipe: says the constraints, the chip and the seed.
        strata: whose quotas are to be met.
        regions: layers that label.
        locator: finds scenes, or does without.
        base_dir: the folder that relative paths of the recipe start from.

    Raises:
        RegionError, SourceError: a quota cannot be met; says of each how many could be placed, why, and what to relax.
    """
    _require_groups(recipe, strata)
    filling = _Filling(recipe, strata, enough=[stratum.wanted for stratum in strata])
    return _divide(_draw(filling, regions=regions, locator=locator, base_dir=base_dir), strata)


def draw_candidates(
    recipe: Recipe, strata: Sequence[Stratum], *, times: float, regions: Regions, locator: Locator, base_dir: Path
) -> Sites:
    """``times`` as many sites as are wanted, reserve included, or as many as there are; not yet held apart from each other.

    For the other arguments and errors see :func:`choose_sites`.
    """
    together = {"min_spacing_km": 0.0, "max_sites_per_scene": None, "reserve_fraction": 0.0}
    loose = recipe.model_copy(update={"constraints": recipe.constraints.model_copy(update=together)})
    more = [replace(stratum, wanted=int(np.ceil(times * _target(recipe, stratum)))) for stratum in strata]
    filling = _Filling(loose, more, enough=[stratum.wanted for stratum in strata])
    return _draw(filling, regions=regions, locator=locator, base_dir=base_dir)


def accept_in_order(recipe: Recipe, strata: Sequence[Stratum], candidates: Sites) -> tuple[Sites, Sites]:
    """Sites and reserve from candidates, the first first, as quotas, spacing and scenes allow.

    Raises:
        RegionError: a quota cannot be met from these candidates.
    """
    filling = _Filling(recipe, strata, enough=[stratum.wanted for stratum in strata])
    for part in filling.parts:
        part.tried, part.exhausted = int((candidates.stratum == part.number).sum()), True
    filling.accept(candidates)
    return _divide(filling.result(), strata)


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


def _target(recipe: Recipe, stratum: Stratum) -> int:
    return stratum.wanted + int(np.ceil(recipe.constraints.reserve_fraction * stratum.wanted))


@dataclass(kw_only=True)
class _Part:
    """One stratum being filled."""

    number: int
    stratum: Stratum
    target: int  # the reserve included
    rng: np.random.Generator
    stream: Iterator[NDArray[np.float64]]
    rest: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    placed: int = 0
    tried: int = 0
    rounds: int = 0
    placed_before: int = 0  # these rounds
    stalled: bool = False
    exhausted: bool = False
    dropped: Counter[Reason] = field(default_factory=Counter)

    @property
    def open(self) -> bool:
        return self.placed < self.target and not self.exhausted and not self.stalled

    def end_round(self) -> None:
        """See every few rounds whether it gets on."""
        self.rounds += 1
        if self.rounds % ROUNDS == 0:
            missing = self.target - self.placed_before
            self.stalled = self.placed - self.placed_before < LEAST_PROGRESS * missing
            self.placed_before = self.placed

    def next_round(self, most: int) -> NDArray[np.float64]:
        """As many candidates as will probably do."""
        least = ROUND[0]
        rate = (self.placed + 1) / (self.tried + 1) if self.tried else 1.0
        wanted = int(min(max((self.target - self.placed) / max(rate, 0.01) * 1.05, least), most))
        while len(self.rest) < wanted and (more := next(self.stream, None)) is not None:
            self.rest = np.concatenate([self.rest, more])
        self.exhausted = len(self.rest) < wanted
        taken, self.rest = self.rest[:wanted], self.rest[wanted:]
        self.tried += len(taken)
        return taken

    def shortfall(self, wanted: int) -> Shortfall:
        return Shortfall(
            name=self.stratum.name,
            placed=self.placed,
            wanted=wanted,
            tried=self.tried,
            exhausted=self.exhausted,
            dropped=self.dropped,
        )


class _Filling:
    """Strata being filled under the constraints that tie sites to each other: quotas, spacing, sites a scene."""

    def __init__(self, recipe: Recipe, strata: Sequence[Stratum], *, enough: Sequence[int]) -> None:
        self.recipe, self.limits, self.enough = recipe, recipe.constraints, enough
        self.strata = strata
        self.parts = [self._open(number, stratum) for number, stratum in enumerate(strata)]
        self.accepted: list[Sites] = []
        self.in_scene: Counter[int] = Counter()

    def _open(self, number: int, stratum: Stratum) -> _Part:
        rng = np.random.default_rng([self.recipe.seed, number])
        stream = iter(stratum.candidates(rng))
        return _Part(number=number, stratum=stratum, target=_target(self.recipe, stratum), rng=rng, stream=stream)

    def drop(self, reason: Reason, stratum: NDArray[np.int64]) -> None:
        """Note why candidates of these strata fell."""
        for number, count in zip(*np.unique(stratum, return_counts=True), strict=True):
            self.parts[int(number)].dropped[reason] += int(count)

    def accept(self, sites: Sites) -> None:
        """Take sites in order, as long as their stratum wants one, they are apart, and their scenes are not full."""
        for start in range(0, max(len(sites), 1), TOGETHER):
            lot = sites.take(np.arange(start, min(start + TOGETHER, len(sites))))
            self._keep(lot.take(self.fitting(lot)))

    def _keep(self, sites: Sites) -> None:
        if len(sites) or not self.accepted:
            self.accepted.append(sites)
        for number, count in zip(*np.unique(sites.stratum, return_counts=True), strict=True):
            self.parts[int(number)].placed += int(count)
        if self.limits.max_sites_per_scene is not None:
            self.in_scene.update(number for row in sites.placements.scene.tolist() for number in {*row})

    def accept_group(self, sites: Sites, size: int) -> None:
        """Take ``size`` sites of one stratum, in order, or none of them."""
        part = self.parts[int(sites.stratum[0])]
        target, part.target = part.target, part.placed + size
        rows = self.fitting(sites)
        part.target = target
        if len(rows) == size:
            self._keep(sites.take(rows))
        else:
            part.dropped["group"] += 1

    def fitting(self, sites: Sites) -> NDArray[np.int64]:
        """Rows that can be taken, in order."""
        places = np.array([part.target - part.placed for part in self.parts])
        if self.limits.min_spacing_km <= 0 and self.limits.max_sites_per_scene is None:
            return np.flatnonzero(rank_within(sites.stratum) < places[sites.stratum])
        wanted = np.flatnonzero(places[sites.stratum] > 0)
        far = wanted[self.far_from_accepted(sites.lonlat[wanted])]
        self.drop("spacing", np.delete(sites.stratum[wanted], np.searchsorted(wanted, far)))
        return far[self._one_by_one(sites.take(far), places)]

    def _one_by_one(self, sites: Sites, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the sites are taken, if each is held against those taken before it."""
        most = self.limits.max_sites_per_scene
        starts, earlier = _near_earlier(sites.lonlat, self.limits.min_spacing_km)
        in_scene = Counter(self.in_scene)
        taken = np.zeros(len(sites), dtype=bool)
        for row, (number, scenes) in enumerate(
            zip(sites.stratum.tolist(), sites.placements.scene.tolist(), strict=True)
        ):
            if places[number] == 0:
                continue
            if taken[earlier[starts[row] : starts[row + 1]]].any():
                self.parts[number].dropped["spacing"] += 1
            elif most is not None and any(in_scene[scene] >= most for scene in scenes):
                self.parts[number].dropped["full"] += 1
            else:
                taken[row] = True
                places[number] -= 1
                in_scene.update({*scenes})
        return taken

    def full_scenes(self) -> list[int]:
        """Scenes that have as many sites as they may."""
        most = self.limits.max_sites_per_scene
        return [] if most is None else [scene for scene, count in self.in_scene.items() if count >= most]

    def far_from_accepted(self, lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether a site is far enough from those of earlier rounds."""
        km = self.limits.min_spacing_km
        if km <= 0 or not sum(map(len, self.accepted)):
            return np.ones(len(lonlat), dtype=bool)
        starts, _ = SiteIndex(np.concatenate([part.lonlat for part in self.accepted])).near(lonlat, km)
        return np.asarray(np.diff(starts) == 0)

    def result(self) -> Sites:
        """All that was taken, stratum by stratum.

        Raises:
            RegionError, SourceError: a quota is not met.
        """
        unmet = [
            part.shortfall(least) for part, least in zip(self.parts, self.enough, strict=True) if part.placed < least
        ]
        if unmet:
            placed = sum(min(part.placed, least) for part, least in zip(self.parts, self.enough, strict=True))
            raise unmet_error(self.recipe.name, unmet, placed=placed, wanted=sum(self.enough))
        short = sum(max(0, part.target - part.placed) for part in self.parts)
        if short and self.limits.reserve_fraction:
            log.warning("%s: the reserve is %d sites short of what was asked", self.recipe.name, short)
        sites = Sites.concat(self.accepted)
        return sites.take(np.argsort(sites.stratum, kind="stable"))


def _near_earlier(lonlat: NDArray[np.float64], km: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows before each that are nearer than this, as compressed rows: the start of each one's list, and the lists."""
    if km <= 0 or not len(lonlat):
        return np.zeros(len(lonlat) + 1, dtype=np.int64), np.empty(0, dtype=np.int64)
    pairs = SiteIndex(lonlat).pairs_within(km)  # (m, 2), the first before the second
    pairs = pairs[np.argsort(pairs[:, 1], kind="stable")]
    return np.searchsorted(pairs[:, 1], np.arange(len(lonlat) + 1)), pairs[:, 0]


def _draw(filling: _Filling, *, regions: Regions, locator: Locator, base_dir: Path) -> Sites:
    """Rounds over all open strata, until none is."""
    zones = open_exclusions(filling.limits.exclude, base_dir=base_dir)
    judge = Judge(filling.recipe, filling.strata, regions=regions, zones=zones, drop=filling.drop)
    while working := [part for part in filling.parts if part.open]:
        lonlat = [part.next_round(max(ROUND[0], ROUND[1] // len(working))) for part in working]
        stratum = np.repeat([part.number for part in working], [len(lot) for lot in lonlat])
        full = filling.full_scenes()
        sites = judge.judge(
            np.concatenate(lonlat),
            stratum,
            partial(locator.locate, avoid=full),
            free=filling.far_from_accepted,
            unplaced="full" if full else "scene",
        )
        if filling.limits.min_sites_per_scene > 1:
            _fill_scenes(filling, sites, judge, locator)
        else:
            filling.accept(sites)
        for part in working:
            part.end_round()
    return filling.result()


def _fill_scenes(filling: _Filling, seeds: Sites, judge: Judge, locator: Locator) -> None:
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
