"""Embeddings for others to use: a column, or a file; computed once."""

from __future__ import annotations

import csv
import json
import os
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner

from catalog.query import open_catalog
from catalog.store import write_catalog
from catalog.subset import load_subset
from pwcat.cli import cli
from pwcat.errors import CatalogError, TrainingError
from training.embed import embed_subset
from training.embeddings import Embeddings, embed_run, embedding_name
from training.models.folder import weights_hash
from training.tasks import open_task


@pytest.fixture
def root(tiny_catalog, tmp_path):
    for name in ("europe", "everywhere"):
        shutil.copytree(tiny_catalog / name, tmp_path / "catalog" / name, copy_function=os.link)
    write_catalog(tmp_path / "catalog")
    return tmp_path / "catalog"


@pytest.fixture
def folder(run, tmp_path):
    """The run, in a folder of its own."""
    shutil.copytree(run.path, tmp_path / "small")
    shutil.rmtree(tmp_path / "small" / "embeddings", ignore_errors=True)
    return tmp_path / "small"


def test_the_command_keeps_a_column(folder, run, root):
    result = CliRunner().invoke(cli, ["embed", str(folder), str(root), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "80 samples, 48 numbers each, float32: embedding by SatMAE" in result.output
    assert "Column emb:small of europe, everywhere" in result.output
    everything = open_catalog(root).search()
    expected = embed_subset(run.load_model(), everything)
    np.testing.assert_array_equal(everything.column("emb:small"), expected)
    told = open_catalog(root).collection("europe").columns["emb:small"]
    assert told.made["weights_hash"] == weights_hash(run.load_model())
    assert told.made["run"] == "small"
    assert "mean over" in told.made["pooling"]
    assert told.made["recipe_hash"] == run.recipe_hash
    assert told.made["date"]
    again = CliRunner().invoke(cli, ["embed", str(folder), str(root), "--device", "cpu"])
    assert isinstance(again.exception, CatalogError)
    assert "there is a column 'emb:small' already" in str(again.exception)
    half = ["--replace", "--dtype", "float16", "--json"]
    told = json.loads(CliRunner().invoke(cli, ["embed", str(folder), str(root), "--device", "cpu", *half]).stdout)
    assert told["made"]["dtype"] == "float16"
    assert told["numbers"] == 48
    found = open_catalog(root).search().column("emb:small")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(found - expected).max() > 0


def test_it_is_computed_once_and_evaluation_reads_the_same(folder, root):
    subset = load_subset(root / "europe")
    first = embed_run(folder, subset, device="cpu").values.copy()
    (kept,) = (folder / "embeddings").iterdir()
    changed = np.load(kept) + 1
    np.save(kept, changed)
    np.testing.assert_array_equal(embed_run(folder, subset, device="cpu").values, changed)
    direct = embed_run(folder, subset, device="cpu", cache=False)
    np.testing.assert_array_equal(direct.values, first)


def test_other_pixels_of_the_same_recipe_are_embedded_anew(folder, tiny_catalog, tmp_path):
    """A dataset that was built again from other scenes has the ids and the recipe that it had."""
    place = shutil.copytree(tiny_catalog / "europe", tmp_path / "again" / "europe")
    write_catalog(place.parent)
    first = embed_run(folder, load_subset(place), device="cpu").values.copy()
    chips = zarr.open_group(place / "cube.zarr", mode="r+")["chips"]
    chips[:] = chips[:] // 2 + 1
    subset = load_subset(place)
    found = embed_run(folder, subset, device="cpu").values
    np.testing.assert_array_equal(found, embed_run(folder, subset, device="cpu", cache=False).values)
    assert np.abs(found - first).max() > 0


def test_a_stopped_one_goes_on_where_it_was(folder, root, run):
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StoppedError

    subset = load_subset(root / "everywhere")
    expected = embed_subset(run.load_model(), subset)
    with pytest.raises(StoppedError):
        embed_run(folder, subset, device="cpu", progress=stop)
    (parts,) = (folder / "embeddings").iterdir()
    np.save(parts / f"{0:012d}.npy", expected[:20])  # what a slower run would have left
    told = []
    found = embed_run(folder, subset, device="cpu", progress=lambda done, total: told.append((done, total)))
    np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.values[:20], expected[:20])
    assert told == [(48, 48)]
    assert [path.suffix for path in (folder / "embeddings").iterdir()] == [".npy"]


def test_a_file_of_a_subset_can_be_added_later(folder, root, tmp_path):
    file = tmp_path / "out" / "e.parquet"
    result = CliRunner().invoke(cli, ["embed", str(folder), str(root / "europe"), "-o", str(file), "--name", "emb:e"])
    assert result.exit_code == 0, result.output
    assert "Next: pwcat catalog columns CATALOG --add" in result.output
    assert not list(root.glob("*/columns"))
    added = CliRunner().invoke(cli, ["catalog", "columns", str(root), "--add", str(file)])
    assert added.exit_code == 0, added.output
    subset = load_subset(root / "europe")
    np.testing.assert_array_equal(subset.column("emb:e"), embed_run(folder, subset, device="cpu").values)


def test_a_matrix_and_a_table_of_its_rows(folder, root, tmp_path):
    file = tmp_path / "e.npy"
    result = CliRunner().invoke(cli, ["embed", str(folder), str(root), "-o", str(file), "--dtype", "float16"])
    assert result.exit_code == 0, result.output
    found = np.load(file)
    assert (found.shape, found.dtype) == ((80, 48), np.float16)
    rows = list(csv.DictReader((tmp_path / "e.csv").read_text().splitlines()))
    everything = load_subset(root)
    assert [row["id"] for row in rows] == everything.column("id").tolist()
    assert rows[40] == {"row": "40", "collection": "everywhere", "id": everything.column("id")[40]}
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    slip = CliRunner().invoke(cli, ["embed", str(folder), str(root), "-o", str(tmp_path / "mine.npy")])
    assert "mine.csv: is there already and is no table of rows" in str(slip.exception)
    assert (tmp_path / "mine.csv").read_text() == "a,b\n1,2\n"


def test_a_benchmark_has_ids_splits_places_and_targets(folder, root, tmp_path):
    file = tmp_path / "task.parquet"
    options = ["--task", "landcover", "-o", str(file), "--device", "cpu"]
    result = CliRunner().invoke(cli, ["embed", str(folder), str(root), *options])
    assert result.exit_code == 0, result.output
    table, data = pq.read_table(file), open_task("landcover", root)
    assert table.column_names == ["id", "split", "lon", "lat", "target", "label", "embedding"]
    assert table["id"].to_pylist() == data.ids.tolist()
    assert table["label"].to_pylist() == [data.info.classes[code] for code in data.targets]
    np.testing.assert_array_equal(np.column_stack([table["lon"], table["lat"]]), data.lonlat)
    expected = embed_run(folder, data, device="cpu").values
    np.testing.assert_array_equal(np.stack(table["embedding"].to_pylist()), expected)
    notes = json.loads(pq.read_schema(file).metadata[b"pwcat:embeddings"])
    assert notes["task_hash"] == data.hash
    bare = CliRunner().invoke(cli, ["embed", str(folder), str(root), "--task", "landcover"])
    assert "with --task, say where to write them" in bare.output
    with pytest.raises(TrainingError, match="samples of task landcover are no catalog's"):
        embed_run(folder, data, device="cpu").keep("emb:x")


def test_what_cannot_be_written_is_refused(folder, root, tmp_path):
    wrong = CliRunner().invoke(cli, ["embed", str(folder), str(root), "-o", str(tmp_path / "e.csv")])
    assert "embeddings are written to FILE.parquet or FILE.npy" in wrong.output
    subset = load_subset(root / "europe")
    with pytest.raises(TrainingError, match="there are no samples to embed"):
        embed_run(folder, subset.only(np.array([], dtype=int)))
    large = Embeddings(data=subset, values=np.full((32, 2), 1e5, np.float32), meaning="m", made={})
    with pytest.raises(TrainingError, match=r"embeddings go up to 1e\+05, and float16 to 65504"):
        large.of_type("float16")
    with pytest.raises(TrainingError, match=r"written to FILE\.parquet or FILE\.npy"):
        large.save(tmp_path / "e.txt", "emb:x")


def test_names_of_columns_are_made_of_folders():
    assert embedding_name("runs/My Run (2)") == "emb:my-run-2"
