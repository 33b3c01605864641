"""Chips that a source will not serve at once: signed anew, from another source, ruled out by cloud, or failed with a cause."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import xarray as xr

from catalog.store import describe
from pwcat.building.ledger import UNUSABLE, flagged_scenes, read_ledger, served_scenes
from pwcat.building.shards import ShardTask, make_shard
from pwcat.cube import CubeSpec, create_cube, open_cube
from pwcat.gdal import forget_files
from pwcat.materialize import build_cube
from pwcat.pixels import serving
from pwcat.plan import read_plan
from pwcat.providers import OpenSource, Signing
from pwcat.providers.reuse import forget_address
from pwcat.readers import wire

COLLECTION = "s2-l2a-synthetic"
BANDS = ("B02", "B05", "B01")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(wire, "RETRY_DELAY_S", 0.001)
    monkeypatch.setattr(serving, "RETRY_DELAY_S", 0.001)


@pytest.fixture(scope="session")
def twin(archive_dir, tmp_path_factory) -> Path:
    """The same acquisitions under other ids, processed by the other baseline: 1000 more in each number, or less."""
    folder = tmp_path_factory.mktemp("twins") / "twin"
    shutil.copytree(archive_dir, folder, copy_function=os.link)
    for home in sorted((folder / COLLECTION).iterdir()):
        if not home.is_dir():
            continue
        document = home / f"{home.name}.json"
        item = json.loads(document.read_text())
        old = item["properties"]["s2:processing_baseline"] == "02.14"
        item["id"] = f"TWIN_{home.name}"
        item["properties"]["s2:processing_baseline"] = "05.10" if old else "02.14"
        document.unlink()
        for band in BANDS:
            rewrite(
                home / f"{band}.tif", lambda dn, old=old: np.where(dn > 0, dn.astype(int) + (1000 if old else -1000), 0)
            )
        (home / f"{item['id']}.json").write_text(json.dumps(item))
        home.rename(home.with_name(item["id"]))
    return folder


def rewrite(path: Path, change) -> None:
    with rasterio.open(path) as raster:
        pixels, profile = raster.read(1), raster.profile
    path.unlink()  # it is a hard link
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(change(pixels).astype(pixels.dtype), 1)


class Archive:
    """A server of an archive that does as it is told."""

    def __init__(self, folder: Path, home: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.path = folder.name
        self.url, self.control, self.log = f"http://127.0.0.1:{port}", home / f"{port}.json", home / f"{port}.log"
        self.tell()
        script = Path(__file__).with_name("failing_archive.py")
        self.process = subprocess.Popen([sys.executable, str(script), str(folder), str(port), str(self.control)])
        while self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        forget_files(self.url)

    @property
    def source(self) -> OpenSource:
        return OpenSource(provider="archive", url=self.url, path=self.path, collection=COLLECTION)

    def tell(self, *, oldest: int = 0, **faults: int) -> None:
        """Answer paths that hold a word (``__`` for a slash) by a status, and tokens before the oldest by 403."""
        forget_address(self.url)  # tiles that were read before would not be asked for again
        told = {name.replace("__", "/"): status for name, status in faults.items()}
        part = self.control.with_suffix(".part")
        part.write_text(json.dumps({"faults": told, "oldest": oldest, "log": str(self.log)}))
        part.replace(self.control)
        self.log.write_text("")

    @property
    def asked(self) -> list[tuple[float, str]]:
        return [(float(line.split()[0]), line.split()[1]) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="session")
def served(archive_dir, twin, tmp_path_factory):
    home = tmp_path_factory.mktemp("control")
    archives = [Archive(folder, home) for folder in (archive_dir, twin)]
    yield archives
    for archive in archives:
        archive.process.kill()
        archive.process.wait()


@pytest.fixture
def first(served) -> Archive:
    served[0].tell()
    return served[0]


@pytest.fixture
def second(served) -> Archive:
    served[1].tell()
    return served[1]


@pytest.fixture
def task_of(planned, recipe):
    """The task of all samples in one shard."""

    def make(source: OpenSource, **changes) -> ShardTask:
        plan = read_plan(planned)
        rows = plan.table.select(["id", "scene_ids", "x0", "y0"]).to_pylist()
        spec = CubeSpec(num_samples=len(rows), num_times=1, bands=BANDS, size_px=32, shard_size=len(rows))
        create_cube(planned / "cube.zarr", spec, attributes={})
        task = ShardTask(
            folder=planned,
            spec=spec,
            shard=0,
            rows=rows,
            scenes={scene.id: scene for scene in plan.scenes(source)},
            chip=recipe.chip,
            source=source,
            plan_hash="plan",
            threads=4,
        )
        return pickle.loads(pickle.dumps(replace(task, **changes)))  # noqa: S301 - as a worker gets it

    return make


def chips_of(folder: Path) -> np.ndarray:
    return open_cube(folder / "cube.zarr").read(np.arange(16))


def statuses(folder: Path) -> dict[str, int]:
    """Samples of the ledger by status."""
    return Counter(read_ledger(folder)["status"].to_pylist())


def word(scene: str) -> str:
    return scene.replace("/", "__")


@pytest.mark.parametrize("status", [404, 500])
def test_another_source_stands_in_for_what_one_cannot_serve(status, first, second, task_of, planned, built):
    task = task_of(first.source, fallback=[second.source])
    lost = sorted({row["scene_ids"][0] for row in task.rows})[:4]
    baselines = {name: task.scenes[name].item["properties"]["s2:processing_baseline"] for name in task.scenes}
    assert {baselines[name] for name in lost} == {"02.14", "05.10"}
    first.tell(**{f"{word(name)}__B05": status for name in lost})
    result = make_shard(task)
    assert statuses(planned) == {"written": 16}
    np.testing.assert_array_equal(chips_of(planned), chips_of(built))
    for row, entry in zip(task.rows, read_ledger(planned).to_pylist(), strict=True):
        scene = row["scene_ids"][0]
        twin = scene in lost
        assert entry["item"] == [f"TWIN_{scene}" if twin else scene]
        assert entry["source"] == [f"archive:{(second if twin else first).path}/{COLLECTION}"]
        assert entry["boa_offset"] == [1000 if (baselines[scene] == "05.10") != twin else 0]
        assert (entry["attempts"], entry["retries"]) == ((4, 3) if twin else (1, 0))
        assert (entry["status"], entry["reason"], entry["cause"]) == ("written", None, None)
    assert result.retries == sum(3 for row in task.rows if row["scene_ids"][0] in lost)
    kept = sorted((planned / "ledger" / "_fallback").iterdir())
    assert len(kept) == len(lost)
    assert "127.0.0.1" not in "".join(path.read_text() for path in kept)
    # A rerun that needs it again does not ask which item it was
    [path.unlink() for path in (planned / "ledger").glob("*.parquet")]
    gone = replace(second.source, url=second.url + "/moved")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            OpenSource, "sign", lambda self, href: SIGN(replace(self, url=self.url.removesuffix("/moved")), href)
        )
        make_shard(replace(task, fallback=[gone]))
    assert statuses(planned) == {"written": 16}
    np.testing.assert_array_equal(chips_of(planned), chips_of(built))


SIGN = OpenSource.sign


def test_a_kept_answer_that_cannot_be_read_is_asked_for_again(first, second, task_of, planned):
    task = task_of(first.source, fallback=[second.source])
    first.tell(**{f"{word(task.rows[0]['scene_ids'][0])}__B05": 404})
    make_shard(task)
    (kept,) = (planned / "ledger" / "_fallback").iterdir()
    answer = kept.read_text()
    for spoilt in ("{", "[]"):
        kept.write_text(spoilt)
        [path.unlink() for path in (planned / "ledger").glob("*.parquet")]
        make_shard(task)
        assert kept.read_text() == answer
        assert statuses(planned) == {"written": 16}


def test_cube_and_items_name_the_scene_that_stood_in(first, second, planned):
    scenes = [scenes[0] for scenes in read_plan(planned).table["scene_ids"].to_pylist()]
    lost = sorted(set(scenes))[:2]
    first.tell(**{f"{word(name)}__B05": 404 for name in lost})
    twins = replace(second.source, provider="stac", path=None, allow_private=True)
    report = build_cube(planned, source=first.source, fallback=[twins])
    place = f"stac:{second.url.removeprefix('http://')}/{COLLECTION}"
    assert report.fallback[place] == sum(name in lost for name in scenes)
    describe(planned)
    served = [f"TWIN_{name}" if name in lost else name for name in scenes]
    with xr.open_zarr(planned / "cube.zarr") as cube:
        assert cube["scene_id"].dims == ("sample", "time")
        assert cube["scene_id"].values[:, 0].tolist() == served
    items = pq.read_table(planned / "items.parquet")
    assert items["pwcat:scene_ids"].to_pylist() == [[name] for name in served]
    collection = json.loads((planned / "collection.json").read_text())
    assert collection["pwcat:sources"] == sorted([first.source.name, place])
    build_cube(planned, source=first.source)  # there is nothing left to do, and the names stay
    with xr.open_zarr(planned / "cube.zarr") as cube:
        assert cube["scene_id"].values[:, 0].tolist() == served


def test_what_no_source_serves_fails_with_the_reason_of_each(first, second, task_of, planned):
    task = task_of(first.source, fallback=[second.source])
    lost, shifted = sorted({row["scene_ids"][0] for row in task.rows})[:2]
    first.tell(**{f"{word(name)}__B05": 404 for name in (lost, shifted)})
    make_shard(task)  # so that it is kept which items they are
    for path in (planned / "ledger" / "_fallback").iterdir():
        item = json.loads(path.read_text())
        if item["id"] == f"TWIN_{shifted}":
            for asset in item["assets"].values():
                asset["proj:transform"][2] += 5
            path.write_text(json.dumps(item))
    [path.unlink() for path in (planned / "ledger").glob("*.parquet")]
    second.tell(**{f"TWIN_{word(lost)}__B01": 503})
    make_shard(task)
    entries = read_ledger(planned).to_pylist()
    reasons = {}
    for row, entry in zip(task.rows, entries, strict=True):
        reasons.setdefault(row["scene_ids"][0], set()).add((entry["status"], entry["cause"], entry["reason"]))
    (said,), (other,) = reasons[lost], reasons[shifted]
    href = f"archive:{COLLECTION}/{lost}/B05.tif"
    assert said[:2] == other[:2] == ("failed", "not found")
    assert said[2].startswith(
        f"{lost}: Error reading {href}: there is no such file (404); at archive:twin/{COLLECTION}: TWIN_{lost}: Error "
    )
    assert "the server answers 503" in said[2]
    assert f"; at archive:twin/{COLLECTION}: TWIN_{shifted} is on another pixel grid than {shifted}: EPSG:" in other[2]
    assert statuses(planned)["failed"] == sum(row["scene_ids"][0] in (lost, shifted) for row in task.rows)
    assert all("127.0.0.1" not in (entry["reason"] or "") for entry in entries)
    # Once the server is well, a rerun reads these alone
    first.tell()
    assert sorted(make_shard(task).read) == [k for k, entry in enumerate(entries) if entry["status"] == "failed"]
    assert set(read_ledger(planned)["status"].to_pylist()) == {"written"}


def signed_scenes(task: ShardTask, archive: Archive) -> dict:
    """The scenes with addresses of a server that wants them signed."""
    text = {
        name: json.dumps(scene.item).replace("archive:", f"{archive.url}/assets/")
        for name, scene in task.scenes.items()
    }
    return {name: replace(scene, item=json.loads(text[name])) for name, scene in task.scenes.items()}


@pytest.mark.parametrize("reader", ["tiles", "stackstac"])
def test_a_refused_address_is_signed_anew_and_tried_once_more(reader, first, task_of, planned, built, caplog):
    signing = Signing(endpoint=f"{first.url}/token/{reader}", hosts=("127.0.0.1",))
    source = OpenSource(provider="stac", url=first.url, collection=COLLECTION, allow_private=True, signing=signing)
    task = task_of(first.source)
    task = replace(task, source=source, scenes=signed_scenes(task, first), reader=reader)
    caplog.set_level(logging.DEBUG)
    number = int(source.sign(f"{first.url}/assets/x").rpartition("=")[2])
    first.tell(oldest=number + 1)  # the token that this process has is refused from now on
    make_shard(task)
    assert statuses(planned) == {"written": 16}
    np.testing.assert_array_equal(chips_of(planned), chips_of(built))
    assert int(source.sign(f"{first.url}/assets/x").rpartition("=")[2]) == number + 1
    assert sum(entry["attempts"] == 2 for entry in read_ledger(planned).to_pylist()) >= 1
    first.tell(oldest=10**9)
    forget_files(first.url)  # else GDAL has all it needs
    [path.unlink() for path in (planned / "ledger").glob("*.parquet")]
    make_shard(task)
    assert statuses(planned) == {"failed": 16}
    ledger = read_ledger(planned)
    assert set(ledger["cause"].to_pylist()) == {"forbidden"}
    assert set(ledger["attempts"].to_pylist()) == {2}
    assert all("the server refuses it (403), signed anew as well" in reason for reason in ledger["reason"].to_pylist())
    written = b"".join(path.read_bytes() for path in planned.rglob("*") if path.is_file())
    assert b"sig=" not in written
    assert "sig=" not in caplog.text
    assert "sig=" not in "".join(ledger["reason"].to_pylist())


def test_a_chip_under_cloud_is_told_by_the_quality_band(first, task_of, planned, built, archive_dir):
    plain = task_of(first.source)
    make_shard(plain)
    assert read_ledger(planned)["cloud_fraction"].to_pylist() == [[None]] * 16
    shares = {}
    for row in plain.rows:
        scene = plain.scenes[row["scene_ids"][0]]
        with rasterio.open(archive_dir / COLLECTION / scene.id / "SCL.tif") as raster:
            column, line = (row["x0"] - raster.transform.c) / 10, (raster.transform.f - row["y0"]) / 10
            pixels = raster.read(1).repeat(2, 0).repeat(2, 1)[round(line) :, round(column) :][:32, :32]
        shares[row["id"]] = float(np.isin(pixels, (0, 1, 3, 8, 9, 10)).mean())
    assert len(set(shares.values())) > 2
    limit = sorted(shares.values())[10]
    [path.unlink() for path in (planned / "ledger").glob("*.parquet")]
    first.tell()
    make_shard(replace(plain, max_chip_cloud=100 * limit))
    cloudy = {name for name, share in shares.items() if share > limit}
    assert 0 < len(cloudy) < 16
    assert statuses(planned) == {"written": 16 - len(cloudy), "cloudy": len(cloudy)}
    ledger = {entry["id"]: entry for entry in read_ledger(planned).to_pylist()}
    assert {name: entry["cloud_fraction"] for name, entry in ledger.items()} == {
        name: [pytest.approx(share)] for name, share in shares.items()
    }
    for number, (name, entry) in enumerate(ledger.items()):
        chip, good = chips_of(planned)[number], chips_of(built)[number]
        np.testing.assert_array_equal(chip, good * (name not in cloudy))
        if name in cloudy:
            assert (entry["status"], entry["cause"], entry["bytes"]) == ("cloudy", "cloud", 0)
            assert (
                f": {100 * shares[name]:.1f} % is cloud, shadow or no data, more than {100 * limit:g} %"
                in entry["reason"]
            )
    assert "cloudy" in UNUSABLE
    # Pixels of scenes whose every chip is ruled out are not asked for
    by_scene = {row["scene_ids"][0]: set() for row in plain.rows}
    for row in plain.rows:
        by_scene[row["scene_ids"][0]].add(row["id"])
    asked = "".join(path for _, path in first.asked)
    assert all((f"{scene}/B02" in asked) == (not ids <= cloudy) for scene, ids in by_scene.items())


def test_scenes_whose_pixels_contradict_their_metadata_are_flagged_and_left_as_they_are(first, task_of, planned, built):
    task = task_of(first.source)
    make_shard(task)
    assert flagged_scenes(read_ledger(planned)) == {}  # the synthetic scenes say the truth
    old = {name for name, scene in task.scenes.items() if scene.item["properties"]["s2:processing_baseline"] == "02.14"}
    assert 0 < len(old) < len(task.scenes)
    lying = {}
    for name, scene in task.scenes.items():
        properties = {**scene.item["properties"], "s2:processing_baseline": "05.10"}
        lying[name] = replace(scene, item={**scene.item, "properties": properties})
    [path.unlink() for path in (planned / "ledger").glob("*.parquet")]
    make_shard(replace(task, scenes=lying))
    ledger = read_ledger(planned)
    flagged = flagged_scenes(ledger)
    assert flagged
    assert set(flagged) <= old
    for row, entry in zip(task.rows, ledger.to_pylist(), strict=True):
        flag = flagged.get(row["scene_ids"][0])
        assert entry["offset_flag"] == [flag]
        assert flag is None or flag.startswith("metadata says an offset of 1000; pixels as dark as ")
        assert entry["boa_offset"] == [1000]


def test_a_ledger_of_an_earlier_version_is_read_and_kept(first, task_of, planned):
    task = task_of(first.source)
    make_shard(task)
    (path,) = (planned / "ledger").glob("*.parquet")
    before = pq.read_table(path)
    early = ["id", "status", "reason", "attempts", "bytes", "seconds", "valid_fraction", "boa_offset"]
    table = before.select(early)
    pq.write_table(table, path)
    assert read_ledger(planned).select(early).to_pylist() == table.to_pylist()
    assert read_ledger(planned).schema.names == before.schema.names
    assert read_ledger(planned)["item"].null_count == 16
    assert served_scenes(read_ledger(planned), [row["scene_ids"] for row in task.rows]) == [
        row["scene_ids"] for row in task.rows
    ]
    assert flagged_scenes(read_ledger(planned)) == {}
    result = make_shard(task)
    assert result.read == []  # all was settled
    assert statuses(planned) == {"written": 16}
    assert pq.read_table(path).select(early).to_pylist() == table.to_pylist()


@pytest.mark.parametrize("reader", ["tiles", "stackstac"])
@pytest.mark.parametrize(
    ("status", "cause"),
    [(404, "not found"), (403, "forbidden"), (500, "server error"), (429, "server error"), (504, "timed out")],
)
def test_failures_are_told_by_their_cause(reader, status, cause, first, task_of, planned, monkeypatch):
    from pwcat.readers import stackstac

    monkeypatch.setattr(stackstac, "GDAL_OPTIONS", {**stackstac.GDAL_OPTIONS, "GDAL_HTTP_MAX_RETRY": 0})
    task = task_of(first.source, reader=reader)
    forget_files(first.url)
    first.tell(B05=status)
    make_shard(task)
    assert statuses(planned) == {"failed": 16}
    assert set(read_ledger(planned)["cause"].to_pylist()) == {cause}
