"""Scenes: asking a STAC API, and freezing the answer.

There may be a million of them, so that a scene is slim: what choosing needs; its item is read when it is asked for.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
import stac_geoparquet.arrow
from numpy.typing import NDArray

from pwcat.errors import SourceError
from pwcat.providers import OpenSource
from pwcat.recipe import When
from pwcat.search import Answer, Shelf, find_items, require_collection

__all__ = ["Scene", "frozen_items", "read_scenes", "search_scenes", "write_scenes"]

log = logging.getLogger(__name__)

# Scenes a row group of a frozen answer: 25 MB as columns, 200 MB as they are made from items.
GROUP = 2048
# Items at a time as they are made from columns.
ITEMS_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One STAC item that can be cut into chips.

    Attributes:
        item: the STAC item, hrefs frozen; a dict, or one that is read from the disk each time it is looked into.
        epsg: projected CRS of the pixel grid.
        left: easting of the grid's upper-left corner, metres.
        top: northing of it.
        width_m: extent to the east.
        height_m: extent to the south.
        footprint: where it has data, EPSG:4326.
    """

    item: Mapping[str, Any]
    id: str
    time: datetime
    cloud_cover: float
    epsg: int
    left: float
    top: float
    width_m: float
    height_m: float
    footprint: shapely.Geometry

    @classmethod
    def from_item(cls, item: Mapping[str, Any], *, source: OpenSource, bands: Sequence[str]) -> Scene:
        """A scene from a STAC item of any version.

        Raises:
            SourceError: the item lacks a band, a date, or a pixel grid in a projected CRS.
        """
        properties, assets = item.get("properties") or {}, item.get("assets") or {}
        keys = [source.band_asset(band, assets) for band in bands]
        epsg, transform, shape = _finest_grid(item, keys)
        when = properties.get("datetime") or properties.get("start_datetime")
        if when is None or item.get("geometry") is None:
            raise SourceError("it has no datetime" if when is None else "it has no geometry")
        return cls(
            item=item,
            id=item["id"],
            time=datetime.fromisoformat(when).astimezone(UTC),
            cloud_cover=float(properties.get("eo:cloud_cover") or 0.0),
            epsg=epsg,
            left=float(transform[2]),
            top=float(transform[5]),
            width_m=float(transform[0] * shape[1]),
            height_m=float(-transform[4] * shape[0]),
            footprint=shapely.geometry.shape(item["geometry"]),
        )


def _finest_grid(item: Mapping[str, Any], keys: Sequence[str]) -> tuple[int, list[float], list[int]]:
    """EPSG code, affine transform and shape of the finest of the assets; the item's own fields where assets say none."""
    grids = []
    for key in keys:
        fields = {**(item.get("properties") or {}), **item["assets"][key]}
        if fields.get("proj:transform") and fields.get("proj:shape"):
            grids.append((fields["proj:transform"], fields["proj:shape"], fields))
    if not grids:
        raise SourceError("it says no pixel grid (proj:transform and proj:shape)")
    transform, shape, fields = min(grids, key=lambda grid: abs(grid[0][0]))
    code = str(fields.get("proj:code") or fields.get("proj:epsg") or "")
    epsg = code.upper().removeprefix("EPSG:")
    if not epsg.isdigit() or epsg == "4326":
        raise SourceError(f"its pixel grid is in {code or 'no CRS'}: chips are cut from projected grids in metres")
    if transform[1] or transform[3]:
        raise SourceError("its pixel grid is rotated")
    return int(epsg), list(transform), list(shape)


def search_scenes(
    source: OpenSource,
    when: When,
    *,
    bands: Sequence[str],
    sites: NDArray[np.float64] | None = None,
    folder: Path | None = None,
    progress: Callable[[Answer], None] | None = None,
    shelf: Shelf | None = None,
    known: Callable[[str], Scene | None] = lambda _: None,
) -> list[Scene]:
    """Scenes of the collection in the span and under the cloud limit, by id, each once.

    Items that cannot be cut into chips are left out; the most frequent reasons are logged with their counts.

    Args:
        source: the open source.
        when: span and cloud limit.
        bands: that a scene must have.
        sites: ``(n, 2)`` longitudes and latitudes that a scene must hold one of; all of the collection where ``None``.
        folder: where pages are kept, so that a search that breaks goes on at its page; to be removed with the answer frozen.
        progress: called after each page.
        shelf: for the items, so that several searches share one; by default a new one on the folder's disk.
        known: the scene of that id where an earlier search of the same kind found it; it is taken as it was.

    Raises:
        SourceError: the API does not answer, or refuses, or has no such collection; or a band's address is of this computer
            or its network, and that is not allowed.
        OSError: the disk that pages and items are kept on is full.
    """
    span = f"{when.start.isoformat()}T00:00:00Z/{when.end.isoformat()}T23:59:59Z"
    scenes: list[Scene] = []
    left_out: Counter[str] = Counter()
    answer, shelf = Answer(), shelf or Shelf(folder)
    for item in find_items(source, datetime=span, sites=sites, folder=folder, answer=answer, progress=progress):
        if (scene := known(item["id"])) is not None:
            scenes.append(scene)
            continue
        try:
            scene = Scene.from_item(item, source=source, bands=bands)
            if when.max_chip_cloud is not None:
                source.quality_asset(scene.item["assets"])
        except SourceError as exc:
            log.info("scene %s is left out: %s", item.get("id"), exc)
            left_out[str(exc)] += 1
            continue
        if scene.cloud_cover <= when.max_cloud_cover:
            _check_addresses(scene, source, bands)
            scenes.append(replace(scene, item=shelf.put(item)))
    if not answer.items:
        require_collection(source)  # most APIs find nothing in a collection that they do not have
    for reason, count in left_out.most_common(3):
        log.warning("%d scene(s) of %s are left out: %s", count, source.collection, reason)
    return sorted(scenes, key=lambda scene: scene.id)


def _check_addresses(scene: Scene, source: OpenSource, bands: Sequence[str]) -> None:
    """Refuse a scene whose files are of this computer. Names of hosts are resolved when the files are read."""
    assets = scene.item["assets"]
    for key in {source.band_asset(band, assets) for band in bands}:
        try:
            source.check(assets[key]["href"], resolve=False)
        except SourceError as exc:
            raise SourceError(f"scene {scene.id} of {source.provider}: {exc}") from exc


def write_scenes(path: Path, scenes: Iterable[Scene]) -> None:
    """Freeze scenes to STAC GeoParquet, in row groups of :data:`GROUP`; memory is a group's.

    Raises:
        SourceError: items contradict each other about what kind of value a field has.
    """
    left = iter(scenes)
    groups = iter(lambda: [dict(scene.item) for scene in islice(left, GROUP)], [])
    tables = map(_as_table, groups)
    try:
        first, second = next(tables, None), next(tables, None)
        if first is None or second is None:
            stac_geoparquet.arrow.to_parquet(first or _as_table([]), path, write_page_checksum=True)
        else:
            _write_groups(path, chain([first, second], tables))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as exc:
        raise SourceError(f"{path.name}: the scenes' items do not agree on the type of a field: {exc}") from exc


def _as_table(items: list[dict[str, Any]]) -> pa.Table:
    return stac_geoparquet.arrow.parse_stac_items_to_arrow(items).read_all()


def _write_groups(path: Path, groups: Iterable[pa.Table]) -> None:
    """Write tables whose columns may differ, a row group each: which columns there are in all is known after the last."""
    packing = pa.ipc.IpcWriteOptions(compression="zstd")
    schema, count = pa.schema([]), 0
    with tempfile.TemporaryFile(dir=path.parent) as kept:
        for table in groups:
            with pa.ipc.new_stream(kept, table.schema, options=packing) as stream:
                stream.write_table(table)
            schema = pa.unify_schemas([schema, table.schema], promote_options="permissive") if count else table.schema
            count += 1
        kept.seek(0)
        tables = (pa.ipc.open_stream(kept).read_all() for _ in range(count))
        batches = (_widened(table, schema) for table in tables)
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        stac_geoparquet.arrow.to_parquet(reader, path, compression="zstd", write_page_checksum=True)


def _widened(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """A table with all columns, and all fields in them, of a schema: nulls where it had none."""
    whole = pa.concat_tables([schema.empty_table(), table], promote_options="permissive")
    (batch,) = whole.combine_chunks().to_batches()
    return batch


def frozen_items(path: Path, *, ids: Iterable[str] | None = None) -> Iterator[dict[str, Any]]:
    """Items of a frozen answer, in its order; only those of ``ids`` where given, from the row groups that hold any.

    Raises:
        pa.ArrowInvalid, OSError: it cannot be read.
    """
    wanted = None if ids is None else pa.array(list(ids), pa.string())
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for number in range(file.num_row_groups):
            mask = None
            if wanted is not None:
                mask = pc.is_in(file.read_row_group(number, columns=["id"])["id"], value_set=wanted).combine_chunks()
                if not mask.true_count:
                    continue
            start = 0
            for batch in file.iter_batches(batch_size=ITEMS_AT_ONCE, row_groups=[number]):
                part = batch if mask is None else batch.filter(mask.slice(start, len(batch)))
                start += len(batch)
                yield from stac_geoparquet.arrow.stac_table_to_items(pa.Table.from_batches([part]))


def read_scenes(
    path: Path, *, source: OpenSource, bands: Sequence[str], ids: Iterable[str] | None = None
) -> list[Scene]:
    """Scenes of a frozen answer, in its order; only those of ``ids`` where given."""
    shelf = Shelf()
    scenes = ((item, Scene.from_item(item, source=source, bands=bands)) for item in frozen_items(path, ids=ids))
    return [replace(scene, item=shelf.put(item)) for item, scene in scenes]
