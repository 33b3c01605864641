"""Frozen scenes: row groups made one at a time, and only those read that are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import shapely
import stac_geoparquet.arrow

from pwcat import scenes
from pwcat.errors import SourceError
from pwcat.providers import OpenSource
from pwcat.scenes import Scene, frozen_items, read_scenes, write_scenes

SOURCE = OpenSource(provider="stac", url="http://127.0.0.1:1", collection="s2")


def make_item(number: int, **properties) -> dict:
    west = number / 100
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": f"i{number:04d}",
        "collection": "c",
        "bbox": [west, 0.0, west + 1, 1.0],
        "geometry": shapely.geometry.mapping(shapely.box(west, 0, west + 1, 1)),
        "properties": {"datetime": f"2021-06-{number % 28 + 1:02d}T10:00:00Z", "proj:code": "EPSG:32631", **properties},
        "assets": {
            "B02": {
                "href": f"https://example.test/{number}.tif",
                "proj:transform": [10.0, 0.0, 500_000.0, 0.0, -10.0, 100_000.0 + number],
                "proj:shape": [1000, 1000],
            }
        },
        "links": [],
    }


def scene_of(item):
    return Scene.from_item(item, source=SOURCE, bands=["B02"])


def plain(value):
    """As JSON has it, without what says nothing."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if one is not None}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(scenes, "GROUP", 8)
    monkeypatch.setattr(scenes, "ITEMS_AT_ONCE", 3)


def test_a_single_group_is_what_the_library_writes_at_once(tmp_path):
    items = [make_item(number, cloud=number / 7) for number in range(30)]
    write_scenes(tmp_path / "ours.parquet", map(scene_of, items))
    table = stac_geoparquet.arrow.parse_stac_items_to_arrow(items).read_all()
    stac_geoparquet.arrow.to_parquet(table, tmp_path / "theirs.parquet", write_page_checksum=True)
    assert (tmp_path / "ours.parquet").read_bytes() == (tmp_path / "theirs.parquet").read_bytes()


@pytest.mark.usefixtures("small")
def test_groups_whose_items_differ_say_what_one_group_says(tmp_path):
    """Fields that come, go and change from whole numbers to fractions, across groups."""
    items = [make_item(number, cloud=number if number < 20 else number / 7) for number in range(30)]
    for item in items[17:]:
        item["assets"]["B03"] = {"href": "https://example.test/b03.tif", "roles": ["data"]}
        item["properties"]["gone"] = None
    for item in items[25:]:
        item["assets"]["B02"] |= {"file:size": 5, "raster:bands": [{"scale": 1}, {"scale": 0.1, "nodata": 0}]}
        item["extra"] = {"deep": [1]}
    path, whole = tmp_path / "groups.parquet", tmp_path / "whole.parquet"
    write_scenes(path, map(scene_of, items))
    table = stac_geoparquet.arrow.parse_stac_items_to_arrow(items).read_all()
    stac_geoparquet.arrow.to_parquet(table, whole)
    assert pq.ParquetFile(path).num_row_groups == 4
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["groups.parquet", "whole.parquet"]
    ours, theirs = pq.read_table(path), pq.read_table(whole)
    assert set(ours.column_names) == set(theirs.column_names)
    assert plain(ours.select(theirs.column_names).to_pylist()) == plain(theirs.to_pylist())
    assert plain(list(frozen_items(path))) == plain(list(frozen_items(whole)))
    again = read_scenes(path, source=SOURCE, bands=["B02"])
    write_scenes(tmp_path / "again.parquet", again)
    assert plain(list(frozen_items(tmp_path / "again.parquet"))) == plain(list(frozen_items(path)))


@pytest.mark.kit
@pytest.mark.usefixtures("small")
def test_real_items_in_groups_are_the_library_s(kit, tmp_path):
    """Of three dialects, in one file: the Planetary Computer's of two years, and Earth Search's."""
    items = json.loads((kit / "stac/odc-stac/site1-20200606-tall-strip-africa.geojson").read_text())["features"]
    items += json.loads((kit / "stac/stac-geoparquet/sentinel-2-l2a-pc.json").read_text())
    items += json.loads((kit / "stac/rustac/crates__server__data__sentinel-2__item-collection.json").read_text())[
        "features"
    ]
    items = [{**item, "links": []} for item in items]
    write_scenes(tmp_path / "groups.parquet", map(scene_of, items))
    table = stac_geoparquet.arrow.parse_stac_items_to_arrow(items).read_all()
    theirs = stac_geoparquet.arrow.stac_table_to_items(table)
    assert plain(list(frozen_items(tmp_path / "groups.parquet"))) == plain(list(theirs))
    assert pq.ParquetFile(tmp_path / "groups.parquet").num_row_groups == 3


@pytest.mark.usefixtures("small")
def test_scenes_asked_for_are_read_from_their_groups_alone(tmp_path):
    path = tmp_path / "scenes.parquet"
    write_scenes(path, (scene_of(make_item(number)) for number in range(40)))
    every = read_scenes(path, source=SOURCE, bands=["B02"])
    assert [scene.id for scene in every] == [f"i{number:04d}" for number in range(40)]
    ids = ["i0030", "i0009", "nowhere", "i0031", "i0009"]
    damage(path, groups=(0, 2, 4), spared=("id",))
    some = read_scenes(path, source=SOURCE, bands=["B02"], ids=ids)
    assert some == [every[number] for number in (9, 30, 31)]
    assert read_scenes(path, source=SOURCE, bands=["B02"], ids=[]) == []
    with pytest.raises(OSError, match=r"[Tt]hrift|decompress|page"):
        read_scenes(path, source=SOURCE, bands=["B02"])


def damage(path: Path, *, groups: tuple[int, ...], spared: tuple[str, ...]) -> None:
    """Overwrite the columns of some row groups."""
    metadata, data = pq.read_metadata(path), bytearray(path.read_bytes())
    for number in groups:
        group = metadata.row_group(number)
        for k in range(group.num_columns):
            column = group.column(k)
            if column.path_in_schema not in spared:
                start = column.dictionary_page_offset or column.data_page_offset
                data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)


@pytest.mark.parametrize("number", [3, 20], ids=["in one group", "across groups"])
@pytest.mark.usefixtures("small")
def test_items_that_contradict_each_other_are_told(tmp_path, number):
    items = [make_item(k, odd="text" if k == number else 7) for k in range(30)]
    with pytest.raises(SourceError, match=r"scenes\.parquet: the scenes' items do not agree on the type of a field"):
        write_scenes(tmp_path / "scenes.parquet", map(scene_of, items))


@pytest.mark.usefixtures("small")
def test_scenes_are_taken_a_group_at_a_time(tmp_path):
    """Never more items at once than a group has."""
    alive: list[int] = []

    class Counted(dict):
        def __init__(self, item):
            super().__init__(item)
            alive.append(1)

        def __del__(self):
            alive.pop()

    most = []

    def stream():
        for number in range(60):
            most.append(len(alive))
            yield scene_of(Counted(make_item(number)))

    write_scenes(tmp_path / "scenes.parquet", stream())
    assert max(most) <= 10
    assert len(list(frozen_items(tmp_path / "scenes.parquet"))) == 60
