"""``pwcat stats``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from catalog.query import open_catalog
from catalog.subset import Subset, load_subset

__all__ = ["stats"]

LAYERS = {
    "continent": "continent",
    "biome": "biome",
    "ecoregion": "ecoregion",
    "landcover": "land cover",
    "landcover_area": "… by area",
}
# What tiles of a map hold: things, not samples.
THINGS = {"entity": "entities", "tag": "tags"}
SPECTRA = {"spectral": "band histogram", "spectral_codebook": "codebook", "spectral_covariance": "covariance"}

CLASSES = "Shannon entropy in nats [95 %], Hill numbers (effective classes), evenness"
SPECTRAL = r"[italic]Spectral entropy of samples in nats: mean \[95 %], quantiles, distribution[/italic]"
SPECTRAL_CAPTION = "Codebooks differ between these datasets: entropies by them do not compare."
PLACES = "[italic]Distance to the nearest neighbour, beside sites drawn at random[/italic]"
PLACES_CAPTION = (
    "Ratio: 1 as at random on the ground that holds sites, less where clustered.\n"
    "Globe: the same for the whole Earth. Cells: pairs of biome and continent that\n"
    "hold samples, of those on Earth where the layers are known."
)

# Columns about classes, and how wide they are at least.
CLASS_COLUMNS = {
    "Layer": 11, "Labelled": 9, "Shannon": 20, "Hill 0": 6, "1": 5, "2": 5, "Even": 4, "Drawn": 5,
}  # fmt: skip

# Heights of a distribution's bars, and how many there are.
BARS = " ▁▂▃▄▅▆▇█"
NUM_BARS = 12


@click.command()
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--at",
    type=click.IntRange(min=1),
    help="Samples to rarefy to; where left out, as many as the smallest dataset has.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(data: tuple[str, ...], at: int | None, as_json: bool) -> None:
    """Show the diversity of DATA: folders of a catalog or collections, their addresses, or saved subsets.

    Of several datasets, entropies are also told as they would be in draws of one size ("rarefied"), for they grow with
    it.
    """
    parts = _parts(data)
    numbers = {name: part.stats() for name, part in parts.items()}
    sizes = {layer: at or _smallest(numbers, layer) for layer in LAYERS}
    if as_json:
        if at:
            _add_rarefied(numbers, at)
        click.echo(json.dumps(numbers, indent=2))
        return
    console = Console()
    console.print(f"[italic]{escape(CLASSES)}[/italic]", highlight=False)
    for title, table, caption in (
        *_class_tables(numbers, sizes, rarefied=at is not None or len(parts) > 1),
        (SPECTRAL, _spectra_table(numbers), SPECTRAL_CAPTION if len(_codebooks(numbers)) > 1 else ""),
        (PLACES, _places_table(numbers), PLACES_CAPTION),
    ):
        console.print(title, highlight=False)
        console.print(table)
        console.print(caption + "\n" if caption else "", style="dim", highlight=False)


def _parts(data: tuple[str, ...]) -> dict[str, Subset]:
    """What there is, by name: of two alike the second has the folders before it that tell them apart."""
    parts: dict[str, Subset] = {}
    for path in data:
        for name, part in _parts_of(path).items():
            folders = [folder.name for folder in Path(path).resolve().parents if folder.name]
            longer = ["/".join([*reversed(folders[:k]), name]) for k in range(len(folders) + 1)]
            parts[next((one for one in longer if one not in parts), longer[-1])] = part
    return parts


def _parts_of(path: str) -> dict[str, Subset]:
    if "://" not in path and Path(path).is_file():
        return {Path(path).stem: load_subset(path)}
    opened = open_catalog(path)
    return {name: opened.search(collections=name) for name in opened.collections}


def _smallest(numbers: Mapping[str, Any], layer: str) -> int:
    """Samples with a class in the dataset that has the fewest, of those that have any."""
    labelled = [told[layer]["num_labelled"] for told in numbers.values() if layer in told]
    return min((count for count in labelled if count), default=0)


def _rarefied(told: Mapping[str, Any], size: int) -> dict[str, Any] | None:
    """Diversity in draws of so many samples; ``None`` where there are fewer, or no counts."""
    from catalog.measures.rarefaction import rarefy

    if not 0 < size <= told["num_labelled"] or "counts" not in told:
        return None
    return asdict(rarefy(list(told["counts"].values()), size))


def _add_rarefied(numbers: dict[str, Any], at: int) -> None:
    for told in numbers.values():
        for layer in LAYERS:
            if layer in told and (added := _rarefied(told[layer], at)):
                others = [entry for entry in told[layer]["rarefied"] if entry["num_samples"] != at]
                told[layer]["rarefied"] = sorted([*others, added], key=lambda entry: entry["num_samples"])


def _class_tables(
    numbers: Mapping[str, Any], sizes: Mapping[str, int], *, rarefied: bool
) -> Iterator[tuple[str, Table, str]]:
    """A table for each dataset, below its name; they line up."""
    asked = sorted({size for size in sizes.values() if size})
    caption = (
        f"Drawn: rarefied, the entropy expected in draws of {' or '.join(f'{size:,}' for size in asked)} samples."
        if rarefied and asked
        else ""
    )
    for number, (name, told) in enumerate(numbers.items()):
        table = _table()
        table.show_header = number == 0
        for heading, width in CLASS_COLUMNS.items():
            if rarefied or heading != "Drawn":
                justify: Literal["left", "right"] = "left" if heading == "Layer" else "right"
                table.add_column(heading, justify=justify, no_wrap=True, min_width=width)
        for layer, title in LAYERS.items():
            if layer in told:
                table.add_row(title, *_class_cells(told[layer], sizes[layer], rarefied=rarefied))
        for thing, title in THINGS.items():
            if thing in told:
                table.add_row(title, *_class_cells(told[thing], 0, rarefied=rarefied))
        table.add_row("biome×cont.", *_class_cells(told["coverage"], 0, rarefied=rarefied))
        last = number == len(numbers) - 1
        yield (
            f"[bold]{escape(name)}[/bold]: {told['continent']['num_samples']:,} samples",
            table,
            caption if last else "",
        )


def _class_cells(told: Mapping[str, Any], size: int, *, rarefied: bool) -> list[str]:
    if told["shannon"] is None:
        return [f"{told['num_labelled']:,}", "none"]
    cells = [
        f"{told['num_labelled']:,}",
        _with_interval(told["shannon"], told),
        f"{told['hill_0']:.0f}",
        f"{told['hill_1']:.1f}",
        f"{told['hill_2']:.1f}",
        "–" if told["evenness"] is None else f"{told['evenness']:.2f}",
    ]
    drawn = _rarefied(told, size) if rarefied and size else None
    return [*cells, *([f"{drawn['shannon']:.3f}" if drawn else "–"] if rarefied else [])]


def _spectra_table(numbers: Mapping[str, Any]) -> Table:
    table = _table()
    for heading in ("Estimator", "Samples", "Mean", "5 %", "50 %", "95 %", "Distribution"):
        left = heading in {"Estimator", "Distribution"}
        first = heading == "Estimator"
        table.add_column(heading, justify="left" if left else "right", no_wrap=not first, overflow="fold")
    for member, title in SPECTRA.items():
        rows = {name: told[member] for name, told in numbers.items() if member in told}
        if not any(told["mean"] is not None for told in rows.values()):
            continue
        low, high = _range(rows)
        table.add_row(f"[bold]{title}[/bold]", *[""] * 5, f"{low:.2f}{high:>{NUM_BARS - 4}.2f}")
        for name, told in rows.items():
            table.add_row(f"  {escape(name)}", *_spectral_cells(told, low, high))
        table.add_section()
    return table


def _spectral_cells(told: Mapping[str, Any], low: float, high: float) -> list[str]:
    if told["mean"] is None:
        return [f"{told['num_samples']:,}", "several codebooks" if told.get("codebooks") else "none"]
    quantiles = [f"{told[name]:.2f}" for name in ("q05", "median", "q95") if name in told]
    return [f"{told['num_samples']:,}", _with_interval(told["mean"], told), *quantiles, _bars(told, low, high)]


def _codebooks(numbers: Mapping[str, Any]) -> set[str | None]:
    return {told["spectral_codebook"].get("codebook") for told in numbers.values() if "spectral_codebook" in told}


def _range(rows: Mapping[str, Any]) -> tuple[float, float]:
    """Lowest and highest entropy of any of these datasets."""
    held = [told["distribution"] for told in rows.values() if told["count"]]
    ends = [one["start"] + one["bin_width"] * len(one["counts"]) for one in held]
    return min(one["start"] for one in held), max(ends)


def _bars(told: Mapping[str, Any], low: float, high: float) -> str:
    """The distribution as bars between two values, the highest full."""
    shown = told["distribution"]
    heights = [0.0] * NUM_BARS
    for number, count in enumerate(shown["counts"]):
        middle = shown["start"] + (number + 0.5) * shown["bin_width"]
        heights[min(NUM_BARS - 1, int((middle - low) / (high - low) * NUM_BARS))] += count
    steps = len(BARS) - 1
    return "".join(BARS[-(-int(height * steps * 1000) // int(max(heights) * 1000))] for height in heights)


def _places_table(numbers: Mapping[str, Any]) -> Table:
    table = _table()
    for heading in ("Dataset", "Sites", "Mean km [95 %]", "At random", "Ratio", "Globe", "Cells"):
        first = heading == "Dataset"
        table.add_column(heading, justify="left" if first else "right", no_wrap=not first, overflow="fold")
    for name, told in numbers.items():
        table.add_row(escape(name), *_place_cells(told))
    return table


def _place_cells(told: Mapping[str, Any]) -> list[str]:
    apart, covered = told.get("dispersion"), told["coverage"]
    on_earth = covered["num_on_earth"]
    cells = f"{round(covered['share'] * on_earth)} of {on_earth}" if on_earth else str(covered["num_cells"])
    if apart is None or apart["mean_km"] is None:
        return [f"{apart['num_sites']:,}" if apart else "", *["–"] * 4, cells]
    mean = f"{apart['mean_km']:.1f} [{apart['ci_low']:.1f}, {apart['ci_high']:.1f}]"
    ratios = [f"{apart[name]:.2f}" if apart[name] >= 0.1 else f"{apart[name]:.1g}" for name in ("ratio", "globe_ratio")]
    return [f"{apart['num_sites']:,}", mean, f"{apart['uniform_km']:.1f}", *ratios, cells]


def _with_interval(value: float, told: Mapping[str, Any]) -> str:
    if told["ci_low"] is None:
        return f"{value:.3f}"
    return f"{value:.3f} [dim][{told['ci_low']:.3f}, {told['ci_high']:.3f}][/dim]".replace("[dim][", r"[dim]\[")


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
