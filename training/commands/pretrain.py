"""``pwcat pretrain``."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from catalog.commands.asking import Data
from pwcat.signals import terminable
from training.looping.distributed import RankEndedError, is_main, joined
from training.looping.showing import show_training
from training.pretrain import pick_device
from training.pretrain import pretrain as pretrain_model
from training.recipe import load_train_recipe
from training.run import Run

__all__ = ["pretrain"]


@click.command()
@click.argument("data", type=Data())
@click.option("--recipe", "name", required=True, help="Name of a shipped training recipe, or path of a YAML file.")
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Replace a value, such as model.depth=2.")
@click.option("--seed", type=int, help="Replace the recipe's seed.")
@click.option("--device", help="Torch device, such as cuda or cpu; the fastest there is by default.")
@click.option(
    "--compile/--no-compile", "compiled", default=None, help="Replace the recipe's compile: minutes first, then faster."
)
@click.option("--stop-after-steps", type=click.IntRange(1), help="Stop with a checkpoint after this step of the run.")
@click.option(
    "--max-minutes",
    type=click.FloatRange(0, min_open=True),
    help="Stop with a checkpoint after so many minutes, for jobs of limited time; the same command goes on.",
)
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard's events too, in the run's folder.")
@click.option("--restart", is_flag=True, help="Start over, replacing a run that is in the folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def pretrain(
    data: str,
    name: str,
    out: Path,
    sets: tuple[str, ...],
    seed: int | None,
    device: str | None,
    compiled: bool | None,
    restart: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Pretrain a model from DATA: a subset file, a collection folder or a catalog folder.

    On several GPUs: torchrun --nproc-per-node N -m pwcat pretrain DATA ... The recipe's batch_size is then what all of them
    have at once. SIGTERM and Ctrl-C leave a checkpoint, from which the same command goes on.
    """
    from catalog.subset import load_subset

    named = {"seed": seed, "compile": compiled}
    overrides = dict(_pair(text) for text in sets)
    overrides |= {key: json.dumps(value) for key, value in named.items() if value is not None}
    with _one_of_the_ranks(device or pick_device()):
        recipe = load_train_recipe(name, overrides=overrides)
        with terminable(), show_training(Console(stderr=True), recipe.name) as shown:
            told: dict[str, Any] = {"progress": shown, "preparing": shown.preparing}
            run = pretrain_model(load_subset(data), recipe, out, resume=not restart, device=device, **told, **options)
        if is_main():
            _print_run(run, as_json=as_json)


@contextmanager
def _one_of_the_ranks(device: str) -> Iterator[None]:
    """Among several processes, the first speaks for all; the others end without a word."""
    try:
        with joined(device):
            if not is_main():
                logging.disable(logging.WARNING)
            yield
    except RankEndedError as exc:
        sys.exit(exc.code)


def _print_run(run: Run, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"path": str(run.path), **_run_values(run)}))
        return
    if run.reused:
        click.echo(f"{run.path} was finished already with this recipe and these data; nothing was repeated.")
    elif not run.finished:
        click.echo(f"{run.path}: {run.steps} of {run.total_steps} steps; the same command goes on from there.")
    _print_rows(run.recipe["name"], {**_run_values(run), "checkpoint": run.checkpoint})


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and key):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--set")
    return key, value


def _run_values(run: Run) -> dict[str, Any]:
    return {
        "samples": run.data["num_samples"],
        "steps": run.steps,
        "finished": run.finished,
        "loss": run.final_loss,
        "seconds": run.seconds,
        "samples_per_second": run.samples_per_second,
        "mfu": run.mfu,
        "peak_memory_mb": run.peak_memory_mb,
        "gpu_hours": run.gpu_hours,
        "device": run.device,
        "world_size": run.world_size,
        "placement": run.placement,
        "parameters": run.num_parameters,
        **{name: value for name, value in run.watched.items() if name != "step"},
        "reused": run.reused,
    }


def _print_rows(title: str, rows: dict[str, Any]) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in rows.items():
        table.add_row(key.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)
