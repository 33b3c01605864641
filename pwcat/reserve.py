"""The reserve: extra sites of a plan, which replace samples that turn out to have no pixels, so that all asked for are got.

What replaced what is written to ``replacements.parquet`` beside the plan, which itself is never changed.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pwcat.atomic import replacing
from pwcat.errors import PwcatError

__all__ = [
    "REPLACEMENT_SCHEMA",
    "Choice",
    "apply_replacements",
    "choose_replacements",
    "plan_hash",
    "read_replacements",
    "write_replacements",
]

# In the order in which they were chosen; a site of the reserve that is unusable itself is replaced by a later row.
REPLACEMENT_SCHEMA = pa.schema(
    [
        pa.field("position", pa.int64()),  # row of the plan, and of the cube
        pa.field("id", pa.string()),  # the sample that was there
        pa.field("status", pa.string()),  # what the ledger said of it
        pa.field("reason", pa.string()),
        pa.field("by", pa.string()),  # id in the reserve
    ]
)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is to be replaced.

    Attributes:
        replacements: :data:`REPLACEMENT_SCHEMA`, by position.
        short: samples for which the reserve has no site left of their stratum, by stratum.
    """

    replacements: pa.Table
    short: dict[str, int]


def plan_hash(folder: Path) -> str:
    """SHA-256 of the plan's bytes, which ledgers and replacements are tied to."""
    with (folder / "plan.parquet").open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def read_replacements(folder: Path) -> pa.Table:
    """The replacements beside a collection's plan, :data:`REPLACEMENT_SCHEMA`; none where there is no such file.

    Raises:
        PwcatError: they cannot be read, or are of another plan.
    """
    path = folder / "replacements.parquet"
    if not path.is_file():
        return REPLACEMENT_SCHEMA.empty_table()
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as exc:
        raise PwcatError(f"{path}: cannot be read ({exc}); remove it, and build again") from exc
    if (table.schema.metadata or {}).get(b"pwcat:plan", b"").decode() != plan_hash(folder):
        raise PwcatError(f"{path}: belongs to another plan than the one beside it; remove it, and build again")
    return table.replace_schema_metadata(None)


def write_replacements(folder: Path, replacements: pa.Table) -> None:
    """Write all replacements of a plan, whole or not at all."""
    notes = {"pwcat:plan": plan_hash(folder)}
    with replacing(folder / "replacements.parquet") as temporary:
        pq.write_table(replacements.replace_schema_metadata(notes), temporary, compression="zstd")


def apply_replacements(table: pa.Table, reserve: pa.Table, replacements: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The plan with replacements put in, each in the row and shard of the sample it replaces, and what the reserve has left.

    Args:
        table: of the plan as it was made.
        reserve: of the same columns, as it was made.
        replacements: :data:`REPLACEMENT_SCHEMA`.

    Raises:
        PwcatError: a replacement names samples that are not there.
    """
    if not len(replacements):
        return table, reserve
    row_of = {name: row for row, name in enumerate(reserve["id"].to_pylist())}
    ids = dict(enumerate(table["id"].take(replacements["position"]).to_pylist()))
    now = {position: ids[k] for k, position in enumerate(replacements["position"].to_pylist())}
    rows = np.arange(len(table))
    for entry in replacements.to_pylist():
        if now[entry["position"]] != entry["id"] or entry["by"] not in row_of:
            raise PwcatError(
                f"replacements.parquet: {entry['id']} in row {entry['position']} by {entry['by']} fits neither plan nor "
                "reserve; remove the file, and build again"
            )
        now[entry["position"]] = entry["by"]
        rows[entry["position"]] = len(table) + row_of[entry["by"]]
    both = pa.concat_tables([table, reserve.cast(table.schema)]).take(pa.array(rows))
    left = reserve.filter(pc.invert(pc.is_in(reserve["id"], value_set=replacements["by"].combine_chunks())))
    return both.set_column(both.column_names.index("shard"), "shard", table["shard"]), left


def choose_replacements(table: pa.Table, reserve: pa.Table, ledger: pa.Table, *, statuses: Collection[str]) -> Choice:
    """The next sites of the reserve for samples that have no pixels: of the same stratum, and of the same split if one is left.

    A site keeps the split it was planned with, for that follows from where it lies. The order is that of the plan and of
    the reserve, so that one ledger has one answer, whichever shards came first.

    Args:
        table: of the plan, replacements put in.
        reserve: what is left of it.
        ledger: of the plan's samples, in order.
        statuses: those that are to be replaced.
    """
    left = _Reserve(reserve)
    chosen: list[dict[str, Any]] = []
    short: Counter[str] = Counter()
    positions = pc.indices_nonzero(pc.is_in(ledger["status"], value_set=pa.array(sorted(statuses), pa.string())))
    wanting, told = table.take(positions), ledger.take(positions)
    strata = _strata(wanting)
    columns = [positions.to_pylist(), strata, wanting["split"].to_pylist()]
    columns += [told[name].to_pylist() for name in ("id", "status", "reason")]
    for position, stratum, split, name, status, reason in zip(*columns, strict=True):
        by = left.next(stratum, split)
        if by is None:
            short[stratum or "any"] += 1
        else:
            chosen.append({"position": position, "id": name, "status": status, "reason": reason, "by": by})
    return Choice(replacements=pa.Table.from_pylist(chosen, schema=REPLACEMENT_SCHEMA), short=dict(short))


def _strata(table: pa.Table) -> list[str | None]:
    return table["stratum"].to_pylist() if "stratum" in table.column_names else [None] * len(table)


class _Reserve:
    """Unused sites, in order, by stratum and split."""

    def __init__(self, reserve: pa.Table) -> None:
        self.ids: list[str] = reserve["id"].to_pylist()
        self.queues: dict[str | None, dict[str, deque[int]]] = defaultdict(lambda: defaultdict(deque))
        for row, (stratum, split) in enumerate(zip(_strata(reserve), reserve["split"].to_pylist(), strict=True)):
            self.queues[stratum][split].append(row)

    def next(self, stratum: str | None, split: str) -> str | None:
        """The id of the first site of the stratum, if possible of the split; it is used from now on."""
        queues = {name: queue for name, queue in self.queues[stratum].items() if queue}
        if not queues:
            return None
        queue = queues.get(split) or min(queues.values(), key=lambda each: each[0])
        return self.ids[queue.popleft()]
