"""Embeddings of the entities of maps: a row each, in a file that tells what they are; gone on with after a stop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

import pwcat
from catalog.entities import EntityFile
from catalog.subset import Subset, load_subset
from pwcat.cli import cli
from pwcat.errors import TrainingError
from training.entity_embeddings import embed_run_entities
from training.models import build_model
from training.models.geometry import GeometryNet
from training.osm.reading import EntityReader

COLUMNS = ["collection", "tile", "osm_type", "osm_id", "part", "kind"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return build_model("geometry", {"width": 16, "layers": 1, "dim": 24, "telling": 8}).save_pretrained(
        tmp_path / "Geo"
    )


def test_the_command_writes_a_row_an_entity(model: Path, maps: Subset, map_catalog: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "entities.parquet"
    result = CliRunner().invoke(
        cli, ["embed", str(model), str(map_catalog), "--entities", "-o", str(out), "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    table = pq.read_table(out)
    stored = {each.name: pq.read_table(each.path / "entities.parquet") for each in maps.collections}
    assert len(table) == sum(map(len, stored.values()))
    assert (
        f"{len(table):,} entities of 80 tiles, 24 numbers each, float32: entities by Geometry network" in result.output
    )
    assert "Effective rank" in result.output
    for name, entities in stored.items():
        mine = table.filter(np.array(table["collection"].to_pylist()) == name)
        assert mine.select([*COLUMNS[1:], "tags"]).to_pylist() == entities.select([*COLUMNS[1:], "tags"]).to_pylist()
    net = GeometryNet.from_pretrained(model)
    with torch.no_grad():
        expected = net.encode_entities(EntityReader(maps).batch(np.arange(80))).numpy()
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), expected, rtol=1e-4, atol=1e-5)
    file = EntityFile(out)
    assert file.made["run"] == "Geo"
    assert file.made["dtype"] == "float32"
    name = result.output.strip().splitlines()[-1].rpartition(" ")[2]
    found = pwcat.nearest_entities(out, name, limit=3)
    assert len(found) == 3
    half = ["--dtype", "float16", "--json"]
    told = json.loads(
        CliRunner()
        .invoke(cli, ["embed", str(model), str(map_catalog), "--entities", "-o", str(out), "--device", "cpu", *half])
        .stdout
    )
    assert told["entities"] == len(table)
    assert told["spread"]["most"] == 24
    assert pq.read_schema(out).field("embedding").type == pa.list_(pa.float16())


def test_of_any_tiles_in_their_order_and_of_few_rows_at_a_time(
    model: Path, maps: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = maps.only(np.array([70, 3, 9, 71, 2]))
    whole = pq.read_table(embed_run_entities(model, some, device="cpu").save(tmp_path / "a.parquet"))
    monkeypatch.setattr("training.entity_embeddings.ROWS", 2)
    parts = embed_run_entities(model, some, device="cpu").save(tmp_path / "b.parquet")
    assert pq.ParquetFile(parts).num_row_groups > 1
    assert pq.read_table(parts).equals(whole)
    counts = EntityReader(some).counts(np.arange(5))
    assert counts.sum() == len(whole)
    tiles = [f"16/{index}/0" for index in some.index]
    assert whole["tile"].to_pylist() == np.repeat(tiles, counts).tolist()


def test_it_is_computed_once_and_gone_on_with(
    model: Path, one_map: Subset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("training.embed.TILES", 4)
    monkeypatch.setattr("training.kept.kept_matrix.__kwdefaults__", {"part_rows": 1, "part_seconds": 0.0})
    expected = embed_run_entities(model, one_map, device="cpu", cache=False).values
    assert not (model / "embeddings").exists()

    def stop(done: int, total: int) -> None:
        assert total == len(expected)
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_run_entities(model, one_map, device="cpu", progress=stop)
    (parts,) = (model / "embeddings").glob("*.parts")
    kept = sum(len(np.load(part)) for part in parts.glob("*.npy"))
    assert 0 < kept < len(expected)
    seen: list[int] = []
    gone_on = embed_run_entities(model, one_map, device="cpu", progress=lambda done, total: seen.append(done))
    assert min(seen) > kept
    np.testing.assert_allclose(gone_on.values, expected, rtol=1e-4, atol=1e-5)
    seen.clear()
    embed_run_entities(model, one_map, device="cpu", progress=lambda done, total: seen.append(done))
    assert not seen


def test_tiles_are_embedded_by_it_as_samples_are(model: Path, map_catalog: Path, tmp_path: Path) -> None:
    shutil.copytree(map_catalog, tmp_path / "catalog")
    result = CliRunner().invoke(cli, ["embed", str(model), str(tmp_path / "catalog" / "everywhere"), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "Effective rank" in result.output
    subset = load_subset(tmp_path / "catalog" / "everywhere")
    like = str(subset.column("id")[0])
    found = CliRunner().invoke(cli, ["similar", str(tmp_path / "catalog" / "everywhere"), "--like", like, "--json"])
    assert found.exit_code == 0, found.output
    assert len(json.loads(found.stdout)["samples"]) == 10


def test_what_cannot_be_is_refused_in_one_line(
    model: Path, run, subset: Subset, one_map: Subset, map_catalog: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="a satmae embeds samples, and has no embeddings of the entities on them"):
        embed_run_entities(run.path, one_map, device="cpu")
    with pytest.raises(TrainingError, match="no map entities are there"):
        embed_run_entities(model, subset, device="cpu")
    empty = one_map.only(np.array([2]))
    with pytest.raises(TrainingError, match="there are no entities on these 1 tiles to embed"):
        embed_run_entities(model, empty, device="cpu")
    found = embed_run_entities(model, one_map, device="cpu")
    with pytest.raises(TrainingError, match=r"embeddings of entities are written to FILE\.parquet"):
        found.save(tmp_path / "x.npy")
    shutil.copy(map_catalog / "everywhere" / "items.parquet", tmp_path / "items.parquet")
    with pytest.raises(TrainingError, match="is there already and holds no embeddings of entities; take another name"):
        found.save(tmp_path / "items.parquet")
    for options, message in (
        (["--entities"], "say where to write them: -o FILE.parquet"),
        (["--entities", "-o", "x.npy"], "say where to write them: -o FILE.parquet"),
        (["--entities", "-o", "x.parquet", "--name", "emb:x"], "it goes with neither --task nor --name"),
    ):
        result = CliRunner().invoke(cli, ["embed", str(model), str(map_catalog), *options])
        assert result.exit_code == 2
        assert message in result.output
