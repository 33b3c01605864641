"""Sites chosen by the spectral entropy of their pixels: candidates drawn, scored, calibrated, and taken in order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.costs.reads import estimate_reads
from pwcat.costs.traffic import metered
from pwcat.providers import OpenSource
from pwcat.recipe import Recipe
from pwcat.regions import Regions
from pwcat.samplers.spectral import Spectral, Target
from pwcat.samplers.strata import Stratum
from pwcat.sharding import shard_size
from pwcat.sites.columns import Sites, hilbert_order
from pwcat.sites.drawing import OnDrawn, accept_in_order, draw_candidates, unheard
from pwcat.sites.locators import SceneLocator
from pwcat.spectra.bins import BinCount, count_bins, shortage
from pwcat.spectra.scoring import coarser, score_chips
from pwcat.spectra.selection import Calibration, calibrate, choice_order

__all__ = ["SpectralChoice", "choose_by_spectrum"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SpectralChoice:
    """What a choice by spectra looked at, and what it gained; entropies in nats, as the calibration predicts them.

    Attributes:
        candidates: places that were scored.
        unread: of these, how many had no data or could not be read; none of them is taken.
        calibration: of the scores against chips that were read in full.
        mean_of_candidates: predicted mean entropy of all candidates: what a choice at random would have given.
        mean_of_chosen: predicted mean entropy of the sites, reserve left out.
        spent_requests: on scoring and calibration, by GDAL's own count; ``None`` where that cannot be asked.
        spent_bytes: likewise.
        calibration_bytes: the part of these that the chips read in full took. Where candidates share few scenes, that is most.
        full_bytes: that reading every candidate in full would take, by the estimate.
        saved_bytes: ``full_bytes`` less ``spent_bytes``, so an estimate too; negative where scoring cost more.
        bins: the wanted distribution beside the one that was had; empty where the highest entropies are wanted.
    """

    candidates: int
    unread: int
    calibration: Calibration
    mean_of_candidates: float
    mean_of_chosen: float
    spent_requests: int | None
    spent_bytes: int | None
    calibration_bytes: int | None
    full_bytes: int
    saved_bytes: int | None
    bins: Sequence[BinCount] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        bins = [asdict(one) for one in self.bins]
        return {**asdict(self), "calibration": self.calibration.to_dict(), "bins": bins}


def choose_by_spectrum(
    recipe: Recipe,
    strata: Sequence[Stratum],
    *,
    regions: Regions,
    locator: SceneLocator,
    source: OpenSource,
    base_dir: Path,
    progress: OnDrawn = unheard,
) -> tuple[Sites, Sites, SpectralChoice]:
    """Sites, reserve, and an account of the choice.

    Args:
        recipe: its sampler is ``spectral``.
        strata: whose quotas are to be met.
        regions: layers that label.
        locator: finds scenes.
        source: gives pixels.
        base_dir: the folder that relative paths of the recipe start from.
        progress: told how far the drawing of candidates has come.

    Raises:
        RegionError, SourceError: a quota cannot be met.
    """
    sampler = recipe.sampler
    assert isinstance(sampler, Spectral)
    candidates = draw_candidates(
        recipe,
        strata,
        times=sampler.candidates,
        regions=regions,
        locator=locator,
        base_dir=base_dir,
        progress=progress,
    )
    coarse = coarser(recipe.chip, factor=sampler.factor, bands=sampler.bands)
    with metered() as spent:
        scores = score_chips(candidates.placements, locator.scenes, chip=coarse, source=source)
    with metered() as calibrating:
        calibration = _calibrate(recipe, sampler, candidates, scores, locator, source)
    spent.add(calibrating)
    predicted = calibration.predict(scores)
    target = None if sampler.aim == "highest" else sampler.aim
    wanted = [stratum.wanted for stratum in strata]
    order = choice_order(predicted, candidates.stratum, wanted=wanted, target=target)
    sites, reserve = accept_in_order(recipe, strata, candidates.take(order))
    chosen = _entropies_of(sites, candidates, predicted)
    full = _bytes_in_full(recipe, candidates, locator)
    choice = SpectralChoice(
        candidates=len(candidates),
        unread=int(np.isnan(scores).sum()),
        calibration=calibration,
        mean_of_candidates=float(np.nanmean(predicted)),
        mean_of_chosen=float(chosen.mean()),
        spent_requests=spent.requests if spent.measured else None,
        spent_bytes=spent.bytes if spent.measured else None,
        calibration_bytes=calibrating.bytes if spent.measured else None,
        full_bytes=full,
        saved_bytes=full - spent.bytes if spent.measured else None,
        bins=() if target is None else _bins(recipe, target, wanted, predicted, chosen, sites.stratum),
    )
    return sites, reserve, choice


def _bins(
    recipe: Recipe,
    target: Target,
    wanted: Sequence[int],
    predicted: NDArray[np.float64],
    chosen: NDArray[np.float64],
    stratum: NDArray[np.int64],
) -> list[BinCount]:
    """The bins of a wanted distribution; a warning where some are short."""
    bins = count_bins(target, wanted=wanted, candidates=predicted, taken=chosen, stratum=stratum)
    if (told := shortage(bins, entropies=predicted)) is not None:
        log.warning("%s: %s", recipe.name, told)
    return bins


def _bytes_in_full(recipe: Recipe, candidates: Sites, locator: SceneLocator) -> int:
    """Bytes of reading every candidate as a dataset of its own would."""
    ordered = candidates.take(hilbert_order(candidates.lonlat)).placements
    together = shard_size(recipe.model_copy(update={"num_samples": len(ordered)}))
    ids = np.array([scene.id for scene in locator.scenes], dtype=object)
    rows = {
        "shard": np.arange(len(ordered)) // together,
        "scene_ids": ids[ordered.scene].tolist(),
        "x0": ordered.x0,
        "y0": ordered.y0,
    }
    return round(estimate_reads(recipe, pa.table(rows), locator.scenes).bytes)


def _calibrate(
    recipe: Recipe,
    sampler: Spectral,
    candidates: Sites,
    scores: NDArray[np.float64],
    locator: SceneLocator,
    source: OpenSource,
) -> Calibration:
    """Some candidates read in full; which, hangs on the seed."""
    known = np.flatnonzero(~np.isnan(scores))
    rng = np.random.default_rng([recipe.seed, len(candidates)])
    some = np.sort(rng.choice(known, size=min(sampler.calibrate, len(known)), replace=False))
    full = score_chips(candidates.take(some).placements, locator.scenes, chip=recipe.chip, source=source)
    return calibrate(scores[some], full)


def _entropies_of(sites: Sites, candidates: Sites, entropies: NDArray[np.float64]) -> NDArray[np.float64]:
    """The candidates' entropies, for those that were taken."""
    by_place = {tuple(place): value for place, value in zip(candidates.lonlat.tolist(), entropies, strict=True)}
    return np.array([by_place[tuple(place)] for place in sites.lonlat.tolist()])
