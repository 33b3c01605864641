from __future__ import annotations

import logging
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from pwcat.errors import RegionError
from pwcat.geo.places import read_place_table, read_places

POINTS = np.array([[10.0, 50.0], [-70.5, -33.25], [179.5, 0.0]])


@pytest.fixture
def frame():
    return gpd.GeoDataFrame({"name": ["a", "b", "c"], "size": [1, 2, 3]}, geometry=shapely.points(POINTS), crs=4326)


@pytest.mark.parametrize("name", ["places.gpkg", "places.geojson", "places.fgb"])
def test_vector_files_give_points_and_columns(tmp_path, frame, name):
    frame.to_file(tmp_path / name)
    places = read_places(tmp_path / name, columns=["size"])
    order = np.argsort(places.columns["size"])  # FlatGeobuf sorts by place
    np.testing.assert_allclose(places.centres()[order], POINTS)


def test_geoparquet_gives_points_and_columns(tmp_path, frame):
    frame.rename_geometry("where").to_parquet(tmp_path / "places.parquet")
    places = read_places(tmp_path / "places.parquet", columns=["size"])
    np.testing.assert_array_equal(places.centres(), POINTS)
    assert places.columns["size"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(("lon", "lat"), [("lon", "lat"), ("Longitude", "Latitude")])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_are_read_by_the_names_of_their_columns(tmp_path, lon, lat, separator):
    table = pd.DataFrame({"id": ["a", "b", "c"], lat: POINTS[:, 1], lon: POINTS[:, 0]})
    table.to_csv(tmp_path / "places.csv", index=False, sep=separator, encoding="utf-8-sig")
    np.testing.assert_array_equal(read_places(tmp_path / "places.csv").centres(), POINTS)


def test_a_parquet_table_without_geometry_is_read_by_its_columns(tmp_path):
    pd.DataFrame({"lon": POINTS[:, 0], "lat": POINTS[:, 1]}).to_parquet(tmp_path / "plan.parquet")
    np.testing.assert_array_equal(read_places(tmp_path / "plan.parquet").centres(), POINTS)


@pytest.mark.parametrize("name", ["places.gpkg", "places.parquet"])
def test_case_of_columns_does_not_matter(tmp_path, frame, name):
    frame = frame.rename(columns={"size": "POP_MAX"})
    getattr(frame, "to_parquet" if name.endswith("parquet") else "to_file")(tmp_path / name)
    assert read_places(tmp_path / name, columns=["pop_max"]).columns["pop_max"].tolist() == [1, 2, 3]


def test_a_zipped_shapefile_is_read(tmp_path, frame):
    (tmp_path / "shp").mkdir()
    frame.to_file(tmp_path / "shp" / "places.shp")
    archive = shutil.make_archive(str(tmp_path / "places"), "zip", tmp_path / "shp")
    np.testing.assert_allclose(read_places(Path(archive), columns=["size"]).centres(), POINTS)


def test_columns_of_coordinates_can_be_named(tmp_path):
    pd.DataFrame({"x": POINTS[:, 0], "y": POINTS[:, 1], "lon": 0}).to_csv(tmp_path / "places.csv", index=False)
    np.testing.assert_array_equal(read_places(tmp_path / "places.csv", lon="x", lat="y").centres(), POINTS)


def test_other_crs_are_brought_to_degrees(tmp_path, frame):
    frame.iloc[:2].to_crs("EPSG:3857").to_file(tmp_path / "places.gpkg")
    np.testing.assert_allclose(read_places(tmp_path / "places.gpkg").centres(), POINTS[:2], atol=1e-9)


def test_edges_of_projected_files_stay_where_they_are(tmp_path):
    # The edge between two corners of a polar square passes nearer the pole than the parallel through them.
    square = gpd.GeoSeries([shapely.box(-1e6, -1e6, 1e6, 1e6)], crs="EPSG:3995")
    square.to_file(tmp_path / "polar.gpkg")
    lonlat = shapely.get_coordinates(read_places(tmp_path / "polar.gpkg").geometries)
    edge = gpd.GeoSeries([shapely.Point(0, 1e6)], crs="EPSG:3995").to_crs(4326).iloc[0]
    assert lonlat[:, 1].max() == pytest.approx(edge.y, abs=1e-6)


def test_centres_of_polygons_are_their_centroids(tmp_path):
    gpd.GeoSeries([shapely.box(0, 0, 2, 1)], crs=4326).to_file(tmp_path / "box.gpkg")
    np.testing.assert_allclose(read_places(tmp_path / "box.gpkg").centres(), [[1.0, 0.5]])


def test_the_centre_of_what_the_antimeridian_cuts_lies_within_it(tmp_path):
    halves = shapely.MultiPolygon([shapely.box(179, 0, 180, 2), shapely.box(-180, 0, -177, 2)])
    jumping = shapely.Polygon([(179, 0), (-177, 0), (-177, 2), (179, 2)])
    world = shapely.box(-180, -10, 180, 30)
    gpd.GeoDataFrame(geometry=[halves, jumping, world], crs=4326).to_parquet(tmp_path / "cut.parquet")
    centres = read_places(tmp_path / "cut.parquet").centres()
    np.testing.assert_allclose(centres, [[-179, 1], [-179, 1], [0, 10]], atol=1e-9)


def test_rows_without_a_geometry_are_left_out_and_told(tmp_path, frame, caplog):
    frame.loc[1, "geometry"] = None
    frame.to_parquet(tmp_path / "places.parquet")
    with caplog.at_level(logging.WARNING):
        assert read_places(tmp_path / "places.parquet", columns=["name"]).columns["name"].tolist() == ["a", "c"]
    assert "1 of 3 rows have no geometry and are left out" in caplog.text


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RegionError, match=r"gone\.gpkg: no such file of places; relative paths start from the recipe"):
        read_places(tmp_path / "gone.gpkg")


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "text.gpkg").write_text("no geopackage")
    with pytest.raises(
        RegionError,
        match=r"text\.gpkg: cannot be read as places: .* not recognized as being in a supported file format$",
    ):
        read_places(tmp_path / "text.gpkg")


def test_a_table_without_coordinates_lists_its_columns(tmp_path):
    pd.DataFrame({"id": [1], "lat": [0.0]}).to_parquet(tmp_path / "ids.parquet")
    with pytest.raises(
        RegionError, match=r"no geometry, and no column 'lon' or 'longitude'; its columns: id, lat\. Give"
    ):
        read_places(tmp_path / "ids.parquet")


@pytest.mark.parametrize("name", ["places.gpkg", "places.parquet", "places.csv"])
def test_a_column_that_is_not_there(tmp_path, frame, name):
    path = tmp_path / name
    if name.endswith("csv"):
        pd.DataFrame({"name": ["a"], "size": [1], "lon": [0], "lat": [0]}).to_csv(path, index=False)
    else:
        getattr(frame, "to_parquet" if name.endswith("parquet") else "to_file")(path)
    with pytest.raises(RegionError, match=r"no column 'population'; its columns: name, size"):
        read_places(path, columns=["population"])


def test_coordinates_that_are_no_numbers(tmp_path):
    (tmp_path / "places.csv").write_text("lon,lat\n1,2\n,3\nnorth,4\n")
    with pytest.raises(RegionError, match=r"2 of 3 rows have no number in 'lon' or 'lat'"):
        read_places(tmp_path / "places.csv")


def test_metres_without_a_crs_are_no_degrees(tmp_path):
    pd.DataFrame({"lon": [500_000.0], "lat": [5_000_000.0]}).to_csv(tmp_path / "utm.csv", index=False)
    with pytest.raises(RegionError, match=r"coordinates from 500000 to 500000 .* a projected file must say its CRS"):
        read_places(tmp_path / "utm.csv")


def test_a_file_without_places(tmp_path):
    (tmp_path / "empty.csv").write_text("lon,lat\n")
    with pytest.raises(RegionError, match=r"empty\.csv: holds no places \(0 rows\)"):
        read_places(tmp_path / "empty.csv")


def test_the_separator_is_that_by_which_coordinates_are_named(tmp_path):
    (tmp_path / "a.csv").write_text('lon;lat;"name, in full, of, the, place"\n1,5;2,25;a\n')
    table = read_place_table(tmp_path / "a.csv")
    assert table.to_dict("list") == {"lon": [1.5], "lat": [2.25], "name, in full, of, the, place": ["a"]}


def test_the_better_name_wins_wherever_it_stands(tmp_path):
    pd.DataFrame({"x": [500_000], "y": [1], "Lat": [2.5], "LON": [1.5]}).to_csv(tmp_path / "a.csv", index=False)
    assert read_place_table(tmp_path / "a.csv").to_dict("list") == {
        "x": [500_000],
        "y": [1],
        "lat": [2.5],
        "lon": [1.5],
    }


@given(st.floats(-180, 180), st.floats(-90, 90))
def test_coordinates_come_out_of_a_table_as_they_went_in(tmp_path_factory, lon, lat):
    path = tmp_path_factory.getbasetemp() / "exact.csv"
    path.write_text(f"lon,lat\n{lon!r},{lat!r}\n")
    assert read_place_table(path)[["lon", "lat"]].to_numpy().tolist() == [[lon, lat]]


def test_longitudes_beyond_180_are_brought_back(tmp_path):
    (tmp_path / "a.csv").write_text("lon,lat\n190,1\n-181,1\n180,1\n")
    assert read_place_table(tmp_path / "a.csv")["lon"].tolist() == [-170, 179, 180]


def test_a_table_of_a_geopackage_is_read_by_its_columns(tmp_path):
    pyogrio.write_dataframe(pd.DataFrame({"Longitude": [1.5], "lat": [2.5], "a": ["x"]}), tmp_path / "a.gpkg")
    np.testing.assert_array_equal(read_places(tmp_path / "a.gpkg").centres(), [[1.5, 2.5]])
    assert read_place_table(tmp_path / "a.gpkg").to_dict("list") == {"lon": [1.5], "lat": [2.5], "a": ["x"]}


def test_of_several_layers_the_first_is_read_and_that_is_told(tmp_path, frame, caplog):
    frame.to_file(tmp_path / "a.gpkg", layer="first")
    frame[:1].to_file(tmp_path / "a.gpkg", layer="second")
    assert len(read_places(tmp_path / "a.gpkg")) == 3
    assert "a.gpkg holds the layers first, second: the first is read" in caplog.text


def test_all_columns_of_a_table_are_kept_as_they_are_but_for_the_coordinates(tmp_path, frame):
    full = frame.assign(when=pd.to_datetime(["2021-01-01"] * 3), lon="old", where=[[1], [2, 3], None])
    full.set_index("name").to_parquet(tmp_path / "a.parquet")
    table = read_place_table(tmp_path / "a.parquet")
    assert sorted(table.columns) == ["lat", "lon", "name", "size", "when", "where"]
    assert table[["lon", "lat"]].to_numpy().tolist() == POINTS.tolist()
    assert table["name"].tolist() == ["a", "b", "c"]
    assert table["when"].dtype.kind == "M"
    assert table["where"][1].tolist() == [2, 3]
