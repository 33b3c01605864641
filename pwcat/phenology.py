"""Dates by phenology: a table of places that says when the seasons come there, and each site as its nearest place.

Days are UTC days; distances are geodesics on WGS84.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pwcat.errors import RegionError
from pwcat.geo.geodesy import SiteIndex
from pwcat.geo.places import read_places
from pwcat.recipe import Phenology

__all__ = ["Seasons", "SiteWindows", "read_seasons"]

log = logging.getLogger(__name__)

NOON = np.timedelta64(12, "h")

# Days from 1970 that numpy and Python can both tell as a date.
FIRST_DAY, LAST_DAY = (np.datetime64(day, "D").astype(np.int64) for day in ("0001-01-01", "9999-12-31"))


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteWindows:
    """Windows of dates of sites that want different ones, ``(n, t)`` each.

    Attributes:
        first: first day, ``datetime64[D]``.
        last: last day, included.
        wanted: the moment that is wanted most, ``datetime64[s]`` UTC.
    """

    first: NDArray[np.datetime64]
    last: NDArray[np.datetime64]
    wanted: NDArray[np.datetime64]


class Seasons:
    """Dates of places, and so of the sites near them.

    Args:
        places: ``(p, 2)`` longitudes and latitudes, EPSG:4326.
        days: ``(p, t)`` dates of each, ``datetime64[D]``.
        around: days before and after each date that a scene may be of.
        start: first day that any scene may be of.
        end: last such day.
        max_km: to the nearest place; sites beyond have no dates.
    """

    def __init__(
        self,
        places: NDArray[np.float64],
        days: NDArray[np.datetime64],
        *,
        around: int,
        start: date,
        end: date,
        max_km: float | None = None,
    ) -> None:
        self._index, self._days, self._around = SiteIndex(places), days, around
        self._start, self._end, self._max_km = np.datetime64(start, "D"), np.datetime64(end, "D"), max_km

    def __len__(self) -> int:
        """How many dates a site has."""
        return int(self._days.shape[1])

    def covers(self, lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which sites have a place near enough, ``(n,)``."""
        if self._max_km is None:
            return np.ones(len(lonlat), dtype=bool)
        return np.asarray(self._index.nearest(lonlat)[1] <= self._max_km)

    def at(self, lonlat: NDArray[np.float64]) -> SiteWindows:
        """The windows of sites: those of the nearest place, of several as near the first in the table.

        A window ends where the span does; the moment that is wanted is noon of the date.

        Args:
            lonlat: ``(n, 2)``, EPSG:4326.
        """
        days = self._days[self._index.nearest(lonlat)[0]]
        around = np.timedelta64(self._around, "D")
        return SiteWindows(
            first=np.maximum(days - around, self._start),
            last=np.minimum(days + around, self._end),
            wanted=np.asarray(days.astype("datetime64[s]") + NOON, dtype="datetime64[s]"),
        )


def read_seasons(asked: Phenology, *, start: date, end: date, base_dir: Path) -> Seasons:
    """The seasons that a recipe asks for. Places that lack a date in one of the columns are left out, and counted.

    Args:
        asked: the table and its columns: ISO dates, or days of the year in which ``start`` lies, of which 1 is 1 January; 0 and
            less lie in the year before, 366 and more may lie in the next.
        start: first day of the span.
        end: its last day.
        base_dir: the folder that a relative path starts from.

    Raises:
        RegionError: the table is missing or unreadable or lacks a column, no place has all dates, or one of them is none, or
            lies outside the span.
    """
    path = base_dir / Path(asked.path).expanduser()
    places = read_places(path, columns=asked.columns, lon=asked.lon, lat=asked.lat)
    days = np.column_stack([_days(path, name, places.columns[name], year=start.year) for name in asked.columns])
    whole = np.asarray(~np.isnat(days).any(axis=1))
    if not whole.any():
        raise RegionError(f"{path}: none of {len(days):,} places has a date in each of {', '.join(asked.columns)}")
    if not whole.all():
        log.warning(
            "%s: %d of %d places lack a date in one of %s and are left out",
            path, int((~whole).sum()), len(whole), ", ".join(asked.columns),
        )  # fmt: skip
    for name, column in zip(asked.columns, days.T, strict=True):
        _require_inside(path, name, column, whole, start=start, end=end)
    return Seasons(places.centres()[whole], days[whole], around=asked.days, start=start, end=end, max_km=asked.max_km)


def _require_inside(
    path: Path, name: str, column: NDArray[np.datetime64], whole: NDArray[np.bool_], *, start: date, end: date
) -> None:
    outside = whole & ((column < np.datetime64(start, "D")) | (column > np.datetime64(end, "D")))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise RegionError(
            f"{path}: {int(outside.sum()):,} of {len(column):,} dates in {name!r} lie outside the span of `when`, {start} to "
            f"{end}, the first of them {column[row]} in row {row + 1:,}; widen `start` and `end`, or mend the table (numbers "
            f"are days of {start.year})"
        )


def _days(path: Path, name: str, column: NDArray[Any], *, year: int) -> NDArray[np.datetime64]:
    """A column as days, ``datetime64[D]``; NaT where there is no value.

    Raises:
        RegionError: a value is no date.
    """
    if np.issubdtype(column.dtype, np.datetime64):
        return column.astype("datetime64[D]")
    if column.dtype.kind in "iuf":
        return _days_of_year(path, name, column.astype(np.float64), year=year)
    days = np.full(len(column), np.datetime64("NaT"), dtype="datetime64[D]")
    missing = np.asarray(pd.isna(column)) | (column == "")
    wrong = []
    for row in np.flatnonzero(~missing).tolist():
        day = _day(column[row])
        if day is None:
            wrong.append(row)
        else:
            days[row] = day
    if wrong:
        raise _not_dates(path, name, len(wrong), len(column), wrong[0], column[wrong[0]])
    return days


def _days_of_year(path: Path, name: str, numbers: NDArray[np.float64], *, year: int) -> NDArray[np.datetime64]:
    days = np.full(len(numbers), np.datetime64("NaT"), dtype="datetime64[D]")
    given = ~np.isnan(numbers)
    before = np.datetime64(date(year, 1, 1), "D").astype(np.int64) - 1
    wrong = given & ~((numbers + before >= FIRST_DAY) & (numbers + before < LAST_DAY + 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise _not_dates(path, name, int(wrong.sum()), len(numbers), row, f"{numbers[row]:g}")
    days[given] = (np.floor(numbers[given]).astype(np.int64) + before).astype("datetime64[D]")
    return days


def _day(value: Any) -> np.datetime64 | None:
    """The day of a value that is no number; ``None`` where it is no date."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if isinstance(value, datetime):
        value = (value.astimezone(UTC) if value.tzinfo else value).date()
    return np.datetime64(value, "D") if isinstance(value, date) else None


def _not_dates(path: Path, name: str, wrong: int, rows: int, row: int, value: Any) -> RegionError:
    return RegionError(
        f"{path}: {wrong:,} of {rows:,} values in {name!r} are no dates, the first of them {value!r} in row {row + 1:,}; give "
        "ISO dates (2021-05-31) or days of the year (151)"
    )
