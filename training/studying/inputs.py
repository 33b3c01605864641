"""What lies outside a study: fingerprints by which it is seen that it has changed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from training.models.folder import CONFIG

__all__ = ["MISSING", "architecture_in", "fingerprint"]

MISSING = "missing"
WHOLE = 1 << 20  # bytes up to which a file is read; of larger ones the size stands for the rest
OWN = {".lock", "scores.json", "embeddings", "run.json", "metrics.jsonl", "tensorboard"}  # what uses leave behind
DATASET = ("items.parquet", "recipe.yaml", "import.json")  # say which samples a collection has, and how they were made


def fingerprint(place: Path) -> str:
    """SHA-256 of what a place holds, hex: names, sizes, and the first million bytes of each file.

    Where it lies is nothing to it, nor when it was written, so that copies and mounts on other machines are the same.

    Args:
        place: file or folder; ``"missing"`` comes back where there is none.
    """
    if place.is_file():
        return _digest([(place.name, place)])
    if not place.is_dir():
        return MISSING
    if said := [
        path for name in DATASET for path in (place / name, *sorted(place.glob(f"*/{name}"))) if path.is_file()
    ]:
        return _digest([(path.relative_to(place).as_posix(), path) for path in said])
    return _digest(sorted((path.relative_to(place).as_posix(), path) for path in _files(place)))


def architecture_in(weights: Path) -> str:
    """The architecture of a model folder or a run's folder; empty where it holds no model."""
    from training.checkpoint import latest_checkpoint

    for folder in (weights, latest_checkpoint(weights)):
        if folder is not None and (folder / CONFIG).is_file():
            return str(json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("architecture", ""))
    return ""


def _files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in OWN and not name.startswith(".")]
        found += [Path(parent) / name for name in names if name not in OWN and not name.startswith(".")]
    return found


def _digest(files: list[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    few = len(files) <= 1000  # of a benchmark of a million images, names and sizes have to do
    for name, path in files:
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        if few:
            with path.open("rb") as file:
                digest.update(file.read(WHOLE))
    return digest.hexdigest()
