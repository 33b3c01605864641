from __future__ import annotations

import json
from datetime import date, datetime

import numpy as np
import pytest
import shapely
from pyproj import Transformer

from pwcat.errors import SourceError
from pwcat.providers import OpenSource
from pwcat.recipe import When
from pwcat.scenes import Scene, read_scenes, search_scenes, write_scenes

BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
SOURCE = OpenSource(provider="stac", url="http://127.0.0.1:1", collection="s2")
EARTH_SEARCH = OpenSource(provider="earth-search", url="http://127.0.0.1:1", collection="s2")
LEFT, TOP, SIDE_PX = 300_000.0, 5_000_040.0, 384


def when(start, end, **more):
    return When(start=date.fromisoformat(start), end=date.fromisoformat(end), **more)


def make_item(name="a", *, time="2021-06-15T10:00:00Z", cloud=0.0, epsg=32633, left=LEFT, top=TOP, footprint=None):
    """An item of one 10 m band, 384 px a side; the footprint in the CRS of the grid, all of it where None."""
    outline = footprint or shapely.box(left, top - SIDE_PX * 10, left + SIDE_PX * 10, top)
    to_degrees = Transformer.from_crs(f"EPSG:{epsg}", "EPSG:4326", always_xy=True)
    geometry = shapely.transform(outline, lambda xy: np.column_stack(to_degrees.transform(xy[:, 0], xy[:, 1])))
    return {
        "id": name,
        "type": "Feature",
        "stac_version": "1.1.0",
        "geometry": shapely.geometry.mapping(geometry),
        "properties": {"datetime": time, "eo:cloud_cover": cloud, "proj:code": f"EPSG:{epsg}"},
        "assets": {
            "B02": {
                "href": f"https://example.test/{name}/B02.tif",
                "proj:transform": [10.0, 0.0, left, 0.0, -10.0, top],
                "proj:shape": [SIDE_PX, SIDE_PX],
            }
        },
        "links": [],
    }


def scene(name="a", **options):
    return Scene.from_item(make_item(name, **options), source=SOURCE, bands=["B02"])


@pytest.mark.kit
def test_items_of_earth_search_parse_by_its_names_of_bands(kit):
    path = kit / "stac" / "rustac" / "crates__server__data__sentinel-2__item-collection.json"
    items = json.loads(path.read_text())["features"]
    assert len(items) == 10
    for item in items:
        found = Scene.from_item(item, source=EARTH_SEARCH, bands=BANDS)
        blue = item["assets"]["blue"]
        assert (found.left, found.top) == (blue["proj:transform"][2], blue["proj:transform"][5])
        assert (found.width_m, found.height_m) == (109_800, 109_800)
        assert found.epsg == item["properties"]["proj:epsg"]
        assert found.time == datetime.fromisoformat(item["properties"]["datetime"])
        assert found.cloud_cover == item["properties"]["eo:cloud_cover"]
        # the finest of the bands asked for says the grid
        assert Scene.from_item(item, source=EARTH_SEARCH, bands=["B01"]).width_m == 1830 * 60
    with pytest.raises(SourceError, match=r"no asset for band 'B10' \(looked for 'B10'\); there are aot, blue, cloud"):
        Scene.from_item(items[0], source=EARTH_SEARCH, bands=["B10"])
    # nothing is known of the collections of any API: its items themselves say which asset is which band
    assert Scene.from_item(items[0], source=SOURCE, bands=["B02", "B8A", "red"]).width_m == 109_800
    with pytest.raises(SourceError, match=r"no asset for band 'rededge' \(looked for 'rededge'\); there are"):
        Scene.from_item(items[0], source=SOURCE, bands=["rededge"])  # there are three


@pytest.mark.kit
def test_items_of_the_planetary_computer_parse_and_survive_freezing(kit, tmp_path):
    frozen = kit / "stac" / "rustac" / "crates__duckdb__data__100-sentinel-2-items.parquet"
    scenes = read_scenes(frozen, source=SOURCE, bands=BANDS)
    tall = json.loads((kit / "stac" / "odc-stac" / "site1-20200606-tall-strip-africa.geojson").read_text())["features"]
    scenes += [Scene.from_item(item, source=SOURCE, bands=BANDS) for item in tall]
    assert len(scenes) == 109
    assert {(s.width_m, s.height_m) for s in scenes} == {(109_800.0, 109_800.0)}
    assert all(32601 <= s.epsg <= 32760 for s in scenes)
    for one in scenes:  # what is said in degrees and in metres is the same place
        to_grid = Transformer.from_crs("EPSG:4326", f"EPSG:{one.epsg}", always_xy=True)
        x, y = to_grid.transform(one.footprint.centroid.x, one.footprint.centroid.y)
        assert one.left < x < one.left + one.width_m
        assert one.top - one.height_m < y < one.top
    for part, count in ((scenes[:100], 100), (scenes[100:], 9)):
        write_scenes(tmp_path / "scenes.parquet", part)
        again = read_scenes(tmp_path / "scenes.parquet", source=SOURCE, bands=BANDS)
        assert [facts(s) for s in again] == [facts(s) for s in part]
        assert len(again) == count


def facts(one):
    """All that a build uses of a scene."""
    assets = {key: asset["href"] for key, asset in one.item["assets"].items()}
    baseline = one.item["properties"].get("s2:processing_baseline")
    return (one.id, one.time, one.cloud_cover, one.epsg, one.left, one.top, one.width_m, one.height_m,
            one.footprint.wkt, assets, baseline)  # fmt: skip


def test_code_and_epsg_say_the_same_grid():
    item = make_item()
    older = {**item, "properties": {**item["properties"], "proj:epsg": 32633}}
    del older["properties"]["proj:code"]
    assert facts(Scene.from_item(older, source=SOURCE, bands=["B02"])) == facts(scene())
    # the item's own grid serves where an asset says none
    general = json.loads(json.dumps(item))
    general["properties"] |= {key: general["assets"]["B02"].pop(key) for key in ("proj:transform", "proj:shape")}
    assert facts(Scene.from_item(general, source=SOURCE, bands=["B02"])) == facts(scene())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proj:code": "EPSG:4326"}, "its pixel grid is in EPSG:4326: chips are cut from projected grids in metres"),
        ({"proj:code": None}, "its pixel grid is in no CRS"),
        ({"datetime": None}, "it has no datetime"),
    ],
)
def test_an_item_that_cannot_be_cut_says_why(change, message):
    item = make_item()
    item["properties"] |= change
    with pytest.raises(SourceError, match=message):
        Scene.from_item(item, source=SOURCE, bands=["B02"])


def test_an_item_without_or_with_a_rotated_grid_says_why():
    item = make_item()
    item["assets"]["B02"]["proj:transform"][1] = 0.5
    with pytest.raises(SourceError, match="its pixel grid is rotated"):
        Scene.from_item(item, source=SOURCE, bands=["B02"])
    del item["assets"]["B02"]["proj:transform"]
    with pytest.raises(SourceError, match=r"it says no pixel grid \(proj:transform and proj:shape\)"):
        Scene.from_item(item, source=SOURCE, bands=["B02"])
    with pytest.raises(SourceError, match="it has no geometry"):
        Scene.from_item({**make_item(), "geometry": None}, source=SOURCE, bands=["B02"])


@pytest.mark.parametrize(
    ("properties", "offset"),
    [
        ({"s2:processing_baseline": "02.14"}, 0),
        ({"s2:processing_baseline": "03.01"}, 0),
        ({"s2:processing_baseline": "04.00"}, 1000),
        ({"s2:processing_baseline": "05.10"}, 1000),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": False}, 1000),
        ({}, 0),
        ({"s2:processing_baseline": None}, 0),
        ({"s2:processing_baseline": "unknown"}, 0),
        ({"processing:version": "05.11"}, 0),  # of whatever software; only Sentinel-2's own field says the baseline
    ],
)
def test_the_offset_is_taken_away_from_baseline_4_on(properties, offset):
    assert SOURCE.boa_offset(properties) == offset
    assert EARTH_SEARCH.boa_offset(properties) == offset


def test_an_offset_that_the_provider_took_away_is_not_taken_away_twice():
    applied = {"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True}
    assert EARTH_SEARCH.boa_offset(applied) == 0
    assert SOURCE.boa_offset(applied) == 1000  # nobody else promises what Earth Search means by it


def test_a_search_gives_each_scene_once_by_id_within_span_and_clouds(source):
    clear = search_scenes(source, when("2021-01-01", "2024-12-31", max_cloud_cover=60), bands=["B02"])
    every = search_scenes(source, when("2021-01-01", "2024-12-31", max_cloud_cover=100), bands=["B02"])
    ids = [s.id for s in every]
    assert ids == sorted(set(ids))
    assert len(every) == 24
    assert {s.id for s in clear} == {s.id for s in every if s.cloud_cover <= 60}
    some = search_scenes(source, when("2022-01-01", "2022-12-31", max_cloud_cover=100), bands=["B02"])
    assert [s.id for s in some] == [s.id for s in every if s.time.year == 2022]
    sites = np.array([shapely.get_coordinates(every[k].footprint.centroid)[0] for k in (0, 5)])
    here = search_scenes(source, when("2021-01-01", "2024-12-31", max_cloud_cover=100), bands=["B02"], sites=sites)
    points = shapely.points(sites)
    assert [s.id for s in here] == [s.id for s in every if shapely.intersects(s.footprint, points).any()]
    assert 2 <= len(here) < 24
    assert all(s.item["assets"]["B02"]["href"].startswith("archive:") for s in here)
    with pytest.raises(SourceError, match=r"stac \(http://127\.0\.0\.1:1\) did not answer a search"):
        search_scenes(SOURCE, when("2021-01-01", "2021-12-31"), bands=["B02"])


def test_scenes_that_lack_a_band_are_left_out_and_said(source, caplog):
    assert search_scenes(source, when("2021-01-01", "2024-12-31"), bands=["B10"]) == []
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage().startswith("24 scene(s) of s2-l2a-synthetic are left out: no asset for band 'B10'")


def test_frozen_scenes_come_back_equal_and_the_same_bytes(source, tmp_path):
    scenes = search_scenes(source, when("2021-01-01", "2024-12-31", max_cloud_cover=100), bands=["B02"])
    write_scenes(tmp_path / "once.parquet", scenes)
    write_scenes(tmp_path / "twice.parquet", scenes)
    assert (tmp_path / "once.parquet").read_bytes() == (tmp_path / "twice.parquet").read_bytes()
    again = read_scenes(tmp_path / "once.parquet", source=source, bands=["B02"])
    assert [facts(s) for s in again] == [facts(s) for s in scenes]
    write_scenes(tmp_path / "thrice.parquet", again)
    assert [facts(s) for s in read_scenes(tmp_path / "thrice.parquet", source=source, bands=["B02"])] == [
        facts(s) for s in scenes
    ]
    some = read_scenes(tmp_path / "once.parquet", source=source, bands=["B02"], ids=[scenes[3].id, scenes[1].id])
    assert [s.id for s in some] == [scenes[1].id, scenes[3].id]


def test_hrefs_lose_and_regain_the_address_of_an_archive_alone():
    here = OpenSource(provider="archive", url="http://127.0.0.1:5", collection="s2")
    there = OpenSource(provider="archive", url="http://127.0.0.1:6", collection="s2")
    frozen = here.freeze("http://127.0.0.1:5/assets/s2/a/B02.tif")
    assert frozen == "archive:s2/a/B02.tif"
    assert there.sign(frozen) == "http://127.0.0.1:6/assets/s2/a/B02.tif"
    elsewhere = "https://example.test/assets/B02.tif"
    assert here.sign(here.freeze(elsewhere)) == elsewhere
