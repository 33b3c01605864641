"""Studies that come with pwcat, studies in files, and the study that a folder holds."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from pwcat.atomic import replacing
from pwcat.document import read_yaml
from pwcat.errors import RecipeError
from training.studying.document import StudyDocument, parse_study
from training.studying.job import hash_of

__all__ = [
    "STUDY",
    "OpenedStudy",
    "hash_in",
    "holds_others",
    "list_studies",
    "load_study",
    "study_in",
    "study_text",
    "write_study",
]

FOLDER = Path(__file__).parent.parent / "studies"
STUDY = "study.yaml"
MINI = ".mini"
HEAD = (
    "# What this folder is the study of, defaults included; `pwcat study run` goes on with it. Not to be edited: change the\n"
    "# study's own file, and run that with this folder again.\n"
)


@dataclass(frozen=True, kw_only=True)
class OpenedStudy:
    """A study and where its relative paths start.

    Attributes:
        document: what is to be done.
        base: folder of the file that it was read from; of a shipped one that of the study, which is not known yet then.
    """

    document: StudyDocument
    base: Path

    @property
    def hash(self) -> str:
        """SHA-256 of the document, defaults included, hex."""
        return hash_of(self.document.model_dump(mode="json"))


def list_studies() -> list[str]:
    """Names of the shipped studies; those that end in ``.mini`` play another one on the embedded archive."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def study_text(name: str) -> str:
    """A shipped study as it is written, comments included.

    Raises:
        RecipeError: there is none of that name.
    """
    return _shipped(name).read_text(encoding="utf-8")


def load_study(name_or_path: str | Path, *, mini: bool = False) -> OpenedStudy:
    """A study: a shipped one by its name, or a YAML file.

    Args:
        name_or_path: of it.
        mini: of a shipped one, its miniature.

    Raises:
        RecipeError: there is no such study, or it has faults; all are listed.
    """
    path, base = Path(name_or_path), None
    if path.suffix not in {".yaml", ".yml"}:
        base = Path()
        path = _shipped(f"{name_or_path}{MINI}" if mini else str(name_or_path))
    elif mini:
        raise RecipeError(f"--mini is of the shipped studies ({', '.join(_with_mini())}), and {path} is a file")
    if not path.is_file():
        raise RecipeError(f"{path}: no such study")
    document = _read(path)
    if isinstance(document, dict):
        document = {key: value for key, value in document.items() if not str(key).startswith("x-")}
    return OpenedStudy(
        document=parse_study(document, origin=path.name), base=path.parent.resolve() if base is None else base
    )


def study_in(folder: Path) -> OpenedStudy:
    """The study that a folder holds.

    Raises:
        RecipeError: it holds none, or one of another version.
    """
    path = folder / STUDY
    if not path.is_file():
        raise RecipeError(
            f"{folder} holds no study: {STUDY} missing. `pwcat study run STUDY -o {folder}` begins one; shipped are "
            + ", ".join(list_studies())
        )
    document = _read(path)
    if not isinstance(document, dict) or "study" not in document or "base" not in document:
        raise RecipeError(f"{path} is not what `pwcat study run` writes: run the study with its own file again")
    base = Path(os.path.normpath(folder.resolve() / str(document["base"])))
    return OpenedStudy(document=parse_study(document["study"], origin=str(path)), base=base)


def write_study(folder: Path, study: OpenedStudy) -> None:
    """Write down what a folder is the study of, with its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "hash": study.hash,
        "pwcat": version("pwcat"),
        "base": os.path.relpath(study.base, folder.resolve()),
        "study": study.document.model_dump(mode="json", exclude_defaults=False),
    }
    with replacing(folder / STUDY) as part:
        part.write_text(HEAD + yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")


def hash_in(folder: Path) -> str | None:
    """The hash of the study that a folder holds; ``None`` where it holds none."""
    try:
        document = yaml.safe_load((folder / STUDY).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return None
    return str(document.get("hash")) if isinstance(document, Mapping) else None


def holds_others(folder: Path) -> bool:
    """Whether a folder has files and is no study's, nor about to be one by another process, or by one that was killed."""
    others = folder.is_dir() and any(not path.name.startswith(f".{STUDY}.") for path in folder.iterdir())
    return others and not (folder / STUDY).is_file()  # looked for last: it is there before anything else is


def _with_mini() -> list[str]:
    return [name.removesuffix(MINI) for name in list_studies() if name.endswith(MINI)]


def _shipped(name: str) -> Path:
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(name, list_studies(), n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise RecipeError(
            f"no study {name!r}: {meant}give the path of a YAML file, or one of {', '.join(list_studies())}"
        )
    return path


def _read(path: Path) -> Any:
    try:
        return read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as exc:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(exc).split())}") from exc
