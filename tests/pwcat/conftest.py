"""A small recipe over the synthetic archive, planned once and built once, and what interrupts and damages builds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pwcat.providers import OpenSource, open_source
from pwcat.recipe import Recipe, load_recipe

PWCAT = str(Path(sys.executable).with_name("pwcat"))
FROZEN = ("plan.parquet", "scenes.parquet", "recipe.yaml")
# One band of each native resolution: 10, 20 and 60 m. Sixteen samples make eight shards of two.
# The dates are such that some places are served by a scene of baseline 02.14, and some by one of 05.10.
SMALL = {
    "name": "small",
    "num_samples": 16,
    "chip": {"size_px": 32, "bands": ["B02", "B05", "B01"]},
    "when": {"start": "2021-01-01", "end": "2023-06-30", "max_cloud_cover": 60},
}


@pytest.fixture(scope="session")
def small(tmp_path_factory, write_recipe) -> Path:
    """The path of a small recipe."""
    return write_recipe(tmp_path_factory.mktemp("small"), **SMALL)


@pytest.fixture(scope="session")
def recipe(small) -> Recipe:
    return load_recipe(small)


@pytest.fixture(scope="session")
def source(small, recipe) -> Iterator[OpenSource]:
    """The archive, served for the whole session."""
    with open_source(recipe.source, base_dir=small.parent) as opened:
        yield opened


@pytest.fixture(scope="session")
def frozen(tmp_path_factory, small, recipe, source) -> Path:
    """The folder of the small recipe's plan, without a cube. Do not change it."""
    from pwcat.plan import freeze_plan

    return freeze_plan(recipe, catalog=tmp_path_factory.mktemp("frozen"), base_dir=small.parent, source=source)


@pytest.fixture
def planned(frozen, tmp_path) -> Path:
    """A copy of that folder, to build in."""
    folder = tmp_path / "catalog" / "small"
    folder.mkdir(parents=True)
    for name in FROZEN:
        shutil.copy(frozen / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def built(frozen, tmp_path_factory, source) -> Path:
    """The folder of the small recipe, built in one go and described. Do not change it."""
    from catalog.store import describe
    from pwcat.materialize import build_cube

    folder = tmp_path_factory.mktemp("built") / "small"
    folder.mkdir()
    for name in FROZEN:
        shutil.copy(frozen / name, folder / name)
    build_cube(folder, source=source)
    describe(folder)
    return folder


@pytest.fixture
def archive_copy(archive_dir, tmp_path) -> Path:
    """An archive of its own, of hard links: replace a file, never write into one."""
    return Path(shutil.copytree(archive_dir, tmp_path / "archive", copy_function=os.link))


@pytest.fixture
def pwcat(tmp_path):
    """Run the command in a process, and a session, of its own."""

    def run(*arguments: object, wait: bool = True):
        process = subprocess.Popen(
            [PWCAT, *map(str, arguments)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if not wait:
            return process
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    return run


@pytest.fixture(scope="session")
def bytes_of():
    """Contents of every file below a folder, by relative path; without the ledger, which holds times."""

    def read(folder: Path) -> dict[str, bytes]:
        paths = [path for path in folder.rglob("*") if path.is_file() and "ledger" not in path.parts]
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}

    return read
