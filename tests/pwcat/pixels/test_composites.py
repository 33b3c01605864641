from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pwcat.pixels.composites import Stacks, columns_to_read, median, scenes_by_date, scenes_by_row, usable

PIXELS = st.sampled_from([0, 0, 1, 2, 3, 1000, 65_534, 65_535])


@given(stack=st.integers(1, 7).flatmap(lambda k: arrays(np.uint16, (k, 2, 3, 4), elements=PIXELS)))
def test_the_median_is_that_of_numpys_masked_arrays_with_halves_rounded_up(stack):
    true = np.ma.median(np.ma.masked_equal(stack.astype(np.float64), 0), axis=0)
    expected = np.floor(np.ma.filled(true, 0) + 0.5)  # halves are exact in binary
    got = median(list(stack))
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(got, median(list(stack[::-1])))


def test_a_median_by_hand():
    def one(*values):
        return int(median([np.full((1, 1, 1), value, np.uint16) for value in values])[0, 0, 0])

    assert one(7) == 7
    assert one(0, 0) == 0
    assert one(0, 9, 0) == 9
    assert one(4, 1) == Fraction(5, 2) + Fraction(1, 2)
    assert one(5, 0, 1, 9) == 5
    assert one(65_535, 65_534) == 65_535  # no overflow


def test_what_is_hidden_or_has_no_data_does_not_count():
    dn = np.array([[[0, 999, 1000, 1001, 5000]]], np.uint16)
    clear = np.array([[True, True, True, True, False]])
    assert usable(dn, offset=1000, clear=None).tolist() == [[[0, 0, 0, 1, 4000]]]
    assert usable(dn, offset=1000, clear=clear).tolist() == [[[0, 0, 0, 1, 0]]]
    assert usable(dn, offset=0, clear=clear).tolist() == [[[0, 999, 1000, 1001, 0]]]


ROWS = [
    {"scene_ids": ["a", "b"], "composite_ids": [["a", "c", "d"], ["b"]]},
    {"scene_ids": ["e", "f"], "composite_ids": [["e"], ["f", "a"]]},
]


def test_a_date_is_done_when_the_last_of_its_scenes_has_come():
    stacks = Stacks(ROWS)
    pixels = [np.full((1, 2, 2), value, np.uint16) for value in (30, 10, 20)]
    assert stacks.add(0, 0, pixels[0]) is None
    assert stacks.add(0, 0, pixels[1]) is None
    assert stacks.add(1, 0, pixels[2]).tolist() == [[[20, 20], [20, 20]]]
    assert stacks.add(0, 0, pixels[2]).tolist() == [[[20, 20], [20, 20]]]
    assert stacks.add(1, 1, pixels[0]) is None
    stacks.forget(1)
    assert stacks.add(1, 1, pixels[0]) is None


def test_scenes_of_rows_are_those_of_composites_where_there_are_any():
    assert [scenes_by_date(row) for row in ROWS] == [[["a", "c", "d"], ["b"]], [["e"], ["f", "a"]]]
    assert scenes_by_date({"scene_ids": ["a", "b"]}) == [["a"], ["b"]]
    table = pa.Table.from_pylist([ROWS[1], *ROWS])
    for part in (table, table.slice(1)):
        names, counts = scenes_by_row(part)
        rows = part.to_pylist()
        assert names.to_pylist() == [name for row in rows for date in row["composite_ids"] for name in date]
        assert counts.tolist() == [sum(map(len, row["composite_ids"])) for row in rows]
    names, counts = scenes_by_row(table.select(["scene_ids"]))
    assert (names.to_pylist(), counts.tolist()) == (["e", "f", "a", "b", "e", "f"], [2, 2, 2])
    assert scenes_by_row(table.slice(0, 0))[1].tolist() == []
    assert columns_to_read(table) == ["scene_ids", "composite_ids"]
