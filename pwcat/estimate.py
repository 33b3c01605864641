"""What a plan will cost, before a pixel is read: counts, requests, bytes and hours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pwcat.plan import shard_size
from pwcat.recipe import Recipe
from pwcat.scenes import Scene

__all__ = ["Estimate", "estimate_plan"]

# Assumed where the files have not been asked yet: internal tiles of 512 pixels (Planetary Computer's; Earth Search's have
# 1024), deflate to 0.65 of the size, and 30 ms a request with 16 in flight.
TILE_PX = 512
COMPRESSED = 0.65
LATENCY_S = 0.03
IN_FLIGHT = 16


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Counts and costs of a plan.

    Attributes:
        samples: in all.
        splits: samples by split.
        cells: samples by continent, biome and land cover, the most frequent first.
        scenes: how many are read.
        shards: of the cube.
        requests: range requests, one for each file's header and one for each tile.
        download_bytes: of the tiles, compressed.
        cube_bytes: of the chips, uncompressed.
        hours: at the stated rate.
        rate_mb_s: megabytes a second that the hours are for.
    """

    samples: int
    splits: dict[str, int]
    cells: list[tuple[str | None, str | None, str | None, int]]
    scenes: int
    shards: int
    requests: int
    download_bytes: int
    cube_bytes: int
    hours: float
    rate_mb_s: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)


def estimate_plan(recipe: Recipe, table: pa.Table, scenes: Sequence[Scene], *, rate_mb_s: float = 20.0) -> Estimate:
    """The estimate of a plan; tiles that several shards need are counted once for each shard, as they are read.

    Args:
        recipe: of the plan.
        table: of the plan.
        scenes: of the plan.
        rate_mb_s: what the connection carries, megabytes a second.
    """
    chip = recipe.chip
    cells = Counter(zip(*(table[name].to_pylist() for name in ("continent", "biome", "landcover")), strict=True))
    requests, download = 0, 0.0
    gsds = {scene.id: _gsds(scene, chip.bands, chip.resolution_m) for scene in scenes}
    for scene_id, rows in _rows_by_shard_and_scene(table):
        for gsd, bands in Counter(gsds[scene_id]).items():
            tiles = _tiles(rows, chip.size_px * chip.resolution_m, TILE_PX * gsd)
            requests += bands * (1 + tiles)
            download += bands * tiles * TILE_PX**2 * 2 * COMPRESSED
    times = len(table["scene_ids"][0])
    seconds = download / (rate_mb_s * 1e6) + requests * LATENCY_S / IN_FLIGHT
    return Estimate(
        samples=len(table),
        splits=dict(Counter(table["split"].to_pylist())),
        cells=[(*cell, count) for cell, count in sorted(cells.items(), key=lambda item: (-item[1], str(item[0])))],
        scenes=len(scenes),
        shards=-(-len(table) // shard_size(recipe)),
        requests=requests,
        download_bytes=round(download),
        cube_bytes=len(table) * times * len(chip.bands) * chip.size_px**2 * 2,
        hours=seconds / 3600,
        rate_mb_s=rate_mb_s,
    )


def _gsds(scene: Scene, bands: Sequence[str], finest: float) -> list[float]:
    """Ground sampling of the bands' files, metres; the chip's own where an item does not say."""
    assets: Mapping[str, Any] = scene.item["assets"]
    transforms = [assets.get(band, {}).get("proj:transform") for band in bands]
    return [abs(transform[0]) if transform else finest for transform in transforms]


def _rows_by_shard_and_scene(table: pa.Table) -> list[tuple[str, np.ndarray[Any, Any]]]:
    wanted: dict[tuple[int, str], list[tuple[float, float]]] = {}
    columns = (table[name].to_pylist() for name in ("shard", "scene_ids", "x0", "y0"))
    for shard, scene_ids, x0, y0 in zip(*columns, strict=True):
        for scene_id in scene_ids:
            wanted.setdefault((shard, scene_id), []).append((x0, y0))
    return [(scene_id, np.array(corners)) for (_, scene_id), corners in wanted.items()]


def _tiles(corners: np.ndarray[Any, Any], side: float, tile: float) -> int:
    """How many tiles of a grid the chips touch; the grid is taken to start at a multiple of the tile's side."""
    touched = set()
    for x0, y0 in corners:
        for column in range(int(x0 // tile), int((x0 + side - 1e-6) // tile) + 1):
            for row in range(int(-y0 // tile), int((side - y0 - 1e-6) // tile) + 1):
                touched.add((column, row))
    return len(touched)
