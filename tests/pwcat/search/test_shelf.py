"""Items kept out of memory come back as they were, and leave nothing behind."""

from __future__ import annotations

import gc
import json
import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwcat.recipe import When
from pwcat.scenes import search_scenes
from pwcat.search import Shelf, shelf

ALL = When(start=date(2021, 1, 1), end=date(2024, 12, 31), max_cloud_cover=100)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.text(), values, max_size=5), min_size=1, max_size=6))
def test_what_is_put_there_comes_back_in_any_order(items):
    kept = Shelf()
    put = [kept.put(item) for item in items]
    for one, item in [*zip(put, items, strict=True)][::-1]:
        assert one == item
        assert dict(one) == item
        assert (list(one), len(one)) == (list(item), len(item))


def test_an_item_goes_to_another_process_as_it_is():
    one = Shelf().put({"id": "a", "properties": {"x": [1, 2.5, None]}})
    sent = pickle.loads(pickle.dumps(one))  # noqa: S301
    assert type(sent) is dict
    assert sent == one == {"id": "a", "properties": {"x": [1, 2.5, None]}}
    assert repr(one) == "ShelvedItem('a')"


def test_moments_of_geoparquet_become_those_of_stac_and_other_values_are_told():
    one = Shelf().put({"id": "a", "made": datetime(2021, 5, 1, 10, tzinfo=UTC), "day": date(2021, 5, 1)})
    assert (one["made"], one["day"]) == ("2021-05-01T10:00:00Z", "2021-05-01")
    with pytest.raises(TypeError, match="an item holds bytes, which is no JSON"):
        Shelf().put({"id": "a", "noise": b"x"})


@pytest.mark.kit
def test_real_items_take_a_kilobyte(kit):
    items = json.loads((kit / "stac/odc-stac/site1-20200606-tall-strip-africa.geojson").read_text())["features"]
    items += json.loads((kit / "stac/stac-geoparquet/sentinel-2-l2a-pc.json").read_text())
    kept = Shelf()
    assert [kept.put(item) for item in items] == items
    assert kept._end / len(items) < 0.12 * len(json.dumps(items)) / len(items)


def test_many_items_lie_on_the_disk_under_no_name_and_threads_read_them(tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "IN_MEMORY", 1000)
    items = [{"id": f"i{number}", "noise": f"{hash((number, 1)):x}" * 20} for number in range(300)]
    kept = Shelf(tmp_path / "there")
    put = [kept.put(item) for item in items]
    assert kept._file._rolled
    assert not list((tmp_path / "there").iterdir())
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(dict, put * 4)) == items * 4
    assert kept.put({"id": "late"})["id"] == "late"  # after reading, it goes on at its end
    assert put[7] == items[7]


FULL = """
import resource, sys
from pathlib import Path
from pwcat.search import Shelf
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from pwcat.search import shelf
shelf.IN_MEMORY = 1000
kept = Shelf(Path(sys.argv[1]))
for number in range(3000):
    kept.put({"id": str(number), "noise": "".join(chr(33 + hash((number, k)) % 90) for k in range(400))})
"""


def test_a_full_disk_says_where(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (last,) = done.stderr.splitlines()[-1:]
    assert last.startswith("OSError: [Errno 27] File too large; scenes' items are kept there while a plan is made")
    assert last.endswith(f"'{tmp_path}'")
    assert "Exception ignored" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_scenes_of_a_search_are_slim(api, item_at):
    """Without their items, of 5 kB each as JSON and more as dicts."""
    for number in range(120):
        item = item_at(f"i{number:04d}", 3.0, number / 1000, half=0.04, **{"proj:code": "EPSG:32631"})
        item["assets"]["B02"] |= {
            "proj:transform": [10, 0, 495_000, 0, -10, number], "proj:shape": [1000, 1000],
            "histogram": [(number * k) % 1009 + 0.5 for k in range(400)],
        }  # fmt: skip
        api.items.append(item)
    source = api.source
    assert len(search_scenes(source, ALL, bands=["B02"])) == 120  # what is loaded once is
    gc.collect()
    tracemalloc.start()
    try:
        scenes = search_scenes(source, ALL, bands=["B02"])
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(scenes) == 120
    assert held / len(scenes) < 4_000  # half of it these numbers, compressed
    assert scenes[9].item["assets"]["B02"]["histogram"][3] == 27.5
