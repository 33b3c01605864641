"""What an importer of foreign datasets is: how to find its samples, and how to read their pixels where they lie.

To add a format, write one module with one class that fits :class:`Importer`, and name it in :mod:`catalog.importers`. It says

- in which files samples lie (:meth:`Importer.walk`): :class:`Block` after block, without reading pixels,
- what the samples of a block are (:meth:`Importer.load`): :class:`Found` with pixels, or :class:`Lost` with the reason,
- what the pixels of some samples are, asked for later (:meth:`Importer.read`), for training from the dataset in place.

Labels, statistics, items and the catalog's entry are made of these by :mod:`catalog.importers.adding`, the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "Facts", "Found", "Grid", "Importer", "Lost", "Options", "Place", "Sample"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may say of a dataset; ``None`` where the files say it, or the format's own default holds.

    Attributes:
        bands: names of the bands, in the files' order (rasters), or those to take (formats that name their own).
        offset: DN that were added to every reflectance, to be removed: 1000 from Sentinel-2 baseline 04.00 on.
        scale: what a stored value is multiplied by to give reflectance times 10,000.
        date: for samples without one, ISO 8601.
        table: the CSV beside rasters, relative to the dataset's folder.
        columns: which column of the CSV plays which role.
        product: which of several products of a dataset (SSL4EO-S12: ``S2L2A`` or ``S2L1C``).
    """

    bands: tuple[str, ...] | None = None
    offset: int | None = None
    scale: float | None = None
    date: str | None = None
    table: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    product: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without what was not said."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        given["bands"] = None if self.bands is None else list(self.bands)
        given["columns"] = dict(self.columns)
        return {name: value for name, value in given.items() if value not in (None, {})}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Options:
        """From :meth:`to_dict`."""
        bands = given.get("bands")
        return cls(**{**given, "bands": None if bands is None else tuple(bands)})


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a dataset before a sample is read.

    Attributes:
        bands: names of the bands, ours where they are Sentinel-2's (``B8A``, ``B02``).
        num_times: dates a sample.
        total: how many samples there seem to be; ``None`` where counting would be reading.
        notes: what was assumed, in a sentence each: offsets, orders of bands, dates.
    """

    bands: tuple[str, ...]
    num_times: int = 1
    total: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """The pixel grid of a chip.

    Attributes:
        crs: ``EPSG:n``, or WKT where it has no code.
        transform: ``a, b, c, d, e, f`` of x = a * column + b * row + c, y = d * column + e * row + f; units of the CRS.
        height: rows of pixels.
        width: columns of pixels.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int

    def xy(self, across: NDArray[np.float64], down: NDArray[np.float64]) -> tuple[Any, Any]:
        """Coordinates, in the CRS, at shares of the chip's width and height from its upper-left corner."""
        a, b, c, d, e, f = self.transform
        column, row = across * self.width, down * self.height
        return a * column + b * row + c, d * column + e * row + f

    def centre(self, size: int) -> Grid:
        """The grid of the centre window of that many pixels a side."""
        a, b, c, d, e, f = self.transform
        column, row = (self.width - size) // 2, (self.height - size) // 2
        moved = (a, b, a * column + b * row + c, d, e, d * column + e * row + f)
        return Grid(self.crs, moved, size, size)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Samples that are read together.

    Attributes:
        path: their file, relative to the dataset's folder, with forward slashes.
        part: which part of the file: a row group, a chunk.
        told: what is known of them from elsewhere: a row of a CSV.
    """

    path: str
    part: int = 0
    told: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the pixels of a sample lie: a row of ``pixels.parquet``.

    Attributes:
        path: file, relative to the dataset's folder.
        part: part of the file, as in :class:`Block`.
        row: sample within the part.
        offset: DN to be removed.
    """

    path: str
    part: int = 0
    row: int = 0
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample, but for its pixels.

    Attributes:
        id: unique within the dataset.
        place: where its pixels lie.
        grid: of its pixels.
        times: its dates, UTC.
        lonlat: where it is said to be, EPSG:4326; the centre of its grid where ``None``.
        split: ``train``, ``val`` or ``test``, if the dataset has one.
        scene_ids: names of the products that its dates come from.
        labels: classes that the dataset brings along, by layer; kept where no layer of that name is given.
    """

    id: str
    place: Place
    grid: Grid
    times: tuple[datetime, ...]
    lonlat: tuple[float, float] | None = None
    split: str | None = None
    scene_ids: tuple[str, ...] = ()
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """A sample with its pixels: ``(time, band, y, x)`` DN as stored, before the offset is removed; 0 is no data."""

    sample: Sample
    dn_TBHW: NDArray[np.uint16]


@dataclass(frozen=True)
class Lost:
    """A sample, or ``count`` of them, that cannot be read.

    Attributes:
        what: file or sample.
        reason: why, in words without the file's name, so that equal reasons can be counted together.
        count: how many samples.
    """

    what: str
    reason: str
    count: int = 1


class Importer(Protocol):
    """A format of foreign datasets. Making one reads nothing.

    Attributes:
        name: as on the command line.
        about: one line for people.
        license: SPDX identifier of the dataset's own licence, if the format is that of one dataset.
        attribution: whom to name, likewise.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    license: ClassVar[str | None]
    attribution: ClassVar[str | None]

    def __init__(self, folder: Path, options: Options) -> None:
        """Of the dataset in a folder."""
        ...

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether a folder looks like one of this format; looks at names and headers alone."""
        ...

    def facts(self) -> Facts:
        """What is known before a sample is read.

        Raises:
            CatalogError: it is not of this format, or options are missing or make no sense; says what to do.
        """
        ...

    def walk(self) -> Iterator[Block | Lost]:
        """All samples, block by block; files that cannot be looked into are :class:`Lost`."""
        ...

    def load(self, block: Block) -> Iterator[Found | Lost]:
        """The samples of a block, one by one. Raises nothing for bytes that are wrong: they are :class:`Lost`."""
        ...

    def read(self, path: str, part: int, rows: Sequence[int]) -> Iterator[NDArray[np.uint16]]:
        """Pixels of some samples of a block, in the order asked for, as :class:`Found` has them.

        Raises:
            CatalogError: they cannot be read any more.
        """
        ...
