"""Biomes of places: tables of places, and a map from which places are drawn."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from pwcat.errors import TrainingError
from training.embed import embed_task
from training.models import build_model
from training.probes import LogisticProbe
from training.resampling import Draw
from training.tasks import open_task
from training.tasks.ecoregions import Ecoregions

SMALL = Ecoregions(num_places=300)


def make_tables(folder: Path) -> None:
    """The layout that evaluations since SatCLIP read."""
    folder.mkdir(exist_ok=True)
    train = pd.DataFrame(
        {"X": [10.0, 20.0, 30.0, 0.0], "Y": [0.0, 5.0, -80.0, 1.0], "BIOME_NAME": ["Tundra", "Mangroves", "N/A", None]}
    )
    val = pd.DataFrame(
        {"X": [-170.0, 11.0], "Y": [60.0, 0.5], "BIOME_NAME": ["Tundra", "Mangroves"], "ECO_NAME": ["a", "b"]}
    )
    train.to_csv(folder / "ecoregion_train.csv")
    val.to_csv(folder / "ecoregion_val.csv")


def make_map(path: Path) -> None:
    """Two halves of the Earth's north, and ice that is no biome."""
    halves = [shapely.box(-180, 0, 0, 80), shapely.box(0, 0, 180, 80), shapely.box(-180, -90, 180, -60)]
    frame = gpd.GeoDataFrame({"BIOME_NAME": ["West", "East", "N/A"]}, geometry=halves, crs="EPSG:4326")
    frame.to_file(path)


def test_reads_tables_of_places(tmp_path: Path) -> None:
    make_tables(tmp_path)
    data = open_task("ecoregions", tmp_path)
    assert data.ids.tolist() == ["train/0", "train/1", "test/0", "test/1"]
    assert data.info.classes == ("Mangroves", "Tundra")
    assert data.targets.tolist() == [1, 0, 1, 0]
    assert data.splits.tolist() == ["train", "train", "test", "test"]
    assert data.lonlat.tolist() == [[10, 0], [20, 5], [-170, 60], [11, 0.5]]
    assert data.left_out == {"no biome or no coordinates": 2}


def test_draws_places_from_a_map(tmp_path: Path) -> None:
    make_map(tmp_path / "biomes.gpkg")
    data = SMALL.open(tmp_path)
    assert len(data) == 300
    assert data.info.classes == ("East", "West")
    np.testing.assert_array_equal(data.targets == 0, data.lonlat[:, 0] > 0)
    assert (data.lonlat[:, 1] >= 0).all()
    assert 130 <= (data.splits == "test").sum() <= 170
    # by area: of the band up to 80° N half lies south of 29.5°
    assert np.mean(data.lonlat[:, 1] < 29.5) == pytest.approx(0.5, abs=0.1)
    again = SMALL.open(tmp_path / "biomes.gpkg")  # the file itself will do
    np.testing.assert_array_equal(again.lonlat, data.lonlat)
    np.testing.assert_array_equal(again.splits, data.splits)
    assert again.hash == data.hash
    assert Ecoregions(num_places=300, seed=1).open(tmp_path).hash != data.hash


def test_real_biomes_are_learnt_from_places_alone(kit: Path) -> None:
    """SatCLIP's location encoder, untrained, and a logistic regression: well above the 22 % of the largest biome."""
    data = open_task("ecoregions", kit / "vectors/biomes")
    assert len(data) == 20_000
    assert len(data.info.classes) == 14
    rows = np.flatnonzero(np.arange(len(data)) % 8 == 0)
    few = data.lonlat[rows]
    features = embed_task(build_model("satclip", {"degrees": 5}), _only(data, rows))
    assert features.shape == (len(few), 256)
    sides = data.splits[rows]
    draw = Draw(
        train=np.flatnonzero(sides == "train"),
        test=np.flatnonzero(sides == "test"),
        validation=np.zeros((sides == "train").sum(), dtype=bool),
    )
    predicted = LogisticProbe().fit_predict_many(
        features, data.targets[rows], [draw], kind="classification", num_classes=14
    )[0]
    assert np.mean(predicted.values == data.targets[rows][draw.test]) > 0.5


def _only(data, rows):
    from dataclasses import replace

    from training.tasks.chips import PlaceChips

    return replace(
        data, ids=data.ids[rows], lonlat=data.lonlat[rows], splits=data.splits[rows], targets=data.targets[rows],
        chips=PlaceChips(lonlat=data.lonlat[rows]), hash="few",
    )  # fmt: skip


def test_models_of_chips_are_told_that_there_are_none(tmp_path: Path) -> None:
    make_tables(tmp_path)
    data = open_task("ecoregions", tmp_path)
    with pytest.raises(TrainingError, match="places without pixels"):
        next(data.batches(bands=("B02",)))
    with pytest.raises(TrainingError, match="no masks"):
        data.masks(np.array([0]))


def test_an_empty_folder_says_what_it_may_hold(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"holds neither ecoregion_train\.csv .* get Ecoregions2017\.zip from https://"
    ):
        open_task("ecoregions", tmp_path)
    with pytest.raises(TrainingError, match="holds neither"):
        open_task("ecoregions", tmp_path / "nowhere")


def test_one_table_of_two_is_told(tmp_path: Path) -> None:
    make_tables(tmp_path)
    (tmp_path / "ecoregion_val.csv").unlink()
    with pytest.raises(TrainingError, match=r"ecoregion_val\.csv is missing; the other table alone has no test side"):
        open_task("ecoregions", tmp_path)


def test_tables_of_another_kind_are_told(tmp_path: Path) -> None:
    make_tables(tmp_path)
    pd.DataFrame({"lon": [1.0], "Y": [2.0]}).to_csv(tmp_path / "ecoregion_train.csv")
    pd.DataFrame({"X": [100.0, 200.0], "Y": [95.0, 0.0], "BIOME_NAME": ["a", "b"]}).to_csv(
        tmp_path / "ecoregion_val.csv"
    )
    with pytest.raises(
        TrainingError, match=r"train\.csv has no column X, BIOME_NAME; it has .*val\.csv: 2 places lie outside"
    ):
        open_task("ecoregions", tmp_path)
    (tmp_path / "ecoregion_train.csv").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"ecoregion_train\.csv is no table, or damaged"):
        open_task("ecoregions", tmp_path)


def test_maps_that_are_not_whole_or_not_of_biomes_are_told(tmp_path: Path) -> None:
    (tmp_path / "Ecoregions2017.zip").write_bytes(b"PK half")
    with pytest.raises(
        TrainingError, match=r"Ecoregions2017\.zip is not downloaded to its end, 7 of 149,248,653 bytes"
    ):
        open_task("ecoregions", tmp_path)
    (tmp_path / "Ecoregions2017.zip").rename(tmp_path / "other.gpkg")
    with pytest.raises(TrainingError, match=r"other\.gpkg is not the map"):
        open_task("ecoregions", tmp_path)
    make_map(tmp_path / "biomes.fgb")
    with pytest.raises(TrainingError, match=r"several maps, biomes\.fgb, other\.gpkg: leave one"):
        open_task("ecoregions", tmp_path)


def test_a_map_of_a_country_is_refused(tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame({"BIOME_NAME": ["a"]}, geometry=[shapely.box(5, 45, 10, 48)], crs="EPSG:4326")
    frame.to_file(tmp_path / "switzerland.gpkg")
    with pytest.raises(TrainingError, match="gives 0 of 1,000 places of the Earth a biome"):
        open_task("ecoregions", tmp_path)


def test_downloads_under_way_are_told(tmp_path: Path) -> None:
    (tmp_path / ".Ecoregions2017.zip.part").write_bytes(b"PK")
    with pytest.raises(TrainingError, match=r"\.Ecoregions2017\.zip\.part is a download that has not ended"):
        open_task("ecoregions", tmp_path)
