"""Labels of tiles, by hand, and which tags have to go."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwcat.osm.schema import ENTITY_SCHEMA
from pwcat.osm.speeds import speed_limit
from pwcat.osm.targets import TARGET_COLUMNS, TARGETS, TagRule, tile_labels

NEEDED = pa.schema([ENTITY_SCHEMA.field(name) for name in ("index", "part", "kind", "tags")])
Row = tuple[int, int, str, Mapping[str, str]]


def table(*rows: Row) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    columns[3] = [list(tags.items()) for tags in columns[3]]
    return pa.table(dict(zip(NEEDED.names, map(list, columns), strict=True)), schema=NEEDED)


TOWN: tuple[Row, ...] = (
    (0, 0, "polygon", {"building": "house"}),
    (0, 0, "polygon", {"building:part": "yes", "building:levels": "3"}),  # one entity, two tags
    (0, 0, "polygon", {"building": "yes", "amenity": "school"}),  # in two pieces
    (0, 1, "polygon", {"building": "yes", "amenity": "school"}),
    (0, 0, "polygon", {"building": "no", "landuse": "grass"}),
    (0, 0, "polygon", {"demolished:building": "yes"}),
    (0, 0, "point", {"highway": "traffic_signals"}),
    (0, 0, "point", {"highway": "crossing", "crossing": "traffic_signals", "crossing:signals": "yes"}),
    (0, 0, "point", {"highway": "crossing", "crossing:signals": "no"}),
    (0, 0, "line", {"footway": "crossing", "crossing": "traffic_signals"}),  # no point
    (0, 0, "line", {"highway": "primary", "maxspeed": "50", "bridge": "no"}),
    (0, 0, "line", {"highway": "residential", "maxspeed:forward": "30 mph"}),
    (2, 0, "line", {"highway": "footway", "bridge": "yes", "layer": "1"}),
    (2, 0, "line", {"highway": "motorway", "maxspeed": "none"}),
    (3, 0, "line", {"highway": "trunk_link", "bridge": "viaduct", "maxspeed": "80;100", "source:maxspeed": "sign"}),
    (4, 0, "polygon", {"man_made": "bridge"}),
    (4, 0, "point", {"sport": "bridge", "name": "Cambridge Street bridge"}),
    (5, 0, "point", {"sport": "bridge", "name": "Brücke, 橋"}),
)


def test_labels_are_those_counted_by_hand() -> None:
    labels = tile_labels(table(*TOWN), 7)
    assert tuple(labels) == TARGET_COLUMNS
    nan = math.nan
    want = {
        "map:building_count": [3, 0, 0, 0, 0, 0, 0],
        "map:traffic_signals": [2, 0, 0, 0, 0, 0, 0],
        "map:max_speed": [50, nan, nan, 100, nan, nan, nan],
        "map:bridge": [0, 0, 1, 1, 1, 0, 0],
        "map:car_bridge": [0, 0, 0, 1, 0, 0, 0],
    }
    for column, values in want.items():
        np.testing.assert_array_equal(labels[column], values, err_msg=column)


def test_a_faster_limit_in_miles_counts() -> None:
    labels = tile_labels(table((0, 0, "line", {"maxspeed": "60"}), (0, 0, "line", {"maxspeed": "40 mph"})), 1)
    assert labels["map:max_speed"][0] == pytest.approx(64.37376)


def test_order_and_chunks_do_not_matter() -> None:
    whole, order = table(*TOWN), np.random.default_rng(0).permutation(len(TOWN))
    chunked = pa.concat_tables([whole.take(order[:7]), whole.take(order[7:7]), whole.take(order[7:])])
    sliced = pa.concat_tables([table(*TOWN[:3]), *[table(*TOWN).slice(3, 9)], table(*TOWN).slice(12)])
    for other in (chunked, sliced):
        for column, labels in tile_labels(other, 7).items():
            np.testing.assert_array_equal(labels, tile_labels(whole, 7)[column])


def test_no_entities_at_all() -> None:
    labels = tile_labels(table(), 2)
    assert np.isnan(labels["map:max_speed"]).all()
    assert all(not labels[column].any() for column in TARGET_COLUMNS if column != "map:max_speed")


def test_tags_of_no_target_count_nothing() -> None:
    labels = tile_labels(table((0, 0, "point", {"amenity": "bench"}), (0, 0, "point", {"natural": "tree"})), 1)
    assert labels["map:building_count"][0] == 0
    assert np.isnan(labels["map:max_speed"][0])


def test_a_tile_beyond_is_refused() -> None:
    with pytest.raises(ValueError, match="tiles 0 to 5, and there are 5"):
        tile_labels(table(*TOWN), 5)


@pytest.mark.parametrize(
    ("value", "speed"),
    [
        ("50", 50), (" 50 ", 50), ("30 mph", 48.28032), ("30mph", 48.28032), ("30 MPH", 48.28032), ("50 km/h", 50),
        ("6 knots", 11.112), ("7.5", 7.5), ("walk", 5), ("US:urban", 40.2336), ("50;70", 70), ("80|60", 80),
        ("120 @ (wet)", 120), ("30 @ (Mo-Fr 07:00-09:00; 15:00-17:00)", 30), ("300", 300),
        ("none", None), ("signals", None), ("RO:urban", None), ("", None), ("0", None), ("5000", None), ("-5", None),
        ("sign", None), ("DE:zone30", None), ("50 mph?", None), ("é", None), ("50 mph; none", 80.4672),
    ],
)  # fmt: skip
def test_speeds_are_kilometres_an_hour(value: str, speed: float | None) -> None:
    found = speed_limit(value)
    assert math.isnan(found) if speed is None else found == pytest.approx(speed)


words = st.sampled_from(["building", "bridge", "layer", "maxspeed", "traffic_signals", "crossing:signals", "highway"])
texts = st.one_of(words, st.text(max_size=6), st.builds("{}:{}".format, words, st.text(max_size=3)))


@given(key=texts, value=texts)
def test_what_tells_a_target_is_removed(key: str, value: str) -> None:
    for target in TARGETS.values():
        assert target.removes(key, value) or not target.tells(key, value), target.name


@given(tags=st.lists(st.tuples(texts, texts), max_size=4, unique_by=lambda tag: tag[0]))
def test_without_the_dropped_tags_no_label_is_left(tags: list[tuple[str, str]]) -> None:
    for name, target in TARGETS.items():
        rule = TagRule(target=name)
        left = {key: value for key, value in tags if not rule.drops(key, value)}
        (label,) = tile_labels(table((0, 0, "point", left)), 1)[target.column]
        assert label == 0 or math.isnan(label)


def test_rules_drop_tags_and_take_entities() -> None:
    tags = [("building", "yes"), ("building", "no"), ("name", "Old Building"), ("roof:shape", "flat")]
    masked, removed = (TagRule(target="building-count", inputs=inputs) for inputs in ("masked", "removed"))
    np.testing.assert_array_equal(masked.dropped(tags), [True, True, True, False])
    np.testing.assert_array_equal(removed.dropped(tags), [True, True, True, False])
    np.testing.assert_array_equal(masked.taken(tags), [False] * 4)
    np.testing.assert_array_equal(removed.taken(tags), [True, False, False, False])
    leaky = TagRule(target="building-count", inputs="leaky")
    assert not leaky.dropped(tags).any()
    assert not leaky.taken(tags).any()
    assert masked == TagRule(target="building-count")
    assert len({masked, removed, leaky}) == 3


def test_a_layer_gives_a_bridge_away() -> None:
    rule = TagRule(target="bridge", inputs="removed")
    assert rule.drops("layer", "1")
    assert not rule.takes("layer", "1")
    assert not rule.drops("multiplayer", "yes")


@pytest.mark.parametrize(
    ("key", "value"),
    [("traffic_sign", "FR:B14[50],M10z"), ("traffic_sign:forward", "DE:274-50"), ("zone:traffic", "DE:urban")],
)
def test_a_sign_gives_a_speed_away(key: str, value: str) -> None:
    rule = TagRule(target="max-speed", inputs="removed")
    assert rule.drops(key, value)
    assert not rule.takes(key, value)
    assert not rule.drops("traffic_signals:direction", "forward")
    assert not TagRule(target="traffic-signals").drops(key, value)


def test_a_rule_of_nothing_known_is_refused() -> None:
    with pytest.raises(ValueError, match="no rule of 'trees'"):
        TagRule(target="trees")
    with pytest.raises(ValueError, match="'hidden'"):
        TagRule(target="bridge", inputs="hidden")  # type: ignore[arg-type]
