"""What a study has left, read and checked: its scores, datasets, costs and document."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from pwcat.errors import PwcatError, TrainingError
from training.scoring.metrics import LESS_IS_BETTER, METRIC_WORDS, WITH_UNITS
from training.study import status_of
from training.studying.status import Status

__all__ = ["CONTROL", "MEASURES", "Records", "listed", "metric_words", "read_records"]

log = logging.getLogger(__name__)

CONTROL = "none"  # random weights
MEASURES = {"spectral": "Spectral", "continent": "Continent", "biome": "Biome", "landcover": "Land cover"}
NEEDED = ("dataset", "model", "task", "probe", "metric", "value")
# columns that are filled where a study has none of them
WORDS = {
    "task_group": "", "group": "all", "drawn": "", "run": "", "weights_hash": "", "data_hash": "", "task_hash": "",
    "kind": "", "rung": "",
}  # fmt: skip
NUMBERS = ("size", "ci_low", "ci_high", "num_test", "n_train")
SEEDS = ("seed", "pretrain_seed")
KEY = (
    "dataset", "model", "pretrain_seed", "task", "probe", "size", "seed", "group", "drawn", "metric", "rung",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Records:
    """A study's tables.

    Attributes:
        folder: of the study.
        document: its resolved YAML; empty where there is none.
        provenance: what identifies the document, such as its hash and the version that wrote it.
        results: a row a figure, those of rungs of the proxy ladder with its name in ``rung``, and three columns more:
            ``column``, that of the main table that its task belongs to; ``grouping``, what kind of group its test samples are
            ("continent"; empty of all); ``own``, whether its training samples were drawn within this group.
        datasets: a row a dataset, by name; may be empty.
        costs: a row a job; may be empty.
        embeddings: a row a model and task: effective rank of its embeddings; may be empty.
        remarks: what was not there, or left out, a sentence each.
        jobs: of the study that the folder holds, and how far they are; empty where it holds none.
    """

    folder: Path
    document: Mapping[str, Any]
    provenance: Mapping[str, str]
    results: pd.DataFrame
    datasets: pd.DataFrame
    costs: pd.DataFrame
    remarks: tuple[str, ...]
    jobs: tuple[Status, ...] = ()
    embeddings: pd.DataFrame = field(default_factory=pd.DataFrame)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Datasets in the order of the study, the control last."""
        found = dict.fromkeys([*self.datasets.index, *self.results["dataset"].unique()])
        return (*(name for name in found if name != CONTROL), *([CONTROL] if CONTROL in found else []))

    @cached_property
    def untrained(self) -> frozenset[str]:
        """Models that have nothing to train, and are scored once, as the control is."""
        entries = self.document.get("models") or ()
        return frozenset(str(entry["name"]) for entry in entries if entry.get("trained") is False)

    @cached_property
    def titles(self) -> dict[str, str]:
        """What to call each in tables and figures: its title where that is told and no other dataset has it."""
        titles = self.datasets["title"] if "title" in self.datasets else pd.Series(dtype=object)
        told = {name: str(title) for name, title in titles.items() if isinstance(title, str) and title.strip()}
        twice = {title for title in told.values() if list(told.values()).count(title) > 1}
        return {
            name: "None" if name == CONTROL else name if told.get(name, name) in twice else told.get(name, name)
            for name in self.names
        }

    @cached_property
    def _of_column(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Metrics and tasks of each column of the main table, in the order that they first come."""
        rows = self.results.loc[self.results["primary"], ["column", "metric", "task"]].drop_duplicates()
        return {
            str(name): (tuple(part["metric"].astype(str).unique()), tuple(part["task"].astype(str).unique()))
            for name, part in rows.groupby("column", sort=False, observed=True)
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the main table: groups of tasks, in the order they first come."""
        return tuple(self._of_column)

    def lower(self, column: str) -> bool:
        """Whether less is better in this column."""
        return self._of_column[column][0][0] in LESS_IS_BETTER

    def metrics(self, column: str) -> str:
        """What is scored in this column, in words."""
        return ", ".join(metric_words(metric) for metric in self._of_column[column][0])

    def tasks(self, column: str) -> tuple[str, ...]:
        """Tasks of a column."""
        return self._of_column[column][1]


def metric_words(metric: str) -> str:
    """A metric as papers call it."""
    return METRIC_WORDS.get(metric, metric.replace("_", " "))


def read_records(folder: Path) -> Records:
    """The tables of a study's folder.

    Raises:
        TrainingError: there are no scores, columns are missing or hold no numbers, or a file cannot be read.
    """
    remarks: list[str] = []
    results = _results(folder, remarks)
    document, provenance = _document(folder / "study.yaml", remarks)
    datasets = _optional(
        folder / "datasets.csv", "the datasets' sizes and diversity, and how these go with the scores,", remarks
    )
    if "dataset" in datasets:
        datasets = (
            datasets.dropna(subset="dataset").astype({"dataset": str}).drop_duplicates("dataset").set_index("dataset")
        )
    elif len(datasets.columns):
        raise TrainingError(f"{folder / 'datasets.csv'} has no column 'dataset', only {', '.join(datasets.columns)}")
    return Records(
        folder=folder,
        document=document,
        provenance=provenance,
        results=results,
        datasets=datasets,
        costs=_optional(folder / "costs.csv", "what it cost", remarks),
        remarks=tuple(remarks),
        jobs=_jobs(folder),
        embeddings=_read(folder / "embeddings.csv") if (folder / "embeddings.csv").is_file() else pd.DataFrame(),
    )


def _results(folder: Path, remarks: list[str]) -> pd.DataFrame:
    path = folder / "results.csv"
    if not path.is_file():
        raise TrainingError(f"{folder} has no results.csv: nothing was scored there yet, or it is not a study's folder")
    table = _read(path)
    if missing := [name for name in NEEDED if name not in table]:
        raise TrainingError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
    table = pd.concat([_typed(table, path), *_rungs(folder)], ignore_index=True)
    if undefined := int(table["value"].isna().sum()):
        remarks.append(f"{undefined:,} of {len(table):,} scores are undefined (NaN) and left out.")
        table = table[table["value"].notna()]
    if not len(table):
        raise TrainingError(f"{path} has no scores yet: run the study first")
    doubled = table.duplicated(list(KEY), keep="first")
    if doubled.any():
        remarks.append(
            f"{int(doubled.sum()):,} scores are of the same model, task, probe, size and seed as others; the first ones count."
        )
        table = table[~doubled]
    table = table.assign(
        column=_columns(table),
        grouping=table["group"].str.partition("=")[0].where(table["group"].str.contains("=", regex=False), ""),
        own=(table["drawn"] != "") & (table["drawn"] == table["group"]),
    ).reset_index(drop=True)
    words = [name for name in table if table[name].dtype == object]
    return table.astype(dict.fromkeys(words, "category"))  # half a million rows of words are compared hundreds of times


def _rungs(folder: Path) -> Iterator[pd.DataFrame]:
    """Scores of the rungs of the proxy ladder, each named by its file."""
    for path in sorted((folder / "rungs").glob("*.csv")):
        table = _read(path)
        if len(table) and set(NEEDED) <= set(table):
            yield _typed(table, path).assign(rung=path.stem)


def _typed(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """With all columns, each of its type: words without NaN, numbers, seeds as whole numbers, ``primary`` as truth."""
    for name in (*NUMBERS, "value"):
        table[name] = _numbers(table, name, path) if name in table else np.nan
    for name in SEEDS:
        table[name] = _numbers(table, name, path).fillna(0).astype(np.int64) if name in table else 0
    for name, default in {**WORDS, **dict.fromkeys(NEEDED[:-1], "")}.items():
        words = table[name].astype(object).where(table[name].notna(), default) if name in table else default
        table[name] = pd.Series(words, index=table.index, dtype=object).astype(str)
    truth = table["primary"].astype(str).str.lower().isin({"true", "1", "1.0"}) if "primary" in table else True
    table["primary"] = truth
    table["task_group"] = table["task_group"].where(table["task_group"] != "", table["task"])
    table["group"] = table["group"].where(table["group"] != "", "all")
    return table


def _numbers(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    try:
        return pd.to_numeric(table[name]).astype(np.float64)
    except (ValueError, TypeError) as exc:
        raise TrainingError(f"{path}: column {name} holds what is no number: {exc}") from exc


def _columns(table: pd.DataFrame) -> pd.Series:
    """The group of each task; the task itself where the mean of a group would mean nothing.

    That is so where scores and errors are in one group, or errors of several tasks in units of their own.
    """
    primary = table[table["primary"]]
    of, metric = primary["task_group"], primary["metric"]
    mixed = metric.isin(LESS_IS_BETTER).groupby(of).nunique() > 1
    several = (primary["task"].groupby(of).nunique() > 1) & metric.isin(WITH_UNITS).groupby(of).any()
    groups = set(mixed.index[mixed | several])
    return table["task_group"].where(~table["task_group"].isin(groups), table["task"])


def _jobs(folder: Path) -> tuple[Status, ...]:
    if not (folder / "jobs").is_dir():  # tables alone, such as those of another program
        return ()
    try:
        return tuple(status_of(folder))
    except PwcatError as exc:
        log.warning("why jobs failed cannot be told: %s", exc)
        return ()


def _optional(path: Path, without: str, remarks: list[str]) -> pd.DataFrame:
    if not path.is_file():
        remarks.append(f"There is no {path.name}: {without.rstrip(',')} cannot be told.")
        return pd.DataFrame()
    return _read(path)


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, low_memory=False, keep_default_na=False, na_values=["", "nan", "NaN"])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError) as exc:
        raise TrainingError(f"{path} cannot be read as CSV: {exc}") from exc


def _document(path: Path, remarks: list[str]) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """The study, and what stands around it: a study's folder keeps it under ``study``, beside its hash."""
    if not path.is_file():
        remarks.append(
            "There is no study.yaml: how to rerun it cannot be told, and what is missing only from its scores."
        )
        return {}, {}
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as exc:
        raise TrainingError(f"{path} cannot be read as YAML: {exc}") from exc
    if not isinstance(document, dict):
        raise TrainingError(f"{path} is no study: a mapping is needed")
    study = document.get("study", document)
    if not isinstance(study, dict):
        raise TrainingError(f"{path} is no study: what stands under `study` is no mapping")
    return study, {key: str(document[key]) for key in ("hash", "pwcat") if document.get(key)}


def listed(words: Sequence[str], *, most: int = 12) -> str:
    """Words with commas, the rest counted."""
    shown = ", ".join(words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most} more"
