"""The archive as a static STAC catalog: read and validated by pystac, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import pystac
import pytest
from pystac.validation import JsonSchemaSTACValidator

from pwcat.archive.folder import EXTENSIONS, replacing


def test_the_folder_is_a_static_catalog_that_pystac_reads_and_validates(archive_dir: Path):
    catalog = pystac.Catalog.from_file(archive_dir / "catalog.json")
    validator = JsonSchemaSTACValidator()
    collections = list(catalog.get_children())
    assert [c.id for c in collections] == ["landcover-synthetic", "s2-l2a-synthetic", "s2-l2a-synthetic-test"]
    for collection in collections:
        validator.validate_core(collection.to_dict(), pystac.STACObjectType.COLLECTION, "1.1.0")
        west, south, east, north = collection.extent.spatial.bboxes[0]
        for item in collection.get_items():
            validator.validate_core(item.to_dict(), pystac.STACObjectType.ITEM, "1.1.0")
            assert item.get_collection() is collection
            assert west <= item.bbox[0] <= item.bbox[2] <= east
            assert south <= item.bbox[1] <= item.bbox[3] <= north
            for asset in item.get_assets().values():
                assert Path(asset.get_absolute_href()).is_file()


@pytest.mark.kit
def test_items_validate_against_the_projection_extension(archive_dir: Path, kit: Path):
    validator = JsonSchemaSTACValidator()
    schema = json.loads((kit / "stac_schemas/projection.json").read_text())
    validator.schema_cache[EXTENSIONS["proj"]] = schema
    for path in archive_dir.glob("*/*/*.json"):
        item = json.loads(path.read_text())
        validator.validate_extension(item, pystac.STACObjectType.ITEM, "1.1.0", EXTENSIONS["proj"])
    item["properties"]["proj:code"] = 32633
    with pytest.raises(pystac.STACValidationError, match="projection"):
        validator.validate_extension(item, pystac.STACObjectType.ITEM, "1.1.0", EXTENSIONS["proj"])


def test_a_file_is_whole_or_not_there(tmp_path: Path):
    path = tmp_path / "a.txt"

    def interrupted() -> None:
        with replacing(path) as part:
            part.write_text("half")
            raise KeyboardInterrupt("now")

    with pytest.raises(KeyboardInterrupt, match="now"):
        interrupted()
    assert list(tmp_path.iterdir()) == []
