"""The proxy ladder: does a smaller study order the datasets as the study itself does?

Each rung is the same study at a smaller model, fewer samples or fewer epochs. For each model, task and probe, datasets are
scored by the mean over seeds and draws; the rank correlation of these scores between a rung and the study says how far the
rung can be trusted, and the share of its costs what that saves.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from pwcat.errors import TrainingError
from training.correlation import LEAST, correlate
from training.studying.document import NONE
from training.studying.results import COSTS, LADDER, RESULTS, RUNGS, read_rows, write_table

__all__ = ["Step", "climb", "write_ladder"]

ALL_TASKS = "mean of tasks"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A rung beside the study, for one model, task and probe.

    Attributes:
        rung: its name.
        model: of the study.
        task: of the study; "mean of tasks" for the mean of all scores.
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


Scores = Mapping[tuple[str, str, str], Mapping[str, float]]  # by model, task and probe: of each dataset


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
    whole, shares = _scores(read_rows(folder / RESULTS)), _cost_shares(read_rows(folder / COSTS), rungs)
    steps = []
    for rung in rungs:
        small = _scores(read_rows(folder / RUNGS / f"{rung}.csv"))
        for key in [key for key in whole if key in small]:
            steps.append(_step(rung, key, whole[key], small[key], shares.get((rung, key[0]))))
    if not steps:
        raise TrainingError(
            f"{folder}: no task was scored both by a rung and by the study yet; `pwcat study run {folder}`"
        )
    return steps


def write_ladder(folder: Path, steps: Sequence[Step]) -> Path:
    """Write ``ladder.csv``; its path."""
    write_table(folder / LADDER, tuple(Step.__dataclass_fields__), (asdict(step) for step in steps))
    return folder / LADDER


def _scores(rows: Iterable[Mapping[str, str]]) -> Scores:
    """Mean score of each dataset, the control left out, by model, task and probe; and over tasks."""
    values: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        whole = row["group"] == "all" or (row["drawn"] and row["group"] == row["drawn"])
        if row["primary"] == "true" and whole and row["value"] and row["dataset"] != NONE:
            values[row["model"], row["task"], row["probe"]][row["dataset"]].append(float(row["value"]))
    means = {key: {name: math.fsum(found) / len(found) for name, found in of.items()} for key, of in values.items()}
    return {**means, **_over_tasks(means)}


def _over_tasks(means: Scores) -> dict[tuple[str, str, str], dict[str, float]]:
    tasks: dict[tuple[str, str], list[Mapping[str, float]]] = defaultdict(list)
    for (model, _, probe), of in means.items():
        tasks[model, probe].append(of)
    found = {}
    for (model, probe), every in tasks.items():
        if len(every) > 1:
            names = [name for name in every[0] if all(name in of for of in every)]
            found[model, ALL_TASKS, probe] = {name: math.fsum(of[name] for of in every) / len(every) for name in names}
    return found


def _step(
    rung: str, key: tuple[str, str, str], whole: Mapping[str, float], small: Mapping[str, float], share: float | None
) -> Step:
    names = [name for name in whole if name in small]
    x, y = np.array([small[name] for name in names]), np.array([whole[name] for name in names])
    model, task, probe = key
    rho = ci_low = ci_high = p = None
    if len(names) >= LEAST and np.ptp(x) > 0 and np.ptp(y) > 0:
        rng = np.random.default_rng(crc32(repr((rung, *key)).encode()))
        found = correlate(x, y, by=rung, rng=rng, names=names)
        rho, ci_low, ci_high, p = (_known(v) for v in (found.rho, found.ci_low, found.ci_high, found.p))
    return Step(
        rung=rung,
        model=model,
        task=task,
        probe=probe,
        n=len(names),
        rho=rho,
        ci_low=ci_low,
        ci_high=ci_high,
        p=p,
        same_best=bool(names) and names[int(x.argmax())] == names[int(y.argmax())],
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
