"""Studies on a terminal: what is planned and what it takes, how far it is, what changed, what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from training.studying.changes import Changes
from training.studying.estimates import Estimate, schedule_seconds
from training.studying.job import KINDS, Job, JobKind
from training.studying.ladder import Step
from training.studying.status import Status

__all__ = ["duration", "show_changes", "show_estimate", "show_failures", "show_ladder", "show_status", "size"]

STAGES: Mapping[JobKind, str] = {
    "archive": "Archive",
    "dataset": "Datasets",
    "pretrain": "Pretraining",
    "leaks": "Leaks",
    "embed": "Embeddings",
    "evaluate": "Probes",
    "finetune": "Fine-tuning",
}
HOWS = {"measured": "jobs done", "trial": "timed steps", "arithmetic": "arithmetic", "guess": "guess"}
MOST_SHOWN = 12
BAR = 16


def duration(seconds: float) -> str:
    """A time, for people: ``12 s``, ``3 min``, ``4.5 h``, ``6 d``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 5970:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def size(number: float) -> str:
    """Bytes, for people."""
    for unit, power in (("TB", 12), ("GB", 9), ("MB", 6), ("kB", 3)):
        if number >= 10**power:
            value = number / 10**power
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    return "" if not number else f"{number:.0f} B"


def show_estimate(
    estimates: Sequence[Estimate], *, console: Console, title: str, workers: int, price: float | None, device: str
) -> None:
    """What is left to do: jobs, hours, GPU hours, bytes and money by stage and model."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("", overflow="fold")
    for name in ("Jobs", "Done", "Time", "GPU h", "Disk", *(["$"] if price is not None else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("by", style="dim", no_wrap=True)
    for heading, group in _grouped(estimates).items():
        table.add_row(heading, *_cells(group, price), _hows(group))
    table.add_section()
    table.add_row("All", *_cells(estimates, price), "")
    console.print(table)
    left = [each for each in estimates if each.how != "done"]
    seconds = schedule_seconds(estimates, workers=workers)
    many = f"{workers} processes" if workers > 1 else "one process"
    told = f"About {duration(seconds)} by {many} on {device}." if left else "All jobs are done."
    console.print(told, highlight=False, soft_wrap=True)


def _grouped(estimates: Sequence[Estimate]) -> dict[str, list[Estimate]]:
    """By stage, model and rung."""
    found: dict[str, list[Estimate]] = {}
    several = len({each.job.model for each in estimates if each.job.model}) > 1
    for kind in KINDS:
        for each in estimates:
            if each.job.kind == kind:
                heading = ", ".join(filter(None, [STAGES[kind], each.job.model if several else "", each.job.rung]))
                found.setdefault(heading, []).append(each)
    return found


def _cells(group: Sequence[Estimate], price: float | None) -> list[str]:
    hours = sum(each.gpu_hours for each in group)
    done = sum(each.how == "done" for each in group)
    seconds = sum(each.seconds for each in group)
    cells = [
        f"{len(group):,}",
        f"{done:,}",
        duration(seconds) if done < len(group) else "",
        f"{hours:,.1f}" if hours >= 0.05 else "",
        size(sum(each.bytes for each in group)),
    ]
    return [*cells, f"{hours * price:,.2f}" if hours >= 0.005 else ""] if price is not None else cells


def _hows(group: Sequence[Estimate]) -> str:
    hows = {each.how for each in group}
    return next((told for how, told in HOWS.items() if how in hows), "")


def show_changes(changes: Changes, *, console: Console) -> None:
    """What a changed study keeps, and what is done anew."""
    if changes.is_new:
        return
    console.print(
        f"The study has changed: {changes.stay:,} jobs stay as they are done, {changes.to_do:,} are to be done, and "
        f"{changes.unused:,} that are done are not part of it any more (their files stay).",
        highlight=False,
        soft_wrap=True,
    )
    for kind, names in changes.anew.items():
        more = f", and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
        console.print(
            f"  anew, for what bears on it is another: {STAGES[kind].lower()} {', '.join(names[:MOST_SHOWN])}{more}",
            highlight=False,
            soft_wrap=True,
        )


def show_status(states: Sequence[Status], *, console: Console, title: str, left: float | None) -> None:
    """How far a study is, by stage; who is at what; what failed."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name in ("Jobs", "Done", "Running", "Failed", "Missing"):
        table.add_column(name, justify="right", no_wrap=True)
    for kind in KINDS:
        if group := [each for each in states if each.job.kind == kind]:
            table.add_row(STAGES[kind], _bar(group), *_counts(group))
    table.add_section()
    table.add_row("All", _bar(states), *_counts(states))
    console.print(table)
    for each in [each for each in states if each.state == "running"][:MOST_SHOWN]:
        console.print(
            Text.assemble(("  at work  ", "cyan"), each.job.name, (f"  {_told(each)}", "dim")), soft_wrap=True
        )
    show_failures(states, console=console)
    if left is not None and any(each.state in {"missing", "running"} for each in states):
        console.print(f"About {duration(left)} left.", highlight=False)


def show_failures(states: Sequence[Status], *, console: Console) -> None:
    """What failed and why, and how many jobs wait for it."""
    failed = [each for each in states if each.state == "failed"]
    for each in failed[:MOST_SHOWN]:
        console.print(Text.assemble(("  failed   ", "red"), each.job.name, f": {each.why}"), soft_wrap=True)
    if len(failed) > MOST_SHOWN:
        console.print(f"  and {len(failed) - MOST_SHOWN} more that failed: `pwcat study status DIR --json`")
    if blocked := sum(each.state == "blocked" for each in states):
        console.print(f"  {blocked:,} more jobs need what failed.", highlight=False)


def show_ladder(steps: Sequence[Step], *, console: Console) -> None:
    """How well each rung orders the datasets as the study itself does."""
    title = "Order of the datasets, each rung beside the study"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    several = len({step.model for step in steps}) > 1
    for name in ("Rung", *(["Model"] if several else []), "Task", "Probe"):
        table.add_column(name, no_wrap=name in {"Rung", "Probe"})
    for name in ("n", "rho", "95 %", "p", "best", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    before = ""
    for step in steps:
        interval = "" if step.ci_low is None else f"{step.ci_low:+.2f} to {step.ci_high:+.2f}"
        table.add_row(
            step.rung if step.rung != before else "",
            *([step.model] if several else []),
            step.task,
            step.probe,
            str(step.n),
            "" if step.rho is None else f"{step.rho:+.2f}",
            interval,
            "" if step.p is None else f"{step.p:.3f}",
            "same" if step.same_best else "other",
            "" if step.cost_share is None else f"{step.cost_share:.0%}",
        )
        before = step.rung
    console.print(table)
    console.print(
        "best: whether both have the same dataset first; time: of pretraining, the rung's of the study's.", style="dim"
    )


def _bar(group: Sequence[Status]) -> Text:
    """Done, running and failed shares as a bar of blocks."""
    total, text, used = len(group), Text(), 0
    for state, style in (("done", "green"), ("running", "cyan"), ("failed", "red")):
        number = sum(each.state == state for each in group)
        width = min(BAR - used, max(1, round(BAR * number / total))) if number else 0
        text.append("━" * width, style=style)
        used += width
    text.append("─" * (BAR - used), style="dim")
    return text


def _counts(group: Sequence[Status]) -> list[str]:
    def count(*states: str) -> str:
        number = sum(each.state in states for each in group)
        return f"{number:,}" if number else "·"

    return [f"{len(group):,}", count("done"), count("running"), count("failed"), count("missing", "blocked")]


def _told(status: Status) -> str:
    progress: dict[str, Any] = status.progress or {}
    far = (
        f"{progress['done']:,} of {progress['total']:,} {progress.get('words', '')}, " if progress.get("total") else ""
    )
    return f"{far}{status.who}"


def job_row(job: Job) -> dict[str, Any]:
    """A job as JSON values."""
    return {
        "job": job.name,
        "kind": job.kind,
        "dataset": job.dataset,
        "model": job.model,
        "task": job.task,
        "rung": job.rung,
        "key": job.key,
    }
