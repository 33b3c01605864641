"""Pulling: what was published comes back as it was, and of it no more is fetched than is needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from catalog.query import open_catalog
from publish.dataset import build_dataset_folder
from publish.pull import plan_pull, pull
from publish.shards import Layout
from pwcat.cli import cli
from pwcat.doctor.examination import examine
from pwcat.errors import CatalogError, PublishError

SMALL = Layout(shard_bytes=500_000, row_group_bytes=100_000)
ENTITIES = [(name, "ascending") for name in ("tile", "osm_type", "osm_id", "part")]
TAGS = [(name, "ascending") for name in ("key", "value")]
FOOTER = 128 << 10  # bytes that are asked for at the end of a file, with what lies before its footer

PULL = """
import json, os, sys
from dataclasses import asdict
import pwcat
from pwcat.errors import PwcatError
for line in sys.argv[1:]:
    ask = json.loads(line)
    end = ask.pop("end_at", None)
    def progress(done, total):
        if end is not None and done >= end:
            os._exit(9)
    try:
        done = pwcat.pull(ask.pop("source"), ask.pop("out"), progress=progress, **ask)
        print(json.dumps({**asdict(done), "folder": str(done.folder)}))
    except PwcatError as exc:
        print(json.dumps({"error": str(exc)}))
"""


@pytest.fixture(scope="module")
def original(tiny_catalog):
    """Two collections, 80 samples."""
    return open_catalog(tiny_catalog)


@pytest.fixture(scope="module")
def published(original, tmp_path_factory) -> Path:
    """Both as a dataset's folder, of five files with some five row groups each. Do not change it."""
    folder = tmp_path_factory.mktemp("published") / "chips"
    return build_dataset_folder(original.search(), folder, repo_id="my-lab/chips", release="v1", layout=SMALL)


@pytest.fixture
def on_the_hub(hub, published):
    """The repository my-lab/chips, of that folder, tagged v1."""
    files = {str(path.relative_to(published)): path.read_bytes() for path in published.rglob("*") if path.is_file()}
    hub.add_repo("datasets", "my-lab/chips", files, tags=["v1"])
    return hub


def require_equal(copy: Path, subset) -> None:
    found = open_catalog(copy).search()
    assert found.hash == subset.hash
    assert found.stats() == subset.stats()
    rows = np.arange(len(subset))
    np.testing.assert_array_equal(found.read(rows), subset.read(rows))
    names = [name for name in subset.table.column_names if name != "pwcat:index"]
    assert found.columns(names).equals(subset.columns(names))
    for member in subset.collections:
        own, cube = open_catalog(copy).collection(member.name).cube, member.cube
        assert (own.attrs, own.chips_attrs, repr(own.meanings)) == (cube.attrs, cube.chips_attrs, repr(cube.meanings))
        assert examine(copy / member.name).is_well


def test_no_more_is_fetched_than_the_row_groups_needed(on_the_hub, fresh, original, tmp_path):
    hub = on_the_hub
    biome = original.search(collections="everywhere", continent="Africa").column("div:biome")[0]
    where = f"continent = 'Africa' AND biome = '{biome}'"
    chosen = original.search(filter=where)
    asks = [
        {"source": "my-lab/chips", "out": str(tmp_path / "dry"), "where": where, "dry_run": True},
        {"source": "my-lab/chips@v1", "out": str(tmp_path / "some"), "where": where},
    ]
    dry, some = map(json.loads, fresh(PULL, *map(json.dumps, asks)).splitlines())
    assert "error" not in some
    assert not (tmp_path / "dry").exists()
    require_equal(tmp_path / "some", chosen)
    needed = some["needed"]
    assert dry["needed"] == needed
    assert needed["samples"] == len(chosen) < needed["samples_of"] == 80
    assert 0 < needed["row_groups"] < needed["row_groups_of"]
    assert 0 < needed["files"] < needed["files_of"] == 5
    # the dry run asks for footers alone, the other for the same, and for the row groups
    footers = 2 * needed["files"] * FOOTER
    assert footers < hub.sent("/data/") <= footers + needed["bytes"]
    touched = {path for _, path, _, _ in hub.calls("GET", "/data/")}
    assert len(touched) == needed["files"]
    origin = json.loads((tmp_path / "some" / "everywhere" / "origin.json").read_text())
    head = hub.repos["datasets", "my-lab/chips"].head
    assert (origin["repository"], origin["revision"], origin["tag"]) == ("my-lab/chips", head, "v1")
    assert origin["subset_hash"] == original.search().hash
    assert origin["copied"]["subset_hash"] == chosen.hash == some["subset_hash"]
    assert all("hf_loopback" not in path.read_text(errors="ignore") for path in tmp_path.rglob("*.json"))


def test_a_killed_pull_goes_on_at_the_commit_that_it_began_with(on_the_hub, fresh, original, tmp_path):
    hub, out = on_the_hub, tmp_path / "all"
    ask = {"source": "my-lab/chips", "out": str(out)}
    with pytest.raises(AssertionError, match="exit 9"):
        fresh(PULL, json.dumps({**ask, "end_at": 50}))
    assert not out.exists()
    shards = list((tmp_path / "all.partial").glob("*/cube.zarr/chips/c/*/0/0/0/0"))
    assert shards
    first = hub.repos["datasets", "my-lab/chips"].head
    hub.commit("datasets", "my-lab/chips", {"items/items.geoparquet": b"of another release", "README.md": b"# Another"})
    hub.forget()
    hub.fail("GET:/data/:503:2,GET:/data/:truncate:1,GET:/data/:drop:1")
    done, again, other = map(
        json.loads,
        fresh(
            f"import time; time.sleep = lambda seconds: None\n{PULL}",
            *map(json.dumps, [ask, {**ask, "source": "hf://my-lab/chips"}, {**ask, "where": "continent = 'Asia'"}]),
        ).splitlines(),
    )
    assert done["revision"] == first
    assert done["collections"] == {"europe": 32, "everywhere": 48}
    require_equal(out, original.search())
    assert again["is_there"]
    assert again["revision"] == first
    assert other["error"].startswith(f"{out}: holds 80 samples of my-lab/chips at {first[:12]}")
    assert "Asia" in other["error"]
    assert not (tmp_path / "all.partial").exists()


def test_a_second_publication_of_what_was_pulled_has_the_same_chips(published, original, tmp_path):
    done = pull(published, tmp_path / "all")
    assert (done.repository, done.revision, done.tag) == (None, None, "v1")
    require_equal(tmp_path / "all", original.search())
    again = build_dataset_folder(open_catalog(tmp_path / "all").search(), tmp_path / "again", layout=SMALL)
    paths = sorted(path.relative_to(published) for path in published.glob("data/*"))
    assert paths == sorted(path.relative_to(again) for path in again.glob("data/*"))
    assert all((published / path).read_bytes() == (again / path).read_bytes() for path in paths)
    texts = [path.read_text() for path in again.rglob("*") if path.suffix in (".json", ".md", ".yaml", ".html")]
    assert not any(str(tmp_path.parent) in text or str(published) in text for text in texts)
    assert pull(published, tmp_path / "all").is_there
    with pytest.raises(PublishError, match=r"holds 80 samples.*and .*Europe.* is asked for now; name another folder"):
        pull(published, tmp_path / "all", continent="Europe")


def test_of_row_groups_that_were_copied_none_is_kept(published, tmp_path):
    plan = plan_pull(published, tmp_path / "all")
    plan.fetch()
    cube = plan.subset.collections[0].cube
    found = cube.row_groups(np.arange(80))
    kept = [one for one in found if cube.publication.groups.holds(one.path, one.group, ("id", "pixels", "datetimes"))]
    assert len(found) > 20
    assert len(kept) <= 4  # those of each split that the last shard was read from


def test_maps_come_with_their_entities(map_catalog, tmp_path):
    whole = open_catalog(map_catalog).search()
    folder = build_dataset_folder(whole, tmp_path / "published")
    pull(folder, tmp_path / "all")
    require_equal(tmp_path / "all", whole)
    documents = [
        json.loads((root / "hamlet" / "collection.json").read_text()) for root in (tmp_path / "all", map_catalog)
    ]
    assert documents[0]["summaries"]["gsd"] == documents[1]["summaries"]["gsd"]
    pull(folder, tmp_path / "trained", split=str(whole.column("pwcat:split")[0]))
    require_equal(tmp_path / "trained", whole.split(str(whole.column("pwcat:split")[0])))
    for name, order in (("entities.parquet", ENTITIES), ("tags.parquet", TAGS)):
        one, other = (pq.read_table(root / "hamlet" / name) for root in (tmp_path / "all", map_catalog))
        names = [column for column in other.column_names if column != "index"]
        assert one.select(names).sort_by(order).equals(other.select(names).sort_by(order))


def test_a_release_that_is_not_what_it_says_is_refused(published, tmp_path):
    folder = tmp_path / "published"
    shutil.copytree(published, folder)
    record = json.loads((folder / "stats" / "diversity.json").read_text())
    record["subset_hash"] = "0" * 64
    (folder / "stats" / "diversity.json").write_text(json.dumps(record))
    with pytest.raises(PublishError, match=r"its samples have the hash .* the release says 000000000000.* damaged"):
        pull(folder, tmp_path / "all")
    items = folder / "items" / "items.geoparquet"
    pq.write_table(pq.read_table(items).slice(0, 60), items)
    for conditions in ({}, {"limit": 20}):
        with pytest.raises(PublishError, match=r"items.geoparquet has 60 rows, the manifest says 80"):
            pull(folder, tmp_path / "all", **conditions)
    shutil.copy(published / "items" / "items.geoparquet", items)
    manifest = json.loads((published / "MANIFEST.json").read_text())
    first = next(path for path in manifest["files"] if path.startswith("data/"))
    manifest["files"][first]["rows"] += 1
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(PublishError, match=rf"{first} has \d+ rows, the manifest says \d+"):
        plan_pull(folder, tmp_path / "some", ids=open_catalog(published).search().column("id")[:40].tolist())
    with pytest.raises(PublishError, match="no folder there, and no name on the Hub"):
        pull(tmp_path / "nothing" / "there", tmp_path / "all")
    with pytest.raises(PublishError, match=r"no sample meets .*Atlantis.* nothing is pulled"):
        pull(published, tmp_path / "all", where="continent = 'Atlantis'")


@pytest.mark.parametrize("name", ["../../elsewhere", "/elsewhere", "..", "", ".hidden", "a\\b"])
def test_a_release_cannot_choose_where_it_is_written(published, tmp_path, name):
    folder = tmp_path / "published"
    shutil.copytree(published, folder)
    record = json.loads((folder / "stats" / "diversity.json").read_text())
    record["collections"] = {name: record["collections"]["europe"]}
    (folder / "stats" / "diversity.json").write_text(json.dumps(record))
    with pytest.raises(CatalogError, match=r"is no name for a folder, .* do not trust it"):
        pull(folder, tmp_path / "some" / "deep" / "pulled", limit=3)
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_the_command_says_what_it_fetches_first(published, tmp_path):
    out = tmp_path / "out"
    command = ["pull", str(published), "--where", "continent = 'Europe'", "--split", "val", "-o", str(out)]
    planned = CliRunner().invoke(cli, [*command, "--dry-run"], catch_exceptions=False)
    assert "row groups of" in planned.output
    assert "nothing was fetched" in planned.output
    assert not out.exists()
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert f"Next: pwcat stats {out}" in done.output
    told = json.loads(CliRunner().invoke(cli, [*command, "--json"], catch_exceptions=False).output)
    assert told["is_there"]
    assert told["samples"] == len(open_catalog(out).search())
    origin = json.loads((out / "origin.json").read_text())
    assert origin["command"] == ["pwcat", "pull", str(published), "--where", "continent = 'Europe'", "--split", "val"]


def test_the_zarr_in_its_sibling_is_opened_by_plain_xarray(hub, fresh, tiny_catalog, original, tmp_path):
    publish = ["publish", "dataset", str(tiny_catalog), "--repo", "my-lab/chips", "--zarr", "my-lab/chips-zarr"]
    done, again = map(json.loads, fresh(COMMANDS, json.dumps([[*publish, "--tag", "v1", "--json"]] * 2)).splitlines())
    assert done["zarr"]["push"]["tag"] == "v1"
    assert done["zarr"]["push"]["bytes_sent"] > 80 * 1000
    assert again["zarr"]["push"]["bytes_sent"] == 0  # the same bytes, made twice
    paths = set(hub.files("datasets", "my-lab/chips-zarr"))
    assert {"README.md", "LICENSES.md", "MANIFEST.json", "catalog.json", "europe/items.parquet"} <= paths
    assert not any("ledger" in path or "described" in path for path in paths)
    manifest = json.loads(hub.read("datasets", "my-lab/chips-zarr", "MANIFEST.json"))
    assert (manifest["kind"], manifest["dataset"]) == ("zarr", "my-lab/chips")
    texts = [
        hub.read("datasets", "my-lab/chips-zarr", path) for path in paths if path.endswith((".json", ".yaml", ".md"))
    ]
    assert not any(str(tiny_catalog.parent).encode() in text for text in texts)  # no paths of this computer
    card = hub.read("datasets", "my-lab/chips-zarr", "README.md").decode()
    opening = card.partition("```python\n")[2].partition("```")[0]
    out = tmp_path / "zarr.npz"
    fresh(f"import sys\nimport numpy as np\n{opening}\n{SAVE}", out)
    stored = np.load(out)
    member = original.collection("europe")
    subset = original.search(collections="europe")
    places = [list(stored["id"]).index(name) for name in subset.column("id")]
    np.testing.assert_array_equal(stored["chips"][places], subset.read(np.arange(len(subset))))
    np.testing.assert_array_equal(stored["datetime"][places], member.cube.dates(subset.index))
    first = subset.read(np.array([places.index(0)]))[0]
    np.testing.assert_allclose(stored["values"], np.where(first > 0, first * 0.0001, np.nan), rtol=1e-6)


COMMANDS = """
import json, sys
from pwcat.cli import cli
for words in json.loads(sys.argv[1]):
    cli(words, standalone_mode=False)
"""

SAVE = """
assert not {"pwcat", "publish", "catalog"} & set(sys.modules)
seconds = cube["datetime"].values.astype("datetime64[s]").astype(np.int64)
ids = np.array(cube["id"].values.tolist())
np.savez(sys.argv[1], chips=cube["chips"].values, id=ids, datetime=seconds, values=values.values)
"""


def test_the_zarr_needs_a_repository_of_its_own(tiny_catalog):
    command = ["publish", "dataset", str(tiny_catalog), "--zarr"]
    with pytest.raises(PublishError, match="my-lab/chips is the repository of the tables: the Zarr goes to another"):
        CliRunner().invoke(cli, [*command, "my-lab/chips", "--repo", "my-lab/chips"], catch_exceptions=False)
    with pytest.raises(PublishError, match="name that one too, with --repo"):
        CliRunner().invoke(cli, [*command, "my-lab/chips", "--to", "folder"], catch_exceptions=False)
