"""Collections of map tiles in a catalog: items, queries, statistics, and the commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import shapely
from click.testing import CliRunner
from rasterio.features import rasterize

from catalog.explorer.pictures import COMPOSITES, composites_of, render
from catalog.measures.tally import Tally
from catalog.query import open_catalog
from catalog.serving.schemas import queryables
from catalog.stac.merging import merge_catalogs
from catalog.stac.validation import validate_catalog
from catalog.store import build_map, describe
from pwcat.cli import cli
from pwcat.cube import open_cube
from pwcat.doctor import examine
from pwcat.errors import CatalogError
from pwcat.osm.entities import read_entities
from pwcat.osm.targets import TARGET_COLUMNS

X, Y = 4 * 8500, 4 * 5500
IDS = [f"16-{X + n}-{Y}" for n in (0, 1, 4, 8)]


@pytest.fixture(scope="module")
def hamlet(map_catalog):
    return open_catalog(map_catalog)


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def test_items_are_tiles_with_what_the_map_says_of_them(hamlet):
    found = hamlet.search()
    rows = dict(zip(found.column("id"), range(len(found)), strict=True))
    assert sorted(rows) == sorted(IDS)
    assert found.column("map:tile")[rows[IDS[0]]] == f"16/{X}/{Y}"
    assert found.column("map:building_count")[[rows[name] for name in IDS]].tolist() == [3, 1, 0, 0]
    assert found.column("div:valid_fraction")[[rows[name] for name in IDS]].tolist() == [1, 0, 1, 1]
    entropies = found.column("div:spectral_entropy")[[rows[name] for name in IDS]]
    assert np.isnan(entropies[1])
    assert (entropies[[0, 2, 3]] > 0).all()
    assert set(found.column("proj:code")) == {"EPSG:3857"}
    assert set(found.column("pwcat:split")) == {"train", "val", "test"}
    assert set(TARGET_COLUMNS) <= set(hamlet.collection("hamlet").items.columns)


def test_pixels_are_read_by_the_rows_of_items(hamlet):
    found = hamlet.search(ids=IDS[2])
    assert found.read(np.array([0]))[0, 0, :, 5, 5].tolist() == [11, 21, 31]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("map:building_count > 0", IDS[:2]),
        ("map:building_count > 2 AND div:valid_fraction > 0", IDS[:1]),
        ("map:group = '14/8501/5500'", IDS[2:3]),
        ("map:max_speed IS NULL AND map:entities = 0", IDS[3:]),
        ("map:region IS NULL", IDS),
    ],
)  # fmt: skip
def test_filters_know_the_columns_of_maps(hamlet, text, wanted):
    assert sorted(hamlet.search(filter=text).column("id")) == sorted(wanted)


def test_splits_are_three(hamlet):
    sizes = {split: len(hamlet.search(split=split)) for split in ("train", "val", "test")}
    assert sum(sizes.values()) == 4
    assert all(sizes.values())


def test_statistics_tell_what_tiles_hold(hamlet, map_catalog):
    told = json.loads((map_catalog / "hamlet" / "stats.json").read_text())["statistics"]
    # the house on the edge counts on both tiles
    assert told["entity"]["counts"] == {"amenity": 1, "building": 3, "highway": 1}
    shares = np.array([1, 3, 1]) / 5
    assert told["entity"]["shannon"] == pytest.approx(-(shares * np.log(shares)).sum())
    assert (told["entity"]["num_labelled"], told["entity"]["num_samples"]) == (5, 4)
    assert told["tag"]["counts"]["building=yes"] == 3
    assert told["tag"]["counts"]["building=*"] == 1  # café
    assert told["tag"]["layer"] == "map.geojson"
    assert hamlet.search().stats()["entity"] == told["entity"]


def test_statistics_of_a_part_are_counted_anew(hamlet):
    part = hamlet.search(ids=[IDS[0], IDS[3]])
    assert part.stats()["entity"]["counts"] == {"amenity": 1, "building": 2}
    assert "entity" not in hamlet.search(ids=IDS[3]).stats()


def test_tallies_of_maps_add_up(map_catalog):
    whole = Tally.from_json(json.loads((map_catalog / "hamlet" / "tally.json").read_text())["tally"])
    both = whole + whole
    assert both.things["entity"] == {"amenity": 2, "building": 6, "highway": 2}
    assert both - whole == whole
    assert Tally.from_json(json.loads(json.dumps(both.to_json()))) == both
    assert "things" not in Tally().to_json()


def test_merged_catalogs_have_the_sum(map_catalog, tmp_path):
    shutil.copytree(map_catalog / "hamlet", tmp_path / "other" / "hamlet")
    merged = merge_catalogs([map_catalog, tmp_path / "other"], to=tmp_path / "merged")
    assert merged.statistics["entity"]["num_labelled"] == 5


def test_the_collection_is_valid_stac_and_names_its_sources(map_catalog):
    report = validate_catalog(map_catalog)
    assert not report.faults
    document = json.loads((map_catalog / "hamlet" / "collection.json").read_text())
    named = {provider["name"]: provider.get("description") for provider in document["providers"]}
    assert named["© OpenStreetMap contributors"] == "licence: ODbL-1.0"
    assert named["A plane"] == "licence: CC-BY-4.0"
    assert {"entities", "tags", "tiles", "cube"} <= document["assets"].keys()
    red = document["assets"]["cube"]["bands"][0]
    assert red["statistics"]["mean"] == pytest.approx((11 * 255 + 1) / 256, abs=0.3)  # as the cube's numbers are


def test_a_description_is_made_again_as_it_was(map_catalog, tmp_path):
    folder = tmp_path / "catalog" / "hamlet"
    shutil.copytree(map_catalog / "hamlet", folder)
    before = {name: (folder / name).read_bytes() for name in ("items.parquet", "stats.json", "collection.json")}
    shutil.rmtree(folder / "described")
    describe(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_commands_plan_build_and_show_a_map(map_folder, tmp_path):
    planned = run("plan", map_folder / "map.yaml", "--catalog", tmp_path)
    assert planned.exit_code == 0
    assert "3 tiles with entities, 3 with an image, 2 with both" in planned.output
    counts = json.loads(run("plan", map_folder / "map.yaml", "--catalog", tmp_path, "--json").output)
    assert (counts["tiles"], counts["entities"], counts["entities_on_tiles"]) == (4, 4, 5)
    built = run("build", map_folder / "map.yaml", "--catalog", tmp_path)
    assert built.exit_code == 0
    assert "4 tiles, 3 with 5 entities, 3 with an image; 4 of 4 shards made now" in built.output
    assert "all there" in run("build", map_folder / "map.yaml", "--catalog", tmp_path).output
    assert "All is well" in run("doctor", tmp_path / "hamlet").output
    shown = run("stats", tmp_path / "hamlet").output
    assert "entities" in shown
    assert "tags" in shown


def test_what_only_sites_have_is_refused_of_maps(map_folder, tmp_path):
    from pwcat.errors import PwcatError

    for arguments, words in (
        (["build", map_folder / "map.yaml", "--catalog", tmp_path, "--replace-failed"], "neither a reserve"),
        (["plan", map_folder / "map.yaml", "--catalog", tmp_path, "--cells"], "are for sites"),
        (["sites", map_folder / "map.yaml"], "has tiles, not sites"),
    ):
        with pytest.raises(PwcatError, match=words):
            run(*arguments)


def test_a_column_that_no_map_has_is_unknown(map_catalog):
    with pytest.raises(CatalogError, match="no column 'map:nothing'"):
        open_catalog(map_catalog).search().column("map:nothing")


BANEPA = """
kind: map
name: banepa
title: Banepa
license: ODbL-1.0
map: {{path: {folder}/train/osm/{map}, day: 2024-01-01, leave: [label]}}
images: {{files: "{folder}/train/oam/*-386692-*.tif", day: 2024-01-01, size_px: 64, license: CC-BY-4.0}}
tiles: {{zoom: 19, group_zoom: 17, need: both}}
"""


@pytest.mark.kit
def test_buildings_of_the_kit_lie_on_their_images(kit, tmp_path):
    folder = kit / "osm_aerial" / "hotosm_oam_banepa"
    (name,) = [path.name for path in (folder / "train" / "osm").glob("*.geojson")]
    (tmp_path / "banepa.yaml").write_text(BANEPA.format(folder=folder.resolve(), map=name), encoding="utf-8")
    built = build_map(tmp_path / "banepa.yaml", catalog=tmp_path)
    assert (built.report.tiles, built.report.pictured, built.report.mapped) == (8, 8, 8)
    found = open_catalog(tmp_path).search()
    named = zip(found.column("map:tile"), found.column("pwcat:scene_ids"), strict=True)
    for tile, scene in named:  # files are named by the very tiles
        _, x, y = tile.split("/")
        assert [Path(path).name for path in scene] == [f"OAM-{x}-{y}-19.tif"]
    told = found.stats()["entity"]
    assert told["counts"]["building"] > 0.9 * told["num_labelled"]
    assert found.column("map:building_count").sum() > 100
    # Roofs are brighter than what lies between them: shifted by half a tile, the outlines find no such difference
    straight, shifted = (_contrast(tmp_path / "banepa", found.index, shift=shift) for shift in (0, 32))
    assert straight > 3 * abs(shifted)


def _contrast(folder, index, *, shift):
    """How much brighter images are inside outlines of buildings than outside, images shifted by some pixels."""
    inside, outside = [], []
    chips = open_cube(folder / "cube.zarr").read(index)[:, 0].mean(axis=1)
    for chip, row in zip(chips, index, strict=True):
        shapes = [
            (shapely.Polygon(np.reshape(xy, (-1, 2))[: rings[0]] * 64), 1)
            for xy, rings in zip(
                *(read_entities(folder, np.array([row]))[name].to_pylist() for name in ("xy", "rings")), strict=True
            )
            if rings[0] > 2
        ]
        mask = rasterize(shapes, out_shape=(64, 64)).astype(bool)
        moved = np.roll(chip, shift, axis=(0, 1))
        inside.append(moved[mask])
        outside.append(moved[~mask])
    return np.concatenate(inside).mean() - np.concatenate(outside).mean()


@pytest.mark.kit
def test_a_real_extract_without_images_is_a_collection(kit, tmp_path):
    recipe = "kind: map\nname: monaco\ntitle: Monaco\nlicense: ODbL-1.0\nmap: {path: %s}\n"
    path = (kit / "osm_aerial" / "osm" / "monaco.osm.pbf").resolve()
    (tmp_path / "monaco.yaml").write_text(recipe % path, encoding="utf-8")
    built = build_map(tmp_path / "monaco.yaml", catalog=tmp_path)
    assert (built.report.pictured, built.report.mapped) == (0, built.report.tiles)
    found = open_catalog(tmp_path).search(filter="map:building_count > 10")
    assert 10 < len(found) < built.report.tiles
    assert str(found.column("datetime")[0]).startswith("2023-12-26")  # as the extract's header says
    assert examine(built.folder).is_well


def test_the_server_says_that_maps_can_be_asked_for(hamlet):
    told = queryables(hamlet.members.values(), address="http://127.0.0.1/queryables")["properties"]
    assert told["map:building_count"] == {"description": "Buildings on the tile", "type": "number"}
    assert told["map:tile"]["type"] == "string"


def test_images_of_8_bits_are_shown_as_they_are(hamlet):
    cube = hamlet.collection("hamlet").cube
    (true,) = (composite for composite in COMPOSITES if composite.name == "true")
    chip = cube.read(np.array([0]))[0, 0]
    shown = render(
        chip, composite=true, bands=composites_of(cube)["true"], scale=cube.attrs["scale"], offset=cube.attrs["offset"]
    )
    assert shown[5, 5].tolist() == [10, 20, 30, 255]
