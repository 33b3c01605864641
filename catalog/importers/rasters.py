"""Rasters of strangers as chips: opened through plain drivers alone, with their grid and the names of their bands."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from catalog.importers.importer import Grid
from catalog.importers.numbers import UnlikelyValuesError, to_dn
from pwcat.plain import open_plain

__all__ = ["L1C_BANDS", "L2A_BANDS", "Raster", "RasterError", "band_name", "read_bytes", "read_raster"]

# Sentinel-2's bands in the order of their wavelengths, as nearly every dataset stacks them; level 2A has no B10.
L1C_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
L2A_BANDS = tuple(band for band in L1C_BANDS if band != "B10")

# A chip is no scene: beyond so many pixels a side a file is refused before it is read.
MOST_PIXELS = 4096
MOST_BANDS = 512

# Nothing beside a file is looked for or asked: neither .aux.xml nor .ovr.
_ENV = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}

_OPENING = threading.Lock()


class RasterError(Exception):
    """A raster cannot serve as a chip; the message says why, without naming the file."""


@dataclass(frozen=True, kw_only=True)
class Raster:
    """One file's pixels.

    Attributes:
        dn: ``(band, y, x)``.
        grid: ``None`` where the file has no CRS.
        names: what the file calls its bands; ``None`` for those it does not name.
    """

    dn: NDArray[np.uint16]
    grid: Grid | None
    names: tuple[str | None, ...]


def band_name(text: str | None) -> str | None:
    """Sentinel-2's name of a band, ``B02`` or ``B8A``, however it is written; ``None`` where it is none.

    ``B2``, ``b02``, ``band_2`` and ``B02_10m`` are B02.
    """
    match = re.fullmatch(r"(?:b|band[ _-]?)0?(1[0-2]|[1-9]|8a)(?:[ _-].*)?", (text or "").strip().lower())
    if match is None:
        return None
    number = match[1]
    return "B8A" if number == "8a" else f"B{int(number):02d}"


def read_raster(href: str, *, scale: float | None = None) -> Raster:
    """A raster of the disk.

    Raises:
        RasterError: it cannot be opened or read, or is no chip.
    """
    try:
        with rasterio.Env(**_ENV), _opened(href) as source:
            return _read(source, scale)
    except (RasterioError, OSError, ValueError) as exc:
        raise RasterError(_why(exc, href)) from exc


def _opened(href: str) -> rasterio.DatasetReader:
    # That a file has no georeference is judged later. Filters of warnings are the process's: one thread opens at a time
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return open_plain(href)


def read_bytes(content: bytes, *, scale: float | None = None) -> Raster:
    """A raster that lies in memory, such as a column of Parquet.

    Raises:
        RasterError: it cannot be opened or read, or is no chip.
    """
    if not content:
        raise RasterError("holds no bytes")
    with rasterio.Env(**_ENV), MemoryFile(content) as memory:
        return read_raster(memory.name, scale=scale)


def _read(source: Any, scale: float | None) -> Raster:
    if max(source.height, source.width) > MOST_PIXELS or source.count > MOST_BANDS:
        size = f"{source.count} x {source.height} x {source.width}"
        raise RasterError(f"is no chip: {size} pixels, more than {MOST_PIXELS} a side or {MOST_BANDS} bands")
    kinds = {np.dtype(kind).kind for kind in source.dtypes}
    if not kinds <= set("uif"):
        raise RasterError(f"holds {', '.join(sorted(set(source.dtypes)))}, which are no reflectances")
    if scale is None and set(source.dtypes) == {"uint8"}:
        raise RasterError("holds numbers of 0 to 255, a picture and not reflectances; --scale says what they are worth")
    dn = to_dn(source.read(), nodata=source.nodata, scale=scale)
    grid = None
    if source.crs is not None:
        grid = Grid(_code(source.crs), tuple(source.transform)[:6], source.height, source.width)
    return Raster(dn=dn, grid=grid, names=tuple(band_name(name) for name in source.descriptions))


def _code(crs: Any) -> str:
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(crs.to_wkt())


def _why(exc: Exception, href: str) -> str:
    """The reason without the file's name: equal reasons are counted together."""
    if isinstance(exc, UnlikelyValuesError):
        return str(exc)
    text = str(exc).replace(href, "it").replace("'it'", "it").splitlines()
    return f"cannot be read: {text[0] if text and text[0] else type(exc).__name__}"


def same_names(names: Sequence[str | None]) -> tuple[str, ...] | None:
    """The names, where every band has one of its own; else ``None``."""
    known = tuple(name for name in names if name is not None)
    return known if len(known) == len(names) == len(set(known)) else None
