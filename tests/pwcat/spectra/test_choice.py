"""Choosing by spectra on the embedded archive: what it gains over chance, and how near it comes to the best there is."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from pwcat.costs.reads import estimate_reads
from pwcat.plan import make_plan, read_plan, write_plan
from pwcat.recipe import Recipe
from pwcat.samplers.spectral import Target
from pwcat.sites.placing import Placements
from pwcat.spectra.bins import count_bins, shortage
from pwcat.spectra.scoring import coarser, score_chips
from pwcat.spectra.selection import calibrate, choice_order

BASE = {"strategy": "stratified", "by": ["continent"], "domain": "scenes"}
CHIP = {"size_px": 48, "bands": ["B02", "B04", "B08", "B11"]}
WANTED, TIMES = 60, 5


def plan_of(recipe, small, source, **changes):
    document = {**recipe.model_dump(mode="json"), "num_samples": WANTED, "chip": CHIP, **changes}
    return make_plan(Recipe.model_validate(document), base_dir=small.parent, source=source)


def true_entropies(plan, source):
    """Spectral entropy of every chip of a plan, read in full."""
    numbers = {scene.id: number for number, scene in enumerate(plan.scenes)}
    table = plan.table
    placements = Placements(
        site=np.arange(len(table)),
        scene=np.array([[numbers[name] for name in names] for names in table["scene_ids"].to_pylist()]),
        beside=np.empty((len(table), 1, 0), dtype=np.int64),
        epsg=table["epsg"].to_numpy(),
        x0=table["x0"].to_numpy(),
        y0=table["y0"].to_numpy(),
    )
    return score_chips(placements, plan.scenes, chip=plan.recipe.chip, source=source)


@pytest.fixture(scope="module")
def at_random(recipe, small, source):
    return plan_of(recipe, small, source, sampler=BASE)


@pytest.fixture(scope="module")
def spectral(recipe, small, source):
    return plan_of(recipe, small, source, sampler={"strategy": "spectral", "base": BASE, "candidates": TIMES})


@pytest.fixture(scope="module")
def every(recipe, small, source):
    """The very same candidates, for a draw hangs on the seed alone; all of them built."""
    return plan_of(recipe, small, source, sampler=BASE, num_samples=WANTED * TIMES)


def test_mean_entropy_rises_at_equal_counts_nearly_to_the_best_choice(source, at_random, spectral, every):
    counts = Counter(spectral.table["continent"].to_pylist())
    assert counts == Counter(at_random.table["continent"].to_pylist())
    assert set(counts.values()) == {10}
    # the best: all candidates read in full
    truth, continent = true_entropies(every, source), np.array(every.table["continent"].to_pylist())
    best = np.mean([np.sort(truth[continent == name])[-10:].mean() for name in counts])
    chance, chosen = true_entropies(at_random, source).mean(), true_entropies(spectral, source).mean()
    gained = (chosen - chance) / (best - chance)
    assert chosen > chance + 0.9  # nats; measured 1.18
    assert 0.95 < gained <= 1  # of what the best choice gains; measured .996


def test_the_plan_tells_the_calibration_and_the_bytes(spectral, source, at_random, tmp_path):
    choice = spectral.spectral
    assert choice.candidates == WANTED * TIMES
    assert choice.unread == 0
    assert choice.calibration.n == 100
    assert 0.9 < choice.calibration.ci_low < choice.calibration.rank_correlation < choice.calibration.ci_high < 1
    assert choice.mean_of_chosen == pytest.approx(true_entropies(spectral, source).mean(), abs=0.05)
    assert choice.mean_of_candidates == pytest.approx(true_entropies(at_random, source).mean(), abs=0.3)
    assert choice.full_bytes - choice.spent_bytes == choice.saved_bytes
    assert choice.spent_bytes > 0
    assert choice.spent_requests > 2 * len(CHIP["bands"]) * len(spectral.scenes)
    write_plan(spectral, tmp_path)
    assert read_plan(tmp_path).spectral == choice.to_dict()
    write_plan(at_random, tmp_path)
    assert read_plan(tmp_path).spectral is None


def test_reading_all_in_full_is_estimated_as_a_dataset_of_all(spectral, every):
    assert spectral.spectral.full_bytes == round(estimate_reads(every.recipe, every.table, every.scenes).bytes)


def test_it_is_the_same_choice_every_time(recipe, small, source, spectral):
    again = plan_of(recipe, small, source, sampler={"strategy": "spectral", "base": BASE, "candidates": TIMES})
    assert again.table.equals(spectral.table)


def test_spacing_and_reserve_hold_among_the_chosen(recipe, small, source):
    sampler = {"strategy": "spectral", "base": BASE, "candidates": 10, "calibrate": 0}
    constraints = {"min_spacing_km": 0.4, "reserve_fraction": 0.2}
    plan = plan_of(recipe, small, source, sampler=sampler, constraints=constraints, num_samples=30)
    assert len(plan.reserve) == 6
    x0, y0, epsg = (
        np.array(plan.table[name].to_pylist() + plan.reserve[name].to_pylist()) for name in ("x0", "y0", "epsg")
    )
    zones, counts = np.unique(epsg, return_counts=True)
    assert counts.max() > 1
    for zone in zones[counts > 1]:
        apart = np.hypot(*(v[epsg == zone][:, None] - v[epsg == zone][None] for v in (x0, y0)))
        assert apart[np.triu_indices(len(apart), 1)].min() > 400 - 15  # corners are snapped to the grid
    taken, kept = (true_entropies(part, source) for part in (plan, with_table(plan, plan.reserve)))
    assert taken.mean() > kept.mean()  # the reserve is second best
    assert plan.spectral.calibration.n == 0
    assert np.isnan(plan.spectral.calibration.rank_correlation)


def with_table(plan, table):
    return type(plan)(**{**vars(plan), "table": table})


def test_a_distribution_can_be_wanted_instead(recipe, small, source):
    aim = {"edges": [0, 2, 3, 6], "weights": [1, 2, 1]}
    sampler = {"strategy": "spectral", "base": {"strategy": "uniform", "domain": "scenes"}, "candidates": 8, "aim": aim}
    exact = plan_of(recipe, small, source, sampler={**sampler, "factor": 1})  # scored on every pixel
    assert np.histogram(true_entropies(exact, source), bins=aim["edges"])[0].tolist() == [15, 30, 15]
    assert [one.taken for one in exact.spectral.bins] == [15, 30, 15]
    coarse = plan_of(recipe, small, source, sampler=sampler)
    counts, _ = np.histogram(true_entropies(coarse, source), bins=aim["edges"])
    assert np.abs(counts - [15, 30, 15]).max() <= 5  # as predicted; a few lie on the other side of an edge


def test_bins_that_candidates_do_not_reach_are_counted_and_told(recipe, small, source, tmp_path, caplog):
    aim = {"edges": [-1, 0, 3, 9, 10], "weights": [1, 1, 1, 1]}  # entropies lie between 0 and ln 256 = 5.5
    sampler = {"strategy": "spectral", "base": BASE, "candidates": 3, "aim": aim, "calibrate": 0}
    plan = plan_of(recipe, small, source, sampler=sampler, num_samples=24)
    below, low, high, above = plan.spectral.bins
    assert (below.low, below.high, below.wanted, below.candidates, below.taken, below.short) == (-1, 0, 6, 0, 0, 6)
    assert (above.candidates, above.short) == (0, 6)
    assert low.candidates + high.candidates == plan.spectral.candidates - plan.spectral.unread
    assert low.taken + high.taken == 24
    (told,) = [record.getMessage() for record in caplog.records if "`aim`" in record.getMessage()]
    assert re.match(
        r"small: `aim` is not met: 1\d of 24 sites were taken from other bins\. "
        r"Short are -1 to 0 nats \(6 of 6; no candidate there\), .*9 to 10 nats \(6 of 6; no candidate there\)\. "
        r"Candidates have \d\.\d\d to \d\.\d\d nats: raise `candidates`",
        told,
    )
    write_plan(plan, tmp_path)
    assert read_plan(tmp_path).spectral["bins"][3]["short"] == 6


def test_what_one_stratum_has_over_does_not_fill_a_bin_of_another():
    target = Target(edges=[0, 1, 2], weights=[1, 1])
    low, high = count_bins(
        target,
        wanted=[4, 4],
        candidates=np.array([0.5] * 9 + [1.5] * 3 + [np.nan]),
        taken=np.array([0.5] * 4 + [1.5] * 3 + [0.5]),
        stratum=np.repeat([0, 1], 4),
    )
    assert (low.wanted, low.candidates, low.taken, low.short) == (4, 9, 5, 1)
    assert (high.wanted, high.candidates, high.taken, high.short) == (4, 3, 3, 2)
    assert shortage([], entropies=np.array([1.0])) is None


def test_a_scene_that_cannot_be_read_costs_its_candidates_and_is_told(recipe, small, archive_copy, caplog):
    from pwcat.providers import open_source

    document = {**recipe.model_dump(mode="json"), "num_samples": 12, "chip": CHIP}
    document["source"] = {**document["source"], "path": str(archive_copy)}
    document["sampler"] = {"strategy": "spectral", "base": {"strategy": "uniform", "domain": "scenes"}, "candidates": 8}
    document["regions"]["landcover"] = None
    broken = Recipe.model_validate(document)
    unread = Recipe.model_validate({**document, "num_samples": 96, "sampler": document["sampler"]["base"]})
    with open_source(broken.source, base_dir=small.parent) as opened:
        whole = make_plan(unread, base_dir=small.parent, source=opened)  # reads no pixel, so that none is in a cache
        lost = whole.table["scene_ids"].to_pylist()[0][0]
        (path,) = archive_copy.glob(f"*/{lost}/*B08*")
        path.unlink()
        path.write_bytes(b"no image")
        plan = make_plan(broken, base_dir=small.parent, source=opened)
    assert plan.spectral.unread > 0
    assert lost not in {name for names in plan.table["scene_ids"].to_pylist() for name in names}
    assert len(plan) == 12
    assert any(f"scene {lost} cannot be scored" in record.getMessage() for record in caplog.records)


@given(st.integers(5, 60), st.integers(0, 10))
def test_calibration_is_scipys_correlation_and_holds_it_in_its_interval(n, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    full = 2 + 0.5 * scores + rng.normal(size=n) / 3
    found = calibrate(np.append(scores, np.nan), np.append(full, 1.0))
    assert found.n == n
    assert found.rank_correlation == pytest.approx(spearmanr(scores, full).statistic)
    assert found.ci_low <= found.rank_correlation <= found.ci_high
    assert found.predict(scores).mean() == pytest.approx(full.mean())


def test_the_interval_is_that_of_fisher_and_fieller():
    # rho = .6 at n = 53: z = atanh(.6) = .6931, half width 1.96 sqrt(1.06 / 50) = .2854
    rng = np.random.default_rng(1)
    best = min(
        (calibrate(x, x + rng.normal(size=53) * 1.2) for x in rng.normal(size=(300, 53))),
        key=lambda c: abs(c.rank_correlation - 0.6),
    )
    z = np.arctanh(best.rank_correlation)
    assert (best.ci_low, best.ci_high) == pytest.approx((np.tanh(z - 0.28538), np.tanh(z + 0.28538)), abs=1e-4)


def test_the_highest_come_first_and_the_unknown_never():
    entropies = np.array([1.0, np.nan, 3.0, 2.0])
    assert choice_order(entropies, np.zeros(4, dtype=int), wanted=[2], target=None).tolist() == [2, 3, 0]


def test_each_bin_gets_its_quota_of_each_stratum_before_any_gets_more():
    entropies = np.array([0.1, 0.2, 0.3, 0.4, 1.1, 0.1, 1.5])
    stratum = np.array([0, 0, 0, 0, 0, 1, 1])
    target = Target(edges=[0, 1, 2], weights=[1, 1])
    order = choice_order(entropies, stratum, wanted=[2, 2], target=target)
    assert order[:4].tolist() == [0, 4, 5, 6]
    assert order[4:].tolist() == [1, 2, 3]


def test_coarse_chips_cover_the_same_ground(recipe):
    chip = recipe.chip.model_copy(update={"size_px": 96})
    coarse = coarser(chip, factor=4, bands=["B02"])
    assert (coarse.size_px, coarse.resolution_m, coarse.bands) == (24, 40.0, ["B02"])
    assert coarser(chip, factor=64, bands=None).size_px == 1
