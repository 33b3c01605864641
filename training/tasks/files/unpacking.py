"""Archives of strangers unpacked: nothing is written outside the folder, and what is there already is left.

Each file appears whole or not at all, so that an unpacking that was killed goes on where it was.
"""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from pwcat.atomic import replacing
from pwcat.errors import TrainingError

__all__ = ["Kind", "require_space", "unpack"]

Kind = Literal["zip", "tar"]
Progress = Callable[[int, int | None], None]

BLOCK = 1 << 20


def unpack(archive: Path, folder: Path, *, kind: Kind, progress: Progress = lambda done, total: None) -> int:
    """Unpack an archive into a folder: how many files are in it.

    Args:
        archive: a zip, or a tar of any compression.
        folder: where to.
        kind: which of the two.
        progress: called with the files so far, and of all if that is known.

    Raises:
        TrainingError: it is damaged or not whole, names files outside the folder or links, or the disc is too small.
    """
    try:
        return _unzip(archive, folder, progress) if kind == "zip" else _untar(archive, folder, progress)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError) as exc:
        raise TrainingError(
            f"{archive} is damaged or not whole ({exc}): remove it, and run the same command again"
        ) from exc


def require_space(folder: Path, wanted: int, what: str) -> None:
    """See that so many bytes can be written.

    Raises:
        TrainingError: the disc has less.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise TrainingError(
            f"{what} needs {wanted / 1e9:,.1f} GB, and {folder} has {free / 1e9:,.1f} GB free: free some, or choose another "
            "folder with -o; what was fetched is kept"
        )


def _unzip(archive: Path, folder: Path, progress: Progress) -> int:
    with zipfile.ZipFile(archive) as opened:
        members = [one for one in opened.infolist() if not one.is_dir()]
        links = [one.filename for one in members if stat.S_ISLNK(one.external_attr >> 16)]
        if links:
            raise TrainingError(
                f"{archive} holds links ({links[0]}), which are not unpacked: it is not the official file"
            )
        targets = [_target(folder, one.filename, archive) for one in members]
        left = [(one, to) for one, to in zip(members, targets, strict=True) if not _is_there(to, one.file_size)]
        require_space(folder, sum(one.file_size for one, _ in left), f"unpacking {archive.name}")
        progress(len(members) - len(left), len(members))
        for done, (one, to) in enumerate(left, start=len(members) - len(left) + 1):
            with opened.open(one) as source:  # its checksum is compared at its end
                _write(source, to, one.file_size, archive)
            progress(done, len(members))
        return len(members)


def _untar(archive: Path, folder: Path, progress: Progress) -> int:
    done = 0
    with tarfile.open(archive, "r:*") as opened:
        for one in _files(opened, archive):
            to = _target(folder, one.name, archive)
            source = opened.extractfile(one)
            if source is not None and not _is_there(to, one.size):
                if done % 1000 == 0:
                    require_space(folder, one.size, f"unpacking {archive.name}")
                _write(source, to, one.size, archive)
            done += 1
            progress(done, None)
    return done


def _files(opened: tarfile.TarFile, archive: Path) -> Iterator[tarfile.TarInfo]:
    for one in opened:
        if one.isreg():
            yield one
        elif not one.isdir():
            raise TrainingError(
                f"{archive} holds links ({one.name}), which are not unpacked: it is not the official file"
            )


def _target(folder: Path, name: str, archive: Path) -> Path:
    """Where a member goes.

    Raises:
        TrainingError: outside the folder.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0].startswith("/") or ":" in parts[0] or "\0" in name:
        raise TrainingError(
            f"{archive} names a file outside the folder that it is unpacked into ({name!r}): it is not the official file, and "
            "was not unpacked"
        )
    return folder.joinpath(*parts)


def _is_there(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _write(source: IO[bytes], to: Path, size: int, archive: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    with replacing(to) as temporary, temporary.open("wb") as target:
        written = 0
        while block := source.read(BLOCK):
            written += len(block)
            if written > size:
                break
            target.write(block)
        if written != size:
            raise TrainingError(
                f"{archive} is damaged: {to.name} has another size than it says; remove it, and fetch it again"
            )
