"""Looking for the scenes of many sites: requests, items and seconds of bulk questions against simpler ways.

A static archive of items alone, 110 km tiles over the globe's land latitudes with some dates each, is served as the embedded
archive is. Site by site is measured on a part and scaled, since it is what takes hours. That hundreds and bulk find the same
scenes is asserted.

    python benchmarks/search.py [--sites 10000] [--one-by-one 200] [--out benchmarks/results/search.json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from measured import RESULTS, keep
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pwcat.archive import serve_archive
from pwcat.providers import OpenSource
from pwcat.search.items import Answer, _Search, find_items
from pwcat.search.questions import Question

TILE_DEG = 1.0
WORLD = (-180.0, -56.0, 180.0, 76.0)


@dataclass(frozen=True)
class Row:
    """What one way took; of a part, scaled to all sites.

    Attributes:
        sent: items, repeated ones and those that hold no site included.
        wanted: items that hold a site; none is told of a part.
    """

    sites: str
    way: str
    questions: int
    requests: int
    sent: int
    wanted: int | None
    seconds: float

    @classmethod
    def of(cls, sites: str, way: str, answer: Answer, seconds: float, *, scale: float = 1) -> Row:
        sent = answer.items + answer.repeated + answer.beside
        counts = (round(count * scale) for count in (answer.questions, answer.requests, sent))
        return cls(sites, way, *counts, answer.items if scale == 1 else None, seconds * scale)


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
    parser.add_argument("--one-by-one", type=int, default=200)
    parser.add_argument("--dates", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "search.json")
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    sites = rng.uniform(WORLD[:2], WORLD[2:], (options.sites, 2))
    crowds = options.sites // 500
    crowd = rng.uniform(WORLD[:2], WORLD[2:], (crowds, 1, 2)) + rng.normal(0, 0.4, (crowds, 500, 2))
    crowd = rng.permutation(np.clip(crowd.reshape(-1, 2), WORLD[:2], WORLD[2:]))
    with tempfile.TemporaryDirectory() as folder:
        items = write_archive(Path(folder), dates=options.dates, seed=0)
        with serve_archive(folder) as url:
            source = OpenSource(provider="archive", url=url, collection="s2")
            rows = [
                *compare(source, "over the world", sites, options.one_by_one),
                *compare(source, f"{crowds} crowds of 500", crowd, options.one_by_one),
            ]
    told = f"{options.sites:,} sites, {items:,} items, pages of {source.profile.page_size}."
    keep(options.out, [as_table(rows), told], sites=options.sites, items=items, rows=[asdict(row) for row in rows])


def compare(source: OpenSource, name: str, sites: np.ndarray, one_by_one: int) -> list[Row]:
    part = sites[:one_by_one]
    answer, seconds, _ = measure(source, [Question(sites=site[None]) for site in part])
    alone = Row.of(name, f"one by one (from {len(part)})", answer, seconds, scale=len(sites) / len(part))
    hundreds = [Question(sites=sites[k : k + 100]) for k in range(0, len(sites), 100)]
    answer, seconds, wanted = measure(source, hundreds)
    few = Row.of(name, "hundreds, as they come", answer, seconds)
    answer, start = Answer(), time.perf_counter()
    found = {item["id"] for item in find_items(source, sites=sites, answer=answer)}
    assert found == wanted, "the ways find different scenes"
    return [alone, few, Row.of(name, "in bulk", answer, time.perf_counter() - start)]


def as_table(rows: list[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("sites", "way", "questions", "requests", "sent", "wanted", "s"):
        table.add_column(name, justify="left" if name in ("sites", "way") else "right")
    for row in rows:
        wanted = "" if row.wanted is None else f"{row.wanted:,}"
        table.add_row(
            row.sites,
            row.way,
            *(f"{n:,}" for n in (row.questions, row.requests, row.sent)),
            wanted,
            f"{row.seconds:.1f}",
        )
    return table


if __name__ == "__main__":
    main()
