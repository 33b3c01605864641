"""What workers are told of a shard is small, and is all that reading needs."""

from __future__ import annotations

import json
import pickle

import pytest

from pwcat.building.assignments import ScenePack, assign_shard, cut_item
from pwcat.cube import CubeSpec
from pwcat.errors import PwcatError
from pwcat.plan import read_plan
from pwcat.providers import OpenSource
from pwcat.scenes import Scene

BANDS = ["B02", "B05", "B01"]


@pytest.fixture(scope="module")
def pack(frozen, source):
    return ScenePack(frozen, source=source, bands=BANDS)


def test_a_task_takes_a_few_kilobytes_a_scene(frozen, source, pack):
    plan = read_plan(frozen)
    spec = CubeSpec(num_samples=16, num_times=1, bands=tuple(BANDS), size_px=32, shard_size=16)
    task = assign_shard(plan, 0, spec=spec, scenes=pack, source=source, plan_hash="0" * 64, share=0.5)
    assert set(task.scenes) == {name for names in plan.table["scene_ids"].to_pylist() for name in names}
    assert len(pickle.dumps(task)) < 4000 * len(task.scenes) + 4000
    assert task.share == 0.5
    assert all(set(scene.item["assets"]) == {"B02", "B05", "B01", "SCL"} for scene in task.scenes.values())


def test_scenes_are_as_they_were_but_for_what_nobody_reads(frozen, source, pack):
    for scene in read_plan(frozen).scenes(source):
        packed = pack.of([scene.id])[scene.id]
        for name in ("id", "time", "epsg", "left", "top", "width_m", "height_m", "footprint", "cloud_cover"):
            assert getattr(packed, name) == getattr(scene, name)
        assert packed.item["properties"] == scene.item["properties"]
        for band, asset in packed.item["assets"].items():
            assert asset.items() <= scene.item["assets"][band].items()
            assert {"href", "proj:transform", "proj:shape"} <= asset.keys()


def test_a_scene_that_is_not_there_is_told(pack):
    with pytest.raises(PwcatError, match=r"the plan names scene nowhere, which is not among its scenes; remove"):
        pack.of(["nowhere"])


@pytest.mark.kit
def test_real_items_are_cut_to_a_few_kilobytes(kit):
    source = OpenSource(
        provider="planetary-computer",
        url="https://planetarycomputer.microsoft.com/api/stac/v1",
        collection="sentinel-2-l2a",
    )
    bands = ["B02", "B03", "B04", "B08", "B11", "B12"]
    item = json.loads((kit / "stac/stac-geoparquet/sentinel-2-l2a-pc.json").read_text())[0]
    cut = cut_item(item, source, bands)
    assert set(cut["assets"]) == {*bands, "SCL"}
    assert len(json.dumps(cut)) < 8_000 < len(json.dumps(item))
    whole, less = (Scene.from_item(each, source=source, bands=bands) for each in (item, cut))
    assert (less.epsg, less.left, less.top, less.time) == (whole.epsg, whole.left, whole.top, whole.time)
    assert source.boa_offset(less.item["properties"]) == source.boa_offset(whole.item["properties"])
