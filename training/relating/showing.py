"""Correlations as tables for people, 80 columns wide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from training.relating.estimates import COEFFICIENT
from training.relating.significance import DRAWS
from training.relating.verdict import RULE, number, signed, signless

if TYPE_CHECKING:
    from training.correlation import Correlation

__all__ = ["show_correlations"]

AT_ONCE = 5  # columns of the leave-one-out table that fit


def show_correlations(results: Sequence[Correlation], *, console: Console) -> None:
    """Print what was found: estimates, verdicts, the leave-one-out table, partial correlations, and what all rests on."""
    _print(console, *_estimates(results))
    for result in results:
        console.print(
            Text.assemble((f"{result.by}: {result.verdict.word}", "bold"), f". {_sentence(result.verdict.why)}")
        )
    console.print()
    if any(result.partial for result in results):
        _print(console, *_partials(results))
    for some in _batched(results, AT_ONCE):
        _print(console, *_without(some))
    for note in _notes(results):
        console.print(Text(note))


def _print(console: Console, title: str, table: Table) -> None:
    console.print(Text(title, "italic"))  # a title of the table itself would be broken at its width
    console.print(table)


def _table(left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in left:
        table.add_column(heading, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _estimates(results: Sequence[Correlation]) -> tuple[str, Table]:
    first = results[0]
    whose, letter = COEFFICIENT[first.method]
    approximation = list(first.p_values)[-1]
    counts = {r.n for r in results}
    over = f" over {first.n} datasets" if len(counts) == 1 else ", and how many datasets have both"
    table = _table(["by"], [letter, "95 %", "p", approximation, "Holm", "B-H"])
    table.add_column("verdict", no_wrap=True)
    for r in results:
        p = [number(value) for value in (r.p, r.p_values[approximation], r.p_holm, r.p_bh)]
        name = r.by if len(counts) == 1 else f"{r.by} ({r.n})"
        table.add_row(name, _three(r.rho), _range(r.ci_low, r.ci_high), *p, r.verdict.word)
    return f"{whose} with {first.score}{over}", table


def _partials(results: Sequence[Correlation]) -> tuple[str, Table]:
    letter = COEFFICIENT[results[0].method][1]
    held = [(r, r.partial) for r in results if r.partial]
    table = _table(["by"], ["left", f"partial {letter}", "95 %", "p", "t", "Holm"])
    for r, part in held:
        p = [number(value) for value in (part.p, part.values["t"], part.p_holm)]
        table.add_row(r.by, f"{part.freedom} df", _three(part.rho), _range(part.interval.low, part.interval.high), *p)
    return f"Given {', '.join(held[0][1].given)} (p by Freedman and Lane's permutations)", table


def _without(results: Sequence[Correlation]) -> tuple[str, Table]:
    """A row a dataset: the coefficient and p without it; a star where that is farthest from the whole."""
    letter = COEFFICIENT[results[0].method][1]
    table = _table(["without"], [r.by for r in results])
    names = list(dict.fromkeys(left.dataset for r in results for left in r.leave_one_out))
    farthest = [
        max((abs(left.moved) for left in r.leave_one_out if math.isfinite(left.moved)), default=0) for r in results
    ]
    held = [{left.dataset: left for left in r.leave_one_out} for r in results]
    for name in names:
        cells = []
        for lefts, most in zip(held, farthest, strict=True):
            left = lefts.get(name)
            star = "*" if left and most and abs(left.moved) >= most - 1e-9 else " "
            cells.append(f"{signed(left.rho)} {number(left.p):>6}{star}" if left else "")
        table.add_row(name, *cells)
    return f"Without one dataset: {letter} and p (* moves {letter} farthest)", table


def _notes(results: Sequence[Correlation]) -> Iterator[str]:
    first = results[0]
    letter = COEFFICIENT[first.method][1]
    yield _how_p(results)
    yield from _how_intervals(results)
    if tied := max(r.tied for r in results):
        yield f"{tied} datasets share their {first.score} with another: which of them has which diversity changes no {letter}."
    for left in dict.fromkeys(r.without_value for r in results if r.without_value):
        of = ", ".join(r.by for r in results if r.without_value == left)
        yield f"Left out of {of} for want of a value: {', '.join(left)}."
    for r in results:
        if math.isnan(r.detectable):
            yield f"{r.n} datasets are too few to find any {letter} of {r.by} four times in five."
    for n, least, corrected in dict.fromkeys((r.n, r.detectable, r.detectable_family) for r in results):
        if math.isfinite(least):
            more = (
                f", {signless(corrected)} at alpha/{len(results)}"
                if len(results) > 1 and corrected == corrected
                else ""
            )
            yield f"Power: {n} datasets find a true |{letter}| of {signless(least)} with 80 % at alpha {first.alpha:g}{more}."
    yield f"Rule. {RULE}"


def _how_p(results: Sequence[Correlation]) -> str:
    first = results[0]
    name = list(first.p_values)[-1]
    beside = f"{name}: p by {'Student’s t' if name == 't' else 'the normal approximation'}."
    several = f" Holm, B-H (Benjamini-Hochberg): p corrected for {first.family} metrics." if first.family > 1 else ""
    drawn = ", ".join(f"{r.by} {number(r.p_low)} to {number(r.p_high)}" for r in results if r.p_by == "monte-carlo")
    how = f"of {DRAWS:,} drawn orders (99 % bounds: {drawn})" if drawn else "exact, over all orders"
    return f"p: two-sided, {how}; {beside}{several}"


def _how_intervals(results: Sequence[Correlation]) -> Iterator[str]:
    held = [r.intervals["bca"] for r in results]
    total, flat = max(i.resamples + i.degenerate for i in held), sum(i.degenerate for i in held)
    left = f"; {flat} had one side constant and were left out" if flat else ""
    yield f"95 %: bootstrap over datasets, BCa, {total:,} resamples{left}."
    seeds = [(r.by, r.intervals["seeds"]) for r in results if "seeds" in r.intervals]
    if seeds:
        rows = max(r.rows for r in results)
        told = ", ".join(f"{by} {_range(interval.low, interval.high)}" for by, interval in seeds)
        yield f"The {rows} rows are averaged by dataset. 95 % over datasets and seeds (percentile): {told}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] if not text.startswith("p ") else text


def _three(coefficient: float) -> str:
    return "–" if math.isnan(coefficient) else f"{coefficient:+.3f}".replace("0.", ".", 1)


def _range(low: float, high: float) -> str:
    return "none" if math.isnan(low) else f"{signed(low)} to {signed(high)}"


def _batched(results: Sequence[Correlation], size: int) -> Iterator[Sequence[Correlation]]:
    for start in range(0, len(results), size):
        yield results[start : start + size]
