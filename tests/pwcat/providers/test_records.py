"""Records of providers against recorded items of theirs."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import stac_geoparquet.arrow

from pwcat.errors import SourceError
from pwcat.providers import PROVIDERS, OpenSource
from pwcat.providers.sentinel2 import ALIASES


def opened(provider, collection):
    return OpenSource(provider=provider, url="https://example.test", collection=collection)


def items_of(kit, provider, collection):
    """Recorded items of a collection."""
    folder = kit / "stac"
    if provider == "earth-search":
        return json.loads((folder / "rustac" / "crates__server__data__sentinel-2__item-collection.json").read_text())[
            "features"
        ]
    if collection == "naip":
        return json.loads((folder / "stac-geoparquet" / "naip-pc.json").read_text())
    table = pq.read_table(folder / "rustac" / "crates__duckdb__data__100-sentinel-2-items.parquet")
    strip = json.loads((folder / "odc-stac" / "site1-20200606-tall-strip-africa.geojson").read_text())["features"]
    return [*stac_geoparquet.arrow.stac_table_to_items(table), *strip]


@pytest.mark.kit
@pytest.mark.parametrize(
    ("provider", "collection"), [("earth-search", "sentinel-2-c1-l2a"), ("planetary-computer", "sentinel-2-l2a")]
)
def test_a_band_of_sentinel_2_goes_by_name_common_name_or_key(kit, provider, collection):
    source = opened(provider, collection)
    for item in items_of(kit, provider, collection):
        assets = item["assets"]
        assert source.record.quality.asset in assets
        for name, alias in ALIASES.items():
            key = source.band_asset(name, assets)
            assert source.band_asset(alias, assets) == source.band_asset(key, assets) == key
            band = source.record.band(name)
            assert abs(assets[key]["proj:transform"][0]) == band.gsd_m
            for said in assets[key].get("raster:bands", []):
                assert said["scale"] == source.record.scale
                assert said["nodata"] == source.record.nodata
                assert said["data_type"] == source.record.dtype
                assert round(-said["offset"] / said["scale"]) == source.boa_offset(item["properties"])


@pytest.mark.kit
def test_several_bands_of_one_file_have_their_index(kit):
    source = opened("planetary-computer", "naip")
    for item in items_of(kit, "planetary-computer", "naip"):
        said = [band["common_name"] for band in item["assets"]["image"]["eo:bands"]]
        for name in said:
            band = source.record.band(name)
            assert source.band_asset(name, item["assets"]) == band.asset == "image"
            assert said[band.index - 1] == name


@pytest.mark.kit
def test_the_planetary_computer_s_snapshot_is_the_asset_that_its_collection_names(kit):
    path = kit / "stac" / "rustac" / "scripts__fixtures__sentinel-2-l2a.json"
    asset = json.loads(path.read_text())["assets"][opened("planetary-computer", "sentinel-2-l2a").record.geoparquet]
    assert asset["href"] == "abfs://items/sentinel-2-l2a.parquet"
    assert asset["table:storage_options"] == {"account_name": "pcstacitems"}


def test_copernicus_has_its_bands_at_their_native_sampling():
    source = opened("copernicus", "sentinel-2-l2a")
    assets = {f"{name}_{size}m": {} for name in ALIASES for size in (10, 20, 60)}
    assert source.band_asset("B02", assets) == source.band_asset("blue", assets) == "B02_10m"
    assert source.band_asset("B8A", assets) == "B8A_20m"
    assert source.band_asset("B02_60m", assets) == "B02_60m"
    assert source.boa_offset({"processing:version": "05.11"}) == 1000
    assert source.boa_offset({"processing:version": "02.14"}) == 0


def test_an_api_that_nothing_is_known_of_goes_by_what_its_items_say():
    source = opened("stac", "mine")
    one = {"bands": [{"name": "B4", "eo:common_name": "red"}], "roles": ["data"]}
    assert source.band_asset("red", {"r10": one, "thumb": {**one, "roles": ["thumbnail"]}}) == "r10"
    for assets in ({"a": one, "b": one}, {"a": {"bands": [*one["bands"], {"name": "B5"}]}}, {}):
        with pytest.raises(SourceError, match="no asset for band 'red'"):
            source.band_asset("red", assets)


def test_every_record_is_whole():
    for provider in PROVIDERS.values():
        for name, record in provider.collections.items():
            assert record.id == name
            names = [alias for band in record.bands for alias in {band.name, band.alias, band.asset} - {None}]
            shared = {band.asset for band in record.bands if band.index > 1}
            assert all(names.count(one) == 1 or one in shared for one in names)
            assert record.bands
