"""Check what was published, in a folder or on the Hub: is it whole, and does it load where nothing of it is loaded yet?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from publish.manifest import MANIFEST_VERSION, FileRecord
from publish.publication import SampleProgress, uncounted
from publish.pushing.target import Kind
from publish.verifying.files import check_every_byte, check_files, read_manifest_of, strangers
from publish.verifying.held import Held, HeldFolder, find_publication
from publish.verifying.processes import CATALOG, DATASET, MODEL, run_fresh
from publish.verifying.tables import check_tables
from pwcat.errors import PublishError

__all__ = ["Check", "Verification", "verify", "verify_folder"]

KINDS = ("dataset", "model", "zarr", "study")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of it.
        state: whether it passed, failed, or was not tried because an earlier one failed.
        told: what was found, in a line; empty where it failed.
        faults: what is wrong.
    """

    name: str
    state: Literal["passed", "failed", "not tried"]
    told: str = ""
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was looked at, and every fault found.

    Attributes:
        source: folder or repository, as people know it.
        kind: ``"dataset"``, ``"model"``, ``"zarr"`` (its Zarr sibling) or ``"study"`` (its tables), as the manifest says.
        revision: the commit; ``None`` for a folder.
        files: number of files, the manifest among them.
        bytes: of those that the manifest lists.
        checks: in their order.
        others: files that the manifest does not know and nothing loads: somebody else's.
    """

    source: str
    kind: str
    revision: str | None
    files: int
    bytes: int
    checks: tuple[Check, ...]
    others: tuple[str, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """Every fault that was found."""
        return tuple(fault for check in self.checks for fault in check.faults)

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return not self.faults


def verify(
    source: str | Path, *, kind: Kind | None = None, full: bool = False, progress: SampleProgress = uncounted
) -> Verification:
    """What is right and wrong with a publication: files, tables, and a load of it in processes of their own.

    Of a repository nothing is downloaded but small files, footers of tables and a first row of each split: the Hub's own
    checksums of large files are compared with the manifest's. What has faults is not loaded.

    Args:
        source: A folder; ``organisation/name`` on the Hub, behind it ``@`` and a tag, branch or commit; or the same as an
            address, ``hf://datasets/organisation/name@revision``.
        kind: What the Hub keeps it as; without it datasets are looked through first, then models.
        full: Download every file, one at a time, and hash it. Folders are always read in full.
        progress: Called with the bytes hashed so far and in all.

    Raises:
        PublishError: There is no such publication or revision, it may not be read, or it has no manifest that can be read.
    """
    held = find_publication(source, kind=kind)
    header, records = read_manifest_of(held)
    size = sum(record.bytes for record in records.values())
    sort = _kind(header, held)
    checks = _checks(held, sort, header, records, full=full, progress=progress)
    return Verification(
        source=held.name,
        kind=sort,
        revision=held.revision,
        files=len(records) + 1,
        bytes=size,
        checks=tuple(_run(checks)),
        others=tuple(strangers(held, records).harmless),
    )


def verify_folder(folder: str | Path) -> Verification:
    """The faults of a publication's folder; see :func:`verify`.

    Raises:
        PublishError: There is no such folder, or it has no manifest that can be read.
    """
    if not Path(folder).is_dir():
        raise PublishError(f"{folder} is no folder: give the folder of a publication")
    return verify(Path(folder))


def _kind(header: Mapping[str, Any], held: Held) -> str:
    kind, version = str(header.get("kind")), header.get("manifest_version")
    if kind not in KINDS or version != MANIFEST_VERSION:
        raise PublishError(
            f"the manifest of {held.name} is of kind {kind!r} and version {version}: this pwcat knows {', '.join(KINDS)} of "
            f"version {MANIFEST_VERSION}; upgrade it"
        )
    return kind


_Ask = Callable[[], tuple[str, list[str]]]


def _checks(
    held: Held,
    kind: str,
    header: Mapping[str, Any],
    records: Mapping[str, FileRecord],
    *,
    full: bool,
    progress: SampleProgress,
) -> dict[str, _Ask]:
    """What to look at, in order: each gives what it found and its faults."""
    checks: dict[str, _Ask] = {"files": partial(_files, held, records)}
    if full or isinstance(held, HeldFolder):
        checks["contents"] = partial(_contents, held, records, progress)
    if kind == "dataset":
        checks["tables"] = partial(_tables, held, records)
    if kind in ("dataset", "study"):
        checks["loading"] = partial(_loading, held)
    if kind in ("dataset", "zarr"):
        checks["catalog"] = partial(_catalog, held, header)
    if kind == "model":
        checks["model"] = partial(_model, held)
    return checks


def _run(checks: Mapping[str, _Ask]) -> list[Check]:
    """The checks up to the first that fails; those behind it are not tried."""
    done: list[Check] = []
    for name, ask in checks.items():
        if any(check.faults for check in done):
            done.append(Check(name=name, state="not tried"))
            continue
        told, faults = ask()
        done.append(
            Check(name=name, state="failed", faults=tuple(faults))
            if faults
            else Check(name=name, state="passed", told=told)
        )
    return done


def _files(held: Held, records: Mapping[str, FileRecord]) -> tuple[str, list[str]]:
    same = "of the sizes" if isinstance(held, HeldFolder) else "with the checksums"
    return f"{len(records)} files are there, {same} that the manifest says", check_files(held, records)


def _contents(held: Held, records: Mapping[str, FileRecord], progress: SampleProgress) -> tuple[str, list[str]]:
    total, done = sum(record.bytes for record in records.values()), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return "every byte was read, and hashes to what the manifest says", check_every_byte(held, records, advance=advance)


def _tables(held: Held, records: Mapping[str, FileRecord]) -> tuple[str, list[str]]:
    tables = {path: record.rows for path, record in records.items() if record.rows is not None}
    rows = sum(tables.values())
    return f"{len(tables)} tables of {rows} rows, with the columns of a dataset", check_tables(held, records)


def _loading(held: Held) -> tuple[str, list[str]]:
    answer = run_fresh(DATASET, held)
    if isinstance(answer, str):
        return "", [f"it does not load in a fresh process: {answer}"]
    configs = ", ".join(f"{config} ({', '.join(splits)})" for config, splits in answer.items())
    return f"load_dataset gives first rows of {configs} in a fresh process", []


def _catalog(held: Held, header: Mapping[str, Any]) -> tuple[str, list[str]]:
    answer = run_fresh(CATALOG, held)
    if isinstance(answer, str):
        return "", [f"open_catalog cannot read it in a fresh process: {answer}"]
    due = {"samples": header.get("num_samples"), "hash": header.get("subset_hash")}
    faults = [
        f"open_catalog finds {answer[name]} as its {name}, the manifest says {value}"
        for name, value in due.items()
        if value is not None and answer[name] != value
    ]
    return f"open_catalog finds {answer['samples']} samples of hash {answer['hash'][:12]}…, and reads a chip", faults


def _model(held: Held) -> tuple[str, list[str]]:
    answer = run_fresh(MODEL, held)
    if isinstance(answer, str):
        return "", [f"it does not load in a fresh process: {answer}"]
    count, dimension = answer["shape"]
    return f"it loads in a fresh process, and {count} invented samples give {dimension} finite numbers each", []
