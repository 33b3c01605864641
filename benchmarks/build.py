"""Builds end to end: beside the reader alone, on two workers beside one, what the driver takes, memory up to 10⁵ chips.

The scene and the server are those of ``materialize.py``; files have new addresses each time. Chips have 96 pixels a side
and six bands, but for the builds of 10³ and 10⁵, whose chips have 16 pixels of one band, so that they end in minutes: their
number is the question, not their size. All rows are of one run; ratios are taken within a round, medians over the rounds.

- End to end: a build on threads, coordinates and ledger included, beside the same chips read in the same groups, two
  groups at a time, and thrown away.
- Workers: a build on two worker processes of one thread beside a build on one. Twelve shards, so that two workers have as many
  each. Free: both share all cores with the server and the driver, and one alone may use all of them, for tiles are decoded by
  threads of their own. A core each: every worker is kept on a core of its own, as a cluster gives it, the one alone, too;
  server and driver are where they find room. Far: free, 250 ms a request, so that the wait counts and not the processor.
- Driver: tasks made, handed out and taken in for shards that are nothing, a shard, beside the time that a real one takes.
- Memory: of processes that do nothing but build, and of the workers of a cluster, told apart from their driver.

    python benchmarks/build.py [--rounds 3] [--chips 800] [--many 100000] [--out benchmarks/results/build.json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from materialize import BANDS, EPSG, GSD, LEFT, SIDE, TOP, item, serving, write_scene
from measured import RESULTS, keep, run_python
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pwcat.building.assignments import ScenePack, assign_shard
from pwcat.building.execution import LOCAL_SHARDS, run_shards
from pwcat.building.shards import ShardResult, ShardTask
from pwcat.costs.traffic import Traffic
from pwcat.materialize import build_cube, spec_of
from pwcat.plan import PLAN_SCHEMA, Plan, read_plan, write_plan
from pwcat.providers import OpenSource
from pwcat.readers import read_chips
from pwcat.recipe import Recipe
from pwcat.reserve import plan_hash
from pwcat.scenes import Scene

DELAY_S = 0.03
TARGETS = {
    "end to end": (">=", 0.8),
    "two workers": (">=", 1.7),
    "driver": ("<=", 0.02),
    "peak": ("<=", 1500.0),
    "growth": ("<=", 1.1),
}


@dataclass(frozen=True)
class Row:
    """A measured number beside its target."""

    what: str
    value: float
    unit: str
    target: str
    met: bool
    note: str


def row(kind: str, what: str, value: float, unit: str, note: str) -> Row:
    sign, target = TARGETS[kind]
    met = value >= target if sign == ">=" else value <= target
    told = f"{sign} {target:g}" if unit else f"{sign} {100 * target:g} %"
    return Row(what=what, value=value, unit=unit, target=told, met=met, note=note)


def source_of(url: str) -> OpenSource:
    return OpenSource(provider="stac", url=url, collection="bench", allow_private=True)


def write_bench_plan(
    folder: Path, url: str, *, chips: int, scenes: int, size_px: int = 96, bands: list[str] | None = None
) -> Path:
    """A plan of chips in scenes at new addresses, near ones together, as along a Hilbert curve."""
    bands = bands or BANDS
    recipe = Recipe.model_validate(
        {
            "name": folder.name,
            "title": "Bench",
            "license": "CC0-1.0",
            "num_samples": chips,
            "sampler": {"strategy": "uniform", "domain": "scenes"},
            "source": {"provider": "stac", "url": url, "collection": "bench", "allow_private": True},
            "when": {"start": "2024-01-01", "end": "2024-12-31"},
            "chip": {"size_px": size_px, "bands": bands},
        }
    )
    names = [f"{folder.name}-{number}" for number in range(scenes)]
    found = [Scene.from_item(item(f"{url}/{name}"), source=source_of(url), bands=bands) for name in names]
    rng = np.random.default_rng(0)
    corner = rng.integers(0, SIDE - size_px, (chips, 2))
    of_scene = np.arange(chips) * scenes // chips
    order = np.lexsort((corner[:, 0] // 512, corner[:, 1] // 512, of_scene))
    corner = corner[order]
    nothing = pa.nulls(chips, pa.string())
    columns: dict[str, Any] = dict.fromkeys(PLAN_SCHEMA.names, nothing) | {
        "id": [f"{folder.name}-{number:06d}" for number in range(chips)],
        "lon": np.linspace(1.6, 2.4, chips),
        "lat": np.linspace(47.3, 47.9, chips),
        "scene_ids": [[names[number]] for number in of_scene],
        "datetime": [[datetime(2024, 6, 1, tzinfo=UTC)]] * chips,
        "landcover_fractions": [[]] * chips,
        "epsg": np.full(chips, EPSG),
        "x0": LEFT + corner[:, 0] * GSD,
        "y0": TOP - corner[:, 1] * GSD,
        "resolution_m": np.full(chips, GSD),
        "split": ["train"] * chips,
        "shard": pa.nulls(chips, pa.int32()),
    }
    table = pa.table({field.name: pa.array(columns[field.name]).cast(field.type) for field in PLAN_SCHEMA})
    write_plan(Plan(recipe=recipe, table=table, reserve=table.slice(0, 0), scenes=found, layers={}), folder)
    return folder


def tasks_of(folder: Path, url: str) -> list[ShardTask]:
    plan = read_plan(folder)
    spec, source = spec_of(plan), source_of(url)
    scenes = ScenePack(folder, source=source, bands=plan.recipe.chip.bands)
    more: dict[str, Any] = {"spec": spec, "scenes": scenes, "source": source, "plan_hash": plan_hash(folder)}
    return [assign_shard(plan, shard, **more) for shard in range(spec.num_shards)]


def read_alone(folder: Path, url: str) -> float:
    """Seconds that reading takes, by the groups of a build: each shard's chips of a scene together."""
    tasks = tasks_of(folder, url)
    started = time.perf_counter()

    def read(task: ShardTask) -> None:
        for name, scene in task.scenes.items():
            corners = [(line["x0"], line["y0"]) for line in task.rows if line["scene_ids"] == [name]]
            read_chips(scene, corners, chip=task.chip, source=task.source, threads=task.threads)

    with ThreadPoolExecutor(LOCAL_SHARDS) as pool:
        list(pool.map(read, tasks))
    return time.perf_counter() - started


def build(folder: Path, url: str, scheduler: str | None = None) -> float:
    """Seconds that a whole build takes."""
    started = time.perf_counter()
    report = build_cube(folder, source=source_of(url), scheduler=scheduler)
    assert report.missing == 0, report.losses
    return time.perf_counter() - started


def measure_end_to_end(work: Path, scene: Path, *, chips: int, rounds: int) -> list[Row]:
    rows = []
    for delay_s in (0.0, DELAY_S):
        with serving(scene, delay_s) as url:
            ratios, rates = [], []
            for number in range(rounds + 1):  # the first warms up
                size = {"chips": chips, "scenes": max(1, chips // 200)}
                name = f"whole-{delay_s:g}-{number}"
                alone = read_alone(write_bench_plan(work / f"{name}-read", url, **size), url)
                built = build(write_bench_plan(work / f"{name}-build", url, **size), url)
                if number:
                    ratios.append(alone / built)
                    rates.append(chips / built)
                say(f"end to end, {1000 * delay_s:g} ms: reader {alone:.2f} s, build {built:.2f} s")
        note = f"{statistics.median(rates):.0f} chips/s"
        what = f"build / reader, {1000 * delay_s:g} ms"
        rows.append(row("end to end", what, statistics.median(ratios), "x", note))
    return rows


@dataclass(frozen=True)
class Setting:
    """How workers are compared: seconds that the server takes for a request, and whether each is kept on a core of its own."""

    name: str
    delay_s: float
    own_core: bool


SETTINGS = (Setting("free", DELAY_S, False), Setting("a core each", DELAY_S, True), Setting("far", 0.25, False))
SHARED_OUT = 384  # chips: twelve shards of 32


@dataclass(frozen=True)
class Ran:
    """A build on a cluster: seconds on the clock, seconds of the workers' processors, and the peak of each, MB."""

    seconds: float
    cpu_s: float
    peaks: list[float]


def measure_workers(work: Path, scene: Path, *, rounds: int) -> list[Row]:
    rows, peaks = [], []
    for setting in SETTINGS:
        ran: dict[int, list[Ran]] = {1: [], 2: []}
        with serving(scene, setting.delay_s) as url:
            for number in range(rounds):
                for workers, those in ran.items():
                    name = f"workers-{setting.name}-{workers}-{number}".replace(" ", "-")
                    those.append(build_on_cluster(work / name, url, workers=workers, own_core=setting.own_core))
                    say(
                        f"{workers} worker(s), {setting.name}: {those[-1].seconds:.2f} s, {those[-1].cpu_s:.2f} of processor"
                    )
        one, two = (statistics.median(run.seconds for run in those) for those in ran.values())
        busy = statistics.median(run.cpu_s for those in ran.values() for run in those)
        ratio = statistics.median(a.seconds / b.seconds for a, b in zip(ran[1], ran[2], strict=True))
        note = f"{one:.1f} and {two:.1f} s; workers' processors {busy:.1f} s"
        what = f"two workers / one, {1000 * setting.delay_s:g} ms, {setting.name}"
        rows.append(row("two workers", what, ratio, "x", note))
        peaks += [peak for those in ran.values() for run in those for peak in run.peaks]
    return [*rows, row("peak", "a worker of the cluster", max(peaks), "MB", "96 px, 6 bands")]


def build_on_cluster(folder: Path, url: str, *, workers: int, own_core: bool) -> Ran:
    """A build on so many workers of one thread, after a small one that loads what they need."""
    from distributed import Client, LocalCluster

    kind = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with LocalCluster(n_workers=workers, **kind) as cluster, Client(cluster.scheduler_address) as client:
        for core, worker in enumerate(client.nthreads()):
            if own_core:
                client.run(stay_on, core, workers=[worker])
        build(
            write_bench_plan(folder.with_name(f"{folder.name}-warm"), url, chips=16, scenes=8),
            url,
            client.scheduler.address,
        )
        before = sum(client.run(time.process_time).values())
        plan = write_bench_plan(folder, url, chips=SHARED_OUT, scenes=SHARED_OUT // 10)
        took = build(plan, url, client.scheduler.address)
        busy = sum(client.run(time.process_time).values()) - before
        return Ran(seconds=took, cpu_s=busy, peaks=list(client.run(peak_mb).values()))


def stay_on(number: int) -> None:
    """Keep this process, all of its threads, on one of its cores; those that it starts later are there, too."""
    core = sorted(os.sched_getaffinity(0))[number % len(os.sched_getaffinity(0))]
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def peak_mb() -> float:
    """Of this process, by the kernel's own count: a child starts with its parent's in that of the resource module."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def make_nothing(task: ShardTask) -> ShardResult:
    """A shard that takes no time."""
    return ShardResult(shard=task.shard, samples=len(task.rows), bytes=0, read=[], retries=0, traffic=Traffic())


def measure_driver(work: Path, scene: Path, *, chips: int) -> list[Row]:
    """What a shard takes of the driver, its task made from the plan included, beside what a real one takes of the clock."""
    from distributed import LocalCluster

    rows = []
    with serving(scene, 0.0) as url:
        folder = write_bench_plan(work / "driver", url, chips=chips, scenes=max(1, chips // 200))
        kind = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
        with LocalCluster(n_workers=2, **kind) as cluster:
            for name, scheduler in (("threads", None), ("cluster", cluster.scheduler_address)):
                shards = read_plan(folder).table.num_rows // spec_of(read_plan(folder)).shard_size
                list(run_shards(make_nothing, iter(tasks_of(folder, url)), scheduler=scheduler))
                started = time.perf_counter()
                for _ in range(5):
                    list(run_shards(make_nothing, iter(tasks_of(folder, url)), scheduler=scheduler))
                idle = (time.perf_counter() - started) / 5 / shards
                took = build(write_bench_plan(work / f"driver-{name}", url, chips=chips, scenes=4), url, scheduler)
                say(f"driver, {name}: {1000 * idle:.1f} ms of {1000 * took / shards:.0f} ms a shard")
                note = f"{1000 * idle:.1f} of {1000 * took / shards:.0f} ms a shard"
                rows.append(row("driver", f"driver's share, {name}", idle * shards / took, "", note))
    return rows


def measure_memory(work: Path, scene: Path, *, chips: int, many: int) -> list[Row]:
    rows, peaks = [], {}
    small: dict[str, Any] = {"size_px": 16, "bands": BANDS[:1]}
    with serving(scene, 0.0) as url:
        for count, kind in ((chips, {}), (1000, small), (many // 10, small), (many, small)):
            folder = write_bench_plan(work / f"memory-{count}", url, chips=count, scenes=max(1, count // 500), **kind)
            ran = run_python(__file__, "--only-build", folder, "--url", url)
            told = json.loads(ran.lines[-1])
            peaks[count] = told["peak_mb"]
            say(f"memory, {count} chips: {told}")
            what = f"{count:,} chips of {'16 px' if kind else '96 px'}"
            rows.append(row("peak", what, told["peak_mb"], "MB", f"{told['seconds']:.0f} s"))
        rows.append(row("growth", f"{many:,} chips / 1,000", peaks[many] / peaks[1000], "x", "of one process"))
        worker = {count: worker_peak(work / f"worker-{count}", url, count) for count in (1000, many // 10)}
    note = f"{worker[1000]:.0f} and {worker[many // 10]:.0f} MB"
    rows.append(row("growth", f"a worker, {many // 10:,} chips / 1,000", worker[many // 10] / worker[1000], "x", note))
    return rows


def worker_peak(folder: Path, url: str, chips: int) -> float:
    """Peak of the one worker of a cluster, MB."""
    from distributed import Client, LocalCluster

    kind = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    plan = write_bench_plan(folder, url, chips=chips, scenes=max(1, chips // 500), size_px=16, bands=BANDS[:1])
    with LocalCluster(n_workers=1, **kind) as cluster, Client(cluster.scheduler_address) as client:
        build(plan, url, client.scheduler.address)
        peak: float = max(client.run(peak_mb).values())
    say(f"memory of a worker, {chips} chips: {peak:.1f} MB")
    return peak


def say(text: str) -> None:
    print(text, file=sys.stderr)


def to_table(rows: list[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="Builds")
    for name in ("what", "value", "target", "met", "note"):
        table.add_column(name, justify="right" if name == "value" else "left")
    for line in rows:
        shown = f"{100 * line.value:.2f} %" if not line.unit else f"{line.value:,.2f} {line.unit}"
        table.add_row(line.what, shown, line.target, "yes" if line.met else "no", line.note)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chips", type=int, default=800)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=RESULTS / "build.json")
    parser.add_argument("--only-build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_build:
        took = build(options.only_build, options.url)
        print(json.dumps({"seconds": round(took, 1), "peak_mb": round(peak_mb(), 1)}))
        return
    with tempfile.TemporaryDirectory() as folder:
        work, scene = Path(folder) / "work", Path(folder) / "scene"
        scene.mkdir()
        write_scene(scene)
        rows = measure_end_to_end(work, scene, chips=options.chips, rounds=options.rounds)
        rows += measure_workers(work, scene, rounds=options.rounds)
        rows += measure_driver(work, scene, chips=options.chips)
        rows += measure_memory(work, scene, chips=options.chips, many=options.many)
    keep(options.out, [to_table(rows)], rounds=options.rounds, rows=[asdict(line) for line in rows])


if __name__ == "__main__":
    main()
