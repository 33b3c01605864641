"""``pwcat diff``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

__all__ = ["diff"]

TITLES = {"continent": "Continent", "biome": "Biome", "ecoregion": "Ecoregion", "landcover": "Land cover"}


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(a: str, b: str, as_json: bool) -> None:
    """Compare A and B, subsets or folders of datasets: counts, diversity, shared samples, distances."""
    from catalog.subset import load_subset
    from catalog.subsets.comparing import compare

    told = compare(load_subset(a), load_subset(b))
    if as_json:
        click.echo(json.dumps({"a": a, "b": b, **told}, indent=2))
        return
    _show(told)
    for line in _lines(told):
        click.echo(line)


def _show(told: Mapping[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title="Diversity, with 95 % intervals (nats)", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("")
    for name in ("A", "B", "B − A", "Other class"):
        table.add_column(name, justify="right", no_wrap=True)
    counts = told["samples"]
    table.add_row("Samples", f"{counts['a']:,}", f"{counts['b']:,}", f"{counts['b'] - counts['a']:+,}", "")
    for layer, title in TITLES.items():
        if layer in told:
            one = told[layer]
            change = "" if one["total_variation"] is None else f"{one['total_variation']:.0%}"
            table.add_row(title, *_numbers(one["a"], one["b"], "shannon"), change)
    table.add_row("Spectral", *_numbers(told["spectral"]["a"], told["spectral"]["b"], "mean"), "")
    Console().print(table)


def _numbers(a: Mapping[str, Any], b: Mapping[str, Any], key: str) -> tuple[str, str, str]:
    known = a[key] is not None and b[key] is not None
    return _number(a, key), _number(b, key), f"{b[key] - a[key]:+.3f}" if known else ""


def _number(numbers: Mapping[str, Any], key: str) -> str:
    if numbers[key] is None:
        return "none"
    if numbers.get("ci_low") is None:
        return f"{numbers[key]:.3f}"
    return f"{numbers[key]:.3f} [{numbers['ci_low']:.3f}, {numbers['ci_high']:.3f}]"


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    counts = told["samples"]
    yield f"Shared: {counts['shared']:,} samples; {counts['only_a']:,} of A alone, {counts['only_b']:,} of B alone"
    for layer, title in TITLES.items():
        for key, name in (("only_a", "A"), ("only_b", "B")):
            if classes := told.get(layer, {}).get(key):
                yield f"{title} of {name} alone: {_listed(classes)}"
    for key, one, other in (("from_a_to_b", "A", "B"), ("from_b_to_a", "B", "A")):
        if far := told["distance_km"][key]:
            yield (
                f"From {one} to the nearest of {other}: median {far['p50']:,.1f} km, 90 % within "
                f"{far['p5']:,.1f} to {far['p95']:,.1f} km; {far['share_nearer_than_10_km']:.0%} nearer than 10 km"
            )


def _listed(names: list[str], *, most: int = 4) -> str:
    return "; ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
