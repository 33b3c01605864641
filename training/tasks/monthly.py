"""Series of months of single pixels, as Presto's tasks and CropHarvest keep them, and how they are handed on.

A month has 18 numbers: backscatter in dB, Sentinel-2's Level-1C reflectance times 10,000, ERA5-Land's temperature in K and
precipitation in m, height in m and slope in degrees, and an NDVI. A "month" is a window of 30 days, counted back from the
day on which the series ends; weather is that of the calendar month in which the window begins.

The NDVI of these files is left out: it is computed before bands are taken away, with the places of those that are left, and
so is one of B07 and B03. Presto computes its own.

Source: nasaharvest/cropharvest, ``bands.py``, ``config.py`` and ``engineer.py``; nasaharvest/presto,
``dataops/pipelines/s1_s2_era5_srtm.py``.

Shapes: N series, T months.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.providers.records import Encoding
from pwcat.sensors.encoding import encode
from training.batch import UNKNOWN_TIME, Bands

__all__ = ["DAYS", "NUM_CHANNELS", "digital_numbers", "land_cover_numbers", "monthly_bands", "window_middles"]

DAYS = 30  # of a window
NUM_CHANNELS = 18  # of the files; the NDVI is the last
SENTINEL_2 = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")

# As pwcat's cubes keep these instruments; precipitation in finer steps, for its values are metres a day, the mean of a month.
BACKSCATTER = Encoding(scale=0.001, offset=-50.001, unit="dB")
REFLECTANCE = Encoding(scale=1e-4, offset=0.0, unit="1")
ENCODINGS: Mapping[str, Encoding] = {
    "VV": BACKSCATTER,
    "VH": BACKSCATTER,
    **dict.fromkeys(SENTINEL_2, REFLECTANCE),
    "temperature_2m": Encoding(scale=0.01, offset=149.99, unit="K"),
    "total_precipitation": Encoding(scale=2e-6, offset=-2e-6, unit="m"),
    "elevation": Encoding(scale=0.25, offset=-1000.25, unit="m"),
    "slope": Encoding(scale=0.002, offset=-0.002, unit="degree"),
}
LAND_COVER = "dynamic_world"
LAND_COVER_ENCODING = Encoding(scale=1.0, offset=-1.0, unit="class")
MISSING_CLASS = 9


def monthly_bands(*, land_cover: bool = False) -> Bands:
    """What the bands of :func:`digital_numbers` are; with those of :func:`land_cover_numbers` behind them if asked for."""
    known = {**ENCODINGS, **({LAND_COVER: LAND_COVER_ENCODING} if land_cover else {})}
    return Bands(
        names=tuple(known),
        scale=tuple(encoding.scale for encoding in known.values()),
        offset=tuple(encoding.offset for encoding in known.values()),
        unit=tuple(encoding.unit for encoding in known.values()),
    )


def digital_numbers(series_NTC: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Numbers of months (N, T, 18) as chips of one pixel (N, T, 17, 1, 1); NaN, and a reflectance of 0 or less, become 0."""
    channels = []
    for place, encoding in enumerate(ENCODINGS.values()):
        values = np.asarray(series_NTC[..., place], dtype=np.float64)
        if encoding is REFLECTANCE:
            values = np.where(values > 0, values, np.nan) * REFLECTANCE.scale
        channels.append(encode(values, encoding))
    return np.stack(channels, axis=-1)[..., None, None]


def land_cover_numbers(classes_NT: NDArray[np.integer[Any]]) -> NDArray[np.uint16]:
    """Classes of Dynamic World (N, T), 9 where missing, as chips of one pixel (N, T, 1, 1, 1); 0 where missing."""
    known = (classes_NT >= 0) & (classes_NT < MISSING_CLASS)
    return np.where(known, classes_NT + 1, 0).astype(np.uint16)[..., None, None, None]


def window_middles(ends_N: NDArray[np.datetime64], *, steps: int) -> NDArray[np.int64]:
    """The middles of ``steps`` windows of 30 days that end on these days (N, T), seconds since 1970-01-01 UTC.

    Middles, not first days: two windows can begin in one month, as on the 1st and the 31st of May, and their months would
    be one.
    """
    back_T = np.arange(steps, 0, -1) * DAYS - DAYS // 2
    days_NT = ends_N.astype("datetime64[D]")[:, None] - back_T
    seconds_NT = days_NT.astype("datetime64[s]").astype(np.int64)
    return np.where(np.isnat(days_NT), UNKNOWN_TIME, seconds_NT)
