"""A small recipe over the synthetic archive, planned once and built once, and what interrupts and damages builds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import shapely

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


@pytest.fixture(scope="session")
def wide_archive(tmp_path_factory) -> Path:
    """Scenes of 1,300 px: nine tiles of 512 px each in the bands of 10 m, and overviews of 650, 325 and 163 px."""
    from pwcat.archive import SynthOptions, synthesise_archive

    folder = tmp_path_factory.mktemp("wide")
    synthesise_archive(folder, options=SynthOptions(places=1, test_places=0, dates=2, size_px=1300, seed=0))
    return folder


@pytest.fixture
def archive_copy(archive_dir, tmp_path) -> Path:
    """An archive of its own, of hard links: replace a file, never write into one."""
    return Path(shutil.copytree(archive_dir, tmp_path / "archive", copy_function=os.link))


def without_progress(err: str) -> str:
    counted = ("build: ", "describe: ", "choosing sites: ")
    return "".join(line for line in err.splitlines(keepends=True) if not line.startswith(counted))


@pytest.fixture
def pwcat(tmp_path):
    """Run the command in a process, and a session, of its own; its progress, which hangs on time, is left out of stderr."""

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
        return process.returncode, out, without_progress(err)

    return run


@pytest.fixture(scope="session")
def bytes_of():
    """Contents of every file below a folder, by relative path; without the ledger, which holds times."""

    def read(folder: Path) -> dict[str, bytes]:
        paths = [path for path in folder.rglob("*") if path.is_file() and "ledger" not in path.parts]
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}

    return read


NOWHERE = OpenSource(provider="stac", url="http://127.0.0.1:1", collection="none")
KIT_LAYERS = {
    "continent": {"path": "vectors/natural_earth/ne_continents.fgb", "field": "continent"},
    "biome": {"path": "vectors/biomes/resolve_2017_biomes_simplified.fgb", "field": "BIOME_NAME"},
    "landcover": {"path": "biomes_landcover/MCD12C1.A2019001.006.IGBP.tif", "classes": "igbp"},
}


@pytest.fixture(scope="session")
def earth(kit):
    """Continents, biomes and land cover of the kit, as region layers."""
    from pwcat.layers import RegionLayers
    from pwcat.regions import open_regions

    return open_regions(RegionLayers.model_validate(KIT_LAYERS), base_dir=kit, source=NOWHERE)


@pytest.fixture(scope="session")
def boxes():
    """A layer of named boxes; underscores at the end of a name make more of one class."""
    from pwcat.regions import VectorLayer

    def make(name="continent", **bounds):
        return VectorLayer(
            name=name,
            source="boxes",
            class_of=np.array([key.rstrip("_") for key in bounds], dtype=object),
            polygons=np.array([shapely.box(*box) for box in bounds.values()], dtype=object),
        )

    return make


@pytest.fixture(scope="session")
def chosen():
    """Sites of a sampler, without a source: the strata, the sites and the reserve."""
    from pwcat.samplers.world import World
    from pwcat.sites.drawing import choose_sites
    from pwcat.sites.locators import NominalLocator

    def choose(sampler, n, regions, *, seed=0, base_dir=Path(), constraints=None, size_px=96):
        recipe = Recipe.model_validate(
            {
                "name": "where",
                "title": "Where",
                "license": "CC0-1.0",
                "num_samples": n,
                "seed": seed,
                "sampler": sampler,
                "constraints": constraints or {},
                "source": {"provider": "stac", "url": "http://127.0.0.1:1", "collection": "none"},
                "when": {"start": "2021-01-01", "end": "2021-12-31"},
                "chip": {"size_px": size_px, "bands": ["B02"]},
                "regions": {name: {"path": "some", "field": "name"} for name in regions.layers},
            }
        )
        world = World(regions=regions, footprints=[], base_dir=base_dir, chip_km=recipe.chip_km)
        strata = recipe.sampler.strata(n, world=world)
        parts = {"regions": regions, "locator": NominalLocator(recipe, base_dir=base_dir), "base_dir": base_dir}
        return strata, *choose_sites(recipe, strata, **parts)

    return choose
