"""A published dataset, or some of its samples, as a local catalog: of the chips, the row groups that hold them are fetched.

What is pulled is a copy (:mod:`catalog.copying`): chips, items, statistics and hash are those of the same samples of the
original. It is pinned to the commit that the first call saw, so that one that was broken off goes on with the same release.

Whole files are not fetched, so that their checksums cannot be compared. What can be is: the hash of all samples and their
statistics with those of the release, rows and bytes of each file with the manifest, the ids beside the chips with the items',
and of each chip the spectral entropy, measured anew, with what its item tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from catalog.copying import Progress, copy_subset, copy_there, is_whole, silent, told_copy, unfinished
from catalog.published.cube import PublishedCube, RowGroup
from catalog.published.layout import DATA_FOLDER, ENTITIES_PATH, ITEMS_PATH
from catalog.published.place import PublishedPlace
from catalog.published.publication import Publication
from catalog.query import Catalog, open_catalog
from catalog.querying.places import RemoteFolder
from catalog.subset import Subset
from pwcat.errors import PublishError, PwcatError

__all__ = ["Needed", "PullPlan", "Pulled", "plan_pull", "pull"]

HUB: Final = "hf://"
# organisation/name, with a revision or without: what is no folder here is looked for on the Hub.
_REPOSITORY = re.compile(r"(?:datasets/)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@]+))?")
_SHORT = re.compile(r"^hf://(?!(?:datasets|models|spaces|buckets)/)", re.IGNORECASE)
_PINNED = re.compile(r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)@(?P<commit>[0-9a-f]{40})")


@dataclass(frozen=True, kw_only=True)
class Needed:
    """What it takes to have some samples of a published dataset.

    Attributes:
        samples: wanted.
        samples_of: published.
        row_groups: that hold their chips.
        row_groups_of: in the files that these lie in.
        files: that hold them.
        files_of: of chips.
        bytes: of these row groups, as they are fetched.
        bytes_of: of all files of chips.
        map_bytes: of the map's entities, of which no more is fetched than is needed.
    """

    samples: int
    samples_of: int
    row_groups: int
    row_groups_of: int
    files: int
    files_of: int
    bytes: int
    bytes_of: int
    map_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What was pulled.

    Attributes:
        source: address of what it was pulled from, at its commit where it has one.
        repository: ``organisation/name``; ``None`` where it is a folder.
        revision: the commit.
        tag: name of the release, where it has one.
        folder: that holds it.
        collections: samples by name of the collection.
        needed: what it took; ``None`` where nothing was looked at, or the source is no published dataset.
        subset_hash: of the samples.
        bytes: that came over the net.
        requests: that were made.
        is_there: whether it was there already.
        dry_run: whether nothing was written.
    """

    source: str
    repository: str | None
    revision: str | None
    tag: str | None
    folder: Path
    collections: Mapping[str, int]
    needed: Needed | None
    subset_hash: str
    bytes: int = 0
    requests: int = 0
    is_there: bool = False
    dry_run: bool = False

    @property
    def samples(self) -> int:
        """How many."""
        return sum(self.collections.values())


@dataclass(frozen=True, kw_only=True)
class PullPlan:
    """Samples that were found, and of which nothing is fetched yet.

    Attributes:
        pulled: what is known of the pull so far.
        note: where they come from, for the copy.
        subset: the samples; ``None`` where they are there already.
    """

    pulled: Pulled
    note: Mapping[str, Any] = field(default_factory=dict)
    subset: Subset | None = None

    def fetch(self, *, progress: Progress = silent) -> Pulled:
        """Fetch them into the folder; what is there of them is kept.

        Raises:
            PwcatError: the source cannot be read any more, or the folder not be written. What came stays.
        """
        if self.subset is None:
            return self.pulled
        folder = self.pulled.folder
        try:
            copy_subset(self.subset, folder, origin=self.note, progress=progress)
        except PwcatError as exc:
            if not any(unfinished(folder).glob("*/cube.zarr/chips/c/*")):
                raise
            raise PublishError(
                f"{exc}; what came is kept in {unfinished(folder)}, and the same command goes on from there"
            ) from exc
        requests, fetched = _traffic(self.subset)
        return replace(self.pulled, bytes=fetched, requests=requests)


def pull(
    source: str | Path,
    out: str | Path,
    *,
    where: str | Mapping[str, Any] | None = None,
    dry_run: bool = False,
    progress: Progress = silent,
    **conditions: Any,
) -> Pulled:
    """Make a local catalog of a published dataset, or of the samples in it that meet every condition given.

    Args:
        source: ``organisation/name`` on the Hub, behind it ``@`` and a branch, tag or commit, else ``main``; the same as an
            address, ``hf://datasets/…``; or the folder of a published dataset or of a catalog.
        out: folder of the catalog, which appears whole or not at all. Where a pull was broken off, the next goes on from there.
        where: a CQL2 filter, as text or JSON: ``biome = 'Mangroves'``.
        dry_run: fetch no chip; say what would be fetched.
        progress: told of samples that are there, and in all.
        conditions: others, as :meth:`catalog.query.Catalog.search` takes them: ``biome``, ``bbox``, ``limit`` and so on.

    Raises:
        PublishError: the source is none, is damaged, or has no such sample; or the folder holds something else.
        CatalogError: a condition makes no sense, or the source cannot be read.
    """
    plan = plan_pull(source, out, where=where, **conditions)
    return replace(plan.pulled, dry_run=True) if dry_run else plan.fetch(progress=progress)


def plan_pull(
    source: str | Path,
    out: str | Path,
    *,
    where: str | Mapping[str, Any] | None = None,
    command: Sequence[str] | None = None,
    **conditions: Any,
) -> PullPlan:
    """Look for what is wanted: items are read, and no chip.

    Args:
        source: see :func:`pull`.
        out: see :func:`pull`.
        where: see :func:`pull`.
        command: the words of the command line that asks for it, but for the folder, for the doctor to name.
        conditions: see :func:`pull`.

    Raises:
        PublishError: see :func:`pull`.
        CatalogError: see :func:`pull`.
    """
    folder = Path(out).absolute()
    address = _address(source)
    given = {**conditions, "filter": conditions.get("filter") if where is None else where}
    wanted = {name: value for name, value in given.items() if value is not None and (name, value) != ("seed", 0)}
    asked = {"source": address, **_plain(wanted)}
    there = copy_there(folder)
    if there is not None and there.get("asked") == asked and there.get("revision") and is_whole(folder):
        return PullPlan(pulled=_standing(folder, there))
    if there is not None:
        _require_asked(there, asked, folder)
    catalog = open_catalog(_pinned(address, asked, there))
    subset = catalog.search(**wanted)
    pulled = _found(subset, catalog, folder)
    if pulled.tag is None and pulled.repository is not None:
        pulled = replace(pulled, tag=_name_of_revision(address))
    note = {
        "source": pulled.source,
        "repository": pulled.repository,
        "revision": pulled.revision,
        "tag": pulled.tag,
        "subset_hash": _release_hash(subset),
        "asked": asked,
        **({"command": list(command)} if command else {}),
    }
    if there is not None and _is_same(there, note):
        if is_whole(folder):
            return PullPlan(pulled=_standing(folder, there))
        note = {name: value for name, value in there.items() if name not in ("version", "copied")}
    return PullPlan(pulled=pulled, note=note, subset=subset)


def _address(source: str | Path) -> str:
    """Where it lies: an address as it is, a folder by its path, all else on the Hub.

    Raises:
        PublishError: it is none of them.
    """
    text = str(source)
    if "://" in text:  # of the Hub, `datasets/` may be left out
        return _SHORT.sub(f"{HUB}datasets/", text.rstrip("/"))
    if Path(source).exists():
        return str(Path(source).resolve())
    if _REPOSITORY.fullmatch(text) is None:
        raise PublishError(
            f"{text}: no folder there, and no name on the Hub: organisation/name is wanted, with @revision or without, as in "
            "my-lab/amazon-chips@v1"
        )
    return f"{HUB}datasets/{text.removeprefix('datasets/')}"


def _plain(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions as JSON: a subset that samples are to be near is told by its hash."""
    told = {name: {"subset": one.hash} if isinstance(one, Subset) else one for name, one in conditions.items()}
    return dict(json.loads(json.dumps(told, default=str)))


def _pinned(address: str, asked: Mapping[str, Any], there: Mapping[str, Any] | None) -> str:
    """The address at the commit that a broken-off pull of the same saw."""
    if there is None or there.get("asked") != asked or not there.get("revision"):
        return address
    return str(there["source"])


def _name_of_revision(address: str) -> str | None:
    """The tag or branch that an address names; ``None`` where it is a commit, or ``main``."""
    name = address.partition("@")[2].partition("/")[0]
    return None if name in ("", "main") or re.fullmatch(r"[0-9a-f]{7,40}", name) else name


def _require_asked(there: Mapping[str, Any], asked: Mapping[str, Any], folder: Path) -> None:
    """See that what is there was asked for by the same conditions of the same source, at whatever revision.

    Raises:
        PublishError: it was not.
    """
    before = there.get("asked") or {}
    one, other = ({**told, "source": str(told.get("source")).partition("@")[0]} for told in (before, asked))
    if one == other:
        return
    place = folder if folder.is_dir() and any(folder.iterdir()) else unfinished(folder)
    raise PublishError(
        f"{place}: {'holds' if place == folder else 'is what is there of'} {told_copy(there)}, and {_told(asked)} is asked for "
        "now; name another folder, or remove that one"
    )


def _told(asked: Mapping[str, Any]) -> str:
    """What is asked for, in words."""
    conditions = {name: value for name, value in asked.items() if name != "source"}
    return (
        f"{asked['source']} by {json.dumps(conditions, ensure_ascii=False)}"
        if conditions
        else f"all of {asked['source']}"
    )


def _is_same(there: Mapping[str, Any], note: Mapping[str, Any]) -> bool:
    """Whether the same was asked for at the same commit, by whatever name of it."""
    names = ("source", "repository", "revision", "subset_hash")
    asked = [{**one["asked"], "source": None} for one in (there, note) if "asked" in one]
    return len(asked) == 2 and asked[0] == asked[1] and all(there.get(name) == note.get(name) for name in names)


def _standing(folder: Path, note: Mapping[str, Any]) -> Pulled:
    """What is there."""
    counts = {}
    for path in sorted(folder.glob("*/stats.json")):
        counts[path.parent.name] = int(json.loads(path.read_text(encoding="utf-8"))["num_samples"])
    return Pulled(
        source=str(note.get("source")),
        repository=note.get("repository"),
        revision=note.get("revision"),
        tag=note.get("tag"),
        folder=folder,
        collections=counts,
        needed=None,
        subset_hash=str(note["copied"]["subset_hash"]),
        is_there=True,
    )


def _found(subset: Subset, catalog: Catalog, folder: Path) -> Pulled:
    """What is known of some samples before they are fetched.

    Raises:
        PublishError: there are none, or the release is not what it says.
    """
    if not len(subset):
        raise PublishError(
            f"{catalog.place}: no sample meets {subset.query or 'it'}: nothing is pulled; widen the search"
        )
    publication = _publication(subset)
    if publication is not None:
        _require_files(publication, [ITEMS_PATH], publication.manifest.get("files") or {})
        _require_release(publication, subset)
    named = _PINNED.fullmatch(str(catalog.place))
    return Pulled(
        source=str(catalog.place),
        repository=named["repo"] if named else None,
        revision=named["commit"] if named else None,
        tag=publication.manifest.get("release") if publication is not None else None,  # as its card is named
        folder=folder,
        collections={member.name: rows.stop - rows.start for member, rows in subset.parts()},
        needed=_needed(subset, publication) if publication is not None else None,
        subset_hash=subset.hash,
    )


def _publication(subset: Subset) -> Publication | None:
    """The published dataset that samples lie in; ``None`` where they lie in a catalog."""
    place = subset.collections[0].place
    return place.publication if isinstance(place, PublishedPlace) else None


def _release_hash(subset: Subset) -> str:
    publication = _publication(subset)
    return str(publication.record["subset_hash"]) if publication is not None else subset.hash


def _require_release(publication: Publication, subset: Subset) -> None:
    """See that all samples, where all are wanted, are those of the release, and as diverse.

    Raises:
        PublishError: they are not.
    """
    record = publication.record
    if len(subset) != record["num_samples"]:
        return
    faults = []
    if subset.hash != record["subset_hash"]:
        faults.append(f"its samples have the hash {subset.hash[:12]}, the release says {record['subset_hash'][:12]}")
    held = subset.stats()
    if wrong := [name for name, told in record["statistics"].items() if held.get(name) != told]:
        faults.append(f"statistics of its items are not those of the release ({', '.join(wrong)})")
    if faults:
        raise PublishError(
            f"{publication.place}: {' and '.join(faults)}: it was changed since, or is damaged; do not use it"
        )


def _needed(subset: Subset, publication: Publication) -> Needed:
    """What it takes to fetch some samples' chips.

    Raises:
        PublishError: a file is not what the manifest says.
    """
    groups: dict[tuple[str, int], RowGroup] = {}
    for member, rows in subset.parts():
        if isinstance(member.cube, PublishedCube):
            groups |= {(one.path, one.group): one for one in member.cube.row_groups(subset.index[rows])}
    files = publication.manifest.get("files") or {}
    chips = {path: told for path, told in files.items() if path.startswith(f"{DATA_FOLDER}/")}
    touched = sorted({path for path, _ in groups})
    _require_files(publication, touched, chips)
    return Needed(
        samples=len(subset),
        samples_of=int(publication.record["num_samples"]),
        row_groups=len(groups),
        row_groups_of=sum(publication.groups.footer(path).num_row_groups for path in touched),
        files=len(touched),
        files_of=len(chips),
        bytes=sum(one.bytes for one in groups.values()),
        bytes_of=sum(int(told["bytes"]) for told in chips.values()),
        map_bytes=int((files.get(ENTITIES_PATH) or {}).get("bytes", 0)),
    )


def _require_files(publication: Publication, paths: Sequence[str], told: Mapping[str, Any]) -> None:
    """See that files of chips or items have the rows and bytes that the manifest names.

    Raises:
        PublishError: they have not.
    """
    faults = []
    for path in paths:
        here = {"rows": publication.groups.footer(path).num_rows, "bytes": publication.place.size(path)}
        if path not in told:
            faults.append(f"{path} is not in the manifest")
        faults += [
            f"{path} has {count:,} {what}, the manifest says {int(told[path][what]):,}"
            for what, count in here.items()
            if path in told and what in told[path] and told[path][what] != count
        ]
    if faults:
        raise PublishError(
            f"{publication.place}: {'; '.join(faults[:5])}: it was changed since, or is damaged; do not use it"
        )


def _traffic(subset: Subset) -> tuple[int, int]:
    """Requests that were made of the place that samples lie in, and bytes that came."""
    place: Any = subset.collections[0].place
    base = place.base if isinstance(place, PublishedPlace) else place
    return (base.store.requests, base.store.bytes) if isinstance(base, RemoteFolder) else (0, 0)
