from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.windows import Window

from pwcat.errors import RegionError
from pwcat.landcover import LEGENDS
from pwcat.layers import Layer
from pwcat.regions import majority, raster, shares
from pwcat.regions.cells import cell_of
from pwcat.regions.opening import open_layer

IGBP = "biomes_landcover/MCD12C1.A2019001.006.IGBP.tif"


def written(path, values, transform, crs="EPSG:4326"):
    """A class raster of uint8."""
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": crs, "transform": transform}
    with rasterio.open(path, "w", height=values.shape[0], width=values.shape[1], **profile) as file:
        file.write(values.astype(np.uint8), 1)
    return path


def opened(path, classes, name="landcover"):
    return open_layer(name, Layer(path=path.name, classes=classes), base_dir=path.parent)


@pytest.mark.kit
@pytest.mark.parametrize("whole", [True, False])
def test_shares_are_counts_of_the_pixels_of_a_window(kit, monkeypatch, whole):
    monkeypatch.setattr(raster, "WHOLE_RASTER_PIXELS", 64_000_000 if whole else 0)
    layer = open_layer("landcover", Layer(path=IGBP, classes="igbp"), base_dir=kit)
    rng = np.random.default_rng(0)
    side, grids, expected = 8, [], []
    with rasterio.open(kit / IGBP) as file:
        for column, row in zip(rng.integers(0, 7200 - side, 40), rng.integers(0, 3600 - side, 40), strict=True):
            x, y = np.meshgrid(
                -180 + (column + np.arange(side) + 0.5) * 0.05, 90 - (row + np.arange(side) + 0.5) * 0.05
            )
            grids.append(np.column_stack([x.ravel(), y.ravel()]))
            counts = Counter(file.read(1, window=Window(column, row, side, side)).ravel().tolist())
            counts.pop(255, None)
            named = {LEGENDS["igbp"][value]: n for value, n in counts.items()}
            expected.append([named.get(name, 0) / max(sum(counts.values()), 1) for name in layer.classes])
    found = shares(layer, np.array(grids))
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array(expected, dtype=np.float32))
    assert majority(found).tolist() == [int(np.argmax(row)) if any(row) else -1 for row in expected]
    assert (found > 0).sum(axis=1).max() > 2


@pytest.mark.kit
@pytest.mark.parametrize("whole", [True, False])
def test_a_point_has_the_class_of_its_pixel_the_edges_of_the_world_included(kit, monkeypatch, whole):
    monkeypatch.setattr(raster, "WHOLE_RASTER_PIXELS", 64_000_000 if whole else 0)
    layer = open_layer("landcover", Layer(path=IGBP, classes="igbp"), base_dir=kit)
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.uniform(-180, 180, 20_000), rng.uniform(-90, 90, 20_000)])
    with rasterio.open(kit / IGBP) as file:
        values = file.read(1).ravel()
    legend = LEGENDS["igbp"]
    expected = [legend.get(int(value)) for value in values[cell_of(points)]]
    assert layer.label(points).tolist() == expected
    edges = np.array([[180.0, -90.0], [-180.0, 90.0], [0.0, -90.0], [np.nan, 0.0], [0.0, 91.0]])
    corners = [legend.get(int(values[number])) for number in (-1, 0, -3600)]
    assert layer.label(edges).tolist() == [*corners, None, None]
    assert layer.pixel_m == pytest.approx(5566.0)
    possible = layer.possible([layer.classes.index("urban")])
    if whole:
        assert np.array_equal(possible.ravel(), values == 13)
        assert layer.areas_km2().sum() == pytest.approx(4 * np.pi * 6371.0072**2, rel=1e-3)
    else:
        assert possible.all()
        assert layer.areas_km2() is None


@settings(max_examples=15)
@given(
    res=st.floats(0.02, 1.3),
    west=st.floats(-180, 150),
    north=st.floats(-50, 89),
    seed=st.integers(0, 1000),
    turned=st.booleans(),
)
def test_where_a_class_can_lie_on_pixels_that_fit_no_cell(tmp_path_factory, res, west, north, seed, turned):
    rng = np.random.default_rng(seed)
    north += 1e-4  # GDAL writes no position where a raster's is that of a picture
    west += 360 * (turned and west < 0)  # longitudes from 0 to 360
    values = rng.integers(0, 3, (40, 60))
    layer = opened(
        written(tmp_path_factory.mktemp("r") / "a.tif", values, Affine(res, 0, west, 0, -res, north)), {1: "a", 2: "b"}
    )
    lon, lat = west + rng.uniform(0, 60 * res, 4000), north - rng.uniform(0, 40 * res, 4000)
    points = np.column_stack([(lon + 180) % 360 - 180, lat])[lat > -90]
    row, column = (
        np.floor((north - lat[lat > -90]) / res).astype(int),
        np.floor((lon[lat > -90] - west) / res).astype(int),
    )
    inside = lon[lat > -90] < (360 if turned else 180)
    codes = layer.codes(points)
    assert np.array_equal(codes[inside], values[row, column][inside] - 1)
    for code in (0, 1):
        possible = layer.possible([code]).ravel()
        assert possible[cell_of(points[codes == code])].all()
    cells = layer.possible(None).ravel().sum() * 0.05**2
    assert cells < (60 * res + 0.1) * (40 * res + 0.1) * 1.1


def test_projected_rasters_are_read_through_their_crs(tmp_path):
    values = np.arange(100).reshape(10, 10) % 3
    path = written(tmp_path / "utm.tif", values, Affine(100, 0, 500_000, 0, -100, 1000), "EPSG:32631")
    layer = opened(path, {0: "a", 1: "b", 2: "c"})
    x, y = np.meshgrid(500_050 + 100 * np.arange(10), 950 - 100 * np.arange(10))
    lonlat = np.column_stack(Transformer.from_crs(32631, 4326, always_xy=True).transform(x.ravel(), y.ravel()))
    assert layer.codes(lonlat).tolist() == values.ravel().tolist()
    assert layer.codes(lonlat + np.array([0, 1])).tolist() == [-1] * 100
    assert layer.pixel_m == 100
    assert layer.possible([0]).ravel()[cell_of(lonlat)].all()
    assert layer.areas_km2() == pytest.approx([0.34, 0.33, 0.33])


def test_any_layer_may_be_a_raster_and_values_may_share_a_class(tmp_path):
    path = written(tmp_path / "biome.tif", np.array([[1, 2], [3, 9]]), Affine(10, 0, 0, 0, -10, 20))
    layer = opened(path, {1: "forest", 2: "forest", 3: "bare"}, name="continent")
    assert layer.classes == ["bare", "forest"]
    assert layer.label(np.array([[5.0, 15], [15, 15], [5, 5], [15, 5], [20, 20]])).tolist() == [
        "forest", "forest", "bare", None, "forest",
    ]  # fmt: skip
    assert majority(shares(layer, np.zeros((1, 4, 2)) - 50)).tolist() == [-1]


def test_a_chip_across_the_antimeridian_is_read_point_by_point(tmp_path):
    path = written(tmp_path / "w.tif", np.array([[1] * 18 + [2] * 18]), Affine(10, 0, -180, 0, -180, 90))
    layer = opened(path, {1: "west", 2: "east"})
    chip = np.array([[[179.9, 0.0], [-179.9, 0.0], [179.95, 0.1], [-179.95, 0.1]]])
    assert layer.label(chip).tolist() == [["east", "west", "east", "west"]]


def test_a_large_raster_is_read_in_squares_each_once(tmp_path, monkeypatch):
    monkeypatch.setattr(raster, "WHOLE_RASTER_PIXELS", 0)
    monkeypatch.setattr(raster, "READ_PX", 16)
    rng = np.random.default_rng(0)
    values = rng.integers(1, 9, (100, 200))
    layer = opened(
        written(tmp_path / "a.tif", values, Affine(0.1, 0, 0, 0, -0.1, 10)), {v: str(v) for v in range(1, 9)}
    )
    points = np.column_stack([rng.uniform(0, 20, 5000), rng.uniform(0, 10, 5000)])
    expected = values[np.floor((10 - points[:, 1]) / 0.1).astype(int), np.floor(points[:, 0] / 0.1).astype(int)]
    assert layer.label(points).astype(int).tolist() == expected.tolist()


def test_a_raster_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "text.tif").write_text("not a raster")
    with pytest.raises(RegionError, match=r"regions\.landcover: .*text\.tif cannot be read as a georeferenced raster"):
        opened(tmp_path / "text.tif", "igbp")
    path = written(tmp_path / "a.tif", np.ones((300, 300)), Affine(0.1, 0, 0, 0, -0.1, 10))
    layer = opened(path, "igbp")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(RegionError, match=r"regions\.landcover: .*a\.tif cannot be read"):
        layer.codes(np.array([[1.0, 1.0]]))


@pytest.mark.parametrize("kept", [True, False])
def test_no_points_have_no_codes(tmp_path, monkeypatch, kept):
    monkeypatch.setattr(raster, "WHOLE_RASTER_PIXELS", 64_000_000 if kept else 0)
    layer = opened(written(tmp_path / "a.tif", np.ones((2, 2)), Affine(10, 0, 0, 0, -10, 20)), {1: "a"})
    for shape in ((0, 2), (0, 16, 2), (3, 0, 2)):
        codes = layer.codes(np.empty(shape))
        assert codes.shape == shape[:-1]
        assert codes.dtype == np.int16
    assert shares(layer, np.empty((0, 16, 2))).shape == (0, 1)


def large_raster(tmp_path, monkeypatch, kept):
    """1,000 × 1,000 pixels of 20 m in UTM, the rows of the upper half in two classes by turns; and points in it."""
    monkeypatch.setattr(raster, "WHOLE_RASTER_PIXELS", kept)
    values = np.zeros((1000, 1000))
    values[:500:2], values[1:500:2] = 1, 2
    path = written(tmp_path / "a.tif", values, Affine(20, 0, 600_000, 0, -20, 9_000_000), "EPSG:32733")
    layer = opened(path, {1: "a", 2: "b", 3: "c"}, name="soil")
    x, y = 600_000 + 20_000 * np.random.default_rng(0).random((2, 3000))
    lon, lat = Transformer.from_crs(32733, 4326, always_xy=True).transform(x, y - 600_000 + 8_980_000)
    return layer, np.column_stack([lon, lat])


def test_a_large_raster_is_possible_where_it_lies_and_is_thinned_for_many_points(tmp_path, monkeypatch):
    layer, points = large_raster(tmp_path, monkeypatch, 40_000)
    exact = layer.codes(points)
    assert 0.45 < (exact >= 0).mean() < 0.55
    possible = layer.possible([2])  # whatever its pixels are
    assert possible.ravel()[cell_of(points)].all()
    assert possible.sum() <= 49
    rough = layer.rough()
    assert rough.rough() is rough
    assert rough.local.grid.shape == (200, 200)
    thinned = rough.codes(points)
    assert (thinned >= 0).mean() == pytest.approx((exact >= 0).mean(), abs=0.01)
    assert "_pixels" not in layer.__dict__


def test_what_lies_beside_a_file_on_disk_belongs_to_it(tmp_path):
    path, profile = tmp_path / "a.tif", {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": "EPSG:4326"}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(path, "w", height=1, width=2, **profile) as file,
    ):
        file.write(np.array([[1, 2]], dtype=np.uint8), 1)
    (tmp_path / "a.tfw").write_text("1\n0\n0\n-1\n100.5\n49.5\n")
    layer = opened(path, {1: "a", 2: "b"})
    assert layer.label(np.array([[100.2, 49.8], [101.2, 49.8], [99.8, 49.8]])).tolist() == ["a", "b", None]
