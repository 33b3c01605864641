"""What a cube says of its samples: the plan's columns, and what the ledgers tell of each date, read shard by shard."""

from __future__ import annotations

from pathlib import Path
from sys import intern
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pwcat.building.ledger import flagged_scenes, ledgers_of, served_scenes
from pwcat.cube import write_coordinates
from pwcat.errors import CubeError
from pwcat.plan import read_plan

__all__ = ["sample_columns", "write_samples"]

PLAN_COLUMNS = {"id", "lon", "lat", "epsg", "x0", "y0", "scene_ids", "datetime", "shard"}
LEDGER_COLUMNS = {"item", "boa_offset", "valid_fraction", "offset_flag"}


def write_samples(folder: Path, ids: pa.ChunkedArray) -> dict[str, str]:
    """Write the coordinates, once every shard is there, and gather the metadata for readers that want it in one piece.

    Args:
        folder: of the collection.
        ids: that its ledgers list.

    Returns:
        Items whose pixels contradict the offset that they state, with what was seen.

    Raises:
        CubeError: the ledgers' samples are not the plan's.
    """
    columns, flagged = sample_columns(folder, ids)
    write_coordinates(folder / "cube.zarr", columns)
    return flagged


def sample_columns(folder: Path, ids: pa.ChunkedArray) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The coordinates by name, ``(sample,)`` or ``(sample, time)``, and the items whose offset is doubted.

    Args:
        folder: of the collection; every shard of it has a ledger.
        ids: that its ledgers list.

    Raises:
        CubeError: the ledgers' samples are not the plan's.
    """
    table = read_plan(folder, columns=PLAN_COLUMNS).table
    if not ids.equals(table["id"]):
        raise CubeError(f"{folder}: the ledger does not list the plan's samples in order; build again")
    times = pc.list_flatten(table["datetime"]).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    dates, flagged = _dates(folder, table["scene_ids"])
    columns: dict[str, NDArray[Any]] = {
        "id": np.array(table["id"].to_pylist(), dtype=object),
        **{name: table[name].to_numpy() for name in ("lon", "lat", "epsg", "x0", "y0")},
        "datetime": (times.to_numpy() / 1e6).round().astype(np.int64).reshape(len(table), -1),
        **dates,
    }
    return columns, flagged


def _dates(folder: Path, planned: pa.ChunkedArray) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Coordinates that the ledgers tell, read shard by shard, and the items whose offset is doubted."""
    shape, start = (len(planned), len(planned[0])), 0
    scene_id, boa_offset = np.empty(shape, dtype=object), np.empty(shape, dtype=np.int32)
    valid_fraction = np.empty(shape[0])
    flagged: dict[str, str] = {}
    for ledger in ledgers_of(folder, columns=LEDGER_COLUMNS):
        rows = slice(start, start := start + len(ledger))
        served = served_scenes(ledger, planned.slice(rows.start, len(ledger)).to_pylist())
        scene_id[rows] = [[intern(name) for name in names] for names in served]
        boa_offset[rows] = ledger["boa_offset"].to_pylist()
        valid_fraction[rows] = ledger["valid_fraction"].to_numpy()
        flagged = {**flagged_scenes(ledger), **flagged}
    return {"scene_id": scene_id, "boa_offset": boa_offset, "valid_fraction": valid_fraction}, flagged
