"""Scenes of a plan whose file was lost or damaged: kept as far as they can be, and asked for again by their ids.

The file's SHA-256 is noted beside the ledgers, for this computer alone: the plan cannot hold it, since what is asked for again
may have other bytes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pwcat.atomic import replacing
from pwcat.building.ledger import digest_of
from pwcat.errors import PwcatError, SourceError
from pwcat.providers import OpenSource
from pwcat.scenes import Scene, frozen_items, write_scenes
from pwcat.search import items_by_id

__all__ = ["note_digest", "noted_digest", "recover_scenes", "scenes_named"]

log = logging.getLogger(__name__)


def scenes_named(*tables: pa.Table) -> set[str]:
    """Ids of all scenes that tables of a plan name."""
    named: set[str] = set()
    for table in tables:
        named.update(pc.unique(pc.list_flatten(table["scene_ids"])).to_pylist())
        if "composite_ids" in table.column_names:
            named.update(pc.unique(pc.list_flatten(pc.list_flatten(table["composite_ids"]))).to_pylist())
    return named


def recover_scenes(path: Path, named: Iterable[str], *, source: OpenSource, bands: Iterable[str]) -> None:
    """Ask again for scenes that a plan names and its ``scenes.parquet`` has not, or not so that they can be read.

    Nothing is asked where all are there, in a file that is as it was noted.

    Args:
        path: of the frozen scenes.
        named: ids that must be among them.
        source: the plan's, open.
        bands: that chips are cut from.

    Raises:
        SourceError: the source does not answer, or has some of them no more.
    """
    wanted, noted = set(named), noted_digest(path)
    is_same = noted is None or (path.is_file() and digest_of(path) == noted)
    missing = sorted(wanted - _ids_in(path)) if is_same else sorted(wanted)
    if not missing:
        if noted is None and wanted:
            note_digest(path)
        return
    log.warning("%s: %d of %d scenes are not there, and are asked for again by id", path, len(missing), len(wanted))
    kept = [] if len(missing) == len(wanted) else _readable(path)
    if not kept:
        missing = sorted(wanted)
    scenes = [_scene(item, source, list(bands)) for item in (*kept, *items_by_id(source, missing))]
    if lost := sorted(wanted - {scene.id for scene in scenes}):
        raise SourceError(
            f"{path}: {len(lost):,} of {len(wanted):,} scenes that the plan names are neither there nor at {source.provider} "
            f"({source.collection}) any more: {', '.join(lost[:3])}. Put the file back; without it, what is made stays as it "
            "is, but no sample can be read again"
        )
    with replacing(path) as temporary:
        write_scenes(temporary, sorted(scenes, key=lambda scene: scene.id))
    note_digest(path)


def note_digest(path: Path) -> None:
    """Note what a plan's ``scenes.parquet`` is; where nothing can be written, nothing is noted."""
    note = _note_path(path)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        with replacing(note) as temporary:
            temporary.write_text(json.dumps({"sha256": digest_of(path)}) + "\n", encoding="utf-8")


def noted_digest(path: Path) -> str | None:
    """SHA-256 that was noted of a plan's ``scenes.parquet``; ``None`` where there is no note."""
    try:
        return str(json.loads(_note_path(path).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note_path(path: Path) -> Path:
    return path.parent / "ledger" / "_scenes.json"


def _scene(item: dict[str, Any], source: OpenSource, bands: list[str]) -> Scene:
    try:
        return Scene.from_item(item, source=source, bands=bands)
    except PwcatError as exc:
        raise SourceError(f"scene {item.get('id')} of {source.provider} is not what it was: {exc}") from exc


def _ids_in(path: Path) -> set[str]:
    try:
        return set(pq.read_table(path, columns=["id"])["id"].to_pylist())
    except (pa.ArrowException, OSError, KeyError):
        return set()


def _readable(path: Path) -> list[dict[str, Any]]:
    """All items of the file; none where one of them cannot be read."""
    try:
        return list(frozen_items(path))
    except (pa.ArrowException, OSError):
        return []
