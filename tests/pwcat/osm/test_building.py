"""Tiles planned and built: which there are, what they hold, which images they get, and what a second run does."""

from __future__ import annotations

import shutil
from hashlib import sha256
from io import StringIO

import numpy as np
import osmium
import pyarrow.parquet as pq
import pytest
import rasterio
import yaml
from osmium.osm import mutable
from rasterio.transform import from_bounds
from rich.console import Console

from pwcat.building.ledger import read_ledger
from pwcat.cube import open_cube
from pwcat.doctor import examine
from pwcat.errors import CubeError, PwcatError, RecipeError, SourceError
from pwcat.osm.building import build_tiles
from pwcat.osm.document import load_map_recipe
from pwcat.osm.entities import read_entities
from pwcat.osm.imagery import open_imagery
from pwcat.osm.plan import read_tiles
from pwcat.osm.planning import freeze_tiles
from pwcat.osm.showing import show_tiles
from pwcat.osm.tiles import Tile, parse_tile

X, Y = 4 * 8500, 4 * 5500


@pytest.fixture
def town(map_folder, tmp_path):
    """A copy of the small map, its recipe to be changed, and what plans and builds it."""
    shutil.copytree(map_folder, tmp_path / "map")
    return Town(tmp_path / "map", tmp_path / "catalog")


class Town:
    def __init__(self, folder, catalog):
        self.folder, self.catalog = folder, catalog

    def plan(self, **changes):
        path = self.folder / "map.yaml"
        document = yaml.safe_load(path.read_text(encoding="utf-8")) | changes
        path.write_text(yaml.safe_dump({k: v for k, v in document.items() if v is not None}), encoding="utf-8")
        return freeze_tiles(load_map_recipe(path), catalog=self.catalog, base_dir=self.folder, recipe_file=path)

    def build(self, **changes):
        plan = self.plan(**changes)
        with open_imagery(plan.recipe.images, base_dir=self.folder) as imagery:
            return plan, build_tiles(plan.folder, imagery=imagery)


def hashes(folder):
    kept = [*folder.glob("*.parquet"), *folder.glob("cube.zarr/chips/c/**/0")]
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in kept if path.is_file()}


def columns(plan, *names):
    return list(zip(*(plan.table[name].to_pylist() for name in names), strict=True))


def shown(plan):
    console = Console(file=StringIO(), width=200)
    show_tiles(plan, console)
    return console.file.getvalue().splitlines()


def test_tiles_have_entities_an_image_or_both(town):
    plan = town.plan()
    assert columns(plan, "id", "map:entities", "images") == [
        (f"16-{X}-{Y}", 3, [f"{X}.tif"]),
        (f"16-{X + 1}-{Y}", 1, []),
        (f"16-{X + 4}-{Y}", 1, [f"{X + 4}.tif"]),
        (f"16-{X + 8}-{Y}", 0, [f"{X + 8}.tif"]),
    ]
    assert plan.table["group"].to_pylist() == ["14/8500/5500"] * 2 + ["14/8501/5500", "14/8502/5500"]
    assert plan.table["map:building_count"].to_pylist() == [3, 1, 0, 0]
    assert plan.table["map:bridge"].to_pylist() == [0, 0, 1, 0]
    assert plan.table["map:max_speed"].to_pylist()[2] == 50
    assert plan.table["map:max_speed"].null_count == 3  # nothing says it there
    assert [str(day)[:10] for day in plan.table["datetime"].to_pylist()] == ["2022-05-06", "2021-03-04"] + [
        "2022-05-06"
    ] * 2


def test_the_entropy_of_tags_is_that_of_their_counts(town):
    plan = town.plan()
    # of the first tile: twice building=yes and roof:shape=flat, once building=café and amenity=cafe
    shares = np.array([2, 2, 1, 1]) / 6
    expected = [-(shares * np.log(shares)).sum(), np.log(2), np.log(3)]
    assert plan.table["map:tag_entropy"].to_pylist()[:3] == pytest.approx(expected)
    assert plan.table["map:tag_entropy"].to_pylist()[3] is None


def test_rows_of_entities_are_numbered_as_the_cube(town):
    plan = town.plan()
    found = read_entities(plan.folder)
    tiles = plan.table["tile"].to_pylist()
    assert [tiles[index] for index in found["index"].to_pylist()] == found["tile"].to_pylist()
    assert found["index"].to_pylist() == [0, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("need", "wanted"), [("any", [0, 1, 4, 8]), ("map", [0, 1, 4]), ("images", [0, 4, 8]), ("both", [0, 4])]
)
@pytest.mark.parametrize("boxed", [False, True])
def test_what_a_tile_needs_is_chosen(town, need, wanted, boxed):
    (west, south, _, north), (_, _, east, _) = Tile(14, 8500, 5500).bounds(), Tile(14, 8502, 5500).bounds()
    around = {"boxes": {"here": [west + 1e-6, south + 1e-6, east - 1e-6, north - 1e-6]}}
    where = around if boxed else {}
    plan = town.plan(tiles={"need": need, **where})
    assert [parse_tile(tile).x - X for tile in plan.table["tile"].to_pylist()] == wanted
    assert set(plan.table["region"].to_pylist()) == ({"here"} if where else {None})
    assert plan.facts["candidates"] == (48 if where else None)
    named = read_entities(plan.folder)["tile"].to_pylist()
    assert set(named) <= set(plan.table["tile"].to_pylist())


def test_labels_beyond_what_the_map_covers_are_not_known(town):
    covered = Tile(16, X, Y).bounds()
    header = osmium.io.Header()
    header.add_box(
        osmium.osm.Box(*(edge + inside for edge, inside in zip(covered, (1e-4, 1e-4, -1e-4, -1e-4), strict=True)))
    )
    with osmium.SimpleWriter(str(town.folder / "map.osm.pbf"), header=header) as writer:
        middle = ((covered[0] + covered[2]) / 2, (covered[1] + covered[3]) / 2)
        writer.add_node(mutable.Node(id=1, location=middle, tags={"building": "yes"}))
    plan = town.plan(map={"path": "map.osm.pbf"})
    assert columns(plan, "id", "map:entities", "map:building_count", "map:bridge") == [
        (f"16-{X}-{Y}", 1, 1, 0),
        (f"16-{X + 4}-{Y}", 0, None, None),
        (f"16-{X + 8}-{Y}", 0, None, None),
    ]
    assert plan.facts["beyond_map"] == 2
    assert any("2 tiles lie beyond the box" in line for line in shown(plan))


def test_tiles_can_be_named_one_by_one(town):
    plan = town.plan(tiles={"only": [f"16/{X + 1}/{Y}", f"16/{X + 2}/{Y}"]})
    assert plan.table["tile"].to_pylist() == [f"16/{X + 1}/{Y}"]


def test_areas_of_a_file_choose_tiles(town):
    import geopandas
    import shapely

    west, south, east, north = Tile(16, X, Y).bounds()
    inside = shapely.box(west, south, east, north).buffer(-1e-5)
    geopandas.GeoDataFrame(geometry=[inside], crs="EPSG:4326").to_file(town.folder / "areas.fgb", engine="pyogrio")
    assert town.plan(tiles={"within": "areas.fgb"}).table["tile"].to_pylist() == [f"16/{X}/{Y}"]


def test_pixels_are_those_of_the_images_one_higher(town):
    plan, report = town.build()
    assert (report.tiles, report.pictured, report.mapped, report.failed, report.losses) == (4, 3, 3, 0, [])
    cube = open_cube(plan.folder / "cube.zarr")
    chips = cube.read(np.arange(4))[:, 0]
    assert (chips[[0, 2, 3], :, 1:, 1:] == np.array([11, 21, 31])[None, :, None, None]).all()
    assert (chips[[0, 2, 3], :, 0, 0] == 1).all()  # black, and no lack of data
    assert not chips[1].any()
    values = chips * cube.attrs["scale"] + cube.attrs["offset"]
    assert values[0, :, 5, 5] == pytest.approx(np.array([10, 20, 30]) / 255)
    assert read_ledger(plan.folder)["status"].to_pylist() == ["written", "empty", "written", "written"]
    assert cube.stored("valid_fraction").tolist() == [1, 0, 1, 1]


def test_a_second_run_does_nothing_and_another_folder_has_the_same_bytes(town, map_folder, tmp_path):
    plan, first = town.build()
    before = hashes(plan.folder)
    assert first.shards_built == first.shards
    plan, second = town.build()
    assert second.shards_built == 0
    assert hashes(plan.folder) == before
    other = Town(map_folder, tmp_path / "other")
    again, _ = other.build()
    assert [*hashes(again.folder).values()] == [*before.values()]


def test_an_image_that_cannot_be_read_is_told_and_tried_again(town):
    plan = town.plan()
    whole = (town.folder / f"{X + 4}.tif").read_bytes()
    (town.folder / f"{X + 4}.tif").write_bytes(b"II*\0 cut")
    _, report = town.build()
    assert (report.pictured, report.failed) == (2, 1)
    assert [(loss.status, loss.count) for loss in report.losses] == [("failed", 1)]
    assert f"{X + 4}.tif" in report.losses[0].reason
    assert not open_cube(plan.folder / "cube.zarr").read(np.array([2])).any()
    told = examine(plan.folder)
    assert [finding.kind for finding in told.findings if finding.kind == "failed"] == ["failed"]
    (town.folder / f"{X + 4}.tif").write_bytes(whole)
    _, report = town.build()
    assert (report.pictured, report.failed, report.shards_built) == (3, 0, 1)


def test_several_images_make_a_tile_at_borders(town):
    west, south, east, north = Tile(16, X + 1, Y).mercator_bounds()
    middle = (west + east) / 2
    for name, value, edges in (("a", 100, (west, middle)), ("b", 200, (middle, east))):
        with rasterio.open(
            town.folder / f"{name}.tif", "w", driver="GTiff", count=3, height=16, width=8, dtype="uint8", crs="EPSG:3857",
            transform=from_bounds(edges[0], south, edges[1], north, 8, 16),
        ) as raster:  # fmt: skip
            raster.write(np.full((3, 16, 8), value, np.uint8))
    plan, report = town.build()
    assert report.pictured == 4
    assert plan.table["images"].to_pylist()[1] == ["a.tif", "b.tif"]
    chip = open_cube(plan.folder / "cube.zarr").read(np.array([1]))[0, 0, 0]
    assert (chip[:, :7] == 101).all()
    assert (chip[:, 9:] == 201).all()


def test_a_map_without_images_has_a_pixel_of_nothing(town):
    plan, report = town.build(images=None)
    assert (report.tiles, report.pictured, report.losses) == (3, 0, [])
    assert open_cube(plan.folder / "cube.zarr").chip_shape == (1, 3, 1, 1)
    assert examine(plan.folder).counts == {"without an image": 3}


def test_images_without_a_map_are_tiles_too(town):
    plan, report = town.build(map=None)
    assert (report.tiles, report.pictured, report.mapped) == (3, 3, 0)
    assert not (plan.folder / "entities.parquet").exists()


def test_layers_label_tiles_by_their_middle_and_land_cover_by_area(town):
    import geopandas
    import shapely

    west, south, east, north = Tile(16, X, Y).bounds()
    middle = (west + east) / 2
    halves = [shapely.box(west - 1, south - 1, middle, north + 1), shapely.box(middle, south - 1, east + 9, north + 1)]
    frame = geopandas.GeoDataFrame({"cover": ["forest", "field"]}, geometry=halves, crs="EPSG:4326")
    frame.to_file(town.folder / "cover.fgb", engine="pyogrio")
    layer = {"path": "cover.fgb", "field": "cover"}
    plan = town.plan(regions={"biome": layer, "landcover": layer})
    assert plan.table["biome"].to_pylist()[1:] == ["field"] * 3
    first = plan.table["landcover_fractions"].to_pylist()[0]
    assert [share["fraction"] for share in first] == pytest.approx([0.5, 0.5], abs=0.05)
    assert plan.layers == {"biome": "cover.fgb", "landcover": "cover.fgb"}


def test_what_cannot_be_planned_leaves_nothing(town):
    with pytest.raises(RecipeError, match=r"nothing says when its tiles are of; give `map\.day` or `images\.day`"):
        town.plan(map={"path": "map.geojson"})
    assert not (town.catalog / "hamlet").exists()
    with pytest.raises(SourceError, match=r"'none/\*\.tif' is no file"):
        town.plan(map={"path": "map.geojson", "day": "2021-03-04"}, images={"files": "none/*.tif"})
    with pytest.raises(PwcatError, match="no tile of zoom 16 has entities and an image"):
        town.plan(images={"files": "*.tif"}, tiles={"only": [f"16/{X + 8}/{Y}"], "need": "both"})
    with pytest.raises(SourceError, match=r"it has 3 band\(s\), `images\.bands` names 4"):
        town.plan(images={"files": "*.tif", "bands": ["a", "b", "c", "d"]}, tiles={})


def test_another_recipe_of_that_name_is_refused(town):
    town.plan()
    with pytest.raises(RecipeError, match=r"differ in tiles\.zoom"):
        town.plan(tiles={"zoom": 17, "group_zoom": 14})


def test_the_doctor_reads_every_byte_of_the_map(town):
    plan, _ = town.build()
    for name in ("entities.parquet", "tags.parquet"):
        path = plan.folder / name
        whole = path.read_bytes()
        with pq.ParquetFile(path) as file:
            columns = [file.metadata.row_group(0).column(n) for n in range(file.metadata.num_columns)]
        for column in columns:
            spoilt = bytearray(whole)
            start = column.dictionary_page_offset or column.data_page_offset
            spoilt[start + column.total_compressed_size - 1] ^= 255
            path.write_bytes(spoilt)
            assert any(name in finding.what for finding in examine(plan.folder).findings), column.path_in_schema
        path.write_bytes(whole)


def test_another_map_under_the_same_name_is_refused(town):
    plan, _ = town.build()
    path = town.folder / "map.geojson"
    former = path.read_text(encoding="utf-8")
    path.write_text(former.replace("cafe", "pub"), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"was made from another map\.geojson .*Remove the folder"):
        town.plan()
    path.write_text(former, encoding="utf-8")  # later, and the same
    assert town.plan().hash == plan.hash
    path.unlink()
    assert town.plan().hash == plan.hash


def test_the_doctor_says_what_is_missing_and_a_build_mends_it(town):
    plan, _ = town.build()
    shard = plan.folder / "cube.zarr" / "chips" / "c" / "0" / "0" / "0" / "0" / "0"
    shard.write_bytes(b"damaged")
    (plan.folder / "entities.parquet").unlink()
    kinds = {finding.kind: finding for finding in examine(plan.folder).findings}
    assert {"damaged", "map"} <= kinds.keys()
    assert "map.yaml" in kinds["map"].mend
    assert kinds["map"].mend.startswith("rm -r")
    (plan.folder / "tiles.parquet").unlink()
    shard.unlink()
    again, report = town.build()
    assert report.shards_built == 1  # the plan has the same bytes again, and the other shards stay
    assert again.hash == plan.hash
    assert not {"damaged", "map"} & {finding.kind for finding in examine(plan.folder).findings}


def test_a_cube_of_another_recipe_is_not_touched(town):
    plan, _ = town.build()
    shutil.rmtree(plan.folder / "ledger")
    (plan.folder / "tiles.parquet").unlink()
    with pytest.raises(CubeError, match="holds a cube of another"):
        town.build(seed=1)
    assert read_tiles(plan.folder).recipe.seed == 1
