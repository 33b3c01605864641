"""How the embeddings of a study's models fill their space: their effective rank, by which a collapse is seen."""

from __future__ import annotations

import pandas as pd

from training.reporting.blocks import Cell, Row, Section, Sheet, Words
from training.reporting.digits import MISSING
from training.reporting.records import CONTROL, Records

__all__ = ["embeddings_section"]

RANKS = ("effective_rank", "effective_rank_centred")
COLLAPSED = 1.05  # below it, embeddings are all but the same, up to their length
WORDS = (
    "Effective rank of a model's embeddings of each task's samples (Roy and Vetterli, 2007): 1 where all are the same up to "
    "their length, at most the smaller one of samples and numbers. Least to highest over tasks and pretraining seeds. A rank "
    "tells of collapse, not of quality: compare it at the same number of samples alone."
)
NOTE = "An effective rank below 1.05: the embeddings have all but collapsed."


def embeddings_section(records: Records) -> Section | None:
    """A table by dataset and model; ``None`` where no embeddings were looked at."""
    table = _known(records)
    if not len(table):
        return None
    rows, frame, collapsed = [], [], False
    for key, part in table.groupby(["dataset", "model"], sort=False):
        dataset, model = map(str, key)
        low = part["effective_rank"].min()
        collapsed |= bool(low < COLLAPSED)
        rank = _range(part["effective_rank"]) + (" !" if low < COLLAPSED else "")
        texts = (
            records.titles.get(dataset, dataset),
            model or MISSING,
            rank,
            _range(part["effective_rank_centred"]),
            _range(part["most"], digits=0),
        )
        cells = tuple(Cell(text=text) for text in texts)
        rows.append(Row(cells=cells, dataset=dataset, control=dataset == CONTROL))
        ends = {f"{name}_{end}": getattr(part[name], end)() for name in RANKS for end in ("min", "max")}
        frame.append({"dataset": dataset, "model": model, "embedded": len(part), **ends})
    sheet = Sheet(
        name="embeddings",
        title="Effective rank of embeddings",
        heads=("Dataset", "Model", "Effective rank", "About the mean", "At most"),
        rows=tuple(rows),
        frame=pd.DataFrame(frame),
        note=f"! {NOTE}" if collapsed else "",
        words=(0, 1),
    )
    return Section(key="embeddings", title="Have embeddings collapsed?", blocks=[Words(WORDS), sheet])


def _known(records: Records) -> pd.DataFrame:
    """The study's own rows, those of rungs left out."""
    table = records.embeddings
    if not {"dataset", "model", "most", *RANKS} <= set(table):
        return pd.DataFrame(columns=["dataset", "model"])
    if "rung" in table:
        table = table[table["rung"].fillna("") == ""]
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in (*RANKS, "most")}
    table = table.assign(**numbers, model=table["model"].fillna("").astype(str)).dropna(subset="effective_rank")
    order = {name: place for place, name in enumerate(records.names)}
    return table.sort_values("dataset", key=lambda names: names.map(order), kind="stable")


def _range(values: pd.Series, *, digits: int = 1) -> str:
    if not values.notna().any():
        return MISSING
    low, high = (f"{end:,.{digits}f}" for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
