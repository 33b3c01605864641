"""Model architectures, by name. To add one: write a child of :class:`~training.models.base.Model`, and name it in
``ARCHITECTURES``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from pwcat.errors import TrainingError
from training.models.base import Model

if TYPE_CHECKING:
    from training.normalize import Normalization

__all__ = ["ARCHITECTURES", "Model", "build_model", "config_faults", "config_of"]

# name: (module, class); imported when asked for
ARCHITECTURES: dict[str, tuple[str, str]] = {
    "satmae": ("training.models.satmae", "SatMAE"),
    "presto": ("training.models.presto", "Presto"),
    "satclip": ("training.models.satclip", "SatCLIP"),
    "geometry": ("training.models.geometry", "GeometryNet"),
    "geojepa": ("training.models.geojepa", "GeoJEPA"),
    "tagcount": ("training.models.tagcount", "TagCount"),
    "tagpool": ("training.models.tagpool", "TagPool"),
}


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
    return model.config_json()


def _class(architecture: str) -> Any:
    if architecture not in ARCHITECTURES:
        raise TrainingError(
            f"architecture {architecture!r} is unknown to this version of pwcat; it knows {', '.join(ARCHITECTURES)}"
        )
    module, name = ARCHITECTURES[architecture]
    return getattr(importlib.import_module(module), name)
