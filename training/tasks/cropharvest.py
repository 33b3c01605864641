"""CropHarvest: whether a point is cropland, from a year of Sentinel-1, Sentinel-2, weather and heights.

The folder holds what the release unpacks to: ``labels.geojson``, ``features/arrays/INDEX_DATASET.h5`` (one series each) and
``test_features/*.h5``. Labelled points that are not for testing are the training side. The test side are the released sets of
crop and non-crop points, whose files are named as their dataset is in the labels (``togo-eval``, and of the release of 2023
``china-crop``); the wall-to-wall regions of Kenya and Brazil tell maize and coffee from the rest, so they are not read.

Those lie in two countries. ``cropharvest-blocks`` are the same points, parted by blocks of 100 km all over the world, so
that every continent has test samples.

Source: nasaharvest/cropharvest, ``config.py``, ``datasets.py`` and ``engineer.py`` (version 0.7).

Shapes: N samples, 12 months.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyogrio
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from pwcat.splits import spatial_split
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import FileChips
from training.tasks.files.fetching import Origin, Part
from training.tasks.files.official import lacking, partial_downloads, refuse
from training.tasks.monthly import NUM_CHANNELS, digital_numbers, monthly_bands, window_middles

__all__ = ["BENCHMARKS", "ORIGINS", "CropHarvest"]

STEPS = 12
READER = "cropharvest, v1"  # part of the hash: to be raised when the way from file to sample changes
LABELS, ARRAYS, TESTS = "labels.geojson", "features/arrays", "test_features"
TOGO = "togo-eval"
INDEX = ("index", "dataset_index")  # of releases up to 0.7, and of the code since
COLUMNS = ("is_crop", "lat", "lon", "dataset", "export_end_date", "is_test")
LEAST_BYTES = STEPS * NUM_CHANNELS * 8  # of a file that holds a whole array
TEST_FRACTION, BLOCK_KM, SEED = 0.3, 100.0, 0  # of cropharvest-blocks

INFO = TaskInfo(
    name="cropharvest",
    title="Crop or non-crop, year of a single pixel",
    kind="classification",
    metric="f1",
    classes=("non-crop", "crop"),
    fit="crop",
    source="https://zenodo.org/records/10251170",
    licence="CC-BY-SA-4.0",
    citation="Tseng et al. (2021), CropHarvest: A global dataset for crop-type classification",
    size="95,186 points, of which 70,213 have a series of 12 months",
)


@dataclass(frozen=True, kw_only=True)
class CropHarvest:
    """See the module.

    Attributes:
        info: what it is.
        blocks: parted by blocks, not by the release.
        whole: labels and series that every whole release has. With as many labels, fewer series are a fault: an archive
            that was not unpacked to its end.
    """

    info: TaskInfo = INFO
    blocks: bool = False
    whole: tuple[int, int] = (90_000, 65_000)

    def faults(self, folder: Path) -> list[str]:
        """See :meth:`training.tasks.base.Benchmark.faults`."""
        folder = _files_of(folder)
        faults = partial_downloads(folder, source=self.info.source)
        faults += [
            _packed(folder, fault) for fault in lacking(folder, (LABELS, ARRAYS, TESTS), source=self.info.source)
        ]
        if faults:
            return faults
        try:
            labels = _labels(folder)
        except (OSError, ValueError, pyogrio.errors.DataSourceError) as exc:
            return [f"{LABELS} is damaged or not downloaded to its end ({exc}); get it anew from {self.info.source}"]
        if missing := [name for name in (INDEX[0], *COLUMNS) if name not in labels.columns]:
            return [f"{LABELS} has no column {', '.join(missing)}: it is not that of {self.info.source}"]
        return [*_faults_of_arrays(folder, labels, self.whole), *_faults_of_tests(folder, labels)]

    def open(self, folder: Path) -> TaskData:
        """See :meth:`training.tasks.base.Benchmark.open`."""
        refuse(self.info, folder, self.faults(folder))
        folder = _files_of(folder)
        labels = _labels(folder)
        trained, left_out = _trained(folder, labels)
        points = pd.concat([trained, *_tested(folder, labels)], ignore_index=True)
        if self.blocks:
            points, without = _in_blocks(points)
            left_out = {**left_out, **without}
        lonlat = points[["lon", "lat"]].to_numpy(np.float64)
        bands = monthly_bands()
        return TaskData(
            info=self.info,
            ids=points["id"].to_numpy(object),
            lonlat=lonlat,
            splits=points["split"].to_numpy(object),
            targets=points["target"].to_numpy(np.int64),
            chips=FileChips(
                bands=bands,
                shape=(STEPS, len(bands.names), 1, 1),
                lonlat=lonlat,
                times=window_middles(points["end"].to_numpy("datetime64[D]"), steps=STEPS),
                read=_Reader(
                    folder=folder, files=points["file"].to_numpy(object), places=points["place"].to_numpy(np.int64)
                ),
            ),
            hash=_hash(folder, points),
            left_out=left_out,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reader:
    """Reads series of rows.

    Attributes:
        folder: the benchmark's.
        files: of each sample, in the folder.
        places: of each sample in its file's ``x``; -1 where the file holds one ``array``.
    """

    folder: Path
    files: NDArray[np.object_]
    places: NDArray[np.int64]

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.uint16]:
        series = np.empty((len(rows), STEPS, NUM_CHANNELS))
        for file, members in _by_file(self.files[rows]):
            series[members] = self._series(file, self.places[rows[members]])
        return digital_numbers(series)

    def _series(self, file: str, places: NDArray[np.int64]) -> NDArray[Any]:
        try:
            with h5py.File(self.folder / file, "r") as opened:
                if places[0] < 0:
                    found = np.asarray(opened["array"])[None]
                else:
                    first = int(places.min())
                    found = np.asarray(opened["x"][first : int(places.max()) + 1])[places - first]
        except (OSError, KeyError) as exc:
            raise TrainingError(f"{self.folder / file} is damaged ({exc}); get it anew from {INFO.source}") from exc
        if found.shape[1:] != (STEPS, NUM_CHANNELS):
            raise TrainingError(
                f"{self.folder / file}: series of {found.shape[1:]}, where ({STEPS}, {NUM_CHANNELS}) is expected"
            )
        return found


def _by_file(files: NDArray[np.object_]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    members: dict[str, list[int]] = {}
    for place, file in enumerate(files):
        members.setdefault(file, []).append(place)
    for file, places in members.items():
        yield file, np.array(places, dtype=np.int64)


def _files_of(folder: Path) -> Path:
    """The folder itself, or its ``cropharvest``: both tasks are of the same files."""
    inner = folder / INFO.name
    return inner if inner.is_dir() and not (folder / LABELS).exists() else folder


def _packed(folder: Path, fault: str) -> str:
    """The fault, or that the archive is there and has not been unpacked."""
    for part in ("features", "test_features"):
        if fault.startswith(f"{part}") and (folder / f"{part}.tar.gz").exists() and not (folder / part).exists():
            return f"{part}.tar.gz is there, but not unpacked: tar -xzf {part}.tar.gz"
    return fault


def _labels(folder: Path) -> pd.DataFrame:
    """The table of labels, without geometry; its index column under the name of the release."""
    fields = pyogrio.read_info(folder / LABELS)["fields"].tolist()
    wanted = [name for name in (*INDEX, *COLUMNS) if name in fields]
    table: pd.DataFrame = pyogrio.read_dataframe(folder / LABELS, columns=wanted, read_geometry=False)
    return table.rename(columns={INDEX[1]: INDEX[0]}) if INDEX[0] not in table.columns else table


def _array_files(folder: Path) -> Mapping[str, int]:
    """Bytes of each file of arrays, by name."""
    with os.scandir(folder / ARRAYS) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".h5")}


def _faults_of_arrays(folder: Path, labels: pd.DataFrame, whole: tuple[int, int]) -> list[str]:
    sizes = _array_files(folder)
    cut = sorted(name for name, size in sizes.items() if size < LEAST_BYTES)
    if cut:
        return [
            f"{len(cut)} files of {ARRAYS} are too small to hold a series, such as {cut[0]}: unpack features.tar.gz of "
            f"{INFO.source} anew"
        ]
    if sizes and len(labels) >= whole[0] and len(sizes) < whole[1]:
        return [
            f"{ARRAYS} has {len(sizes):,} files, where whole releases have more than {whole[1]:,}: features.tar.gz of "
            f"{INFO.source} was not unpacked to its end; do so again"
        ]
    if not set(_file_names(labels)) & set(sizes):
        return [f"{ARRAYS} has no file of the points of {LABELS}: unpack features.tar.gz of {INFO.source} there"]
    return []


def _faults_of_tests(folder: Path, labels: pd.DataFrame) -> list[str]:
    faults = []
    for name in _test_sets(folder, labels):
        path = folder / TESTS / f"{name}.h5"
        try:
            with h5py.File(path, "r") as opened:
                shapes = {key: opened[key].shape for key in ("x", "y", "lats", "lons")}
        except (OSError, KeyError) as exc:
            faults.append(
                f"{TESTS}/{path.name} is missing or damaged ({exc}); unpack test_features.tar.gz of {INFO.source}"
            )
            continue
        num = shapes["y"][0] if shapes["y"] else 0
        if shapes != {"x": (num, STEPS, NUM_CHANNELS), "y": (num,), "lats": (num,), "lons": (num,)}:
            faults.append(
                f"{TESTS}/{path.name} has arrays of the shapes {shapes}, where x is (n, {STEPS}, {NUM_CHANNELS})"
            )
    return faults


def _test_sets(folder: Path, labels: pd.DataFrame) -> list[str]:
    """Names of the released sets of crop and non-crop points: Togo's, and all others with a file."""
    told = set(labels["dataset"].dropna())
    return sorted({TOGO, *(path.stem for path in (folder / TESTS).glob("*.h5") if path.stem in told)})


def _file_names(labels: pd.DataFrame) -> pd.Series[str]:
    return labels[INDEX[0]].astype("Int64").astype(str) + "_" + labels["dataset"].astype(str) + ".h5"


def _ends(labels: pd.DataFrame) -> pd.Series[Any]:
    """The first of February on which the windows of a point end: of the year of its ``export_end_date``."""
    years = pd.to_datetime(labels["export_end_date"], errors="coerce", utc=True, format="mixed").dt.year
    return pd.to_datetime(pd.DataFrame({"year": years, "month": 2, "day": 1}), errors="coerce")


def _trained(folder: Path, labels: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The points that are not for testing and have a series, and why others do not take part."""
    names = _file_names(labels)
    known = labels["is_crop"].notna()
    testing = labels["is_test"].eq(True)  # null is not for testing
    there = names.isin(_array_files(folder).keys())
    again = names.duplicated()
    kept = known & ~testing & there & ~again
    reasons = {
        "no label": ~known & ~testing,
        "no series of images": known & ~testing & ~there,
        "told twice": known & ~testing & there & again,
    }
    points = pd.DataFrame(
        {
            "id": names[kept].str.removesuffix(".h5"),
            "lon": labels.loc[kept, "lon"],
            "lat": labels.loc[kept, "lat"],
            "target": labels.loc[kept, "is_crop"].astype(bool).astype(np.int64),
            "split": "train",
            "end": _ends(labels[kept]),
            "file": ARRAYS + "/" + names[kept],
            "place": -1,
        }
    )
    return points, {reason: int(rows.sum()) for reason, rows in reasons.items() if rows.any()}


def _tested(folder: Path, labels: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The points of each released test set; -1 of its ``y`` is no label."""
    for name in _test_sets(folder, labels):
        with h5py.File(folder / TESTS / f"{name}.h5", "r") as opened:
            y, lats, lons = (np.asarray(opened[key]) for key in ("y", "lats", "lons"))
        ends = _ends(labels[labels["dataset"] == name]).dropna().unique()
        rows = np.flatnonzero((y == 0) | (y == 1))
        yield pd.DataFrame(
            {
                "id": [f"{name}/{row}" for row in rows],
                "lon": lons[rows],
                "lat": lats[rows],
                "target": y[rows].astype(np.int64),
                "split": "test",
                "end": pd.Timestamp(ends[0]) if len(ends) == 1 else pd.NaT,
                "file": f"{TESTS}/{name}.h5",
                "place": rows,
            }
        )


def _in_blocks(points: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The points whose place is known, parted by blocks, and how many others there are."""
    known = points[["lon", "lat"]].notna().all(axis=1)
    placed = points[known].reset_index(drop=True)
    lonlat = placed[["lon", "lat"]].to_numpy(np.float64)
    sides = spatial_split(lonlat, val_fraction=TEST_FRACTION, block_km=BLOCK_KM, seed=SEED)
    placed["split"] = np.where(sides == "val", "test", "train")
    return placed, {"no coordinates": int((~known).sum())} if not known.all() else {}


def _hash(folder: Path, points: pd.DataFrame) -> str:
    digest = hashlib.sha256(READER.encode())
    digest.update(hashlib.sha256((folder / LABELS).read_bytes()).digest())
    sizes = _array_files(folder)
    for path in sorted({*points.loc[points["place"] >= 0, "file"]}):
        digest.update((folder / path).read_bytes())
    for identity, split, target in zip(points["id"], points["split"], points["target"], strict=True):
        digest.update(f"{identity}\0{split}\0{target}\0{sizes.get(f'{identity}.h5', 0)}\n".encode())
    return digest.hexdigest()


BLOCKS_INFO = replace(INFO, name="cropharvest-blocks", title="Crop or non-crop, parted by blocks of 100 km")
BENCHMARKS = {
    INFO.name: CropHarvest(),
    BLOCKS_INFO.name: CropHarvest(info=BLOCKS_INFO, blocks=True),
}
ORIGINS = {
    INFO.name: Origin(
        parts=(
            Part(url=f"{INFO.source}/files/{LABELS}?download=1", name=LABELS),
            Part(url=f"{INFO.source}/files/features.tar.gz?download=1", name="features.tar.gz", unpack="tar"),
            Part(url=f"{INFO.source}/files/test_features.tar.gz?download=1", name="test_features.tar.gz", unpack="tar"),
        ),
    ),
    BLOCKS_INFO.name: Origin(by_hand=f"its files are those of {INFO.name}: fetch that, and give its folder"),
}
