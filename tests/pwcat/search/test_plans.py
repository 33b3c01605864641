"""Plans whose source stops answering, or who are killed: what it has answered is not asked again. Answers that are odd."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from pwcat.errors import SourceError
from pwcat.plan import freeze_plan
from pwcat.recipe import Recipe


@pytest.fixture
def recipe(api):
    return Recipe.model_validate(
        {
            "name": "broken",
            "title": "B",
            "license": "CC0-1.0",
            "num_samples": 20,
            "sampler": {"strategy": "uniform", "domain": "scenes"},
            "source": {"provider": "stac", "url": api.url, "collection": "c", "allow_private": True},
            "when": {"start": "2021-06-01", "end": "2021-06-30", "max_cloud_cover": 100},
            "chip": {"size_px": 32, "bands": ["B02"]},
        }
    )


@pytest.fixture
def scenes(api, item_at):
    """600 scenes of 10 km in UTM zone 31, in three pages."""
    api.items = []
    for number in range(600):
        item = item_at(f"i{number:04d}", 3.0, 0.5 + number / 10, half=0.04, **{"proj:code": "EPSG:32631"})
        transform = [10, 0, 495_000, 0, -10, 60_000 + 11_057 * number]
        item["assets"]["B02"] |= {"proj:transform": transform, "proj:shape": [1000, 1000]}
        api.items.append(item)


@pytest.mark.usefixtures("scenes")
def test_a_plan_goes_on_where_its_source_stopped_and_is_the_same(api, recipe, tmp_path):
    def freeze(catalog):
        return freeze_plan(recipe, catalog=catalog, base_dir=tmp_path, source=api.source)

    undisturbed = freeze(tmp_path / "undisturbed")
    pages = len(api.searches)
    assert pages >= 3
    api.faults = [*[None] * (pages - 1), (400, {})]
    with pytest.raises(SourceError, match="answers a search with HTTP 400"):
        freeze(tmp_path / "broken")
    assert list((tmp_path / "broken" / "broken" / "_search").rglob("page-*"))
    api.searches.clear()
    folder = freeze(tmp_path / "broken")
    assert len(api.searches) == 1
    for name in ("plan.parquet", "scenes.parquet"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not (folder / "_search").exists()


@pytest.mark.usefixtures("scenes")
def test_answers_of_a_plan_that_cannot_be_are_not_kept(api, recipe, tmp_path):
    crowded = recipe.model_copy(update={"constraints": recipe.constraints.model_copy(update={"min_spacing_km": 5000})})
    with pytest.raises(Exception, match="sites could be placed"):
        freeze_plan(crowded, catalog=tmp_path, base_dir=tmp_path, source=api.source)
    assert not list(tmp_path.rglob("page-*"))


PLANNING = """
import json, resource, sys
from pathlib import Path
from pwcat.plan import freeze_plan
from pwcat.providers import OpenSource
from pwcat.recipe import Recipe
from pwcat.search import shelf
shelf.IN_MEMORY = 1000
recipe = Recipe.model_validate(json.loads(sys.argv[1]))
size = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
source = OpenSource(provider="stac", url=recipe.source.url, collection="c", allow_private=True)
freeze_plan(recipe, catalog=Path(sys.argv[2]), base_dir=Path(sys.argv[2]), source=source)
"""


@pytest.mark.usefixtures("scenes")
def test_a_planning_that_is_killed_goes_on_at_its_page_and_leaves_nothing_else(api, recipe, tmp_path):
    undisturbed = freeze_plan(recipe, catalog=tmp_path / "undisturbed", base_dir=tmp_path, source=api.source)
    pages, asked, held = len(api.searches), threading.Event(), threading.Event()
    api.searches.clear()
    api.before = lambda: (asked.set(), held.wait(60)) if len(api.searches) == pages else None
    arguments = [sys.executable, "-c", PLANNING, recipe.model_dump_json(), tmp_path / "killed", "-1"]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as planning:
        assert asked.wait(60)
        os.kill(planning.pid, signal.SIGKILL)
    held.set()
    left = {path.name for path in (tmp_path / "killed" / "broken").rglob("*") if path.is_file()}
    assert left == {f"page-{number:06d}.json.gz" for number in range(pages - 1)}
    api.before, searches = None, len(api.searches)
    folder = freeze_plan(recipe, catalog=tmp_path / "killed", base_dir=tmp_path, source=api.source)
    assert len(api.searches) == searches + 1
    for name in ("plan.parquet", "scenes.parquet"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not (folder / "_search").exists()


@pytest.mark.usefixtures("scenes")
@pytest.mark.parametrize(
    ("size", "what", "kept"), [(3_000, "pages of a search", 0), (15_000, "scenes' items", 1)], ids=["pages", "items"]
)
def test_on_a_full_disk_a_planning_says_where_and_goes_on_once_there_is_room(api, recipe, tmp_path, size, what, kept):
    undisturbed = freeze_plan(recipe, catalog=tmp_path / "undisturbed", base_dir=tmp_path, source=api.source)
    arguments = [sys.executable, "-c", PLANNING, recipe.model_dump_json(), tmp_path / "full", str(size)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert f"OSError: [Errno 27] File too large; {what} are kept" in done.stderr
    assert str(tmp_path / "full" / "broken" / "_search") in done.stderr.splitlines()[-1]
    left = [path.name for path in (tmp_path / "full" / "broken").rglob("*") if path.is_file()]
    assert all(name.startswith("page-") for name in left)
    assert len(left) >= kept
    api.searches.clear()
    folder = freeze_plan(recipe, catalog=tmp_path / "full", base_dir=tmp_path, source=api.source)
    assert len(api.searches) <= 3 - kept
    for name in ("plan.parquet", "scenes.parquet"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.mark.usefixtures("scenes")
def test_odd_items_are_left_out_and_counted_and_the_plan_is_the_same(api, recipe, tmp_path, caplog):
    plain = freeze_plan(recipe, catalog=tmp_path / "plain", base_dir=tmp_path, source=api.source)
    first = api.items[0]
    odd = {
        "without a geometry": {**first, "id": "o1", "geometry": None},
        "without a date": {**first, "id": "o2", "properties": {**first["properties"], "datetime": None}},
        "without properties": {**first, "id": "o3", "properties": None},
        "without assets": {**first, "id": "o4", "assets": None},
        "without an id": {**first, "id": None},
    }
    api.items = [*odd.values(), *api.items[:300], *api.items[200:], *odd.values()]
    api.extra, api.gaps = 3, 1
    folder = freeze_plan(recipe, catalog=tmp_path / "odd", base_dir=tmp_path, source=api.source)
    for name in ("plan.parquet", "scenes.parquet"):
        assert (folder / name).read_bytes() == (plain / name).read_bytes()
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sorted(told) == [
        "1 scene(s) of c are left out: it has no datetime",
        "1 scene(s) of c are left out: it has no geometry",
        "1 scene(s) of c are left out: its pixel grid is in no CRS: chips are cut from projected grids in metres",
    ]  # the three most frequent


def test_an_empty_answer_is_told(api, recipe, tmp_path):
    with pytest.raises(SourceError, match=r"has no scene from 2021-06-01 to 2021-06-30 under 100 % cloud"):
        freeze_plan(recipe, catalog=tmp_path, base_dir=tmp_path, source=api.source)
    assert not list(tmp_path.rglob("*.parquet"))
