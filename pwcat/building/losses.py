"""Samples without pixels, counted by why that is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pwcat.providers.document import Source

__all__ = ["Loss", "count_lacks", "count_losses", "count_stand_ins"]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Samples that have no pixels for one cause.

    Attributes:
        status: ``failed``, ``empty`` or ``cloudy``.
        cause: in a word or two.
        count: of samples.
        reasons: how many different ones the ledger has for it.
        reason: the most frequent of them.
    """

    status: str
    cause: str
    count: int
    reasons: int
    reason: str

    def __str__(self) -> str:
        others = self.reasons - 1
        more = f" (and {others:,} other {'reason' if others == 1 else 'reasons'})" if others else ""
        return f"{self.count:,} {self.status}, {self.cause}: {self.reason}{more}"


def count_lacks(ledger: pa.Table, sensors: Iterable[str]) -> dict[str, int]:
    """For how many dates of samples that have pixels each sensor has nothing, for one of its bands at least.

    Args:
        ledger: :data:`pwcat.building.ledger.LEDGER_SCHEMA`.
        sensors: names, in the order of the answer.
    """
    lacks = pc.list_flatten(ledger["without"])
    names: Counter[str] = Counter(pc.struct_field(lacks, "sensor").to_pylist()) if len(lacks) else Counter()
    return {name: names[name] for name in sensors}


def count_stand_ins(ledger: pa.Table, source: Source) -> dict[str, int]:
    """How many dates of samples that have pixels other sources than the plan's served, by their names.

    Args:
        ledger: :data:`pwcat.building.ledger.LEDGER_SCHEMA`; older ones call every source ``provider/collection``.
        source: the plan's.
    """
    own = {source.name, f"{source.provider}/{source.collection}"}
    served = pc.list_flatten(ledger.filter(pc.equal(ledger["status"], "written"))["source"])
    counts = Counter(served.drop_null().to_pylist())
    return {name: counts[name] for name in sorted(counts.keys() - own)}


def count_losses(ledger: pa.Table) -> list[Loss]:
    """Losses by status and cause, the largest first.

    Args:
        ledger: :data:`pwcat.building.ledger.LEDGER_SCHEMA`.
    """
    lost = ledger.filter(pc.not_equal(ledger["status"], "written")).select(["status", "cause", "reason"])
    reasons: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in lost.to_pylist():
        reasons[row["status"], row["cause"] or "other"][row["reason"] or "not told"] += 1
    losses = [
        Loss(
            status=status,
            cause=cause,
            count=counts.total(),
            reasons=len(counts),
            reason=min(counts, key=lambda reason: (-counts[reason], reason)),
        )
        for (status, cause), counts in reasons.items()
    ]
    return sorted(losses, key=lambda loss: (-loss.count, loss.status, loss.cause))
