"""Chips of a scene from whoever can serve them: with patience, signed anew after a refusal, in the end from another source.

A scene's chips are read together. A tile that is damaged costs the chips that touch it; the others are read without it. Where
a read fails because of the file and does not say which tile it is, they are read in ever smaller parts; where it fails because
of the server, the parts would fail likewise. Sources that have just failed so (:mod:`pwcat.pixels.outages`) are asked after
the others, with little patience.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import DamagedError, ForbiddenError, SourceError
from pwcat.pixels.fallback import OtherGridError, find_counterpart
from pwcat.pixels.outages import OUTAGES
from pwcat.pixels.quality import clear_pixels, read_quality, unusable
from pwcat.pixels.reasons import Cause, cause_of
from pwcat.providers import OpenSource
from pwcat.providers.transport import Patience
from pwcat.readers import ReaderName, read_chips
from pwcat.readers.wire import StalledError, hastily
from pwcat.recipe import Chip
from pwcat.scenes import Scene
from pwcat.search import Refused

__all__ = ["Desk", "Effort", "Failed", "Served"]

log = logging.getLogger(__name__)

ATTEMPTS = 3
# Where time runs out, each attempt costs minutes.
TIMED_OUT_ATTEMPTS = 2
RETRY_DELAY_S = 0.5

# With the API of another source, which is asked for one scene: half a minute at most; and with one that has failed of late.
PATIENT, HASTY = Patience(attempts=4), Patience(attempts=1)

# Failures that may be of some chips alone.
OF_THE_FILE: frozenset[Cause] = frozenset({"corrupt data", "other"})


@dataclass(kw_only=True)
class Effort:
    """What reading one sample took.

    Attributes:
        attempts: reads tried, over all its dates.
        retries: those that repeat one which failed.
        seconds: its share of what was read together.
    """

    attempts: int = 0
    retries: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """Chips that one source served of one acquisition.

    Attributes:
        members: the samples that have pixels, by their numbers.
        dn: their pixels as stored, ``(n, band, y, x)``.
        cloudy: samples that the quality band rules out; their pixels were not read.
        cloud: share of pixels that are cloud, shadow or no data, of members and cloudy ones; empty where it was not asked for.
        scene: the item they are from.
        source: its source.
        clear: which of the members' pixels are neither cloud nor shadow, ``(n, y, x)``; ``None`` where it was not asked for, or
            the scene has no quality band.
    """

    members: list[int]
    dn: NDArray[np.uint16]
    cloudy: list[int]
    cloud: dict[int, float]
    scene: Scene
    source: OpenSource
    clear: NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True)
class Failed:
    """Samples that no source could serve.

    Attributes:
        members: their numbers.
        cause: at the first source.
        reason: at each of them, in words.
    """

    members: list[int]
    cause: Cause
    reason: str


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where chips are asked for.

    Attributes:
        chip: what is wanted.
        source: the plan's.
        fallback: other sources of the same acquisitions, tried in this order.
        folder: where it is kept which items those have.
        max_cloud: per cent of a chip that may be cloud, shadow or no data; ``None`` where the quality band is not to be read.
        threads: reads at a time, where GDAL reads.
        reader: of the pixels.
        masked: whether it is to be told which pixels are clear.
    """

    chip: Chip
    source: OpenSource
    fallback: Sequence[OpenSource]
    folder: Path
    max_cloud: float | None
    threads: int
    reader: ReaderName
    masked: bool = False

    def serve(
        self, scene: Scene, corners: Mapping[int, tuple[float, float]], efforts: Mapping[int, Effort]
    ) -> Iterator[Served | Failed]:
        """Chips of a scene of the plan; each sample comes once.

        Args:
            scene: of the plan.
            corners: easting and northing of each chip's upper-left corner, by the sample's number.
            efforts: of each sample, to be added to.
        """
        sources = (self.source, *self.fallback)
        order = sorted(range(len(sources)), key=lambda number: OUTAGES.is_down(sources[number], scene.id))
        parts = [_Part(members=list(corners))]
        for number in order:
            source, failed = sources[number], list[_Part]()
            for part in parts:
                wanted = {member: corners[member] for member in part.members}
                turn = _Turn(hasty=OUTAGES.ask(source, scene.id), last=number == order[-1], repeated=bool(part.told))
                for outcome in self._at(source, scene, wanted, efforts, turn):
                    OUTAGES.note(source, scene.id, outcome.cause if isinstance(outcome, Failed) else None)
                    if isinstance(outcome, Served):
                        yield outcome
                    else:
                        failed.append(part.failed_as(outcome, number))
            parts = failed
        yield from (part.end() for part in parts)

    def _at(
        self,
        source: OpenSource,
        scene: Scene,
        wanted: Mapping[int, tuple[float, float]],
        efforts: Mapping[int, Effort],
        turn: _Turn,
    ) -> Iterator[Served | Failed]:
        """What a source makes of some samples."""
        try:
            here = scene if source is self.source else self._counterpart(scene, source, turn)
        except (SourceError, RuntimeError) as exc:
            reason = f"at {source.name}: {_words(exc, source)}"
            yield Failed(members=list(wanted), cause=_cause_of_search(exc), reason=reason)
            return
        attempt = _Attempt(
            desk=self, source=source, scene=here, efforts=efforts, turn=turn, planned=scene.id, repeated=turn.repeated
        )
        yield from attempt.read(wanted, ATTEMPTS)

    def _counterpart(self, scene: Scene, source: OpenSource, turn: _Turn) -> Scene:
        patience = HASTY if turn.hasty else PATIENT
        return find_counterpart(
            scene, source, source=self.source, chip=self.chip, folder=self.folder, patience=patience
        )


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """How a source is asked.

    Attributes:
        hasty: with little patience: it has failed of late.
        last: whether no other is asked after it.
        repeated: whether another was asked before it.
    """

    hasty: bool
    last: bool
    repeated: bool


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Samples of a scene that still want to be served, and why they were not, by the number of the source."""

    members: list[int]
    told: Mapping[int, Failed] = field(default_factory=dict)

    def failed_as(self, failed: Failed, number: int) -> _Part:
        """Those of it that failed once more."""
        return _Part(members=failed.members, told={**self.told, number: failed})

    def end(self) -> Failed:
        """What is said of it in the end: the plan's source first, whoever was asked first."""
        told = [self.told[number] for number in sorted(self.told)]
        return Failed(members=self.members, cause=told[0].cause, reason="; ".join(each.reason for each in told))


@dataclass(kw_only=True)
class _Attempt:
    """Samples read from one item of one source.

    Attributes:
        planned: the scene that the plan names.
        repeated: whether what is read next repeats what has failed.
    """

    desk: Desk
    source: OpenSource
    scene: Scene
    efforts: Mapping[int, Effort]
    turn: _Turn
    planned: str
    repeated: bool

    def read(self, corners: Mapping[int, tuple[float, float]], attempts: int) -> Iterator[Served | Failed]:
        """All at once; without those of damaged tiles; in halves where it fails because of the file, and does not say where."""
        try:
            outcome = self._patiently(corners, attempts)
        except DamagedError as exc:
            yield from self._around(exc.reasons, corners)
            return
        if isinstance(outcome, Served) or len(corners) == 1 or outcome.cause not in OF_THE_FILE:
            yield outcome
            return
        members = list(corners)
        for half in (members[: len(members) // 2], members[len(members) // 2 :]):
            yield from self.read({member: corners[member] for member in half}, 1)

    def _around(
        self, damaged: Mapping[tuple[float, float], str], corners: Mapping[int, tuple[float, float]]
    ) -> Iterator[Served | Failed]:
        """The chips that touch no damaged tile; the others are not asked for again: the same bytes came twice."""
        for reason in dict.fromkeys(damaged.values()):
            touching = {member: corner for member, corner in corners.items() if damaged.get(corner) == reason}
            yield self._failed(touching, RuntimeError(reason))
        rest = {member: corner for member, corner in corners.items() if corner not in damaged}
        if rest:
            yield from self.read(rest, ATTEMPTS)

    def _patiently(self, corners: Mapping[int, tuple[float, float]], attempts: int) -> Served | Failed:
        """The chips, or why they cannot be had: after some attempts, and one more with a new signature.

        Raises:
            DamagedError: some of them cannot be had, whatever the attempts.
        """
        failures, refused = 0, False
        while True:
            signed: dict[str, str] = {}
            try:
                signed |= self._signed()
                with hastily(self.turn.hasty):
                    return self._once(corners)
            except ForbiddenError as exc:
                if refused:
                    return self._failed(corners, exc, self.source.refused(exc.href))
                refused = True
                self.source.forget(signed.get(exc.href, exc.href))
            except DamagedError:
                raise
            except SourceError as exc:
                return self._failed(corners, exc)
            except RuntimeError as exc:
                failures += 1
                if failures >= self._patience(exc, attempts):
                    return self._failed(corners, exc)
                time.sleep(RETRY_DELAY_S * 2 ** (failures - 1))

    def _patience(self, exc: RuntimeError, attempts: int) -> int:
        """How often it is worth trying what failed like this."""
        if self.turn.hasty or OUTAGES.is_down(self.source, self.planned):
            return 1
        if isinstance(exc, StalledError) and not self.turn.last:
            return 1  # each request was sent twice, and another source can be asked
        return min(attempts, TIMED_OUT_ATTEMPTS) if cause_of(exc) == "timed out" else attempts

    def _signed(self) -> dict[str, str]:
        """Hrefs of the bands as the reader has them signed: where they are refused, that token is dropped, and no newer one."""
        assets = self.scene.item["assets"]
        hrefs = {assets[self.source.band_asset(band, assets)]["href"] for band in self.desk.chip.bands}
        return {href: self.source.sign(href) for href in hrefs}

    def _once(self, corners: Mapping[int, tuple[float, float]]) -> Served:
        """The chips."""
        started, efforts = time.monotonic(), [self.efforts[member] for member in corners]
        for effort in efforts:
            effort.attempts += 1
            effort.retries += self.repeated
        self.repeated = True
        try:
            return self._read(corners)
        finally:
            for effort in efforts:
                effort.seconds += (time.monotonic() - started) / len(efforts)

    def _read(self, corners: Mapping[int, tuple[float, float]]) -> Served:
        desk, members = self.desk, list(corners)
        cloud: dict[int, float] = {}
        cloudy: set[int] = set()
        if desk.max_cloud is not None:
            shares, blank = self._unusable(list(corners.values()))
            cloud = dict(zip(members, shares.tolist(), strict=True))
            over = (shares * 100 > desk.max_cloud) & (blank < 1)  # without any data it is empty, not cloudy
            cloudy = {member for member, is_over in zip(members, over.tolist(), strict=True) if is_over}
        clear = [member for member in members if member not in cloudy]
        dn = self._pixels([corners[member] for member in clear])
        mask = self._clear([corners[member] for member in clear]) if desk.masked and clear else None
        return Served(
            members=clear, dn=dn, cloudy=sorted(cloudy), cloud=cloud, scene=self.scene, source=self.source, clear=mask
        )

    def _pixels(self, corners: Sequence[tuple[float, float]]) -> NDArray[np.uint16]:
        desk = self.desk
        if not corners:
            return np.zeros((0, len(desk.chip.bands), desk.chip.size_px, desk.chip.size_px), dtype=np.uint16)
        return read_chips(
            self.scene, corners, chip=desk.chip, source=self.source, threads=desk.threads, reader=desk.reader
        )

    def _unusable(self, corners: Sequence[tuple[float, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rule, quality = self.source.record.quality, self._quality(corners)
        assert rule is not None, "the band was found by it"
        return unusable(quality, rule)

    def _clear(self, corners: Sequence[tuple[float, float]]) -> NDArray[np.bool_] | None:
        """Which pixels are clear, ``(n, y, x)``, where the scene has a quality band."""
        rule = self.source.record.quality
        if rule is None or rule.asset not in self.scene.item["assets"]:
            return None
        return clear_pixels(self._quality(corners), rule)

    def _quality(self, corners: Sequence[tuple[float, float]]) -> NDArray[np.uint16]:
        desk = self.desk
        return read_quality(
            self.scene, corners, chip=desk.chip, source=self.source, threads=desk.threads, reader=desk.reader
        )

    def _failed(self, corners: Mapping[int, tuple[float, float]], exc: Exception, text: str | None = None) -> Failed:
        words = _words(text or exc, self.source)
        log.info("scene %s of %s: %s", self.scene.id, self.source.name, words)
        where = "" if self.source is self.desk.source else f"at {self.source.name}: "
        return Failed(members=list(corners), cause=cause_of(exc), reason=f"{where}{self.scene.id}: {words}")


def _cause_of_search(exc: Exception) -> Cause:
    """Why an acquisition was not found at another source."""
    if isinstance(exc, OtherGridError):
        return "other grid"
    if isinstance(exc, Refused) and (exc.status is None or exc.status == 429 or not 0 < exc.status < 500):
        return "timed out" if exc.status is None else "server error"
    return cause_of(exc)


def _words(exc: Exception | str, source: OpenSource) -> str:
    """A message in one line, without secrets and without addresses of the moment."""
    return " ".join(source.unsign(str(exc)).split())
