"""Item search without a server: times, areas, properties, against brute force."""

from __future__ import annotations

from pathlib import Path

import cql2
import pytest
import shapely

from pwcat.archive.search import BadRequest, ItemIndex, Query, parse_area, parse_datetime, property_names
from pwcat.errors import ArchiveError

INFINITY = float("inf")


@pytest.fixture(scope="module")
def index(archive_dir: Path) -> ItemIndex:
    return ItemIndex(archive_dir)


def ids(items: list[dict]) -> list[str]:
    return [item["id"] for item in items]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("1970-01-01T00:01:00Z", (60, 60)),
        ("1970-01-01T01:01:00+01:00/..", (60, INFINITY)),
        ("../1970-01-01T00:01:00Z", (-INFINITY, 60)),
        ("/1970-01-01T00:01:00Z", (-INFINITY, 60)),
        ("1970-01-01T00:00:00Z/1970-01-01T00:01:00Z", (0, 60)),
    ],
)
def test_times_and_intervals(text: str, span: tuple[float, float]):
    assert parse_datetime(text) == span


@pytest.mark.parametrize(
    "text", ["", "..", "../..", "/", "yesterday", "a/b/c", "2022-01-01T00:00:00Z/2021-01-01T00:00:00Z"]
)
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(BadRequest, match="datetime"):
        parse_datetime(text)


def test_a_bbox_may_cross_the_antimeridian_and_have_heights():
    area = parse_area([170, -10, -170, 10], None)
    assert area.contains(shapely.Point(179, 0))
    assert area.contains(shapely.Point(-179, 0))
    assert not area.contains(shapely.Point(0, 0))
    assert parse_area([1, 2, -100, 3, 4, 100], None).bounds == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("bbox", "intersects", "match"),
    [
        ([1, 2, 3], None, "bbox has 3 numbers"),
        ([0, 10, 1, 5], None, "not within"),
        ([0, 0, 999, 1], None, "not within"),
        ([0, 0, float("nan"), 1], None, "all finite"),
        ([0, 0, 1, 1], {"type": "Point", "coordinates": [0, 0]}, "not both"),
        (None, {"type": "Circle"}, "no GeoJSON"),
        (None, {"type": "Polygon", "coordinates": []}, "empty or invalid"),
        (None, [1, 2], "no GeoJSON"),
    ],
)
def test_what_is_no_area_is_refused(bbox, intersects, match):
    with pytest.raises(BadRequest, match=match):
        parse_area(bbox, intersects)


def test_an_interval_item_is_found_by_any_moment_within(index: ItemIndex):
    for text, count in (("2022-06-01T00:00:00Z", 18), ("2020-06-01T00:00:00Z", 0), ("../2021-01-01T00:00:00Z", 18)):
        start, end = parse_datetime(text)
        assert len(index.search(Query(collections=["landcover-synthetic"], start=start, end=end))) == count


def test_what_an_item_lacks_is_null_and_never_matches_a_comparison(index: ItemIndex):
    every = len(index.items)
    cloudy = index.search(Query(filter=cql2.parse_text("eo:cloud_cover >= 0")))
    assert len(cloudy) == every - 18
    neither = index.search(Query(filter=cql2.parse_text("eo:cloud_cover < 5 OR eo:cloud_cover >= 5")))
    assert ids(neither) == ids(cloudy)


def test_a_name_that_no_item_has_is_refused(index: ItemIndex):
    with pytest.raises(BadRequest, match="unknown in filter: eo:cloudcover"):
        index.search(Query(filter=cql2.parse_text("eo:cloudcover < 5 AND pwcat:biome = 'Tundra'")))
    with pytest.raises(BadRequest, match=r"unknown in sortby: properties\.cloud"):
        index.check_names(["properties.cloud"], what="sortby")


def test_names_of_an_expression():
    expression = cql2.parse_text("a = 1 AND (b IN (1, 2) OR NOT c LIKE 'x%')").to_json()
    assert set(property_names(expression)) == {"a", "b", "c"}


def test_sorting_is_stable_and_puts_what_lacks_a_value_last(index: ItemIndex):
    down = index.search(Query(sort=[("properties.eo:cloud_cover", True), ("id", False)]))
    covers = [item["properties"].get("eo:cloud_cover") for item in down]
    there = [cover for cover in covers if cover is not None]
    assert there == sorted(there, reverse=True)
    assert covers[len(there) :] == [None] * 18
    by_place = index.search(Query(sort=[("pwcat:place", False), ("datetime", True)]))
    keys = [(item["properties"]["pwcat:place"], item["properties"]["datetime"]) for item in by_place]
    assert [place for place, _ in keys] == sorted(place for place, _ in keys)


def test_a_folder_without_a_catalog_is_no_archive(tmp_path: Path):
    with pytest.raises(ArchiveError, match=r"has no catalog\.json; make one with `pwcat archive synth"):
        ItemIndex(tmp_path)


def test_null_can_be_asked_for(index: ItemIndex):
    lacking = index.search(Query(filter=cql2.parse_text("eo:cloud_cover IS NULL")))
    assert {item["collection"] for item in lacking} == {"landcover-synthetic"}
    assert len(lacking) == 18


def test_what_has_no_order_cannot_be_sorted_by(index: ItemIndex):
    with pytest.raises(BadRequest, match="cannot sort by proj:centroid"):
        index.search(Query(sort=[("proj:centroid", False)]))
