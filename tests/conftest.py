"""What many tests share: a small synthetic archive, a small catalog built from it, and the real data kit."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import settings

settings.register_profile("pwcat", deadline=None)  # how long an example takes is no property of the code
settings.load_profile("pwcat")

BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]


@pytest.fixture(autouse=True)
def _kept_tiles_are_of_one_test() -> Iterator[None]:
    """A server that is told to fail must be asked: what another test read of it is forgotten."""
    yield
    if kept := sys.modules.get("pwcat.readers.kept"):
        kept.KEPT.forget("http")


@pytest.fixture(scope="session")
def kit() -> Path:
    """The real data kit: beside the project, or at $PWCAT_KIT."""
    path = Path(os.environ.get("PWCAT_KIT", Path(__file__).parents[2] / "shared" / "kit"))
    if not path.is_dir():
        pytest.skip(f"the real data kit is not there: no folder {path}; set PWCAT_KIT")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """Released weights with known outputs: beside the project, or at $PWCAT_GOLDEN."""
    path = Path(os.environ.get("PWCAT_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))
    if not path.is_dir():
        pytest.skip(f"released weights are not there: no folder {path}; set PWCAT_GOLDEN")
    return path


@pytest.fixture(scope="session")
def archive_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic archive: two places a continent and a held-out one, two dates each, 384 px."""
    from pwcat.archive import SynthOptions, synthesise_archive

    folder = tmp_path_factory.mktemp("archive")
    synthesise_archive(folder, options=SynthOptions(places=2, test_places=1, dates=2, size_px=384, seed=0))
    return folder


def recipe_document(archive: Path, **changes: object) -> dict[str, object]:
    """A recipe over the synthetic archive; top-level keys can be changed."""
    layers = archive / "regions"
    document: dict[str, object] = {
        "name": "everywhere",
        "title": "Everywhere, in miniature",
        "license": "CC0-1.0",
        "attribution": "pwcat, synthetic scenes",
        "num_samples": 48,
        "seed": 0,
        "sampler": {"strategy": "uniform", "domain": "scenes"},
        "source": {"provider": "archive", "path": str(archive), "collection": "s2-l2a-synthetic"},
        "when": {"start": "2021-01-01", "end": "2024-12-31", "max_cloud_cover": 60},
        "chip": {"size_px": 32, "bands": BANDS},
        "regions": {
            "continent": {"path": str(layers / "continent.fgb"), "field": "continent"},
            "biome": {"path": str(layers / "biome.fgb"), "field": "biome"},
            "landcover": {"collection": "landcover-synthetic"},
        },
        "split": {"val_fraction": 0.2, "block_km": 20},
    }
    return {**document, **changes}


@pytest.fixture(scope="session")
def write_recipe(archive_dir: Path):
    """Write a recipe over the synthetic archive into a folder, with some top-level keys changed, and return its path."""

    def write(folder: Path, **changes: object) -> Path:
        document = recipe_document(archive_dir, **changes)
        path = folder / f"{document['name']}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def tiny_catalog(tmp_path_factory: pytest.TempPathFactory, write_recipe) -> Path:
    """A real catalog of two collections, `everywhere` (48 chips) and `europe` (32), 12 bands of 32 px. Do not change it."""
    from catalog.store import build

    folder = tmp_path_factory.mktemp("recipes")
    root = tmp_path_factory.mktemp("catalog")
    build(write_recipe(folder), catalog=root)
    europe = {"strategy": "one_hot", "layer": "continent", "value": "Europe", "domain": "scenes"}
    build(write_recipe(folder, name="europe", title="Europe", num_samples=32, seed=1, sampler=europe), catalog=root)
    return root


@pytest.fixture(scope="session")
def map_folder(tmp_path_factory) -> Path:
    """A small map with images of some of its tiles, and its recipe, ``map.yaml``: entities, an image, or both a tile.

    Three groups. Of the first one tile has three buildings, of which one reaches into the next tile, and an image; the next
    tile has no image. The second group has a road and an image, the third an image alone. Pixels of an image are 10, 20 and 30
    in its bands, the upper left ones 0.
    """
    folder = tmp_path_factory.mktemp("map")
    x, y = 4 * 8500, 4 * 5500
    (folder / "map.geojson").write_text(json.dumps(_drawn_map(x, y)), encoding="utf-8")
    for column in (x, x + 4, x + 8):
        _write_picture(folder / f"{column}.tif", column, y)
    (folder / "map.yaml").write_text(
        "kind: map\nname: hamlet\ntitle: Hamlet\nlicense: ODbL-1.0\n"
        "map: {path: map.geojson, day: 2021-03-04}\n"
        'images: {files: "*.tif", day: 2022-05-06, size_px: 16, attribution: A plane, license: CC-BY-4.0}\n',
        encoding="utf-8",
    )
    return folder


def _drawn_map(x: int, y: int) -> dict[str, Any]:
    from pwcat.osm.tiles import from_world

    def place(across: float, down: float) -> list[float]:
        lon, lat = from_world(x + across, y + down, 16)
        return [float(lon), float(lat)]

    def square(across: float, down: float, side: float) -> dict[str, Any]:
        steps = ((0, 0), (0, 1), (1, 1), (1, 0), (0, 0))
        ring = [place(across + side * a, down + side * b) for a, b in steps]
        return {"type": "Polygon", "coordinates": [ring]}

    house = {"building": "yes", "roof:shape": "flat"}
    road = {"type": "LineString", "coordinates": [place(4.2, 0.5), place(4.8, 0.5)]}
    things = [
        (square(0.1, 0.1, 0.1), house),
        (square(0.5, 0.5, 0.2), {"building": "café", "amenity": "cafe"}),
        (square(0.9, 0.3, 0.2), house),
        (road, {"highway": "residential", "maxspeed": "50", "bridge": "yes"}),
    ]
    features = [{"type": "Feature", "geometry": shape, "properties": tags} for shape, tags in things]
    return {"type": "FeatureCollection", "features": features}


def _write_picture(path: Path, x: int, y: int) -> None:
    import rasterio
    from rasterio.transform import from_bounds

    from pwcat.osm.tiles import Tile

    pixels = np.stack([np.full((16, 16), value, np.uint8) for value in (10, 20, 30)])
    pixels[:, 0, 0] = 0
    shape = {"count": 3, "height": 16, "width": 16, "dtype": "uint8", "crs": "EPSG:3857"}
    transform = from_bounds(*Tile(16, x, y).mercator_bounds(), 16, 16)
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **shape) as raster:
        raster.write(pixels)


@pytest.fixture(scope="session")
def map_catalog(map_folder, tmp_path_factory) -> Path:
    """A catalog with the collection ``hamlet`` of that map alone; not to be changed."""
    from catalog.store import build_map

    catalog = tmp_path_factory.mktemp("map-catalog")
    build_map(map_folder / "map.yaml", catalog=catalog)
    return catalog
