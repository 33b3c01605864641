"""Quotas by the classes of rasters: in a projection, too large to keep in memory, or listed by a STAC API."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from pwcat.errors import RegionError
from pwcat.landcover import LEGENDS
from pwcat.layers import Layer
from pwcat.providers import open_source
from pwcat.recipe import Source
from pwcat.regions import Regions, open_layer, raster
from pwcat.samplers import sphere, world
from pwcat.samplers.sphere import AreaSampler, CellSampler, PartSampler
from pwcat.samplers.stratified import Stratified
from pwcat.samplers.world import World

SEVEN = {1: "a", 2: "b", 3: "c", 4: "d", 5: "rare", 6: "absent", 7: "missing"}
SHARES = {"a": 0.5, "b": 0.2, "c": 0.2, "d": 0.095, "rare": 0.005}


@pytest.fixture(scope="module")
def twenty_km(tmp_path_factory) -> Path:
    """Five classes on 20 × 20 km of UTM, one of them half a percent: a square of 1.4 km."""
    values = np.zeros((400, 400), dtype=np.uint8)  # 50 m each
    values[:200], values[200:280], values[280:360], values[360:] = 1, 2, 3, 4
    values[360:388, 100:128] = 5  # 784 pixels of 160,000
    values[388:392, 100:104] = 5  # and 16
    path = tmp_path_factory.mktemp("utm") / "classes.tif"
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    transform = Affine(50, 0, 400_000, 0, -50, 5_300_000)
    with rasterio.open(path, "w", height=400, width=400, transform=transform, **profile) as file:
        file.write(values, 1)
    return path


@pytest.fixture
def fewer_points(monkeypatch):
    """Areas measured on fewer points, where they do not matter."""
    monkeypatch.setattr(world, "SHARE_POINTS", 50_000)


def world_of(layer, tmp_path=Path(), footprints=()) -> World:
    return World(regions=Regions(layers={layer.name: layer}), footprints=footprints, base_dir=tmp_path, chip_km=0.96)


@pytest.mark.parametrize(("name", "kept"), [("soil", True), ("soil", False), ("landcover", True)])
def test_every_class_of_a_projected_raster_gets_its_quota(
    twenty_km, chosen, monkeypatch, fewer_points, caplog, name, kept
):
    monkeypatch.setattr(raster, "WHOLE_RASTER_PIXELS", 64_000_000 if kept else 40_000)
    layer = open_layer(name, Layer(path=twenty_km.name, classes=SEVEN), base_dir=twenty_km.parent)
    sampler = {"strategy": "stratified", "by": [name], "domain": "globe"}
    strata, sites, _ = chosen(sampler, 25, Regions(layers={name: layer}), size_px=32)
    assert {stratum.name: stratum.wanted for stratum in strata} == dict.fromkeys(SHARES, 5)
    assert Counter(layer.classes[code] for code in sites.codes[name]) == dict.fromkeys(SHARES, 5)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"2 of the 7 classes of {name} not seen in" in warning
    assert "nothing is drawn of them: absent, missing; to sample them all the same, give weights" in warning


@pytest.mark.parametrize("kept", [True, False])
def test_shares_are_those_of_the_pixels(twenty_km, monkeypatch, kept):
    monkeypatch.setattr(raster, "WHOLE_RASTER_PIXELS", 64_000_000 if kept else 40_000)
    layer = open_layer("soil", Layer(path=twenty_km.name, classes=SEVEN), base_dir=twenty_km.parent)
    measured = world_of(layer).area_shares("globe", ["soil"])
    assert measured.points > 100_000
    assert {name for (name,) in measured.of} == set(SHARES)
    assert {name: measured.of[name,] for name in SHARES} == pytest.approx(SHARES, abs=0.003)
    assert measured.of["rare",] == pytest.approx(0.005, rel=0.15)


def test_a_class_that_is_left_out_or_weighted_is_not_warned_of(twenty_km, fewer_points, caplog):
    layer = open_layer("soil", Layer(path=twenty_km.name, classes=SEVEN), base_dir=twenty_km.parent)
    here = world_of(layer)
    rule = {"strategy": "stratified", "by": ["soil"], "domain": "globe"}
    Stratified(**rule, exclude=["absent", "missing"]).strata(10, world=here)
    Stratified(**rule, quotas={"a": 1, "rare": 1}).strata(10, world=here)
    assert caplog.messages == []
    with pytest.raises(RegionError, match=r"no place has soil 'absent': nothing to sample"):
        Stratified(**rule, quotas={"absent": 1}).strata(10, world=here)


def test_a_warning_names_five_classes_and_counts_the_others(twenty_km, fewer_points, caplog):
    layer = open_layer("cover", Layer(path=twenty_km.name, classes="igbp"), base_dir=twenty_km.parent)
    Stratified(strategy="stratified", by=["cover"], domain="globe").strata(10, world=world_of(layer))
    unseen = sorted(set(LEGENDS["igbp"].values()) - {LEGENDS["igbp"][value] for value in range(1, 6)})
    assert "12 of the 17 classes of cover not seen in" in caplog.text
    assert f": {', '.join(unseen[:5])}, 7 more; to sample" in caplog.text


def test_vector_classes_outside_the_scenes_are_as_they_should_be(boxes, tmp_path, fewer_points, caplog):
    layer = boxes("biome", Tundra=(0, 0, 10, 10), Taiga=(20, 0, 30, 10))
    here = world_of(layer, tmp_path, [shapely.box(2, 2, 3, 3)])
    sampler = {"strategy": "stratified", "by": ["biome"]}
    assert [s.name for s in Stratified(**sampler, domain="scenes").strata(10, world=here)] == ["Tundra"]
    assert caplog.messages == []
    tiny = boxes("biome", Tundra=(0, 0, 10, 10), Islet=(20, 0, 20.001, 0.001))
    Stratified(**sampler, domain="globe").strata(10, world=world_of(tiny))
    assert "1 of the 2 classes of biome not seen in 4" in caplog.text


def test_a_small_region_of_polygons_is_measured_on_a_million_points_too(boxes):
    layer = boxes("soil", Clay=(5, 5, 5.3, 5.3), Peat=(5.3, 5, 5.303, 5.3))
    measured = world_of(layer).area_shares("globe", ["soil"])
    assert measured.of["Peat",] == pytest.approx(1 / 101, rel=0.05)
    assert measured.points > 300_000


def test_a_collection_is_measured_where_its_items_lie(archive_dir, caplog):
    source = Source(provider="archive", path=str(archive_dir), collection="s2-l2a-synthetic")
    with open_source(source, base_dir=archive_dir) as opened:
        layer = open_layer("landcover", Layer(collection="landcover-synthetic"), base_dir=archive_dir, source=opened)
        counts: Counter[str] = Counter()
        for path in (archive_dir / "landcover-synthetic").glob("*/map.tif"):
            with rasterio.open(path) as file:
                values, numbers = np.unique(file.read(1), return_counts=True)
            counts.update({layer.legend[int(v)]: int(n) for v, n in zip(values, numbers, strict=True)})
        measured = world_of(layer).area_shares("globe", ["landcover"])
        caplog.set_level(logging.WARNING, "pwcat.samplers")
        strata = Stratified(strategy="stratified", by=["landcover"], domain="globe").strata(110, world=world_of(layer))
    assert measured.points > 4_096
    share = {name: count / counts.total() for name, count in counts.items()}
    assert {name: measured.of.get((name,), 0) for name in share} == pytest.approx(share, abs=0.03)
    assert {name for name in share if share[name] > 0.002} <= {stratum.name for stratum in strata}
    unseen = set(layer.classes) - {name for (name,) in measured.of}
    assert f"{len(unseen)} of the {len(layer.classes)} classes of landcover not seen" in caplog.text or not unseen


def test_where_scenes_are_cells_of_a_small_layer_are_drawn_from(twenty_km, tmp_path):
    layer = open_layer("soil", Layer(path=twenty_km.name, classes=SEVEN), base_dir=twenty_km.parent)
    scene = shapely.box(13.5, 47, 13.75, 48)
    stratum = Stratified(strategy="stratified", by=["soil"], domain="scenes", quotas={"rare": 1})
    (rare,) = stratum.strata(5, world=world_of(layer, tmp_path, [scene, shapely.box(-50, 0, -49, 1)]))
    points = next(rare.candidates(np.random.default_rng(0)))
    assert shapely.intersects_xy(scene, *points.T).all()
    assert (layer.label(points) == "rare").mean() > 0.01
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(405_700, 5_281_300)
    assert np.hypot(*(points - (lon, lat)).T).min() < 0.05


def test_cells_and_footprints_without_a_place_in_common_are_an_error(monkeypatch):
    monkeypatch.setattr(sphere, "MAX_EMPTY_ROUNDS", 3)
    part = PartSampler(CellSampler(np.array([0]), (36, 72)), AreaSampler([shapely.box(0, 0, 1, 1)]))
    with pytest.raises(RegionError, match="no scene of the source lies where the class is"):
        list(part(np.random.default_rng(0)))
