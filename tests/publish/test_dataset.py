from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace

import geopandas as gpd
import mlcroissant
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
import stac_geoparquet
import yaml
from PIL import Image

from catalog.published.layout import ITEMS_PATH, PREVIEW_PATH
from catalog.query import open_catalog
from publish.dataset import build_dataset_folder, publish_dataset
from publish.decode import decode
from publish.describing.cards import hub_license, size_category
from publish.describing.facts import dataset_facts, describe_sampling, public_recipe
from publish.manifest import MANIFEST, read_manifest
from publish.shards import Layout, plan_shards
from pwcat.errors import PublishError

TRAIN, VAL = "data/train-00000-of-00001.parquet", "data/val-00000-of-00001.parquet"


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def front_matter(folder):
    text = (folder / "README.md").read_text()
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, flags=re.DOTALL)[1])


def test_the_same_subset_gives_the_same_bytes_and_a_whole_folder_is_not_built_again(
    everywhere, dataset_folder, tmp_path
):
    again = build_dataset_folder(everywhere, tmp_path / "again")
    assert contents(again) == contents(dataset_folder)
    before = (again / TRAIN).stat().st_mtime_ns
    build_dataset_folder(everywhere, again)
    assert (again / TRAIN).stat().st_mtime_ns == before
    (again / TRAIN).write_bytes(b"cut")
    build_dataset_folder(everywhere, again)
    assert contents(again) == contents(dataset_folder)


def test_pixels_and_columns_are_those_of_the_cube_to_the_bit(everywhere, dataset_folder):
    rows = pa.concat_tables([pq.read_table(dataset_folder / path) for path in (TRAIN, VAL)]).to_pylist()
    assert len(rows) == len(everywhere)
    by_id = {row["id"]: row for row in rows}
    cube = everywhere.collections[0].cube
    chips = everywhere.read(np.arange(len(everywhere)))
    times = cube.to_xarray()["datetime"].values[everywhere.index]
    for i, item in enumerate(everywhere.table.to_pylist()):
        row = by_id[item["id"]]
        np.testing.assert_array_equal(decode(row), chips[i])
        assert [np.datetime64(moment.replace(tzinfo=None)) for moment in row["datetimes"]] == list(times[i])
        assert (row["biome"], row["landcover"]) == (item["div:biome"], item["div:landcover"])
        assert (row["lon"], row["lat"]) == (item["proj:centroid"]["lon"], item["proj:centroid"]["lat"])
        assert f"EPSG:{row['epsg']}" == item["proj:code"]
        assert row["transform"] == item["proj:transform"]
        assert row["scene_ids"] == item["pwcat:scene_ids"]
        assert row["license"] == "CC0-1.0"


def test_decoding_gives_a_writable_array_and_refuses_shortened_bytes(everywhere):
    chip = np.array([1, 2, 0, 256], dtype="<u2").reshape(1, 1, 2, 2)
    row = {"id": "a", "pixels": chip.tobytes(), "dtype": "<u2", "shape": [1, 1, 2, 2]}
    out = decode(row)
    out += 1
    np.testing.assert_array_equal(out, chip + 1)
    with pytest.raises(PublishError, match=r"the pixels of a are 7 bytes, but .* are 8 bytes: read the rows without"):
        decode({**row, "pixels": bytes(np.bytes_(chip.tobytes()[:7]))})
    with pytest.raises(PublishError, match="are list, but"):
        decode({**row, "pixels": [1, 2, 0, 256]})


def train_rows(subset):
    return np.flatnonzero(subset.column("pwcat:split") == "train")


def test_shards_keep_the_order_and_come_in_multiples_of_eight(everywhere, tmp_path):
    chip_bytes = 2 * int(np.prod(everywhere.chip_shape))
    layout = Layout(shard_bytes=4 * chip_bytes, row_group_bytes=3 * chip_bytes)
    shards = plan_shards(everywhere, layout=layout)
    train = [shard for shard in shards if shard.split == "train"]
    num_train = everywhere.split("train").table.num_rows
    assert len(train) == 16  # 38 samples at 4 a shard are 10 shards, and 16 is the next multiple of 8
    assert sum(len(shard.rows) for shard in train) == num_train
    assert np.array_equal(np.concatenate([np.sort(shard.rows) for shard in train]), np.sort(train_rows(everywhere)))
    biomes = everywhere.column("div:biome")
    for (
        shard
    ) in train:  # biome by biome, and along the curve, which is the subset's own order, within each: few row groups
        named = [(name is None, name or "", row) for name, row in zip(biomes[shard.rows], shard.rows, strict=True)]
        assert named == sorted(named)
    folder = build_dataset_folder(everywhere, tmp_path / "many", layout=layout)
    for shard in shards:
        metadata = pq.read_metadata(folder / shard.path)
        assert metadata.num_rows == len(shard.rows)
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        assert max(group.num_rows for group in groups) <= 3
        assert groups[0].column(1).path_in_schema == "pixels"
        assert not groups[0].column(1).is_stats_set
        assert groups[0].column(0).has_column_index
    largest = plan_shards(everywhere, layout=replace(layout, max_shards=8))
    assert {shard.count for shard in largest if shard.split == "train"} == {8}


def test_items_lead_to_the_chip_of_each_sample_and_are_valid_stac(everywhere, dataset_folder):
    items = gpd.read_parquet(dataset_folder / ITEMS_PATH)
    assert items.crs == "OGC:CRS84"
    assert len(items) == len(everywhere)
    for _, item in items.iterrows():
        chip = pq.read_table(dataset_folder / item["pwcat:shard"], columns=["id"])
        assert chip["id"][item["pwcat:row"]].as_py() == item["id"]
    table = pq.read_table(dataset_folder / ITEMS_PATH)
    first = next(iter(stac_geoparquet.arrow.stac_table_to_items(table)))
    collection = json.loads((dataset_folder / "stac/collection.json").read_text())
    assert first["collection"] == collection["id"] == "everywhere"
    assert first["assets"]["chips"]["href"].startswith("../data/")
    for document, kind in ((first, pystac.Item), (collection, pystac.Collection)):
        core = kind.from_dict({**document, "stac_extensions": []})
        core.validate()
    times = everywhere.table["datetime"].to_pandas()
    interval = [times.min().strftime("%Y-%m-%dT%H:%M:%SZ"), times.max().strftime("%Y-%m-%dT%H:%M:%SZ")]
    assert collection["extent"]["temporal"]["interval"] == [interval]
    np.testing.assert_allclose(collection["extent"]["spatial"]["bbox"][0], items.total_bounds)
    documents = {"items", "statistics", "map-picture", "atlas", "croissant", "recipe-everywhere", "preview"}
    assert set(collection["assets"]) == {*documents, "train-00000", "val-00000"}


def test_the_preview_shows_true_colour_and_chips_too_small_have_none(everywhere, dataset_folder):
    preview = pq.read_table(dataset_folder / PREVIEW_PATH)
    assert preview["id"].to_pylist() == everywhere.table["id"].to_pylist()
    image = np.asarray(Image.open(io.BytesIO(preview["thumbnail"][0].as_py()["bytes"])))
    chip = everywhere.read(np.array([0]))[0, 0]
    red = chip[everywhere.bands.index("B04")]
    np.testing.assert_array_equal(image[..., 0], np.round(np.clip(red / np.float32(3000), 0, 1) * 255))


def test_a_split_or_label_that_is_not_there_is_left_out_or_null(everywhere, tmp_path):
    nothing = pa.chunked_array([pa.nulls(len(everywhere), pa.string())])
    own = dict.fromkeys(("div:continent", "div:biome"), nothing)
    unlabelled = replace(everywhere, own=own, _kept={}).split("train")
    folder = build_dataset_folder(unlabelled, tmp_path / "train-only")
    assert [path.name for path in (folder / "data").iterdir()] == ["train-00000-of-00001.parquet"]
    rows = pq.read_table(folder / TRAIN, columns=["biome", "continent", "landcover"])
    assert rows["biome"].null_count == rows["continent"].null_count == len(unlabelled)
    assert rows["landcover"].null_count == 0
    card = (folder / "README.md").read_text()
    assert "(subset)" in card
    assert 'filters=[("landcover", "==", ' in card
    assert "| biomes |" not in card
    assert front_matter(folder)["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train-*-of-00001.parquet"}
    ]


def test_two_collections_together_name_both(tiny_catalog, tmp_path):
    from catalog.query import open_catalog

    both = open_catalog(tiny_catalog).search()
    folder = build_dataset_folder(both, tmp_path / "both", repo_id="lab/both", release="v2")
    card = (folder / "README.md").read_text()
    assert "\n# Europe and Everywhere, in miniature\n" in card
    assert "within the continent Europe" in card
    rows = pa.concat_tables([pq.read_table(path, columns=["collection"]) for path in (folder / "data").iterdir()])
    assert set(rows["collection"].to_pylist()) == {"everywhere", "europe"}
    assert "## v2" in (folder / "CHANGELOG.md").read_text()
    assert 'load_dataset("lab/both"' in card
    assert 'load_dataset("lab/both", split="train", revision="v2")' in card
    assert "Within each collection, the `val` samples lie in whole blocks of 20 km" in card


def test_the_card_says_what_was_recorded_and_names_no_folder_of_this_machine(everywhere, dataset_folder, tiny_catalog):
    front = front_matter(dataset_folder)
    assert front["license"] == "cc0-1.0"
    assert front["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in front["configs"]] == ["chips", "items", "preview"]
    assert front["configs"][0]["default"] is True
    assert all(set(info) == {"config_name", "features"} for info in front["dataset_info"])  # no num_examples
    card = (dataset_folder / "README.md").read_text()
    statistics = everywhere.stats()
    assert f"| continents | {statistics['continent']['shannon']:.3f} nats |" in card
    assert f"| spectrum | {statistics['spectral']['mean']:.3f} nats |" in card
    assert everywhere.hash in card
    for path, data in contents(dataset_folder).items():
        assert str(tiny_catalog.parent).encode() not in data, path
    recorded = json.loads((dataset_folder / "stats/diversity.json").read_text())
    assert recorded["statistics"] == json.loads(json.dumps(statistics))
    _, records = read_manifest(dataset_folder)
    assert records[ITEMS_PATH].rows == 48
    assert set(records) == set(contents(dataset_folder)) - {MANIFEST}


# rdflib, which mlcroissant reads JSON-LD with, warns of itself.
@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
def test_croissant_is_valid_and_reads_the_records(everywhere, dataset_folder, tmp_path):
    dataset = mlcroissant.Dataset(dataset_folder / "croissant.json")
    assert not dataset.metadata.issues.errors
    on_hub = build_dataset_folder(everywhere, tmp_path / "on-hub", repo_id="lab/everywhere", release="v1")
    published = mlcroissant.Dataset(on_hub / "croissant.json").metadata
    assert not published.issues.errors
    assert (published.url, published.version) == ("https://huggingface.co/datasets/lab/everywhere", "1")
    document = json.loads((dataset_folder / "croissant.json").read_text())
    assert document["geocr:bandConfiguration"]["geocr:bandNameList"] == list(everywhere.bands)
    assert document["geocr:spatialResolution"]["value"] == 10
    assert "uniformly by area" in document["geocr:samplingStrategy"]
    record = next(iter(dataset.records("chips")))
    first = pq.read_table(dataset_folder / TRAIN)[:1].to_pylist()[0]
    assert record["chips/id"] == first["id"].encode()
    assert record["chips/pixels"] == first["pixels"]


def test_what_fails_leaves_nothing_and_what_lies_there_is_not_overwritten(everywhere, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_dataset_folder(everywhere, tmp_path / "out", progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(PublishError, match=r"mine exists and is no publication \(no MANIFEST\.json\)"):
        build_dataset_folder(everywhere, tmp_path / "mine")
    with pytest.raises(PublishError, match="the subset has no samples"):
        build_dataset_folder(everywhere.select(np.array([], dtype=np.int64)), tmp_path / "none")
    with pytest.raises(PublishError, match=r"it is not said where to.*; private is for repositories; a tag is for"):
        publish_dataset(everywhere, private=True, tag="v1")
    with pytest.raises(PublishError, match="'tiny' is no name for a repository"):
        publish_dataset(everywhere, repo="tiny")


def test_a_dry_run_makes_nothing_and_says_how_much_it_would_be(everywhere, tmp_path):
    done = publish_dataset(everywhere, to=tmp_path / "out", dry_run=True)
    assert (done.files, done.bytes) == (2, 48 * 12 * 32 * 32 * 2)
    assert list(tmp_path.iterdir()) == []


def test_recipes_are_told_in_words_and_shown_without_absolute_paths(everywhere):
    facts = dataset_facts(everywhere, repo=None, release=None)
    assert describe_sampling(facts) == (
        "48 places for everywhere were drawn from seed 0, uniformly by area over the area that the source's scenes cover. "
        "Each place has one date between 2021-01-01 and 2024-12-31, from scenes with at most 60 % cloud."
    )
    shown = public_recipe({"a": {"path": "/home/me/x.fgb"}, "b": [{"path": "kept/x.fgb"}], "path": None})
    assert shown == {"a": {"path": "x.fgb"}, "b": [{"path": "kept/x.fgb"}], "path": None}
    inner = {
        "url": "https://u:s3cr3t@a.test/stac?api_key=s3cr3t",
        "fallback": [{"url": None}, {"url": "http://u:p@b.test"}],
    }
    assert public_recipe({"source": inner})["source"] == {
        "url": "https://a.test/stac",
        "fallback": [{"url": None}, {"url": "http://b.test"}],
    }


def test_a_sample_across_the_antimeridian_spans_the_circle(everywhere):
    def bbox_with(**changes):
        boxes = everywhere.table["bbox"].to_pylist()
        boxes[0] = {**boxes[0], **changes}
        column = pa.chunked_array([pa.array(boxes, everywhere.table.schema.field("bbox").type)])
        changed = replace(everywhere, _kept={"bbox": column})
        return dataset_facts(changed, repo=None, release=None).bbox

    assert bbox_with(xmin=-179.5, xmax=179.5)[::2] == (-179.5, 179.5)
    assert bbox_with(xmin=179.9, xmax=-179.9)[::2] == (-180, 180)


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        (["CC-BY-4.0"], {"license": "cc-by-4.0"}),
        (["ODbL-1.0"], {"license": "odbl"}),
        (["My-1.0"], {"license": "other", "license_name": "see-licenses", "license_link": "LICENSES.md"}),
        (["MIT", "CC0-1.0"], {"license": "other", "license_name": "see-licenses", "license_link": "LICENSES.md"}),
    ],
)
def test_licences_get_the_names_that_the_hub_knows(licenses, expected):
    assert hub_license(licenses) == expected


@pytest.mark.parametrize(
    ("n", "expected"), [(999, "n<1K"), (1000, "1K<n<10K"), (700_000, "100K<n<1M"), (2 * 10**7, "n>10M")]
)
def test_sizes_get_the_names_that_the_hub_knows(n, expected):
    assert size_category(n) == expected


def test_a_damaged_cube_is_not_published(tiny_catalog, tmp_path):
    root = shutil.copytree(tiny_catalog, tmp_path / "catalog")
    next((root / "europe" / "cube.zarr" / "chips" / "c").glob("0/0/0/0/0")).unlink()
    with pytest.raises(PublishError, match=r"1 shard\(s\) are missing or not what their ledger says"):
        build_dataset_folder(open_catalog(root).search(collections="europe"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
