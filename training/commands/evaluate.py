"""``pwcat evaluate``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from catalog.commands.asking import Data
from pwcat.progress import show_counts

if TYPE_CHECKING:
    from training.evaluate import Scores
    from training.evaluating.work import Progress
    from training.finetuning.recipe import FinetuneRecipe
    from training.resampling import Sampling

__all__ = ["evaluate"]

PROBES = ("knn", "logistic", "linear", "mlp", "forest", "ridge", "mlp-plateau", "dummy", "finetune")
SPLIT_HELP = (
    "Sides: as released (benchmarks by default), the catalog's with the training samples resampled (its tasks by default), or "
    "places drawn here."
)


def read_sizes(context: click.Context, option: click.Parameter, text: str | None) -> tuple[int | None, ...] | None:
    """Whole numbers with commas between them; ``None`` for "all" samples that there are."""
    if text is None:
        return None
    try:
        return tuple(None if each.strip() == "all" else int(each) for each in text.split(","))
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} are no sizes: give whole numbers, such as 1,5,20 or 5,all") from exc


@click.command()
@click.argument("run")
@click.argument("data", type=Data())
@click.option("--task", default="landcover", show_default=True, help="What to predict; `pwcat tasks list` shows all.")
@click.option(
    "--min-samples", type=click.IntRange(1), help="Rarer classes are left out; by default those of fewer than 10."
)
@click.option(
    "--zeros",
    type=click.FloatRange(0, 1),
    help="Of a task of map tiles: share of those with label 0 that take part; the source's by default.",
)
@click.option(
    "--probe",
    "probes",
    multiple=True,
    type=click.Choice(PROBES),
    help="May be repeated; knn and logistic by default, of numbers knn and ridge.",
)
@click.option("--metric", help="The one to show; the task's own by default.")
@click.option("--split", type=click.Choice(["official", "column", "blocks"]), help=SPLIT_HELP)
@click.option("--repeats", type=click.IntRange(1), help="Draws of training samples; 5 by default, 1 of released sides.")
@click.option(
    "--block-km",
    default=100.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Side of a block, here and of validation.",
)
@click.option(
    "--few-shot", "sizes", callback=read_sizes, metavar="N,N,...", help="So many training samples alone; `all` for all."
)
@click.option("--per", type=click.Choice(["class", "group", "total"]), help="What --few-shot counts; class by default.")
@click.option("--within", metavar="GROUPING", help="Draw and test within each continent, biome or landcover apart.")
@click.option("--seeds", type=click.IntRange(1), help="Draws of each size of --few-shot; 50 by default.")
@click.option(
    "--pixels", type=click.IntRange(1), help="Of a segmentation: of each training chip, for probes; 32 by default."
)
@click.option(
    "--test-pixels", type=click.IntRange(1), help="Likewise of each test chip; by default all that have a class."
)
@click.option(
    "--regions", metavar="RECIPE|CATALOG", help="Layers by which test samples are grouped; those fetched by default."
)
@click.option(
    "--without",
    type=click.Path(exists=True, dir_okay=False),
    help="Leaking samples, of `pwcat audit`: scores without them are given too.",
)
@click.option("--seed", default=0, show_default=True, type=int, help="Fixes every draw.")
@click.option("--control", metavar="RECIPE", help="With RUN none: the training recipe whose model is left untrained.")
@click.option(
    "-o",
    "--out",
    "out_dir",
    type=click.Path(file_okay=False),
    help="Folder for the scores; that of the run by default.",
)
@click.option("--finetuning", metavar="RECIPE", help="Of --probe finetune: a recipe by name or file.")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Write a row a figure here.")
@click.option("--device", default="cpu", show_default=True, help="Torch device.")
@click.option("--other-units", is_flag=True, help="Let data of another unit than in pretraining pass.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def evaluate(
    run: str,
    data: str,
    task: str,
    min_samples: int | None,
    zeros: float | None,
    probes: tuple[str, ...],
    control: str | None,
    regions: str | None,
    csv_file: Path | None,
    as_json: bool,
    pixels: int | None,
    test_pixels: int | None,
    metric: str | None,
    without: str | None,
    seed: int,
    finetuning: str | None,
    out_dir: str | None,
    device: str,
    other_units: bool,
    **drawing: Any,
) -> None:
    """Score the pretrained model of RUN on DATA: the folder of a benchmark's files, or a subset file, collection or catalog.

    RUN is the folder that `pwcat pretrain` wrote, or the word none: then random weights of --control are scored.

    \b
    pwcat evaluate runs/europe catalog/held-out --few-shot 1,5,20 --seeds 10
    pwcat evaluate runs/europe data/eurosat --task eurosat --probe knn --probe linear
    pwcat evaluate runs/presto data/cropharvest --task cropharvest-blocks --few-shot 100 --per total --within continent
    """
    from training.evaluate import evaluate as evaluate_run
    from training.evaluating.dense import PIXELS_A_CHIP
    from training.evaluating.rows import write_rows
    from training.recipe import load_train_recipe
    from training.tasks import BENCHMARKS, open_task
    from training.tasks.regions import grouped, layers_of

    if (run == "none") != bool(control):
        raise click.UsageError("RUN none and --control RECIPE go together")
    sampling = _sampling(released=task in BENCHMARKS, seed=seed, **drawing)
    with layers_of(regions) if regions else nullcontext() as layers:
        opened = grouped(open_task(task, data, min_samples=min_samples, zeros=zeros), layers)
    with _showing() as progress:
        scores = evaluate_run(
            None if control else run,
            opened,
            probes=probes,
            sampling=sampling,
            seed=seed,
            control=load_train_recipe(control) if control else None,
            without=without,
            metric=metric,
            pixels_a_chip=pixels or PIXELS_A_CHIP,
            test_pixels_a_chip=test_pixels,
            finetuning=_finetune_recipe(finetuning),
            out_dir=out_dir,
            device=device,
            other_units=other_units,
            progress=progress,
        )
    if csv_file:
        write_rows(scores.rows(), csv_file)
    click.echo(json.dumps(scores.to_json())) if as_json else _print_scores(scores)


def _sampling(
    *,
    released: bool,
    split: str | None,
    repeats: int | None,
    block_km: float,
    sizes: tuple[int | None, ...] | None,
    per: str | None,
    within: str | None,
    seeds: int | None,
    seed: int,
) -> Sampling | None:
    """What the options say, of a task with released sides or without; ``None`` where the task's own way is meant."""
    from training.resampling import FewShot, Official, Resampling

    if sizes is None:
        if alone := [name for name, value in (("--per", per), ("--within", within), ("--seeds", seeds)) if value]:
            raise click.UsageError(f"{', '.join(alone)} go with --few-shot: how many samples are to be learnt from?")
        if split is None and repeats is None and block_km == Resampling.block_km:
            return None
        if (split or ("official" if released else "column")) == "official":
            return Official(repeats=repeats or 1, seed=seed, block_km=block_km)
        return Resampling(split=split or "column", repeats=repeats or 5, seed=seed, block_km=block_km)  # type: ignore[arg-type]
    if split in {"blocks", "column"} or repeats:
        raise click.UsageError(
            "--few-shot draws its own samples of the training side, --seeds times: leave out --split, --repeats"
        )
    return FewShot(
        sizes=sizes,
        per=per or ("total" if within else "class"),  # type: ignore[arg-type]
        within_groups=bool(within),
        grouping=within or FewShot.grouping,
        seeds=seeds or FewShot.seeds,
        seed=seed,
        block_km=block_km,
    )


def _finetune_recipe(name: str | None) -> FinetuneRecipe | None:
    if name is None:
        return None
    from training.finetune import load_finetune_recipe

    return load_finetune_recipe(name)


@contextmanager
def _showing() -> Iterator[Progress]:
    with show_counts(Console(stderr=True), "evaluating") as tell:
        yield lambda what, done, total: tell(done, total, title=what, words=f"{what}, {done:,} of {total:,}")


def _print_scores(scores: Scores) -> None:
    from training.evaluating.showing import group_table, lines_under, main_table

    console = Console()
    name = "random weights" if scores.control else scores.run
    console.print(
        f"[bold]{scores.task}[/bold]  {scores.title}, {scores.num_samples:,} samples, by {name}", highlight=False
    )
    console.print(main_table(scores, width=console.width))
    if (groups := group_table(scores, width=console.width)) is not None:
        console.print(groups)
    for line in lines_under(scores):
        console.print(line, highlight=False, soft_wrap=True)
