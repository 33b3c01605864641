"""``pwcat study``: list, show, run, status, ladder, report."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pwcat.errors import TrainingError
from pwcat.signals import terminable
from training.pretrain import pick_device
from training.study import (
    Estimator,
    Event,
    Status,
    begin_study,
    chosen_jobs,
    ladder_of,
    list_studies,
    load_study,
    plan_jobs,
    run_study,
    schedule_seconds,
    status_of,
    study_in,
    study_text,
    work_on,
)
from training.studying.changes import changes_of
from training.studying.records import Records
from training.studying.showing import (
    job_row,
    show_changes,
    show_estimate,
    show_failures,
    show_ladder,
    show_status,
)
from training.studying.status import states_of
from training.studying.telling import Telling

__all__ = ["study"]

ONLY_HELP = "Only jobs of this kind or name (* for anything) and what they need; may be repeated."
FOLDER = click.Path(file_okay=False, exists=True, path_type=Path)


@click.group()
def study() -> None:
    """Run a study: datasets x models x tasks x probes x seeds, resumable, on one machine or many."""


@study.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def list_(as_json: bool) -> None:
    """List the studies that come with pwcat."""
    loaded = {name: load_study(name).document for name in list_studies()}
    if as_json:
        rows = [{"name": name, "title": each.title, "datasets": len(each.datasets)} for name, each in loaded.items()]
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=SIMPLE_HEAD)
    for heading in ("Name", "Datasets", "Models", "Tasks"):
        table.add_column(heading)
    for name, each in loaded.items():
        datasets = f"{len(each.datasets)}" + (" + none" if each.control else "")
        models = ", ".join(model.name for model in each.models)
        tasks = ", ".join(dict.fromkeys(task.group_label for task in each.tasks))
        table.add_row(name, datasets, models, tasks)
    console = Console()
    console.print(table)
    console.print("Next: pwcat study show NAME, pwcat study run NAME -o DIR --dry-run", highlight=False)


@study.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the study NAME as it is written: what it reproduces, what is assumed, and every key."""
    click.echo(study_text(name), nl=False)


@study.command()
@click.argument("what", metavar="STUDY|DIR")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the study; a rerun goes on."
)
@click.option("--mini", is_flag=True, help="Of a shipped study, its miniature on the embedded archive.")
@click.option("--dry-run", is_flag=True, help="Show jobs and what they take, and stop.")
@click.option("--only", multiple=True, metavar="PATTERN", help=ONLY_HELP)
@click.option(
    "--devices", help="Torch devices by commas, one a process, such as cuda:0,cuda:1; the fastest by default."
)
@click.option("--workers", type=click.IntRange(1, 64), help="Processes on this machine; as many as devices by default.")
@click.option(
    "--max-minutes",
    type=click.FloatRange(0, min_open=True),
    help="Begin no job after so many minutes, and stop pretraining with a checkpoint; the same command goes on.",
)
@click.option("--tasks", type=click.Path(file_okay=False, path_type=Path), help="Folder of the benchmarks' folders.")
@click.option("--price-per-gpu-hour", "price", type=click.FloatRange(0), help="To tell the money as well.")
@click.option(
    "--tflops", type=click.FloatRange(0, min_open=True), help="Estimate for a GPU of so many TFLOP/s instead."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def run(
    what: str,
    out: Path | None,
    mini: bool,
    dry_run: bool,
    only: tuple[str, ...],
    devices: str | None,
    workers: int | None,
    max_minutes: float | None,
    tasks: Path | None,
    price: float | None,
    tflops: float | None,
    as_json: bool,
) -> None:
    """Do what is missing of STUDY: a shipped study's name or a YAML file (with -o DIR), or a study's folder.

    Run again, it goes on: after a kill, too. Several processes and machines that see the folder may run it at once.
    """
    source, folder = _origin(what, out)
    opened, changed = begin_study(source, folder, mini=mini, tasks=tasks)
    jobs = plan_jobs(opened)
    chosen, records = chosen_jobs(jobs, only), Records(folder=folder)
    on = devices.split(",") if devices else [pick_device()]
    many = workers or (len(on) if len(on) > 1 else opened.document.workers)
    console = Console(stderr=not dry_run or as_json)
    show_changes(changes_of(jobs, records, changed=changed), console=console)
    estimator = Estimator(
        folder=folder, jobs={job.name: job for job in jobs}, device=on[0], flops=tflops and tflops * 1e12
    )
    states = states_of(chosen, records)
    if folder.is_dir():
        estimator.try_out(states)
    estimates = estimator.estimate(states)
    device = f"a GPU of {tflops:g} TFLOP/s" if tflops else ", ".join(dict.fromkeys(on))
    title = opened.document.title or opened.document.name
    if dry_run and as_json:
        rows = [
            {**job_row(e.job), "seconds": e.seconds, "gpu_hours": e.gpu_hours, "bytes": e.bytes, "from": e.how}
            for e in estimates
        ]
        seconds = schedule_seconds(estimates, workers=many)
        click.echo(json.dumps({"hash": opened.hash, "seconds": seconds, "workers": many, "jobs": rows}, indent=2))
        return
    show_estimate(estimates, console=console, title=title, workers=many, price=price, device=device)
    if dry_run:
        return
    with (
        terminable(),
        Telling(Console(stderr=True), total=len(chosen), done=sum(s.state == "done" for s in states)) as tell,
    ):
        after = run_study(
            source,
            folder,
            mini=mini,
            tasks=tasks,
            only=only,
            devices=on,
            workers=many,
            max_minutes=max_minutes,
            tell=tell,
        )
    _print_end(after, folder, as_json=as_json)


def _origin(what: str, out: Path | None) -> tuple[str | None, Path]:
    """What to run, where; the study of a folder where a folder is given."""
    if out is not None:
        return what, out
    if Path(what).is_dir():
        return None, Path(what)
    raise click.UsageError(f"say in which folder: pwcat study run {what} -o DIR")


def _print_end(states: list[Status], folder: Path, *, as_json: bool) -> None:
    """What was done; exit code 1 where something failed."""
    failed = [each for each in states if each.state in {"failed", "blocked"}]
    done = sum(each.state == "done" for each in states)
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "done": done, "jobs": len(states), "failed": _failures(states)}))
    else:
        console, place = Console(), shlex.quote(str(folder))
        console.print(
            f"{done:,} of {len(states):,} jobs are done: {folder}/results.csv", highlight=False, soft_wrap=True
        )
        show_failures(states, console=console)
        if failed:
            console.print(f"Run `pwcat study run {place}` again to try what failed once more.", highlight=False)
        elif done == len(states):
            console.print(f"Next: pwcat study report {place}", highlight=False)
        else:
            console.print(f"Next: pwcat study run {place}, which goes on from here", highlight=False)
    if failed:
        sys.exit(1)


def _failures(states: list[Status]) -> list[dict[str, str]]:
    return [{"job": each.job.name, "why": each.why} for each in states if each.state == "failed"]


@study.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--only", multiple=True, metavar="PATTERN", help=ONLY_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def status(folder: Path, only: tuple[str, ...], as_json: bool) -> None:
    """Say how far the study in DIR is: by stage, who is at what, what failed, and when it will be done."""
    states = status_of(folder, only=only)
    document = study_in(folder).document
    left = None
    if any(each.state != "done" for each in states):
        every = {each.job.name: each.job for each in status_of(folder)}
        estimates = Estimator(folder=folder, jobs=every, device=pick_device()).estimate(states)
        at_work = len({each.who for each in states if each.state == "running"})
        left = schedule_seconds(estimates, workers=at_work or document.workers)
    if as_json:
        rows = [
            {**job_row(s.job), "state": s.state, "who": s.who, "why": s.why, "progress": s.progress or None}
            | ({"seconds": s.done.seconds, "gpu_hours": s.done.gpu_hours} if s.done else {})
            for s in states
        ]
        click.echo(json.dumps({"folder": str(folder), "seconds_left": left, "jobs": rows}, indent=2))
        return
    show_status(states, console=Console(), title=document.title or document.name, left=left)


@study.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def ladder(folder: Path, as_json: bool) -> None:
    """Say how well each smaller rung of the study in DIR orders the datasets as the study itself; write ladder.csv."""
    steps = ladder_of(folder)
    if as_json:
        click.echo(json.dumps([asdict(step) for step in steps], indent=2))
        return
    show_ladder(steps, console=Console())


@study.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def report(folder: Path, as_json: bool) -> None:
    """Write the report of the study in DIR: one page of HTML, Markdown, tables and figures, in DIR/report."""
    from training.reporting import write_report

    if study_in(folder).document.rungs:
        try:
            ladder_of(folder)
        except TrainingError as exc:
            click.echo(f"pwcat: no ladder in the report: {exc}", err=True)
    files = write_report(folder)
    if as_json:
        click.echo(json.dumps([str(path) for path in files]))
        return
    click.echo(f"{files[0]}, and {len(files) - 1} more files beside it")


@study.command(hidden=True)
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--device", required=True)
@click.option("--only", multiple=True)
@click.option("--max-minutes", type=float)
@click.option("--retry", default="")
def work(folder: Path, device: str, only: tuple[str, ...], max_minutes: float | None, retry: str) -> None:
    """Be one of the processes of `pwcat study run`: tells what happens as lines of JSON, ends with its standard input."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with terminable():
        done = work_on(
            folder,
            device=device,
            only=only,
            max_minutes=max_minutes,
            retry=retry.split(",") if retry else (),
            tell=_print_event,
        )
    sys.exit(0 if done else 1)


def _print_event(event: Event) -> None:
    values: dict[str, Any] = {"what": event.what, "job": event.job.name, "words": event.words}
    try:
        print(json.dumps({**values, "done": event.done, "total": event.total}), flush=True)  # noqa: T201
    except BrokenPipeError:  # the process that listens was killed: the job has not failed, it is given back
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise KeyboardInterrupt from None


def _end_with_parent() -> None:
    """Give the job back when the process that started this one is gone, however it ended."""
    import _thread

    sys.stdin.read()
    _thread.interrupt_main()
