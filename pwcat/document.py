"""What documents from outside have in common: unknown keys are faults, no key stands twice, what was read does not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from pwcat.errors import RecipeError

__all__ = ["Document", "read_recipe_file", "read_yaml"]


class Document(BaseModel):
    """Base of everything that a recipe may say.

    Checks across fields are validators of the last field they need: pydantic skips those of a whole model as soon as one of
    its fields is wrong, and a recipe's faults are told all at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """What a YAML document says.

    Raises:
        yaml.YAMLError: it is no YAML, or a key of it stands twice.
    """
    return yaml.load(text, Loader=_Loader)


def read_recipe_file(path: Path) -> dict[str, Any]:
    """What the YAML file of a recipe says.

    Raises:
        RecipeError: the file is missing, no YAML, or no mapping of keys.
    """
    try:
        document = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as exc:
        raise RecipeError(f"{path}: not a readable YAML document: {' '.join(str(exc).split())}") from exc
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys, got {type(document).__name__}")
    return document
