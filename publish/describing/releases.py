"""What was released before: a new release keeps the changelog of the earlier ones and says what changed in its samples.

Nothing here reads a clock, and nothing is guessed: a release is known by its name and the hash of its samples. Publishing the
same samples under the same name again leaves the changelog as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.published.layout import CHANGELOG_PATH, ITEMS_PATH, MANIFEST_PATH
from catalog.subset import Subset

__all__ = [
    "EARLIER_FILES",
    "Change",
    "Release",
    "changes_since",
    "digest_of",
    "earlier_entries",
    "fetch_release",
    "heading_of",
    "read_release",
]

# What is read of an earlier release: all that has to be fetched of one on the Hub.
EARLIER_FILES = (MANIFEST_PATH, CHANGELOG_PATH, ITEMS_PATH)
_HEADING = re.compile(r"^## .*$", flags=re.MULTILINE)
_ENTRY = re.compile(r"^## ", flags=re.MULTILINE)
_END = "\nEarlier releases are"  # the last line of a changelog, which is no part of any entry


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release that was made before.

    Attributes:
        name: of its tag; ``None`` where it had none.
        subset_hash: of its samples.
        recipe_hashes: by name of the collection.
        num_samples: how many it had.
        entries: of its changelog, the newest first, each with its heading.
        samples: collection and id of each, one column ``key``; ``None`` where its items cannot be read.
    """

    name: str | None
    subset_hash: str
    recipe_hashes: Mapping[str, str]
    num_samples: int
    entries: tuple[str, ...]
    samples: pa.ChunkedArray | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is other than in the release before.

    Attributes:
        since: its name, or what stands for one.
        added: samples that it had not; ``None`` where its samples are not known.
        removed: samples that are gone.
        kept: samples that both have.
        recipes: collections whose recipe is another, with both hashes; empty ones where a side has none.
    """

    since: str
    added: int | None
    removed: int | None
    kept: int | None
    recipes: Mapping[str, tuple[str, str]]


def read_release(folder: Path) -> Release | None:
    """The release in a folder, which may hold :data:`EARLIER_FILES` alone; ``None`` where there is no dataset of ours."""
    try:
        header = json.loads((folder / MANIFEST_PATH).read_text(encoding="utf-8"))
        text = (folder / CHANGELOG_PATH).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    if not isinstance(header, dict) or header.get("kind") != "dataset" or "subset_hash" not in header:
        return None
    return Release(
        name=header.get("release"),
        subset_hash=str(header["subset_hash"]),
        recipe_hashes=dict(header.get("recipe_hashes") or {}),
        num_samples=int(header.get("num_samples", 0)),
        entries=_entries(text),
        samples=_keys_of(folder / ITEMS_PATH),
    )


def fetch_release(repo: str, subset: Subset) -> Release | None:
    """The release at the head of a dataset repository on the Hub; ``None`` where there is none of ours.

    The items are fetched only where the samples are others, to compare them.

    Raises:
        PublishError: The Hub cannot be reached, or what it gives is damaged.
    """
    from publish.hub import fetch_folder
    from publish.pushing.retrying import call
    from publish.pushing.target import hub_api

    if not call(f"look for {repo}", lambda: hub_api().repo_exists(repo, repo_type="dataset")):
        return None
    folder = fetch_folder(repo, kind="dataset", revision=None, patterns=[MANIFEST_PATH, CHANGELOG_PATH])
    release = read_release(folder)
    if release is None or release.subset_hash == subset.hash:
        return release
    return read_release(fetch_folder(repo, kind="dataset", revision=None, patterns=[*EARLIER_FILES]))


def digest_of(entries: Sequence[str]) -> str | None:
    """SHA-256 of what stands below a release in its changelog, for the manifest; ``None`` where nothing does."""
    return sha256("\n".join(entries).encode()).hexdigest() if entries else None


def earlier_entries(earlier: Release | None, *, name: str | None, subset_hash: str) -> tuple[str, ...]:
    """The entries that stand below that of a release: all of the earlier one's, but for that of the very same release.

    What had no tag and gets one keeps its entry, under another heading.
    """
    if earlier is None:
        return ()
    return earlier.entries[1:] if _is_same(earlier, name=name, subset_hash=subset_hash) else earlier.entries


def _is_same(earlier: Release, *, name: str | None, subset_hash: str) -> bool:
    return earlier.subset_hash == subset_hash and earlier.name in (name, None)


def heading_of(name: str | None, subset_hash: str) -> str:
    """The heading of a release's entry."""
    return name or f"Without a tag: {subset_hash[:16]}"


def changes_since(earlier: Release | None, subset: Subset, *, name: str | None) -> Change | str | None:
    """What is new in some samples; the entry itself where it was written before; ``None`` where nothing came before.

    Args:
        earlier: the release before, or this same one.
        subset: the samples now.
        name: of the release.
    """
    if earlier is None:
        return None
    if _is_same(earlier, name=name, subset_hash=subset.hash) and earlier.entries:
        return _HEADING.sub(f"## {heading_of(name, subset.hash)}", earlier.entries[0], count=1)
    now = {collection.name: collection.recipe_hash for collection in subset.collections}
    recipes = {
        each: (earlier.recipe_hashes.get(each, ""), now.get(each, ""))
        for each in dict.fromkeys([*earlier.recipe_hashes, *now])
        if earlier.recipe_hashes.get(each) != now.get(each)
    }
    since = earlier.name or f"the set of samples {earlier.subset_hash[:16]}"
    if earlier.samples is None:
        return Change(since=since, added=None, removed=None, kept=None, recipes=recipes)
    keys = _joined(subset.columns(["collection"])["collection"], subset.rows["id"])
    kept = int(np.asarray(pc.sum(pc.is_in(keys, value_set=earlier.samples.combine_chunks())).as_py() or 0))
    return Change(since=since, added=len(keys) - kept, removed=len(earlier.samples) - kept, kept=kept, recipes=recipes)


def _entries(text: str) -> tuple[str, ...]:
    """The sections of a changelog, as they stand."""
    starts = [match.start() for match in _ENTRY.finditer(text)]
    ends = [*starts[1:], text.rfind(_END) if _END in text else len(text)]
    return tuple(text[start:end].strip() + "\n" for start, end in zip(starts, ends, strict=True))


def _keys_of(path: Path) -> pa.ChunkedArray | None:
    try:
        items = pq.read_table(path, columns=["pwcat:collection", "id"])
    except (OSError, pa.ArrowException, KeyError):
        return None
    return _joined(items["pwcat:collection"], items["id"])


def _joined(collections: pa.ChunkedArray, ids: pa.ChunkedArray) -> Any:
    return pc.binary_join_element_wise(collections.cast(pa.string()), ids.cast(pa.string()), "\n")
