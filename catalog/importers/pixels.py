"""Pixels of an imported collection, read from the dataset's own files: a cube that was never copied.

``pixels.parquet`` says of each sample where its pixels lie, in the order in which they lie there. ``import.json`` says of which
format they are, and how they are read. Both lie in the collection's folder, and name the dataset's folder relative to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr
from numpy.typing import NDArray

from catalog.importers.importer import Importer, Options
from catalog.importers.numbers import remove_offset
from pwcat.cube import DIMS, OFFSET, SCALE, SENTINEL2_BANDS, Cube, SensorBand
from pwcat.errors import CatalogError

__all__ = ["DOCUMENT", "PIXELS", "ForeignCube", "open_foreign_cube"]

DOCUMENT = "import.json"
PIXELS = "pixels.parquet"
VERSION = 1
# Samples that a loader may read together: they lie together in the dataset's files, too.
SHARD_SAMPLES = 64
READ_THREADS = 4
_OF_SAMPLES = ("lon", "lat", "valid_fraction")


@dataclass(frozen=True)
class ForeignCube(Cube):
    """A cube in all that reading asks for, over the files of a foreign dataset.

    Offsets are removed as it is read; chips are the centre windows of the samples' pixels, where those are larger.
    """

    @cached_property
    def document(self) -> dict[str, Any]:
        """``import.json``.

        Raises:
            CatalogError: it cannot be read, or is of another version.
        """
        path = self.path / DOCUMENT
        try:
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise CatalogError(f"{path}: cannot be read ({exc}); add the dataset again") from exc
        if document.get("version") != VERSION:
            raise CatalogError(
                f"{path}: of version {document.get('version')}, this pwcat reads {VERSION}; add it again"
            )
        return document

    @cached_property
    def _importer(self) -> Importer:
        from catalog.importers import find_importer

        root = (self.path / self.document["folder"]).resolve()
        if not root.is_dir():
            raise CatalogError(
                f"{self.path}: the dataset's own files are not at {root} any more; bring them back, or add it again"
            )
        return find_importer(self.document["importer"])(root, Options.from_dict(self.document["options"]))

    @cached_property
    def _places(self) -> dict[str, NDArray[Any]]:
        try:
            table = pq.read_table(self.path / PIXELS)
            files = table["path"].combine_chunks().dictionary_encode()
            times = table["datetime"].combine_chunks().flatten().cast(pa.int64()).to_numpy()
            return {
                "files": np.array(files.dictionary.to_pylist(), dtype=object),
                "file": files.indices.to_numpy(),
                "id": np.array([*table["id"].to_pylist(), None], dtype=object)[:-1],
                **{name: table[name].to_numpy() for name in ("part", "row", "offset", *_OF_SAMPLES)},
                "datetime": times.reshape(-1, self.num_times).astype("datetime64[us]"),
            }
        except (OSError, KeyError, ValueError) as exc:
            raise CatalogError(f"{self.path / PIXELS}: cannot be read ({exc}); add the dataset again") from exc

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """Scale, offset and nodata of the numbers that are read, as in a cube."""
        return {"scale": SCALE, "offset": OFFSET, "nodata": 0, "recipe_hash": self.document["hash"]}

    @property
    def chips_attrs(self) -> dict[str, Any]:
        """What the chips are, as in a cube."""
        return {"long_name": "surface reflectance, scaled", "units": "1e-4", "coordinates": "lon lat"}

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Band names, in order."""
        return tuple(self.document["bands"])

    @cached_property
    def meanings(self) -> tuple[SensorBand, ...]:
        """Nothing: all bands are reflectance."""
        return ()

    @property
    def num_samples(self) -> int:
        """How many samples."""
        return int(self.document["num_samples"])

    @property
    def num_times(self) -> int:
        """Dates a sample."""
        return int(self.document["num_times"])

    @property
    def size_px(self) -> int:
        """Side of a chip in pixels.

        Raises:
            CatalogError: chips differ in size, and none was asked for.
        """
        if self.document["size_px"] is None:
            raise CatalogError(
                f"{self.path}: chips of this dataset differ in size ({self.document['sizes']}); to read them together, add it "
                "again with --size-px, whose centre windows are then the chips"
            )
        return int(self.document["size_px"])

    @property
    def shard_size(self) -> int:
        """Samples that are read together."""
        return SHARD_SAMPLES

    @property
    def chip_shape(self) -> tuple[int, int, int, int]:
        """``(time, band, y, x)``."""
        return self.num_times, len(self.bands), self.size_px, self.size_px

    def stored(self, name: str) -> NDArray[Any] | None:
        """Coordinates of samples and bands; ``None`` for those that it has not."""
        if name in (known := self._of_bands()):
            return known[name]
        if name == "datetime":
            return np.asarray(self._places[name].astype("datetime64[ns]"))
        if name == "boa_offset":
            return np.repeat(self._places["offset"][:, None], self.num_times, axis=1)
        return self._places[name] if name in ("id", *_OF_SAMPLES) else None

    def _of_bands(self) -> dict[str, NDArray[Any]]:
        known = [SENTINEL2_BANDS.get(band, (np.nan, np.nan)) for band in self.bands]
        return {
            "band": np.array(self.bands, dtype=object),
            "wavelength_nm": np.array([nm for nm, _ in known], dtype=np.float64),
            "gsd_m": np.array([gsd for _, gsd in known], dtype=np.float64),
        }

    def read(self, index: NDArray[np.integer[Any]]) -> NDArray[np.uint16]:
        """Chips of some samples in the order asked for, ``(n, time, band, y, x)``; those of one part of a file together.

        Raises:
            CatalogError: a sample is not there, or cannot be read any more.
        """
        wanted: NDArray[np.int64] = np.asarray(index, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.num_samples):
            last = self.num_samples - 1
            raise CatalogError(f"{self.path}: samples are 0 to {last}, asked for {wanted.min()} to {wanted.max()}")
        chips = np.empty((len(wanted), *self.chip_shape), dtype=np.uint16)
        with ThreadPoolExecutor(READ_THREADS) as pool:
            list(pool.map(lambda rows: self._fetch(rows, wanted, chips), self._together(wanted)))
        return chips

    def _together(self, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Positions in ``wanted`` whose pixels lie in one part of one file."""
        places = self._places
        groups: dict[tuple[int, int], list[int]] = {}
        for position, sample in enumerate(wanted.tolist()):
            key = int(places["file"][sample]), int(places["part"][sample])
            groups.setdefault(key, []).append(position)
        yield from (np.array(positions) for positions in groups.values())

    def _fetch(self, rows: NDArray[np.int64], wanted: NDArray[np.int64], chips: NDArray[np.uint16]) -> None:
        samples = wanted[rows]
        first, places = int(samples[0]), self._places
        told = places["row"][samples].tolist()
        path = str(places["files"][places["file"][first]])
        found = self._importer.read(path, int(places["part"][first]), told)
        for position, sample, dn_TBHW in zip(rows, samples, found, strict=True):
            window = centre_window(dn_TBHW, self.size_px)
            if window.shape != self.chip_shape:
                raise CatalogError(
                    f"{path}: has {dn_TBHW.shape}, chips are {self.chip_shape}: the files have changed, add "
                    "the dataset again"
                )
            chips[position] = remove_offset(window, int(places["offset"][sample]))

    def read_shard(self, shard: int) -> NDArray[np.uint16]:
        """Chips of samples that lie together, ``(samples, time, band, y, x)``."""
        start = shard * self.shard_size
        return self.read(np.arange(start, min(start + self.shard_size, self.num_samples)))

    def to_xarray(self) -> xr.Dataset:
        """The chips as a lazy dataset, with what is known of samples and bands."""
        blocks = range(-(-self.num_samples // self.shard_size))
        chips = dask.array.map_blocks(
            lambda block_info=None: self.read_shard(block_info[None]["chunk-location"][0]),
            chunks=(tuple(self._rows(shard) for shard in blocks), *((size,) for size in self.chip_shape)),
            dtype=np.uint16,
            meta=np.empty((0,) * len(DIMS), dtype=np.uint16),
        )
        return xr.Dataset(
            {"chips": (DIMS, chips, {"long_name": "surface reflectance, scaled", "units": "1e-4"})},
            coords={
                **{name: ("band", values) for name, values in self._of_bands().items()},
                **{name: ("sample", self.stored(name)) for name in ("id", *_OF_SAMPLES)},
                **{name: (("sample", "time"), self.stored(name)) for name in ("datetime", "boa_offset")},
            },
            attrs=self.attrs,
        )

    def _rows(self, shard: int) -> int:
        return min(self.shard_size, self.num_samples - shard * self.shard_size)


def centre_window(dn_TBHW: NDArray[np.uint16], size: int | None) -> NDArray[np.uint16]:
    """The centre of pixels, so many a side; all of them where ``None``, or where they are fewer."""
    if size is None:
        return dn_TBHW
    height, width = dn_TBHW.shape[2:]
    top, left = max(0, (height - size) // 2), max(0, (width - size) // 2)
    return dn_TBHW[:, :, top : top + size, left : left + size]


def open_foreign_cube(folder: Path) -> ForeignCube:
    """The cube over the files of an imported collection.

    Raises:
        CatalogError: it is no imported collection, or cannot be read.
    """
    cube = ForeignCube(folder)
    _ = cube.document
    return cube
