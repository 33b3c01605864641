"""Both readers give the same bytes, which are those of the files; and each tile is fetched once."""

from __future__ import annotations

import re

import numpy as np
import pytest
import rasterio

from pwcat.providers.reuse import forget_address
from pwcat.readers import counting, read_chips
from pwcat.readers.kept import KeptTiles
from pwcat.recipe import Chip

READERS = ("tiles", "stackstac")


def read(scene, corners, source, *, reader, **chip):
    chip = Chip(bands=list(scene.item["assets"]), **chip)
    return read_chips(scene, corners, chip=chip, source=source, threads=4, reader=reader)


def stored(server, scene, band):
    with rasterio.open(server.folder / scene.id / f"{band}.tif") as raster:
        return raster.read(1)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"predictor": 1},
        {"compress": "zstd"},
        {"compress": None, "predictor": 1},
        {"compress": "zstd", "predictor": 1, "dtype": "uint8"},
        {"bigtiff": "yes"},
        {"ENDIANNESS": "BIG"},
        {"blockxsize": 128, "blockysize": 32},
        {"nodata": 0, "gaps": 0.2},
        {"sparse_ok": True, "values": np.kron([[0, 1], [1, 0]], np.full((128, 128), 77)).astype("uint16")},
    ],
    ids=lambda profile: ",".join(f"{k}={v}" for k, v in profile.items() if k != "values") or "deflate",
)
def test_chips_of_the_native_grid_are_the_files_own_pixels(
    server, source, make_scene, corner, reader, profile, request
):
    scene = make_scene(re.sub(r"\W", "-", request.node.name), B02=dict(profile), B03={})
    places = [(0, 0), (60, 61), (100, 130), (7, 200)]
    chips = read(scene, [corner(*place) for place in places], source, reader=reader, size_px=40)
    for band, name in enumerate(("B02", "B03")):
        whole = stored(server, scene, name)
        expected = np.stack([whole[r : r + 40, c : c + 40] for r, c in places])
        np.testing.assert_array_equal(chips[:, band], expected)


@pytest.mark.parametrize("reader", READERS)
def test_outside_the_scene_and_without_data_is_zero(server, source, make_scene, corner, reader):
    scene = make_scene("outside", B02={"nodata": 65535, "gaps": 0.3, "gap": 65535})
    chips = read(scene, [corner(-10, -12), corner(220, 215)], source, reader=reader, size_px=48)[:, 0]
    whole = stored(server, scene, "B02")
    whole[whole == 65535] = 0
    padded = np.pad(whole, 60)
    expected = np.stack([padded[r + 60 : r + 108, c + 60 : c + 108] for r, c in ((-10, -12), (220, 215))])
    np.testing.assert_array_equal(chips, expected)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
@pytest.mark.parametrize("nodata", [None, 0, 65535])
def test_both_readers_give_the_same_bytes_of_coarser_bands(server, source, make_scene, corner, resampling, nodata):
    kind = {"nodata": nodata, "gaps": 0.1, "gap": nodata or 0}
    scene = make_scene(
        f"coarse-{resampling}-{nodata}", B02=dict(kind), B05={"gsd": 20.0, **kind}, B01={"gsd": 60.0, **kind}
    )
    corners = [corner(*place) for place in ((0, 0), (13, 57), (-9, 100), (200, 219), (100, 101))]
    tiles, stack = (
        read(scene, corners, source, reader=reader, size_px=48, resampling=resampling) for reader in READERS
    )
    np.testing.assert_array_equal(tiles, stack)


def test_a_chip_is_the_same_bytes_whatever_it_is_read_with(source, make_scene, corner):
    scene = make_scene("company", B01={"gsd": 60.0}, B05={"gsd": 20.0})
    corners = [corner(row, column) for row in (0, 31, 150) for column in (3, 77, 190)]
    for reader in READERS:
        together = read(scene, corners, source, reader=reader, size_px=48, resampling="bilinear")
        for corner_, chip in zip(corners, together, strict=True):
            alone = read(scene, [corner_], source, reader=reader, size_px=48, resampling="bilinear")
            np.testing.assert_array_equal(alone[0], chip)


@pytest.mark.parametrize("resolution_m", [20.0, 30.0, 60.0])
def test_chips_coarser_than_the_file_are_the_same_from_both(source, make_scene, corner, resolution_m):
    scene = make_scene(f"coarser-{resolution_m:g}", B02={}, B05={"gsd": 20.0}, B01={"gsd": 60.0})
    bands = {20.0: ["B02", "B05", "B01"], 30.0: ["B02", "B01"], 60.0: ["B02", "B05", "B01"]}[resolution_m]
    chip = Chip(bands=bands, size_px=16, resolution_m=resolution_m)
    corners = [corner(row, column, resolution_m) for row, column in ((0, 0), (3, 5), (-2, 20))]
    tiles, stack = (
        read_chips(scene, corners, chip=chip, source=source, threads=4, reader=reader) for reader in READERS
    )
    np.testing.assert_array_equal(tiles, stack)


def test_each_tile_is_fetched_once_and_neighbours_together(server, source, make_scene, corner):
    scene = make_scene("once", B02={}, B03={})
    corners = [corner(row, column) for row in range(0, 200, 9) for column in range(0, 200, 11)]
    before = counting.snapshot()
    read(scene, corners, source, reader="tiles", size_px=40)
    after = counting.snapshot()
    asked = [(path, *map(int, span.removeprefix("bytes=").split("-"))) for path, span in server.asked]
    assert len(asked) == 4  # a header and a run of all the tiles, of each file
    assert after.requests - before.requests == 4
    assert after.bytes - before.bytes == server.sent
    server.reset()
    read(scene, corners[:5], source, reader="tiles", size_px=40)
    assert len(server.asked) == 2  # headers are kept
    size = (server.folder / "once" / "B02.tif").stat().st_size
    assert server.sent < size


@pytest.mark.parametrize("reader", READERS)
def test_a_file_at_an_address_that_is_forgotten_is_read_on_its_own_grid(server, source, make_scene, corner, reader):
    coarse = make_scene(f"another-{reader}", B02={"gsd": 20.0})
    read(coarse, [corner(0, 0)], source, reader=reader, size_px=32)
    fine = make_scene(f"another-{reader}", B02={})
    forget_address(server.url)
    chips = read(fine, [corner(40, 60)], source, reader=reader, size_px=32)
    np.testing.assert_array_equal(chips[0, 0], stored(server, fine, "B02")[40:72, 60:92])


def test_shards_that_want_a_header_at_once_share_it(server, source, make_scene, corner):
    from concurrent.futures import ThreadPoolExecutor

    scene = make_scene("shared", B02={})
    server.fault = lambda path, number, body: 0.05
    with ThreadPoolExecutor(8) as executor:
        chips = list(executor.map(lambda _: read(scene, [corner(5, 5)], source, reader="tiles", size_px=8), range(8)))
    assert all(np.array_equal(chip, chips[0]) for chip in chips)
    assert len(server.asked) == 1 + 1  # and its tile, too


def test_a_tile_that_was_read_is_kept_until_others_take_its_room(server, source, make_scene, corner, monkeypatch):
    kept = KeptTiles(most_bytes=20_000, block_bytes=4096)
    monkeypatch.setattr("pwcat.readers.tiles.KEPT", kept)
    scene = make_scene("kept", B02={}, B03={})
    everywhere = [corner(row, column) for row in range(0, 200, 60) for column in range(0, 200, 60)]
    first = read(scene, [corner(5, 5)], source, reader="tiles", size_px=8)
    server.asked.clear()
    np.testing.assert_array_equal(read(scene, [corner(5, 5)], source, reader="tiles", size_px=8), first)
    assert not server.asked
    read(scene, everywhere, source, reader="tiles", size_px=8)
    assert 0 < kept.bytes <= 20_000
    server.asked.clear()
    np.testing.assert_array_equal(read(scene, [corner(5, 5)], source, reader="tiles", size_px=8), first)
    assert server.asked


def test_where_one_read_of_a_tile_fails_another_that_waited_reads_it_itself(server, source, make_scene, corner):
    from concurrent.futures import ThreadPoolExecutor

    scene = make_scene("waited", B02={})
    read(scene, [corner(230, 230)], source, reader="tiles", size_px=8)  # the header
    server.asked.clear()
    server.fault = lambda path, number, body: 404 if number == 1 else 0.2
    with ThreadPoolExecutor(3) as executor:
        reads = [executor.submit(read, scene, [corner(5, 5)], source, reader="tiles", size_px=8) for _ in range(3)]
    assert sorted(one.exception() is None for one in reads) == [False, True, True]
    assert len(server.asked) == 2
