from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skbio.diversity import alpha

from catalog.diversity import describe_area, describe_classes, describe_coverage
from catalog.extension import CLASS_LAYERS, statistics_from, statistics_of
from catalog.measures.rarefaction import rarefy
from catalog.measures.statistics import describe_spectral
from catalog.measures.sums import AreaTally, EntropyTally
from catalog.measures.tally import Tally
from catalog.pairs import pairs_on_earth
from pwcat.errors import CatalogError
from pwcat.regions.continents import continents_by_land
from pwcat.regions.vector import read_vector, vector_layer

FRACTIONS = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("fraction", pa.float64())]))
# Biomes that some continent has so little of that few points may miss it.
SMALL = {"Mangroves", "Temperate Conifer Forests", "Tropical & Subtropical Dry Broadleaf Forests"}
CENTROID = pa.struct([pa.field("lat", pa.float64()), pa.field("lon", pa.float64())])


def test_a_layer_is_described_with_its_intervals_and_what_has_no_class():
    described = describe_classes({"b": 30, "a": 10}, num_samples=50, layer="layer.fgb")
    assert list(described["counts"]) == ["a", "b"]
    assert (described["num_samples"], described["num_labelled"], described["num_classes"]) == (50, 40, 2)
    assert described["ci_low"] < described["shannon"] < described["ci_high"] <= math.log(2)
    for name, (low, high) in described["intervals"].items():
        assert low < described[name] < high
    assert described["intervals"]["hill_1"] == pytest.approx([math.exp(described[f"ci_{k}"]) for k in ("low", "high")])
    assert described == describe_classes({"a": 10, "b": 30}, num_samples=50, layer="layer.fgb")
    nothing = describe_classes({}, num_samples=3, layer=None)
    assert [nothing[key] for key in ("shannon", "ci_low", "hill_0", "evenness")] == [None] * 4
    assert (nothing["num_labelled"], nothing["rarefied"]) == (0, [])


@given(values=st.lists(st.integers(1, 500), min_size=1, max_size=12))
def test_numbers_of_a_layer_are_those_of_scikit_bio(values):
    described = describe_classes(dict(zip("abcdefghijkl", values, strict=False)), num_samples=sum(values), layer=None)
    assert described["shannon"] == pytest.approx(alpha.shannon(values, base=math.e), abs=1e-12)
    for q in (0, 1, 2):
        assert described[f"hill_{q}"] == pytest.approx(alpha.hill(values, order=q))
    if len(values) > 1:
        assert described["evenness"] == pytest.approx(alpha.pielou_e(values))


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    truth = -(shares * np.log(shares)).sum()
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        drawn = dict(zip("abcd", rng.multinomial(500, shares).tolist(), strict=True))
        described = describe_classes(drawn, num_samples=500, layer=None)
        held += described["ci_low"] <= truth <= described["ci_high"]
    assert 88 <= held <= 100


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any), data=st.data())
def test_rarefied_numbers_are_the_means_over_every_draw(counts, data):
    samples = [name for name, count in enumerate(counts) for _ in range(count)]
    m = data.draw(st.integers(1, len(samples)))
    shares = np.array([np.bincount(draw, minlength=len(counts)) / m for draw in combinations(samples, m)])
    found = rarefy(counts, m)
    assert found.hill_0 == pytest.approx((shares > 0).sum(axis=1).mean())
    logs = np.log(np.where(shares > 0, shares, 1))
    assert found.shannon == pytest.approx(-(shares * logs).sum(axis=1).mean(), abs=1e-12)
    assert found.hill_1 == pytest.approx(math.exp(found.shannon))
    assert found.hill_2 == pytest.approx(1 / (shares**2).sum(axis=1).mean())


@given(counts=st.lists(st.integers(0, 3000), min_size=1, max_size=30).filter(any), data=st.data())
def test_rarefied_to_all_samples_is_the_plug_in_and_less_is_never_more(counts, data):
    total = sum(counts)
    whole = rarefy(counts, total)
    assert whole.shannon == pytest.approx(alpha.shannon(counts, base=math.e), abs=1e-9)
    assert whole.hill_2 == pytest.approx(alpha.hill(counts, order=2))
    fewer = rarefy(counts, data.draw(st.integers(1, total)))
    assert fewer.shannon <= whole.shannon + 1e-9
    assert 1 - 1e-9 <= fewer.hill_2 <= fewer.hill_1 + 1e-9 <= fewer.hill_0 + 2e-9


def test_rarefied_values_tell_that_datasets_of_different_size_are_alike():
    shares = np.random.default_rng(1).dirichlet(np.full(60, 0.4))
    rng = np.random.default_rng(2)
    small, large = rng.multinomial(150, shares), rng.multinomial(40_000, shares)
    plain = abs(alpha.shannon(large, base=math.e) - alpha.shannon(small, base=math.e))
    assert abs(rarefy(large, 100).shannon - rarefy(small, 100).shannon) < plain / 2
    described = describe_classes({str(k): int(n) for k, n in enumerate(large) if n}, num_samples=40_000, layer=None)
    assert [entry["num_samples"] for entry in described["rarefied"]] == [100, 1000, 10_000]
    with pytest.raises(CatalogError, match="150 samples with a class cannot be rarefied to 151: ask for 1 to 150"):
        rarefy(small, 151)


def area_of(shares_NK, names="abcdefgh"):
    rows = [[{"name": n, "fraction": float(f)} for n, f in zip(names, row, strict=False) if f] for row in shares_NK]
    return Tally.of(pa.table({"div:landcover_fractions": pa.array(rows, FRACTIONS)})).area


def test_land_cover_by_area_is_the_entropy_of_the_mean_shares_and_its_interval_that_of_resampled_samples():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([0.6, 0.3, 0.2], size=400)
    described = describe_area(area_of(shares), num_samples=410, layer="worldcover")
    mean = shares.mean(axis=0)
    assert described["shannon"] == pytest.approx(-(mean * np.log(mean)).sum(), abs=1e-9)
    assert described["hill_2"] == pytest.approx(1 / (mean**2).sum(), rel=1e-9)
    assert described["shares"] == pytest.approx(dict(zip("abc", mean, strict=True)))
    assert (described["num_samples"], described["num_labelled"]) == (410, 400)
    drawn = shares[rng.integers(400, size=(2000, 400))].mean(axis=1)
    slow = np.percentile(-(drawn * np.log(drawn)).sum(axis=1), [2.5, 97.5])
    assert [described["ci_low"], described["ci_high"]] == pytest.approx(slow, abs=0.01)
    nothing = describe_area(AreaTally(), num_samples=3, layer=None)
    assert (nothing["shannon"], nothing["ci_low"], nothing["shares"]) == (None, None, {})


def test_coverage_counts_cells_that_hold_samples():
    cells = {("tundra", "Asia"): 5, ("tundra", "Europe"): 3, ("desert", "Africa"): 2}
    described = describe_coverage(cells, num_samples=12, layers={"biome": "own.fgb"})
    assert (described["num_cells"], described["num_present"], described["share"]) == (3, 6, None)
    assert described["layer"] == "own.fgb × continent"
    assert described["counts"] == {"desert": {"Africa": 2}, "tundra": {"Asia": 5, "Europe": 3}}
    assert described["shannon"] == pytest.approx(alpha.shannon([5, 3, 2], base=math.e))
    assert describe_coverage({}, num_samples=2, layers={})["num_on_earth"] is None


def test_coverage_is_of_the_pairs_on_earth_where_they_are_known():
    layers = {"biome": "resolve-2017", "continent": "natural-earth, natural-earth-110m"}
    cells = {("Tundra", "Asia"): 5, ("Boreal Forests/Taiga", "Asia"): 1, ("Tundra", "Africa"): 1}
    described = describe_coverage(cells, num_samples=7, layers=layers)
    assert described["num_on_earth"] == 62
    assert described["share"] == 2 / 62  # there is no tundra in Africa: a fault of the labels covers nothing
    every = dict.fromkeys(pairs_on_earth(layers) or (), 1)
    assert describe_coverage(every, num_samples=62, layers=layers)["share"] == 1


@pytest.mark.kit
def test_the_pairs_on_earth_are_those_of_the_layers(kit):
    biomes, countries = kit / "vectors/biomes/resolve_2017_biomes_simplified.fgb", kit / "vectors/natural_earth"
    frame = read_vector(biomes, name="biome")
    biome = vector_layer(frame, name="biome", source="kit", field="BIOME_NAME", path=biomes)
    path = countries / "ne_110m_admin_0_countries.geojson"
    continent = continents_by_land(read_vector(path, name="continent"), name="continent", source="kit", path=path)[0]
    rng = np.random.default_rng(5)
    lonlat = np.column_stack([rng.uniform(-180, 180, 200_000), np.rad2deg(np.arcsin(rng.uniform(-1, 1, 200_000)))])
    found = Counter(zip(biome.codes(lonlat).tolist(), continent.codes(lonlat).tolist(), strict=True))
    km2 = {
        (biome.classes[b], continent.classes[c]): count * 510e6 / 200_000
        for (b, c), count in found.items()
        if b >= 0 and c >= 0
    }
    known = pairs_on_earth({"biome": "resolve-2017", "continent": "natural-earth"})
    assert known is not None
    assert {pair for pair, area in km2.items() if area > 20_000} <= known
    assert known - km2.keys() <= {pair for pair in known if pair[0] in SMALL}


def entropies_of(values):
    return Tally.of(pa.table({"div:spectral_entropy": pa.array(values, pa.float64())})).spectra.get(
        "band-histogram", EntropyTally()
    )


@settings(deadline=None)
@given(st.lists(st.floats(0, math.log(256)), min_size=2, max_size=40))
def test_mean_and_distribution_of_entropies_are_those_of_the_values(values):
    described = describe_spectral(entropies_of(values))
    assert described["mean"] == pytest.approx(np.mean(values), abs=1e-9)
    assert described["standard_deviation"] == pytest.approx(np.std(values, ddof=1), abs=1e-4)
    assert described["ci_low"] <= described["mean"] + 1e-9 <= described["ci_high"] + 2e-9
    assert sum(described["distribution"]["counts"]) == described["count"] == len(values)
    quantiles = np.quantile(values, [0, 0.5, 1], method="inverted_cdf")
    assert quantiles[0] - 1 / 64 <= described["q05"] <= described["q95"] <= quantiles[2] + 1 / 64
    assert described["median"] == pytest.approx(quantiles[1], abs=1 / 64 + 1e-9)


def test_the_bootstrap_of_a_mean_is_that_of_the_values_themselves():
    rng = np.random.default_rng(0)
    values = rng.beta(2, 5, size=300) * 4
    described = describe_spectral(entropies_of(values))
    slow = np.percentile(values[rng.integers(300, size=(4000, 300))].mean(axis=1), [2.5, 97.5])
    assert [described["ci_low"], described["ci_high"]] == pytest.approx(slow, abs=0.01)


def test_one_sample_has_a_mean_and_no_interval_and_none_has_nothing():
    one = describe_spectral(entropies_of([2.5]))
    assert (one["mean"], one["ci_low"], one["ci_high"]) == (2.5, None, None)
    assert describe_spectral(entropies_of([math.nan]))["mean"] is None
    assert describe_spectral(EntropyTally())["distribution"]["counts"] == []
    alike = describe_spectral(entropies_of([1.25] * 5))
    assert (alike["ci_low"], alike["ci_high"], alike["standard_deviation"]) == (1.25, 1.25, 0.0)


def items(rows):
    labels = [label for label, _, _ in rows]
    table = {f"div:{name}": pa.array(labels, pa.string()) for name in (*CLASS_LAYERS, "ecoregion")}
    shares = [[{"name": label, "fraction": 0.75}] if label else None for label in labels]
    return pa.table(
        table
        | {
            "div:landcover_fractions": pa.array(shares, FRACTIONS),
            "div:spectral_entropy": pa.array([entropy for _, entropy, _ in rows], pa.float64()),
            "div:spectral_entropy_covariance": pa.array([entropy / 2 for _, entropy, _ in rows], pa.float64()),
            "proj:centroid": pa.array([{"lon": lon, "lat": -lon / 2} for _, _, lon in rows], CENTROID),
        }
    )


rows = st.tuples(st.sampled_from(["Asia", "Africa", "Europe", None]), st.floats(0, 5), st.floats(-180, 180))


@settings(deadline=None, max_examples=30)
@given(rows=st.lists(rows, min_size=1, max_size=40), cut=st.integers(0, 40))
def test_statistics_of_a_union_need_no_more_than_the_tallies_of_its_parts(rows, cut):
    whole = statistics_of(items(rows), layers={"biome": "b"})
    merged = Tally.of(items(rows[:cut])) + Tally.of(items(rows[cut:]))
    lonlat = np.array([[lon, -lon / 2] for _, _, lon in rows])
    assert statistics_from(merged, layers={"biome": "b"}, lonlat=lonlat) == whole
    grown = Tally.of(items(rows)) - Tally.of(items(rows[:cut]))
    assert statistics_from(grown, layers={}) == statistics_from(Tally.of(items(rows[cut:])), layers={})
    for numbers in whole.values():
        assert {"unit", "estimator", "version", "layer", "num_samples"} <= numbers.keys()


def test_means_of_several_codebooks_are_not_taken_together():
    table = pa.table({"div:spectral_entropy_codebook": [1.0, 2.0], "collection": ["x", "y"]})
    apart = statistics_of(table, layers={}, codebooks={"x": "one", "y": "two"})["spectral_codebook"]
    assert (apart["mean"], apart["codebook"], apart["codebooks"]) == (None, None, ["one", "two"])
    alike = statistics_of(table, layers={}, codebooks={"x": "one", "y": "one"})["spectral_codebook"]
    assert (alike["mean"], alike["codebook"]) == (1.5, "one")
