"""A look at all that lies in the folder of a copy: every shard against its ledger, and what describes the samples."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pwcat.atomic import find_leftovers
from pwcat.building.ledger import digest_of, ledger_path, read_one
from pwcat.copies import ORIGIN, origin_words, read_origin
from pwcat.cube import Cube, open_cube, shard_path
from pwcat.doctor.described import description_faults, listing_fault
from pwcat.doctor.findings import Diagnosis, Finding
from pwcat.errors import CubeError

__all__ = ["examine_copy", "is_copy"]

# What a copy has of a map, beside its chips.
MAP_FILES = ("entities.parquet", "tags.parquet")


def is_copy(folder: Path) -> bool:
    """Whether a folder is that of a copied dataset, and not of a catalog of such, which has the same note."""
    return (folder / ORIGIN).is_file() and not any(folder.glob(f"*/{ORIGIN}"))


def examine_copy(folder: Path) -> Diagnosis:
    """What is wrong in the folder of a copied dataset. Reads every byte of its shards, changes nothing.

    Args:
        folder: of the dataset, with its ``origin.json``.

    Raises:
        PwcatError: the note of its origin cannot be read.
    """
    origin = read_origin(folder) or {}
    again = _again(folder, origin)
    try:
        cube = open_cube(folder / "cube.zarr")
    except CubeError as exc:
        what = str(exc).removeprefix(f"{folder}/").partition(";")[0]
        return _diagnosis(folder, origin, Counter(), 0, [Finding(kind="no cube", what=what, mend=again)])
    count = -(-cube.num_samples // cube.shard_size)
    told, findings = _look_at_shards(folder, count, origin)
    ids = [name for table in told for name in table["id"].to_pylist()]
    findings += _look_at_description(folder, cube, ids, again) if len(told) == count else []
    findings += _look_at_map(folder, again)
    if leftovers := len(find_leftovers(folder)):
        what = f"{leftovers:,} half-written {'file' if leftovers == 1 else 'files'} of killed writers; they do no harm"
        findings.append(Finding(kind="leftovers", what=what, mend=again))
    statuses = Counter(status for table in told for status in table["status"].to_pylist())
    if missing := cube.num_samples - statuses.total():
        statuses["missing"] = missing
    return _diagnosis(folder, origin, statuses, count, findings)


def _diagnosis(
    folder: Path, origin: Mapping[str, Any], counts: Counter[str], shards: int, findings: list[Finding]
) -> Diagnosis:
    note = f"copied from {origin_words(origin)}: it has no plan and no scenes, and is not built"
    return Diagnosis(folder=folder, counts=dict(counts), shards=shards, findings=findings, notes=[note])


def _again(folder: Path, origin: Mapping[str, Any]) -> str:
    """The command that copies all of it again."""
    return f"rm -r {shlex.quote(str(folder.parent))} && {_pull(folder, origin)}"


def _pull(folder: Path, origin: Mapping[str, Any]) -> str:
    """The command that copied it, which brings what is missing."""
    command = origin.get("command")
    if not isinstance(command, list):
        return "the command that made the copy"
    return shlex.join([*map(str, command), "-o", str(folder.parent)])


def _look_at_shards(folder: Path, count: int, origin: Mapping[str, Any]) -> tuple[list[pa.Table], list[Finding]]:
    """The ledgers of shards that are whole, and what the others are."""
    told, missing, damaged = [], [], []
    for shard in range(count):
        path, ledger = shard_path(folder / "cube.zarr", shard), ledger_path(folder, shard)
        try:
            notes = pq.read_schema(ledger).metadata or {}
            table = read_one(ledger, columns={"id", "status"})
        except (pa.ArrowException, OSError, CubeError):
            missing.append(shard)
            continue
        if not path.is_file():
            missing.append(shard)
        elif digest_of(path) != notes.get(b"pwcat:shard_sha256", b"").decode():
            damaged.append(shard)
        else:
            told.append(table)
    findings = []
    if missing:
        what = f"{_shards(missing, count)} missing, or without a ledger that can be read"
        findings.append(Finding(kind="missing", what=what, mend=_pull(folder, origin)))
    if damaged:
        bad = [shlex.quote(str(shard_path(folder / "cube.zarr", shard))) for shard in damaged]
        what = f"{_shards(damaged, count)} damaged: the bytes are not those that the ledger names"
        findings.append(Finding(kind="damaged", what=what, mend=f"rm {' '.join(bad)} && {_pull(folder, origin)}"))
    return told, findings


def _shards(shards: list[int], count: int, most: int = 8) -> str:
    more = f" and {len(shards) - most:,} more" if len(shards) > most else ""
    named = ", ".join(map(str, shards[:most])) + more
    return f"{len(shards):,} of {count:,} shards ({named}) {'is' if len(shards) == 1 else 'are'}"


def _look_at_description(folder: Path, cube: Cube, ids: list[str], again: str) -> Iterator[Finding]:
    """Whether samples are described as they are, in the cube and beside it."""
    stored = cube.stored("id")
    if stored is None or not np.array_equal(stored, np.array([*ids, None], dtype=object)[:-1]):
        what = "cube.zarr: id is missing, or not what the ledgers say"
        yield Finding(kind="coordinates", what=what, mend=again)
    recipe_hash = str(cube.attrs.get("recipe_hash"))
    for path, fault in description_faults(folder, name=folder.resolve().name, recipe_hash=recipe_hash, ids=ids):
        yield Finding(kind="undescribed", what=f"{path.name} {fault}", mend=again)
    if (listing := listing_fault(folder, folder.name)) is not None:
        path, fault = listing
        yield Finding(kind="unlisted", what=f"the catalog's {path.name} {fault}", mend=again)


def _look_at_map(folder: Path, again: str) -> Iterator[Finding]:
    """Whether what it has of a map can be read, every byte."""
    there = [name for name in MAP_FILES if (folder / name).is_file()]
    if there and len(there) < len(MAP_FILES):
        lost = next(name for name in MAP_FILES if name not in there)
        yield Finding(kind="map", what=f"{lost} is missing", mend=again)
    for name in there:
        try:
            with pq.ParquetFile(folder / name, page_checksum_verification=True) as file:
                for _ in file.iter_batches(use_threads=False):
                    pass
        except (pa.ArrowException, OSError) as exc:
            yield Finding(kind="map", what=f"{name} cannot be read ({exc})", mend=again)
