"""Images from rasters of this computer, each brought onto the tiles' pixels by GDAL's warp."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform_bounds

from pwcat.errors import SourceError
from pwcat.osm.document import MapImages
from pwcat.osm.imagery.numbers import as_stored, require_depth
from pwcat.osm.imagery.offers import MERCATOR, Offer, TileImage, grid_of, newest_first, offer_items
from pwcat.osm.tiles import Tile, encode_tiles, from_mercator
from pwcat.pixels.reasons import cause_of
from pwcat.plain import DRIVERS, PICTURES, is_placed, open_plain
from pwcat.sensors.files import Unread
from pwcat.sensors.offers import SensorItems
from pwcat.sensors.warping import warp, windows_of

__all__ = ["FileImages", "moment_of", "read_each", "silent_about_places"]

THREADS = 4
# Less of a tile than this, along either side, is none of it: corners of files are rounded.
NO_SHARE = 1e-3
# Points along each side of a file's outline: in another CRS its sides bend
STEPS = 21
FORMATS = (*DRIVERS, *PICTURES)
MOST_FAULTS = 5  # of files, told by name
# Files that place themselves by one beside them (.aux.xml, .tfw) are found by a look into the folder.
OPTIONS: Mapping[str, Any] = {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE"}


@dataclass(frozen=True, kw_only=True)
class FileImages:
    """Images of georeferenced rasters.

    Attributes:
        said: what the recipe says of them.
        base_dir: the folder that the pattern starts from.
    """

    said: MapImages
    base_dir: Path

    @property
    def name(self) -> str:
        """As ledgers call it."""
        return "files"

    def where(self, zoom: int) -> NDArray[np.int64]:
        """Codes of the tiles that any of the files lies on."""
        codes = [_tiles_of(document["mercator"], zoom) for document in self._documents()]
        return np.unique(np.concatenate(codes))

    def offer(self, codes: NDArray[np.int64], zoom: int) -> Offer:
        """The files on each tile."""
        return offer_items(newest_first(self._items()), codes, zoom)

    def _items(self) -> SensorItems:
        documents, moment = self._documents(), moment_of(self.said.day)
        return SensorItems(
            packed=[zlib.compress(json.dumps(document).encode(), level=1) for document in documents],
            outlines=np.array([_outline(document["mercator"]) for document in documents], dtype=object),
            start=np.full(len(documents), moment),
            end=np.full(len(documents), moment),
        )

    def _documents(self) -> list[dict[str, Any]]:
        """What is known of each file, by their paths.

        Raises:
            SourceError: there is none, or one cannot serve; all of these are told.
        """
        assert self.said.files is not None, "the recipe's validator saw to it"
        paths = sorted(path for path in _glob(self.base_dir, self.said.files) if path.suffix.lower() != ".xml")
        if not paths:
            raise SourceError(f"images.files: {self.said.files!r} is no file, seen from {self.base_dir}")
        found, faults = [], []
        with rasterio.Env(**OPTIONS), silent_about_places():
            for path in paths:
                try:
                    found.append(self._document(path))
                except (RasterioError, OSError, SourceError) as exc:
                    faults.append(str(exc) if str(path) in str(exc) else f"{path}: {exc}")
        if faults:
            more = [f"and {len(faults) - MOST_FAULTS:,} more"] if len(faults) > MOST_FAULTS else []
            raise SourceError("images.files: " + "\n  ".join([*faults[:MOST_FAULTS], *more]))
        return found

    def _document(self, path: Path) -> dict[str, Any]:
        with open_plain(str(path), drivers=FORMATS) as raster:
            if not is_placed(raster):
                raise SourceError(f"{path}: nothing says where on Earth it lies")
            if raster.count < len(self.said.bands):
                raise SourceError(f"{path}: it has {raster.count} band(s), `images.bands` names {len(self.said.bands)}")
            for dtype in raster.dtypes[: len(self.said.bands)]:
                require_depth(dtype, self.said.depth, where=str(path))
            mercator = transform_bounds(raster.crs, f"EPSG:{MERCATOR}", *raster.bounds, densify_pts=STEPS)
        name = _relative(path, self.base_dir)
        return {"id": name, "path": name, "mercator": list(mercator)}

    def read(
        self, images: Sequence[TileImage], documents: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[tuple[int, NDArray[np.uint16] | Unread, int]]:
        """Images, a tile at a time in each thread."""

        def read(image: TileImage) -> NDArray[np.uint16]:
            return self._read(image, documents)

        return read_each(images, read)

    def _read(self, image: TileImage, documents: Mapping[str, Mapping[str, Any]]) -> NDArray[np.uint16]:
        grid = grid_of(image.tile, self.said.size_px)
        values = np.full((len(self.said.bands), *grid.shape), np.nan, dtype=np.float32)
        for name in image.items:
            with open_plain(str(self.base_dir / documents[name]["path"]), drivers=FORMATS) as raster:
                if windows_of(raster, grid):
                    bands = [
                        warp(raster, index, grid, nodata=None, resampling=Resampling[self.said.resampling])
                        for index in range(1, len(values) + 1)
                    ]
                    values = np.where(np.isnan(values), np.stack(bands), values)
        return as_stored(values, self.said.depth)


def read_each(images: Sequence[TileImage], read: Any) -> Iterator[tuple[int, NDArray[np.uint16] | Unread, int]]:
    """What a function reads of each image, in threads; a failure is the image's own.

    Args:
        images: to be read.
        read: of one of them, ``(band, y, x)``.
    """

    def attempt(image: TileImage) -> NDArray[np.uint16] | Unread:
        try:
            with rasterio.Env(**OPTIONS):
                pixels: NDArray[np.uint16] = read(image)
                return pixels
        except (RasterioError, OSError, SourceError, RuntimeError) as exc:
            words = " ".join(str(exc).split())
            told = words if image.items[0] in words else f"{image.items[0]}: {words}"
            return Unread(cause=cause_of(words), reason=told)

    with ThreadPoolExecutor(THREADS, thread_name_prefix="pwcat-image") as pool:
        for place, outcome in enumerate(pool.map(attempt, images)):
            yield place, outcome, 0


@contextmanager
def silent_about_places() -> Iterator[None]:
    """Let rasterio open files that do not say where they lie without a warning; it is asked after.

    Filters of warnings are the whole process's: this is held by one thread, around those that read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def moment_of(day: date | None) -> float:
    """The beginning of a day, seconds since 1970; NaN of none."""
    return float("nan") if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _glob(base_dir: Path, pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_absolute():
        return [found for found in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if found.is_file()]
    return [found for found in base_dir.glob(pattern) if found.is_file()]


def _relative(path: Path, base_dir: Path) -> str:
    try:
        return path.relative_to(base_dir).as_posix()
    except ValueError:
        return path.as_posix()


def _outline(mercator: Sequence[float]) -> shapely.Polygon:
    """A box of EPSG:3857 in degrees: its sides stay straight there."""
    west, south, east, north = mercator
    lon, lat = from_mercator([west, east], [south, north])
    return shapely.box(lon[0], lat[0], lon[1], lat[1])


def _tiles_of(mercator: Sequence[float], zoom: int) -> NDArray[np.int64]:
    """Codes of the tiles that a box of EPSG:3857 shares more with than an edge."""
    west, _, east, north = Tile(0, 0, 0).mercator_bounds()
    side, last = (east - west) / 2**zoom, 2**zoom - 1
    x = [(mercator[0] - west) / side + NO_SHARE, (mercator[2] - west) / side - NO_SHARE]
    y = [(north - mercator[3]) / side + NO_SHARE, (north - mercator[1]) / side - NO_SHARE]
    (x0, x1), (y0, y1) = (np.clip(np.floor(each), 0, last).astype(int) for each in (x, y))
    columns, rows = np.meshgrid(np.arange(x0, x1 + 1), np.arange(y0, y1 + 1))
    return encode_tiles(columns.ravel(), rows.ravel())
