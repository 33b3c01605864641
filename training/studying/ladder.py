"""The proxy ladder: does a smaller study order the datasets as the study itself does?

Each rung is the same study at a smaller model, fewer samples or fewer epochs. For each model, task and probe, and for the mean
of all groups of tasks, the rank correlation of the datasets' scores between a rung and the study says how far the rung can be
trusted, and the share of its costs what that saves. Scores are those of :mod:`training.relating.studies`, as in the report.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from pwcat.errors import TrainingError
from training.relating.rungs import Beside, beside
from training.relating.studies import long_rows, read_long
from training.studying.results import COSTS, LADDER, RESULTS, RUNGS, read_rows, write_table

__all__ = ["Step", "climb", "write_ladder"]

ALL_TASKS = "mean score"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A rung beside the study, for one model, task and probe.

    Attributes:
        rung: its name.
        model: of the study.
        task: of the study; "mean score" for the mean over groups of tasks, which weigh the same.
        probe: as scores name it.
        n: datasets that both have, the control left out.
        rho: Spearman's; ``None`` where a side is constant, or there are fewer than three datasets.
        ci_low: lower bound of the 95 % bootstrap interval over datasets.
        ci_high: upper bound.
        p: two-sided.
        same_best: whether both have the same dataset first.
        cost_share: of the time of pretraining, the rung's of the study's; ``None`` where it is not known.
    """

    rung: str
    model: str
    task: str
    probe: str
    n: int
    rho: float | None
    ci_low: float | None
    ci_high: float | None
    p: float | None
    same_best: bool
    cost_share: float | None


Scored = Mapping[tuple[str, str, str], pd.DataFrame]  # rows by model, task and probe


def climb(folder: Path, rungs: Sequence[str]) -> list[Step]:
    """Compare each rung of a study's folder with the study itself, by what is done.

    Raises:
        TrainingError: the study has no rungs, or nothing that both have was scored yet.
    """
    if not rungs:
        raise TrainingError(
            f"{folder}: the study has no rungs. Say them in its file, such as `rungs: [{{name: short, set: {{epochs: 5}}}}]`, "
            "and run it again"
        )
    whole, shares = _scored(folder / RESULTS), _cost_shares(read_rows(folder / COSTS), rungs)
    steps = []
    for rung in rungs:
        small = _scored(folder / RUNGS / f"{rung}.csv")
        for key in [key for key in whole if key in small]:
            both = beside(whole[key], small[key], name=f"{rung}/{key[0]}/{key[2]}")
            steps.append(_step(rung, key, both, shares.get((rung, key[0]))))
    if not steps:
        raise TrainingError(
            f"{folder}: no task was scored both by a rung and by the study yet; `pwcat study run {folder}`"
        )
    return steps


def write_ladder(folder: Path, steps: Sequence[Step]) -> Path:
    """Write ``ladder.csv``; its path."""
    write_table(folder / LADDER, tuple(Step.__dataclass_fields__), (asdict(step) for step in steps))
    return folder / LADDER


def _scored(path: Path) -> Scored:
    """The rows of each model, task and probe, and, where there are several tasks, of all of them."""
    if not path.is_file():
        return {}
    rows = long_rows(read_long(path))
    found: dict[tuple[str, str, str], pd.DataFrame] = {}
    for (model, probe), of in rows.groupby(["model", "probe"], sort=False):
        every = {(str(model), str(task), str(probe)): part for task, part in of.groupby("task", sort=False)}
        found |= every | ({(str(model), ALL_TASKS, str(probe)): of} if len(every) > 1 else {})
    return found


def _step(rung: str, key: tuple[str, str, str], both: Beside, share: float | None) -> Step:
    model, task, probe = key
    found = both.found
    rho, ci_low, ci_high, p = (
        (_known(v) for v in (found.rho, found.ci_low, found.ci_high, found.p)) if found else [None] * 4
    )
    return Step(
        rung=rung,
        model=model,
        task=task,
        probe=probe,
        n=len(both.pairs),
        rho=rho,
        ci_low=ci_low,
        ci_high=ci_high,
        p=p,
        same_best=bool(both.same_best),
        cost_share=share,
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cost_shares(rows: Iterable[Mapping[str, str]], rungs: Sequence[str]) -> dict[tuple[str, str], float]:
    """The time that a rung's pretrainings took, of those of the study, by rung and model."""
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "pretrain":
            inner = row["job"].split("/")[1]
            rung = inner.removeprefix("rung-") if inner.startswith("rung-") else ""
            seconds[rung, row["model"]].append(float(row["seconds"]))
    means = {key: sum(found) / len(found) for key, found in seconds.items()}
    return {
        (rung, model): mean / means["", model]
        for (rung, model), mean in means.items()
        if rung in rungs and means.get(("", model))
    }
