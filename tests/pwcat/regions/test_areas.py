from __future__ import annotations

import numpy as np
import pytest
import shapely
from pyproj import Geod

from pwcat.regions.areas import EARTH_RADIUS_KM, band_km2, polygons_km2


def objects(*shapes):
    array = np.empty(len(shapes), dtype=object)
    array[:] = shapes
    return array


def test_areas_have_closed_forms():
    r2 = EARTH_RADIUS_KM**2
    whole, octant = shapely.box(-180, -90, 180, 90), shapely.box(0, 0, 90, 90)
    # below the diagonal from the origin to (90°, 90°): the integral of sin(λ) over a quarter circle is 1
    below = shapely.Polygon([(0, 0), (90, 0), (90, 90)])
    holed = octant.difference(shapely.box(10, 10, 20, 30))
    hole = r2 * np.deg2rad(10) * (np.sin(np.deg2rad(30)) - np.sin(np.deg2rad(10)))
    many = shapely.MultiPolygon([octant, shapely.box(-90, -90, 0, 0)])
    areas = polygons_km2(objects(whole, octant, below, holed, many))
    assert areas == pytest.approx([4 * np.pi * r2, np.pi / 2 * r2, r2, np.pi / 2 * r2 - hole, np.pi * r2], rel=1e-12)
    assert band_km2(90.0, 0.0, 90.0) == pytest.approx(np.pi / 2 * r2)


@pytest.mark.kit
def test_areas_of_countries_are_those_on_the_ellipsoid_within_eight_per_mille(kit):
    import geopandas as gpd

    frame = gpd.read_file(kit / "vectors/natural_earth/ne_110m_admin_0_countries.geojson")
    # the oracle's edges are geodesics: cut short, they are straight in degrees too. It cannot cross the poles: no Antarctica.
    shapes = frame.geometry[frame["ADM0_A3"] != "ATA"].segmentize(0.1).to_numpy()
    geod = Geod(ellps="WGS84")
    ellipsoid = np.array(
        [abs(geod.geometry_area_perimeter(shapely.orient_polygons(shape))[0]) / 1e6 for shape in shapes]
    )
    assert polygons_km2(shapes) == pytest.approx(ellipsoid, rel=8e-3)
    assert polygons_km2(shapes).sum() == pytest.approx(ellipsoid.sum(), rel=2e-3)
