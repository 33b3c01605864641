from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pwcat.errors import RegionError
from pwcat.layers import Layer
from pwcat.regions import index as index_module
from pwcat.regions.cells import CELL_DEG, cell_of
from pwcat.regions.opening import open_layer

NE = ("continent", "vectors/natural_earth/ne_continents.fgb", "continent")
BIOMES = ("biome", "vectors/biomes/resolve_2017_biomes_simplified.fgb", "BIOME_NAME")
CORNERS = np.array([[x, y] for x in (-180.0, 0.0, 180.0) for y in (-90.0, 0.0, 90.0)])
NOWHERE = np.array([[np.nan, 0.0], [0.0, np.nan], [np.inf, 0.0], [200.0, 10.0], [10.0, -95.0], [-180.001, 5.0]])


def everywhere(layer, rng, n):
    """Points at random, on and beside borders, at the antimeridian and the poles, and of no place at all."""
    anywhere = np.column_stack([rng.uniform(-180, 180, n), rng.uniform(-90, 90, n)])
    borders = rng.choice(shapely.get_coordinates(layer.polygons), n, replace=True)
    beside = borders + rng.normal(0, 10.0 ** rng.uniform(-12, -1, (n, 1)), (n, 2))
    seam = np.column_stack([rng.choice([-180.0, 180.0], n // 4), rng.uniform(-90, 90, n // 4)])
    poles = np.column_stack([rng.uniform(-180, 180, n // 4), rng.choice([-90.0, 90.0], n // 4)])
    return np.concatenate([anywhere, borders, beside, seam, poles, CORNERS, NOWHERE])


@pytest.mark.kit
@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize(("name", "path", "field"), [NE, BIOMES])
def test_labels_are_those_of_a_spatial_join_everywhere(kit, joined, name, path, field, indexed):
    layer = open_layer(name, Layer(path=path, field=field), base_dir=kit)
    points = everywhere(layer, np.random.default_rng(0), 3000)
    if indexed:
        assert layer.index.cells.shape == (3600, 7200)
    labels = layer.label(points)
    assert labels.tolist() == joined(layer, points)
    assert None in labels[:3000]  # open sea, or ice
    assert None not in labels[3000:6000]  # a border belongs to a class
    assert layer.codes(points.reshape(-1, 1, 2)).tolist() == layer.codes(points)[:, None].tolist()


@st.composite
def polygons(draw):
    """A polygon within a few cells, or across much of the world: stars with holes, slivers, boxes on the grid's lines."""
    kind = draw(st.sampled_from(["star", "sliver", "grid", "edge"]))
    size = draw(st.sampled_from([0.02, 0.2, 3.0, 60.0]))
    x, y = draw(st.floats(-179, 179)), draw(st.floats(-89, 89))
    if kind == "grid":  # borders exactly on those of cells
        column, row = draw(st.integers(0, 7190)), draw(st.integers(0, 3590))
        shape = shapely.box(
            -180 + column * CELL_DEG, 90 - (row + 3) * CELL_DEG, -180 + (column + 4) * CELL_DEG, 90 - row * CELL_DEG
        )
    elif kind == "edge":
        shape = draw(
            st.sampled_from(
                [
                    shapely.box(-180, -90, 180, -60),
                    shapely.box(170, 10, 180, 20),
                    shapely.box(175, -5, 190, 5),
                    shapely.box(-200, 60, -170, 100),
                ]
            )
        )
    elif kind == "sliver":
        dx, dy = draw(st.floats(-size, size)), draw(st.floats(-size, size))
        shape = shapely.LineString([(x, y), (x + dx, y + dy)]).buffer(10.0 ** draw(st.integers(-9, -2)))
    else:
        count = draw(st.integers(3, 9))
        radii = draw(st.lists(st.floats(0.1, 1), min_size=count, max_size=count))
        angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
        ring = [(x + size * r * np.cos(a), y + size * r * np.sin(a)) for r, a in zip(radii, angles, strict=True)]
        shape = shapely.Polygon(ring)
        if draw(st.booleans()):
            shape = shape.difference(shapely.affinity.scale(shape, 0.4, 0.4))
    return shapely.make_valid(shape)


@settings(max_examples=25)
@given(shapes=st.lists(polygons(), min_size=1, max_size=5), seed=st.integers(0, 2**16))
def test_any_polygons_are_labelled_as_a_spatial_join_does(joined, layer_of, shapes, seed):
    shapes = [
        part for shape in shapes for part in shapely.get_parts(shape) if part.geom_type == "Polygon" and part.area > 0
    ]
    if not shapes:
        return
    rng = np.random.default_rng(seed)
    layer = layer_of(shapes, [f"class {rng.integers(3)}" for _ in shapes])
    west, south, east, north = shapely.total_bounds(layer.polygons)
    near = np.column_stack([rng.uniform(west - 0.2, east + 0.2, 400), rng.uniform(south - 0.2, north + 0.2, 400)])
    points = np.concatenate([near, everywhere(layer, rng, 200)])
    expected = joined(layer, points)
    assert layer.label(points).tolist() == expected  # a few points: by the polygons alone
    assert layer.index.cells is not None
    assert layer.label(points).tolist() == expected  # the same from the index
    codes = layer.codes(points)
    on_grid = (np.abs(points[:, 0]) <= 180) & (np.abs(points[:, 1]) <= 90)
    for wanted in [*range(len(layer.classes)), None]:
        possible = layer.possible(None if wanted is None else [wanted]).ravel()
        hit = on_grid & (codes >= 0 if wanted is None else codes == wanted)
        assert possible[cell_of(points[hit])].all()


def test_the_index_is_made_once_many_points_ask(layer_of, monkeypatch):
    layer = layer_of([shapely.box(0, 0, 10, 10)])
    few = np.full((index_module.FEW_POINTS - 1, 2), 5.0)
    assert set(layer.codes(few)) == {0}
    assert "cells" not in layer.index.__dict__
    assert set(layer.codes(np.concatenate([few, few]))) == {0}
    made = layer.index.__dict__["cells"]
    layer.codes(few)
    assert layer.index.cells is made


def test_many_border_points_are_tested_a_piece_at_a_time(layer_of, joined, monkeypatch):
    monkeypatch.setattr(index_module, "POINTS_AT_ONCE", 7)
    monkeypatch.setattr(index_module, "VERTICES_AT_ONCE", 3)
    layer = layer_of([shapely.Point(3, 4).buffer(1), shapely.box(3, 4, 5, 6)])
    points = everywhere(layer, np.random.default_rng(1), 200)
    before = layer.label(points).tolist()
    assert before == joined(layer, points)
    assert (layer.index.cells == index_module.BORDER).any()
    assert layer.label(points).tolist() == before


def test_where_a_class_can_lie_is_its_polygons_and_the_margin_around_them(layer_of):
    layer = layer_of([shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10)], ["a", "b"])
    a, either = layer.possible([0]), layer.possible(None)
    at = lambda lon, lat: cell_of(np.array([[lon, lat]]))[0]  # noqa: E731
    assert [a.ravel()[at(*p)] for p in [(5, 5), (10.01, 5), (10.5, 5), (15, 5)]] == [True, True, False, False]
    assert [either.ravel()[at(*p)] for p in [(5, 5), (15, 5), (20.5, 5)]] == [True, True, False]
    assert not layer.possible([]).any()
    far = layer.possible([0], margin_km=120.0).ravel()
    assert [far[at(*p)] for p in [(10.9, 5), (11.5, 5), (5, 11.0), (5, 11.6)]] == [True, False, True, False]
    assert a.mean() == pytest.approx(100 / (360 * 180), rel=0.05)


@pytest.mark.parametrize(
    "box",
    [
        (-180, 89, -179, 90),
        (179.5, -90, 180, -89.9),
        (10.02, 3.01, 10.04, 3.02),
        (-180, -1, 180, 1),
        (-190, 4, -170, 5),
    ],
)
def test_where_a_class_can_lie_is_found_at_the_edges_of_the_map_and_for_the_small(layer_of, box):
    """All cells that the box touches, and none more than two beside them."""
    layer = layer_of([shapely.box(*box), shapely.box(50, 50, 60, 60)], ["a", "b"])
    mask = layer.possible([0])
    edge = np.linspace(0, 1, 401)
    lon, lat = np.meshgrid(box[0] + edge * (box[2] - box[0]), box[1] + edge * (box[3] - box[1]))
    inside = np.column_stack([lon.ravel(), lat.ravel()])
    inside = inside[np.abs(inside[:, 0]) <= 180]
    touched = np.zeros(mask.shape, dtype=bool)
    touched.ravel()[cell_of(inside)] = True
    assert mask[touched].all()
    rows, columns = (np.flatnonzero(touched.any(axis=axis)) for axis in (1, 0))
    near = np.zeros(mask.shape, dtype=bool)
    near[max(rows[0] - 2, 0) : rows[-1] + 3, max(columns[0] - 2, 0) : columns[-1] + 3] = True
    assert not mask[~near].any()


def test_where_polygons_meet_or_overlap_the_first_in_the_file_wins(tmp_path, boxes):
    boxes(tmp_path / "a.gpkg", west=(0, 0, 10, 10), east=(10, 0, 20, 10), over=(5, 0, 15, 10))
    layer = open_layer("biome", Layer(path="a.gpkg", field="name"), base_dir=tmp_path)
    labels = layer.label(np.array([[10.0, 5.0], [7.0, 5.0], [12.0, 5.0], [20.0, 10.0], [20.1, 5.0], [0.0, 0.0]]))
    assert labels.tolist() == ["west", "west", "east", "east", None, "west"]
    assert layer.classes == ["east", "over", "west"]
    assert layer.codes(np.array([[7.0, 5.0], [30.0, 5.0]])).tolist() == [2, -1]
    assert layer.pixel_m is None
    assert len(layer.polygons_of()) == 3
    assert [polygon.bounds for polygon in layer.polygons_of("over")] == [(5, 0, 15, 10)]


def test_a_layer_in_another_crs_is_brought_to_degrees(tmp_path):
    frame = gpd.GeoDataFrame({"name": ["a"]}, geometry=[shapely.box(500000, 0, 600000, 100000)], crs="EPSG:32631")
    frame.to_file(tmp_path / "utm.gpkg", driver="GPKG")
    layer = open_layer("biome", Layer(path="utm.gpkg", field="name"), base_dir=tmp_path)
    # 3° E, 0° N is the origin of UTM zone 31: easting 500,000 m, northing 0.
    assert layer.label(np.array([[3.001, 0.001], [2.999, 0.001]])).tolist() == ["a", None]


def test_rows_without_a_class_or_a_shape_are_left_out_and_invalid_ones_mended(tmp_path):
    bow_tie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    frame = gpd.GeoDataFrame(
        {"name": ["tie", None, "nothing"], "n": [1, 2, 3]},
        geometry=[bow_tie, shapely.box(5, 5, 6, 6), None],
        crs="EPSG:4326",
    )
    frame.to_file(tmp_path / "a.gpkg", driver="GPKG")
    layer = open_layer("biome", Layer(path="a.gpkg", field="name"), base_dir=tmp_path)
    assert layer.classes == ["tie"]
    assert layer.label(np.array([[0.2, 1.0], [1.8, 1.0], [1.0, 0.2], [5.5, 5.5]])).tolist() == [
        "tie",
        "tie",
        None,
        None,
    ]


def test_a_file_that_cannot_be_a_layer_is_named_with_what_to_do(tmp_path, boxes):
    def opened(**layer):
        return open_layer("biome", Layer(**layer), base_dir=tmp_path)

    with pytest.raises(RegionError, match=r"regions\.biome: gone\.fgb does not exist \(looked for .*gone\.fgb\); put"):
        opened(path="gone.fgb", field="name")
    (tmp_path / "text.fgb").write_text("not a vector file")
    with pytest.raises(RegionError, match=r"regions\.biome: .*text\.fgb cannot be read as a vector file"):
        opened(path="text.fgb", field="name")
    boxes(tmp_path / "a.gpkg", west=(0, 0, 1, 1))
    with pytest.raises(RegionError, match=r"has no field 'biome'; it has name"):
        opened(path="a.gpkg", field="biome")
    gpd.GeoDataFrame({"name": ["p"]}, geometry=[shapely.Point(0, 0)], crs="EPSG:4326").to_file(tmp_path / "p.gpkg")
    with pytest.raises(RegionError, match=r"p\.gpkg holds no polygon with a value in 'name'"):
        opened(path="p.gpkg", field="name")
    (tmp_path / "table.csv").write_text("name\na\n")
    with pytest.raises(RegionError, match=r"table\.csv holds a table without geometry"):
        opened(path="table.csv", field="name")
