"""Files of GEO-Bench: what each says beside its pixels, what is wrong with them, and their arrays.

A sample is a file of HDF5 that has an array for each band under the band's name, and a pickle of what is known of the sample;
that is read as data (:mod:`training.tasks.files.pickles`). Which side samples are on is in ``default_partition.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyproj
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME
from training.probing.kinds import Kind
from training.tasks.files.faults import fetch_again, no_folder, told
from training.tasks.files.pickles import Named, array_of, day_of, numbers_of, read_text_pickle

__all__ = [
    "BRICK_KILN",
    "EUROSAT",
    "HUB",
    "LABEL",
    "NAMES",
    "Released",
    "Sample",
    "arrays_of",
    "keys_of",
    "places",
    "survey",
]

HUB = "https://huggingface.co/datasets/recursix/geo-bench-1.0/resolve/main"
SPLITS = {"train": "train", "valid": "val", "test": "test"}
LABEL = "label"
DATE = re.compile(r"_\d{4}-\d{2}-\d{2}.*")

# What the release calls the thirteen bands, in its order.
NAMES = {
    "01 - Coastal aerosol": "B01",
    "02 - Blue": "B02",
    "03 - Green": "B03",
    "04 - Red": "B04",
    "05 - Vegetation Red Edge": "B05",
    "06 - Vegetation Red Edge": "B06",
    "07 - Vegetation Red Edge": "B07",
    "08 - NIR": "B08",
    "08A - Vegetation Red Edge": "B8A",
    "09 - Water vapour": "B09",
    "10 - SWIR - Cirrus": "B10",
    "11 - SWIR": "B11",
    "12 - SWIR": "B12",
}
# What lies there in truth, in the same order, in the two tasks that are named wrongly; "" is no band.
EUROSAT = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A")
BRICK_KILN = ("B01", "B02", "B03", "B04", "B05", "B07", "B8A", "B08", "B11", "B12", "", "", "")


@dataclass(frozen=True, kw_only=True)
class Released:
    """How a task was released.

    Attributes:
        kind: what is predicted.
        bands: that its files hold, in their order.
        side: of its chips, in pixels.
        truth: what the thirteen bands are where their names are wrong; empty where they are right.
        scale: what makes its values reflectance times 10,000.
        highest: no value is higher; tells units apart.
        lowest: the highest value of a few chips is above this; tells units apart.
        stand_ins: bands that it lacks, and the neighbour that stands in for each.
        continent: of all of its samples, where they have no coordinates.
        samples: how many there are.
        classes: where the release does not name them.
        num_classes: how many there are.
        room: folder of the release that it is in.
    """

    bands: tuple[str, ...]
    side: int
    samples: int
    num_classes: int
    kind: Kind = "classification"
    truth: tuple[str, ...] = ()
    scale: float = 1.0
    highest: float = 65535.0
    lowest: float = 255.0
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    continent: str = ""
    classes: tuple[str, ...] = ()
    room: str = "classification_v1.0"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the file of a sample says beside its pixels."""

    name: str
    split: str
    path: Path
    fault: str = ""
    size: int = 0
    order: tuple[str, ...] = ()
    label: Any = None
    time: int = UNKNOWN_TIME
    transform: tuple[float, ...] | None = None
    crs: str = ""


def survey(folder: Path, name: str, released: Released) -> tuple[list[Sample], list[str]]:
    """What all files of a task say beside their pixels, and what is wrong with them."""
    at = _find(folder, name, released.room)
    if at is None:
        return [], no_folder(folder, name, "default_partition.json", f"{HUB}/{released.room}/{name}.zip")
    try:
        partition = json.loads((at / "default_partition.json").read_text(encoding="utf-8"))
        listed = [(split, str(sample)) for key, split in SPLITS.items() for sample in partition[key]]
    except (ValueError, KeyError, TypeError) as exc:
        return [], [f"{at}/default_partition.json is damaged or not whole ({exc!r}); {fetch_again(name, folder)}"]
    if not listed:
        return [], [f"{at}/default_partition.json names no samples; {fetch_again(name, folder)}"]
    if strange := [sample for _, sample in listed if not sample or "/" in sample or "\\" in sample or sample == ".."]:
        return [], told("is named in default_partition.json as no file can be", strange, len(listed), "get it anew")
    if twice := len(listed) - len({sample for _, sample in listed}):
        return [], [f"{at}/default_partition.json names {twice:,} samples twice; {fetch_again(name, folder)}"]
    samples = [_look(sample, split, at, released) for split, sample in listed]
    return samples, _faults_of(samples, folder, name, released)


def _faults_of(samples: Sequence[Sample], folder: Path, name: str, released: Released) -> list[str]:
    faults: dict[str, list[str]] = {}
    order = next((sample.order for sample in samples if not sample.fault), ())
    for sample in samples:
        if fault := sample.fault or ("" if sample.order == order else "has bands in another order than the first"):
            faults.setdefault(fault, []).append(sample.path.name)
    remedy = fetch_again(name, folder)
    lines = [line for fault, names in sorted(faults.items()) for line in told(fault, names, len(samples), remedy)]
    if not lines and (lacking := [band for band in released.bands if band not in keys_of(order, released)]):
        lines.append(f"the files have no band {', '.join(lacking)}, but {', '.join(order)}; {remedy}")
    return lines


def _look(name: str, split: str, folder: Path, released: Released) -> Sample:
    path = folder / f"{name}.hdf5"
    found = Sample(name=name, split=split, path=path)
    try:
        size = path.stat().st_size
    except OSError:
        return replace(found, fault="is missing")
    if size == 0:
        return replace(found, fault="is empty")
    try:
        with h5py.File(path, "r") as file:
            told = read_text_pickle(file.attrs["pickle"], what=f"the pickle of {path.name}")
            order = tuple(str(key) for key in told["bands_order"])
            return _checked(replace(found, size=size), told, order, {str(key) for key in file}, released)
    except TrainingError:
        return replace(found, fault="has a pickle that is damaged, or not the official one")
    except (OSError, RuntimeError):
        return replace(found, fault="is no HDF5, or not whole")
    except (KeyError, TypeError, AttributeError, ValueError):
        return replace(found, fault="does not say what it holds, as the official files do")


def _checked(
    found: Sample, told: Mapping[str, Any], order: tuple[str, ...], there: set[str], released: Released
) -> Sample:
    """A sample with what its pickle tells, or what is wrong with that."""
    if set(order) - there:
        return replace(found, fault="lacks bands that it should have")
    first = told[order[0]]
    plain = tuple(_undated(key) for key in order)
    label, fault = _label(told.get(LABEL), released) if LABEL not in order else (None, "")
    if released.kind == "segmentation" and LABEL not in plain:
        fault = "has no mask"
    if len(set(plain)) < len(plain):
        fault = "has a band more than once"
    crs = first.get("crs")
    return replace(
        found,
        fault=fault,
        order=plain,
        label=label,
        time=day if (day := day_of(first.get("date"))) is not None else UNKNOWN_TIME,
        transform=numbers_of(first.get("transform"), 6),
        crs=crs if isinstance(crs, str) else str(crs.state) if isinstance(crs, Named) and crs.state else "",
    )


def _label(value: Any, released: Released) -> tuple[Any, str]:
    label, count = array_of(value), released.num_classes
    if label is None:
        return None, "has no label"
    if released.kind == "multilabel":
        right = label.shape == (count,) and bool(np.isin(label, (0, 1)).all())
        return label, "" if right else f"has no {count} labels of 0 and 1"
    right = label.ndim == 0 and float(label) == int(label) and 0 <= int(label) < count
    return (int(label), "") if right else (None, f"has a label that is no class from 0 to {count - 1}")


def keys_of(order: Sequence[str], released: Released) -> dict[str, str]:
    """The array of each band, in the order of the release, bands that stand in for others behind them."""
    wrong = released.truth and tuple(key for key in order if key in NAMES) == tuple(NAMES)
    truth = dict(zip(NAMES, released.truth, strict=True)) if wrong else NAMES
    found = {truth[key]: key for key in order if truth.get(key)}
    keys = {band: found[band] for band in released.bands if band in found}
    return {**keys, **{band: keys[near] for band, near in released.stand_ins.items() if near in keys}}


def arrays_of(path: Path, keys: Sequence[str], side: int) -> dict[str, NDArray[Any]]:
    """Arrays of a sample, (H, W) each, by the names that they have without dates.

    Raises:
        TrainingError: the file cannot be read, or they are of another size.
    """
    try:
        with h5py.File(path, "r") as file:
            dated = {_undated(key): key for key in file}
            arrays = {key: np.asarray(file[dated.get(key, key)]) for key in keys}
    except (OSError, RuntimeError, KeyError, ValueError) as exc:
        raise TrainingError(f"{path} cannot be read ({exc}): it is missing or damaged; fetch it again") from exc
    arrays = {
        key: array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array for key, array in arrays.items()
    }
    if wrong := [f"{key} is {array.shape}" for key, array in arrays.items() if array.shape != (side, side)]:
        raise TrainingError(
            f"{path}: {', '.join(wrong)}, where ({side}, {side}) is expected: it is not the official file"
        )
    return arrays


def _find(folder: Path, name: str, room: str) -> Path | None:
    """Where a task's files lie: in the folder, in one of its name, or as the release has them."""
    for at in (folder, folder / name, folder / room / name):
        if (at / "default_partition.json").is_file():
            return at
    return None


def _undated(key: str) -> str:
    """A band's name without the date that is put behind it where a sample has one."""
    return DATE.sub("", key)


def places(samples: Sequence[Sample], side: int) -> NDArray[np.float64]:
    """Longitude and latitude of the middle of each chip, (N, 2), EPSG:4326; NaN where unknown.

    Where all samples say the same, it is where the scene lies that they were cut of, and of no sample.
    """
    lonlat = np.full((len(samples), 2), np.nan)
    known = [row for row, sample in enumerate(samples) if sample.transform is not None and sample.crs]
    if len({samples[row].transform for row in known}) < min(2, len(samples)):
        return lonlat
    for crs in sorted({samples[row].crs for row in known}):
        rows = [row for row in known if samples[row].crs == crs]
        a, b, c, d, e, f = np.array([samples[row].transform for row in rows]).T
        try:
            to = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        except pyproj.exceptions.CRSError:
            continue
        half = side / 2
        lonlat[rows] = np.stack(to.transform(a * half + b * half + c, d * half + e * half + f), axis=1)
    wild = ~(np.isfinite(lonlat).all(axis=1) & (np.abs(lonlat[:, 0]) <= 180) & (np.abs(lonlat[:, 1]) <= 90))
    lonlat[wild] = np.nan
    return lonlat
