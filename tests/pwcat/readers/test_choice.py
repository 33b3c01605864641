"""Which reader reads what, where nobody says."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from pwcat.readers import counting, read_chips
from pwcat.recipe import Chip


def read(scene, source, corners, reader, **chip):
    chip = Chip(bands=list(scene.item["assets"]), **{"size_px": 32, **chip})
    return read_chips(scene, corners, chip=chip, source=source, threads=4, reader=reader)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"tiled": False, "blockysize": 16, "blockxsize": 240}, "it is not tiled"),
        ({"compress": "lzw"}, "compressed by"),
        ({"dtype": "int16", "predictor": 1}, "its pixels are int16"),
        ({"epsg": 32632}, "in EPSG:32632, the scene in EPSG:32631"),
        ({"left": 399965.0}, "do not fit"),
        ({"gsd": 15.0}, "do not fit"),
        ({"nodata": 7}, "without data have the value 7"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else None,
)
def test_what_the_tile_reader_cannot_read_is_left_to_gdal(source, make_scene, corner, options, why, request):
    scene = make_scene(re.sub(r"\W", "-", request.node.name), B03={}, B02=options)
    corners = [corner(30, 60)]
    with pytest.raises(RuntimeError, match=why):
        read(scene, source, corners, "tiles")
    np.testing.assert_array_equal(read(scene, source, corners, "auto"), read(scene, source, corners, "stackstac"))


def test_a_striped_file_is_asked_for_its_header_once(server, source, make_scene, corner):
    scene = make_scene("striped", B02={"tiled": False, "blockysize": 16, "blockxsize": 240})
    before = counting.snapshot()
    for _ in range(3):
        read(scene, source, [corner(0, 0)], "auto")
    assert counting.snapshot().requests - before.requests == 1


def test_jpeg_2000_is_not_even_opened(server, source, make_scene, corner):
    scene = make_scene("jp2", B02={})
    asset = {**scene.item["assets"]["B02"], "type": "image/jp2"}
    before = counting.snapshot()
    jp2 = replace(scene, item={**scene.item, "assets": {"B02": asset}})
    with pytest.raises(RuntimeError, match="no GeoTIFF at an http"):
        read(jp2, source, [corner(0, 0)], "tiles")
    assert counting.snapshot() == before


def test_tiles_are_the_first_choice(server, source, make_scene, corner):
    scene = make_scene("first", B02={}, B05={"gsd": 20.0})
    before = counting.snapshot()
    read(scene, source, [corner(0, 0)], "auto")
    assert counting.snapshot().requests - before.requests == len(server.asked) == 4


def test_an_address_that_would_not_survive_is_left_to_gdal(server, source, make_scene, corner):
    scene = make_scene("odd", B02={})
    href = scene.item["assets"]["B02"]["href"].replace("/odd/", "//odd/")
    odd = replace(scene, item={**scene.item, "assets": {"B02": {**scene.item["assets"]["B02"], "href": href}}})
    with pytest.raises(RuntimeError, match="no GeoTIFF at an http"):
        read(odd, source, [corner(0, 0)], "tiles")
