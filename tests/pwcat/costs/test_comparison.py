"""What a build took beside its estimate: GDAL's own count against a server's, and what is kept of it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path

import pandas as pd
import pytest
import rasterio

from pwcat.costs import traffic
from pwcat.costs.comparison import Cost, RunCost, compare_costs, costs_path, keep_costs, read_costs
from pwcat.costs.estimate import estimate_plan
from pwcat.costs.reads import estimate_reads
from pwcat.costs.traffic import Traffic, metered
from pwcat.cube import shard_path
from pwcat.gdal import GDAL_OPTIONS, open_library
from pwcat.materialize import build_cube
from pwcat.plan import freeze_plan, read_plan
from pwcat.providers import OpenSource
from pwcat.providers.reuse import forget_address
from pwcat.recipe import load_recipe

ONE_OF_EACH = ["B02", "B05", "B01"]  # bands of 10, 20 and 60 m
ALL = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
EVER = {"start": "2021-01-01", "end": "2024-12-31", "max_cloud_cover": 100}


@contextmanager
def counting(archive: Path, log: Path, *, delay: float = 0.0) -> Iterator[OpenSource]:
    """An archive, by a server that writes each request of an asset down, and takes its time."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log.touch()
    script = Path(__file__).parents[1] / "counting_archive.py"
    server = subprocess.Popen([sys.executable, str(script), str(archive), str(log), str(port), str(delay)])
    try:
        while server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        forget_address(f"http://127.0.0.1:{port}")
        yield OpenSource(provider="archive", url=f"http://127.0.0.1:{port}", collection="s2-l2a-synthetic")
    finally:
        server.kill()
        server.wait()


def seen_by(log: Path) -> tuple[int, int]:
    """Requests and bytes."""
    lines = [line.split() for line in log.read_text().splitlines()]
    return len(lines), sum(int(sent) for _, _, sent in lines)


RECIPES = {
    "sparse": {"num_samples": 8, "chip": {"size_px": 64, "bands": ONE_OF_EACH}},
    "dense": {"num_samples": 300, "chip": {"size_px": 64, "bands": ["B02"]}},
    "all bands": {"num_samples": 64, "chip": {"size_px": 96, "bands": ALL}},
    "two dates": {
        "num_samples": 48,
        "chip": {"size_px": 64, "bands": ONE_OF_EACH},
        "when": EVER | {"dates_per_site": 2},
    },
    "large chips": {"num_samples": 24, "chip": {"size_px": 600, "bands": ["B02", "B11"]}},
}


# a chip of 600 px does not fit into the narrow scenes, of 384
CASES = [
    (kind, width) for width in ("narrow", "wide") for kind in RECIPES if (kind, width) != ("large chips", "narrow")
]


@pytest.mark.parametrize(("kind", "width"), CASES)
def test_gdal_counts_what_the_server_sees_and_the_estimate_is_near(
    kind, width, archive_dir, wide_archive, write_recipe, tmp_path
):
    path = write_recipe(tmp_path, name="counted", **RECIPES[kind])
    log = tmp_path / "requests.log"
    with counting(archive_dir if width == "narrow" else wide_archive, log) as source:
        folder = freeze_plan(load_recipe(path), catalog=tmp_path, base_dir=tmp_path, source=source)
        plan = read_plan(folder)
        estimate = estimate_plan(plan.recipe, plan.table, plan.scenes(source))
        log.write_text("")  # labels of land cover were read as well
        cost = build_cube(folder, source=source).cost
    requests, size = seen_by(log)
    assert (cost.actual.requests, cost.actual.bytes) == (requests, size)
    assert (cost.estimate.requests, cost.estimate.bytes) == (estimate.requests, estimate.download_bytes)
    assert estimate.requests == pytest.approx(requests, rel=0.2)
    assert estimate.download_bytes == pytest.approx(size, rel=0.2)


def test_shards_that_want_the_same_files_at_the_same_time_open_them_once(archive_dir, write_recipe, tmp_path):
    path = write_recipe(tmp_path, name="crowded", num_samples=200, chip={"size_px": 32, "bands": ["B02", "B05"]})
    log = tmp_path / "requests.log"
    with counting(archive_dir, log, delay=0.03) as source:
        folder = freeze_plan(load_recipe(path), catalog=tmp_path, base_dir=tmp_path, source=source)
        log.write_text("")
        build_cube(folder, source=source, reader="stackstac")
    heads = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("HEAD ")]
    assert len(heads) == len(set(heads)) > 4


def test_workers_of_a_cluster_are_added_up(planned, archive_dir, tmp_path):
    from distributed import LocalCluster

    log = tmp_path / "requests.log"
    with (
        counting(archive_dir, log) as source,
        LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0") as cluster,
    ):
        cost = build_cube(planned, source=source, scheduler=cluster.scheduler_address).cost
    assert (cost.actual.requests, cost.actual.bytes) == seen_by(log)
    assert cost.samples == 16


def test_blocks_that_overlap_add_up_to_all_and_what_comes_between_is_nobodys(archive_dir, tmp_path):
    names = sorted(path.relative_to(archive_dir) for path in archive_dir.glob("s2-l2a-synthetic/*/B02.tif"))[:12]
    log = tmp_path / "requests.log"
    with counting(archive_dir, log) as source:

        def read(name: Path) -> Traffic:
            with (
                metered() as part,
                rasterio.Env(**GDAL_OPTIONS),
                rasterio.open(f"{source.url}/assets/{name}") as raster,
            ):
                raster.read(1)
            return part

        with ThreadPoolExecutor(4) as threads:
            parts = list(threads.map(read, names[1:]))
        expected = seen_by(log)
        with rasterio.Env(**GDAL_OPTIONS), rasterio.open(f"{source.url}/assets/{names[0]}") as raster:
            raster.read(1)
        with metered() as nothing:
            pass
    total = Traffic()
    for part in parts:
        total.add(part)
    assert (total.requests, total.bytes, total.measured) == (*expected, True)
    assert (nothing.requests, nothing.bytes) == (0, 0)


def test_a_long_report_is_cleared_and_nothing_is_lost(archive_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(traffic, "REPORT_BYTES", 10)
    names = sorted(path.relative_to(archive_dir) for path in archive_dir.glob("s2-l2a-synthetic/*/B03.tif"))[:5]
    total = Traffic()
    log = tmp_path / "requests.log"
    with counting(archive_dir, log) as source:
        for name in names:
            with (
                metered() as part,
                rasterio.Env(**GDAL_OPTIONS),
                rasterio.open(f"{source.url}/assets/{name}") as raster,
            ):
                raster.read(1)
            total.add(part)
    assert (total.requests, total.bytes) == seen_by(log)


def test_where_gdal_cannot_be_asked_nothing_is_guessed(frozen, source):
    library = find_library("m")
    if library is None:
        pytest.skip("no library to be found that is not GDAL")
    assert traffic.start_count(open_library(library)) is None
    assert open_library("no such library") is None
    total = Traffic(requests=5, bytes=100)
    total.add(Traffic(measured=False))
    plan = read_plan(frozen)
    reads = estimate_reads(plan.recipe, plan.table, plan.scenes(source))
    cost = compare_costs(reads, samples=len(plan), shards=8, traffic=total, seconds=2.0)
    assert cost.actual == Cost(requests=None, bytes=None, seconds=2.0, mb_s=None)
    assert cost.estimate.requests > 0


def run_of(*, requests, size, seconds=1.0, samples=4):
    estimate = Cost(requests=10, bytes=1000, seconds=0.5, mb_s=None)
    rate = None if size is None else size / 1e6 / seconds
    actual = Cost(requests=requests, bytes=size, seconds=seconds, mb_s=rate)
    return RunCost(samples=samples, shards=2, estimate=estimate, actual=actual)


def test_runs_are_kept_one_by_one_and_together(tmp_path):
    assert read_costs(tmp_path) is None
    keep_costs(tmp_path, run_of(requests=12, size=1_000_000, seconds=1.0))
    together = keep_costs(tmp_path, run_of(requests=8, size=3_000_000, seconds=3.0, samples=1))
    assert together == read_costs(tmp_path)
    assert (together.samples, together.shards) == (5, 4)
    assert together.actual == Cost(requests=20, bytes=4_000_000, seconds=4.0, mb_s=1.0)
    assert (together.estimate.requests, together.estimate.bytes) == (20, 2000)
    document = json.loads(costs_path(tmp_path).read_text())
    assert [run["actual"]["requests"] for run in document["runs"]] == [12, 8]
    assert (document["actual"]["bytes"], document["rate_mb_s"]) == (4_000_000, 20.0)
    assert keep_costs(tmp_path, run_of(requests=None, size=None)).actual.requests is None
    costs_path(tmp_path).write_text('{"runs": [{}]}')
    assert keep_costs(tmp_path, run_of(requests=1, size=1)).samples == 4


def test_a_resumed_build_tells_of_what_it_read_alone(built, source, tmp_path):
    folder = shutil.copytree(built, tmp_path / "small")
    before = read_costs(folder)
    assert build_cube(folder, source=source).cost is None
    assert read_costs(folder) == before
    shard_path(folder / "cube.zarr", 3).unlink()
    cost = build_cube(folder, source=source).cost
    assert (cost.samples, cost.shards) == (2, 1)
    assert read_costs(folder).samples == before.samples + 2 == 18
    # the ledger is still read as a folder of Parquet
    assert len(pd.read_parquet(folder / "ledger")) == 16


def test_a_build_that_is_stopped_keeps_what_it_took(planned, archive_dir, tmp_path):
    def stop(now):
        if now.shards:
            raise KeyboardInterrupt

    with counting(archive_dir, tmp_path / "log") as source:
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            build_cube(planned, source=source, progress=stop)
        assert read_costs(planned).samples == 2
        report = build_cube(planned, source=source)
    assert report.counts == {"written": 16}
    # shards that were in flight when it stopped are there, but what they took is not known
    assert read_costs(planned).samples == 2 + 2 * report.shards_built


def test_the_command_tells_it_in_one_line_and_in_json(small, planned, pwcat):
    code, out, err = pwcat("build", small, "--catalog", planned.parent)
    assert (code, err) == (0, "")
    read, estimated = out.splitlines()[1:3]
    cost = read_costs(planned)
    assert read.startswith("  read in ")
    assert f": {cost.actual.requests} requests, {cost.actual.bytes / 1e6:.1f} MB, " in read
    assert read.endswith(" chips/s, 0 retries")
    expected = f"{cost.estimate.requests} requests, {cost.estimate.bytes / 1e6:.1f} MB"
    assert estimated == f"  estimated of these 16 samples: {expected}"
    shard_path(planned / "cube.zarr", 0).unlink()
    code, out, err = pwcat("build", small, "--catalog", planned.parent, "--json")
    assert json.loads(out)["cost"]["samples"] == 2
