"""What was published, opened as a catalog: from a folder, and from the Hub by the real client in processes of their own."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.query import open_catalog
from catalog.querying.places import RemoteFolder, open_place
from catalog.subset import load_subset
from catalog.subsets.matching import block_split
from publish.dataset import build_dataset_folder
from publish.shards import Layout
from pwcat.errors import CatalogError

LAYOUT = Layout(row_group_rows=8)
QUESTIONS = (
    {},
    {"collections": "everywhere"},
    {"continent": "Europe", "split": "train"},
    {"bbox": (-10, 30, 40, 70)},
    {"filter": "collection = 'europe' AND spectral_entropy > 2"},
    {"near": (8.5, 47.4), "within_km": 3000},
    {"datetime": "2021-01-01/2022-12-31"},
    {"limit": 9, "limit_by": "biome", "seed": 3},
)


@pytest.fixture(scope="module")
def original(tiny_catalog):
    """Two collections, in row groups of at most eight chips when they are published."""
    return open_catalog(tiny_catalog)


@pytest.fixture(scope="module")
def folder(original, tmp_path_factory):
    """Them published. Do not change it."""
    return build_dataset_folder(original.search(), tmp_path_factory.mktemp("remote") / "both", layout=LAYOUT)


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def large(folder, tmp_path_factory):
    """A publication whose items are many, sorted by biome, and hard to compress; it has no chips of them."""
    out = tmp_path_factory.mktemp("large") / "large"
    for name in ("items/items.geoparquet", "stats/diversity.json", "stac/collection.json"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, out / name)
    items = pq.read_table(out / "items" / "items.geoparquet")
    mine = items.filter(pa.compute.equal(items["pwcat:collection"], "everywhere")).sort_by("div:biome")
    times = 1000
    table = mine.take(pa.array(np.repeat(np.arange(len(mine)), times)))
    ids = pa.array([hashlib.sha256(str(row).encode()).hexdigest() for row in range(len(table))])
    entropy = pa.array(np.random.default_rng(0).random(len(table)))
    for name, values in {"id": ids, "div:spectral_entropy": entropy}.items():
        table = table.set_column(table.column_names.index(name), name, values)
    pq.write_table(table, out / "items" / "items.geoparquet", row_group_size=times, compression="zstd")
    record = json.loads((out / "stats" / "diversity.json").read_text())
    del record["collections"]["europe"]
    record["collections"]["everywhere"]["num_samples"] = len(table)
    (out / "stats" / "diversity.json").write_text(json.dumps(record))
    return out


def test_a_published_folder_is_a_catalog_of_the_collections_it_came_from(original, folder):
    opened = open_catalog(folder)
    assert opened.collections == original.collections
    for question in QUESTIONS:
        here, there = original.search(**question), opened.search(**question)
        assert len(here), question
        assert there.hash == here.hash, question
        assert there.stats() == here.stats(), question
        rows = np.random.default_rng(0).permutation(len(here))
        np.testing.assert_array_equal(there.read(rows), here.read(rows))
    names = [name for name in original.search().table.column_names if name != "pwcat:index"]
    for name in names:
        assert (
            opened.search()
            .columns([name])[name]
            .combine_chunks()
            .equals(original.search().columns([name])[name].combine_chunks())
        ), name
    assert opened.count(["biome", "continent"]).equals(original.count(["biome", "continent"]))
    for name in original.collections:
        one, other = original.collection(name), opened.collection(name)
        assert other.recipe_hash == one.recipe_hash
        assert other.cube.attrs == one.cube.attrs
        assert other.cube.bands == one.cube.bands
        assert other.cube.meanings == one.cube.meanings
        assert other.metadata.id == name
        assert other.metadata.title == one.metadata.title
        assert other.recipe["sampler"] == one.recipe["sampler"]


def test_the_chips_are_lazy_a_row_group_a_chunk(original, folder):
    for question in ({"collections": "everywhere", "split": "train"}, {}):
        there, here = open_catalog(folder).search(**question), original.search(**question)
        lazy = there.open()
        assert max(lazy.chips.chunks[0]) <= LAYOUT.row_group_rows
        got, known = lazy.compute(), here.open().compute()
        assert got.attrs == known.attrs
        for name in set(known.variables) - {"boa_offset"}:  # which only the builder needed
            np.testing.assert_array_equal(got[name].values, known[name].values, err_msg=name)
            assert got[name].dims == known[name].dims
            assert got[name].attrs == {k: v for k, v in known[name].attrs.items() if k != "coordinates"}
    train = open_catalog(folder).search(collections="everywhere", split="train")
    biome = Counter(train.column("div:biome")).most_common(1)[0][0]
    alike = train.only(
        train.column("div:biome") == biome
    )  # they lie in their own order; those of several are put in it
    groups = alike.collections[0].cube.row_groups(alike.index)
    assert len(groups) > 1
    assert alike.open().chips.chunks[0] == tuple(group.wanted for group in groups)
    assert all(group.path.startswith("data/train-") for group in groups)


def test_only_the_row_groups_of_the_chips_wanted_are_touched(original, folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    opened = open_catalog(copy)
    cube = opened.collection("europe").cube
    few = opened.search(collections="europe", split="train").only(np.arange(3))
    (group,) = cube.row_groups(few.index)
    assert (group.wanted, group.num_rows <= LAYOUT.row_group_rows) == (3, True)
    footer = pq.read_metadata(copy / group.path)
    data = bytearray((copy / group.path).read_bytes())
    for number in {*range(footer.num_row_groups)} - {group.group}:  # the pixels of all others are gone
        pixels = footer.row_group(number).column(1)
        start = pixels.data_page_offset
        data[start : start + pixels.total_compressed_size] = bytes(pixels.total_compressed_size)
    (copy / group.path).write_bytes(data)
    np.testing.assert_array_equal(
        few.read(np.array([2, 0])), original.search(ids=list(few.column("id"))).read(np.array([2, 0]))
    )
    everything = opened.search(split="train")
    with pytest.raises(CatalogError, match=r"row group \d+ cannot be read"):
        everything.read(np.arange(len(everything)))


def test_damage_and_odd_questions_are_one_line(folder, tmp_path):
    cube = open_catalog(folder).collection("europe").cube
    assert cube.read(np.array([], dtype=np.int64)).shape == (0, *cube.chip_shape)
    assert cube.select(np.array([], dtype=np.int64)).sizes["sample"] == 0
    np.testing.assert_array_equal(cube.read(np.array([4, 4, 0]))[0], cube.read(np.array([4]))[0])
    again = pickle.loads(pickle.dumps(cube))  # noqa: S301 - as a worker of Dask or torch gets it
    np.testing.assert_array_equal(
        again.dates(np.array([5, 1])), cube.stored("datetime")[[5, 1]].astype("datetime64[s]").astype(int)
    )
    with pytest.raises(CatalogError, match=r"samples are 0 to 79, asked for 3 to 80"):
        cube.read(np.array([3, 80]))
    with pytest.raises(CatalogError, match=r"has no column pixles"):
        cube.rows(np.array([0]), ["pixles"])
    assert cube.rows(np.array([7, 2]), ["id", "epsg"])["id"].to_pylist() == [cube.stored("id")[7], cube.stored("id")[2]]
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    items = pq.read_table(copy / "items" / "items.geoparquet")
    rows = items["pwcat:row"].to_numpy()
    swapped = pa.array(np.where(rows < 2, 1 - rows, rows))
    at = items.column_names.index("pwcat:row")
    pq.write_table(items.set_column(at, "pwcat:row", swapped), copy / "items" / "items.geoparquet")
    with pytest.raises(CatalogError, match=r"row group 0 holds other samples than the items say"):
        open_catalog(copy).search().read(np.arange(80))
    (copy / "stats" / "diversity.json").write_text('{"num_samples": 3}')
    with pytest.raises(CatalogError, match=r"published by an older pwcat; publish it again"):
        open_catalog(copy)
    with pytest.raises(CatalogError, match=r"cannot be had from a published dataset: `pwcat pull`"):
        _ = open_catalog(folder).collection("europe").path
    with pytest.raises(CatalogError, match=r"xy://a: a catalog is opened from a folder or from s3://.*, hf://"):
        open_catalog("xy://a")


def test_a_split_of_its_own_is_published_with_its_hash(original, tmp_path):
    again = block_split(original.search(collections="europe"), val_fraction=0.4, block_km=100)
    opened = open_catalog(build_dataset_folder(again, tmp_path / "published"))
    assert opened.search().hash == again.hash
    assert opened.search(split="val").hash == again.split("val").hash
    assert opened.search().hash != original.search(collections="europe").hash


def test_a_saved_subset_finds_its_publication_again(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "a" / "both")
    some = open_catalog(tmp_path / "a" / "both").search(split="train")
    some.save(tmp_path / "a" / "some.parquet")
    (tmp_path / "a").rename(tmp_path / "b")
    again = load_subset(tmp_path / "b" / "some.parquet")
    assert again.hash == some.hash
    assert len(again.collections) == 2
    assert again.read(np.arange(2)).any()


def test_a_publication_and_its_original_are_compared_sample_by_sample(original, folder, tmp_path):
    here, there = original.search(split="train"), open_catalog(folder).search()
    assert (there & here).hash == here.hash
    assert (there - here).hash == original.search(split="val").hash
    part = build_dataset_folder(original.search(collections="europe").only(np.arange(5)), tmp_path / "part")
    with pytest.raises(CatalogError, match=r"both have a collection 'europe', and these differ"):
        _ = here - open_catalog(part).search()


def _count_in_a_fork(subset, answers):
    answers.put(len(subset.columns(["div:biome"])))


def test_a_forked_process_asks_for_itself(folder):
    subset = open_catalog(folder).search()
    answers = (context := multiprocessing.get_context("fork")).Queue()
    child = context.Process(target=_count_in_a_fork, args=(subset, answers))
    child.start()
    assert answers.get(timeout=60) == len(subset)
    child.join()


# One process: the client reads HF_ENDPOINT when it is imported, and to start it takes longer than all that it does here.
FAR = """
import json, sys, warnings
warnings.simplefilter("error")
import numpy as np
from click.testing import CliRunner
from catalog.query import open_catalog
from catalog.subset import load_subset
from pwcat.cli import cli

def say(what, **told):
    print(json.dumps({"what": what, **told}), flush=True)

tiny, work = sys.argv[1:3]
original, far = open_catalog(tiny), open_catalog("hf://datasets/lab/both@v1")
store = far.place.store
say("opened", address=str(far.place), collections=far.collections)
found = far.search()
say("searched", same=found.hash == original.search().hash, stats=found.stats() == original.search().stats())
before = store.bytes
lazy = found.open()
say("lazy", bytes=store.bytes - before)
few = found.only(np.array([1, 2]))
group, = far.collection("europe").cube.row_groups(few.index)
before = store.bytes, store.requests
same = np.array_equal(few.open().chips.values, original.search().read(np.array([1, 2])))
say("few", same=same, bytes=store.bytes - before[0], requests=store.requests - before[1], group=group.bytes)
say("batch", ids=[found.dataset()[row]["id"] for row in (0, 79)], known=list(original.search().column("id")[[0, 79]]))
found.save(work + "/found.parquet")
say("again", same=load_subset(work + "/found.parquet").hash == found.hash)

large = open_catalog("hf://lab/large")
counts = large.collection("everywhere").stats["statistics"]["biome"]["counts"]
some = large.search(biome=min(counts, key=counts.get))
say("sorted", bytes=large.place.store.bytes, samples=len(some))

zarr = open_catalog("hf://datasets/lab/both-zarr")
whole = zarr.search()
same = whole.open().compute().identical(original.search().open().compute())
rows = np.array([70, 3, 3, 41, 0])
alike = np.array_equal(whole.read(rows), original.search().read(rows))
say("zarr", same=same, alike=alike, hash=whole.hash == original.search().hash)

say("ready")
sys.stdin.readline()
hard = open_catalog("hf://datasets/lab/both@v1").search(continent="Europe")
say("faults", same=np.array_equal(hard.read(np.array([5])), original.search(continent="Europe").read(np.array([5]))))
told = CliRunner().invoke(cli, ["search", "hf://lab/both@v1", "--split", "val", "--json"], catch_exceptions=False)
say("cli", matched=json.loads(told.stdout)["matched"], known=len(original.search(split="val")))
"""


def test_a_repository_is_searched_and_read_by_ranges(fresh, hub, tmp_path, tiny_catalog, folder, large):
    hub.cdn = True  # large files come from another host, which refuses who shows it a token
    hub.add_repo("datasets", "lab/both", files_of(folder), tags=["v1"])
    hub.add_repo("datasets", "lab/large", files_of(large))
    hub.add_repo("datasets", "lab/both-zarr", files_of(tiny_catalog))
    process = fresh(FAR, tiny_catalog, tmp_path, wait=False)
    told = {}
    while "ready" not in told:
        line = json.loads(process.stdout.readline() or pytest.fail(process.communicate()[1]))
        told[line.pop("what")] = line
        if "opened" in told and len(told) == 1:  # somebody publishes another release meanwhile
            hub.commit("datasets", "lab/both", {"stats/diversity.json": b"{}", "items/items.geoparquet": b"none"})
    assert not hub.calls("GET", "/main/")
    hub.fail("GET:/revision/:429:1,GET:diversity.json:503:1,GET:/cdn/:truncate:1,GET:/tree/:drop:1")
    out, err = process.communicate("go\n", timeout=100)
    assert process.returncode == 0, err
    told |= {line.pop("what"): line for line in map(json.loads, out.splitlines())}
    commit = hub.repos["datasets", "lab/both"].tags["v1"]
    assert told["opened"] == {
        "address": f"hf://datasets/lab/both@{commit}", "collections": ["europe", "everywhere"]
    }  # fmt: skip
    assert told["searched"] == {"same": True, "stats": True}
    pixels = 80 * 12 * 32 * 32 * 2
    assert told["lazy"]["bytes"] < pixels / 2  # footers, and columns of the items
    assert told["few"]["same"]
    assert told["few"]["bytes"] - told["few"]["group"] < 200_000  # that row group, and what says where it lies
    assert told["few"]["requests"] <= 4
    assert told["batch"]["ids"] == told["batch"]["known"]
    assert told["again"]["same"]
    assert told["sorted"]["samples"] % 1000 == 0
    assert told["sorted"]["bytes"] < 0.3 * (large / "items" / "items.geoparquet").stat().st_size
    assert told["zarr"] == {"same": True, "alike": True, "hash": True}
    assert told["faults"]["same"]
    assert told["cli"]["matched"] == told["cli"]["known"] > 0
    assert "trying again" in err
    assert "hf_loopback" not in out + err


REFUSED = """
import json, os, sys
from catalog.query import open_catalog
from pwcat.errors import CatalogError

for token, address in json.loads(sys.argv[1]):
    os.environ.pop("HF_TOKEN", None)
    if token:
        os.environ["HF_TOKEN"] = token
    try:
        open_catalog(address).search()
        print("opened")
    except CatalogError as exc:
        print(exc)
if sys.argv[2:]:
    for name in [name for name in sys.modules if name.startswith(("huggingface_hub", "publish"))]:
        del sys.modules[name]
    sys.modules["huggingface_hub"] = None
    try:
        open_catalog("hf://lab/both")
    except CatalogError as exc:
        print(exc)
"""


def test_what_cannot_be_opened_is_said_in_a_line(fresh, hub, folder):
    files = files_of(folder)
    small = {name: data for name, data in files.items() if not name.startswith("data/")}
    for name, private in {"both": False, "private": True, "gated": False}.items():
        hub.add_repo("datasets", f"lab/{name}", small, private=private)
    hub.repos["datasets", "lab/gated"].gated = "manual"
    hub.add_repo("datasets", "lab/other", {"README.md": b"# other\n"})
    hub.add_repo("datasets", "lab/inside", {f"a b/ü/{name}": data for name, data in small.items()})
    hub.fail("GET:items.geoparquet:400:1")
    good, stranger = hub_tokens(hub)
    asked = {
        (good, "hf://lab/both@main"): "could not read items/items.geoparquet of hf://datasets/lab/both@",
        (None, "hf://lab/none"): "no dataset lab/none on the Hub, or it is private and there is no token: set HF_TOKEN",
        (None, "hf://datasets/lab/private"): "it is private and there is no token: set HF_TOKEN or run `hf auth login`",
        (stranger, "hf://lab/private"): "this token may not read it: it may be private",
        (good, "hf://lab/private"): "opened",
        (stranger, "hf://lab/gated"): "lab/gated is gated: ask for access on its page with this token's account",
        (None, "hf://lab/gated"): "lab/gated is gated: ask for access on its page with your account, and set HF_TOKEN",
        (good, "hf://lab/gated"): "opened",
        ("hf_wrong", "hf://lab/both"): "the Hub refuses the token; set HF_TOKEN anew",
        (good, "hf://lab/both@v9"): "hf://lab/both@v9: lab/both has no such branch, tag or commit",
        (good, "hf://lab/other"): "no catalog there: neither collection.json nor a folder that has one, nor a published",
        (good, "hf://lab/both/nowhere"): "/nowhere: no catalog there",
        (good, "hf://lab/inside/a b/ü"): "opened",
        (good, "hf://models/lab/both"): "no address of a dataset on the Hub: hf://datasets/org/name is wanted",
        (good, "hf://lab"): "no address of a dataset on the Hub",
    }  # fmt: skip
    lines = fresh(REFUSED, json.dumps(list(asked)), "without").splitlines()
    for (question, wanted), line in zip(asked.items(), lines, strict=False):
        assert wanted in line, question
    assert len(lines) == len(asked) + 1  # one line each
    assert "the module huggingface_hub is needed, which is not installed: `pip install 'pwcat[publish]'`" in lines[-1]
    assert not any(token in "\n".join(lines) for token in (good, stranger, "hf_wrong"))


def hub_tokens(hub):
    by_right = {right: token for token, right in hub.tokens.items()}
    return by_right["write"], by_right["stranger"]


def test_addresses_of_other_stores_are_opened_without_the_hub(tmp_path):
    assert isinstance(open_place("https://example.org/catalog"), RemoteFolder)
    assert open_place(tmp_path).name == Path(tmp_path).name
