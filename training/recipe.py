"""Training recipes: one YAML document that says everything about a pretraining but the data.

Shipped ones are in ``training/recipes`` and are called by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from pwcat.document import read_yaml
from pwcat.errors import RecipeError
from training.augment import Crop, Flip
from training.loading.placement import Asked
from training.looping.schedule import Schedule
from training.models import ARCHITECTURES, config_faults

__all__ = [
    "Augment",
    "Checkpoints",
    "Optimizer",
    "TrainRecipe",
    "list_train_recipes",
    "load_train_recipe",
    "parse_train_recipe",
]

FOLDER = Path(__file__).parent / "recipes"

# Of a recipe, what changes no weight: a run may go on with other values.
WITHOUT_BEARING = {"title", "checkpoint", "placement", "memory_budget_mb"}


# Parts of models that may start from a folder's weights, their ``origin``.
ORIGINS = ("tower", "image", "geometry")

MAX_SEED = 2**63 - 1  # of what torch takes

Beta = Annotated[float, Field(ge=0, lt=1)]


def _is_none(value: object) -> bool:
    return value is None


def _is_nought(value: float) -> bool:
    return value == 0


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Augment(_Section):
    """How a sample is changed each time it is seen."""

    crop: Crop = Field(
        default="random", description="resized: part of the area, resized; random, center: cut, not resized"
    )
    flip: Flip = Field(default="both", description="none, horizontal, or both axes")
    min_scale: float = Field(default=0.2, gt=0, le=1, description="smallest part of the area that a resized crop cuts")
    blur: bool = Field(default=False, description="smooth images by a Gaussian of 3 pixels and random width (SatCLIP)")
    jitter_deg: float = Field(
        default=0, ge=0, description="coordinates are moved east and north by up to this many degrees (SatCLIP)"
    )

    def of_images(self) -> dict[str, Any]:
        """What :func:`training.augment.augment` is to be told."""
        return self.model_dump(exclude={"jitter_deg"})


class Optimizer(_Section):
    """AdamW and its schedule by step: a linear warm-up, then half a cosine to zero, or no change."""

    base_lr: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="learning rate for 256 samples a step, with which it grows; 1e-4 where neither this nor lr is given",
    )
    lr: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="learning rate itself, whatever the samples of a step"
    )
    schedule: Schedule = Field(default="cosine", description="after the warm-up: cosine to zero, or constant")
    betas: tuple[Beta, Beta] = Field(default=(0.9, 0.95), description="AdamW's two decay rates")
    weight_decay: float = Field(default=0.05, ge=0, allow_inf_nan=False, description="none is put on biases and norms")
    weight_decay_end: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        exclude_if=_is_none,
        description="weight decay after the last step, in a line from weight_decay; null: it stays",
    )
    warmup_epochs: float = Field(default=5, ge=0, description="epochs of linear warm-up from zero, or from warmup_from")
    warmup_from: float = Field(
        default=0,
        ge=0,
        le=1,
        exclude_if=_is_nought,
        description="share of the learning rate that the warm-up begins with",
    )
    final_lr: float = Field(
        default=0,
        ge=0,
        allow_inf_nan=False,
        exclude_if=_is_nought,
        description="learning rate that the cosine ends with; of a constant schedule, it must be 0",
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest norm of all gradients together; null: no limit"
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of the average of weights that stays at a step; evaluation loads the average; null: none, but where "
        "the model needs one",
    )

    @model_validator(mode="after")
    def _ends_below_its_peak(self) -> Self:
        if self.final_lr and self.schedule == "constant":
            raise ValueError(
                f"final_lr {self.final_lr:g} is where a cosine ends: schedule constant has no such end, leave it out"
            )
        if self.lr is not None and self.final_lr > self.lr:
            raise ValueError(f"final_lr {self.final_lr:g} must not be above lr {self.lr:g}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _one_rate(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = [name for name in ("base_lr", "lr") if values.get(name) is not None]
        if len(given) == 2:
            raise ValueError("base_lr and lr are two ways to say one thing: give one of them, and null for the other")
        return values if given else {**values, "base_lr": 1e-4}


class Checkpoints(_Section):
    """When a checkpoint is written, and which are kept. The last step has one anyway, and so has a stop by a signal."""

    every_epochs: int | None = Field(default=5, gt=0, description="epochs from one to the next; null: not by epochs")
    every_steps: int | None = Field(default=None, gt=0, description="steps from one to the next; null: not by steps")
    every_minutes: float | None = Field(
        default=None, gt=0, description="minutes from one to the next; null: not by time"
    )
    keep: Annotated[int, Field(gt=0)] | Literal["all"] = Field(default=1, description="how many of the last, or all")
    milestones: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        default=(), description="epochs after which one is written that is never removed"
    )


class TrainRecipe(_Section):
    """Everything that fixes a pretraining, given the data."""

    name: str = Field(min_length=1, description="short name, as in file names")
    title: str = Field(default="", description="one line for people")
    architecture: str = Field(default="satmae", description="name of a registered architecture")
    model: dict[str, Any] = Field(default_factory=dict, description="fields of the architecture's config")
    epochs: int = Field(gt=0, description="times that every sample is seen")
    batch_size: int = Field(gt=0, description="samples at once, on all devices together")
    accumulate: int = Field(default=1, gt=0, description="batches whose gradients make one step")
    optimizer: Optimizer = Field(default=Optimizer(), description="AdamW and its schedule")
    augment: Augment = Field(default=Augment(), description="crops and flips")
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="fixes weights, order, crops and masks")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 on CUDA, else float32"
    )
    compile: bool = Field(default=False, description="compile the model: faster steps, minutes before the first")
    cached_views: int = Field(
        default=0,
        ge=0,
        description="views of each image whose features by a frozen image tower are computed once and trained on (SatCLIP); "
        "0: chips are read and the tower is run each time",
    )
    checkpoint: Checkpoints = Field(default=Checkpoints(), description="when checkpoints are written and kept")
    placement: Asked = Field(
        default="auto", description="where chips are kept: device, cache or stream; auto: the first that they fit in"
    )
    memory_budget_mb: float = Field(default=2048, gt=0, description="MB of chips that may be held in memory, on a CPU")
    window_chips: int = Field(default=32768, gt=0, description="chips shuffled together, wherever they are kept")

    @field_validator("architecture")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in ARCHITECTURES:
            raise ValueError(f"{name!r} is none of {', '.join(ARCHITECTURES)}")
        return name

    @field_validator("model")
    @classmethod
    def _buildable(cls, model: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        architecture = info.data.get("architecture")
        if faults := config_faults(architecture, model) if architecture else []:
            raise ValueError("; ".join(faults))
        return model

    @field_validator("optimizer")
    @classmethod
    def _warms_up_in_time(cls, optimizer: Optimizer, info: ValidationInfo) -> Optimizer:
        epochs = info.data.get("epochs")
        if epochs is not None and optimizer.warmup_epochs >= epochs:
            raise ValueError(f"warmup_epochs {optimizer.warmup_epochs:g} must be below epochs {epochs}")
        return optimizer

    def dtype(self, device: torch.device) -> torch.dtype:
        """Of the matrix products on a device."""
        half = {"auto": device.type == "cuda", "float32": False, "bfloat16": True}[self.precision]
        return torch.bfloat16 if half else torch.float32

    @property
    def effective_batch(self) -> int:
        """Samples a step."""
        return self.batch_size * self.accumulate

    @property
    def lr(self) -> float:
        """Peak learning rate: ``base_lr * effective_batch / 256`` (Goyal et al., 2017, as MAE and SatMAE use it), or ``lr``."""
        if self.optimizer.lr is not None:
            return self.optimizer.lr
        assert self.optimizer.base_lr is not None  # one of the two is given: see Optimizer
        return self.optimizer.base_lr * self.effective_batch / 256

    def told(self) -> dict[str, Any]:
        """As JSON values, for others to read: of a folder that a part of the model started from there is its name alone."""
        values = self.model_dump(mode="json")
        for key in ORIGINS:
            part = values["model"].get(key)
            if isinstance(part, dict) and part.get("origin"):
                values["model"][key] = {**part, "origin": Path(part["origin"]).resolve().name}
        return values

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of what bears on the weights, hex; where data lie and what is kept may change."""
        values = self.model_dump(mode="json", exclude=WITHOUT_BEARING)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def list_train_recipes() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_train_recipe(name_or_path: str | Path, *, overrides: Mapping[str, str] | None = None) -> TrainRecipe:
    """A recipe, shipped (by name) or from a file, with some values replaced.

    Args:
        name_or_path: name of a shipped recipe, or path of a YAML file.
        overrides: dotted key to new value as YAML text, such as ``{"model.depth": "2"}``.

    Raises:
        RecipeError: there is no such recipe, it is no YAML mapping, or it has faults; all are listed.
    """
    path = Path(name_or_path)
    if not path.suffix:
        path = FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        raise RecipeError(
            f"no training recipe {str(name_or_path)!r}: give the path of a YAML file, or one of "
            + ", ".join(list_train_recipes())
        )
    try:
        document = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(document, dict):
        raise RecipeError(f"{path} must hold a mapping of keys to values, but holds {type(document).__name__}")
    for key, text in (overrides or {}).items():
        _set(document, key, _value(key, text))
    return parse_train_recipe(document, origin=path.name)


def parse_train_recipe(document: Mapping[str, Any], *, origin: str = "recipe") -> TrainRecipe:
    """A recipe from its document.

    Raises:
        RecipeError: every fault, each with the path of its key.
    """
    try:
        return TrainRecipe.model_validate(document)
    except ValidationError as exc:
        faults = [": ".join(filter(None, [".".join(map(str, f["loc"])), _plain(f["msg"])])) for f in exc.errors()]
        raise RecipeError(f"{origin} cannot be used for training: " + "; ".join(faults)) from exc


def _value(key: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise RecipeError(f"--set {key}: {text!r} is not YAML: {' '.join(str(exc).split())}") from exc


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")


def _set(document: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        document = document.setdefault(parent, {})
        if not isinstance(document, dict):
            raise RecipeError(f"--set {key}: {parent!r} is a single value, not a section")
    document[last] = value
