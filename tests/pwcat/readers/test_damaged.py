"""A damaged tile costs the chips that touch it, and one request: no other tile is asked for again."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from pwcat.errors import DamagedError
from pwcat.pixels import serving
from pwcat.pixels.serving import Desk, Effort, Failed, Served
from pwcat.readers import read_chips
from pwcat.recipe import Chip

READERS = ("tiles", "stackstac")
EXTENT, TILE = 1280, 256
CHIP = Chip(bands=["B02", "B03"], size_px=40)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(serving, "RETRY_DELAY_S", 0.001)


@pytest.fixture
def corners(corner):
    """Some everywhere, the last two inside the tile in row 2, column 2."""
    places = np.random.default_rng(0).integers(0, EXTENT - CHIP.size_px, (14, 2)).tolist()
    return [corner(*place) for place in [*places, (520, 520), (600, 650)]]


@pytest.fixture
def scene(make_scene, request):
    tiling = {"blockxsize": TILE, "blockysize": TILE}
    return make_scene(f"damaged-{abs(hash(request.node.name))}", extent_px=EXTENT, B02={**tiling}, B03={**tiling})


@pytest.fixture
def touching(corners, corner):
    """Chips that touch the tile in row 2, column 2, by number."""
    (left, top), (right, bottom) = corner(2 * TILE, 2 * TILE), corner(3 * TILE, 3 * TILE)
    side = 10 * CHIP.size_px
    return {number for number, (x, y) in enumerate(corners) if left - side < x < right and bottom < y < top + side}


def spoil(server, scene, *, place, times=None):
    """Change a bit of that tile of B02 wherever it is sent, at that share of its bytes."""
    path = f"/{scene.id}/B02.tif"
    with rasterio.open(server.folder / path[1:]) as raster:
        start, size = (int(raster.get_tag_item(f"BLOCK_{key}_2_2", "TIFF", bidx=1)) for key in ("OFFSET", "SIZE"))
    whole = (server.folder / path[1:]).read_bytes()
    at = start + int(size * place)
    spoilt = []

    def flip(asked, number, body):
        begin = whole.find(body) if asked == path else -1
        if not 0 <= at - begin < len(body) or begin < 0 or (times is not None and len(spoilt) >= times):
            return None
        spoilt.append(number)
        return body[: at - begin] + bytes([body[at - begin] ^ 0x41]) + body[at - begin + 1 :]

    server.fault = flip
    return spoilt


def serve(scene, source, corners, reader, folder):
    desk = Desk(chip=CHIP, source=source, fallback=(), folder=folder, max_cloud=None, threads=4, reader=reader)
    efforts = {number: Effort() for number in range(len(corners))}
    return list(desk.serve(scene, dict(enumerate(corners)), efforts)), efforts


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("place", [0.01, 0.5, 0.99])
def test_a_damaged_tile_costs_its_chips_and_one_request(
    server, source, make_scene, scene, corners, touching, reader, place, tmp_path
):
    tiling = {"blockxsize": TILE, "blockysize": TILE}
    twin = make_scene(f"{scene.id}-twin", extent_px=EXTENT, B02={**tiling}, B03={**tiling})
    (calm,), _ = serve(twin, source, corners, reader, tmp_path)
    undisturbed = len(server.asked)
    server.reset()
    spoil(server, scene, place=place)
    outcomes, efforts = serve(scene, source, corners, reader, tmp_path)
    (failed,) = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    (served,) = [outcome for outcome in outcomes if isinstance(outcome, Served)]
    assert set(failed.members) == touching
    assert failed.cause == "corrupt data"
    assert f"/{scene.id}/B02.tif: tile in row 2, column 2 is damaged" in failed.reason
    np.testing.assert_array_equal(served.dn, calm.dn[served.members])
    assert len(server.asked) - undisturbed == 1
    assert {number for number, effort in efforts.items() if effort.attempts == 1} == touching


@pytest.mark.parametrize("reader", READERS)
def test_wrong_bytes_that_come_once_are_made_good_by_the_reader(server, source, scene, corners, reader):
    spoilt = spoil(server, scene, place=0.5, times=1)
    got = read_chips(scene, corners, chip=CHIP, source=source, threads=4, reader=reader)
    assert len(spoilt) == 1
    server.reset()
    other = "tiles" if reader == "stackstac" else "stackstac"
    np.testing.assert_array_equal(got, read_chips(scene, corners, chip=CHIP, source=source, threads=4, reader=other))


@pytest.mark.parametrize("reader", READERS)
def test_damage_is_told_by_chip_and_without_a_signature(server, source, scene, corners, touching, reader, monkeypatch):
    monkeypatch.setattr(type(source), "sign", lambda self, href: href + "?token=SECRET")
    spoil(server, scene, place=0.5)
    with pytest.raises(DamagedError, match="tile in row 2, column 2 is damaged") as caught:
        read_chips(scene, corners, chip=CHIP, source=source, threads=4, reader=reader)
    assert caught.value.reasons.keys() == {corners[number] for number in touching}
    assert "SECRET" not in str(caught.value)
    assert all("SECRET" in path for path, _ in server.asked)
