"""From a study's scores to a table of datasets: rows of tasks, probes, draws and places, to a score of each dataset and seed.

A dataset's score is the mean over groups of tasks, each the mean over its tasks, each the mean over its seeds: groups weigh
the same, however many tasks they have, as in Kaur et al. (2026). Seeds stay rows, about that mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pwcat.errors import TrainingError
from training.scoring.metrics import LESS_IS_BETTER, WITH_UNITS

__all__ = [
    "LESS_IS_BETTER",
    "UNIT",
    "Selection",
    "StudyTable",
    "is_long",
    "long_rows",
    "mean_scores",
    "read_long",
    "read_study",
    "study_table",
]

CONTROL = "none"  # random weights: no dataset, and so no diversity
RESULTS, DATASETS = "results.csv", "datasets.csv"
NEEDED = ("dataset", "model", "task", "probe", "metric", "value")
WORDS = ("dataset", "model", "task", "task_group", "probe", "metric", "group", "drawn", "without")
NUMBERS = ("value", "size", "seed", "pretrain_seed")
UNIT, RUN = ["task_group", "task", "group"], ["pretrain_seed", "seed"]
DECIMALS = 12  # of scores: means of equal scores are then equal, and ties stay ties


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which scores are meant; what is ``None`` has to be the same in all of them, groups of tasks aside.

    Attributes:
        model: as the study calls it.
        probe: as scores call it, such as "linear" or "knn-20".
        task_group: one group of tasks; the mean of all by default.
        group: "all" test samples, or those of a place, such as "continent=Africa".
        size: training samples of a few-shot draw; by default all of them, where a study has that.
    """

    model: str | None = None
    probe: str | None = None
    task_group: str | None = None
    group: str = "all"
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class StudyTable:
    """A row a dataset and seed.

    Attributes:
        table: columns ``dataset`` and ``score``, and what is known of the dataset. The score is NaN of a dataset that lacks
            some of the tasks.
        told: what the scores are, a sentence each.
    """

    table: pd.DataFrame
    told: tuple[str, ...]


def is_long(table: pd.DataFrame) -> bool:
    """Whether a table has a row a figure, as studies write them, and not a row a dataset."""
    return set(NEEDED) <= set(table.columns)


def read_study(place: Path, selection: Selection) -> StudyTable:
    """The table of a study's folder, or of its ``results.csv``, beside which ``datasets.csv`` lies.

    Raises:
        TrainingError: a file is missing or lacks columns, or the selection leaves nothing, or leaves several of what may not
            be averaged.
    """
    results = place / RESULTS if place.is_dir() else place
    if not results.is_file():
        raise TrainingError(f"{place} has no {RESULTS}: nothing was scored there yet, or it is not a study's folder")
    if not (datasets := results.parent / DATASETS).is_file():
        raise TrainingError(f"{datasets} is missing: it holds the diversity of each dataset, a row each, by `dataset`")
    return study_table(read_long(results), read_long(datasets), selection)


def study_table(results: pd.DataFrame, datasets: pd.DataFrame, selection: Selection) -> StudyTable:
    """One row a dataset and seed, of scores in long form and what is known of each dataset.

    Raises:
        TrainingError: see :func:`read_study`.
    """
    rows, known = long_rows(results), _known(datasets)
    told: list[str] = []
    if rows.empty:
        raise TrainingError("there are no scores of a pretraining dataset yet: run the study first")
    rows = _in_group(rows, selection.group)
    for column, option in {"model": selection.model, "probe": selection.probe}.items():
        rows = _only(rows, column, option)
    rows = _of_tasks(_of_size(rows, selection.size), selection.task_group, told)
    scores = {str(name): _scores(part, _weights(rows)) for name, part in rows.groupby("dataset", sort=False)}
    _tell(told, rows, scores, known)
    table = pd.DataFrame(
        [{"dataset": name, "score": value} for name, values in scores.items() for value in values]
    ).merge(known, how="left", on="dataset")
    return StudyTable(table=table, told=tuple(told))


def long_rows(results: pd.DataFrame) -> pd.DataFrame:
    """The rows that datasets are scored by, each column of its type: of each task's own metric, the control left out.

    Raises:
        TrainingError: columns are missing or hold no numbers.
    """
    rows = _typed(results)
    return rows[rows["primary"] & rows["value"].notna() & (rows["without"] == "") & (rows["dataset"] != CONTROL)]


def mean_scores(rows: pd.DataFrame) -> dict[str, float]:
    """The score of each dataset, of :func:`long_rows` of one model, probe and size; NaN where it lacks a task of others."""
    weights = _weights(rows)
    return {
        str(name): float(np.round(np.mean(_scores(part, weights)), DECIMALS))
        for name, part in rows.groupby("dataset", sort=False)
    }


def read_long(path: Path) -> pd.DataFrame:
    """A table as studies write them, in which a dataset may be called "None" or "NA".

    Raises:
        TrainingError: it cannot be read.
    """
    try:
        return pd.read_csv(path, low_memory=False, keep_default_na=False, na_values=["", "nan", "NaN"])
    except (OSError, ValueError) as exc:
        raise TrainingError(f"{path} cannot be read as CSV: {exc}") from exc


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    if missing := [name for name in NEEDED if name not in table]:
        raise TrainingError(
            f"scores lack the columns {', '.join(missing)}; they have {', '.join(map(str, table.columns))}"
        )
    rows = pd.DataFrame(index=table.index)
    for name in WORDS:
        rows[name] = table[name].astype(object).where(table[name].notna(), "").astype(str) if name in table else ""
    for name in NUMBERS:
        rows[name] = _numbers(table[name], name) if name in table else np.nan
    rows["primary"] = table["primary"].astype(str).str.lower().isin({"true", "1"}) if "primary" in table else True
    rows["group"] = rows["group"].where(rows["group"] != "", "all")
    rows["task_group"] = rows["task_group"].where(rows["task_group"] != "", rows["task"])
    return rows.fillna({"seed": 0, "pretrain_seed": 0})


def _numbers(column: pd.Series, name: str) -> pd.Series:
    try:
        return pd.to_numeric(column).astype(np.float64)
    except (ValueError, TypeError) as exc:
        raise TrainingError(f"column {name!r} of the scores holds what is no number: {exc}") from exc


def _known(datasets: pd.DataFrame) -> pd.DataFrame:
    if "dataset" not in datasets:
        raise TrainingError(
            f"{DATASETS} has no column 'dataset' that would name them; it has {', '.join(map(str, datasets.columns))}"
        )
    known = datasets.astype({"dataset": str})
    if (twice := known["dataset"].duplicated()).any():
        raise TrainingError(f"{DATASETS} has several rows of {', '.join(known.loc[twice, 'dataset'].unique())}")
    return known.drop(columns="score", errors="ignore")


def _in_group(rows: pd.DataFrame, group: str) -> pd.DataFrame:
    """Test samples of a group, of draws from everywhere; where there are none, of draws within groups."""
    within = (rows["drawn"] != "") & (rows["drawn"] == rows["group"])
    wanted = rows["group"] == group
    for here in (wanted & (rows["drawn"] == ""), within if group == "all" else within & wanted):
        if here.any():
            return rows[here]
    raise TrainingError(f"no scores of test samples in {group!r}: there are {_listed(rows['group'])}")


def _only(rows: pd.DataFrame, column: str, wanted: str | None) -> pd.DataFrame:
    option = f"--{column.replace('_', '-')}"
    if wanted is None:
        if rows[column].nunique() > 1:
            raise TrainingError(f"the scores are of several: {_listed(rows[column])}. Choose one with {option}")
        return rows
    if not (here := rows[column] == wanted).any():
        raise TrainingError(f"{option} {wanted}: there are no such scores; there are {_listed(rows[column])}")
    return rows[here]


def _of_size(rows: pd.DataFrame, size: int | None) -> pd.DataFrame:
    sizes = rows["size"]
    if size is None and sizes.isna().any():
        return rows[sizes.isna()]
    known = sizes.dropna().astype(int).astype(str)
    if size is None and known.nunique() > 1:
        raise TrainingError(f"the scores are of draws of {_listed(known)} samples. Choose one with --size")
    if size is not None and not (sizes == size).any():
        raise TrainingError(
            f"--size {size}: there are no such scores; there are {_listed(known) or 'those of all samples'}"
        )
    return rows if size is None else rows[sizes == size]


def _of_tasks(rows: pd.DataFrame, task_group: str | None, told: list[str]) -> pd.DataFrame:
    """One group of tasks, or all in which more is better: their mean with errors would mean nothing."""
    if task_group is not None:
        rows = _only(rows, "task_group", task_group)
    less = rows["metric"].isin(LESS_IS_BETTER)
    if less.all():
        told.append("Less is better of these scores: a negative coefficient is in favour.")
        if rows["metric"].isin(WITH_UNITS).any() and rows["task"].nunique() > 1:
            told.append(
                f"Errors of {_listed(rows['task'])} have units of their own, and the largest numbers count most in their mean: "
                "give each task a `group` of its own, and choose it with --task-group."
            )
        return rows
    if less.any():
        told.append(f"Left out, as less is better there: {_listed(rows.loc[less, 'task'])}.")
    return rows[~less]


def _weights(rows: pd.DataFrame) -> pd.Series:
    """What each task (within a group of places) weighs: groups of tasks the same, and within them tasks the same."""
    units = rows[UNIT].drop_duplicates()
    share = 1 / units.groupby("task_group")["task_group"].transform("size") / units["task_group"].nunique()
    return pd.Series(share.to_numpy(), index=pd.MultiIndex.from_frame(units))


def _scores(rows: pd.DataFrame, weights: pd.Series) -> list[float]:
    """The scores of a dataset, one a run, whose mean is that over the runs of each task; NaN where a task is missing."""
    runs = rows.drop_duplicates([*UNIT, *RUN], keep="first").pivot(index=RUN, columns=UNIT, values="value")
    if len(runs.columns) < len(weights):
        return [np.nan]
    runs, share = runs.sort_index(), weights.reindex(runs.columns).to_numpy()
    mean = float(runs.mean().to_numpy() @ share)
    each_R = _aligned(runs) @ share
    shifted = np.round(each_R + (mean - each_R.mean()), DECIMALS)
    return [round(mean, DECIMALS)] if len(shifted) == 1 or np.ptp(shifted) == 0 else shifted.tolist()


def _aligned(runs: pd.DataFrame) -> np.ndarray:
    """Runs that every task has, (R, tasks); a task of one run has it in all. Those that share none are paired in order."""
    held = [column.dropna().to_numpy() for _, column in runs.items()]
    if all(len(values) == 1 for values in held):
        return np.concatenate(held)[None]
    filled = runs.copy()
    for column, values in zip(runs.columns, held, strict=True):
        if len(values) == 1:
            filled[column] = values[0]
    if len(shared := filled.dropna()) > 1:
        return shared.to_numpy()
    least = min(len(values) for values in held if len(values) > 1)
    return np.stack([np.resize(values, least) if len(values) == 1 else values[:least] for values in held], axis=1)


def _tell(told: list[str], rows: pd.DataFrame, scores: Mapping[str, list[float]], known: pd.DataFrame) -> None:
    first = rows.iloc[0]
    size = "all training samples" if np.isnan(first["size"]) else f"{first['size']:.0f} training samples a draw"
    within = "within each of " if (rows["drawn"] != "").all() else ""
    groups = [str(name) for name in rows["task_group"].unique()]
    of = f"the mean of {', '.join(groups)}" if len(groups) > 1 else groups[0]
    told.insert(0, f"Scores: {of}; {first['model']}, {first['probe']}; {size}; tested {within}{_places(rows)}.")
    if missing := [name for name, values in scores.items() if np.isnan(values).any()]:
        told.append(f"Without a score of every task, and so left out: {', '.join(missing)}.")
    if unknown := [name for name in scores if name not in set(known["dataset"])]:
        told.append(f"Not in {DATASETS}, and so left out: {', '.join(unknown)}.")
    if unscored := [name for name in known["dataset"] if name not in scores]:
        told.append(f"Without any such score: {', '.join(unscored)}.")


def _places(rows: pd.DataFrame) -> str:
    groups = [str(name) for name in rows["group"].unique()]
    if len(groups) > 1:
        kinds = {name.partition("=")[0] for name in groups}
        return f"{len(groups)} groups ({', '.join(sorted(kinds))})"
    return "everywhere" if groups == ["all"] else groups[0]


def _listed(column: pd.Series) -> str:
    return ", ".join(sorted(map(str, column.unique())))
