"""Folders as the builders leave them, and whether a Hub ever showed a part of one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from publish.manifest import MANIFEST, describe_file, read_manifest, write_manifest

CARD = """---
license: cc-by-4.0
configs:
- config_name: chips
  data_files: data/*.parquet
---
# Chips, release {release}
"""


def write_chips(path, number, size=100_000):
    """A Parquet file that no other number gives."""
    noise = np.random.default_rng(number).bytes(size)
    pq.write_table(pa.table({"id": [number], "pixels": [noise]}), path)


def write_release(folder, numbers, *, release=1, size=100_000):
    """A card, a file of chips for each number, a manifest."""
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(CARD.format(release=release))
    for number in numbers:
        write_chips(folder / "data" / f"{number}.parquet", number, size)
    write_manifest(folder, header={"name": "chips", "release": release}, known={})
    return folder


def contents(folder):
    """Paths and SHA-256 of a release, its manifest too."""
    _, records = read_manifest(folder)
    return {path: record.sha256 for path, record in {**records, MANIFEST: describe_file(folder / MANIFEST)}.items()}


def shown(tree, folders):
    """Of a tree on the Hub, the files of those releases."""
    paths = {path for folder in folders for path in contents(folder)}
    return {path: entry.sha256 for path, entry in tree.items() if path in paths}


def parts_of(repo, folders):
    """Commits of a repository, from the first on, at which a release was neither whole nor absent."""
    whole = [{}, *map(contents, folders)]
    return [oid for oid in repo.history if shown(repo.trees[oid], folders) not in whole]
