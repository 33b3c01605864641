"""What scoring reads: pixels as a build reads them, overviews instead of them, and each only once."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import spearmanr

from pwcat.costs.traffic import metered
from pwcat.entropy import spectral_entropy
from pwcat.plan import make_plan
from pwcat.providers import open_source
from pwcat.providers.limits import limit_of
from pwcat.readers import read_chips
from pwcat.recipe import Recipe
from pwcat.sites.placing import Placements
from pwcat.spectra.scoring import coarser, score_chips

UNIFORM = {"strategy": "uniform", "domain": "scenes"}


def recipe_over(archive, recipe, **changes):
    document = recipe.model_dump(mode="json")
    document["source"] = {**document["source"], "path": str(archive)}
    document["regions"] = {}
    return Recipe.model_validate({**document, "sampler": UNIFORM, **changes})


def placements_of(plan):
    numbers = {scene.id: number for number, scene in enumerate(plan.scenes)}
    return Placements(
        site=np.arange(len(plan)),
        scene=np.array([[numbers[name] for name in names] for names in plan.table["scene_ids"].to_pylist()]),
        beside=np.empty((len(plan), 1, 0), dtype=np.int64),
        epsg=plan.table["epsg"].to_numpy(),
        x0=plan.table["x0"].to_numpy(),
        y0=plan.table["y0"].to_numpy(),
    )


def test_scoring_and_calibration_read_less_than_all_candidates_in_full_and_rank_as_they_do(wide_archive, recipe):
    chip = {"size_px": 96, "bands": ["B04", "B08"]}
    base = recipe_over(wide_archive, recipe, chip=chip, num_samples=120)
    sampler = {"strategy": "spectral", "base": UNIFORM, "candidates": 5, "calibrate": 20}
    with open_source(base.source, base_dir=wide_archive) as opened:
        spectral = recipe_over(wide_archive, recipe, chip=chip, num_samples=24, sampler=sampler)
        choice = make_plan(spectral, base_dir=wide_archive, source=opened).spectral
    # the very same candidates, for a draw hangs on the seed alone; served anew, so that nothing is cached
    with open_source(base.source, base_dir=wide_archive) as opened:
        plan = make_plan(base, base_dir=wide_archive, source=opened)
        places = placements_of(plan)
        with metered() as coarse_reads:
            coarse = score_chips(places, plan.scenes, chip=coarser(base.chip, factor=4, bands=None), source=opened)
    with open_source(base.source, base_dir=wide_archive) as opened, metered() as full_reads:
        full = score_chips(places, plan.scenes, chip=base.chip, source=opened)
    assert choice.candidates == len(plan) == 120
    assert choice.spent_bytes < 0.7 * full_reads.bytes  # measured .58
    assert coarse_reads.bytes < 0.2 * full_reads.bytes  # measured .09; a sixteenth of the pixels, and headers
    assert choice.spent_bytes - choice.calibration_bytes == coarse_reads.bytes
    assert choice.full_bytes == pytest.approx(full_reads.bytes, rel=0.2)
    assert choice.saved_bytes == choice.full_bytes - choice.spent_bytes
    assert spearmanr(coarse, full).statistic > 0.9  # measured .97
    assert choice.calibration.rank_correlation > 0.9


def test_candidates_that_share_files_add_no_reads(archive_dir, recipe, monkeypatch):
    plan = make_plan(recipe_over(archive_dir, recipe, num_samples=24), base_dir=archive_dir)
    once = placements_of(plan)
    rng = np.random.default_rng(0)
    often = once.take(rng.permutation(np.repeat(np.arange(24), 30)))
    monkeypatch.setattr("pwcat.spectra.scoring.CHIPS_AT_ONCE", 20)  # lots of one scene after each other
    spent, scores = [], []
    for places in (once, often):
        with open_source(plan.recipe.source, base_dir=archive_dir) as opened, metered() as traffic:
            scores.append(score_chips(places, plan.scenes, chip=plan.recipe.chip, source=opened))
        spent.append((traffic.requests, traffic.bytes))
    assert spent[0] == spent[1]
    assert spent[0][0] >= 2 * 3 * len(plan.scenes)
    by_site = dict(zip(once.x0.tolist(), scores[0].tolist(), strict=True))
    assert [by_site[x] for x in often.x0.tolist()] == scores[1].tolist()


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
def test_in_full_the_score_is_the_entropy_of_the_chip_that_a_build_reads(archive_dir, recipe, resampling):
    chip = {"size_px": 48, "bands": ["B02", "B05", "B01"], "resampling": resampling}
    plan = make_plan(recipe_over(archive_dir, recipe, chip=chip), base_dir=archive_dir)
    scenes = {scene.id: scene for scene in plan.scenes}
    with open_source(plan.recipe.source, base_dir=archive_dir) as opened:
        scores = score_chips(placements_of(plan), plan.scenes, chip=plan.recipe.chip, source=opened)
        for row, score in zip(plan.table.to_pylist(), scores, strict=True):
            scene = scenes[row["scene_ids"][0]]
            raw = read_chips(scene, [(row["x0"], row["y0"])], chip=plan.recipe.chip, source=opened, threads=2)
            offset = opened.boa_offset(scene.item["properties"])
            built = spectral_entropy(np.where(raw > offset, raw - offset, 0).astype(np.uint16)[:, None])[0]
            # bilinear: a DN apart where GDAL rounds the weights of 60 m pixels another way
            assert score == pytest.approx(built, abs=0 if resampling == "nearest" else 0.01)


@pytest.mark.parametrize("factor", [1, 4])
def test_a_permit_of_the_sources_rate_is_taken_for_each_request(wide_archive, recipe, factor, monkeypatch):
    limited = recipe_over(wide_archive, recipe, chip={"size_px": 96, "bands": ["B04", "B08"]}, num_samples=60)
    plan = make_plan(limited, base_dir=wide_archive)
    chip = coarser(plan.recipe.chip, factor=factor, bands=None)
    # A clock that stands still: what the next permit is due at tells how many were taken
    monkeypatch.setattr(
        "pwcat.providers.limits.time", SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda seconds: None)
    )
    with open_source(plan.recipe.source, base_dir=wide_archive) as opened, metered() as traffic:
        limit_of(opened).per_second = 10
        score_chips(placements_of(plan), plan.scenes, chip=chip, source=opened)
        permits = round(10 * limit_of(opened).reserve())
    assert traffic.requests <= permits < 1.5 * traffic.requests  # measured 1.21 and 1
