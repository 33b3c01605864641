"""Entities like others: the nearest by cosine, against a matrix product; and what is asked for wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import pwcat
from catalog.entities import NOTES, VECTOR, EntityFile, entity_schema, is_entity_file, nearest_entities
from pwcat.cli import cli
from pwcat.errors import CatalogError

KINDS = ("point", "line", "polygon")


def write(path: Path, vectors: NDArray[np.floating], *, per_tile: int = 4, rows_per_group: int = 7) -> Path:
    """A file of entities way/0, way/1, ..., each fifth of which has a second piece in the next row."""
    count = len(vectors)
    numbers = np.arange(count)
    numbers[1::5] = numbers[: len(numbers[1::5]) * 5 : 5]
    about = [
        {
            "collection": "monaco",
            "tile": f"16/{row // per_tile}/7",
            "osm_type": "way",
            "osm_id": int(numbers[row]),
            "part": int(numbers[row] != row),
            "kind": KINDS[row % 3],
            "tags": [("building", "yes"), ("name", f"Größe {row}")] if row % 2 else [("addr:street", "東京")],
            VECTOR: vectors[row].tolist(),
        }
        for row in range(count)
    ]
    notes = json.dumps({"meaning": "entities by a test", "made": {"run": "small"}})
    schema = entity_schema(pa.from_numpy_dtype(vectors.dtype)).with_metadata({NOTES: notes})
    pq.write_table(pa.Table.from_pylist(about, schema), path, row_group_size=rows_per_group)
    return path


@pytest.fixture
def vectors() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path, vectors: NDArray[np.float32]) -> Path:
    return write(tmp_path / "entities.parquet", vectors)


def cosines(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    units = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return units @ units.T


def test_the_nearest_are_those_of_the_product_without_the_entitys_own_pieces(path, vectors) -> None:
    found = pwcat.nearest_entities(path, "way/10", limit=12)  # rows 10 and 11
    wanted = cosines(vectors)[[10, 11]].max(axis=0)
    wanted[[10, 11]] = -2
    order = np.argsort(-wanted)[:12]
    assert found.rows.tolist() == order.tolist()
    np.testing.assert_allclose(found.similarity, wanted[order], atol=1e-7)
    assert set(found.like.tolist()) <= {10, 11}
    told = found.to_list()
    assert [one["osm_id"] for one in told] == pq.read_table(path)["osm_id"].take(pa.array(order)).to_pylist()
    assert told[0]["tags"] == (
        {"building": "yes", "name": f"Größe {order[0]}"} if order[0] % 2 else {"addr:street": "東京"}
    )
    assert told[0]["tile"] == f"16/{order[0] // 4}/7"
    one = nearest_entities(path, "way/10@16/2/7", limit=60)  # both of its rows lie on that tile
    assert one.rows.tolist() == nearest_entities(path, ["way/10"], limit=60).rows.tolist()


def test_other_tiles_and_the_same_kind(path, vectors) -> None:
    rows = np.arange(60)
    alike = cosines(vectors)[12].copy()
    alike[12] = -2
    away = np.where(rows // 4 == 3, -2, alike)
    found = nearest_entities(path, "way/12", limit=60, other_tiles=True)
    assert found.rows.tolist() == np.argsort(-away, kind="stable")[: len(found)].tolist()
    assert len(found) == 56
    both = np.where(rows % 3 != 0, -2, away)
    found = nearest_entities(path, "way/12", limit=5, other_tiles=True, same_kind=True)
    assert found.rows.tolist() == np.argsort(-both, kind="stable")[:5].tolist()


def test_vectors_may_be_given_and_rows_without_any_are_not_found(tmp_path, vectors) -> None:
    vectors[3] = np.nan
    vectors[4] = 0
    path = write(tmp_path / "some.parquet", vectors.astype(np.float16))
    found = nearest_entities(path, vectors[20], limit=60)
    assert found.rows[0] == 20
    assert len(found) == 58
    assert not {3, 4} & set(found.rows.tolist())
    with pytest.raises(CatalogError, match="way/3: nothing there has a direction to be like"):
        nearest_entities(path, "way/3")
    with pytest.raises(CatalogError, match="vectors of 6 numbers, and those to be like have 4"):
        nearest_entities(path, np.ones(4))
    with pytest.raises(CatalogError, match="vectors have no tile and no kind"):
        nearest_entities(path, np.ones(6), other_tiles=True)


def test_what_cannot_be_is_refused_in_one_line(path, tmp_path) -> None:
    for name in ("way", "way/x", "house/3", "way/3@16", ""):
        with pytest.raises(CatalogError, match="names no entity: way/123 is wanted, or way/123@16/34166/22942"):
            nearest_entities(path, name)
    with pytest.raises(CatalogError, match="has no relation/3 among its 60 rows"):
        nearest_entities(path, "relation/3")
    with pytest.raises(CatalogError, match="limit=0: at least one entity is wanted"):
        nearest_entities(path, "way/3", limit=0)
    for name in ("nowhere.parquet", "other.parquet", "text.parquet"):
        pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
        (tmp_path / "text.parquet").write_text("no Parquet")
        assert not is_entity_file(tmp_path / name)
        with pytest.raises(
            CatalogError, match="no embeddings of map entities; `pwcat embed RUN MAP --entities -o FILE`"
        ):
            EntityFile(tmp_path / name)


def test_the_command_says_what_entities_are(path, tmp_path, vectors) -> None:
    result = CliRunner().invoke(cli, ["similar", str(path), "--like", "way/10", "--limit", "3"])
    assert result.exit_code == 0, result.output
    assert "Like way/10: line, addr:street=東京, tile 16/2/7 of monaco, 2 pieces" in result.output
    assert "The 3 most similar: entities by a test" in result.output
    told = json.loads(
        CliRunner().invoke(cli, ["similar", str(path), "--like", "way/7", "--other-tiles", "--json"]).stdout
    )
    assert told["like"] == [
        {
            "collection": "monaco",
            "tile": "16/1/7",
            "osm_type": "way",
            "osm_id": 7,
            "part": 0,
            "kind": "line",
            "tags": {"building": "yes", "name": "Größe 7"},
            "pieces": 1,
        }
    ]
    assert len(told["entities"]) == 10
    assert "16/1/7" not in {one["tile"] for one in told["entities"]}
    np.save(tmp_path / "v.npy", vectors[:2])
    result = CliRunner().invoke(cli, ["similar", str(path), "--like", str(tmp_path / "v.npy")])
    assert "Like 2 vectors of" in result.output
    assert "building=yes" in result.output
    for options, message in (
        (["--biome", "tundra"], "--biome: of samples, and these are map entities"),
        (["-o", "x.parquet"], "--out: of samples"),
        (["--like", str(tmp_path / "v.npy")], "a file of vectors is asked for alone"),
    ):
        result = CliRunner().invoke(cli, ["similar", str(path), "--like", "way/7", *options])
        assert message in result.output + str(result.exception)
        assert result.exit_code != 0


def test_flags_of_entities_are_refused_for_samples(tiny_catalog) -> None:
    result = CliRunner().invoke(cli, ["similar", str(tiny_catalog), "--like", "x", "--other-tiles"])
    assert result.exit_code == 2
    assert "is no file of such embeddings" in result.output
