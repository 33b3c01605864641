"""What is kept of scenes is let go once no coming shard wants them, and not before."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pwcat.building import coming
from pwcat.building.coming import forget_scenes, last_shards, made_of
from pwcat.building.shards import make_shard
from pwcat.cube import CubeSpec
from pwcat.materialize import build_cube
from pwcat.plan import FrozenPlan
from pwcat.readers.kept import KEPT


def spec_for(rows: int, size: int) -> CubeSpec:
    return CubeSpec(num_samples=rows, num_times=1, bands=("B02",), size_px=8, shard_size=size)


@given(
    scenes=st.lists(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=2), min_size=1, max_size=30),
    size=st.integers(1, 8),
    skipped=st.sets(st.integers(0, 30)),
)
def test_the_last_shard_of_each_scene(scenes, size, skipped):
    spec = spec_for(len(scenes), size)
    shards = [shard for shard in range(spec.num_shards) if shard not in skipped]
    plan = FrozenPlan(folder=None, recipe=None, table=pa.table({"scene_ids": scenes}), reserve=None, layers={})
    expected = {}
    for row, names in enumerate(scenes):
        if row // size in shards:
            expected |= dict.fromkeys(names, row // size)
    assert last_shards(plan, shards, spec) == expected


@pytest.fixture
def gone(monkeypatch):
    """The files that were let go, in order."""
    files: list[str] = []
    monkeypatch.setattr(coming, "let_go", files.extend)
    return files


FILES = {name: [f"https://example.com/{name}/{band}.tif" for band in ("B02", "B03")] for name in "ab"}
EVERY = FILES["a"] + FILES["b"]


def wanted(**last):
    return {name: (shard, FILES[name]) for name, shard in last.items()}


def test_files_go_with_the_last_shard_that_wants_them(tmp_path, gone):
    with made_of(tmp_path, 0, wanted(a=0, b=2)):
        assert not gone
    assert gone == FILES["a"]
    with made_of(tmp_path, 2, wanted(b=2)):
        pass
    assert gone == EVERY


def test_files_go_where_a_shard_fails(tmp_path, gone):
    with pytest.raises(OSError, match="full"), made_of(tmp_path, 0, wanted(a=0)):
        raise OSError("full")
    assert gone == FILES["a"]


def test_files_stay_while_an_earlier_shard_is_made(tmp_path, gone):
    with made_of(tmp_path, 0, wanted(a=1, b=1)):
        with made_of(tmp_path, 1, wanted(a=1, b=1)):
            pass
        assert not gone
    assert not gone  # the second may come anew
    with made_of(tmp_path, 2, {}):
        pass
    assert gone == EVERY


def test_builds_side_by_side_do_not_wait_for_each_other(tmp_path, gone):
    with made_of(tmp_path / "one", 0, wanted(a=9)):
        with made_of(tmp_path / "other", 1, wanted(b=1)):
            pass
        assert gone == FILES["b"]
    forget_scenes(tmp_path / "other")
    assert gone == FILES["b"]
    forget_scenes(tmp_path / "one")
    assert sorted(gone) == EVERY


def test_a_build_keeps_no_tile_that_no_shard_wants(planned, source, monkeypatch):
    """And none at all once it has ended."""
    after = []

    def made(task):
        result = make_shard(task)
        after.append((set(task.scenes), {key[0] for key in KEPT._of}))
        return result

    monkeypatch.setattr("pwcat.materialize.make_shard", made)
    monkeypatch.setattr("pwcat.building.execution.LOCAL_SHARDS", 1)
    assert build_cube(planned, source=source, reader="tiles").missing == 0
    assert KEPT.bytes == 0
    assert len(after) == 8
    assert any(files for _, files in after)  # else nothing is shown
    for number, (_, files) in enumerate(after):
        coming = {name for scenes, _ in after[number + 1 :] for name in scenes}
        assert all(any(name in file for name in coming) for file in files)


def test_what_is_remembered_of_scenes_has_an_end(monkeypatch, tmp_path, gone):
    monkeypatch.setattr(coming, "REMEMBERED", 1)
    with made_of(tmp_path, 0, wanted(a=0, b=0)):
        pass
    assert gone == FILES["b"]
