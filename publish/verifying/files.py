"""The manifest of a publication against the files that lie there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from publish.describing.front_matter import named_by_card
from publish.manifest import MANIFEST, FileRecord, parse_manifest
from publish.verifying.held import Held, HeldFolder, Listed
from pwcat.errors import PublishError

__all__ = ["Strangers", "check_every_byte", "check_files", "read_manifest_of", "strangers"]

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
    loaded = "" if isinstance(held, HeldFolder) else ", and load_dataset would take it for a part of the dataset"
    return faults + [f"{path} is not in the manifest{loaded}" for path in strangers(held, records).harmful]


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


@dataclass(frozen=True, kw_only=True)
class Strangers:
    """Files that the manifest does not know: those that must not be there, and those that harm nobody."""

    harmful: tuple[str, ...]
    harmless: tuple[str, ...]


def strangers(held: Held, records: Mapping[str, FileRecord]) -> Strangers:
    """Files that the manifest does not know; of a repository, what the card's patterns match is taken for the dataset's."""
    others = sorted(set(held.files()) - set(records) - {MANIFEST})
    if isinstance(held, HeldFolder):
        return Strangers(harmful=tuple(others), harmless=())
    taken = named_by_card(held.read(CARD), others) if others and CARD in held.files() else []
    return Strangers(harmful=tuple(taken), harmless=tuple(path for path in others if path not in taken))
