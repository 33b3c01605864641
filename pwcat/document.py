"""What documents from outside have in common: unknown keys are faults, and what was read does not change."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Document"]


class Document(BaseModel):
    """Base of everything that a recipe may say.

    Checks across fields are validators of the last field they need: pydantic skips those of a whole model as soon as one of
    its fields is wrong, and a recipe's faults are told all at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
