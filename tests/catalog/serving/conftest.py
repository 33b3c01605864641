"""A synthetic catalog with what is awkward in it, and servers of it on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
import uvicorn

from catalog.items import ITEM_SCHEMA
from catalog.query import open_catalog
from catalog.server import Limits, make_app
from catalog.stac.mirror import write_items

BIOMES = ("Tundra", "Deserts & Xeric Shrublands", "O'Hara's Taiga", None)
COVERS = ("tree_cover", "moss_and_lichen", "cropland", None)
START = datetime(2020, 1, 1, tzinfo=UTC)


def rows_of(name: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Samples with ties, gaps, and boxes across the antimeridian; some ids are those of other collections, too."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in rng.permutation(count):
        lon, lat = float(rng.uniform(-180, 180)), float(rng.uniform(-80, 80))
        if number % 10 == 0:
            lon = 179.995
        west, east = lon - 0.01, lon + 0.01
        box = {"xmin": west, "ymin": lat - 0.01, "xmax": east if east <= 180 else east - 360, "ymax": lat + 0.01}
        if east > 180:
            parts = [
                shapely.box(west, box["ymin"], 180, box["ymax"]),
                shapely.box(-180, box["ymin"], box["xmax"], box["ymax"]),
            ]
            outline = shapely.MultiPolygon(parts)
        else:
            outline = shapely.box(west, box["ymin"], east, box["ymax"])
        rows.append(
            {
                "id": f"sample {number:03d}/ü" if number % 7 == 0 else f"{name}-{number:03d}",
                "geometry": shapely.to_wkb(outline),
                "bbox": box,
                "collection": name,
                "datetime": START + timedelta(days=int(rng.integers(0, 40)), seconds=int(rng.integers(0, 2)) * 0.5),
                "proj:code": f"EPSG:326{int((lon + 180) // 6) % 60 + 1:02d}",
                "proj:centroid": {"lat": lat, "lon": lon},
                "div:continent": "Europe",
                "div:biome": BIOMES[rng.integers(len(BIOMES))],
                "div:landcover": COVERS[rng.integers(len(COVERS))],
                "div:spectral_entropy": None if number % 9 == 0 else round(float(rng.normal(3, 1)), 1),
                "div:valid_fraction": 1.0,
                "pwcat:index": None if name == "beta" else int(number),
                "pwcat:split": "val" if number % 5 == 0 else "train",
            }
        )
    return rows


def write_member(root: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """A collection's folder without pixels: items, document, statistics."""
    fields = [field for field in ITEM_SCHEMA if field.name in rows[0]]
    folder = root / name
    folder.mkdir(parents=True)
    write_items(folder / "items.parquet", pa.Table.from_pylist(rows, schema=pa.schema(fields)), collection=name)
    east = 10.0 if name == "alpha" else 180.0
    document = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": name,
        "title": f"The dataset {name}",
        "description": f"Samples of {name}.",
        "license": "CC0-1.0",
        "extent": {
            "spatial": {"bbox": [[-180.0, -80.0, east, 80.0]]},
            "temporal": {"interval": [["2020-01-01T00:00:00Z", "2020-02-10T00:00:00Z"]]},
        },
        "links": [
            {"rel": "root", "href": "../catalog.json"},
            {"rel": "license", "href": "https://example.org/license"},
        ],
        "assets": {
            "items": {"href": "./items.parquet", "type": "application/vnd.apache.parquet", "roles": ["stac-items"]}
        },
    }
    (folder / "collection.json").write_text(json.dumps(document))
    (folder / "secret.txt").write_text("no asset")
    counts = {"biome": {biome: 1 for biome in BIOMES if biome}, "landcover": {cover: 1 for cover in COVERS if cover}}
    statistics = {layer: {"counts": counts.get(layer, {"Europe": 1})} for layer in ("continent", "biome", "landcover")}
    (folder / "stats.json").write_text(json.dumps({"name": name, "recipe_hash": "0" * 64, "statistics": statistics}))


@pytest.fixture(scope="session")
def samples() -> dict[str, list[dict[str, Any]]]:
    """The rows of each collection."""
    return {"alpha": rows_of("alpha", 60, 0), "beta": rows_of("beta", 40, 1)}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory, samples) -> Path:
    """The catalog's folder. Do not change it."""
    folder = tmp_path_factory.mktemp("served catalog")
    for name, rows in samples.items():
        write_member(folder, name, rows)
    return folder


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The address of an application while it is served on loopback, by a thread."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive(), "the server did not start"
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def url(root: Path) -> Iterator[str]:
    """A server of the catalog."""
    with serving(make_app(open_catalog(root), limits=Limits(page=25))) as address:
        yield address


@pytest.fixture(scope="session")
def running() -> Callable[[Any], Any]:
    """Serves an application on loopback: a context that gives its address."""
    return serving
