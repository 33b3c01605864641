"""A job of a study: what is to be done, what it needs, and the hash of everything that bears on what comes of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from training.finetuning.recipe import FinetuneRecipe
from training.recipe import TrainRecipe
from training.studying.document import Archive, DatasetEntry, Leaks, ProbeEntry, SamplingEntry, TaskEntry, Towns

__all__ = [
    "KINDS",
    "ArchiveWork",
    "DatasetWork",
    "EmbedWork",
    "EvaluateWork",
    "Job",
    "JobKind",
    "LeaksWork",
    "ModelRef",
    "PretrainWork",
    "TaskRef",
    "Work",
    "hash_of",
]

JobKind = Literal["archive", "dataset", "pretrain", "leaks", "embed", "evaluate", "finetune"]
KINDS: tuple[JobKind, ...] = ("archive", "dataset", "pretrain", "leaks", "embed", "evaluate", "finetune")


@dataclass(frozen=True, kw_only=True)
class ArchiveWork:
    """Make the synthetic archive, or the towns."""

    options: Archive | Towns


@dataclass(frozen=True, kw_only=True)
class DatasetWork:
    """Build a dataset, or look at one that is there.

    Attributes:
        entry: as the study says it.
        collection: name of its folder in the study's catalog; empty where it lies elsewhere.
        recipe: the recipe's document, paths as they were written; ``None`` where it lies elsewhere.
        base: folder that these paths are relative to; that of the study's recipes where empty.
    """

    entry: DatasetEntry
    collection: str
    recipe: dict[str, Any] | None
    base: str = ""


@dataclass(frozen=True, kw_only=True)
class PretrainWork:
    """Pretrain a model on a dataset; ``samples`` is at most how many of it, drawn by the seed 0, of these ``splits`` alone."""

    dataset: str
    recipe: TrainRecipe
    samples: int | None
    splits: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model to be scored: one of these.

    Attributes:
        run: name of the job that pretrains it.
        weights: folder of weights that are there.
        control: recipe of one with fresh weights.
    """

    run: str = ""
    weights: str = ""
    control: TrainRecipe | None = None


@dataclass(frozen=True, kw_only=True)
class TaskRef:
    """A task to be opened.

    Attributes:
        entry: as the study says it.
        dataset: name of the job whose samples it takes; empty of a place.
        place: folder of a benchmark or dataset.
        leaks: name of the job that says which samples leak; empty where none does.
    """

    entry: TaskEntry
    dataset: str = ""
    place: str = ""
    leaks: str = ""


@dataclass(frozen=True, kw_only=True)
class LeaksWork:
    """Find the test samples of a task that are too near to any of these datasets."""

    task: TaskRef
    datasets: tuple[str, ...]
    limits: Leaks


@dataclass(frozen=True, kw_only=True)
class EmbedWork:
    """Embed the samples of a task."""

    model: ModelRef
    task: TaskRef


@dataclass(frozen=True, kw_only=True)
class EvaluateWork:
    """Score a model on a task by one probe, or by fine-tuning with a recipe."""

    model: ModelRef
    task: TaskRef
    probe: ProbeEntry
    sampling: SamplingEntry
    finetuning: FinetuneRecipe | None = None


Work = ArchiveWork | DatasetWork | PretrainWork | LeaksWork | EmbedWork | EvaluateWork


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job.

    Attributes:
        kind: what is done.
        name: unique in the study: the kind and what it is of, by slashes.
        key: SHA-256 of all that bears on the outcome, and of the keys of what it needs, hex.
        needs: names of jobs that have to be done before.
        work: what is to be done.
        dataset: pretrained on, as tables call it.
        model: likewise.
        task: likewise.
        group: of the task.
        seed: of the pretraining; ``None`` where nothing is pretrained.
        rung: of the ladder; empty of the study itself.
    """

    kind: JobKind
    name: str
    key: str
    work: Work = field(repr=False)
    needs: tuple[str, ...] = ()
    dataset: str = ""
    model: str = ""
    task: str = ""
    group: str = ""
    seed: int | None = None
    rung: str = ""

    @property
    def slug(self) -> str:
        """A name for folders, of this key alone."""
        return f"{self.name.replace('/', '.').replace(' ', '_')}-{self.key[:10]}"


def hash_of(*parts: Any) -> str:
    """SHA-256 of JSON values in canonical form, hex."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
