"""A plan's counts, diversity and costs for people, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pwcat.costs.design import Cell, Design
from pwcat.costs.estimate import Estimate
from pwcat.costs.expected import Diversity
from pwcat.sensors.document import Sensor

__all__ = ["cost_facts", "design_facts", "sensor_facts", "show_design", "show_facts", "spectral_facts"]

# Of a layer, and of the strata, so many classes are all shown; of more, the rest is taken together after so many rows.
ALL_ROWS, ROWS = 15, 10
CELL_ROWS = 40

# What a line is about, and what it says.
Fact = tuple[str, str]


def show_design(design: Design, *, title: str, cells: bool, console: Console) -> None:
    """Print counts by layer and stratum, and the expected diversity.

    Args:
        design: of a plan.
        title: of the recipe.
        cells: print samples by continent, biome and land cover as well.
        console: where to.
    """
    console.print(Text(title, style="bold"))
    console.print(_counts_table(design))
    if cells:
        console.print(_cells_table(design.cells, design.samples))
    console.print(_diversity_table(design.diversity))


def show_facts(facts: Sequence[Fact], *, console: Console) -> None:
    """Print what is said in a line or two each."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, text in facts:
        grid.add_row(Text(name, style="bold"), Text(text))
    console.print(grid)


def _counts_table(design: Design) -> Table:
    """Samples by class, a part for each layer that labels any, and one for strata of which a line does not say all."""
    parts = {_layer(name): counts for name, counts in design.classes.items() if counts}
    most, least = max(design.strata.values(), default=0), min(design.strata.values(), default=0)
    if most > least + 1 and design.strata not in parts.values():
        parts["Stratum"] = design.strata
    table = _table()
    for number, (name, counts) in enumerate(parts.items()):
        if number:
            table.add_section()
        table.add_row(Text(name, style="bold"))
        _add_rows(
            table, list(counts.items()), samples=design.samples, most=ROWS if len(counts) > ALL_ROWS else ALL_ROWS
        )
    return table


def _cells_table(cells: Sequence[Cell], samples: int) -> Table:
    table = _table()
    table.add_row(Text("Continent × biome × land cover", style="bold"))
    rows = [(" × ".join(name or "none" for name in names), count) for *names, count in cells]
    _add_rows(table, rows, samples=samples, most=CELL_ROWS)
    return table


def _table() -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("", overflow="fold")
    for name in ("Samples", "Share"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _add_rows(table: Table, rows: Sequence[tuple[str, int]], *, samples: int, most: int) -> None:
    """The most frequent, the others together, and the samples that are in none."""
    shown = rows if len(rows) <= most + 1 else rows[:most]
    for name, count in shown:
        table.add_row(Padding(Text(name), (0, 0, 0, 2)), f"{count:,}", _share(count, samples))
    if rest := rows[len(shown) :]:
        count = sum(count for _, count in rest)
        table.add_row(f"  and {len(rest):,} more", f"{count:,}", _share(count, samples))
    if none := samples - sum(count for _, count in rows):
        table.add_row("  none", f"{none:,}", _share(none, samples))


def _share(count: int, samples: int) -> str:
    return f"{count / samples:.1%}"


def _layer(name: str) -> str:
    """A layer's name as a heading."""
    known = {"landcover": "land cover", "landcover_area": "land cover, by area"}
    return known.get(name, name.replace("_", " ")).capitalize()


def _diversity_table(diversity: Mapping[str, Diversity]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("Expected diversity", overflow="fold")
    for name in ("Entropy, nats", "As equal classes", "Classes", "Labelled"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, one in diversity.items():
        if one.classes:
            numbers = (f"{one.shannon:.3f}", f"{one.effective:.1f}", f"{one.classes:,}", f"{one.labelled:.0%}")
            table.add_row(Text(_layer(name)), *numbers)
    return table


def design_facts(design: Design, *, reserve: int = 0) -> Iterator[Fact]:
    """How many samples, in which splits and strata, how far apart.

    Args:
        design: of a plan.
        reserve: extra sites.
    """
    splits = ", ".join(f"{count:,} {name}" for name, count in sorted(design.splits.items()))
    held = f"; {reserve:,} more in reserve" if reserve else ""
    yield "Samples", f"{design.samples:,}: {splits}{held}"
    if len(design.strata) > 1:
        most, least = max(design.strata.values()), min(design.strata.values())
        each = f"{most:,} samples each" if most == least else f"{least:,} to {most:,} samples each"
        yield "Strata", f"{len(design.strata):,}, of {each}, as wanted"
    apart = design.distances_km
    if apart.spacing is not None:
        yield "Spacing", f"sites are at least {apart.spacing:,.2f} km apart"
    if apart.split_smallest is not None:
        yield (
            "Split",
            f"validation is at least {apart.split_smallest:,.1f} km from training, "
            f"{apart.split_median:,.1f} km in the median",
        )


def cost_facts(estimate: Estimate) -> Iterator[Fact]:
    """What a build will read, how long that takes, and what it will write."""
    scenes = f"{estimate.scenes:,} scene{'' if estimate.scenes == 1 else 's'}"
    yield (
        "Reads",
        f"about {estimate.requests:,} requests, {_size(estimate.download_bytes)} of {scenes}: "
        f"{_duration(estimate.hours)} at {estimate.rate_mb_s:g} MB/s",
    )
    yield "Cube", f"{_size(estimate.cube_bytes)} of pixels in {estimate.shards:,} shards"


def sensor_facts(sensors: Mapping[str, Sensor], tallies: Mapping[str, Mapping[str, int]]) -> Iterator[Fact]:
    """What each sensor beside the source has for the dates of the samples.

    Args:
        sensors: of the recipe, by name.
        tallies: of the plan: ``dates``, those covered ``whole`` and in ``part``, and ``items``.
    """
    for name, sensor in sensors.items():
        tally, what = tallies[name], "samples" if sensor.static else "dates"
        none = tally["dates"] - tally["whole"] - tally["part"]
        told = f"{tally['whole']:,} of {tally['dates']:,} {what} whole, {tally['part']:,} in part, {none:,} not at all"
        yield f"Sensor {name}", f"{told}; {tally['items']:,} item{'' if tally['items'] == 1 else 's'}"
    if sensors:
        yield "Not counted", "what reading the sensors takes: requests, bytes and time below are of the source alone"


def spectral_facts(choice: Mapping[str, Any]) -> Iterator[Fact]:
    """What a choice by spectra looked at, what it gained, and what that cost."""
    rank = choice["calibration"]
    told = "no calibration" if rank["rank_correlation"] is None else (
        f"coarse scores rank as full ones do with rho {rank['rank_correlation']:.2f} "
        f"[{rank['ci_low']:.2f}, {rank['ci_high']:.2f}], n {rank['n']}"
    )  # fmt: skip
    yield "Chosen", f"among {choice['candidates']:,} candidates ({choice['unread']:,} without pixels): {told}"
    yield (
        "Spectra",
        f"expected entropy {choice['mean_of_chosen']:.2f} nats, of all candidates {choice['mean_of_candidates']:.2f}",
    )
    yield "Scoring", _scoring_cost(choice)
    for one in choice.get("bins", ()):
        short = f", {one['short']:,} short" if one["short"] else ""
        counts = f"{one['wanted']:,} wanted, {one['candidates']:,} candidates, {one['taken']:,} taken{short}"
        yield "Bin", f"{one['low']:g} to {one['high']:g} nats: {counts}"


def _scoring_cost(choice: Mapping[str, Any]) -> str:
    full = f"all candidates in full: about {_size(choice['full_bytes'])}"
    if choice["spent_bytes"] is None:
        return f"what was read was not counted; {full}"
    calibrating = choice["calibration_bytes"]
    return f"read {_size(choice['spent_bytes'] - calibrating)}, calibrating {_size(calibrating)}; {full}"


def _size(size: int) -> str:
    """Bytes in words: 9.6 MB, 120 MB, 1,234 GB."""
    number, unit = (size / 1e9, "GB") if size >= 1e10 else (size / 1e6, "MB")
    return f"{number:,.0f} {unit}" if number >= 99.95 else f"{number:,.1f} {unit}"


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} hours"
    return f"{hours * 60:.1f} minutes" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
