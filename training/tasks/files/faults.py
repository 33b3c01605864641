"""What is wrong with a folder of official files, in words: a line each, however many files it is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.tasks.files.official import PARTIAL

__all__ = ["fetch_again", "no_folder", "some", "told"]

SHOWN = 3
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


def some(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def told(what: str, names: Sequence[str], of: int, remedy: str) -> list[str]:
    """A line about files that share a fault; none where there are none.

    Args:
        what: the fault, such as "is missing" or "is empty".
        names: the files.
        of: how many there should be.
        remedy: what to do.
    """
    if not names:
        return []
    return [f"{len(names):,} of {of:,} files: {what} ({some(names)}); {remedy}"]


def no_folder(folder: Path, task: str, wanted: str, source: str) -> list[str]:
    """The line that nothing of a task is in a folder."""
    there = (
        "is a file, and no folder"
        if folder.is_file()
        else "is not there"
        if not folder.is_dir()
        else f"holds no {wanted}"
    )
    return [f"{folder} {there}{_begun(folder)}: {fetch_again(task, folder)}, or get the files from {source}"]


def _begun(folder: Path) -> str:
    """What of a download lies in a folder: archives that were not unpacked, files that are not whole."""
    if not folder.is_dir():
        return ""
    names = sorted(path.name for path in folder.iterdir())
    archives = [name for name in names if name.endswith(ARCHIVES)]
    begun = [name for name in names if name.endswith(PARTIAL)]
    told = [f", but {some(archives)}, to be unpacked there"] if archives else []
    return "".join([*told, *([f", but a download that has not ended ({some(begun)})"] if begun else [])])


def fetch_again(task: str, folder: Path) -> str:
    """The command that brings the files of a task; it puts them into a folder of the task's name."""
    return f"run `pwcat tasks fetch {task} -o {folder.parent if folder.name == task else folder}`"
