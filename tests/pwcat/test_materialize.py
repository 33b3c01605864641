from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import yaml

from pwcat.atomic import remove_leftovers, replacing
from pwcat.building import execution
from pwcat.building.ledger import ledger_path, read_ledger, write_ledger
from pwcat.cube import open_cube, shard_path
from pwcat.errors import CubeError, SourceError
from pwcat.materialize import build_cube
from pwcat.plan import Plan, read_plan, write_plan
from pwcat.providers import OpenSource, open_source
from pwcat.recipe import Recipe, Source

SHARDS = 8


def shards_in(folder):
    return [shard for shard in range(SHARDS) if shard_path(folder / "cube.zarr", shard).is_file()]


def partials_in(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".partial")]


def wait_until(met, process, *, timeout=60):
    deadline = time.monotonic() + timeout
    while not met():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def test_two_builds_are_the_same_bytes(built, planned, source, bytes_of):
    seen = []
    report = build_cube(planned, source=source, progress=seen.append)
    assert bytes_of(planned / "cube.zarr") == bytes_of(built / "cube.zarr")
    assert (report.counts, report.losses, report.shards_built, report.shards) == ({"written": 16}, [], SHARDS, SHARDS)
    assert report.bytes == 16 * 3 * 32 * 32 * 2
    assert [now.samples for now in seen] == list(range(0, 17, 2))
    assert [now.shards for now in seen] == list(range(SHARDS + 1))
    last = seen[-1]
    assert (last.total, last.read, last.bytes, last.retries, last.seconds_left) == (16, 16, report.bytes, 0, 0)
    assert report.cost is not None
    assert (last.requests, last.transferred) == (report.cost.actual.requests, report.cost.actual.bytes)
    ledger = read_ledger(planned)
    assert ledger["id"].to_pylist() == read_plan(planned).table["id"].to_pylist()
    assert set(ledger["status"].to_pylist()) == {"written"}
    assert set(ledger["attempts"].to_pylist()) == {1}


def test_a_rerun_makes_what_is_missing_and_nothing_else(built, source, tmp_path, bytes_of):
    folder = shutil.copytree(built, tmp_path / "small")
    assert build_cube(folder, source=source).shards_built == 0
    lost, unledgered = shard_path(folder / "cube.zarr", 3), ledger_path(folder, 5)
    lost.unlink()
    unledgered.unlink()
    before = {shard: shard_path(folder / "cube.zarr", shard).stat().st_mtime_ns for shard in (0, 1, 2, 4, 6, 7)}
    report = build_cube(folder, source=source)
    assert report.shards_built == 2
    assert report.counts == {"written": 16}
    assert {shard: shard_path(folder / "cube.zarr", shard).stat().st_mtime_ns for shard in before} == before
    assert bytes_of(folder) == bytes_of(built)


def test_killed_again_and_again_a_build_ends_as_if_undisturbed(small, built, pwcat, source, bytes_of, tmp_path):
    folder = tmp_path / "data" / "small"
    moments = [
        lambda: (folder.parent).is_dir() and partials_in(folder.parent),  # in the middle of writing the plan
        lambda: len(shards_in(folder)) >= 3,
        lambda: (folder / "cube.zarr" / "lon").is_dir(),  # the coordinates, written last
    ]
    for moment in moments:
        process = pwcat("build", small, "--catalog", "data", wait=False)
        wait_until(moment, process)
        process.kill()
        process.communicate()
        for shard in shards_in(folder):  # what is there is whole
            made = shard_path(folder / "cube.zarr", shard).read_bytes()
            assert made == shard_path(built / "cube.zarr", shard).read_bytes()
    code, out, err = pwcat("build", small, "--catalog", "data")
    assert (code, err) == (0, "")
    assert "16 written" in out
    assert partials_in(tmp_path) == []
    assert bytes_of(folder) == bytes_of(built)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_are_one_line_and_the_same_command_goes_on(
    number, code, small, built, pwcat, bytes_of, tmp_path
):
    for catalog in ("data", "again", "once-more", "at-last"):  # a build may end before the signal comes
        folder = tmp_path / catalog / "small"
        process = pwcat("build", small, "--catalog", catalog, wait=False)
        wait_until(lambda there=folder: shards_in(there), process)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # a terminal sends it to the whole group, the archive's server included
        else:
            process.terminate()
        out, err = process.communicate(timeout=60)
        if process.returncode != 0:
            break
    assert process.returncode == code
    assert out == ""
    # an empty line before it ends the terminal's own, which shows ^C
    told = [line for line in err.splitlines() if not line.startswith(("build: ", "describe: "))]
    assert told == ["", "pwcat: interrupted; nothing half-written is left, and the same command goes on from here"]
    assert partials_in(folder) == []
    done = len(shards_in(folder))
    assert 0 < done < SHARDS
    assert set(read_ledger(folder)["status"].to_pylist()) == {"written"}
    code, out, err = pwcat("build", small, "--catalog", catalog)
    assert (code, err) == (0, "")
    assert f"{SHARDS - done} of {SHARDS} shards made now" in out
    assert bytes_of(folder) == bytes_of(built)


def rarest_scene(plan, *, but=None):
    """The scene that the fewest samples are cut from, and those samples."""
    rows = [row for row in plan.table.to_pylist() if row["scene_ids"] != [but]]
    counts = Counter(row["scene_ids"][0] for row in rows)
    scene = min(counts, key=lambda name: (counts[name], name))
    return scene, [row["id"] for row in rows if row["scene_ids"] == [scene]]


def serve(archive):
    return open_source(Source(provider="archive", path=str(archive), collection="s2-l2a-synthetic"), base_dir=archive)


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_samples_of_a_damaged_file_fail_alone_and_are_filled_in_when_it_is_mended(
    damage, planned, archive_copy, built, bytes_of
):
    scene, samples = rarest_scene(read_plan(planned))
    path = archive_copy / "s2-l2a-synthetic" / scene / "B02.tif"
    whole = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    with serve(archive_copy) as source:
        report = build_cube(planned, source=source)
    ledger = read_ledger(planned).to_pylist()
    failed = {entry["id"]: entry for entry in ledger if entry["status"] == "failed"}
    assert set(failed) == set(samples)
    assert all(entry["status"] == "written" for entry in ledger if entry["id"] not in failed)
    for entry in failed.values():
        assert entry["attempts"] >= 3
        assert scene in entry["reason"]
        assert "B02" in entry["reason"]
        assert "\n" not in entry["reason"]
        assert "127.0.0.1" not in entry["reason"]  # the address of the moment would make each run another reason
        assert (entry["bytes"], entry["valid_fraction"]) == (0, 0.0)
    assert report.counts == {"written": 16 - len(samples), "failed": len(samples)}
    assert [(loss.status, loss.count) for loss in report.losses] == [("failed", len(samples))]
    index = {name: row for row, name in enumerate(read_plan(planned).table["id"].to_pylist())}
    chips = open_cube(planned / "cube.zarr").read(np.arange(16))
    good = open_cube(built / "cube.zarr").read(np.arange(16))
    for name, row in index.items():
        np.testing.assert_array_equal(chips[row], good[row] * (name not in failed))

    path.unlink(missing_ok=True)
    path.write_bytes(whole)
    with serve(archive_copy) as source:
        report = build_cube(planned, source=source)
    assert report.counts == {"written": 16}
    assert report.shards_built == len({index[name] // 2 for name in samples})
    assert bytes_of(planned / "cube.zarr") == bytes_of(built / "cube.zarr")


def test_samples_without_data_are_empty_and_partly_valid_ones_say_how_much(planned, archive_copy):
    plan = read_plan(planned)
    scene, samples = rarest_scene(plan)
    rewrite(archive_copy / "s2-l2a-synthetic" / scene / "B02.tif", lambda pixels: pixels * 0)
    other, others = rarest_scene(plan, but=scene)
    path = archive_copy / "s2-l2a-synthetic" / other / "B02.tif"
    rewrite(path, half_blank(plan, others[0], path))
    with serve(archive_copy) as source:
        report = build_cube(planned, source=source)
    ledger = {entry["id"]: entry for entry in read_ledger(planned).to_pylist()}
    assert report.counts == {"written": 16 - len(samples), "empty": len(samples)}
    (loss,) = report.losses
    assert str(loss) == f"{len(samples)} empty, no data: no pixel has data in every band and date"
    assert {name for name, entry in ledger.items() if entry["status"] == "empty"} == set(samples)
    assert ledger[others[0]]["valid_fraction"] == 0.5
    assert ledger[others[0]]["status"] == "written"
    cube = open_cube(planned / "cube.zarr")
    index = plan.table["id"].to_pylist().index(samples[0])
    assert not cube.read(np.array([index])).any()
    with serve(archive_copy) as source:
        assert build_cube(planned, source=source).shards_built == 0  # an empty sample is settled


def half_blank(plan, sample, path):
    """Blank the western half of a sample's own pixels."""
    row = next(row for row in plan.table.to_pylist() if row["id"] == sample)
    with rasterio.open(path) as raster:
        column = round((row["x0"] - raster.transform.c) / 10)
        line = round((raster.transform.f - row["y0"]) / 10)

    def change(pixels):
        pixels[line : line + 32, column : column + 16] = 0
        return pixels

    return change


def rewrite(path, change):
    with rasterio.open(path) as raster:
        pixels, profile = raster.read(1), raster.profile
    path.unlink()  # it is a hard link
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(change(pixels), 1)


def test_an_unreachable_source_fails_every_sample_and_loses_none_that_is_there(built, source, tmp_path, bytes_of):
    folder = shutil.copytree(built, tmp_path / "small")
    shard_path(folder / "cube.zarr", 3).unlink()
    nowhere = OpenSource(provider="archive", url="http://127.0.0.1:1", collection="s2-l2a-synthetic")
    report = build_cube(folder, source=nowhere)
    assert report.counts == {"written": 14, "failed": 2}
    assert build_cube(folder, source=source).counts == {"written": 16}
    assert bytes_of(folder) == bytes_of(built)


def test_a_rerun_reads_the_failed_samples_of_a_shard_and_keeps_the_others(built, source, tmp_path, bytes_of):
    folder = shutil.copytree(built, tmp_path / "small")
    path = ledger_path(folder, 3)
    notes = {key.decode(): value.decode() for key, value in pq.read_schema(path).metadata.items()}
    first, second = pq.read_table(path).to_pylist()
    write_ledger(
        path,
        [first, second | {"status": "failed", "reason": "once"}],
        plan_hash=notes["pwcat:plan"],
        shard=shard_path(folder / "cube.zarr", 3).read_bytes(),
    )
    nowhere = OpenSource(provider="archive", url="http://127.0.0.1:1", collection="s2-l2a-synthetic")
    assert build_cube(folder, source=nowhere).counts == {"written": 15, "failed": 1}
    assert pq.read_table(path).to_pylist()[0] == first
    chips = open_cube(folder / "cube.zarr").read(np.array([6, 7]))
    np.testing.assert_array_equal(chips[0], open_cube(built / "cube.zarr").read(np.array([6]))[0])
    assert not chips[1].any()
    assert build_cube(folder, source=source).counts == {"written": 16}
    assert pq.read_table(path).to_pylist()[0] == first
    assert bytes_of(folder) == bytes_of(built)


def test_another_plan_never_goes_into_a_cube_that_is_there(built, recipe, source, tmp_path, bytes_of):
    folder = shutil.copytree(built, tmp_path / "small")
    plan = read_plan(built)
    document = recipe.model_dump(mode="json")
    fewer = Recipe.model_validate({**document, "num_samples": 8})
    rest = {"reserve": plan.reserve, "scenes": plan.scenes(source), "layers": plan.layers}
    write_plan(Plan(recipe=fewer, table=plan.table.slice(0, 8), **rest), folder)
    cube = bytes_of(folder / "cube.zarr")
    with pytest.raises(
        CubeError, match=r"holds a cube of another plan \(.*; the plan says .*Remove the folder, or give"
    ):
        build_cube(folder, source=source)
    other = Recipe.model_validate({**document, "seed": 1})
    rows = plan.table.take(list(reversed(range(16))))
    write_plan(Plan(recipe=other, table=rows, **rest), folder)
    with pytest.raises(CubeError, match=r"holds a cube of another recipe"):
        build_cube(folder, source=source)
    assert bytes_of(folder / "cube.zarr") == cube


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_cluster_makes_the_same_bytes(planned, built, source, bytes_of):
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        report = build_cube(planned, source=source, scheduler=cluster.scheduler_address)
    assert report.counts == {"written": 16}
    assert bytes_of(planned / "cube.zarr") == bytes_of(built / "cube.zarr")


def test_a_scheduler_that_does_not_answer_is_one_line(planned, source, small, pwcat, monkeypatch):
    monkeypatch.setattr(execution, "SCHEDULER_TIMEOUT_S", 0.5)
    with pytest.raises(SourceError, match=r"the Dask scheduler at tcp://127\.0\.0\.1:1 does not answer: "):
        build_cube(planned, source=source, scheduler="tcp://127.0.0.1:1")
    code, out, err = pwcat("build", small, "--catalog", planned.parent, "--scheduler", "nonsense")
    assert (code, out) == (2, "")
    assert err.startswith("pwcat: the Dask scheduler at nonsense does not answer: ")
    assert err.count("\n") == 1


def test_files_appear_whole_or_not_at_all(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def fail_halfway():
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError("division by zero")

    with pytest.raises(ZeroDivisionError, match="division by zero"):
        fail_halfway()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path):
    with replacing(tmp_path / "mine") as mine:
        mine.write_text("half")
        (tmp_path / ".other.999999999.abcdef01.partial").write_text("half")
        old = tmp_path / f".slow.{os.getppid()}.abcdef01.partial"
        old.write_text("half")
        os.utime(old, (0, 0))  # of a process of that number that cannot be the writer any more
        assert remove_leftovers(tmp_path) == 2
        assert mine.is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_a_second_build_of_one_plan_is_told_of_the_first_and_breaks_nothing(
    planned, built, source, pwcat, bytes_of, small
):
    second: list[str] = []

    def start_another(now):
        if now.shards and not second:
            second.append(pwcat("build", small, "--catalog", planned.parent))

    report = build_cube(planned, source=source, progress=start_another)
    code, out, err = second[0]
    assert (code, out) == (2, "")
    assert re.fullmatch(
        rf"pwcat: {planned}: another build is at work already \(process {os.getpid()} on .+\); wait .*\n", err
    )
    assert report.counts == {"written": 16}
    assert bytes_of(planned / "cube.zarr") == bytes_of(built / "cube.zarr")
    assert build_cube(planned, source=source).shards_built == 0  # the lock is free again


def test_the_ledger_is_tied_to_its_plan_and_its_shard(built):
    from hashlib import sha256

    plan = sha256((built / "plan.parquet").read_bytes()).hexdigest()
    for shard in range(SHARDS):
        notes = pq.read_schema(ledger_path(built, shard)).metadata
        assert notes[b"pwcat:plan"].decode() == plan
        payload = shard_path(built / "cube.zarr", shard).read_bytes()
        assert notes[b"pwcat:shard_sha256"].decode() == sha256(payload).hexdigest()


def test_a_build_with_failed_samples_says_so_by_its_exit_code(small, planned, archive_copy, pwcat, tmp_path):
    scene, samples = rarest_scene(read_plan(planned))
    (archive_copy / "s2-l2a-synthetic" / scene / "B02.tif").unlink()
    document = yaml.safe_load(small.read_text())
    document["source"]["path"] = str(archive_copy)
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(document))
    code, out, err = pwcat("build", recipe, "--catalog", tmp_path / "elsewhere")
    assert f"{16 - len(samples)} written, {len(samples)} failed" in out
    missing = (
        f"pwcat: {tmp_path / 'elsewhere' / 'small'}: {len(samples)} of 16 samples are missing ({len(samples)} failed); "
    )
    assert (code, err) == (1, missing + "the same command tries the failed ones again\n")


def test_a_shard_older_than_its_ledger_or_cut_short_is_made_again(built, source, tmp_path, bytes_of):
    """As a kill between the ledger and the shard leaves them, or a full disk."""
    folder = shutil.copytree(built, tmp_path / "small")
    path = shard_path(folder / "cube.zarr", 3)
    path.write_bytes(path.read_bytes()[:-7])
    report = build_cube(folder, source=source)
    assert (report.shards_built, report.counts) == (1, {"written": 16})
    assert bytes_of(folder / "cube.zarr") == bytes_of(built / "cube.zarr")
