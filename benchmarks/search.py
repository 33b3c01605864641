"""Looking for scenes: how few questions find those of many sites, and what answers of many scenes take.

A static archive of items alone, 110 km tiles over the globe's land latitudes with some dates each, is served as the embedded
archive is. Site by site is measured on a part and scaled, since it is what takes hours. That hundreds and bulk find the same
scenes is asserted.

An answer of many scenes is searched for, half as many sites are placed in it, all its scenes are frozen, and read again:
seconds of the process's own work, and the peak of its memory so far. The API is `stac_api.py`: items of 15 kB, made after a
real one.

    python benchmarks/search.py [--sites 10000] [--one-by-one 200] [--answers 10000 100000]
        [--out benchmarks/results/search.json]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from measured import RESULTS, keep, run_python
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pwcat.archive import serve_archive
from pwcat.providers import OpenSource
from pwcat.search.items import Answer, _Search, find_items
from pwcat.search.questions import Question

TILE_DEG = 1.0
WORLD = (-180.0, -56.0, 180.0, 76.0)
STEPS = ("search", "place", "freeze", "read 200", "read all")
# Peak memory of an answer of 100,000 scenes after each step, of the last commit in which scenes held their items.
BEFORE_MB = {"search": 4640, "place": 5666, "freeze": 8566, "read 200": 8566, "read all": 9128}


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
    parser.add_argument("--answers", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--out", type=Path, default=RESULTS / "search.json")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        run_answer(options.case)
        return
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
    answers = {size: measure_answer(size) for size in options.answers}
    keep(
        options.out,
        [as_table(rows), told, *([answers_table(answers)] if answers else [])],
        sites=options.sites,
        items=items,
        rows=[asdict(row) for row in rows],
        answers=answers,
    )


@contextmanager
def many_items(size: int) -> Iterator[str]:
    command = [sys.executable, Path(__file__).with_name("stac_api.py"), str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def measure_answer(size: int) -> dict[str, list[float]]:
    """Seconds and peak megabytes of each step."""
    steps = json.loads(run_python(__file__, "--case", size).lines[-1])
    print(size, steps, file=sys.stderr)
    return steps


def run_answer(size: int) -> None:
    """All steps, in this process; prints what they took."""
    with many_items(size) as url, tempfile.TemporaryDirectory() as folder:
        took, last = {}, time.process_time()
        source = OpenSource(provider="stac", url=url, collection="c", allow_private=True)
        for step in run_steps(source, size, Path(folder)):
            now, peak_kb = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            took[step] = [round(now - last, 1), round(peak_kb / 1024)]
            print(step, *took[step], file=sys.stderr, flush=True)
            last = now
        print(json.dumps(took))


def run_steps(source: OpenSource, size: int, folder: Path) -> Iterator[str]:
    """Each step, named when it is done."""
    import shapely

    from pwcat.recipe import Recipe
    from pwcat.scenes import read_scenes, search_scenes, write_scenes
    from pwcat.sites.locators import SceneLocator

    recipe = Recipe.model_validate(
        {
            "name": "many", "title": "Many", "license": "CC0-1.0", "num_samples": 1,
            "sampler": {"strategy": "uniform", "domain": "globe"},
            "source": {"provider": "stac", "url": source.url, "collection": "c", "allow_private": True},
            "when": {"start": "2021-01-01", "end": "2021-12-31", "max_cloud_cover": 100},
            "chip": {"size_px": 96, "bands": ["B02", "B03", "B04", "B08"]},
        }
    )  # fmt: skip
    bands, frozen = recipe.chip.bands, folder / "scenes.parquet"
    scenes = search_scenes(source, recipe.when, bands=bands, folder=folder / "_search")
    assert len(scenes) == size
    yield "search"
    rng = np.random.default_rng(0)
    middles = shapely.centroid([scenes[k].footprint for k in rng.integers(0, size, size // 2)])
    sites = shapely.get_coordinates(middles) + rng.uniform(-0.2, 0.2, (len(middles), 2))
    assert len(SceneLocator(recipe, source, scenes=scenes, base_dir=folder).locate(sites).placements) > 0.9 * len(sites)
    yield "place"
    write_scenes(frozen, scenes)
    print(f"{frozen.stat().st_size / size:.0f} bytes a scene", file=sys.stderr)
    yield "freeze"
    names = [scene.id for scene in scenes[1000:1200]]
    del scenes
    assert len(read_scenes(frozen, source=source, bands=bands, ids=names)) == 200
    yield "read 200"
    assert len(read_scenes(frozen, source=source, bands=bands)) == size
    yield "read all"


def answers_table(answers: dict[int, dict[str, list[float]]]) -> Table:
    table = Table(title="Answers of many scenes: seconds of work, and MB at most", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("step")
    for size in answers:
        table.add_column(f"{size:,}: s", justify="right")
        table.add_column("MB", justify="right")
    table.add_column("100,000 before: MB", justify="right")
    for step in STEPS:
        cells = [f"{number:,}" for taken in answers.values() for number in taken[step]]
        table.add_row(step, *cells, f"{BEFORE_MB[step]:,}")
    return table


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
