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
from training.tasks.files.fetching import Origin, Part
from training.tasks.files.official import lacking, refuse
from training.tasks.monthly import (
    DAYS,
    NUM_CHANNELS,
    digital_numbers,
    land_cover_numbers,
    monthly_bands,
    window_middles,
)

__all__ = ["BENCHMARKS", "ORIGINS", "FuelMoisture"]

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
# The commits that last changed these files.
RAW = "https://raw.githubusercontent.com/nasaharvest/presto"
ARRAYS_COMMIT, LABELS_COMMIT = "0589737a1862987ef2ed3acd54bc68768fa10ff2", "ac10843cccf2c271b35db5d91138c7d161131fa8"
SHA256 = {
    SERIES: "588e25049e68cb9c64572649518badab49ae418e130144c3b47a67797507da3e",
    LAND_COVER: "c00df7de035980c570b3f3af30f98025c2c7349e37abe54864148d5819b8d677",
    "month": "173f17192cb2dcd7bc7fc3c8dfba2c0690aa3ce023a90f94d9c2d4e5ccdfdf91",
    "latlon": "a31dc1f4c68c8614ac1cfa0e1cdf24d6ac9448e4a16e977605b0e563cb92595f",
    "target": "c0a178b8521481d85fd4fede1ebbb01e475d7c05c7b5162c0c6029afb54e11d4",
    "is_test": "e6b98035b21df025b38ebe80c315592f4484250c2f044e8e782682dbba23182b",
    "site": "7f7e8f73f2b2ccd4a84a5d5cd7213d6b63807616ca9750038125d94b62f25494",
}

INFO = TaskInfo(
    name="fuel-moisture",
    title="Live fuel moisture content",
    kind="regression",
    metric="r2",
    unit="%",
    fit="crop",
    source="https://github.com/nasaharvest/presto/tree/main/data/fuel_moisture",
    licence="MIT (Presto's files); CC-BY-NC-ND-4.0 (the labels, as torchgeo tells of their release)",
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
ORIGINS = {
    INFO.name: Origin(
        parts=(
            Part(
                url=f"{RAW}/{LABELS_COMMIT}/data/fuel_moisture/{LABELS}",
                name=LABELS,
                sha256="1a630768fc3387e413edd844c0a820ed8fd3789a10c2bb050dd843576df9eb24",
            ),
            *(
                Part(
                    url=f"{RAW}/{ARRAYS_COMMIT}/data/fuel_moisture/npy/{name}.npy",
                    name=f"npy/{name}.npy",
                    sha256=SHA256[name],
                )
                for name in ARRAYS
            ),
        ),
        disc_bytes=2_000_000,
    )
}
