"""Small maps: entities of every kind on the tiles of the small catalog."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.subset import Subset, load_subset
from pwcat.osm.schema import ENTITY_SCHEMA, TAG_SCHEMA

TAGS = [
    {"building": "house"},
    {"building": "yes", "addr:street": "Größe"},
    {"highway": "residential", "name": "東京"},
    {"highway": "traffic_signals"},
    {"landuse": "meadow", "turn:lanes:forward": "left"},
]


def entity(rng: np.random.Generator, tile: int, number: int) -> dict[str, object]:
    """A point, a line or a polygon, some with a hole."""
    kind = ("point", "line", "polygon")[number % 3]
    rings = {"point": [1], "line": [int(rng.integers(2, 6))], "polygon": [int(rng.integers(3, 7))]}[kind]
    if kind == "polygon" and rng.random() < 0.3:
        rings = [*rings, 3]
    xy = rng.random((sum(rings), 2), dtype=np.float32)
    (x0, y0), (x1, y1) = xy.min(axis=0), xy.max(axis=0)
    tags = TAGS[int(rng.integers(len(TAGS)))]
    return {
        "index": tile,
        "tile": f"16/{tile}/0",
        "osm_type": "way",
        "osm_id": 1000 * tile + number,
        "part": 0,
        "kind": kind,
        "cut": False,
        "tags": sorted(tags.items()),
        "geometry": b"",
        "xy": xy.ravel().tolist(),
        "rings": rings,
        "box": [x0, y0, x1, y0, x1, y1, x0, y1],
    }


def write_map(folder: Path, rows: list[dict[str, object]], *, group: int = 7) -> None:
    """Entities, in order, and their tags, as a map collection has them."""
    pq.write_table(pa.Table.from_pylist(rows, ENTITY_SCHEMA), folder / "entities.parquet", row_group_size=group)
    counts = Counter(tag for row in rows for tag in row["tags"])
    listed = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    tags = [{"key": key, "value": value, "count": count, "tiles": count} for (key, value), count in listed]
    pq.write_table(pa.Table.from_pylist(tags, TAG_SCHEMA), folder / "tags.parquet")


def draw_map(folder: Path, *, tiles: int, seed: int, group: int = 7) -> list[dict[str, object]]:
    """A map of tiles with none to five entities each; every fifth tile is empty, and so is the last."""
    rng = np.random.default_rng(seed)
    rows = [
        entity(rng, tile, number)
        for tile in range(tiles)
        if tile % 5 != 2 and tile < tiles - 1
        for number in range(int(rng.integers(1, 6)))
    ]
    write_map(folder, rows, group=group)
    return rows


@pytest.fixture(scope="session")
def map_catalog(tiny_catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small catalog, whose collections are maps too."""
    place = tmp_path_factory.mktemp("maps") / "catalog"
    shutil.copytree(tiny_catalog, place)
    for seed, name in enumerate(each.parent.name for each in sorted(place.glob("*/items.parquet"))):
        draw_map(place / name, tiles=load_subset(place / name).collections[0].cube.num_samples, seed=seed)
    return place


@pytest.fixture(scope="session")
def maps(map_catalog: Path) -> Subset:
    """80 tiles of two collections."""
    return load_subset(map_catalog)


@pytest.fixture(scope="session")
def one_map(map_catalog: Path) -> Subset:
    """48 tiles."""
    return load_subset(map_catalog / "everywhere")
