"""What each sensor has for each date of each sample, frozen beside the plan: which items, and these items."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import file_digest
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import stac_geoparquet.arrow

from pwcat.atomic import replacing
from pwcat.errors import PwcatError

__all__ = [
    "EVERY_DATE",
    "SENSORS_SCHEMA",
    "FrozenSensors",
    "Key",
    "check_sensors",
    "read_sensors",
    "read_tallies",
    "remove_sensors",
    "write_sensors",
]

# One row a sample, sensor and date: samples of the plan in its order, then those of the reserve; each with the same rows,
# sensors in the recipe's order, dates ascending. `time` is the index of the date, -1 for a sensor that is the same at all.
# `item_ids` are in the order in which they are read: the first that has data for a pixel gives it. None: an empty list.
SENSORS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("sensor", pa.string()),
        pa.field("time", pa.int16()),
        pa.field("item_ids", pa.list_(pa.string())),
    ]
)
EVERY_DATE = -1

# Of the plan: SHA-256 of sensors.parquet. Of that: the same of each sensor's items, and counts of dates.
PLAN_NOTE, ITEMS_NOTE, TALLY_NOTE = "pwcat:sensors", "pwcat:items", "pwcat:tally"
ITEMS_AT_ONCE = 500

# Sample, sensor, index of the date.
Key = tuple[str, str, int]


def write_sensors(
    folder: Path,
    table: pa.Table | Iterable[pa.Table],
    items: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    tallies: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
) -> str:
    """Write ``sensors/<name>.parquet``, then ``sensors.parquet``; SHA-256 of the last, which the plan is to note.

    Args:
        folder: the collection's.
        table: :data:`SENSORS_SCHEMA`, whole or in parts.
        items: STAC items that it names, by sensor; a sensor without any gets no file.
        tallies: counts of dates by sensor, kept beside them.
    """
    remove_sensors(folder)
    digests = {}
    for name, found in items.items():
        path = _items_path(folder, name)
        if found:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                arrow = stac_geoparquet.arrow.parse_stac_items_to_arrow([dict(item) for item in found]).read_all()
                stac_geoparquet.arrow.to_parquet(arrow, temporary)
            digests[name] = _digest(path)
    path, notes = folder / "sensors.parquet", {ITEMS_NOTE: digests, TALLY_NOTE: {**tallies}}
    schema = SENSORS_SCHEMA.with_metadata({name: json.dumps(note, sort_keys=True) for name, note in notes.items()})
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for part in [table] if isinstance(table, pa.Table) else table:
            writer.write_table(part.cast(SENSORS_SCHEMA).replace_schema_metadata(schema.metadata))
    return _digest(path)


def remove_sensors(folder: Path) -> None:
    """Remove what an earlier plan had of sensors."""
    (folder / "sensors.parquet").unlink(missing_ok=True)
    shutil.rmtree(folder / "sensors", ignore_errors=True)


def read_sensors(folder: Path) -> FrozenSensors | None:
    """What the plan in a collection's folder has of sensors; ``None`` where it has none.

    Raises:
        PwcatError: a file is missing, cannot be read, or is not the one that the plan was written with.
    """
    noted = _notes(folder / "plan.parquet").get(PLAN_NOTE)
    return None if noted is None else FrozenSensors(folder, digest=noted)


def check_sensors(folder: Path) -> None:
    """See that what the plan in a collection's folder has of sensors is there as it was written, without reading it.

    Raises:
        PwcatError: a file is missing, or is another.
    """
    noted = _notes(folder / "plan.parquet").get(PLAN_NOTE)
    if noted is not None:
        path = folder / "sensors.parquet"
        _require_same(path, noted)
        for name, digest in json.loads(_notes(path)[ITEMS_NOTE]).items():
            _require_same(_items_path(folder, name), digest)


def read_tallies(folder: Path) -> dict[str, dict[str, int]]:
    """How many dates of the samples each sensor has, as it was planned; empty where the plan in a folder has no sensors."""
    path = folder / "sensors.parquet"
    tallies: dict[str, dict[str, int]] = json.loads(_notes(path).get(TALLY_NOTE, "{}")) if path.is_file() else {}
    return tallies


class FrozenSensors:
    """Which items a sensor has for a date of a sample, and the items: packed, and unpacked when they are asked for."""

    def __init__(self, folder: Path, *, digest: str) -> None:
        """Read them.

        Args:
            folder: the collection's.
            digest: SHA-256 that ``sensors.parquet`` has to have.

        Raises:
            PwcatError: a file is missing, cannot be read, or is another.
        """
        path = folder / "sensors.parquet"
        _require_same(path, digest)
        table = _read(path, columns=["id", "item_ids"], read_dictionary=["id", "item_ids.list.element"])
        table = table.unify_dictionaries()
        self._ids, self._rows = _samples(table, path)
        self._keys = _read_first(path, len(self._rows))
        self._item_ids = table["item_ids"]
        notes = {name: json.loads(note) for name, note in _notes(path).items()}
        self._packed = {name: _pack(folder, name, one) for name, one in notes[ITEMS_NOTE].items()}
        self._folder = folder

    @property
    def sensors(self) -> list[str]:
        """Names, in the recipe's order."""
        return list(dict.fromkeys(sensor for sensor, _ in self._keys))

    def names_of(self, ids: Sequence[str]) -> dict[Key, list[str]]:
        """Ids of the items for each sensor and date of some samples, in the order in which they are read.

        Raises:
            PwcatError: a sample is not there.
        """
        positions = self._ids.get_indexer(pd.Index(list(ids), dtype=object))
        if (positions < 0).any():
            strange = [name for name, position in zip(ids, positions, strict=True) if position < 0]
            raise PwcatError(
                f"{self._folder}: sensors.parquet knows nothing of {', '.join(strange[:3])}; remove the folder and plan again"
            )
        named: dict[Key, list[str]] = {}
        for name, position in zip(ids, positions.tolist(), strict=True):
            rows = self._item_ids.slice(position * len(self._keys), len(self._keys)).to_pylist()
            named |= {(name, *key): row for key, row in zip(self._keys, rows, strict=True)}
        return named

    def items(self, sensor: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Items of a sensor, by id.

        Raises:
            PwcatError: one is not there.
        """
        return {name: self._item(sensor, name) for name in dict.fromkeys(names)}

    def of(self, ids: Sequence[str]) -> dict[Key, list[dict[str, Any]]]:
        """The items for each sensor and date of some samples, in the order in which they are read; each is one object.

        Raises:
            PwcatError: a sample or an item is not there.
        """
        named = self.names_of(ids)
        wanted: dict[str, list[str]] = {sensor: [] for sensor in self.sensors}
        for (_, sensor, _), names in named.items():
            wanted[sensor] += names
        items = {sensor: self.items(sensor, names) for sensor, names in wanted.items()}
        return {key: [items[key[1]][name] for name in names] for key, names in named.items()}

    def _item(self, sensor: str, name: str) -> dict[str, Any]:
        packed = self._packed.get(sensor, {}).get(name)
        if packed is None:
            raise PwcatError(
                f"{self._folder}: sensors.parquet names {name}, which is not among the items of {sensor}; "
                "remove the folder and plan again"
            )
        item: dict[str, Any] = json.loads(zlib.decompress(packed))
        return item


def _samples(table: pa.Table, path: Path) -> tuple[pd.Index[Any], range]:
    """Samples in order, and the rows that each has: all have as many."""
    ids = table["id"]
    first = ids[0].as_py() if len(ids) else None
    count = next((row for row in range(len(ids)) if ids[row].as_py() != first), len(ids))
    starts = np.arange(0, len(ids), count or 1)
    samples = pd.Index(ids.take(pa.array(starts)).to_pylist(), dtype=object)
    if count and (len(ids) % count or not samples.is_unique):
        raise PwcatError(f"{path}: samples do not have the same rows each; remove the folder and plan again")
    return samples, range(count)


def _read_first(path: Path, count: int) -> list[tuple[str, int]]:
    """Sensor and date of each row of a sample."""
    file = pq.ParquetFile(path)
    rows: pa.Table = next(iter(file.iter_batches(max(count, 1), columns=["sensor", "time"])), None) if count else None
    return [] if rows is None else list(zip(rows["sensor"].to_pylist(), rows["time"].to_pylist(), strict=True))


def _pack(folder: Path, name: str, digest: str) -> dict[str, bytes]:
    path = _items_path(folder, name)
    _require_same(path, digest)
    return {item["id"]: zlib.compress(json.dumps(item).encode(), level=1) for item in _items(path)}


def _items(path: Path) -> Iterator[dict[str, Any]]:
    table = _read(path)
    for start in range(0, len(table), ITEMS_AT_ONCE):
        yield from stac_geoparquet.arrow.stac_table_to_items(table.slice(start, ITEMS_AT_ONCE))


def _items_path(folder: Path, name: str) -> Path:
    return folder / "sensors" / f"{name}.parquet"


def _require_same(path: Path, digest: str) -> None:
    if not path.is_file():
        raise PwcatError(f"{path}: not there, though the plan was written with it; remove the folder and plan again")
    if _digest(path) != digest:
        raise PwcatError(f"{path}: not the file that the plan was written with; remove the folder and plan again")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _notes(path: Path) -> dict[str, str]:
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowInvalid, OSError) as exc:
        raise PwcatError(f"{path}: cannot be read ({exc}); remove it and plan again") from exc
    return {key.decode(): value.decode() for key, value in metadata.items() if key.startswith(b"pwcat:")}


def _read(path: Path, **options: Any) -> pa.Table:
    try:
        return pq.read_table(path, **options)
    except (pa.ArrowInvalid, OSError) as exc:
        raise PwcatError(f"{path}: cannot be read ({exc}); remove the folder and plan again") from exc
