"""Strata being filled, under the constraints that tie sites to each other: quotas, spacing, sites a scene."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pwcat.geo.geodesy import SiteIndex
from pwcat.recipe import Recipe
from pwcat.samplers.strata import Stratum
from pwcat.sites.columns import Sites, rank_within
from pwcat.sites.patience import Patience, Tally
from pwcat.sites.shortfall import Circumstances, Reason, Shortfall, unmet_error

__all__ = ["LEAST_A_ROUND", "Filling", "Part", "target_of"]

log = logging.getLogger(__name__)

# Candidates a stratum and round, at least.
LEAST_A_ROUND = 64

# Sites that are held against each other at once: spacing looks at pairs, and of crowded sites there are many.
TOGETHER = 16_384

# Places without a scene that a group that fails counts for.
COST_OF_GROUP = 20


def target_of(recipe: Recipe, stratum: Stratum) -> int:
    """Sites that a stratum is to get, the reserve included."""
    return stratum.wanted + int(np.ceil(recipe.constraints.reserve_fraction * stratum.wanted))


@dataclass(kw_only=True)
class Part:
    """One stratum being filled."""

    number: int
    stratum: Stratum
    target: int  # the reserve included
    rng: np.random.Generator
    stream: Iterator[NDArray[np.float64]]
    patience: Patience
    rest: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    placed: int = 0
    tried: int = 0
    rate: float = 1.0  # of the last round
    before: Tally = field(default_factory=Tally)  # this round
    stalled: bool = False
    exhausted: bool = False
    dropped: Counter[Reason] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)

    @property
    def open(self) -> bool:
        """Whether it is drawn from."""
        return self.placed < self.target and not self.exhausted and not self.stalled

    def next_round(self, most: int) -> NDArray[np.float64]:
        """As many candidates as will probably do, up to the next look at how it gets on."""
        likely = min((self.target - self.placed) / self.rate * 1.05, self.patience.until_next_look(self.tried), most)
        wanted = max(int(likely), LEAST_A_ROUND)
        while len(self.rest) < wanted and (more := next(self.stream, None)) is not None:
            self.rest = np.concatenate([self.rest, more])
        self.exhausted = len(self.rest) < wanted
        taken, self.rest = self.rest[:wanted], self.rest[wanted:]
        self.tried += len(taken)
        return taken

    def end_round(self, *, asks: bool) -> None:
        """See whether it gets on; ``asks``: a source was asked about places without a scene."""
        dear = COST_OF_GROUP * self.dropped["group"] + (self.dropped["scene"] if asks else 0)
        now = Tally(tried=self.tried, dear=dear, placed=self.placed)
        self.rate = (now.placed - self.before.placed + 1) / (now.tried - self.before.tried + 1)
        self.before = now
        self.stalled = self.patience.is_over(now, missing=self.target - self.placed)


class Filling:
    """All strata of a recipe.

    Args:
        recipe: says the constraints and the seed.
        strata: what is drawn.
        enough: sites of each stratum without which there is an error.
    """

    def __init__(self, recipe: Recipe, strata: Sequence[Stratum], *, enough: Sequence[int]) -> None:
        self.recipe, self.limits, self.enough = recipe, recipe.constraints, enough
        self.strata = strata
        self.parts = [self._open(number, stratum) for number, stratum in enumerate(strata)]
        self.accepted: list[Sites] = []
        self.in_scene: Counter[int] = Counter()
        self.places: set[tuple[float, float]] = set()

    def _open(self, number: int, stratum: Stratum) -> Part:
        rng = np.random.default_rng([self.recipe.seed, number])
        target = target_of(self.recipe, stratum)
        first = max(LEAST_A_ROUND, int(np.ceil(1.05 * target / self.limits.min_sites_per_scene)))
        return Part(
            number=number,
            stratum=stratum,
            target=target,
            rng=rng,
            stream=iter(stratum.candidates(rng)),
            patience=Patience(first=first, endless=not stratum.listed),
        )

    def drop(self, reason: Reason, stratum: NDArray[np.int64], layer: str | None = None) -> None:
        """Note why candidates of these strata fell, and whose label they had not."""
        for number, count in zip(*np.unique(stratum, return_counts=True), strict=True):
            part = self.parts[int(number)]
            part.dropped[reason] += int(count)
            if layer is not None:
                part.missed[layer] += int(count)

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
        self.places.update(map(tuple, sites.lonlat.tolist()))
        if self.limits.max_sites_per_scene is not None:
            self.in_scene.update(number for row in _scenes_of(sites) for number in row)

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
        lonlat = [*map(tuple, sites.lonlat.tolist())]
        once = self.places.isdisjoint(lonlat) and len({*lonlat}) == len(lonlat)
        if once and self.limits.min_spacing_km <= 0 and self.limits.max_sites_per_scene is None:
            return np.flatnonzero(rank_within(sites.stratum) < places[sites.stratum])
        wanted = np.flatnonzero(places[sites.stratum] > 0)
        far = wanted[self.far_from_accepted(sites.lonlat[wanted])]
        self.drop("spacing", np.delete(sites.stratum[wanted], np.searchsorted(wanted, far)))
        return far[self._one_by_one(sites.take(far), places)]

    def _one_by_one(self, sites: Sites, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the sites are taken, if each is held against those taken before it."""
        starts, earlier = _near_earlier(sites.lonlat, self.limits.min_spacing_km)
        most = self.limits.max_sites_per_scene
        in_scene, here = Counter(self.in_scene), set[tuple[float, ...]]()
        taken = np.zeros(len(sites), dtype=bool)
        rows = zip(sites.stratum.tolist(), _scenes_of(sites), sites.lonlat.tolist(), strict=True)
        for row, (number, scenes, lonlat) in enumerate(rows):
            place = tuple(lonlat)
            if places[number] == 0:
                continue
            if taken[earlier[starts[row] : starts[row + 1]]].any():
                self.parts[number].dropped["spacing"] += 1
            elif place in here or place in self.places:
                self.parts[number].dropped["taken"] += 1
            elif most is not None and any(in_scene[scene] >= most for scene in scenes):
                self.parts[number].dropped["full"] += 1
            else:
                taken[row] = True
                places[number] -= 1
                in_scene.update(scenes)
                here.add(place)
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

    def result(self, about: Circumstances) -> Sites:
        """All that was taken, stratum by stratum.

        Args:
            about: what advice hangs on, where a quota is not met.

        Raises:
            RegionError, SourceError: a quota is not met.
        """
        parts = [*zip(self.parts, self.enough, strict=True)]
        unmet = [_shortfall(part, least, about) for part, least in parts if part.placed < least]
        if unmet:
            placed = sum(min(part.placed, least) for part, least in parts)
            raise unmet_error(self.recipe.name, unmet, placed=placed, wanted=sum(self.enough))
        short = sum(max(0, part.target - part.placed) for part in self.parts)
        if short and self.limits.reserve_fraction:
            log.warning("%s: the reserve is %d sites short of what was asked", self.recipe.name, short)
        sites = Sites.concat(self.accepted)
        return sites.take(np.argsort(sites.stratum, kind="stable"))


def _scenes_of(sites: Sites) -> list[set[int]]:
    """The scenes that serve each site, those of composites included, each once."""
    rows = sites.placements.every_scene().tolist()
    return [{number for numbers in row for number in numbers if number >= 0} for row in rows]


def _shortfall(part: Part, wanted: int, about: Circumstances) -> Shortfall:
    return Shortfall(
        name=part.stratum.name,
        placed=part.placed,
        wanted=wanted,
        tried=part.tried,
        exhausted=part.exhausted,
        dropped=part.dropped,
        missed=part.missed,
        domain=part.stratum.domain,
        circumstances=about,
    )


def _near_earlier(lonlat: NDArray[np.float64], km: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows before each that are nearer than this, as compressed rows: the start of each one's list, and the lists."""
    if km <= 0 or not len(lonlat):
        return np.zeros(len(lonlat) + 1, dtype=np.int64), np.empty(0, dtype=np.int64)
    pairs = SiteIndex(lonlat).pairs_within(km)  # (m, 2), the first before the second
    pairs = pairs[np.argsort(pairs[:, 1], kind="stable")]
    return np.searchsorted(pairs[:, 1], np.arange(len(lonlat) + 1)), pairs[:, 0]
