"""Live fuel moisture: how much water the plants of a site hold, from three months of Sentinel-1, Sentinel-2 and weather.

The files are those of the folder ``data/fuel_moisture`` of nasaharvest/presto: seven NumPy arrays, and the labels with their
dates. Sites of the test side have no training sample; which those are is kept as it is.

Shapes: N samples, 3 months.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import FileChips
from training.tasks.monthly import (
    DAYS,
    NUM_CHANNELS,
    digital_numbers,
    land_cover_numbers,
    monthly_bands,
    window_middles,
)
from training.tasks.official import lacking, refuse

__all__ = ["BENCHMARKS", "FuelMoisture"]

STEPS = 3
READER = "fuel-moisture, v1"  # part of the hash: to be raised when the way from file to sample changes
LABELS = "single_file_labels.geojson"
SERIES, LAND_COVER = "s1_s2_era5_srtm", "dynamic_world"
# Shapes of the arrays behind their first axis, which is that of the samples.
ARRAYS: dict[str, tuple[int, ...]] = {
    SERIES: (STEPS, NUM_CHANNELS),
    LAND_COVER: (STEPS,),
    "month": (STEPS,),
    "latlon": (2,),
    "target": (),
    "is_test": (),
    "site": (),
}

INFO = TaskInfo(
    name="fuel-moisture",
    title="Live fuel moisture content",
    kind="regression",
    metric="r2",
    unit="%",
    source="https://github.com/nasaharvest/presto/tree/main/data/fuel_moisture",
    licence="MIT",
    citation=(
        "Rao et al. (2020), SAR-enhanced mapping of live fuel moisture content; as in Tseng et al. (2023), Lightweight, "
        "Pre-trained Transformers for Remote Sensing Timeseries"
    ),
    size="2 MB, 2,313 series of 3 months at 150 sites of the western USA",
)


@dataclass(frozen=True, kw_only=True)
class FuelMoisture:
    """See the module."""

    info: TaskInfo = INFO

    def faults(self, folder: Path) -> list[str]:
        """See :meth:`training.tasks.base.Benchmark.faults`."""
        folder = _files_of(folder)
        files = [LABELS, *(f"npy/{name}.npy" for name in ARRAYS)]
        if missing := lacking(folder, files, source=self.info.source):
            return missing
        arrays, faults = _arrays(folder)
        return faults or _faults_of(folder, arrays)

    def open(self, folder: Path) -> TaskData:
        """See :meth:`training.tasks.base.Benchmark.open`."""
        refuse(self.info, folder, self.faults(folder))
        folder = _files_of(folder)
        arrays, _ = _arrays(folder)
        days = _days(folder, arrays)
        assert days is not None, "faults() has seen to it"
        targets = np.asarray(arrays["target"], dtype=np.float64)
        kept = np.flatnonzero(np.isfinite(targets))
        lonlat = np.asarray(arrays["latlon"], dtype=np.float64)[kept, ::-1]

        def read(rows: NDArray[np.int64]) -> NDArray[np.uint16]:
            chosen = kept[rows]
            series, classes = arrays[SERIES][chosen], arrays[LAND_COVER][chosen]
            return np.concatenate([digital_numbers(series), land_cover_numbers(classes)], axis=2)

        bands = monthly_bands(land_cover=True)
        return TaskData(
            info=self.info,
            ids=_names(arrays["site"], days)[kept],
            lonlat=np.ascontiguousarray(lonlat),
            splits=np.where(arrays["is_test"][kept] == 1, "test", "train").astype(object),
            targets=targets[kept],
            chips=FileChips(
                bands=bands,
                shape=(STEPS, len(bands.names), 1, 1),
                lonlat=np.ascontiguousarray(lonlat),
                times=window_middles(days[kept], steps=STEPS),
                read=read,
            ),
            hash=_hash(folder),
            left_out={"no target": len(targets) - len(kept)} if len(kept) < len(targets) else {},
        )


def _files_of(folder: Path) -> Path:
    """The folder itself, or its ``fuel_moisture``."""
    inner = folder / "fuel_moisture"
    return inner if inner.is_dir() and not (folder / "npy").exists() else folder


def _arrays(folder: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays, on the disk, and what is wrong with them."""
    arrays: dict[str, NDArray[Any]] = {}
    faults = []
    for name in ARRAYS:
        try:
            arrays[name] = np.load(folder / f"npy/{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as exc:
            faults.append(
                f"npy/{name}.npy is damaged or not downloaded to its end ({exc}); get it anew from {INFO.source}"
            )
    return arrays, faults


def _faults_of(folder: Path, arrays: dict[str, NDArray[Any]]) -> list[str]:
    num = len(arrays["target"]) if arrays["target"].ndim else 0
    faults = [
        f"npy/{name}.npy has the shape {arrays[name].shape}, where {(num, *shape)} is expected"
        for name, shape in ARRAYS.items()
        if arrays[name].shape != (num, *shape)
    ]
    if not num:
        faults.append("npy/target.npy has no samples")
    if faults:
        return faults
    try:
        days = _days(folder, arrays)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        return [f"{LABELS} is damaged or not downloaded to its end ({exc!r}); get it anew from {INFO.source}"]
    if days is None:
        return [
            f"{LABELS} does not tell the days of npy/*.npy: sites, targets and months differ; get both from {INFO.source}"
        ]
    return []


def _days(folder: Path, arrays: dict[str, NDArray[Any]]) -> NDArray[np.datetime64] | None:
    """The day of each sample's label; ``None`` where the labels are not those of the arrays.

    The arrays are in the order of the labels, but without those that have no images; each is the next of its site and
    target whose windows begin in its months.
    """
    labels = json.loads((folder / LABELS).read_text(encoding="utf-8"))["features"]
    told = [
        (each["properties"]["site"], each["properties"]["percent(t)"], each["properties"]["date"][:10])
        for each in labels
    ]
    days, place = [], 0
    for site, target, months in zip(
        arrays["site"].tolist(), arrays["target"].tolist(), arrays["month"].tolist(), strict=True
    ):
        while place < len(told) and not _is_label(told[place], site, target, months):
            place += 1
        if place == len(told):
            return None
        days.append(told[place][2])
        place += 1
    return np.array(days, dtype="datetime64[D]")


def _is_label(told: tuple[str, float | None, str], site: str, target: float, months: list[int]) -> bool:
    if told[0] != site or not (told[1] == target or (told[1] is None and np.isnan(target))):
        return False
    first = date.fromisoformat(told[2]).toordinal() - STEPS * DAYS
    return [date.fromordinal(first + step * DAYS).month - 1 for step in range(STEPS)] == months


def _names(sites: NDArray[Any], days: NDArray[np.datetime64]) -> NDArray[np.object_]:
    """Site and day of each sample; of several with the same, which of them."""
    seen: dict[str, int] = {}
    names = []
    for site, day in zip(sites.tolist(), days.astype(str).tolist(), strict=True):
        name = f"{site} {day}"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return np.array(names, dtype=object)


def _hash(folder: Path) -> str:
    digest = hashlib.sha256(READER.encode())
    for name in [LABELS, *(f"npy/{name}.npy" for name in sorted(ARRAYS))]:
        digest.update(f"\n{name}\n".encode())
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


BENCHMARKS = {INFO.name: FuelMoisture()}
