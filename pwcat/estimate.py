"""What a plan will cost, before a pixel is read: counts, requests, bytes and hours."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from pwcat.plan import shard_size
from pwcat.providers import PROVIDERS
from pwcat.recipe import Recipe
from pwcat.scenes import Scene

__all__ = ["Estimate", "estimate_plan"]

# Assumed where the files have not been asked yet: internal tiles of 512 pixels (Planetary Computer's; Earth Search's have
# 1024), deflate to 0.65 of the size, overviews of a third more, and 30 ms a request with 16 in flight.
TILE_PX = 512
COMPRESSED = 0.65
OVERVIEWS = 4 / 3
LATENCY_S = 0.03
IN_FLIGHT = 16

# How GDAL reads, as the reader sets it up: a HEAD and this much of its start for each file, and a cache of what was read
# (CPL_VSIL_CURL_CACHE_SIZE, its default) that spares a tile which a neighbouring shard has just read.
HEADER_BYTES = 32_768
CACHE_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Counts and costs of a plan.

    Attributes:
        samples: in all.
        splits: samples by split.
        cells: samples by continent, biome and land cover, the most frequent first.
        scenes: how many are read.
        shards: of the cube.
        requests: two for each file, one for each tile.
        download_bytes: of the files' headers and the tiles, compressed.
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
    """The estimate of a plan; a tile that several shards need is counted again where the cache has lost it by then.

    Args:
        recipe: of the plan.
        table: of the plan.
        scenes: of the plan.
        rate_mb_s: what the connection carries, megabytes a second.
    """
    chip = recipe.chip
    cells = Counter(zip(*(table[name].to_pylist() for name in ("continent", "biome", "landcover")), strict=True))
    requests, download = _reads(recipe, table, scenes)
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


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The files of one scene that have one pixel grid: one a band.

    Attributes:
        bands: how many.
        left: easting of their upper-left corner, metres.
        top: northing of it.
        gsd: side of a pixel, metres.
        shape: rows and columns.
    """

    bands: int
    left: float
    top: float
    gsd: float
    shape: tuple[int, int]

    @property
    def file_bytes(self) -> float:
        """Of one file, overviews included."""
        return self.shape[0] * self.shape[1] * 2 * COMPRESSED * OVERVIEWS

    def tiles(self, x0: float, y0: float, side: float) -> dict[tuple[int, int], float]:
        """Row and column of the tiles that a chip touches, with the compressed bytes of each."""
        step = TILE_PX * self.gsd
        rows = range(int((self.top - y0) // step), int((self.top - y0 + side - 1e-6) // step) + 1)
        columns = range(int((x0 - self.left) // step), int((x0 - self.left + side - 1e-6) // step) + 1)
        return {(row, column): self._tile_bytes(row, column) for row in rows for column in columns}

    def _tile_bytes(self, row: int, column: int) -> float:
        height, width = self.shape[0] - row * TILE_PX, self.shape[1] - column * TILE_PX
        size = min(TILE_PX, max(height, 0)) * min(TILE_PX, max(width, 0)) * 2 * COMPRESSED
        return min(size, self.file_bytes - HEADER_BYTES)


def _reads(recipe: Recipe, table: pa.Table, scenes: Sequence[Scene]) -> tuple[int, float]:
    """Requests and bytes, reading the shards in order."""
    side = recipe.chip.size_px * recipe.chip.resolution_m
    files = {scene.id: _files_of(scene, recipe) for scene in scenes}
    opened: set[str] = set()
    cache = _Cache()
    requests, download = 0, 0.0
    for scene_id, corners in _corners_by_shard_and_scene(table):
        for group in files[scene_id]:
            if scene_id not in opened:
                requests += 2 * group.bands
                download += group.bands * min(HEADER_BYTES, group.file_bytes)
            if group.file_bytes <= HEADER_BYTES:
                continue
            tiles = {tile: size for x0, y0 in corners for tile, size in group.tiles(x0, y0, side).items()}
            for tile, size in tiles.items():
                if not cache.has((scene_id, group.gsd, *tile), size * group.bands):
                    requests += group.bands
                    download += group.bands * size
        opened.add(scene_id)
    return requests, download


class _Cache:
    """What was read last, up to :data:`CACHE_BYTES`."""

    def __init__(self) -> None:
        self.held: OrderedDict[tuple[Any, ...], float] = OrderedDict()
        self.bytes = 0.0

    def has(self, key: tuple[Any, ...], size: float) -> bool:
        """Whether it is held; it is from now on."""
        held = key in self.held
        if not held:
            self.held[key] = size
            self.bytes += size
        self.held.move_to_end(key)
        while self.bytes > CACHE_BYTES:
            self.bytes -= self.held.popitem(last=False)[1]
        return held


def _files_of(scene: Scene, recipe: Recipe) -> list[_Files]:
    """The scene's files by pixel grid; a file that does not say its own is taken to have the scene's at the chip's size."""
    aliases, chip = PROVIDERS[recipe.source.provider].band_assets, recipe.chip
    grids: Counter[tuple[float, float, float, tuple[int, int]]] = Counter()
    for band in chip.bands:
        asset = scene.item["assets"].get(aliases.get(band, band)) or scene.item["assets"].get(band) or {}
        transform, shape = asset.get("proj:transform"), asset.get("proj:shape")
        if transform is None or shape is None:
            gsd = chip.resolution_m
            transform = (gsd, 0, scene.left, 0, -gsd, scene.top)
            shape = (scene.height_m / gsd, scene.width_m / gsd)
        grids[float(transform[2]), float(transform[5]), abs(transform[0]), (int(shape[0]), int(shape[1]))] += 1
    return [
        _Files(bands=bands, left=left, top=top, gsd=gsd, shape=shape)
        for (left, top, gsd, shape), bands in grids.items()
    ]


def _corners_by_shard_and_scene(table: pa.Table) -> list[tuple[str, list[tuple[float, float]]]]:
    """Scenes in the order in which shards read them, with the upper-left corners of the chips."""
    wanted: dict[tuple[int, str], list[tuple[float, float]]] = {}
    columns = (table[name].to_pylist() for name in ("shard", "scene_ids", "x0", "y0"))
    for shard, scene_ids, x0, y0 in zip(*columns, strict=True):
        for scene_id in scene_ids:
            wanted.setdefault((shard, scene_id), []).append((x0, y0))
    return [(scene_id, corners) for (_, scene_id), corners in wanted.items()]
