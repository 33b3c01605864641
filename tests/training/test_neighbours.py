import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pwcat.errors import TrainingError
from training.probing import neighbours
from training.probing.neighbours import nearest
from training.probing.rounding import Rounded, measure_lengths, round_to

PRECISIONS = ["float32", "bfloat16", "int8"]


def brute_force(queries, reference, k):
    """The oracle: all cosines in double precision, sorted, of equals the first."""
    each = [np.asarray(vectors, dtype=np.float64) for vectors in (queries, reference)]
    asked, stored = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12) for vectors in each)
    cosines = asked @ stored.T
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(cosines, rows, axis=1)


def search(queries, reference, k, precision):
    rows, similarity = nearest(
        torch.from_numpy(queries.astype(np.float32)),
        torch.from_numpy(reference.astype(np.float32)),
        k=k,
        precision=precision,
    )
    return rows.numpy(), similarity.numpy()


def vectors(rng, count, length=24, *, offset=0.0, spread=1.0):
    return (offset + spread * rng.normal(size=(count, length))).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), k=st.integers(1, 30), offset=st.sampled_from([0.0, 1.0, 30.0]),
    spread=st.sampled_from([1.0, 1e-3]), length=st.sampled_from([3, 24, 65]),
)  # fmt: skip
def test_neighbours_are_those_of_double_precision_whatever_finds_them(seed, k, offset, spread, length):
    rng = np.random.default_rng(seed)
    reference = vectors(rng, 2500, length, offset=offset, spread=spread)
    queries = vectors(rng, 40, length, offset=offset, spread=spread)
    rows, cosines = brute_force(queries, reference, 2500)
    first, _ = search(queries, reference, k, "float32")
    for precision in PRECISIONS:
        found, similarity = search(queries, reference, k, precision)
        np.testing.assert_array_equal(found, first)
        np.testing.assert_allclose(similarity, cosines[:, :k], rtol=0, atol=1e-7)
        reached = np.take_along_axis(cosines, np.argsort(rows, axis=1), axis=1)[np.arange(40)[:, None], found]
        np.testing.assert_allclose(reached, cosines[:, :k], rtol=0, atol=1e-15)  # the oracle is as sure of its order


@pytest.mark.parametrize("precision", PRECISIONS)
def test_of_equals_the_first_is_taken(precision):
    rng = np.random.default_rng(0)
    reference = np.tile(vectors(rng, 300), (9, 1))  # each nine times, 300 apart, in blocks of their own
    rows, similarity = search(vectors(rng, 20), reference, 12, precision)
    np.testing.assert_array_equal(rows[:, :9] % 300, np.tile(rows[:, :1], (1, 9)))
    np.testing.assert_array_equal(rows[:, :9], rows[:, :1] + 300 * np.arange(9))
    np.testing.assert_array_equal(rows[:, 9:], rows[:, 9:10] + 300 * np.arange(3))
    assert (similarity[:, :9] == similarity[:, :1]).all()


@pytest.fixture
def searched_exactly(monkeypatch):
    """How many queries were searched by exact products of everything, each time."""
    counts, every = [], neighbours._all_ranked
    monkeypatch.setattr(
        neighbours,
        "_all_ranked",
        lambda pool, queries, *rest, **k: (counts.append(len(queries)), every(pool, queries, *rest, **k))[1],
    )
    monkeypatch.setattr(neighbours, "CANDIDATES", 100)
    return counts


@pytest.mark.parametrize("precision", PRECISIONS)
def test_vectors_too_much_alike_for_few_bits_are_searched_exactly(precision, searched_exactly):
    rng = np.random.default_rng(0)
    reference = np.eye(24)[0] + 1e-7 * rng.normal(size=(3000, 24))
    queries = vectors(rng, 30)
    rows, _ = brute_force(queries, reference.astype(np.float32), 5)
    np.testing.assert_array_equal(search(queries, reference, 5, precision)[0], rows)
    assert searched_exactly == [30]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_queries_that_need_more_room_than_there_is_are_searched_again(precision, searched_exactly):
    rng = np.random.default_rng(0)
    crowd = np.array([1.0, 0, 0]) + 1e-7 * rng.normal(size=(1000, 3))
    reference = rng.permutation(np.concatenate([crowd, vectors(rng, 2000, 3)])).astype(np.float32)
    queries = np.concatenate([vectors(rng, 30, 3), [[1.0, 0.1, 0], [1, 0, 0.1]]]).astype(np.float32)
    queries[:30, 0] = -np.abs(queries[:30, 0])  # away from the crowd
    rows, _ = brute_force(queries, reference, 4)
    np.testing.assert_array_equal(search(queries, reference, 4, precision)[0], rows)
    assert searched_exactly == [2]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_all_references_can_be_asked_for_and_one_query_is_enough(precision):
    rng = np.random.default_rng(0)
    reference, queries = vectors(rng, 50), vectors(rng, 1)
    np.testing.assert_array_equal(search(queries, reference, 50, precision)[0], brute_force(queries, reference, 50)[0])
    assert search(queries[:0], reference, 3, precision)[0].shape == (0, 3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_vectors_of_zeros_are_like_nothing(precision):
    rng = np.random.default_rng(0)
    reference, queries = vectors(rng, 400), vectors(rng, 3)
    reference[7], queries[1] = 0, 0
    rows, similarity = search(queries, reference, 4, precision)
    assert (similarity[1] == 0).all()
    np.testing.assert_array_equal(rows[1], [0, 1, 2, 3])
    _, similarity = search(queries, reference, 400, precision)
    assert (similarity[0] == 0).sum() == 1


def test_vectors_that_hold_no_numbers_are_refused():
    rng = np.random.default_rng(0)
    reference = vectors(rng, 40)
    reference[[3, 8], 0] = np.nan, np.inf
    with pytest.raises(TrainingError, match="2 of 40 embeddings hold numbers that are NaN or infinite"):
        search(vectors(rng, 2), reference, 3, "float32")


def test_threads_and_precision_change_nothing_in_the_answer():
    rng = np.random.default_rng(0)
    reference, queries = vectors(rng, 3000, 48), vectors(rng, 700, 48)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found += [search(queries, reference, 7, precision) for precision in [*PRECISIONS, "auto"]]
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for rows, similarity in found[1:]:
        np.testing.assert_array_equal(rows, found[0][0])
        np.testing.assert_array_equal(similarity, found[0][1])


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted as Linux tells them")
@pytest.mark.parametrize("bits", ["bfloat16", "int8"])
def test_products_are_on_the_thread_that_asked_for_them(bits):
    code = f"""
import os, torch
from training.probing.neighbours import _threads
torch.set_num_threads(2)
one = torch.ones(512, 768, dtype=torch.{bits})
before = len(os.listdir("/proc/self/task"))
with _threads() as pool:
    list(pool.map(lambda _: (torch._int_mm if "{bits}" == "int8" else torch.mm)(one, one.T), range(50)))
    print(len(os.listdir("/proc/self/task")) - before)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "2\n"


def test_another_device_finds_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    reference = torch.from_numpy(np.tile(vectors(rng, 200), (3, 1)))  # each three times
    queries = torch.from_numpy(vectors(rng, 20))
    unit = [torch.nn.functional.normalize(each, dim=1) for each in (queries, reference)]
    found, exact = nearest(queries, reference, k=7)
    for numbers in (neighbours.DEVICE_NUMBERS, 5000):  # all at once, and few at a time
        monkeypatch.setattr(neighbours, "DEVICE_NUMBERS", numbers)
        rows, similarity = neighbours._on_device(*unit, k=7)
        np.testing.assert_array_equal(rows, found)
        np.testing.assert_allclose(similarity, exact, rtol=0, atol=1e-6)
    rows, _ = neighbours._on_device(*unit, k=600)
    assert sorted(rows[0].tolist()) == list(range(600))


# --- what rounding takes


@pytest.mark.parametrize("bits", PRECISIONS)
def test_what_rounding_took_is_told(bits):
    rng = np.random.default_rng(0)
    given_ND, centre = vectors(rng, 200, 33, offset=0.5), np.full(33, 0.1, np.float32)
    lengths = np.empty(200)
    measure_lengths(given_ND, lengths)
    np.testing.assert_allclose(lengths, np.linalg.norm(given_ND.astype(np.float64), axis=1), rtol=1e-14)
    into = Rounded.empty((200, 33), bits)
    round_to(bits, slice(0, 200), into, given_ND, lengths, centre)
    exact = given_ND / lengths[:, None] - centre.astype(np.float64)
    kept = into.values_ND.double().numpy() * into.step_N[:, None]
    np.testing.assert_allclose(into.lost_N, np.linalg.norm(kept - exact, axis=1), atol=3e-7, rtol=1e-4)
    np.testing.assert_allclose(into.rounded_N, np.linalg.norm(kept, axis=1), rtol=1e-5)
    np.testing.assert_allclose(into.length_N, np.linalg.norm(exact, axis=1), rtol=1e-5)
    np.testing.assert_allclose(into.along_N, exact @ centre, atol=1e-7)


def test_bfloat16_is_torchs():
    rng = np.random.default_rng(0)
    given_ND = vectors(rng, 100, 64)
    into = Rounded.empty((100, 64), "bfloat16")
    round_to("bfloat16", slice(0, 100), into, given_ND, np.ones(100), np.zeros(64, np.float32))
    assert torch.equal(into.values_ND, torch.from_numpy(given_ND).bfloat16())


def test_products_of_int8_are_whole_here_or_refused(monkeypatch):
    monkeypatch.setattr(neighbours, "_whole_products", lambda: False)
    with pytest.raises(TrainingError, match="products of int8 are not exact on this machine"):
        nearest(torch.ones(2, 3), torch.ones(5, 3), k=1, precision="int8")
    rows, _ = nearest(torch.ones(2, 3), torch.ones(5, 3), k=1, precision="auto")
    assert rows.tolist() == [[0], [0]]
