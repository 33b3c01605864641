"""The entities of a map collection: ``entities.parquet`` and ``tags.parquet``, written from a map, read by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from pwcat.atomic import remove_leftovers, replacing_by_name
from pwcat.errors import CatalogError, PwcatError
from pwcat.osm.cutting import Window, cut_shapes
from pwcat.osm.exclusion import Exclusion
from pwcat.osm.extract import PBF_SUFFIX, ExtractFacts, describe_extract, read_extract
from pwcat.osm.features import Features, Losses
from pwcat.osm.rows import DECIMALS, ORDER, ROW_SCHEMA, piece_rows, tag_column
from pwcat.osm.schema import ENTITY_SCHEMA
from pwcat.osm.shapes import resolve_shapes
from pwcat.osm.sorting import Sorter
from pwcat.osm.tiles import Tile, decode_tiles, encode_tiles, from_world, tiles_within
from pwcat.osm.vectors import read_vectors
from pwcat.osm.vocabulary import TagCounter
from pwcat.osm.writing import ENTITIES, TAGS, EntityWriter

__all__ = ["ENTITIES", "TAGS", "Extracted", "read_entities", "write_entities"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Extracted:
    """What became of a map.

    Attributes:
        zoom: of the tiles.
        tiles: ``(n, 2)`` x and y of each tile, by ``index``.
        counts: ``(n,)`` how many rows each has.
        entities: how many entities lie on them.
        left_out: entities, or parts of them, that are not there, by the reason.
        mended: entities that are there though they were broken, by what was wrong.
        day: up to which the map has what was mapped, where it says so.
    """

    zoom: int
    tiles: NDArray[np.int64]
    counts: NDArray[np.int64]
    entities: int
    left_out: Mapping[str, int]
    mended: Mapping[str, int]
    day: date | None


def write_entities(
    source: Path,
    folder: Path,
    *,
    zoom: int,
    within: tuple[float, float, float, float] | None = None,
    only: Sequence[Tile] | None = None,
    also: Sequence[Tile] = (),
    exclude: Exclusion | None = None,
    leave: Sequence[str] = (),
    scratch: Path | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Extracted:
    """Write ``entities.parquet`` and ``tags.parquet`` of a map into a folder; each appears whole or not at all.

    Tiles are numbered (``index``) in the order of :func:`pwcat.osm.tiles.encode_tiles`, by which groups of any zoom lie
    together. The same map gives the same bytes, in whatever order it has its objects.

    Args:
        source: an ``.osm.pbf``, or any vector file that GDAL reads: its columns are tags.
        folder: is made where it is not there.
        zoom: of the tiles.
        within: west, south, east, north in degrees: only tiles that share an area with it. Where not given, the box that an
            extract says it covers: beyond it lie but the ends of what reaches out, ferry lines say.
        only: only these tiles.
        also: tiles that are numbered even where no entity lies on them.
        exclude: tags that are left out; what has no tag left is no entity. The usual list where not given.
        leave: columns of a vector file that are no tags, ``label`` say.
        scratch: a folder where sorting may write, about twice as much as the result; beside it where not given.
        progress: is told what is done (``reading``, ``sorting``), and with how many entities or rows so far.

    Raises:
        SourceError: the map is missing or cannot be read.
        PwcatError: tiles of another zoom.
    """
    facts = describe_extract(source) if _is_extract(source) else ExtractFacts(day=None, bounds=None)
    asked = _Asked.of(zoom, within or facts.bounds, only)
    more = _codes(also, zoom)
    losses = Losses()
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    with (
        replacing_by_name(folder / ENTITIES) as entities,
        replacing_by_name(folder / TAGS) as tags,
        TemporaryDirectory(dir=scratch or entities.parent, prefix="pwcat-") as name,
    ):
        work = Path(name)
        features = _features(source, exclude or Exclusion(), leave, losses, work)
        sorter = Sorter(work, ROW_SCHEMA, ORDER)
        bounds = _cut_and_sort(features, asked, sorter, losses, progress)
        counter = TagCounter(work)
        with EntityWriter(entities, zoom=zoom, bounds=bounds, also=more, counter=counter) as writer:
            for stretch in sorter.stretches():
                writer.write(stretch)
                if progress is not None:
                    progress("sorting", writer.rows)
        counter.write(tags)
    x, y = decode_tiles(np.concatenate(writer.codes))
    return Extracted(
        zoom=zoom,
        tiles=np.column_stack([x, y]),
        counts=np.concatenate(writer.counts),
        entities=writer.entities,
        left_out=dict(sorted(losses.left_out.items())),
        mended=dict(sorted(losses.mended.items())),
        day=facts.day,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asked:
    """Tiles that are asked for: those of a window, and where only some are, their codes."""

    zoom: int
    window: Window
    codes: NDArray[np.int64] | None

    @classmethod
    def of(cls, zoom: int, within: tuple[float, float, float, float] | None, only: Sequence[Tile] | None) -> _Asked:
        last = (1 << Tile(zoom, 0, 0).zoom) - 1
        x0, y0, x1, y1 = tiles_within(within, zoom) if within else (0, 0, last, last)
        if only is not None:
            x, y = np.array([(tile.x, tile.y) for tile in only], dtype=np.int64).reshape(-1, 2).T
            x0, y0 = max(x0, x.min(initial=last)), max(y0, y.min(initial=last))
            x1, y1 = min(x1, x.max(initial=0)), min(y1, y.max(initial=0))
        codes = None if only is None else _codes(only, zoom)
        return cls(zoom=zoom, window=Window(x0=int(x0), y0=int(y0), x1=int(x1), y1=int(y1)), codes=codes)

    def has(self, tiles: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these tiles, ``(n, 2)``, within the window, are asked for."""
        return np.ones(len(tiles), dtype=bool) if self.codes is None else np.isin(encode_tiles(*tiles.T), self.codes)


def _codes(tiles: Sequence[Tile], zoom: int) -> NDArray[np.int64]:
    """Their codes, sorted, each once."""
    others = sorted({tile.zoom for tile in tiles} - {zoom})
    if others:
        raise PwcatError(f"tiles of zoom {', '.join(map(str, others))} among those of a map of zoom {zoom}; name such")
    return np.unique(encode_tiles([tile.x for tile in tiles], [tile.y for tile in tiles]))


def _is_extract(source: Path) -> bool:
    return source.name.lower().endswith(PBF_SUFFIX)


def _features(
    source: Path, exclude: Exclusion, leave: Sequence[str], losses: Losses, scratch: Path
) -> Iterator[Features]:
    if _is_extract(source):
        return read_extract(source, exclude=exclude, losses=losses, scratch=scratch)
    return read_vectors(source, exclude=exclude, leave=leave, losses=losses)


def _cut_and_sort(
    features: Iterator[Features],
    asked: _Asked,
    sorter: Sorter,
    losses: Losses,
    progress: Callable[[str, int], None] | None,
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
        if progress is not None:
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


def read_entities(
    folder: Path, index: NDArray[np.int64] | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Entities of a map collection, as :data:`~pwcat.osm.schema.ENTITY_SCHEMA` says, in the order of the file.

    Args:
        folder: of the collection.
        index: rows of the tiles in the cube, in any order; only the row groups that hold some of them are read. All where
            not given.
        columns: those wanted, in their order in the file; all where not given.

    Raises:
        CatalogError: there are no entities, or the file is damaged.
    """
    path = folder / ENTITIES
    names = [name for name in ENTITY_SCHEMA.names if columns is None or name in columns]
    try:
        with pq.ParquetFile(path) as file:
            if index is None:
                return file.read(columns=names)
            wanted = np.unique(np.asarray(index, dtype=np.int64))
            groups = _groups_with(file.metadata, wanted)
            table = file.read_row_groups(groups, columns=[*dict.fromkeys([*names, "index"])])
    except FileNotFoundError as exc:
        raise CatalogError(f"{path}: there are no map entities; is {folder} a map collection?") from exc
    except (OSError, pa.ArrowException) as exc:
        raise CatalogError(f"{path} cannot be read: {exc}; build the collection anew") from exc
    return table.filter(np.isin(table["index"].to_numpy(), wanted)).select(names)


def _groups_with(metadata: pq.FileMetaData, wanted: NDArray[np.int64]) -> list[int]:
    """Row groups that hold tiles of these numbers, which are sorted, as far as the statistics say."""
    column = metadata.schema.to_arrow_schema().get_field_index("index")
    groups = []
    for number in range(metadata.num_row_groups):
        bounds = metadata.row_group(number).column(column).statistics
        if bounds is None or _any_between(wanted, bounds.min, bounds.max):
            groups.append(number)
    return groups


def _any_between(wanted: NDArray[np.int64], low: int, high: int) -> bool:
    first = int(np.searchsorted(wanted, low))
    return first < len(wanted) and bool(wanted[first] <= high)
