"""Folders of official files: what is wrong with them, all told at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pwcat.errors import TrainingError
from training.tasks.base import TaskInfo

__all__ = ["lacking", "partial_downloads", "refuse"]

# Endings of files that programs have not written to their end.
PARTIAL = (".part", ".partial", ".crdownload", ".download", ".aria2", ".gstmp", "_.gstmp")


def lacking(folder: Path, names: Iterable[str], *, source: str) -> list[str]:
    """A line for each of these files or folders that is missing or empty, with where to get it."""
    found = []
    for name in names:
        path = folder / name
        if not path.exists():
            found.append(f"{name} is missing; get it from {source}")
        elif path.is_file() and not path.stat().st_size:
            found.append(f"{name} is empty; get it anew from {source}")
    return found


def partial_downloads(folder: Path, *, source: str) -> list[str]:
    """A line for each file of a folder whose name says that its download has not ended."""
    if not folder.is_dir():
        return []
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(PARTIAL))
    return [f"{name} is a download that has not ended; finish it from {source}" for name in names]


def refuse(info: TaskInfo, folder: Path, faults: Sequence[str]) -> None:
    """Stop where there are faults.

    Raises:
        TrainingError: there are some; tells all of them.
    """
    if faults:
        raise TrainingError(f"task {info.name}: {folder} cannot be read: " + "; ".join(faults))
