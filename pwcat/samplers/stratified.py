"""``stratified``: a quota for every class of a layer, or for every combination of the classes of several."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator

from pwcat.document import Document
from pwcat.errors import RegionError
from pwcat.samplers.strata import Domain, SamplerDocument, Stratum, apportion

if TYPE_CHECKING:
    from pwcat.samplers.world import AreaShares, World

__all__ = ["Quota", "Stratified"]

log = logging.getLogger(__name__)

# Classes that a warning names.
MOST_NAMED = 5


class Quota(Document):
    """The weight of one combination of classes, one of each layer of ``by``."""

    classes: list[str] = Field(min_length=1)
    weight: float = Field(gt=0)


class Stratified(SamplerDocument):
    """Uniform by area within each class, with a quota for each."""

    strategy: Literal["stratified"]
    by: list[str] = Field(
        min_length=1, description="layers; with several, their combinations that occur are the classes"
    )
    quotas: Literal["equal", "proportional", "square_root"] | dict[str, float] | list[Quota] = Field(
        "equal",
        description="equal; proportional to area; to its square root; or weights by class (a list for combinations)",
    )
    exclude: list[str] = Field(
        default_factory=list, description="classes of any of the layers that get nothing; not with weights"
    )
    min_share: float = Field(
        0.0, ge=0, lt=1, description="classes with less than this share of the area get nothing; not with weights"
    )
    domain: Domain = Field("land", description="as for `uniform`")

    @field_validator("by")
    @classmethod
    def _distinct(cls, by: list[str]) -> list[str]:
        if len(set(by)) < len(by):
            raise ValueError(f"`by` repeats itself: {by}")
        return by

    @field_validator("quotas")
    @classmethod
    def _fitting(
        cls, quotas: str | dict[str, float] | list[Quota], info: ValidationInfo
    ) -> str | dict[str, float] | list[Quota]:
        layers = len(info.data.get("by", []))
        if isinstance(quotas, dict):
            if layers > 1:
                raise ValueError("weights of combinations are a list: [{classes: [Asia, Tundra], weight: 2}, …]")
            if not quotas or min(quotas.values()) <= 0 or not math.isfinite(sum(quotas.values())):
                raise ValueError("weights are positive numbers; leave a class out to give it nothing")
        if isinstance(quotas, list) and not quotas:
            raise ValueError("there is no weight")
        if isinstance(quotas, list) and any(len(quota.classes) != layers for quota in quotas):
            raise ValueError(f"each of `classes` names one class of each of the {layers} layers of `by`")
        return quotas

    @field_validator("exclude", "min_share")
    @classmethod
    def _by_rule(cls, given: list[str] | float, info: ValidationInfo) -> list[str] | float:
        if given and not isinstance(info.data.get("quotas", "equal"), str):
            raise ValueError("where `quotas` are weights, leave out the classes that get nothing")
        return given

    def layers(self) -> list[tuple[str, str]]:
        """Those of ``by``, and that of the domain."""
        on_land = [("continent", "the domain `land`")] if self.domain == "land" else []
        return [(name, "stratified") for name in self.by] + [pair for pair in on_land if pair[0] not in self.by]

    def draws_from_scenes(self) -> bool:
        """Where the domain says so."""
        return self.domain == "scenes"

    def strata(self, n: int, *, world: World) -> list[Stratum]:
        """One stratum a class, those with the largest area first; classes whose quota rounds to nothing are left out.

        Raises:
            RegionError: a class is unknown, or none is left.
        """
        weights = self._weights(world)
        if not weights:
            raise RegionError(f"stratified by {' × '.join(self.by)}: no class is left to sample")
        quotas = dict(zip(weights, apportion(n, list(weights.values())), strict=True))
        if nothing := [" × ".join(classes) for classes, wanted in quotas.items() if not wanted]:
            log.warning("%d sites are too few for every class: nothing is drawn of %s", n, ", ".join(nothing))
        return [self._stratum(classes, wanted, world) for classes, wanted in quotas.items() if wanted]

    def _stratum(self, classes: tuple[str, ...], wanted: int, world: World) -> Stratum:
        labels = {layer: (value,) for layer, value in zip(self.by, classes, strict=True)}
        return Stratum(
            name=" × ".join(classes),
            wanted=wanted,
            candidates=world.candidates(self.domain, labels),
            labels={**world.labels_of(self.domain), **labels},
            domain=self.domain,
        )

    def _weights(self, world: World) -> Mapping[tuple[str, ...], float]:
        if isinstance(self.quotas, dict):
            return _each_once([(world.spell(self.by[0], [key]), weight) for key, weight in self.quotas.items()])
        if isinstance(self.quotas, list):
            return _each_once([(self._spell(quota.classes, world), quota.weight) for quota in self.quotas])
        left_out = self._left_out(world)
        measured = world.area_shares(self.domain, self.by)
        self._warn_of_unseen(measured, left_out, world)
        shares = {
            classes: share
            for classes, share in measured.of.items()
            if share >= self.min_share and not left_out & {*zip(self.by, classes, strict=True)}
        }
        if self.quotas == "equal":
            return dict.fromkeys(shares, 1.0)
        return shares if self.quotas == "proportional" else {key: math.sqrt(share) for key, share in shares.items()}

    def _warn_of_unseen(self, measured: AreaShares, left_out: set[tuple[str, str]], world: World) -> None:
        """Say which classes get nothing because no point had them; where scenes are, only those of a raster's legend.

        A vector layer has its classes from its polygons: that scenes of a region lie in few of them is as it should be.
        """
        for number, name in enumerate(self.by):
            layer = world.regions.require(name)
            seen = {classes[number] for classes in measured.of}
            unseen = [value for value in layer.classes if value not in seen and (name, value) not in left_out]
            if unseen and (layer.pixel_m is not None or self.domain != "scenes"):
                log.warning(
                    "stratified: %d of the %d classes of %s not seen in %s points, nothing is drawn of them: %s; "
                    "to sample them all the same, give weights as `quotas`",
                    len(unseen), len(layer.classes), name, f"{measured.points:,}", _some(unseen),
                )  # fmt: skip

    def _spell(self, classes: list[str], world: World) -> tuple[str, ...]:
        return tuple(world.spell(name, [value])[0] for name, value in zip(self.by, classes, strict=True))

    def _left_out(self, world: World) -> set[tuple[str, str]]:
        """Layer and class of what is excluded. A name that no layer has is an error; one that several have means all."""
        found: set[tuple[str, str]] = set()
        for value in self.exclude:
            errors = []
            for name in self.by:
                try:
                    found.add((name, world.spell(name, [value])[0]))
                except RegionError as exc:
                    errors.append(exc)
            if len(errors) == len(self.by):
                raise errors[0]
        return found


def _some(names: Sequence[str]) -> str:
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])


def _each_once(weights: Sequence[tuple[tuple[str, ...], float]]) -> dict[tuple[str, ...], float]:
    """Weights by class; a class that is named twice, in whatever spelling, is an error."""
    counts = Counter(classes for classes, _ in weights)
    twice = [" × ".join(classes) for classes, count in counts.items() if count > 1]
    if twice:
        raise RegionError(f"sampler.quotas names {', '.join(twice)} more than once")
    return dict(weights)
