"""When drawing gives up: soon where it is in vain, never where a quota can be had in reasonable time."""

from __future__ import annotations

import numpy as np
import pytest

from pwcat.errors import RegionError
from pwcat.regions import Regions
from pwcat.sites.patience import Patience, Tally


def tries_until_over(placed_after, wanted, *, first=100, endless=True, dear=lambda tried: 0, most=10**8):
    """Tries after which a stratum is given up, or ``None`` where it is filled; ``placed_after`` tells sites by tries."""
    patience, tried = Patience(first=first, endless=endless), 0
    while tried < most:
        tried += patience.until_next_look(tried)
        placed = int(placed_after(tried))
        if placed >= wanted:
            return None
        if patience.is_over(Tally(tried=tried, dear=dear(tried), placed=placed), missing=wanted - placed):
            return tried
    raise AssertionError("it never ended")


@pytest.mark.parametrize("rate", [1e-4, 1e-3, 0.5])
def test_what_is_rare_is_waited_for(rate):
    assert tries_until_over(lambda tried: rate * tried, 1_000) is None


def test_what_never_comes_is_given_up_after_a_bounded_number_of_tries():
    assert tries_until_over(lambda tried: 0, 10) < 200_000
    assert tries_until_over(lambda tried: 0, 1_000, first=1_000) < 200_000
    assert tries_until_over(lambda tried: 7, 10) < 200_000


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
def test_a_crowd_is_filled_as_far_as_its_law_goes_and_given_up_beyond(share):
    """Sites after t tries in a plane that holds 1,000: 1000 - 700 (t / 1000) ** -0.5."""
    crowd = lambda tried: 1_000 - 700 * (tried / 1_000 + 1) ** -0.5  # noqa: E731
    assert tries_until_over(crowd, int(1_000 * share), first=1_000) is None
    assert tries_until_over(crowd, 1_500, first=1_000) < 100_000


def test_a_list_is_tried_to_its_end():
    with pytest.raises(AssertionError, match="it never ended"):
        tries_until_over(lambda tried: 0, 10, endless=False, most=10**6)


def test_where_a_try_is_a_question_less_is_tried():
    assert tries_until_over(lambda tried: 0, 10, dear=lambda tried: tried, first=100) < 5_000
    assert tries_until_over(lambda tried: 0, 10, dear=lambda tried: tried, first=100, endless=False) < 5_000
    assert tries_until_over(lambda tried: 0.01 * tried, 1_000, dear=lambda tried: tried) is None


@pytest.mark.parametrize("step", [64, 500, 1_000, 2_000])
def test_two_thousand_places_without_a_scene_are_the_end_in_whatever_steps_they_come(step):
    patience, tried = Patience(first=100, endless=False), 0
    while tried < 20_000:
        tried += step
        if patience.is_over(Tally(tried=tried, dear=tried), missing=10):
            break
    assert tried == -(-2_000 // step) * step


def test_one_site_among_two_thousand_places_without_a_scene_is_waited_for():
    patience = Patience(first=100, endless=False)
    told = [
        patience.is_over(Tally(tried=n, dear=n, placed=n // 2_000), missing=99) for n in range(1_000, 40_001, 1_000)
    ]
    assert not any(told)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_tight_quota_that_can_be_met_is_met(boxes, chosen, seed):
    """Discs thrown at random jam at .547 of the area (Feinberg et al. 1991), .6966 a square of the spacing: 98 % of that."""
    regions = Regions(layers={"continent": boxes(Square=(0, -0.45, 0.9, 0.45))})  # 100 km, 50 spacings
    _, sites, _ = chosen({"strategy": "uniform"}, 1_700, regions, seed=seed, constraints={"min_spacing_km": 2.0})
    assert len(sites) == 1_700


def test_a_quota_that_cannot_be_met_is_given_up_before_long(boxes, chosen):
    regions = Regions(layers={"continent": boxes(Square=(0, -0.45, 0.9, 0.45))})
    with pytest.raises(RegionError, match=r"uniform: 1,\d\d\d of 3,000; of ([\d,]+) places tried") as raised:
        chosen({"strategy": "uniform"}, 3_000, regions, constraints={"min_spacing_km": 2.0})
    tried = int(str(raised.value).split("of 3,000; of ")[1].split(" ")[0].replace(",", ""))
    assert tried < 60 * 3_000  # it was 20 rounds of 100 for each that was missing: 2,800,000
    placed = int(str(raised.value).split("uniform: ")[1].split(" ")[0].replace(",", ""))
    assert placed > 0.85 * 0.6966 * 2_500


def test_a_rare_class_is_found_in_however_many_strata_it_is_one(boxes, chosen):
    """A class on a 2,000th of a raster cell's places, among forty others: each round gave it few tries, and then up."""
    many = {f"C{number:02d}": (number, 0, number + 1, 1) for number in range(40)}
    rare = boxes("biome", Dot=(0.3, 0.3, 0.3025, 0.3025), **{f"Rest{n}": (n, 0, n + 1, 1) for n in range(1, 40)})
    regions = Regions(layers={"continent": boxes(**many), "biome": rare})
    sampler = {"strategy": "mixture", "parts": [
        {"weight": 1, "sampler": {"strategy": "uniform", "inside": {"biome": "Dot"}}},
        {"weight": 1, "sampler": {"strategy": "stratified", "by": ["continent"]}},
    ]}  # fmt: skip
    strata, sites, _ = chosen(sampler, 80, regions)
    assert np.bincount(sites.stratum, minlength=len(strata))[0] == 40
