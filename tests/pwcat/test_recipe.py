from __future__ import annotations

import json
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pwcat.constraints import Constraints, Exclusion
from pwcat.document import Document
from pwcat.errors import RecipeError
from pwcat.layers import Layer, RegionLayers
from pwcat.recipe import Chip, Recipe, Source, Split, When, load_recipe
from pwcat.samplers import STRATEGIES, SamplerDocument
from pwcat.sensors.document import Encode, Sensor

PAGE = (Path(__file__).parents[2] / "docs" / "recipe.md").read_text(encoding="utf-8")

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
        "source.fallback[0].token",
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
    "phenology and months": (
        changed(when__months="all", when__phenology={"path": "a.csv", "columns": ["peak"]}),
        r"when\.phenology: its columns say the dates: leave `months` out",
    ),
    "scenes of no median": (changed(when__most_scenes=3), r"when\.most_scenes: is for `composite: median`"),
    "columns twice": (
        changed(when__phenology={"path": "a.csv", "columns": ["peak", "peak"]}),
        r"when\.phenology\.columns: `columns` repeats itself: peak, peak",
    ),
    "groups of medians": (
        changed(when__composite="median", constraints={"min_sites_per_scene": 4}),
        "constraints.min_sites_per_scene: sites of a group share one scene a date, which `when.composite: median` does not",
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
        r"a layer is either a `dataset` \(or just its name\), a `path` or a `collection`",
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
        "regions.continent: a layer is either a `dataset` (or just its name), a `path` or a `collection`",
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


def test_all_months_are_twelve_and_a_median_is_of_five_scenes_where_nothing_is_said():
    def short(**when):
        return Recipe.model_validate(changed(**{f"when__{key}": value for key, value in when.items()}))

    assert short(months="all") == short(months=[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    assert short(composite="median").hash == short(composite="median", most_scenes=5).hash
    assert short().when.most_scenes is None
    seasons = {"path": "a.csv", "columns": ["start", "peak", "end"]}
    dates = [short(), short(months="all"), short(dates_per_site=4), short(phenology=seasons)]
    assert [recipe.when.num_dates for recipe in dates] == [1, 12, 4, 3]


def test_defaults_are_part_of_the_hash_and_every_value_changes_it():
    recipe = Recipe.model_validate(GOOD)
    assert (
        Recipe.model_validate(changed(seed=0, when__max_cloud_cover=20, chip__resampling="nearest")).hash == recipe.hash
    )
    assert Recipe.model_validate(changed(seed=1)).hash != recipe.hash
    assert Recipe.model_validate(changed(chip__bands=["B03", "B02"])).hash != recipe.hash
    # Golden: a recipe's hash is in every artefact made from it, so that it must not change by accident.
    assert recipe.hash == "44b71965459d5f280b5d2d100b60ea44205010eef41097cb9c00f510f287ea2b"


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


ONE_OF = "one of uniform, one_hot, stratified, mixture, clustered, grid, points"

SAMPLERS = {
    "no such strategy": (
        {"strategy": "stratifed"},
        [
            f"sampler.strategy: unknown strategy 'stratifed': did you mean 'stratified'? Choose {ONE_OF}, spectral",
        ],
    ),
    "no strategy": ({"domain": "land"}, [f"sampler.strategy: Field required: {ONE_OF}, spectral"]),
    "a name for a mapping": ("uniform", ["sampler: Input should be a mapping (got 'uniform')"]),
    "nothing": (None, ["sampler: Input should be a mapping (got nothing)"]),
    "a key of another strategy": (
        {"strategy": "uniform", "layer": "continent"},
        [
            "sampler.layer: unknown key of uniform, which has domain, inside; `layer` belongs to one_hot (got 'continent')",
        ],
    ),
    "a key of many strategies": (
        {"strategy": "points", "path": "a.csv", "domain": "land"},
        ["sampler.domain: unknown key of points, which has path, lon, lat, order (got 'land')"],
    ),
    "no such class is a string or a list": (
        {"strategy": "uniform", "inside": {"continent": 3}},
        ["sampler.inside.continent: Input should be a string, or a list (got 3)"],
    ),
    "no such quotas": (
        {"strategy": "stratified", "by": ["continent"], "quotas": "cubic"},
        [
            "sampler.quotas: Input should be 'equal', 'proportional' or 'square_root', or a mapping, or a list "
            "(got 'cubic')",
        ],
    ),
    "a weight that is none": (
        {"strategy": "stratified", "by": ["continent"], "quotas": {"Africa": "two", "Asia": 1}},
        [
            "sampler.quotas.Africa: Input should be a valid number, unable to parse string as a number (got 'two')",
        ],
    ),
    "a negative weight": (
        {"strategy": "stratified", "by": ["continent"], "quotas": {"Africa": -2}},
        [
            "sampler.quotas: weights are positive numbers; leave a class out to give it nothing",
        ],
    ),
    "quotas of combinations": (
        {
            "strategy": "stratified",
            "by": ["continent", "biome"],
            "quotas": [{"classes": ["Asia", "Tundra"], "wait": 2}],
        },
        ["sampler.quotas[0].weight: Field required", "sampler.quotas[0].wait: unknown key (got 2)"],
    ),
    "a name for a list": (
        {"strategy": "stratified", "by": "continent", "exclude": "Antarctica"},
        [
            "sampler.by: Input should be a list (got 'continent')",
            "sampler.exclude: Input should be a list (got 'Antarctica')",
        ],
    ),
    "parts of a mixture": (
        {
            "strategy": "mixture",
            "parts": [
                {"weight": 1, "sampler": {"strategy": "uniform"}},
                {"weight": 0, "sampler": {"strategy": "stratified", "by": 3, "domain": "sea"}},
                {"weight": 1, "sampler": {"strategy": "spectral", "base": {"strategy": "uniform"}}},
            ],
        },
        [
            "sampler.parts[1].weight: Input should be greater than 0 (got 0)",
            "sampler.parts[1].sampler.by: Input should be a list (got 3)",
            "sampler.parts[1].sampler.domain: Input should be 'land', 'globe' or 'scenes' (got 'sea')",
            f"sampler.parts[2].sampler.strategy: 'spectral' cannot be part of another strategy: choose {ONE_OF}",
        ],
    ),
    "a base without a strategy": (
        {"strategy": "spectral", "base": {"domain": "land"}, "aim": "lowest", "candidates": 1},
        [
            f"sampler.base.strategy: Field required: {ONE_OF}",
            "sampler.candidates: Input should be greater than 1 (got 1)",
            "sampler.aim: Input should be 'highest', or a mapping (got 'lowest')",
        ],
    ),
    "an aim of another shape": (
        {"strategy": "spectral", "base": {"strategy": "uniform"}, "aim": {"edges": [1, 0], "weights": [1], "bins": 3}},
        ["sampler.aim.edges: `edges` must ascend (got [1, 0])", "sampler.aim.bins: unknown key (got 3)"],
    ),
    "places and a mask": (
        {"strategy": "clustered", "around": {}, "mask": {"layer": "continent", "values": "Asia"}, "radius_km": 0},
        [
            "sampler.around: the places are either those of a file (`path`) or of a `dataset`",
            "sampler.radius_km: Input should be greater than 0 (got 0)",
            "sampler.mask.values: Input should be a list (got 'Asia')",
        ],
    ),
    "neither places nor a mask": (
        {"strategy": "clustered"},
        ["sampler: clusters lie either `around` places or in a `mask`"],
    ),
    "one column of coordinates": (
        {"strategy": "points", "path": "a.csv", "lon": "x"},
        ["sampler: give both `lon` and `lat`, or neither"],
    ),
    "no such grid": (
        {"strategy": "grid", "system": "hexagon", "cell_km": 0, "order": "column"},
        [
            "sampler.system: Input should be 'major-tom' or 'equal-area' (got 'hexagon')",
            "sampler.cell_km: Input should be greater than or equal to 0.1 (got 0)",
            "sampler.order: Input should be 'random' or 'row' (got 'column')",
        ],
    ),
    "rules beside weights": (
        {"strategy": "stratified", "by": ["continent"], "quotas": {"Asia": 2}, "exclude": ["Asia"], "min_share": 0.1},
        [
            "sampler.exclude: where `quotas` are weights, leave out the classes that get nothing (got ['Asia'])",
            "sampler.min_share: where `quotas` are weights, leave out the classes that get nothing (got 0.1)",
        ],
    ),
    "nothing to draw in": (
        {"strategy": "uniform", "inside": {"biome": []}},
        [
            "sampler.inside.biome: Input should be a string, or List should have at least 1 item after validation, not 0 "
            "(got [])"
        ],
    ),
    "a choice by spectra that sees nothing": (
        {"strategy": "spectral", "base": {"strategy": "uniform"}, "factor": 16, "bands": ["B02", "B99"]},
        [
            "sampler.factor: a chip of 32 px has 2 a side when it is 16 times coarser; 4 are the least that say anything of "
            "its spectrum",
            "sampler.bands: B99 is not among the bands of the chip",
        ],
    ),
    "a distribution whose weights are not its bins'": (
        {"strategy": "spectral", "base": {"strategy": "uniform"}, "aim": {"edges": [0, 1, 2], "weights": [1]}},
        ["sampler.aim.weights: 3 edges make 2 bins, and each wants a weight (got [1])"],
    ),
    "layers that are not there": (
        {"strategy": "stratified", "by": ["soil", "biome"], "domain": "globe"},
        [
            "sampler: stratified needs the layer `regions.soil`",
            "sampler: stratified needs the layer `regions.biome`, such as `biome: resolve-2017`",
        ],
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_faults_of_a_sampler_stand_where_they_were_written_and_say_what_is_allowed(tmp_path, name):
    sampler, expected = SAMPLERS[name]
    found = faults_of(tmp_path, {**GOOD, "sampler": sampler})
    assert set(expected) <= set(found)
    assert all(fault in expected or fault.startswith("sampler.aim.weights") for fault in found)


def test_faults_of_constraints_are_all_told(tmp_path):
    constraints = {
        "min_spacing_km": -1,
        "min_land_fraction": 2,
        "exclude": [{"path": "a.parquet"}, {"buffer_km": -2}, "b.parquet"],
        "max_sites_per_scene": 2,
        "min_sites_per_scene": 3,
        "reserve_fraction": 1.5,
        "spacing": 3,
    }
    assert faults_of(tmp_path, {**GOOD, "constraints": constraints}) == [
        "constraints.min_spacing_km: Input should be greater than or equal to 0 (got -1)",
        "constraints.min_land_fraction: Input should be less than or equal to 1 (got 2)",
        "constraints.exclude[1].path: Field required",
        "constraints.exclude[1].buffer_km: Input should be greater than or equal to 0 (got -2)",
        "constraints.exclude[2]: Input should be a mapping (got 'b.parquet')",
        "constraints.min_sites_per_scene: `min_sites_per_scene` (3) is more than `max_sites_per_scene` (2) (got 3)",
        "constraints.reserve_fraction: Input should be less than or equal to 1 (got 1.5)",
        "constraints.spacing: unknown key (got 3)",
    ]
    assert faults_of(tmp_path, {**GOOD, "constraints": {"exclude": {"path": "a.parquet"}}}) == [
        "constraints.exclude: Input should be a list (got a mapping)"
    ]


def test_land_is_asked_of_the_continents(tmp_path):
    document = changed(sampler={"strategy": "uniform", "domain": "globe"}, constraints__min_land_fraction=0.5)
    assert load(tmp_path, document).constraints.min_land_fraction == 0.5
    assert faults_of(tmp_path, {**document, "regions": {}}) == [
        "constraints: `min_land_fraction` needs the layer `regions.continent`, such as `continent: natural-earth`"
    ]


def test_a_layer_that_several_parts_lack_is_told_once(tmp_path):
    parts = [{"weight": 1, "sampler": {"strategy": "uniform"}}] * 3
    document = {**GOOD, "sampler": {"strategy": "mixture", "parts": parts}, "regions": {}}
    assert faults_of(tmp_path, document) == [
        "sampler: the domain `land` needs the layer `regions.continent`, such as `continent: natural-earth`"
    ]


@pytest.mark.parametrize(
    "layer",
    [
        {"path": "layer.fgb", "field": "class"},
        {"path": "layer.tif", "classes": "igbp"},
        {"path": "layer.tif", "classes": {1: "sand", 2: "clay"}},
        {"collection": "soils"},
        {
            "collection": "soils",
            "url": "http://127.0.0.1:1",
            "asset": "data",
            "datetime": "2021",
            "classes": {1: "sand"},
        },
    ],
)
@pytest.mark.parametrize("name", ["biome", "landcover", "soil_2"])
def test_a_layer_of_any_name_may_be_of_any_kind(name, layer):
    recipe = Recipe.model_validate({**GOOD, "regions": {**GOOD["regions"], name: layer}})
    found = recipe.regions.get(name)
    assert {key: getattr(found, key) for key in layer} == layer
    assert Recipe.model_validate(yaml.safe_load(recipe.to_yaml())).hash == recipe.hash


def test_the_name_of_a_dataset_is_a_layer():
    short = Recipe.model_validate({**GOOD, "regions": {"continent": "natural-earth"}})
    long = Recipe.model_validate({**GOOD, "regions": {"continent": {"dataset": "natural-earth"}}})
    assert short.hash == long.hash


LAYERS = {
    "a dataset that nobody knows": (
        {"biome": "resolve-2071"},
        "regions.biome: unknown dataset 'resolve-2071': did you mean 'resolve-2017'?",
    ),
    "a dataset of something else": (
        {"biome": "natural-earth"},
        "regions.biome: the dataset 'natural-earth' has no biome: it is `continent`",
    ),
    "points": (
        {"biome": "ne-populated-places"},
        "regions.biome: the dataset 'ne-populated-places' has no biome: it is points, which are no layer",
    ),
    "no kind": ({"biome": {"path": "a.fgb"}}, "regions.biome: a file needs `field` (vector) or `classes` (raster)"),
    "a legend that nobody knows": (
        {"biome": {"path": "a.tif", "classes": "corine"}},
        "regions.biome.classes: Input should be 'igbp' or 'worldcover', or a mapping (got 'corine')",
    ),
    "classes by name": (
        {"biome": {"path": "a.tif", "classes": {"sand": 1}}},
        "regions.biome.classes.sand: Input should be",
    ),
    "a key of a layer of one's own": (
        {"soil": {"path": "a.fgb", "field": "b", "colour": 1}},
        "regions.soil.colour: unknown key (got 1)",
    ),
    "capitals": ({"Soil": {"collection": "soils"}}, "regions.Soil: String should match pattern"),
    "a column of every plan": (
        {"epsg": {"collection": "soils"}},
        "regions.epsg: 'epsg' is a column of every plan: give the layer another name",
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_cannot_be_is_a_fault(tmp_path, name):
    layers, expected = LAYERS[name]
    found = faults_of(tmp_path, changed(regions={**GOOD["regions"], **layers}))
    assert any(fault.startswith(expected) for fault in found)
    assert all(fault.startswith(f"regions.{next(iter(layers))}") for fault in found)


def test_sources_to_fall_back_on_stand_side_by_side(tmp_path):
    other = {"provider": "stac", "url": "http://127.0.0.1:2", "collection": "s2"}
    recipe = Recipe.model_validate(changed(source__fallback=[other, {**other, "collection": "s2-c1"}]))
    assert [source.collection for source in recipe.source.fallback] == ["s2", "s2-c1"]
    (found,) = faults_of(tmp_path, changed(source__fallback=[{**other, "fallback": [other]}]))
    assert found.startswith("source.fallback: a source of `fallback` has a `fallback` of its own: list them all")


def test_cloud_of_chips_needs_a_quality_band_at_every_source(tmp_path):
    radar = {"provider": "planetary-computer", "collection": "sentinel-1-rtc"}
    fault = "when.max_chip_cloud: no quality band is known of sentinel-1-rtc at planetary-computer"
    assert faults_of(tmp_path, changed(source=radar, when__max_chip_cloud=10)) == [fault]
    assert faults_of(tmp_path, changed(source__fallback=[radar], when__max_chip_cloud=10)) == [fault]
    assert Recipe.model_validate(changed(source=radar)).when.max_chip_cloud is None
    assert Recipe.model_validate(changed(when__max_chip_cloud=0)).when.max_chip_cloud == 0


def cells_of(heading):
    """Rows of the table under a line of the page, as lists of their cells."""
    _, _, rest = PAGE.partition(heading)
    table = re.search(r"^\|.*?\n((?:\|.*\n)+)", rest, re.MULTILINE)
    return [row.strip("|").split(" | ") for row in table[1].splitlines()[1:]]


def keys_in(text):
    return re.findall(r"`(\w+)`", text)


def keys_of(document):
    """Keys of a document and of the documents in it; samplers in it are documents of their own."""
    found = {*document.model_fields} - {"strategy"}
    for field in document.model_fields.values():
        pending = [field.annotation]
        while pending:
            kind = pending.pop()
            pending += get_args(kind)
            if isinstance(kind, type) and issubclass(kind, Document) and not issubclass(kind, SamplerDocument):
                found |= keys_of(kind)
    return found


SECTIONS = {
    "**`source`**": Source,
    "**`when`**": When,
    "**`chip`**": Chip,
    "**`constraints`**": Constraints,
    "A layer is one of": Layer,
    "**`split`**": Split,
    "**`sensors`**": Sensor,
    "An entry of `encode`": Encode,
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_names_every_key_and_no_other(heading):
    named = [key for cells in cells_of("\n" + heading) for key in keys_in(cells[0])]
    assert named == list(SECTIONS[heading].model_fields)


def test_the_page_names_every_section_and_layer():
    top = [key for cells in cells_of("**Top level**") for key in keys_in(cells[0])]
    sections = re.findall(r"^\*\*`(\w+)`\*\*", PAGE, re.MULTILINE)
    assert sorted(top + sections) == sorted(Recipe.model_fields)
    assert keys_in(cells_of("\n**`regions`**")[0][0]) == list(RegionLayers.model_fields)
    assert set(keys_in(next(cells[2] for cells in cells_of("**`constraints`**") if "`exclude`" in cells[0]))) == {
        *Exclusion.model_fields
    }


def test_the_page_names_every_key_of_every_strategy():
    rows = {keys_in(name)[0]: {*keys_in(keys)} - {"highest"} for name, keys in cells_of("**`sampler`**")}
    assert rows == {name: keys_of(document) for name, document in STRATEGIES.items()}


@pytest.mark.parametrize("text", re.findall(r"^```yaml\n(name: [a-z].*?)^```", PAGE, re.MULTILINE | re.DOTALL))
def test_recipes_of_the_page_are_accepted(text):
    assert Recipe.model_validate(yaml.safe_load(text))


def test_the_page_shows_the_faults_as_they_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad, told = re.search(r"Of this `bad\.yaml`\n```yaml\n(.*?)```.*?```\n(.*?)```", PAGE, re.DOTALL).groups()
    Path("bad.yaml").write_text(bad, encoding="utf-8")
    with pytest.raises(RecipeError, match="13 faults") as caught:
        load_recipe("bad.yaml")
    assert f"pwcat: {caught.value}\n" == told


def test_a_choice_by_spectra_cannot_score_medians(tmp_path):
    sampler = {"strategy": "spectral", "base": {"strategy": "uniform"}}
    median = {**GOOD, "when": {**GOOD["when"], "composite": "median"}}
    assert load(tmp_path, median).when.composite == "median"
    assert faults_of(tmp_path, {**median, "sampler": sampler}) == [
        "when.composite: a choice by spectra scores the one scene nearest to each date, which tells nothing of a `median` of "
        "several; take `nearest`, or another strategy"
    ]


def test_a_choice_by_spectra_cannot_keep_groups(tmp_path):
    sampler = {"strategy": "spectral", "base": {"strategy": "uniform"}}
    document = {**GOOD, "sampler": sampler, "constraints": {"min_sites_per_scene": 4}}
    assert faults_of(tmp_path, document) == [
        "constraints.min_sites_per_scene: a choice by spectra takes sites one by one, and cannot keep groups"
    ]


def test_recipes_that_ask_the_same_source_otherwise_are_planned_alike():
    source = {"provider": "stac", "url": "http://127.0.0.1:1", "collection": "s2"}
    asked = {"search": "api", "allow_private": True, "requests_per_s": 3.0, "fallback": [{**source, "collection": "b"}]}
    plain, other = Recipe.model_validate(GOOD), Recipe.model_validate({**GOOD, "source": {**source, **asked}})
    assert plain.hash != other.hash
    assert plain.differs_from(other) == other.differs_from(plain) == []
    moved = Recipe.model_validate({**GOOD, "title": "B", "source": {**source, "collection": "b"}, "seed": 1})
    assert moved.differs_from(plain) == ["title", "seed", "source.collection"]


SECRET_URLS = ["https://user:s3cr3t@a.test/stac", "https://a.test/stac?any=s3cr3t", "https://a.test/stac#s3cr3t"]
NOT_PUBLISHED = (
    "a recipe is published, so that its addresses have no user, password, query or fragment; a user and password can stand "
    "in ~/.netrc (got 'https://a.test/stac')"
)


@pytest.mark.parametrize("url", SECRET_URLS)
def test_addresses_of_a_recipe_have_no_secrets_in_them(tmp_path, url):
    fallback = [{"provider": "stac", "url": url, "collection": "s2"}]
    layer = {"collection": "c", "url": url}
    document = changed(source__url=url, source__fallback=fallback, regions__landcover=layer)
    assert faults_of(tmp_path, document) == [
        f"source.url: {NOT_PUBLISHED}",
        f"source.fallback[0].url: {NOT_PUBLISHED}",
        f"regions.landcover.url: {NOT_PUBLISHED}",
    ]


def test_a_plan_of_before_that_was_forbidden_is_read_and_goes_on_without_the_secret(tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(changed(source__url=SECRET_URLS[0])))
    old = load_recipe(tmp_path / "recipe.yaml", planned=True)
    assert old.source.url == SECRET_URLS[0]
    assert old.differs_from(load(tmp_path, changed(source__url="https://a.test/stac"))) == []
    assert old.differs_from(load(tmp_path, changed(source__url="https://b.test/stac"))) == ["source.url"]
