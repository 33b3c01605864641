"""What a finished study holds that can be published: the datasets it pretrained on, and its models with their scores."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from catalog.subset import Subset, load_subset
from publish.hub import check_repo_name
from publish.models.evaluations import merged
from publish.models.links import WHOLE, DataLink
from pwcat.errors import PublishError
from training.evaluate import Scores, load_scores
from training.looping.origins import origins_of
from training.scoring.metrics import LESS_IS_BETTER
from training.study import plan_jobs, study_in
from training.studying.document import StudyDocument
from training.studying.job import EvaluateWork, Job, PretrainWork
from training.studying.records import Records

__all__ = ["MODEL_CHOICES", "ModelChoice", "Studied", "StudiedDataset", "StudiedModel", "name_of", "read_study"]

ModelChoice = Literal["all", "best", "none"]
MODEL_CHOICES: tuple[ModelChoice, ...] = ("all", "best", "none")
ARXIV = re.compile(r"arXiv[:\s]+(\d{4}\.\d{4,5})", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class StudiedDataset:
    """A dataset that a study pretrained on.

    Attributes:
        job: that brought it.
        name: of its repository.
        title: for people.
        place: of the subset.
        num_samples: of it.
        hash: of the subset.
        published: where it was pulled from, whole: then it is linked, and not published again.
    """

    job: str
    name: str
    title: str
    place: Path
    num_samples: int
    hash: str
    published: DataLink | None

    def load(self) -> Subset:
        """Its samples."""
        return load_subset(self.place)


@dataclass(frozen=True, kw_only=True)
class StudiedModel:
    """A pretraining of a study.

    Attributes:
        name: of its repository.
        run: folder of the run.
        model: as the study calls it.
        dataset: likewise.
        data_job: that brought the dataset.
        seed: of the pretraining.
        scores: on the study's tasks; one each for tasks that several probes were tried on.
        among: pretrainings of this model in the study, on all datasets and by all seeds.
        chosen: whether it was taken for its scores.
    """

    name: str
    run: Path
    model: str
    dataset: str
    data_job: str
    seed: int
    scores: tuple[Scores, ...]
    among: int
    chosen: bool = False

    @property
    def words(self) -> str:
        """What it is, in a line."""
        return f"{self.model} pretrained on {self.dataset}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Studied:
    """A finished study.

    Attributes:
        folder: of it.
        document: what was done.
        name: of the repository of its tables, and what the names of the others begin with.
        datasets: that were pretrained on.
        models: that are to be published.
        arxiv: of the paper that it names first; ``None`` where it names none.
        left_out: what is not published, and why.
    """

    folder: Path
    document: StudyDocument
    name: str
    datasets: tuple[StudiedDataset, ...]
    models: tuple[StudiedModel, ...]
    arxiv: str | None
    left_out: tuple[str, ...]

    @property
    def title(self) -> str:
        """For people."""
        return self.document.title or self.document.name


def read_study(folder: str | Path, *, models: ModelChoice = "all") -> Studied:
    """What a study's folder holds that can be published.

    Args:
        folder: of the study.
        models: ``"all"`` pretrainings; ``"best"``: of each model the one of the best mean rank over all its scores; or
            ``"none"``. Rungs of the ladder and random weights are never published.

    Raises:
        PublishError: the study is not finished, or names come to be the same.
        RecipeError: the folder holds no study.
    """
    place = Path(folder)
    document, jobs = (opened := study_in(place)).document, plan_jobs(opened)
    records = Records(folder=place)
    own = [job for job in jobs if not job.rung]
    _require_done(place, own, records)
    prefix = name_of(document.name)
    found, left_out = _datasets(place, own, records, prefix=prefix)
    trained = [] if models == "none" else _models(place, own, records, document, prefix=prefix)
    studied = Studied(
        folder=place,
        document=document,
        name=prefix,
        datasets=found,
        models=tuple(_best(trained) if models == "best" else trained),
        arxiv=_arxiv(document),
        left_out=(*left_out, *_foreign(document)),
    )
    _require_names(studied)
    return studied


def name_of(words: str) -> str:
    """A name as repositories have them: lower case, digits, hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def _require_done(folder: Path, jobs: Sequence[Job], records: Records) -> None:
    missing = [job.name for job in jobs if records.done(job) is None]
    if missing:
        raise PublishError(
            f"the study in {folder} is not finished: {len(missing)} of {len(jobs)} jobs are not done ({', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}); `pwcat study run {folder}` goes on with it"
        )


def _require_names(studied: Studied) -> None:
    for part, names in {
        "datasets": [studied.name, *(each.name for each in studied.datasets if each.published is None)],
        "models": [each.name for each in studied.models],
    }.items():
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise PublishError(
                f"several {part} of the study come to be {', '.join(twice)} as repositories: give them names in the study that "
                "differ in more than case, blanks and marks"
            )
        for name in names:
            check_repo_name(f"o/{name}")


def _datasets(
    folder: Path, jobs: Sequence[Job], records: Records, *, prefix: str
) -> tuple[tuple[StudiedDataset, ...], list[str]]:
    """The datasets that were pretrained on, in the study's order, and which cannot be published."""
    wanted = dict.fromkeys(job.work.dataset for job in jobs if isinstance(job.work, PretrainWork))
    by_name, found, left_out = {job.name: job for job in jobs}, [], []
    for name in sorted(wanted, key=list(by_name).index):
        done = records.done(by_name[name])
        assert done is not None  # all are, by now
        place = folder / str(done.facts["path"])
        subset, words = load_subset(place), name.removeprefix("dataset/")
        if foreign := [each.name for each in subset.collections if each.place.has("import.json")]:
            left_out.append(
                f"dataset {words}: {', '.join(foreign)} was added from elsewhere, and is not published by pwcat"
            )
            continue
        found.append(
            StudiedDataset(
                job=name,
                name=f"{prefix}-{name_of(words)}",
                title=str(done.facts.get("title") or words),
                place=place,
                num_samples=len(subset),
                hash=subset.hash,
                published=_published(subset),
            )
        )
    return tuple(found), left_out


def _published(subset: Subset) -> DataLink | None:
    """The release that a dataset is all of, where it was pulled from one."""
    for told in origins_of(subset):
        if told["subset_hash"] == subset.hash:
            return DataLink(repo=str(told["repository"]), commit=str(told["revision"]), tag=told["tag"], extent=WHOLE)
    return None


def _models(
    folder: Path, jobs: Sequence[Job], records: Records, document: StudyDocument, *, prefix: str
) -> list[StudiedModel]:
    scored: dict[str, list[Scores]] = defaultdict(list)
    for job in jobs:
        if isinstance(job.work, EvaluateWork) and job.work.model.run:
            scored[job.work.model.run] += load_scores(records.of(job))
    seeds = {entry.name: len(entry.seeds) for entry in document.models}
    found = []
    for job in jobs:
        if not isinstance(job.work, PretrainWork):
            continue
        done, seed = records.done(job), job.seed or 0
        assert done is not None
        seeded = f"-s{seed}" if seeds.get(job.model, 1) > 1 else ""
        found.append(
            StudiedModel(
                name=f"{prefix}-{name_of(job.model)}-{name_of(job.dataset)}{seeded}",
                run=folder / str(done.facts["run"]),
                model=job.model,
                dataset=job.dataset,
                data_job=job.work.dataset,
                seed=seed,
                scores=tuple(merged(scored[job.name])),
                among=sum(isinstance(other.work, PretrainWork) and other.model == job.model for other in jobs),
            )
        )
    return found


def _best(models: Sequence[StudiedModel]) -> list[StudiedModel]:
    """Of each model the pretraining of the best mean rank over all its scores; the study's first of equal ones."""
    by_model: dict[str, list[StudiedModel]] = defaultdict(list)
    for each in models:
        by_model[each.model].append(each)
    return [replace(group[int(np.argmin(_mean_ranks(group)))], chosen=True) for group in by_model.values()]


def _mean_ranks(models: Sequence[StudiedModel]) -> np.ndarray:
    """Mean rank of each pretraining over the figures that all have, 1 the best; equal figures share the better rank."""
    figures = [_figures(each) for each in models]
    shared = set.intersection(*(set(each) for each in figures))
    ranks = [[1 + sum(other[key] > own[key] for other in figures) for key in sorted(shared)] or [1] for own in figures]
    means: np.ndarray = np.mean(ranks, axis=1)
    return means


def _figures(model: StudiedModel) -> dict[tuple[str, ...], float]:
    """A task's own metric by each probe, more is better."""
    found: dict[tuple[str, ...], float] = {}
    for task in model.scores:
        sign = -1 if task.metric in LESS_IS_BETTER else 1
        for result in task.results:
            for told in task.headlines(result.probe):
                key = (task.task, task.task_hash, str(task.sampling), result.probe, told.drawn)
                if math.isfinite(told.measure.mean):
                    found[key] = sign * told.measure.mean
    return found


def _foreign(document: StudyDocument) -> list[str]:
    return [
        f"model {entry.name}: its weights were there already, and are for those to publish who made them"
        for entry in document.models
        if entry.weights is not None
    ]


def _arxiv(document: StudyDocument) -> str | None:
    found = ARXIV.search(" ".join([document.title, document.lead, *document.notes]))
    return found[1] if found else None
