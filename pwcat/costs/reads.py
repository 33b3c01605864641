"""Requests and bytes that reading a plan's chips will take, worked out by columns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pwcat.composites import scenes_by_row
from pwcat.errors import PwcatError
from pwcat.providers import PROVIDERS
from pwcat.recipe import Recipe
from pwcat.scenes import Scene

__all__ = ["Reads", "estimate_reads"]

# Assumed where the files have not been asked yet: internal tiles of 512 pixels (Planetary Computer's; Earth Search's have
# 1024), overviews of a third more, and, of files whose size the item does not tell, deflate to 0.65 of the pixels.
TILE_PX = 512
COMPRESSED = 0.65
OVERVIEWS = 4 / 3

# How GDAL reads, as the reader sets it up: a HEAD and this much of its start for each file, and a cache of what was read
# (CPL_VSIL_CURL_CACHE_SIZE, its default) that spares a tile which a neighbouring shard has just read.
HEADER_BYTES = 32_768
CACHE_BYTES = 16 * 2**20

# Chips times scenes that are worked on at once: a few megabytes a column.
ROWS_AT_ONCE = 2**14


@dataclass(frozen=True, kw_only=True)
class Reads:
    """What is asked of a source.

    Attributes:
        requests: two for each file (its size, its header), one for each tile.
        bytes: of headers and tiles, compressed.
        scenes: that are opened.
    """

    requests: int
    bytes: float
    scenes: int


def estimate_reads(recipe: Recipe, table: pa.Table, scenes: Sequence[Scene]) -> Reads:
    """Requests and bytes of reading the chips of a plan's rows, shard by shard.

    A tile that several shards need is counted again where the cache has lost it by then.

    Args:
        recipe: of the plan.
        table: rows of the plan, shards in order.
        scenes: at least those that the rows name.

    Raises:
        PwcatError: a row names a scene that is not there.
    """
    files = _Files.of(scenes, recipe)
    ids = pa.array([scene.id for scene in scenes], pa.string())
    side = recipe.chip.size_px * recipe.chip.resolution_m
    opened = np.zeros(len(scenes), dtype=bool)
    cache = _Cache()
    requests, download = 0, 0.0
    for chips in _in_parts(table, ids):
        opened[chips.scene] = True
        tiles = _tiles(chips, files, side)
        for key, size, bands in zip(tiles.key.tolist(), tiles.bytes.tolist(), tiles.bands.tolist(), strict=True):
            if not cache.has(key, size * bands):
                requests += bands
                download += bands * size
    used = opened[files.scene]
    requests += int(2 * files.bands[used].sum())
    download += float((files.bands * np.minimum(HEADER_BYTES, files.bytes))[used].sum())
    return Reads(requests=requests, bytes=download, scenes=int(opened.sum()))


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The files of all scenes, a row for those of one scene on one pixel grid, ``(g,)`` each; rows of a scene are together.

    Attributes:
        scene: index of the scene.
        bands: how many files.
        left: easting of their upper-left corner, metres.
        top: northing of it.
        gsd: side of a pixel, metres.
        height: rows of pixels.
        width: columns of pixels.
        bytes: of one file, overviews included; the mean of the bands.
        first: the first row of each scene, and the end of the last, ``(scenes + 1,)``.
    """

    scene: NDArray[np.int64]
    bands: NDArray[np.int64]
    left: NDArray[np.float64]
    top: NDArray[np.float64]
    gsd: NDArray[np.float64]
    height: NDArray[np.int64]
    width: NDArray[np.int64]
    bytes: NDArray[np.float64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, scenes: Sequence[Scene], recipe: Recipe) -> _Files:
        """Those of a recipe's bands."""
        grids = [_grids(scene, recipe) for scene in scenes]
        rows = [(*grid[1:], len(sizes), np.mean(sizes)) for each in grids for grid, sizes in each.items()]
        left, top, gsd, height, width, bands, size = np.array(rows, dtype=np.float64).reshape(-1, 7).T
        counts = np.array([len(each) for each in grids], dtype=np.int64)
        return cls(
            scene=np.repeat(np.arange(len(scenes)), counts),
            bands=bands.astype(np.int64),
            left=left,
            top=top,
            gsd=gsd,
            height=height.astype(np.int64),
            width=width.astype(np.int64),
            bytes=size,
            first=np.concatenate([[0], np.cumsum(counts)]),
        )


# Whether it is the quality band's, which is far smaller than others on its grid; left, top, pixel, height, width.
_Grid = tuple[bool, float, float, float, int, int]


def _grids(scene: Scene, recipe: Recipe) -> dict[_Grid, list[float]]:
    """Bytes of the bands' files, and the quality band's where it is read, by pixel grid: as the item tells, else assumed.

    A file that does not say its own grid is taken to have the scene's at the chip's size.
    """
    record, chip = PROVIDERS[recipe.source.provider].collection(recipe.source.collection), recipe.chip
    bands = [(band, False) for band in chip.bands]
    if record.quality is not None and _asks_quality(recipe) and record.quality.asset in scene.item["assets"]:
        bands.append((record.quality.asset, True))
    grids: dict[_Grid, list[float]] = {}
    for band, is_quality in bands:
        asset = scene.item["assets"].get(record.asset_of(band)) or scene.item["assets"].get(band) or {}
        transform, shape = asset.get("proj:transform"), asset.get("proj:shape")
        if transform is None or shape is None:
            gsd = chip.resolution_m
            transform = (gsd, 0, scene.left, 0, -gsd, scene.top)
            shape = (scene.height_m / gsd, scene.width_m / gsd)
        height, width = int(shape[0]), int(shape[1])
        grid = (is_quality, float(transform[2]), float(transform[5]), abs(float(transform[0])), height, width)
        told, assumed = asset.get("file:size"), height * width * 2 * COMPRESSED * OVERVIEWS
        grids.setdefault(grid, []).append(float(told) if isinstance(told, int) and told > 0 else assumed)
    return grids


def _asks_quality(recipe: Recipe) -> bool:
    """Whether the quality band is read, too."""
    return recipe.when.composite == "median" or recipe.when.max_chip_cloud is not None


@dataclass(frozen=True, kw_only=True)
class _Chips:
    """Chips of whole shards, one a sample, date and scene, ``(n,)`` each: scene index, corner, and which are read together."""

    scene: NDArray[np.int64]
    x0: NDArray[np.float64]
    y0: NDArray[np.float64]
    group: NDArray[np.int64]


def _in_parts(table: pa.Table, ids: pa.Array) -> Iterator[_Chips]:
    """The chips in the order in which shards read them, some whole shards at a time."""
    shard = table["shard"].to_numpy()
    scenes = int(scenes_by_row(table)[1].max(initial=1))
    starts = np.flatnonzero(np.diff(shard, prepend=-1))
    step = max(1, ROWS_AT_ONCE // scenes)
    start = 0
    while start < len(table):
        later = starts[starts > start]
        fits = later[later - start <= step]
        stop = len(table) if not len(later) or len(table) - start <= step else int(fits[-1] if len(fits) else later[0])
        yield _chips(table.slice(start, stop - start), ids)
        start = stop


def _chips(part: pa.Table, ids: pa.Array) -> _Chips:
    names, counts = scenes_by_row(part)
    names = names.cast(pa.string()) if pa.types.is_dictionary(names.type) else names
    found = pc.index_in(names, value_set=ids)
    if found.null_count:
        lost = names.filter(found.is_null())[0].as_py()
        raise PwcatError(
            f"the plan names scene {lost}, which is not among its scenes; remove the folder and plan again"
        )
    scene = found.to_numpy().astype(np.int64)
    shard, x0, y0 = (np.repeat(part[name].to_numpy(), counts) for name in ("shard", "x0", "y0"))
    _, first, inverse = np.unique(shard.astype(np.int64) * len(ids) + scene, return_index=True, return_inverse=True)
    return _Chips(scene=scene, x0=x0, y0=y0, group=np.argsort(np.argsort(first))[inverse])


@dataclass(frozen=True, kw_only=True)
class _Tiles:
    """Tiles that are wanted one after the other, ``(n,)`` each: a key, compressed bytes of one band, and bands."""

    key: NDArray[np.int64]
    bytes: NDArray[np.float64]
    bands: NDArray[np.int64]


def _tiles(chips: _Chips, files: _Files, side: float) -> _Tiles:
    """The tiles that chips touch, each once a shard and scene."""
    grids = files.first[chips.scene + 1] - files.first[chips.scene]
    chip = np.repeat(np.arange(len(chips.scene)), grids)
    grid = files.first[chips.scene[chip]] + _counting(grids)
    large = files.bytes[grid] > HEADER_BYTES  # a smaller file comes whole with its header
    chip, grid = chip[large], grid[large]
    step = TILE_PX * files.gsd[grid]
    south, east = files.top[grid] - chips.y0[chip], chips.x0[chip] - files.left[grid]
    top, left = south // step, east // step
    rows = ((south + side - 1e-6) // step - top + 1).astype(np.int64)
    columns = ((east + side - 1e-6) // step - left + 1).astype(np.int64)
    within = _counting(rows * columns)
    pick = np.repeat(np.arange(len(chip)), rows * columns)
    row = top.astype(np.int64)[pick] + within // columns[pick]
    column = left.astype(np.int64)[pick] + within % columns[pick]
    chip, grid = chip[pick], grid[pick]
    # Scenes in order, the grids of a scene in order, chips in order, the tiles of a chip in order: as the reader asks
    read = (chips.group[chip] << 8) + grid - files.first[chips.scene[chip]]
    order = np.argsort(read, kind="stable")
    tile = ((row & 0xFFFF) << 16) + (column & 0xFFFF)
    _, first = np.unique((read[order] << 32) + tile[order], return_index=True)
    wanted = order[np.sort(first)]
    grid, row, column = grid[wanted], row[wanted], column[wanted]
    height, width = files.height[grid] - row * TILE_PX, files.width[grid] - column * TILE_PX
    share = np.clip(height, 0, TILE_PX) * np.clip(width, 0, TILE_PX) / (files.height[grid] * files.width[grid])
    size = files.bytes[grid] / OVERVIEWS * share
    return _Tiles(
        key=(grid << 32) + tile[wanted],
        bytes=np.minimum(size, files.bytes[grid] - HEADER_BYTES),
        bands=files.bands[grid],
    )


def _counting(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """``0 .. count - 1`` for each count, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


class _Cache:
    """What was read last, up to :data:`CACHE_BYTES`."""

    def __init__(self) -> None:
        self.held: OrderedDict[int, float] = OrderedDict()
        self.bytes = 0.0

    def has(self, key: int, size: float) -> bool:
        """Whether it is held; it is from now on."""
        held = key in self.held
        if not held:
            self.held[key] = size
            self.bytes += size
        self.held.move_to_end(key)
        while self.bytes > CACHE_BYTES:
            self.bytes -= self.held.popitem(last=False)[1]
        return held
