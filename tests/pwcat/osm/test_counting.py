from __future__ import annotations

import pyarrow as pa
import pytest

from pwcat.osm.counting import count_things, entity_class, tag_class
from pwcat.osm.schema import ENTITY_SCHEMA


def entities(*rows):
    kinds = {name: ENTITY_SCHEMA.field(name).type for name in ("part", "tags")}
    parts, tags = zip(*rows, strict=True)
    return pa.table({"part": pa.array(parts, kinds["part"]), "tags": pa.array(tags, kinds["tags"])})


@pytest.mark.parametrize(
    ("tag", "counted"),
    [
        (("building", "yes"), "building=yes"),
        (("building:levels", "3"), "building:levels=*"),
        (("highway", "bus_stop"), "highway=bus_stop"),
        (("cuisine", "pizza;pasta"), "cuisine=pizza;pasta"),
        (("brand", "Café"), "brand=*"),
        (("maxspeed", "30 mph"), "maxspeed=*"),
    ],
)
def test_a_tag_is_counted_by_its_value_where_that_is_a_class(tag, counted):
    assert tag_class(*tag) == counted


def test_an_entity_is_what_its_first_main_key_says():
    assert entity_class({"building", "amenity", "x"}) == "amenity"
    assert entity_class({"layer", "x"}) == "other"


def test_things_are_counted_once_a_tile_and_add_up():
    rows = [
        (0, [("amenity", "cafe"), ("building", "yes")]),
        (0, [("building", "yes"), ("building:levels", "2")]),
        (1, [("building", "yes")]),  # another piece of one of them
        (0, [("layer", "1")]),
    ]
    assert count_things(entities(*rows)) == {
        "entity": {"amenity": 1, "building": 1, "other": 1},
        "tag": {"amenity=cafe": 1, "building:levels=*": 1, "building=yes": 2, "layer=*": 1},
    }
    sliced = entities(*rows).slice(1)
    assert count_things(sliced)["entity"] == {"building": 1, "other": 1}
    assert count_things(entities(*rows).slice(0, 0)) == {}
