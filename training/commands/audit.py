"""``pwcat audit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pwcat.errors import TrainingError
from pwcat.outputs import require_same_kind
from training.audit import Audit, Overlap
from training.audit import audit as audit_tasks
from training.evaluating.leaks import AUDIT
from training.likeness import FAR_KM
from training.tasks import open_task

if TYPE_CHECKING:
    from training.tasks.base import TaskData

__all__ = ["audit"]

BESIDE = {"pretraining": "SUBSET", "train": "train"}


@click.command()
@click.argument("subset", required=False, type=click.Path(exists=True))
@click.option(
    "--tasks", "tasks", multiple=True, required=True, metavar="NAME=DIR", help="A task and its files; may be repeated."
)
@click.option("--km", default=1.0, show_default=True, type=click.FloatRange(0), help="Nearer centres leak by place.")
@click.option(
    "--model",
    "run",
    type=click.Path(exists=True, file_okay=False),
    metavar="RUN",
    help="Compare embeddings by it, too.",
)
@click.option("--above", type=click.FloatRange(-1, 1), help="Cosine that leaks; chosen against a null by default.")
@click.option("--column", metavar="NAME", help="Of SUBSET: its embeddings by that model, as emb:europe.")
@click.option("--within", is_flag=True, help="Compare test samples with the task's own to train on.")
@click.option("--seed", default=0, show_default=True, type=int, help="Of the samples that the null is made of.")
@click.option("--device", help="Torch device, such as cuda or cpu; the fastest there is by default.")
@click.option("--other-units", is_flag=True, help="Let data of another unit than in pretraining pass.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write what leaks, as Parquet.")
@click.option(
    "--save", type=click.Path(path_type=Path), metavar="FILE", help="Save SUBSET without what leaks to tests."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def audit(
    subset: str | None,
    tasks: tuple[str, ...],
    km: float,
    run: str | None,
    above: float | None,
    column: str | None,
    within: bool,
    seed: int,
    device: str | None,
    other_units: bool,
    out: Path | None,
    save: Path | None,
    as_json: bool,
) -> None:
    """Find test samples of tasks that are in the pretraining samples of SUBSET, or near them, or all but the same.

    SUBSET is a subset's file, or the folder of a dataset or a catalog; without it and with --within tasks are compared with
    themselves. Scores are given without the samples that leak by pwcat evaluate --without FILE.
    """
    from catalog.subset import load_subset

    if save is not None and subset is None:
        raise click.UsageError("--save needs the SUBSET whose samples are to be left out")
    require_same_kind(out, AUDIT, "-o")
    opened = [_opened(text) for text in tasks]
    with Console(stderr=True).status("reading") as status:
        found = audit_tasks(
            None if subset is None else load_subset(subset),
            opened,
            km=km,
            run=run,
            above=above,
            column=column,
            within=within,
            seed=seed,
            device=device,
            other_units=other_units,
            progress=status.update,
        )
    if out is not None:
        found.save(out)
    if save is not None and not found.touched.all():
        found.remaining().save(save)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    _show(found)
    if out is not None:
        click.echo(f"Written to {out}. Next: pwcat evaluate RUN DIR --task NAME --without {out}")
    if save is not None:
        kept = int((~found.touched).sum())
        click.echo(f"{kept:,} samples that no test leaks from, saved to {save}" if kept else f"Nothing left for {save}")


def _opened(text: str) -> TaskData:
    name, equals, place = text.partition("=")
    if not equals or not name or not place:
        raise TrainingError(f"--tasks {text}: NAME=DIR is wanted, as in eurosat=benchmarks/eurosat")
    return open_task(name, place)


def _show(found: Audit) -> None:
    asked = "run" in found.facts
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    headings = ["Split", "Beside", "Samples", "Place", *(["Alike", "Both"] if asked else []), "Leak", "km"]
    table.add_column("Task", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in {"Split", "Beside"} else "right", no_wrap=True)
    for one in found.overlaps:
        place = "?" if one.without_place == one.samples else f"{one.by_place:,}"
        alike = [f"{one.by_embedding:,}", f"{one.by_both:,}"] if asked else []
        share = f"{one.leaking / one.samples:.1%}"
        table.add_row(
            one.task,
            one.split,
            BESIDE[one.against],
            f"{one.samples:,}",
            place,
            *alike,
            share,
            _distances(one.nearest_km),
        )
    console = Console()
    console.print(table)
    near = f"nearer than {found.facts['km']:g} km, or sharing ground"
    console.print(f"Place: {near}; km: from the nearest, least and median", highlight=False, soft_wrap=True)
    for line in dict.fromkeys(line for one in found.overlaps for line in _lines(one)):
        console.print(line, highlight=False, soft_wrap=True)


def _distances(told: dict[str, float]) -> str:
    return f"{told['0']:,.1f}, {told['50']:,.0f}" if told else "?"


def _lines(one: Overlap) -> list[str]:
    lines = []
    name = f"{one.task}, {one.split}"
    if one.without_place:
        lines.append(f"{name}: {one.without_place:,} of {one.samples:,} have no coordinates, and cannot leak by place")
    if one.without_embedding:
        lines.append(f"{name}: {one.without_embedding:,} of {one.samples:,} have no embedding")
    if one.bound == "given":
        lines.append(f"Alike: cosine of at least {one.above:.7g}")
    elif one.bound and one.above is not None and one.above > 1:
        lines.append(f"{one.task}: samples more than {FAR_KM:g} km apart are the same to this model: it tells no leaks")
    elif one.bound:
        lines.append(
            f"{one.task} beside {BESIDE[one.against]}: alike from {one.above:.7g}, more than all but one in a thousand of "
            f"{one.null_samples:,} samples reach with any that is more than {FAR_KM:g} km away"
        )
    return lines
