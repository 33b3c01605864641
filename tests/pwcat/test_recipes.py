from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from pwcat.errors import RecipeError
from pwcat.landcover import LEGENDS
from pwcat.osm.asked import codes_asked
from pwcat.osm.document import load_any_recipe
from pwcat.recipe import Recipe, load_recipe
from pwcat.recipes import copy_recipe, list_recipes, load_builtin, recipe_text
from pwcat.recipes.commands import recipes
from pwcat.regions.continents import CONTINENTS
from pwcat.regions.datasets import find_dataset
from pwcat.samplers import apportion

PRETRAIN_WHERE = [name for name in list_recipes() if name.startswith("pretrain-where-")]
OF_SITES = [name for name in list_recipes() if isinstance(load_builtin(name), Recipe)]
SPATIAL_DISTRIBUTION = [name for name in list_recipes() if name.startswith("spatial-distribution-")]


def run(*arguments: object):
    return CliRunner().invoke(recipes, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_recipes_of_the_papers_are_there():
    continents = {"africa", "asia", "europe", "north-america", "oceania", "south-america"}
    assert {name.removeprefix("pretrain-where-") for name in PRETRAIN_WHERE} == continents | {"global"}
    compositions = {"uniform", "stratified-continent", "stratified-biome", "natural-forest", "world-cities"}
    assert {name.removeprefix("spatial-distribution-") for name in SPATIAL_DISTRIBUTION} == compositions


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_loads_is_named_as_its_file_and_keeps_its_hash(name, tmp_path):
    recipe = load_builtin(name)
    assert recipe.name == name
    (tmp_path / "again.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_any_recipe(tmp_path / "again.yaml").hash == recipe.hash


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_says_what_it_is_what_is_assumed_and_what_it_needs(name):
    comment = [line for line in recipe_text(name).splitlines() if line.startswith("#")]
    for start in ("# Expected: ", "# Cost: ", "# Needs: "):
        assert any(line.startswith(start) for line in comment), start
    assert any(line.startswith("# Ours") for line in comment)


@pytest.mark.parametrize("name", OF_SITES)
def test_the_pixels_that_a_recipe_says_it_has_are_those_it_has(name):
    recipe = load_builtin(name)
    dates = recipe.when.dates_per_site or 1
    size = recipe.num_samples * dates * recipe.chip.size_px**2 * len(recipe.chip.bands) * 2
    told = next(line for line in recipe_text(name).splitlines() if line.startswith("# Cost: "))
    number, unit = told.removeprefix("# Cost: ").split()[:2]
    assert size == pytest.approx(float(number) * {"GB": 1e9, "TB": 1e12}[unit], rel=0.04)


def test_the_tiles_of_geojepas_regions_are_as_many_as_its_recipe_says(tmp_path):
    recipe = load_builtin("geojepa-regions")
    codes = codes_asked(recipe.tiles, base_dir=tmp_path)
    groups = np.unique(codes >> 2 * (recipe.tiles.zoom - recipe.tiles.group_zoom))
    text = recipe_text("geojepa-regions")
    assert f"{len(codes):,} tiles in {len(groups):,} groups" in text
    assert f"Cost: {len(codes) * recipe.size_px**2 * len(recipe.bands) * 2 / 1e9:.0f} GB" in text
    assert (recipe.split.val, recipe.split.test) == (0.1, 0.1)


def test_hashes_differ():
    hashes = {load_builtin(name).hash for name in list_recipes()}
    assert len(hashes) == len(list_recipes())


@pytest.mark.parametrize("name", PRETRAIN_WHERE)
def test_pretrain_where_is_as_the_paper_says(name):
    recipe = load_builtin(name)
    assert (recipe.num_samples, recipe.chip.size_px, recipe.chip.resolution_m) == (700_000, 96, 10)
    assert recipe.chip.bands == ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
    sampler = recipe.sampler.model_dump()
    if sampler["strategy"] == "one_hot":
        assert sampler["layer"] == "continent"
        assert sampler["value"] in CONTINENTS
        assert sampler["value"].lower().replace(" ", "-") == name.removeprefix("pretrain-where-")


def test_global_has_equal_shares_of_six_continents():
    sampler = load_builtin("pretrain-where-global").sampler.model_dump()
    assert (sampler["by"], sampler["quotas"], sampler["exclude"]) == (["continent"], "equal", ["Antarctica"])
    counts = apportion(700_000, [1.0] * 6)
    assert sorted(counts) == [116_666] * 2 + [116_667] * 4
    shares = np.array(counts) / 700_000
    assert -(shares * np.log(shares)).sum() == pytest.approx(np.log(6), abs=1e-9)
    assert f"{np.log(6):.4f}" in recipe_text("pretrain-where-global")


def test_natural_forest_is_made_of_classes_that_there_are():
    sampler = load_builtin("spatial-distribution-natural-forest").sampler.model_dump()
    forests = {name for name in LEGENDS["igbp"].values() if name.endswith("_forest")}
    assert set(sampler["mask"]["values"]) == forests
    assert len(forests) == 5


def test_world_cities_are_a_dataset_of_points():
    sampler = load_builtin("spatial-distribution-world-cities").sampler.model_dump()
    assert find_dataset(sampler["around"]["dataset"]).kind == "points"


def test_a_copy_is_the_recipe_as_it_is_written(tmp_path):
    inside = copy_recipe("pretrain-where-asia", tmp_path)
    assert inside == tmp_path / "pretrain-where-asia.yaml"
    assert inside.read_text(encoding="utf-8") == recipe_text("pretrain-where-asia")
    named = copy_recipe("pretrain-where-asia", tmp_path / "new" / "mine.yaml")
    assert load_recipe(named).hash == load_builtin("pretrain-where-asia").hash
    folder = copy_recipe("pretrain-where-asia", tmp_path / "folder")
    assert folder == tmp_path / "folder" / "pretrain-where-asia.yaml"


def test_a_copy_replaces_nothing(tmp_path):
    (tmp_path / "mine.yaml").write_text("kept")
    with pytest.raises(
        RecipeError, match=r"mine\.yaml is there already, and is not replaced: remove it, or give another"
    ):
        copy_recipe("pretrain-where-asia", tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == "kept"


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("Europe", "'pretrain-where-europe'"),
        ("pretrain_where_glob", "'pretrain-where-global'"),
        ("cities", "world-cities'"),
    ],
)
def test_an_unknown_name_lists_what_is_near(name, close):
    with pytest.raises(
        RecipeError,
        match=rf"no built-in recipe '{name}': did you mean .*{close}.*There are geojepa-regions, global-spectral, ",
    ):
        recipe_text(name)


def test_a_name_like_none_lists_all():
    with pytest.raises(
        RecipeError, match=r"no built-in recipe '': There are geojepa-regions, global-spectral, .*, ssl4eco-grid$"
    ):
        recipe_text("")


def test_the_list_fits_eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("list").output.splitlines()
    assert max(map(len, lines)) <= 80
    told = {line.split()[0]: line.split()[1:] for line in lines if line.split()}
    assert told["pretrain-where-global"] == ["stratified", "700,000", "96", "px"]
    assert set(list_recipes()) <= set(told)


def test_the_list_is_json_for_programs():
    listed = json.loads(run("list", "--json").output)
    assert [recipe["name"] for recipe in listed] == list_recipes()
    assert listed[0]["recipe_hash"] == load_builtin(listed[0]["name"]).hash


def test_show_prints_the_file():
    assert run("show", "pretrain-where-oceania").output == recipe_text("pretrain-where-oceania")


def test_copy_says_where_and_what_next(tmp_path):
    path = tmp_path / "pretrain-where-africa.yaml"
    assert run("copy", "pretrain-where-africa", tmp_path).output == f"Copied to {path}. Next: pwcat plan {path}\n"
    assert path.is_file()
