import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pwcat.errors import TrainingError
from pwcat.splits import spatial_split
from training.resampling import FewShot, Official, Resampling

CONTINENTS = np.array(["Africa", "Asia", "Europe"], dtype=object)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    lonlat = rng.uniform(-60, 60, (600, 2))
    return {
        "targets_N": rng.integers(6, size=600),
        "lonlat": lonlat,
        "sides_N": spatial_split(lonlat, val_fraction=0.3, block_km=500.0, seed=0),
        "groups_N": np.where(np.arange(600) % 50 == 0, None, CONTINENTS[rng.integers(3, size=600)]),
    }


def test_so_many_of_each_class_are_drawn(world):
    draws = FewShot(sizes=(1, 5, 20), seeds=4).draws(**world)
    assert [draw.size for draw in draws] == [1] * 4 + [5] * 4 + [20] * 4
    for draw in draws:
        assert np.bincount(world["targets_N"][draw.train]).tolist() == [draw.size] * 6
        assert (world["sides_N"][draw.train] == "train").all()
        assert (world["sides_N"][draw.test] == "val").all()


def test_so_many_of_each_continent_are_drawn(world):
    for draw in FewShot(sizes=(30,), per="group", seeds=2).draws(**world):
        names, counts = np.unique(world["groups_N"][draw.train].astype(str), return_counts=True)
        assert (names.tolist(), counts.tolist()) == (["Africa", "Asia", "Europe"], [30, 30, 30])
        assert draw.group is None


def test_each_continent_is_a_task_of_its_own(world):
    draws = FewShot(sizes=(40,), per="total", within_groups=True, seeds=3).draws(**world)
    assert [draw.group for draw in draws] == ["Africa"] * 3 + ["Asia"] * 3 + ["Europe"] * 3
    for draw in draws:
        assert len(draw.train) == 40
        assert set(world["groups_N"][draw.train]) == set(world["groups_N"][draw.test]) == {draw.group}


def test_seeds_vary_the_training_samples_and_nothing_else(world):
    draws = FewShot(sizes=(10,), seeds=5, seed=3).draws(**world)
    assert len({tuple(draw.train) for draw in draws}) == 5
    assert {tuple(draw.test) for draw in draws} == {tuple(np.flatnonzero(world["sides_N"] == "val"))}
    assert {len(draw.train) for draw in draws} == {60}
    assert len({draw.seed for draw in draws}) == 5
    again = FewShot(sizes=(10,), seeds=5, seed=3).draws(**world)
    assert [tuple(draw.train) for draw in draws] == [tuple(draw.train) for draw in again]
    assert [tuple(draw.validation) for draw in draws] == [tuple(draw.validation) for draw in again]
    for few, draw in zip(FewShot(sizes=(10,), seeds=2, seed=3).draws(**world), draws, strict=False):
        assert few.train.tolist() == draw.train.tolist()  # however many others are drawn
    other = FewShot(sizes=(10,), seeds=5, seed=4).draws(**world)
    assert tuple(other[0].train) != tuple(draws[0].train)


def test_a_larger_size_adds_samples(world):
    small, large = FewShot(sizes=(4, 9), seeds=1).draws(**world)
    assert set(small.train) < set(large.train)
    assert small.seed == large.seed


def test_all_there_are_is_every_training_sample(world):
    every = FewShot(sizes=(None,), seeds=3).draws(**world)
    assert {tuple(draw.train) for draw in every} == {tuple(np.flatnonzero(world["sides_N"] == "train"))}
    assert len({draw.seed for draw in every}) == 3  # the probe's own chance is repeated
    (most,) = FewShot(sizes=(10_000,), seeds=1).draws(**world)
    assert most.train.tolist() == every[0].train.tolist()


def test_validation_is_in_whole_blocks_where_there_is_enough(world):
    one, five, many = FewShot(sizes=(1, 5, 60), seeds=1, block_km=300.0).draws(**world)
    assert not one.validation.any()
    assert 0 < five.validation.sum() < len(five.train) / 2
    blocks = np.floor(np.column_stack([
        np.deg2rad(world["lonlat"][:, 0]) * 6371.0088 / 300, np.sin(np.deg2rad(world["lonlat"][:, 1])) * 6371.0088 / 300
    ]))  # fmt: skip
    held_out = {tuple(block) for block in blocks[many.train[many.validation]]}
    assert not held_out & {tuple(block) for block in blocks[many.rest]}
    assert sorted([*many.rest, *many.train[many.validation]]) == many.train.tolist()


def test_places_that_are_unknown_are_drawn_all_the_same(world):
    nowhere = {**world, "lonlat": np.full((600, 2), np.nan)}
    (draw,) = FewShot(sizes=(20,), seeds=1).draws(**nowhere)
    assert draw.validation.sum() == 24


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=4, max_size=60), st.integers(1, 9), st.integers(0, 99))
def test_a_class_gives_what_it_has(classes, size, seed):
    targets = np.array(classes)
    sides = np.where(np.arange(len(targets)) % 3 == 0, "test", "train")
    lonlat = np.random.default_rng(seed).uniform(-60, 60, (len(targets), 2))
    (draw,) = FewShot(sizes=(size,), seeds=1, seed=seed).draws(targets, lonlat=lonlat, sides_N=sides)
    there = np.bincount(targets[sides == "train"], minlength=5)
    assert np.bincount(targets[draw.train], minlength=5).tolist() == np.minimum(there, size).tolist()
    assert len(set(draw.train)) == len(draw.train)
    assert not set(draw.train) & set(draw.test)


def test_draws_that_cannot_be_are_refused(world):
    with pytest.raises(TrainingError, match="few-shot draws cannot be of 0 samples; 0 seeds"):
        FewShot(sizes=(0,), seeds=0).draws(**world)
    with pytest.raises(TrainingError, match="draws by group without groups"):
        FewShot(per="group").draws(**{**world, "groups_N": None})
    with pytest.raises(TrainingError, match="draws per class of targets that are no classes"):
        FewShot().draws(**{**world, "targets_N": world["targets_N"] * 1.5})
    with pytest.raises(TrainingError, match="600 training and 0 test samples: few-shot draws need both"):
        FewShot().draws(**{**world, "sides_N": np.full(600, "train")})
    with pytest.raises(TrainingError, match="no draws are left: no group has training and test samples"):
        FewShot(within_groups=True).draws(**{**world, "sides_N": np.full(600, "train")})


def test_official_sides_are_learnt_chosen_and_scored_on_as_released():
    sides = np.array(["train"] * 6 + ["val"] * 3 + ["test"] * 4, dtype=object)
    lonlat = np.full((13, 2), np.nan)
    first, second = Official(repeats=2, seed=4).draws(lonlat=lonlat, sides_N=sides)
    assert (first.rest.tolist(), first.test.tolist()) == ([0, 1, 2, 3, 4, 5], [9, 10, 11, 12])
    assert first.train[first.validation].tolist() == [6, 7, 8]
    assert first.learnt.tolist() == first.rest.tolist()
    assert (first.seed, second.seed) == (4, 5)
    assert first.train.tolist() == second.train.tolist()


def test_official_sides_without_validation_have_one_drawn():
    lonlat = np.random.default_rng(0).uniform(-50, 50, (60, 2))
    for test in ("test", "val"):
        sides = np.array(["train"] * 50 + [test] * 10, dtype=object)
        (draw,) = Official().draws(lonlat=lonlat, sides_N=sides)
        assert draw.test.tolist() == list(range(50, 60))
        assert 0 < draw.validation.sum() < 25
        assert draw.learnt.tolist() == list(range(50))
    with pytest.raises(TrainingError, match="10 training and 0 test samples, and both are needed"):
        Official().draws(lonlat=lonlat[:10], sides_N=np.full(10, "train", dtype=object))


def test_numbers_and_labels_are_resampled_too():
    lonlat = np.random.default_rng(0).uniform(-50, 50, (60, 2))
    sides = np.array(["train"] * 50 + ["val"] * 10, dtype=object)
    for targets in (np.linspace(0, 1, 60), np.ones((60, 3), dtype=bool)):
        draws = Resampling(repeats=2).draws(targets, lonlat=lonlat, sides_N=sides)
        assert [len(draw.train) for draw in draws] == [40, 40]
    with pytest.raises(
        TrainingError, match=r"1 training samples and 10 test samples are left.*two samples to learn from"
    ):
        Resampling(repeats=1).draws(np.linspace(0, 1, 11), lonlat=lonlat[:11], sides_N=sides[49:])
    lonlat[:2] = np.nan
    with pytest.raises(TrainingError, match="split='blocks' divides places, and 2 of 60 samples have none"):
        Resampling(split="blocks").draws(np.zeros(60, dtype=int), lonlat=lonlat, sides_N=sides)


def test_of_few_training_samples_none_are_kept_to_choose_on():
    rng = np.random.default_rng(0)
    sides = np.repeat(np.array(["train", "val"], dtype=object), [40, 10])
    for left, kept in ((19, 0), (24, 1)):
        here = np.r_[0:left, 40:50]
        (draw,) = Resampling(repeats=1).draws(
            np.arange(50)[here] % 3, lonlat=rng.uniform(-60, 60, (50, 2))[here], sides_N=sides[here]
        )
        assert bool(draw.validation.any()) == bool(kept)


def test_a_size_that_is_asked_for_twice_is_drawn_once():
    rng = np.random.default_rng(0)
    sides = np.repeat(np.array(["train", "test"], dtype=object), [40, 10])
    draws = FewShot(sizes=(5, 5, 2), seeds=3).draws(
        np.arange(50) % 3, lonlat=rng.uniform(-60, 60, (50, 2)), sides_N=sides
    )
    assert [draw.size for draw in draws] == [5, 5, 5, 2, 2, 2]
