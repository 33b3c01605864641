"""Fine-tuning recipes: one YAML document that says how a copy of a model is trained on a task.

Shipped ones are in ``training/finetuning/recipes``: that of an architecture has its name, ``plain`` is for others, and
``tiny`` is for small models and few samples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from pwcat.document import read_yaml
from pwcat.errors import RecipeError
from training.augment import Flip
from training.looping.schedule import Schedule
from training.models.base import Model

__all__ = [
    "FinetuneRecipe",
    "Head",
    "list_finetune_recipes",
    "load_finetune_recipe",
    "parse_finetune_recipe",
    "recipe_for",
]

FOLDER = Path(__file__).parent / "recipes"
PLAIN, TINY = "plain", "tiny"
# Weights of an encoder below which it is a miniature, to which the published settings say nothing; SatMAE-B's has 85 million.
FULL_SIZE = {"satmae": 5_000_000}

# Of a recipe, what changes no prediction.
WITHOUT_BEARING = {"name", "title", "memory_budget_mb"}

Head = Literal["linear", "layer_norm", "batch_norm"]
Beta = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class FinetuneRecipe(BaseModel):
    """Everything that fixes a fine-tuning, given the model, the task and the draw."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="own", min_length=1, description="short name")
    title: str = Field(default="", description="one line for people")
    epochs: int = Field(default=30, gt=0, description="times that every training sample is seen")
    least_steps: int = Field(
        default=250, ge=0, description="of few samples, as many more epochs as it takes to make so many steps"
    )
    batch_size: int = Field(default=128, gt=0, description="samples at once")
    accumulate: int = Field(default=1, gt=0, description="batches whose gradients make one step")
    base_lr: Positive | None = Field(
        default=None, description="peak learning rate of the head for 256 samples a step, with which it grows"
    )
    lr: Positive | None = Field(
        default=None, description="peak learning rate of the head itself; 1e-3 where neither this nor base_lr is given"
    )
    schedule: Schedule = Field(default="cosine", description="after the warm-up: cosine to zero, or constant")
    warmup_epochs: float = Field(
        default=5,
        ge=0,
        description="epochs of linear warm-up from zero; a share of the steps, where there are more epochs",
    )
    betas: tuple[Beta, Beta] = Field(default=(0.9, 0.999), description="AdamW's two decay rates")
    weight_decay: float = Field(
        default=0.05, ge=0, allow_inf_nan=False, description="none is put on biases, norms and single tokens"
    )
    layer_decay: Share = Field(
        default=0.75,
        description="each layer's learning rate is so much of that of the layer above it; 0 trains the head alone",
    )
    clip_norm: Positive | None = Field(default=None, description="largest norm of all gradients; null: no limit")
    drop_path: float = Field(
        default=0.0, ge=0, lt=1, description="chance that the last block's branches are left out; the first's is 0"
    )
    head: Head = Field(
        default="batch_norm",
        description="linear: one linear layer on the embedding; layer_norm, batch_norm: such a norm before it",
    )
    crop: Literal["none", "random", "resized"] = Field(
        default="random",
        description="none: chips as they are evaluated; random: where these are cut to their middle, cut anywhere; resized: a "
        "part of the area, resized",
    )
    min_scale: float = Field(default=0.2, gt=0, le=1, description="smallest part of the area that a resized crop cuts")
    flip: Flip = Field(default="both", description="none, horizontal, or both axes")
    mixup: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="alpha of mixing pairs of samples of a class or labels; 0: none",
    )
    cutmix: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="alpha of pasting a rectangle of one sample into another; 0: none. With mixup, one of them each batch",
    )
    erase: Share = Field(default=0.0, description="chance that a rectangle of a chip is replaced by noise")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of a class that is spread over all of them"
    )
    patience: int | None = Field(
        default=None, gt=0, description="epochs without a better validation score before it ends; null: all epochs"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 on CUDA, else float32"
    )
    compile: bool = Field(default=False, description="compile the model: faster steps, minutes before the first")
    memory_budget_mb: float = Field(
        default=4096, ge=0, description="MB of chips that are held in memory; more are read anew each epoch"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_rate(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = [name for name in ("base_lr", "lr") if values.get(name) is not None]
        if len(given) == 2:
            raise ValueError("base_lr and lr are two ways to say one thing: give one of them, and null for the other")
        return values if given else {**values, "lr": 1e-3}

    @field_validator("warmup_epochs")
    @classmethod
    def _in_time(cls, warmup_epochs: float, info: ValidationInfo) -> float:
        epochs = info.data.get("epochs")
        if epochs is not None and warmup_epochs >= epochs:
            raise ValueError(f"{warmup_epochs:g} must be below epochs {epochs}")
        return warmup_epochs

    def dtype(self, device: torch.device) -> torch.dtype:
        """Of the matrix products on a device."""
        half = {"auto": device.type == "cuda", "float32": False, "bfloat16": True}[self.precision]
        return torch.bfloat16 if half else torch.float32

    def step_samples(self, samples: int) -> int:
        """Samples of a step, of so many training samples."""
        return min(self.batch_size * self.accumulate, samples)

    def peak_lr(self, samples: int) -> float:
        """Highest learning rate of the head: ``lr``, or ``base_lr * (samples of a step) / 256``."""
        if self.lr is not None:
            return self.lr
        assert self.base_lr is not None  # one of the two is given
        return self.base_lr * self.step_samples(samples) / 256

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of what bears on a prediction, hex."""
        values = self.model_dump(mode="json", exclude=WITHOUT_BEARING)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def list_finetune_recipes() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def recipe_for(model: Model) -> FinetuneRecipe:
    """The shipped recipe of a model's architecture, or the plain one; for a miniature of the architecture, the tiny one."""
    if model.architecture not in list_finetune_recipes():
        return load_finetune_recipe(PLAIN)
    weights = sum(parameter.numel() for layer in model.encoder_layers() for parameter in layer)
    return load_finetune_recipe(TINY if weights < FULL_SIZE.get(model.architecture, 0) else model.architecture)


def load_finetune_recipe(name_or_path: str | Path) -> FinetuneRecipe:
    """A recipe, shipped (by name) or from a file.

    Raises:
        RecipeError: there is no such recipe, it is no YAML mapping, or it has faults; all are listed.
    """
    path = Path(name_or_path)
    if not path.suffix:
        path = FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        raise RecipeError(
            f"no fine-tuning recipe {str(name_or_path)!r}: give the path of a YAML file, or one of "
            + ", ".join(list_finetune_recipes())
        )
    try:
        document = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(document, dict):
        raise RecipeError(f"{path} must hold a mapping of keys to values, but holds {type(document).__name__}")
    return parse_finetune_recipe({"name": path.stem, **document}, origin=path.name)


def parse_finetune_recipe(document: Mapping[str, Any], *, origin: str = "recipe") -> FinetuneRecipe:
    """A recipe from its document.

    Raises:
        RecipeError: every fault, each with its key.
    """
    try:
        return FinetuneRecipe.model_validate(document)
    except ValidationError as exc:
        faults = [
            ": ".join(filter(None, [".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")]))
            for fault in exc.errors()
        ]
        raise RecipeError(f"{origin} cannot be used for fine-tuning: " + "; ".join(faults)) from exc
