"""The estimate of a build beside what it took, kept in the ledger's folder over all runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pwcat.atomic import replacing
from pwcat.costs.estimate import RATE_MB_S, estimate_seconds
from pwcat.costs.reads import Reads
from pwcat.costs.traffic import Traffic

__all__ = ["Cost", "RunCost", "compare_costs", "costs_path", "keep_costs", "read_costs"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What reading takes. ``None`` is not measured.

    Attributes:
        requests: HEAD and GET.
        bytes: as they are transferred, compressed.
        seconds: on the clock.
        mb_s: megabytes a second, of these bytes in these seconds.
    """

    requests: int | None
    bytes: int | None
    seconds: float
    mb_s: float | None


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """One run of a build, or several together.

    Attributes:
        samples: that were read; those that were there already are not among them.
        shards: that were made.
        estimate: of just these samples; its seconds are at the rate that the plan assumes.
        actual: by GDAL's own count.
    """

    samples: int
    shards: int
    estimate: Cost
    actual: Cost

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)


def compare_costs(reads: Reads, *, samples: int, shards: int, traffic: Traffic, seconds: float) -> RunCost:
    """The estimate of what a run has read, beside what it took.

    Args:
        reads: that were expected.
        samples: that were read.
        shards: made in this run.
        traffic: of all workers together.
        seconds: that reading and writing took.
    """
    expected = estimate_seconds(reads, rate_mb_s=RATE_MB_S)
    return RunCost(
        samples=samples,
        shards=shards,
        estimate=_cost(reads.requests, round(reads.bytes), expected),
        actual=_cost(traffic.requests, traffic.bytes, seconds) if traffic.measured else _cost(None, None, seconds),
    )


def _cost(requests: int | None, size: int | None, seconds: float) -> Cost:
    rate = None if size is None or not seconds else round(size / 1e6 / seconds, 3)
    return Cost(requests=requests, bytes=size, seconds=round(seconds, 3), mb_s=rate)


def costs_path(folder: Path) -> Path:
    """Where the costs of a collection's folder lie; readers of the ledger's Parquet skip names with an underscore."""
    return folder / "ledger" / "_costs.json"


def keep_costs(folder: Path, run: RunCost) -> RunCost:
    """Add a run to the costs in a collection's folder, and return all runs together."""
    runs = [*_kept(folder), run]
    together = _together(runs)
    path = costs_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**together.to_dict(), "rate_mb_s": RATE_MB_S, "runs": [each.to_dict() for each in runs]}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return together


def read_costs(folder: Path) -> RunCost | None:
    """All runs that a collection's folder tells of, together; ``None`` where it tells of none."""
    runs = _kept(folder)
    return _together(runs) if runs else None


def _kept(folder: Path) -> list[RunCost]:
    """The runs so far; none where the file is not there or is damaged: a comparison is not worth stopping a build for."""
    try:
        runs = json.loads(costs_path(folder).read_text(encoding="utf-8"))["runs"]
        return [
            RunCost(
                samples=run["samples"], shards=run["shards"],
                estimate=Cost(**run["estimate"]), actual=Cost(**run["actual"]),
            )
            for run in runs
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _together(runs: Sequence[RunCost]) -> RunCost:
    return RunCost(
        samples=sum(run.samples for run in runs),
        shards=sum(run.shards for run in runs),
        estimate=_sum([run.estimate for run in runs]),
        actual=_sum([run.actual for run in runs]),
    )


def _sum(costs: Sequence[Cost]) -> Cost:
    """The sum; not measured where one of them is not."""
    requests, sizes = [cost.requests for cost in costs], [cost.bytes for cost in costs]
    return _cost(
        None if None in requests else sum(filter(None, requests)),
        None if None in sizes else sum(filter(None, sizes)),
        sum(cost.seconds for cost in costs),
    )
