"""A made study of any size, with planted effects, in the columns that studies write."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

COLUMNS = [
    "dataset", "model", "run", "pretrain_seed", "weights_hash", "data_hash", "task", "task_group", "task_hash", "kind",
    "probe", "n_train", "size", "seed", "group", "metric", "primary", "value", "ci_low", "ci_high", "num_test", "drawn",
]  # fmt: skip
CONTINENTS = ("Africa", "Asia", "Europe", "North America", "Oceania", "South America")
BIOMES = ("Deserts & Xeric Shrublands", "Temperate Broadleaf & Mixed Forests", "Tundra")
# the order in which they do well, and by how much
QUALITY = {
    "europe": 0.060, "north-america": 0.048, "south-america": 0.035, "asia": 0.028, "global": 0.010, "oceania": -0.008,
    "africa": -0.050, "none": -0.090,
}  # fmt: skip
DIVERSITY = {  # continent, biome, landcover, spectral: as read off the paper's figure
    "europe": (0, 1.470, 1.671, 2.461), "north-america": (0, 1.343, 1.931, 1.788), "south-america": (0, 1.633, 1.526, 2.420),
    "asia": (0, 1.938, 1.793, 2.297), "global": (1.791, 2.202, 1.861, 2.119), "oceania": (0, 1.475, 1.427, 2.133),
    "africa": (0, 1.249, 1.604, 1.611),
}  # fmt: skip
TASKS = {  # task: (group, metric, level, test samples)
    "fmow-sentinel": ("FMoW-Sentinel", "accuracy", 0.26, 12000),
    "mosaiks-population": ("MOSAIKS", "r2", 0.20, 8000),
    "forty": ("ForTy", "macro_f1", 0.34, 9000),
    "m-eurosat": ("GEO-Bench", "accuracy", 0.62, 2000),
    "m-bigearthnet": ("GEO-Bench", "micro_f1", 0.45, 1500),
    "m-so2sat": ("GEO-Bench", "accuracy", 0.38, 990),
}
MEASURES = ("continent", "biome", "landcover", "spectral")


def results(
    *,
    datasets=tuple(QUALITY),
    models=("satmae", "presto"),
    tasks=tuple(TASKS),
    probes=("knn", "linear", "finetune"),
    sizes=(5, 20, 100, None),
    seeds=10,
    groups=True,
    metrics=1,
    pretrain_seeds=1,
    noise=0.012,
) -> pd.DataFrame:
    """Scores of a study: a dataset's quality, a bonus at home, fewer samples less score, and noise by seed."""
    rng = np.random.default_rng(7)
    places = ["all"]
    if groups:
        places += [f"continent={c}" for c in CONTINENTS] + [f"biome={b}" for b in BIOMES]
    rows = pd.DataFrame(
        list(product(datasets, models, range(pretrain_seeds), tasks, probes, sizes, range(seeds), places)),
        columns=["dataset", "model", "pretrain_seed", "task", "probe", "size", "seed", "group"],
    )
    rows["size"] = rows["size"].astype(float)
    known = {name: TASKS.get(name, (name, "accuracy", 0.4, 1000)) for name in tasks}
    rows["task_group"] = rows["task"].map(lambda t: known[t][0])
    rows["metric"] = rows["task"].map(lambda t: known[t][1])
    level = rows["task"].map(lambda t: known[t][2]) + rows["dataset"].map(QUALITY).fillna(0.0)
    level += rows["probe"].map({"knn": -0.02, "linear": 0.0, "finetune": 0.05}).fillna(0.0)
    level += rows["model"].map({"satmae": 0.0, "presto": -0.015}).fillna(0.0)
    home = [
        g == f"continent={d.replace('-', ' ').title()}" for d, g in zip(rows["dataset"], rows["group"], strict=True)
    ]
    level += 0.03 * np.array(home) + rows["group"].map({p: 0.02 * (i - 4) / 5 for i, p in enumerate(places)})
    few = rows["size"].notna()
    level = level - np.where(few, 0.11 / np.sqrt(rows["size"].fillna(1)), 0.0)
    rows["value"] = level + noise * rng.standard_normal(len(rows)) * np.where(few, 1.6, 1.0)
    total = rows["task"].map(lambda t: known[t][3]).to_numpy()
    rows["num_test"] = np.where(rows["group"] == "all", total, total // 9)
    half = 1.96 * np.sqrt(0.2 / rows["num_test"])
    rows["ci_low"], rows["ci_high"] = rows["value"] - half, rows["value"] + half
    rows["primary"], rows["kind"], rows["drawn"] = True, "classification", ""
    rows["n_train"] = rows["size"].fillna(20000).astype(int)
    rows["run"] = rows["dataset"] + "-" + rows["model"]
    rows["weights_hash"] = ["w" + format(hash_of(r), "015x") for r in rows["run"]]
    rows["data_hash"] = ["d" + format(hash_of(r), "015x") for r in rows["dataset"]]
    rows["task_hash"] = ["t" + format(hash_of(r), "015x") for r in rows["task"]]
    parts = [rows] + [
        rows.assign(metric=f"other{i}", primary=False, value=rows["value"] - 0.1) for i in range(1, metrics)
    ]
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def hash_of(text: str) -> int:
    return sum((i + 1) * 7919 * ord(c) ** 3 for i, c in enumerate(text)) % 16**15


def datasets_table(names=tuple(DIVERSITY)) -> pd.DataFrame:
    """What a study knows of its datasets."""
    rows = []
    for name in names:
        row = {
            "dataset": name,
            "title": name.replace("-", " ").title(),
            "num_samples": 700_000,
            "hash": f"d{name:0<15}"[:16],
        }
        for measure, value in zip(MEASURES, DIVERSITY.get(name, (np.nan,) * 4), strict=True):
            half = 0.0 if value == 0 else 0.03
            row |= {measure: value, f"{measure}_low": value - half, f"{measure}_high": value + half}
        rows.append(row | {"cloud": 4.2, "bytes": 154_000_000_000})
    return pd.DataFrame(rows)


def costs_table(table: pd.DataFrame) -> pd.DataFrame:
    """What each job of a study took."""
    rows = []
    for dataset, model in table[["dataset", "model"]].drop_duplicates().itertuples(index=False):
        rows.append((f"pretrain-{dataset}-{model}", "pretrain", dataset, model, "", 52_000.0, 14.4, 4.4e8, "H200"))
        for task in table["task"].unique():
            rows.append((f"embed-{dataset}-{model}-{task}", "embed", dataset, model, task, 340.0, 0.09, 6.1e7, "H200"))
            rows.append((f"evaluate-{dataset}-{model}-{task}", "evaluate", dataset, model, task, 75.0, 0.0, 2e5, "cpu"))
    return pd.DataFrame(
        rows, columns=["job", "kind", "dataset", "model", "task", "seconds", "gpu_hours", "bytes", "device"]
    )


def write_study(
    folder: Path,
    table: pd.DataFrame,
    *,
    datasets: pd.DataFrame | None = None,
    costs: bool = True,
    document: dict | None = None,
) -> Path:
    """The folder that a study leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "results.csv", index=False)
    if datasets is not None:
        datasets.to_csv(folder / "datasets.csv", index=False)
    if costs:
        costs_table(table).to_csv(folder / "costs.csv", index=False)
    if document is not None:
        (folder / "study.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def made():
    """The functions that make studies."""
    return type(
        "Made",
        (),
        {
            "results": staticmethod(results), "datasets": staticmethod(datasets_table), "write": staticmethod(write_study),
            "columns": COLUMNS, "tasks": TASKS, "quality": QUALITY,
        },
    )  # fmt: skip
