from __future__ import annotations

import json
import shutil
import warnings

import geopandas as gpd
import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
import shapely
import stac_geoparquet.arrow
from pyproj import Transformer

from catalog.extension import SCHEMA_URI, diversity_schema
from catalog.items import PROJECTION_URI
from catalog.spectral import spectral_entropy
from catalog.stac.collection import extent_of
from catalog.stac.outlines import bounding_boxes, outlines_of
from catalog.stac.validation import DocumentCheck
from catalog.store import build, describe
from pwcat.building.ledger import read_ledger, write_ledger
from pwcat.cube import open_cube
from pwcat.errors import CatalogError


@pytest.fixture(scope="module")
def items(tiny_catalog):
    """The items as STAC dicts, through stac-geoparquet's own reader."""
    table = pq.read_table(tiny_catalog / "everywhere" / "items.parquet")
    return list(stac_geoparquet.arrow.stac_table_to_items(table))


# Extensions that collections name, and of which the kit has no schema: their fields are read by pystac's own classes below.
UNCHECKED = {"table", "raster", "eo", "scientific", "processing"}


@pytest.fixture(scope="module")
def check(kit):
    """Validates documents against STAC's own schemas, ours, and those of the kit."""
    return DocumentCheck(kit / "stac_schemas")


def validate(document, check):
    assert list(check.faults(document)) == []
    assert {uri.split("/")[3] for uri in check.unknown(document)} <= UNCHECKED


@pytest.mark.kit
def test_every_item_is_valid_stac_with_its_extensions(items, check):
    assert len(items) == 48
    for item in items:
        document = json.loads(json.dumps(item))
        assert document["stac_extensions"] == [PROJECTION_URI, SCHEMA_URI]
        assert not check.unknown(document)
        validate(document, check)
        assert pystac.Item.from_dict(document).datetime is not None


WRONG = {
    "no biome": (lambda p: p.pop("div:biome"), "'div:biome' is a required property"),
    "a biome of no letters": (lambda p: p.update({"div:biome": ""}), "'' should be non-empty|'' is too short"),
    "a number for a class": (lambda p: p.update({"div:continent": 3}), "3 is not of type 'string', 'null'"),
    "a share over one": (
        lambda p: p.update({"div:landcover_fractions": [{"name": "a", "fraction": 1.5}]}),
        "1.5 is greater than the maximum of 1",
    ),
    "a share without a name": (
        lambda p: p.update({"div:landcover_fractions": [{"fraction": 0.5}]}),
        "'name' is a required property",
    ),
    "negative entropy": (lambda p: p.update({"div:spectral_entropy": -1}), "-1 is less than the minimum of 0"),
    "a field of no such name": (lambda p: p.update({"div:colour": "blue"}), "does not allow 'blue'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_schema_refuses_a_wrong_item(items, name):
    change, message = WRONG[name]
    document = json.loads(json.dumps(items[0]))
    jsonschema.validate(document, diversity_schema())
    change(document["properties"])
    with pytest.raises(jsonschema.ValidationError, match=message):
        jsonschema.validate(document, diversity_schema())


@pytest.mark.kit
def test_collections_and_the_catalog_are_valid_and_lead_to_each_other(tiny_catalog, check):
    for name in ("everywhere", "europe"):
        document = json.loads((tiny_catalog / name / "collection.json").read_text())
        validate(document, check)
        assert document["license"] == "CC0-1.0"
        for asset in document["assets"].values():
            assert (tiny_catalog / name / asset["href"]).exists()
        broken = json.loads(json.dumps(document))
        del broken["div:statistics"]["biome"]
        with pytest.raises(jsonschema.ValidationError, match="'biome' is a required property"):
            jsonschema.validate(broken, diversity_schema())
    validate(json.loads((tiny_catalog / "catalog.json").read_text()), check)
    catalog = pystac.Catalog.from_file(str(tiny_catalog / "catalog.json"))
    assert sorted(child.id for child in catalog.get_children()) == ["europe", "everywhere"]
    child = pystac.Collection.from_file(str(tiny_catalog / "europe" / "collection.json"))
    assert child.get_root().id == catalog.id


def test_items_read_with_geopandas_and_say_what_the_plan_says(tiny_catalog):
    folder = tiny_catalog / "everywhere"
    frame = gpd.read_parquet(folder / "items.parquet")
    plan = pq.read_table(folder / "plan.parquet").to_pandas()
    assert frame.crs == "OGC:CRS84"  # longitude first, as GeoParquet has it where it names no CRS
    assert frame["id"].tolist() == plan["id"].tolist()
    assert frame["pwcat:index"].tolist() == list(range(48))
    for ours, theirs in (
        ("div:continent", "continent"), ("div:biome", "biome"), ("div:landcover", "landcover"), ("pwcat:split", "split")
    ):  # fmt: skip
        assert frame[ours].tolist() == plan[theirs].tolist()
    assert (frame["datetime"].dt.tz_localize(None) == np.concatenate(plan["datetime"].to_list())).all()
    boxes = pq.read_table(folder / "items.parquet")["bbox"].to_pylist()
    assert frame.geometry.bounds.to_numpy().tolist() == [list(box.values()) for box in boxes]
    west = gpd.read_parquet(folder / "items.parquet", bbox=(-180, -90, 0, 90))  # by the covering's statistics
    assert set(west["id"]) == set(frame["id"][frame.geometry.bounds["minx"] <= 0])
    for row in frame.itertuples():
        place = plan.loc[plan["id"] == row.id].iloc[0]
        x, y = (place["x0"] + np.array([0, 0, 320, 320])), (place["y0"] - np.array([0, 320, 320, 0]))
        to_degrees = Transformer.from_crs(f"EPSG:{place['epsg']}", "EPSG:4326", always_xy=True)
        corners = shapely.Polygon(np.column_stack(to_degrees.transform(x, y)))
        assert row.geometry.symmetric_difference(corners).area < 1e-6 * corners.area
        assert row.geometry.contains(shapely.Point(place["lon"], place["lat"]))


def test_entropies_and_statistics_are_those_of_the_chips(tiny_catalog):
    folder = tiny_catalog / "everywhere"
    table = pq.read_table(folder / "items.parquet")
    chips = open_cube(folder / "cube.zarr").read(np.arange(48))
    np.testing.assert_array_equal(table["div:spectral_entropy"].to_numpy(), spectral_entropy(chips))
    stats = json.loads((folder / "stats.json").read_text())
    assert stats["num_samples"] == 48
    assert stats["statistics"] == json.loads((folder / "collection.json").read_text())["div:statistics"]
    assert stats["statistics"]["spectral"]["mean"] == pytest.approx(spectral_entropy(chips).mean())
    values, counts = np.unique(table["div:continent"].to_pylist(), return_counts=True)
    assert stats["statistics"]["continent"]["counts"] == dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert stats["statistics"]["continent"]["layer"] == "continent.fgb"


def test_the_folder_is_described_in_the_same_bytes_again(tiny_catalog, tmp_path):
    folder = tmp_path / "everywhere"
    shutil.copytree(tiny_catalog / "everywhere", folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    describe(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_samples_without_pixels_are_no_items_and_a_dataset_of_none_is_refused(tiny_catalog, tmp_path):
    folder = tmp_path / "everywhere"
    shutil.copytree(tiny_catalog / "everywhere", folder)
    first = read_ledger(folder).slice(0, 4).to_pylist()
    path = min((folder / "ledger").glob("*.parquet"))
    rows = [row | {"status": "failed" if k else "written"} for k, row in enumerate(pq.read_table(path).to_pylist())]
    write_ledger(path, rows, plan_hash="", shard=b"")
    describe(folder)
    items = pq.read_table(folder / "items.parquet")
    lost = {row["id"] for row in rows[1:]}
    assert {row["id"] for row in first} >= lost
    assert set(items["id"].to_pylist()).isdisjoint(lost)
    assert len(items) == 48 - len(lost)
    assert items["pwcat:index"].to_pylist()[1] == len(lost) + 1  # the row in the cube, not in the table
    for path in (folder / "ledger").glob("*.parquet"):
        failed = [row | {"status": "failed"} for row in pq.read_table(path).to_pylist()]
        write_ledger(path, failed, plan_hash="", shard=b"")
    with pytest.raises(CatalogError, match="no sample has pixels; the ledger says why: "):
        describe(folder)


def test_chips_across_the_antimeridian_are_cut_there():
    to_grid = Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True)
    x, y = to_grid.transform(180, 1)
    x0, y0 = np.array([x - 160, x - 50_000, x + 10_000]), np.array([y + 160] * 3)
    outlines = outlines_of(np.array([32601] * 3), x0, y0, 320.0)
    boxes = bounding_boxes(outlines).to_pylist()
    assert [outline.geom_type for outline in outlines] == ["MultiPolygon", "Polygon", "Polygon"]
    crossing, west, east = boxes
    assert crossing["xmin"] > 179.99 > -179.99 > crossing["xmax"]  # RFC 7946, section 5.2
    assert 179 < west["xmin"] < west["xmax"] < 180
    assert -180 < east["xmin"] < east["xmax"] < -179
    for part in outlines[0].geoms:
        assert part.is_valid
        assert -180 <= part.bounds[0] <= part.bounds[2] <= 180
    # the two parts are the whole chip: 320 m a side, a degree of the equator being 111.32 km
    assert outlines[0].area == pytest.approx(outlines[1].area, rel=0.01)


def test_a_collection_across_the_antimeridian_has_an_extent_that_holds_its_items():
    def extent(*spans):
        boxes = [{"xmin": west, "ymin": -1.0, "xmax": east, "ymax": 1.0} for west, east in spans]
        times = pa.array([0] * len(spans), pa.timestamp("us", tz="UTC"))
        return extent_of(pa.table({"bbox": boxes, "datetime": times}))["spatial"]["bbox"][0]

    assert extent((10.0, 11.0), (20.0, 21.0)) == [10, -1, 21, 1]
    west, _, east, _ = extent((179.9, -179.9), (10.0, 11.0))
    # whatever way round it is told, each item lies in it
    for lon in (179.95, -179.95, 10.5):
        assert west <= lon <= east if west <= east else lon >= west or lon <= east


def test_building_warns_of_nothing(tiny_catalog, tmp_path, write_recipe):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = build(write_recipe(tmp_path), catalog=tiny_catalog).report
    assert report.shards_built == 0
