"""``pwcat correlate``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pandas as pd
from rich.console import Console

from pwcat.errors import TrainingError
from training.correlation import METHODS, correlate_table, read_table
from training.relating.showing import show_correlations
from training.relating.studies import Selection, is_long, read_study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["correlate"]


@click.command()
@click.argument("table", type=click.Path(exists=True, path_type=Path))
@click.option("--score", default="score", show_default=True, help="Column of the score.")
@click.option(
    "--by", default="continent,biome,landcover,spectral", show_default=True, help="Columns of diversity, by commas."
)
@click.option(
    "--given", default="", help="Columns of covariates for partial correlations, by commas: numbers or words."
)
@click.option(
    "--dataset", "unit", help="Column that names datasets; 'dataset' where there is one, else each row is one."
)
@click.option("--model", help="Of a study: the scores of this model.")
@click.option("--probe", help="Of a study: the scores of this probe, such as linear or knn-20.")
@click.option("--task-group", help="Of a study: one group of tasks; by default the mean of all, which weigh the same.")
@click.option("--group", help="Of a study: test samples of a place, such as 'continent=Africa'.  [default: all]")
@click.option("--size", type=click.IntRange(1), help="Of a study: few-shot draws of so many training samples.")
@click.option("--method", default="spearman", show_default=True, type=click.Choice(METHODS), help="Which coefficient.")
@click.option(
    "--alpha",
    default=0.05,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Level of the verdict.",
)
@click.option("--seed", default=0, show_default=True, type=int, help="Fixes the bootstrap and drawn orders.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw it all to this file, such as a PNG."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def correlate(
    table: Path,
    score: str,
    by: str,
    given: str,
    unit: str | None,
    model: str | None,
    probe: str | None,
    task_group: str | None,
    group: str | None,
    size: int | None,
    method: str,
    alpha: float,
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Relate diversity to scores in TABLE: a study's folder or its results.csv, or a CSV of one dataset a row, or one row a
    seed of a dataset.

    Correlation with exact p, interval, leave-one-out, power, correction for several metrics, and a verdict in words.
    """
    chosen = {"model": model, "probe": probe, "task_group": task_group, "group": group, "size": size}
    rows, told = _opened(table, {name: value for name, value in chosen.items() if value is not None})
    results = correlate_table(
        rows,
        score=score,
        by=_names(by),
        given=_names(given),
        unit=unit,
        method=next(each for each in METHODS if each == method),
        alpha=alpha,
        rng=np.random.default_rng(seed),
    )
    if plot is not None:
        from training.figures import relations_figure

        _save(relations_figure(results), plot)
    if as_json:
        click.echo(json.dumps([result.to_json() for result in results], allow_nan=False))
    else:
        for sentence in told:
            click.echo(sentence)
        show_correlations(results, console=Console())


def _opened(place: Path, chosen: Mapping[str, Any]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table of datasets, and what its scores are where they were chosen from a study's."""
    if place.is_dir() or is_long(table := read_table(place)):
        study = read_study(place, Selection(**chosen))
        return study.table, study.told
    if chosen:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in chosen)
        raise TrainingError(f"{options}: {place} has a row a dataset; only scores of a study can be chosen from")
    return table, ()


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path, dpi=160, facecolor="white")
    except (OSError, ValueError) as exc:
        raise TrainingError(f"the figure cannot be written to {path}: {exc}") from exc


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
