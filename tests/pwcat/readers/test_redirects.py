"""A stranger's server says where a file is: readers follow it to public addresses, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rasterio.enums import Resampling

from pwcat.errors import SourceError
from pwcat.providers import OpenSource, addresses
from pwcat.providers.transport import Patience
from pwcat.readers import read_chips, wire
from pwcat.recipe import Chip
from pwcat.search import find_items
from pwcat.sensors.files import Asset, Unread, read_asset
from pwcat.sensors.grids import PixelGrid

NUMBERS = count()  # GDAL keeps what it has read of an address
CHIP = Chip(size_px=16, bands=["B02"])


@pytest.fixture
def stranger(server, monkeypatch) -> OpenSource:
    """A source that is not trusted, in a world whose public addresses are 127.0.0.1; ``localhost`` is no part of that."""
    monkeypatch.setattr(addresses, "_is_public", lambda address: str(address) == "127.0.0.1")
    monkeypatch.setattr(wire, "RETRY_DELAY_S", 0.001)
    return OpenSource(provider="stac", url=server.url, collection="c")


@pytest.fixture
def led(server, make_scene):
    """A scene whose file is elsewhere: at a name of that computer, or at its address."""

    def led(host: str, *, after: int = 0):
        values = np.arange(1, 240 * 240 + 1, dtype=np.uint16).reshape(240, 240)
        make_scene("inner", B02={"values": values})
        scene = make_scene(f"led-{next(NUMBERS)}", B02={"values": values})
        to = f"{server.url.replace('127.0.0.1', host)}/inner/B02.tif"
        server.fault = lambda path, number, body: to if path.startswith("/led") and number > after else None
        return scene

    return led


def asked(server) -> set[str]:
    return {path.split("/")[1].partition("-")[0] for path, _ in server.asked}


@pytest.mark.parametrize("reader", ["auto", "tiles", "stackstac"])
@pytest.mark.parametrize("after", [0, 1])  # a server may do so from the first answer on, or later
def test_chips_are_not_read_where_a_redirect_leads_to_this_computer(server, led, corner, stranger, reader, after):
    scene = led("localhost", after=after)
    with pytest.raises(
        RuntimeError, match="refused to read it: its server leads elsewhere, and localhost is this computer"
    ):
        read_chips(scene, [corner(32, 32)], chip=CHIP, source=stranger, threads=2, reader=reader)
    assert asked(server) == {"led"}


@pytest.mark.parametrize("reader", ["tiles", "stackstac"])
def test_chips_are_read_where_a_redirect_leads_to_public_addresses(server, led, corner, stranger, reader):
    scene = led("127.0.0.1")
    got = read_chips(scene, [corner(32, 32)], chip=CHIP, source=stranger, threads=2, reader=reader)
    assert got[0, 0, 0, 0] == 32 * 240 + 32 + 1
    assert asked(server) == {"led", "inner"}


@pytest.mark.parametrize("reader", ["tiles", "stackstac"])
def test_a_source_that_may_lead_anywhere_does(server, led, corner, source, reader):
    got = read_chips(led("localhost"), [corner(32, 32)], chip=CHIP, source=source, threads=2, reader=reader)
    assert got[0, 0, 0, 0] == 32 * 240 + 32 + 1


@pytest.mark.parametrize("after", [0, 1])
def test_snapshots_are_not_read_where_a_redirect_leads_to_this_computer(server, stranger, after):
    """After a HEAD or from the first answer on; ``localhost`` is not of the public world."""
    (server.folder / "collections").mkdir(exist_ok=True)
    assets = {"geoparquet-items": {"href": f"{server.url}/led.parquet"}}
    (server.folder / "collections" / "c").write_text(json.dumps({"id": "c", "assets": assets}))
    for name in ("led", "inner"):
        pq.write_table(pa.table({"id": ["a"]}), server.folder / f"{name}.parquet")
    to = f"{server.url.replace('127.0.0.1', 'localhost')}/inner.parquet"
    files = count()
    server.fault = lambda path, number, body: to if path == "/led.parquet" and next(files) >= after else None
    with pytest.raises(SourceError, match="refused to read it: its server leads elsewhere, and localhost is this"):
        list(find_items(replace(stranger, search="snapshot"), patience=Patience(attempts=0)))
    assert asked(server) == {"collections", "led.parquet"}


def test_sensors_are_not_read_where_a_redirect_leads_to_this_computer(server, led, stranger):
    href = led("localhost").item["assets"]["B02"]["href"]
    asset = Asset(href=href, indexes=(1,), nodata=0, unencoded=(), resampling=Resampling.nearest)
    grid = PixelGrid(epsg=32631, left=400_000, top=5_300_000, gsd=10, width=16, height=16)
    [(_, unread, retries)] = read_asset(asset, [grid], source=stranger)
    assert isinstance(unread, Unread)
    assert unread.cause == "forbidden"
    assert unread.reason.startswith(f"{href}: refused to read it: its server leads elsewhere, and localhost is")
    assert retries == 0
    assert asked(server) == {"led"}
