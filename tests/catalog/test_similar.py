"""Vectors beside items: the nearest and the near duplicates are those that all products say, and nothing else."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from catalog.columns import add_column
from catalog.cosine import MOST_PAIRS, most_similar, pairs_above, to_units
from catalog.query import open_catalog
from catalog.similar import near_duplicates, nearest, nearest_to
from catalog.stac.mirror import read_items, write_items
from catalog.store import describe, write_catalog
from catalog.subset import load_subset
from catalog.vectors import choose_column, read_units, vector_blocks
from pwcat.cli import cli
from pwcat.errors import CatalogError

WIDTH = 24


@pytest.fixture
def root(tiny_catalog, tmp_path):
    """A copy of the catalog's files, its pixels linked."""
    for name in ("europe", "everywhere"):
        shutil.copytree(tiny_catalog / name, tmp_path / "catalog" / name, copy_function=os.link)
        for path in (tmp_path / "catalog" / name).glob("*"):
            if path.is_file():  # no link may be written through
                data = path.read_bytes()
                path.unlink()
                path.write_bytes(data)
    write_catalog(tmp_path / "catalog")
    return tmp_path / "catalog"


@pytest.fixture
def vectors(root):
    """A column of made-up vectors of all 80 samples, in the order of the catalog: two planted pairs and a chain of three."""
    found = open_catalog(root).search()
    made = np.random.default_rng(0).normal(size=(80, WIDTH)).astype(np.float32)
    made[70] = 3 * made[5]  # alike, for length is nothing
    made[12] = made[11] + 0.003 * np.roll(made[11], 1)
    made[41] = made[40] + 0.17 * np.roll(made[40], 1)
    made[42] = made[41] + 0.17 * np.roll(made[41], 2)
    made[20] = np.nan
    made[21] = 0
    add_column(found, "emb:x", made, meaning="made up", made={"weights_hash": "aa"})
    return made


def cosines(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    with np.errstate(invalid="ignore"):
        unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit @ unit.T


def test_planted_duplicates_are_found_and_nothing_else(root, vectors):
    found = near_duplicates(open_catalog(root).search(), "emb:x", above=0.98)
    expected = [(i, j) for i, j in np.argwhere(np.nan_to_num(cosines(vectors)) >= 0.98) if i < j]
    assert list(zip(found.first, found.second, strict=True)) == expected
    assert expected == [(5, 70), (11, 12), (40, 41), (41, 42)]
    assert found.similarity[0] == 1.0
    np.testing.assert_allclose(found.similarity, [cosines(vectors)[pair] for pair in expected], atol=2e-7)
    assert found.without == 2
    assert [group.tolist() for group in found.groups] == [[40, 41, 42], [5, 70], [11, 12]]
    assert found.left_out.tolist() == [12, 41, 70]  # 42 is like 41 alone, which is gone
    lonlat = found.subset.lonlat
    km = [Geod(ellps="WGS84").inv(*lonlat[i], *lonlat[j])[2] / 1000 for i, j in expected]
    np.testing.assert_allclose(found.km, km, rtol=1e-12, atol=1e-9)


def test_what_remains_has_no_duplicates_and_all_else(root, vectors, tmp_path):
    found = near_duplicates(open_catalog(root).search(), "emb:x", above=0.98)
    again = load_subset(found.remaining().save(root / "lean.parquet"))
    assert len(again) == 77
    assert again.query["without_duplicates"]["left_out"] == 3
    assert len(near_duplicates(again, "emb:x", above=0.98)) == 0
    table = found.table()
    assert table.column_names == ["collection", "id", "like_collection", "like_id", "similarity", "km"]
    first = table.slice(0, 1).to_pylist()[0]
    ids = found.subset.column("id")
    assert (first["id"], first["like_id"]) == (ids[5], ids[70])
    assert first["collection"] == "europe"
    assert first["like_collection"] == "everywhere"


def test_two_subsets_are_compared_both_ways_alike(root, vectors):
    catalog = open_catalog(root)
    one, two = catalog.search(collections="europe"), catalog.search(collections="everywhere")
    there = near_duplicates(one, "emb:x", above=0.5, other=two)
    back = near_duplicates(two, "emb:x", above=0.5, other=one)
    pairs = {(i, j): s for i, j, s in zip(there.first, there.second, there.similarity, strict=True)}
    assert pairs == {(j, i): s for i, j, s in zip(back.first, back.second, back.similarity, strict=True)}
    assert (5, 70 - 32) in pairs
    assert set(there.left_out) == set(there.first)
    with pytest.raises(CatalogError, match="pairs with another subset make no groups"):
        _ = there.groups
    itself = near_duplicates(one, "emb:x", above=0.98, other=one)
    known = [i for i in range(32) if i not in (20, 21)]
    assert [(i, i) for i in known] == [(i, j) for i, j in zip(itself.first, itself.second, strict=True) if i == j]
    assert (11, 12) in zip(itself.first, itself.second, strict=True)
    assert (12, 11) in zip(itself.first, itself.second, strict=True)


def test_the_nearest_are_those_of_all_products(root, vectors):
    catalog = open_catalog(root)
    everything = catalog.search()
    ids, owners = everything.column("id"), everything.column("collection")
    like = catalog.search(ids=[ids[5]], collections=[owners[5]])
    found = nearest(everything, "emb:x", like, limit=7)
    truth = np.nan_to_num(cosines(vectors), nan=-9)[5]
    truth[5] = -9
    assert found.rows.tolist() == np.argsort(-truth, kind="stable")[:7].tolist()
    np.testing.assert_allclose(found.similarity, np.sort(truth)[::-1][:7], atol=2e-7)
    km = [Geod(ellps="WGS84").inv(*everything.lonlat[5], *everything.lonlat[k])[2] / 1000 for k in found.rows]
    np.testing.assert_allclose(found.km, km, rtol=1e-12, atol=1e-9)
    assert set(found.samples().column("id")) == set(ids[found.rows])


def test_like_vectors_or_any_of_several_samples(root, vectors):
    everything = open_catalog(root).search()
    given = nearest(everything, "emb:x", vectors[5], limit=3)
    assert given.rows[:2].tolist() == [5, 70]
    assert np.isnan(given.km).all()
    several = everything.select(np.array([5, 11]))
    found = nearest(everything, "emb:x", several, limit=2)
    assert found.rows.tolist() == [70, 12]
    assert found.like.tolist() == [0, 1]
    assert len(nearest(everything, "emb:x", vectors[5], limit=500)) == 78
    assert len(nearest(everything.select(np.array([20])), "emb:x", vectors[5])) == 0
    assert len(nearest(everything.only(np.array([], dtype=int)), "emb:x", vectors[5])) == 0


def test_what_cannot_be_asked_is_refused(root, vectors):
    everything = open_catalog(root).search()
    with pytest.raises(CatalogError, match=r"vectors of shape \(2, 2, 2\)"):
        nearest(everything, "emb:x", np.zeros((2, 2, 2)))
    with pytest.raises(CatalogError, match="none of them all zeros"):
        nearest(everything, "emb:x", np.zeros(WIDTH))
    with pytest.raises(CatalogError, match="vectors of 24 numbers, and those to be like have 3"):
        nearest(everything, "emb:x", np.ones(3))
    with pytest.raises(CatalogError, match="none of the 1 samples to be like has a vector"):
        nearest(everything, "emb:x", everything.select(np.array([20])))
    with pytest.raises(CatalogError, match="there is no column of vectors 'emb:y'; there are emb:x"):
        near_duplicates(everything, "emb:y", above=0.9)
    with pytest.raises(CatalogError, match=r"above=1\.5: a cosine similarity of -1 to 1"):
        near_duplicates(everything, "emb:x", above=1.5)
    with pytest.raises(CatalogError, match="more than 10 pairs are -1 or more similar"):
        near_duplicates(everything, "emb:x", above=-1, most=10)
    with pytest.raises(CatalogError, match="at least one sample"):
        nearest(everything, "emb:x", np.ones(WIDTH), limit=0)


def test_vectors_of_several_models_are_not_compared(root, vectors):
    catalog = open_catalog(root)
    two = catalog.search(collections="everywhere")
    add_column(two, "emb:x", np.ones((48, 3)), meaning="others", made={"weights_hash": "bb"}, overwrite=True)
    with pytest.raises(CatalogError, match=r"europe, everywhere is of several models \(aa, bb\)"):
        near_duplicates(open_catalog(root).search(), "emb:x", above=0.9)
    assert choose_column(two) == "emb:x"
    add_column(two, "emb:x", np.ones((48, WIDTH)), meaning="others", made={"weights_hash": "bb"}, overwrite=True)
    one, two = (open_catalog(root).search(collections=name) for name in ("europe", "everywhere"))
    with pytest.raises(
        CatalogError, match=r"'emb:x' is of model aa here and of model bb there, whose vectors cannot be compared"
    ):
        near_duplicates(one, "emb:x", above=0.9, other=two)
    with pytest.raises(CatalogError, match=r"of model aa here and of model bb there"):
        nearest(one, "emb:x", two.select(np.array([0])))
    add_column(two, "emb:x", np.ones((48, 3)), meaning="others", made={"weights_hash": "aa"}, overwrite=True)
    with pytest.raises(CatalogError, match="vectors of 24 numbers here and of 3 there"):
        near_duplicates(one, "emb:x", above=0.9, other=open_catalog(root).search(collections="everywhere"))
    with pytest.raises(CatalogError, match="24 numbers in europe and of 3 in everywhere"):
        read_units(open_catalog(root).search(), "emb:x")
    add_column(two, "emb:z", np.ones((48, 3)), meaning="others")
    with pytest.raises(CatalogError, match=r"no column of vectors was named; there are emb:x, emb:z"):
        choose_column(open_catalog(root).search())


def test_blocks_hold_what_the_column_holds(root, vectors):
    some = open_catalog(root).search().select(np.arange(1, 80, 3))
    found = {int(k): v for rows, block in vector_blocks(some, "emb:x") for k, v in zip(rows, block, strict=True)}
    expected = {k: row for k, row in enumerate(vectors[1::3]) if not np.isnan(row).any()}
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(np.stack(list(found.values())), np.stack(list(expected.values())))


def test_half_the_bytes_and_nearly_the_same_similarities(root, vectors):
    everything = open_catalog(root).search()
    add_column(everything, "emb:half", vectors.astype(np.float16), meaning="made up")
    assert (
        pq.read_schema(root / "europe" / "columns" / "emb.half.parquet").field("value").type.value_type == "halffloat"
    )
    found = near_duplicates(everything, "emb:half", above=0.98)
    assert found.first.tolist() == [5, 11, 40, 41]
    one, half = read_units(everything, "emb:x"), read_units(everything, "emb:half")
    np.testing.assert_allclose(half.vectors @ half.vectors.T, one.vectors @ one.vectors.T, atol=1e-3)
    np.testing.assert_allclose(everything.column("emb:half"), vectors, rtol=1e-3)  # as a query reads them


def test_the_sample_nearest_to_a_place_that_has_a_vector(root, vectors):
    everything = open_catalog(root).search()
    lon, lat = everything.lonlat[20]  # which has none
    found, km = nearest_to(everything, "emb:x", lon, lat)
    away = np.array([Geod(ellps="WGS84").inv(lon, lat, *place)[2] / 1000 for place in everything.lonlat])
    away[20] = away[21] = np.inf
    assert km == pytest.approx(away.min())
    assert found.column("id")[0] in everything.column("id")[np.flatnonzero(away == away.min())]
    with pytest.raises(CatalogError, match="a longitude and a latitude in degrees are wanted, got 8, 95"):
        nearest_to(everything, "emb:x", 8, 95)
    with pytest.raises(CatalogError, match="none of 1 samples has a vector"):
        nearest_to(everything.select(np.array([20])), "emb:x", lon, lat)


@settings(max_examples=60)
@given(st.data())
def test_pairs_are_those_of_all_products_whatever_the_spectrum(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n, m = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 40))
    width = data.draw(st.sampled_from([1, 2, 33, 64, 130]))
    spectrum = np.arange(1, width + 1.0) ** -data.draw(st.sampled_from([0.0, 0.7, 2.0]))
    shift = data.draw(st.sampled_from([0.0, 0.3]))
    a, b = (to_units(rng.normal(size=(count, width)) * spectrum + shift) for count in (n, m))
    if n:
        b[0] = a[-1]
    above = data.draw(st.sampled_from([-0.2, 0.5, 0.9, 0.999, 1.0]))
    exact = np.round(cosines(np.concatenate([a, b]))[:n, n:], 7)
    found = pairs_above(a, b, above=above)
    assert set(zip(found.first, found.second, strict=True)) == set(map(tuple, np.argwhere(exact >= above)))
    own = pairs_above(a, above=above)
    same = np.round(cosines(a), 7) if n else np.empty((0, 0))
    assert set(zip(own.first, own.second, strict=True)) == {(i, j) for i, j in np.argwhere(same >= above) if i < j}


def test_pairs_over_several_blocks_by_a_few_directions():
    rng = np.random.default_rng(0)
    made = to_units(rng.normal(size=(2500, 160)) * np.arange(1, 161.0) ** -0.7)
    made[2400:2450] = made[:50]
    told = []
    found = pairs_above(made, above=0.97, progress=lambda done, total: told.append((done, total)))
    exact = np.argwhere(np.triu(made.astype(np.float64) @ made.T.astype(np.float64), 1) >= 0.97)
    np.testing.assert_array_equal(np.column_stack([found.first, found.second]), exact)
    assert len(found) >= 50
    assert told[-1] == (6, 6)
    assert MOST_PAIRS >= 1_000_000


def test_the_most_similar_over_blocks_with_ties_by_number():
    units = to_units(np.eye(4)[[0, 1, 0, 2, 0]])
    blocks = [(np.array([0, 1]), units[:2]), (np.array([2, 3, 4]), units[2:])]
    numbers, similarity = most_similar(units[:2], blocks, k=3)
    assert numbers[0].tolist() == [0, 2, 4]
    assert numbers[1, 0] == 1
    np.testing.assert_array_equal(similarity[0], [1, 1, 1])
    many = to_units(np.concatenate([np.eye(96)[1:], np.ones((200, 96)), np.eye(96)[:1]]).astype(np.float32))
    numbers, _ = most_similar(many[-2:-1], [(np.arange(len(many)), many)], k=5)
    assert numbers.tolist() == [[95, 96, 97, 98, 99]]
    numbers, similarity = most_similar(units[:1], [], k=2)
    assert numbers.tolist() == [[-1, -1]]
    assert np.isnan(similarity).all()


@pytest.mark.parametrize("spread", [1e-4, 1e-2, 1.0])
def test_in_a_narrow_cone_too_the_most_similar_are_exact(spread):
    """Where single precision cannot tell them apart, as after a few epochs."""
    rng = np.random.default_rng(0)
    units = to_units((np.ones(300) + spread * rng.normal(size=(1200, 300))).astype(np.float32))
    numbers, similarity = most_similar(
        units[:40], [(np.arange(500), units[:500]), (np.arange(500, 1200), units[500:])], k=7
    )
    exact = np.round(cosines(units)[:40], 7)
    expected = np.lexsort((np.broadcast_to(np.arange(1200), exact.shape), -exact))[:, :7]
    np.testing.assert_array_equal(numbers, expected)
    np.testing.assert_array_equal(similarity, np.take_along_axis(exact, expected, axis=1))


def test_the_command_shows_samples_like_one(root, vectors, tmp_path):
    everything = open_catalog(root).search()
    ids = everything.column("id")
    like = f"europe/{ids[5]}"
    result = CliRunner().invoke(cli, ["similar", str(root), "--like", like, "--limit", "3"])
    assert result.exit_code == 0, result.output
    assert "The 3 most similar by emb:x" in result.output
    assert "1.000000" in result.output
    told = json.loads(CliRunner().invoke(cli, ["similar", str(root), "--like", like, "--json"]).stdout)
    assert told["like"][0]["id"] == ids[5]
    assert told["samples"][0]["id"] == ids[70]
    assert len(told["samples"]) == 10
    biome = told["samples"][3]["biome"]
    within = json.loads(
        CliRunner().invoke(cli, ["similar", str(root), "--like", like, "--biome", biome, "--json"]).stdout
    )
    assert {one["biome"] for one in within["samples"]} == {biome}
    lon, lat = everything.lonlat[5]
    placed = ["similar", str(root / "europe"), "--like", f"{lon},{lat}", "--json", "-o", str(root / "like.parquet")]
    result = CliRunner().invoke(cli, placed)
    assert json.loads(result.stdout)["like"][0] == {**told["like"][0], "km_from_there": 0.0}
    assert len(load_subset(root / "like.parquet")) == 10
    np.save(tmp_path / "v.npy", vectors[[5, 11]])
    of_file = ["similar", str(root), "--like", str(tmp_path / "v.npy"), "--limit", "4", "--json"]
    found = json.loads(CliRunner().invoke(cli, of_file).stdout)
    assert {one["id"] for one in found["samples"]} == set(ids[[5, 70, 11, 12]])
    assert found["samples"][0]["km"] is None


def test_the_command_refuses_what_is_nothing(root, vectors, tmp_path):
    def refusal(*arguments: str) -> str:
        return str(CliRunner().invoke(cli, ["similar", str(root), *arguments]).exception)

    assert "has no sample of that id; the id of a sample, LON,LAT" in refusal("--like", "nobody")
    (tmp_path / "bad.npy").write_bytes(b"no array")
    assert "no array of numbers that NumPy saved" in refusal("--like", str(tmp_path / "bad.npy"))
    assert "a file of vectors is asked for alone" in refusal("--like", "a.npy", "--like", "b.npy")
    ids = open_catalog(root).search(collections="europe").column("id")
    empty = CliRunner().invoke(cli, ["similar", str(root), "--like", f"europe/{ids[5]}", "--id", "nobody"])
    assert "No other sample that was asked for has a vector in column emb:x" in empty.output


def test_the_command_finds_duplicates_and_saves_the_rest(root, vectors, tmp_path):
    options = ["--above", ".98", "-o", str(root / "lean.parquet"), "--pairs", str(tmp_path / "pairs.parquet")]
    result = CliRunner().invoke(cli, ["duplicates", str(root), *options])
    assert result.exit_code == 0, result.output
    assert "4 pairs in 3 groups of 80 samples are 0.98 or more similar by emb:x; 2 have no vector" in result.output
    assert "3 samples have to go" in result.output
    assert "77 samples without them saved to" in result.output
    assert pq.read_table(tmp_path / "pairs.parquet").num_rows == 4
    assert CliRunner().invoke(cli, ["duplicates", str(root), *options]).exit_code == 0  # and in its own place
    items = root / "europe" / "items.parquet"
    before = items.read_bytes()
    slip = CliRunner().invoke(cli, ["duplicates", str(root), "--above", ".98", "--pairs", str(items)])
    assert f"--pairs {items}: is there already and is something else" in str(slip.exception)
    assert items.read_bytes() == before
    told = json.loads(CliRunner().invoke(cli, ["duplicates", str(root), "--above", ".98", "--json"]).stdout)
    assert told["group_sizes"] == {"2": 2, "3": 1}
    none = CliRunner().invoke(cli, ["duplicates", str(root / "lean.parquet"), "--above", ".98"])
    assert none.output.startswith("0 pairs of 77 samples are 0.98 or more similar by emb:x")
    itself = ["duplicates", str(root / "europe"), "--above", ".9", "--other", str(root), "-o", str(root / "no.parquet")]
    output = CliRunner().invoke(cli, itself).output
    assert "30 samples have to go" in output
    assert load_subset(root / "no.parquet").column("id").tolist() == [
        load_subset(root / "europe").column("id")[k] for k in (20, 21)
    ]


def test_items_written_anew_keep_their_vectors(root, vectors):
    before = near_duplicates(open_catalog(root).search(), "emb:x", above=0.98).table()
    path = root / "everywhere" / "items.parquet"
    items = read_items(path)
    write_items(path, items.take(pa.array(np.random.default_rng(1).permutation(48))), collection="everywhere")
    by_id = near_duplicates(open_catalog(root).search(), "emb:x", above=0.98).table()

    def pairs(table: pa.Table) -> set[frozenset[tuple[str, str]]]:
        rows = table.select(["collection", "id", "like_collection", "like_id"]).to_pylist()
        return {frozenset([(row["collection"], row["id"]), (row["like_collection"], row["like_id"])]) for row in rows}

    assert pairs(by_id) == pairs(before)
    describe(root / "everywhere")
    after = open_catalog(root)
    assert after.collection("everywhere").columns["emb:x"].items == after.collection("everywhere").items.digest
    assert pairs(near_duplicates(after.search(), "emb:x", above=0.98).table()) == pairs(before)
