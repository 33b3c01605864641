"""Why a quota could not be met, and what to relax."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pwcat.errors import PwcatError, RegionError, SourceError
from pwcat.samplers.strata import Domain

__all__ = ["Circumstances", "Reason", "Shortfall", "unmet_error"]

# What a candidate can be dropped for.
Reason = Literal["label", "zone", "dates", "land", "scene", "taken", "spacing", "full", "group"]

# What became of candidates; a label is told with its layer.
TOLD: Mapping[Reason, str] = {
    "label": "had another label",
    "zone": "lay in or near an exclusion zone",
    "dates": "lay too far from any place of the table of dates",
    "land": "held too little land",
    "scene": "had no scene that holds the whole chip on every date",
    "taken": "were places that had been taken already",
    "spacing": "lay too near to another site",
    "full": "had no scene left that has not its most sites already",
    "group": "lay in scenes too small for a whole group",
}

# Strata that a message tells of in full, and by name.
MOST_TOLD, MOST_NAMED = 3, 20


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What advice hangs on besides the drops.

    Attributes:
        chip_km: side of a chip.
        dates: scenes that each site wants.
        clouds: percent that a scene may have.
        scenes: that were seen; ``None`` where none was asked for.
        room_km: side of the largest chip that one of these could hold; ``None`` where that is not less than a chip's.
        scored: sites were taken from scored candidates.
    """

    chip_km: float
    dates: int
    clouds: float
    scenes: int | None = None
    room_km: float | None = None
    scored: bool = False


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """What became of one stratum.

    Attributes:
        name: of the stratum.
        placed: sites.
        wanted: sites.
        tried: candidates.
        exhausted: there are no more.
        dropped: candidates, by reason.
        missed: those that were dropped for a label, by layer.
        domain: that candidates were drawn in; ``None``: the strategy has none, such as a list of places.
        circumstances: of the recipe.
    """

    name: str
    placed: int
    wanted: int
    tried: int
    exhausted: bool
    dropped: Counter[Reason]
    missed: Counter[str]
    domain: Domain | None
    circumstances: Circumstances

    def __str__(self) -> str:
        reasons = [reason for reason, count in self.dropped.most_common() if count]
        why = ", ".join(f"{self.dropped[reason]:,} {self._told(reason)}" for reason in reasons)
        tried = f"of {self.tried:,} places tried" if why else f"{self.tried:,} places were tried"
        end = " (there are no more)" if self.exhausted else ""
        told = f"{self.name}: {self.placed:,} of {self.wanted:,}; {tried}{end}"
        return f"{told}{', ' if why else ''}{why}. To get more: {self._help(self._binding())}."

    def _binding(self) -> Reason | None:
        """What most candidates fell for; of those with the right label, where most of these fell as well."""
        labelled = Counter({reason: count for reason, count in self.dropped.items() if reason != "label"})
        right = self.tried - self.dropped["label"]
        told = labelled if labelled.total() > right / 2 else self.dropped
        return next((reason for reason, count in told.most_common() if count), None)

    def _told(self, reason: Reason) -> str:
        if reason != "label" or not self.missed:
            return TOLD[reason]
        layer, count = self.missed.most_common(1)[0]
        mostly = "" if count == self.missed.total() else f", {count:,} of them"
        return f"had another label{mostly} in the layer `{layer}`"

    def _help(self, reason: Reason | None) -> str:
        """What would help against the reason that most candidates fell for."""
        plain: dict[Reason, str] = {
            "label": "what is wanted is rare where sites are drawn: ask for fewer, lower its quota, or leave it out",
            "zone": "lower `buffer_km` of `constraints.exclude`",
            "dates": "raise `when.phenology.max_km`, or give dates of more places",
            "land": "lower `constraints.min_land_fraction`",
            "taken": "ask for fewer samples, or give other places: none is taken twice",
            "spacing": "lower `constraints.min_spacing_km`, or ask for fewer samples",
            "full": "raise `constraints.max_sites_per_scene`, or widen the dates",
            "group": "lower `constraints.min_sites_per_scene`",
        }
        if reason == "scene":
            return self._help_with_scenes()
        if self.circumstances.scored:
            also = [] if reason is None else [plain[reason]]
            return ", or ".join(["raise `sampler.candidates`", *also])
        return "there are too few candidates: ask for fewer samples" if reason is None else plain[reason]

    def _help_with_scenes(self) -> str:
        about = self.circumstances
        if about.room_km is not None:
            return (
                f"the chip is {about.chip_km:g} km a side, and of {about.scenes:,} scenes seen the largest has room for "
                f"{about.room_km:.3g} km: take a smaller `chip.size_px` or another collection"
            )
        lower = ["raise `when.max_cloud_cover`"] if about.clouds < 100 else []
        fewer = ["ask for fewer dates"] if about.dates > 1 else []
        smaller = ["take a smaller chip"] if about.scenes else []
        where = "give places where the source has scenes" if self.domain is None else "take the domain `scenes`"
        instead = [where] if self.domain != "scenes" else []
        ways = [*lower, "widen the dates", *fewer, *smaller, *instead]
        none = "" if about.scenes else "no scene was seen at all: "
        return none + ", ".join(ways[:-1]) + (" or " if len(ways) > 1 else "") + ways[-1]


def unmet_error(name: str, unmet: Sequence[Shortfall], *, placed: int, wanted: int) -> PwcatError:
    """The error of a recipe whose quotas were not met; of the source, if scenes were what was missing most.

    The first strata are told in full, others by their names and counts.
    """
    dropped = sum((one.dropped for one in unmet), Counter[Reason]())
    kind = SourceError if dropped and dropped.most_common(1)[0][0] == "scene" else RegionError
    told = " ".join(map(str, unmet[:MOST_TOLD]))
    return kind(f"{name}: only {placed:,} of {wanted:,} sites could be placed. {told}{_others(unmet[MOST_TOLD:])}")


def _others(unmet: Sequence[Shortfall]) -> str:
    if not unmet:
        return ""
    named = ", ".join(f"{one.name} ({one.placed:,} of {one.wanted:,})" for one in unmet[:MOST_NAMED])
    more = f", and {len(unmet) - MOST_NAMED:,} more" if len(unmet) > MOST_NAMED else ""
    return f" Short are also {named}{more}."
