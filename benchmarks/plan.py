"""Seconds and peak memory of choosing 10,000 to 1,000,000 sites, and of planning as many samples in scenes.

Every case is a process of its own, so that its peak memory is its own; process start and imports are not in its seconds.
`sites` draws places and labels them on three layers of the data kit (continent, biome, MCD12C1 land cover). `plan` also
ties each to a scene: a world of 110 km tiles, one date each, served by the embedded archive as items without pixels, and
works out the estimate. Growth is time over time at the size before, over ten: 1 is linear, less is better.

    python benchmarks/plan.py [--sizes 10000 100000 1000000] [--out benchmarks/results/plan.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from measured import KIT, RESULTS, keep, run_python
from rich.box import SIMPLE_HEAD
from rich.table import Table

LAYERS = {
    "continent": {"path": str(KIT / "vectors/natural_earth/ne_continents.fgb"), "field": "continent"},
    "biome": {"path": str(KIT / "vectors/biomes/resolve_2017_biomes_simplified.fgb"), "field": "BIOME_NAME"},
    "landcover": {"path": str(KIT / "biomes_landcover/MCD12C1.A2019001.006.IGBP.tif"), "classes": "igbp"},
}
CITIES = str(KIT / "vectors/natural_earth/ne_110m_populated_places_simple.geojson")
SAMPLERS = {
    "uniform": {"strategy": "uniform"},
    "stratified by biome": {"strategy": "stratified", "by": ["biome"]},
    "clustered": {"strategy": "clustered", "around": {"path": CITIES, "weight": "pop_max"}, "radius_km": 100},
    "uniform in scenes": {"strategy": "uniform", "domain": "scenes"},
}
TARGET_SECONDS, TARGET_MB = 60, 4096  # of a million uniform sites, labelled on three layers


@dataclass(frozen=True, kw_only=True)
class Row:
    stage: str
    sampler: str
    sites: int
    seconds: float
    peak_mb: float


def recipe_of(sampler: str, sites: int, source: dict[str, str]):
    from pwcat.recipe import Recipe

    return Recipe.model_validate(
        {
            "name": "where", "title": "Where", "license": "CC0-1.0", "num_samples": sites, "sampler": SAMPLERS[sampler],
            "source": source, "when": {"start": "2021-01-01", "end": "2021-12-31"},
            "chip": {"size_px": 96, "bands": ["B02", "B03", "B04", "B08"]}, "regions": LAYERS,
        }
    )  # fmt: skip


def run_case(stage: str, sampler: str, sites: int, archive: str) -> None:
    """One case, in this process; prints its seconds."""
    from pwcat.costs.estimate import estimate_plan
    from pwcat.plan import draw_sites, make_plan
    from pwcat.providers import open_source

    if stage == "sites":
        recipe = recipe_of(sampler, sites, {"provider": "stac", "url": "http://127.0.0.1:1", "collection": "none"})
        started = time.monotonic()
        table = draw_sites(recipe, base_dir=Path())
    else:
        recipe = recipe_of(sampler, sites, {"provider": "archive", "path": archive, "collection": "tiles"})
        with open_source(recipe.source, base_dir=Path()) as source:
            started = time.monotonic()
            plan = make_plan(recipe, base_dir=Path(), source=source)
            estimate_plan(recipe, plan.table, plan.scenes)
            table = plan.table
    if len(table) != sites or table["continent"].null_count == sites:
        raise SystemExit(f"{sampler}: {len(table)} sites instead of {sites}")
    print(json.dumps(time.monotonic() - started))


def measure(stage: str, sampler: str, sites: int, archive: Path) -> Row:
    ran = run_python(__file__, "--case", stage, sampler, sites, archive)
    row = Row(stage=stage, sampler=sampler, sites=sites, seconds=json.loads(ran.lines[-1]), peak_mb=ran.peak_mb)
    print(f"{stage:<6} {sampler:<20} {sites:>9,} {row.seconds:7.1f} s {row.peak_mb:6.0f} MB", file=sys.stderr)
    return row


def make_world(folder: Path) -> int:
    """An archive of items without pixels: tiles of 109.8 km every 100 km in each UTM zone, where there is land."""
    import pystac
    from pyproj import Transformer
    from rasterio.crs import CRS
    from rasterio.transform import from_origin

    from pwcat.archive import folder as archive
    from pwcat.layers import Layer, RegionLayers
    from pwcat.regions import open_regions

    land = open_regions(RegionLayers(continent=Layer(**LAYERS["continent"])), base_dir=Path(), source=None).layers[
        "continent"
    ]
    count = 0
    for epsg in [*range(32601, 32661), *range(32701, 32761)]:
        to_degrees = Transformer.from_crs(f"EPSG:{epsg}", "EPSG:4326", always_xy=True)
        x, y = (v.ravel() for v in np.meshgrid(np.arange(200, 801, 100) * 1000.0, np.arange(0, 9101, 100) * 1000.0))
        y = y if epsg < 32700 else 10_000_000 - y
        lon, lat = to_degrees.transform(x + 54_900, y - 54_900)
        middle = (epsg % 100) * 6 - 183
        rows = np.flatnonzero((np.abs(lon - middle) <= 3.5) & (np.abs(lat) < 82))
        rows = rows[land.codes(np.column_stack([lon[rows], lat[rows]])) >= 0]
        for row in rows:
            grid = archive.Grid(
                crs=CRS.from_epsg(epsg), shape=(10_980, 10_980), transform=from_origin(x[row], y[row], 10, 10)
            )
            name = f"{epsg}-{x[row] / 1000:.0f}-{y[row] / 1000:.0f}"
            item = archive.make_item(
                name, collection="tiles", when=datetime(2021, 6, 15, tzinfo=UTC), grid=grid,
                properties={"eo:cloud_cover": float(row % 20)}, extensions=["proj", "eo"],
                assets={
                    band: archive.raster_asset(f"./{band}.tif", title=band, grid=grid, bands=[{"name": band}])
                    for band in ("B02", "B03", "B04", "B08")
                },
            )  # fmt: skip
            archive.write_item(folder, item)
            count += 1
    archive.write_collection(
        folder, pystac.Collection("tiles", "A world of tiles without pixels.", archive.everywhere())
    )
    archive.write_catalog(folder)
    return count


def show(rows: list[Row]) -> Table:
    table = Table(title="Choosing sites, and planning samples in scenes", box=SIMPLE_HEAD)
    for name in ("Stage", "Sampler", "Sites", "Seconds", "Growth", "Peak MB", "Target"):
        table.add_column(name, justify="left" if name in {"Stage", "Sampler"} else "right")
    for row in rows:
        before = [r for r in rows if (r.stage, r.sampler) == (row.stage, row.sampler) and r.sites * 10 == row.sites]
        growth = f"{row.seconds / before[0].seconds / 10:.2f}" if before else ""
        target = ""
        if (row.stage, row.sampler, row.sites) == ("sites", "uniform", 1_000_000):
            target = "met" if row.seconds <= TARGET_SECONDS and row.peak_mb <= TARGET_MB else "MISSED"
        table.add_row(
            row.stage, row.sampler, f"{row.sites:,}", f"{row.seconds:.1f}", growth, f"{row.peak_mb:,.0f}", target
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=RESULTS / "plan.json")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        stage, sampler, sites, archive = args.case
        run_case(stage, sampler, int(sites), archive)
        return
    with tempfile.TemporaryDirectory(prefix="pwcat-world-") as folder:
        scenes = make_world(Path(folder))
        cases = [("plan" if sampler.endswith("scenes") else "sites", sampler) for sampler in SAMPLERS]
        rows = [measure(stage, sampler, sites, Path(folder)) for stage, sampler in cases for sites in args.sizes]
    note = (
        f"{scenes:,} scenes in the archive; target: a million uniform sites on three layers in {TARGET_SECONDS} s and "
        f"{TARGET_MB:,} MB on two cores."
    )
    keep(args.out, [show(rows), note], scenes=scenes, rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
