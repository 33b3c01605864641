from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pwcat.samplers.sphere import WORLD, AreaSampler
from pwcat.splits import EARTH_RADIUS_KM, spatial_split

lonlats = st.lists(
    st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=1, max_size=200
).map(np.array)  # fmt: skip


@given(lonlat=lonlats, fraction=st.floats(0, 0.99), block_km=st.floats(5, 5000), seed=st.integers(0, 99))
def test_blocks_go_whole_to_one_side(lonlat, fraction, block_km, seed):
    split = spatial_split(lonlat, val_fraction=fraction, block_km=block_km, seed=seed)
    # Lambert's cylindrical equal-area plane, in blocks
    column = np.floor(np.deg2rad(lonlat[:, 0]) * EARTH_RADIUS_KM / block_km)
    row = np.floor(np.sin(np.deg2rad(lonlat[:, 1])) * EARTH_RADIUS_KM / block_km)
    blocks = {}
    for cell, name in zip(zip(column, row, strict=True), split, strict=True):
        blocks.setdefault(cell, set()).add(name)
    assert all(len(names) == 1 for names in blocks.values())
    assert set(split) <= {"train", "val"}
    if fraction == 0:
        assert set(split) == {"train"}
    # no block is taken of which less than half still fits: the excess is at most half of the largest
    largest = max(np.unique(np.column_stack([column, row]), axis=0, return_counts=True)[1])
    assert (split == "val").sum() <= fraction * len(lonlat) + largest / 2
    again = spatial_split(lonlat, val_fraction=fraction, block_km=block_km, seed=seed)
    assert split.tolist() == again.tolist()


def test_the_wanted_fraction_is_approached_and_the_seed_chooses():
    lonlat = AreaSampler([WORLD]).draw(5_000, rng=np.random.default_rng(0))
    split = spatial_split(lonlat, val_fraction=0.2, block_km=500, seed=0)
    assert abs((split == "val").mean() - 0.2) < 0.005
    assert (split != spatial_split(lonlat, val_fraction=0.2, block_km=500, seed=1)).any()


def test_a_block_that_holds_everything_is_for_training():
    lonlat = np.zeros((10, 2)) + 0.001
    assert set(spatial_split(lonlat, val_fraction=0.9, block_km=50, seed=0)) == {"train"}
