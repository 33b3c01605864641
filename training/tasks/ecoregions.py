"""EcoRegions: which biome a place has, from its longitude and latitude alone.

The biomes are those of RESOLVE's Ecoregions 2017. The places that SatCLIP's authors drew are in no release that we know of, so
a folder may hold either of these:

- tables of places, ``ecoregion_train.csv`` and ``ecoregion_val.csv`` with the columns X, Y and BIOME_NAME, as evaluations since
  SatCLIP read them (mvrl/RANGE, ``evaldatasets.py``); the second is tested on;
- the map itself, ``Ecoregions2017.zip`` as RESOLVE releases it or any vector file with a column BIOME_NAME. Then places are
  drawn from it, uniformly by area over all land that has a biome, always the same ones; blocks of 100 km with half of them are
  tested on. (SatCLIP parts places at random, half and half; neighbours of test places would then be trained on.)

Shapes: N places.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pwcat.errors import RegionError
from pwcat.regions.datasets import find_dataset
from pwcat.regions.opening import open_dataset
from pwcat.splits import spatial_split
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import PlaceChips
from training.tasks.files.fetching import Origin, Part
from training.tasks.files.official import partial_downloads, refuse

__all__ = ["BENCHMARKS", "ORIGINS", "Ecoregions"]

READER = "ecoregions, v1"  # part of the hash: to be raised when the way from file to place changes
TABLES = {"train": "ecoregion_train.csv", "test": "ecoregion_val.csv"}
COLUMNS = ("X", "Y", "BIOME_NAME")
RESOLVE = find_dataset("resolve-2017")
VECTOR = (".zip", ".shp", ".gpkg", ".fgb", ".geojson", ".parquet")
ROCK_AND_ICE = "N/A"
NUM_PLACES, SEED, TEST_FRACTION, BLOCK_KM = 20_000, 0, 0.5, 100.0
DRAWN_AT_ONCE = 20_000
FEWEST_FOUND = 100  # of those; a map with less land is not that of the world

INFO = TaskInfo(
    name="ecoregions",
    title="Biome of a place",
    kind="classification",
    metric="macro_f1",
    source=RESOLVE.url or RESOLVE.page,
    licence=RESOLVE.licence,
    citation="Dinerstein et al. (2017), An Ecoregion-Based Approach to Protecting Half the Terrestrial Realm",
    size=f"149 MB; {NUM_PLACES:,} places of 14 biomes are drawn",
)


@dataclass(frozen=True, kw_only=True)
class Ecoregions:
    """See the module.

    Attributes:
        info: what it is.
        num_places: drawn where there is a map and no tables.
        seed: fixes them, and the blocks.
    """

    info: TaskInfo = INFO
    num_places: int = NUM_PLACES
    seed: int = SEED

    def faults(self, folder: Path) -> list[str]:
        """See :meth:`training.tasks.base.Benchmark.faults`."""
        if faults := partial_downloads(folder, source=self.info.source):
            return faults
        tables = [name for name in TABLES.values() if (folder / name).exists()]
        if tables:
            return [fault for name in TABLES.values() for fault in _faults_of(folder / name)]
        if not (maps := _maps(folder)):
            return [
                f"{folder} holds neither {' and '.join(TABLES.values())} nor a map of biomes ({', '.join(VECTOR)}): get "
                f"Ecoregions2017.zip from {self.info.source}"
            ]
        if len(maps) > 1:
            return [f"{folder} holds several maps, {', '.join(path.name for path in maps)}: leave one"]
        return _faults_of_map(maps[0])

    def open(self, folder: Path) -> TaskData:
        """See :meth:`training.tasks.base.Benchmark.open`."""
        refuse(self.info, folder, self.faults(folder))
        if (folder / TABLES["train"]).exists():
            places = pd.concat([_table(folder / name, split) for split, name in TABLES.items()], ignore_index=True)
            identity = "".join(_digest(folder / name) for name in TABLES.values())
        else:
            (path,) = _maps(folder)
            places = _drawn(path, num_places=self.num_places, seed=self.seed)
            identity = f"{_digest(path)} {self.num_places} {self.seed}"
        known = places["biome"].notna() & places[["lon", "lat"]].notna().all(axis=1)
        kept = places[known].reset_index(drop=True)
        classes, codes = np.unique(kept["biome"].to_numpy(str), return_inverse=True)
        lonlat = kept[["lon", "lat"]].to_numpy(np.float64)
        return TaskData(
            info=replace(self.info, classes=tuple(classes.tolist())),
            ids=kept["id"].to_numpy(object),
            lonlat=lonlat,
            splits=kept["split"].to_numpy(object),
            targets=codes.astype(np.int64),
            chips=PlaceChips(lonlat=lonlat),
            hash=hashlib.sha256(f"{READER} {identity}".encode()).hexdigest(),
            left_out={"no biome or no coordinates": int((~known).sum())} if not known.all() else {},
        )


def _maps(folder: Path) -> list[Path]:
    """Vector files of a folder, or the file itself."""
    if folder.is_file():
        return [folder]
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in VECTOR)


def _faults_of(path: Path) -> list[str]:
    """What is wrong with a table."""
    if not path.exists():
        return [
            f"{path.name} is missing; the other table alone has no {'training' if 'train' in path.name else 'test'} side"
        ]
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as exc:  # pandas' own errors are ValueErrors
        return [f"{path.name} is no table, or damaged ({exc})"]
    if missing := [name for name in COLUMNS if name not in table.columns]:
        return [f"{path.name} has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}"]
    outside = int(((table["X"].abs() > 180) | (table["Y"].abs() > 90)).sum())
    return [f"{path.name}: {outside} places lie outside of -180 to 180 and -90 to 90 degrees"] if outside else []


def _faults_of_map(path: Path) -> list[str]:
    size = path.stat().st_size
    if path.name == RESOLVE.filename and size < (RESOLVE.bytes or 0):
        whole = f"{size:,} of {RESOLVE.bytes:,} bytes"
        return [f"{path.name} is not downloaded to its end, {whole}; get it from {INFO.source}"]
    try:
        layer = open_dataset(RESOLVE.name, name="biome", path=path)
    except RegionError as exc:
        return [f"{path.name} is not the map: {exc}"]
    found = sum(code >= 0 for code in layer.codes(_uniform(np.random.default_rng(0), 1000)))
    if found < FEWEST_FOUND:
        return [f"{path.name} gives {found} of 1,000 places of the Earth a biome, where RESOLVE's map gives some 260"]
    return []


def _table(path: Path, split: str) -> pd.DataFrame:
    """Places of a table; those without a biome are kept for being counted."""
    table = pd.read_csv(path)
    biomes = table["BIOME_NAME"].where(table["BIOME_NAME"].notna() & (table["BIOME_NAME"] != ROCK_AND_ICE))
    ids = [f"{split}/{row}" for row in range(len(table))]
    return pd.DataFrame({"id": ids, "lon": table["X"], "lat": table["Y"], "biome": biomes, "split": split})


def _drawn(path: Path, *, num_places: int, seed: int) -> pd.DataFrame:
    """Places drawn uniformly by area where the map has a biome."""
    layer = open_dataset(RESOLVE.name, name="biome", path=path)
    rng = np.random.default_rng(seed)
    lonlat, codes = np.empty((0, 2)), np.empty(0, dtype=np.int16)
    while len(codes) < num_places:
        candidates = _uniform(rng, DRAWN_AT_ONCE)
        of = layer.codes(candidates)
        lonlat, codes = np.concatenate([lonlat, candidates[of >= 0]]), np.concatenate([codes, of[of >= 0]])
    lonlat, codes = lonlat[:num_places], codes[:num_places]
    sides = spatial_split(lonlat, val_fraction=TEST_FRACTION, block_km=BLOCK_KM, seed=seed)
    return pd.DataFrame(
        {
            "id": [f"place-{row:05d}" for row in range(num_places)],
            "lon": lonlat[:, 0],
            "lat": lonlat[:, 1],
            "biome": np.array(layer.classes, dtype=object)[codes],
            "split": np.where(sides == "val", "test", "train"),
        }
    )


def _uniform(rng: np.random.Generator, num: int) -> NDArray[np.float64]:
    """Points uniform by area over the sphere, (num, 2)."""
    return np.column_stack([rng.uniform(-180, 180, num), np.degrees(np.arcsin(rng.uniform(-1, 1, num)))])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


BENCHMARKS = {INFO.name: Ecoregions()}
ORIGINS = {
    INFO.name: Origin(
        parts=(
            Part(
                url=RESOLVE.url or "",
                name=RESOLVE.filename or "",
                bytes=RESOLVE.bytes,
                sha256=RESOLVE.sha256 or "",
            ),
        ),
        disc_bytes=RESOLVE.bytes or 0,
    )
}
