"""Official files fetched: whole or not at all, going on where a connection broke off, checked, and unpacked.

Beside the files of a task a receipt tells what they came from, so that the same command does only what is missing. A file under
way lies beside its place as ``.NAME.part``; what it is the beginning of is kept with it, so that two editions are never joined.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
import urllib3

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from pwcat.lock import locked
from training.tasks.files.unpacking import Kind, require_space, unpack

__all__ = ["RECEIPT", "Origin", "Part", "Progress", "fetch", "standing"]

RECEIPT = ".pwcat-fetched.json"
BLOCK = 1 << 18
TIMEOUT_S = (15.0, 60.0)
ATTEMPTS = 8  # in a row without a single byte
MOST_PAUSE_S = 60.0
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
SHA256 = re.compile(r"[0-9a-f]{64}")

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file to be fetched.

    Attributes:
        url: its official address.
        name: in the task's folder.
        bytes: its size, where it is published.
        md5: of its content, where it is published.
        sha256: of its content, where it is published.
        unpack: what kind of archive it is; it is removed once it is unpacked.
        into: folder to unpack it into, within the task's.
    """

    url: str
    name: str
    bytes: int | None = None
    md5: str = ""
    sha256: str = ""
    unpack: Kind | None = None
    into: str = "."


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the files of a task come from.

    Attributes:
        parts: what is fetched.
        disc_bytes: what fetching and unpacking need at most.
        agreement: whose terms are agreed to by fetching, in words for people.
        by_hand: how people get what cannot be fetched: an account, an agreement to be signed.
    """

    parts: tuple[Part, ...] = ()
    disc_bytes: int = 0
    agreement: str = ""
    by_hand: str = ""


def fetch(
    name: str,
    origin: Origin,
    folder: Path,
    *,
    progress: Progress = lambda what, done, total: None,
    pause: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Bring the official files of a task into a folder: names of what was fetched now.

    Args:
        name: of the task.
        origin: where they come from.
        folder: of the task.
        progress: called with what is done, how far it is, and of how much if that is known.
        pause: waits so many seconds.

    Raises:
        TrainingError: they cannot be had, are not what they should be, or need an account; the disc is too small.
    """
    if not origin.parts:
        raise TrainingError(f"task {name} cannot be fetched by itself: {origin.by_hand}")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".pwcat-fetch.lock", doing=f"fetching {name} into {folder}"):
        receipts = _receipts(folder)
        left = [part for part in origin.parts if not _is_done(part, folder, receipts)]
        if left:
            there = sum(_size(folder / part.name) + _size(_partial(folder, part)) for part in left)
            require_space(
                folder, max(0, origin.disc_bytes - there) if len(left) == len(origin.parts) else 0, f"task {name}"
            )
        for part in left:
            _bring(part, folder, progress, pause)
            receipts[part.name] = _receipt(part, folder)
            _unpack(part, folder, progress)
            receipts[part.name]["unpacked"] = part.unpack is not None
            with replacing(folder / RECEIPT) as temporary:
                temporary.write_text(json.dumps(receipts, indent=2) + "\n", encoding="utf-8")
            if part.unpack is not None:
                (folder / part.name).unlink()
    return [part.name for part in left]


def standing(origin: Origin, folder: Path) -> str:
    """How far a folder has come, by what was fetched into it alone: "yes", "begun", "no", or "placed" by hand."""
    receipts = _receipts(folder)
    if origin.parts and all(_is_done(part, folder, receipts) for part in origin.parts):
        return "yes"
    if any(folder.glob(".*.part")) or receipts:
        return "begun"
    return "placed" if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()) else "no"


def _receipts(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        told = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _receipt(part: Part, folder: Path) -> dict[str, Any]:
    path = folder / part.name
    fetched = datetime.now(UTC).isoformat(timespec="seconds")
    return {"url": part.url, "bytes": path.stat().st_size, "sha256": _digest(path, "sha256"), "fetched": fetched}


def _is_done(part: Part, folder: Path, receipts: dict[str, dict[str, Any]]) -> bool:
    """Whether it was fetched and unpacked from this address, and is still there."""
    receipt = receipts.get(part.name)
    if receipt is None or receipt.get("url") != part.url:
        return False
    return bool(receipt.get("unpacked")) if part.unpack else _size(folder / part.name) == receipt.get("bytes")


def _unpack(part: Part, folder: Path, progress: Progress) -> None:
    if part.unpack is not None:
        into = folder / part.into
        into.mkdir(parents=True, exist_ok=True)
        unpack(
            folder / part.name,
            into,
            kind=part.unpack,
            progress=lambda done, total: progress(f"unpacking {part.name}", done, total),
        )


def _bring(part: Part, folder: Path, progress: Progress, pause: Callable[[float], None]) -> None:
    """Download a file to its place, and check it there."""
    target, partial = folder / part.name, _partial(folder, part)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file() and _is_right(target, part):
        return
    failed, size = 0, _size(partial)
    with closing(requests.Session()) as session:
        session.headers.update({"User-Agent": "pwcat", "Accept-Encoding": "identity"})
        while True:
            try:
                announced = _continue(session, part, partial, progress)
                break
            except (requests.RequestException, urllib3.exceptions.HTTPError, _TransientError) as exc:
                failed, size = (1 if _size(partial) > size else failed + 1), _size(partial)
                if failed >= ATTEMPTS:
                    raise TrainingError(
                        f"{part.url} cannot be fetched: {_reason(exc)}, {ATTEMPTS} times in a row. What has come is kept "
                        f"({size:,} bytes); run the same command again, or get the file elsewhere and place it at {target}"
                    ) from exc
                pause(_pause_s(exc, failed))
    _check(part, partial, announced)
    partial.replace(target)
    _edition(partial).unlink(missing_ok=True)


class _TransientError(Exception):
    """The server said that it cannot now; ``wait_s`` is how long it asks to be left alone."""

    def __init__(self, said: str, wait_s: float = 0.0) -> None:
        super().__init__(said)
        self.wait_s = wait_s


def _continue(session: requests.Session, part: Part, partial: Path, progress: Progress) -> str:
    """Fetch what is missing of a file: its SHA-256 where the server announces one.

    Raises:
        TrainingError: the server refuses it, or has no such file.
    """
    have, edition = _size(partial), _read_edition(partial, part)
    if have and not (edition or part.md5 or part.sha256):  # another edition's end would not be told from this one's
        partial.unlink()
        have = 0
    headers = {"Range": f"bytes={have}-", **({"If-Range": edition} if edition else {})} if have else {}
    with session.get(part.url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        if response.status_code == 416 and have:
            if response.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                return _announced(response)  # all of it is here: it was killed before it could be checked
            partial.unlink()
            raise _TransientError("the server has less of it than is here; it is fetched anew")
        _require_ok(response, part)
        if response.status_code != 206:
            have = 0
        total = _total(response, have)
        announced = _announced(response)
        _edition(partial).write_text(json.dumps({"url": part.url, "edition": _name_of(response)}), encoding="utf-8")
        if total is not None:
            require_space(partial.parent, max(0, total - have), part.name)
        progress(part.name, have, total)
        with partial.open("r+b" if have else "wb") as file:
            file.seek(have)
            for block in _blocks(response):
                file.write(block)
                have += len(block)
                progress(part.name, have, total)
        if total is not None and have < total:
            raise _TransientError(f"the connection broke off after {have:,} of {total:,} bytes")
    return announced


def _blocks(response: requests.Response) -> Iterator[bytes]:
    yield from response.raw.stream(BLOCK, decode_content=False)


def _require_ok(response: requests.Response, part: Part) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    if status in TRANSIENT:
        wait = response.headers.get("Retry-After", "")
        raise _TransientError(f"the server answered {status} {response.reason}", float(wait) if wait.isdigit() else 0.0)
    if status in (401, 403):
        raise TrainingError(
            f"{part.url} answered {status} {response.reason}: it wants an account, or that its terms are agreed to on its "
            f"page. Get {part.name} there, and place it in the folder"
        )
    raise TrainingError(
        f"{part.url} answered {status} {response.reason}: it may have moved. Get {part.name} elsewhere, place it in the folder "
        "and run the same command again"
    )


def _total(response: requests.Response, have: int) -> int | None:
    if response.status_code == 206:
        whole = response.headers.get("Content-Range", "").rpartition("/")[2]
        starts = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        if starts.isdigit() and int(starts) != have:
            raise _TransientError(f"the server sent bytes from {starts} on, where {have} was asked for")
        return int(whole) if whole.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _name_of(response: requests.Response) -> str:
    """What an edition of a file is called by its server; a weak name says too little."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _announced(response: requests.Response) -> str:
    """The SHA-256 that the Hub announces before it redirects to where the file lies."""
    for answer in (*response.history, response):
        told = answer.headers.get("X-Linked-Etag", "").strip('"')
        if SHA256.fullmatch(told):
            return told
    return ""


def _check(part: Part, path: Path, announced: str) -> None:
    """Hold a file against what is published of it; removed where it is another.

    Raises:
        TrainingError: it is.
    """
    wanted = {"md5": part.md5, "sha256": part.sha256 or announced}
    found = {kind: _digest(path, kind) for kind, digest in wanted.items() if digest}
    wrong = [f"{kind.upper()} {found[kind]} instead of {wanted[kind]}" for kind in found if found[kind] != wanted[kind]]
    if part.bytes is not None and path.stat().st_size != part.bytes:
        wrong.append(f"{path.stat().st_size:,} bytes instead of {part.bytes:,}")
    if wrong:
        path.unlink()
        raise TrainingError(
            f"{part.url} is not the {part.name} that is known: {', '.join(wrong)}; nothing of it was kept. Try again; if it "
            "stays so, its publisher has changed it"
        )


def _is_right(path: Path, part: Part) -> bool:
    """Whether a file that is there already is what is published; where nothing is, it is fetched again."""
    if part.bytes is not None and path.stat().st_size != part.bytes:
        return False
    wanted = {"md5": part.md5, "sha256": part.sha256}
    return any(wanted.values()) and all(_digest(path, kind) == digest for kind, digest in wanted.items() if digest)


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _partial(folder: Path, part: Part) -> Path:
    target = folder / part.name
    return target.with_name(f".{target.name}.part")


def _edition(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _read_edition(partial: Path, part: Part) -> str:
    try:
        told = json.loads(_edition(partial).read_text(encoding="utf-8"))
        return str(told["edition"]) if told["url"] == part.url else ""
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _pause_s(exc: Exception, failed: int) -> float:
    asked = exc.wait_s if isinstance(exc, _TransientError) else 0.0
    return min(MOST_PAUSE_S, max(asked, 2.0**failed / 2))


def _reason(exc: Exception) -> str:
    if isinstance(exc, requests.ConnectionError):
        return "the server cannot be reached, or the connection broke off"
    return "the server does not answer in time" if isinstance(exc, requests.Timeout) else str(exc)
