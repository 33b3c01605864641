"""What a server or a file may do to a reader: an error that says which file, or the right pixels; never other pixels."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import rasterio

from pwcat.errors import ForbiddenError
from pwcat.providers import OpenSource
from pwcat.readers import cached, codecs, counting, read_chips, wire
from pwcat.readers.kept import KEPT
from pwcat.recipe import Chip

READERS = ("tiles", "stackstac")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Delays and time limits of a test's size."""
    monkeypatch.setattr(wire, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(wire, "CLIENT", {**wire.CLIENT, "read_timeout": "300ms"})
    wire._store.cache_clear()
    yield
    wire._store.cache_clear()


def read(scene, source, corners, *, reader="tiles", **chip):
    chip = Chip(bands=list(scene.item["assets"]), **{"size_px": 40, **chip})
    return read_chips(scene, corners, chip=chip, source=source, threads=4, reader=reader)


def is_pixels(body: bytes) -> bool:
    return body[:2] not in (b"II", b"MM")  # the header begins with its byte order


def flip(body: bytes, position: int) -> bytes:
    return body[:position] + bytes([body[position] ^ 0x41]) + body[position + 1 :]


DAMAGES = {
    "zeros": lambda body: bytes(len(body)),
    "a page": lambda body: (b"<html>an error page</html>" * len(body))[: len(body)],
    # What libtiff does not notice: it does not always compare the checksum of a deflate stream
    "a bit in the middle": lambda body: flip(body, len(body) // 2),
    "a bit at the start": lambda body: flip(body, 200),
    "a bit of the checksum": lambda body: flip(body, len(body) - 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("inflater", ["gdal", "python"])
def test_wrong_bytes_in_a_tile_are_an_error(
    server, source, make_scene, corner, reader, damage, predictor, inflater, request, monkeypatch
):
    if inflater == "python":
        monkeypatch.setattr(codecs, "_inflater", lambda: None)
    name = re.sub(r"\W", "-", request.node.name)
    scene = make_scene(name, B02={"blockxsize": 256, "blockysize": 256, "predictor": predictor})
    file = server.folder / name / "B02.tif"
    with rasterio.open(file) as raster:
        start, size = (int(raster.get_tag_item(f"BLOCK_{key}_0_0", "TIFF", bidx=1)) for key in ("OFFSET", "SIZE"))
    if reader == "tiles":
        assert read(scene, source, [corner(0, 0)]).any()  # the header is known, and from here on not the tile
        KEPT.forget(server.url)
    whole, stat = file.read_bytes(), file.stat()
    file.write_bytes(whole[:start] + DAMAGES[damage](whole[start : start + size]) + whole[start + size :])
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the server says that it is the same file
    with pytest.raises(RuntimeError, match=r"B02\.tif"):
        read(scene, source, [corner(0, 0)], reader=reader)
    file.write_bytes(whole)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert read(scene, source, [corner(0, 0)], reader=reader).any()  # the wrong bytes are not kept


@pytest.mark.parametrize(
    "form",
    [
        {"nbits": 12, "predictor": 1},
        {"tiled": False, "blockxsize": None, "blockysize": 7},
        {"blockxsize": 128, "blockysize": 64, "sparse_ok": True},
        {"dtype": "uint8"},
    ],
    ids=["12 bits", "strips", "oblong and left out", "uint8"],
)
def test_whole_tiles_of_any_form_pass_the_comparison_of_checksums(server, source, make_scene, corner, form, request):
    values = np.zeros((240, 240), dtype=form.pop("dtype", "uint16"))
    values[:150, :150] = np.arange(150) + 1
    form = {key: value for key, value in form.items() if value is not None}
    scene = make_scene(f"form-{request.node.callspec.indices['form']}", B02={"values": values, **form})
    corners = [corner(0, 0), corner(105, 20), corner(200, 200)]
    got = read(scene, source, corners, reader="stackstac")
    np.testing.assert_array_equal(got[0, 0], values[:40, :40])
    np.testing.assert_array_equal(got[1, 0], values[105:145, 20:60])
    assert not got[2].any()


@pytest.mark.parametrize("side", [64, 256])
def test_no_byte_is_asked_for_twice(server, source, make_scene, corner, side):
    """Neither to compare checksums nor, of small tiles, because GDAL keeps none of those that it reads together."""
    corners = [corner(0, 0), corner(300, 300), corner(640, 640)]
    options = {"blockxsize": side, "blockysize": side}
    read(make_scene(f"twice{side}", extent_px=700, B02=options), source, corners, reader="stackstac")
    asked = sorted(tuple(map(int, wanted[len("bytes=") :].split("-"))) for _, wanted in server.asked if wanted)
    assert len(asked) > len(corners)
    assert all(end < start for (_, end), (start, _) in pairwise(asked))


def test_where_gdal_cannot_be_asked_for_bytes_it_reads_all_the_same(
    server, source, make_scene, corner, monkeypatch, caplog
):
    scene = make_scene("conda", B02={})
    monkeypatch.setattr(cached, "loaded_gdal", lambda: None)
    cached._file_functions.cache_clear()
    with caplog.at_level("DEBUG", logger="pwcat"):
        assert read(scene, source, [corner(0, 0), corner(100, 100)], reader="stackstac").any()
    cached._file_functions.cache_clear()
    assert len([line for line in caplog.messages if "checksums of tiles that GDAL reads are not compared" in line]) == 1


def test_wrong_bytes_of_zstd_that_do_not_add_up_are_an_error(server, source, make_scene, corner):
    scene = make_scene("zstd", B02={"compress": "zstd"})
    server.fault = lambda path, number, body: bytes(len(body)) if is_pixels(body) else None
    with pytest.raises(RuntimeError, match=r"zstd/B02\.tif: tile in row 0, column 0 is damaged"):
        read(scene, source, [corner(0, 0)])


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        (lambda body: ("cut", body[: len(body) // 2]), "stops before the end; asked 5 times"),
        (lambda body: ("short", body[: len(body) // 2]), "bytes came where .* were asked for; asked 5 times"),
        (lambda body: 404, "there is no such file"),
        (lambda body: 416, "the server answers 416$"),
        (lambda body: 503, "the server answers 503; asked 5 times"),
        (lambda body: 429, "the server answers 429; asked 5 times"),
        (lambda body: 1.0, "does not answer in time, or stalls; asked 2 times"),
    ],
    ids=["cut", "short", "404", "416", "503", "429", "stalled"],
)
def test_a_server_that_goes_on_failing_is_an_error(server, source, make_scene, corner, fault, match, request):
    scene = make_scene(f"failing-{request.node.callspec.id}", query="?sig=secret", B02={})
    server.fault = lambda path, number, body: fault(body) if is_pixels(body) else None
    with pytest.raises(RuntimeError, match=match) as caught:
        read(scene, source, [corner(0, 0)])
    assert "a body" not in str(caught.value)


@pytest.mark.parametrize("fault", [429, 500, 503, "cut", "short", "stall"])
def test_a_server_that_recovers_is_asked_again_and_counted(server, source, make_scene, corner, fault):
    scene = make_scene(f"recovers-{fault}", B02={})
    expected = read(scene, source, [corner(0, 0)], reader="stackstac")
    server.reset()

    failures = 1 if fault == "stall" else 2  # silence costs more than a refusal, and is borne with less often

    def fail_at_first(path, number, body):
        if number > failures:
            return None
        return {"cut": ("cut", body[:100]), "short": ("short", body[:100]), "stall": 1.0}.get(fault, fault)

    server.fault = fail_at_first
    before = counting.snapshot()
    np.testing.assert_array_equal(read(scene, source, [corner(0, 0)]), expected)
    after = counting.snapshot()
    assert len(server.asked) == after.requests - before.requests == 2 + failures
    assert after.retries - before.retries == failures


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("when", ["at the header", "at the pixels"])
def test_a_refusal_is_told_from_other_faults(server, source, make_scene, corner, reader, code, when):
    scene = make_scene(f"refused-{reader}-{code}-{when[-6:]}", extent_px=600, B02={})
    corners = [corner(550, 550)]
    if when == "at the pixels":
        read(scene, source, [corner(0, 0)], reader=reader, size_px=8)
    server.fault = lambda path, number, body: code
    with pytest.raises(ForbiddenError, match=r"B02\.tif: the server refuses it") as caught:
        read(scene, source, corners, reader=reader)
    assert caught.value.href == scene.item["assets"]["B02"]["href"]
    server.fault = None
    assert read(scene, source, corners, reader=reader).any()  # a refusal is not remembered


class Signing(OpenSource):
    """Signs with a token that must not be seen."""

    def sign(self, href):
        return href + "?token=SECRET&se=2026"


def signing(source):
    return Signing(provider=source.provider, url=source.url, collection=source.collection, allow_private=True)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("code", [403, 404, 500])
def test_no_error_holds_a_signed_address(server, source, make_scene, corner, reader, code, monkeypatch):
    scene = make_scene(f"signed-{reader}-{code}", B02={})
    assert read(scene, signing(source), [corner(0, 0)], reader=reader).any()
    assert all("token=SECRET" in path for path, _ in server.asked)
    scene = make_scene(f"signed2-{reader}-{code}", B02={})
    server.fault = lambda path, number, body: code
    if reader == "stackstac":
        from pwcat.readers import stackstac as module

        monkeypatch.setattr(module, "GDAL_OPTIONS", {**module.GDAL_OPTIONS, "GDAL_HTTP_MAX_RETRY": 0})
    with pytest.raises(RuntimeError, match=r"B02\.tif") as caught:
        read(scene, signing(source), [corner(0, 0)], reader=reader)
    assert "SECRET" not in "".join(str(each) for each in _chain(caught.value))


def _chain(exc):
    while exc is not None:
        yield exc
        exc = None if exc.__suppress_context__ and exc.__cause__ is None else exc.__cause__ or exc.__context__


def test_a_refusal_of_an_older_signature_is_not_that_of_a_newer(server, source, make_scene, corner):
    """A header that is still under way with the one is not waited for with the other."""
    scene, reached = make_scene("older", B02={}), threading.Event()
    old, new = (make_scene("older", query=f"?token={token}", B02={}) for token in ("old", "new"))

    def refuse_the_old_slowly(path, number, body):
        if "token=old" not in server.asked[number - 1][0]:
            return None
        reached.set()
        time.sleep(0.2)
        return 403

    expected = read(scene, source, [corner(0, 0)], reader="stackstac")
    server.fault = refuse_the_old_slowly
    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(read, old, source, [corner(0, 0)])
        assert reached.wait(10)
        np.testing.assert_array_equal(read(new, source, [corner(0, 0)]), expected)
        assert isinstance(refused.exception(), ForbiddenError)


def test_a_file_that_ends_before_its_tiles_is_an_error(server, source, make_scene, corner):
    scene = make_scene("ends", B02={})
    file = server.folder / "ends" / "B02.tif"
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(RuntimeError, match=r"ends/B02\.tif: it ends before its tiles do"):
        read(scene, source, [corner(190, 190)])


def test_a_file_replaced_since_its_header_was_read_is_read_as_it_is_now(server, source, make_scene, corner):
    old = make_scene("replaced", B02={})
    before = read(old, source, [corner(20, 20)])
    other = make_scene("other", B03={}, B02={"compress": "zstd", "blockxsize": 128})
    expected = read(replace_bands(other, "B02"), source, [corner(20, 20), corner(200, 200)])
    shutil.copy(server.folder / "other" / "B02.tif", server.folder / "replaced" / "B02.tif")
    after = read(old, source, [corner(20, 20), corner(200, 200)])  # of the first the tile is kept, of the second not
    np.testing.assert_array_equal(after, expected)
    assert not np.array_equal(after[:1], before)


def replace_bands(scene, *bands):
    return replace(scene, item={**scene.item, "assets": {band: scene.item["assets"][band] for band in bands}})


def _read_in_child(results, scene, source, corners, reader):
    try:
        results.put(read(scene, source, corners, reader=reader))
    except Exception as exc:
        results.put(str(exc))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_reads_with_gdal(server, source, make_scene, corner):
    """The tile reader's threads are not there any more; spawned processes have their own."""
    scene, corners = make_scene("process", B02={}), [corner(9, 9)]
    expected = read(scene, source, corners)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    got = []
    for reader in ("auto", "tiles"):
        child = context.Process(target=_read_in_child, args=(results, scene, source, corners, reader))
        child.start()
        got.append(results.get(timeout=60))
        child.join()
    np.testing.assert_array_equal(got[0], expected)
    assert "was forked from one that had begun to read tiles" in got[1]
