from collections import Counter
from datetime import date

import numpy as np
import osmium
import pytest
import shapely

from pwcat.errors import SourceError
from pwcat.osm.areas import is_area
from pwcat.osm.exclusion import Exclusion
from pwcat.osm.extract import describe_extract, read_extract
from pwcat.osm.features import Losses
from pwcat.osm.schema import OSM_TYPES

SQUARE = [(7.0, 43.0), (7.001, 43.0), (7.001, 43.001), (7.0, 43.001), (7.0, 43.0)]
EIGHT = [(7.0, 43.0), (7.001, 43.001), (7.001, 43.0), (7.0, 43.001), (7.0, 43.0)]
COURT = [(7.0004, 43.0004), (7.0006, 43.0004), (7.0006, 43.0006), (7.0004, 43.0006), (7.0004, 43.0004)]


USUAL = Exclusion()


def read(path, tmp_path, exclude=USUAL):
    """Shape and tags of each thing by its type and number, and what was broken."""
    losses, found = Losses(), {}
    for features in read_extract(path, exclude=exclude, losses=losses, scratch=tmp_path):
        for kind, number, tags, shape in zip(
            features.osm_type, features.osm_id, features.tags, features.geometry, strict=True
        ):
            found[OSM_TYPES[kind], int(number)] = (shape, dict(tags))
    return found, losses


def test_an_entity_is_what_has_tags_left(drawn, tmp_path):
    drawn.node(7, 43, 1)
    drawn.node(7.5, 43, 2, highway="crossing", source="survey")
    drawn.node(7.5, 43, 3, source="survey", name="Nowhere")
    found, losses = read(drawn.write(tmp_path / "map.osm.pbf"), tmp_path)
    assert found == {("node", 2): (shapely.Point(7.5, 43), {"highway": "crossing"})}
    assert not losses.left_out


def test_tags_in_any_script_come_through(drawn, tmp_path):
    drawn.node(7, 43, 1, cuisine="寿司;كباب", naïveté="“ö🙂”")
    found, _ = read(drawn.write(tmp_path / "map.osm.pbf"), tmp_path)
    assert found["node", 1][1] == {"cuisine": "寿司;كباب", "naïveté": "“ö🙂”"}


def test_closed_ways_are_what_their_tags_say(drawn, tmp_path):
    drawn.way(1, SQUARE, {"building": "yes"})
    drawn.way(2, SQUARE, {"highway": "residential", "junction": "roundabout"})
    drawn.way(3, SQUARE, {"highway": "pedestrian", "area": "yes"})
    drawn.way(4, SQUARE, {"building": "yes", "area": "no"})
    drawn.way(5, SQUARE[:-1], {"building": "yes"})
    found, _ = read(drawn.write(tmp_path / "map.osm.pbf"), tmp_path)
    assert {number: shape.geom_type for (_, number), (shape, _) in found.items()} == {
        1: "Polygon",
        2: "LineString",
        3: "Polygon",
        4: "LineString",
        5: "LineString",
    }
    assert found["way", 1][0].equals(shapely.Polygon(SQUARE))


def test_what_makes_an_area_is_looked_for_among_all_tags(drawn, tmp_path):
    drawn.way(1, SQUARE, {"area": "yes", "surface": "asphalt"})
    found, _ = read(drawn.write(tmp_path / "map.osm.pbf"), tmp_path, Exclusion(("area",)))
    assert found["way", 1][0].geom_type == "Polygon"
    assert found["way", 1][1] == {"surface": "asphalt"}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"landuse": "grass"}, True),
        ({"landuse": "no"}, False),
        ({"natural": "water"}, True),
        ({"natural": "coastline"}, False),
        ({"barrier": "fence"}, False),
        ({"barrier": "hedge"}, True),
        ({"highway": "services"}, True),
        ({"highway": "primary", "landuse": "grass"}, True),
        ({"man_made": "pipeline"}, False),
        ({"leisure": "track", "area": "no"}, False),
        ({"surface": "sand"}, False),
        ({}, False),
    ],
)
def test_tags_of_areas(tags, expected):
    assert is_area(tags) is expected


def test_a_multipolygon_has_its_court(drawn, tmp_path):
    drawn.way(1, SQUARE[:3], {})
    drawn.way(2, SQUARE[2:], {"barrier": "wall"})
    drawn.way(3, COURT, {})
    drawn.relation(9, [("w", 3, "inner"), ("w", 1, "outer"), ("w", 2, "")], {"type": "multipolygon", "building": "yes"})
    found, losses = read(drawn.write(tmp_path / "map.osm.pbf"), tmp_path)
    shape, tags = found["relation", 9]
    assert tags == {"building": "yes"}
    assert shape.equals(shapely.Polygon(SQUARE, [COURT]))
    assert set(found) == {("way", 2), ("relation", 9)}
    assert not losses.mended


def test_other_relations_are_counted_as_left_out(drawn, tmp_path):
    drawn.way(1, SQUARE, {"highway": "residential"})
    drawn.relation(1, [("w", 1, "")], {"type": "route", "route": "bus"})
    drawn.relation(2, [("w", 1, "outer")], {"type": "boundary", "boundary": "administrative"})
    drawn.relation(3, [("w", 1, "outer")], {"type": "multipolygon"})
    found, losses = read(drawn.write(tmp_path / "map.osm.pbf"), tmp_path)
    assert set(found) == {("way", 1)}
    assert losses.left_out == {"relation that is no multipolygon: a route, a border, a restriction": 2}


def test_what_the_extract_has_not_all_of(drawn, tmp_path):
    line = [(7 + n / 1000, 43.0) for n in range(6)]
    drawn.way(1, line, {"highway": "path"}, missing=1)
    drawn.way(2, SQUARE, {"building": "yes"}, missing=1)
    drawn.way(3, line[:2], {"highway": "path"}, missing=1)
    drawn.way(4, SQUARE[:3], {})
    closes = [("w", 5, "outer"), ("w", 99, "outer")]
    drawn.way(5, COURT, {})
    drawn.relation(6, [("w", 4, "outer"), ("w", 98, "outer")], {"type": "multipolygon", "natural": "water"})
    drawn.relation(7, closes, {"type": "multipolygon", "natural": "water"})
    drawn.relation(8, [("w", 4, "outer")], {"type": "multipolygon", "natural": "water"})
    found, losses = read(drawn.write(tmp_path / "map.osm.pbf"), tmp_path)
    assert set(found) == {("way", 1), ("relation", 7)}
    assert list(found["way", 1][0].geoms[0].coords) == line[2:]
    assert found["relation", 7][0].equals(shapely.Polygon(COURT))
    assert losses.left_out == {
        "area some of whose nodes are not in the extract": 1,
        "way of less than two places": 1,
        "multipolygon of whose ways some are not in the extract, so that nothing closes": 1,
        "multipolygon whose rings do not close, so that nothing closes": 1,
    }
    assert losses.mended == {
        "way some of whose nodes are not in the extract": 1,
        "multipolygon of whose ways some are not in the extract: what closes is kept": 1,
    }


def test_ways_that_are_no_shape(drawn, tmp_path):
    drawn.way(1, [(7.0, 43.0)], {"highway": "path"})
    drawn.way(2, [(7.0, 43.0), (7.1, 43.0), (7.0, 43.0)], {"building": "yes"})
    found, losses = read(drawn.write(tmp_path / "map.osm.pbf"), tmp_path)
    assert not found
    assert losses.left_out == {"way of less than two places": 1, "area of less than three places": 1}


def test_lines_of_a_multipolygon_that_cross(drawn, tmp_path):
    drawn.way(1, EIGHT, {})
    drawn.relation(2, [("w", 1, "outer")], {"type": "multipolygon", "building": "yes"})
    found, losses = read(drawn.write(tmp_path / "map.osm.pbf"), tmp_path)
    assert found["relation", 2][0].area == pytest.approx(0.001**2 / 2)
    assert losses.mended == {"multipolygon whose lines cross": 1}


def test_objects_may_come_in_any_order(drawn, tmp_path):
    for n in range(40):
        east = [(lon + n / 100, lat) for lon, lat in SQUARE]
        drawn.way(n + 1, east, {"building": "yes"} if n % 2 else {})
    drawn.relation(7, [("w", 1, "outer"), ("w", 3, "outer")], {"type": "multipolygon", "building": "yes"})
    found, _ = read(drawn.write(tmp_path / "sorted.osm.pbf"), tmp_path)
    other, _ = read(drawn.write(tmp_path / "other.osm.pbf", shuffled=0), tmp_path)
    assert found == other
    assert len(found) == 21


def test_large_extracts_keep_the_places_of_nodes_on_disk(drawn, tmp_path, monkeypatch):
    drawn.way(1, SQUARE, {"building": "yes"})
    path = drawn.write(tmp_path / "map.osm.pbf", shuffled=1)
    expected, _ = read(path, tmp_path)
    for limit in ("SMALL_BYTES", "PLANET_BYTES"):
        monkeypatch.setattr(f"pwcat.osm.extract.{limit}", 0)
        assert read(path, tmp_path)[0] == expected
        assert (tmp_path / "locations.bin").stat().st_size > 0
        (tmp_path / "locations.bin").unlink()


def test_an_extract_says_its_day_and_its_box(tmp_path):
    header = osmium.io.Header()
    header.add_box(osmium.osm.Box(7.4, 43.7, 7.5, 43.8))
    header.set("osmosis_replication_timestamp", "2023-12-26T21:21:16Z")
    with osmium.SimpleWriter(str(tmp_path / "said.osm.pbf"), header=header):
        pass
    facts = describe_extract(tmp_path / "said.osm.pbf")
    assert facts.day == date(2023, 12, 26)
    assert facts.bounds == pytest.approx((7.4, 43.7, 7.5, 43.8))


def test_extracts_in_xml_are_read(tmp_path):
    node = '<node id="1" lat="43.73" lon="7.42" version="1"><tag k="amenity" v="café"/></node>'
    (tmp_path / "map.osm").write_text(f'<osm version="0.6">{node}</osm>', encoding="utf-8")
    assert read(tmp_path / "map.osm", tmp_path)[0] == {("node", 1): (shapely.Point(7.42, 43.73), {"amenity": "café"})}
    assert describe_extract(tmp_path / "map.osm").day is None


def test_what_is_deleted_is_not_there(tmp_path):
    node = '<node id="1" lat="43.73" lon="7.42" version="2" visible="false"><tag k="amenity" v="pub"/></node>'
    (tmp_path / "map.osm").write_text(f'<osm version="0.6">{node}</osm>', encoding="utf-8")
    assert read(tmp_path / "map.osm", tmp_path)[0] == {}


def test_numbers_of_what_was_not_uploaded_are_refused(tmp_path):
    nodes = "".join(f'<node id="{-n}" lat="43.7{n}" lon="7.42"/>' for n in (1, 2))
    way = '<way id="-3"><nd ref="-1"/><nd ref="-2"/><tag k="highway" v="path"/></way>'
    (tmp_path / "map.osm").write_text(f'<osm version="0.6">{nodes}{way}</osm>', encoding="utf-8")
    with pytest.raises(SourceError, match=r"way -3 has nodes with negative numbers.*osmium renumber"):
        read(tmp_path / "map.osm", tmp_path)


def test_an_extract_may_say_neither(drawn, tmp_path):
    facts = describe_extract(drawn.write(tmp_path / "map.osm.pbf"))
    assert (facts.day, facts.bounds) == (None, None)


def test_files_that_cannot_be_read(drawn, tmp_path):
    with pytest.raises(SourceError, match="there is no such file; name an extract"):
        read(tmp_path / "none.osm.pbf", tmp_path)
    for n in range(2_000):
        drawn.node(7 + n / 7_000, 43 + n % 100 / 999, n + 1, highway="stop", kerb=str(n))
    whole = drawn.write(tmp_path / "map.osm.pbf").read_bytes()
    (tmp_path / "half.osm.pbf").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "other.osm.pbf").write_bytes(b"something else" * 99)
    for name in ("half", "other"):
        with pytest.raises(
            SourceError, match=rf"{name}.osm.pbf cannot be read as an extract of OpenStreetMap: PBF error"
        ):
            read(tmp_path / f"{name}.osm.pbf", tmp_path)
    (tmp_path / "cut.osm").write_text("<osm version='0.6'><node")
    with pytest.raises(SourceError, match=r"cut.osm cannot be read as an extract of OpenStreetMap: XML parsing error"):
        describe_extract(tmp_path / "cut.osm")


def test_versions_of_objects_are_refused(tmp_path):
    header = osmium.io.Header()
    header.has_multiple_object_versions = True
    with osmium.SimpleWriter(str(tmp_path / "map.osh.pbf"), header=header):
        pass
    with pytest.raises(SourceError, match="several versions of its objects; make an extract of one moment"):
        read(tmp_path / "map.osh.pbf", tmp_path)


def test_tags_are_excluded_by_patterns():
    pairs = [("name", "A"), ("name:de", "B"), ("building", "no"), ("building", "yes"), ("Name:x", "C"), ("note", "")]
    kept = Exclusion(("name:*", "building=no")).keep(pairs)
    assert kept == [("Name:x", "C"), ("building", "yes"), ("name", "A")]
    assert Exclusion(()).keep([("b", "1"), ("a", "2")]) == [("a", "2"), ("b", "1")]


def test_the_usual_patterns_leave_what_stands_there():
    kept = {"building": "yes", "maxspeed": "50", "surface": "sand", "building:levels": "3", "roof:material": "tin"}
    gone = ("name", "name:zh", "alt_name", "alt_name_1", "tiger:cfcc", "source", "source:date", "wikipedia:en", "fixme")
    gone += ("addr:housenumber", "ref", "brand:wikidata", "TMC:cid_58:tabcd_1:Class", "opening_hours")
    assert dict(Exclusion().keep([*kept.items(), *((key, "x") for key in gone)])) == kept


@pytest.mark.kit
def test_areas_of_monaco_are_those_that_libosmium_assembles(kit, tmp_path):
    path = kit / "osm_aerial" / "osm" / "monaco.osm.pbf"
    found, losses = read(path, tmp_path)
    factory, has_tags = osmium.geom.WKBFactory(), osmium.filter.EmptyTagFilter()
    compared = Counter()
    for each in osmium.FileProcessor(str(path)).with_areas().with_filter(has_tags):
        name = ("way" if each.is_area() and each.from_way() else "relation", each.orig_id() if each.is_area() else 0)
        if name not in found or found[name][0].geom_type == "LineString":
            continue
        theirs = shapely.from_wkb(factory.create_multipolygon(each))
        assert found[name][0].symmetric_difference(theirs).area < 1e-14
        compared[name[0]] += 1
    assert compared["way"] > 1_000
    assert compared["relation"] > 30
    assert losses.mended == {"multipolygon of whose ways some are not in the extract: what closes is kept": 2}
    assert np.isfinite(shapely.total_bounds([shape for shape, _ in found.values()])).all()
