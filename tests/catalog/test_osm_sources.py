"""Tiles with images of a provider's collection: the embedded archive's, read as any STAC API's."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from catalog.query import open_catalog
from catalog.store import build_map
from pwcat.archive.towns import TownOptions, synthesise_towns
from pwcat.building.ledger import read_ledger
from pwcat.errors import SourceError
from pwcat.osm.document import MapImages
from pwcat.osm.imagery import open_imagery
from pwcat.osm.plan import read_tiles
from pwcat.osm.tiles import encode_tiles
from pwcat.providers.document import Source


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towns")
    synthesise_towns(folder, options=TownOptions(seed=0, towns=1, across=1))
    return folder


def build(towns, catalog, **images):
    document = yaml.safe_load((towns / "towns.yaml").read_text(encoding="utf-8"))
    document["images"] |= {"size_px": 32, **images}
    (towns / "changed.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return build_map(towns / "changed.yaml", catalog=catalog)


def test_tiles_get_the_newest_images_of_a_source(towns, tmp_path):
    built = build(towns, tmp_path)
    assert (built.report.tiles, built.report.pictured, built.report.failed) == (1, 1, 0)
    plan = read_tiles(built.folder)
    names, documents = plan.table["images"].to_pylist()[0], plan.documents()
    days = [documents[name]["properties"]["datetime"] for name in names]
    assert days == sorted(days, reverse=True)
    assert plan.table["datetime"].to_pylist()[0].isoformat() == days[0]
    assert all(asset["href"].startswith("archive:") for asset in documents[names[0]]["assets"].values())
    chips = open_catalog(tmp_path).search().read(np.array([0]))
    assert chips.shape == (1, 1, 3, 32, 32)
    assert 1 <= chips.min() < chips.max() <= 256
    assert read_ledger(built.folder)["source"].to_pylist() == [["archive:./aerial-synthetic"]]


def test_no_image_of_those_days_is_no_fault(towns):
    source = Source(provider="archive", path=".", collection="aerial-synthetic")
    with open_imagery(MapImages(source=source, start="2030-01-01"), base_dir=towns) as imagery:
        offer = imagery.offer(encode_tiles([20137], [21809]), 16)
    assert (offer.items, offer.documents) == ({}, {})


def test_a_collection_that_is_not_there_is_told(towns, tmp_path):
    with pytest.raises(SourceError, match="no collection 'aerial'"):
        build(towns, tmp_path, source={"provider": "archive", "path": ".", "collection": "aerial"})
