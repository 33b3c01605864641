"""What a study cost: time, hours of GPUs and bytes, by stage and by dataset."""

from __future__ import annotations

import numpy as np
import pandas as pd

from training.reporting.blocks import Block, Cell, Fold, Row, Section, Sheet, Words
from training.reporting.digits import MISSING, amount, gigabytes, hours
from training.reporting.records import Records

__all__ = ["costs_section", "total_cost"]

STAGES = {
    "dataset": "Datasets", "pretrain": "Pretraining", "embed": "Embeddings", "evaluate": "Probes", "finetune": "Fine-tuning",
}  # fmt: skip
HEADS = ("Jobs", "Wall time", "GPU hours", "On disk")
NUMBERS = ("seconds", "gpu_hours", "bytes")


def total_cost(records: Records) -> dict[str, float]:
    """Seconds, GPU hours and bytes of all jobs; NaN where nothing is known."""
    table = _table(records)
    return {name: float(table[name].sum()) if len(table) else float("nan") for name in NUMBERS}


def costs_section(records: Records) -> Section:
    """Tables by stage, and by dataset and model."""
    table = _table(records)
    if not len(table):
        return Section(
            key="costs",
            title="What it cost",
            blocks=[Words("Nothing is known of what it cost: there are no costs.csv or no jobs in it.")],
        )
    blocks: list[Block] = [
        Words("Wall time of the jobs, one after the other; several machines took as much together, in less time."),
        _by_stage(table),
    ]
    if table["dataset"].astype(str).str.len().any():
        blocks.append(Fold(title="By dataset and model", blocks=[_by_dataset(table, records)]))
    return Section(key="costs", title="What it cost", blocks=blocks)


def _table(records: Records) -> pd.DataFrame:
    table = records.costs.copy()
    if not len(table):
        return pd.DataFrame(columns=[*NUMBERS, "kind", "dataset", "model", "device"])
    for name in NUMBERS:
        table[name] = pd.to_numeric(table[name], errors="coerce") if name in table else np.nan
    for name in ("kind", "dataset", "model", "device"):
        table[name] = table[name].fillna("").astype(str) if name in table else ""
    return table


def _by_stage(table: pd.DataFrame) -> Sheet:
    order = [*(kind for kind in STAGES if kind in set(table["kind"])), *sorted(set(table["kind"]) - set(STAGES))]
    parts = [(STAGES.get(kind, kind or "other"), table[table["kind"] == kind]) for kind in order]
    rows, frame = [], []
    for words, part in [*parts, ("Total", table)]:
        devices = ", ".join(sorted(set(part["device"]) - {""})) or MISSING
        texts = (
            words,
            amount(len(part)),
            hours(part["seconds"].sum()),
            _gpu(part),
            gigabytes(part["bytes"].sum()),
            devices,
        )
        rows.append(Row(cells=tuple(Cell(text=text) for text in texts), control=words == "Total"))
        sums = {name: part[name].sum() for name in NUMBERS}
        frame.append({"stage": words, "jobs": len(part), **sums, "devices": devices})
    return Sheet(
        name="costs", title="By stage", heads=("Stage", *HEADS, "Device"), rows=tuple(rows),
        frame=pd.DataFrame(frame), words=(0, 5),
    )  # fmt: skip


def _by_dataset(table: pd.DataFrame, records: Records) -> Sheet:
    rows, frame = [], []
    named = table[table["dataset"] != ""]
    for key, part in named.groupby(["dataset", "model"], sort=False):
        dataset, model = map(str, key)
        title, wall = records.titles.get(dataset, dataset), hours(part["seconds"].sum())
        texts = (title, model or MISSING, amount(len(part)), wall, _gpu(part), gigabytes(part["bytes"].sum()))
        rows.append(Row(cells=tuple(Cell(text=text) for text in texts), dataset=dataset))
        frame.append({"dataset": dataset, "model": model, "jobs": len(part), **{n: part[n].sum() for n in NUMBERS}})
    return Sheet(
        name="costs-datasets", title="By dataset and model", heads=("Dataset", "Model", *HEADS),
        rows=tuple(rows), frame=pd.DataFrame(frame), words=(0, 1),
    )  # fmt: skip


def _gpu(part: pd.DataFrame) -> str:
    total = part["gpu_hours"].sum(min_count=1)
    return f"{total:,.1f}" if np.isfinite(total) else MISSING
