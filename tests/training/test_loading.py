"""The steps of loading by themselves: order, placement, reading ahead."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pwcat.errors import TrainingError
from training.loading.ahead import Job, read_ahead
from training.loading.memory import available_ram
from training.loading.order import Epoch, Shards, own_rows, shards_of
from training.loading.placement import CARD_RESERVE, Needs, Room, choose_placement

GB = 10**9


@st.composite
def all_shards(draw):
    sizes = np.array(draw(st.lists(st.integers(1, 9), min_size=1, max_size=30)))
    total = int(sizes.sum())
    rows = np.array(draw(st.permutations(range(total)))) if draw(st.booleans()) else None
    return Shards(
        starts=np.concatenate([[0], sizes.cumsum()]), cube=np.zeros(len(sizes), int), number=np.arange(len(sizes)),
        rows=rows,
    )  # fmt: skip


orders = st.builds(
    Epoch, all_shards(), seed=st.integers(0, 2**40), number=st.integers(0, 99), window_chips=st.integers(1, 99)
)


@given(orders)
def test_an_epoch_has_every_sample_once(order):
    assert sorted(order.rows(0, len(order))) == list(range(len(order)))


@given(all_shards(), st.integers(1, 60))
def test_windows_are_whole_shards_and_nearly_alike(shards, window_chips):
    order = Epoch(shards, seed=1, number=0, window_chips=window_chips)
    seen = []
    for window in range(order.num_windows):
        seen.extend(order.shards(window))
        assert sorted(order.window(window)) == sorted(shards.rows_of(order.shards(window)))
    assert sorted(seen) == list(range(len(shards)))
    most = shards.sizes.max()
    sizes = np.diff(order.starts)
    assert sizes.min() >= 1
    assert sizes.max() <= 1.5 * window_chips + 2 * most


@given(orders, st.data())
def test_any_stretch_of_an_epoch_is_the_same_whatever_was_asked_before(order, data):
    whole = order.rows(0, len(order))
    for _ in range(3):
        start = data.draw(st.integers(0, len(order) - 1))
        stop = data.draw(st.integers(start + 1, len(order)))
        np.testing.assert_array_equal(order.rows(start, stop), whole[start:stop])


@given(st.integers(0, 500), st.integers(1, 20))
def test_ranks_share_a_batch_without_overlap(total, ranks):
    parts = [own_rows(total, rank=rank, world_size=ranks) for rank in range(ranks)]
    assert [row for part in parts for row in range(total)[part]] == list(range(total))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_seed_epoch_and_window_each_change_the_order():
    shards = Shards(starts=np.arange(0, 1001, 10), cube=np.zeros(100, int), number=np.arange(100))
    orders = [
        Epoch(shards, seed=seed, number=epoch, window_chips=window).rows(0, 1000).tolist()
        for seed, epoch, window in [(0, 0, 100), (1, 0, 100), (0, 1, 100), (0, 0, 200), (2, 1, 100), (1, 2, 100)]
    ]
    assert len({tuple(order) for order in orders}) == 6


def test_the_order_is_that_of_every_machine():
    """Written down once: another version of NumPy, or of this, must not give another."""
    shards = Shards(starts=np.arange(0, 41, 4), cube=np.zeros(10, int), number=np.arange(10))
    order = Epoch(shards, seed=7, number=3, window_chips=16)
    assert order.rows(0, 40).tolist() == [
        9,
        13,
        30,
        29,
        15,
        18,
        17,
        12,
        8,
        19,
        14,
        10,
        28,
        11,
        16,
        31,
        21,
        32,
        33,
        6,
        22,
        4,
        34,
        23,
        20,
        35,
        5,
        7,
        26,
        39,
        2,
        0,
        25,
        24,
        38,
        27,
        37,
        36,
        1,
        3,
    ]


def test_samples_of_a_window_are_mixed_over_its_shards(subset):
    shards = shards_of(subset)
    assert shards.rows is None, "a built cube's items are in its order"
    order = Epoch(shards, seed=0, number=0, window_chips=24)
    first = subset.index[order.window(0)] // subset.collections[0].cube.shard_size
    assert np.count_nonzero(np.diff(first)) > len(order.shards(0))


def test_shards_of_several_cubes_are_apart(everything):
    shards = shards_of(everything)
    assert set(shards.cube) == {0, 1}
    for place in range(len(shards)):
        rows = shards.rows_of(np.array([place]))
        collection, part = everything.parts()[shards.cube[place]]
        assert ((rows >= part.start) & (rows < part.stop)).all()
        assert set(everything.index[rows] // collection.cube.shard_size) == {shards.number[place]}


def room(**changes):
    return Room(**{"card": None, "reserve": 0, "budget": 2 * GB, "ram": 100 * GB} | changes)


@pytest.mark.parametrize(
    ("needs", "there", "expected", "told"),
    [
        ((1, 1), {}, "device", r"1\.0 GB of chips are within the 2\.0 GB"),
        ((5, 3), {}, "cache", r"3\.0 GB stored fit in 70% of the 100\.0 GB"),
        ((90, 80), {}, "stream", r"90\.0 GB of chips are over the 2\.0 GB.*80\.0 GB stored are over 70%.*16,384 chips"),
        ((90, None), {}, "stream", "how much they take in their files is not known"),
        ((5, 3), {"ram": None}, "stream", "how much memory there is is not known"),
        ((5, 3), {"budget": 200 * GB, "ram": 6 * GB}, "cache", "fit in"),
        ((30, 20), {"budget": 200 * GB, "ranks": 4}, "cache", "fit in"),
        ((30, 90), {"budget": 200 * GB, "ranks": 4}, "stream", r"4 x 30\.0 GB of chips are over 70% of the 100\.0 GB"),
        ((129, 90), {"card": 133 * GB, "reserve": CARD_RESERVE}, "device", r"129\.0 GB of chips fit in the 133\.0 GB free"),
        ((129, 60), {"card": 60 * GB}, "cache", r"60\.0 GB stored fit in"),
        ((1, 90), {"card": 0}, "stream", r"do not fit in the 0\.0 MB free on the card"),
    ],
)  # fmt: skip
def test_the_placement_is_the_first_that_has_room(needs, there, expected, told):
    decoded, stored = (None if size is None else size * GB for size in needs)
    needed = Needs(decoded=decoded, stored=stored, window=GB)
    choice = choose_placement(needed, room(**there), window_chips=16384)
    assert choice.placement == expected
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(choice.reason)


def test_windows_too_large_for_memory_are_told():
    needs = Needs(decoded=90 * GB, stored=80 * GB, window=6 * GB)
    choice = choose_placement(needs, room(ram=16 * GB), window_chips=32768)
    assert choice.reason.endswith("6.0 GB stored: two of them are more than 70% of memory, lower window_chips")


def test_a_placement_that_is_asked_for_is_taken_or_refused():
    needs = Needs(decoded=5 * GB, stored=3 * GB, window=GB)
    for asked in ("cache", "stream"):
        choice = choose_placement(needs, room(), asked=asked, window_chips=9)
        assert choice.placement == asked
        assert f"{asked} was asked for" in choice.reason
        assert choice.stays
    assert not choose_placement(needs, room(ram=4 * GB), asked="stream", window_chips=9).stays
    assert not choose_placement(needs, room(ram=4 * GB), window_chips=9).stays
    with pytest.raises(TrainingError, match=r"placement device cannot be: 5\.0 GB .*raise memory_budget_mb"):
        choose_placement(needs, room(), asked="device", window_chips=9)
    with pytest.raises(TrainingError, match=r"'disk' is none of auto, device, cache, stream"):
        choose_placement(needs, room(), asked="disk", window_chips=9)


def test_a_container_has_no_more_memory_than_its_limit(tmp_path, monkeypatch):
    from training.loading import memory

    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\nfile 200000\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert available_ram() == 500000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_ram() > 10**8


def jobs_of(numbers, work=lambda number: None):
    for number in numbers:
        yield Job([lambda number=number: work(number)] * 3, lambda number=number: number)


def test_results_come_in_order_each_after_its_pieces():
    done = []
    got = [(n, done.count(n)) for n in read_ahead(jobs_of(range(50), done.append), threads=4, ahead=5)]
    assert got == [(n, 3) for n in range(50)]


def test_what_goes_wrong_in_a_thread_is_raised_in_its_turn_with_its_cause():
    def work(number):
        if number == 3:
            raise ValueError("no such chip") from OSError("disk")

    got = []
    with pytest.raises(ValueError, match="no such chip") as caught:
        got.extend(read_ahead(jobs_of(range(50), work), threads=2, ahead=4))
    assert got == [0, 1, 2]
    assert isinstance(caught.value.__cause__, OSError)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pwcat-loader")]


def test_a_closed_iterator_begins_nothing_more():
    began, go = [], threading.Event()

    def work(number):
        began.append(number)
        if number > 1:
            go.wait(10)

    coming = read_ahead(jobs_of(range(50), work), threads=1, ahead=20)
    assert (next(coming), next(coming)) == (0, 1)
    while 2 not in began:
        pass
    threading.Timer(0.05, go.set).start()
    coming.close()
    assert set(began) == {0, 1, 2}


def test_on_a_card_counts_and_gathering_are_those_of_memory():
    """The card's way of counting, on the CPU: words of the upper half are negative to torch there too."""
    from training.loading.counts import _on_card, counts_of_held

    held = torch.from_numpy(np.random.default_rng(0).integers(0, 65536, (5, 2, 3, 4, 4), dtype=np.uint16))
    by_card = _on_card(held, slice(1, 5), lambda done, total: None)
    np.testing.assert_array_equal(by_card, counts_of_held(held, slice(1, 5), threads=2))
    assert by_card.sum() == 4 * 2 * 3 * 16
