"""What a card says of how places were chosen, for every strategy and constraint that a recipe may name."""

from __future__ import annotations

import pytest

from publish.describing.sampling import describe_recipe
from pwcat.recipe import Recipe
from pwcat.recipes import list_recipes, load_builtin
from pwcat.samplers import STRATEGIES

UNIFORM = {"strategy": "uniform"}
EUROPE = {"strategy": "one_hot", "layer": "continent", "value": "Europe"}
EVEN = {"strategy": "stratified", "by": ["continent"], "exclude": ["Antarctica"]}

SAMPLERS = [
    (UNIFORM, "uniformly by area over land"),
    (UNIFORM | {"domain": "globe"}, "uniformly by area over the whole Earth"),
    (
        UNIFORM | {"domain": "scenes", "inside": {"biome": ["Tundra", "Deserts"], "continent": "Asia"}},
        "uniformly by area over the area that the source's scenes cover where the biome is Tundra or Deserts and the "
        "continent is Asia",
    ),
    (EUROPE, "uniformly by area within the continent Europe"),
    (
        {"strategy": "one_hot", "layer": "landcover", "value": "cropland", "domain": "land"},
        "uniformly by area within the land cover cropland, on land",
    ),
    (EUROPE | {"domain": "scenes"}, "uniformly by area within the continent Europe, where the source has scenes"),
    (EVEN, "in equal numbers for each continent except Antarctica, uniformly by area over land within each"),
    (
        EVEN | {"by": ["continent", "soil_type"], "quotas": "square_root", "min_share": 0.001, "domain": "globe"},
        "in proportion to the square root of the area of each combination of continent and soil type except Antarctica "
        "and those with less than 0.1 % of the area, uniformly by area over the whole Earth within each",
    ),
    (
        {"strategy": "stratified", "by": ["biome"], "quotas": "proportional"},
        "in proportion to the area of each biome, uniformly by area over land within each",
    ),
    (
        {"strategy": "stratified", "by": ["continent"], "quotas": {"Africa": 2, "Asia": 1.5}},
        "with the weights Africa 2 and Asia 1.5 by continent, uniformly by area over land within each",
    ),
    (
        {
            "strategy": "stratified",
            "by": ["continent", "biome"],
            "quotas": [{"classes": ["Asia", "Tundra"], "weight": 1}],
        },
        "with the weights Asia × Tundra 1 by combination of continent and biome, uniformly by area over land within each",
    ),
    (
        {"strategy": "stratified", "by": ["ecoregion"], "quotas": {f"class {k}": 1 for k in range(9)}},
        "with weights of their own for 9 classes by ecoregion, uniformly by area over land within each",
    ),
    (
        {"strategy": "mixture", "parts": [{"weight": 2, "sampler": EUROPE}, {"weight": 1, "sampler": UNIFORM}]},
        "as a mixture (66.7 % uniformly by area within the continent Europe; 33.3 % uniformly by area over land)",
    ),
    (
        {
            "strategy": "clustered",
            "around": {"dataset": "ne-populated-places", "weight": "POP_MAX"},
            "radius_km": 25,
        },
        "within 25 km of places in ne-populated-places (chosen in proportion to POP_MAX, uniformly by area around each), "
        "over land",
    ),
    (
        {"strategy": "clustered", "around": {"path": "/home/me/stations.csv"}, "radius_km": 2.5, "domain": "globe"},
        "within 2.5 km of places in stations.csv (uniformly by area around each), over the whole Earth",
    ),
    (
        {"strategy": "clustered", "mask": {"layer": "landcover", "values": ["tree cover", "mangroves"]}},
        "uniformly by area over land where the land cover is tree cover or mangroves",
    ),
    (
        {"strategy": "grid", "system": "major-tom"},
        "at most one in each cell of Major TOM's grid of 10 km, in its middle, in random order, over land",
    ),
    (
        {"strategy": "grid", "system": "equal-area", "jitter": True, "order": "row", "exclude": ["Antarctica"]},
        "at most one in each cell of an equal-area grid of 23 km, at a random point of it, row by row from the "
        "south-west, over land without Antarctica",
    ),
    ({"strategy": "points", "path": "there/my-sites.csv"}, "among the places in my-sites.csv, in random order"),
    (
        {"strategy": "points", "path": "my-sites.csv", "order": "file"},
        "among the places in my-sites.csv, in the file's order",
    ),
    (
        {"strategy": "spectral", "base": EVEN},
        "by spectral entropy: of 5 times as many, drawn in equal numbers for each continent except Antarctica, uniformly "
        "by area over land within each, and scored on pixels 4 times as coarse, those with the highest entropy were taken",
    ),
    (
        {
            "strategy": "spectral",
            "base": UNIFORM,
            "bands": ["B02", "B03"],
            "aim": {"edges": [0, 2, 4], "weights": [1, 2]},
        },
        "by spectral entropy: of 5 times as many, drawn uniformly by area over land, and scored on pixels of B02 and B03 4 "
        "times as coarse, some were taken that fill 2 bins between 0 and 4 nats as 1 : 2",
    ),
    (
        {"strategy": "spectral", "base": UNIFORM, "candidates": 2.5, "aim": {"edges": [0, 2, 4], "weights": [1, 1]}},
        "by spectral entropy: of 2.5 times as many, drawn uniformly by area over land, and scored on pixels 4 times as "
        "coarse, some were taken that fill 2 bins between 0 and 4 nats equally",
    ),
]


def recipe(**changes):
    layers = ("continent", "biome", "ecoregion", "landcover", "soil_type")
    document = {
        "name": "shown",
        "title": "Shown",
        "license": "CC0-1.0",
        "num_samples": 12345,
        "seed": 7,
        "sampler": UNIFORM,
        "source": {"provider": "earth-search", "collection": "sentinel-2-c1-l2a"},
        "when": {"start": "2021-01-01", "end": "2021-12-31"},
        "chip": {"size_px": 96, "bands": ["B02", "B03"]},
        "regions": {name: {"collection": "classes"} for name in layers},
    }
    return Recipe.model_validate(document | changes).model_dump(mode="json")


def test_every_strategy_is_told_here():
    assert {sampler["strategy"] for sampler, _ in SAMPLERS} == set(STRATEGIES)


@pytest.mark.parametrize(("sampler", "words"), SAMPLERS)
def test_each_strategy_has_its_words(sampler, words):
    assert describe_recipe(recipe(sampler=sampler)) == (
        f"12,345 places for shown were drawn from seed 7, {words}. "
        "Each place has one date between 2021-01-01 and 2021-12-31, from scenes with at most 20 % cloud."
    )


@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        ({}, ""),
        ({"min_spacing_km": 5}, "Places are at least 5 km apart. "),
        ({"max_sites_per_scene": 1}, "No scene serves more than 1 place. "),
        (
            {
                "min_land_fraction": 0.9,
                "exclude": [{"path": "/data/fmow-test.parquet", "buffer_km": 2}, {"path": "geobench.csv"}],
                "max_sites_per_scene": 2000,
                "min_sites_per_scene": 20,
                "reserve_fraction": 0.025,
            },
            "At least 90 % of each chip is land; no chip comes within 2 km of the places in fmow-test.parquet or touches "
            "the places in geobench.csv; no scene serves more than 2,000 places; places lie in groups of at least 20 that "
            "share their scenes; 2.5 % more were drawn to replace samples without pixels. ",
        ),
    ],
)
def test_constraints_are_a_sentence_of_their_own(constraints, words):
    assert f"over land. {words}Each place has" in describe_recipe(recipe(constraints=constraints))


def test_a_strategy_without_words_is_named():
    told = describe_recipe(recipe() | {"sampler": {"strategy": "latitude", "south": 0, "north": 60}})
    assert told.startswith("12,345 places for shown were drawn from seed 7, by the strategy latitude. Each")


def test_a_recipe_from_before_there_were_constraints_is_told_as_well():
    old = recipe()
    del old["constraints"]
    assert describe_recipe(old) == describe_recipe(recipe())


@pytest.mark.parametrize(
    ("dates", "words"),
    [
        ({"dates_per_site": 1}, "one date"),
        ({"dates_per_site": 4}, "4 dates"),
        ({"months": [3]}, "one date in month 3"),
        ({"months": [3, 6, 9]}, "one date in each of the months 3, 6 and 9"),
        ({"months": "all"}, "one date in each month"),
        ({"composite": "median"}, "one date, each the median of up to 5 scenes,"),
        (
            {"phenology": {"path": "tables/greening.csv", "columns": ["sos", "peak"], "days": 20}},
            "2 dates by phenology (sos and peak of the nearest place in greening.csv, 20 days before or after)",
        ),
    ],
)
def test_dates_are_counted(dates, words):
    when = {"start": "2021-01-01", "end": "2021-12-31"} | dates
    assert f"Each place has {words} between" in describe_recipe(recipe(when=when))


@pytest.mark.parametrize("name", list_recipes())
def test_recipes_that_come_with_pwcat_are_told(name):
    told = describe_recipe(load_builtin(name).model_dump(mode="json"))
    assert told.count(". ") <= 2
    assert "None" not in told
