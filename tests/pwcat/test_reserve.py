"""Samples without pixels are replaced from the reserve: the right ones, in an order that nothing but the plan decides."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import rasterio
import yaml
from hypothesis import given
from hypothesis import strategies as st

from catalog.store import describe
from pwcat.building.ledger import ledger_path, read_ledger
from pwcat.cube import open_cube, shard_path
from pwcat.errors import PwcatError
from pwcat.materialize import build_cube
from pwcat.plan import freeze_plan, read_plan
from pwcat.providers import open_source
from pwcat.recipe import Source, load_recipe
from pwcat.reserve import (
    REPLACEMENT_SCHEMA,
    apply_replacements,
    choose_replacements,
    read_replacements,
    write_replacements,
)

# --- what is chosen


def samples(rows, *, prefix, shard=None):
    """A table of a plan: of each row its stratum and split."""
    return pa.table(
        {
            "id": [f"{prefix}-{number}" for number in range(len(rows))],
            "stratum": pa.array([stratum for stratum, _ in rows], pa.string()),
            "split": pa.array([split for _, split in rows], pa.string()),
            "scene_ids": pa.array([[f"scene-{prefix}-{number}"] for number in range(len(rows))], pa.list_(pa.string())),
            "shard": pa.array([None if shard is None else number // shard for number in range(len(rows))], pa.int32()),
        }
    )


def ledger_of(table, statuses):
    reasons = [None if status == "written" else f"why {number}" for number, status in enumerate(statuses)]
    return pa.table({"id": table["id"], "status": statuses, "reason": pa.array(reasons, pa.string())})


def test_a_site_of_the_same_stratum_and_split_comes_first_then_one_of_another_split():
    table = samples(
        [("wet", "val"), ("wet", "val"), ("dry", "train"), ("wet", "val"), (None, "val")], prefix="p", shard=2
    )
    reserve = samples(
        [("wet", "train"), ("dry", "val"), ("wet", "val"), ("wet", "train"), (None, "train"), ("dry", "train")],
        prefix="r",
    )
    ledger = ledger_of(table, ["empty", "empty", "empty", "failed", "empty"])
    choice = choose_replacements(table, reserve, ledger, statuses=["empty"])
    assert choice.short == {}
    assert choice.replacements.schema == REPLACEMENT_SCHEMA
    assert choice.replacements.to_pylist() == [
        {"position": 0, "id": "p-0", "status": "empty", "reason": "why 0", "by": "r-2"},  # the only one of wet and val
        {"position": 1, "id": "p-1", "status": "empty", "reason": "why 1", "by": "r-0"},  # wet, of another split
        {"position": 2, "id": "p-2", "status": "empty", "reason": "why 2", "by": "r-5"},
        {"position": 4, "id": "p-4", "status": "empty", "reason": "why 4", "by": "r-4"},
    ]
    applied, left = apply_replacements(table, reserve, choice.replacements)
    assert applied["id"].to_pylist() == ["r-2", "r-0", "r-5", "p-3", "r-4"]
    assert applied["split"].to_pylist() == ["val", "train", "train", "val", "train"]  # a site keeps its own
    assert applied["shard"].to_pylist() == [0, 0, 1, 1, 2]
    assert applied["scene_ids"].to_pylist()[0] == ["scene-r-2"]
    assert left["id"].to_pylist() == ["r-1", "r-3"]


def test_a_stratum_without_sites_left_is_told_and_no_other_takes_its_place():
    table = samples([("wet", "train")] * 3, prefix="p", shard=1)
    reserve = samples([("wet", "train"), ("dry", "train")], prefix="r")
    choice = choose_replacements(table, reserve, ledger_of(table, ["empty"] * 3), statuses=["empty"])
    assert choice.replacements["by"].to_pylist() == ["r-0"]
    assert choice.short == {"wet": 2}


def test_failed_samples_are_replaced_only_when_asked():
    table = samples([("wet", "train")] * 3, prefix="p", shard=1)
    reserve = samples([("wet", "train")] * 3, prefix="r")
    ledger = ledger_of(table, ["failed", "written", "empty"])
    asked = choose_replacements(table, reserve, ledger, statuses=["empty", "failed"]).replacements
    assert [(row["position"], row["status"]) for row in asked.to_pylist()] == [(0, "failed"), (2, "empty")]
    assert choose_replacements(table, reserve, ledger, statuses=["empty"]).replacements["position"].to_pylist() == [2]


kinds = st.tuples(st.sampled_from(["wet", "dry", None]), st.sampled_from(["train", "val"]))


@given(
    rows=st.lists(kinds, min_size=1, max_size=12),
    spare=st.lists(kinds, max_size=12),
    draws=st.lists(st.integers(0, 2**12), min_size=1, max_size=4),
)
def test_round_after_round_counts_add_up_and_every_site_is_used_once(rows, spare, draws):
    table, reserve = samples(rows, prefix="p", shard=2), samples(spare, prefix="r")
    log = REPLACEMENT_SCHEMA.empty_table()
    now, left = table, reserve
    for bits in draws:
        statuses = ["empty" if bits >> row & 1 else "written" for row in range(len(rows))]
        choice = choose_replacements(now, left, ledger_of(now, statuses), statuses=["empty"])
        assert len(choice.replacements) + sum(choice.short.values()) == statuses.count("empty")
        log = pa.concat_tables([log, choice.replacements])
        now, left = apply_replacements(table, reserve, log)
        assert len(now) == len(table)
        assert now["shard"] == table["shard"]
        assert now["stratum"].to_pylist() == table["stratum"].to_pylist()
        assert sorted(log["by"].to_pylist() + left["id"].to_pylist()) == sorted(reserve["id"].to_pylist())
        assert len(set(now["id"].to_pylist())) == len(now)


def test_replacements_of_another_plan_are_refused(tmp_path):
    table, reserve = samples([("wet", "train")], prefix="p", shard=1), samples([("wet", "train")], prefix="r")
    chosen = choose_replacements(table, reserve, ledger_of(table, ["empty"]), statuses=["empty"]).replacements
    other = samples([("wet", "train")], prefix="q", shard=1)
    with pytest.raises(PwcatError, match="p-0 in row 0 by r-0 fits neither plan nor reserve; remove the file"):
        apply_replacements(other, reserve, chosen)
    pq.write_table(table, tmp_path / "plan.parquet")
    assert len(read_replacements(tmp_path)) == 0
    write_replacements(tmp_path, chosen)
    assert read_replacements(tmp_path) == chosen
    pq.write_table(other, tmp_path / "plan.parquet")
    with pytest.raises(PwcatError, match=r"replacements\.parquet: belongs to another plan than the one beside it"):
        read_replacements(tmp_path)
    (tmp_path / "replacements.parquet").write_bytes(b"PAR1")
    with pytest.raises(PwcatError, match=r"replacements\.parquet: cannot be read .*; remove it, and build again"):
        read_replacements(tmp_path)


# --- what a build makes of it


@pytest.fixture(scope="module")
def with_reserve(tmp_path_factory, write_recipe, small):
    """The path of the small recipe, with twelve sites in reserve."""
    document = yaml.safe_load(small.read_text())
    changes = {key: document[key] for key in ("name", "num_samples", "chip", "when")}
    return write_recipe(tmp_path_factory.mktemp("reserve"), **changes, constraints={"reserve_fraction": 0.75})


@pytest.fixture(scope="module")
def reserved(with_reserve, source, tmp_path_factory):
    """The folder of its plan. Do not change it."""
    recipe = load_recipe(with_reserve)
    return freeze_plan(recipe, catalog=tmp_path_factory.mktemp("reserved"), base_dir=with_reserve.parent, source=source)


def copy_of(folder, to):
    return shutil.copytree(folder, to / "small")


@contextmanager
def serve(archive):
    with open_source(
        Source(provider="archive", path=str(archive), collection="s2-l2a-synthetic"), base_dir=archive
    ) as it:
        yield it


def blank(archive, rows):
    """Take the data from under some samples: zeros in the band B02, around their corners."""
    for row in rows:
        path = archive / "s2-l2a-synthetic" / row["scene_ids"][0] / "B02.tif"
        with rasterio.open(path) as raster:
            pixels, profile = raster.read(1), raster.profile
        line = round((profile["transform"].f - row["y0"]) / 10)
        column = round((row["x0"] - profile["transform"].c) / 10)
        pixels[line : line + 32, column : column + 32] = 0
        path.unlink()  # it is a hard link
        with rasterio.open(path, "w", **profile) as raster:
            raster.write(pixels, 1)


def row_of(table, name):
    return table.filter(pc.equal(table["id"], name)).to_pylist()[0]


@pytest.fixture
def poor(reserved, archive_copy):
    """An archive in which two samples of the plan are empty, and the site that the first of them would get."""
    plan = read_plan(reserved)
    positions = [3, 12]
    blank(archive_copy, plan.table.take(positions).to_pylist())
    ledger = ledger_of(plan.table, ["empty" if k in positions else "written" for k in range(16)])
    first = choose_replacements(plan.table, plan.reserve, ledger, statuses=["empty"]).replacements["by"][0].as_py()
    blank(archive_copy, [row_of(plan.reserve, first)])
    return archive_copy, positions, first


def empties(folder):
    ledger = read_ledger(folder)
    return [k for k, status in enumerate(ledger["status"].to_pylist()) if status != "written"]


def test_the_dataset_is_whole_and_the_ledger_says_why(reserved, poor, tmp_path, bytes_of):
    archive, positions, first = poor
    folder = copy_of(reserved, tmp_path)
    seen = []
    with serve(archive) as source:
        report = build_cube(folder, source=source, progress=seen.append)
    log = read_replacements(folder).to_pylist()
    before, plan = read_plan(reserved), read_plan(folder)
    assert report.counts == {"written": 16}
    assert (report.replaced, report.reserve_left, report.short) == (2, 12 - len(log), {})
    assert seen[-1].samples == 16
    assert seen[-1].read == 16 + len(log)  # what replaces them is read, too
    # the site that was empty itself was replaced in its turn
    assert [row["position"] for row in log][:2] == positions
    assert log[0]["by"] == first == log[2]["id"]
    assert {row["status"] for row in log} == {"empty"}
    assert {row["reason"] for row in log} == {"no pixel has data in every band and date"}
    for position in range(16):
        same = plan.table["id"][position] == before.table["id"][position]
        assert same == (position not in positions)
    assert read_ledger(folder)["id"].to_pylist() == plan.table["id"].to_pylist()
    assert plan.table["shard"] == before.table["shard"]
    # the pixels are those of the sites that are there now
    chips = open_cube(folder / "cube.zarr").read(np.arange(16))
    assert (chips != 0).any(axis=(1, 2, 3, 4)).all()
    coordinates = open_cube(folder / "cube.zarr")
    assert coordinates.chip_shape == (1, 3, 32, 32)
    describe(folder)
    items = pq.read_table(folder / "items.parquet")
    assert sorted(items["id"].to_pylist()) == sorted(plan.table["id"].to_pylist())
    assert {"reserve", "replacements"} <= json.loads((folder / "collection.json").read_text())["assets"].keys()
    with serve(archive) as source:
        again = build_cube(folder, source=source)
    assert (again.shards_built, again.replaced) == (0, 2)


def test_two_builds_are_the_same_bytes_whichever_shards_come_first(reserved, poor, tmp_path, bytes_of, monkeypatch):
    from pwcat.building import execution

    archive, _, _ = poor
    one, two = copy_of(reserved, tmp_path / "one"), copy_of(reserved, tmp_path / "two")
    with serve(archive) as source:
        build_cube(one, source=source)
        monkeypatch.setattr(execution, "LOCAL_SHARDS", 5)
        build_cube(two, source=source)
    assert bytes_of(one) == bytes_of(two)


def test_settled_samples_are_kept_and_only_what_was_replaced_is_read(reserved, poor, tmp_path):
    archive, _, _ = poor
    folder = copy_of(reserved, tmp_path)
    with serve(archive) as source:
        report = build_cube(folder, source=source)
    assert report.cost.samples == 16 + len(read_replacements(folder))
    assert set(read_ledger(folder)["attempts"].to_pylist()) == {1}
    assert report.shards_built == report.shards == 8


def test_stopped_after_any_step_a_rerun_ends_the_same(reserved, poor, tmp_path, bytes_of):
    archive, positions, _ = poor
    whole = copy_of(reserved, tmp_path / "whole")
    with serve(archive) as source:
        build_cube(whole, source=source)
        log = read_replacements(whole)
        # the replacements are written, but no shard was made again
        early = copy_of(reserved, tmp_path / "early")
        (early / "reserve.parquet").rename(tmp_path / "reserve")
        assert build_cube(early, source=source).counts == {"written": 14, "empty": 2}
        (tmp_path / "reserve").rename(early / "reserve.parquet")
        assert empties(early) == positions
        write_replacements(early, log.slice(0, 2))
        # a ledger is there, its shard is not
        late = copy_of(whole, tmp_path / "late")
        shard_path(late / "cube.zarr", positions[0] // 2).unlink()
        # one of the shards is older than the replacement
        old = copy_of(whole, tmp_path / "old")
        shutil.copy(
            shard_path(early / "cube.zarr", positions[1] // 2), shard_path(old / "cube.zarr", positions[1] // 2)
        )
        shutil.copy(ledger_path(early, positions[1] // 2), ledger_path(old, positions[1] // 2))
        for folder in (early, late, old):
            assert build_cube(folder, source=source).counts == {"written": 16}
            assert bytes_of(folder) == bytes_of(whole)


def test_a_reserve_that_is_used_up_leaves_the_rest_empty_and_says_so(reserved, poor, tmp_path):
    archive, positions, first = poor
    folder = copy_of(reserved, tmp_path)
    reserve = pq.read_table(folder / "reserve.parquet")
    pq.write_table(reserve.filter(pc.equal(reserve["id"], first)), folder / "reserve.parquet")
    with serve(archive) as source:
        report = build_cube(folder, source=source)
    assert report.counts == {"written": 14, "empty": 2}
    assert (report.replaced, report.reserve_left, sum(report.short.values())) == (1, 0, 2)
    assert empties(folder) == positions


def test_a_build_that_stays_short_says_what_is_missing_and_what_to_do_and_ends_with_1(
    reserved, poor, with_reserve, tmp_path, pwcat, source
):
    archive, positions, first = poor
    document = yaml.safe_load(with_reserve.read_text())
    document["source"] = {"provider": "archive", "path": str(archive), "collection": "s2-l2a-synthetic"}
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(document))
    catalog = tmp_path / "catalog"
    with open_source(load_recipe(recipe).source, base_dir=tmp_path) as opened:
        folder = freeze_plan(load_recipe(recipe), catalog=catalog, base_dir=tmp_path, source=opened)
    assert read_plan(folder).table.equals(read_plan(reserved).table)
    reserve = pq.read_table(folder / "reserve.parquet")
    pq.write_table(reserve.filter(pc.equal(reserve["id"], first)), folder / "reserve.parquet")
    code, out, err = pwcat("build", recipe, "--catalog", catalog)
    assert f"{folder}: 14 written, 2 empty; 8 of 8 shards made now" in out
    assert "  2 empty, no data: no pixel has data in every band and date" in out
    assert "  1 of 16 samples replaced from the reserve; 0 left" in out
    assert (code, err) == (
        1,
        f"pwcat: {folder}: 2 of 16 samples are missing (2 empty); the reserve is used up where they are: plan anew, under "
        "another name, with a larger `constraints.reserve_fraction`\n",
    )
    # what is written stays, and is described; the same command comes to the same end, and changes nothing
    assert len(pq.read_table(folder / "items.parquet")) == 14
    assert sorted(set(range(16)) - set(empties(folder))) == sorted(set(range(16)) - set(positions))
    code, out, _ = pwcat("build", recipe, "--catalog", catalog, "--json")
    told = json.loads(out)
    assert (code, told["missing"], told["counts"], told["shards_built"]) == (1, 2, {"written": 14, "empty": 2}, 0)


def test_what_replacements_take_is_estimated_with_the_rest(reserved, poor, tmp_path):
    archive, _, _ = poor
    folder = copy_of(reserved, tmp_path)
    with serve(archive) as source:
        cost = build_cube(folder, source=source).cost
    assert cost.estimate.requests == pytest.approx(cost.actual.requests, rel=0.2)
    assert cost.estimate.bytes == pytest.approx(cost.actual.bytes, rel=0.2)


def test_a_plan_without_a_reserve_says_nothing_of_one(planned, source):
    report = build_cube(planned, source=source)
    assert (report.replaced, report.reserve_left, report.short) == (0, None, {})
    assert not (planned / "replacements.parquet").exists()


def test_failed_samples_wait_for_a_rerun_or_are_replaced_on_demand(
    reserved, archive_copy, tmp_path, pwcat, with_reserve
):
    plan = read_plan(reserved)
    spared = {name for names in plan.reserve["scene_ids"].to_pylist() for name in names}
    lost = next(names[0] for names in plan.table["scene_ids"].to_pylist() if names[0] not in spared)
    rows = [row for row in plan.table.to_pylist() if lost in row["scene_ids"]]
    (archive_copy / "s2-l2a-synthetic" / lost / "B02.tif").unlink()
    folder = copy_of(reserved, tmp_path / "catalog")
    with serve(archive_copy) as source:
        report = build_cube(folder, source=source)
        assert report.counts == {"written": 16 - len(rows), "failed": len(rows)}
        assert (report.replaced, report.reserve_left) == (0, 12)
        report = build_cube(folder, source=source, replace_failed=True)
    assert report.counts == {"written": 16}
    assert (report.replaced, report.reserve_left) == (len(rows), 12 - len(rows))
    log = read_replacements(folder).to_pylist()
    assert {row["id"] for row in log} == {row["id"] for row in rows}
    assert {row["status"] for row in log} == {"failed"}
    assert all(lost in row["reason"] for row in log)
    code, out, err = pwcat("build", with_reserve, "--catalog", folder.parent)
    assert (code, err) == (0, "")
    assert f"{len(rows)} of 16 samples replaced from the reserve; {12 - len(rows)} left" in out


def test_the_plan_tells_of_its_reserve(with_reserve, reserved, pwcat):
    code, out, err = pwcat("plan", with_reserve, "--catalog", reserved.parent)
    assert (code, err) == (0, "")
    assert "12 more in reserve" in " ".join(out.split())
