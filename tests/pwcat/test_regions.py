from __future__ import annotations

from collections import Counter

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio.windows import Window

from pwcat import regions
from pwcat.errors import RegionError
from pwcat.landcover import LEGENDS
from pwcat.providers import open_source
from pwcat.recipe import Layer, RegionLayers, Source
from pwcat.regions import majority, open_raster_layer, open_regions, open_vector_layer, require_class

NE = ("continent", "vectors/natural_earth/ne_continents.fgb", "continent")
BIOMES = ("biome", "vectors/biomes/resolve_2017_biomes_simplified.fgb", "BIOME_NAME")
IGBP = "biomes_landcover/MCD12C1.A2019001.006.IGBP.tif"


def squares(path, **boxes):
    """A vector file of named boxes, in the order given."""
    frame = gpd.GeoDataFrame(
        {"name": list(boxes)}, geometry=[shapely.box(*bounds) for bounds in boxes.values()], crs="EPSG:4326"
    )
    frame.to_file(path, driver="GPKG")
    return path


@pytest.mark.kit
@pytest.mark.parametrize(("name", "path", "field"), [NE, BIOMES])
def test_labels_are_those_of_a_spatial_join_borders_included(kit, name, path, field):
    layer = open_vector_layer(name, Layer(path=path, field=field), base_dir=kit)
    rng = np.random.default_rng(0)
    anywhere = np.column_stack([rng.uniform(-180, 180, 3000), rng.uniform(-90, 90, 3000)])
    borders = rng.choice(shapely.get_coordinates(layer.polygons), 1000, replace=False)
    points = np.concatenate([anywhere, borders])

    frame = gpd.read_file(kit / path)
    frame["geometry"] = frame.geometry.make_valid()
    joined = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*points.T), crs="EPSG:4326").sjoin(frame, how="left")
    first = joined.sort_values("index_right").groupby(level=0).first()[field]
    expected = first.astype(object).where(first.notna(), None).to_numpy()

    labels = layer.label(points)
    assert labels.tolist() == expected.tolist()
    assert None in labels[:3000]  # open sea, or ice
    assert all(label in layer.classes for label in labels[3000:])  # a border belongs to a class


def test_where_polygons_meet_or_overlap_the_first_in_the_file_wins(tmp_path):
    squares(tmp_path / "a.gpkg", west=(0, 0, 10, 10), east=(10, 0, 20, 10), over=(5, 0, 15, 10))
    layer = open_vector_layer("biome", Layer(path="a.gpkg", field="name"), base_dir=tmp_path)
    labels = layer.label(np.array([[10.0, 5.0], [7.0, 5.0], [12.0, 5.0], [20.0, 10.0], [20.1, 5.0], [0.0, 0.0]]))
    assert labels.tolist() == ["west", "west", "east", "east", None, "west"]
    assert layer.classes == ["east", "over", "west"]
    assert len(layer.polygons_of()) == 3
    assert [polygon.bounds for polygon in layer.polygons_of("over")] == [(5, 0, 15, 10)]


def test_a_layer_in_another_crs_is_brought_to_degrees(tmp_path):
    frame = gpd.GeoDataFrame({"name": ["a"]}, geometry=[shapely.box(500000, 0, 600000, 100000)], crs="EPSG:32631")
    frame.to_file(tmp_path / "utm.gpkg", driver="GPKG")
    layer = open_vector_layer("biome", Layer(path="utm.gpkg", field="name"), base_dir=tmp_path)
    # 3° E, 0° N is the origin of UTM zone 31: easting 500,000 m, northing 0.
    assert layer.label(np.array([[3.001, 0.001], [2.999, 0.001]])).tolist() == ["a", None]


@pytest.mark.kit
@pytest.mark.parametrize("whole", [True, False])
def test_fractions_are_counts_of_the_pixels_of_a_window(kit, monkeypatch, whole):
    monkeypatch.setattr(regions, "WHOLE_RASTER_PIXELS", 64_000_000 if whole else 0)
    layer = open_raster_layer("landcover", Layer(path=IGBP, classes="igbp"), base_dir=kit)
    rng = np.random.default_rng(0)
    side, grids, expected = 8, [], []
    with rasterio.open(kit / IGBP) as raster:
        for column, row in zip(rng.integers(0, 7200 - side, 40), rng.integers(0, 3600 - side, 40), strict=True):
            x, y = np.meshgrid(
                -180 + (column + np.arange(side) + 0.5) * 0.05, 90 - (row + np.arange(side) + 0.5) * 0.05
            )
            grids.append(np.column_stack([x.ravel(), y.ravel()]))
            counts = Counter(raster.read(1, window=Window(column, row, side, side)).ravel().tolist())
            counts.pop(255, None)
            shares = {LEGENDS["igbp"][value]: n / sum(counts.values()) for value, n in counts.items()}
            expected.append(dict(sorted(shares.items(), key=lambda item: (-item[1], item[0]))))
    found = layer.fractions(np.array(grids))
    assert [list(shares.items()) for shares in found] == [list(shares.items()) for shares in expected]
    assert majority(found) == [next(iter(shares), None) for shares in expected]
    assert max(len(shares) for shares in found) > 2


def test_fractions_of_a_collection_of_projected_rasters(archive_dir):
    source = Source(provider="archive", path=str(archive_dir), collection="s2-l2a-synthetic")
    path = next((archive_dir / "landcover-synthetic").glob("*/map.tif"))
    with rasterio.open(path) as raster:
        pixels, transform, crs = raster.read(1), raster.transform, raster.crs
    x, y = np.meshgrid(transform.c + (np.arange(100, 164) + 0.5) * 10, transform.f - (np.arange(200, 264) + 0.5) * 10)
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x.ravel(), y.ravel())
    with open_source(source, base_dir=archive_dir) as opened:
        layers = RegionLayers(landcover=Layer(collection="landcover-synthetic"))
        layer = open_regions(layers, base_dir=archive_dir, source=opened).landcover
        inside, outside = layer.fractions(np.array([np.column_stack([lon, lat]), np.column_stack([lon * 0, lat * 0])]))
        with pytest.raises(RegionError, match="collection 'nowhere' of archive has no item that says its classes"):
            open_regions(RegionLayers(landcover=Layer(collection="nowhere")), base_dir=archive_dir, source=opened)
        wrong = RegionLayers(landcover=Layer(collection="landcover-synthetic", asset="classes"))
        with pytest.raises(RegionError, match="has no asset 'classes'"):
            open_regions(wrong, base_dir=archive_dir, source=opened)
    values, counts = np.unique(pixels[200:264, 100:164], return_counts=True)
    names = {int(value): layer.legend[int(value)] for value in values}
    assert inside == {names[int(v)]: n / 4096 for v, n in zip(values, counts, strict=True)}
    assert outside == {}
    assert majority([inside, outside])[1] is None


def test_a_class_is_found_however_it_is_spelt_and_else_close_ones_are_named():
    classes = ["Boreal Forests/Taiga", "Tundra", "Mangroves", "open_shrubland"]
    assert require_class("tundra", classes, layer="biome") == "Tundra"
    assert require_class("OPEN SHRUBLAND", classes, layer="landcover") == "open_shrubland"
    assert require_class("open-shrubland", classes, layer="landcover") == "open_shrubland"
    with pytest.raises(
        RegionError,
        match=r"unknown biome 'mangrove': did you mean 'Mangroves'\? Known: Boreal Forests/Taiga, Mangroves, Tundra, open",
    ):
        require_class("mangrove", classes, layer="biome")
    with pytest.raises(RegionError, match=r"did you mean 'Boreal Forests/Taiga'"):
        require_class("taiga", classes, layer="biome")
    with pytest.raises(RegionError, match=r"unknown biome 'xyz': Known: Boreal"):
        require_class("xyz", classes, layer="biome")


def test_a_layer_that_cannot_be_read_is_named_with_what_to_do(tmp_path):
    with pytest.raises(RegionError, match=r"regions\.biome: gone\.fgb does not exist \(looked for .*gone\.fgb\); put"):
        open_vector_layer("biome", Layer(path="gone.fgb", field="name"), base_dir=tmp_path)
    (tmp_path / "text.fgb").write_text("not a vector file")
    with pytest.raises(RegionError, match=r"regions\.biome: .*text\.fgb cannot be read as a vector file"):
        open_vector_layer("biome", Layer(path="text.fgb", field="name"), base_dir=tmp_path)
    with pytest.raises(RegionError, match=r"regions\.landcover: .*text\.fgb cannot be read as a georeferenced raster"):
        open_raster_layer("landcover", Layer(path="text.fgb", classes="igbp"), base_dir=tmp_path)
    squares(tmp_path / "a.gpkg", west=(0, 0, 1, 1))
    with pytest.raises(RegionError, match=r"has no field 'biome'; it has name"):
        open_vector_layer("biome", Layer(path="a.gpkg", field="biome"), base_dir=tmp_path)
