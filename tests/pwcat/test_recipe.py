from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pwcat.errors import RecipeError
from pwcat.recipe import Recipe, load_recipe

GOOD = {
    "name": "small",
    "title": "Small",
    "license": "CC0-1.0",
    "num_samples": 8,
    "sampler": {"strategy": "one_hot", "layer": "continent", "value": "Europe"},
    "source": {"provider": "stac", "url": "http://127.0.0.1:1", "collection": "s2"},
    "when": {"start": "2021-01-01", "end": "2021-12-31"},
    "chip": {"size_px": 32, "bands": ["B02", "B03"]},
    "regions": {"continent": {"path": "continents.fgb", "field": "continent"}},
}


def changed(**paths):
    """GOOD with some values set by their dotted path (dots as two underscores); None deletes."""
    document = deepcopy(GOOD)
    for path, value in paths.items():
        *above, last = path.split("__")
        inner = document
        for key in above:
            inner = inner.setdefault(key, {})
        if value is None:
            inner.pop(last, None)
        else:
            inner[last] = value
    return document


def load(folder, document):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(document))
    return load_recipe(path)


def faults_of(folder, document):
    """The faults, one a line, without the line that counts them."""
    with pytest.raises(RecipeError, match=r"recipe\.yaml: \d+ faults?, nothing was done") as caught:
        load(folder, document)
    first, *faults = str(caught.value).split("\n  ")
    count = int(first.rsplit(":", 1)[1].split()[0])
    assert count == len(faults)
    return faults


def test_every_fault_is_listed_with_its_path_in_one_error(tmp_path):
    faults = faults_of(
        tmp_path,
        changed(
            colour="blue",
            when__season="spring",
            regions__continent__fields="continent",
            source__fallback=[{"provider": "stac", "url": "http://127.0.0.1:1", "collection": "s2", "token": "x"}],
            num_samples=0,
            chip__size_px="large",
            chip__resolution_m=-10,
            when__max_cloud_cover=120,
            license=None,
            name="My Data",
            split__val_fraction=1.0,
        ),
    )
    assert sorted(fault.partition(":")[0] for fault in faults) == [
        "chip.resolution_m",
        "chip.size_px",
        "colour",
        "license",
        "name",
        "num_samples",
        "regions.continent.fields",
        "source.fallback.0.token",
        "split.val_fraction",
        "when.max_cloud_cover",
        "when.season",
    ]
    assert "colour: unknown key (got 'blue')" in faults
    assert "license: Field required" in faults
    assert any("less than or equal to 100 (got 120)" in fault for fault in faults)


CROSS_FIELD = {
    "end before start": (changed(when__end="2020-01-01"), r"`end` \(2020-01-01\) lies before `start` \(2021-01-01\)"),
    "dates and months": (
        changed(when__dates_per_site=2, when__months=[1, 2]),
        r"`dates_per_site` or `months`, not both",
    ),
    "months twice": (changed(when__months=[3, 3]), r"`months` repeats itself: \[3, 3\]"),
    "unknown provider": (
        changed(source__provider="planet"),
        "unknown provider 'planet': choose one of archive, stac, earth-search",
    ),
    "no url": (changed(source__url=None), "provider 'stac' needs a `url`"),
    "path elsewhere": (changed(source__path="here"), "`path` is for the provider `archive`"),
    "archive without a place": (
        changed(source__provider="archive", source__url=None),
        r"an archive needs either `path` \(a folder\) or `url`",
    ),
    "bands twice": (changed(chip__bands=["B02", "B02"]), "`bands` repeats B02"),
    "a layer of two kinds": (
        changed(regions__biome={"path": "a.fgb", "field": "b", "collection": "c"}),
        "a layer is either a `path` or a `collection`",
    ),
    "a file of two kinds": (
        changed(regions__biome={"path": "a.fgb", "field": "b", "classes": "igbp"}),
        r"a file needs `field` \(vector\) or `classes` \(raster\), and not both",
    ),
    "one_hot without its layer": (
        changed(sampler__layer="biome", sampler__value="Tundra"),
        r"one_hot needs the layer `regions\.biome`",
    ),
    "land without continents": (
        changed(sampler={"strategy": "uniform"}, regions=None),
        r"the domain `land` needs the layer `regions\.continent`",
    ),
}


@pytest.mark.parametrize("name", CROSS_FIELD)
def test_what_contradicts_itself_is_refused(tmp_path, name):
    document, message = CROSS_FIELD[name]
    with pytest.raises(RecipeError, match=message):
        load(tmp_path, document)


def test_contradictions_are_listed_beside_plain_faults(tmp_path):
    document = changed(
        when={"start": "2021-05-01", "end": "2021-01-01", "dates_per_site": 2, "months": [1, 1], "seasons": 4},
        chip={"size_px": 0, "bands": ["B02", "B02"]},
        source={"provider": "planet", "collection": ""},
        sampler={"strategy": "one_hot", "layer": "biome", "value": "Tundra"},
        regions={"continent": {"path": "a", "collection": "b", "colour": 1}},
        extra=1,
    )
    told = "\n".join(faults_of(tmp_path, document))
    for message in (
        "lies before `start`",
        "`dates_per_site` or `months`, not both",
        "`months` repeats itself",
        "when.seasons: unknown key",
        "chip.size_px",
        "`bands` repeats B02",
        "unknown provider 'planet'",
        "source.collection",
        "one_hot needs the layer `regions.biome`",
        "a layer is either a `path` or a `collection`",
        "regions.continent.colour: unknown key",
        "extra: unknown key",
    ):
        assert message in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- list\n", "a recipe is a mapping of keys, got list"),
        ("", "a recipe is a mapping of keys, got NoneType"),
        ("a: [1, 2", "not a readable YAML document"),
        ("!!python/object/apply:os.system ['true']", "not a readable YAML document"),
    ],
)
def test_what_is_no_recipe_at_all_is_named(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)
    with pytest.raises(RecipeError, match=r"nowhere\.yaml: no such recipe"):
        load_recipe(tmp_path / "nowhere.yaml")


@given(order=st.permutations(list(GOOD)), inner=st.booleans())
def test_the_hash_does_not_hang_on_the_order_of_keys(order, inner):
    document = {key: GOOD[key] for key in order}
    if inner:
        document["chip"] = dict(reversed(GOOD["chip"].items()))
    assert Recipe.model_validate(document).hash == Recipe.model_validate(GOOD).hash


@given(
    num_samples=st.integers(1, 10**6),
    seed=st.integers(0, 2**40),
    cloud=st.floats(0, 100),
    resolution=st.floats(0.1, 1000),
    title=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1),
    months=st.none() | st.lists(st.integers(1, 12), min_size=1, unique=True),
)
def test_a_recipe_survives_its_own_yaml(num_samples, seed, cloud, resolution, title, months):
    document = changed(num_samples=num_samples, seed=seed, title=title, when__max_cloud_cover=cloud)
    document["chip"] |= {"resolution_m": resolution}
    document["when"] |= {"months": months}
    recipe = Recipe.model_validate(document)
    again = Recipe.model_validate(yaml.safe_load(recipe.to_yaml()))
    assert again == recipe
    assert again.hash == recipe.hash


def test_defaults_are_part_of_the_hash_and_every_value_changes_it():
    recipe = Recipe.model_validate(GOOD)
    assert (
        Recipe.model_validate(changed(seed=0, when__max_cloud_cover=20, chip__resampling="nearest")).hash == recipe.hash
    )
    assert Recipe.model_validate(changed(seed=1)).hash != recipe.hash
    assert Recipe.model_validate(changed(chip__bands=["B03", "B02"])).hash != recipe.hash
    # Golden: a recipe's hash is in every artefact made from it, so that it must not change by accident.
    assert recipe.hash == "cbd715351f2c55c7ecd4356f7c14265af5c7363825fda1fec1fb71cb295970d2"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command_line_lists_the_faults_on_stderr_and_does_nothing(tmp_path, options):
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(changed(num_samples=0, colour="blue")))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("pwcat")), "plan", "bad.yaml", "--catalog", "data", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("pwcat: bad.yaml: 2 faults, nothing was done\n")
    assert "colour: unknown key" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_a_recipe_is_json_for_programs():
    assert json.loads(Recipe.model_validate(GOOD).model_dump_json())["chip"]["bands"] == ["B02", "B03"]


@pytest.mark.parametrize(
    ("layers", "fault"),
    [
        ({"biome": {"collection": "biomes"}}, "regions.biome: this layer is a vector file"),
        ({"continent": {"path": "c.tif", "classes": "igbp"}}, "regions.continent: this layer is a vector file"),
        ({"landcover": {"path": "l.fgb", "field": "class"}}, "regions.landcover: land cover is a class raster"),
    ],
)
def test_a_layer_of_the_wrong_kind_is_a_fault(tmp_path, layers, fault):
    (found,) = faults_of(tmp_path, changed(regions={**GOOD["regions"], **layers}))
    assert found.startswith(fault)


def test_a_fallback_is_refused_rather_than_ignored(tmp_path):
    other = {"provider": "stac", "url": "http://127.0.0.1:2", "collection": "s2"}
    (found,) = faults_of(tmp_path, changed(source__fallback=[other]))
    assert found.startswith("source.fallback: no other source is tried yet")
