"""Model architectures, by name. To add one: write a class that meets :class:`Model`, and name it in ``ARCHITECTURES``.

A model reads chips of named bands at one size. Pretraining calls it and takes the first thing that comes back as the
loss; evaluation calls ``encode``; a checkpoint keeps ``config`` and the state dict, and builds the model again with
``Model(config, normalization=...)``. Nothing else is asked of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from pwcat.errors import TrainingError
from training.normalize import Normalization

__all__ = ["ARCHITECTURES", "Model", "build_model", "config_faults", "config_of"]

# name: (module, class); imported when asked for
ARCHITECTURES: dict[str, tuple[str, str]] = {"satmae": ("training.models.satmae", "SatMAE")}


class Model(Protocol):
    """What pretraining, evaluation and checkpoints ask of a ``torch.nn.Module``."""

    architecture: ClassVar[str]  # its name in ARCHITECTURES
    config_class: ClassVar[type]  # a frozen dataclass of JSON values that says everything but the weights
    config: Any
    normalization: Normalization | None  # how chips become the model's input; set by pretraining, kept by checkpoints

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the input bands, in order."""

    @property
    def image_size(self) -> int:
        """Side of the input, in pixels."""

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding."""

    def __call__(self, x_BCHW: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
        """The loss, a scalar, and whatever else; everything random is drawn from the generator."""

    def encode(self, x_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of scaled images."""

    def embed(self, chips_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of chips in digital numbers."""

    # from torch.nn.Module
    def train(self, mode: bool = True) -> Any: ...  # noqa: D102
    def eval(self) -> Any: ...  # noqa: D102
    def to(self, device: Any) -> Any: ...  # noqa: D102
    def parameters(self) -> Iterator[nn.Parameter]: ...  # noqa: D102
    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...  # noqa: D102
    def state_dict(self) -> dict[str, Tensor]: ...  # noqa: D102
    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> Any: ...  # noqa: D102


def build_model(
    architecture: str, config: Mapping[str, Any] | None = None, *, normalization: Normalization | None = None
) -> Model:
    """A model with fresh weights from torch's random state, of a registered architecture.

    Args:
        architecture: a name in ``ARCHITECTURES``.
        config: fields of its config; those left out keep their defaults.
        normalization: how chips become its input.

    Raises:
        TrainingError: the architecture is unknown or the config does not fit it; every fault is listed.
    """
    model_class = _class(architecture)
    if faults := config_faults(architecture, config or {}):
        raise TrainingError(f"no {architecture} can be built from this config: " + "; ".join(faults))
    built = TypeAdapter(model_class.config_class).validate_python(dict(config or {}))
    model: Model = model_class(built, normalization=normalization)
    return model


def config_faults(architecture: str, config: Mapping[str, Any]) -> list[str]:
    """What is wrong with the config of an architecture, one text a fault; none where it is sound."""
    try:
        TypeAdapter(_class(architecture).config_class).validate_python(dict(config))
    except ValidationError as exc:
        return [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in exc.errors()]
    except TrainingError as exc:
        return [str(exc)]
    return []


def config_of(model: Model) -> dict[str, Any]:
    """The config of a model as JSON values, from which :func:`build_model` builds it again."""
    fields: dict[str, Any] = asdict(model.config)
    return fields


def _class(architecture: str) -> Any:
    if architecture not in ARCHITECTURES:
        raise TrainingError(
            f"architecture {architecture!r} is unknown to this version of pwcat; it knows {', '.join(ARCHITECTURES)}"
        )
    module, name = ARCHITECTURES[architecture]
    return getattr(importlib.import_module(module), name)
