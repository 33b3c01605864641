"""What workers are told: of the plan, the rows of one shard and the scenes that these name, cut down to what reading needs."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import stac_geoparquet.arrow

from pwcat.building.sensing import SensorPack
from pwcat.building.shards import ShardTask
from pwcat.cube import CubeSpec
from pwcat.errors import PwcatError
from pwcat.plan import FrozenPlan
from pwcat.providers import OpenSource
from pwcat.scenes import Scene

__all__ = ["ScenePack", "assign_shard", "names_in", "shard_rows"]

# Of an item and of its assets: where the pixels are, what they mean, and what else another source knows the scene by.
ITEM_FIELDS = ("type", "stac_version", "stac_extensions", "id", "collection", "geometry", "bbox", "properties")
ASSET_FIELDS = ("href", "type", "roles", "gsd", "nodata", "data_type", "scale", "offset", "bands")
ASSET_PREFIXES = ("proj:", "raster:", "eo:", "file:size")

# Reads at a time in each shard: enough to hide an API's latency.
READ_THREADS = 8

ITEMS_AT_ONCE = 200
# Of the plan; the last where dates are medians of several scenes.
ROW_FIELDS = ("id", "scene_ids", "x0", "y0", "composite_ids")


class ScenePack:
    """The scenes of a plan, those of its reserve included: about a kilobyte each, unpacked when they are asked for."""

    def __init__(self, folder: Path, *, source: OpenSource, bands: Sequence[str]) -> None:
        """Read them.

        Args:
            folder: of the plan.
            source: of the plan.
            bands: that chips are cut from.

        Raises:
            PwcatError: they cannot be read.
        """
        self._folder, self._source, self._bands = folder, source, bands
        self._packed: dict[str, bytes] = {}
        for item in _items(folder / "scenes.parquet"):
            cut = cut_item(item, source, bands)
            self._packed[item["id"]] = zlib.compress(json.dumps(cut).encode(), level=1)

    def of(self, ids: Iterable[str]) -> dict[str, Scene]:
        """Some of the scenes, by id.

        Raises:
            PwcatError: one is not there.
        """
        return {name: self.one(name) for name in dict.fromkeys(ids)}

    def one(self, name: str) -> Scene:
        """One of the scenes, by id.

        Raises:
            PwcatError: it is not there.
        """
        if name not in self._packed:
            raise PwcatError(
                f"{self._folder}: the plan names scene {name}, which is not among its scenes; remove the folder and plan again"
            )
        item = json.loads(zlib.decompress(self._packed[name]))
        return Scene.from_item(item, source=self._source, bands=self._bands)


def _items(path: Path) -> Iterator[dict[str, Any]]:
    """The items of a frozen answer, some at a time."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(ITEMS_AT_ONCE, use_threads=False):
                yield from stac_geoparquet.arrow.stac_table_to_items(pa.Table.from_batches([batch]))
    except (pa.ArrowInvalid, OSError) as exc:
        raise PwcatError(
            f"{path}: cannot be read ({exc}); remove it, and the same command asks for its scenes again"
        ) from exc


def cut_item(item: Mapping[str, Any], source: OpenSource, bands: Sequence[str]) -> dict[str, Any]:
    """An item with the assets of some bands and the quality band alone, each without what nobody reads."""
    assets = item["assets"]
    keys = {source.band_asset(band, assets) for band in bands}
    quality = source.record.quality
    if quality is not None and quality.asset in assets:
        keys.add(quality.asset)
    kept = {
        key: {
            name: value
            for name, value in assets[key].items()
            if name in ASSET_FIELDS or name.startswith(ASSET_PREFIXES)
        }
        for key in sorted(keys)
    }
    return {**{name: item[name] for name in ITEM_FIELDS if name in item}, "assets": kept, "links": []}


def shard_rows(plan: FrozenPlan, shard: int, spec: CubeSpec) -> pa.Table:
    """What is read for the samples of a shard: ids, scenes and corners."""
    rows = plan.table.slice(shard * spec.shard_size, spec.shard_size)
    return rows.select([name for name in ROW_FIELDS if name in rows.column_names])


def names_in(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Ids of all scenes that rows of a plan name."""
    for row in rows:
        yield from row["scene_ids"]
        for names in row.get("composite_ids") or ():
            yield from names


def assign_shard(
    plan: FrozenPlan,
    shard: int,
    *,
    spec: CubeSpec,
    scenes: ScenePack,
    source: OpenSource,
    plan_hash: str,
    last: Mapping[str, int] = MappingProxyType({}),
    sensors: SensorPack | None = None,
    **settings: Any,
) -> ShardTask:
    """The task of one shard.

    Args:
        plan: replacements put in.
        shard: its number.
        spec: of the cube.
        scenes: of the plan.
        source: of the plan.
        plan_hash: of the plan's bytes.
        last: the last shard that wants each scene, of :func:`~pwcat.building.coming.last_shards`.
        sensors: of the plan, where the recipe has any.
        settings: further fields of the task, the same for every shard of a build.
    """
    rows = shard_rows(plan, shard, spec).to_pylist()
    named = scenes.of(names_in(rows))
    return ShardTask(
        folder=plan.folder.resolve(),
        spec=spec,
        shard=shard,
        rows=rows,
        scenes=named,
        last={name: last[name] for name in named if name in last},
        chip=plan.recipe.chip,
        source=source,
        plan_hash=plan_hash,
        threads=READ_THREADS,
        sensors=() if sensors is None else sensors.of([row["id"] for row in rows], spec.num_times),
        **settings,
    )
