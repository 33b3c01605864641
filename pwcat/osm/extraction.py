"""A map taken apart: features read, cut, sorted outside of memory and written, with their tags counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import shapely
from numpy.typing import NDArray

from pwcat.atomic import remove_leftovers, replacing_by_name
from pwcat.errors import PwcatError
from pwcat.osm.cutting import Window, cut_shapes
from pwcat.osm.entities import ENTITIES, TAGS, Extracted
from pwcat.osm.exclusion import Exclusion
from pwcat.osm.extract import EXTRACTS, ExtractFacts, describe_extract, read_extract
from pwcat.osm.features import Features, Losses
from pwcat.osm.rows import DECIMALS, ORDER, ROW_SCHEMA, piece_rows, tag_column
from pwcat.osm.shapes import resolve_shapes
from pwcat.osm.sorting import RUN_BYTES, STRETCH_BYTES, Sorter
from pwcat.osm.tiles import Tile, decode_tiles, encode_tiles, from_world, tiles_within
from pwcat.osm.vectors import read_vectors
from pwcat.osm.vocabulary import TagCounter
from pwcat.osm.writing import EntityWriter

__all__ = ["Asked", "extract_entities"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which tiles a map is cut into; see :func:`pwcat.osm.entities.write_entities`.

    Raises:
        PwcatError: there is no such zoom, or tiles are of another.
    """

    zoom: int
    within: tuple[float, float, float, float] | None
    only: Sequence[Tile] | None
    also: Sequence[Tile]

    def __post_init__(self) -> None:
        Tile(self.zoom, 0, 0)
        others = sorted({tile.zoom for tile in (*(self.only or ()), *self.also)} - {self.zoom})
        if others:
            raise PwcatError(
                f"tiles of zoom {', '.join(map(str, others))} are asked of a map that is cut at zoom {self.zoom}; name such"
            )

    @cached_property
    def window(self) -> Window:
        """The tiles that matter, at most."""
        last = (1 << self.zoom) - 1
        x0, y0, x1, y1 = tiles_within(self.within, self.zoom) if self.within else (0, 0, last, last)
        if self.only is not None:
            x, y = [tile.x for tile in self.only], [tile.y for tile in self.only]
            x0, y0 = max([x0, min(x, default=last)]), max([y0, min(y, default=last)])
            x1, y1 = min([x1, max(x, default=0)]), min([y1, max(y, default=0)])
        return Window(x0=x0, y0=y0, x1=x1, y1=y1)

    @cached_property
    def only_codes(self) -> NDArray[np.int64] | None:
        """Codes of the only tiles, sorted; none where all of the window are asked for."""
        return None if self.only is None else _codes(self.only)

    @cached_property
    def also_codes(self) -> NDArray[np.int64]:
        """Codes of the tiles that are numbered at any rate, sorted."""
        return _codes(self.also)

    def has(self, tiles: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these tiles, ``(n, 2)``, within the window, are asked for."""
        codes = self.only_codes
        return np.ones(len(tiles), dtype=bool) if codes is None else np.isin(encode_tiles(*tiles.T), codes)


def _codes(tiles: Sequence[Tile]) -> NDArray[np.int64]:
    return np.unique(encode_tiles([tile.x for tile in tiles], [tile.y for tile in tiles]))


def extract_entities(
    source: Path,
    folder: Path,
    *,
    asked: Asked,
    exclude: Exclusion,
    leave: Sequence[str],
    progress: Callable[[str, int], None],
) -> Extracted:
    """What :func:`pwcat.osm.entities.write_entities` does."""
    facts = describe_extract(source) if _is_extract(source) else ExtractFacts(day=None, bounds=None)
    if asked.within is None and asked.only is None:
        asked = replace(asked, within=facts.bounds)
    losses = Losses()
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    with (
        replacing_by_name(folder / ENTITIES) as entities,
        replacing_by_name(folder / TAGS) as tags,
        TemporaryDirectory(dir=entities.parent) as name,
    ):
        work = Path(name)
        features = _features(source, exclude, leave, losses, work)
        sorter = Sorter(work, ROW_SCHEMA, ORDER, run_bytes=RUN_BYTES, stretch_bytes=STRETCH_BYTES)
        bounds = _cut_and_sort(features, asked, sorter, losses, progress)
        counter = TagCounter(work)
        with EntityWriter(entities, zoom=asked.zoom, bounds=bounds, also=asked.also_codes, counter=counter) as writer:
            for stretch in sorter.stretches():
                writer.write(stretch)
                progress("sorting", writer.rows)
        counter.write(tags)
    x, y = decode_tiles(np.concatenate(writer.codes))
    return Extracted(
        zoom=asked.zoom,
        tiles=np.column_stack([x, y]),
        counts=np.concatenate(writer.counts),
        entities=writer.entities,
        left_out=dict(sorted(losses.left_out.items())),
        mended=dict(sorted(losses.mended.items())),
        day=facts.day,
        bounds=facts.bounds,
    )


def _is_extract(source: Path) -> bool:
    return source.name.lower().endswith(EXTRACTS)


def _features(
    source: Path, exclude: Exclusion, leave: Sequence[str], losses: Losses, scratch: Path
) -> Iterator[Features]:
    if _is_extract(source):
        return read_extract(source, exclude=exclude, losses=losses, scratch=scratch)
    return read_vectors(source, exclude=exclude, leave=leave, losses=losses)


def _cut_and_sort(
    features: Iterator[Features],
    asked: Asked,
    sorter: Sorter,
    losses: Losses,
    progress: Callable[[str, int], None],
) -> NDArray[np.float64]:
    """Cut features into a sorter; return west, south, east, north of all pieces in degrees, NaN without any."""
    bounds, read = np.full(4, np.nan), 0
    for some in features:
        tags = tag_column(some)
        counted = np.zeros(len(some), dtype=bool)
        found = resolve_shapes(some, asked.zoom, losses)
        for shapes in found:
            for pieces in cut_shapes(shapes, asked.window):
                mine = pieces[asked.has(pieces.tiles)]
                if not len(mine):
                    continue
                first = _stand_for(mine.owner, counted)
                sorter.add(piece_rows(mine, some, tags=tags, first=first, zoom=asked.zoom))
                bounds = _around(bounds, shapely.total_bounds(mine.geometry))
        there = np.unique(np.concatenate([[], *(shapes.owner for shapes in found)]))
        losses.leave("not on the tiles that are asked for", len(there) - int(counted.sum()))
        read += len(some)
        progress("reading", read)
    (west, east), (north, south) = from_world(bounds[[0, 2]], bounds[[1, 3]], asked.zoom)
    return np.round([west, south, east, north], DECIMALS)


def _stand_for(owner: NDArray[np.int64], counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The first piece of each owner that was not counted yet; they are counted now."""
    first = np.zeros(len(owner), dtype=bool)
    first[np.unique(owner, return_index=True)[1]] = True
    first &= ~counted[owner]
    counted[owner] = True
    return first


def _around(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.fmin(one[:2], other[:2]), np.fmax(one[2:], other[2:])])
