"""Tiles that are kept: as they were, within the limit, and given back file by file."""

from __future__ import annotations

import mmap

import pytest

from pwcat.readers import headers
from pwcat.readers.kept import KEPT, OWN_BYTES, KeptTiles, let_go
from pwcat.readers.wire import Address


def tile(size: int, fill: int = 7) -> bytes:
    return bytes([fill]) * size


@pytest.mark.parametrize("size", [1, OWN_BYTES - 1, OWN_BYTES, 3 * OWN_BYTES + 1])
def test_a_tile_comes_back_as_it_was(size):
    tiles = KeptTiles()
    tiles.keep(("a", 1, 0), tile(size))
    found = tiles.get(("a", 1, 0))
    assert found is not None
    assert bytes(memoryview(found)) == tile(size)
    assert tiles.get(("a", 2, 0)) is None  # the file at another state
    assert tiles.bytes == size


@pytest.mark.skipif(not hasattr(mmap, "MAP_ANONYMOUS"), reason="no such memory on this system")
def test_large_tiles_have_memory_of_their_own():
    tiles = KeptTiles()
    for size in (OWN_BYTES - 1, OWN_BYTES):
        tiles.keep(("a", 1, size), tile(size))
    assert [type(tiles.get(("a", 1, size))) for size in (OWN_BYTES - 1, OWN_BYTES)] == [bytes, mmap.mmap]


def test_what_was_wanted_longest_ago_makes_room():
    tiles = KeptTiles(most_bytes=3 * OWN_BYTES)
    for number in range(3):
        tiles.keep(("a", 1, number), tile(OWN_BYTES))
    tiles.get(("a", 1, 0))
    tiles.keep(("a", 1, 3), tile(OWN_BYTES))
    assert [tiles.get(("a", 1, number)) is not None for number in range(4)] == [True, False, True, True]
    assert tiles.bytes == 3 * OWN_BYTES


def test_a_tile_that_is_let_go_while_it_is_read_stays_whole():
    tiles = KeptTiles()
    tiles.keep(("a", 1, 0), tile(OWN_BYTES))
    held = memoryview(tiles.get(("a", 1, 0)))
    tiles.let_go({"a"})
    assert (tiles.bytes, bytes(held)) == (0, tile(OWN_BYTES))


def test_tiles_and_headers_of_files_are_let_go_whatever_their_signature(monkeypatch):
    hrefs = [f"https://example.com/scene-{number}/B02.tif" for number in range(2)]
    keys = [Address.of(f"{href}?sig=1", name=href).key for href in hrefs]
    known = dict.fromkeys(keys)
    monkeypatch.setattr(headers, "_known", known)
    for key in keys:
        KEPT.keep((key, 1, 0), tile(10))
    let_go([f"{hrefs[0]}?sig=2", "s3://bucket/B02.tif"])
    assert [KEPT.get((key, 1, 0)) is not None for key in keys] == [False, True]
    assert list(known) == keys[1:]
