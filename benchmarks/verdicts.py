"""How often ``pwcat correlate`` says what it should: studies of no relation and of planted ones, each drawn anew.

A study is a table of datasets with four measures and a score, all normal; the score goes with the first measure by the Spearman
correlation said, and with no other. Told are the shares of studies in which the first measure is "shown" and "suggestive", in
which any of the others is "shown" (a false finding), in which p is at most .05 (over all measures without a relation), and in
which the BCa interval holds the truth, of those that have one (a coefficient of exactly 1 has none). The spread of a share of
400 is at most .025. ``alone`` is the share of "shown" where the first measure is the only one that was tried.

    python benchmarks/verdicts.py [--studies 400] [--out benchmarks/results/verdicts.json]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measured import RESULTS, keep
from rich.box import SIMPLE_HEAD
from rich.table import Table

from training.correlation import correlate_table
from training.relating.power import detectable

MEASURES = list("abcd")
PLANTED = (0.0, 0.6, 0.8, 0.9, 0.95)
DATASETS = (7, 10)


def study(rng: np.random.Generator, *, n: int, rho: float) -> pd.DataFrame:
    x = rng.normal(size=(n, len(MEASURES)))
    r = 2 * np.sin(np.pi * rho / 6)  # Pearson's of normal data that have this Spearman's
    return pd.DataFrame(x, columns=MEASURES).assign(score=r * x[:, 0] + np.sqrt(1 - r * r) * rng.normal(size=n))


def shares(*, n: int, rho: float, studies: int) -> dict[str, Any]:
    rng, rows = np.random.default_rng([n, round(100 * rho)]), []
    for _ in range(studies):
        first, *others = correlate_table(study(rng, n=n, rho=rho), score="score", by=MEASURES, rng=rng, resamples=999)
        null = others if rho else [first, *others]
        rows.append(
            {
                "shown": first.verdict.word == "shown",
                "suggestive": first.verdict.word == "suggestive",
                "false": any(c.verdict.word == "shown" for c in null),
                "p .05": float(np.mean([c.p <= 0.05 for c in null])),
                "interval": np.isfinite(first.ci_low),
                "covered": first.ci_low <= rho <= first.ci_high,
            }
        )
    found = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return {"n": n, "rho": rho, **found, "covered": found["covered"] / found["interval"]}


def one_measure(*, n: int, rho: float, studies: int) -> float:
    """The share of "shown" where the measure is the only one that was tried."""
    rng = np.random.default_rng([n, round(100 * rho), 1])
    tables = (study(rng, n=n, rho=rho)[["a", "score"]] for _ in range(studies))
    found = [correlate_table(t, score="score", by=["a"], rng=rng, resamples=99)[0].verdict.word for t in tables]
    return float(np.mean([word == "shown" for word in found]))


def shown(rows: list[dict[str, Any]], *, studies: int) -> Table:
    table = Table(
        title=f"Shares of {studies} studies of four measures", box=SIMPLE_HEAD, title_justify="left", pad_edge=False
    )
    for heading in rows[0]:
        table.add_column(heading.replace("shown alone", "alone"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(str(row["n"]), f"{row['rho']:.2f}", *(f"{value:.3f}" for value in list(row.values())[2:]))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--out", type=Path, default=RESULTS / "verdicts.json")
    options = parser.parse_args()
    start = time.perf_counter()
    rows = []
    for n in DATASETS:
        for rho in PLANTED:
            row = shares(n=n, rho=rho, studies=options.studies)
            rows.append({**row, "shown alone": one_measure(n=n, rho=rho, studies=options.studies)})
    power = {n: [detectable(n, method="spearman", alpha=alpha) for alpha in (0.05, 0.05 / 4)] for n in DATASETS}
    table = shown(rows, studies=options.studies)
    values = {
        "studies": options.studies,
        "seconds": time.perf_counter() - start,
        "rows": rows,
        "detectable at .05, .05 / 4": power,
    }
    keep(options.out, [table], **values)


if __name__ == "__main__":
    main()
