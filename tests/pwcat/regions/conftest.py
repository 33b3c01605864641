"""What the tests of regions share: a cache of their own, layers from boxes, and the answer of a spatial join."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from pwcat.regions.vector import VectorLayer


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("PWCAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def countries_zip(tmp_path_factory, kit) -> Path:
    """The kit's countries as Natural Earth hands them out: a zip archive of a shapefile."""
    path = tmp_path_factory.mktemp("zip") / "ne_110m_admin_0_countries.zip"
    frame = gpd.read_file(kit / "vectors/natural_earth/ne_110m_admin_0_countries.geojson")
    frame = frame[["ADM0_A3", "NAME", "CONTINENT", "geometry"]]
    frame.to_file(path.with_suffix(".shz"), driver="ESRI Shapefile", layer="ne_110m_admin_0_countries")
    path.with_suffix(".shz").rename(path)
    return path


@pytest.fixture(scope="session")
def joined():
    """Class of each point by `geopandas.sjoin`, the polygon first in the layer where several hold it."""

    def join(layer: VectorLayer, points: np.ndarray) -> list[str | None]:
        frame = gpd.GeoDataFrame({"label": layer.class_of}, geometry=layer.polygons, crs="EPSG:4326")
        places = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*points.T), crs="EPSG:4326")
        pairs = places.sjoin(frame, how="left", predicate="intersects").sort_values("index_right")
        first = pairs.groupby(level=0)["label"].first().reindex(range(len(points)))
        return first.astype(object).where(first.notna(), None).to_list()

    return join


@pytest.fixture(scope="session")
def layer_of():
    """A layer of polygons, one class each unless said otherwise."""

    def make(polygons, classes=None) -> VectorLayer:
        shapes = np.empty(len(polygons), dtype=object)
        shapes[:] = polygons
        names = classes or [f"class {number}" for number in range(len(polygons))]
        return VectorLayer(name="biome", source="test", class_of=np.array(names, dtype=object), polygons=shapes)

    return make


@pytest.fixture(scope="session")
def boxes():
    """A vector file of named boxes, in the order given."""

    def write(path, **bounds):
        shapes = [shapely.box(*values) for values in bounds.values()]
        gpd.GeoDataFrame({"name": list(bounds)}, geometry=shapes, crs="EPSG:4326").to_file(path, driver="GPKG")
        return path

    return write
