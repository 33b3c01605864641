import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from pwcat.errors import PwcatError
from pwcat.osm.tiles import (
    HALF_WORLD_M,
    MAX_LATITUDE,
    Tile,
    decode_tiles,
    encode_tiles,
    from_mercator,
    from_world,
    parse_tile,
    tile_coordinates,
    tile_of,
    tiles_within,
    to_mercator,
    to_world,
)

whole = st.integers(0, 2**24 - 1)


def test_mercator_is_that_of_proj():
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 500), rng.uniform(-MAX_LATITUDE, MAX_LATITUDE, 500)
    expected = Transformer.from_crs(4326, 3857, always_xy=True).transform(lon, lat)
    np.testing.assert_allclose(to_mercator(lon, lat), expected, atol=1e-6)
    np.testing.assert_allclose(from_mercator(*expected), (lon, lat), atol=1e-11)


def test_the_square_ends_where_mercator_is_as_high_as_wide():
    assert to_mercator(180, MAX_LATITUDE) == (pytest.approx(HALF_WORLD_M), pytest.approx(HALF_WORLD_M))
    assert np.isinf(to_world(0, 90, 3)[1])


def test_a_known_tile():
    # Tile 16/34119/23897 has Port Hercule of Monaco
    assert [int(n) for n in tile_of(7.4246, 43.7340, 16)] == [34119, 23897]
    west, south, east, north = Tile(16, 34119, 23897).bounds()
    assert west < 7.4246 < east
    assert south < 43.7340 < north


@given(st.integers(0, 24).flatmap(lambda zoom: st.tuples(st.just(zoom), *[st.integers(0, 2**zoom - 1)] * 2)))
def test_a_tile_has_its_own_middle(tile):
    zoom, x, y = tile
    lon, lat = from_world(x + 0.5, y + 0.5, zoom)
    assert [int(n) for n in tile_of(lon, lat, zoom)] == [x, y]
    np.testing.assert_allclose(tile_coordinates(lon, lat, Tile(zoom, x, y)), [0.5, 0.5], atol=1e-6)
    assert parse_tile(str(Tile(zoom, x, y))) == Tile(zoom, x, y)


@given(whole, whole)
def test_codes_are_those_of_the_tile_and_of_its_groups(x, y):
    code = int(encode_tiles(x, y))
    assert [int(n) for n in decode_tiles(code)] == [x, y]
    for up in (1, 5, 24):
        assert code >> 2 * up == int(encode_tiles(x >> up, y >> up))


def test_tiles_of_a_group_follow_each_other_by_their_codes():
    x, y = np.divmod(np.arange(64), 8)
    codes = np.sort(encode_tiles(x, y))
    groups = [Tile(3, int(a), int(b)).at(1) for a, b in zip(*decode_tiles(codes), strict=True)]
    assert groups == [tile for tile in dict.fromkeys(groups) for _ in range(16)]


def test_bounds_meet_and_are_the_same_in_metres():
    here, east, south = Tile(16, 34119, 23897), Tile(16, 34120, 23897), Tile(16, 34119, 23898)
    assert here.bounds()[2] == east.bounds()[0]
    assert here.bounds()[1] == south.bounds()[3]
    west, low, right, high = here.mercator_bounds()
    assert right - west == pytest.approx(611.4962)  # 40075 km by 2**16
    np.testing.assert_allclose(from_mercator([west, right], [low, high]), np.array(here.bounds()).reshape(2, 2).T)


def test_tiles_of_a_box_are_those_it_shares_an_area_with():
    tile = Tile(16, 34119, 23897)
    assert tiles_within(tile.bounds(), 16) == (34119, 23897, 34119, 23897)
    west, south, east, north = tile.bounds()
    assert tiles_within((west - 1e-6, south, east + 1e-6, north), 16) == (34118, 23897, 34120, 23897)
    assert tiles_within((-180, -90, 180, 90), 2) == (0, 0, 3, 3)
    assert tiles_within((7.4246, 43.7340, 7.4246, 43.7340), 16) == (34119, 23897, 34119, 23897)


@pytest.mark.parametrize("text", ["16/34119", "a/b/c", "16/34119/23897/1", "", "16/-1/2"])
def test_what_names_no_tile(text):
    with pytest.raises(PwcatError, match="is not understood; write zoom/x/y"):
        parse_tile(text)


def test_tiles_that_are_not_there():
    with pytest.raises(PwcatError, match="tile 2/4/0: there is none"):
        Tile(2, 4, 0)
    with pytest.raises(PwcatError, match="zoom is 0 to 24"):
        parse_tile("25/0/0")
    with pytest.raises(PwcatError, match="lies in no tile of zoom 5; name one from 0 to 4"):
        Tile(4, 1, 1).at(5)
