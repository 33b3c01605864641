"""Real GeoTIFFs in an archive: pixels as they were, broken files named, twice as good as once."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from rasterio.shutil import copy
from rasterio.transform import from_origin
from rio_cogeo.cogeo import cog_validate

from pwcat.archive import add_scenes, serve_archive
from pwcat.archive.add import parse_span, parse_when
from pwcat.archive.folder import Grid, read_items, write_cog
from pwcat.archive.search import ItemIndex, Query, parse_datetime
from pwcat.errors import ArchiveError

KIT_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
WHEN = datetime(2021, 6, 1, tzinfo=UTC)


def write_tiff(
    path: Path,
    *,
    count=1,
    dtype="uint16",
    crs: str | None = "EPSG:32633",
    names=(),
    seed=0,
    size=40,
    nodata=None,
    **tags,
) -> Path:
    pixels = np.random.default_rng(seed).integers(1, 5000, (count, size, size)).astype(dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = from_origin(15.0, 50.0, 1e-4, 1e-4) if crs == "EPSG:4326" else from_origin(300_000, 5_000_040, 10, 10)
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=count, dtype=dtype, crs=crs, transform=transform,
        nodata=nodata,
    ) as raster:  # fmt: skip
        raster.write(pixels)
        raster.update_tags(**tags)
        for i, name in enumerate(names, start=1):
            raster.set_band_description(i, name)
    return path


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_pixels_are_those_of(archive: Path, collection: str, item_id: str, source: Path, bands) -> None:
    item = pystac.Item.from_file(archive / collection / item_id / f"{item_id}.json")
    assert set(item.assets) == set(bands)
    with rasterio.open(source) as there:
        for i, name in enumerate(bands, start=1):
            with rasterio.open(item.assets[name].get_absolute_href()) as here:
                np.testing.assert_array_equal(here.read(1), there.read(i))
                assert (here.dtypes[0], here.crs) == (there.dtypes[i - 1], there.crs)
                assert str(here.nodata) == str(there.nodata)  # NaN is not NaN
                assert here.transform == there.transform


@pytest.mark.kit
def test_the_real_tiles_keep_their_pixels_and_twice_changes_nothing(kit: Path, tmp_path: Path):
    files = sorted((kit / "s2_satclip").glob("*.tif"))
    report = add_scenes(tmp_path, files, collection="real", when=WHEN, bands=KIT_BANDS, license="MIT")
    assert len(report.added) == len(files) == 12
    assert report.failed == ()
    for file in files:
        assert_pixels_are_those_of(tmp_path, "real", file.stem, file, KIT_BANDS)
    assert cog_validate(tmp_path / "real" / files[0].stem / "B08.tif", strict=True, quiet=True)[0]
    before = digest(tmp_path)
    again = add_scenes(tmp_path, files, collection="real", when=WHEN, bands=KIT_BANDS, license="MIT")
    assert (again.added, again.kept) == ((), report.added)
    assert digest(tmp_path) == before
    catalog = pystac.Catalog.from_file(tmp_path / "catalog.json")
    assert catalog.get_child("real").license == "MIT"
    assert len(list(catalog.get_items(recursive=True))) == 12
    # a stackstac title that is the same on every band is no band name
    unnamed = add_scenes(tmp_path, files[:1], collection="unnamed", when=WHEN)
    assert set(read_items(tmp_path, "unnamed")[0]["assets"]) == {f"band_{i}" for i in range(1, 13)}
    assert unnamed.added == (files[0].stem,)


@pytest.mark.kit
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_other_real_files_in_degrees_oblong_pixels_and_floats(kit: Path, tmp_path: Path):
    files = sorted((kit / "s2_other").rglob("*.tif"))
    report = add_scenes(tmp_path, files, collection="other", when=WHEN)
    assert len(report.added) == len(files) == 6
    for file in files:
        with rasterio.open(file) as raster:
            count, codes = raster.count, raster.crs.to_string()
        item = pystac.Item.from_file(tmp_path / "other" / file.stem / f"{file.stem}.json")
        assert item.properties["proj:code"] == codes
        if count < 20:
            bands = [f"band_{i}" for i in range(1, count + 1)]
            assert_pixels_are_those_of(tmp_path, "other", file.stem, file, bands)
        else:
            assert len(item.assets) == count == 206
            assert {"B2", "B2_2", "VV", "VV_2"} <= set(item.assets)


def test_files_of_one_band_come_together_as_one_item(tmp_path: Path):
    files = [write_tiff(tmp_path / f"T33_{band}.tif", seed=i) for i, band in enumerate(("B02", "B03", "B8A", "SCL"))]
    report = add_scenes(tmp_path / "a", files, collection="c", when=WHEN, processing_baseline="05.10", cloud_cover=12.5)
    assert report.added == ("T33",)
    (item,) = read_items(tmp_path / "a", "c")
    assert sorted(item["assets"]) == ["B02", "B03", "B8A", "SCL"]
    assert item["properties"]["s2:processing_baseline"] == "05.10"
    assert item["properties"]["eo:cloud_cover"] == 12.5
    (band,) = item["assets"]["B8A"]["bands"]
    assert (band["eo:common_name"], band["raster:scale"], band["raster:offset"]) == ("nir08", 0.0001, -0.1)
    (scl,) = item["assets"]["SCL"]["bands"]
    assert "raster:offset" not in scl
    assert item["properties"]["datetime"] == "2021-06-01T00:00:00Z"


def test_names_come_from_the_option_then_the_descriptions_then_the_count(tmp_path: Path):
    named = write_tiff(tmp_path / "named.tif", count=3, names=("red", "near infrared", "red"))
    plain = write_tiff(tmp_path / "plain.tif", count=2)
    add_scenes(tmp_path / "a", [named, plain], collection="c", when=WHEN)
    items = {item["id"]: list(item["assets"]) for item in read_items(tmp_path / "a", "c")}
    assert items == {"named": ["red", "near-infrared", "red_2"], "plain": ["band_1", "band_2"]}
    report = add_scenes(tmp_path / "b", [named, plain], collection="c", when=WHEN, bands=("B04", "B08"))
    assert report.added == ("plain",)
    assert report.failed == ((named, "has 3 bands, 2 are named"),)


def test_broken_files_are_named_and_the_rest_goes_on(tmp_path: Path):
    good = write_tiff(tmp_path / "good.tif")
    text = tmp_path / "text.tif"
    text.write_text("no TIFF")
    cut = tmp_path / "cut.tif"
    copy(write_tiff(tmp_path / "whole.tif", size=200), cut, driver="COG")  # its directory lies before its pixels
    cut.write_bytes(cut.read_bytes()[:20_000])
    nowhere = tmp_path / "nowhere.tif"
    pair = [write_tiff(tmp_path / "P_B02.tif"), tmp_path / "P_B03.tif"]
    pair[1].write_text("no TIFF")
    report = add_scenes(tmp_path / "a", [good, text, cut, nowhere, *pair], collection="c", when=WHEN)
    assert report.added == ("good",)
    reasons = {path.name: reason for path, reason in report.failed}
    assert set(reasons) == {"text.tif", "cut.tif", "nowhere.tif", "P_B02.tif", "P_B03.tif"}
    assert "not recognized" in reasons["text.tif"]
    assert "band 1" in reasons["cut.tif"]
    assert "No such file" in reasons["nowhere.tif"]
    assert reasons["P_B02.tif"] == "another file of item 'P' cannot be read"
    assert sorted(path.name for path in (tmp_path / "a/c").iterdir()) == ["collection.json", "good"]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_file_without_a_crs_is_named(tmp_path: Path):
    report = add_scenes(tmp_path / "a", [write_tiff(tmp_path / "x.tif", crs=None)], collection="c", when=WHEN)
    assert report.failed == ((tmp_path / "x.tif", "has no coordinate reference system"),)
    assert not (tmp_path / "a/catalog.json").exists()


def test_a_band_in_another_crs_does_not_join_the_item(tmp_path: Path):
    files = [write_tiff(tmp_path / "m_B02.tif"), write_tiff(tmp_path / "m_B03.tif", crs="EPSG:32632", seed=1)]
    report = add_scenes(tmp_path / "a", files, collection="c", when=WHEN)
    ((path, reason),) = report.failed
    assert path.name == "m_B03.tif"
    assert reason.startswith("its CRS is not that of the other files of item 'm'")


def test_the_date_comes_from_the_file_or_must_be_given(tmp_path: Path):
    dated = write_tiff(tmp_path / "dated.tif", TIFFTAG_DATETIME="2019:07:04 10:20:30")
    bare = write_tiff(tmp_path / "bare.tif")
    with pytest.raises(ArchiveError, match=r"no date in bare\.tif: pass --datetime, as --datetime 2021-06-01"):
        add_scenes(tmp_path / "a", [dated, bare], collection="c")
    assert not (tmp_path / "a").exists()
    add_scenes(tmp_path / "a", [dated], collection="c")
    assert read_items(tmp_path / "a", "c")[0]["properties"]["datetime"] == "2019-07-04T10:20:30Z"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2021-06-01", WHEN),
        ("2021:06:01", WHEN),
        ("2021-06-01T02:00:00+02:00", WHEN),
        ("2021:06:01 00:00:00", WHEN),
    ],
)
def test_dates_as_they_are_written(text: str, moment: datetime):
    assert parse_when(text) == moment


def test_another_file_of_the_same_name_is_refused_and_a_twin_is_not(tmp_path: Path):
    first, twin = (write_tiff(tmp_path / folder / "x.tif") for folder in ("one", "two"))
    other = write_tiff(tmp_path / "three/x.tif", seed=9)
    report = add_scenes(tmp_path / "a", [first, twin, other], collection="c", when=WHEN)
    assert report.added == ("x",)
    assert [path for path, _ in report.failed] == [other]
    later = add_scenes(tmp_path / "a", [other], collection="c", when=WHEN)
    assert "is there already, of other files" in later.failed[0][1]
    assert_pixels_are_those_of(tmp_path / "a", "c", "x", first, ["band_1"])


def test_links_leave_the_file_whole_and_are_served(tmp_path: Path):
    file = write_tiff(tmp_path / "x.tif", count=2, crs="EPSG:4326", names=("B02", "B03"), dtype="int16", nodata=-1)
    add_scenes(tmp_path / "a", [file], collection="c", when=WHEN, link=True)
    (item,) = read_items(tmp_path / "a", "c")
    assert [band["name"] for band in item["assets"]["data"]["bands"]] == ["B02", "B03"]
    assert [band["nodata"] for band in item["assets"]["data"]["bands"]] == [-1, -1]
    assert (tmp_path / "a/c/x/x.tif").is_symlink()
    with serve_archive(tmp_path / "a") as url, rasterio.open(f"{url}/assets/c/x/x.tif") as served:
        assert served.count == 2
    west, south, east, north = item["bbox"]
    assert (west, north) == (15.0, 50.0)
    assert (east, south) == pytest.approx((15.004, 49.996))


def test_a_crs_without_a_code_is_kept_as_wkt(tmp_path: Path):
    file = write_tiff(tmp_path / "x.tif", crs="+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84")
    add_scenes(tmp_path / "a", [file], collection="c", when=WHEN)
    (item,) = read_items(tmp_path / "a", "c")
    assert item["properties"]["proj:code"] is None
    assert "Lambert" in item["properties"]["proj:wkt2"]
    assert_pixels_are_those_of(tmp_path / "a", "c", "x", file, ["band_1"])


def test_options_that_cannot_be_are_all_listed(tmp_path: Path):
    with pytest.raises(ArchiveError, match=r"no files are given; collection '\.\./x'.*baseline '4'.*200.*twice: B02"):
        add_scenes(
            tmp_path, [], collection="../x", processing_baseline="4", cloud_cover=200, bands=("B02", "B02")
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2021-06", "2021-06-01T00:00:00Z", "2021-06-30T23:59:59Z"),
        ("2020-02", "2020-02-01T00:00:00Z", "2020-02-29T23:59:59Z"),
        ("2021-12", "2021-12-01T00:00:00Z", "2021-12-31T23:59:59Z"),
        ("2021", "2021-01-01T00:00:00Z", "2021-12-31T23:59:59Z"),
        ("2021-06-01/2021-06-03", "2021-06-01T00:00:00Z", "2021-06-03T23:59:59Z"),
        ("2021-06-01T12:00:00Z/2021-06-03T06:00:00Z", "2021-06-01T12:00:00Z", "2021-06-03T06:00:00Z"),
    ],
)
def test_a_month_a_year_and_an_interval_are_spans(text, first, last):
    assert parse_span(text) == (datetime.fromisoformat(first), datetime.fromisoformat(last))


def test_any_other_date_is_a_moment():
    assert parse_span("2021-06-01") == (WHEN, None)


@pytest.mark.parametrize("text", ["2021-13", "soon", "2021-06-02/2021-06-01", "2021-06-01/"])
def test_what_is_no_span_is_refused(text):
    with pytest.raises(ValueError, match=r"month must be|Invalid isoformat|ends before it starts"):
        parse_span(text)


def test_a_span_that_starts_at_no_date_is_refused(tmp_path):
    with pytest.raises(ArchiveError, match=r"the span that ends at 2021-06-01 00:00:00\+00:00 starts at no date"):
        add_scenes(tmp_path / "archive", [write_tiff(tmp_path / "a.tif")], collection="c", until=WHEN)


def write_globe(path: Path, west: float) -> Path:
    """Monthly weather of the whole Earth, float32, as reanalyses have it: values in the middles of cells, poles included."""
    pixels = np.random.default_rng(0).normal(280, 20, (2, 181, 360)).astype("float32")
    pixels[:, :10, :10] = np.nan
    with rasterio.open(
        path, "w", driver="GTiff", width=360, height=181, count=2, dtype="float32", crs="EPSG:4326", nodata=np.nan,
        transform=from_origin(west - 0.5, 90.5, 1, 1),
    ) as raster:  # fmt: skip
        raster.write(pixels)
    return path


@pytest.mark.parametrize("west", [0, -180])
def test_weather_of_a_month_is_found_everywhere_on_any_day_of_it(tmp_path, west):
    first, last = parse_span("2021-07")
    file = write_globe(tmp_path / "era5.tif", west)
    bands = ("temperature_2m", "total_precipitation")
    add_scenes(tmp_path / "archive", [file], collection="era5", when=first, until=last, bands=bands)
    assert_pixels_are_those_of(tmp_path / "archive", "era5", "era5", file, bands)
    index = ItemIndex(tmp_path / "archive")
    for lon, lat in [(-100.3, 40), (10, 50), (179.9, -16), (-179.9, -16), (0.2, 0), (-0.2, 89.9)]:
        for day in ("2021-07-01T00:00:00Z", "2021-07-31T23:00:00Z"):
            start, end = parse_datetime(day)
            assert len(index.search(Query(area=shapely.Point(lon, lat), start=start, end=end))) == 1
    start, end = parse_datetime("2021-08-01T00:00:00Z/..")
    assert index.search(Query(start=start, end=end)) == []
    item = pystac.Item.from_dict(index.items[0])
    item.stac_extensions = []
    item.validate()
    assert item.common_metadata.end_datetime == last
    assert shapely.geometry.shape(item.geometry).area == pytest.approx(360 * 180)


@pytest.mark.parametrize("shape", [(100, 5000), (2, 600), (600, 1)])
def test_strips_are_files_like_others(tmp_path: Path, shape):
    path, pixels = (
        tmp_path / "strip.tif",
        np.arange(shape[0] * shape[1], dtype=np.uint32).reshape(shape).astype("uint16"),
    )
    grid = Grid(crs=rasterio.CRS.from_epsg(32633), shape=shape, transform=from_origin(300_000, 5_000_040, 10, 10))
    write_cog(path, pixels, grid=grid, nodata=None)
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read(1), pixels)
    assert not cog_validate(path, quiet=True)[1]
