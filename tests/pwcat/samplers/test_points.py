from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from pwcat.errors import RegionError
from pwcat.samplers.points import Points

LONLAT = np.column_stack([np.linspace(-170, 170, 50), np.linspace(-80, 80, 50)])


@pytest.fixture
def world(anywhere, tmp_path):
    pd.DataFrame({"lon": LONLAT[:, 0], "lat": LONLAT[:, 1]}).to_csv(tmp_path / "sites.csv", index=False)
    return anywhere


def candidates(world, seed=0, **changes):
    document = Points.model_validate({"strategy": "points", "path": "sites.csv", **changes})
    (stratum,) = document.strata(7, world=world)
    assert (stratum.wanted, stratum.labels) == (7, {})
    return np.concatenate(list(stratum.candidates(np.random.default_rng(seed))))


def test_sites_are_those_of_the_file_in_its_order(world):
    np.testing.assert_allclose(candidates(world, order="file"), LONLAT)


def test_sites_are_shuffled_by_the_seed(world):
    first, same, other = candidates(world, 1), candidates(world, 1), candidates(world, 2)
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    np.testing.assert_allclose(first[np.argsort(first[:, 0])], LONLAT)


def test_a_file_that_is_not_there(world):
    with pytest.raises(RegionError, match=r"gone\.csv: no such file of places"):
        candidates(world, path="gone.csv")


def test_longitude_and_latitude_that_are_exchanged_are_told(world, tmp_path):
    pd.DataFrame({"lon": LONLAT[:, 1], "lat": LONLAT[:, 0]}).to_csv(tmp_path / "wrong.csv", index=False)
    with pytest.raises(
        RegionError,
        match=r"wrong\.csv: coordinates from -80 to 80 and -170 to 170 are no longitudes and latitudes in degrees; "
        r"exchanged they would be",
    ):
        candidates(world, path="wrong.csv")
    np.testing.assert_allclose(candidates(world, path="wrong.csv", lon="lat", lat="lon", order="file"), LONLAT)
    pd.DataFrame({"lon": [500_000.0], "lat": [100.0]}).to_csv(tmp_path / "metres.csv", index=False)
    with pytest.raises(RegionError, match=r"in degrees; a projected file must say its CRS$"):
        candidates(world, path="metres.csv")


def test_one_column_of_coordinates_is_not_enough():
    with pytest.raises(ValidationError, match="give both `lon` and `lat`, or neither"):
        Points.model_validate({"strategy": "points", "path": "sites.csv", "lon": "x"})


def test_fewer_points_than_wanted_says_that_there_are_no_more(world, chosen):
    sampler = {"strategy": "points", "path": "sites.csv"}
    _, sites, _ = chosen(sampler, 50, world.regions, base_dir=world.base_dir)
    np.testing.assert_allclose(np.sort(sites.lonlat[:, 0]), LONLAT[:, 0])
    with pytest.raises(RegionError, match=r"sites\.csv: 50 of 51; .*there are no more"):
        chosen(sampler, 51, world.regions, base_dir=world.base_dir)


def test_a_list_is_tried_to_its_end_however_late_its_last_place_is(world, chosen, tmp_path):
    lon = np.concatenate([np.zeros(140_000), [1.0, 2.0, 3.0]])
    pd.DataFrame({"lon": lon, "lat": 0.0}).to_parquet(tmp_path / "late.parquet")
    sampler = {"strategy": "points", "path": "late.parquet", "order": "file"}
    _, sites, _ = chosen(sampler, 4, world.regions, base_dir=tmp_path)
    assert sites.lonlat[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
