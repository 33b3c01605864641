"""Columns beside items: added, asked for, refused where the items are others, kept where they are described anew."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient

from catalog.columns import add_column, attach_column, misfits, remove_column, save_column
from catalog.query import open_catalog
from catalog.querying.beside import column_file, is_column_name
from catalog.querying.conditions import Question
from catalog.server import make_app
from catalog.stac.mirror import read_items, write_items
from catalog.store import describe, write_catalog
from catalog.subset import load_subset
from catalog.subsets.factors import factor
from catalog.subsets.matching import match
from pwcat.cli import cli
from pwcat.errors import CatalogError

FACTS = {"meaning": "loss of a sample", "unit": "squared error", "made": {"by": "a test", "run": "r"}}


@pytest.fixture
def root(tiny_catalog, tmp_path):
    """A copy of the catalog's files, its pixels apart, which are linked."""
    for name in ("europe", "everywhere"):
        shutil.copytree(tiny_catalog / name, tmp_path / "catalog" / name, copy_function=os.link)
        for path in (tmp_path / "catalog" / name).glob("*"):
            if path.is_file():  # no hard link may be written through
                data = path.read_bytes()
                path.unlink()
                path.write_bytes(data)
    write_catalog(tmp_path / "catalog")
    return tmp_path / "catalog"


@pytest.fixture
def catalog(root):
    return open_catalog(root)


@pytest.fixture
def losses(catalog):
    """A value of each training sample of one collection: one of them is none."""
    found = catalog.search(collections="everywhere", split="train")
    values = np.random.default_rng(0).random(len(found))
    values[3] = np.nan
    add_column(found, "loss:run", values, **FACTS)
    return dict(zip(found.column("id"), values, strict=True))


def test_values_come_back_and_samples_without_one_have_none(catalog, losses):
    found = catalog.search()
    expected = [
        losses.get(name, np.nan) if where == "everywhere" else np.nan
        for name, where in zip(found.column("id"), found.column("collection"), strict=True)
    ]
    np.testing.assert_array_equal(found.column("loss:run"), expected)
    some = found.select(np.arange(0, len(found), 3))
    np.testing.assert_array_equal(some.column("loss:run"), expected[::3])
    assert found.columns(["id", "loss:run", "div:biome"]).column_names == ["id", "loss:run", "div:biome"]
    assert np.isnan(found.only(found.part == 0).column("loss:run")).all()
    assert catalog.search(ids=[]).column("loss:run").shape == (0,)


def test_a_filter_finds_what_a_comparison_finds_in_the_order_of_the_items(catalog, losses):
    found = catalog.search(filter='"loss:run" > 0.3 AND "loss:run" <= 0.8', split="train")
    assert set(found.column("id")) == {name for name, value in losses.items() if 0.3 < value <= 0.8}
    assert (np.diff(found.row) > 0).all()
    assert found.collections[0].name == "everywhere"
    document = {"op": ">", "args": [{"property": "loss:run"}, 0.3]}
    assert catalog.search(filter=document).hash == catalog.search(filter="loss:run > 0.3").hash
    none = catalog.search(filter='"loss:run" IS NULL')
    assert len(none) == len(catalog.search()) - len(losses) + 1
    counted = catalog.count(["split"], question=Question(filter='"loss:run" >= 0'))
    assert counted.to_pylist() == [{"split": "train", "samples": len(losses) - 1}]


def test_a_subset_by_loss_is_saved_and_loaded(catalog, losses, tmp_path):
    hard = catalog.search(filter='"loss:run" > 0.5')
    again = load_subset(hard.save(tmp_path / "hard.parquet"))
    assert again.hash == hard.hash
    np.testing.assert_array_equal(again.column("loss:run"), hard.column("loss:run"))
    assert len(again) == sum(value > 0.5 for value in losses.values())


def test_texts_and_vectors(catalog):
    found = catalog.search(collections="europe")
    add_column(found, "cluster:k8", [f"c{k % 3}" if k else None for k in range(len(found))], meaning="cluster")
    assert len(catalog.search(filter="\"cluster:k8\" = 'c1'")) == len(range(1, len(found), 3))
    vectors = np.random.default_rng(0).random((len(found), 5), dtype=np.float32)
    vectors[2] = np.nan
    add_column(found, "embedding:run", vectors, meaning="embedding")
    np.testing.assert_array_equal(found.column("embedding:run"), vectors)
    assert catalog.search().column("embedding:run").shape == (80, 5)
    with pytest.raises(CatalogError, match="'embedding:run' holds vectors, which no filter compares"):
        catalog.search(filter='"embedding:run" > 1')
    with pytest.raises(CatalogError, match="compares what is not alike"):
        catalog.search(filter='"cluster:k8" > 1')
    add_column(catalog.search(collections="everywhere"), "cluster:k8", np.arange(48), meaning="cluster")
    with pytest.raises(CatalogError, match=r"'cluster:k8' holds a text in one collection and another kind"):
        catalog.search(filter="\"cluster:k8\" = 'c1'")


def test_subsets_that_differ_in_a_column(catalog, losses):
    found = catalog.search(collections="everywhere")
    halves = match(found, vary=["loss:run:2"], agree=[]).subsets
    low, high = (halves[f"loss:run {k} of 2"].column("loss:run") for k in (1, 2))
    assert len(low) == len(high) == (len(losses) - 1) // 2
    assert low.max() < high.min()
    add_column(found, "cluster:k2", [None, *(f"c{k % 2}" for k in range(47))], meaning="cluster")
    assert {name: len(part) for name, part in match(found, vary=["cluster:k2"], agree=["split"]).subsets.items()}.keys() == {
        "c0", "c1"
    }  # fmt: skip
    assert factor(found, "cluster:k2").codes[0] == -1
    for name, why in (("loss:run:1", "from 2 to 100"), ("cluster:k2:2", "holds string: factors are made of numbers")):
        with pytest.raises(CatalogError, match=why):
            factor(found, name)


def test_what_is_not_known_is_refused_by_name(catalog, losses):
    with pytest.raises(CatalogError, match=r"unknown field 'loss:other'; there are .*loss:run"):
        catalog.search(filter='"loss:other" > 1')
    with pytest.raises(CatalogError, match=r"no column 'loss:other'; there are id, .*, loss:run"):
        catalog.search().column("loss:other")
    with pytest.raises(CatalogError, match="unknown field 'loss:run'"):
        catalog.search(collections="europe", filter='"loss:run" > 1')


@pytest.mark.parametrize(
    "name", ["loss", "Loss:run", "loss:Run", "div:loss", "pwcat:x", "loss:../x", 'a:"', "loss:", "loss:a b"]
)
def test_names_are_plain(catalog, name):
    assert not is_column_name(name)
    with pytest.raises(CatalogError, match="is no name for a column"):
        add_column(catalog.search(), name, np.zeros(80), meaning="x")
    with pytest.raises(CatalogError, match=r"no column .* to remove; there are none"):
        remove_column(catalog.collection("europe"), name)


def test_another_of_the_same_name_is_replaced_only_where_that_is_said(catalog, losses):
    found = catalog.search(collections="everywhere")
    with pytest.raises(CatalogError, match=r"there is a column 'loss:run' already \(loss of a sample of .*by a test"):
        add_column(found, "loss:run", np.zeros(48), meaning="zero")
    add_column(found, "loss:run", np.zeros(48), meaning="zero", overwrite=True)
    assert not catalog.search(collections="everywhere").column("loss:run").any()
    remove_column(catalog.collection("everywhere"), "loss:run")
    assert not (catalog.path / "everywhere" / "columns").exists()
    with pytest.raises(CatalogError, match="unknown field 'loss:run'"):
        catalog.search(filter='"loss:run" > 1')


def test_values_that_do_not_fit_are_refused(catalog, root):
    found = catalog.search()
    with pytest.raises(CatalogError, match=r"values of shape \(3,\) for 80 samples"):
        add_column(found, "loss:run", np.zeros(3), meaning="x")
    with pytest.raises(CatalogError, match="are neither numbers"):
        add_column(found, "loss:run", [{} for _ in range(80)], meaning="x")
    items = read_items(root / "europe" / "items.parquet")
    write_items(root / "europe" / "items.parquet", items.take(pa.array(range(31))), collection="europe")
    with pytest.raises(CatalogError, match="the items have changed since they were searched"):
        add_column(found, "loss:run", np.zeros(80), meaning="x")
    assert not list(root.glob("*/columns/*"))  # nothing is written where one collection does not fit


def test_described_anew_it_holds_and_joins_by_rows_again(root, losses):
    before = open_catalog(root).search(collections="everywhere")
    values = dict(zip(before.column("id"), before.column("loss:run"), strict=True))
    path = root / "everywhere" / column_file("loss:run")
    path.write_bytes(path.read_bytes())
    shuffled = read_items(root / "everywhere" / "items.parquet").take(
        pa.array(np.random.default_rng(1).permutation(48))
    )
    write_items(root / "everywhere" / "items.parquet", shuffled, collection="everywhere")
    by_id = open_catalog(root).search(collections="everywhere")
    assert by_id.column("id").tolist() != before.column("id").tolist()
    np.testing.assert_array_equal(by_id.column("loss:run"), [values[name] for name in by_id.column("id")])
    assert open_catalog(root).search(filter='"loss:run" > 0.5').column("id").tolist() == [
        name for name in by_id.column("id") if values[name] > 0.5
    ]
    describe(root / "everywhere")
    now = open_catalog(root).collection("everywhere")
    assert now.columns["loss:run"].items == now.items.digest
    assert now.columns["loss:run"].made["by"] == "a test"
    after = open_catalog(root).search(collections="everywhere")
    np.testing.assert_array_equal(after.column("loss:run"), [values[name] for name in after.column("id")])


def test_items_that_are_gone_or_of_another_recipe_make_it_refused_and_others_searches_go_on(root, losses, caplog):
    items = read_items(root / "everywhere" / "items.parquet")
    gone = next(k for k, name in enumerate(items["id"].to_pylist()) if losses.get(name, np.nan) >= 0)
    write_items(
        root / "everywhere" / "items.parquet",
        items.take(pa.array([k for k in range(48) if k != gone])),
        collection="everywhere",
    )
    catalog = open_catalog(root)
    with pytest.raises(CatalogError, match=r"'loss:run' of everywhere is of other items: 1 of its 3\d samples are not"):
        catalog.search(filter='"loss:run" > 0.5')
    with pytest.raises(CatalogError, match=r"is of other items: 1 of its"):
        catalog.search().column("loss:run")
    assert "is of other items" in misfits(catalog.collection("everywhere"))["loss:run"]
    assert len(catalog.search()) == 79
    client = TestClient(make_app(open_catalog(root)))
    with caplog.at_level(logging.WARNING):
        assert client.get("/search?limit=79").json()["numberReturned"] == 79
        assert client.get("/search?limit=79").json()["numberReturned"] == 79
    assert caplog.text.count("'loss:run' of everywhere is of other items") == 1
    stats = root / "everywhere" / "stats.json"
    stats.write_text(json.dumps({**json.loads(stats.read_text()), "recipe_hash": "f" * 64}))
    with pytest.raises(CatalogError, match="they were made from recipe ffffffffffff since, not "):
        open_catalog(root).search(filter='"loss:run" > 0.5')


def test_a_damaged_file_is_refused_when_it_is_named_alone(catalog, losses):
    path = catalog.path / "everywhere" / column_file("loss:run")
    other = path.with_name("loss.other.parquet")
    other.write_bytes(path.read_bytes())
    with pytest.raises(CatalogError, match=r"everywhere/columns/loss.other.parquet: holds column 'loss:run'"):
        catalog.search(filter='"loss:other" > 1')
    other.write_bytes(b"no")
    with pytest.raises(CatalogError, match=r"loss.other.parquet: no column of items \("):
        catalog.search(filter='"loss:other" > 1')
    other.unlink()
    table = pq.read_table(path)
    notes = json.loads(table.schema.metadata[b"pwcat:column"]) | {"version": 9}
    pq.write_table(table.replace_schema_metadata({"pwcat:column": json.dumps(notes)}), path)
    with pytest.raises(CatalogError, match=r"written by a later pwcat; upgrade this one"):
        catalog.search(filter='"loss:run" > 1')
    assert len(catalog.search(split="train")) > 0


def test_it_is_served_filtered_sorted_and_listed(catalog, losses):
    client = TestClient(make_app(catalog))
    known = sorted((value for value in losses.values() if value > 0.4), reverse=True)
    asked = {"filter": '"loss:run" > 0.4', "sortby": "-loss:run", "limit": 5}
    first = client.get("/search", params=asked).json()
    assert first["numberMatched"] == len(known)
    second = client.get(next(link["href"] for link in first["links"] if link["rel"] == "next")).json()
    told = [item["properties"]["loss:run"] for page in (first, second) for item in page["features"]]
    assert told == known[:10]
    for path in ("/queryables", "/sortables", "/collections/everywhere/queryables"):
        found = client.get(path).json()["properties"]["loss:run"]
        assert found == {"description": "loss of a sample, squared error", "type": "number"}
    for path in ("/collections/europe/queryables", "/collections/europe/sortables"):
        assert "loss:run" not in client.get(path).json()["properties"]
    sample = first["features"][0]
    one = client.get(f"/collections/everywhere/items/{sample['id']}").json()
    assert one["properties"]["loss:run"] == known[0]
    slim = client.get("/search", params={**asked, "fields": "loss:run"}).json()["features"][0]
    assert slim["properties"] == {"loss:run": known[0]}
    assert "unknown field 'loss:no'" in client.get("/search?filter=loss:no>1").json()["description"]
    row = next(k for k in range(80) if client.get(f"/explorer/samples/{k}.json").json()["id"] == sample["id"])
    assert client.get(f"/explorer/samples/{row}.json").json()["columns"] == {"loss:run": known[0]}


def test_far_away_it_is_found_by_its_name(root, losses, tmp_path):
    here = open_catalog(root).search(filter='"loss:run" > 0.5')
    from importlib import util

    spec = util.spec_from_file_location("serving", Path(__file__).parent / "serving" / "conftest.py")
    serving = util.module_from_spec(spec)
    spec.loader.exec_module(serving)
    with serving.serving(Starlette(routes=[Mount("/", StaticFiles(directory=root))])) as url:
        far = open_catalog(url)
        found = far.search(filter='"loss:run" > 0.5')
        assert found.column("id").tolist() == here.column("id").tolist()
        np.testing.assert_array_equal(found.column("loss:run"), here.column("loss:run"))
        with pytest.raises(CatalogError, match="cannot be read from there; copy the folder"):
            add_column(found, "loss:other", np.zeros(len(found)), meaning="x")


def test_the_command_lists_adds_and_removes(root, catalog, losses, tmp_path):
    found = catalog.search(split="train")
    file = save_column(found, tmp_path / "far.parquet", "loss:far", np.arange(len(found), dtype=float), **FACTS)

    def run(*arguments):
        return CliRunner().invoke(cli, ["catalog", "columns", str(root), *arguments])

    shown = run("--add", str(file)).output
    assert (
        f"everywhere: loss:run: loss of a sample, squared error; {len(losses) - 1} of 48 samples; a test, r, 20"
        in shown
    )
    assert "europe: loss:far" in shown
    again = open_catalog(root).search(split="train")
    np.testing.assert_array_equal(again.column("loss:far"), np.arange(len(found)))
    assert "already" in str(run("--add", str(file)).exception)
    assert run("--add", str(file), "--replace").exit_code == 0
    told = json.loads(run("--json").output)
    assert [(one["collection"], one["name"]) for one in told] == [
        ("europe", "loss:far"), ("everywhere", "loss:far"), ("everywhere", "loss:run"),
    ]  # fmt: skip
    assert "loss:run" not in run("--remove", "loss:run").output
    assert "no column loss:run to remove; there are loss:far" in str(run("--remove", "loss:run").exception)
    shown = CliRunner().invoke(cli, ["search", str(root), "--filter", "loss:far > 3", "--column", "loss:far", "--json"])
    assert [one["loss:far"] for one in json.loads(shown.output)["samples"]] == list(range(4, len(found)))
    table = CliRunner().invoke(cli, ["search", str(root), "--column", "loss:far"], env={"COLUMNS": "120"}).output
    assert "loss:far" in table


def test_a_file_of_other_samples_is_not_added(catalog, tmp_path):
    found = catalog.search()
    file = save_column(found, tmp_path / "x.parquet", "loss:x", np.zeros(80), meaning="x")
    with pytest.raises(CatalogError, match="is there already and is no column"):
        save_column(found, catalog.path / "europe" / "items.parquet", "loss:x", np.zeros(80), meaning="x")
    with pytest.raises(CatalogError, match="no column that `pwcat losses --out` wrote"):
        attach_column(catalog, catalog.path / "europe" / "items.parquet")
    table = pq.read_table(file)
    ids = pa.array(["nobody", *table["id"].to_pylist()[1:]])
    pq.write_table(table.set_column(table.column_names.index("id"), "id", ids), file)
    with pytest.raises(CatalogError, match="1 of its 80 samples are not in"):
        attach_column(catalog, file)
