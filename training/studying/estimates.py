"""What a study will take: hours, GPU hours, bytes, money; before it starts, and better and better while it runs.

A job is estimated from jobs of its kind that are done, by their median time for a unit of work (a sample, a sample an epoch);
a pretraining of which none is done from a timed trial of its steps on data that are there; else from operations by
arithmetic and the measured rate of this device's matrix products, of which training reaches a share that is assumed; and
where not even that can be said, by a guess. Which of these it is stands beside every figure.
"""

from __future__ import annotations

import heapq
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from pwcat.atomic import replacing
from pwcat.errors import PwcatError
from pwcat.osm.tiles import to_world
from training.looping.throughput import measure_peak
from training.models import build_model
from training.models.base import Model
from training.recipe import TrainRecipe
from training.studying.document import Archive, Towns
from training.studying.job import (
    ArchiveWork,
    DatasetWork,
    EmbedWork,
    EvaluateWork,
    Job,
    LeaksWork,
    PretrainWork,
)
from training.studying.status import Status

__all__ = ["Estimate", "Estimator", "schedule_seconds"]

How = Literal["done", "measured", "trial", "arithmetic", "guess"]

# Of the measured rate of matrix products; the largest share that recipes' notes on satmae-b call likely on a GPU is .45 to .6.
UTILISATION = {"cuda": 0.35, "cpu": 0.3}
# Seconds of a job of scores where nothing is known of it: to open the task, and for each draw of each probe.
OPENING_S = 2.0
DRAW_S = {"knn": 0.02, "linear": 1.0, "logistic": 0.1, "mlp": 0.5, "forest": 0.5, "ridge": 0.05}
RATE_MB_S = 20.0  # of pixels over a network, as plans assume
ARCHIVE_SCENE_S = 0.4
TILE_BYTES = 400_000  # of a synthetic aerial image of a tile, compressed
UNKNOWN_SAMPLES = 10_000  # of a benchmark that was never opened
TRIAL_STEPS, TRIAL_WARMUP = 3, 1
WORTH_A_TRIAL_S = 120.0  # a pretraining that takes less, by arithmetic, is not worth one
TRIALS = "trials.json"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is left of a job.

    Attributes:
        job: the job.
        seconds: left; 0 where it is done.
        gpu_hours: left.
        bytes: that it leaves on disk.
        how: where the figures come from.
    """

    job: Job
    seconds: float
    gpu_hours: float
    bytes: float
    how: How


@dataclass(kw_only=True)
class Estimator:
    """Estimates jobs on a device; what was measured is kept.

    Attributes:
        folder: of the study.
        jobs: all of its jobs, by name.
        device: that work is done on.
        flops: rate of matrix products of that device where another machine is meant; measured where ``None``.
    """

    folder: Path
    jobs: Mapping[str, Job]
    device: str = "cpu"
    flops: float | None = None
    _peaks: dict[str, float] = field(default_factory=dict)
    _rates: dict[tuple[str, ...], list[float]] = field(default_factory=dict)

    def estimate(self, states: Sequence[Status]) -> list[Estimate]:
        """What is left of each job."""
        self._rates = {}
        for status in states:
            if status.done and status.done.units:
                for likeness in _likenesses(status.job):
                    self._rates.setdefault(likeness, []).append(status.done.seconds / status.done.units)
        return [self._of(status) for status in states]

    def _of(self, status: Status) -> Estimate:
        job, done = status.job, status.done
        if done:
            return Estimate(job=job, seconds=0, gpu_hours=0, bytes=done.bytes, how="done")
        units = self._units(job)
        seconds, how = self._measured(job, units) or self._foreseen(job, units)
        seconds *= 1 - status.share
        on_gpu = (self.flops is not None or self.device.startswith("cuda")) and job.kind not in {"archive", "dataset"}
        return Estimate(
            job=job,
            seconds=seconds,
            gpu_hours=seconds / 3600 if on_gpu else 0.0,
            bytes=self._bytes(job),
            how=how,
        )

    def _measured(self, job: Job, units: float) -> tuple[float, How] | None:
        if self.flops is not None:
            return None  # times of this machine say nothing of another
        for likeness in _likenesses(job):
            if found := self._rates.get(likeness):
                return statistics.median(found) * units, "measured"
        return None

    def _foreseen(self, job: Job, units: float) -> tuple[float, How]:
        work = job.work
        if isinstance(work, ArchiveWork):
            return units * ARCHIVE_SCENE_S, "guess"
        if isinstance(work, DatasetWork):
            return self._bytes(job) / (RATE_MB_S * 1e6), "guess"
        if isinstance(work, PretrainWork):
            return self._pretraining(job, work, units)
        recipe = _recipe_of(job, self.jobs)
        if isinstance(work, EmbedWork) and recipe:
            return OPENING_S + self._arithmetic(recipe, units), "arithmetic"
        if isinstance(work, EvaluateWork):
            draws = work.sampling.seeds * (len(work.sampling.sizes) if work.sampling.kind == "few-shot" else 1)
            if work.finetuning and recipe:
                seen = max(units * work.finetuning.epochs, work.finetuning.least_steps * work.finetuning.batch_size)
                return OPENING_S + draws * self._arithmetic(recipe, seen), "arithmetic"
            return OPENING_S + draws * DRAW_S.get(work.probe.probe, 1.0), "guess"
        return OPENING_S, "guess"

    def _pretraining(self, job: Job, work: PretrainWork, units: float) -> tuple[float, How]:
        by_arithmetic = self._arithmetic(work.recipe, units)
        if self.flops is None and (rate := self._trials().get(self._trial_name(work.recipe))):
            return units / rate, "trial"
        return by_arithmetic, "arithmetic"

    def _arithmetic(self, recipe: TrainRecipe, units: float) -> float:
        kind = "cuda" if self.flops is not None or self.device.startswith("cuda") else "cpu"
        flops = _model(recipe.architecture, json.dumps(recipe.model, sort_keys=True)).flops_per_sample()
        return units * flops / (self._peak(recipe) * UTILISATION[kind])

    def _peak(self, recipe: TrainRecipe) -> float:
        if self.flops is not None:
            return self.flops
        device = torch.device(self.device)
        dtype = recipe.dtype(device)
        if str(dtype) not in self._peaks:
            self._peaks[str(dtype)] = measure_peak(device, dtype=dtype).flops
        return self._peaks[str(dtype)]

    # trials

    def try_out(self, states: Sequence[Status]) -> list[str]:
        """Time a few steps of each pretraining that is long, that none was done of, and whose data are there; which those were.

        What was timed is kept in the study's folder, by device.
        """
        if self.flops is not None:
            return []
        tried = []
        done = {status.job.name: status.done for status in states if status.done}
        for status in states:
            work = status.job.work
            if not isinstance(work, PretrainWork) or status.done or work.dataset not in done:
                continue
            name, found = self._trial_name(work.recipe), self._trials()
            if name in found or self._arithmetic(work.recipe, self._units(status.job)) < WORTH_A_TRIAL_S:
                continue
            found_rate = self._timed(work, self.folder / done[work.dataset].facts["path"])
            if found_rate:
                tried.append(status.job.model)
                with replacing(self.folder / TRIALS) as part:
                    part.write_text(json.dumps({**found, name: found_rate}, indent=1) + "\n", encoding="utf-8")
        return tried

    def _timed(self, work: PretrainWork, place: Path) -> float | None:
        """Samples a second of a few real steps; ``None`` where they cannot be done."""
        from catalog.subset import load_subset
        from training.trial import time_steps

        subset = load_subset(place)
        if len(subset) > work.recipe.effective_batch:
            subset = subset.sample(work.recipe.effective_batch)
        try:
            return time_steps(
                subset, work.recipe, steps=TRIAL_STEPS, warmup_steps=TRIAL_WARMUP, device=self.device
            ).samples_per_second
        except PwcatError:
            return None

    def _trials(self) -> dict[str, float]:
        try:
            found: dict[str, float] = json.loads((self.folder / TRIALS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    def _trial_name(self, recipe: TrainRecipe) -> str:
        device = torch.device(self.device)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return f"{recipe.model_copy(update={'seed': 0}).hash[:16]} on {name}"

    # sizes

    def _units(self, job: Job) -> float:
        """Samples of a job, or samples times epochs."""
        work = job.work
        if isinstance(work, ArchiveWork):
            return _archive_units(work.options)
        if isinstance(work, DatasetWork):
            return float(self._samples(job))
        if isinstance(work, PretrainWork):
            held = self._samples(self.jobs[work.dataset])
            return min(work.samples or held, held) * work.recipe.epochs
        if isinstance(work, EmbedWork | EvaluateWork | LeaksWork):
            dataset = work.task.dataset
            return float(self._samples(self.jobs[dataset]) if dataset else UNKNOWN_SAMPLES)
        return 1.0

    def _samples(self, job: Job) -> int:
        """Of a dataset: tiles of towns, samples of a recipe, or a guess."""
        work = job.work
        assert isinstance(work, DatasetWork)
        held = (work.recipe or {}).get("num_samples") or _tiles(work.recipe or {}) or UNKNOWN_SAMPLES
        for need in job.needs:
            made = self.jobs[need].work
            if isinstance(made, ArchiveWork) and isinstance(made.options, Towns):
                held = _archive_units(made.options)
        return min(int(held), work.entry.samples or int(held))

    def _bytes(self, job: Job) -> float:
        work = job.work
        if isinstance(work, ArchiveWork):
            options = work.options
            return self._units(job) * (TILE_BYTES if isinstance(options, Towns) else options.size_px**2 * 12)
        if isinstance(work, DatasetWork):
            return _sample_bytes(work) * self._samples(job)
        if isinstance(work, PretrainWork):
            model = _model(work.recipe.architecture, json.dumps(work.recipe.model, sort_keys=True))
            weights = 4 * sum(parameter.numel() for parameter in model.parameters())
            keep = work.recipe.checkpoint.keep
            return weights * 3.0 * (keep if isinstance(keep, int) else work.recipe.epochs)  # with Adam's two moments
        if isinstance(work, EmbedWork) and (recipe := _recipe_of(job, self.jobs)):
            dim = _model(recipe.architecture, json.dumps(recipe.model, sort_keys=True)).embedding_dim
            return 4 * dim * self._units(job)
        return 0.0


def schedule_seconds(estimates: Sequence[Estimate], *, workers: int) -> float:
    """How long the jobs that are left take so many processes: each takes the first whose needs are done."""
    left = {each.job.name: each for each in estimates if each.how != "done"}
    free = [(0.0, number) for number in range(max(1, workers))]
    ends: dict[str, float] = {}
    for name, each in left.items():  # in an order in which each comes after what it needs
        ready = max((ends[need] for need in each.job.needs if need in ends), default=0.0)
        at, number = heapq.heappop(free)
        ends[name] = max(at, ready) + each.seconds
        heapq.heappush(free, (ends[name], number))
    return max(ends.values(), default=0.0)


def _likenesses(job: Job) -> list[tuple[str, ...]]:
    """What jobs have to have in common for their times to be compared, the closest first."""
    work, kind = job.work, str(job.kind)
    if isinstance(work, DatasetWork):
        return [(kind, str(_sample_bytes(work)), str(work.recipe is None))]
    if isinstance(work, PretrainWork):
        return [(kind, work.recipe.model_copy(update={"seed": 0, "epochs": 1_000_000}).hash)]
    if isinstance(work, EvaluateWork):
        return [
            (kind, job.model, job.task, work.probe.probe, work.sampling.name, job.rung),
            (kind, job.task, work.probe.probe, work.sampling.name),
            (kind, work.probe.probe, work.sampling.name),
        ]
    return [(kind, job.model, job.task, job.rung), (kind, job.model, job.rung)]


def _recipe_of(job: Job, jobs: Mapping[str, Job]) -> TrainRecipe | None:
    """The recipe of the model that a job scores; ``None`` of weights that are there."""
    work = job.work
    if not isinstance(work, EmbedWork | EvaluateWork):
        return None
    if work.model.control:
        return work.model.control
    pretraining = jobs[work.model.run].work if work.model.run else None
    return pretraining.recipe if isinstance(pretraining, PretrainWork) else None


@cache
def _model(architecture: str, config: str) -> Model:
    with torch.random.fork_rng(devices=[]):
        return build_model(architecture, json.loads(config))


def _archive_units(options: Archive | Towns) -> float:
    """Scenes of an archive, tiles of towns."""
    if isinstance(options, Towns):
        return float(options.towns * options.across**2)
    return float(6 * (options.places + options.test_places) * options.dates)


def _tiles(recipe: Mapping[str, Any]) -> int:
    """Tiles in the boxes of a map recipe, whatever lies on them; 0 where it has none."""
    grid = recipe.get("tiles") or {}
    if recipe.get("kind") != "map" or not (boxes := grid.get("boxes")):
        return 0
    zoom = int(grid.get("zoom", 16))
    boxes = boxes.values() if isinstance(boxes, Mapping) else boxes
    corners = [to_world([west, east], [north, south], zoom) for west, south, east, north in boxes]
    return round(sum(float((x[1] - x[0]) * (y[1] - y[0])) for x, y in corners))


def _sample_bytes(work: DatasetWork) -> float:
    """Of a sample's chip, uncompressed; 0 where they are there already."""
    if work.recipe is None:
        return 0.0
    if work.recipe.get("kind") == "map":
        images = work.recipe.get("images") or {}
        return float(2 * len(images.get("bands", "rgb")) * images.get("size_px", 224) ** 2) if images else 0.0
    chip, when = work.recipe.get("chip", {}), work.recipe.get("when", {})
    months = when.get("months")
    dates = 12 if months == "all" else len(months or []) or when.get("dates_per_site") or 1
    bands = len(chip.get("bands", [])) + sum(
        len(each.get("bands", [])) for each in work.recipe.get("sensors", {}).values()
    )
    return float(dates * bands * chip.get("size_px", 0) ** 2 * 2)
