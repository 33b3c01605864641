from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from catalog.commands.stats import stats
from catalog.measures.rarefaction import rarefy
from catalog.query import open_catalog


def invoke(*args):
    result = CliRunner(env={"COLUMNS": "80"}).invoke(stats, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_tables_fit_eighty_columns_and_name_every_layer_and_estimator(tiny_catalog):
    lines = invoke(tiny_catalog).splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for word in (
        "everywhere",
        "continent",
        "biome",
        "land cover",
        "by area",
        "band histogram",
        "codebook",
        "covariance",
    ):
        assert word in text
    for word in ("Shannon", "Hill 0", "Even", "At random", "Ratio", "Cells", "█"):
        assert word in text
    assert "…" not in text.replace("… by area", "")


def test_json_has_the_collections_own_statistics_and_the_size_asked_for(tiny_catalog):
    own = json.loads((tiny_catalog / "everywhere" / "stats.json").read_text())["statistics"]
    (told,) = json.loads(invoke(tiny_catalog / "everywhere", "--json")).values()
    assert told == own
    (at,) = json.loads(invoke(tiny_catalog / "everywhere", "--at", "7", "--json")).values()
    (entry,) = at["biome"]["rarefied"]
    assert entry["shannon"] == pytest.approx(rarefy(list(own["biome"]["counts"].values()), 7).shannon)


def test_datasets_of_different_size_are_told_at_the_size_of_the_smallest(tiny_catalog, tmp_path):
    whole = open_catalog(tiny_catalog).search(collections="everywhere")
    whole.select(range(20)).save(tmp_path / "some.parquet")
    text = invoke(tiny_catalog / "everywhere", tmp_path / "some.parquet")
    assert "in draws of 20 samples" in text
    counts = list(whole.stats()["continent"]["counts"].values())
    assert f"{rarefy(counts, 20).shannon:.3f}" in text


def test_datasets_of_one_name_are_told_apart_by_their_folders(tiny_catalog, tmp_path):
    whole = open_catalog(tiny_catalog).search()
    paths = [whole.only(np.arange(n)).save(tmp_path / f"{n}" / "a" / "x.parquet") for n in (5, 6, 7)]
    told = json.loads(invoke(*paths, "--json"))
    assert {name: one["biome"]["num_samples"] for name, one in told.items()} == {"x": 5, "a/x": 6, "7/a/x": 7}


def test_a_subset_of_nothing_has_no_diversity(tiny_catalog):
    told = open_catalog(tiny_catalog).search(filter="spectral_entropy > 99").stats()
    assert told["spectral"]["mean"] is told["dispersion"]["mean_km"] is told["coverage"]["share"] is None
    assert told["continent"]["shannon"] is None
