"""Items of 10^4 to 10^6 samples: made as columns, written as STAC GeoParquet, described in parts, merged; beside dicts.

Every step runs in a process of its own, so that its peak memory is its own. Samples are uniform on the sphere, of 264 px at
10 m on UTM grids, labelled at random. `written` is what writing a million items comes to: outlines and boxes
computed from the plan's rows, sorted, written. `parts` is the same by shards of 1,024 samples with a tally each, as builds
do it (without the pixels), and `merged` makes one collection of them: items, statistics, documents. Ten collections are
merged into a catalog by their tallies. The peers make a Python dict an item: stac-geoparquet from dicts, and a static
catalog by pystac; both at fewer items, and their dicts are made before.

    python benchmarks/items.py [--items 10000 100000 1000000] [--dicts 10000] [--out benchmarks/results/items.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measured import RESULTS, keep, run_python
from pyproj import Transformer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from catalog.items import item_rows, list_column
from catalog.measures.tally import Tally, sum_tallies
from catalog.stac.collection import CollectionFacts
from catalog.stac.describing import write_part
from catalog.stac.features import features
from catalog.stac.merging import merge_catalogs
from catalog.stac.mirror import open_items, sorted_items, write_items
from catalog.store import write_collection
from pwcat.building.execution import LOCAL_SHARDS
from pwcat.recipe import Chip
from pwcat.sites.columns import hilbert_order

CHIP = Chip(size_px=264, resolution_m=10, bands=["B02", "B03", "B04"])
START = np.datetime64("2022-01-01", "us")
SHARD = 1_024
CATALOGS = 10
CLASSES = {"continent": 7, "biome": 14, "ecoregion": 800, "landcover": 11}
STEPS = ("written", "parts", "merged")
PEERS = ("stac-geoparquet", "pystac")
FACTS = CollectionFacts(
    name="bench", title="Bench", description="Bench.", license="CC0-1.0", recipe_hash="0" * 64, layers={}
)


@dataclass(frozen=True)
class Row:
    step: str
    items: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    megabytes: float


def make_plan(n: int, path: Path) -> None:
    """Rows of a plan and its ledger, in Hilbert order, as builds find them."""
    rng = np.random.default_rng(0)
    lonlat = np.column_stack([rng.uniform(-180, 180, n), np.rad2deg(np.arcsin(rng.uniform(-0.98, 0.98, n)))])
    lonlat = lonlat[hilbert_order(lonlat)]
    epsg = (32601 + ((lonlat[:, 0] + 180) // 6).clip(0, 59) + np.where(lonlat[:, 1] < 0, 100, 0)).astype(np.int32)
    x, y = np.empty(n), np.empty(n)
    for code in np.unique(epsg):
        rows = epsg == code
        x[rows], y[rows] = Transformer.from_crs(4326, int(code), always_xy=True).transform(*lonlat[rows].T)
    labels = {
        name: pa.DictionaryArray.from_arrays(
            rng.integers(0, count, n).astype(np.int32), [f"{name} {k}" for k in range(count)]
        ).dictionary_decode()
        for name, count in CLASSES.items()
    }
    first = rng.uniform(0.5, 1, n)
    shares = pa.array(np.column_stack([first, 1 - first]).ravel())
    names = pa.DictionaryArray.from_arrays(
        rng.integers(0, 11, 2 * n).astype(np.int32), [f"landcover {k}" for k in range(11)]
    ).dictionary_decode()
    pairs = pa.StructArray.from_arrays([names, shares], ["name", "fraction"])
    ids = pa.array([f"bench-{k:07d}" for k in range(n)])
    columns = {
        "id": ids,
        "lon": lonlat[:, 0],
        "lat": lonlat[:, 1],
        **labels,
        "landcover_fractions": pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * 2, pairs),
        "scene_ids": _one_each(pa.compute.binary_replace_slice(ids, 0, 5, "S2A")),
        "datetime": list_column(START + rng.integers(0, 365 * 86400, (n, 1)).astype("timedelta64[s]")),
        "epsg": epsg,
        "x0": np.round(x / 10) * 10 - 1320,
        "y0": np.round(y / 10) * 10 + 1320,
        "split": pa.DictionaryArray.from_arrays((rng.random(n) < 0.1).astype(np.int32), ["train", "val"]).dictionary_decode(),
        "pwcat:index": np.arange(n),
        "valid_fraction": rng.uniform(0.9, 1, n),
        "item": pa.nulls(n, pa.list_(pa.string())),
        "entropy": rng.uniform(1, 5, n),
    }  # fmt: skip
    pq.write_table(pa.table(columns), path, row_group_size=SHARD * 48)


def _one_each(values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32), values)


def rows_of(plan: pa.Table) -> pa.Table:
    values = plan["entropy"].to_numpy()
    names = ("div:spectral_entropy", "div:spectral_entropy_codebook", "div:spectral_entropy_covariance")
    return item_rows(CHIP, plan, plan, spectra=dict.fromkeys(names, values))


def columns_and_file(root: Path) -> Path:
    with pq.ParquetFile(root / "plan.parquet") as file, ThreadPoolExecutor(LOCAL_SHARDS) as threads:
        groups = (pa.Table.from_batches([batch]) for batch in file.iter_batches(SHARD * 48))
        rows = pa.concat_tables(list(threads.map(rows_of, groups))).combine_chunks()
    write_items(root / "items.parquet", sorted_items(rows), collection="bench")
    return root / "items.parquet"


def parts(root: Path) -> Path:
    (root / "parts").mkdir()
    with pq.ParquetFile(root / "plan.parquet") as file:
        for number, batch in enumerate(file.iter_batches(SHARD)):
            rows = rows_of(pa.Table.from_batches([batch]))
            write_part(root / "parts" / f"{number:06d}.parquet", rows, Tally.of(rows))
    return root / "parts"


def merged(root: Path) -> Path:
    from catalog.stac.describing import part_tally

    files = sorted((root / "parts").glob("*.parquet"))
    tally = sum_tallies(part_tally(file) for file in files)
    write_collection(root / "bench", items=files, tally=tally, metadata=FACTS)
    return root / "bench" / "items.parquet"


def stac_geoparquet(root: Path) -> Path:
    import stac_geoparquet.arrow

    items = list(features(pq.read_table(root / "items.parquet")))
    started = now()
    table = stac_geoparquet.arrow.parse_stac_items_to_arrow(items).read_all()
    stac_geoparquet.arrow.to_parquet(table, root / "peer.parquet")
    told(started)
    return root / "peer.parquet"


def pystac(root: Path) -> Path:
    import pystac

    items = list(features(pq.read_table(root / "items.parquet")))
    started = now()
    whole = pystac.Extent(
        pystac.SpatialExtent([[-180, -90, 180, 90]]),
        pystac.TemporalExtent([[datetime(2022, 1, 1, tzinfo=UTC), None]]),
    )
    collection = pystac.Collection(id="bench", description="Bench.", extent=whole, license="CC0-1.0")
    collection.add_items([pystac.Item.from_dict(item | {"links": []}) for item in items])
    collection.normalize_and_save(str(root / "static"), pystac.CatalogType.SELF_CONTAINED)
    told(started)
    return root / "static"


WORK: dict[str, Callable[[Path], Path]] = {
    "written": columns_and_file,
    "parts": parts,
    "merged": merged,
    "stac-geoparquet": stac_geoparquet,
    "pystac": pystac,
}


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def told(started: tuple[float, float]) -> None:
    print(json.dumps([end - start for start, end in zip(started, now(), strict=True)]))


def size_of(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def measure(step: str, n: int, root: Path) -> Row:
    ran = run_python(__file__, "--step", step, "--root", root)
    (seconds, cpu_seconds), megabytes = json.loads(ran.lines[0]), json.loads(ran.lines[-1])
    row = Row(step, n, seconds, cpu_seconds, ran.peak_mb, megabytes)
    print(f"{step:<17} {n:>9,} {seconds:8.2f} s {cpu_seconds:8.2f} s of CPU {ran.peak_mb:6.0f} MB", file=sys.stderr)
    return row


def in_child(step: str, root: Path) -> None:
    """Run one step in this process; print its seconds, and the megabytes it wrote."""
    started = now()
    path = WORK[step](root)
    if step not in PEERS:
        told(started)
    print(json.dumps(size_of(path)))


def catalogs(items: int, root: Path) -> float:
    """Seconds to merge ten collections of so many items each into one catalog."""
    folders = []
    for number in range(CATALOGS):
        folder = root / "many" / f"bench-{number}"
        folder.mkdir(parents=True)
        for file in (root / "bench").iterdir():
            (folder / file.name).symlink_to(file)
        folders.append(folder)
    started = time.perf_counter()
    made = merge_catalogs(folders, to=root / "one")
    seconds = time.perf_counter() - started
    assert sum(made.samples.values()) == CATALOGS * items
    return seconds


def show(rows: list[Row], peers: list[Row], ten: dict[int, float]) -> Table:
    table = Table(title="Items, each step in a process of its own", box=SIMPLE_HEAD)
    for name in ("Step", "Items", "s", "CPU s", "Items/s", "Peak MB", "MB"):
        table.add_column(name, justify="left" if name == "Step" else "right", no_wrap=True)
    for row in [*rows, *peers]:
        took = (f"{row.seconds:,.2f}", f"{row.cpu_seconds:,.2f}")
        numbers = (f"{row.items:,}", *took, f"{row.items / row.seconds:,.0f}")
        table.add_row(row.step, *numbers, f"{row.peak_mb:,.0f}", f"{row.megabytes:,.1f}")
    for items, seconds in ten.items():
        table.add_row(f"{CATALOGS} catalogs", f"{CATALOGS * items:,}", f"{seconds:,.2f}", "", "", "", "")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dicts", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=RESULTS / "items.json")
    parser.add_argument("--step", choices=WORK)
    parser.add_argument("--root", type=Path)
    args = parser.parse_args()
    if args.step:
        in_child(args.step, args.root)
        return
    rows, peers, ten = [], [], {}
    for n in args.items:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            make_plan(n, root / "plan.parquet")
            rows += [measure(step, n, root) for step in STEPS]
            with open_items(root / "bench" / "items.parquet") as file:
                assert file.metadata.num_rows == n
            ten[n] = catalogs(n, root)
            if n == args.dicts:
                peers = [measure(step, n, root) for step in PEERS]
    speed = {row.step: row.items / row.cpu_seconds for row in rows if row.items == args.dicts}
    times = {f"{peer.step} ({peer.items:,})": speed[STEPS[0]] * peer.cpu_seconds / peer.items for peer in peers}
    keep(
        args.out,
        [show(rows, peers, ten), *(f"{factor:,.0f} times less CPU than {name}" for name, factor in times.items())],
        rows=[asdict(row) for row in [*rows, *peers]],
        catalogs_merged={str(items): seconds for items, seconds in ten.items()},
        times_less_cpu=times,
    )


if __name__ == "__main__":
    main()
