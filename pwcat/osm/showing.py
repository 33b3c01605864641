"""What ``pwcat plan`` prints of a map recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pwcat.osm.columns import ENTITY_COUNT
from pwcat.osm.groups import SPLITS
from pwcat.osm.plan import MapPlan
from pwcat.osm.targets import TARGETS

__all__ = ["plan_counts", "show_tiles"]

MOST_REASONS = 6


def plan_counts(plan: MapPlan) -> dict[str, Any]:
    """What a plan has, counted: of all tiles and by split."""
    entities = plan.table[ENTITY_COUNT].to_numpy()
    pictured = np.array([bool(names) for names in plan.table["images"].to_pylist()])
    splits = np.array(plan.table["split"].to_pylist())
    groups = dict(zip(plan.table["group"].to_pylist(), splits.tolist(), strict=True))
    return {
        "tiles": len(plan),
        "with_entities": int((entities > 0).sum()),
        "with_images": int(pictured.sum()),
        "with_both": int(((entities > 0) & pictured).sum()),
        "entities_on_tiles": int(entities.sum()),
        "groups": dict(sorted(Counter(groups.values()).items())),
        "splits": dict(sorted(Counter(splits.tolist()).items())),
        "regions": dict(sorted(Counter(name for name in plan.table["region"].to_pylist() if name).items())),
        "labels": {name: _labels(plan, target.column) for name, target in TARGETS.items()},
        **plan.facts,
    }


def _labels(plan: MapPlan, column: str) -> dict[str, float | int]:
    values = plan.table[column].to_numpy(zero_copy_only=False)
    known = values[~np.isnan(values)]
    return {
        "tiles": len(known),
        "mean": float(known.mean()) if len(known) else 0.0,
        "above_zero": int((known > 0).sum()),
    }


def show_tiles(plan: MapPlan, console: Console) -> None:
    """Print a plan's counts, for people."""
    counts = plan_counts(plan)
    table = Table(box=SIMPLE_HEAD, title=plan.recipe.title, title_justify="left", highlight=False)
    for heading in ("", "Groups", "Tiles"):
        table.add_column(heading, justify="left" if not heading else "right")
    for split in SPLITS:
        table.add_row(split, f"{counts['groups'].get(split, 0):,}", f"{counts['splits'].get(split, 0):,}")
    table.add_row("all", f"{sum(counts['groups'].values()):,}", f"{counts['tiles']:,}")
    console.print(table)
    for line in _lines(counts):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _lines(counts: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{counts['with_entities']:,} tiles with entities, {counts['with_images']:,} with an image, {counts['with_both']:,} "
        "with both"
    )
    if candidates := counts.get("candidates"):
        yield f"{candidates - counts['tiles']:,} of {candidates:,} tiles that were asked for have too little, and are left out"
    if beyond := counts.get("beyond_map"):
        yield f"{beyond:,} tiles lie beyond the box that the map says it covers: nothing is known of them, they have no labels"
    if "entities" in counts:
        yield f"{counts['entities']:,} entities; {counts['entities_on_tiles']:,}, each counted in every tile that holds a piece"
        for title in ("left_out", "mended"):
            ranked = sorted(counts[title].items(), key=lambda entry: (-entry[1], entry[0]))
            for reason, count in ranked[:MOST_REASONS]:
                yield f"  {title.replace('_', ' ')}: {count:,} {reason}"
        for name, label in counts["labels"].items():
            yield f"{name}: above 0 on {label['above_zero']:,} of {label['tiles']:,} tiles, mean {label['mean']:.2f}"
    for name, count in counts["regions"].items():
        yield f"{name}: {count:,} tiles"
