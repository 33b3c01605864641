"""Synthetic towns: one extract and images of the same ground, the same bytes each time, faults of real maps included."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import osmium
import pystac
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.transform import rowcol
from rasterio.warp import transform
from rio_cogeo.cogeo import cog_validate

from pwcat.archive.commands import archive
from pwcat.archive.folder import read_items
from pwcat.archive.towns import TownOptions, synthesise_towns
from pwcat.errors import ArchiveError
from pwcat.osm.document import load_map_recipe
from pwcat.osm.tiles import tile_of

SMALL = TownOptions(towns=7, across=1)
AERIAL = "aerial-synthetic"


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towns")
    synthesise_towns(folder, options=SMALL)
    return folder


@pytest.fixture(scope="module")
def tags(towns: Path) -> Counter[tuple[str, str]]:
    return Counter((tag.k, tag.v) for each in osmium.FileProcessor(str(towns / "towns.osm.pbf")) for tag in each.tags)


def test_an_interrupted_run_is_completed_to_the_same_bytes_and_made_once(towns: Path, tmp_path: Path):
    def interrupt(done: int, total: int) -> None:
        assert total == 7
        if done == 3:
            raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        synthesise_towns(tmp_path, options=SMALL, progress=interrupt)
    assert not (tmp_path / "towns.osm.pbf").exists()
    synthesise_towns(tmp_path, options=SMALL)
    assert digest(tmp_path) == digest(towns)
    when = (tmp_path / "towns.osm.pbf").stat().st_mtime_ns
    counts = synthesise_towns(tmp_path, options=SMALL)
    assert (tmp_path / "towns.osm.pbf").stat().st_mtime_ns == when
    assert counts["images"] == 8  # town 3 has an older one too


def test_more_towns_are_the_same_towns_first(towns: Path, tmp_path: Path):
    synthesise_towns(tmp_path, options=TownOptions(towns=8, across=1, images=False))
    assert {path.name for path in tmp_path.iterdir()} == {"towns.osm.pbf", "towns.json", "towns.yaml", "regions"}

    def nodes(folder: Path) -> list[tuple[float, float]]:
        found = osmium.FileProcessor(str(folder / "towns.osm.pbf"), osmium.osm.NODE)
        return [(node.location.lon, node.location.lat) for node in found]

    few, more = nodes(towns), nodes(tmp_path)
    assert len(few) < len(more)
    assert more[: len(few)] == few


def test_other_options_in_the_same_folder_are_refused(towns: Path):
    with pytest.raises(ArchiveError, match=r"made with other options: seed 0 \(asked: 5\), towns 7 \(asked: 8\)"):
        synthesise_towns(towns, options=TownOptions(seed=5, towns=8, across=1))
    with pytest.raises(ArchiveError, match="towns is 0, allowed is 1 to 100000; across is 5, allowed is 1 to 4"):
        TownOptions(towns=0, across=5)


def test_a_town_keeps_to_its_tiles(towns: Path):
    tiles = {
        tuple(map(int, tile_of(node.location.lon, node.location.lat, 16)))
        for node in osmium.FileProcessor(str(towns / "towns.osm.pbf"), osmium.osm.NODE)
    }
    assert len(tiles) == 7


def test_the_extract_is_sorted_and_every_way_has_its_nodes(towns: Path):
    seen: list[tuple[int, int]] = []
    nodes: set[int] = set()
    for each in osmium.FileProcessor(str(towns / "towns.osm.pbf")):
        seen.append(("nwr".index(each.type_str()), each.id))
        if each.is_node():
            nodes.add(each.id)
        elif each.is_way():
            assert nodes.issuperset(node.ref for node in each.nodes)
    assert seen == sorted(set(seen))
    assert {kind for kind, _ in seen} == {0, 1, 2}


def test_a_town_has_what_the_five_tasks_ask_for_and_what_tells_of_it(tags: Counter[tuple[str, str]]):
    keys = Counter(key for (key, _), count in tags.items() for _ in range(count))
    assert keys["building"] > 400
    assert 0 < keys["addr:housenumber"] < 0.7 * keys["building"]  # tells of a part of them
    assert tags["highway", "traffic_signals"] > 1
    assert tags["bridge", "yes"] > 5
    assert {"25 mph", "50"} <= {value for key, value in tags if key == "maxspeed"}
    assert {"residential", "primary", "footway"} <= {value for key, value in tags if key == "highway"}
    assert any(not value.isascii() for key, value in tags if key == "name")


def test_the_faults_of_real_maps_are_among_it(towns: Path):
    ways, broken = {}, 0
    for each in osmium.FileProcessor(str(towns / "towns.osm.pbf")).with_locations():
        if each.is_way():
            ways[each.id] = dict(each.tags)
        elif each.is_relation():
            broken += any(member.ref not in ways for member in each.members if member.type == "w")
    assert broken == 7  # one a town
    assert {"landuse": "grass", "note": "Grünfläche 🌳 يتقاطع"} in ways.values()
    assert {} in ways.values()


def test_images_are_of_the_ground_that_the_map_is_of(towns: Path):
    items = [item for item in read_items(towns, AERIAL) if item["properties"]["pwcat:town"] == 2]
    pixels = {}
    for band, asset in items[0]["assets"].items():
        path = towns / AERIAL / items[0]["id"] / asset["href"]
        assert cog_validate(path)[0]
        with rasterio.open(path) as raster:
            pixels[band], crs, to_pixel = raster.read(1), raster.crs, raster.transform
        assert pixels[band].min() > 0
    assert list(pixels) == ["red", "green", "blue", "nir"]
    shape = pixels["red"].shape
    roofs = []
    for way in (
        osmium.FileProcessor(str(towns / "towns.osm.pbf"))
        .with_locations()
        .with_filter(osmium.filter.KeyFilter("building"))
    ):
        if way.is_way():
            lon, lat = np.mean([(node.lon, node.lat) for node in list(way.nodes)[:-1]], axis=0)
            (x,), (y,) = transform("EPSG:4326", crs, [lon], [lat])
            row, column = rowcol(to_pixel, x, y)
            if 20 <= row < shape[0] - 20 and 20 <= column < shape[1] - 20:
                roofs.append((int(row), int(column)))
    assert len(roofs) > 30
    rows, columns = np.array(roofs).T
    red, nir = pixels["red"].astype(float), pixels["nir"].astype(float)
    greenness = (nir - red) / (nir + red)
    here = greenness[rows, columns].mean()
    for shift in ((9, 9), (-9, 9), (9, -9), (-9, -9)):  # 18 m off, there are gardens as well
        assert here < greenness[rows + shift[0], columns + shift[1]].mean() - 0.03


def test_some_ground_has_no_image_and_some_an_older_one(towns: Path):
    items = read_items(towns, AERIAL)
    of_town = Counter(item["properties"]["pwcat:town"] for item in items)
    assert of_town == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1, 5: 1, 6: 1}
    height, width = next(i for i in items if i["properties"]["pwcat:town"] == 6)["assets"]["red"]["proj:shape"]
    assert width < 0.8 * height
    assert len(list(pystac.Catalog.from_file(str(towns / "catalog.json")).get_items(recursive=True))) == 8
    years = {item["properties"]["datetime"][:4] for item in items if item["properties"]["pwcat:town"] == 3}
    assert years == {"2019", "2022"}


def test_the_command_makes_a_recipe_that_loads(tmp_path: Path):
    result = CliRunner().invoke(archive, ["towns", str(tmp_path), "--towns", "2", "--across", "1", "--no-images"])
    assert result.exit_code == 0, result.output
    assert f"Next: pwcat build {tmp_path / 'towns.yaml'}" in result.output
    recipe = load_map_recipe(tmp_path / "towns.yaml")
    assert recipe.images is None
    assert (recipe.license, recipe.attribution) == ("CC0-1.0", "pwcat, synthetic towns (CC0-1.0)")


def test_the_recipe_beside_images_names_them(towns: Path):
    recipe = load_map_recipe(towns / "towns.yaml")
    assert recipe.images is not None
    assert recipe.images.source is not None
    assert recipe.images.source.collection == AERIAL
