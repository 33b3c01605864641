"""Which dates a site wants: windows of days that are the same everywhere, or that hang on the place."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from pwcat.errors import SourceError
from pwcat.phenology import Seasons, read_seasons
from pwcat.recipe import When

__all__ = ["DateWindow", "Dates", "date_windows", "open_dates"]


@dataclass(frozen=True, kw_only=True)
class DateWindow:
    """A span of days, both ends included, and the moment in it that is wanted most."""

    start: date
    end: date

    def holds(self, time: datetime) -> bool:
        """Whether a moment lies in the span (UTC days)."""
        return self.start <= time.astimezone(UTC).date() <= self.end

    @property
    def wanted(self) -> datetime:
        """The middle."""
        first = datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC)
        return first + (self.end - self.start + timedelta(days=1)) / 2


# One window a date for all sites, or seasons that give each site its own.
Dates = list[DateWindow] | Seasons


def open_dates(when: When, *, base_dir: Path) -> Dates:
    """The dates that a recipe asks for.

    Args:
        when: says them.
        base_dir: the folder that a relative path of a table starts from.

    Raises:
        SourceError: the windows do not fit into the span.
        RegionError: a table of dates cannot be read, or holds dates that are none or lie outside the span.
    """
    if when.phenology is None:
        return date_windows(when)
    return read_seasons(when.phenology, start=when.start, end=when.end, base_dir=base_dir)


def date_windows(when: When) -> list[DateWindow]:
    """The windows in which every site wants a scene, in order, where they do not hang on the place.

    Raises:
        SourceError: a wanted month lies outside the span, or the span has fewer days than windows.
    """
    assert when.phenology is None, "its windows hang on the place"
    if when.months is not None:
        return [_month_window(month, when) for month in when.months]
    count = when.dates_per_site or 1
    days = (when.end - when.start).days + 1
    if days < count:
        raise SourceError(
            f"when.dates_per_site: {count} windows do not fit into the {days} days from {when.start} to {when.end}; "
            "widen the span or ask for fewer dates"
        )
    edges = [when.start + timedelta(days=round(days * k / count)) for k in range(count + 1)]
    return [DateWindow(start=a, end=b - timedelta(days=1)) for a, b in pairwise(edges)]


def _month_window(month: int, when: When) -> DateWindow:
    for year in range(when.start.year, when.end.year + 1):
        first = date(year, month, 1)
        last = date(year, month, calendar.monthrange(year, month)[1])
        if when.start <= first and last <= when.end:
            return DateWindow(start=first, end=last)
    raise SourceError(f"when.months: no whole month {month} lies between {when.start} and {when.end}")
