from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from pwcat.errors import SourceError
from pwcat.osm.document import MapImages
from pwcat.osm.imagery import open_imagery
from pwcat.osm.imagery.numbers import as_stored, meaning_of, require_depth
from pwcat.osm.imagery.offers import TileImage
from pwcat.osm.tiles import Tile, encode_tiles
from pwcat.sensors.files import Unread

TILE = Tile(16, 20000, 25000)
CODE = int(encode_tiles(TILE.x, TILE.y))


def write_tile(path, pixels):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="PNG", count=len(pixels), height=pixels.shape[1], width=pixels.shape[2], dtype="uint8"
        ) as raster:
            raster.write(pixels)


def read(said, folder, codes=(CODE,)):
    with open_imagery(said, base_dir=folder) as imagery:
        offer = imagery.offer(np.array(codes, dtype=np.int64), TILE.zoom)
        images = [TileImage(tile=TILE, items=names) for names in offer.items.values()]
        return offer, [outcome for _, outcome, _ in imagery.read(images, offer.documents)]


def test_numbers_of_8_bits_are_one_higher_and_those_of_16_stay():
    values = np.array([0, 1, 255, np.nan])
    assert as_stored(values, 8).tolist() == [1, 2, 256, 0]
    scale, offset = meaning_of(8)
    assert np.array([1, 2, 256]) * scale + offset == pytest.approx([0, 1 / 255, 1])
    assert as_stored(np.array([0, 1, 65535, np.nan]), 16).tolist() == [0, 1, 65535, 0]
    with pytest.raises(SourceError, match=r"its numbers are uint16, and `images\.depth` is 8; say `depth: 16`"):
        require_depth("uint16", 8, where="a.tif")
    with pytest.raises(SourceError, match=r"its numbers are float32, .* make it uint8 or uint16"):
        require_depth("float32", 8, where="a.tif")


def test_a_tile_of_a_folder_is_read_as_it_is_and_averaged_where_it_is_larger(tmp_path):
    pixels = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
    write_tile(tmp_path / f"16_{TILE.x}_{TILE.y}.png", pixels)
    (tmp_path / "readme.txt").write_text("no tile")
    offer, (same,) = read(MapImages(tiles=".", size_px=8), tmp_path, (CODE, CODE + 1))
    assert list(offer.items) == [CODE]
    assert (same == pixels.astype(int) + 1).all()
    _, (half,) = read(MapImages(tiles=".", size_px=4), tmp_path)
    mean = pixels.reshape(3, 4, 2, 4, 2).mean(axis=(2, 4))
    assert np.abs(half - 1 - mean).max() <= 0.5
    _, (double,) = read(MapImages(tiles=".", size_px=16, resampling="nearest"), tmp_path)
    assert (double == np.kron(pixels.astype(int), np.ones((1, 2, 2), int)) + 1).all()


@pytest.mark.parametrize("size", [4, 8])
def test_what_is_transparent_is_no_data(tmp_path, size):
    pixels = np.full((4, 8, 8), 100, dtype=np.uint8)
    pixels[:, :, :4] = 0  # no colour, and not to be seen
    write_tile(tmp_path / f"16_{TILE.x}_{TILE.y}.png", pixels)
    _, (chip,) = read(MapImages(tiles=".", size_px=size), tmp_path)
    assert chip.shape == (3, size, size)
    assert (chip[:, :, : size // 2] == 0).all()
    assert (chip[:, :, size // 2 :] == 101).all()


def test_tiles_of_another_zoom_are_refused(tmp_path):
    write_tile(tmp_path / "3_1_2.png", np.zeros((3, 4, 4), np.uint8))
    with (
        open_imagery(MapImages(tiles="."), base_dir=tmp_path) as imagery,
        pytest.raises(SourceError, match="are of zoom 3, not 16"),
    ):
        imagery.where(16)
    with (
        open_imagery(MapImages(tiles="none"), base_dir=tmp_path) as imagery,
        pytest.raises(SourceError, match=r"holds no zoom_x_y\.webp"),
    ):
        imagery.where(16)


def test_a_tile_that_is_no_picture_is_the_only_one_that_fails(tmp_path):
    name = f"16_{TILE.x}_{TILE.y}.png"
    (tmp_path / name).write_text("no picture")
    _, (outcome,) = read(MapImages(tiles="."), tmp_path)
    assert isinstance(outcome, Unread)
    assert name in outcome.reason
    write_tile(tmp_path / name, np.zeros((1, 4, 4), np.uint8))
    _, (outcome,) = read(MapImages(tiles="."), tmp_path)
    assert "it has 1 band(s), `images.bands` names 3" in outcome.reason


def test_files_of_another_grid_come_onto_the_pixels_of_the_tile(tmp_path):
    """Pixels say where they lie: from 0 in the west to 250 in the east, in degrees; a tile in them has its own share."""
    west, south, east, north = TILE.bounds()
    width, half = east - west, (north - south) / 2
    ramp = np.broadcast_to(np.linspace(0, 249, 250).astype(np.uint8), (1, 250, 250))
    with rasterio.open(
        tmp_path / "ramp.tif", "w", driver="GTiff", count=1, height=250, width=250, dtype="uint8", crs="EPSG:4326",
        transform=rasterio.transform.from_bounds(west - 2 * width, south - half, east + 2 * width, north + half, 250, 250),
    ) as raster:  # fmt: skip
        raster.write(ramp)
    said = MapImages(files="*.tif", bands=["grey"], size_px=50)
    _, (chip,) = read(said, tmp_path)
    expected = 2 * 50 + np.arange(50)  # a fifth of the columns, from the second fifth on
    assert np.abs(chip[0].astype(int) - 1 - expected).max() <= 1
    with open_imagery(said, base_dir=tmp_path) as imagery:
        assert CODE in imagery.where(16)
        assert len(imagery.where(16)) == 5 * 3


@pytest.mark.kit
def test_tiles_of_the_kit_are_their_files(kit):
    folder = kit / "osm_aerial" / "geojepa_naip_z16"
    with open_imagery(MapImages(tiles=str(folder)), base_dir=folder) as imagery:
        codes = imagery.where(16)
        assert len(codes) == 64
        offer = imagery.offer(codes[:1], 16)
        ((name,),) = offer.items.values()
        tile = Tile(*map(int, name.removesuffix(".webp").split("_")))
        ((_, chip, _),) = imagery.read([TileImage(tile=tile, items=(name,))], offer.documents)
        with rasterio.open(folder / name) as raster:
            assert (chip == raster.read().astype(int) + 1).all()
