"""Check a folder that was built or fetched: is it whole, and does it load where nothing of ours is loaded yet?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.published.layout import ITEMS_PATH
from publish.manifest import FileRecord, check_hashes, check_sizes, read_manifest
from publish.shards import CHIP_SCHEMA, SENSOR_SCHEMA

__all__ = ["Verification", "verify_folder"]

# The public library alone for a dataset; each config and split gives its first row, and chips decode by the card's line.
LOAD_DATASET = """
import sys
import numpy as np
from datasets import get_dataset_config_names, load_dataset
folder = sys.argv[1]
for config in get_dataset_config_names(folder):
    for split, rows in load_dataset(folder, config, streaming=True).items():
        row = next(iter(rows))
        if config == "chips":
            np.frombuffer(row["pixels"], row["dtype"]).reshape(row["shape"])
"""
LOAD_MODEL = """
import sys
from publish.invented import embed_invented
from publish.weights import load_model
embed_invented(load_model(sys.argv[1]))
"""
TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was looked at, and every fault found."""

    kind: str
    files: int
    bytes: int
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return not self.faults


def verify_folder(folder: str | Path) -> Verification:
    """The faults of a publication's folder: manifest, checksums, columns, and a load of it in a process of its own.

    Reads every byte. A folder with faults is not loaded. A model that loads is given invented samples to embed.

    Raises:
        PublishError: The folder has no manifest that can be read.
    """
    folder = Path(folder)
    header, records = read_manifest(folder)
    faults = check_sizes(folder, records) or check_hashes(folder, records)
    kind = str(header.get("kind"))
    if not faults and kind == "dataset":
        faults = _check_tables(folder, records)
    if not faults:
        faults = _check_loading(folder, LOAD_DATASET if kind == "dataset" else LOAD_MODEL)
    size = sum(record.bytes for record in records.values())
    return Verification(kind=kind, files=len(records) + 1, bytes=size, faults=tuple(faults))


def _check_tables(folder: Path, records: Mapping[str, FileRecord]) -> list[str]:
    faults, chips = [], 0
    for path, record in records.items():
        if record.rows is None:
            continue
        rows = pq.read_metadata(folder / path).num_rows
        if rows != record.rows:
            faults.append(f"{path} has {rows} rows, the manifest says {record.rows}")
        if path.startswith("data/"):
            chips += rows
            faults += _check_schema(path, pq.read_schema(folder / path))
    items = records[ITEMS_PATH].rows if ITEMS_PATH in records else None
    if items != chips:
        faults.append(f"{ITEMS_PATH} has {items} rows for {chips} chips")
    return faults


def _check_schema(path: str, schema: pa.Schema) -> list[str]:
    due = SENSOR_SCHEMA if "sensors" in schema.names else CHIP_SCHEMA
    if schema.equals(due):
        return []
    got, wanted = ({f"{field.name} {field.type}" for field in columns} for columns in (schema, due))
    if got == wanted:
        return [f"{path} has its columns in another order than {', '.join(due.names)}"]
    wrong, missing = (", ".join(sorted(columns)) or "none" for columns in (got - wanted, wanted - got))
    return [f"{path} has other columns than a dataset's: without {missing}, and with {wrong}"]


def _check_loading(folder: Path, script: str) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="pwcat-verify-") as home:
        # A cache of its own and no network: what loads must lie in the folder.
        environment = {**os.environ, "HF_HOME": home, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-c", script, str(folder.resolve())]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode == 0:
        return []
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return [f"it does not load in a fresh process: {lines[-1]}"]
