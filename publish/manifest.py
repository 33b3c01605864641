"""The manifest of a built folder: every file with its checksum, which tells a whole release from a part of one."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pwcat.errors import PublishError

__all__ = [
    "MANIFEST",
    "FileRecord",
    "check_hashes",
    "check_sizes",
    "describe_file",
    "parse_manifest",
    "read_manifest",
    "write_manifest",
]

MANIFEST = "MANIFEST.json"
MANIFEST_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file of a folder: its size in bytes, its SHA-256 in hex and, for tables, its rows."""

    bytes: int
    sha256: str
    rows: int | None = None


def describe_file(path: Path, *, rows: int | None = None) -> FileRecord:
    """The record of a file that is complete; reads it once, in blocks."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(bytes=path.stat().st_size, sha256=digest, rows=rows)


class RecordedFile(io.RawIOBase):
    """A file to write from its beginning to its end, hashed on the way, so that it needs not be read again."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=2**20)
        self._digest = hashlib.sha256()
        self._bytes = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes; all of them."""
        written = memoryview(data).cast("B")
        self._file.write(written)
        self._digest.update(written)
        self._bytes += len(written)
        return len(written)

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._file.close()
        super().close()

    def record(self, *, rows: int | None = None) -> FileRecord:
        """The record of what was written."""
        return FileRecord(bytes=self._bytes, sha256=self._digest.hexdigest(), rows=rows)


def write_manifest(
    folder: Path, *, header: Mapping[str, Any], known: Mapping[str, FileRecord]
) -> dict[str, FileRecord]:
    """The records of all files of a folder, by path, also written to its ``MANIFEST.json`` below ``header``.

    Args:
        folder: The folder, complete but for its manifest.
        header: What stands above the files: name, hashes, versions. No times: the same data gives the same bytes.
        known: Records made when the files were written, which are not read again.
    """
    paths = [path for path in _paths(folder) if path != MANIFEST]
    records = {path: known[path] if path in known else describe_file(folder / path) for path in paths}
    files = {path: {k: v for k, v in asdict(record).items() if v is not None} for path, record in records.items()}
    (folder / MANIFEST).write_text(json.dumps({**header, "files": files}, indent=1) + "\n", encoding="utf-8")
    return records


def read_manifest(folder: Path) -> tuple[dict[str, Any], dict[str, FileRecord]]:
    """The header and the records, by path, of a folder's manifest.

    Raises:
        PublishError: There is none, or it does not say what a manifest says.
    """
    path = folder / MANIFEST
    try:
        return parse_manifest(path.read_bytes(), where=str(path))
    except FileNotFoundError as exc:
        raise PublishError(
            f"{folder} has no {MANIFEST}: it is no published folder, or one that was never finished"
        ) from exc


def parse_manifest(content: bytes, *, where: str) -> tuple[dict[str, Any], dict[str, FileRecord]]:
    """The header and the records, by path, of a manifest that was read from ``where``.

    Raises:
        PublishError: It does not say what a manifest says.
    """
    try:
        header = json.loads(content)
        records = {name: _record(**fields) for name, fields in header.pop("files").items()}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise PublishError(f"{where} cannot be read as a manifest ({exc}): fetch or build the folder again") from exc
    outside = [name for name in records if Path(name).is_absolute() or ".." in Path(name).parts]
    if outside:
        raise PublishError(f"{where} names files outside its folder: {', '.join(outside)}; do not use it")
    return header, records


def _record(*, bytes: int, sha256: str, rows: int | None = None) -> FileRecord:
    if type(bytes) is not int or type(sha256) is not str or type(rows) not in (int, type(None)):
        raise TypeError("bytes and rows are whole numbers, sha256 is text")
    return FileRecord(bytes=bytes, sha256=sha256, rows=rows)


def check_sizes(folder: Path, records: Mapping[str, FileRecord]) -> list[str]:
    """Faults of a folder against its manifest that show without reading: missing, of another size, or not listed."""
    present = set(_paths(folder)) - {MANIFEST}
    faults = [f"{path} is missing" for path in records if path not in present]
    faults += [f"{path} is not in the manifest" for path in sorted(present - set(records))]
    for path, record in records.items():
        if path in present and (size := (folder / path).stat().st_size) != record.bytes:
            faults.append(f"{path} has {size} bytes, the manifest says {record.bytes}")
    return faults


def check_hashes(folder: Path, records: Mapping[str, FileRecord]) -> list[str]:
    """Faults of the contents of those listed files that are there: reads every byte of them."""
    faults = []
    for path, record in records.items():
        if (folder / path).is_file() and (got := describe_file(folder / path).sha256) != record.sha256:
            faults.append(f"{path} has SHA-256 {got[:12]}…, the manifest says {record.sha256[:12]}…")
    return faults


def _paths(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
