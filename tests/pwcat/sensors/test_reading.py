"""A sensor's pixels on a chip's grid: against closed forms and rasterio; what is no data; servers and files that fail."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.warp import reproject

from pwcat.archive import folder
from pwcat.pixels.outages import OUTAGES
from pwcat.providers import OpenSource
from pwcat.recipe import Chip, Source
from pwcat.sensors.document import Encode, Sensor
from pwcat.sensors.files import Asset, Unread, read_asset
from pwcat.sensors.grids import PixelGrid
from pwcat.sensors.reading import Instrument, Wish, read_sensor
from pwcat.sensors.warping import block_rows, warp, windows_of

EPSG, LEFT, TOP = 32632, 714_000.0, 5_543_000.0
LINEAR = Encode(scale=1e-5, offset=0)


def chip_grid(size=32, left=LEFT + 400, top=TOP - 500, gsd=10.0) -> PixelGrid:
    return PixelGrid(epsg=EPSG, left=left, top=top, gsd=gsd, width=size, height=size)


def radar_file(month: int) -> Asset:
    href = f"archive:s1/S1_{month:02d}/VV.tif"
    return Asset(href=href, indexes=(1,), nodata=None, unencoded=(), resampling=Resampling.bilinear)


def interpolated(path: Path, grid: PixelGrid) -> np.ndarray:
    """Bilinear interpolation by the book: the four pixels around each centre, by distance; NaN if one has no data."""
    with rasterio.open(path) as raster:
        pixels, transform, crs = raster.read(1).astype(np.float64), raster.transform, raster.crs
        pixels[pixels == raster.nodata] = np.nan
    rows, columns = np.mgrid[: grid.height, : grid.width] + 0.5
    x, y = grid.left + grid.gsd * columns, grid.top - grid.gsd * rows
    x, y = Transformer.from_crs(grid.epsg, crs, always_xy=True).transform(x, y)
    column, row = (x - transform.c) / transform.a - 0.5, (y - transform.f) / transform.e - 0.5
    i, j = np.floor(row).astype(int), np.floor(column).astype(int)
    v, u = row - i, column - j
    top = pixels[i, j] * (1 - u) + pixels[i, j + 1] * u
    return top * (1 - v) + (pixels[i + 1, j] * (1 - u) + pixels[i + 1, j + 1] * u) * v


@pytest.mark.parametrize("size", [1, 2, 32])
@pytest.mark.parametrize(("collection", "item", "band"), [("s1", "S1_06", "VV"), ("era5", "ERA5_06", "temperature_2m")])
def test_bilinear_is_bilinear_whatever_the_size_of_the_chip(world, size, collection, item, band):
    path, grid = world.file(collection, item, band), chip_grid(size)
    with rasterio.open(path) as raster:
        got = warp(raster, 1, grid, nodata=None, resampling=Resampling.bilinear)
    expected = interpolated(path, grid)
    assert np.isfinite(expected).all()
    # GDAL's transformer may be off by an eighth of the file's pixel; here it is by far less
    np.testing.assert_allclose(got, expected, rtol=1e-3)


@pytest.mark.parametrize("resampling", [Resampling.nearest, Resampling.bilinear])
def test_pixels_are_those_of_rasterios_own_warp(world, resampling):
    grid, out = chip_grid(left=LEFT + 900), np.full((32, 32), np.nan, dtype=np.float32)
    with rasterio.open(world.file("s1", "S1_06", "VH")) as raster:
        got = warp(raster, 1, grid, nodata=None, resampling=resampling)
        reproject(
            rasterio.band(raster, 1),
            out,
            dst_crs=f"EPSG:{EPSG}",
            dst_transform=grid.transform,
            src_nodata=raster.nodata,
            dst_nodata=np.nan,
            resampling=resampling,
            XSCALE=1,
            YSCALE=1,
        )
    np.testing.assert_array_equal(got, out)


def test_a_chips_pixels_are_a_part_of_those_of_a_larger_chip(world):
    with rasterio.open(world.file("s1", "S1_06", "VV")) as raster:
        large = warp(raster, 1, chip_grid(64), nodata=None, resampling=Resampling.bilinear)
        small = warp(raster, 1, chip_grid(8, LEFT + 560, TOP - 740), nodata=None, resampling=Resampling.bilinear)
    np.testing.assert_allclose(small, large[24:32, 16:24], rtol=1e-3)


def test_a_coarser_chip_takes_means(tmp_path):
    grid = folder.Grid(crs=rasterio.CRS.from_epsg(EPSG), shape=(400, 400), transform=Affine(1, 0, LEFT, 0, -1, TOP))
    rows, columns = np.mgrid[:400, :400]
    folder.write_cog(tmp_path / "x.tif", ((rows + columns) % 2 * 100.0).astype(np.float32), grid=grid, nodata=None)
    with rasterio.open(tmp_path / "x.tif") as raster:
        got = warp(raster, 1, chip_grid(8, LEFT + 100, TOP - 100), nodata=None, resampling=Resampling.bilinear)
    np.testing.assert_allclose(got, 50, atol=1)


@pytest.mark.parametrize(
    ("dtype", "hole", "said", "known"),
    [
        ("float32", math.nan, math.nan, None),
        ("float32", math.nan, None, None),
        ("float32", math.nan, None, -32768),
        ("float32", -32768, -32768, None),
        ("float32", -32768, -32768, 0),
        ("float32", -32768, None, -32768),
        ("uint16", 65535, 65535, None),
        ("uint16", 0, None, 0),
        ("uint8", 255, 255, -32768),
    ],
    ids=str,
)
def test_no_data_is_what_the_file_says_else_what_is_known_else_nan(tmp_path, dtype, hole, said, known):
    pixels = np.full((100, 100), 7, dtype=dtype)
    pixels[40:60, 40:60] = hole
    grid = folder.Grid(crs=rasterio.CRS.from_epsg(EPSG), shape=(100, 100), transform=Affine(10, 0, LEFT, 0, -10, TOP))
    folder.write_cog(tmp_path / "x.tif", pixels, grid=grid, nodata=said)
    with rasterio.open(tmp_path / "x.tif") as raster:
        got = warp(raster, 1, chip_grid(100, LEFT - 100, TOP), nodata=known, resampling=Resampling.bilinear)
    expected = np.full((100, 100), 7.0)
    expected[:, :10] = expected[40:60, 50:70] = np.nan  # beyond the file, and its hole
    np.testing.assert_array_equal(got, expected)


def test_numbers_without_a_name_for_no_data_are_all_data(tmp_path):
    grid = folder.Grid(crs=rasterio.CRS.from_epsg(EPSG), shape=(20, 20), transform=Affine(10, 0, LEFT, 0, -10, TOP))
    folder.write_cog(tmp_path / "x.tif", np.zeros((20, 20), dtype=np.uint8), grid=grid, nodata=None)
    with rasterio.open(tmp_path / "x.tif") as raster:
        assert (warp(raster, 1, chip_grid(10, LEFT, TOP), nodata=None, resampling=Resampling.nearest) == 0).all()


def test_bands_of_one_file_do_not_lend_each_other_data(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.random((2, 100, 100)).astype(np.float32)
    pixels[0, 20:40, 20:40] = pixels[1, 60:80, 60:80] = -32768
    profile = {
        "driver": "GTiff",
        "width": 100,
        "height": 100,
        "dtype": "float32",
        "crs": f"EPSG:{EPSG}",
        "nodata": -32768,
    }
    where = Affine(10, 0, LEFT + 3, 0, -10, TOP + 4)
    with rasterio.open(tmp_path / "both.tif", "w", count=2, transform=where, **profile) as raster:
        raster.write(pixels)
    for index in (1, 2):
        with rasterio.open(tmp_path / f"{index}.tif", "w", count=1, transform=where, **profile) as raster:
            raster.write(pixels[index - 1], 1)
        with rasterio.open(tmp_path / "both.tif") as both, rasterio.open(tmp_path / f"{index}.tif") as lone:
            together, alone = (
                warp(raster, band, chip_grid(90, LEFT, TOP), nodata=None, resampling=Resampling.bilinear)
                for raster, band in ((both, index), (lone, 1))
            )
        assert 300 < np.isnan(alone).sum() < 600
        np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("west", [-180.0, -180.125, 0.0, -0.125, -10.0])
@pytest.mark.parametrize("lon", [-100.0, -0.2, -0.125, 0.0, 10.0, 179.8, 179.875, 180.0])
def test_longitudes_run_from_any_meridian(tmp_path, west, lon):
    """The whole Earth by quarters of a degree, each pixel a number of its own; chips lie in it, and across its border."""
    shape = {"width": 1440, "height": 8, "count": 1, "dtype": "uint16", "crs": "EPSG:4326"}
    where = Affine(0.25, 0, west, 0, -0.25, 46)
    with rasterio.open(tmp_path / "x.tif", "w", driver="GTiff", transform=where, **shape) as raster:
        raster.write(np.tile(np.arange(1440, dtype=np.uint16), (1, 8, 1)))
    zone = 32601 + int((lon + 180) % 360 // 6)
    x, y = Transformer.from_crs(4326, zone, always_xy=True).transform(lon, 45.05)
    chip = PixelGrid(epsg=zone, left=x - 35, top=y + 40, gsd=10, width=8, height=8)
    rows, columns = np.mgrid[:8, :8] + 0.5
    east = Transformer.from_crs(zone, 4326, always_xy=True).transform(chip.left + 10 * columns, chip.top - 10 * rows)[0]
    with rasterio.open(tmp_path / "x.tif") as raster:
        got = warp(raster, 1, chip, nodata=None, resampling=Resampling.nearest)
        smooth = warp(raster, 1, chip, nodata=None, resampling=Resampling.bilinear)
    np.testing.assert_array_equal(got, (east - west) % 360 // 0.25)
    assert np.isfinite(smooth).all()


@pytest.mark.parametrize("crs", ['LOCAL_CS["bench",UNIT["metre",1]]', "+proj=geos +h=35785831 +lon_0=-75 +sweep=x"])
def test_a_file_that_is_nowhere_near_or_nowhere_on_earth_does_not_end_a_build(tmp_path, crs):
    where = Affine(10, 0, LEFT, 0, -10, TOP)
    shape = {"width": 64, "height": 64, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "x.tif", "w", driver="GTiff", crs=crs, transform=where, **shape) as raster:
        raster.write(np.ones((1, 64, 64), dtype=np.uint8))
    asset = Asset(href=str(tmp_path / "x.tif"), indexes=(1,), nodata=None, unencoded=(), resampling=Resampling.bilinear)
    trusting = OpenSource(provider="stac", url="http://127.0.0.1", collection="x", allow_private=True)
    ((number, outcome, _),) = read_asset(asset, [chip_grid()], source=trusting)
    assert number == 0
    if crs.startswith("LOCAL_CS"):
        assert isinstance(outcome, Unread)
        assert outcome.reason.endswith("x.tif: its CRS is no place on Earth")
    else:
        assert np.isnan(outcome).all()


def test_a_file_that_lies_elsewhere_is_not_asked(world):
    with rasterio.open(world.file("dem", "DEM_W", "elevation")) as raster:
        (window,) = windows_of(raster, chip_grid())
        assert block_rows(raster, window) == 1
        assert windows_of(raster, chip_grid(left=LEFT + 50_000)) == []


def test_means_are_of_tiles_that_are_looked_at(tmp_path):
    """Bilinear takes pixels from beyond a chip that is coarser than the file: the checksums of their tiles are compared too."""
    grid = folder.Grid(crs=rasterio.CRS.from_epsg(EPSG), shape=(400, 400), transform=Affine(1, 0, LEFT, 0, -1, TOP))
    pixels, chip = np.ones((400, 400), dtype=np.float32), chip_grid(2, LEFT + 200, TOP - 200, gsd=40)
    folder.write_cog(tmp_path / "plain.tif", pixels, grid=grid, nodata=None)
    with rasterio.open(tmp_path / "plain.tif") as raster:
        (window,) = windows_of(raster, chip)
        before = warp(raster, 1, chip, nodata=None, resampling=Resampling.bilinear)
    beside = np.ones((400, 400), dtype=bool)
    beside[window.toslices()] = False
    pixels[beside] = 100
    folder.write_cog(tmp_path / "changed.tif", pixels, grid=grid, nodata=None)
    with rasterio.open(tmp_path / "changed.tif") as raster:
        np.testing.assert_array_equal(warp(raster, 1, chip, nodata=None, resampling=Resampling.bilinear), before)


def test_what_a_provider_says_of_unlisted_collections_is_not_said_of_sensors():
    """Heights of 0 m are heights, though Earth Search's record of what it does not list is that of Sentinel-2."""
    source = OpenSource(provider="earth-search", url="https://example.com", collection="cop-dem-glo-30")
    said = Source(provider="earth-search", collection="cop-dem-glo-30")
    sensor = Sensor(source=said, bands=["data"], encode={"data": LINEAR})
    made = Instrument(name="x", sensor=sensor, source=source, chip=Chip(size_px=4, bands=["B02"]))
    assert source.record.nodata == 0
    (file,) = made.files({"id": "a", "properties": {}, "assets": {"data": {"href": "https://example.com/a.tif"}}})
    assert (file.asset.nodata, file.shift) == (None, 0)


def test_a_known_collection_brings_its_numbers_and_sentinel_2_its_offset():
    source = OpenSource(provider="planetary-computer", url="https://example.com", collection="sentinel-1-rtc")
    sensor = Sensor(source=Source(provider="planetary-computer", collection="sentinel-1-rtc"), bands=["VV"])
    made = Instrument(name="x", sensor=sensor, source=source, chip=Chip(size_px=4, bands=["B02"]))
    (file,) = made.files({"id": "a", "properties": {}, "assets": {"vv": {"href": "https://example.com/a.tif"}}})
    assert (file.asset.nodata, file.asset.unencoded, file.layers) == (-32768, (), ("VV",))
    optical = OpenSource(provider="planetary-computer", url="https://example.com", collection="sentinel-2-l2a")
    sensor = Sensor(source=Source(provider="planetary-computer", collection="sentinel-2-l2a"), bands=["B04"])
    assets = {"B04": {"href": "https://example.com/b.tif"}}
    for harmonise, shift in ((True, 1000), (False, 0)):
        chip = Chip(size_px=4, bands=["B02"], harmonise=harmonise)
        made = Instrument(name="x", sensor=sensor, source=optical, chip=chip)
        (file,) = made.files({"id": "b", "properties": {"s2:processing_baseline": "05.10"}, "assets": assets})
        assert file.shift == shift


# Through a server


def instrument(source: OpenSource, *bands: str, size=32, resampling="bilinear", **encode) -> Instrument:
    said = Source(provider="archive", collection=source.collection, url=source.url)
    encodings = {band: LINEAR for band in bands if band != "slope"} | encode
    sensor = Sensor(source=said, bands=list(bands), resampling=resampling, encode=encodings)
    return Instrument(name="x", sensor=sensor, source=source, chip=Chip(size_px=size, bands=["B02"]))


def item_of(collection: str, name: str, *bands: str) -> dict[str, object]:
    assets = {band: {"href": f"archive:{collection}/{name}/{band}.tif"} for band in bands}
    degrees = {"proj:code": "EPSG:4326", "proj:transform": [1 / 3600, 0, 0, 0, -1 / 3600, 0]}
    return {"id": name, "properties": degrees if collection == "dem" else {}, "assets": assets}


def wishes(*names: str, corners=((LEFT + 400, TOP - 500),)) -> list[Wish]:
    return [Wish(epsg=EPSG, corner=corner, items=names) for corner in corners]


def read(made: Instrument, wanted: list[Wish], items: list[dict]) -> list[np.ndarray | Unread]:
    came = {
        number: outcome
        for number, outcome, _ in read_sensor(made, wanted, items={i["id"]: i for i in items}, threads=4)
    }
    return [came[number] for number in range(len(wanted))]


RADAR = item_of("s1", "S1_06", "VV", "VH")


def test_bands_come_in_the_recipes_order_encoded(world, faulty):
    (got,) = read(instrument(faulty().source("s1"), "VH", "VV"), wishes("S1_06"), [RADAR])
    for number, band in enumerate(("VH", "VV")):
        expected = interpolated(world.file("s1", "S1_06", band), chip_grid()) / 1e-5
        assert np.abs(got[number] - expected).max() <= 0.5 + 1


def test_a_chip_across_the_border_of_two_tiles_is_whole_and_the_first_tile_goes_first(world, faulty):
    items = [item_of("dem", name, "elevation") for name in ("DEM_W", "DEM_E")]
    heights = Encode(scale=0.25, offset=-1000.25)
    made = instrument(faulty().source("dem"), "elevation", "slope", size=200, elevation=heights)
    for names in (("DEM_W", "DEM_E"), ("DEM_E", "DEM_W")):
        (got,) = read(made, wishes(*names, corners=[(LEFT + 200, TOP - 200)]), items)
        parts = []
        for name in names:
            with rasterio.open(world.file("dem", name, "elevation")) as raster:
                grid = chip_grid(200, LEFT + 200, TOP - 200)
                parts.append(warp(raster, 1, grid, nodata=None, resampling=Resampling.bilinear))
        assert all(0.2 < np.isnan(part).mean() < 0.8 for part in parts)
        expected = np.where(np.isnan(parts[0]), parts[1], parts[0])
        np.testing.assert_array_equal(got[0], np.rint((expected + 1000.25) / 0.25))
        slope = got[1] * 0.002 - 0.002
        steep = np.degrees(np.arctan(np.hypot(0.05, -0.12)))
        assert np.abs(np.median(slope) - steep) < 0.01
        assert np.abs(slope - steep).max() < 0.6  # where the tiles meet, half a pixel is of one tile alone


def test_what_an_item_lacks_is_no_data(faulty):
    (got,) = read(instrument(faulty().source("s1"), "VV", "VH"), wishes("S1_06"), [item_of("s1", "S1_06", "VV")])
    assert (got[0] > 0).all()
    assert (got[1] == 0).all()


def test_a_slope_without_any_heights_is_no_data(faulty):
    (got,) = read(instrument(faulty().source("s1"), "VV", "slope"), wishes("S1_06"), [RADAR])
    assert (got[0] > 0).all()
    assert (got[1] == 0).all()


def test_a_chip_does_not_hang_on_what_else_is_read(faulty):
    corners = [(LEFT + 100 * k, TOP - 70 * k) for k in range(1, 9)]
    made = instrument(faulty().source("s1"), "VV")
    together = read(made, wishes("S1_06", corners=corners), [RADAR])
    for corner, chip in zip(corners, together, strict=True):
        (alone,) = read(made, wishes("S1_06", corners=[corner]), [RADAR])
        np.testing.assert_array_equal(chip, alone)


def test_numbers_that_cannot_be_kept_are_not(faulty):
    made = instrument(faulty().source("s1"), "VV")
    bare = made.sensor.model_copy(update={"encode": {}})
    (got,) = read(Instrument(name="x", sensor=bare, source=made.source, chip=made.chip), wishes("S1_06"), [RADAR])
    assert isinstance(got, Unread)
    assert "float32 cannot be kept as uint16; say `encode: {VV: {scale: ..., offset: ...}}`" in got.reason


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("rule", "cause"),
    [
        ({"status": 404}, "not found"),
        ({"status": 403}, "forbidden"),
        ({"status": 500}, "server error"),
        ({"short": 0.001}, "corrupt data"),
        ({"cut": 0.5}, "corrupt data"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_had_is_told_in_words(faulty, rule, cause):
    case = faulty({"path": "VV", **rule})
    (got,) = read(instrument(case.source("s1"), "VV", "VH"), wishes("S1_06"), [RADAR])
    assert isinstance(got, Unread)
    assert got.cause == cause, got
    assert "archive:s1/S1_06/VV.tif" in got.reason
    assert "127.0.0.1" not in got.reason


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "rule", [{"status": 503}, {"status": 429, "retry_after": 0}, {"cut": 0.5}, {"short": 0.5}], ids=str
)
def test_what_passes_is_waited_for(faulty, rule):
    case = faulty({"path": "VV", "times": 2, **rule})
    (got,) = read(instrument(case.source("s1"), "VV"), wishes("S1_06"), [RADAR])
    (calm,) = read(instrument(faulty().source("s1"), "VV"), wishes("S1_06"), [RADAR])
    np.testing.assert_array_equal(got, calm)
    assert sum(case.standing()["spoilt"].values()) == 2


@pytest.mark.usefixtures("quick")
def test_a_server_that_fails_throughout_is_not_waited_for_file_by_file(faulty):
    case = faulty({"path": "VV", "status": 500})
    source = case.source("s1")

    def requests(month: int) -> int:
        before = sum(case.standing()["asked"].values())
        (outcome,) = (outcome for _, outcome, _ in read_asset(radar_file(month), [chip_grid()], source=source))
        assert isinstance(outcome, Unread)
        return sum(case.standing()["asked"].values()) - before

    patient, again, *others, sixth = (requests(month) for month in (1, 1, 2, 4, 5, 6, 7))
    assert again <= patient // 3
    assert others == [patient] * 4
    assert sixth == again


@pytest.mark.usefixtures("quick")
def test_a_server_that_is_well_again_is_waited_for_as_before(faulty):
    asset, asked = radar_file(6), faulty({"path": "VV", "status": 500})
    list(read_asset(asset, [chip_grid()], source=asked.source("s1")))
    times = sum(asked.standing()["spoilt"].values())  # so many in vain, and it is given up
    source = faulty({"path": "VV", "status": 500, "times": times}).source("s1")
    for kind, is_down in ((Unread, True), (np.ndarray, False)):
        (outcome,) = (outcome for _, outcome, _ in read_asset(asset, [chip_grid()], source=source))
        assert isinstance(outcome, kind)
        assert OUTAGES.is_down(source, asset.href) == is_down


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("times", [1, None], ids=["passing", "lasting"])
def test_wrong_bytes_in_a_tile_are_not_taken_for_pixels(faulty, times):
    """At a tile that reaches beyond the image, GDAL does not compare checksums."""
    case = faulty({"path": "VV", "skip": 2, "flip": [300_000, 255], **({"times": times} if times else {})})
    (got,) = read(instrument(case.source("s1"), "VV"), wishes("S1_06"), [RADAR])
    if times:
        (calm,) = read(instrument(faulty().source("s1"), "VV"), wishes("S1_06"), [RADAR])
        np.testing.assert_array_equal(got, calm)
    else:
        assert isinstance(got, Unread)
        assert got.cause == "corrupt data"
        assert "archive:s1/S1_06/VV.tif: tile in row 0, column 0 is damaged" in got.reason


@pytest.mark.usefixtures("quick")
def test_a_refusal_is_signed_anew_once(faulty):
    case = faulty({"path": "assets/.*VV", "times": 1, "status": 403}, signed=100)
    (got,) = read(instrument(case.source("s1", signed=True), "VV"), wishes("S1_06"), [RADAR])
    assert isinstance(got, np.ndarray)
    assert case.standing()["tokens"] == 2
    never = faulty({"path": "assets/.*VV", "status": 403}, signed=100)
    (got,) = read(instrument(never.source("s1", signed=True), "VV"), wishes("S1_06"), [RADAR])
    assert isinstance(got, Unread)
    assert got.reason == "archive:s1/S1_06/VV.tif: the server refuses it (403), signed anew as well"
    assert never.standing()["tokens"] == 2


@pytest.mark.usefixtures("quick")
def test_a_token_that_expires_once_the_file_is_open_is_renewed(faulty):
    # A HEAD and the header come; the tile, asked for twice by GDAL, and the look at whether that was refused, do not
    case = faulty({"path": "assets/.*VV", "skip": 2, "times": 3, "status": 403}, signed=100)
    (got,) = read(instrument(case.source("s1", signed=True), "VV"), wishes("S1_06"), [RADAR])
    assert isinstance(got, np.ndarray)
    assert case.standing()["tokens"] == 2


@pytest.mark.usefixtures("quick")
def test_no_secret_is_told(faulty, caplog, capfd):
    caplog.set_level("DEBUG")
    case = faulty({"path": "assets/.*VV", "status": 500}, signed=1000)
    (got,) = read(instrument(case.source("s1", signed=True), "VV"), wishes("S1_06"), [RADAR])
    assert isinstance(got, Unread)
    out, err = capfd.readouterr()
    assert not any("PWCATSECRET" in text for text in (got.reason, caplog.text, out, err))


def test_addresses_of_this_computer_are_refused():
    source = OpenSource(provider="stac", url="https://example.com", collection="x")
    item = {"id": "a", "properties": {}, "assets": {"VV": {"href": "file:///etc/passwd"}}}
    said = Source(provider="stac", collection="x", url="https://example.com")
    sensor = Sensor(source=said, bands=["VV"], encode={"VV": LINEAR})
    made = Instrument(name="x", sensor=sensor, source=source, chip=Chip(size_px=4, bands=["B02"]))
    (got,) = read(made, wishes("a"), [item])
    assert isinstance(got, Unread)
    assert got.cause == "forbidden", got
