from __future__ import annotations

import pytest

from pwcat.errors import RecipeError
from pwcat.osm.document import is_map_recipe, load_any_recipe, load_map_recipe
from pwcat.recipe import Recipe

GOOD = """
kind: map
name: towns
title: Towns
license: ODbL-1.0
map: {path: towns.osm.pbf}
images: {files: "*.tif", day: 2022-05-01, attribution: Somebody, license: CC-BY-4.0}
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
        return tmp_path / "recipe.yaml"

    return write


def test_a_map_recipe_is_told_by_its_kind_and_keeps_its_hash(written):
    path = written(GOOD)
    assert is_map_recipe(path)
    recipe = load_any_recipe(path)
    assert (recipe.tiles.zoom, recipe.tiles.group_zoom, recipe.size_px) == (16, 14, 224)
    assert recipe.bands == ["red", "green", "blue"]
    assert load_map_recipe(written(recipe.to_yaml())).hash == recipe.hash


def test_other_recipes_are_read_as_they_were(written):
    path = written("name: africa\n")
    assert not is_map_recipe(path)
    with pytest.raises(RecipeError, match="num_samples: Field required"):
        load_any_recipe(path)
    assert not is_map_recipe(path.with_name("missing.yaml"))


def test_whom_to_name_is_said_with_the_licences(written):
    recipe = load_map_recipe(written(GOOD))
    assert recipe.attributions == {"© OpenStreetMap contributors": "ODbL-1.0", "Somebody": "CC-BY-4.0"}
    assert recipe.attribution == "© OpenStreetMap contributors (ODbL-1.0); Somebody (CC-BY-4.0)"


def test_all_faults_are_told_at_once(written):
    path = written(
        GOOD.replace("day: 2022-05-01", "start: 2020-01-01, bands: [red, red]").replace(
            "towns.osm.pbf", "towns.osm.pbf, colour: red"
        )
        + "tiles: {zoom: 16, group_zoom: 3}\nsplit: {val: 0.6, test: 0.4}\nseeds: 1\n"
    )
    with pytest.raises(RecipeError, match="6 faults, nothing was done") as caught:
        load_map_recipe(path)
    told = str(caught.value)
    for words in (
        "map.colour: unknown key",
        "`bands` repeats red",
        "`start` and `end` are for a `source`",
        "groups are of 10 to 16",
        "leave nothing to train with",
        "seeds: unknown key",
    ):
        assert words in told


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"map": None, "images": None}, "give a `map`, `images` or both"),
        ({"images": "{files: a, tiles: b}"}, "not `files` and `tiles`"),
        ({"images": "{bands: [red]}"}, "and none is given"),
        ({"map": None, "tiles": "{need: both}"}, "tiles need a map"),
        ({"images": None, "tiles": "{need: images}"}, "tiles need an image"),
        (
            {"map": None, "images": "{source: {provider: planetary-computer, collection: naip}}"},
            "without a map, say where",
        ),
        ({"tiles": "{boxes: [[2, 1, 1, 3]]}"}, "west, south, east, north"),
        ({"tiles": "{boxes: {}}"}, "one box at least"),
        ({"tiles": "{only: [16/1/2], within: a.fgb}"}, "in one way: `within` or `only`"),
        ({"tiles": "{only: [15/1/2]}"}, "15/1/2 is no tile of zoom 16"),
        ({"regions": "{soil: {path: soil.tif, classes: {1: sand}}}"}, "items have no column for soil"),
    ],
)
def test_what_makes_no_sense_is_refused(written, change, words):
    keys = {"map": "{path: towns.osm.pbf}", "images": "{files: a.tif}", **change}
    lines = [f"{key}: {value}" for key, value in keys.items() if value is not None]
    text = "kind: map\nname: towns\ntitle: Towns\nlicense: ODbL-1.0\n" + "\n".join(lines) + "\n"
    with pytest.raises(RecipeError, match=words):
        load_map_recipe(written(text))


def test_boxes_with_names_are_regions_in_their_order(written):
    one = load_map_recipe(written(GOOD + "tiles: {boxes: {a: [0, 0, 1, 1], b: [0, 0, 2, 2]}}\n"))
    other = load_map_recipe(written(GOOD + "tiles: {boxes: {b: [0, 0, 2, 2], a: [0, 0, 1, 1]}}\n"))
    assert list(one.tiles.regions) == ["a", "b"]
    assert one.hash != other.hash  # a place in both is of the first
    plain = load_map_recipe(written(GOOD + "tiles: {boxes: [[0, 0, 1, 1]]}\n"))
    assert (plain.tiles.regions, plain.tiles.areas) == ({}, [[0, 0, 1, 1]])
    assert not isinstance(plain, Recipe)
