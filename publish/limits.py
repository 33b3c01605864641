"""What the Hub and its viewer refuse, found before the first byte is sent, each fault with what to change.

Numbers: the Hub's pages on storage and rate limits as of August 2026, and the viewer's own errors.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from publish.describing.front_matter import card_faults
from publish.manifest import FileRecord
from pwcat.errors import PublishError

__all__ = ["check_limits", "check_room"]

logger = logging.getLogger(__name__)

Kind = Literal["dataset", "model"]

MOST_FILES: Final = 100_000  # of a repository, exclusive
MOST_ENTRIES: Final = 10_000  # of a folder
MOST_FILE_BYTES: Final = 500 * 10**9
RECOMMENDED_FILE_BYTES: Final = 200 * 10**9
MOST_COMMIT_LARGE_FILES: Final = 25_000
MOST_COMMIT_REGULAR_BYTES: Final = 10**9
REGULAR_FILE_BYTES: Final = 10 * 2**20  # the Hub keeps larger files in its large storage, whatever they are
VIEWER_ROW_GROUP_BYTES: Final = 300_000_000  # "max=286.10 MiB", uncompressed
RECOMMENDED_ROW_GROUP_BYTES: Final = 100_000_000

TABLES = (".parquet", ".geoparquet", ".gpq")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HARBOR = ("task.toml", "instruction.md")  # `datasets` 5.2 takes a repository with these for tasks, not for tables
FORBIDDEN_FOLDERS = (".git", ".cache")  # refused by the Hub's client
SAMPLE_BYTES = 512


def check_limits(folder: Path, records: Mapping[str, FileRecord], kind: Kind, *, repo: str | None = None) -> None:
    """Refuse a folder that the Hub, its viewer or `datasets` would refuse; what they merely advise against is warned of.

    Args:
        folder: The folder.
        records: Its files.
        kind: What it is to be on the Hub.
        repo: ``organisation/name``, where it is known: one file name is forbidden by it.

    Raises:
        PublishError: Says every fault, with what to change.
    """
    faults = [
        *_crowding(records),
        *_sizes(records),
        *_commit_sizes(folder, records),
        *_names(records, kind, repo),
        *(_row_groups(folder, records) if kind == "dataset" else []),
        *card_faults(folder, list(records), kind),
    ]
    if faults:
        raise PublishError(f"{folder} cannot go to the Hub: {'; '.join(faults)}")


def check_room(repo: str, paths: Iterable[str]) -> None:
    """Refuse to fill a repository beyond what the Hub keeps, with the files of others in it.

    Raises:
        PublishError: Says every fault, with what to change.
    """
    if faults := _crowding(paths):
        raise PublishError(f"with this release, {repo} would hold too much: {'; '.join(faults)}")


def _crowding(paths: Iterable[str]) -> list[str]:
    names = list(paths)
    faults = []
    if len(names) >= MOST_FILES:
        faults.append(
            f"{len(names):,} files, of fewer than {MOST_FILES:,} that a repository may have: use larger files"
        )
    for parent, inside in sorted(_entries(names).items()):
        if inside > MOST_ENTRIES:
            where = f"{parent}/" if parent else "the root"
            faults.append(
                f"{inside:,} entries in {where}, of {MOST_ENTRIES:,} that a folder may have: use larger files, or folders"
            )
    return faults


def _entries(paths: Iterable[str]) -> Counter[str]:
    """Files and folders that lie directly in each folder; ``""`` is the root."""
    counted: Counter[str] = Counter()
    seen: set[str] = set()
    for path in paths:
        entry = path
        while entry and entry not in seen:
            seen.add(entry)
            entry = entry.rpartition("/")[0]
            counted[entry] += 1
    return counted


def _sizes(records: Mapping[str, FileRecord]) -> list[str]:
    for path, record in records.items():
        if RECOMMENDED_FILE_BYTES < record.bytes <= MOST_FILE_BYTES:
            logger.warning(
                "%s has %.0f GB; the Hub recommends files below 200 GB: use more shards", path, record.bytes / 1e9
            )
    return [
        f"{path} has {record.bytes / 1e9:,.0f} GB, of 500 GB that a file may have: use more shards"
        for path, record in records.items()
        if record.bytes > MOST_FILE_BYTES
    ]


def _commit_sizes(folder: Path, records: Mapping[str, FileRecord]) -> list[str]:
    """One commit makes a release, so that a release is within the limits of one commit."""
    regular = [path for path in records if _is_regular(folder / path, records[path])]
    large = len(records) - len(regular)
    size = sum(records[path].bytes for path in regular)
    faults = []
    if large > MOST_COMMIT_LARGE_FILES:
        faults.append(f"{large:,} large files, of {MOST_COMMIT_LARGE_FILES:,} that a commit may have: use larger files")
    if size > MOST_COMMIT_REGULAR_BYTES:
        faults.append(
            f"{size / 1e9:.1f} GB of small text files, of 1 GB that a commit may carry: put them into one Parquet file"
        )
    return faults


def _is_regular(path: Path, record: FileRecord) -> bool:
    """Whether the Hub will keep a file in git itself: small and text; it judges by the first bytes, too."""
    if record.bytes > REGULAR_FILE_BYTES or path.suffix in TABLES:
        return False
    with path.open("rb") as file:
        return b"\0" not in file.read(SAMPLE_BYTES)


def _names(records: Mapping[str, FileRecord], kind: Kind, repo: str | None) -> list[str]:
    faults = [
        f"{path} lies in a folder that the Hub does not take: rename it" for path in records if _is_forbidden(path)
    ]
    faults += [
        f"{other} and {path} differ in case alone, and are one file on many systems: rename one"
        for path, other in _alike(records)
    ]
    if kind == "model":
        pickles = [path for path in records if path.endswith(PICKLED)]
        return faults + [f"{path} may hold a pickle, which can run code: write safetensors" for path in pickles]
    script = f"{repo.rpartition('/')[2]}.py" if repo else None
    if script in records:
        faults.append(
            f"{script} is named as the repository, and `datasets` would take it for a loading script: rename it"
        )
    faults += [
        f"{path} makes `datasets` take the repository for tasks instead of tables: rename it"
        for path in records
        if PurePosixPath(path).name in HARBOR
    ]
    hidden = [path for path in records if path.endswith(TABLES) and _is_hidden(path)]
    return faults + [
        f"{path} lies in a folder that starts with '.' or '__', which `datasets` does not look into: rename the folder"
        for path in hidden
    ]


def _is_forbidden(path: str) -> bool:
    return any(part in FORBIDDEN_FOLDERS for part in PurePosixPath(path).parts)


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "__")) for part in PurePosixPath(path).parts)


def _alike(paths: Iterable[str]) -> list[tuple[str, str]]:
    seen: dict[str, str] = {}
    return [(path, other) for path in paths if (other := seen.setdefault(path.casefold(), path)) != path]


def _row_groups(folder: Path, records: Mapping[str, FileRecord]) -> list[str]:
    faults = []
    for path in (path for path in records if path.endswith(TABLES)):
        try:
            largest = _largest_row_group(folder / path)
        except (pa.ArrowInvalid, OSError) as exc:
            faults.append(f"{path} cannot be read as Parquet ({str(exc).splitlines()[0]}): build it again")
            continue
        if largest > VIEWER_ROW_GROUP_BYTES:
            faults.append(
                f"{path} has a row group of {largest / 2**20:.0f} MiB, of 286 MiB that the viewer reads: write smaller ones "
                "(the layout's row_group_bytes)"
            )
        elif largest > RECOMMENDED_ROW_GROUP_BYTES:
            logger.warning(
                "%s has a row group of %.0f MB; readers fetch one whole, so that 100 MB are enough", path, largest / 1e6
            )
    return faults


def _largest_row_group(path: Path) -> int:
    with pq.ParquetFile(path) as file:  # reads the footer alone
        groups = [file.metadata.row_group(number).total_byte_size for number in range(file.metadata.num_row_groups)]
    return max(groups, default=0)
