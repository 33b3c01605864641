"""Requests and bytes that reading a plan's chips will take, worked out by columns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pwcat.errors import PwcatError
from pwcat.pixels.composites import scenes_by_row
from pwcat.providers import PROVIDERS
from pwcat.recipe import Recipe
from pwcat.scenes import Scene

__all__ = ["Reads", "estimate_reads"]

# Assumed where the files have not been asked yet: internal tiles of 512 pixels (Planetary Computer's; Earth Search's have
# 1024), overviews of a third more, and, of files whose size the item does not tell, deflate to 0.65 of the pixels.
TILE_PX = 512
COMPRESSED = 0.65
OVERVIEWS = 4 / 3

# How tiles are read (pwcat.readers): this much of the start of each file, then neighbouring tiles in one request up to so
# many bytes; and what is kept of tiles, which spares those that another shard has read not long ago.
HEADER_BYTES = 16_384
RUN_BYTES = 2 * 2**20
KEPT_BYTES = 256 * 2**20

# Chips times scenes that are worked on at once: a few megabytes a column.
ROWS_AT_ONCE = 2**14


@dataclass(frozen=True, kw_only=True)
class Reads:
    """What is asked of a source.

    Attributes:
        requests: one for the header of each file, one for each run of tiles.
        bytes: of headers and tiles, compressed.
        scenes: that are opened.
    """

    requests: int
    bytes: float
    scenes: int

    def __add__(self, other: Reads) -> Reads:
        """Both, one after the other and nothing kept between them."""
        return Reads(
            requests=self.requests + other.requests, bytes=self.bytes + other.bytes, scenes=self.scenes + other.scenes
        )


def estimate_reads(recipe: Recipe, table: pa.Table, scenes: Iterable[Scene]) -> Reads:
    """Requests and bytes of reading the chips of a plan's rows, shard by shard.

    A tile that several shards need is counted again where it is not kept any more by then.

    Args:
        recipe: of the plan.
        table: rows of the plan, shards in order.
        scenes: at least those that the rows name; looked at once, one after the other.

    Raises:
        PwcatError: a row names a scene that is not there.
    """
    files = _Files.of(scenes, recipe)
    side = recipe.chip.size_px * recipe.chip.resolution_m
    opened = np.zeros(len(files.ids), dtype=bool)
    kept = _Kept()
    requests, download = 0, 0.0
    for chips in _in_parts(table, files.ids):
        opened[chips.scene] = True
        more, size = _asked(_tiles(chips, files, side), kept)
        requests, download = requests + more, download + size
    used = opened[files.scene]
    requests += int(files.bands[used].sum())
    download += float((files.bands * np.minimum(HEADER_BYTES, files.bytes))[used].sum())
    return Reads(requests=requests, bytes=download, scenes=int(opened.sum()))


def _asked(tiles: _Tiles, kept: _Kept) -> tuple[int, float]:
    """Requests and bytes of tiles, neighbours in one request, without those that are kept."""
    requests, download = 0, 0.0
    last, run_bytes = (-1, -1), 0.0
    columns = (tiles.read, tiles.index, tiles.key, tiles.bytes, tiles.bands)
    for read, index, key, size, bands in zip(*(column.tolist() for column in columns), strict=True):
        if kept.has(key, size * bands):
            continue
        download += bands * size
        if last != (read, index - 1) or run_bytes + size > RUN_BYTES:
            requests, run_bytes = requests + bands, 0.0
        last, run_bytes = (read, index), run_bytes + size
    return requests, download


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The files of all scenes, a row for those of one scene on one pixel grid, ``(g,)`` each; rows of a scene are together.

    Attributes:
        ids: of the scenes.
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

    ids: pa.Array
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
    def of(cls, scenes: Iterable[Scene], recipe: Recipe) -> _Files:
        """Those of a recipe's bands."""
        every = [(scene.id, _grids(scene, recipe)) for scene in scenes]
        ids, grids = [name for name, _ in every], [each for _, each in every]
        rows = [(*grid[1:], len(sizes), np.mean(sizes)) for each in grids for grid, sizes in each.items()]
        left, top, gsd, height, width, bands, size = np.array(rows, dtype=np.float64).reshape(-1, 7).T
        counts = np.array([len(each) for each in grids], dtype=np.int64)
        return cls(
            ids=pa.array(ids, pa.string()),
            scene=np.repeat(np.arange(len(ids)), counts),
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
    """Tiles that are wanted one after the other, ``(n,)`` each.

    Attributes:
        read: which are read together: those of one grid's files, for a shard and scene.
        index: place in the file.
        key: the same for the same tile.
        bytes: of one band, compressed.
        bands: how many.
    """

    read: NDArray[np.int64]
    index: NDArray[np.int64]
    key: NDArray[np.int64]
    bytes: NDArray[np.float64]
    bands: NDArray[np.int64]


def _tiles(chips: _Chips, files: _Files, side: float) -> _Tiles:
    """The tiles that chips touch, each once a shard and scene."""
    grids = files.first[chips.scene + 1] - files.first[chips.scene]
    chip = np.repeat(np.arange(len(chips.scene)), grids)
    grid = files.first[chips.scene[chip]] + _counting(grids)
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
    down, across = (-(-size[grid] // TILE_PX) for size in (files.height, files.width))
    there = (row >= 0) & (row < down) & (column >= 0) & (column < across)
    chip, grid, row, column, across = (values[there] for values in (chip, grid, row, column, across))
    read = (chips.group[chip] << 8) + grid - files.first[chips.scene[chip]]
    index = row * across + column
    _, wanted = np.unique((read << 32) + index, return_index=True)  # scenes, grids of a scene and tiles in order
    grid, row, column = grid[wanted], row[wanted], column[wanted]
    height, width = files.height[grid] - row * TILE_PX, files.width[grid] - column * TILE_PX
    share = np.clip(height, 0, TILE_PX) * np.clip(width, 0, TILE_PX) / (files.height[grid] * files.width[grid])
    return _Tiles(
        read=read[wanted],
        index=index[wanted],
        key=(grid << 32) + index[wanted],
        bytes=files.bytes[grid] / OVERVIEWS * share,
        bands=files.bands[grid],
    )


def _counting(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """``0 .. count - 1`` for each count, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


class _Kept:
    """What was read last, up to :data:`KEPT_BYTES`."""

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
        while self.bytes > KEPT_BYTES:
            self.bytes -= self.held.popitem(last=False)[1]
        return held
