"""What is said where a quota cannot be met: true of the recipe, its domain and the scenes that were seen."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from pwcat.errors import RegionError, SourceError
from pwcat.plan import make_plan
from pwcat.recipe import Recipe
from pwcat.regions import Regions
from pwcat.sites.locators import SceneLocator
from pwcat.sites.shortfall import Circumstances, Shortfall, unmet_error

ABOUT = Circumstances(chip_km=0.96, dates=2, clouds=20.0, scenes=12)


def shortfall(*, about=ABOUT, domain="land", missed=None, exhausted=False, name="A", **dropped):
    return Shortfall(
        name=name,
        placed=1,
        wanted=9,
        tried=100,
        exhausted=exhausted,
        dropped=Counter(dropped),
        missed=Counter(missed or {}),
        domain=domain,
        circumstances=about,
    )


@pytest.mark.parametrize(
    ("domain", "end"),
    [
        ("land", "ask for fewer dates, take a smaller chip or take the domain `scenes`."),
        ("globe", "ask for fewer dates, take a smaller chip or take the domain `scenes`."),
        ("scenes", "ask for fewer dates or take a smaller chip."),
        (None, "ask for fewer dates, take a smaller chip or give places where the source has scenes."),
    ],
)
def test_the_domain_of_scenes_is_advised_where_it_is_another(domain, end):
    told = str(shortfall(domain=domain, scene=99))
    assert told == (
        "A: 1 of 9; of 100 places tried, 99 had no scene that holds the whole chip on every date. "
        f"To get more: raise `when.max_cloud_cover`, widen the dates, {end}"
    )


def test_what_those_with_the_right_label_fell_for_is_to_be_relaxed():
    assert str(shortfall(label=90, spacing=9)).endswith(
        "To get more: lower `constraints.min_spacing_km`, or ask for fewer samples."
    )
    assert "rare where sites are drawn" in str(shortfall(label=98, spacing=1))


def test_candidates_of_which_none_fell_are_too_few():
    assert str(shortfall(exhausted=True)) == (
        "A: 1 of 9; 100 places were tried (there are no more). To get more: there are too few candidates: "
        "ask for fewer samples."
    )


def test_what_cannot_help_is_not_advised():
    cloudy = Circumstances(chip_km=0.96, dates=1, clouds=100.0, scenes=0)
    told = str(shortfall(about=cloudy, domain="scenes", scene=99))
    assert told.endswith("To get more: no scene was seen at all: widen the dates.")


def test_the_layer_that_was_missed_most_is_named():
    assert "99 had another label in the layer `biome`. To get more: what is wanted is rare" in str(
        shortfall(label=99, missed={"biome": 99})
    )
    assert "99 had another label, 70 of them in the layer `biome`." in str(
        shortfall(label=99, missed={"continent": 29, "biome": 70})
    )


def test_few_scored_candidates_are_told_to_be_more():
    scored = Circumstances(chip_km=0.96, dates=1, clouds=100.0, scored=True)
    assert str(shortfall(about=scored, exhausted=True)).endswith(
        "(there are no more). To get more: raise `sampler.candidates`."
    )
    assert str(shortfall(about=scored, spacing=9)).endswith(
        "raise `sampler.candidates`, or lower `constraints.min_spacing_km`, or ask for fewer samples."
    )


def test_three_strata_are_told_in_full_twenty_by_name_and_the_rest_counted():
    unmet = [shortfall(name=f"S{number}", spacing=99) for number in range(30)]
    told = str(unmet_error("many", unmet, placed=30, wanted=270))
    assert told.startswith("many: only 30 of 270 sites could be placed. S0: 1 of 9; of 100 places tried")
    assert told.count("To get more") == 3
    assert "Short are also S3 (1 of 9), S4 (1 of 9)" in told
    assert told.endswith("S22 (1 of 9), and 7 more.")
    assert "Short" not in str(unmet_error("few", unmet[:3], placed=3, wanted=27))
    assert isinstance(unmet_error("few", [shortfall(scene=9)], placed=3, wanted=27), SourceError)


def test_a_chip_larger_than_every_scene_is_told_as_that(recipe, source, small):
    document = {**recipe.model_dump(mode="json"), "chip": {"size_px": 400, "bands": ["B02"]}}
    with pytest.raises(
        SourceError,
        match=r"^small: the chip is 4 km a side, and of the \d+ scenes of s2-l2a-synthetic the largest has room for 3\.84 km: "
        r"take a smaller `chip\.size_px`$",
    ):
        make_plan(Recipe.model_validate(document), base_dir=small.parent, source=source)
    document["sampler"] = {"strategy": "points", "path": "places.csv"}
    middles = make_plan(recipe, base_dir=small.parent, source=source).table.select(["lon", "lat"]).to_pandas()
    middles.to_csv(small.parent / "places.csv", index=False)
    with pytest.raises(
        SourceError,
        match=r"the chip is 4 km a side, and of \d+ scenes seen the largest has room for 3\.84 km: take a smaller `chip",
    ):
        make_plan(Recipe.model_validate(document), base_dir=small.parent, source=source)


@pytest.mark.parametrize("most", [None, 1])
def test_a_source_with_nothing_there_is_not_asked_without_end(recipe, source, small, tmp_path, most):
    middles = make_plan(recipe, base_dir=small.parent, source=source).table.select(["lon", "lat"]).to_pandas()
    middles[:1].to_csv(tmp_path / "place.csv", index=False)
    parts = [
        {"weight": 1, "sampler": {"strategy": "points", "path": str(tmp_path / "place.csv")}},  # its scene is full then
        {"weight": 49, "sampler": {"strategy": "uniform", "domain": "globe"}},
    ]
    document = {**recipe.model_dump(mode="json"), "num_samples": 50, "sampler": {"strategy": "mixture", "parts": parts}}
    document["constraints"] = {"max_sites_per_scene": most}
    with pytest.raises(
        SourceError,
        match=r"only 1 of 50 .*: 0 of 49; of ([\d,]+) places tried, \1 had no scene that .* or take the domain `scenes`",
    ) as raised:
        make_plan(Recipe.model_validate(document), base_dir=small.parent, source=source)
    tried = int(str(raised.value).split("of 49; of ")[1].split(" ")[0].replace(",", ""))
    assert tried < 10_000  # a question a hundred; it was a hundred thousand


def test_a_place_in_full_scenes_is_told_apart_from_one_in_none(recipe, source, small):
    here = make_plan(recipe, base_dir=small.parent, source=source).table.select(["lon", "lat"]).to_pandas()
    lonlat = np.concatenate([here.to_numpy(), [[0.0, 0.0]]])
    searched = SceneLocator(recipe, source, scenes=None, base_dir=small.parent)
    assert searched.locate(lonlat).full.tolist() == []
    known = SceneLocator(recipe, source, scenes=searched.scenes, base_dir=small.parent)
    own = known.locate(lonlat[:1], avoid=range(0)).placements.scene[0].tolist()
    for locator in (searched, known):
        every = locator.locate(lonlat, avoid=range(len(searched.scenes)))
        assert len(every.placements) == 0
        assert every.full.tolist() == [*range(len(here))]
        some = locator.locate(lonlat, avoid=own)
        assert own[0] not in some.placements.scene
        assert sorted([*some.placements.site.tolist(), *some.full.tolist()]) == [*range(len(here))]


def test_scenes_that_are_found_again_are_the_very_ones(recipe, source, small):
    here = make_plan(recipe, base_dir=small.parent, source=source).table.select(["lon", "lat"]).to_pandas().to_numpy()
    locator = SceneLocator(recipe, source, scenes=None, base_dir=small.parent)
    first = locator.locate(here).placements
    scenes, shelved = list(locator.scenes), locator._shelf._end
    again = locator.locate(here[::-1]).placements
    assert [id(scene) for scene in locator.scenes] == [id(scene) for scene in scenes]
    assert locator._shelf._end == shelved > 0
    assert again.scene[::-1].tolist() == first.scene.tolist()
    locator.locate(np.array([[0.0, 0.0]]))  # of nowhere, nothing comes
    assert len(locator.scenes) == len(scenes)


def test_a_place_is_taken_once_by_whatever_part_names_it(boxes, chosen, tmp_path):
    places = pd.DataFrame({"lon": [1.0, 2.0, 3.0, 4.0, 4.0], "lat": 1.0})
    places.to_csv(tmp_path / "a.csv", index=False)
    places[1:].to_csv(tmp_path / "b.csv", index=False)
    regions = Regions(layers={"continent": boxes(Land=(0, 0, 9, 9))})
    part = [
        {"weight": 1, "sampler": {"strategy": "points", "path": name, "order": "file"}} for name in ("a.csv", "b.csv")
    ]
    sampler = {"strategy": "mixture", "parts": part}
    _, sites, _ = chosen(sampler, 4, regions, base_dir=tmp_path)
    assert sites.lonlat[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert sites.stratum.tolist() == [0, 0, 1, 1]
    with pytest.raises(
        RegionError,
        match=r"b\.csv: 1 of 3; of 4 places tried \(there are no more\), 3 were places that had been taken already\. "
        r"To get more: ask for fewer samples, or give other places",
    ):
        chosen(sampler, 6, regions, base_dir=tmp_path)


def test_cells_of_two_grids_that_are_one_are_taken_once(boxes, chosen):
    regions = Regions(layers={"continent": boxes(Land=(0, 0, 9, 9))})
    grid = {"strategy": "grid", "system": "equal-area", "cell_km": 100}
    sampler = {"strategy": "mixture", "parts": [{"weight": 1, "sampler": grid}, {"weight": 1, "sampler": grid}]}
    _, sites, reserve = chosen(sampler, 60, regions, constraints={"reserve_fraction": 0.2})
    every = [*map(tuple, sites.lonlat.tolist()), *map(tuple, reserve.lonlat.tolist())]
    assert len(every) == len({*every}) == 72
