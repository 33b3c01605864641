from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pwcat.osm.groups import split_groups

GROUPS = [f"14/{n}/7" for n in range(100)]


def test_shares_are_of_groups_and_a_group_is_of_one_split():
    tiles = np.repeat(GROUPS, np.arange(100) % 16 + 1).tolist()
    sides = split_groups(tiles, val=0.1, test=0.1, seed=0)
    of_group = dict(zip(tiles, sides, strict=True))
    assert all(side == of_group[group] for group, side in zip(tiles, sides, strict=True))
    assert Counter(of_group.values()) == {"train": 80, "val": 10, "test": 10}


def test_the_split_hangs_on_groups_and_seed_alone():
    sides = dict(zip(GROUPS, split_groups(GROUPS, val=0.1, test=0.1, seed=0), strict=True))
    backwards = dict(zip(GROUPS[::-1], split_groups(GROUPS[::-1], val=0.1, test=0.1, seed=0), strict=True))
    assert sides == backwards
    others = dict(zip(GROUPS, split_groups(GROUPS, val=0.1, test=0.1, seed=1), strict=True))
    assert sides != others


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (1, {"train": 1}),
        (2, {"train": 2}),
        (3, {"train": 1, "val": 1, "test": 1}),
        (9, {"train": 7, "val": 1, "test": 1}),
        (15, {"train": 11, "val": 2, "test": 2}),
    ],
)
def test_few_groups_still_give_each_split_one(count, wanted):
    assert Counter(split_groups(GROUPS[:count], val=0.1, test=0.1, seed=0)) == wanted


def test_no_share_gets_no_group():
    assert set(split_groups(GROUPS, val=0, test=0, seed=0)) == {"train"}
    assert set(split_groups(GROUPS, val=0, test=0.1, seed=0)) == {"train", "test"}
    assert split_groups([], val=0.1, test=0.1, seed=0).shape == (0,)
