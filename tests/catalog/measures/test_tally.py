from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.measures.codebook import fit_codebook
from catalog.measures.sums import BIN_WIDTH
from catalog.measures.tally import Tally, sum_tallies
from catalog.spectral import measure
from pwcat.errors import CatalogError

FRACTIONS = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("fraction", pa.float64())]))

label = st.sampled_from(["a", "b", "c", None])
entropy = st.one_of(st.floats(0, 5.5), st.just(math.nan))
fractions = st.one_of(
    st.none(), st.dictionaries(st.sampled_from(["forest", "water", "crops"]), st.floats(0, 1), max_size=3)
)
row = st.tuples(label, label, label, fractions, entropy, entropy)


def as_items(rows):
    continents, biomes, covers, shares, histograms, codebooks = zip(*rows, strict=True) if rows else [()] * 6
    listed = [None if f is None else [{"name": k, "fraction": v} for k, v in f.items()] for f in shares]
    return pa.table(
        {
            "div:continent": pa.array(continents, pa.string()),
            "div:biome": pa.array(biomes, pa.string()),
            "div:landcover": pa.array(covers, pa.string()),
            "div:landcover_fractions": pa.array(listed, FRACTIONS),
            "div:spectral_entropy": pa.array(histograms, pa.float64()),
            "div:spectral_entropy_codebook": pa.array(codebooks, pa.float64()),
        }
    )


@settings(deadline=None)
@given(rows=st.lists(row, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=3))
def test_the_tally_of_a_union_is_the_sum_of_the_tallies_to_the_bit(rows, cuts):
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [Tally.of(as_items(rows[a:b])) for a, b in pairwise(edges)]
    whole = Tally.of(as_items(rows))
    assert sum_tallies(parts) == whole == sum_tallies(parts[::-1])
    assert whole - parts[0] == sum_tallies(parts[1:])
    assert Tally.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    assert whole + Tally() == whole


@settings(deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=30))
def test_a_tally_counts_what_is_there(rows):
    tally = Tally.of(as_items(rows))
    assert tally.num_samples == len(rows)
    assert sum(tally.classes.get("continent", {}).values()) == sum(r[0] is not None for r in rows)
    assert sum(tally.cells.values()) == sum(r[0] is not None and r[1] is not None for r in rows)
    held = [r[4] for r in rows if not math.isnan(r[4])]
    if held:
        spectra = tally.spectra["band-histogram"]
        assert spectra.count == len(held) == sum(spectra.bins.values())
        assert spectra.sum == pytest.approx(math.fsum(held), abs=1e-9)
        assert spectra.sum_of_squares == pytest.approx(math.fsum(v**2 for v in held), abs=1e-9)
        assert min(spectra.bins) * BIN_WIDTH <= min(held) < (min(spectra.bins) + 1) * BIN_WIDTH
    else:
        assert "band-histogram" not in tally.spectra
    water = [r[3]["water"] for r in rows if r[3] and "water" in r[3]]
    assert tally.area.sums.get("water", 0) * 2.0**-40 == pytest.approx(math.fsum(water), abs=1e-10)
    both = [r[3]["water"] * r[3]["crops"] for r in rows if r[3] and {"water", "crops"} <= r[3].keys()]
    assert tally.area.products.get(("crops", "water"), 0) * 2.0**-40 == pytest.approx(math.fsum(both), abs=1e-4)


def test_band_counts_of_shards_add_to_those_of_all_chips():
    rng = np.random.default_rng(0)
    chips = rng.integers(0, 12_000, size=(7, 2, 3, 4, 5), dtype=np.uint16)
    codebook = fit_codebook([chips], bands=("B2", "B3", "B4"), rng=rng, size=5)
    items = as_items([("a", "b", "c", None, 1.0, 2.0)] * 7)
    whole = Tally.of(items, measure(chips, codebook=codebook))
    parts = [Tally.of(items[a:b], measure(chips[a:b], codebook=codebook)) for a, b in ((0, 1), (1, 1), (1, 5), (5, 7))]
    assert sum_tallies(parts) == whole
    assert Tally.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    held = chips[:, :, 1][chips[:, :, 1] > 0].astype(np.int64)
    band = whole.bands["B3"]
    assert (band.count, band.sum, band.sum_of_squares) == (len(held), held.sum(), (held**2).sum())
    np.testing.assert_array_equal(band.counts_K, np.histogram(np.minimum(held, 9999), 4096, (0, 10_000))[0])
    assert set(whole.spectra) == {"band-histogram", f"codebook:{codebook.hash}"}


def test_entropies_of_different_codebooks_are_not_added():
    items = as_items([("a", "b", "c", None, 1.0, 2.0)] * 3).append_column("collection", pa.array(["x", "y", "x"]))
    tally = Tally.of(items, codebooks={"x": "one", "y": "two"})
    assert {name: spectra.count for name, spectra in tally.spectra.items()} == {
        "band-histogram": 3,
        "codebook:one": 2,
        "codebook:two": 1,
    }


def test_what_is_no_tally_or_no_part_of_one_is_refused():
    one = Tally.of(as_items([("a", "b", "c", None, 1.0, 2.0)]))
    with pytest.raises(CatalogError, match="cannot be taken from it"):
        Tally() - one
    with pytest.raises(CatalogError, match="version '9' cannot be read"):
        Tally.from_json({"version": "9"})
    with pytest.raises(CatalogError, match="describe the collection again"):
        Tally.from_json({"version": "1.0", "num_samples": 3})
