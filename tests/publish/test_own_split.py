from __future__ import annotations

import pyarrow.parquet as pq

from catalog.query import open_catalog
from catalog.subsets.matching import block_split
from publish.dataset import publish_dataset


def test_a_split_made_for_a_subset_is_the_one_that_is_published(tiny_catalog, tmp_path):
    again = block_split(open_catalog(tiny_catalog).search(collections="europe"), val_fraction=0.4, block_km=100)
    again.save(tmp_path / "again.parquet")
    publish_dataset(tmp_path / "again.parquet", to=tmp_path / "published")
    items = pq.read_table(next((tmp_path / "published").rglob("items.geoparquet")))
    sides = dict(zip(again.column("id").tolist(), again.column("pwcat:split").tolist(), strict=True))
    assert dict(zip(items["id"].to_pylist(), items["pwcat:split"].to_pylist(), strict=True)) == sides
    rows = dict.fromkeys(("train", "val"), 0)
    for path in (tmp_path / "published" / "data").glob("*.parquet"):
        rows[path.name.partition("-")[0]] += pq.read_metadata(path).num_rows
    assert rows == {side: list(sides.values()).count(side) for side in rows}
