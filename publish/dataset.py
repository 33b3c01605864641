"""A subset as a dataset that anyone can load: a folder first, then, if asked, a repository on the Hub."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from catalog.published.layout import ITEMS_PATH, PREVIEW_PATH
from catalog.subset import Subset, load_subset
from publish.describing.documents import write_documents
from publish.describing.facts import DatasetFacts, dataset_facts, software_versions
from publish.describing.releases import Release, digest_of, earlier_entries, fetch_release, read_release
from publish.hub import Preview, preview_paths, preview_push
from publish.items import write_items, write_preview
from publish.manifest import MANIFEST, MANIFEST_VERSION, check_sizes, read_manifest, write_manifest
from publish.maps import write_map
from publish.publication import (
    Destination,
    Publication,
    SampleProgress,
    building,
    check_destination,
    deliver,
    is_built,
    uncounted,
)
from publish.pushing.progress import PushProgress, silent
from publish.shards import DEFAULT_LAYOUT, Layout, plan_shards, split_names, write_shards
from pwcat.building.ledger import damaged_shards
from pwcat.errors import PublishError

__all__ = ["build_dataset_folder", "publish_dataset"]


def publish_dataset(
    subset: Subset | str | Path,
    *,
    repo: str | None = None,
    to: str | Path | None = None,
    private: bool = False,
    public: bool = False,
    tag: str | None = None,
    dry_run: bool = False,
    progress: SampleProgress = uncounted,
    push_progress: PushProgress = silent,
) -> Publication:
    """What was published: a folder, a repository on the Hub, or both.

    A folder that already holds exactly this is not built again, and files that the Hub already has are not sent again.

    Args:
        subset: A subset, or the path of a subset file, a collection or a catalog.
        repo: ``organisation/name`` on the Hub. The token comes from ``HF_TOKEN`` or the Hub's login.
        to: Folder to build and keep. Without it the folder is temporary, and a push that fails builds it anew.
        private: Make a new repository private.
        public: Make a new repository private, and public once the release is verified and tagged.
        tag: Name of the release, set once the pushed files are verified.
        dry_run: Make and send nothing; say how many files of how many bytes it would be, and what the push would do.
        progress: Called with the samples written so far and in all.
        push_progress: Told how far the push is.

    Raises:
        PublishError: Neither ``repo`` nor ``to`` is given, the folder is taken, or the push failed.
    """
    chosen = subset if isinstance(subset, Subset) else load_subset(subset)
    destination = Destination(
        repo=repo,
        to=Path(to) if to is not None else None,
        private=private,
        public=public,
        tag=tag,
        dry_run=dry_run,
        progress=push_progress,
    )
    check_destination(destination)
    load = _load_line(chosen)
    if dry_run:
        return _planned(chosen, destination, load=load)
    earlier = fetch_release(repo, chosen) if repo is not None else None
    return deliver(
        lambda path: build_dataset_folder(chosen, path, repo_id=repo, release=tag, earlier=earlier, progress=progress),
        destination,
        kind="dataset",
        message=f"{len(chosen)} samples of {', '.join(c.name for c in chosen.collections)} ({chosen.hash[:12]})",
        load=load,
    )


def _planned(subset: Subset, destination: Destination, *, load: Callable[[str], str]) -> Publication:
    """A dry run: of the folder, where it is built already, else of the files of chips alone."""
    repo, to, tag = destination.repo, destination.to, destination.tag
    preview: Preview | None = None
    built = to if to is not None and _holds(to, subset) else None
    if built is not None:
        _, records = read_manifest(built)
        files, size = len(records) + 1, sum(record.bytes for record in records.values())
        if repo is not None:
            preview = preview_push(built, repo=repo, kind="dataset", tag=tag, asked_private=destination.private)
    else:
        paths = [shard.path for shard in plan_shards(subset, layout=DEFAULT_LAYOUT)]
        files, size = len(paths), 2 * math.prod(subset.chip_shape) * len(subset)
        if repo is not None:
            preview = preview_paths(paths, repo=repo, kind="dataset", tag=tag, asked_private=destination.private)
    return Publication(
        kind="dataset",
        folder=built,
        push=None,
        files=files,
        bytes=size,
        dry_run=True,
        load=load(repo or str(to)),
        preview=preview,
    )


def _holds(folder: Path, subset: Subset) -> bool:
    """Whether a folder was built of these samples, and is whole."""
    if not (folder / MANIFEST).is_file():
        return False
    header, records = read_manifest(folder)
    return header.get("subset_hash") == subset.hash and not check_sizes(folder, records)


def _load_line(subset: Subset) -> Callable[[str], str]:
    split = next(iter(split_names(subset)), "train")
    return lambda source: f'load_dataset("{source}", split="{split}")'


def build_dataset_folder(
    subset: Subset,
    out: str | Path,
    *,
    repo_id: str | None = None,
    release: str | None = None,
    earlier: Release | None = None,
    layout: Layout = DEFAULT_LAYOUT,
    progress: SampleProgress = uncounted,
) -> Path:
    """The folder of a dataset: the same subset gives the same bytes, whenever and wherever it is built.

    Its changelog keeps that of the release before, which is therefore the only other thing that the bytes hang on.

    Args:
        subset: The samples.
        out: Folder; it appears whole or not at all, and replaces an earlier publication there.
        repo_id: ``organisation/name``, if it will go to the Hub: the card then shows that name.
        release: Name of the release, if it has one.
        earlier: What the repository holds; what ``out`` does, where it is not given.
        layout: Sizes of files and row groups.
        progress: Called with the samples written so far and in all.

    Raises:
        PublishError: The subset is empty, the folder holds something else, or a cube it reads from is damaged.
    """
    if len(subset) == 0:
        raise PublishError("the subset has no samples: there is nothing to publish; widen the search")
    out = Path(out)
    facts = dataset_facts(subset, repo=repo_id, release=release)
    earlier = earlier or read_release(out)
    below = earlier_entries(earlier, name=release, subset_hash=facts.subset_hash)
    header = _header(facts, layout) | {"split_hashes": {name: subset.split(name).hash for name in facts.splits}}
    header["earlier"] = digest_of(below)
    if is_built(out, header):
        return out
    _require_sound(subset)
    shards = plan_shards(subset, layout=layout)
    with building(out) as folder:
        written = 0

        def advance(samples: int) -> None:
            nonlocal written
            written += samples
            progress(written, len(subset))

        records = write_shards(subset, folder, shards, advance=advance)
        records[ITEMS_PATH] = write_items(subset, folder, shards, facts=facts)
        if (preview := write_preview(subset, folder)) is not None:
            records[PREVIEW_PATH] = preview
        if facts.has_map:
            records |= write_map(subset, folder)
        write_documents(subset, folder, facts, shards, records=records, earlier=earlier)
        write_manifest(folder, header=header, known=records)
    return out


def _require_sound(subset: Subset) -> None:
    damaged = [str(path) for collection in subset.collections for path in damaged_shards(collection.path)]
    if damaged:
        raise PublishError(
            f"{len(damaged)} shard(s) are missing or not what their ledger says: {', '.join(damaged[:5])}. Remove them and "
            "build the collection again"
        )


def _header(facts: DatasetFacts, layout: Layout) -> dict[str, Any]:
    return {
        "manifest_version": MANIFEST_VERSION,
        "kind": "dataset",
        "name": facts.name,
        "repository": facts.repo,
        "release": facts.version,
        "subset_hash": facts.subset_hash,
        "query": facts.query,
        "recipe_hashes": dict(facts.recipe_hashes),
        "num_samples": facts.num_samples,
        "layout": asdict(layout),
        "versions": software_versions(),
    }
