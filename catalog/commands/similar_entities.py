"""``pwcat similar`` of a file of embeddings of map entities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from catalog.commands.asking import shown_place
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.entities import EntityFile

__all__ = ["read_vectors", "require_no_more", "show_entities"]

MAIN_KEYS = (  # that say what an entity is, the first that it has
    "building", "highway", "railway", "waterway", "amenity", "shop", "leisure", "landuse", "natural", "tourism", "barrier",
    "power", "man_made", "aeroway", "place", "boundary",
)  # fmt: skip
TAGS_WIDTH = 24


def require_no_more(**options: Any) -> None:
    """Raise a usage error where options are given that are of samples."""
    flags = {"filter_": "filter", "collections": "collection", "ids": "id"}
    if given := [f"--{flags.get(name, name).replace('_', '-')}" for name, value in options.items() if value]:
        raise click.UsageError(
            f"{', '.join(given)}: of samples, and these are map entities; --like, --limit, --other-tiles, --same-kind and "
            "--json are for them"
        )


def show_entities(
    path: str, like: tuple[str, ...], *, limit: int, other_tiles: bool, same_kind: bool, as_json: bool
) -> None:
    """Find the entities of a file that are most like some, and say which."""
    from catalog.entities import EntityFile, nearest_entities

    file = EntityFile(path)
    told, wanted = _like(file, like)
    found = nearest_entities(file, wanted, limit=limit, other_tiles=other_tiles, same_kind=same_kind).to_list()
    if as_json:
        click.echo(json.dumps({"file": path, "like": told, "entities": found}, indent=2, ensure_ascii=False))
        return
    for one in told:
        click.echo(
            f"Like {one['vectors']:,} vectors of {one['file']}" if "file" in one else f"Like {_name(one)}: {_said(one)}"
        )
    _show(found, file)


def _like(file: EntityFile, like: tuple[str, ...]) -> tuple[list[dict[str, Any]], tuple[str, ...] | np.ndarray]:
    if any(text.endswith(".npy") for text in like):
        if len(like) > 1:
            raise CatalogError("--like: a file of vectors is asked for alone; stack several into one file")
        vectors = read_vectors(Path(like[0]))
        return [{"file": like[0], "vectors": len(np.atleast_2d(vectors))}], vectors
    return [{**file.about(rows[:1])[0], "pieces": len(rows)} for rows in map(file.rows_of, like)], like


def _name(one: dict[str, Any]) -> str:
    return f"{one['osm_type']}/{one['osm_id']}"


def _said(one: dict[str, Any]) -> str:
    """An entity's kind, tags and tile in a line."""
    pieces = f", {one['pieces']:,} pieces" if one["pieces"] > 1 else ""
    return f"{one['kind']}, {_named(one['tags'])}, tile {one['tile']} of {one['collection']}{pieces}"


def _named(tags: dict[str, str]) -> str:
    return ", ".join(filter(None, (main_tag(tags), tags.get("name"))))


def main_tag(tags: dict[str, str]) -> str:
    """The tag that says what an entity is; the first there is where none of the usual ones is."""
    key = next((key for key in MAIN_KEYS if key in tags), next(iter(tags), ""))
    return f"{key}={tags[key]}" if key else ""


def _show(found: list[dict[str, Any]], file: EntityFile) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    if not found:
        click.echo(f"No other entity of {file.path} that was asked for has a vector")
        return
    title = f"The {len(found):,} most similar: {file.meaning}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("Entity", "Similarity", "Kind", "Tag, name", "Tile"):
        table.add_column(heading, justify="right" if heading == "Similarity" else "left", no_wrap=True)
    for one in found:
        table.add_row(
            _name(one),
            f"{one['similarity']:.6f}",
            one["kind"],
            shown_place(_named(one["tags"]), TAGS_WIDTH),
            one["tile"],
        )
    Console().print(table)


def read_vectors(path: Path) -> np.ndarray:
    """The vectors of an ``.npy`` file.

    Raises:
        CatalogError: it holds none.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as exc:
        raise CatalogError(f"--like {path}: no array of numbers that NumPy saved ({exc})") from exc
    if not isinstance(found, np.ndarray):
        raise CatalogError(f"--like {path}: holds several arrays; one of (D,) or (M, D) numbers is wanted")
    return found
