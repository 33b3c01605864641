"""A collection's items as GeoParquet: the same scenes as its API, over HTTP, from a file, from a folder of parts."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
import stac_geoparquet.arrow

from pwcat.errors import SourceError
from pwcat.providers import OpenSource
from pwcat.recipe import When
from pwcat.scenes import search_scenes
from pwcat.search import Answer, find_items, snapshot

ALL = When(start=date(2021, 1, 1), end=date(2024, 12, 31), max_cloud_cover=100)


def ids(items):
    return sorted(item["id"] for item in items)


def listed(api, href, **more):
    """The API, with a collection that names that snapshot."""
    collection = {"id": "c", "assets": {"geoparquet-items": {"href": str(href), **more}}}
    api.routes["/collections/c"] = lambda: json.dumps(collection).encode()
    return replace(api.source, search="snapshot", allow_private=True)


def test_the_archive_s_snapshot_has_the_scenes_of_its_api(source):
    snapshot = replace(source, search="snapshot")
    every = search_scenes(source, ALL, bands=["B02"])
    assert [scene.id for scene in search_scenes(snapshot, ALL, bands=["B02"])] == [scene.id for scene in every]
    again = search_scenes(snapshot, ALL, bands=["B02"])[0]
    assert again.item["assets"]["B02"]["href"] == every[0].item["assets"]["B02"]["href"]
    assert (again.epsg, again.left, again.top, again.footprint) == (
        every[0].epsg, every[0].left, every[0].top, every[0].footprint
    )  # fmt: skip
    part = When(start=date(2022, 1, 1), end=date(2022, 12, 31), max_cloud_cover=100)
    sites = np.array([shapely.get_coordinates(scene.footprint.centroid)[0] for scene in every[::5]])
    answer = Answer()
    found = find_items(snapshot, datetime="2022-01-01T00:00:00Z/2022-12-31T23:59:59Z", sites=sites, answer=answer)
    assert ids(found) == [scene.id for scene in search_scenes(source, part, bands=["B02"], sites=sites)]
    assert answer.way == "snapshot"
    assert answer.snapshot.endswith(f"/collections/{source.collection}/items.parquet")
    assert date.fromisoformat(answer.snapshot_date) <= date.today()


@pytest.mark.kit
def test_real_items_of_the_planetary_computer_by_site_and_span(kit, api, tmp_path, monkeypatch):
    """The recorded snapshot, as one file, as a folder, and over HTTP, against brute force over its rows."""
    recorded = kit / "stac" / "rustac" / "crates__duckdb__data__100-sentinel-2-items.parquet"
    items = list(stac_geoparquet.arrow.stac_table_to_items(pq.read_table(recorded)))
    dates = sorted(item["properties"]["datetime"] for item in items)
    site = np.array([shapely.get_coordinates(shapely.geometry.shape(items[7]["geometry"]).centroid)[0]])
    wanted = [
        item["id"]
        for item in items
        if dates[20] <= item["properties"]["datetime"] <= dates[60]
        and shapely.intersects_xy(shapely.geometry.shape(item["geometry"]), site).any()
    ]
    assert 1 < len(wanted) <= 41
    folder = tmp_path / "parts.parquet"
    folder.mkdir()
    whole, midnight = pq.read_table(recorded), "T00:00:00+00:00"
    pq.write_table(whole[:30], folder / f"part-0001_2000-01-01{midnight}_2001-01-01{midnight}.parquet")  # its name lies
    pq.write_table(whole, folder / f"part-0002_2001-01-01{midnight}_2030-01-01{midnight}.parquet", row_group_size=9)
    span = f"{dates[20]}/{dates[60]}"
    for href in (recorded, recorded.as_uri(), folder):
        source = listed(api, href)
        assert ids(find_items(source, datetime=span, sites=site)) == sorted(wanted)
        assert ids(find_items(source)) == ids(items)
        assert not list(find_items(source, sites=site + 90))
    assert not api.searches
    monkeypatch.setattr(snapshot, "ROWS_AT_ONCE", 7)  # fewer than the row groups have
    answer = Answer()
    assert ids(find_items(source, datetime=span, sites=site, answer=answer)) == sorted(wanted)
    assert list(find_items(source)) == [{**item, "links": []} for item in dict_of(items[:30] + items).values()]
    assert answer.pages > 2


def dict_of(items):
    return {item["id"]: item for item in items}


def test_a_snapshot_that_is_not_there_is_told_or_the_api_is_asked(api, item_at, soon, caplog, tmp_path):
    api.items = [item_at("a", 0, 0)]
    source = listed(api, tmp_path / "gone.parquet")
    with pytest.raises(SourceError, match=r"gone\.parquet holds no Parquet file"):
        list(find_items(source, patience=soon))
    with pytest.raises(SourceError, match=r"refused to read .*gone\.parquet.*a file of this computer"):
        list(find_items(replace(source, allow_private=False), patience=soon))
    (tmp_path / "noise.parquet").write_bytes(b"PAR1 and noise")
    with pytest.raises(SourceError, match=r"noise\.parquet cannot be read"):
        list(find_items(listed(api, tmp_path / "noise.parquet"), patience=soon))
    # the Planetary Computer would rather have its snapshot read; where that cannot be, its API is asked
    computer = OpenSource(provider="planetary-computer", url=api.url, collection="c")
    api.routes["/collections/c"] = lambda: b'{"id": "c"}'
    assert ids(find_items(computer, patience=soon)) == ["a"]
    assert "collection c has no asset 'geoparquet-items'; its API is asked instead" in caplog.text


@pytest.mark.parametrize("account", ["127.0.0.1:{port}/", "127.0.0.1:{port}?", "a.b", "", None])
def test_a_storage_account_that_is_an_address_is_not_asked(api, soon, account):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        name = account and account.format(port=listening.getsockname()[1])
        options = {"table:storage_options": {"account_name": name}}
        with pytest.raises(SourceError, match=r"its storage account is called .*, as none can be"):
            list(
                find_items(
                    replace(listed(api, "abfs://items/c.parquet", **options), allow_private=False), patience=soon
                )
            )
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_small_questions_go_to_the_api(api, item_at, soon):
    api.items = [item_at("a", 0, 0)]
    computer = OpenSource(provider="planetary-computer", url=api.url, collection="c")
    answer = Answer()
    assert ids(find_items(computer, sites=np.zeros((1, 2)), patience=soon, answer=answer)) == ["a"]
    assert answer.way == "api"


def test_the_folder_of_a_search_says_the_way(source, tmp_path):
    found = search_scenes(replace(source, search="snapshot"), ALL, bands=["B02"], folder=tmp_path)
    said = json.loads((tmp_path / "answer.json").read_text())
    assert said["way"] == "snapshot"
    assert said["items"] == len(found)
    shutil.rmtree(tmp_path)
