"""What a study's YAML may say: datasets, models, tasks, probes, samplings, and how they are crossed.

Everything that has a name is crossed with everything else, unless a model or a task says which it is for. Checks across
parts are told together with those of single keys, in one error.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from pwcat.document import Document
from pwcat.errors import PwcatError, RecipeError
from pwcat.layers import RegionLayers
from training.probes import PROBES, make_probes
from training.probing.kinds import Kind
from training.recipe import load_train_recipe
from training.tasks import task_info

__all__ = [
    "FINETUNE",
    "NONE",
    "Archive",
    "DatasetEntry",
    "Leaks",
    "ModelEntry",
    "ProbeEntry",
    "Rung",
    "SamplingEntry",
    "StudyDocument",
    "TaskEntry",
    "Towns",
    "parse_study",
]

NONE = "none"  # the dataset of the control, whose weights are random
FINETUNE = "finetune"

Name = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$", description="letters, digits, blanks, . _ -")
]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
Groups = Literal["continent", "biome", "landcover"]


def _is_none(value: object) -> bool:
    """Of keys that came later: a study without them has the hash that it had."""
    return value is None


class Archive(Document):
    """A synthetic archive, made in the study's folder as ``archive``; recipes find it as ``../archive``."""

    seed: int = Field(0, ge=0)
    places: int = Field(4, ge=1, le=40, description="of each continent")
    test_places: int = Field(2, ge=0, le=20, description="of each continent, in a collection of their own")
    dates: int = Field(2, ge=1, le=24, description="scenes a place")
    size_px: int = Field(512, ge=96, le=5490, description="side of a scene")


class Towns(Document):
    """Synthetic towns, maps with aerial images, made in the study's folder as ``towns``; recipes find them as ``../towns``."""

    seed: int = Field(0, ge=0)
    towns: int = Field(12, ge=1, le=100_000, description="each in a group of tiles of its own")
    across: int = Field(4, ge=1, le=4, description="tiles on a side of a town")


class DatasetEntry(Document):
    """Samples: to be built by a recipe, or there already."""

    name: Name
    title: str = ""
    recipe: str | None = Field(
        None, description="one of `recipes`, the name of a shipped recipe, or the path of a YAML file"
    )
    set: dict[str, Any] = Field(default_factory=dict, description="dotted keys of the recipe and their new values")
    data: str | None = Field(
        None, description="instead of a recipe: a collection's folder, a saved subset, or a catalog's folder"
    )
    samples: int | None = Field(None, ge=1, description="at most so many, drawn by the seed 0")

    @field_validator("name")
    @classmethod
    def _no_control(cls, name: str) -> str:
        if name == NONE:
            raise ValueError(f"{NONE!r} is the control's name; say `control: true` or `control: false`")
        return name

    @field_validator("data")
    @classmethod
    def _one_origin(cls, data: str | None, info: ValidationInfo) -> str | None:
        if "recipe" in info.data and (data is None) == (info.data["recipe"] is None):
            raise ValueError("give either `recipe` or `data`")
        if data is not None and info.data.get("set"):
            raise ValueError("`set` is for recipes; what lies there stays as it is")
        return data


class ModelEntry(Document):
    """A model: pretrained on each dataset by a training recipe, or with weights that are there already."""

    name: Name
    recipe: str | None = Field(None, description="the name of a shipped training recipe, or the path of a YAML file")
    set: dict[str, Any] = Field(default_factory=dict, description="dotted keys of the recipe and their new values")
    seeds: Seeds = Field((0,), description="of the pretraining; each is a run of its own")
    view: Name | None = Field(None, description="one of `views`: how the datasets are built for this model")
    splits: tuple[Literal["train", "val", "test"], ...] | None = Field(
        None,
        min_length=1,
        description="pretrained on the samples of these splits alone; on all by default",
        exclude_if=_is_none,
    )
    probes: tuple[Name, ...] | None = Field(
        None, description="names of probes that score it; all by default", exclude_if=_is_none
    )
    trained: bool = Field(
        True, description="false of a recipe whose model has nothing to train: it is scored once", exclude_if=bool
    )
    weights: str | None = Field(None, description="instead of a recipe: a run's folder or a model folder")
    dataset: str = Field("", description="of weights: what they were pretrained on, as tables call it")

    @field_validator("dataset")
    @classmethod
    def _one_origin(cls, dataset: str, info: ValidationInfo) -> str:
        recipe, weights = info.data.get("recipe"), info.data.get("weights")
        if (recipe is None) == (weights is None):
            raise ValueError("a model has either a `recipe` or `weights`")
        if weights is not None and not info.data.get("trained", True):
            raise ValueError("`trained` is for recipes; weights that are there are not trained anyway")
        if weights is None and dataset:
            raise ValueError("`dataset` is for weights; a recipe is trained on all datasets of the study")
        return dataset


class TaskEntry(Document):
    """What models are scored on."""

    task: str = Field(description="a task's name; `pwcat tasks list` shows them")
    name: Name | None = Field(None, description="in tables; the task's where not given")
    group: str = Field("", description="task group, whose tasks make one column of the main table; the name by default")
    data: Name | None = Field(None, description="of a task of a catalog: one of `labelled` or `datasets`")
    place: str | None = Field(
        None, description="of a benchmark: the folder of its files; NAME in `tasks_folder` by default"
    )
    folder: Name | None = Field(None, description="of a benchmark: its folder in `tasks_folder`; its name by default")
    min_samples: int | None = Field(None, ge=1, description="of a task of a catalog: samples that a class needs")
    zeros: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of a task of map tiles: share of those with label 0 that take part",
        exclude_if=lambda value: value is None,  # studies of before it was there keep their hash
    )
    positive: str | None = Field(None, description="of a classification: this class is told from all others, by F1")
    view: Name | None = Field(None, description="one of `views`, of the samples; that of the model by default")
    models: tuple[Name, ...] | None = Field(None, description="models that are scored; all by default")
    probes: tuple[Name, ...] | None = Field(None, description="names of probes; all that can, by default")
    samplings: tuple[Name, ...] | None = Field(None, description="names of samplings; all by default")

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.name or self.task.replace(":", "-").replace("/", "-")

    @property
    def group_label(self) -> str:
        """Its group in tables."""
        return self.group or self.label


class ProbeEntry(Document):
    """A probe on frozen embeddings, or fine-tuning. A plain string is its name."""

    probe: str = Field(description="knn, linear, logistic, mlp, forest, ridge, mlp-plateau, dummy or finetune")
    samplings: tuple[Name, ...] | None = Field(None, description="names of samplings; all by default")
    recipe: str | None = Field(
        None, description="of fine-tuning: a shipped recipe's name, or a YAML file; that of the architecture by default"
    )
    set: dict[str, Any] = Field(default_factory=dict, description="of fine-tuning: keys of its recipe and new values")

    @field_validator("probe")
    @classmethod
    def _known(cls, probe: str) -> str:
        if probe not in (*PROBES, FINETUNE):
            raise ValueError(f"{probe!r} is none of {', '.join([*PROBES, FINETUNE])}")
        return probe

    @field_validator("set")
    @classmethod
    def _of_finetuning(cls, values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if (values or info.data.get("recipe")) and info.data.get("probe") not in (FINETUNE, None):
            raise ValueError(
                "`recipe` and `set` are for finetune; the other probes choose their settings on validation samples"
            )
        return values

    def fits(self, kind: Kind) -> bool:
        """Whether it can learn a task of this kind."""
        if self.probe == FINETUNE:
            return True
        wanted: Kind = "classification" if kind == "segmentation" else kind  # each pixel is a sample
        return wanted in make_probes([self.probe])[0].kinds


class SamplingEntry(Document):
    """Which samples are learnt from, and how often they are drawn."""

    name: Name
    kind: Literal["official", "resampling", "few-shot"]
    seeds: int = Field(5, ge=1, description="draws, of each size")
    seed: int = Field(0, ge=0, description="fixes all of them")
    split: Literal["column", "blocks"] = Field("column", description="resampling: sides as they are, or by blocks")
    block_km: float = Field(100.0, gt=0, description="side of a block of validation samples, kilometres")
    sizes: tuple[Annotated[int, Field(ge=1)] | None, ...] = Field(
        (100,), min_length=1, description="few-shot: training samples of a draw; null: all"
    )
    per: Literal["class", "group", "total"] = Field("class", description="few-shot: what so many are taken of")
    within: Groups | None = Field(None, description="few-shot: drawn and tested within each of these apart")

    @property
    def trained_on(self) -> frozenset[int | None]:
        """Sizes of its draws, as results tell them; ``None`` is all samples."""
        return frozenset(self.sizes) if self.kind == "few-shot" else frozenset([None])


class Leaks(Document):
    """Test samples too near to any dataset of the study: group ``leaks=none`` has all scores without them."""

    km: float = Field(
        gt=0, description="geodesic distance between centres of chips; those that share ground leak anyway"
    )


class Rung(Document):
    """The same study made smaller: its order of datasets is compared with that of the study itself."""

    name: Name
    set: dict[str, Any] = Field(default_factory=dict, description="dotted keys of the training recipes and new values")
    samples: int | None = Field(None, ge=1, description="of each dataset at most so many")
    probes: tuple[Name, ...] | None = Field(None, description="names of probes; all by default")
    samplings: tuple[Name, ...] | None = Field(None, description="names of samplings; all by default")


class StudyDocument(Document):
    """A whole study."""

    name: Name
    title: str = ""
    lead: str = Field("", description="what the report begins with")
    notes: tuple[str, ...] = Field((), description="what a reader has to know, a sentence each")
    archive: Archive | None = Field(None, description="a synthetic archive to build the datasets from")
    towns: Towns | None = Field(
        None, description="synthetic towns to build the datasets from, of maps with images", exclude_if=_is_none
    )
    recipes: dict[str, dict[str, Any]] = Field(default_factory=dict, description="dataset recipes, by name")
    views: dict[Name, dict[str, Any]] = Field(
        default_factory=dict, description="changes of recipes for some models, by name: dotted keys and new values"
    )
    datasets: tuple[DatasetEntry, ...] = Field((), description="to pretrain on")
    labelled: tuple[DatasetEntry, ...] = Field((), description="to score on alone")
    control: bool = Field(True, description=f"also score random weights, as dataset {NONE!r}")
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    tasks: tuple[TaskEntry, ...] = Field(min_length=1)
    probes: tuple[ProbeEntry, ...] = Field((ProbeEntry(probe="knn"), ProbeEntry(probe="linear")), min_length=1)
    samplings: tuple[SamplingEntry, ...] = Field((SamplingEntry(name="all", kind="resampling"),), min_length=1)
    regions: RegionLayers | None = Field(None, description="layers by which test samples get their groups")
    leaks: Leaks | None = Field(None, description="what is left out of the tests")
    rungs: tuple[Rung, ...] = Field((), description="of the proxy ladder, the smallest first")
    tasks_folder: str = Field("tasks", description="folder that benchmarks' files lie in, each in a folder of its name")
    threads: int | None = Field(
        None, ge=1, le=256, description="of a job on a processor; a fixed number gives the same figures on any machine"
    )
    workers: int = Field(1, ge=1, le=64, description="processes on this machine, where the command does not say")

    @field_validator("probes", mode="before")
    @classmethod
    def _by_name(cls, probes: Any) -> Any:
        if not isinstance(probes, list | tuple):
            return probes
        return [{"probe": probe} if isinstance(probe, str) else probe for probe in probes]


def parse_study(document: Any, *, origin: str) -> StudyDocument:
    """A study from its document.

    Raises:
        RecipeError: every fault, each with the path of its key.
    """
    if not isinstance(document, Mapping):
        raise RecipeError(f"{origin}: a study is a mapping of keys, got {type(document).__name__}")
    try:
        study = StudyDocument.model_validate(document)
    except ValidationError as exc:
        faults = [
            ": ".join(filter(None, [_key(error["loc"]), error["msg"].removeprefix("Value error, ")]))
            for error in exc.errors()
        ]
        raise _refused(origin, [*faults, *_loose_faults(document)]) from exc
    if faults := _faults(study):
        raise _refused(origin, faults)
    return study


def _refused(origin: str, faults: Sequence[str]) -> RecipeError:
    told = list(dict.fromkeys(faults))
    return RecipeError("\n  ".join([f"{origin}: {len(told)} fault{'s' * (len(told) > 1)}, nothing was done", *told]))


def _key(place: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _loose_faults(document: Mapping[str, Any]) -> list[str]:
    """Faults across parts of those that are sound by themselves, where others are not."""
    sound = {key: value for key, value in document.items() if key in StudyDocument.model_fields}
    for key in list(sound):
        if isinstance(sound[key], list):
            sound[key] = [entry for entry in sound[key] if _is_sound(key, entry)]
    try:
        return _faults(StudyDocument.model_validate(sound))
    except ValidationError:
        return []


ENTRIES: Mapping[str, type[Document]] = {
    "datasets": DatasetEntry,
    "labelled": DatasetEntry,
    "models": ModelEntry,
    "tasks": TaskEntry,
    "samplings": SamplingEntry,
    "rungs": Rung,
}


def _is_sound(key: str, entry: Any) -> bool:
    if key not in ENTRIES:
        return True
    try:
        ENTRIES[key].model_validate(entry)
    except ValidationError:
        return False
    return True


def _faults(study: StudyDocument) -> list[str]:
    """What contradicts itself across parts, or is not known."""
    return [*_twice(study), *_unknown(study), *_same_rows(study), *_recipes(study), *_tasks(study)]


def _twice(study: StudyDocument) -> Iterator[str]:
    named: dict[str, Sequence[str]] = {
        "datasets and labelled": [entry.name for entry in (*study.datasets, *study.labelled)],
        "models": [entry.name for entry in study.models],
        "tasks": [entry.label for entry in study.tasks],
        "probes": [entry.probe for entry in study.probes],
        "samplings": [entry.name for entry in study.samplings],
        "rungs": [entry.name for entry in study.rungs],
    }
    for part, names in named.items():
        if twice := sorted({name for name in names if names.count(name) > 1}):
            yield f"{part}: {', '.join(twice)} stands twice; give each a name of its own"


def _unknown(study: StudyDocument) -> Iterator[str]:
    probes, samplings = [entry.probe for entry in study.probes], [entry.name for entry in study.samplings]
    models, places = [entry.name for entry in study.models], [e.name for e in (*study.datasets, *study.labelled)]
    for model in study.models:
        yield from _strangers(f"models.{model.name}.view", [model.view], study.views)
        yield from _strangers(f"models.{model.name}.probes", model.probes or (), probes)
    for task in study.tasks:
        where = f"tasks.{task.label}"
        yield from _strangers(f"{where}.view", [task.view], study.views)
        yield from _strangers(f"{where}.models", task.models or (), models)
        yield from _strangers(f"{where}.probes", task.probes or (), probes)
        yield from _strangers(f"{where}.samplings", task.samplings or (), samplings)
        yield from _strangers(f"{where}.data", [task.data], places)
    for probe in study.probes:
        yield from _strangers(f"probes.{probe.probe}.samplings", probe.samplings or (), samplings)
    for rung in study.rungs:
        yield from _strangers(f"rungs.{rung.name}.probes", rung.probes or (), probes)
        yield from _strangers(f"rungs.{rung.name}.samplings", rung.samplings or (), samplings)


def _same_rows(study: StudyDocument) -> Iterator[str]:
    """Two samplings of one probe and task that tables could not tell apart: results have no column for a sampling's name."""
    told = set()
    for task, probe in product(study.tasks, study.probes):
        for one, other in combinations(study.samplings, 2):
            crossed = all(
                names is None or {one.name, other.name} <= set(names) for names in (task.samplings, probe.samplings)
            ) and (task.probes is None or probe.probe in task.probes)
            shared = one.trained_on & other.trained_on
            alike = bool(shared) and (one.within is None) == (other.within is None)
            if crossed and alike and (probe.probe, one.name, other.name) not in told:
                told.add((probe.probe, one.name, other.name))
                sizes = ", ".join("all" if size is None else str(size) for size in sorted(shared, key=lambda n: n or 0))
                yield (
                    f"samplings: {one.name} and {other.name} both give {probe.probe} scores of {sizes} training samples, "
                    "which results cannot tell apart; name one of them in `samplings` of the probe or the task, or give "
                    "them other sizes"
                )


def _strangers(where: str, names: Iterable[str | None], known: Iterable[str]) -> Iterator[str]:
    choices = list(known)
    for name in names:
        if name is not None and name not in choices:
            near = difflib.get_close_matches(name, choices, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            yield f"{where}: {name!r} is none of {', '.join(choices) or 'none, for there are none'}{meant}"


def _recipes(study: StudyDocument) -> Iterator[str]:
    """Faults of what is trained: no datasets, and changes that no recipe bears."""
    trained = [model for model in study.models if model.recipe is not None]
    on_nothing = [model.name for model in trained if model.trained and not study.datasets and not study.control]
    if on_nothing:
        yield f"datasets: none, and no control either, so that {on_nothing[0]} has nothing to be trained on"
    for model in trained:
        assert model.recipe is not None
        if model.recipe.endswith((".yaml", ".yml")):
            continue  # read where it lies, when the study is opened
        for rung in (None, *study.rungs):
            try:
                load_train_recipe(model.recipe, overrides=_texts({**model.set, **(rung.set if rung else {})}))
            except PwcatError as exc:
                yield f"{f'rungs.{rung.name}' if rung else 'models'}.{model.name}: {exc}"
                break


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in values.items()}


def _tasks(study: StudyDocument) -> Iterator[str]:
    for task in study.tasks:
        where = f"tasks.{task.label}"
        try:
            info = task_info(task.task)
        except PwcatError as exc:
            yield f"{where}: {exc}"
            continue
        if info is None:
            if task.data is None and task.place is None:
                yield f"{where}: say of which `data` of `labelled` its samples are, or in which `place`"
            continue
        if task.data is not None:
            yield f"{where}.data: {task.task} is a benchmark, whose files lie in a `place`"
        chosen = [probe for probe in study.probes if task.probes is None or probe.probe in task.probes]
        if not any(probe.fits(info.kind) for probe in chosen):
            names = ", ".join(probe.probe for probe in chosen) or "none"
            yield f"{where}: none of its probes ({names}) can learn a {info.kind}"
