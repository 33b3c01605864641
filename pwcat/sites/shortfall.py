"""Why a quota could not be met, and what to relax."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pwcat.errors import PwcatError, RegionError, SourceError

__all__ = ["Reason", "Shortfall", "unmet_error"]

# What a candidate can be dropped for.
Reason = Literal["label", "zone", "land", "scene", "spacing", "full", "group"]

# What became of candidates, and what would help.
TOLD: Mapping[Reason, tuple[str, str]] = {
    "label": ("had another label", "the class has little area where candidates are drawn: take a wider domain"),
    "zone": ("lay in or near an exclusion zone", "lower `buffer_km` of `constraints.exclude`"),
    "land": ("held too little land", "lower `constraints.min_land_fraction`"),
    "scene": (
        "had no scene that holds the whole chip on every date",
        "raise `when.max_cloud_cover`, widen the dates, ask for fewer dates or a smaller chip, or take the domain `scenes`",
    ),
    "spacing": ("lay too near to another site", "lower `constraints.min_spacing_km`"),
    "full": ("had no scene left that has not its most sites already", "raise `constraints.max_sites_per_scene`"),
    "group": ("lay in scenes too small for a whole group", "lower `constraints.min_sites_per_scene`"),
}

# Strata that a message tells of, one by one.
MOST_TOLD = 3


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """What became of one stratum."""

    name: str
    placed: int
    wanted: int
    tried: int
    exhausted: bool
    dropped: Counter[Reason]

    def __str__(self) -> str:
        reasons = [reason for reason, count in self.dropped.most_common() if count]
        why = ", ".join(f"{self.dropped[reason]:,} {TOLD[reason][0]}" for reason in reasons)
        end = " (there are no more)" if self.exhausted else ""
        help_ = TOLD[reasons[0]][1] if reasons else "there are too few candidates: ask for fewer samples"
        told = f"{self.name}: {self.placed:,} of {self.wanted:,}; of {self.tried:,} places tried{end}"
        return f"{told}{', ' if why else ''}{why}. To get more: {help_}."


def unmet_error(name: str, unmet: Sequence[Shortfall], *, placed: int, wanted: int) -> PwcatError:
    """The error of a recipe whose quotas were not met; of the source, if scenes were what was missing most."""
    dropped = sum((one.dropped for one in unmet), Counter[Reason]())
    kind = SourceError if dropped and dropped.most_common(1)[0][0] == "scene" else RegionError
    more = f" So with {len(unmet) - MOST_TOLD} more." if len(unmet) > MOST_TOLD else ""
    told = " ".join(map(str, unmet[:MOST_TOLD]))
    return kind(f"{name}: only {placed:,} of {wanted:,} sites could be placed. {told}{more}")
