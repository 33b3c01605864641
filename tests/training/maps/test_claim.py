"""The claim: a trained tiny GeoJEPA tells masked buildings better than the best constant does, by an interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from catalog.store import build_map
from catalog.subset import load_subset
from pwcat.archive.towns import TownOptions, synthesise_towns
from training.embed import embed_task
from training.evaluating.draws import draws_of
from training.pretrain import pretrain
from training.probes import make_probes
from training.recipe import load_train_recipe
from training.resampling import Resampling
from training.run import load_run
from training.scoring.pairs import paired_gap
from training.tasks.map_targets import MapTask

TOWNS, SEEDS = 30, 2
SMALL = {"epochs": "8", "model.dim": "32", "model.depth": "2", "model.max_entities": "64", "batch_size": "8"}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Towns of four tiles each, a third of which are held back."""
    folder = tmp_path_factory.mktemp("claim")
    synthesise_towns(folder, options=TownOptions(seed=0, towns=TOWNS, across=2, images=False))
    recipe = yaml.safe_load((folder / "towns.yaml").read_text())
    recipe.pop("images", None)
    recipe["map"]["day"] = "2025-06-01"
    recipe["split"] = {"val": 0.05, "test": 0.35}
    (folder / "map.yaml").write_text(yaml.safe_dump(recipe))
    build_map(folder / "map.yaml", catalog=folder / "catalog")
    return folder / "catalog" / "towns"


def test_a_trained_tiny_model_beats_the_dummy_on_masked_building_count(catalog, tmp_path):
    towns = load_subset(catalog)
    data = MapTask(target="building-count").open(towns)
    draws = draws_of(data, Resampling(repeats=2))
    test, groups = draws[0].test, data.chips.subset.column("map:group")
    errors: dict[str, list[np.ndarray]] = {"ridge": [], "dummy": []}
    for seed in range(SEEDS):
        recipe = load_train_recipe("geojepa-tiny", overrides={**SMALL, "seed": str(seed)})
        run = pretrain(towns.split("train"), recipe, tmp_path / str(seed), device="cpu")
        embeddings = embed_task(load_run(run.path).load_model(), data)
        assert np.isfinite(embeddings).all()
        for probe in make_probes(errors, metric="mae"):
            for found in probe.fit_predict_many(embeddings, data.targets, draws, kind="regression", num_classes=0):
                errors[probe.name].append(np.abs(found.values - data.targets[test]))
    gap = paired_gap(errors["ridge"], errors["dummy"], groups_N=groups[test], rng=np.random.default_rng(0))
    told = f"dummy {np.mean(errors['dummy']):.1f}, model {np.mean(errors['ridge']):.1f}, {gap}"
    assert len(set(groups[test])) >= 8, told
    assert gap.ci_low > 0, told
