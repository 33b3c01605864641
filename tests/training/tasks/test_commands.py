"""``pwcat tasks`` as it is called."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner, Result
from rasterio.transform import from_origin

from pwcat.cli import cli
from pwcat.errors import TrainingError
from training.tasks import BENCHMARKS, CATALOG_TASKS, eurosat, open_task, origin_of, task_info
from training.tasks.eurosat import BANDS, IMAGES
from training.tasks.files.fetching import Origin


def run(*arguments: str, width: int = 100) -> Result:
    return CliRunner().invoke(cli, ["tasks", *arguments], env={"COLUMNS": str(width)}, catch_exceptions=True)


@contextmanager
def dropping_server(files: Mapping[str, bytes]) -> Iterator[str]:
    """Serves files by ranges; the first answer of each ends in its middle."""
    dropped: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            body = files[name][start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(files[name]) - 1}/{len(files[name])}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{name}"')
            self.end_headers()
            self.wfile.write(body if name in dropped or len(body) < 100 else body[: len(body) // 2])
            dropped.add(name)
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of tasks, in which EuroSAT has a chip for each side."""
    home = tmp_path / "eurosat"
    for split, name in (("train", "Forest_1"), ("val", "Forest_2"), ("test", "River_1")):
        (home / f"eurosat-{split}.txt").parent.mkdir(exist_ok=True)
        (home / f"eurosat-{split}.txt").write_text(f"{name}.jpg\n")
        path = home / "EuroSAT_MS" / name.partition("_")[0] / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.stack([np.full((64, 64), 10 if band == "B10" else 1500) for band in BANDS]).astype(np.uint16)
        values[0, :16] = 0
        profile = {"driver": "GTiff", "count": 13, "height": 64, "width": 64, "dtype": "uint16"}
        with rasterio.open(path, "w", crs="EPSG:32631", transform=from_origin(5e5, 5e6, 10, 10), **profile) as raster:
            raster.write(values)
    (home / "EuroSAT_MS" / "AnnualCrop").mkdir()
    return tmp_path


def test_the_whole_road(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched from a server that drops connections, unpacked, checked, opened: as on its Hub."""
    home, packed = folder / "eurosat", io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in home.rglob("*.tif"):
            archive.write(path, f"{IMAGES[1]}/{path.parent.name}/{path.name}")
        archive.writestr(f"{IMAGES[1]}/AnnualCrop/", b"")
        archive.writestr(f"{IMAGES[1]}/AnnualCrop/note.txt", b"so that the folder is there")
    files = {"EuroSATallBands.zip": packed.getvalue()}
    files |= {path.name: path.read_bytes() for path in home.glob("*.txt")}
    with dropping_server(files) as address:
        parts = tuple(
            replace(part, url=f"{address}/{part.name}", md5=hashlib.md5(files[part.name]).hexdigest())
            for part in origin_of("eurosat").parts
        )
        monkeypatch.setitem(eurosat.ORIGINS, "eurosat", Origin(parts=parts))
        first = run("fetch", "eurosat", "-o", str(tmp_path / "data"))
        again = run("fetch", "eurosat", "-o", str(tmp_path / "data"))

    assert first.exception is None
    assert "by using it you agree to its licence, MIT" in first.output
    assert "fetched EuroSATallBands.zip, eurosat-train.txt" in first.output
    assert "all of it was there" in again.output
    assert json.loads(run("list", "--in", str(tmp_path / "data"), "--json").output)["tasks"][0]["here"] == "yes"
    assert run("check", str(tmp_path / "data")).exit_code == 0
    assert open_task("eurosat", tmp_path / "data").ids.tolist() == open_task("eurosat", folder).ids.tolist()


def test_what_must_be_asked_for_says_where(tmp_path: Path) -> None:
    by_hand = [name for name in BENCHMARKS if not origin_of(name).parts]
    for name in by_hand:
        result = run("fetch", name, "-o", str(tmp_path))
        assert isinstance(result.exception, TrainingError)
        assert "cannot be fetched by itself" in str(result.exception)


def test_every_task_is_listed_with_what_people_ask_first() -> None:
    listed = json.loads(run("list", "--json").output)

    assert [row["name"] for row in listed["tasks"]] == list(BENCHMARKS)
    for row in listed["tasks"]:
        assert row["source"].startswith("https://")
        assert row["licence"]
        assert row["citation"]
        assert row["size"]
        assert row["here"] is None
    assert set(CATALOG_TASKS) < set(listed["catalog"])
    shown = run("list").output
    assert all(name in shown for name in BENCHMARKS)


def test_what_is_here_is_told(folder: Path) -> None:
    rows = json.loads(run("list", "--in", str(folder), "--json").output)["tasks"]

    assert {row["name"]: row["here"] for row in rows if row["here"] != "no"} == {"eurosat": "placed"}
    assert "placed" in run("list", "--in", str(folder)).output


def test_a_whole_folder_is_shown(folder: Path) -> None:
    result = run("check", str(folder))

    assert result.exit_code == 0
    assert "nothing is missing" in result.output
    (told,) = json.loads(run("check", str(folder), "--json").output).values()
    assert told["faults"] == []
    assert told["splits"] == {"train": 1, "val": 1, "test": 1}
    assert told["classes"]["Forest"] == {"train": 1, "val": 1, "test": 0}
    assert told["placed"] == 1
    assert told["dated"] == 0
    bands = {band["name"]: band for band in told["bands"]}
    assert bands["B01"]["no_data"] == 0.25
    assert bands["B8A"]["middle"] == pytest.approx(0.15)
    assert bands["B8A"]["unit"] == "1"


def test_a_folder_with_faults_ends_with_1(folder: Path) -> None:
    (folder / "eurosat/EuroSAT_MS/River/River_1.tif").write_bytes(b"")

    result = run("check", str(folder / "eurosat"), "--task", "eurosat")

    assert result.exit_code == 1
    assert "cannot be used" in result.output
    assert "is empty (River_1.tif)" in result.output
    assert json.loads(run("check", str(folder), "--json").output)["eurosat"]["faults"]


def test_what_pixels_alone_tell_is_a_fault_too(folder: Path) -> None:
    for path in folder.glob("eurosat/EuroSAT_MS/*/*.tif"):
        with rasterio.open(path, "r+") as raster:
            raster.write(raster.read()[::-1])

    result = run("check", str(folder))

    assert result.exit_code == 1
    assert "in another order" in result.output


def test_folders_of_nothing_and_tasks_of_no_name_are_told(tmp_path: Path) -> None:
    for arguments, said in (
        (("check", str(tmp_path)), "say which it is with --task"),
        (("check", str(tmp_path), "--task", "eurosaht"), "unknown task 'eurosaht': choose from eurosat"),
        (("fetch", "eurosaht", "-o", str(tmp_path)), "unknown task 'eurosaht'"),
        (("fetch", "landcover", "-o", str(tmp_path)), "task landcover is of a catalog, and has no files of its own"),
        (("check", str(tmp_path), "--task", "column:x"), "task column:x is of a catalog"),
    ):
        result = run(*arguments)
        assert isinstance(result.exception, TrainingError)
        assert said in str(result.exception)


def test_registry_says_what_it_has() -> None:
    assert all((info := task_info(name)) is not None and info.name == name for name in BENCHMARKS)
    assert task_info("landcover") is None
    assert task_info("column:div:realm") is None
    with pytest.raises(TrainingError, match="unknown task 'column:'"):
        task_info("column:")
    with pytest.raises(TrainingError, match="task eurosat: min_samples is for tasks of a catalog"):
        open_task("eurosat", "x", min_samples=3)
    assert all(origin_of(name).parts or origin_of(name).by_hand for name in BENCHMARKS)


def test_any_column_is_a_task(tiny_catalog: Path) -> None:
    data = open_task("column:div:continent", tiny_catalog / "everywhere", min_samples=1)
    numbers = open_task("number:div:spectral_entropy", tiny_catalog / "everywhere")

    assert data.info.kind == "classification"
    assert data.num_classes > 2
    assert numbers.info.kind == "regression"
    assert np.isfinite(numbers.targets.astype(float)).all()
