"""Scores as tables on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

from rich.box import SIMPLE_HEAD
from rich.table import Table

from training.evaluating.document import ALL, Scores, Summary
from training.scores import METRIC_WORDS

__all__ = ["group_table", "lines_under", "main_table"]

WORDS = METRIC_WORDS | {"balanced_accuracy": "balanced"}  # short, for headings
COLLAPSED = 1.05  # effective rank below which embeddings are all but the same, up to their length
GROUPINGS = {
    "region": "Region",
    "continent": "Continent",
    "biome": "Biome",
    "landcover": "Land cover",
    "leaks": "Leaks",
}


def main_table(scores: Scores, *, width: int = 120) -> Table:
    """A row for each probe, and each size and group that was drawn: the metric with its interval, and others by their means.

    Args:
        scores: what to show.
        width: characters of a line; further metrics are shown as far as there is room.
    """
    kinds = list(dict.fromkeys((trial.drawn, trial.size) for trial in scores.trials))
    drawn, sized = any(drawn for drawn, _ in kinds), any(size is not None for _, size in kinds)
    first, *others = scores.metrics
    others = others[: max(0, (width - 48 - 18 * drawn - 7 * sized) // 14)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in [*(["drawn within"] if drawn else []), "probe"]:
        table.add_column(heading, no_wrap=True)
    for heading in [*(["size"] if sized else []), "train", "test", WORDS[first], "95 %", *(WORDS[o] for o in others)]:
        table.add_column(heading, justify="right", no_wrap=True)
    for number, (where, size) in enumerate(kinds):
        for place, result in enumerate(scores.results):
            at = partial(scores.summary, result.probe, group=where or ALL, size=size, drawn=where)
            found, also = at(), [at(metric) for metric in others]
            leading = ["" if place else where.partition("=")[2]] if drawn else []
            counts = [*([_size(size)] if sized else []), f"{found.num_train:.0f}", f"{found.num_test:.0f}"]
            rest = [f"{each.measure.mean:.3f}" for each in also]
            table.add_row(*leading, result.probe, *counts, _spread(found), _interval(found), *rest)
        if number < len(kinds) - 1 and len(scores.results) > 1:
            table.add_section()
    return table


def group_table(scores: Scores, *, width: int = 120) -> Table | None:
    """The metric within each group of test samples, a column a probe; at the largest size. ``None`` without groups.

    Args:
        scores: what to show.
        width: characters of a line; names of groups are cut to what is left of it.
    """
    size = scores.largest_size
    by_probe = {
        result.probe: {s.group: s for s in scores.summaries(result.probe) if (s.size, s.drawn) == (size, "")}
        for result in scores.results
    }
    groups = [group for group in next(iter(by_probe.values()), {}) if group != ALL]
    if not groups:
        return None
    title = f"{WORDS[scores.metric]} by group of test samples"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="")
    table.add_column("group", no_wrap=True, max_width=max(16, min(46, width - 12 - 15 * len(by_probe))))
    for heading in ("test", *by_probe):
        table.add_column(heading, justify="right", no_wrap=True)
    for grouping, members in _by_grouping(groups):
        table.add_row(f"[bold]{GROUPINGS.get(grouping, grouping)}[/bold]")
        for group in members:
            found = [each.get(group) for each in by_probe.values()]
            tested = next((f"{each.num_test:.0f}" for each in found if each), "")
            table.add_row("  " + group.partition("=")[2], tested, *(_spread(each) if each else "" for each in found))
    return table


def lines_under(scores: Scores) -> list[str]:
    """What else there is to know: how samples were drawn, what was left out, what leaks."""
    told = [_drawing(scores), *_spread_of_embeddings(scores)]
    if scores.left_out:
        told.append("left out: " + ", ".join(f"{why} ({count})" for why, count in scores.left_out.items()))
    if scores.without:
        told.append(
            f"{scores.num_leaks or 'no'} test samples leak from the pretraining ({scores.without})"
            + ("; scores without them are those of group leaks, none" if scores.num_leaks else "")
        )
    return told


def _spread_of_embeddings(scores: Scores) -> Iterator[str]:
    """How many directions embeddings make use of, and whether they have collapsed."""
    if scores.spread.get("effective_rank") is None:
        if scores.spread:
            yield "embeddings have collapsed: no embedding differs from zero"
        return
    about = scores.spread["effective_rank_centred"]
    told = f"effective rank of the embeddings {scores.spread['effective_rank']:.1f}"
    told += "" if about is None else f", {about:.1f} about their mean"
    yield f"{told}, of at most {scores.spread['most']:,}" + (
        ": they have all but collapsed" if scores.spread["effective_rank"] < COLLAPSED else ""
    )


def _drawing(scores: Scores) -> str:
    how, repeats = scores.sampling["how"], scores.num_repeats
    draws = f"{repeats} draw{'s' if repeats > 1 else ''}"
    if how == "few-shot":
        per = {"class": "a class", "group": f"a {scores.sampling['grouping']}", "total": "in all"}[
            scores.sampling["per"]
        ]
        return f"few-shot: so many training samples {per}, {draws} of each size; ± is the deviation over draws"
    words = {
        "official": "sides as released",
        "column": "sides of the catalog, four fifths of the training samples a draw"
        if repeats > 1
        else "sides as given",
        "blocks": "test blocks drawn anew",
    }
    told = f"{words[how]}, {draws}"
    return f"{told}; ± is the deviation over draws" if repeats > 1 else told


def _by_grouping(groups: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    known = dict.fromkeys(group.partition("=")[0] for group in groups)
    for grouping in sorted(known, key=lambda name: [*GROUPINGS, name].index(name)):
        yield grouping, [group for group in groups if group.partition("=")[0] == grouping]


def _size(size: int | None) -> str:
    return "all" if size is None else str(size)


def _spread(summary: Summary) -> str:
    measure = summary.measure
    if math.isnan(measure.mean):
        return ""
    return f"{measure.mean:.3f}" + (f" ±{measure.sd:.3f}" if measure.sd is not None else "")


def _interval(summary: Summary) -> str:
    if math.isnan(summary.measure.mean):
        return ""
    return f"{summary.measure.ci_low:.3f}–{summary.measure.ci_high:.3f}"
