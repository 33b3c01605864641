"""Small towns as GeoJSON, built by map recipes as anyone's map is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from catalog.store import build_map
from catalog.subset import Subset, load_subset
from pwcat.osm.tiles import Tile

Tags = Mapping[str, str]
Thing = tuple[str, list[tuple[float, float]], Tags]  # kind, places on the tile from 0 to 1, tags
World = Mapping[Tile, Sequence[Thing]]
GROUPS, TILES = 12, 4


def square(x: float, y: float, side: float) -> list[tuple[float, float]]:
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]


def feature(tile: Tile, thing: Thing) -> dict[str, Any]:
    kind, places, tags = thing
    west, south, east, north = tile.bounds()
    lonlat = [[west + x * (east - west), north + y * (south - north)] for x, y in places]
    geometry = {
        "point": {"type": "Point", "coordinates": lonlat[0]},
        "line": {"type": "LineString", "coordinates": lonlat},
        "polygon": {"type": "Polygon", "coordinates": [[*lonlat, lonlat[0]]]},
    }[kind]
    return {"type": "Feature", "properties": dict(tags), "geometry": geometry}


def built(folder: Path, world: World, *, name: str = "towns", **tiles: Any) -> Subset:
    """A collection of these towns, half of whose groups are held back."""
    folder.mkdir(parents=True, exist_ok=True)
    features = [feature(tile, thing) for tile, things in world.items() for thing in things]
    (folder / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    recipe = {
        "kind": "map",
        "name": name,
        "title": "Towns",
        "license": "CC0-1.0",
        "map": {"path": f"{name}.geojson", "license": "CC0-1.0", "attribution": "nobody", "day": "2025-06-01"},
        "tiles": {"zoom": 16, "group_zoom": 14, **tiles},
        "split": {"val": 0.2, "test": 0.3},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    build_map(folder / f"{name}.yaml", catalog=folder / "catalog")
    return load_subset(folder / "catalog" / name)


def tiles_of(groups: int = GROUPS, tiles: int = TILES) -> Iterator[tuple[int, Tile]]:
    """Tiles of some groups, with the number of their group."""
    for group in range(groups):
        for place in range(tiles):
            yield group, Tile(zoom=16, x=4 * (3000 + 7 * group) + place % 4, y=4 * 5000 + place // 4)


def town(rng: np.random.Generator, group: int, place: int) -> list[Thing]:
    """Houses, roofs of most of them, speeds, signals and bridges; at least a tree."""
    houses = int(rng.integers(0, 12)) if place else 0
    things: list[Thing] = [("point", [(0.5, 0.5)], {"natural": "tree"})]
    for number in range(houses):
        x, y = 0.05 + 0.07 * number, 0.2
        tags = {"building": "house"} | ({"roof:shape": "dôme"} if number % 4 else {})
        things.append(("polygon", square(x, y, 0.05), tags))
    things += [("point", [(0.1 * n, 0.6)], {"amenity": "bench"}) for n in range(houses // 2)]
    for n in range(group % 3):
        things.append(("point", [(0.3 + 0.1 * n, 0.7)], {"highway": "traffic_signals", "direction": "both"}))
    speed = {"maxspeed": f"{20 + 10 * (place + group % 2)} mph"} if place else {}
    things.append(("line", [(0.1, 0.8), (0.9, 0.8)], {"highway": "residential", **speed}))
    if group % 2 and place > 1:
        bridge = {"bridge": "yes", "layer": "1", "highway": "primary" if place > 2 else "footway"}
        things.append(("line", [(0.1, 0.9), (0.9, 0.9)], bridge))
    return things


@pytest.fixture(scope="session")
def world() -> World:
    rng = np.random.default_rng(0)
    return {
        tile: town(rng, group, place)
        for place, (group, tile) in ((n % TILES, each) for n, each in enumerate(tiles_of()))
    }


@pytest.fixture(scope="session")
def towns(world: World, tmp_path_factory: pytest.TempPathFactory) -> Subset:
    """48 tiles of 12 groups."""
    return built(tmp_path_factory.mktemp("towns"), world)


@pytest.fixture(scope="session")
def build_world() -> Callable[..., Subset]:
    return built
