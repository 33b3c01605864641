"""The explorer in headless Chromium at 10⁵ and 10⁶ samples: seconds until the page stands, milliseconds a filter and a frame.

Samples lie on land, uniform by area, with biomes and land cover at random. Chromium draws on the processor alone, without a
graphics card, so that these are the slowest frames that anyone sees. A filter is timed from the click to counts, statistics,
histogram and gallery; frames while the map is dragged and zoomed, 120 of them, one every 1/60 s where it keeps up.

    python benchmarks/explorer.py [--samples 100000 1000000] [--out benchmarks/results/explorer.json]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
import uvicorn
from measured import RESULTS, keep
from rich.box import SIMPLE_HEAD
from rich.table import Table
from starlette.applications import Starlette
from starlette.routing import Mount

from catalog.explorer import explorer_routes
from catalog.items import ITEM_SCHEMA
from catalog.query import open_catalog
from pwcat.archive.world import BIOMES, CONTINENTS, continent_shapes
from pwcat.landcover import WORLDCOVER

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FRAMES = 120

# Moves the map for so many frames and returns the milliseconds between them, and what our own code took of each.
DRAG = """async (frames) => {
  const { map } = window.explorer;
  const gaps = [];
  let before = await new Promise(requestAnimationFrame);
  for (let k = 0; k < frames; k++) {
    if (k % 60 === 0) map.home();
    if (k % 60 < 20) map.zoom(1.05); else map.pan(6 * (k % 40 < 20 ? 1 : -1), 3);
    const now = await new Promise(requestAnimationFrame);
    gaps.push(now - before);
    before = now;
  }
  return { gaps, paints: map.paints.slice(-frames) };
}"""
FILTER = """async (name) => {
  const labels = [...document.querySelectorAll('details[data-layer=biome] label')];
  const box = labels.find((label) => label.textContent.includes(name)).querySelector('input');
  const start = performance.now();
  box.click();
  return performance.now() - start;
}"""


@dataclass(frozen=True)
class Row:
    samples: int
    megabytes: float
    first_answer_s: float
    ready_s: float
    filter_ms: float
    frame_p50_ms: float
    frame_p95_ms: float
    paint_p50_ms: float
    paint_p95_ms: float


def write_catalog(folder: Path, n: int) -> None:
    """A collection of so many samples, without pixels."""
    rng = np.random.default_rng(0)
    land = shapely.union_all(list(continent_shapes().values()))
    shapely.prepare(land)
    lon, lat = np.empty(0), np.empty(0)
    while len(lon) < n:
        x, y = rng.uniform(-180, 180, n), np.rad2deg(np.arcsin(rng.uniform(-1, 1, n)))
        held = shapely.contains_xy(land, x, y)
        lon, lat = np.append(lon, x[held])[:n], np.append(lat, y[held])[:n]
    box = pa.StructArray.from_arrays(
        [pa.array(v) for v in (lon, lat, lon + 0.01, lat + 0.01)], ["xmin", "ymin", "xmax", "ymax"]
    )

    def classes(names: list[str]) -> pa.Array:
        return pa.array(
            np.array(names, dtype=object)[rng.choice(len(names), n, p=rng.dirichlet(np.ones(len(names)) * 3))]
        )

    known = {
        "id": pa.array([f"s-{k:07d}" for k in range(n)]),
        "geometry": pa.array(np.repeat(shapely.to_wkb(shapely.Point(0, 0)), n)),
        "bbox": box,
        "collection": pa.repeat(pa.scalar("many"), n),
        "datetime": pa.array(rng.integers(18_262, 19_723, n) * 86_400_000_000, pa.timestamp("us", tz="UTC")),
        "proj:centroid": pa.StructArray.from_arrays([pa.array(lat), pa.array(lon)], ["lat", "lon"]),
        "div:continent": classes(list(CONTINENTS)),
        "div:biome": classes(list(BIOMES)),
        "div:landcover": classes(list(WORLDCOVER.values())),
        "div:spectral_entropy": pa.array(rng.gamma(16, 0.2, n)),
        "pwcat:split": classes(["train", "val"]),
    }
    columns = {field.name: known.get(field.name, pa.nulls(n, field.type)) for field in ITEM_SCHEMA}
    (folder / "many").mkdir()
    pq.write_table(pa.table(columns, schema=ITEM_SCHEMA), folder / "many" / "items.parquet", row_group_size=50_000)
    document = {
        "type": "Collection", "stac_version": "1.1.0", "id": "many", "title": "Many", "description": "Many samples.",
        "license": "CC0-1.0", "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    }  # fmt: skip
    (folder / "many" / "collection.json").write_text(json.dumps(document))
    (folder / "many" / "stats.json").write_text(json.dumps({"recipe_hash": "", "statistics": {}}))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    app = Starlette(routes=[Mount("/explorer", routes=explorer_routes(open_catalog(folder)))])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/explorer/"
    server.should_exit = True
    thread.join()


def measure(n: int) -> Row:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or sys.exit("no Chromium on the PATH: scripts/chromium.sh installs Debian's")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        write_catalog(Path(folder), n)
        with served(Path(folder)) as url:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(120_000)
            start = time.perf_counter()
            answer = page.request.get(f"{url}samples.bin", timeout=120_000)
            first, megabytes = time.perf_counter() - start, len(answer.body()) / 1e6
            start = time.perf_counter()
            page.goto(url)
            page.wait_for_selector("body.ready")
            ready = time.perf_counter() - start
            page.wait_for_timeout(1000)
            filtered = sorted(
                page.evaluate(FILTER, name)
                for name in (BIOMES[2], BIOMES[5], BIOMES[2], BIOMES[5], BIOMES[7], BIOMES[7])
            )
            moved = page.evaluate(DRAG, FRAMES)
            browser.close()
    (p50, p95), (paint50, paint95) = (np.percentile(values, (50, 95)) for values in (moved["gaps"], moved["paints"]))
    return Row(n, megabytes, first, ready, filtered[len(filtered) // 2], *map(float, (p50, p95, paint50, paint95)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=RESULTS / "explorer.json")
    arguments = parser.parse_args()
    rows = [measure(n) for n in arguments.samples]
    table = Table(
        title="The explorer in headless Chromium", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name in ("Samples", "MB", "Read s", "Page s", "Filter ms", "Frame p50", "p95 ms", "Paint p50", "p95 ms"):
        table.add_column(name, justify="right", min_width=9 if name == "Samples" else None)
    for row in rows:
        numbers = [row.first_answer_s, row.ready_s]
        times = [row.filter_ms, row.frame_p50_ms, row.frame_p95_ms, row.paint_p50_ms, row.paint_p95_ms]
        table.add_row(
            f"{row.samples:,}", f"{row.megabytes:.1f}", *(f"{v:.2f}" for v in numbers), *(f"{v:.1f}" for v in times)
        )
    keep(arguments.out, [table], rows=[asdict(row) for row in rows])


if __name__ == "__main__":
    main()
