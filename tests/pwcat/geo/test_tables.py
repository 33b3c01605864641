from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from pwcat.errors import PwcatError
from pwcat.geo.tables import POINT_FORMATS, write_points

TABLE = pd.DataFrame(
    {"name": ["a", "b"], "lon": [10.5, -70.25], "lat": [50.0, -33.5], "biome": ["Tundra", None], "size": [1, 2]}
)


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def read_back(path):
    if path.suffix == ".csv":
        table = pd.read_csv(path)
        return gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(table["lon"], table["lat"]), crs=4326)
    return gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)


@pytest.mark.parametrize("suffix", [*POINT_FORMATS, ".FGB"])
def test_points_come_back_from_every_format_and_nothing_else_is_left(tmp_path, suffix):
    path = tmp_path / "new" / f"out{suffix}"
    for _ in range(2):  # the second time, it is replaced
        write_points(path, TABLE, layer="sites")
        assert path.is_file()
        assert files_in(path.parent) == [path.name]
    back = read_back(path).sort_values("name")  # FlatGeobuf sorts by place
    assert back.crs.to_epsg() == 4326
    np.testing.assert_array_equal(np.column_stack([back.geometry.x, back.geometry.y]), TABLE[["lon", "lat"]])
    columns = back[TABLE.columns].astype(object).where(back[TABLE.columns].notna(), None)
    assert columns.to_numpy().tolist() == TABLE.astype(object).to_numpy().tolist()


@pytest.mark.parametrize("suffix", POINT_FORMATS)
def test_a_table_without_rows_is_a_header(tmp_path, suffix):
    write_points(tmp_path / f"out{suffix}", TABLE[:0], layer="sites")
    back = read_back(tmp_path / f"out{suffix}")
    assert len(back) == 0
    if suffix != ".geojson":  # which holds no header
        assert [name for name in back.columns if name != "geometry"] == list(TABLE.columns)


@pytest.mark.parametrize("suffix", POINT_FORMATS)
def test_lists_are_kept(tmp_path, suffix):
    shares = [np.array([0.25, 0.75], dtype=np.float32), None]
    write_points(tmp_path / f"out{suffix}", TABLE.assign(shares=shares), layer="sites")
    value = read_back(tmp_path / f"out{suffix}").sort_values("name")["shares"].iloc[0]
    assert list(json.loads(value) if isinstance(value, str) else value) == [0.25, 0.75]


@pytest.mark.parametrize("suffix", POINT_FORMATS)
def test_a_column_named_like_the_geometry_is_kept(tmp_path, suffix):
    write_points(tmp_path / f"out{suffix}", TABLE.assign(geometry="POINT EMPTY"), layer="sites")
    if suffix != ".csv":
        assert (
            read_back(tmp_path / f"out{suffix}").geometry.x.to_numpy()
            == pytest.approx(TABLE["lon"].to_numpy())
        )  # fmt: skip


@pytest.mark.parametrize("suffix", POINT_FORMATS)
def test_where_nothing_can_be_written_is_one_line(tmp_path, suffix):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(PwcatError, match=rf"file/out\{suffix} cannot be written: .*/file is no folder; choose another"):
        write_points(tmp_path / f"file/out{suffix}", TABLE, layer="sites")
    (tmp_path / f"out{suffix}").mkdir()
    with pytest.raises(PwcatError, match=rf"out\{suffix} cannot be written: Is a directory; choose another"):
        write_points(tmp_path / f"out{suffix}", TABLE, layer="sites")
    assert files_in(tmp_path) == sorted(["file", f"out{suffix}"])


def test_a_folder_that_refuses_is_one_line():
    with pytest.raises(
        PwcatError, match=r"/proc/out\.gpkg cannot be written: [A-Z][a-z ]+; choose another place with -o"
    ):
        write_points(Path("/proc/out.gpkg"), TABLE, layer="sites")


def test_columns_that_a_format_cannot_tell_apart_are_one_line(tmp_path):
    with pytest.raises(PwcatError, match=r"out\.gpkg cannot be written: .*; try another format: \.csv, \.parquet"):
        write_points(tmp_path / "out.gpkg", TABLE.assign(Biome="x"), layer="sites")
    assert files_in(tmp_path) == []


def test_other_formats_are_named(tmp_path):
    with pytest.raises(
        PwcatError, match=r"out\.xlsx: points are written as \.csv, \.parquet, \.geojson, \.gpkg, \.fgb"
    ):
        write_points(tmp_path / "out.xlsx", TABLE, layer="sites")
    assert files_in(tmp_path) == []
