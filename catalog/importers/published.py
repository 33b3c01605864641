"""A dataset that pwcat published, fetched from the Hub or built locally: Parquet with pixels as bytes, items beside them.

Files lie as :mod:`catalog.published.layout` says, and rows are as docs/publish.md says. As a catalog of the collections that
its samples come from, :func:`catalog.query.open_catalog` opens the folder as it is; here it becomes a collection by itself,
whatever version published it, and whatever of it is left.

Pixels are harmonised already: no offset is removed. Labels are those that were published, unless layers are given. Bands of
sensors beside the main source are left out: what they measure is no reflectance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.importers.importer import Block, Facts, Found, Grid, Lost, Options, Place, Sample
from catalog.published.layout import DATA_FOLDER, ITEMS_PATH, STATISTICS_PATH
from pwcat.errors import CatalogError

__all__ = ["Published"]

# Of a row group; pwcat's have 32 MiB of pixels.
MOST_BYTES = 2**30
PIXELS = ("id", "pixels", "dtype", "shape", "bands")
NEEDED = (*PIXELS, "datetimes", "epsg", "transform")
LABELS = ("continent", "biome", "ecoregion", "landcover")
MORE = ("lon", "lat", "scene_ids", "sensors", *LABELS)


@dataclass(frozen=True)
class Published:
    """A published dataset's folder, see the module."""

    folder: Path
    options: Options

    name: ClassVar[str] = "pwcat"
    about: ClassVar[str] = "a dataset that pwcat published: the folder, as fetched from the Hub"
    license: ClassVar[str | None] = None
    attribution: ClassVar[str | None] = None

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Parquet files in ``data/`` with the columns of pixels."""
        first = next(iter(_files(folder)), None)
        return first is not None and set(PIXELS) <= set(_names(first))

    @cached_property
    def _first(self) -> dict[str, Any]:
        """Bands and shape of the first row that can be read."""
        for path in _files(self.folder):
            try:
                with pq.ParquetFile(path) as opened:
                    there = [name for name in ("bands", "shape", "sensors") if name in opened.schema_arrow.names]
                    batch = next(opened.iter_batches(batch_size=1, columns=there))
                    return dict(batch.to_pylist()[0])
            except (OSError, StopIteration, pa.ArrowException):
                continue
        raise CatalogError(
            f"{self.folder}: no data/*.parquet there that can be read: not a dataset that pwcat published"
        )

    @cached_property
    def kept(self) -> list[int]:
        """Positions of the bands that are of the main source."""
        sensors = self._first.get("sensors") or [""] * len(self._first["bands"])
        return [number for number, sensor in enumerate(sensors) if not sensor]

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Those of the main source."""
        return tuple(self._first["bands"][number] for number in self.kept)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(time, band, y, x)`` as stored."""
        return tuple(self._first["shape"])

    def facts(self) -> Facts:
        """See :class:`~catalog.importers.importer.Importer`."""
        notes = ["no offset is removed: published pixels are harmonised"]
        if left := len(self._first["bands"]) - len(self.kept):
            notes.append(f"{left} bands of sensors beside the main source are left out: they are no reflectance")
        total = 0
        for path in _files(self.folder):
            try:
                total += pq.read_metadata(path).num_rows
            except (OSError, pa.ArrowException):
                continue
        return Facts(bands=self.bands, num_times=self.shape[0], total=total, notes=tuple(notes))

    def layers(self) -> dict[str, str]:
        """Where the published labels come from, by layer; nothing where that is not told."""
        try:
            statistics = json.loads((self.folder / STATISTICS_PATH).read_text(encoding="utf-8"))
            statistics = statistics.get("statistics", statistics)
            return {name: statistics[name]["layer"] for name in LABELS if (statistics.get(name) or {}).get("layer")}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def walk(self) -> Iterator[Block | Lost]:
        """Row group by row group."""
        for path in _files(self.folder):
            relative = path.relative_to(self.folder).as_posix()
            try:
                metadata = pq.read_metadata(path)
            except (OSError, pa.ArrowException) as exc:
                yield Lost(relative, f"is no Parquet file that can be read: {_first_line(exc, path)}")
                continue
            lacking = [name for name in NEEDED if name not in metadata.schema.to_arrow_schema().names]
            if lacking:
                yield Lost(relative, f"has no column {', '.join(lacking)}", metadata.num_rows)
                continue
            for group in range(metadata.num_row_groups):
                yield Block(path=relative, part=group)

    def load(self, block: Block) -> Iterator[Found | Lost]:
        """The samples of a row group."""
        split = Path(block.path).name.split("-")[0]
        try:
            table = self._group(block.path, block.part, (*NEEDED, *MORE))
        except (OSError, pa.ArrowException) as exc:
            rows = pq.read_metadata(self.folder / block.path).row_group(block.part).num_rows
            why = _first_line(exc, self.folder / block.path)
            yield Lost(f"{block.path}, row group {block.part}", f"cannot be read: {why}", rows)
            return
        fractions = self._fractions(block)
        for row in range(len(table)):
            record = table.slice(row, 1).to_pylist()[0]
            record["landcover_fractions"] = fractions.get(record["id"])
            place = Place(path=block.path, part=block.part, row=row)
            try:
                yield Found(_sample(record, place, split), self._chip(record))
            except ValueError as exc:
                yield Lost(str(record["id"]), str(exc))

    def _fractions(self, block: Block) -> dict[str, Any]:
        """Shares of land cover by sample, from the items beside; none where they do not tell."""
        columns = ["id", "div:landcover_fractions"]
        try:
            table = pq.read_table(self.folder / ITEMS_PATH, columns=columns, filters=[("pwcat:shard", "=", block.path)])
        except (OSError, ValueError, KeyError, pa.ArrowException):
            return {}
        return dict(zip(*(table[name].to_pylist() for name in columns), strict=True))

    def _group(self, path: str, group: int, columns: Sequence[str]) -> pa.Table:
        with pq.ParquetFile(self.folder / path) as opened:
            there = [name for name in columns if name in opened.schema_arrow.names]
            if (size := opened.metadata.row_group(group).total_byte_size) > MOST_BYTES:
                raise pa.ArrowInvalid(f"a row group of {size:,} bytes: pwcat writes smaller ones")
            return opened.read_row_group(group, columns=there)

    def _chip(self, record: dict[str, Any]) -> NDArray[np.uint16]:
        dtype, shape, pixels = np.dtype(record["dtype"]), tuple(record["shape"]), record["pixels"]
        if shape != self.shape or list(record["bands"]) != list(self._first["bands"]):
            raise ValueError("has another shape or other bands than the first sample")
        if dtype.kind != "u" or dtype.itemsize != 2 or len(pixels) != math.prod(shape) * dtype.itemsize:
            raise ValueError("has pixels that are not as many bytes of uint16 as its shape says")
        return np.frombuffer(pixels, dtype).reshape(shape)[:, self.kept].astype(np.uint16)

    def read(self, path: str, part: int, rows: Sequence[int]) -> Iterator[NDArray[np.uint16]]:
        """See :class:`~catalog.importers.importer.Importer`. A whole row group is read, however few are asked for."""
        try:
            table = self._group(path, part, PIXELS)
            for row in rows:
                yield self._chip(table.slice(row, 1).to_pylist()[0])
        except (OSError, ValueError, IndexError, pa.ArrowException) as exc:
            raise CatalogError(
                f"{self.folder / path}, row group {part}: {exc}; it was readable when the dataset was added"
            ) from exc


def _files(folder: Path) -> list[Path]:
    return sorted((folder / DATA_FOLDER).glob("*.parquet"))


def _names(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException):
        return []


def _sample(record: dict[str, Any], place: Place, split: str) -> Sample:
    epsg, height, width = record["epsg"], record["shape"][2], record["shape"][3]
    if epsg is None or len(record["transform"] or ()) != 6:
        raise ValueError("has no EPSG code or transform")
    times = [time if time.tzinfo else time.replace(tzinfo=UTC) for time in record["datetimes"] or ()]
    if not times or not all(isinstance(time, datetime) for time in times):
        raise ValueError("has no dates")
    lonlat = None if record.get("lon") is None else (float(record["lon"]), float(record["lat"]))
    return Sample(
        id=str(record["id"]),
        place=place,
        grid=Grid(f"EPSG:{epsg}", tuple(record["transform"]), height, width),
        times=tuple(times),
        lonlat=lonlat,
        split=split if split in ("train", "val", "test") else None,
        scene_ids=tuple(record.get("scene_ids") or ()),
        labels={name: record[name] for name in (*LABELS, "landcover_fractions") if record.get(name)},
    )


def _first_line(exc: Exception, path: Path) -> str:
    text = str(exc).replace(str(path), "it").splitlines()
    return text[0] if text and text[0] else type(exc).__name__
