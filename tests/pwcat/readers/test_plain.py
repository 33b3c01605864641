"""A stranger's file is opened as what it should be: one that names other files, of this computer or of its network, is not."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError

from pwcat.gdal import GDAL_OPTIONS
from pwcat.plain import open_plain
from pwcat.readers import read_chips
from pwcat.recipe import Chip
from pwcat.sensors import files
from pwcat.sensors.files import Asset, Unread, read_asset
from pwcat.sensors.grids import PixelGrid
from pwcat.spectra import scoring

CHIP = Chip(size_px=16, bands=["B02"])


def vrt(target: str, side: int = 240) -> str:
    return (
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>EPSG:32631</SRS>'
        "<GeoTransform>399960, 10, 0, 5300040, 0, -10</GeoTransform>"
        '<VRTRasterBand dataType="UInt16" band="1"><NoDataValue>0</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{target}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


@pytest.fixture(params=["file", "server"])
def led(request, server, make_scene):
    """A scene whose file is a VRT: it names one of this computer, or one that a server of its network has."""
    make_scene("inner", B02={})
    scene = make_scene(f"outer-{request.param}", B02={})
    inner = {"file": f"{server.folder}/inner/B02.tif", "server": f"/vsicurl/{server.url}/inner/B02.tif"}[request.param]
    (server.folder / scene.id / "B02.tif").write_text(vrt(inner))
    yield scene
    assert not [path for path, _ in server.asked if path.startswith("/inner/")]


@pytest.mark.parametrize("reader", ["auto", "stackstac"])
@pytest.mark.parametrize("resolution", [10, 15])
def test_chips_are_not_read_from_what_a_vrt_names(led, corner, source, reader, resolution):
    chip = CHIP.model_copy(update={"resolution_m": resolution})
    with pytest.raises(RuntimeError, match="not recognized as being in a supported file format"):
        read_chips(led, [corner(32, 32)], chip=chip, source=source, threads=2, reader=reader)


def test_sensors_and_scores_are_not_read_from_what_a_vrt_names(led, corner, source, monkeypatch):
    monkeypatch.setattr(files, "RETRY_DELAY_S", 0.001)
    href = led.item["assets"]["B02"]["href"]
    asset = Asset(href=href, indexes=(1,), nodata=0, unencoded=(), resampling=Resampling.nearest)
    grid = PixelGrid(epsg=32631, left=400_000, top=5_300_000, gsd=10, width=16, height=16)
    [(_, unread, _)] = read_asset(asset, [grid], source=source)
    assert isinstance(unread, Unread)
    assert "not recognized" in unread.reason
    assert scoring._read(led, [corner(32, 32)], CHIP, source) is None


@pytest.mark.parametrize(("domain", "key"), [("OVERVIEWS", "OVERVIEW_FILE"), ("GEOLOCATION", "X_DATASET")])
def test_a_geotiff_that_names_other_files_is_not_read(server, make_scene, corner, source, domain, key):
    make_scene("inner", B02={})
    scene = make_scene(f"naming-{key}", B02={})
    with rasterio.open(server.folder / scene.id / "B02.tif", "r+") as raster:
        raster.update_tags(ns=domain, **{key: f"/vsicurl/{server.url}/inner/B02.tif"})
    with rasterio.Env(**GDAL_OPTIONS), pytest.raises(RasterioIOError, match=rf"it names other files \({key}\)"):
        open_plain(scene.item["assets"]["B02"]["href"])
    with pytest.raises(RuntimeError, match="names other files"):
        read_chips(scene, [corner(32, 32)], chip=CHIP, source=source, threads=2, reader="stackstac")
    assert not [path for path, _ in server.asked if path.startswith("/inner/")]


@pytest.mark.parametrize("resolution", [10, 20])
def test_jpeg_2000_is_read_over_http(server, make_scene, corner, source, resolution):
    values = np.arange(1, 240 * 240 + 1, dtype=np.uint16).reshape(240, 240)
    scene = make_scene("j2k", B02={"values": values})
    path = server.folder / "j2k" / "B02.tif"
    rasterio.shutil.copy(path, path.with_suffix(".jp2"), driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    scene.item["assets"]["B02"]["href"] = f"{server.url}/j2k/B02.jp2"
    chip = CHIP.model_copy(update={"resolution_m": resolution, "resampling": "nearest"})
    got = read_chips(scene, [corner(32, 32)], chip=chip, source=source, threads=2)
    step = resolution // 10
    assert got[0, 0, 0, 1] - got[0, 0, 0, 0] == step
    assert got[0, 0, 1, 0] - got[0, 0, 0, 0] == step * 240


def test_a_geotiff_reads_as_before_with_a_warp_and_without(make_scene, corner, source):
    values = np.arange(1, 240 * 240 + 1, dtype=np.uint16).reshape(240, 240)
    scene = make_scene("plain", B02={"values": values})
    for resolution in (10, 20):
        chip = CHIP.model_copy(update={"resolution_m": resolution, "resampling": "nearest"})
        got = read_chips(scene, [corner(32, 32)], chip=chip, source=source, threads=2, reader="stackstac")
        step = resolution // 10
        assert got[0, 0, 0, 1] - got[0, 0, 0, 0] == step
        assert got[0, 0, 1, 0] - got[0, 0, 0, 0] == step * 240


@pytest.mark.parametrize("crs", [None, 'LOCAL_CS["bench",UNIT["metre",1]]'])
@pytest.mark.parametrize("reader", ["auto", "stackstac"])
def test_a_file_that_is_nowhere_on_earth_is_told_and_is_no_bug_of_ours(server, make_scene, corner, source, crs, reader):
    scene = make_scene("nowhere", B02={})
    path = server.folder / "nowhere" / "B02.tif"
    with rasterio.open(path) as raster:
        profile, pixels = raster.profile | {"crs": crs}, raster.read()
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)
    with pytest.raises(RuntimeError, match=r"B02\.tif.* its CRS is no place on Earth"):
        read_chips(
            scene, [corner(32, 32)], chip=Chip(size_px=16, bands=["B02"]), source=source, threads=2, reader=reader
        )
