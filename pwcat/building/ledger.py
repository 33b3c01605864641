"""The ledger: what happened to each sample. One Parquet file a shard, written before the shard itself appears."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pwcat.atomic import replacing
from pwcat.cube import shard_path
from pwcat.errors import CubeError

__all__ = [
    "LEDGER_SCHEMA",
    "UNUSABLE",
    "Status",
    "damaged_shards",
    "digest_of",
    "flagged_scenes",
    "join_ledgers",
    "ledger_path",
    "ledger_settles",
    "ledgers_of",
    "read_ledger",
    "read_one",
    "read_shard_ledger",
    "served_scenes",
    "write_ledger",
]

log = logging.getLogger(__name__)

# written: has pixels; empty: its scene has no data there; cloudy: more of it is hidden than the recipe allows;
# failed: its scene could not be read, and a rerun tries again
Status = Literal["written", "empty", "cloudy", "failed"]
# Settled without pixels: what the reserve replaces.
UNUSABLE: tuple[Status, ...] = ("empty", "cloudy")

LACKS = pa.list_(
    pa.struct([pa.field("sensor", pa.string()), pa.field("time", pa.int16()), pa.field("why", pa.string())])
)

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("status", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("cause", pa.string()),  # the reason in a word or two, of pwcat.pixels.reasons
        pa.field("attempts", pa.int32()),
        pa.field("retries", pa.int32()),
        pa.field("bytes", pa.int64()),
        pa.field("seconds", pa.float64()),
        pa.field("valid_fraction", pa.float64()),
        pa.field("boa_offset", pa.list_(pa.int32())),
        # One a date each; null where the date was not read, or there is nothing to say.
        pa.field("source", pa.list_(pa.string())),  # that served it, by name
        pa.field("item", pa.list_(pa.string())),  # its item there
        pa.field("cloud_fraction", pa.list_(pa.float64())),
        pa.field("offset_flag", pa.list_(pa.string())),
        # Dates for which a sensor has no scene, or no data in one of its bands: they are 0 there.
        pa.field("without", LACKS),
    ]
)


def ledger_path(folder: Path, shard: int) -> Path:
    """The ledger of one shard, in a collection's folder."""
    return folder / "ledger" / f"shard-{shard:06d}.parquet"


def write_ledger(path: Path, rows: Sequence[Mapping[str, Any]], *, plan_hash: str, shard: bytes) -> None:
    """Write the ledger of one shard, whole or not at all.

    Args:
        path: see :func:`ledger_path`.
        rows: one a sample, in cube order.
        plan_hash: of the plan's bytes.
        shard: the bytes that the shard will have; their hash and size tie the ledger to them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = {
        "pwcat:plan": plan_hash,
        "pwcat:shard_sha256": sha256(shard).hexdigest(),
        "pwcat:shard_bytes": str(len(shard)),
    }
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=LEDGER_SCHEMA.with_metadata(notes))
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_ledger(folder: Path, *, columns: Collection[str] | None = None) -> pa.Table:
    """The ledgers of all shards in a collection's folder, in cube order.

    Args:
        folder: of the collection.
        columns: of :data:`LEDGER_SCHEMA`, those that an older ledger has not are null; all where ``None``.

    Raises:
        CubeError: one cannot be read.
    """
    return join_ledgers(ledgers_of(folder, columns=columns))


def ledgers_of(folder: Path, *, columns: Collection[str] | None = None) -> Iterator[pa.Table]:
    """The same, shard by shard, so that no more than one is held."""
    for path in sorted((folder / "ledger").glob("shard-*.parquet")):
        yield read_one(path, columns=columns)


def join_ledgers(tables: Iterable[pa.Table]) -> pa.Table:
    """Ledgers of several shards as one table, without their notes."""
    plain = [table.replace_schema_metadata(None) for table in tables]
    return pa.concat_tables(plain) if plain else LEDGER_SCHEMA.empty_table()


def read_one(path: Path, *, columns: Collection[str] | None = None) -> pa.Table:
    """The ledger of one shard; columns that an older one has not are null.

    Raises:
        CubeError: it cannot be read.
    """
    return _completed(_read(path, columns), columns)


def _completed(table: pa.Table, columns: Collection[str] | None = None) -> pa.Table:
    """A ledger, or columns of it, as it would be written now."""
    fields = [field for field in LEDGER_SCHEMA if columns is None or field.name in columns]
    arrays = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in fields
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=table.schema.metadata))


def flagged_scenes(ledger: pa.Table) -> dict[str, str]:
    """Items whose pixels contradict their offset, with what was seen first.

    Args:
        ledger: of :func:`read_ledger`.
    """
    flags = ledger["offset_flag"].combine_chunks()
    rows = pc.unique(pc.list_parent_indices(flags).filter(pc.is_valid(pc.list_flatten(flags))))
    told = ledger.select(["item", "offset_flag"]).take(rows).to_pylist()
    pairs = [pair for row in told for pair in zip(row["item"] or [], row["offset_flag"], strict=True) if all(pair)]
    return dict(reversed(pairs))


def served_scenes(ledger: pa.Table, planned: Sequence[Sequence[str]]) -> list[list[str]]:
    """The item that the pixels of each date come from, ``(n, T)``: another than the plan's where another source stood in.

    Args:
        ledger: of :func:`read_ledger`, or rows of it.
        planned: the plan's scenes of the same samples, ``(n, T)``; they stay where the ledger names no item.
    """
    return [
        [item or scene for item, scene in zip(items or [None] * len(scenes), scenes, strict=True)]
        for items, scenes in zip(ledger["item"].to_pylist(), planned, strict=True)
    ]


def _read(path: Path, columns: Collection[str] | None = None) -> pa.Table:
    """Columns of a file that it has, in one thread: it is small, and there are many."""
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            there = names if columns is None else [name for name in names if name in columns]
            return file.read(there, use_threads=False)
    except (pa.ArrowInvalid, OSError) as exc:
        raise CubeError(f"{path}: this ledger cannot be read ({exc}); remove it, and build again") from exc


def _read_or_warn(path: Path) -> pa.Table | None:
    try:
        return _read(path)
    except CubeError as exc:
        log.warning("%s: this ledger cannot be read (%s); its shard is made again", path, exc.__cause__)
        return None


def ledger_settles(path: Path, *, plan_hash: str, shard_bytes: int, ids: Sequence[str]) -> bool:
    """Whether a shard's ledger is of this plan, these samples and a shard of this size, and leaves nothing to try again.

    The size tells a shard that was cut short, or is older than its ledger, without reading it; the samples tell one that is
    older than a replacement. One that cannot be read settles nothing.
    """
    if not path.is_file() or (table := _read_or_warn(path)) is None:
        return False
    if table["id"].to_pylist() != list(ids):
        return False
    notes = table.schema.metadata or {}
    mine = {b"pwcat:plan": plan_hash.encode(), b"pwcat:shard_bytes": str(shard_bytes).encode()}
    return mine.items() <= notes.items() and "failed" not in table["status"].to_pylist()


def damaged_shards(folder: Path) -> list[Path]:
    """Shards of a collection that are missing, or whose bytes are not those that their ledger names. Reads every byte."""
    damaged = []
    for ledger in sorted((folder / "ledger").glob("shard-*.parquet")):
        shard = shard_path(folder / "cube.zarr", int(ledger.stem.removeprefix("shard-")))
        recorded = (pq.read_schema(ledger).metadata or {}).get(b"pwcat:shard_sha256", b"").decode()
        if not shard.is_file() or digest_of(shard) != recorded:
            damaged.append(shard)
    return damaged


def digest_of(path: Path) -> str:
    """SHA-256 of a file, as a ledger keeps it of its shard."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def read_shard_ledger(path: Path, *, plan_hash: str, shard_sha256: str) -> list[dict[str, Any]]:
    """Rows of one shard's ledger; none where it is of another plan, of other bytes of the shard, or cannot be read."""
    read = _read_or_warn(path)
    if read is None:
        return []
    table = _completed(read)
    notes = table.schema.metadata or {}
    mine = {b"pwcat:plan": plan_hash.encode(), b"pwcat:shard_sha256": shard_sha256.encode()}
    return table.to_pylist() if mine.items() <= notes.items() else []
