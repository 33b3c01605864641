"""Samples found among 10^5 to 5·10^6 items: pwcat beside DuckDB with SQL written by hand, a linear scan, and pystac.

Items are of land, in Hilbert order, written as builds write them: biomes from the kit's map, so that their shares and places
are the Earth's, land covers by biome, in the proportions that a forest or a desert has. Each question is asked in turn of pwcat
and of its peers in one process, warm; p50 of the repeats. By hand is the same file, an open connection and the shortest SQL:
what it returns is what `search` holds then, the ids. The linear scan reads the columns it needs with pyarrow and compares
them. pystac walks a static catalog of 2,000 of the items, extrapolated. `pwcat search` is a new process each time. Over HTTP
the file lies on a loopback server that answers each request after 30 ms and counts what it sends.

    python benchmarks/query.py [--items 100000 1000000 5000000] [--repeats 21] [--out benchmarks/results/query.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from measured import KIT, RESULTS, keep, run_python
from rich.box import SIMPLE_HEAD
from rich.table import Table

BIOMES = KIT / "vectors" / "biomes" / "resolve_2017_biomes_simplified.fgb"
LANDCOVERS = (
    "tree_cover",
    "shrubland",
    "grassland",
    "cropland",
    "built_up",
    "bare",
    "snow_ice",
    "water",
    "wetland",
    "moss_lichen",
)
# Shares of land covers where there is forest, grass, desert and tundra: of the order of ESA WorldCover's.
MIXES = {
    "Forest": (0.62, 0.05, 0.12, 0.14, 0.02, 0.01, 0.005, 0.025, 0.01, 0.0),
    "Grassland": (0.15, 0.12, 0.42, 0.24, 0.01, 0.04, 0.0, 0.01, 0.01, 0.0),
    "Desert": (0.01, 0.10, 0.14, 0.04, 0.005, 0.69, 0.0, 0.015, 0.0, 0.0),
    "Tundra": (0.06, 0.03, 0.38, 0.0, 0.0, 0.12, 0.06, 0.05, 0.05, 0.25),
}
BIOME, LANDCOVER, BOX = "Temperate Broadleaf & Mixed Forests", "cropland", (0.0, 44.0, 10.0, 50.0)
CQL2 = f"biome = '{BIOME}' AND landcover = '{LANDCOVER}' AND spectral_entropy > 3.5 AND landcover_share < 0.8"
DELAY_S = 0.03
WALKED = 2_000
QUESTIONS = ("biome + land cover", "the same + bbox", "CQL2", "by id", "count biome x continent")
WHERE = f"\"div:biome\" = '{BIOME}' AND \"div:landcover\" = '{LANDCOVER}'"
HAND = {
    "biome + land cover": f"SELECT id FROM {{items}} WHERE {WHERE}",  # noqa: S608
    "the same + bbox": f"SELECT id FROM {{items}} WHERE {WHERE} AND bbox.xmin <= {BOX[2]} AND bbox.xmax >= {BOX[0]} "  # noqa: S608
    f"AND bbox.ymin <= {BOX[3]} AND bbox.ymax >= {BOX[1]}",
    "CQL2": f'SELECT id FROM {{items}} WHERE {WHERE} AND "div:spectral_entropy" > 3.5 AND "div:landcover_share" < 0.8',  # noqa: S608
    "by id": "SELECT id FROM {items} WHERE id = '{one}'",
    "count biome x continent": 'SELECT "div:biome", "div:continent", count(*) FROM {items} GROUP BY ALL',
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    items: int
    question: str
    way: str
    ms: float
    rows: int


def make_items(folder: Path, n: int) -> None:
    """A collection of so many items, without a cube."""
    from catalog.extension import SCHEMA_URI
    from catalog.items import item_rows, list_column
    from catalog.stac.mirror import write_items
    from pwcat.recipe import Chip
    from pwcat.regions.vector import read_vector, vector_layer
    from pwcat.sites.columns import hilbert_order

    rng = np.random.default_rng(0)
    layer = vector_layer(read_vector(BIOMES, name="biome"), name="biome", source="", field="BIOME_NAME", path=BIOMES)
    lonlat, codes = _on_land(rng, n, layer)
    order = hilbert_order(lonlat)
    lonlat, codes = lonlat[order], codes[order]
    biomes, covers = np.array(layer.classes), np.array(LANDCOVERS)
    cover = _covers(rng, biomes, codes)
    chip = Chip(size_px=264, resolution_m=10, bands=["B02", "B03", "B04"])
    groups, counts = [], {"continent": {}, "biome": {}, "landcover": {}}
    for start in range(0, n, 250_000):
        part = slice(start, min(n, start + 250_000))
        plan = _plan(rng, lonlat[part], biomes[codes[part]], covers, cover[part], first=start, list_column=list_column)
        values = rng.normal(3.0, 0.6, len(plan))
        spectra = {f"div:spectral_entropy{kind}": values for kind in ("", "_codebook", "_covariance")}
        groups.append(item_rows(chip, plan, plan, spectra=spectra))
        for name, found in counts.items():
            for entry in groups[-1][f"div:{name}"].value_counts():
                found[entry["values"].as_py()] = found.get(entry["values"].as_py(), 0) + entry["counts"].as_py()
    folder.mkdir(parents=True)
    write_items(folder / "items.parquet", pa.concat_tables(groups).combine_chunks(), collection=folder.name)
    stats = {name: {"counts": found, "layer": None} for name, found in counts.items()}
    (folder / "stats.json").write_text(json.dumps({"recipe_hash": "0" * 64, "num_samples": n, "statistics": stats}))
    document = {"type": "Collection", "id": folder.name, "stac_version": "1.1.0", "stac_extensions": [SCHEMA_URI]}
    (folder / "collection.json").write_text(json.dumps(document))


def _on_land(rng: np.random.Generator, n: int, layer: Any) -> tuple[np.ndarray, np.ndarray]:
    found: list[tuple[np.ndarray, np.ndarray]] = []
    while sum(len(codes) for _, codes in found) < n:
        points = np.column_stack([rng.uniform(-180, 180, n), np.rad2deg(np.arcsin(rng.uniform(-0.95, 0.98, n)))])
        codes = layer.codes(points)
        found.append((points[codes >= 0], codes[codes >= 0]))
    return np.concatenate([p for p, _ in found])[:n], np.concatenate([c for _, c in found])[:n]


def _covers(rng: np.random.Generator, biomes: np.ndarray, codes: np.ndarray) -> np.ndarray:
    cover = np.empty(len(codes), dtype=np.int64)
    for code, name in enumerate(biomes):
        mix = np.array(next((shares for word, shares in MIXES.items() if word in name), MIXES["Forest"]))
        rows = np.flatnonzero(codes == code)
        cover[rows] = rng.choice(len(mix), len(rows), p=mix / mix.sum())
    return cover


def _plan(rng, lonlat, biomes, covers, cover, *, first, list_column) -> pa.Table:
    from pyproj import Transformer

    n = len(lonlat)
    epsg = (32601 + ((lonlat[:, 0] + 180) // 6).clip(0, 59) + np.where(lonlat[:, 1] < 0, 100, 0)).astype(np.int32)
    x, y = np.empty(n), np.empty(n)
    for code in np.unique(epsg):
        rows = epsg == code
        x[rows], y[rows] = Transformer.from_crs(4326, int(code), always_xy=True).transform(*lonlat[rows].T)
    share = np.round(rng.uniform(0.5, 1, n), 4)
    pairs = pa.StructArray.from_arrays(
        [
            covers[np.column_stack([cover, (cover + 1) % len(covers)]).ravel()],
            np.column_stack([share, 1 - share]).ravel(),
        ],
        ["name", "fraction"],
    )
    ids = pa.array(np.char.add("global-", np.char.zfill(np.arange(first, first + n).astype(str), 8)))
    continents = np.array(["North America", "South America", "Europe", "Africa", "Asia", "Oceania"])
    west, south = lonlat[:, 0] < -30, lonlat[:, 1] < np.where(lonlat[:, 0] < -30, 12, 35)
    continent = np.where(
        west, south * 1, np.where(lonlat[:, 0] > 110, np.where(lonlat[:, 1] < -8, 5, 4), np.where(south, 3, 2))
    )
    continent = np.where(~west & (lonlat[:, 0] > 55) & (lonlat[:, 0] <= 110), 4, continent)
    days = rng.integers(0, 4 * 365, (n, 1)) * 86_400
    return pa.table(
        {
            "id": ids,
            "lon": lonlat[:, 0],
            "lat": lonlat[:, 1],
            "continent": continents[continent],
            "biome": biomes,
            "ecoregion": pa.nulls(n, pa.string()),
            "landcover": covers[cover],
            "landcover_fractions": pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * 2, pairs),
            "scene_ids": pa.ListArray.from_arrays(
                np.arange(n + 1, dtype=np.int32), [f"S2A_MSIL2A_{(first + k) // 20:07d}" for k in range(n)]
            ),
            "datetime": list_column(days.astype("timedelta64[s]") + np.datetime64("2020-01-01", "us")),
            "epsg": epsg,
            "x0": np.round(x / 10) * 10 - 1320,
            "y0": np.round(y / 10) * 10 + 1320,
            "split": np.where(rng.random(n) < 0.1, "val", "train"),
            "pwcat:index": np.arange(first, first + n),
            "valid_fraction": np.round(rng.uniform(0.9, 1, n), 3),
            "item": pa.nulls(n, pa.list_(pa.string())),
        }
    )  # fmt: skip


def of_pwcat(catalog: Any, one: str) -> dict[str, Callable[[], int]]:
    return {
        "biome + land cover": lambda: len(catalog.search(biome=BIOME, landcover=LANDCOVER)),
        "the same + bbox": lambda: len(catalog.search(biome=BIOME, landcover=LANDCOVER, bbox=BOX)),
        "CQL2": lambda: len(catalog.search(filter=CQL2)),
        "by id": lambda: len(catalog.search(ids=[one])),
        "count biome x continent": lambda: len(catalog.count(["biome", "continent"])),
    }


def by_hand(path: Path, one: str) -> dict[str, Callable[[], int]]:
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET parquet_metadata_cache = true")
    texts = {name: sql.format(items=f"read_parquet('{path}')", one=one) for name, sql in HAND.items()}
    return {name: lambda sql=sql: len(connection.sql(sql).to_arrow_table()) for name, sql in texts.items()}


def scanned(path: Path) -> dict[str, Callable[[], int]]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    def scan() -> int:
        table = pq.read_table(path, columns=["id", "div:biome", "div:landcover"])
        mask = pc.and_(pc.equal(table["div:biome"], BIOME), pc.equal(table["div:landcover"], LANDCOVER))
        return len(table.filter(mask))

    return {"biome + land cover": scan}


def measure(root: Path, n: int, repeats: int) -> list[Row]:
    """Each question of each way in turn, so that what disturbs one disturbs all; p50, milliseconds."""
    from catalog.query import open_catalog

    one = f"global-{n * 3 // 4:08d}"
    path = root / str(n) / "global" / "items.parquet"
    ways = {
        "pwcat": of_pwcat(open_catalog(path.parent), one),
        "by hand": by_hand(path, one),
        "linear scan": scanned(path),
    }
    rows = []
    for question in QUESTIONS:
        asked = {way: questions[question] for way, questions in ways.items() if question in questions}
        found = {way: ask() for way, ask in asked.items()}
        assert len(set(found.values())) == 1, found
        took: dict[str, list[float]] = {way: [] for way in asked}
        for _ in range(repeats):
            for way, ask in asked.items():
                started = time.perf_counter()
                ask()
                took[way].append((time.perf_counter() - started) * 1000)
        rows += [Row(n, question, way, statistics.median(times), found[way]) for way, times in took.items()]
    return rows


def walked(root: Path, n: int) -> Row:
    """A static catalog of some of the items, walked by pystac; extrapolated to all of them."""
    import pystac

    from catalog.stac.features import features
    from catalog.stac.mirror import read_items

    path = root / str(n) / "global" / "items.parquet"
    some = read_items(path).slice(0, WALKED)
    extent = pystac.Extent(pystac.SpatialExtent([[-180, -90, 180, 90]]), pystac.TemporalExtent([[None, None]]))
    collection = pystac.Collection(id="global", description="Bench.", extent=extent, license="CC0-1.0")
    collection.add_items([pystac.Item.from_dict(item | {"links": []}) for item in features(some)])
    with tempfile.TemporaryDirectory() as folder:
        collection.normalize_and_save(folder, pystac.CatalogType.SELF_CONTAINED)
        started = time.perf_counter()
        opened = pystac.Collection.from_file(str(Path(folder) / "collection.json"))
        found = [
            item.id
            for item in opened.get_items(recursive=True)
            if item.properties.get("div:biome") == BIOME and item.properties.get("div:landcover") == LANDCOVER
        ]
        seconds = time.perf_counter() - started
    return Row(n, "biome + land cover", "pystac (extrapolated)", seconds * 1000 * n / WALKED, len(found) * n // WALKED)


def cold(root: Path, n: int, repeats: int) -> float:
    """Seconds of `pwcat search` in a new process, p50."""
    folder = root / str(n) / "global"
    runs = [
        run_python("-m", "pwcat", "search", folder, "--biome", BIOME, "--landcover", LANDCOVER).seconds
        for _ in range(repeats)
    ]
    return statistics.median(runs)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("cog_server.py")), str(folder), str(DELAY_S)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.terminate()
        server.wait()


def over_http(root: Path, n: int) -> list[dict[str, Any]]:
    """Each question asked of a catalog newly opened over HTTP: seconds, requests, and bytes as a share of the items' file."""
    from catalog.query import open_catalog

    folder = root / str(n) / "global"
    size = (folder / "items.parquet").stat().st_size
    rows = []
    with served(folder) as url:

        def take() -> dict[str, int]:
            return json.loads(urllib.request.urlopen(f"{url}/_take").read())

        for question in ("open", *QUESTIONS[:2], "CQL2", "by id"):
            take()
            started = time.perf_counter()
            catalog = open_catalog(f"{url}/global")
            found = of_pwcat(catalog, f"global-{n * 3 // 4:08d}")[question]() if question != "open" else 0
            seconds, taken = time.perf_counter() - started, take()
            rows.append(
                {"question": question, "seconds": seconds, "rows": found, **taken, "share": taken["bytes"] / size}
            )
    return rows


def tables(rows: list[Row], colds: dict[int, float], far: dict[int, list[dict[str, Any]]]) -> list[Table | str]:
    shown: list[Table | str] = []
    table = Table(title="Questions of a catalog, warm, p50 ms", title_justify="left", box=SIMPLE_HEAD)
    for name in ("Items", "Question", "Found", "pwcat", "By hand", "Ratio"):
        table.add_column(name, justify="left" if name == "Question" else "right")
    ms = {(row.items, row.question, row.way): row for row in rows}
    for (n, question, way), row in ms.items():
        if way == "pwcat":
            hand = ms[n, question, "by hand"]
            table.add_row(
                f"{n:,}", question, f"{row.rows:,}", f"{row.ms:.1f}", f"{hand.ms:.1f}", f"{row.ms / hand.ms:.2f}"
            )
    shown.append(table)
    for row in rows:
        if row.way not in ("pwcat", "by hand"):
            ours = ms[row.items, row.question, "pwcat"].ms
            shown.append(
                f"{row.way}, {row.items:,} items, {row.question}: {row.ms:,.0f} ms, {row.ms / ours:,.0f} x pwcat"
            )
    for n, seconds in colds.items():
        shown.append(f"pwcat search, cold, {n:,} items: {seconds:.2f} s")
    for n, questions in far.items():
        table = Table(
            title=f"Over HTTP ranges, 30 ms a request, {n:,} items, cold", title_justify="left", box=SIMPLE_HEAD
        )
        for name in ("Question", "Found", "Seconds", "Requests", "MB", "% of file"):
            table.add_column(name, justify="left" if name == "Question" else "right")
        for one in questions:
            table.add_row(
                one["question"], f"{one['rows']:,}", f"{one['seconds']:.2f}", f"{one['requests']:,}",
                f"{one['bytes'] / 1e6:.2f}", f"{one['share']:.2%}",
            )  # fmt: skip
        shown.append(table)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000, 5_000_000])
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--out", type=Path, default=RESULTS / "query.json")
    parser.add_argument("--root", type=Path, help="where items are made, and kept; else in a folder that is removed")
    parser.add_argument("--make", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ask", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make_items(options.root / str(options.make) / "global", options.make)
        return
    if options.ask:
        print(json.dumps([asdict(row) for row in measure(options.root, options.ask, options.repeats)]))
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = options.root or Path(temporary)
        rows: list[Row] = []
        for n in options.items:
            if not (root / str(n) / "global" / "collection.json").is_file():
                run_python(__file__, "--make", n, "--root", root)
            asked = run_python(__file__, "--ask", n, "--root", root, "--repeats", options.repeats)
            rows += [Row(**row) for row in json.loads(asked.lines[-1])]
            print(f"{n:,} items asked", file=sys.stderr)
        middle = sorted(options.items)[len(options.items) // 2]
        rows.append(walked(root, middle))
        colds = {n: cold(root, n, 5) for n in options.items}
        far = {n: over_http(root, n) for n in options.items if n <= 1_000_000}
        keep(
            options.out,
            tables(rows, colds, far),
            rows=[asdict(row) for row in rows],
            cold_seconds=colds,
            over_http=far,
        )


if __name__ == "__main__":
    main()
