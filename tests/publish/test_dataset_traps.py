"""What goes wrong with `datasets` and Parquet in other ways than ours, shown with the real library; and that ours avoids it.

Each trap is a function of its own; all of them run in one process that sees no network. Where a trap is no longer there, its
test fails: then the advice in docs/loading.md can go.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from catalog.published.layout import ITEMS_PATH
from publish.decode import decode
from publish.manifest import read_manifest
from publish.shards import DEFAULT_LAYOUT, Layout, plan_shards
from pwcat.errors import PublishError

# --- traps that need no network; functions of the fresh process ------------------------------------------------------


def told(ask):
    """The answer, or the error as ``"type: first line"``."""
    try:
        return ask()
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}".splitlines()[0]


def folder_of(root, name, readme=None, **files):
    """A folder to load: texts, tables as Parquet; ``__`` in a name stands for a slash, ``_dot_`` for a point."""
    from pyarrow import parquet

    folder = root / name
    for key, content in files.items():
        path = folder / key.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        else:
            parquet.write_table(content, path)
    if readme is not None:
        (folder / "README.md").write_text(f"---\n{readme}---\n")
    return str(folder)


def formats_of_bytes(root):
    import pyarrow as pa
    from datasets import load_dataset

    stored = bytes([1, 0, 2, 0, 0, 0, 0, 0])
    folder = folder_of(root, "bytes", a_dot_parquet=pa.table({"pixels": pa.array([stored], pa.binary())}))

    def first(format, streaming):
        rows = load_dataset(folder, split="train", streaming=streaming)
        return next(iter(rows.with_format(format) if format else rows))["pixels"]

    got = {f"{f} {s}": len(bytes(first(f, s))) for f in ("numpy", "torch", None) for s in (False, True)}
    rows = load_dataset(folder, split="train", streaming=True).with_format("arrow")
    return {**got, "arrow True": len(next(iter(rows))["pixels"][0].as_py())}


def types_of_arrays(root):
    import numpy as np
    import pyarrow as pa
    from datasets import Array3D, Dataset, Features, load_dataset

    def array(dtype):
        features = Features({"x": Array3D((2, 2, 2), dtype)})
        return Dataset.from_dict({"x": [np.ones((2, 2, 2), dtype)]}, features=features)

    array("uint16").to_parquet(root / "array3d.parquet")
    stream = load_dataset("parquet", data_files=str(root / "array3d.parquet"), split="train", streaming=True)
    fixed = pa.table({"x": pa.array([[1, 2]], pa.list_(pa.uint16(), 2))})
    tensor = pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((2, 2, 2), np.uint16))})
    fixed = load_dataset(folder_of(root, "fixed", a_dot_parquet=fixed), split="train")
    tensor = folder_of(root, "tensor", a_dot_parquet=tensor)
    return {
        "default": type(array("uint16")[0]["x"]).__name__,
        "uint16": str(array("uint16").with_format("numpy")[0]["x"].dtype),
        "uint16 asked for": str(array("uint16").with_format("numpy", dtype=np.uint16)[0]["x"].dtype),
        "float64": str(array("float64").with_format("numpy")[0]["x"].dtype),
        "uint16 streaming": str(next(iter(stream.with_format("numpy")))["x"].dtype),
        "asked for, streaming": told(lambda: stream.with_format("numpy", dtype=np.uint16)),
        "fixed size list": str(fixed.with_format("numpy")[0]["x"].dtype),
        "tensor": told(lambda: str(load_dataset(tensor, split="train"))),
        "tensor streaming": told(lambda: str(list(load_dataset(tensor, split="train", streaming=True)))),
    }


def tiffs_as_images(root):
    import numpy as np
    import rasterio
    from datasets import Dataset, Features, Image

    def mode(count, dtype, **options):
        path = root / f"{count}{dtype}.tif"
        pixels = (np.arange(count * 64).reshape(count, 8, 8) * 300).astype(dtype)
        with rasterio.open(path, "w", driver="GTiff", width=8, height=8, count=count, dtype=dtype, **options) as raster:
            raster.write(pixels)
        column = {"image": [{"bytes": path.read_bytes(), "path": None}]}
        image = Dataset.from_dict(column, features=Features({"image": Image()}))[0]["image"]
        return f"{image.mode} up to {np.asarray(image).max():g}, of {pixels.max():g}"

    return {
        "12 bands": told(lambda: mode(12, "uint16")),
        "3 bands": told(lambda: mode(3, "uint16", photometric="RGB")),
        "1 band": told(lambda: mode(1, "uint16")),
        "1 band of floats": told(lambda: mode(1, "float32")),
    }


def images_from_plain_parquet(root):
    import io
    import json

    import pyarrow as pa
    from datasets import load_dataset
    from PIL import Image

    png = io.BytesIO()
    Image.new("RGB", (4, 3)).save(png, format="PNG")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"thumbnail": pa.array([{"bytes": png.getvalue(), "path": None}], kind)})
    features = {"thumbnail": {"_type": "Image"}}
    named = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    info = "dataset_info:\n  features:\n  - name: thumbnail\n    dtype: image\n"
    folders = {
        "without": folder_of(root, "plain", a_dot_parquet=table),
        "schema metadata": folder_of(root, "metadata", a_dot_parquet=named),
        "card": folder_of(root, "card", info, a_dot_parquet=table),
    }
    return {
        name: type(load_dataset(folder, split="train")[0]["thumbnail"]).__name__ for name, folder in folders.items()
    }


def cards_that_mislead(root):
    import pyarrow as pa
    from datasets import load_dataset

    table = pa.table({"id": ["a", "b"], "lon": [1.0, 2.0]})
    one = "configs:\n- config_name: a\n  data_files: a.parquet\n"
    mixed = folder_of(
        root,
        "mixed",
        one + "- config_name: b\n  data_files: b.jsonl\n",
        a_dot_parquet=table,
        b_dot_jsonl='{"x": 1}\n',
    )
    stray = {f"docs__{name}_dot_md": name for name in "abc"}
    bare = folder_of(root, "stray", data__chips_dot_parquet=table, stats_dot_json="{}", **stray)
    told_well = folder_of(root, "told", one, a_dot_parquet=table, stats_dot_json="{}", **stray)
    info = "dataset_info:\n- config_name: a\n  features:\n  - name: id\n    dtype: string\n  - name: lon\n    dtype: float64\n"
    counts = "  splits:\n  - name: train\n    num_examples: 2\n    num_bytes: 32\n"
    counted = folder_of(root, "counted", one + info + counts, a_dot_parquet=table)
    features = folder_of(root, "features", one + info, a_dot_parquet=table)
    script = folder_of(root, "script", one, a_dot_parquet=table, script_dot_py="")
    some = {"split": "train", "filters": [("lon", ">", 1.5)]}
    return {
        "first of two": told(lambda: len(load_dataset(mixed, "a", split="train"))),
        "second of two": told(lambda: len(load_dataset(mixed, "b", split="train"))),
        "stray .md": told(lambda: len(load_dataset(bare)["train"])),
        "stray .md, configs told": told(lambda: len(load_dataset(told_well)["train"])),
        "num_examples": told(lambda: len(load_dataset(counted, **some))),
        "num_examples, columns": told(lambda: load_dataset(counted, split="train", columns=["id"]).column_names),
        "num_examples, no checks": told(lambda: len(load_dataset(counted, verification_mode="no_checks", **some))),
        "features alone": told(lambda: len(load_dataset(features, **some))),
        "script": told(lambda: len(load_dataset(script, split="train"))),
    }


def geoparquet(root):
    import geopandas
    import pyarrow.compute as pc
    import shapely
    from datasets import load_dataset

    folder = root / "geo"
    folder.mkdir()
    squares = [shapely.box(lon, 0, lon + 1, 1) for lon in (10, 100)]
    times = geopandas.pd.to_datetime(["2021-01-01", "2021-01-02"], utc=True)
    frame = geopandas.GeoDataFrame({"id": ["a", "b"], "datetime": times}, geometry=squares, crs=4326)
    frame.to_parquet(folder / "items.geoparquet", write_covering_bbox=True)
    rows = load_dataset(str(folder), split="train")
    east = load_dataset(str(folder), split="train", streaming=True, filters=pc.field("bbox", "xmin") > 50)
    return {
        "geometry": str(rows.features["geometry"]),
        "bbox": sorted(rows.features["bbox"]),
        "datetime": str(rows.features["datetime"].dtype),
        "wkb": shapely.from_wkb(rows[1]["geometry"]).bounds,
        "filtered": [row["id"] for row in east],
    }


def shards_and_resume(root):
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import load_dataset

    folder = root / "many"
    folder.mkdir()
    for i in range(12):
        rows = pa.table({"n": np.arange(8 * i, 8 * i + 8)})
        pq.write_table(rows, folder / f"train-{i:05d}-of-00012.parquet", row_group_size=2)

    def stream():
        return load_dataset(str(folder), split="train", streaming=True)

    def shuffled():
        return stream().shuffle(seed=0, buffer_size=10)

    def looked_at():
        rows = stream()
        next(iter(rows))
        return rows

    def resumed(make):
        rows = make()
        first = [row["n"] for _, row in zip(range(20), rows, strict=False)]
        again = make()
        again.load_state_dict(rows.state_dict())
        return first + [row["n"] for row in again]

    parts = [[row["n"] for row in shuffled().shard(4, i)] for i in range(4)]
    plain, lossy = resumed(stream), resumed(shuffled)
    return {
        "shards": [stream().num_shards, stream().reshard().num_shards, shuffled().num_shards],
        "balanced": [len(part) for part in parts],
        "each once": sorted(n for part in parts for n in part) == list(range(96)),
        "resumed": plain == list(range(96)),
        "lost by shuffle": len(set(range(96)) - set(lossy)),
        "workers": told(lambda: stateful_workers(stream)),
        "workers, shuffled": told(lambda: stateful_workers(shuffled)),
        "workers, looked at": told(lambda: stateful_workers(looked_at, stop=1)),
    }


def stateful_workers(make, stop=20):
    """Samples of 96 that are lost where two workers read, are stopped after some rows, and are resumed."""
    import contextlib
    import io

    from torchdata.stateful_dataloader import StatefulDataLoader

    def loader():
        return StatefulDataLoader(make(), batch_size=None, num_workers=2)

    first = loader()
    rows = [int(row["n"]) for _, row in zip(range(stop), first, strict=False)]
    again = loader()
    again.load_state_dict(first.state_dict())
    with contextlib.redirect_stderr(io.StringIO()):
        return 96 - len({*rows, *(int(row["n"]) for row in again)})


TRAPS = (
    formats_of_bytes,
    types_of_arrays,
    tiffs_as_images,
    images_from_plain_parquet,
    cards_that_mislead,
    geoparquet,
    shards_and_resume,
)
RUN = """
import json, sys, tempfile
from pathlib import Path
found = {}
for trap in TRAPS:
    with tempfile.TemporaryDirectory() as root:
        found[trap.__name__] = trap(Path(root))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each trap gives, by its name."""
    functions = [told, folder_of, stateful_workers, *TRAPS]
    names = ", ".join(trap.__name__ for trap in TRAPS)
    source = "\n".join([*map(inspect.getsource, functions), f"TRAPS = ({names})", RUN])
    keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    home = {"HF_HOME": str(tmp_path_factory.mktemp("home")), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    env = {**keep, **home, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run([sys.executable, "-c", source], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def card(dataset_folder):
    """The front matter of what we publish, and the text of its card."""
    _, front, text = (dataset_folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def tables(folder):
    """The schema of every table that is published."""
    _, records = read_manifest(folder)
    return {path: pq.read_schema(folder / path) for path, record in records.items() if record.rows is not None}


def test_numpy_and_torch_formats_cut_zero_bytes_off_and_decode_notices(found, card):
    lengths = found["formats_of_bytes"]
    assert {key: n for key, n in lengths.items() if key.startswith(("numpy", "torch"))} == {
        "numpy False": 3, "numpy True": 3, "torch False": 3, "torch True": 3,
    }  # fmt: skip
    assert {n for key, n in lengths.items() if key.startswith(("None", "arrow"))} == {8}
    chip = np.array([1, 2, 0, 0], "<u2")
    cut = bytes(np.array([chip.tobytes()])[0])
    with pytest.raises(PublishError, match=r'are 3 bytes, but .* are 8 bytes: read the rows without with_format\("num'):
        decode({"id": "a", "pixels": cut, "dtype": "<u2", "shape": [1, 1, 2, 2]})
    assert 'with_format("numpy")' in card[1]


def test_array_types_lose_their_dtype_or_do_not_load_and_we_store_bytes(found, dataset_folder):
    arrays = found["types_of_arrays"]
    assert arrays["default"] == "list"
    assert arrays["uint16"] == arrays["uint16 streaming"] == arrays["fixed size list"] == "int64"
    assert arrays["uint16 asked for"] == "uint16"
    assert arrays["float64"] == "float32"
    assert "with_format() got an unexpected keyword argument 'dtype'" in arrays["asked for, streaming"]
    assert "does not have a datasets dtype equivalent" in arrays["tensor"]
    assert "does not have a datasets dtype equivalent" in arrays["tensor streaming"]
    schemas = tables(dataset_folder)
    chips = [schema for path, schema in schemas.items() if path.startswith("data/")]
    assert all(pa.types.is_binary(schema.field("pixels").type) for schema in chips)
    assert all({"dtype", "shape"} <= set(schema.names) for schema in chips)
    kinds = {kind for schema in schemas.values() for field in schema for kind in nested(field.type)}
    assert not any(isinstance(kind, pa.BaseExtensionType | pa.FixedSizeListType | pa.MapType) for kind in kinds)


def nested(kind):
    """A type and all types in it."""
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return {kind}.union(*(nested(one) for one in inner))


def test_images_of_satellites_are_no_images_and_ours_are_png(found, dataset_folder, card):
    tiffs = found["tiffs_as_images"]
    assert tiffs["12 bands"].startswith("UnidentifiedImageError: cannot identify image file")
    assert tiffs["3 bands"] == "RGB up to 223, of 57300"  # eight of sixteen bits, without a word
    assert tiffs["1 band"] == "I;16 up to 18900, of 18900"
    assert tiffs["1 band of floats"] == "F up to 18900, of 18900"
    plain = found["images_from_plain_parquet"]
    assert plain == {"without": "dict", "schema metadata": "PngImageFile", "card": "PngImageFile"}
    features = {info["config_name"]: info["features"] for info in card[0]["dataset_info"]}
    assert {"name": "thumbnail", "dtype": "image"} in features["preview"]
    thumbnail = pq.read_table(dataset_folder / "preview/preview-00000-of-00001.parquet")["thumbnail"][0].as_py()
    assert io.BytesIO(thumbnail["bytes"]).read(4) == b"\x89PNG"


def test_cards_mislead_loaders_in_four_ways_and_ours_in_none(found, dataset_folder, card):
    cards = found["cards_that_mislead"]
    assert cards["first of two"] == 2
    assert "Parquet magic bytes not found" in cards["second of two"]
    assert cards["stray .md"] == "DataFilesNotFoundError: No task.toml or instruction.md files found"
    assert cards["stray .md, configs told"] == 2
    assert cards["num_examples"].startswith("NonMatchingSplitsSizesError")
    assert cards["num_examples, columns"] == ["id"]
    assert cards["num_examples, no checks"] == cards["features alone"] == 1
    assert cards["script"] == "RuntimeError: Dataset scripts are no longer supported, but found script.py"
    front, _ = card
    paths = [file["path"] for config in front["configs"] for file in config["data_files"]]
    assert all(path.endswith((".parquet", ".geoparquet")) for path in paths)
    assert sum(config.get("default", False) for config in front["configs"]) == 1
    assert {config["config_name"] for config in front["configs"]} == {i["config_name"] for i in front["dataset_info"]}
    assert not any("splits" in info for info in front["dataset_info"])
    names = {path.name for path in dataset_folder.rglob("*")}
    assert not names & {"task.toml", "instruction.md", "dataset_infos.json"}
    assert not [name for name in names if name.endswith((".py", ".jsonl", ".csv", ".tar", ".zip"))]


def test_geoparquet_reads_as_parquet_and_so_do_our_items(found, dataset_folder):
    geo = found["geoparquet"]
    assert geo["geometry"] == "Value('binary')"
    assert geo["bbox"] == ["xmax", "xmin", "ymax", "ymin"]
    assert geo["datetime"].startswith("timestamp[")
    assert "tz=UTC" in geo["datetime"]
    assert geo["wkb"] == [100, 0, 101, 1]
    assert geo["filtered"] == ["b"]
    items = pq.read_schema(dataset_folder / ITEMS_PATH)
    assert pa.types.is_binary(items.field("geometry").type)
    assert {field.name for field in items.field("bbox").type} == {"xmin", "ymin", "xmax", "ymax"}
    assert items.field("datetime").type.tz == "UTC"


def test_shards_are_files_resume_is_exact_without_shuffle_and_loses_samples_with_it(found, everywhere):
    got = found["shards_and_resume"]
    assert got["shards"] == [12, 48, 12]
    assert got["balanced"] == [24, 24, 24, 24]
    assert got["each once"]
    assert got["resumed"]
    assert got["lost by shuffle"] > 0  # should it be 0 one day, docs/loading.md can recommend the buffer
    assert got["workers"] == 0
    assert got["workers, looked at"] == 1  # the second worker had not begun, and takes what was looked at for done
    assert got["workers, shuffled"].startswith("IndexError: Caught IndexError in DataLoader worker process")
    chip_bytes = 2 * int(np.prod(everywhere.chip_shape))
    shards = plan_shards(everywhere, layout=Layout(shard_bytes=4 * chip_bytes))
    assert {shard.count % 8 for shard in shards if shard.count >= 8} == {
        0
    }  # as many for each of two, four or eight workers


# --- traps of reading by ranges -------------------------------------------------------------------------------------

ROWS, GROUPS, CHIP_BYTES = 160, 16, 150_000
ROW_GROUP_BYTES = CHIP_BYTES * ROWS // GROUPS
CARD = b"---\nconfigs:\n- config_name: a\n  data_files: a.parquet\n---\n"
BY_RANGES = """
from datasets import load_dataset
east, light = {"filters": [("lon", ">", 160)]}, {"columns": ["id", "lon"]}
small = {"storage_options": {"hf": {"block_size": 131_072}}}

def count(name, **options):
    return sum(1 for _ in load_dataset("lab/" + name, split="train", streaming=True, **options))

next(iter(load_dataset("lab/first", split="train", streaming=True)))
print(count("sorted", **east), count("shuffled", **east), count("blocks", **light), count("small", **light, **small))
"""


def chips_as_parquet(order):
    """A table of chips that do not compress, sixteen row groups."""
    rng = np.random.default_rng(0)
    pixels = pa.array([rng.bytes(CHIP_BYTES) for _ in range(ROWS)], pa.binary())
    lon = np.linspace(-180, 180, ROWS)[order]
    table = pa.table({"id": [f"{i:03d}" for i in range(ROWS)], "pixels": pixels, "lon": lon})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=ROWS // GROUPS, compression="none", use_dictionary=["id"])
    return buffer.getvalue()


def test_what_readers_fetch_over_http(hub, fresh):
    order = np.arange(ROWS)
    in_order, shuffled = chips_as_parquet(order), chips_as_parquet(np.random.default_rng(1).permutation(order))
    for name in ("sorted", "shuffled", "blocks", "small", "first"):
        content = shuffled if name == "shuffled" else in_order
        hub.add_repo("datasets", f"lab/{name}", {"README.md": CARD, "a.parquet": content})
    assert fresh(BY_RANGES).split() == ["9", "9", "160", "160"]
    sent = {name: hub.sent(f"lab/{name}/resolve") for name in ("sorted", "shuffled", "blocks", "small", "first")}
    whole = len(in_order)
    # Rows in order: one row group. Shuffled: most of them.
    assert ROW_GROUP_BYTES <= sent["sorted"] < 1.5 * ROW_GROUP_BYTES
    assert sent["shuffled"] > 0.7 * whole
    # Two light columns: 5 MiB a block, most of the file, unless blocks are small.
    assert sent["blocks"] > 0.8 * whole
    assert sent["small"] < 0.15 * whole
    # The first sample costs a row group at least, and what lies within 32 MiB besides.
    assert sent["first"] >= whole > ROW_GROUP_BYTES
    assert DEFAULT_LAYOUT.row_group_bytes <= 100 * 10**6
