from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwcat.dates import date_windows
from pwcat.errors import SourceError
from pwcat.recipe import When


def when(start, end, **more):
    return When(start=date.fromisoformat(start), end=date.fromisoformat(end), **more)


def test_windows_are_equal_parts_of_the_span():
    windows = date_windows(when("2021-01-01", "2021-12-31", dates_per_site=4))
    spans = [(window.start.isoformat(), window.end.isoformat()) for window in windows]
    # 365 days in four: edges at round(91.25 k)
    assert spans == [
        ("2021-01-01", "2021-04-01"),
        ("2021-04-02", "2021-07-01"),
        ("2021-07-02", "2021-10-01"),
        ("2021-10-02", "2021-12-31"),
    ]
    (whole,) = date_windows(when("2021-01-01", "2021-01-02"))
    assert whole.wanted == datetime(2021, 1, 2, tzinfo=UTC)
    assert whole.holds(datetime(2021, 1, 2, 23, 59, tzinfo=UTC))
    assert not whole.holds(datetime(2021, 1, 3, tzinfo=UTC))
    assert whole.holds(datetime.fromisoformat("2021-01-03T01:00:00+02:00"))  # still the second, in UTC


@given(start=st.dates(date(1990, 1, 1), date(2050, 1, 1)), days=st.integers(1, 5000), count=st.integers(1, 36))
def test_windows_tile_the_span(start, days, count):
    if count > days:
        return
    windows = date_windows(When(start=start, end=start + timedelta(days=days - 1), dates_per_site=count))
    assert len(windows) == count
    assert (windows[0].start, windows[-1].end) == (start, start + timedelta(days=days - 1))
    for one, following in pairwise(windows):
        assert following.start == one.end + timedelta(days=1)
    lengths = [(window.end - window.start).days + 1 for window in windows]
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1


def test_months_are_whole_months_of_the_first_year_that_has_them():
    windows = date_windows(when("2020-02-15", "2021-12-31", months=[2, 12, 1]))
    assert [(w.start.isoformat(), w.end.isoformat()) for w in windows] == [
        ("2021-02-01", "2021-02-28"),
        ("2020-12-01", "2020-12-31"),
        ("2021-01-01", "2021-01-31"),
    ]
    (leap,) = date_windows(when("2020-01-01", "2020-12-31", months=[2]))
    assert leap.end == date(2020, 2, 29)
    with pytest.raises(SourceError, match=r"when\.months: no whole month 2 lies between 2021-02-02 and 2021-12-31"):
        date_windows(when("2021-02-02", "2021-12-31", months=[2]))


def test_more_windows_than_days_are_refused():
    with pytest.raises(SourceError, match=r"when\.dates_per_site: 3 windows do not fit into the 2 days"):
        date_windows(when("2021-01-01", "2021-01-02", dates_per_site=3))
