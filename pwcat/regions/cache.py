"""Datasets on this computer: fetched once, from their official source, into a folder of the user's, and verified since."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pwcat.atomic import remove_leftovers, replacing
from pwcat.errors import RegionError
from pwcat.regions.datasets import Dataset, find_dataset

__all__ = [
    "Receipt",
    "cache_folder",
    "checked",
    "dataset_path",
    "fetch_dataset",
    "is_here",
    "place_of",
    "read_receipt",
    "tidy_cache",
]

log = logging.getLogger(__name__)

BLOCK = 1 << 20
TIMEOUT_S = 60

# The sums of files that this process has read through already, by path, size and time of change.
_VERIFIED: dict[tuple[str, int, int], str] = {}

Progress = Callable[[int, int | None], None]
Check = Callable[[Dataset, Path], None]


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What is kept beside a fetched file.

    Attributes:
        dataset: its name.
        source: the address or file it came from.
        bytes: its size.
        sha256: of its content.
        fetched: when, in UTC.
    """

    dataset: str
    source: str
    bytes: int
    sha256: str
    fetched: str


def cache_folder() -> Path:
    """The folder of fetched datasets: ``$PWCAT_CACHE``, or ``pwcat`` in the user's own cache folder.

    The one place of the core that reads the environment: where a user's files go is theirs to say, not a recipe's.
    """
    if os.environ.get("PWCAT_CACHE"):
        return Path(os.environ["PWCAT_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    return Path(base).expanduser() / "pwcat"


def place_of(dataset: Dataset) -> Path:
    """Where the file of a dataset lies, once it is there."""
    return cache_folder() / "regions" / dataset.name / dataset.filename


def is_here(dataset: Dataset) -> bool:
    """Whether its file lies in the cache, whole or not."""
    return dataset.kind != "stac" and place_of(dataset).is_file()


def dataset_path(name: str) -> Path:
    """The verified file of a dataset: as large as, and of the very content, that was fetched or is pinned.

    Args:
        name: in :data:`pwcat.regions.datasets.DATASETS`.

    Raises:
        RegionError: it is unknown, not there, or damaged; says what to do.
    """
    dataset = find_dataset(name)
    if dataset.kind == "stac":
        raise RegionError(f"{dataset.name} is read tile by tile where it is needed: there is no file of it")
    path = place_of(dataset)
    if not path.is_file():
        raise RegionError(_how_to_get(dataset, path))
    _verify(dataset, path)
    return path


def checked(dataset: Dataset) -> str:
    """What the file in the cache is held against whenever it is opened, for people."""
    if dataset.sha256 is not None:
        return "SHA-256, pinned in pwcat"
    receipt = read_receipt(place_of(dataset))
    if receipt is not None:
        return f"SHA-256, as it was first taken on {receipt.fetched[:10]}; pwcat knows none of its own"
    return "nothing: placed by hand, and pwcat knows no SHA-256 of it; `fetch` takes it from now on"


def _how_to_get(dataset: Dataset, path: Path) -> str:
    if dataset.by_hand:
        return f"the dataset {dataset.name!r} is not there (looked for {path}). {dataset.by_hand}"
    return f"the dataset {dataset.name!r} is not there: run `pwcat regions fetch {dataset.name}`. {_by_other_ways(dataset)}"


def _by_other_ways(dataset: Dataset, failed: str = "") -> str:
    """How to bring a file by hand, after an address failed or before any was asked."""
    return (
        f"Without a network, get {'it' if failed == dataset.url else dataset.url} elsewhere ({dataset.page}) and run "
        f"`pwcat regions fetch {dataset.name} --from FILE`, or place it at {place_of(dataset)}"
    )


def _verify(dataset: Dataset, path: Path) -> None:
    receipt = read_receipt(path)
    size, pinned = path.stat().st_size, dataset.sha256
    origin = " --from FILE" if dataset.by_hand else ""
    again = f"run `pwcat regions fetch {dataset.name}{origin}`"
    expected_bytes = receipt.bytes if receipt else dataset.bytes
    if expected_bytes is not None and size != expected_bytes:
        raise RegionError(f"{path} is damaged: {size:,} bytes instead of {expected_bytes:,}; {again}")
    expected = pinned or (receipt.sha256 if receipt else None)
    if expected is not None and _sum_of(path) != expected:
        raise RegionError(f"{path} is damaged: its SHA-256 is {_sum_of(path)} instead of {expected}; {again}")


def _is_whole(dataset: Dataset, path: Path) -> bool:
    try:
        _verify(dataset, path)
    except (RegionError, FileNotFoundError):
        return False
    return True


def _sum_of(path: Path) -> str:
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _VERIFIED:
        with path.open("rb") as file:
            _VERIFIED[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _VERIFIED[key]


def _receipt_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def read_receipt(path: Path) -> Receipt | None:
    """What was kept when the file was fetched; ``None`` for a file that was placed by hand.

    Raises:
        RegionError: the receipt cannot be read.
    """
    beside = _receipt_of(path)
    try:
        return Receipt(**json.loads(beside.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as exc:
        raise RegionError(f"{beside} cannot be read ({exc}): remove it, and fetch again") from exc


def fetch_dataset(
    name: str,
    *,
    origin: str | None = None,
    again: bool = False,
    check: Check = lambda dataset, path: None,
    progress: Progress = lambda done, total: None,
) -> tuple[Path, bool]:
    """Bring a dataset into the cache: its path, and whether something was fetched.

    What is there and whole is left as it is; what is damaged is replaced. A file appears whole or not at all, and only if
    it has the pinned SHA-256. Where none is pinned, the sum of this first time is kept, of a file that was placed by hand as
    well, and held against it from then on; that another came later is logged. What killed processes left half-written is
    removed.

    Args:
        name: in :data:`pwcat.regions.datasets.DATASETS`, or a layer's for its usual dataset.
        origin: a file or address to take it from instead of its official source; it replaces what is there.
        again: replace what is there.
        check: called with the new file before it takes its place; raises if it cannot be used.
        progress: called with the bytes so far, and of all if that is known.

    Raises:
        RegionError: it cannot be had, or is not what it should be.
    """
    dataset = find_dataset(name)
    if dataset.kind == "stac":
        raise RegionError(f"{dataset.name} is read tile by tile where it is needed: there is nothing to fetch")
    path = place_of(dataset)
    tidy_cache()
    if origin is None and not again and _is_whole(dataset, path):
        _take_sum(dataset, path, check)
        return path, False
    origin = origin or dataset.url
    if not origin:
        raise RegionError(_how_to_get(dataset, path))
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            receipt = _bring(dataset, origin, temporary, progress)
            _check(dataset, origin, temporary, check)
            _tell_of_change(dataset, path, receipt)
            _write_receipt(path, receipt)
    return path, True


def tidy_cache() -> None:
    """Remove what killed processes left half-written in the cache, as far as that may be; nothing of the living."""
    with suppress(OSError):
        remove_leftovers(cache_folder() / "regions")


def _take_sum(dataset: Dataset, path: Path, check: Check) -> None:
    """Keep the sum of a file that was placed by hand, where none is pinned."""
    if dataset.sha256 is not None or read_receipt(path) is not None:
        return
    try:
        check(dataset, path)
    except RegionError as exc:
        raise RegionError(f"{path} cannot be {dataset.name}: {exc}") from exc
    with _writing(path):
        _write_receipt(path, _receipt(dataset, "placed by hand", path.stat().st_size, _sum_of(path)))


def _receipt(dataset: Dataset, source: str, size: int, sha256: str) -> Receipt:
    fetched = datetime.now(UTC).isoformat(timespec="seconds")
    return Receipt(dataset=dataset.name, source=source, bytes=size, sha256=sha256, fetched=fetched)


def _write_receipt(path: Path, receipt: Receipt) -> None:
    with replacing(_receipt_of(path)) as beside:
        beside.write_text(json.dumps(asdict(receipt), indent=2) + "\n", encoding="utf-8")


def _tell_of_change(dataset: Dataset, path: Path, receipt: Receipt) -> None:
    try:
        former = read_receipt(path)
    except RegionError:
        return  # it is replaced now
    if dataset.sha256 is None and former is not None and former.sha256 != receipt.sha256:
        log.warning(
            "%s is another file than that of %s: SHA-256 %s instead of %s",
            dataset.name,
            former.fetched[:10],
            receipt.sha256,
            former.sha256,
        )


def _check(dataset: Dataset, origin: str, temporary: Path, check: Check) -> None:
    try:
        check(dataset, temporary)
    except RegionError as exc:
        wanted = f"what {dataset.url} is" if dataset.url else f"{dataset.filename}, made as `fetch {dataset.name}` says"
        reason = str(exc).replace(str(temporary), Path(origin).name).partition(": '/vsizip/")[0].rstrip(".")
        raise RegionError(f"{origin} cannot be {dataset.name}: {reason}. Nothing was kept; wanted is {wanted}") from exc


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or exc
        raise RegionError(
            f"{path.parent} cannot be written ({reason}): set PWCAT_CACHE to a folder that can, or free space"
        ) from exc


def _bring(dataset: Dataset, origin: str, temporary: Path, progress: Progress) -> Receipt:
    """Copy the origin to the temporary path, and hold its sum against the pinned one."""
    digest, done = hashlib.sha256(), 0
    with _opened(origin, dataset) as (stream, total), temporary.open("wb") as target:
        for block in _blocks(stream, origin):
            target.write(block)
            digest.update(block)
            done += len(block)
            progress(done, total)
    if total is not None and done != total:
        raise RegionError(f"{origin} broke off after {done:,} of {total:,} bytes; nothing was kept: try again")
    if dataset.sha256 not in (None, digest.hexdigest()):
        raise RegionError(
            f"{origin} is not the {dataset.name} that is known: SHA-256 {digest.hexdigest()} instead of {dataset.sha256}, "
            f"{done:,} bytes; nothing was kept. A recipe can use another version by its file: "
            f"`{{dataset: {dataset.name}, path: FILE}}`"
        )
    return _receipt(dataset, origin, done, digest.hexdigest())


@contextmanager
def _opened(origin: str, dataset: Dataset) -> Iterator[tuple[IO[bytes], int | None]]:
    """What can be read from an address or a file, and its size if that is known."""
    if not origin.startswith(("http://", "https://")):
        path = Path(origin).expanduser()
        if not path.is_file():
            raise RegionError(f"{origin}: no such file to fetch from")
        with path.open("rb") as file:
            yield file, path.stat().st_size
        return
    request = urllib.request.Request(origin, headers={"User-Agent": "pwcat"})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as exc:
        exc.close()
        raise RegionError(
            f"{origin} answered {exc.code} {exc.reason}; nothing was kept. {_by_other_ways(dataset, origin)}"
        ) from exc
    except (OSError, http.client.HTTPException) as exc:
        reason = getattr(exc, "reason", exc)
        raise RegionError(f"{origin} cannot be reached: {reason}. {_by_other_ways(dataset, origin)}") from exc
    with response:
        length = response.headers.get("Content-Length")
        yield response, int(length) if length and length.isdigit() else None


def _blocks(stream: IO[bytes], origin: str) -> Iterator[bytes]:
    while True:
        try:
            block = stream.read(BLOCK)
        except (OSError, http.client.HTTPException) as exc:
            raise RegionError(f"{origin} broke off ({exc}); nothing was kept: try again") from exc
        if not block:
            return
        yield block
