"""Maps of plans: where each colour and each site is, read back from the figure and from its pixels."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
import shapely
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.patches import PathPatch
from pyproj import Transformer

from pwcat import commands
from pwcat.errors import PwcatError
from pwcat.maps import COLOURS, MANY, MOST_CLASSES, NONE, draw_map


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


def test_up_to_eighty_classes_have_a_colour_of_their_own_and_every_site_is_drawn_once():
    names = [f"class {k:02d}" for k in range(MOST_CLASSES) for _ in range(81 - k)]
    figure = draw_map(sites(uniform(len(names)), [*names[:-1], None]), title="Many")
    points = points_of(figure)
    assert len(points) == 1 + MOST_CLASSES == 81
    assert set(points) > {colour.upper() for colour in COLOURS}
    assert sum(map(len, points.values())) == len(names)
    assert len(points[COLOURS[0].upper()]) == 81
    shown = legend_of(figure)
    assert len(shown) == 81
    assert {"class 00  81", "class 79  1", "none  1"} < set(shown)


def test_still_more_classes_share_colours_that_no_legend_names():
    names = [f"class {k:03d}" for k in range(846)]
    figure = draw_map(sites(uniform(846), names), title="Ecoregions")
    points = points_of(figure)
    assert set(points) == {colour.upper() for colour in COLOURS}
    assert sum(map(len, points.values())) == 846
    (legend,) = figure.legends
    assert not any(mark.get_visible() for mark in legend.legend_handles)
    assert len(legend_of(figure)) == 25
    assert "and 822 more  822" in legend_of(figure)
    assert figure.texts[1].get_text() == "846 samples, by biome: 846 classes, which share 20 colours"


@pytest.mark.parametrize("count", [1, 8, 25, 62, 846])
@pytest.mark.parametrize("characters", [4, 57, 100])
def test_the_legend_lies_below_the_map_within_the_figure(count, characters):
    names = [f"{k:04d}" + " wide words" * 10 for k in range(count)]
    figure = draw_map(sites(uniform(count), [name[:characters] for name in names]), title="Legend")
    renderer, width = FigureCanvasAgg(figure).get_renderer(), figure.bbox.width
    box = figure.legends[0].get_window_extent(renderer)
    assert 0 <= box.x0 < box.x1 <= width
    assert figure.texts[2].get_window_extent(renderer).y1 <= box.y0
    assert box.y1 <= figure.axes[0].get_window_extent(renderer).y0 + 1


def test_many_sites_are_drawn_as_density_that_counts_them_all():
    lonlat = uniform(MANY + 1)
    figure = draw_map(sites(lonlat, ["a"] * len(lonlat)), title="Dense")
    (cells,) = [each for each in figure.axes[0].collections if isinstance(each, PolyCollection)]
    assert cells.get_array().sum() == len(lonlat)
    assert not points_of(figure)
    assert legend_of(figure) == [f"a  {len(lonlat):,}"]
    # by a layer that is asked for, all of them are points
    points = points_of(draw_map(sites(lonlat, ["a", "b", *["a"] * (MANY - 1)]), title="Dense", density=False))
    assert [len(each) for each in points.values()] == [MANY, 1]
    # uniform on the sphere is uniform on the map: the projection keeps areas
    inside = cells.get_array()[np.abs(np.asarray(cells.get_offsets())[:, 1]) < 6e6]
    assert inside.var() == pytest.approx(inside.mean(), rel=0.3)


def pixels(figure):
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
    figure = draw_map(sites([(0, -80), (0, 80)], ["a", "a"]), title="Land", land=land)
    image = pixels(figure)
    assert image.shape[1] == 1600
    land_colour, sea = (228, 226, 220), (255, 255, 255)
    assert {colour_at(figure, image, *at) for at in [(10, 20), (50, 20), (175, -35), (-175, -35)]} == {land_colour}
    assert {colour_at(figure, image, *at) for at in [(25, 20), (165, -35), (-165, -35), (5, -35), (110, 15)]} == {sea}


def coasts_of(figure):
    """The outlines of land, one array of vertices a ring, and above what they are drawn."""
    (coast,) = [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch) and patch.get_path_effects()]
    return coast.get_path().to_polygons(), coast.get_zorder()


def test_the_coast_is_there_under_few_sites_and_over_many_without_the_borders_and_seams_between_polygons():
    land = [
        shapely.box(0, 0, 20, 20),
        shapely.box(20, 0, 40, 20),
        shapely.box(40.001, 0, 60, 20),
        shapely.box(80, 0, 90, 9),
    ]
    land[0] -= shapely.box(10, 10, 10.4, 10.4)  # less than a pixel or two
    few, many = sites([(10, 10)], ["a"]), sites(uniform(MANY + 1), ["a"] * (MANY + 1))
    for table, density, above in [(few, None, False), (many, None, True), (many, False, True)]:
        figure = draw_map(table, title="Coast", land=land, density=density)
        rings, order = coasts_of(figure)
        assert len(rings) in (2, 3)  # of the second and third box a thousandth of a degree is left open
        covering = max(each.get_zorder() for each in figure.axes[0].collections)
        assert (order > covering) == above


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


@pytest.mark.parametrize(
    ("command", "option"), [(commands.sites, "--map"), (commands.plan, "--map"), (commands.sites, "--out")]
)
def test_what_cannot_be_written_is_told_before_a_site_is_drawn(command, option, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    file = "taken/sites.png" if option == "--map" else "taken/sites.csv"
    with pytest.raises(PwcatError, match=rf"^{option} {file}: its folder cannot be made \(.+\); name another$"):
        CliRunner().invoke(command, [str(small), option, file], catch_exceptions=False)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_cleft_between_neighbours_that_were_drawn_apart_is_no_coast():
    north = shapely.Polygon([(-120, 49.02), (-100, 49.02), (-100, 60), (-120, 60)])
    south = shapely.Polygon([(-120, 40), (-100, 40), (-100, 49), (-120, 49)])  # open to the sea at both ends
    figure = draw_map(sites([(0, 0), (90, 0)], ["a", "b"]), title="T", land=[north, south])
    (path,) = {patch.get_path() for patch in figure.axes[0].patches if isinstance(patch, PathPatch)}
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:8857", always_xy=True).transform(-110, 49.01)
    inside = np.abs(path.vertices[:, 0] - x) < 100_000
    assert np.abs(path.vertices[inside, 1] - y).min() > 500_000


def test_sites_of_one_region_are_looked_at_from_near_and_sites_of_the_world_from_afar():
    near = draw_map(sites(uniform(50) / [60, 30] + [8, 47], ["a"] * 50), title="T").axes[0]
    (left, right), (low, high) = near.get_xlim(), near.get_ylim()
    x, y = points_of(near.figure)[COLOURS[0]].T
    assert right - left == pytest.approx(3e6)
    assert left < x.min() < x.max() < right
    assert low < y.min() < y.max() < high
    world = draw_map(sites(uniform(50), ["a"] * 50), title="T").axes[0]
    assert np.ptp(world.get_xlim()) > 3.4e7
