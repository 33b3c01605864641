"""The datasets themselves: how many samples, how diverse, how large."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from training.reporting.blocks import Block, Cell, Picture, Row, Section, Sheet, Words
from training.reporting.charts.dots import diversity_figure
from training.reporting.charts.looks import Looks
from training.reporting.digits import MISSING, amount, bounds, gigabytes
from training.reporting.records import CONTROL, MEASURES, Records

__all__ = ["bounds_of", "datasets_section"]


def bounds_of(records: Records, measure: str) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each dataset's diversity, where it is known."""
    columns = [f"{measure}_low", f"{measure}_high"]
    if not set(columns) <= set(records.datasets.columns):
        return {}
    numbers = records.datasets[columns].apply(pd.to_numeric, errors="coerce")
    return {
        str(name): (float(low), float(high))
        for name, low, high in numbers.itertuples()
        if np.isfinite(low) and np.isfinite(high)
    }


def values_of(records: Records, measure: str) -> dict[str, float]:
    """Each dataset's diversity; NaN where it is not known."""
    if measure not in records.datasets:
        return {}
    numbers = pd.to_numeric(records.datasets[measure], errors="coerce")
    return {str(name): float(value) for name, value in numbers.items() if name != CONTROL}


def datasets_section(records: Records, looks: Looks) -> Section:
    """Sizes and diversities, drawn and as a table."""
    names = [name for name in records.datasets.index if name != CONTROL]
    if not names:
        return Section(
            key="datasets",
            title="The datasets",
            blocks=[Words("Nothing is known of the datasets: there is no datasets.csv.")],
        )
    held = {measure: values_of(records, measure) for measure in MEASURES if measure in records.datasets}
    blocks: list[Block] = [
        Words(
            "Continent, biome and land-cover diversity are the Shannon entropy of the samples' classes; spectral "
            "diversity is the mean over samples of each one's own spectral entropy. All in nats."
        )
    ]
    if any(np.isfinite(v) for of in held.values() for v in of.values()):
        limits = {MEASURES[m]: bounds_of(records, m) for m in held}
        figure = diversity_figure({MEASURES[m]: of for m, of in held.items()}, limits, order=names, looks=looks)
        blocks.append(
            Picture(name="diversity", title="Diversity of each dataset, with 95 % intervals", figure=figure,
                    caption="Entropies with their 95 % intervals.")
        )  # fmt: skip
    blocks.append(_sheet(records, names, held))
    return Section(key="datasets", title="The datasets", blocks=blocks)


def _sheet(records: Records, names: list[str], held: Mapping[str, Mapping[str, float]]) -> Sheet:
    numbers = {c: (h, f) for c, (h, f) in {
        "num_samples": ("Samples", amount), "cloud": ("Cloud (%)", lambda v: f"{v:.1f}" if np.isfinite(v) else MISSING),
        "bytes": ("Size", gigabytes),
    }.items() if c in records.datasets}  # fmt: skip
    rows = []
    for name in names:
        cells = [Cell(text=records.titles[name])]
        for column, (_, shown) in numbers.items():
            value = pd.to_numeric(pd.Series([records.datasets.at[name, column]]), errors="coerce").iloc[0]
            cells.append(Cell(text=shown(float(value))))
        for measure, of in held.items():
            low, high = bounds_of(records, measure).get(name, (np.nan, np.nan))
            text = f"{of[name]:.3f}" if np.isfinite(of[name]) else MISSING
            cells.append(Cell(text=text, bounds=bounds(low, high, 3) if high > low else ""))
        cells.append(Cell(text=_hash(records, name)))
        rows.append(Row(cells=tuple(cells), dataset=name))
    heads = ("Dataset", *(head for head, _ in numbers.values()), *(MEASURES[m] for m in held), "Hash")
    return Sheet(
        name="datasets", title="Size and diversity", heads=heads, rows=tuple(rows),
        frame=records.datasets.loc[names].reset_index(), note="Diversity in nats with its 95 % interval.",
    )  # fmt: skip


def _hash(records: Records, name: str) -> str:
    value = records.datasets.at[name, "hash"] if "hash" in records.datasets else None
    return str(value)[:8] if isinstance(value, str) and value else MISSING
