"""What is planted leaks, and nothing else does: by place, by embedding, from pretraining, and within a task."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pyproj import Geod

from catalog.columns import add_column
from catalog.store import write_catalog
from catalog.subset import load_subset
from pwcat.cli import cli
from pwcat.errors import TrainingError
from training.audit import LEAKS, audit
from training.batch import Bands
from training.embeddings import embed_run
from training.evaluating.leaks import leaks_of
from training.models.folder import weights_hash
from training.tasks import open_task
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import FileChips

WGS84 = Geod(ellps="WGS84")
FAR = (-150.0, -45.0)  # the South Pacific


@pytest.fixture
def task(subset):
    """40 samples of noise far away, but for some that are where pretraining samples are, show what these show, or both.

    0 is 300 m from pretraining sample 3; 1 is chip 7 elsewhere; 2 is chip 11, where it is; 3 has no coordinates; 4 has none and
    is chip 20. Then 30 of the test, and 5 to train on, of which the last is where test sample 10 is.
    """
    rng = np.random.default_rng(0)
    chips = rng.integers(1, 9000, size=(40, *subset.chip_shape), dtype=np.uint16)
    lonlat = np.column_stack([rng.uniform(-5, 5, 40) + FAR[0], rng.uniform(-5, 5, 40) + FAR[1]])
    there = subset.lonlat
    lonlat[0] = WGS84.fwd(*there[3], 30, 300)[:2]
    lonlat[2] = there[11]
    lonlat[[3, 4]] = np.nan
    for mine, theirs in ((1, 7), (2, 11), (4, 20)):
        chips[mine] = subset.read(np.array([theirs]))[0]
    lonlat[39] = WGS84.fwd(*lonlat[10], 200, 50)[:2]
    ids = np.array([f"größe/{k} 森" for k in range(40)], dtype=object)
    info = TaskInfo(name="t", title="T", kind="classification", metric="accuracy", classes=("a",), pixel_m=10.0)
    return TaskData(
        info=info,
        ids=ids,
        lonlat=lonlat,
        splits=np.array(["test"] * 35 + ["val"] + ["train"] * 4, dtype=object),
        targets=np.zeros(40, np.int64),
        chips=FileChips(
            bands=Bands.of(subset, subset.bands),
            shape=subset.chip_shape,
            lonlat=lonlat,
            times=np.zeros((40, subset.chip_shape[0]), np.int64),
            read=lambda rows: chips[rows],
        ),
        hash="of-the-task",
    )


@pytest.fixture
def root(tiny_catalog, tmp_path):
    for name in ("europe", "everywhere"):
        shutil.copytree(tiny_catalog / name, tmp_path / "catalog" / name, copy_function=os.link)
    write_catalog(tmp_path / "catalog")
    return tmp_path / "catalog"


def place_leaks(subset, task, rows, *, km=1.0) -> set[int]:
    """By all distances; chips of 320 m that share ground are nearer than .5 km."""
    found = set()
    for row in rows:
        if np.isfinite(task.lonlat[row]).all():
            away = WGS84.inv(*np.repeat(task.lonlat[row][None], len(subset), axis=0).T, *subset.lonlat.T)[2]
            found |= {row} if away.min() < km * 1000 else set()
    return found


def test_planted_places_leak_and_no_other(subset, task):
    found = audit(subset, [task])
    assert [row["id"] for row in found.leaks.to_pylist()] == [task.ids[0], task.ids[2]]
    assert place_leaks(subset, task, range(35)) == {0, 2}
    test, val, train = found.overlaps
    assert (test.split, test.samples, test.without_place, test.by_place, test.leaking) == ("test", 35, 2, 2, 2)
    assert (test.by_embedding, test.by_both, test.above, test.bound) == (None, None, None, "")
    assert (val.split, val.leaking, train.split, train.leaking) == ("val", 0, "train", 0)
    first = found.leaks.to_pylist()[0]
    assert first["nearest"] in {
        subset.column("id")[k] for k in np.flatnonzero((subset.lonlat == subset.lonlat[3]).all(1))
    }
    away = WGS84.inv(*np.repeat(task.lonlat[0][None], 48, axis=0).T, *subset.lonlat.T)[2] / 1000
    assert first["km"] == pytest.approx(away.min(), rel=1e-9)
    assert (first["reason"], first["against"], first["similarity"]) == ("place", "pretraining", None)
    assert first["nearest_collection"] == "everywhere"
    assert test.nearest_km["0"] == 0
    assert test.nearest_km["50"] > 100


def test_chips_that_share_ground_leak_at_no_distance(subset, task):
    found = audit(subset, [task], km=0)
    assert {row["id"] for row in found.leaks.to_pylist()} <= {task.ids[0], task.ids[2]}
    assert task.ids[2] in found.leaks["id"].to_pylist()


def test_planted_embeddings_leak_and_no_other(run, subset, task, tmp_path):
    found = audit(subset, [task], run=run.path, above=0.9999999, device="cpu")
    leaks = {row["id"]: row for row in found.leaks.to_pylist()}
    assert {task.ids.tolist().index(name): row["reason"] for name, row in leaks.items()} == {
        0: "place", 1: "embedding", 2: "both", 4: "embedding"
    }  # fmt: skip
    ids = subset.column("id")
    assert [leaks[task.ids[k]]["most_similar"] for k in (1, 2, 4)] == [ids[7], ids[11], ids[20]]
    assert leaks[task.ids[1]]["nearest"] == ids[7]
    assert leaks[task.ids[1]]["similarity"] >= 0.9999999
    assert leaks[task.ids[4]]["km"] is None
    test = found.overlaps[0]
    assert (test.by_place, test.by_embedding, test.by_both, test.leaking, test.bound) == (2, 3, 1, 4, "given")
    assert found.facts["weights_hash"] == weights_hash(run.load_model())
    path = found.save(tmp_path / "leaks.parquet")
    assert leaks_of(path, task) == frozenset(leaks)  # as evaluate reads it
    assert pq.read_schema(path).equals(LEAKS, check_metadata=False)
    assert json.loads(pq.read_schema(path).metadata[b"pwcat:audit"])["leaks"] == 4


def test_a_bound_against_a_null_finds_them_too(run, subset, task):
    found = audit(subset, [task], run=run.path, device="cpu")
    test = found.overlaps[0]
    assert test.bound == "null"
    assert test.null_samples == 33
    # chip 7 elsewhere is itself what samples far away reach: only what is as alike can be told from it
    assert test.above == pytest.approx(1.0, abs=2e-7)
    honest = TaskData(**{**{name: getattr(task, name) for name in task.__dataclass_fields__}, "lonlat": np.where(
        np.arange(40)[:, None] == 1, np.nan, task.lonlat)})  # fmt: skip
    found = audit(subset, [honest], run=run.path, device="cpu")
    assert found.overlaps[0].above < 0.99999
    by = {row["id"] for row in found.leaks.to_pylist() if row["reason"] != "place"}
    assert {task.ids[1], task.ids[2], task.ids[4]} <= by
    vectors = [embed_run(run.path, data, device="cpu").values.astype(np.float64) for data in (honest, subset)]
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in vectors]
    expected = np.round(unit[0][:35] @ unit[1].T, 7).max(axis=1) >= found.overlaps[0].above
    assert by == set(task.ids[:35][expected])


def test_a_subset_without_what_leaks(run, subset, task):
    found = audit(subset, [task], run=run.path, above=0.9999999, device="cpu")
    left = found.remaining()
    near = [k for k in range(48) if any(
        WGS84.inv(*task.lonlat[t], *subset.lonlat[k])[2] < 1000 for t in (0, 2))]  # fmt: skip
    gone = set(subset.column("id")) - set(left.column("id"))
    assert gone == set(subset.column("id")[sorted({*near, 7, 11, 20})])
    assert left.query["audit"]["left_out"] == len(gone)
    again = audit(left, [task], run=run.path, above=0.9999999, device="cpu")
    assert len(again.leaks) == 0
    assert again.leaks.schema.equals(LEAKS)


def test_within_a_task(run, task):
    found = audit(None, [task], within=True)
    assert [row["id"] for row in found.leaks.to_pylist()] == [task.ids[10]]
    row = found.leaks.to_pylist()[0]
    assert (row["against"], row["nearest"], row["nearest_collection"]) == ("train", task.ids[39], None)
    assert row["km"] == pytest.approx(0.05, rel=1e-6)
    (overlap,) = found.overlaps
    assert (overlap.split, overlap.against, overlap.leaking) == ("test", "train", 1)
    with pytest.raises(TrainingError, match="there is no pretraining subset to take samples from"):
        found.remaining()


def test_a_task_is_counted_once(subset, task):
    with pytest.raises(TrainingError, match="given twice with the same samples; once is enough"):
        audit(subset, [task, task])


def test_both_at_once(subset, task):
    found = audit(subset, [task], within=True)
    assert found.leaks["against"].to_pylist() == ["pretraining", "pretraining", "train"]
    assert [one.against for one in found.overlaps] == ["pretraining"] * 3 + ["train"]


def test_a_column_stands_for_chips(run, root, task):
    subset = load_subset(root / "everywhere")
    values = embed_run(run.path, subset, device="cpu").values
    made = {"weights_hash": weights_hash(run.load_model())}
    add_column(subset, "emb:x", values, meaning="embedding", made=made)
    add_column(subset, "emb:other", values, meaning="embedding", made={"weights_hash": "another"})
    direct = audit(subset, [task], run=run.path, above=0.9999999, device="cpu")
    found = audit(subset, [task], run=run.path, above=0.9999999, column="emb:x", device="cpu")
    assert found.leaks.equals(direct.leaks)
    with pytest.raises(TrainingError, match="column 'emb:other' of everywhere is of model another"):
        audit(subset, [task], run=run.path, column="emb:other", device="cpu")


def test_what_makes_no_sense_is_refused(subset, task):
    with pytest.raises(TrainingError, match="nothing to audit"):
        audit(None, [task])
    with pytest.raises(TrainingError, match="nothing to audit"):
        audit(subset, [])
    with pytest.raises(TrainingError, match="holds no samples"):
        audit(subset.only(np.array([], dtype=int)), [task])
    with pytest.raises(TrainingError, match="km=-1: a distance of 0 km or more"):
        audit(subset, [task], km=-1)
    with pytest.raises(TrainingError, match="above=2: a cosine similarity"):
        audit(subset, [task], above=2)
    with pytest.raises(TrainingError, match="needs the model that embeds the tasks"):
        audit(subset, [task], above=0.9)
    fields = {name: getattr(task, name) for name in task.__dataclass_fields__}
    with pytest.raises(TrainingError, match="task t: no sample is to be tested on"):
        audit(subset, [TaskData(**{**fields, "splits": np.full(40, "train", dtype=object)})])
    with pytest.raises(TrainingError, match="has no samples to train on"):
        audit(None, [TaskData(**{**fields, "splits": np.full(40, "test", dtype=object)})], within=True)
    nowhere = TaskData(**{**fields, "lonlat": np.full((40, 2), np.nan)})
    found = audit(subset, [nowhere])
    assert found.overlaps[0].without_place == 35
    assert found.overlaps[0].nearest_km == {}
    assert len(found.leaks) == 0


def test_no_null_without_places(run, subset, task):
    fields = {name: getattr(task, name) for name in task.__dataclass_fields__}
    nowhere = TaskData(**{**fields, "lonlat": np.full((40, 2), np.nan)})
    with pytest.raises(TrainingError, match="task t: no bound of similarity can be chosen"):
        audit(subset, [nowhere], run=run.path, device="cpu")
    found = audit(subset, [nowhere], run=run.path, above=0.9999999, device="cpu")
    assert found.overlaps[0].by_embedding == 3


def test_the_command_tells_it_in_a_table(run, root, tmp_path):
    """Both collections beside one of them: its own samples leak, and those that are near them."""
    out, save = tmp_path / "leaks.parquet", root / "clean.parquet"
    tasks = f"landcover={root}"
    arguments = ["audit", str(root / "everywhere"), "--tasks", tasks, "-o", str(out), "--save", str(save), "--within"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "SUBSET" in result.output
    assert "Place: nearer than 1 km, or sharing ground" in result.output
    assert "Next: pwcat evaluate RUN DIR --task NAME --without" in result.output
    told = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    data, subset = open_task("landcover", root), load_subset(root / "everywhere")
    tested = np.flatnonzero(data.splits == "test")
    assert told["overlaps"][0]["samples"] == len(tested)
    leaking = [row["id"] for row in pq.read_table(out).to_pylist() if row["against"] == "pretraining"]
    assert len(leaking) == len(place_leaks(subset, data, tested))
    assert set(leaking) == {data.ids[row] for row in place_leaks(subset, data, tested)}
    assert 0 < len(load_subset(save)) < 48
    alike = CliRunner().invoke(cli, [*arguments, "--model", str(run.path), "--above", ".9999999", "--device", "cpu"])
    assert "Alike: cosine of at least 0.9999999" in alike.output
    items = root / "europe" / "items.parquet"
    before = items.read_bytes()
    slip = CliRunner().invoke(cli, ["audit", str(root / "everywhere"), "--tasks", tasks, "-o", str(items)])
    assert f"-o {items}: is there already and is something else" in str(slip.exception)
    assert items.read_bytes() == before
    refused = CliRunner().invoke(cli, ["audit", str(root / "everywhere"), "--tasks", "biome"])
    assert "NAME=DIR is wanted, as in eurosat=" in str(refused.exception)
    unsaved = CliRunner().invoke(cli, ["audit", "--within", "--tasks", tasks, "--save", str(save)])
    assert "--save needs the SUBSET" in unsaved.output
