"""What the tile reader asks for is part of a build's costs, as what GDAL asks for is."""

from __future__ import annotations

import pytest

from pwcat.costs.traffic import metered
from pwcat.readers import read_chips
from pwcat.recipe import Chip


@pytest.mark.parametrize("reader", ["tiles", "stackstac"])
def test_costs_are_what_the_server_was_asked_for(server, source, make_scene, corner, reader):
    scene = make_scene(f"metered-{reader}", B02={}, B03={})
    chip = Chip(bands=["B02", "B03"], size_px=32)
    with metered() as traffic:
        read_chips(scene, [corner(3, 3)], chip=chip, source=source, threads=4, reader=reader)
    assert traffic.measured
    assert traffic.requests == len(server.asked)
    assert traffic.bytes == server.sent


def test_what_was_read_before_is_not_among_them(server, source, make_scene, corner):
    scene = make_scene("metered-before", B02={})
    chip = Chip(bands=["B02"], size_px=32)
    read_chips(scene, [corner(3, 3)], chip=chip, source=source, threads=4, reader="tiles")
    with metered() as traffic:
        pass
    assert (traffic.requests, traffic.bytes) == (0, 0)
