"""The bytes of a dataset's folder: whose they are, how they are cut, what becomes of them when a build fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

import publish.shards
from catalog.published.layout import ITEMS_PATH
from catalog.query import open_catalog
from catalog.subset import load_subset
from publish.borders import class_runs, halves, place_keys, runs_within
from publish.dataset import build_dataset_folder
from publish.decode import decode
from publish.describing.facts import dataset_facts
from publish.folders import building
from publish.shards import Layout, plan_shards, split_names, write_shards
from pwcat.cube import CubeSpec, SensorBand, create_cube, encode_shard, open_cube, write_coordinates, write_shard
from pwcat.errors import PublishError
from pwcat.sites.columns import hilbert_order

CHIP_BYTES = 12 * 32 * 32 * 2


@pytest.fixture(scope="module")
def both(tiny_catalog):
    """80 samples of two collections, with a split of their own."""
    subset = open_catalog(tiny_catalog).search()
    return subset.with_split(np.array(["train", "val", "train", "test"] * 20, dtype=object))


@pytest.fixture(scope="module")
def both_folder(both, tmp_path_factory):
    layout = Layout(shard_bytes=8 * CHIP_BYTES, row_group_bytes=3 * CHIP_BYTES)
    return build_dataset_folder(both, tmp_path_factory.mktemp("published") / "both", layout=layout)


def written(subset, folder, layout=None):
    folder.mkdir()
    shards = plan_shards(subset, layout=layout or Layout())
    return write_shards(subset, folder, shards, advance=lambda samples: None)


def test_items_are_those_of_the_catalogs_to_the_bit_and_lead_to_their_chips(both, both_folder):
    items = pq.read_table(both_folder / ITEMS_PATH)
    for name in both.table.column_names:
        if name not in ("pwcat:index", "collection"):
            assert items[name].equals(both.table[name]), name
    assert items["pwcat:collection"].equals(both.table["collection"])
    assert items["pwcat:index"].to_pylist() == list(range(80))
    for row in items.to_pylist():
        shard = pq.ParquetFile(both_folder / row["pwcat:shard"]).read(["id", "collection", "lon"])
        there = shard.slice(row["pwcat:row"], 1).to_pylist()[0]
        assert there == {"id": row["id"], "collection": row["pwcat:collection"], "lon": row["proj:centroid"]["lon"]}
        assert row["pwcat:shard"].startswith(f"data/{row['pwcat:split']}-")


def test_items_can_be_filtered_by_their_boxes_and_their_statistics_say_where_they_lie(both, both_folder):
    path = both_folder / ITEMS_PATH
    found = duckdb.sql(f"SELECT id FROM read_parquet('{path}') WHERE bbox.xmin > 0 AND bbox.ymin > 0").fetchall()
    box = both.table["bbox"].to_pylist()
    ids = both.table["id"].to_pylist()
    assert (
        {row[0] for row in found}
        == {one for one, b in zip(ids, box, strict=True) if b["xmin"] > 0 and b["ymin"] > 0}
        != set()
    )
    metadata = pq.read_metadata(path)
    geo = json.loads(metadata.metadata[b"geo"])
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    group = metadata.row_group(0)
    xmin = next(group.column(k) for k in range(group.num_columns) if group.column(k).path_in_schema == "bbox.xmin")
    assert xmin.statistics.min == min(b["xmin"] for b in box)


def test_files_of_every_split_are_equal_however_many_threads_write_them(both, both_folder, tmp_path, monkeypatch):
    layout = Layout(shard_bytes=8 * CHIP_BYTES, row_group_bytes=3 * CHIP_BYTES)
    assert split_names(both) == ["train", "val", "test"]
    monkeypatch.setattr(publish.shards, "MOST_THREADS", 1)
    for path in written(both, tmp_path / "one", layout):
        assert (tmp_path / "one" / path).read_bytes() == (both_folder / path).read_bytes()


def test_rows_of_several_collections_lie_in_the_order_of_places_together_biome_by_biome(both, both_folder):
    for split in split_names(both):
        paths = sorted((both_folder / "data").glob(f"{split}-*"))
        before = -1
        for path in paths:
            rows = pq.read_table(path, columns=["lon", "lat", "collection", "biome"])
            keys = place_keys(np.column_stack([rows["lon"], rows["lat"]])).astype(np.int64)
            assert keys.min() >= before, split
            before = keys.max()
            names = rows["biome"].to_pylist()
            assert all(
                (names[i - 1] is None, names[i - 1] or "", keys[i - 1]) <= (names[i] is None, names[i] or "", keys[i])
                for i in range(1, len(keys))
            )
    assert len(set(rows["collection"].to_pylist())) == 2


def test_cuts_are_at_borders_of_cells_and_stay_where_others_come():
    rng = np.random.default_rng(0)
    lonlat = np.column_stack([rng.uniform(-180, 180, 4000), np.rad2deg(np.arcsin(rng.uniform(-1, 1, 4000)))])
    box = np.column_stack([rng.uniform(10, 20, 40), rng.uniform(40, 50, 40)])

    def runs(places, cut):
        keys = np.sort(place_keys(places))
        ends = [stop for _, stop in cut(keys)]
        return {tuple(part.tolist()) for part in np.split(keys, ends[:-1])}

    before, after = lonlat, np.concatenate([lonlat, box])
    assert list(np.argsort(place_keys(before), kind="stable")) == list(hilbert_order(before))
    files = runs(before, lambda keys: halves(keys, 5))
    assert len(files) == 32
    assert sum(map(len, files)) == 4000
    assert max(map(len, files)) < 3 * min(map(len, files))
    assert len(files & runs(after, lambda keys: halves(keys, 5))) >= 28
    groups = runs(before, lambda keys: runs_within(keys, 50))
    assert max(map(len, groups)) <= 50
    assert len(groups & runs(after, lambda keys: runs_within(keys, 50))) >= 0.9 * len(groups)
    assert list(runs_within(np.zeros(5, np.uint32), 2)) == [(0, 2), (2, 3), (3, 5)]  # all at one place
    assert list(runs_within(np.zeros(0, np.uint32), 2)) == []
    assert halves(np.zeros(4, np.uint32), 2) == [(0, 1), (1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize(
    ("counts", "runs"),
    [
        ([2, 3, 1], [(0, 5), (5, 6)]),  # small ones share, as long as there is room
        ([2, 9, 1, 1], [(0, 2), (2, 6), (6, 11), (11, 13)]),  # a large one has runs of its own
        ([5, 5], [(0, 5), (5, 10)]),
        ([1], [(0, 1)]),
        ([], []),
    ],
)
def test_row_groups_are_of_one_class_where_it_is_large_enough(counts, runs):
    classes = np.repeat(np.arange(len(counts)), counts)
    assert list(class_runs(classes, np.arange(len(classes), dtype=np.uint32), 5)) == runs


def test_a_chip_less_changes_the_bytes_around_it_alone(everywhere, tmp_path):
    written(everywhere.split("train"), tmp_path / "all")
    written(everywhere.split("train").only(np.delete(np.arange(36), 17)), tmp_path / "less")
    whole, less = (next((tmp_path / name / "data").iterdir()).read_bytes() for name in ("all", "less"))
    step = 1024
    blocks = [less[start : start + step] for start in range(0, len(less) - step, step)]
    assert sum(block in whole for block in blocks) > 0.85 * len(blocks)


BUILD = """
import os, resource, signal, sys
from catalog.subset import load_subset
from publish.dataset import build_dataset_folder
from pwcat.errors import PublishError

subset, out = load_subset(sys.argv[1]), sys.argv[2]
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    build_dataset_folder(subset, out)
except PublishError as exc:
    print(exc, flush=True)
print(os.listdir(os.path.dirname(out)), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
build_dataset_folder(subset, out, progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_full_disk_is_told_in_a_line_and_a_killed_build_leaves_no_folder_and_is_cleaned_up(tiny_catalog, tmp_path):
    root = tmp_path / "out"
    root.mkdir()
    command = [sys.executable, "-c", BUILD, tiny_catalog / "europe", root / "europe"]
    done = subprocess.run(command, capture_output=True, text=True)
    told, left = done.stdout.splitlines()
    assert f"{root / 'europe'} was not built: File too large below {root}; free some" in told
    assert left == "[]"
    assert done.returncode == -signal.SIGKILL
    (stale,) = root.iterdir()
    assert stale.name.startswith(".europe.")
    others = [
        root / ".europe.notes.partial",
        root / f".europe.x-{os.getpid()}.00000000.partial",
        root / ".asia.h-1.00000000.partial",
    ]
    for other in others:  # not of a build of this folder, or of one that goes on
        other.mkdir()
    folder = build_dataset_folder(load_subset(tiny_catalog / "europe"), root / "europe")
    assert sorted(root.iterdir()) == sorted([folder, *others])


def test_a_folder_that_was_being_replaced_when_the_build_was_killed_comes_back(dataset_folder, tmp_path):
    host_and_dead = f"{os.uname().nodename.replace('-', '_').replace('.', '_')}-{2**22 + 1}"
    shutil.copytree(dataset_folder, tmp_path / f".mine.{host_and_dead}.0123abcd.partial")
    with pytest.raises(RuntimeError, match="no luck"), building(tmp_path / "mine"):
        raise RuntimeError("no luck")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "MANIFEST.json").read_bytes() == (dataset_folder / "MANIFEST.json").read_bytes()


def test_samples_without_a_split_and_chips_too_large_for_a_row_are_refused(everywhere, monkeypatch):
    some = everywhere.with_split(np.array(["train"] * 47 + [None], dtype=object))
    with pytest.raises(PublishError, match="1 samples are of no split, and would be in no file"):
        plan_shards(some, layout=Layout())
    monkeypatch.setattr(publish.shards, "MOST_CHIP_BYTES", 1000)
    with pytest.raises(PublishError, match=r"chips of \(1, 12, 32, 32\) are 24,576 bytes, and a row .* at most 1,000"):
        plan_shards(everywhere, layout=Layout())


@pytest.fixture
def series(tiny_catalog, tmp_path):
    """Samples whose chips are one pixel on three dates, with a sensor's bands, and ids that are no ASCII."""
    folder = shutil.copytree(tiny_catalog / "europe", tmp_path / "europe")
    cube = open_cube(folder / "cube.zarr")
    old, dates = cube.to_xarray().load(), cube.num_samples
    shutil.rmtree(folder / "cube.zarr")
    spec = CubeSpec(num_samples=dates, num_times=3, bands=("B02", "vv"), size_px=1, shard_size=16)
    radar = SensorBand(sensor="s1", scale=0.01, offset=-50.0, unit="dB", gsd_m=10.0)
    create_cube(folder / "cube.zarr", spec, attributes=cube.attrs, sensors=[radar])
    for shard in range(spec.num_shards):
        rows = np.arange(shard * 16, min(dates, (shard + 1) * 16))
        write_shard(
            folder / "cube.zarr",
            shard,
            encode_shard(spec, shard, np.repeat(rows, 6).reshape(-1, 3, 2, 1, 1).astype("u2")),
        )
    moments = old["datetime"].values.astype("datetime64[s]").astype("i8") + np.arange(3) * 86_400
    write_coordinates(folder / "cube.zarr", {"datetime": moments})
    items = pq.read_table(folder / "items.parquet")
    ids = pa.array([f"épreuve-{k:02d}-雪" for k in range(len(items))])
    pq.write_table(items.set_column(items.column_names.index("id"), "id", ids), folder / "items.parquet")
    return load_subset(folder)


def test_series_of_one_pixel_with_sensors_and_ids_in_any_script(series, tmp_path):
    written(series, tmp_path / "series")
    rows = [row for path in sorted((tmp_path / "series" / "data").iterdir()) for row in pq.read_table(path).to_pylist()]
    by_id = {row["id"]: row for row in rows}
    assert set(by_id) == set(series.column("id"))
    for sample, index in zip(series.column("id"), series.index, strict=True):
        row = by_id[sample]
        assert decode(row).tolist() == [[[[index]], [[index]]]] * 3
        assert (row["sensors"], row["scales"], row["units"]) == (["", "s1"], [0.0001, 0.01], ["1", "dB"])
        assert np.diff(row["datetimes"]).tolist() == [row["datetimes"][1] - row["datetimes"][0]] * 2
        assert row["datetimes"][0] == row["datetime"]
    assert dataset_facts(series, repo=None, release=None).interval == tuple(
        f"{pick(date for row in rows for date in row['datetimes']):%Y-%m-%dT%H:%M:%SZ}" for pick in (min, max)
    ), "of all dates of all samples, not of the first ones"
    one = series.only(np.array([3]))
    written(one, tmp_path / "one")
    assert [path.name.split("-", 1)[1] for path in (tmp_path / "one" / "data").iterdir()] == ["00000-of-00001.parquet"]


def test_rows_are_decoded_from_python_and_arrow_and_never_from_formats_that_cut_zeros(tmp_path):
    chip = np.array([[1, 2], [513, 0]], dtype="<u2").reshape(1, 1, 2, 2)
    rows = Dataset.from_list([{"id": "a", "pixels": chip.tobytes(), "dtype": "<u2", "shape": list(chip.shape)}])
    np.testing.assert_array_equal(decode(rows[0]), chip)
    np.testing.assert_array_equal(decode(rows.with_format("arrow")[0]), chip)
    table = pa.table(rows.data.table)
    np.testing.assert_array_equal(decode({name: table[name][0] for name in table.column_names}), chip)
    for name in ("numpy", "torch"):
        with pytest.raises(
            PublishError, match=r'read the rows without with_format\("numpy"\) or with_format\("torch"\)'
        ):
            decode(rows.with_format(name)[0])
    whole = {
        "pixels": np.bytes_(b"\1\1"),
        "dtype": "<u2",
        "shape": [1],
    }  # none of its zeros is lost; the next row's would be
    with pytest.raises(PublishError, match="the pixels of this row are bytes_, but plain bytes are due"):
        decode(whole)
    for wrong in ("object", "U4", "nonsense", "M8[s]"):
        with pytest.raises(PublishError, match=f"said to be '{wrong.replace('[', '.').replace(']', '.')}'"):
            decode({**rows[0], "dtype": wrong})
    with pytest.raises(PublishError, match="decode takes one row at a time, and this table has 2"):
        decode(pa.concat_tables([table, table]))
    with pytest.raises(PublishError, match="this one lacks dtype, shape"):
        decode({"pixels": b""})
