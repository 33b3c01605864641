"""Looking for the scenes of many sites: requests, items and seconds of bulk questions against simpler ways.

A static archive of items alone, 110 km tiles over the globe's land latitudes with some dates each, is served as the embedded
archive is. Run: ``python benchmarks/search.py [--sites 10000] [--one-by-one 500]``. Site by site is measured on a part and
scaled, since it is what takes hours.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from pwcat.archive import serve_archive
from pwcat.providers import OpenSource
from pwcat.search.items import Answer, _Search, find_items
from pwcat.search.questions import Question

TILE_DEG = 1.0
WORLD = (-180.0, -56.0, 180.0, 76.0)


def write_archive(folder: Path, *, dates: int, seed: int) -> int:
    """Items over a third of the tiles of the world, in patches; the number comes back."""
    rng = np.random.default_rng(seed)
    patches = rng.uniform(WORLD[:2], WORLD[2:], (40, 2))
    collection = folder / "s2"
    collection.mkdir(parents=True)
    (folder / "catalog.json").write_text(
        json.dumps({"type": "Catalog", "id": "x", "stac_version": "1.1.0", "description": "x", "links": []})
    )
    extent = {"spatial": {"bbox": [list(WORLD)]}, "temporal": {"interval": [[None, None]]}}
    (collection / "collection.json").write_text(
        json.dumps(
            {
                "type": "Collection",
                "id": "s2",
                "stac_version": "1.1.0",
                "description": "x",
                "license": "other",
                "extent": extent,
                "links": [],
            }
        )
    )
    count = 0
    for west in np.arange(WORLD[0], WORLD[2] - TILE_DEG, TILE_DEG * 0.9):
        for south in np.arange(WORLD[1], WORLD[3] - TILE_DEG, TILE_DEG * 0.9):
            if np.abs(patches - [west, south]).max(axis=1).min() > 12:
                continue
            for k in range(dates):
                name = f"t{count:06d}-{k}"
                east, north = west + TILE_DEG, south + TILE_DEG
                ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
                item = {
                    "type": "Feature", "id": name, "stac_version": "1.1.0", "collection": "s2", "links": [],
                    "bbox": [west, south, east, north], "geometry": {"type": "Polygon", "coordinates": [ring]},
                    "properties": {"datetime": f"2022-{k + 1:02d}-15T10:00:00Z", "eo:cloud_cover": 5.0},
                    "assets": {"B02": {"href": "./B02.tif"}},
                }  # fmt: skip
                home = collection / name
                home.mkdir()
                (home / f"{name}.json").write_text(json.dumps(item))
            count += 1
    return count * dates


def measure(source: OpenSource, questions: list[Question]) -> tuple[Answer, float, set[str]]:
    answer, start = Answer(questions=len(questions)), time.perf_counter()
    search = _Search(source, None, None, None, answer, None)
    found = {item["id"] for item in search.by_api(questions) if answer.is_new(item)}
    return answer, time.perf_counter() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=10_000)
    parser.add_argument("--one-by-one", type=int, default=500)
    parser.add_argument("--dates", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    sites = rng.uniform(WORLD[:2], WORLD[2:], (options.sites, 2))
    crowd = rng.uniform(WORLD[:2], WORLD[2:], (options.sites // 500, 1, 2)) + rng.normal(
        0, 0.4, (options.sites // 500, 500, 2)
    )
    crowd = rng.permutation(np.clip(crowd.reshape(-1, 2), WORLD[:2], WORLD[2:]))
    with tempfile.TemporaryDirectory() as folder:
        items = write_archive(Path(folder), dates=options.dates, seed=0)
        with serve_archive(folder) as url:
            source = OpenSource(provider="archive", url=url, collection="s2")
            print(f"{items} items, {options.sites} sites, pages of {source.profile.page_size}")
            print(
                "| sites | way | questions | requests | items sent | items wanted | s |\n|---|---|---|---|---|---|---|"
            )
            for name, places in (("over the world", sites), ("in crowds", crowd)):
                compare(source, name, places, options.one_by_one)


def compare(source: OpenSource, name: str, sites: np.ndarray, one_by_one: int) -> None:
    part = sites[:one_by_one]
    scale = len(sites) / len(part)
    answer, seconds, _ = measure(source, [Question(sites=site[None]) for site in part])
    show(f"{name} | one by one (x{scale:g})", answer, seconds, scale)
    hundreds = [Question(sites=sites[k : k + 100]) for k in range(0, len(sites), 100)]
    answer, seconds, wanted = measure(source, hundreds)
    show(f"{name} | hundreds, as they come", answer, seconds)
    answer, start = Answer(), time.perf_counter()
    found = {item["id"] for item in find_items(source, sites=sites, answer=answer)}
    assert found == wanted
    show(f"{name} | in bulk", answer, time.perf_counter() - start)


def show(name: str, answer: Answer, seconds: float, scale: float = 1) -> None:
    sent = answer.items + answer.repeated + answer.beside
    numbers = (answer.questions * scale, answer.requests * scale, sent * scale)
    wanted = answer.items if scale == 1 else ""
    print(f"| {name} | {' | '.join(f'{number:.0f}' for number in numbers)} | {wanted} | {seconds * scale:.1f} |")


if __name__ == "__main__":
    main()
