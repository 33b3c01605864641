"""The manifest of a publication against the files that lie there."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from publish.manifest import MANIFEST, FileRecord, parse_manifest
from publish.verifying.held import Held, HeldFolder, Listed
from pwcat.errors import PublishError

__all__ = ["check_every_byte", "check_files", "read_manifest_of", "strangers"]

CARD = "README.md"
Advance = Callable[[int], None]


def read_manifest_of(held: Held) -> tuple[dict[str, Any], dict[str, FileRecord]]:
    """The header and the records of a publication's manifest.

    Raises:
        PublishError: There is none, or it cannot be read.
    """
    if MANIFEST not in held.files():
        raise PublishError(
            f"{held.name} has no {MANIFEST}: it was not published by pwcat, or never finished; there is nothing to verify it "
            "against"
        )
    return parse_manifest(held.read(MANIFEST), where=f"{MANIFEST} of {held.name}")


def check_files(held: Held, records: Mapping[str, FileRecord]) -> list[str]:
    """Faults that show from the listing alone, and from what is small: missing files, other sizes, other checksums.

    The Hub lists the SHA-256 of large files; small ones, of which it has git's hash, are read and hashed by both. A folder
    holds nothing but what was published; in a repository others may keep files that no loader takes for the dataset's.
    """
    listed = held.files()
    faults = [f"{path} is missing" for path in records if path not in listed]
    for path, record in records.items():
        if path in listed and (fault := _fault(held, path, listed[path], record)):
            faults.append(fault)
    others = strangers(held, records)
    if isinstance(held, HeldFolder):
        return faults + [f"{path} is not in the manifest" for path in others]
    return faults + _loaded(held, others)


def _fault(held: Held, path: str, listed: Listed, record: FileRecord) -> str | None:
    if listed.bytes != record.bytes:
        return f"{path} has {listed.bytes} bytes, the manifest says {record.bytes}"
    if listed.sha256 is not None:
        return _other(path, listed.sha256, record)
    if listed.git_hash is None:  # a folder: every byte is read later
        return None
    content = held.read(path)
    if (got := _git_hash(content)) != listed.git_hash:
        return f"{path} came with git's hash {got[:12]}…, the Hub lists {listed.git_hash[:12]}…"
    return _other(path, hashlib.sha256(content).hexdigest(), record)


def _other(path: str, sha256: str, record: FileRecord) -> str | None:
    if sha256 == record.sha256:
        return None
    return f"{path} has SHA-256 {sha256[:12]}…, the manifest says {record.sha256[:12]}…"


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def check_every_byte(held: Held, records: Mapping[str, FileRecord], *, advance: Advance) -> list[str]:
    """Faults of the contents: every file is read, or downloaded and thrown away, and hashed; ``advance`` gets its bytes."""
    faults = []
    for path, record in records.items():
        if fault := _other(path, held.hash(path), record):
            faults.append(fault)
        advance(record.bytes)
    return faults


def strangers(held: Held, records: Mapping[str, FileRecord]) -> list[str]:
    """Files that the manifest does not know."""
    return sorted(set(held.files()) - set(records) - {MANIFEST})


def _loaded(held: Held, others: Sequence[str]) -> list[str]:
    """Faults of strangers that a loader would take for files of the dataset, as the card's patterns match them."""
    patterns = _patterns(held) if others and CARD in held.files() else []
    taken = [path for path in others if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)]
    return [
        f"{path} is not in the manifest, and load_dataset would take it for a part of the dataset" for path in taken
    ]


def _patterns(held: Held) -> list[str]:
    """The patterns of the card's configs; none of a card that cannot be read."""
    _, _, rest = held.read(CARD).decode("utf-8", errors="replace").partition("---\n")
    try:
        configs = yaml.safe_load(rest.partition("\n---")[0]).get("configs") or []
        return [str(file["path"]) for config in configs for file in config["data_files"]]
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return []
