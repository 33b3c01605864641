"""Tiles that are kept: as they were, within the limit, and given back file by file."""

from __future__ import annotations

import mmap

import pytest

from pwcat.readers import headers
from pwcat.readers.kept import KEPT, KeptTiles, let_go
from pwcat.readers.wire import Address

BLOCK = 64 * 1024


def tile(size: int, fill: int = 7) -> bytes:
    return bytes([fill]) * size


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, 3 * BLOCK + 1])
def test_a_tile_comes_back_as_it_was(size):
    tiles = KeptTiles(block_bytes=BLOCK)
    for number in range(3):
        tiles.keep(("a", 1, number), tile(size, number))
    assert [bytes(tiles.get(("a", 1, number))) for number in range(3)] == [tile(size, number) for number in range(3)]
    assert tiles.get(("a", 2, 0)) is None  # the file at another state


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="large pages are of Linux")
def test_a_kernel_without_large_pages_gives_small_ones(monkeypatch):
    monkeypatch.setattr(
        mmap, "MADV_HUGEPAGE", 2**15
    )  # advice that no kernel knows: EINVAL, as of one built without them
    tiles = KeptTiles(block_bytes=BLOCK)
    tiles.keep(("a", 1, 0), tile(9))
    assert bytes(tiles.get(("a", 1, 0))) == tile(9)


def test_a_tile_that_is_kept_again_is_the_newer_one():
    tiles = KeptTiles(block_bytes=BLOCK)
    for fill in (1, 2):
        tiles.keep(("a", 1, 0), tile(BLOCK // 4, fill))
    assert bytes(tiles.get(("a", 1, 0))) == tile(BLOCK // 4, 2)
    tiles.let_go({"a"})
    assert (tiles.get(("a", 1, 0)), tiles.bytes) == (None, 0)


def test_the_block_that_was_wanted_longest_ago_makes_room():
    tiles = KeptTiles(most_bytes=3 * BLOCK, block_bytes=BLOCK)
    for number in range(6):
        tiles.keep(("a", 1, number), tile(BLOCK // 2))
    tiles.get(("a", 1, 0))
    tiles.keep(("a", 1, 6), tile(BLOCK // 2))
    assert [tiles.get(("a", 1, number)) is not None for number in range(7)] == [True] * 2 + [False] * 2 + [True] * 3
    assert tiles.bytes == 3 * BLOCK


def test_what_is_larger_than_all_that_may_be_kept_is_not():
    tiles = KeptTiles(most_bytes=BLOCK, block_bytes=BLOCK)
    tiles.keep(("a", 1, 0), tile(BLOCK + 1))
    assert (tiles.get(("a", 1, 0)), tiles.bytes) == (None, 0)
    tiles.keep(("a", 1, 1), tile(BLOCK))
    assert bytes(tiles.get(("a", 1, 1))) == tile(BLOCK)


def test_memory_is_counted_until_the_last_tile_of_a_block_is_let_go():
    tiles = KeptTiles(block_bytes=BLOCK)
    for number, file in enumerate("aab"):
        tiles.keep((file, 1, number), tile(BLOCK // 3))
    tiles.let_go({"a"})
    assert (tiles.get(("a", 1, 0)), tiles.bytes) == (None, BLOCK)
    tiles.let_go({"b"})
    assert tiles.bytes == 0


def test_a_tile_that_is_let_go_while_it_is_read_stays_whole():
    tiles = KeptTiles(block_bytes=BLOCK)
    tiles.keep(("a", 1, 0), tile(BLOCK))
    held = tiles.get(("a", 1, 0))
    tiles.let_go({"a"})
    for number in range(20):
        tiles.keep(("b", 1, number), tile(BLOCK, 9))
    assert bytes(held) == tile(BLOCK)


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
