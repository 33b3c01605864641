"""What a job does, by its kind. Whoever calls has the job's lease; whatever is interrupted here is gone on with by the next."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import yaml

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from pwcat.osm.document import is_map_recipe
from pwcat.regions import Regions, open_regions
from training.checkpoint import load_model_folder
from training.collapse import spread_of
from training.embed import embed_task
from training.evaluating.models import with_random_weights
from training.models import Model
from training.models.folder import weights_hash
from training.pretrain import Step, pretrain
from training.studying.against import against_rest
from training.studying.describing import describe_samples
from training.studying.document import Towns
from training.studying.job import (
    ArchiveWork,
    DatasetWork,
    EmbedWork,
    EvaluateWork,
    Job,
    LeaksWork,
    ModelRef,
    PretrainWork,
    TaskRef,
)
from training.studying.leaking import find_leaks, read_leaks
from training.studying.records import Records
from training.studying.scoring import score
from training.studying.shelf import OpenedStudy
from training.tasks import TaskData, open_task
from training.tasks.regions import grouped

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Outcome", "Tell", "UnfinishedError", "Workshop"]

CATALOG, RECIPES, RUNS, EMBEDDINGS = "catalog", "recipes", "runs", "embeddings"
ARCHIVE, TOWNS = "archive", "towns"
SUBSETS = "subsets"
PLACES = {"path", "files", "tiles", "within"}  # keys of recipes that name files, or patterns of them
LEAKS, CUBE = "leaks.parquet", "cube.zarr"


class Tell(Protocol):
    """Told how far a job is."""

    def __call__(self, done: int, total: int, words: str = "") -> None:
        """``done`` of ``total``, and what that is."""
        ...


class UnfinishedError(Exception):
    """A job stopped at the end of the time it was given; it goes on from there. Not for users."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job leaves behind, beside its files."""

    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] | None = None
    bytes: int = 0
    units: float = 0.0
    seconds: float | None = None  # where the wall time of this call is not all of it
    gpu_hours: float | None = None


@dataclass(kw_only=True)
class Workshop:
    """Does jobs in a study's folder, one at a time; tasks and models that the next one needs too stay open.

    Attributes:
        folder: of the study.
        records: what is done there.
        jobs: all jobs, by name.
        study: what is done.
        device: torch device.
        until: time on the monotonic clock at which pretraining stops with a checkpoint; ``None`` for never.
    """

    folder: Path
    records: Records
    jobs: Mapping[str, Job]
    study: OpenedStudy
    device: str = "cpu"
    until: float | None = None
    _task: tuple[str, TaskData] | None = None
    _model: tuple[Path, Model] | None = None

    def do(self, job: Job, tell: Tell) -> Outcome:
        """Do a job.

        Raises:
            PwcatError: it cannot be done; says why.
            UnfinishedError: its time was up.
        """
        work = job.work
        if isinstance(work, ArchiveWork):
            return self._archive(work, tell)
        if isinstance(work, DatasetWork):
            return self._dataset(work, tell)
        if isinstance(work, PretrainWork):
            return self._pretrain(job, work, tell)
        if isinstance(work, LeaksWork):
            return self._leaks(job, work)
        if isinstance(work, EmbedWork):
            return self._embed(work, tell)
        return self._evaluate(job, work, tell)

    @cached_property
    def _layers(self) -> Regions | None:
        """Layers of the study, by which tests are grouped; a catalog's samples are in their groups already."""
        layers = self.study.document.regions
        return None if layers is None else open_regions(layers, base_dir=self.study.base, source=None)

    def _archive(self, work: ArchiveWork, tell: Tell) -> Outcome:
        if isinstance(work.options, Towns):
            return self._towns(work.options, tell)
        from pwcat.archive import SynthOptions, synthesise_archive

        place, options = self.folder / ARCHIVE, SynthOptions(**work.options.model_dump())
        made = place / "synth.json"
        _move_another(place, made, options)
        counts = synthesise_archive(place, options=options, progress=lambda done, total: tell(done, total, "places"))
        return Outcome(facts={"items": counts}, bytes=_size(place), units=sum(counts.values()))

    def _towns(self, asked: Towns, tell: Tell) -> Outcome:
        from pwcat.archive.towns import TownOptions, synthesise_towns

        place, options = self.folder / TOWNS, TownOptions(**asked.model_dump())
        _move_another(place, place / "towns.json", options)
        counts = synthesise_towns(place, options=options, progress=lambda done, total: tell(done, total, "towns"))
        return Outcome(facts={"items": counts}, bytes=_size(place), units=options.towns * options.across**2)

    def _dataset(self, work: DatasetWork, tell: Tell) -> Outcome:
        if work.recipe is None:
            place = Path(work.base) / str(work.entry.data)
            return self._described(work, place, made=0)
        path = self.folder / RECIPES / f"{work.collection}.yaml"
        document = _rebased(work.recipe, base=Path(work.base), folder=path.parent) if work.base else work.recipe
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
        built = _build(path, catalog=self.folder / CATALOG, tell=tell)
        return self._described(work, built, made=_size(built / CUBE))

    def _described(self, work: DatasetWork, place: Path, *, made: int) -> Outcome:
        every = _load(place)
        subset = _limited(every, work.entry.samples)
        if len(subset) < len(every):
            place = subset.save(self.folder / SUBSETS / f"{work.entry.name}-{subset.hash[:10]}.parquet")
        facts = {
            "path": os.path.relpath(
                place.resolve(), self.folder.resolve()
            ),  # on other machines it may be mounted elsewhere
            "num_samples": len(subset),
            "hash": subset.hash,
            "described": describe_samples(place, subset, whole=len(subset) == len(every)),
        }
        return Outcome(facts=facts, bytes=made, units=len(every))

    def _subset(self, job: str, limit: int | None, splits: Collection[str] | None = None) -> Subset:
        """The samples of a dataset's job; those of some splits alone, where these are given."""
        done = self.records.done(self.jobs[job])
        assert done is not None  # it is needed, and so was done before
        subset = _load(self.folder / done.facts["path"])
        if splits is not None:
            subset = subset.only(np.flatnonzero(np.isin(subset.column("pwcat:split").astype(str), list(splits))))
            if not len(subset):
                raise TrainingError(f"{job} has no samples of split {' or '.join(splits)} to be pretrained on")
        return _limited(subset, limit)

    def _pretrain(self, job: Job, work: PretrainWork, tell: Tell) -> Outcome:
        subset, path = self._subset(work.dataset, work.samples, work.splits), self.folder / RUNS / job.slug

        def told(step: Step) -> None:
            tell(step.step, step.total_steps, f"steps, loss {step.loss:.3g}")

        left = None if self.until is None else max((self.until - time.monotonic()) / 60, 1e-3)
        run = pretrain(subset, work.recipe, path, device=self.device, max_minutes=left, progress=told)
        if not run.finished:
            raise UnfinishedError
        facts = {
            "run": str(path.relative_to(self.folder)),
            "weights_hash": weights_hash(run.load_model()),
            "data_hash": subset.hash,
            "num_samples": len(subset),
            "final_loss": run.final_loss,
        }
        units = len(subset) * work.recipe.epochs
        return Outcome(facts=facts, bytes=_size(path), units=units, seconds=run.seconds, gpu_hours=run.gpu_hours)

    def _leaks(self, job: Job, work: LeaksWork) -> Outcome:
        data = self._opened(work.task)
        subsets = {self.jobs[dataset].dataset: self._subset(dataset, None) for dataset in work.datasets}
        found = find_leaks(subsets, data, km=work.limits.km, path=self.records.of(job) / LEAKS)
        return Outcome(facts=dict(found), units=len(data))

    def _embed(self, work: EmbedWork, tell: Tell) -> Outcome:
        data = self._opened(work.task)
        embeddings = embed_task(
            self._loaded(work.model, data),
            data,
            cache_dir=self.folder / EMBEDDINGS,
            device=self.device,
            progress=lambda done, total: tell(done, total, "samples"),
        )
        facts = {"num_samples": len(data), "dim": int(embeddings.shape[1]), "spread": spread_of(embeddings).to_json()}
        return Outcome(facts=facts, bytes=embeddings.nbytes, units=len(data))

    def _evaluate(self, job: Job, work: EvaluateWork, tell: Tell) -> Outcome:
        data, leaks = self._opened(work.task), work.task.leaks
        rows = score(
            work,
            run_dir=self._folder_of(work.model),
            data=data,
            cache_dir=self.folder / EMBEDDINGS,
            out_dir=self.records.of(job),
            device=self.device,
            without=read_leaks(self.records.of(self.jobs[leaks]) / LEAKS) if leaks else None,
            tell=tell,
        )
        return Outcome(rows=rows, facts={"task_hash": data.hash}, units=len(data))

    def _folder_of(self, ref: ModelRef) -> Path | None:
        if ref.run:
            done = self.records.done(self.jobs[ref.run])
            assert done is not None
            return self.folder / str(done.facts["run"])
        return Path(ref.weights) if ref.weights else None

    def _loaded(self, ref: ModelRef, data: TaskData) -> Model:
        """A model to be scored; one with fresh weights is scaled by the task's samples."""
        folder = self._folder_of(ref)
        if folder is None:
            assert ref.control is not None
            return with_random_weights(ref.control, data)
        if self._model is None or self._model[0] != folder:
            self._model = (folder, load_model_folder(folder))
        return self._model[1]

    def _opened(self, ref: TaskRef) -> TaskData:
        """The samples of a task, in their groups."""
        entry = ref.entry
        if ref.dataset:
            done = self.records.done(self.jobs[ref.dataset])
            assert done is not None
            place = self.folder / done.facts["path"]
        else:
            place = Path(ref.place)
        name = f"{entry.task} {entry.min_samples} {entry.zeros} {entry.positive} {place}"
        if self._task is None or self._task[0] != name:
            data = open_task(entry.task, place, min_samples=entry.min_samples, zeros=entry.zeros)
            data = against_rest(data, entry.positive) if entry.positive else data
            self._task = (name, grouped(data, self._layers) if self._layers else data)
        return self._task[1]


def _build(recipe: Path, *, catalog: Path, tell: Tell) -> Path:
    """Build a recipe of either kind; the collection's folder."""
    from catalog.store import build, build_map

    def told(stage: str, done: int, total: int) -> None:
        tell(done, total, stage)

    if is_map_recipe(recipe):
        made = build_map(recipe, catalog=catalog, progress=told)
        folder, failed, total = made.folder, made.report.failed, made.report.tiles
    else:
        built = build(recipe, catalog=catalog, progress=told)
        folder, counts = built.folder, built.report.counts
        failed, total = counts.get("failed", 0), sum(counts.values())
    if failed:
        raise TrainingError(
            f"{failed} of {total} samples could not be read: run the study again once the source answers, or see "
            f"`pwcat doctor {folder}`"
        )
    return folder


def _load(place: Path) -> Subset:
    from catalog.subset import load_subset

    return load_subset(place)


def _limited(subset: Subset, wanted: int | None) -> Subset:
    return subset if wanted is None or wanted >= len(subset) else subset.sample(wanted)


def _move_another(place: Path, made: Path, options: Any) -> None:
    """Move away an archive of other options: the study asks for another one now."""
    if made.is_file() and json.loads(made.read_text(encoding="utf-8")) != asdict(options):
        place.rename(place.with_name(f"{place.name}.{int(made.stat().st_mtime)}"))


def _size(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _is_there(place: Path) -> bool:
    """Whether there is a file, or the folder of a pattern of files."""
    return place.exists() or ("*" in place.name and place.parent.is_dir())


def _rebased(document: Any, *, base: Path, folder: Path) -> Any:
    """A recipe's document whose relative paths start in another folder: values of keys that name files that are there."""
    if isinstance(document, Mapping):
        return {
            key: os.path.relpath(base / value, folder)
            if key in PLACES and isinstance(value, str) and _is_there(base / value)
            else _rebased(value, base=base, folder=folder)
            for key, value in document.items()
        }
    if isinstance(document, list):
        return [_rebased(value, base=base, folder=folder) for value in document]
    return document
