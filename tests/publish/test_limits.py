from __future__ import annotations

import logging
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import publish.limits as limits
from publish.describing.front_matter import card_faults, loaded_paths
from publish.limits import check_limits, check_room
from publish.manifest import FileRecord, describe_file
from pwcat.errors import PublishError

CARD = """---
license: cc-by-4.0
configs:
- config_name: chips
  default: true
  data_files:
  - split: train
    path: data/train-*.parquet
- config_name: items
  data_files: items/items.geoparquet
dataset_info:
- config_name: chips
  features: []
---
# Chips
"""


@pytest.fixture
def folder(tmp_path):
    """A sound folder of a card and two tables."""
    for path in ("data/train-00000-of-00001.parquet", "items/items.geoparquet"):
        write(tmp_path, path, None)
    write(tmp_path, "README.md", CARD)
    return tmp_path


def write(folder, path, content):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        pq.write_table(pa.table({"id": [1, 2]}), folder / path)
    else:
        (folder / path).write_text(content)


def told(folder, kind="dataset", repo="lab/chips", **sizes):
    """Every fault of a folder; ``sizes`` in place of what files really have."""
    records = {file.relative_to(folder).as_posix(): describe_file(file) for file in folder.rglob("*") if file.is_file()}
    records |= {path: FileRecord(bytes=size, sha256="0") for path, size in sizes.items()}
    try:
        check_limits(folder, records, kind, repo=repo)
    except PublishError as exc:
        return str(exc).partition("cannot go to the Hub: ")[2].split("; ")
    return []


def test_a_sound_folder_passes(folder):
    assert told(folder) == []


@pytest.mark.parametrize(
    ("path", "content", "fault"),
    [
        (
            "chips.py",
            "",
            "chips.py is named as the repository, and `datasets` would take it for a loading script: rename",
        ),
        ("docs/task.toml", "", "docs/task.toml makes `datasets` take the repository for tasks instead of tables"),
        ("instruction.md", "", "instruction.md makes `datasets` take"),
        ("data/__old/a.parquet", None, "in a folder that starts with '.' or '__', which `datasets` does not look into"),
        (".parts/a.parquet", None, ".parts/a.parquet lies in a folder that starts with '.'"),
        (".cache/a.txt", "", ".cache/a.txt lies in a folder that the Hub does not take: rename it"),
        ("readme.md", "", "differ in case alone"),
        ("data/train-1.parquet", "no table", "data/train-1.parquet cannot be read as Parquet"),
        ("README.md", "# Chips", "README.md has no front matter"),
        ("README.md", "---\na: [\n---\n", "the front matter of README.md cannot be read"),
        ("README.md", "---\nlicense: x\n---\n", "README.md has no explicit `configs`, so that stray files decide"),
        (
            "README.md",
            CARD.replace("train-*", "test-*"),
            "'chips' of README.md names data/test-*.parquet, and no such file",
        ),
        ("README.md", CARD.replace("config_name: items", "config_name: chips"), "'chips' is there 2 times"),
        ("README.md", CARD.replace("- config_name: items\n ", "-"), "config number 2 of README.md has no config_name"),
        (
            "README.md",
            CARD.replace("items/items.geoparquet", "README.md"),
            "name files of .md and Parquet, and the first decides the loader of all",
        ),
        ("README.md", CARD.replace("split: train", "split: a-b"), "has a split 'a-b': use letters, digits and _"),
        ("README.md", CARD.replace("features: []", "splits: [{name: train, num_examples: 2}]"), "counts num_examples"),
    ],
)
def test_what_trips_loaders_is_told_with_what_to_change(folder, path, content, fault):
    write(folder, path, content)
    faults = told(folder)
    assert len(faults) == 1
    assert fault in faults[0]


def test_folders_without_tables_have_other_cards(tmp_path):
    write(tmp_path, "README.md", "---\nlicense: mit\n---\n")
    write(tmp_path, "europe/cube.zarr/zarr.json", "{}")
    assert told(tmp_path) == []
    card = "---\nconfigs:\n- config_name: scores\n  data_files: scores.csv\n---\n"
    write(tmp_path, "README.md", card)
    assert told(tmp_path) == ["config 'scores' of README.md names scores.csv, and no such file is in the folder"]
    write(tmp_path, "scores.csv", "a,b\n1,2\n")
    assert told(tmp_path) == []


def test_every_fault_is_told_at_once(folder):
    write(folder, "chips.py", "")
    write(folder, "README.md", CARD.replace("train-*", "test-*"))
    assert len(told(folder)) == 2
    (folder / "README.md").unlink()
    assert "there is no README.md: a release has a card" in told(folder)


def test_files_that_are_too_large_or_too_many(folder, caplog):
    assert told(folder, **{"big.bin": 501 * 10**9}) == [
        "big.bin has 501 GB, of 500 GB that a file may have: use more shards"
    ]
    with caplog.at_level(logging.WARNING):
        assert told(folder, **{"big.bin": 201 * 10**9}) == []
    assert "big.bin has 201 GB; the Hub recommends files below 200 GB" in caplog.text
    paths = [f"chunks/{number // 5000}/{number}" for number in range(99_999)]
    check_room("lab/chips", paths)
    with pytest.raises(PublishError, match=r"100,000 files, of fewer than 100,000 that a repository may have"):
        check_room("lab/chips", [*paths, "README.md"])
    check_room("lab/chips", [f"chunks/{number}" for number in range(10_000)])
    with pytest.raises(PublishError, match=r"10,001 entries in chunks/, of 10,000 that a folder may have"):
        check_room("lab/chips", [f"chunks/{number}/a" for number in range(10_001)])


def test_one_commit_holds_so_much(folder, monkeypatch):
    monkeypatch.setattr(limits, "MOST_COMMIT_LARGE_FILES", 1)
    monkeypatch.setattr(limits, "MOST_COMMIT_REGULAR_BYTES", 100)
    assert told(folder) == [
        "2 large files, of 1 that a commit may have: use larger files",
        "0.0 GB of small text files, of 1 GB that a commit may carry: put them into one Parquet file",
    ]


def test_row_groups_that_the_viewer_does_not_read(folder, monkeypatch, caplog):
    size = pq.ParquetFile(folder / "items/items.geoparquet").metadata.row_group(0).total_byte_size
    monkeypatch.setattr(limits, "RECOMMENDED_ROW_GROUP_BYTES", size - 1)
    with caplog.at_level(logging.WARNING):
        assert told(folder) == []
    assert caplog.text.count("readers fetch one whole") == 2
    monkeypatch.setattr(limits, "VIEWER_ROW_GROUP_BYTES", size - 1)
    assert [fault.partition(" of ")[0] for fault in sorted(told(folder))] == [
        "data/train-00000-of-00001.parquet has a row group",
        "items/items.geoparquet has a row group",
    ]


def test_models_have_limits_of_their_own(folder):
    write(folder, "README.md", "---\nlicense: mit\n---\n")
    write(folder, ".eval_results/a.yaml", "a: 1")
    assert told(folder, kind="model") == []
    write(folder, "pytorch_model.bin", "x")
    assert told(folder, kind="model") == ["pytorch_model.bin may hold a pickle, which can run code: write safetensors"]


@pytest.mark.parametrize(
    ("front", "told"),
    [
        ("configs: 5", "has no explicit `configs`"),
        ("configs:\n- config_name: [a]\n  data_files: x", "has no config_name, or one that is no text"),
        ("taken: 2020-99-99", "cannot be read .month must be in 1..12"),
        ("[" * 5000, "cannot be read .maximum recursion depth"),
        ("dataset_info: [null, {splits: 5}]", "has no explicit `configs`"),
        ("\0", "cannot be read .unacceptable character"),
    ],
)
def test_odd_front_matter_is_told_as_a_fault_and_names_no_files(tmp_path, front, told):
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n", encoding="utf-8")
    (fault,) = [fault for fault in card_faults(tmp_path, ["a.parquet"], "dataset") if "no such file" not in fault]
    assert re.search(told, fault)
    assert loaded_paths(tmp_path, ["a.parquet"]) == []
