from collections import Counter

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from pwcat.errors import CatalogError, PwcatError, SourceError
from pwcat.osm.entities import ENTITIES, TAGS, read_entities, write_entities
from pwcat.osm.exclusion import Exclusion
from pwcat.osm.schema import ENTITY_SCHEMA, TAG_SCHEMA
from pwcat.osm.tiles import Tile, from_world, parse_tile

ZOOM = 16
X, Y = 34119, 23897


def place(x, y):
    """Degrees of a place, in tile coordinates of tile X, Y."""
    lon, lat = from_world(X + x, Y + y, ZOOM)
    return round(float(lon), 7), round(float(lat), 7)


def square(x, y, size):
    corners = [(x, y), (x + size, y), (x + size, y + size), (x, y + size), (x, y)]
    return [place(*corner) for corner in corners]


@pytest.fixture
def town(drawn):
    """Houses on two tiles and on the edge between, a street through four, a lake that fills one, a court, a broken house."""
    for n in range(30):
        drawn.way(n + 1, square(n * 0.06 + 0.01, 0.3, 0.04), {"building": "yes", "name": f"№ {n}"})
    drawn.way(40, [place(-0.5, 0.5), place(1.5, 0.6), place(1.6, 1.4)], {"highway": "residential", "source": "GPS"})
    drawn.way(41, square(1.9, -0.1, 1.3), {"natural": "water", "wärme": "kühl"})
    drawn.way(
        42,
        [place(*corner) for corner in [(0.1, 0.7), (0.3, 0.9), (0.3, 0.7), (0.1, 0.9), (0.1, 0.7)]],
        {"building": "shed"},
    )
    drawn.way(43, square(0.5, 0.7, 0.2), {})
    drawn.way(44, square(0.55, 0.75, 0.05), {})
    drawn.relation(1, [("w", 43, "outer"), ("w", 44, "inner")], {"type": "multipolygon", "building": "school"})
    drawn.node(*place(0.25, 0.75), 900, natural="tree")
    return drawn


def table(folder):
    return read_entities(folder).to_pylist()


def test_tiles_hold_pieces_of_entities(town, tmp_path):
    done = write_entities(town.write(tmp_path / "map.osm.pbf"), tmp_path / "made", zoom=ZOOM)
    rows = table(tmp_path / "made")
    assert done.entities == 35
    assert done.mended == {"area whose outline crosses or touches itself": 1}
    assert done.day is None
    names = [f"{ZOOM}/{x}/{y}" for x, y in done.tiles.tolist()]
    assert [names[row["index"]] for row in rows] == [row["tile"] for row in rows]
    assert Counter(row["index"] for row in rows) == dict(enumerate(done.counts.tolist()))
    order = [
        (row["index"], ("node", "way", "relation").index(row["osm_type"]), row["osm_id"], row["part"]) for row in rows
    ]
    assert order == sorted(set(order))
    street = [row["tile"] for row in rows if row["osm_id"] == 40]
    assert sorted(street) == [f"{ZOOM}/{X + x}/{Y + y}" for x, y in [(-1, 0), (0, 0), (1, 0), (1, 1)]]
    assert [row["part"] for row in rows if row["osm_id"] == 42 and row["osm_type"] == "way"] == [0, 1]


def test_coordinates_are_those_of_the_tile(town, tmp_path):
    write_entities(town.write(tmp_path / "map.osm.pbf"), tmp_path / "made", zoom=ZOOM)
    rows = {(row["tile"], row["osm_type"], row["osm_id"]): row for row in table(tmp_path / "made")}
    tree = rows[f"{ZOOM}/{X}/{Y}", "node", 900]
    np.testing.assert_allclose(tree["xy"], [0.25, 0.75], atol=1e-5)
    assert (tree["rings"], tree["cut"], tree["kind"]) == ([1], False, "point")
    np.testing.assert_allclose(np.reshape(tree["box"], (4, 2)), [[0.25, 0.75]] * 4, atol=1e-5)
    school = rows[f"{ZOOM}/{X}/{Y}", "relation", 1]
    assert (school["rings"], school["kind"], len(school["xy"])) == ([4, 4], "polygon", 16)
    np.testing.assert_allclose(
        np.reshape(school["box"], (4, 2)), [(0.5, 0.7), (0.7, 0.7), (0.7, 0.9), (0.5, 0.9)], atol=1e-4
    )
    lake = rows[f"{ZOOM}/{X + 2}/{Y}", "way", 41]
    assert lake["cut"]
    assert {(x, y) for x, y in np.reshape(lake["xy"], (-1, 2)).tolist()} == {(0, 0), (1, 0), (1, 1), (0, 1)}


def test_what_was_not_cut_keeps_the_numbers_of_the_map(town, tmp_path):
    write_entities(town.write(tmp_path / "map.osm.pbf"), tmp_path / "made", zoom=ZOOM)
    row = next(row for row in table(tmp_path / "made") if row["osm_id"] == 3)
    assert not row["cut"]
    assert list(shapely.from_wkb(row["geometry"]).exterior.coords) == square(2 * 0.06 + 0.01, 0.3, 0.04)


def test_tags_are_counted_once_an_entity_and_once_a_tile(town, tmp_path):
    write_entities(town.write(tmp_path / "map.osm.pbf"), tmp_path / "made", zoom=ZOOM)
    rows, counts, tiles = table(tmp_path / "made"), Counter(), Counter()
    for name in {(row["osm_type"], row["osm_id"], tag) for row in rows for tag in row["tags"]}:
        counts[name[2]] += 1
    for _, tag in {(row["index"], tag) for row in rows for tag in row["tags"]}:
        tiles[tag] += 1
    tags = pq.read_table(tmp_path / "made" / TAGS)
    assert tags.schema.equals(TAG_SCHEMA)
    expected = [(key, value, counts[key, value], tiles[key, value]) for key, value in counts]
    assert [tuple(row.values()) for row in tags.to_pylist()] == sorted(expected, key=lambda row: (-row[2], *row[:2]))
    assert ("wärme", "kühl", 1, 9) in expected
    assert not {"name", "source", "type"} & set(tags["key"].to_pylist())


@pytest.mark.parametrize("runs", [40_000, 2**26])
def test_the_same_map_in_any_order_gives_the_same_bytes(town, tmp_path, monkeypatch, runs):
    monkeypatch.setattr("pwcat.osm.extraction.RUN_BYTES", runs)
    monkeypatch.setattr("pwcat.osm.extraction.STRETCH_BYTES", runs // 3)
    monkeypatch.setattr("pwcat.osm.extract.BATCH", 7 if runs < 2**20 else 16_384)
    for n in range(400):  # more than a batch that sorted rows are read by
        town.node(*place(n % 40 * 0.09, n // 40 * 0.09), 1000 + n, natural="tree")
    found = set()
    for seed in (None, 1, 2):
        done = write_entities(town.write(tmp_path / "map.osm.pbf", shuffled=seed), tmp_path / "made", zoom=ZOOM)
        assert done.entities == 435
        found.add(tuple((tmp_path / "made" / name).read_bytes() for name in (ENTITIES, TAGS)))
    assert len(found) == 1


def test_it_is_geoparquet(town, tmp_path):
    write_entities(town.write(tmp_path / "map.osm.pbf"), tmp_path / "made", zoom=ZOOM)
    frame = gpd.read_parquet(tmp_path / "made" / ENTITIES)
    assert frame.crs.to_authority() == ("OGC", "CRS84")
    assert frame.geometry.is_valid.all()
    assert read_entities(tmp_path / "made").schema.equals(ENTITY_SCHEMA)
    for tile, pieces in frame.groupby("tile"):
        assert shapely.box(*parse_tile(tile).bounds()).buffer(1e-9).covers(pieces.union_all())


def test_only_some_tiles_and_more_that_are_empty(town, tmp_path):
    path, made = town.write(tmp_path / "map.osm.pbf"), tmp_path / "made"
    here, there, empty = Tile(ZOOM, X, Y), Tile(ZOOM, X + 1, Y), Tile(ZOOM, 5, 5)
    done = write_entities(path, made, zoom=ZOOM, only=[there, here], also=[empty, here])
    assert done.tiles.tolist() == [[5, 5], [X, Y], [X + 1, Y]]
    assert done.counts[0] == 0
    assert sorted(set(read_entities(made)["index"].to_pylist())) == [1, 2]
    assert done.left_out == {}
    done = write_entities(path, made, zoom=ZOOM, within=there.bounds())
    assert done.tiles.tolist() == [[X + 1, Y]]
    assert done.left_out["not on the tiles that are asked for"] == 19
    done = write_entities(path, made, zoom=ZOOM, only=[])
    assert (len(done.tiles), done.entities, read_entities(made).num_rows) == (0, 0, 0)
    with pytest.raises(PwcatError, match="tiles of zoom 3 are asked of a map that is cut at zoom 16"):
        write_entities(path, made, zoom=ZOOM, also=[Tile(3, 1, 1)])


def test_a_map_without_entities(drawn, tmp_path):
    drawn.node(7, 43, 1, name="Nowhere")
    done = write_entities(drawn.write(tmp_path / "map.osm.pbf"), tmp_path / "made", zoom=ZOOM, also=[Tile(ZOOM, 1, 1)])
    assert done.tiles.tolist() == [[1, 1]]
    assert read_entities(tmp_path / "made").num_rows == pq.read_table(tmp_path / "made" / TAGS).num_rows == 0


def test_places_where_there_are_no_tiles(drawn, tmp_path):
    drawn.node(180, 0, 1, natural="reef")
    drawn.node(0, 89, 2, natural="ice")
    drawn.way(3, [(10, 80), (10, 89)], {"highway": "path"})
    drawn.way(4, [(10, 86), (10, 89)], {"highway": "path"})
    done = write_entities(drawn.write(tmp_path / "map.osm.pbf"), tmp_path / "made", zoom=1)
    assert done.left_out == {
        "beyond 85 degrees north or south, where there are no tiles": 1,
        "line without a length": 1,
    }
    assert {(row["osm_id"], row["tile"]) for row in table(tmp_path / "made")} == {(1, "1/1/1"), (3, "1/1/0")}


def test_what_crosses_the_180th_meridian_does_not_reach_around_the_world(drawn, tmp_path):
    house = [(179.9, -17.0), (-179.8, -17.0), (-179.8, -17.3), (179.9, -17.3), (179.9, -17.0)]
    drawn.way(1, house, {"building": "yes"})
    drawn.way(2, [(179.5, -17.1), (179.9, -17.2), (-179.9, -17.2), (-179.5, -17.1)], {"highway": "path"})
    drawn.way(3, [(-100, -17.1), (100, -17.1), (-100, -17.2), (-100, -17.1)], {"natural": "water"})
    done = write_entities(drawn.write(tmp_path / "map.osm.pbf"), tmp_path / "made", zoom=8)
    assert done.mended == {"shape across the 180th meridian: cut there": 3}
    found = {(row["osm_id"], row["tile"]): shapely.from_wkb(row["geometry"]) for row in table(tmp_path / "made")}
    assert {name for name in found if name[0] < 3} == {(n, f"8/{x}/140") for n in (1, 2) for x in (0, 255)}
    assert found[1, "8/255/140"].bounds == (179.9, -17.3, 180.0, -17.0)
    assert found[1, "8/0/140"].bounds == (-180.0, -17.3, -179.8, -17.0)
    assert found[2, "8/0/140"].bounds == (-180.0, -17.2, -179.5, -17.1)
    assert {int(tile.split("/")[1]) for n, tile in found if n == 3} == {*range(57), *range(199, 256)}


def test_what_goes_around_the_world_does(tmp_path):
    belt = shapely.Polygon([(-180, -1), (180, -1), (180, 1), (-180, 1)])
    path = tmp_path / "belt.geojson"
    gpd.GeoDataFrame({"natural": ["water"]}, geometry=[belt], crs="EPSG:4326").to_file(path)
    done = write_entities(path, tmp_path / "made", zoom=3)
    assert (len(done.tiles), done.mended) == (16, {})


def test_a_thing_of_several_lines_has_them_all(drawn, tmp_path):
    places = [place(n / 10, 0.5) for n in range(1, 9)]
    drawn.way(1, places, {"highway": "path"})
    missing = drawn.objects.pop(3)
    assert missing[1].id not in [node.id for kind, node in drawn.objects if kind == "n"]
    done = write_entities(drawn.write(tmp_path / "map.osm.pbf"), tmp_path / "made", zoom=ZOOM)
    assert done.mended == {"way some of whose nodes are not in the extract": 1}
    assert [(row["part"], len(row["xy"]), row["cut"]) for row in table(tmp_path / "made")] == [
        (0, 6, False),
        (1, 8, False),
    ]
    assert pq.read_table(tmp_path / "made" / TAGS)["count"].to_pylist() == [1]


def test_a_thing_that_is_there_twice_counts_once(town, tmp_path):
    write_entities(town.write(tmp_path / "map.osm.pbf"), tmp_path / "one", zoom=ZOOM)
    town.objects += town.objects
    done = write_entities(town.write(tmp_path / "map.osm.pbf"), tmp_path / "two", zoom=ZOOM)
    assert done.entities == 35
    for name in (ENTITIES, TAGS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_nothing_is_half_written(town, tmp_path):
    made, path = tmp_path / "made", town.write(tmp_path / "map.osm.pbf")

    def stop(what, so_far):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_entities(path, made, zoom=ZOOM, progress=stop)
    assert list(made.iterdir()) == []
    write_entities(path, made, zoom=ZOOM)
    before = (made / ENTITIES).read_bytes()
    with pytest.raises(SourceError, match="there is no such file"):
        write_entities(tmp_path / "none.osm.pbf", made, zoom=ZOOM)
    with pytest.raises(KeyboardInterrupt):
        write_entities(
            path, made, zoom=ZOOM, progress=lambda what, so_far: stop(what, so_far) if what == "sorting" else None
        )
    assert sorted(file.name for file in made.iterdir()) == [ENTITIES, TAGS]
    assert (made / ENTITIES).read_bytes() == before


def test_only_row_groups_that_are_needed_are_read(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("pwcat.osm.writing.GROUP_ROWS", 50)
    rng = np.random.default_rng(0)
    for n, (x, y) in enumerate(rng.random((1_000, 2)) * 6):
        drawn.node(*place(x, y), n + 1, natural="tree")
    done = write_entities(drawn.write(tmp_path / "map.osm.pbf"), tmp_path, zoom=ZOOM)
    whole = read_entities(tmp_path)
    metadata = pq.read_metadata(tmp_path / ENTITIES)
    assert metadata.num_row_groups > 10
    some = np.array([20, 3])
    found = read_entities(tmp_path, some, columns=["osm_id", "tile"])
    assert found.column_names == ["tile", "osm_id"]
    expected = whole.filter(np.isin(whole["index"].to_numpy(), some))
    assert found["osm_id"].equals(expected["osm_id"])
    assert len(found) == done.counts[some].sum()
    assert len(read_entities(tmp_path, np.array([], dtype=np.int64))) == 0
    # Whatever lies in the last row group is not looked at
    column = metadata.row_group(metadata.num_row_groups - 1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    damaged = bytearray((tmp_path / ENTITIES).read_bytes())
    damaged[start : start + 500] = bytes(500)
    (tmp_path / ENTITIES).write_bytes(damaged)
    assert read_entities(tmp_path, some, columns=["osm_id", "tile"]).equals(found)
    with pytest.raises(CatalogError, match=r"cannot be read: .*; build the collection anew"):
        read_entities(tmp_path, np.array([len(done.tiles) - 1]))


def test_a_folder_without_entities(tmp_path):
    with pytest.raises(CatalogError, match=r"entities.parquet: there are no map entities; is .* a map collection\?"):
        read_entities(tmp_path)


def test_the_recipes_list_replaces_the_usual_one(town, tmp_path):
    path = town.write(tmp_path / "map.osm.pbf")
    done = write_entities(path, tmp_path / "made", zoom=ZOOM, exclude=Exclusion(("building", "natural=tree")))
    tags = {key for row in table(tmp_path / "made") for key, _ in row["tags"]}
    assert tags == {"name", "highway", "source", "natural", "wärme"}
    assert done.entities == 32


@pytest.mark.kit
def test_monaco(kit, tmp_path):
    said = []
    done = write_entities(
        kit / "osm_aerial" / "osm" / "monaco.osm.pbf", tmp_path, zoom=ZOOM, progress=lambda *told: said.append(told)
    )
    frame = gpd.read_parquet(tmp_path / ENTITIES)
    assert (done.entities, len(done.tiles), len(frame)) == (7_889, 35, done.counts.sum())
    assert str(done.day) == "2023-12-26"
    assert said[-1] == ("sorting", len(frame))
    assert frame.geometry.is_valid.all()
    assert (frame.geometry.geom_type.str.lower().str.replace("linestring", "line") == frame.kind).all()
    xy = np.concatenate(frame.xy.to_numpy())
    assert xy.min() == 0
    assert xy.max() == 1
    names = frame[["osm_type", "osm_id"]].drop_duplicates()
    assert len(names) == done.entities
    assert frame.loc[frame.cut, "osm_id"].nunique() > 300
    palace = frame[(frame.osm_type == "relation") & (frame.osm_id == 393226)]
    assert dict(palace.tags.iloc[0])["historic"] == "castle"
    assert palace.cut.all()  # an edge goes through its court, so that it has no hole left
    assert (frame.rings.map(len) > 1).sum() > 15


@pytest.mark.kit
def test_what_reaches_out_of_monaco_is_there_where_it_is_asked_for(kit, tmp_path):
    at_sea = Tile(ZOOM, 34125, 23926)
    done = write_entities(kit / "osm_aerial" / "osm" / "monaco.osm.pbf", tmp_path, zoom=ZOOM, only=[at_sea])
    assert done.counts.tolist() == [1]
    assert dict(table(tmp_path)[0]["tags"])["border_type"] == "territorial"


@pytest.mark.kit
def test_banepa(kit, tmp_path):
    path = next((kit / "osm_aerial" / "hotosm_oam_banepa" / "train" / "osm").glob("*.geojson"))
    done = write_entities(path, tmp_path, zoom=19, leave=["label"])
    frame = gpd.read_parquet(tmp_path / ENTITIES)
    assert done.entities == frame.osm_id.nunique() == 1_466
    assert done.left_out == {}
    pieces = frame.to_crs(3857).assign(area=lambda some: some.area).groupby("osm_id").area.sum()
    whole = gpd.read_file(path).set_index("osm_id").to_crs(3857).area
    np.testing.assert_allclose(pieces.sort_index(), whole.sort_index(), rtol=1e-4)
    assert not {"label", "osm_id", "osm_type"} & {key for tags in frame.tags for key, _ in tags}
    images = {tuple(map(int, file.stem.split("-")[1:3])) for file in (path.parents[1] / "oam").glob("*.tif")}
    assert images < {tuple(tile) for tile in done.tiles.tolist()}
