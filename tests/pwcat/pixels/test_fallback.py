"""Which items of two providers are the same acquisition, by recorded items of both."""

from __future__ import annotations

import json

import pytest

from pwcat.pixels.fallback import Acquisition


def item(name, *, time="2024-04-22T17:53:02Z", square=(0, 1), **properties):
    west, east = square
    ring = [[west, 0], [east, 0], [east, 1], [west, 1], [west, 0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"id": name, "geometry": geometry, "properties": {"datetime": time, **properties}}


EARTH_SEARCH = item(
    "S2A_T13TDE_20240422T174753_L2A",
    platform="sentinel-2a",
    **{
        "grid:code": "MGRS-13TDE",
        "s2:datatake_id": "GS2A_20240422T173911_046141_N05.10",
        "s2:product_uri": "S2A_MSIL2A_20240422T173911_N0510_R098_T13TDE_20240423T004950.SAFE",
    },
)
# As the Planetary Computer and the Copernicus Data Space have it: dated by the datatake, a quarter of an hour before
PLANETARY = item(
    "S2A_MSIL2A_20240422T173911_R098_T13TDE_20240424T010203",
    time="2024-04-22T17:39:11.024000Z",
    platform="Sentinel-2A",
    **{"s2:mgrs_tile": "13TDE", "s2:datatake_id": "GS2A_20240422T173911_046141_N05.11"},
)
COPERNICUS = item("S2A_MSIL2A_20240422T173911_N0510_R098_T13TDE_20240423T004950", time="2024-04-22T17:39:11.024000Z")


@pytest.mark.parametrize("other", [PLANETARY, COPERNICUS])
def test_a_product_is_known_again_by_satellite_datatake_and_tile(other):
    assert Acquisition.of(EARTH_SEARCH).is_of(Acquisition.of(other))
    assert Acquisition.of(other).is_of(Acquisition.of(EARTH_SEARCH))


@pytest.mark.parametrize(
    ("was", "becomes"), [("13TDE", "13TDF"), ("20240422T173911", "20240422T173931"), ("S2A", "S2B")]
)
def test_a_neighbour_another_datatake_or_satellite_is_another(was, becomes):
    other = json.loads(json.dumps(PLANETARY).replace(was, becomes))
    assert not Acquisition.of(EARTH_SEARCH).is_of(Acquisition.of(other))


def test_without_names_time_and_tile_or_footprint_tell():
    plain = Acquisition.of(item("a", platform="landsat-8"))
    assert plain.is_of(Acquisition.of(item("b", time="2024-04-22T17:53:11Z", platform="landsat-8")))
    assert not plain.is_of(Acquisition.of(item("b", time="2024-04-22T17:53:13Z", platform="landsat-8")))
    assert not plain.is_of(Acquisition.of(item("b", platform="landsat-9")))
    assert plain.is_of(Acquisition.of(item("b", square=(0.1, 1))))  # nine tenths in common
    assert not plain.is_of(Acquisition.of(item("b", square=(0.3, 1.3))))
    tiled = Acquisition.of(item("a", **{"grid:code": "MGRS-1CCV"}))
    assert tiled.is_of(Acquisition.of(item("b", square=(0.5, 1.5), **{"s2:mgrs_tile": "01CCV"})))
    parts = {"mgrs:utm_zone": 1, "mgrs:latitude_band": "C", "mgrs:grid_square": "CW"}
    assert not tiled.is_of(Acquisition.of(item("b", **parts)))


@pytest.mark.kit
def test_recorded_items_say_what_they_are(kit):
    folder = kit / "stac" / "rustac"
    for name in ("crates__server__data__sentinel-2__item-collection.json", "crates__io__mocks__search-page-1.json"):
        found = [Acquisition.of(each) for each in json.loads((folder / name).read_text())["features"]]
        assert found
        assert all(each.satellite in ("S2A", "S2B") and each.datatake and len(each.tile) == 5 for each in found)
        assert all(sum(each.is_of(other) for other in found) == 1 for each in found)
