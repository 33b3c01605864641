"""What a ledger says in sums."""

from __future__ import annotations

import pyarrow as pa

from pwcat.building.ledger import LEDGER_SCHEMA
from pwcat.building.losses import count_stand_ins
from pwcat.providers.document import Source


def ledger_of(*rows):
    return pa.Table.from_pylist([{"status": status, "source": source} for status, source in rows], LEDGER_SCHEMA)


def test_dates_that_a_fallback_served_are_counted_by_source_in_old_ledgers_too():
    source = Source(provider="archive", path="a", collection="c")
    ledger = ledger_of(
        ("written", ["archive:a/c", "archive:b/c"]),
        ("written", ["archive:b/c", "earth-search/c"]),
        ("written", ["archive/c", None]),
        ("written", None),
        ("failed", ["archive:b/c", None]),
        ("cloudy", ["archive:b/c", None]),
    )
    assert count_stand_ins(ledger, source) == {"archive:b/c": 2, "earth-search/c": 1}
    assert count_stand_ins(LEDGER_SCHEMA.empty_table(), source) == {}
