"""Rows of items as STAC Items: what stac-geoparquet reads from the same file, and valid whatever columns are there."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
import shapely
import stac_geoparquet.arrow

from catalog.extension import diversity_schema, schema_uri
from catalog.items import ITEM_SCHEMA, complete_items
from catalog.stac.features import Whereabouts, features
from catalog.stac.outlines import outline_columns, outlines_of
from catalog.stac.validation import DocumentCheck

LEAST = ["id", "collection", "geometry", "bbox", "datetime"]


@pytest.fixture(scope="module")
def table(tiny_catalog):
    return pq.read_table(tiny_catalog / "everywhere" / "items.parquet")


def without_nulls(document):
    """What stac-geoparquet reads, without the properties that are null; times to the second."""
    kept = {name: value for name, value in document["properties"].items() if value is not None}
    kept["datetime"] = pystac.utils.str_to_datetime(kept["datetime"]).isoformat()
    return {**document, "properties": kept, "geometry": shapely.geometry.shape(document["geometry"]).wkt}


def test_features_are_what_stac_geoparquet_reads(table):
    theirs = [json.loads(json.dumps(item)) for item in stac_geoparquet.arrow.stac_table_to_items(table)]
    ours = [json.loads(json.dumps(feature)) for feature in features(table)]
    assert len(ours) == 48
    assert [without_nulls(feature) for feature in ours] == [without_nulls(item) for item in theirs]


@pytest.mark.kit
@pytest.mark.parametrize("columns", [LEAST, ["proj:code", *LEAST], [f.name for f in ITEM_SCHEMA]])
def test_features_of_some_columns_are_valid_items(table, kit, columns):
    check = DocumentCheck(kit / "stac_schemas")
    for feature in features(table.select(columns).slice(0, 5)):
        assert list(check.faults(feature)) == []
        assert not check.unknown(feature)
        assert set(LEAST[3:]) - {"bbox"} <= set(feature["properties"])


def test_features_of_the_first_version_tell_nothing_of_what_it_had_not(table):
    later = ["div:ecoregion", "div:landcover_share", "div:spectral_entropy_codebook", "div:spectral_entropy_covariance"]
    old = table.drop_columns(later).slice(0, 1)
    uris = pa.array([[schema_uri("v0.1.0")]], pa.list_(pa.string()))
    old = old.set_column(old.column_names.index("stac_extensions"), "stac_extensions", uris)
    old = old.set_column(
        old.column_names.index("div:spectral_entropy"), "div:spectral_entropy", pa.array([float("nan")])
    )
    (feature,) = features(old)
    assert not {*later, "div:spectral_entropy"} & set(feature["properties"])
    assert list(DocumentCheck().faults(feature)) == []


def test_assets_and_links_are_found_from_where_the_item_is_read(table):
    asked = []

    def place(name):
        asked.append(name)
        return Whereabouts(
            document=f"https://a.b/collections/{name}",
            folder=f"https://a.b/files/{name}",
            links=lambda sample: [{"rel": "self", "href": f"https://a.b/{sample}"}],
        )

    first, *_ = features(table, collection_of=place)
    assert asked == ["everywhere"]
    assert first["assets"]["chips"]["href"] == "https://a.b/files/everywhere/cube.zarr"
    assert [link["rel"] for link in first["links"]] == ["collection", "self"]
    assert first["links"][1]["href"].endswith(first["id"])


@pytest.mark.parametrize(
    ("href", "found"),
    [("./x.tif", "/a/b/x.tif"), ("../x.tif", "/a/x.tif"), ("/x.tif", "/x.tif"), ("s3://b/x.tif", "s3://b/x.tif")],
)
def test_hrefs_of_assets_made_elsewhere(table, href, found):
    asset = pa.array([{"B02": {"href": href, "roles": ["data"]}}])
    rows = table.select(LEAST).slice(0, 1).append_column("assets", asset)
    (feature,) = features(rows, collection_of=lambda name: Whereabouts(folder="/a/b"))
    assert feature["assets"] == {"B02": {"href": found, "roles": ["data"]}}
    assert complete_items(rows, collection="x")["assets"].to_pylist() == asset.to_pylist()


@pytest.mark.parametrize(
    ("folder", "href", "found"),
    [
        ("../../../c/kit", "../../ds/x.tif", "../../../ds/x.tif"),
        ("../../../kit", "../../ds/x.tif", "../../../../ds/x.tif"),
        ("../..", "../../../ds/x.tif", "../../../../../ds/x.tif"),
        ("../../../kit", "../../../../../ds/x.tif", "../../../../../../../ds/x.tif"),
        ("https://a.b/c/kit", "../../../../ds/x.tif", "https://a.b/ds/x.tif"),
        ("s3://a/c/kit", "./x.tif", "s3://a/c/kit/x.tif"),
    ],
)
def test_hrefs_that_climb_higher_than_the_folder_is_told(table, folder, href, found):
    """As from a static catalog beside, in or far from the catalog, to a dataset that lies elsewhere."""
    rows = table.select(LEAST).slice(0, 1).append_column("assets", pa.array([{"chips": {"href": href}}]))
    (feature,) = features(rows, collection_of=lambda name: Whereabouts(folder=folder))
    assert feature["assets"]["chips"]["href"] == found


def test_outlines_as_columns_are_those_of_shapely():
    rng = np.random.default_rng(0)
    epsg = np.array([32601, 32660, 32733, 32601, 32601])
    x0, y0 = rng.uniform(400_000, 600_000, 5), rng.uniform(1_000_000, 5_000_000, 5)
    x0[3:], y0[3:] = 165_940, [110_000, 110_500]  # across the antimeridian: 180° E is 166,021 m at the equator
    geometry, boxes = outline_columns(epsg, x0, y0, 320.0)
    outlines = outlines_of(epsg, x0, y0, 320.0)
    assert {outline.geom_type for outline in outlines} == {"Polygon", "MultiPolygon"}
    assert shapely.equals(shapely.from_wkb(geometry.to_numpy(zero_copy_only=False)), outlines).all()
    for box, outline in zip(boxes.to_pylist(), outlines, strict=True):
        if outline.geom_type == "Polygon":
            assert tuple(box.values()) == outline.bounds
        else:
            west, east = outline.geoms
            assert (box["xmin"], box["xmax"]) == pytest.approx((west.bounds[0], east.bounds[2]))


def test_the_examples_are_valid():
    from importlib.resources import files

    examples = files("catalog") / "json-schema" / "examples"
    for name, kind in (("item.json", "Feature"), ("collection.json", "Collection")):
        document = json.loads((examples / name).read_text())
        assert document["type"] == kind
        assert schema_uri("v0.3.0") in document["stac_extensions"]
        assert list(DocumentCheck().faults(document)) == []
    assert diversity_schema()["$id"] == f"{schema_uri('v0.3.0')}#"
