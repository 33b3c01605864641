"""Subsets as files: ids, query, statistics and hash; and whether their parents are still what they were."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.published.place import PublishedPlace
from catalog.published.publication import is_published
from catalog.querying.places import Folder
from catalog.querying.queryables import LAYERS
from catalog.subset import ROWS, SPLIT, Subset
from pwcat.atomic import replacing
from pwcat.errors import CatalogError, PwcatError

if TYPE_CHECKING:
    from catalog.query import Catalog, Collection

__all__ = ["read_notes", "read_subset", "save_subset"]

log = logging.getLogger(__name__)

NOTES = b"pwcat:subset"
VERSION = 2
MOST_NAMED = 3  # samples, or keys of a recipe, named in a message


def save_subset(subset: Subset, path: Path) -> Path:
    """Write a subset to a small Parquet file, whole or not at all.

    Args:
        subset: of one sample or more.
        path: the file; another subset's is replaced.

    Raises:
        CatalogError: there is no sample, or something else than a subset is at that path.
    """
    import pyarrow.parquet as pq

    _require_room(path)
    if not len(subset):
        raise CatalogError(f"{path}: there are no samples to save (query {subset.query})")
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "collection": subset.columns(["collection"])["collection"].dictionary_encode(),
        "id": subset.rows["id"],
        "pwcat:index": subset.columns(["pwcat:index"])["pwcat:index"],
        "pwcat:row": subset.rows["row"],
        **subset.own,
    }
    notes = {
        "version": VERSION,
        "hash": subset.hash,
        "query": subset.query,
        "collections": {c.name: _parent(c, path.parent) for c in subset.collections},
        "statistics": subset.stats(),
    }
    table = pa.table(columns).replace_schema_metadata({NOTES: json.dumps(notes, default=str)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return path


def _require_room(path: Path) -> None:
    """That nothing is lost when a file is written there: a slip of the pen would cost a dataset its items."""
    if path.is_dir():
        raise CatalogError(f"{path}: is a folder; name a file in it")
    if path.exists():
        try:
            read_notes(path)
        except CatalogError as exc:
            raise CatalogError(f"{path}: is there already and is no subset; take another name") from exc


def _parent(collection: Collection, start: Path) -> dict[str, Any]:
    """What a subset notes of a collection: where it is, and enough to say what has changed of it."""
    home = collection.place.base if isinstance(collection.place, PublishedPlace) else collection.place
    where = os.path.relpath(home.path, start.resolve()) if isinstance(home, Folder) else str(home)
    recipe = collection.recipe if collection.place.has("recipe.yaml") else None
    return {
        "place": where,
        "recipe_hash": collection.recipe_hash,
        "recipe": recipe,
        "num_samples": collection.items.num_rows,
        "items": collection.items.digest,
    }


def read_notes(path: Path) -> dict[str, Any]:
    """What a saved subset says of itself: query, hash, statistics, and the collections it is of.

    Raises:
        CatalogError: it is no subset.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    import pyarrow.parquet as pq

    if not path.is_file():
        raise CatalogError(f"{path}: not a saved subset: there is no such file")
    try:
        saved = pq.read_table(path)
        notes = dict(json.loads((saved.schema.metadata or {})[NOTES]))
        if "collections" not in notes:  # of version 1
            places = {name: os.path.join(notes["catalog"], name) for name in notes["recipe_hashes"]}  # noqa: PTH118
            notes["collections"] = {
                name: {"place": places[name], "recipe_hash": found} for name, found in notes["recipe_hashes"].items()
            }
        _ = saved["collection"], saved["id"], notes["hash"]
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as exc:
        first = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise CatalogError(f"{path}: not a saved subset: {first}") from exc
    if int(notes.get("version", 1)) > VERSION:
        raise CatalogError(
            f"{path}: a subset of version {notes['version']}; this pwcat reads up to {VERSION}: upgrade it"
        )
    if not len(saved):
        raise CatalogError(f"{path}: this subset holds no samples")
    return saved, notes


def read_subset(path: Path) -> Subset:
    """A saved subset, checked against its parents: that their recipes are the same, and all samples are there.

    Where a parent's items were not written since, nothing of them is read. Else samples are found again by their ids, and what
    has changed of their labels is logged as a warning.

    Raises:
        CatalogError: it is no subset, or its parents have changed; says how.
    """
    saved, notes = _read(path)
    members = {name: _open(path, name, parent) for name, parent in sorted(notes["collections"].items())}
    then, now = [], []
    for number, (name, member) in enumerate(members.items()):
        parent = notes["collections"][name]
        _require_recipe(path, member, parent)
        mine = saved.filter(pc.equal(saved["collection"].cast(pa.string()), name))
        mine = mine.append_column("part", pa.repeat(number, len(mine)).cast("int32"))
        then.append(mine.append_column("row", pa.array(np.arange(len(mine)))))
        now.append(_located(path, member, mine, parent))
    subset = _subset(members, now, notes)
    if subset.hash != notes["hash"]:
        if _subset(members, then, notes).hash != notes["hash"]:
            raise CatalogError(f"{path}: its samples are not those that its hash was made of: the file was changed")
        log.warning(
            "%s: items of %s are in another order than when it was saved: its samples are the same, its hash is %s now",
            path, ", ".join(_written_anew(subset, notes)), subset.hash[:12],
        )  # fmt: skip
    _warn_of_labels(path, subset, notes)
    return subset


def _subset(members: Mapping[str, Collection], parts: list[pa.Table], notes: Mapping[str, Any]) -> Subset:
    kept = [*ROWS.names, *(name for name in (SPLIT,) if name in parts[0].column_names)]
    rows = pa.concat_tables([part.select(kept) for part in parts])
    own = {SPLIT: rows[SPLIT]} if SPLIT in kept else {}
    return Subset(members=members, rows=rows.select(ROWS.names).cast(ROWS), query=notes.get("query", {}), own=own)


def _open(path: Path, name: str, parent: Mapping[str, Any]) -> Collection:
    from catalog.query import open_catalog

    where = str(parent["place"])
    if "://" in where:
        return _member(open_catalog(where), name)
    folder = Path(os.path.normpath(path.parent.resolve() / where))
    if not (folder / "collection.json").is_file() and (folder.parent / "collection.json").is_file():
        folder = folder.parent  # a collection that was opened alone, as version 1 notes it
    if (folder / "collection.json").is_file() or is_published(Folder(folder)):
        return _member(open_catalog(folder), name)
    try:
        return open_catalog(folder.parent).collection(name)
    except CatalogError as exc:
        raise CatalogError(f"{path}: its collection {name!r} is not at {folder}: {exc}") from exc


def _member(opened: Catalog, name: str) -> Collection:
    """A collection by its name; or the one there is, whose folder may have another name by now."""
    return opened.members[name] if name in opened.members else next(iter(opened.members.values()))


def _require_recipe(path: Path, member: Collection, parent: Mapping[str, Any]) -> None:
    if member.recipe_hash == parent["recipe_hash"]:
        return
    then, now = str(parent["recipe_hash"])[:12], member.recipe_hash[:12]
    raise CatalogError(
        f"{path}: collection {member.name!r} was made from another recipe since ({now}, not {then})"
        f"{_recipe_changes(member, parent.get('recipe'))}; search again, or restore the collection"
    )


def _recipe_changes(member: Collection, then: Mapping[str, Any] | None) -> str:
    """Which keys of the recipe are other than they were, in words."""
    try:
        old, new = dict(_leaves(then or {})), dict(_leaves(member.recipe))
    except (PwcatError, ValueError):
        return ""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if not then or not keys:
        return ""
    told = [f"{key} was {old.get(key, 'absent')!s:.40}, is {new.get(key, 'absent')!s:.40}" for key in keys[:MOST_NAMED]]
    more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    return f": {'; '.join(told)}{more}"


def _leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, node


def _located(path: Path, member: Collection, saved: pa.Table, parent: Mapping[str, Any]) -> pa.Table:
    """The saved samples with their rows among the items of today, ascending.

    Raises:
        CatalogError: some are not there any more.
    """
    if "pwcat:row" in saved.column_names and parent.get("items") == member.items.digest:
        return saved.rename_columns(["row" if name == "pwcat:row" else name for name in saved.column_names])
    found = member.engine.table(
        f"SELECT file_row_number AS row, id FROM {member.items.source} WHERE id IN (SELECT id FROM wanted)",  # noqa: S608
        wanted=saved.select(["id"]),
    )
    if len(found) != len(saved):
        raise CatalogError(
            f"{path}: {_what_is_gone(member, saved, found, parent)}; search again, or restore the collection"
        )
    place = pc.index_in(found["id"], saved["id"].combine_chunks())
    table = saved.select([name for name in saved.column_names if name != "pwcat:row"]).take(place)
    order = pa.array(np.argsort(found["row"].to_numpy(), kind="stable"))
    return table.append_column("row", found["row"]).take(order)


def _what_is_gone(member: Collection, saved: pa.Table, found: pa.Table, parent: Mapping[str, Any]) -> str:
    gone = saved.filter(pc.invert(pc.is_in(saved["id"], found["id"].combine_chunks())))["id"].to_pylist()
    named = ", ".join(gone[:MOST_NAMED]) + (", …" if len(gone) > MOST_NAMED else "")
    then = (
        f"; collection {member.name!r} had {parent['num_samples']:,} samples then, " if "num_samples" in parent else ""
    )
    now = f"and has {member.items.num_rows:,} now" if then else ""
    return f"{len(saved):,} samples were saved, {len(found):,} of them are there now (gone: {named}){then}{now}"


def _warn_of_labels(path: Path, subset: Subset, notes: Mapping[str, Any]) -> None:
    """Say which labels are other than they were; asked only where a parent's items were written anew."""
    changed = _written_anew(subset, notes)
    if not changed:
        return
    told = []
    for layer in LAYERS:
        then = (notes.get("statistics", {}).get(layer) or {}).get("counts")
        column = subset.columns([f"div:{layer}"])[f"div:{layer}"].drop_null()
        now = {entry["values"].as_py(): entry["counts"].as_py() for entry in column.value_counts()}
        if then is not None and then != now:
            told.append(layer)
    if told:
        log.warning(
            "%s: labels of %s have changed since it was saved, in %s", path, ", ".join(told), ", ".join(changed)
        )


def _written_anew(subset: Subset, notes: Mapping[str, Any]) -> list[str]:
    """Names of the collections whose items were written since."""
    return [
        c.name for c in subset.collections if notes["collections"][c.name].get("items", "") not in ("", c.items.digest)
    ]
