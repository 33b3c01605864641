"""What pwcat published comes back as what it was: the same pixels, labels and statistics as the collection it was made from."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalog.importers import recognise
from catalog.query import open_catalog
from publish.dataset import build_dataset_folder
from publish.shards import Layout

ALIKE = (
    "id", "geometry", "bbox", "datetime", "proj:code", "proj:shape", "proj:transform", "proj:centroid", "div:continent",
    "div:biome", "div:landcover", "div:landcover_share", "div:landcover_fractions", "div:spectral_entropy",
    "div:spectral_entropy_covariance", "div:valid_fraction", "pwcat:split", "pwcat:scene_ids",
)  # fmt: skip


@pytest.fixture(scope="module")
def published(tiny_catalog, tmp_path_factory):
    """The collection `everywhere`, published with several row groups a file."""
    subset = open_catalog(tiny_catalog).search(collections=["everywhere"])
    layout = Layout(row_group_rows=7)
    return build_dataset_folder(subset, tmp_path_factory.mktemp("published") / "everywhere", layout=layout), subset


def by_id(table):
    return {row["id"]: row for row in table.select(list(ALIKE)).to_pylist()}


def test_items_and_statistics_are_those_of_the_collection_it_was_published_from(published, add, tmp_path):
    folder, parent = published
    assert recognise(folder).name == "pwcat"
    added = add(folder, "pwcat", license="CC0-1.0")
    assert (added.samples, added.losses.total, added.suspects) == (len(parent), 0, [])
    subset = open_catalog(tmp_path / "catalog").search()
    ours = by_id(pq.read_table(tmp_path / "catalog" / "it" / "items.parquet"))
    theirs = by_id(pq.read_table(parent.collections[0].path / "items.parquet"))
    for name, row in theirs.items():
        for key, value in row.items():
            if key in ("geometry", "bbox", "proj:centroid"):
                continue
            assert ours[name][key] == (pytest.approx(value, abs=1e-9) if isinstance(value, float) else value), (
                name,
                key,
            )
        corners = [list(one[name]["bbox"].values()) for one in (ours, theirs)]
        np.testing.assert_allclose(*corners, atol=1e-9)
    before, after = parent.stats(), subset.stats()
    for layer in ("continent", "biome", "landcover"):
        assert after[layer]["counts"] == before[layer]["counts"]
        assert after[layer]["layer"] == before[layer]["layer"]
    assert after["spectral"]["mean"] == pytest.approx(before["spectral"]["mean"], rel=1e-9)


def test_pixels_are_those_of_the_cube_in_any_order(published, add, tmp_path):
    folder, parent = published
    add(folder, "pwcat")
    subset = open_catalog(tmp_path / "catalog").search()
    rows = {name: row for row, name in enumerate(subset.column("id"))}
    wanted = np.array([41, 3, 3, 17, 40])
    mine = np.array([rows[name] for name in parent.column("id")[wanted]])
    np.testing.assert_array_equal(subset.read(mine), parent.read(wanted))
    lazy = subset.open()
    assert lazy["chips"].shape == (len(parent), *parent.chip_shape)
    np.testing.assert_array_equal(lazy["id"].values, subset.column("id"))
    np.testing.assert_allclose(np.column_stack([lazy["lon"], lazy["lat"]]), subset.lonlat)
    assert lazy["boa_offset"].dims == ("sample", "time")
    np.testing.assert_array_equal(lazy["chips"].isel(sample=slice(5, 9)).values, subset.read(np.arange(5, 9)))


def test_a_row_whose_pixels_are_cut_is_counted(published, add, tmp_path):
    import shutil

    folder = shutil.copytree(published[0], tmp_path / "copy")
    path = next((folder / "data").glob("val-*"))
    table = pq.read_table(path)
    pixels = table["pixels"].to_pylist()
    pixels[0] = pixels[0][:-2]
    column = table.schema.get_field_index("pixels")
    pq.write_table(table.set_column(column, table.schema.field(column), [pixels]), path)
    added = add(folder, "pwcat")
    assert dict(added.losses.counts) == {"has pixels that are not as many bytes of uint16 as its shape says": 1}
    assert added.samples == len(published[1]) - 1
