from __future__ import annotations

import numpy as np
import pytest
import shapely
from pyproj import Geod

from catalog.measures.separation import describe_separation

GEOD = Geod(ellps="WGS84")


def all_pairs_km(a, b):
    lon_a, lon_b = np.meshgrid(a[:, 0], b[:, 0], indexing="ij")
    lat_a, lat_b = np.meshgrid(a[:, 1], b[:, 1], indexing="ij")
    return GEOD.inv(lon_a.ravel(), lat_a.ravel(), lon_b.ravel(), lat_b.ravel())[2].reshape(len(a), len(b)) / 1000


@pytest.mark.parametrize("spread_deg", [0.5, 3.0, 60.0])
def test_distances_are_those_of_all_pairs_across_the_antimeridian_and_near_the_pole(spread_deg):
    rng = np.random.default_rng(3)
    middle = np.repeat([[179.9, 0.0], [20.0, 89.0]], 150, axis=0)
    lonlat = middle + rng.uniform(-spread_deg, spread_deg, middle.shape) * [1, 0.3]
    lonlat = np.column_stack([(lonlat[:, 0] + 180) % 360 - 180, np.clip(lonlat[:, 1], -90, 90)])
    splits = rng.choice(np.array(["train", "val", "test"], dtype=object), len(lonlat), p=[0.6, 0.3, 0.1])
    described = describe_separation(lonlat, splits, width_km=5.0)
    assert [(one["of"], one["to"]) for one in described] == [("val", "train"), ("test", "train"), ("test", "val")]
    for one in described:
        nearest = all_pairs_km(lonlat[splits == one["of"]], lonlat[splits == one["to"]]).min(axis=1)
        told = [one["min_km"], one["median_km"], one["max_km"]]
        exact = [nearest.min(), np.median(nearest), nearest.max()]
        np.testing.assert_allclose(told, exact, rtol=1e-9 if nearest.max() < 190 else 1e-3)
        assert one["num_samples"] == len(nearest)
        assert one["num_overlapping"] == (nearest < 5.0).sum()


def test_one_split_has_no_distance_and_one_place_in_two_splits_overlaps_whatever_its_width():
    lonlat = np.array([[8.5, 47.4], [8.5, 47.4], [8.6, 47.4]])
    assert describe_separation(lonlat, np.array(["train"] * 3, dtype=object), width_km=1.0) == []
    (one,) = describe_separation(lonlat, np.array(["train", "val", "val"], dtype=object), width_km=0.0)
    assert (one["min_km"], one["num_overlapping"], one["num_samples"]) == (0, 1, 2)


def test_chips_that_share_a_corner_overlap_and_neighbours_that_touch_do_not():
    east, north = 1 / 78.85, 1 / 111.13  # degrees a kilometre at 45 degrees north, about
    shifts_km = [(0, 0), (0.9, 0.9), (1.2, -1.2), (-0.9995, 0), (50, 50)]  # train first; chips are a kilometre wide
    lonlat = np.array([8.0, 45.0]) + np.array(shifts_km) * [east, north]
    half = np.array([east, north]) / 2
    boxes = np.column_stack([lonlat - half, lonlat + half])
    asked = []

    def outlines(rows):
        asked.append(rows.tolist())
        return shapely.box(*boxes[rows].T)

    (one,) = describe_separation(
        lonlat, np.array(["train", *["val"] * 4], dtype=object), width_km=1.0, outlines=outlines
    )
    assert (one["num_overlapping"], one["num_samples"]) == (1, 4)
    assert asked == [[1, 3], [0]], "the shapes of those alone that are near enough"


def test_places_without_an_outline_overlap_by_their_distance():
    lonlat = np.array([[8.0, 45.0], [8.001, 45.0], [8.0, 45.0], [8.3, 45.0]])
    splits = np.array(["train", "val", "val", "val"], dtype=object)
    (one,) = describe_separation(lonlat, splits, width_km=0.5, outlines=lambda rows: shapely.points(lonlat[rows]))
    assert one["num_overlapping"] == 2
