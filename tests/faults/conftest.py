"""A small plan, built once undisturbed; a server that fails on a schedule; and what must hold after every fault."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pwcat.building.ledger import damaged_shards, read_ledger
from pwcat.cube import open_cube
from pwcat.gdal import GDAL_OPTIONS
from pwcat.materialize import build_cube
from pwcat.pixels import serving
from pwcat.plan import FrozenPlan, freeze_plan, read_plan
from pwcat.providers import OpenSource, open_source
from pwcat.providers.signing import Signing, tokens_of
from pwcat.readers import wire
from pwcat.recipe import Recipe, load_recipe

HERE = Path(__file__).parent
SECRET = "PWCATSECRET"  # in every token of the server
COLLECTION = "s2-l2a-synthetic"
FROZEN = ("plan.parquet", "scenes.parquet", "recipe.yaml")
# One band of 10 m and one of 20 m. Sixteen samples make eight shards of two.
TINY = {
    "name": "tiny",
    "num_samples": 16,
    "chip": {"size_px": 32, "bands": ["B02", "B05"]},
    "when": {"start": "2021-01-01", "end": "2023-06-30", "max_cloud_cover": 60},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Patience of a test's size: as many attempts as ever, with shorter pauses."""
    monkeypatch.setattr(wire, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(serving, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(wire, "CLIENT", {**wire.CLIENT, "read_timeout": "500ms"})
    for option, value in {"GDAL_HTTP_RETRY_DELAY": 0.01, "GDAL_HTTP_LOW_SPEED_TIME": 1}.items():
        monkeypatch.setitem(GDAL_OPTIONS, option, value)
    wire._store.cache_clear()
    yield
    wire._store.cache_clear()


class Signed(OpenSource):
    """The archive's files as a store keeps them that wants tokens."""

    def sign(self, href: str) -> str:
        return tokens_of(self.signing).sign(super().sign(href))


@dataclass
class FaultServer:
    """The server's process; see server.py."""

    url: str
    numbers: Iterator[int] = field(default_factory=count)

    def case(self, *rules: dict[str, Any], **options: Any) -> Case:
        """A schedule of its own, at an address of its own."""
        name = f"case{next(self.numbers)}"
        _request(f"{self.url}/_cases/{name}", {"rules": rules, **options})
        return Case(server=self, name=name)


@dataclass
class Case:
    """A schedule that runs."""

    server: FaultServer
    name: str

    @property
    def url(self) -> str:
        return f"{self.server.url}/{self.name}"

    @property
    def source(self) -> OpenSource:
        return OpenSource(provider="archive", url=self.url, collection=COLLECTION)

    @property
    def signed(self) -> OpenSource:
        """The same, of files that want tokens."""
        signing = Signing(endpoint=f"{self.url}/token", hosts=("127.0.0.1",))
        return Signed(provider="archive", url=self.url, collection=COLLECTION, signing=signing)

    def standing(self) -> dict[str, Any]:
        return _request(f"{self.server.url}/_cases/{self.name}")


def _request(url: str, document: object | None = None) -> Any:
    data = None if document is None else json.dumps(document).encode()
    asked = urllib.request.Request(url, data=data, method="GET" if data is None else "PUT")
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return json.load(answer)


@pytest.fixture(scope="session")
def faulty(archive_dir) -> Iterator[FaultServer]:
    command = [sys.executable, str(HERE / "server.py"), str(archive_dir)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    yield FaultServer(process.stdout.readline().strip())
    process.stdin.close()
    process.stdout.close()
    process.wait(timeout=20)


@pytest.fixture(scope="session")
def calm(faulty) -> Case:
    """A server without faults."""
    return faulty.case()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, write_recipe) -> Path:
    """The path of the recipe."""
    return write_recipe(tmp_path_factory.mktemp("recipe"), **TINY)


@pytest.fixture(scope="session")
def recipe(tiny) -> Recipe:
    return load_recipe(tiny)


@pytest.fixture(scope="session")
def frozen(tmp_path_factory, tiny, recipe) -> Path:
    """The folder of its plan, without a cube. Do not change it."""
    with open_source(recipe.source, base_dir=tiny.parent) as source:
        return freeze_plan(recipe, catalog=tmp_path_factory.mktemp("frozen"), base_dir=tiny.parent, source=source)


@pytest.fixture(scope="session")
def copy_plan(frozen):
    """Copy the plan into a folder, to build there."""

    def copy(folder: Path) -> Path:
        folder.mkdir(parents=True)
        for name in FROZEN:
            shutil.copy(frozen / name, folder / name)
        return folder

    return copy


@pytest.fixture
def planned(copy_plan, tmp_path) -> Path:
    return copy_plan(tmp_path / "catalog" / "tiny")


@pytest.fixture(scope="session")
def undisturbed(copy_plan, tmp_path_factory, calm) -> Undisturbed:
    """A build in which nothing went wrong."""
    folder = copy_plan(tmp_path_factory.mktemp("undisturbed") / "tiny")
    report = build_cube(folder, source=calm.source)
    assert report.counts == {"written": 16}
    return Undisturbed(folder, read_plan(folder))


@dataclass(frozen=True)
class Undisturbed:
    """What a build must come to in the end."""

    folder: Path
    plan: FrozenPlan

    @property
    def ids(self) -> list[str]:
        return self.plan.table["id"].to_pylist()

    @property
    def scene(self) -> str:
        """The scene that the fewest samples are cut from."""
        scenes = [scenes[0] for scenes in self.plan.table["scene_ids"].to_pylist()]
        return min(sorted(set(scenes)), key=scenes.count)

    def samples_of(self, scene: str) -> list[str]:
        rows = zip(self.ids, self.plan.table["scene_ids"].to_pylist(), strict=True)
        return [name for name, scenes in rows if scene in scenes]

    def is_end_of(self, folder: Path) -> None:
        """A build has come to its end as if nothing had been."""
        assert cube_of(folder) == cube_of(self.folder)
        self.is_on_the_way(folder)
        ledger = read_ledger(folder)
        assert ledger["id"].to_pylist() == self.ids  # none lost, none doubled
        assert set(ledger["status"].to_pylist()) == {"written"}
        assert damaged_shards(folder) == []
        assert list(folder.rglob("*.partial")) == []

    def is_on_the_way(self, folder: Path) -> None:
        """What is there of a build is right: pixels are the right ones, or none and the ledger says so."""
        statuses = dict(zip(*(read_ledger(folder)[key].to_pylist() for key in ("id", "status")), strict=True))
        assert statuses.keys() <= set(self.ids)
        good, made = (open_cube(place / "cube.zarr") for place in (self.folder, folder))
        for shard in sorted((folder / "cube.zarr" / "chips" / "c").glob("*/0/0/0/0")):
            number = int(shard.parts[-5])
            pixels, right = made.read_shard(number), good.read_shard(number)
            for place, row in enumerate(range(number * made.shard_size, number * made.shard_size + len(pixels))):
                is_written = statuses[self.ids[row]] == "written"
                np.testing.assert_array_equal(pixels[place], right[place] * is_written)


def cube_of(folder: Path) -> dict[str, bytes]:
    """Every file of a cube, by path."""
    cube = folder / "cube.zarr"
    return {str(path.relative_to(cube)): path.read_bytes() for path in sorted(cube.rglob("*")) if path.is_file()}


@pytest.fixture
def no_secret(tmp_path, caplog, capfd):
    """Look for tokens in every file and every line of the log, at its most talkative; also after the test, by itself."""
    caplog.set_level(logging.DEBUG)

    def look(*said: object) -> None:
        assert SECRET not in caplog.text
        assert SECRET not in "".join(map(str, said))
        for path in tmp_path.rglob("*"):
            assert SECRET not in path.name
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
        for ledger in tmp_path.rglob("ledger"):
            assert SECRET not in str(read_ledger(ledger.parent).to_pylist())

    yield look
    look()
    assert SECRET not in "".join(capfd.readouterr())
