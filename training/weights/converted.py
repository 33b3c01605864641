"""What a converter makes of a checkpoint."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from training.normalize import Normalization

__all__ = ["Converted"]


class Converted(NamedTuple):
    """A checkpoint in this project's words.

    Attributes:
        config: fields of the architecture's config.
        state: its state dict.
        normalization: how chips become the model's input, where that is known.
        notes: what a user should know of the conversion, a sentence each.
    """

    config: dict[str, Any]
    state: dict[str, Tensor]
    normalization: Normalization | None = None
    notes: tuple[str, ...] = ()
