from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pydantic import ValidationError
from pyproj import Transformer

from pwcat.errors import RegionError, SourceError
from pwcat.landcover import LEGENDS
from pwcat.layers import Layer, RegionLayers
from pwcat.providers import OpenSource, open_source
from pwcat.recipe import Source
from pwcat.regions import Regions, open_layer, open_regions, require_class, shares
from pwcat.regions.cells import cell_of
from pwcat.regions.collection import AskedFiles, open_collection
from pwcat.regions.datasets import DATASETS


@pytest.fixture(scope="module")
def archive(archive_dir):
    """The synthetic archive, served."""
    source = Source(provider="archive", path=str(archive_dir), collection="s2-l2a-synthetic")
    with open_source(source, base_dir=archive_dir) as opened:
        yield opened


@pytest.fixture(scope="module")
def tile(archive_dir):
    """Longitudes and latitudes of 64 × 64 pixels of one land-cover raster of the archive, and their values."""
    path = next((archive_dir / "landcover-synthetic").glob("*/map.tif"))
    with rasterio.open(path) as raster:
        pixels, transform, crs = raster.read(1), raster.transform, raster.crs
    x, y = np.meshgrid(transform.c + (np.arange(100, 164) + 0.5) * 10, transform.f - (np.arange(200, 264) + 0.5) * 10)
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x.ravel(), y.ravel())
    return np.column_stack([lon, lat]), pixels[200:264, 100:164].ravel()


def test_a_collection_of_projected_rasters_labels_chips(archive, archive_dir, tile):
    lonlat, values = tile
    layers = RegionLayers.model_validate({"landcover": {"collection": "landcover-synthetic"}})
    regions = open_regions(layers, base_dir=archive_dir, source=archive)
    layer = regions.require("landcover")
    found = shares(layer, np.array([lonlat, lonlat * 0]))
    counts = {layer.legend[int(v)]: int((values == v).sum()) for v in np.unique(values)}
    assert found[0] == pytest.approx([counts.get(name, 0) / 4096 for name in layer.classes])
    assert not found[1].any()
    assert regions.sources() == {"landcover": "archive:landcover-synthetic"}
    assert layer.pixel_m == 10
    assert layer.rough() is None


def test_a_collection_is_possible_where_its_items_lie(archive, archive_dir, tile):
    layer = open_layer("landcover", Layer(collection="landcover-synthetic", url=archive.url), base_dir=Path())
    possible = layer.possible([0])
    assert possible.ravel()[cell_of(tile[0])].all()
    items = len(list((archive_dir / "landcover-synthetic").glob("*/map.tif")))
    assert items <= possible.sum() <= 49 * items  # of 384 pixels of 10 m each
    rng = np.random.default_rng(0)
    anywhere = np.column_stack([rng.uniform(-180, 180, 50_000), rng.uniform(-90, 90, 50_000)])
    near = tile[0][rng.integers(0, len(tile[0]), 50_000)] + rng.normal(0, 0.2, (50_000, 2))
    points = np.concatenate([anywhere, near])
    coded = layer.codes(points) >= 0
    assert coded.any()
    assert possible.ravel()[cell_of(points[coded])].all()


def test_a_collection_may_lie_at_another_api_and_is_asked_only_where_points_are(archive, tile):
    lonlat, values = tile
    layer = open_layer("cover", Layer(collection="landcover-synthetic", url=archive.url), base_dir=Path())
    assert layer.source == "stac:landcover-synthetic"
    assert layer.files._files == {}
    assert [layer.legend[int(v)] for v in values[:50]] == layer.label(lonlat[:50]).tolist()
    asked, some = set(layer.files._asked), len(layer.files._files)
    assert 1 <= len(asked) <= 4
    layer.codes(lonlat)
    assert layer.files._asked == asked  # the answer was kept
    rng = np.random.default_rng(0)
    layer.codes(np.column_stack([rng.uniform(-180, 180, 500), rng.uniform(-90, 90, 500)]))
    assert len(layer.files._asked) == 648  # much of the world: everything at once
    assert len(layer.files._files) > some
    assert layer.label(lonlat).tolist() == [layer.legend[int(v)] for v in values]


def test_a_collection_may_be_dated_and_its_files_read_from_elsewhere(archive, archive_dir, tile):
    lonlat, values = tile
    files = AskedFiles(
        name="landcover", source=archive, collection="landcover-synthetic", asset="map",
        moved=(f"{archive.url}/assets/", f"{archive_dir}/"),
    )  # fmt: skip
    layer = open_collection(files, legend=None)
    assert layer.label(lonlat[:9]).tolist() == [layer.legend[int(v)] for v in values[:9]]
    assert all(file.href.startswith(str(archive_dir)) for file in files._files.values())
    never = Layer(
        collection="landcover-synthetic", datetime="1999-01-01/1999-12-31", classes="worldcover", url=archive.url
    )
    with pytest.raises(RegionError, match="collection 'landcover-synthetic' of stac has no item"):
        open_layer("landcover", never, base_dir=Path())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signed(OpenSource):
    """Its files want a token, and it says which it signed."""

    asked: list[str] = dataclasses.field(default_factory=list)

    def sign(self, href: str) -> str:
        self.asked.append(href)
        return f"{super().sign(href)}?sig=SECRET"


def test_files_of_a_collection_are_signed_when_they_are_read_and_the_signature_is_kept_nowhere(
    archive, archive_dir, tile
):
    lonlat, values = tile
    source = Signed(provider="archive", url=archive.url, collection=archive.collection)
    layers = RegionLayers.model_validate({"landcover": {"collection": "landcover-synthetic"}})
    layer = open_regions(layers, base_dir=archive_dir, source=source).require("landcover")
    source.asked.clear()
    assert layer.label(lonlat[:9]).tolist() == [layer.legend[int(v)] for v in values[:9]]
    assert len(source.asked) == 1  # that of the file which is read, not of all
    assert all(file.href.startswith("archive:landcover-synthetic/") for file in layer.files._files.values())
    for name, file in list(layer.files._files.items()):
        layer.files._files[name] = dataclasses.replace(file, href=f"{file.href}.gone")
    with pytest.raises(RegionError, match=r"archive:landcover-synthetic/\S+\.gone cannot be read") as caught:
        layer.label(lonlat[:9])
    assert "SECRET" not in str(caught.value)


def test_an_api_cannot_have_files_of_this_computer_or_its_network_read(archive, archive_dir, tile):
    lonlat, _ = tile
    elsewhere = Layer(collection="landcover-synthetic", url=archive.url)
    layer = open_layer("cover", elsewhere, base_dir=Path(), source=archive)
    assert layer.label(lonlat[:1])[0] is not None  # the very server that the recipe names
    for href in (str(archive_dir / "map.tif"), "/vsicurl/http://10.0.0.1/map.tif", "http://127.0.0.1:1/map.tif"):
        for name, file in list(layer.files._files.items()):
            layer.files._files[name] = dataclasses.replace(file, href=href)
        with pytest.raises(SourceError, match=r"^regions\.cover: refused to read .*say `allow_private: true`"):
            layer.label(lonlat[:1])
    trusted = open_layer("cover", elsewhere, base_dir=Path(), source=dataclasses.replace(archive, allow_private=True))
    assert trusted.files.readable("http://127.0.0.1:1/map.tif") == "http://127.0.0.1:1/map.tif"


def test_worldcover_is_read_from_its_makers_bucket_without_a_signature():
    dataset = DATASETS["worldcover"]
    layer = open_layer("landcover", Layer(dataset="worldcover"), base_dir=Path())  # asks nobody yet
    assert layer.pixel_m == 10
    assert layer.classes == sorted(LEGENDS["worldcover"].values())
    href = f"{dataset.moved[0]}v200/2021/map/ESA_WorldCover_10m_2021_v200_N39E012_Map.tif"
    assert layer.files.read_from(href) == (
        "https://esa-worldcover.s3.eu-central-1.amazonaws.com/v200/2021/map/ESA_WorldCover_10m_2021_v200_N39E012_Map.tif"
    )
    assert layer.files.read_from("http://elsewhere/a.tif") == "http://elsewhere/a.tif"


def test_a_collection_that_cannot_be_a_layer_says_why(archive, archive_dir):
    def opened(**layer):
        layers = RegionLayers.model_validate({"landcover": layer})
        return open_regions(layers, base_dir=archive_dir, source=archive)

    with pytest.raises(RegionError, match="collection 'nowhere' of archive has no item that says its classes"):
        opened(collection="nowhere")
    with pytest.raises(RegionError, match=r"item \S+ has no asset 'classes'; it has map"):
        opened(collection="landcover-synthetic", asset="classes")
    with pytest.raises(RegionError, match="a collection needs a `url` here"):
        open_layer("landcover", Layer(collection="landcover-synthetic"), base_dir=archive_dir)


@pytest.mark.kit
def test_layers_of_any_name_and_kind_open_together(kit):
    layers = RegionLayers.model_validate(
        {
            "realm": {"path": "biomes_landcover/MCD12C1.A2019001.006.IGBP.tif", "classes": {0: "sea", 13: "town"}},
            "continent": {
                "dataset": "natural-earth-110m",
                "path": "vectors/natural_earth/ne_110m_admin_0_countries.geojson",
            },
            "landcover": {"path": "vectors/biomes/resolve_2017_biomes_simplified.fgb", "field": "BIOME_NAME"},
            "land": {
                "dataset": "natural-earth-110m",
                "path": "vectors/natural_earth/ne_110m_admin_0_countries.geojson",
                "field": "NAME",
            },
        }
    )
    regions = open_regions(layers, base_dir=kit, source=None)
    assert list(regions.layers) == ["continent", "landcover", "realm", "land"]
    point = np.array([[-52.8, 4.0]])
    labels = {name: layer.label(point)[0] for name, layer in regions.layers.items()}
    assert labels["continent"] == "South America"
    assert labels["land"] == "France"  # another field of the dataset: what it says
    assert labels["landcover"] == "Tropical & Subtropical Moist Broadleaf Forests"
    assert labels["realm"] is None
    assert regions.get("soil") is None
    with pytest.raises(
        RegionError, match=r"the layer 'soil' is not given \(there are: continent, landcover, realm, land\)"
    ):
        regions.require("soil")
    with pytest.raises(RegionError, match=r"the layer 'biome' is not given \(there are: none\); add `regions\.biome`"):
        Regions().require("biome")


@pytest.mark.parametrize(
    ("layers", "fault"),
    [
        ({"biome": {}}, "either a `dataset` .or just its name., a `path` or a `collection`"),
        ({"biome": {"path": "a", "collection": "b"}}, "either a `dataset`"),
        ({"biome": {"path": "a"}}, "a file needs `field` .vector. or `classes` .raster., and not both"),
        ({"biome": {"path": "a", "field": "x", "classes": "igbp"}}, "and not both"),
        ({"biome": "resolve"}, "unknown dataset 'resolve': did you mean 'resolve-2017'"),
        ({"continent": "resolve-2017"}, "the dataset 'resolve-2017' has no continent: it is `biome` or `ecoregion`"),
        ({"biome": "ne-populated-places"}, "has no biome: it is points, which are no layer"),
        ({"biome": {"dataset": "resolve-2017", "classes": "igbp"}}, "a dataset knows its `classes`"),
        ({"biome": {"path": "a", "field": "b", "url": "http://x"}}, "`url` and `datetime` are for collections"),
        ({"landcover": {"dataset": "worldcover", "path": "a.tif"}}, "not for a dataset that is read through STAC"),
        ({"biome": {"collection": "a", "field": "b"}}, "a collection has no `field`"),
        ({"Soil": "resolve-2017"}, "String should match pattern"),
        ({"lon": "resolve-2017"}, "'lon' is a column of every plan"),
        ({"biome": {"path": "a", "field": "b", "colour": 1}}, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_a_layer_is_refused(layers, fault):
    with pytest.raises(ValidationError, match=fault):
        RegionLayers.model_validate(layers)


def test_layers_survive_being_written_and_read():
    given = {"soil": {"path": "soil.gpkg", "field": "type"}, "biome": "resolve-2017"}
    layers = RegionLayers.model_validate(given)
    assert list(layers.given()) == ["biome", "soil"]
    assert layers.get("soil").field == "type"
    assert layers.get("landcover") is None
    assert RegionLayers.model_validate(layers.model_dump(mode="json")) == layers


def test_a_dataset_of_several_classes_needs_its_field_under_another_name(cache):
    with pytest.raises(RegionError, match="several classes; say which `field`: BIOME_NAME, ECO_NAME"):
        open_layer("region", Layer(dataset="resolve-2017"), base_dir=Path())


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
