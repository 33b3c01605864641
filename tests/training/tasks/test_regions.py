import numpy as np
import pytest

from pwcat.errors import RegionError, TrainingError
from pwcat.regions import Regions
from pwcat.regions.cache import place_of
from pwcat.regions.datasets import DATASETS
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import PlaceChips
from training.tasks.regions import GROUPINGS, cached_layers, grouped, layers_of

PLACES = np.array([[8.5, 47.4], [20.0, 0.0], [-60.0, -10.0], [134.0, -25.0], [np.nan, np.nan], [-150.0, -40.0]])


def places(lonlat=PLACES, **groups):
    return TaskData(
        info=TaskInfo(name="somewhere", title="Somewhere", kind="regression", metric="r2"),
        ids=np.arange(len(lonlat)).astype(object),
        lonlat=lonlat,
        splits=np.full(len(lonlat), "train", dtype=object),
        targets=np.arange(len(lonlat), dtype=np.float64),
        chips=PlaceChips(lonlat=lonlat),
        hash="somewhere",
        groups=groups,
    )


@pytest.fixture
def recipe(kit, tmp_path, write_recipe):
    """A recipe whose layers are real."""
    return write_recipe(
        tmp_path,
        name="real",
        regions={
            "continent": {"path": str(kit / "vectors/natural_earth/ne_continents.fgb"), "field": "continent"},
            "biome": {"path": str(kit / "vectors/biomes/resolve_2017_biomes_simplified.fgb"), "field": "BIOME_NAME"},
        },
    )


def test_samples_have_the_continent_and_biome_of_their_place(recipe):
    with layers_of(recipe) as regions:
        data = grouped(places(), regions)
    assert data.groups["continent"].tolist() == ["Europe", "Africa", "South America", "Oceania", None, None]
    assert data.groups["biome"][1] == "Tropical & Subtropical Moist Broadleaf Forests"
    assert data.groups["biome"][3] == "Deserts & Xeric Shrublands"
    assert data.groups["biome"][4:].tolist() == [None, None]
    assert "landcover" not in data.groups
    assert data.hash == places().hash


def test_layers_of_a_catalog_are_those_of_its_datasets(tiny_catalog, everything):
    labelled = {name: everything.column(f"div:{name}") for name in GROUPINGS}
    for place in (tiny_catalog, tiny_catalog / "everywhere"):
        with layers_of(place) as regions:
            data = grouped(places(everything.lonlat), regions)
        for name in ("continent", "biome"):
            assert data.groups[name].tolist() == labelled[name].tolist()
        # a dataset's land cover is that of most of the chip, a task's that of its centre
        assert np.mean(data.groups["landcover"] == labelled["landcover"]) > 0.6


def test_what_a_task_knows_already_stays(recipe):
    known = np.array(["Mars"] * 6, dtype=object)
    unknown = np.full(6, None, dtype=object)
    with layers_of(recipe) as regions:
        data = grouped(places(continent=known, biome=unknown), regions)
    assert data.groups["continent"].tolist() == known.tolist()
    assert data.groups["biome"][0] is not None


def test_without_places_or_layers_there_are_no_groups(recipe, monkeypatch, tmp_path):
    nowhere = places(np.full((3, 2), np.nan))
    with layers_of(recipe) as regions:
        assert grouped(nowhere, regions) is nowhere
    assert grouped(places(), Regions()).groups == {}
    monkeypatch.setenv("PWCAT_CACHE", str(tmp_path / "empty"))
    assert grouped(places()).groups == {}


def test_layers_that_were_fetched_are_taken_and_damaged_ones_are_told(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PWCAT_CACHE", str(tmp_path))
    path = place_of(DATASETS["natural-earth"])
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    assert cached_layers().layers == {}
    assert "test samples are not grouped by continent" in caplog.text


def test_a_place_without_layers_says_so(tmp_path, write_recipe):
    with pytest.raises(TrainingError, match="has no layers of regions: give the file of a recipe"), layers_of(tmp_path):
        pass
    (tmp_path / "collection").mkdir()
    regions = {"continent": {"path": "../layers/continent.fgb", "field": "x"}}
    write_recipe(tmp_path / "collection", name="recipe", regions=regions)
    with (
        pytest.raises(
            TrainingError, match=r"continent\.fgb.* start where the recipe was written first: give that file"
        ),
        layers_of(tmp_path / "collection"),
    ):
        pass
    missing = write_recipe(tmp_path, name="none", regions={"continent": {"path": "nowhere.fgb", "field": "x"}})
    with pytest.raises(RegionError, match=r"nowhere\.fgb"), layers_of(missing):
        pass
