"""The Zarr of a dataset, in a repository of its own beside that of its tables: cubes that plain xarray opens.

``load_dataset`` reads no Zarr, and files of another kind beside its tables would mislead it: hence a sibling repository. It
is a copy of the subset (:mod:`catalog.copying`) with a card: a catalog, which :func:`catalog.query.open_catalog` opens too.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from catalog.copying import copy_subset
from catalog.published.layout import CARD_PATH, LICENSES_PATH
from catalog.subset import Subset, load_subset
from publish.describing.cards import as_yaml, dataset_front_matter, render
from publish.describing.facts import DatasetFacts, dataset_facts, describe_dataset, software_versions
from publish.describing.terms import sources_of
from publish.hub import check_repo_name, preview_paths
from publish.manifest import MANIFEST_VERSION, write_manifest
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
from pwcat.cube import Cube
from pwcat.errors import PublishError

__all__ = ["build_zarr_folder", "check_sibling", "publish_zarr"]

CUBE: Final = "cube.zarr"
COPY: Final = "copy"


def publish_zarr(
    subset: Subset | str | Path,
    *,
    repo: str,
    dataset: str | None = None,
    private: bool = False,
    public: bool = False,
    tag: str | None = None,
    dry_run: bool = False,
    progress: SampleProgress = uncounted,
    push_progress: PushProgress = silent,
) -> Publication:
    """Publish the Zarr of a subset to a repository of its own; what the Hub already has is not sent again.

    Args:
        subset: A subset, or the path of a subset file, a collection or a catalog.
        repo: ``organisation/name`` on the Hub.
        dataset: That of the tables, which it is the Zarr of.
        private: Make a new repository private.
        public: Make a new repository private, and public once the release is verified and tagged.
        tag: Name of the release, set once the pushed files are verified.
        dry_run: Make and send nothing; say what it would be.
        progress: Called with the samples copied so far and in all.
        push_progress: Told how far the push is.

    Raises:
        PublishError: The repositories are one, or the push failed.
        CatalogError: The subset is empty, or cannot be read.
    """
    check_sibling(repo, of=dataset, alone=True)
    chosen = subset if isinstance(subset, Subset) else load_subset(subset)
    destination = Destination(
        repo=repo, private=private, public=public, tag=tag, dry_run=dry_run, progress=push_progress
    )
    check_destination(destination)
    load = _load_line(chosen)
    if dry_run:
        return _planned(chosen, destination, load=load)
    return deliver(
        lambda path: build_zarr_folder(chosen, path, repo_id=repo, dataset=dataset, release=tag, progress=progress),
        destination,
        kind="dataset",
        message=f"Zarr of {len(chosen)} samples of {', '.join(c.name for c in chosen.collections)} ({chosen.hash[:12]})",
        load=load,
    )


def check_sibling(repo: str, *, of: str | None, alone: bool = False) -> None:
    """Refuse a repository for the Zarr that cannot be one.

    Args:
        repo: ``organisation/name`` for the Zarr.
        of: That of the tables.
        alone: Whether there may be none of tables.

    Raises:
        PublishError: It is no name, or that of the tables; or there is none of these.
    """
    check_repo_name(repo)
    if of is None and not alone:
        raise PublishError("the Zarr goes to a repository beside that of the tables: name that one too, with --repo")
    if repo == of:
        raise PublishError(
            f"{repo} is the repository of the tables: the Zarr goes to another, such as {repo}-zarr, for `datasets` would "
            "be misled by its files"
        )


def _planned(subset: Subset, destination: Destination, *, load: Callable[[str], str]) -> Publication:
    """A dry run: of the shards alone."""
    paths = [
        f"{member.name}/{CUBE}/chips/c/{shard}/0/0/0/0"
        for member, rows in subset.parts()
        for shard in range(-(-(rows.stop - rows.start) // member.cube.shard_size))
    ]
    return Publication(
        kind="dataset",
        folder=None,
        push=None,
        files=len(paths),
        bytes=2 * math.prod(subset.chip_shape) * len(subset),
        dry_run=True,
        load=load(str(destination.repo)),
        preview=preview_paths(
            paths,
            repo=str(destination.repo),
            kind="dataset",
            tag=destination.tag,
            asked_private=destination.private,
        ),
    )


def _load_line(subset: Subset) -> Callable[[str], str]:
    name = subset.collections[0].name if subset.collections else "NAME"
    return lambda source: f'xr.open_zarr("hf://datasets/{source}/{name}/{CUBE}")'


def build_zarr_folder(
    subset: Subset,
    out: str | Path,
    *,
    repo_id: str,
    dataset: str | None = None,
    release: str | None = None,
    progress: SampleProgress = uncounted,
) -> Path:
    """The folder of the Zarr: the same subset gives the same bytes, whenever and wherever it is built.

    Args:
        subset: The samples.
        out: Folder; it appears whole or not at all, and replaces an earlier publication there.
        repo_id: ``organisation/name`` that it goes to.
        dataset: That of the tables.
        release: Name of the release, if it has one.
        progress: Called with the samples copied so far and in all.

    Raises:
        PublishError: The folder holds something else.
        CatalogError: The subset is empty, or cannot be read.
    """
    if not len(subset):
        raise PublishError("the subset has no samples: there is nothing to publish; widen the search")
    out = Path(out)
    facts = dataset_facts(subset, repo=repo_id, release=release)
    header = _header(facts, dataset)
    if is_built(out, header):
        return out
    with building(out) as folder:
        _copy(subset, folder, facts, dataset, progress)
        values = _card_values(subset, folder, facts, dataset)
        _write(folder / CARD_PATH, render("zarr.md.j2", **values))
        _write(folder / LICENSES_PATH, render("licenses.md.j2", **values))
        write_manifest(folder, header=header, known={})
    return out


def _header(facts: DatasetFacts, dataset: str | None) -> dict[str, Any]:
    return {
        "manifest_version": MANIFEST_VERSION,
        "kind": "zarr",
        "name": facts.name,
        "repository": facts.repo,
        "release": facts.version,
        "dataset": dataset,
        "subset_hash": facts.subset_hash,
        "query": facts.query,
        "recipe_hashes": dict(facts.recipe_hashes),
        "num_samples": facts.num_samples,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """Of what the bytes hang on."""
    return {**software_versions(), "zarr": version("zarr"), "numcodecs": version("numcodecs")}


def _copy(subset: Subset, folder: Path, facts: DatasetFacts, dataset: str | None, progress: SampleProgress) -> None:
    """Copy the samples into the folder, without what is of use on this computer alone; recipes as they may be shown."""
    origin = {"source": f"hf://datasets/{facts.repo}", "subset_hash": facts.subset_hash, "dataset": dataset}
    copy_subset(subset, folder / COPY, origin=origin, progress=progress)
    for name, recipe in facts.recipes.items():
        shutil.rmtree(folder / COPY / name / "ledger")
        _write(folder / COPY / name / "recipe.yaml", as_yaml(recipe))
    for path in (folder / COPY).iterdir():
        path.rename(folder / path.name)
    (folder / COPY).rmdir()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _card_values(subset: Subset, folder: Path, facts: DatasetFacts, dataset: str | None) -> dict[str, Any]:
    """What the templates name."""
    years = " to ".join(sorted({moment[:4] for moment in facts.interval}))
    at = f"@{facts.version}" if facts.version else ""
    return {
        "facts": facts,
        "front_matter": _front_matter(folder, facts),
        "description": describe_dataset(facts),
        "dataset": dataset,
        "cubes": [_cube(folder, member.name) for member in subset.collections],
        "source": facts.repo,
        "address": f"hf://datasets/{facts.repo}{at}",
        "pinned": f', revision="{facts.version}"' if facts.version else "",
        "bbox": ", ".join(f"{side:.4f}" for side in facts.bbox),
        "licenses_line": _licenses_line(facts),
        "providers": {c.name: [one.to_dict() for one in c.metadata.providers or []] for c in subset.collections},
        "made_of": {name: sources_of(recipe, years=years) for name, recipe in facts.recipes.items()},
        "copernicus": facts.is_copernicus,
        "years": years,
        "versions": _versions(),
    }


def _front_matter(folder: Path, facts: DatasetFacts) -> str:
    """The YAML that heads the card: the items of each collection are what ``load_dataset`` finds."""
    paths = {name: f"{name}/items.parquet" for name in facts.recipes}
    return dataset_front_matter(
        facts,
        schemas={name: pq.read_schema(folder / path) for name, path in paths.items()},
        files={name: {"items": path} for name, path in paths.items()},
    )


def _cube(folder: Path, name: str) -> Mapping[str, Any]:
    """A collection's cube, in numbers."""
    files = [path for path in (folder / name / CUBE).rglob("*") if path.is_file()]
    cube = Cube(folder / name / CUBE)
    return {
        "name": name,
        "samples": cube.num_samples,
        "shard_size": cube.shard_size,
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
    }


def _licenses_line(facts: DatasetFacts) -> str:
    if len(facts.licenses) == 1:
        return f"The dataset is released under {facts.licenses[0]}."
    told = " and ".join(f"{recipe['license']} ({name})" for name, recipe in facts.recipes.items())
    return f"Its collections are released under {told}."
