"""MOSAIKS population: how many people live around a place, from a chip of it.

MOSAIKS released its labels, not its images, and images of one's own stand in for them. A folder holds the table of labels,
``outcomes_sampled_population_*.csv`` with the columns ID, lon, lat and population (people per km², the mean of GPWv4 of 2015
over a square of about 1 km), and ``chips``, a collection that ``pwcat build`` made of these places, or a link to one, to a
catalog or to a subset's file. A chip has the label of the place nearest to its middle, within 100 m.

As in the paper, what is predicted is the natural logarithm of 1 + population, and places without a number, which the table
marks as -999 or NA, do not take part. The paper parts places at random; here blocks of 100 km with a fifth of the chips are
tested on.

Source: Rolf et al. (2021); Global-Policy-Lab/mosaiks-paper, ``extractPopulation.R``, ``config.py`` and ``transforms.py``.

Shapes: N chips.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from catalog.subset import Subset, load_subset
from pwcat.errors import PwcatError, TrainingError
from pwcat.geo.geodesy import ecef_m
from pwcat.splits import spatial_split
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import SubsetChips
from training.tasks.column import GROUPS
from training.tasks.files.fetching import Origin, Part
from training.tasks.files.official import partial_downloads, refuse

__all__ = ["BENCHMARKS", "ORIGINS", "MosaiksPopulation"]

READER = "mosaiks-population, v1"  # part of the hash: to be raised when the way from file to sample changes
TABLE, CHIPS = "outcomes_sampled_population_*.csv", "chips"
COLUMNS = ("ID", "lon", "lat", "population")
MISSING = -999.0
NEAR_M = 100.0
TEST_FRACTION, BLOCK_KM, SEED = 0.2, 100.0, 0
CAPSULE = "https://files.codeocean.com/files/verified/fa908bbc-11f9-4421-8bd3-72a4bf00427f_v2.0"
FOLDER = f"{CAPSULE}/data/int/applications/population"
WORLD = "outcomes_sampled_population_WORLD_16_640_UAR_1000000_0.csv"
HOW = "make it with `pwcat build`, a recipe of the sampler `points` with the table as its path: docs/tasks.md, MOSAIKS"

INFO = TaskInfo(
    name="mosaiks-population",
    title="Population density around a place",
    kind="regression",
    metric="r2",
    unit="ln(1 + people per km²)",
    fit="crop",
    source=f"{FOLDER}/{WORLD}?download",
    licence="CC-BY-4.0",
    citation=(
        "Rolf et al. (2021), A generalizable and accessible approach to machine learning with global satellite imagery; "
        "labels: CIESIN, Gridded Population of the World, version 4, revision 10"
    ),
    size="a table of up to 1,000,000 places; chips are those that are built",
)


@dataclass(frozen=True, kw_only=True)
class MosaiksPopulation:
    """See the module."""

    info: TaskInfo = INFO

    def faults(self, folder: Path) -> list[str]:
        """See :meth:`training.tasks.base.Benchmark.faults`."""
        faults = partial_downloads(folder, source=self.info.source)
        tables = sorted(folder.glob(TABLE))
        if len(tables) > 1:
            faults.append(f"there are several tables, {', '.join(path.name for path in tables)}: leave one")
        faults += [fault for path in tables[:1] for fault in _faults_of(path)]
        if not tables and not faults:
            faults.append(f"{TABLE} is missing; get it from {self.info.source}")
        if not (folder / CHIPS).exists():
            faults.append(f"{CHIPS} is missing: {HOW}")
        return faults

    def open(self, folder: Path) -> TaskData:
        """See :meth:`training.tasks.base.Benchmark.open`."""
        refuse(self.info, folder, self.faults(folder))
        (path,) = folder.glob(TABLE)
        subset = _subset(folder)
        table = _table(path)
        chips, labels, left_out = _joined(subset.lonlat, table)
        if len(chips) < 2:
            raise TrainingError(
                f"task {self.info.name}: {len(chips)} of {len(subset)} chips of {folder / CHIPS} lie within {NEAR_M:g} m of a "
                f"place of {path.name} with a population: {HOW}"
            )
        labelled, kept = subset.only(chips), table.iloc[labels]
        lonlat = labelled.lonlat
        sides = spatial_split(lonlat, val_fraction=TEST_FRACTION, block_km=BLOCK_KM, seed=SEED)
        targets = np.log1p(kept["population"].to_numpy(np.float64))
        digest = hashlib.sha256(f"{READER} {labelled.hash}\n".encode())
        digest.update(targets.tobytes())
        return TaskData(
            info=self.info,
            ids=kept["ID"].astype(str).to_numpy(object),
            lonlat=lonlat,
            splits=np.where(sides == "val", "test", "train").astype(object),
            targets=targets,
            chips=SubsetChips(subset=labelled),
            hash=digest.hexdigest(),
            groups={name: labelled.column(of) for name, of in GROUPS.items() if of in labelled.table.column_names},
            left_out=left_out,
        )


def _subset(folder: Path) -> Subset:
    try:
        return load_subset(folder / CHIPS)
    except PwcatError as exc:
        raise TrainingError(f"task {INFO.name}: {folder / CHIPS} is no collection of chips ({exc}): {HOW}") from exc


def _faults_of(path: Path) -> list[str]:
    """What is wrong with a table."""
    try:
        columns = pd.read_csv(path, nrows=0).columns
    except (OSError, ValueError) as exc:  # pandas' own errors are ValueErrors
        return [f"{path.name} is no table, or damaged ({exc}); get it anew from {INFO.source}"]
    if missing := [name for name in COLUMNS if name not in columns]:
        return [f"{path.name} has no column {', '.join(missing)}; it has {', '.join(map(str, columns))}"]
    if not _ends_with_a_line(path):
        return [f"{path.name} is not downloaded to its end: its last line is cut off; get it anew from {INFO.source}"]
    return []


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def _table(path: Path) -> pd.DataFrame:
    table: pd.DataFrame = pd.read_csv(path, usecols=list(COLUMNS), dtype={"ID": str}, na_values=["NA", "-999"])
    return table


def _joined(
    lonlat: NDArray[np.float64], table: pd.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, int]]:
    """Chips and the labels of each, by row, and why other chips do not take part."""
    placed = np.flatnonzero(table[["lon", "lat"]].notna().all(axis=1))
    tree = cKDTree(ecef_m(table[["lon", "lat"]].to_numpy(np.float64)[placed]))
    distance_m, nearest = tree.query(ecef_m(lonlat), distance_upper_bound=NEAR_M)
    near = np.flatnonzero(np.isfinite(distance_m))
    label = placed[nearest[near]]
    first = np.unique(label, return_index=True)[1]
    once = np.sort(first)  # of several chips of one place the first
    population = table["population"].to_numpy(np.float64)[label[once]]
    told = np.isfinite(population) & (population >= 0)
    reasons = {
        f"no place of the table within {NEAR_M:g} m": len(lonlat) - len(near),
        "a chip of this place is there already": len(near) - len(once),
        "no population": int((~told).sum()),
    }
    kept = once[told]
    return near[kept].astype(np.int64), label[kept].astype(np.int64), {k: n for k, n in reasons.items() if n}


BENCHMARKS = {INFO.name: MosaiksPopulation()}
ORIGINS = {
    INFO.name: Origin(
        parts=(Part(url=f"{FOLDER}/{WORLD}?download", name=WORLD),),
        by_hand=f"the chips are made, not fetched: {HOW}",
    )
}
