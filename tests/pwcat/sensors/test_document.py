"""What a recipe may say of sensors, and what it is told where it must not."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml

from pwcat.errors import RecipeError
from pwcat.providers import Encoding
from pwcat.recipe import Recipe, load_recipe
from pwcat.sensors.document import Sensor, encoding_of

PC = "planetary-computer"
S1 = {"source": {"provider": PC, "collection": "sentinel-1-rtc"}, "bands": ["VV", "VH"], "within_days": 15}
DEM = {"source": {"provider": PC, "collection": "cop-dem-glo-30"}, "bands": ["elevation", "slope"]}
ERA5 = {
    "source": {"provider": "archive", "path": "era5", "collection": "era5"},
    "bands": ["temperature_2m"],
    "within_days": 0,
    "encode": {"temperature_2m": {"scale": 0.01, "offset": 150, "unit": "K"}},
}
PLAIN = {
    "name": "plain",
    "title": "Plain",
    "license": "CC0-1.0",
    "num_samples": 10,
    "sampler": {"strategy": "uniform", "domain": "scenes"},
    "source": {"provider": PC, "collection": "sentinel-2-l2a"},
    "when": {"start": "2021-01-01", "end": "2021-12-31", "months": "all"},
    "chip": {"size_px": 1, "bands": ["B02", "B04"]},
}


def recipe(**sensors) -> Recipe:
    return Recipe.model_validate({**PLAIN, "sensors": sensors})


def faults_of(folder, sensors) -> list[str]:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, "sensors": sensors}, sort_keys=False))
    with pytest.raises(RecipeError, match="nothing was done") as caught:
        load_recipe(path)
    return str(caught.value).splitlines()[1:]


def test_bands_stand_behind_those_of_the_chip_in_the_order_of_the_recipe():
    assert recipe(s1=S1, dem=DEM, era5=ERA5).bands == ["B02", "B04", "VV", "VH", "elevation", "slope", "temperature_2m"]
    assert recipe(dem=DEM, s1=S1).bands == ["B02", "B04", "elevation", "slope", "VV", "VH"]


def test_a_recipe_without_sensors_is_the_one_that_it_was():
    plain = Recipe.model_validate(PLAIN)
    assert plain == recipe()
    assert "sensors" not in plain.to_yaml()
    document = {key: value for key, value in plain.model_dump(mode="json").items() if key != "sensors"}
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert plain.hash == hashlib.sha256(canonical.encode()).hexdigest()


def test_sensors_and_their_order_are_in_the_hash(tmp_path):
    hashes = {recipe(**sensors).hash for sensors in ({}, {"s1": S1}, {"s1": S1, "dem": DEM}, {"dem": DEM, "s1": S1})}
    assert len(hashes) == 4
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe(s1=S1, dem=DEM, era5=ERA5).to_yaml())
    assert load_recipe(path).hash == recipe(s1=S1, dem=DEM, era5=ERA5).hash


def test_the_recipe_says_how_numbers_are_kept_else_the_collection_is_known():
    assert encoding_of(Sensor.model_validate(S1), "VV") == Encoding(
        scale=0.001, offset=-50.001, unit="dB", transform="decibel"
    )
    own = {**S1, "encode": {"VV": {"scale": 0.0001, "offset": 0, "unit": "gamma nought"}}}
    assert encoding_of(Sensor.model_validate(own), "VV") == Encoding(scale=0.0001, offset=0, unit="gamma nought")
    assert encoding_of(Sensor.model_validate(DEM), "elevation") == Encoding(scale=0.25, offset=-1000.25, unit="m")
    assert encoding_of(Sensor.model_validate(DEM), "data") == encoding_of(Sensor.model_validate(DEM), "elevation")
    assert encoding_of(Sensor.model_validate(DEM), "slope") == Encoding(scale=0.002, offset=-0.002, unit="degree")
    cover = {"source": {"provider": PC, "collection": "esa-worldcover"}, "bands": ["map"], "resampling": "nearest"}
    assert encoding_of(Sensor.model_validate(cover), "map") is None


def test_what_a_sensor_is_when_nothing_is_said():
    dem = Sensor.model_validate(DEM)
    assert (dem.static, dem.resampling, dem.required, dem.encode) == (True, "bilinear", False, {})
    assert not Sensor.model_validate(ERA5).static


FAULTS = {
    "a name that is none": (
        {"S-1": S1},
        ["sensors.S-1: String should match pattern '^[a-z][a-z0-9_]{0,30}$' (got 'S-1')"],
    ),
    "a band of the chip": (
        {"s2": {**ERA5, "bands": ["B04"], "encode": {}}},
        ["sensors.s2.bands: B04 is in chip.bands already; a name stands for one band of the cube"],
    ),
    "a band of another sensor": (
        {"up": S1, "down": S1},
        [
            "sensors.down.bands: VV is in sensors.up.bands already; a name stands for one band of the cube",
            "sensors.down.bands: VH is in sensors.up.bands already; a name stands for one band of the cube",
        ],
    ),
    "a band twice": (
        {"s1": {**S1, "bands": ["VV", "VV"]}},
        ["sensors.s1.bands: `bands` repeats VV (got ['VV', 'VV'])"],
    ),
    "no bands": (
        {"s1": {**S1, "bands": []}},
        ["sensors.s1.bands: List should have at least 1 item after validation, not 0 (got [])"],
    ),
    "a fallback": (
        {"s1": {**S1, "source": {**S1["source"], "fallback": [S1["source"]]}}},
        ["sensors.s1.source: the source of a sensor has no `fallback`: leave it out"],
    ),
    "an archive nowhere": (
        {"era5": {**ERA5, "source": {"provider": "archive", "collection": "era5"}}},
        ["sensors.era5.source: an archive needs either `path` (a folder) or `url` (where it is served)"],
    ),
    "days before": (
        {"s1": {**S1, "within_days": -1}},
        ["sensors.s1.within_days: Input should be greater than or equal to 0 (got -1)"],
    ),
    "a band encoded that is not read": (
        {"era5": {**ERA5, "bands": ["dewpoint"]}},
        ["sensors.era5.encode: temperature_2m is not among its bands, dewpoint"],
    ),
    "a scale of nothing": (
        {"era5": {**ERA5, "encode": {"temperature_2m": {"scale": 0, "offset": float("nan")}}}},
        [
            "sensors.era5.encode.temperature_2m.scale: Input should be greater than 0 (got 0)",
            "sensors.era5.encode.temperature_2m.offset: Input should be a finite number (got nan)",
        ],
    ),
    "a slope of no heights": (
        {"landsat": {"source": {"provider": PC, "collection": "landsat-c2-l2"}, "bands": ["red", "slope"]}},
        ["sensors.landsat: `slope` is computed of `elevation`, which landsat-c2-l2 does not have"],
    ),
    "an unknown band of a collection of decimals": (
        {"s1": {**S1, "bands": ["VV", "angle"]}},
        ["sensors.s1: say how angle becomes whole numbers: `angle: {scale: ..., offset: ...}`"],
    ),
    "classes that would be interpolated": (
        {"cover": {"source": {"provider": PC, "collection": "esa-worldcover"}, "bands": ["map"]}},
        [
            "sensors.cover: map holds classes or flags, and there is nothing between two of them: say "
            "`resampling: nearest`; bands to be interpolated are another sensor"
        ],
    ),
    "flags beside numbers": (
        {"landsat": {"source": {"provider": PC, "collection": "landsat-c2-l2"}, "bands": ["red", "qa_pixel"]}},
        [
            "sensors.landsat: qa_pixel holds classes or flags, and there is nothing between two of them: say "
            "`resampling: nearest`; bands to be interpolated are another sensor"
        ],
    ),
    "an unknown key": (
        {"s1": {**S1, "days": 3}},
        ["sensors.s1.days: unknown key (got 3)"],
    ),
    "no mapping": (
        ["s1"],
        ["sensors: Input should be a mapping (got ['s1'])"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_faults_are_told_where_they_are(tmp_path, case):
    sensors, told = FAULTS[case]
    assert [re.sub(r" \(got (\{\}|a mapping)\)", "", fault.strip()) for fault in faults_of(tmp_path, sensors)] == told


def test_a_plan_that_interpolates_classes_stays_readable():
    cover = {"source": {"provider": PC, "collection": "esa-worldcover"}, "bands": ["map"]}
    assert Sensor.model_validate(cover, context={"planned": True}).resampling == "bilinear"


def test_a_name_that_stands_twice_is_no_silent_loss(tmp_path):
    path = tmp_path / "recipe.yaml"
    text = yaml.safe_dump({**PLAIN, "sensors": {"s1": S1, "s2": DEM}})
    path.write_text(text.replace("  s2:\n", "  s1:\n"))
    with pytest.raises(RecipeError, match=r"not a readable YAML document: 's1' stands twice in .*line \d+"):
        load_recipe(path)


PAGE = (Path(__file__).parents[3] / "docs" / "sensors.md").read_text(encoding="utf-8")


def test_the_recipe_of_the_page_has_all_that_presto_takes():
    (text,) = re.findall(r"```yaml\n(name: .*?)```", PAGE, re.DOTALL)
    presto = Recipe.model_validate(yaml.safe_load(text))
    assert presto.when.num_dates == 12
    wanted = [
        "VV",
        "VH",
        "B02",
        "B03",
        "B04",
        "B05",
        "B06",
        "B07",
        "B08",
        "B8A",
        "B11",
        "B12",
        "temperature_2m",
        "total_precipitation",
        "elevation",
        "slope",
    ]
    assert sorted(presto.bands) == sorted(wanted)
    for sensor in presto.sensors.values():
        assert all(encoding_of(sensor, band) for band in sensor.bands)
