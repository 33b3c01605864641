"""Maps of plans: where each colour and each site is, read back from the figure and from its pixels."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
import shapely
from click.testing import CliRunner
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.patches import PathPatch
from pyproj import Transformer

from pwcat import commands
from pwcat.errors import PwcatError
from pwcat.maps import COLOURS, MANY, NONE, OTHER, draw_map


def sites(lonlat, biome):
    lon, lat = np.asarray(lonlat, dtype=float).T
    ids = [str(k) for k in range(len(lon))]
    return pa.table(
        {"id": ids, "lon": lon, "lat": lat, "biome": pa.array(biome, pa.string()), "split": ["train"] * len(lon)}
    )


def uniform(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(-180, 180, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))])


def points_of(figure):
    """Offsets in metres by colour."""
    scatters = [each for each in figure.axes[0].collections if isinstance(each, PathCollection)]
    return {to_hex(each.get_facecolors()[0]).upper(): np.asarray(each.get_offsets()) for each in scatters}


def legend_of(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_sites_lie_where_the_projection_puts_them_in_the_colour_of_their_class():
    lonlat = [(0, 0), (180, 0), (-180, 0), (179.9, 70), (10, -89.9)]
    figure = draw_map(sites(lonlat, ["a", "a", "b", "a", None]), title="Five", colour_by="biome")
    x, y = Transformer.from_crs(4326, 8857, always_xy=True).transform(*np.array(lonlat, dtype=float).T)
    points, expected = points_of(figure), np.column_stack([x, y])
    np.testing.assert_allclose(points[COLOURS[0].upper()], expected[[0, 1, 3]])
    np.testing.assert_allclose(points[COLOURS[1].upper()], expected[[2]])
    np.testing.assert_allclose(points[NONE.upper()], expected[[4]])
    left, right = figure.axes[0].get_xlim()
    assert left < x.min() < x.max() < right  # both sides of the antimeridian are on the map
    assert sorted(legend_of(figure)) == ["a  3", "b  1", "none  1"]


def test_the_rarest_of_many_classes_share_a_colour_and_every_site_is_drawn_once():
    names = [f"class {k:02d}" for k in range(14) for _ in range(20 - k)]
    figure = draw_map(sites(uniform(len(names)), names), title="Many")
    points = points_of(figure)
    assert set(points) == {colour.upper() for colour in (*COLOURS, OTHER)}
    assert sum(map(len, points.values())) == len(names)
    shown = legend_of(figure)
    assert len(shown) == 10
    assert f"5 other classes  {11 + 10 + 9 + 8 + 7}" in shown
    assert "class 00  20" in shown


def test_many_sites_are_drawn_as_density_that_counts_them_all():
    lonlat = uniform(MANY + 1)
    figure = draw_map(sites(lonlat, ["a"] * len(lonlat)), title="Dense")
    (cells,) = [each for each in figure.axes[0].collections if isinstance(each, PolyCollection)]
    assert cells.get_array().sum() == len(lonlat)
    assert not points_of(figure)
    assert legend_of(figure) == [f"a  {len(lonlat):,}"]
    # uniform on the sphere is uniform on the map: the projection keeps areas
    inside = cells.get_array()[np.abs(np.asarray(cells.get_offsets())[:, 1]) < 6e6]
    assert inside.var() == pytest.approx(inside.mean(), rel=0.3)


def pixels(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def colour_at(figure, image, lon, lat):
    x, y = Transformer.from_crs(4326, 8857, always_xy=True).transform(lon, lat)
    column, row = figure.axes[0].transData.transform((x, y))
    return tuple(int(v) for v in image[image.shape[0] - 1 - round(row), round(column)])


def test_land_is_filled_holes_are_open_and_nothing_leaks_over_the_antimeridian():
    hole = shapely.box(20, 10, 40, 30)
    land = [
        shapely.box(0, 0, 60, 40) - hole,
        shapely.MultiPolygon([shapely.box(170, -40, 180, -20), shapely.box(-180, -40, -170, -20)]),
        shapely.box(100, 10, 120, 20).boundary,  # no polygon
        None,
    ]
    figure = draw_map(sites([(0, -80)], ["a"]), title="Land", land=land)
    image = pixels(figure)
    assert image.shape == (1020, 1600, 3)
    land_colour, sea = (228, 226, 220), (255, 255, 255)
    assert {colour_at(figure, image, *at) for at in [(10, 20), (50, 20), (175, -35), (-175, -35)]} == {land_colour}
    assert {colour_at(figure, image, *at) for at in [(25, 20), (165, -35), (-165, -35), (5, -35), (110, 15)]} == {sea}


def test_without_polygons_there_is_no_land():
    for land in (None, [], [shapely.Point(0, 0)], [shapely.Polygon()]):
        figure = draw_map(sites([(0, 0)], ["a"]), title="Nothing", land=land)
        assert not [each for each in figure.axes[0].patches if isinstance(each, PathPatch)]


def test_it_says_what_it_shows():
    figure = draw_map(sites(uniform(1500), ["a"] * 1500), title="Where", attribution="made of data")
    texts = [text.get_text() for text in figure.texts]
    assert texts == ["Where", "1,500 samples, by biome", "made of data · Equal Earth projection (EPSG:8857)"]


def test_a_layer_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(PwcatError, match="the plan has no layer 'soil' to colour by; it has biome, split"):
        draw_map(sites([(0, 0)], ["a"]), title="", colour_by="soil")


@pytest.mark.parametrize("suffix", ["png", "pdf", "SVG"])
def test_the_command_draws_a_map(suffix, small, frozen, tmp_path):
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    (catalog / "small").symlink_to(frozen)
    file = tmp_path / "maps" / f"sites.{suffix}"
    done = CliRunner().invoke(
        commands.plan,
        [str(small), "--catalog", str(catalog), "--map", str(file), "--map-by", "continent"],
        catch_exceptions=False,
    )
    assert f"Map: {file}" in done.output.splitlines()
    if suffix == "SVG":
        assert "pwcat, synthetic scenes · continent: continent.fgb" in file.read_text()
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "SVG": b"<?xml"}[suffix]
    assert file.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--map", "sites.gif"], "--map sites.gif: the file must end in .png, .pdf, .svg"),
        (
            ["--map-by", "biome"],
            "--map-by biome: there is no map to colour; add --map FILE, a .png, .pdf, .svg",
        ),
        (
            ["--map", "sites.png", "--map-by", "soil"],
            "--map-by soil: the recipe has no such layer; it has continent, biome, landcover, stratum, split",
        ),
    ],
)
@pytest.mark.parametrize("command", [commands.sites, commands.plan])
def test_the_commands_refuse_maps_that_cannot_be_before_they_draw_a_site(
    command, options, told, small, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PwcatError, match=f"^{re.escape(told)}$"):
        CliRunner().invoke(command, [str(small), *options], catch_exceptions=False)
    assert not list(tmp_path.iterdir())
