from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from pyproj import Geod

from pwcat.dates import open_dates
from pwcat.errors import RegionError
from pwcat.recipe import When

START, END = date(2021, 1, 1), date(2021, 12, 31)


def seasons(folder, table, columns=("peak",), name="seasons.csv", span=(START, END), **more):
    """The dates of a recipe whose table is this."""
    path = folder / name
    if name.endswith(".csv"):
        table.to_csv(path, index=False)
    elif isinstance(table, gpd.GeoDataFrame) and not name.endswith(".parquet"):
        table.to_file(path)
    else:
        table.to_parquet(path)
    asked = {"path": name, "columns": list(columns), **more}
    return open_dates(When(start=span[0], end=span[1], phenology=asked), base_dir=folder)


def table(**columns):
    return pd.DataFrame({"lon": [0.0, 10.0, 20.0], "lat": [0.0, 45.0, -30.0], **columns})


def test_a_site_has_the_dates_of_its_nearest_place_within_the_span(tmp_path):
    dates = seasons(
        tmp_path,
        table(sos=["2021-03-01", "2021-04-10", "2021-01-05"], peak=[150, 200, 365]),
        columns=["sos", "peak"], days=20,
    )  # fmt: skip
    assert len(dates) == 2
    windows = dates.at(np.array([[11.0, 44.0], [19.0, -31.0], [-1.0, 2.0]]))
    assert windows.wanted.astype("datetime64[h]").astype(str).tolist() == [
        ["2021-04-10T12", "2021-07-19T12"],  # day 200 of 2021
        ["2021-01-05T12", "2021-12-31T12"],
        ["2021-03-01T12", "2021-05-30T12"],
    ]
    assert windows.first.astype(str).tolist() == [
        ["2021-03-21", "2021-06-29"], ["2021-01-01", "2021-12-11"], ["2021-02-09", "2021-05-10"],
    ]  # fmt: skip
    assert windows.last.astype(str).tolist() == [
        ["2021-04-30", "2021-08-08"], ["2021-01-25", "2021-12-31"], ["2021-03-21", "2021-06-19"],
    ]  # fmt: skip


def test_days_of_the_year_go_beyond_it_and_leap_years_have_one_more(tmp_path):
    dates = seasons(tmp_path, table(peak=[1.0, 366.9, 400.0]), span=(date(2020, 1, 1), END), days=0)
    windows = dates.at(table()[["lon", "lat"]].to_numpy())
    assert windows.first[:, 0].astype(str).tolist() == ["2020-01-01", "2020-12-31", "2021-02-03"]


@pytest.mark.parametrize("kind", ["strings", "dates", "timestamps", "zones"])
def test_dates_are_read_from_whatever_a_table_holds(tmp_path, kind):
    days = [date(2021, 5, 1), date(2021, 6, 30), date(2021, 7, 15)]
    values = {
        "strings": ["2021-05-01", " 2021-06-30T23:59:00", "20210715"],
        "dates": days,
        "timestamps": pd.to_datetime(days),
        "zones": pd.to_datetime(
            ["2021-05-01T01:00+00:00", "2021-06-30T23:00+00:00", "2021-07-15"], format="ISO8601", utc=True
        ),
    }[kind]
    frame = table(peak=values)
    points = gpd.GeoDataFrame(frame[["peak"]], geometry=gpd.points_from_xy(frame.lon, frame.lat), crs="EPSG:4326")
    for name, written in (("t.parquet", frame), ("g.parquet", points)):
        windows = seasons(tmp_path, written, name=name).at(frame[["lon", "lat"]].to_numpy())
        assert windows.wanted[:, 0].astype("datetime64[D]").tolist() == days


def test_polygons_stand_for_their_centres_and_of_twins_the_first_counts(tmp_path):
    boxes = [shapely.box(0, 0, 2, 2), shapely.box(0, 0, 2, 2), shapely.box(30, 0, 32, 2)]
    frame = gpd.GeoDataFrame({"peak": [100, 200, 300]}, geometry=boxes, crs="EPSG:4326")
    dates = seasons(tmp_path, frame, name="zones.gpkg", days=0)
    windows = dates.at(np.array([[1.0, 1.0], [17.0, 1.0]]))
    assert windows.wanted[:, 0].astype("datetime64[D]").astype(str).tolist() == ["2021-04-10", "2021-10-27"]
    assert (windows.first == windows.last).all()


def test_sites_beyond_the_distance_have_no_dates(tmp_path):
    dates = seasons(tmp_path, table(peak=[100, 100, 100]), max_km=111.0)
    geod = Geod(ellps="WGS84")
    at = np.array(
        [geod.fwd(10.0, 45.0, azimuth, 1000 * km)[:2] for azimuth, km in ((0, 110.99), (90, 111.01), (200, 5))]
    )
    assert dates.covers(at).tolist() == [True, False, True]
    assert seasons(tmp_path, table(peak=[100, 100, 100])).covers(np.array([[-170.0, 80.0]])).all()


def test_places_without_a_date_are_left_out_and_told(tmp_path, caplog):
    dates = seasons(tmp_path, table(peak=[100, None, 300], end=[150, 250, 350]), columns=["peak", "end"])
    assert "1 of 3 places lack a date in one of peak, end and are left out" in caplog.text
    assert dates.at(np.array([[10.0, 45.0]])).wanted.astype("datetime64[D]").astype(str).tolist() == [
        ["2021-04-10", "2021-05-30"]
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"start": [1, 2, 3]}, r"seasons\.csv: no column 'peak'; its columns: lon, lat, start"),
        (
            {"peak": ["2021-05-01", "May", "2021-13-01"]},
            r"seasons\.csv: 2 of 3 values in 'peak' are no dates, the first of them 'May' in row 2; give ISO dates",
        ),
        ({"peak": [1, 1e300, 2]}, r"1 of 3 values in 'peak' are no dates, the first of them '1e\+300' in row 2"),
        ({"peak": [None, None, None]}, r"none of 3 places has a date in each of peak"),
        (
            {"peak": ["2021-05-01", "2020-12-31", "2022-01-01"]},
            r"2 of 3 dates in 'peak' lie outside the span of `when`, 2021-01-01 to 2021-12-31, the first of them 2020-12-31 in "
            r"row 2; widen `start` and `end`, or mend the table",
        ),
        ({"peak": [0, 1, 366]}, r"2 of 3 dates in 'peak' lie outside .* 2020-12-31 in row 1; .*numbers are days of 2021"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_one_line(tmp_path, columns, message):
    with pytest.raises(RegionError, match=message) as caught:
        seasons(tmp_path, table(**columns))
    assert "\n" not in str(caught.value)


def test_many_sites_have_the_dates_of_the_nearest_of_many_places(tmp_path):
    rng = np.random.default_rng(0)
    places = np.column_stack([rng.uniform(-180, 180, 2000), np.rad2deg(np.arcsin(rng.uniform(-1, 1, 2000)))])
    frame = pd.DataFrame({"lon": places[:, 0], "lat": places[:, 1], "peak": rng.integers(1, 366, 2000)})
    sites = np.column_stack([rng.uniform(-180, 180, 100_000), rng.uniform(-90, 90, 100_000)])
    wanted = seasons(tmp_path, frame).at(sites).wanted[:, 0]
    geod = Geod(ellps="WGS84")
    for k in range(0, 100_000, 5_000):
        km = geod.inv(np.full(2000, sites[k, 0]), np.full(2000, sites[k, 1]), *places.T)[2]
        day = datetime(2021, 1, 1, 12, tzinfo=UTC) + timedelta(days=int(frame.peak[int(np.argmin(km))]) - 1)
        assert wanted[k].item().replace(tzinfo=UTC) == day
