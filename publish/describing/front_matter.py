"""The front matter of a card: what `datasets` and the Hub read of a README, and what trips them.

Source: datasets 5.2 (``load.py``, ``data_files.py``), measured: without explicit ``configs`` stray files decide the loader,
and a recorded ``num_examples`` breaks ``load_dataset(filters=...)``.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import yaml

__all__ = ["card_faults", "loaded_paths", "named_by_card"]

CARD = "README.md"
TABLES = (".parquet", ".geoparquet", ".gpq")
_FRONT = re.compile(r"---\s*\r?\n(.*?)\r?\n---\s*(\r?\n|$)", flags=re.DOTALL)
# ValueError is a date that is none, and bytes that are no text.
_UNREADABLE = (yaml.YAMLError, ValueError, RecursionError)
_SPLIT = re.compile(r"\w+(\.\w+)*")


def card_faults(folder: Path, paths: Sequence[str], kind: Literal["dataset", "model"]) -> list[str]:
    """Why the card of a folder would be refused, or would load something else than it says; each with what to change."""
    if not (folder / CARD).is_file():
        return [f"there is no {CARD}: a release has a card"]
    try:
        found = _FRONT.match((folder / CARD).read_text(encoding="utf-8"))
        front = yaml.safe_load(found[1]) if found else None
    except _UNREADABLE as exc:
        return [f"the front matter of {CARD} cannot be read ({' '.join(str(exc).split())}): correct its YAML"]
    if not isinstance(front, dict):
        return [f"{CARD} has no front matter (YAML between two lines of ---): add one with at least a license"]
    if kind == "model" or ("configs" not in front and not any(path.endswith(TABLES) for path in paths)):
        return []  # nothing to load: a Zarr, say
    return [*_config_faults(front.get("configs"), paths), *_counted_faults(front.get("dataset_info"))]


def loaded_paths(folder: Path, paths: Sequence[str]) -> list[str]:
    """Of some paths, those that the configs of a folder's card name; none where there is no card that can be read."""
    if not (folder / CARD).is_file():
        return []
    return named_by_card((folder / CARD).read_bytes(), paths)


def named_by_card(card: bytes, paths: Sequence[str]) -> list[str]:
    """Of some paths, those that the configs of a card name; none where it cannot be read."""
    found = _FRONT.match(card.decode("utf-8", errors="replace"))
    try:
        front = yaml.safe_load(found[1]) if found else None
    except _UNREADABLE:
        return []
    configs = front.get("configs") if isinstance(front, dict) else None
    named = {
        path
        for config in (configs if isinstance(configs, list) else [])
        if isinstance(config, dict)
        for path in _matching(config, paths)
    }
    return [path for path in paths if path in named]


def _config_faults(configs: Any, paths: Sequence[str]) -> list[str]:
    if not isinstance(configs, list) or not configs or not all(isinstance(config, dict) for config in configs):
        return [
            f"{CARD} has no explicit `configs`, so that stray files decide what is loaded: list them with data_files"
        ]
    names = [config.get("config_name") for config in configs]
    faults = [
        f"config number {n} of {CARD} has no config_name, or one that is no text"
        for n, name in enumerate(names, 1)
        if not name or not isinstance(name, str)
    ]
    names = [name for name in names if isinstance(name, str)]
    faults += [
        f"the config {name!r} is there {n} times in {CARD}" for name, n in Counter(names).items() if name and n > 1
    ]
    if sum(bool(config.get("default")) for config in configs) > 1:
        faults.append(f"more than one config of {CARD} is the default: keep one")
    for config in configs:
        faults += [f"config {config.get('config_name')!r} of {CARD} {fault}" for fault in _file_faults(config, paths)]
    formats = {_format(path) for config in configs for path in _matching(config, paths)}
    if len(formats) > 1:
        faults.append(
            f"the configs of {CARD} name files of {' and '.join(sorted(formats))}, and the first decides the loader of all: "
            "keep to one format"
        )
    return faults


def _file_faults(config: dict[str, Any], paths: Sequence[str]) -> Iterator[str]:
    entries = list(_data_files(config.get("data_files")))
    if not entries:
        yield "names no data_files: list the files of each split"
    for split, pattern in entries:
        if split is not None and not _SPLIT.fullmatch(split):
            yield f"has a split {split!r}: use letters, digits and _"
        if not fnmatch.filter(paths, pattern.removeprefix("./")):
            yield f"names {pattern}, and no such file is in the folder"


def _matching(config: dict[str, Any], paths: Sequence[str]) -> list[str]:
    patterns = [pattern.removeprefix("./") for _, pattern in _data_files(config.get("data_files"))]
    return [path for pattern in patterns for path in fnmatch.filter(paths, pattern)]


def _format(path: str) -> str:
    return "Parquet" if path.endswith(TABLES) else PurePosixPath(path).suffix or path


def _data_files(value: Any) -> Iterator[tuple[str | None, str]]:
    """Splits and patterns of ``data_files``, in any of its shapes: one, a list, or splits with one or a list each."""
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, str):
            yield None, entry
        elif isinstance(entry, dict):
            path = entry.get("path", [])
            for pattern in path if isinstance(path, list) else [path]:
                yield str(entry.get("split")) if "split" in entry else None, str(pattern)


def _counted_faults(info: Any) -> list[str]:
    entries = [entry for entry in (info if isinstance(info, list) else [info]) if isinstance(entry, dict)]
    lists = [entry["splits"] for entry in entries if isinstance(entry.get("splits"), list)]
    splits = [split for listed in lists for split in listed if isinstance(split, dict)]
    if any("num_examples" in split for split in splits):
        return [
            f"dataset_info of {CARD} counts num_examples, which breaks load_dataset(filters=…): leave the splits out"
        ]
    return []
