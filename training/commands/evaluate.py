"""``pwcat evaluate``."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from training.evaluate import Scores, Summary
from training.evaluate import evaluate as evaluate_run
from training.probes import PROBES
from training.recipe import load_train_recipe
from training.tasks import TASKS, make_task

__all__ = ["evaluate"]

SPLIT_HELP = "How train and test are told apart: the catalog's split, or places drawn here."


@click.command()
@click.argument("run")
@click.argument("data", type=click.Path(exists=True))
@click.option(
    "--task", default="landcover", show_default=True, type=click.Choice(sorted(TASKS)), help="What to predict."
)
@click.option(
    "--min-samples", type=click.IntRange(1), help="Rarer classes are left out; by default those of fewer than 10."
)
@click.option(
    "--probe",
    "probes",
    multiple=True,
    type=click.Choice(sorted(PROBES)),
    help="May be repeated; knn and logistic by default. Ridge is for numbers.",
)
@click.option("--control", metavar="RECIPE", help="With RUN none: the training recipe whose model is left untrained.")
@click.option(
    "--out", "out_dir", type=click.Path(file_okay=False), help="Folder for the scores; that of the run by default."
)
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1), help="Draws of training samples.")
@click.option("--split", default="column", show_default=True, type=click.Choice(["column", "blocks"]), help=SPLIT_HELP)
@click.option(
    "--block-km",
    default=100.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Side of a block, here and of validation.",
)
@click.option("--seed", default=0, show_default=True, type=int, help="Fixes every draw.")
@click.option("--device", default="cpu", show_default=True, help="Torch device.")
@click.option("--other-units", is_flag=True, help="Let data of another unit than in pretraining pass.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def evaluate(
    run: str,
    data: str,
    task: str,
    min_samples: int | None,
    probes: tuple[str, ...],
    control: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Score the pretrained model of RUN on DATA: a labelled subset file, collection folder or catalog folder.

    RUN is the folder that `pwcat pretrain` wrote, or the word none: then random weights of --control are scored.
    """
    from catalog.subset import load_subset

    if (run == "none") != bool(control):
        raise click.UsageError("RUN none and --control RECIPE go together")
    scores = evaluate_run(
        None if control else run,
        load_subset(data),
        task=make_task(task, **({} if min_samples is None else {"min_samples": min_samples})),
        probes=probes or ("knn", "logistic"),
        control=load_train_recipe(control) if control else None,
        **options,
    )
    click.echo(json.dumps(scores.to_json())) if as_json else _print_scores(scores)


def _print_scores(scores: Scores) -> None:
    table = Table(
        title=f"{scores.task}: {scores.num_train} train, {scores.num_test} test samples", title_justify="left"
    )
    for heading in ("probe", "where", "accuracy", "95 %", "macro F1", "test samples"):
        table.add_column(heading, justify="left" if heading in {"probe", "where"} else "right")
    for result in scores.results:
        for where, summary in {"all": result.overall, **result.by_continent}.items():
            table.add_row(result.probe if where == "all" else "", where, *_cells(summary))
    Console().print(table)
    if scores.dropped:
        click.echo("left out, too few samples: " + ", ".join(f"{name} ({n})" for name, n in scores.dropped.items()))
    if scores.unlabelled:
        click.echo(f"left out, no label: {scores.unlabelled}")


def _cells(summary: Summary) -> tuple[str, ...]:
    accuracy, f1 = summary.accuracy, summary.macro_f1
    spread = [f"±{measure.sd:.3f}" if measure.sd is not None else "" for measure in (accuracy, f1)]
    interval = f"{accuracy.ci_low:.3f} to {accuracy.ci_high:.3f}"
    return f"{accuracy.mean:.3f}{spread[0]}", interval, f"{f1.mean:.3f}{spread[1]}", f"{summary.num_test:g}"
