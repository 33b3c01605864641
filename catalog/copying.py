"""Copies: the samples of a subset as collections of their own, with cubes that hold these chips and no others.

A copy is a catalog. Its chips have the very numbers of the original's, its items are equal but for where their pixels lie, its
statistics are those of the subset, and so is its hash. It is made in a folder beside, ``DIR.partial``, and becomes ``DIR`` in
one rename: what is there is whole. A copy that was broken off is gone on with from the shards that are there.

Not copied are plans and scenes, without which nothing is built anew, and columns that are kept beside items.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zarr
from numpy.typing import NDArray

from catalog.copies.entities import copy_entities
from catalog.copies.facts import copied_facts
from catalog.copies.shards import DATES, OFFSETS, CopyJob, spec_of_copy
from catalog.measures.tally import sum_tallies
from catalog.query import Collection, open_catalog
from catalog.stac.describing import CODEBOOK, PARTS, part_tally, read_part
from catalog.store import write_catalog, write_collection, write_json
from catalog.subset import Subset
from pwcat.atomic import remove_leftovers, replacing
from pwcat.building.ledger import ledger_path
from pwcat.copies import ORIGIN, origin_words, read_origin
from pwcat.cube import Cube, create_cube, shard_path, write_coordinates
from pwcat.errors import CatalogError
from pwcat.lock import locked
from pwcat.osm.entities import ENTITIES

__all__ = ["Progress", "copy_subset", "copy_there", "is_whole", "silent", "told_copy", "unfinished"]

Progress = Callable[[int, int], None]
VERSION: Final = 1
LOCK: Final = ".copying.lock"


def silent(done: int, total: int) -> None:
    """No progress."""


def copy_subset(
    subset: Subset, root: str | Path, *, origin: Mapping[str, Any], progress: Progress = silent
) -> list[Path]:
    """Copy a subset into a catalog of its own; one shard is held at a time.

    What is there of the same copy is kept: a whole one is not made again, one that was broken off is gone on with.

    Args:
        subset: samples whose pixels can be read, wherever they lie.
        root: folder of the catalog; it appears whole or not at all.
        origin: where the samples come from, as JSON, for ``origin.json``: ``repository`` and ``revision``, or ``source``.
        progress: told of samples copied, and in all.

    Returns:
        The folders of the collections.

    Raises:
        CatalogError: the subset is empty, the folder holds something else or another copy, or the original cannot be read.
        BusyError: another process is at it.
    """
    if not len(subset):
        raise CatalogError("the subset has no samples: there is nothing to copy; widen the search")
    _require_names(subset)
    root = Path(root).absolute()
    note = _note(subset, origin)
    if _stands(root, note):
        return _folders(root, subset)
    partial = unfinished(root)
    _require_room(partial, note)
    with locked(partial / LOCK, doing=f"{root}: another copy into this folder"):
        if _stands(root, note):  # another process has made it meanwhile
            shutil.rmtree(partial)
            return _folders(root, subset)
        if root.is_dir() and any(root.iterdir()):  # a copy of ours that lost shards: they are made again
            _take_over(root, partial)
        write_json(partial / ORIGIN, note)
        _copy(subset, partial, note, progress)
        for folder in _folders(partial, subset):
            shutil.rmtree(folder / PARTS)
        write_catalog(partial)
        _require_equal(partial, subset)
        if root.exists():
            root.rmdir()
        (partial / LOCK).unlink()
        partial.rename(root)
    return _folders(root, subset)


def _require_names(subset: Subset) -> None:
    """See that the collections' names, which whoever made them chose, are those of folders below the copy's.

    Raises:
        CatalogError: one leads elsewhere.
    """
    for collection in subset.collections:
        if re.fullmatch(r"[^./\\\x00][^/\\\x00]*", collection.name) is None:
            raise CatalogError(
                f"{collection.place}: {collection.name!r} is no name for a folder, and so none for a collection: nothing is "
                "copied from there; do not trust it"
            )


def _require_equal(root: Path, subset: Subset) -> None:
    """See that what is copied is what was asked for: the same samples, with the same statistics.

    Raises:
        CatalogError: it is not.
    """
    found = open_catalog(root).search()
    if found.hash != subset.hash:
        raise CatalogError(
            f"{root}: holds other samples than were asked for ({found.hash[:12]}, not {subset.hash[:12]}): the original "
            "changed meanwhile; remove the folder, and copy again"
        )
    held = found.stats()
    if differing := [name for name, told in subset.stats().items() if held[name] != told]:
        raise CatalogError(
            f"{root}: statistics of the copy are not those of the original ({', '.join(differing)}): the original changed "
            "meanwhile; remove the folder, and copy again"
        )


def is_whole(root: Path) -> bool:
    """Whether a copy is there, with all its shards."""
    return (root / ORIGIN).is_file() and all(_has_shards(folder) for folder in _collections(root))


def unfinished(root: Path) -> Path:
    """The folder in which a copy is made, beside the one that it becomes."""
    return root.with_name(f"{root.name}.partial")


def copy_there(root: Path) -> dict[str, Any] | None:
    """The note of the copy at a place, whole or broken off; ``None`` where there is none."""
    for folder in (root, unfinished(root)):
        if (note := read_origin(folder)) is not None:
            return note
    return None


def _note(subset: Subset, origin: Mapping[str, Any]) -> dict[str, Any]:
    """``origin.json``: where it comes from, and which samples."""
    query = json.loads(json.dumps(subset.query, default=str))
    copied = {"subset_hash": subset.hash, "num_samples": len(subset), "query": query, "own_columns": sorted(subset.own)}
    return {"version": VERSION, **json.loads(json.dumps(dict(origin), default=str)), "copied": copied}


def _folders(root: Path, subset: Subset) -> list[Path]:
    return [root / collection.name for collection in subset.collections]


def _stands(root: Path, note: Mapping[str, Any]) -> bool:
    """Whether the copy is there, with all its shards.

    Raises:
        CatalogError: something else is.
    """
    if root.exists() and not root.is_dir():
        raise CatalogError(f"{root}: is no folder; name one that is not there yet, or is empty")
    if not root.is_dir() or not any(root.iterdir()):
        return False
    there = read_origin(root)
    if there is None:
        raise CatalogError(
            f"{root}: holds something else, and is left as it is; name a folder that is not there yet, or is empty"
        )
    if there != note:
        raise CatalogError(
            f"{root}: holds {told_copy(there)}, and not {told_copy(note)}; name another folder, or remove this one"
        )
    return is_whole(root)


def told_copy(note: Mapping[str, Any]) -> str:
    """What a copy's note says of it, in a few words."""
    copied = note.get("copied") or {}
    asked = {
        name: value
        for name, value in (note.get("asked") or copied.get("query") or {}).items()
        if value and name != "source"
    }
    what = f", asked for by {json.dumps(asked, ensure_ascii=False)}" if asked else ""
    return f"{copied.get('num_samples', 0):,} samples of {origin_words(note)}{what} ({str(copied.get('subset_hash'))[:12]})"


def _collections(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob("*/collection.json"))


def _has_shards(folder: Path) -> bool:
    """Whether every shard that the cube is to have is there, as long as its ledger says."""
    try:
        cube = Cube(folder / "cube.zarr")
        count = -(-cube.num_samples // cube.shard_size)
    except Exception:  # bytes can be wrong in more ways than zarr has errors for: then it is made again
        return False
    return all(_is_long_enough(folder, shard) for shard in range(count))


def _is_long_enough(folder: Path, shard: int) -> bool:
    path, ledger = shard_path(folder / "cube.zarr", shard), ledger_path(folder, shard)
    if not path.is_file() or not ledger.is_file():
        return False
    try:
        notes = pq.read_schema(ledger).metadata or {}
    except (pa.ArrowException, OSError):
        return False
    return notes.get(b"pwcat:shard_bytes") == str(path.stat().st_size).encode()


def _require_room(partial: Path, note: Mapping[str, Any]) -> None:
    """See that what is there of an unfinished copy is of this one.

    Raises:
        CatalogError: it is not.
    """
    if not partial.is_dir():
        partial.mkdir(parents=True)
        return
    there = read_origin(partial)
    if there is None and any(path.name != LOCK for path in partial.iterdir()):
        raise CatalogError(f"{partial}: holds something else, where the copy is to be made; move it away")
    if there is not None and there != note:
        raise CatalogError(
            f"{partial}: is what is there of {told_copy(there)}, and not of {told_copy(note)}; finish that by its own command, "
            "or remove the folder"
        )


def _take_over(root: Path, partial: Path) -> None:
    """Let a copy that lost some of its shards be one that is not finished."""
    for path in root.iterdir():
        path.rename(partial / path.name)


def _copy(subset: Subset, root: Path, note: Mapping[str, Any], progress: Progress) -> None:
    """Copy the collections, one after the other."""
    mark = sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()
    done = 0
    progress(done, len(subset))
    for collection, rows in subset.parts():
        job = CopyJob(
            part=subset.only(np.arange(rows.start, rows.stop)),
            folder=root / collection.name,
            spec=spec_of_copy(collection.cube, rows.stop - rows.start),
            mark=mark,
            codebooks=_codebooks(collection),
        )
        _begin(job, note)
        for step in job.steps():
            done += step.samples
            progress(done, len(subset))
        _finish(job, note)


def _codebooks(collection: Collection) -> dict[str, str]:
    told = (collection.stats.get("statistics") or {}).get("spectral_codebook") or {}
    return {collection.name: str(told["codebook"])} if told.get("codebook") else {}


def _begin(job: CopyJob, note: Mapping[str, Any]) -> None:
    """Write the empty store, and what is copied as it is."""
    folder, collection, cube = job.folder, job.collection, job.collection.cube
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    write_json(folder / ORIGIN, note)
    for name in ("recipe.yaml", CODEBOOK):
        if collection.place.has(name):
            with replacing(folder / name) as temporary:
                temporary.write_bytes(collection.place.read(name))
    sensors = [meaning for meaning in cube.meanings if meaning.sensor]
    create_cube(folder / "cube.zarr", job.spec, attributes=_attributes(collection), sensors=sensors)
    zarr.open_array(folder / "cube.zarr" / "chips", mode="r+").attrs.update(cube.chips_attrs)


def _attributes(collection: Collection) -> dict[str, Any]:
    """What the store says of itself: as the original; of a dataset added from elsewhere, as far as it is known."""
    known = {"title": collection.document.get("title"), "license": collection.document.get("license")}
    known["resolution_m"] = (collection.document.get("pwcat:chip") or {}).get("resolution_m")
    told = {name: value for name, value in known.items() if value is not None}
    return {**told, **collection.cube.attrs, "recipe_hash": collection.recipe_hash}


def _finish(job: CopyJob, note: Mapping[str, Any]) -> None:
    """Write what describes the samples, once all shards are there."""
    rows = pa.concat_tables([read_part(part) for part in job.parts], promote_options="default").combine_chunks()
    write_coordinates(job.folder / "cube.zarr", _coordinates(rows, job.spec.num_times))
    tally = sum_tallies(part_tally(part) for part in job.parts)
    if job.collection.place.has(ENTITIES):
        tally = tally + copy_entities(job)
    items = rows.drop_columns([name for name in (DATES, OFFSETS) if name in rows.column_names])
    facts = copied_facts(job.collection, job.folder, num_samples=len(items), source=_shown_source(note))
    write_collection(job.folder, items=items, tally=tally, metadata=facts)


def _shown_source(note: Mapping[str, Any]) -> str:
    """Where it comes from, in words that may be published with it: no path of this computer."""
    shown = note.get("repository") or "://" in str(note.get("source"))
    return origin_words(note) if shown else "another catalog"


def _coordinates(rows: pa.Table, num_times: int) -> dict[str, NDArray[Any]]:
    """Arrays that describe the samples, from their items and dates."""
    transform = np.array(rows["proj:transform"].combine_chunks().flatten(), dtype=np.float64).reshape(len(rows), -1)
    codes = pc.replace_substring(rows["proj:code"], "EPSG:", "").cast(pa.int32())
    centres = rows["proj:centroid"].combine_chunks()
    scenes = [[*(names or [])[:num_times]] for names in rows["pwcat:scene_ids"].to_pylist()]
    columns: dict[str, NDArray[Any]] = {
        "id": np.array([*rows["id"].to_pylist(), None], dtype=object)[:-1],
        "lon": pc.struct_field(centres, "lon").to_numpy(zero_copy_only=False),
        "lat": pc.struct_field(centres, "lat").to_numpy(zero_copy_only=False),
        "epsg": codes.to_numpy(),
        "x0": transform[:, 2].copy(),
        "y0": transform[:, 5].copy(),
        "datetime": _matrix(rows[DATES]),
        "scene_id": np.array([[*names, *[""] * (num_times - len(names))] for names in scenes], dtype=object),
        "valid_fraction": rows["div:valid_fraction"].to_numpy(),
    }
    return {**columns, "boa_offset": _matrix(rows[OFFSETS])} if OFFSETS in rows.column_names else columns


def _matrix(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.asarray(column.combine_chunks().flatten().to_numpy().reshape(len(column), -1))
