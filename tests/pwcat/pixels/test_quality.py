"""What a quality band's values say of a chip's pixels."""

from __future__ import annotations

import numpy as np
import pytest

from pwcat.pixels.quality import unusable
from pwcat.pixels.reasons import cause_of
from pwcat.providers import PROVIDERS


def test_classes_and_flags_are_counted_by_their_record():
    scl = np.array([[[4, 8, 9, 10], [3, 0, 1, 11]], [[4] * 4, [5] * 4], [[0] * 4] * 2], np.uint16)
    shares, blank = unusable(scl, PROVIDERS["planetary-computer"].collection("sentinel-2-l2a").quality)
    assert (shares.tolist(), blank.tolist()) == ([6 / 8, 0, 1], [2 / 8, 0, 1])
    # Landsat's QA_PIXEL: 21824 is clear land, 22280 high cloud, 23888 cloud shadow, 30048 snow, 1 fill; 0 lies outside the file
    qa = np.array([[[21824, 22280], [23888, 30048]], [[1, 0], [21824, 21824]]], np.uint16)
    shares, blank = unusable(qa, PROVIDERS["planetary-computer"].collection("landsat-c2-l2").quality)
    assert (shares.tolist(), blank.tolist()) == ([0.5, 0.5], [0, 0.5])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            "Error reading archive:s2/T404/B02.tif: tile in row 404, column 500 is damaged: wrong checksum",
            "corrupt data",
        ),
        ("Error reading https://a.test/500/B02.tif: the server does not answer, or stops before the end", "timed out"),
        ("Error reading https://a.test/B02.tif: there is no such file (404)", "not found"),
        ("Error opening https://a.test/B02.tif: HTTP response code: 503", "server error"),
        ("something else at https://a.test/damaged/timeout.tif", "other"),
    ],
)
def test_a_cause_is_told_by_what_is_said_beside_addresses(text, cause):
    assert cause_of(RuntimeError(text)) == cause
