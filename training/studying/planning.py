"""From a study's document to its jobs, in an order in which each comes after what it needs."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pwcat.errors import PwcatError, RecipeError
from pwcat.recipes import list_recipes, recipe_text
from training.finetuning.recipe import (
    PLAIN,
    FinetuneRecipe,
    list_finetune_recipes,
    load_finetune_recipe,
    parse_finetune_recipe,
)
from training.probing.kinds import Kind
from training.recipe import TrainRecipe, load_train_recipe
from training.studying.document import (
    FINETUNE,
    NONE,
    DatasetEntry,
    ModelEntry,
    ProbeEntry,
    Rung,
    SamplingEntry,
    StudyDocument,
    TaskEntry,
)
from training.studying.inputs import architecture_in, fingerprint
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
    hash_of,
)
from training.studying.shelf import OpenedStudy
from training.tasks import CATALOG_TASKS, task_info

__all__ = ["kind_of", "plan_jobs"]

# To be raised when the same inputs come to mean another outcome, so that everything of that kind is done again.
VERSIONS = {"archive": 1, "dataset": 1, "pretrain": 1, "leaks": 1, "embed": 1, "evaluate": 1, "finetune": 1}
ARCHIVE, TOWNS = "archive", "towns"


def plan_jobs(study: OpenedStudy) -> list[Job]:
    """All jobs of a study, each after those that it needs.

    Raises:
        RecipeError: a recipe that it names is missing or has faults; all of them are told.
    """
    return _Planner(study=study).jobs()


def kind_of(task: str) -> Kind:
    """What a task predicts."""
    info = task_info(task)
    if info is not None:
        return info.kind
    kind: Kind = getattr(CATALOG_TASKS[task], "kind", "segmentation")
    return kind


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """A model that is scored, and what tables call it."""

    ref: ModelRef
    key: str
    needs: tuple[str, ...]
    entry: ModelEntry
    dataset: str
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class _Planner:
    study: OpenedStudy
    _jobs: dict[str, Job] = field(default_factory=dict)
    _prints: dict[Path, str] = field(default_factory=dict)

    @property
    def document(self) -> StudyDocument:
        return self.study.document

    def jobs(self) -> list[Job]:
        faults = []
        for rung in (*self.document.rungs, None):
            try:
                self._plan_rung(rung)
            except PwcatError as exc:
                faults.append(str(exc))
        if faults:
            raise RecipeError("\n  ".join(dict.fromkeys(faults)))
        stages = {kind: place for place, kind in enumerate(VERSIONS)}
        return sorted(self._jobs.values(), key=lambda job: stages[job.kind])

    # datasets

    def _add(self, job: Job) -> str:
        self._jobs.setdefault(job.name, job)
        return job.name

    def _archives(self, recipe: Mapping[str, Any]) -> Iterator[str]:
        """The jobs that make what a recipe finds beside its folder."""
        text = json.dumps(recipe)
        for name, options in ((ARCHIVE, self.document.archive), (TOWNS, self.document.towns)):
            if options is not None and f"../{name}" in text:
                key = hash_of(name, VERSIONS[ARCHIVE], options.model_dump(mode="json"))
                yield self._add(Job(kind="archive", name=name, key=key, work=ArchiveWork(options=options)))

    def _dataset(self, entry: DatasetEntry, view: str | None) -> str:
        """The job that brings a dataset, in the view of a model."""
        if entry.data is not None:
            name, place = f"dataset/{entry.name}", self.study.base / entry.data
            key = hash_of("dataset", VERSIONS["dataset"], self._print(place), entry.samples)
            work = DatasetWork(entry=entry, collection="", recipe=None, base=str(self.study.base))
            return self._add(Job(kind="dataset", name=name, key=key, work=work, dataset=entry.name))
        name = f"dataset/{entry.name}" + (f"@{view}" if view else "")
        if name in self._jobs:
            return name
        recipe, base = self._recipe(entry, view)
        needs = tuple(self._archives(recipe))
        key = hash_of("dataset", VERSIONS["dataset"], recipe, entry.samples, [self._jobs[need].key for need in needs])
        collection = f"{_folded(entry.name)}{f'-{_folded(view)}' if view else ''}-{key[:6]}"
        recipe["name"] = collection
        work = DatasetWork(entry=entry, collection=collection, recipe=recipe, base=base)
        return self._add(Job(kind="dataset", name=name, key=key, work=work, needs=needs, dataset=entry.name))

    def _recipe(self, entry: DatasetEntry, view: str | None) -> tuple[dict[str, Any], str]:
        """A dataset's recipe as a document, and the folder of its relative paths."""
        name, base = str(entry.recipe), ""
        if name in self.document.recipes:
            document = copy.deepcopy(self.document.recipes[name])
        elif name in list_recipes():
            document = yaml.safe_load(recipe_text(name))
        else:
            path = self.study.base / name
            if not path.is_file():
                raise RecipeError(
                    f"datasets.{entry.name}.recipe: {name!r} is neither one of the study's `recipes`, nor a file, nor one of "
                    + ", ".join(list_recipes())
                )
            document, base = yaml.safe_load(path.read_text(encoding="utf-8")), str(path.parent)
        document.setdefault("name", entry.name)
        if entry.title:
            document["title"] = entry.title
        for changes in (entry.set, self.document.views[view] if view else {}):
            for key, value in changes.items():
                _set(document, key, value, where=f"datasets.{entry.name}")
        plain: dict[str, Any] = json.loads(json.dumps(document, default=str))  # dates as they are written
        return plain, base

    def _print(self, place: Path) -> str:
        if place not in self._prints:
            self._prints[place] = fingerprint(place)
        return self._prints[place]

    # models

    def _scored(self, rung: Rung | None) -> Iterator[_Scored]:
        for entry in self.document.models:
            if entry.weights is not None:
                if rung is None:  # nothing of it can be made smaller
                    place = self.study.base / entry.weights
                    yield _Scored(
                        ref=ModelRef(weights=str(place)),
                        key=hash_of("weights", self._print(place)),
                        needs=(),
                        entry=entry,
                        dataset=entry.dataset or entry.name,
                        seed=None,
                    )
                continue
            yield from self._pretrained(entry, rung)

    def _pretrained(self, entry: ModelEntry, rung: Rung | None) -> Iterator[_Scored]:
        recipe = self._train_recipe(entry, rung)
        for seed in entry.seeds:
            seeded = recipe.model_copy(update={"seed": seed})
            for dataset in self.document.datasets if entry.trained else ():
                name = self._pretrain(entry, dataset, seeded, rung)
                job = self._jobs[name]
                yield _Scored(
                    ref=ModelRef(run=name),
                    key=job.key,
                    needs=(name,),
                    entry=entry,
                    dataset=dataset.name,
                    seed=seed,
                )
            if (self.document.control or not entry.trained) and rung is None:  # ladders compare datasets
                yield _Scored(
                    ref=ModelRef(control=seeded),
                    key=hash_of("control", seeded.hash),
                    needs=(),
                    entry=entry,
                    dataset=NONE,
                    seed=seed,
                )

    def _train_recipe(self, entry: ModelEntry, rung: Rung | None) -> TrainRecipe:
        name = str(entry.recipe)
        path: str | Path = self.study.base / name if name.endswith((".yaml", ".yml")) else name
        changes = {**entry.set, **(rung.set if rung else {})}
        return load_train_recipe(path, overrides={key: json.dumps(value) for key, value in changes.items()})

    def _pretrain(self, entry: ModelEntry, dataset: DatasetEntry, recipe: TrainRecipe, rung: Rung | None) -> str:
        needed = self._dataset(dataset, entry.view)
        samples = min(filter(None, [dataset.samples, rung.samples if rung else None]), default=None)
        splits = [list(entry.splits)] if entry.splits else []
        key = hash_of("pretrain", VERSIONS["pretrain"], self._jobs[needed].key, samples, recipe.hash, *splits)
        return self._add(
            Job(
                kind="pretrain",
                name=_name("pretrain", rung, entry.name, dataset.name, f"s{recipe.seed}"),
                key=key,
                work=PretrainWork(dataset=needed, recipe=recipe, samples=samples, splits=entry.splits),
                needs=(needed,),
                dataset=dataset.name,
                model=entry.name,
                seed=recipe.seed,
                rung=rung.name if rung else "",
            )
        )

    # scores

    def _plan_rung(self, rung: Rung | None) -> None:
        for scored in self._scored(rung):
            for task in self.document.tasks:
                if task.models is None or scored.entry.name in task.models:
                    self._score(scored, task, rung)

    def _score(self, scored: _Scored, entry: TaskEntry, rung: Rung | None) -> None:
        task, key, needs = self._task(entry, scored.entry)
        embedded = ""
        for probe, sampling in self._crossed(entry, scored.entry, rung):
            if probe.probe != FINETUNE and kind_of(entry.task) != "segmentation" and not embedded:
                embedded = self._embed(scored, task, key, needs, rung)
            self._evaluate(scored, task, key, (*needs, embedded) if embedded else needs, probe, sampling, rung)

    def _crossed(
        self, task: TaskEntry, model: ModelEntry, rung: Rung | None
    ) -> Iterator[tuple[ProbeEntry, SamplingEntry]]:
        kind = kind_of(task.task)
        for probe in self.document.probes:
            limits = [task.probes, model.probes, rung.probes if rung else None]
            if not probe.fits(kind) or any(names is not None and probe.probe not in names for names in limits):
                continue
            for sampling in self.document.samplings:
                wanted = [task.samplings, probe.samplings, rung.samplings if rung else None]
                if all(names is None or sampling.name in names for names in wanted):
                    yield probe, sampling

    def _task(self, entry: TaskEntry, model: ModelEntry) -> tuple[TaskRef, str, tuple[str, ...]]:
        """A task, the key of its samples, and what has to be done before it is opened."""
        needs: list[str] = []
        if entry.data is not None:
            named = {each.name: each for each in (*self.document.labelled, *self.document.datasets)}
            needs.append(self._dataset(named[entry.data], entry.view or model.view))
            task, origin = TaskRef(entry=entry, dataset=needs[0]), self._jobs[needs[0]].key
        else:
            folder = f"{self.document.tasks_folder}/{entry.folder or entry.task}"
            place = self.study.base / (entry.place or folder)
            task, origin = TaskRef(entry=entry, place=str(place)), self._print(place)
        regions = self.document.regions.model_dump(mode="json") if self.document.regions else None
        zeros = () if entry.zeros is None else (entry.zeros,)
        key = hash_of("task", entry.task, entry.min_samples, entry.positive, origin, regions, *zeros)
        if self.document.leaks:
            job = self._leaks(task, key, model)
            task = TaskRef(entry=entry, dataset=task.dataset, place=task.place, leaks=job)
            needs.append(job)
            key = hash_of(key, self._jobs[job].key)
        return task, key, tuple(needs)

    def _leaks(self, task: TaskRef, key: str, model: ModelEntry) -> str:
        """The job that finds what leaks from any dataset: the same samples are left out, whichever a model has seen."""
        assert self.document.leaks is not None
        datasets = tuple(self._dataset(dataset, model.view) for dataset in self.document.datasets)
        limits = self.document.leaks
        view = task.entry.view or model.view
        return self._add(
            Job(
                kind="leaks",
                name="/".join(filter(None, ["leaks", task.entry.label, view])),
                key=hash_of(
                    "leaks",
                    VERSIONS["leaks"],
                    key,
                    [self._jobs[each].key for each in datasets],
                    limits.model_dump(mode="json"),
                ),
                work=LeaksWork(task=task, datasets=datasets, limits=limits),
                needs=(*datasets, *filter(None, [task.dataset])),
                task=task.entry.label,
            )
        )

    def _embed(self, scored: _Scored, task: TaskRef, key: str, needs: tuple[str, ...], rung: Rung | None) -> str:
        return self._add(
            Job(
                kind="embed",
                name=_name("embed", rung, *_of(scored), task.entry.label),
                key=hash_of("embed", VERSIONS["embed"], scored.key, key),
                work=EmbedWork(model=scored.ref, task=task),
                needs=(*scored.needs, *needs),
                **_labels(scored, task, rung),
            )
        )

    def _evaluate(
        self,
        scored: _Scored,
        task: TaskRef,
        key: str,
        needs: tuple[str, ...],
        probe: ProbeEntry,
        sampling: SamplingEntry,
        rung: Rung | None,
    ) -> str:
        kind = "finetune" if probe.probe == FINETUNE else "evaluate"
        recipe = self._finetuning(probe, scored) if probe.probe == FINETUNE else None
        settings = [probe.probe, recipe.hash if recipe else "", sampling.model_dump(mode="json", exclude={"name"})]
        return self._add(
            Job(
                kind=kind,  # type: ignore[arg-type]
                name=_name(kind, rung, *_of(scored), task.entry.label, probe.probe, sampling.name),
                key=hash_of(kind, VERSIONS[kind], scored.key, key, *settings),
                work=EvaluateWork(model=scored.ref, task=task, probe=probe, sampling=sampling, finetuning=recipe),
                needs=(*scored.needs, *needs),
                **_labels(scored, task, rung),
            )
        )

    def _finetuning(self, probe: ProbeEntry, scored: _Scored) -> FinetuneRecipe:
        """The recipe of fine-tuning: the one that is named, or that of the model's architecture."""
        architecture = self._train_recipe(scored.entry, None).architecture if scored.entry.recipe else ""
        if scored.ref.weights:
            architecture = architecture_in(Path(scored.ref.weights))
        name = probe.recipe or (architecture if architecture in list_finetune_recipes() else PLAIN)
        place: str | Path = self.study.base / name if name.endswith((".yaml", ".yml")) else name
        document = load_finetune_recipe(place).model_dump(mode="json", exclude_none=True)
        if probe.set:
            document = {**document, "name": f"{document['name']}, changed"}
        for key, value in probe.set.items():
            _set(document, key, value, where=f"probes.{FINETUNE}")
        return parse_finetune_recipe(document, origin=f"probes.{FINETUNE}")


def _of(scored: _Scored) -> tuple[str, ...]:
    return (
        scored.entry.name,
        scored.dataset,
        *([] if scored.seed is None else [f"s{scored.seed}"]),
    )


def _labels(scored: _Scored, task: TaskRef, rung: Rung | None) -> dict[str, Any]:
    return {
        "dataset": scored.dataset,
        "model": scored.entry.name,
        "task": task.entry.label,
        "group": task.entry.group_label,
        "seed": scored.seed,
        "rung": rung.name if rung else "",
    }


def _name(kind: str, rung: Rung | None, *parts: str) -> str:
    return "/".join([kind, *([f"rung-{rung.name}"] if rung else []), *parts])


def _folded(name: str) -> str:
    """A name as those of collections are: lower case, no blanks."""
    return name.lower().replace(" ", "-")[:40]


def _set(document: dict[str, Any], key: str, value: Any, *, where: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = document.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"{where}: {key} cannot be set, for {parent!r} is a single value, not a section")
        document = inner
    if isinstance(value, Mapping):
        value = copy.deepcopy(dict(value))
    document[last] = value
