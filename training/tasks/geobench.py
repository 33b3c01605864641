"""GEO-Bench 1.0: its six Sentinel-2 tasks, as released: a file of HDF5 a sample.

In two of the tasks the names of the release's bands are wrong, which its README has said since: the pixels of m-eurosat lie as
EuroSAT's (B8A last), and m-brick-kiln has ten bands and a picture of 8 bits in place of thirteen
(https://github.com/ServiceNow/geo-bench/issues/28 and 29). Files that were written anew with right names are read by these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.batch import Bands
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import FileChips
from training.tasks.files.fetching import Origin, Part
from training.tasks.files.official import refuse
from training.tasks.files.pickles import Named, read_pickle
from training.tasks.files.pixels import digital
from training.tasks.geobench_files import (
    BRICK_KILN,
    EUROSAT,
    HUB,
    LABEL,
    NAMES,
    Released,
    Sample,
    arrays_of,
    keys_of,
    places,
    survey,
)

__all__ = ["BENCHMARKS", "ORIGINS", "GeoBench"]

VERSION = 1  # of what is made of the files
TELLING = 8  # samples by which units and the order of bands are told
SHIFTED = "06 - Vegetation Red Edge"  # under this name lies B07, where the names of m-brick-kiln are wrong


@dataclass(frozen=True, kw_only=True)
class GeoBench:
    """One of its tasks; see the module."""

    info: TaskInfo
    released: Released

    def faults(self, folder: Path) -> list[str]:
        """See :meth:`training.tasks.base.Benchmark.faults`."""
        return survey(folder, self.info.name, self.released)[1]

    def open(self, folder: Path) -> TaskData:
        """See :meth:`training.tasks.base.Benchmark.open`."""
        samples, faults = survey(folder, self.info.name, self.released)
        refuse(self.info, folder, faults)
        keys = keys_of(samples[0].order, self.released)
        paths = [sample.path for sample in samples]
        self._check_units(paths, keys)
        self._check_order(paths, keys)
        lonlat, side = places(samples, self.released.side), self.released.side
        segments = self.info.kind == "segmentation"
        given = {"read_masks": lambda rows: np.stack([self._mask(paths[row]) for row in rows])} if segments else {}
        return TaskData(
            info=replace(self.info, classes=self._classes(samples[0].path.parent)),
            ids=np.array([sample.name for sample in samples], dtype=object),
            lonlat=lonlat,
            splits=np.array([sample.split for sample in samples], dtype=object),
            targets=self._targets(samples),
            chips=FileChips(
                bands=Bands.reflectance(tuple(keys)),
                shape=(1, len(keys), side, side),
                lonlat=lonlat,
                times=np.array([[sample.time] for sample in samples], dtype=np.int64),
                read=lambda rows: np.stack([self._chip(paths[row], keys) for row in rows]),
                **given,
            ),
            hash=self._hash(samples),
            groups=self._groups(len(samples)),
        )

    def _chip(self, path: Path, keys: Mapping[str, str]) -> NDArray[np.uint16]:
        """(1, C, H, W)."""
        arrays = arrays_of(path, sorted(set(keys.values())), self.released.side)
        return digital(np.stack([arrays[key] for key in keys.values()]), scale=self.released.scale)[None]

    def _mask(self, path: Path) -> NDArray[np.int16]:
        mask = arrays_of(path, [LABEL], self.released.side)[LABEL]
        known = np.isfinite(mask) & (mask >= 0) & (mask < self.released.num_classes)
        return np.where(known, mask, -1).astype(np.int16)

    def _check_units(self, paths: Sequence[Path], keys: Mapping[str, str]) -> None:
        """Refuse values of other units than the release's.

        Raises:
            TrainingError: they are.
        """
        named = sorted(set(keys.values()))
        highest = max(
            float(np.nan_to_num(array, nan=0.0, posinf=0.0).max())
            for path in _some(paths)
            for array in arrays_of(path, named, self.released.side).values()
        )
        if not self.released.lowest < highest <= self.released.highest:
            raise TrainingError(
                f"task {self.info.name}: a few chips have values up to {highest:g}, where the official ones lie between "
                f"{self.released.lowest:g} and {self.released.highest:g}: these are in other units"
            )

    def _check_order(self, paths: Sequence[Path], keys: Mapping[str, str]) -> None:
        """Refuse bands in another order, where that can be seen: B10 is by far the darkest; a picture has 8 bits.

        Raises:
            TrainingError: they are.
        """
        if "B10" in keys:
            bands = list(keys)
            means = [self._chip(path, keys)[0].mean(axis=(1, 2)) for path in _some(paths)]
            darkest = bands[int(np.bincount([int(mean.argmin()) for mean in means], minlength=len(bands)).argmax())]
            if darkest != "B10":
                raise TrainingError(
                    f"task {self.info.name}: what should be {darkest} is the darkest band, and not B10, that of cirrus: the "
                    "bands are in another order than in the official files"
                )
        if picture := [key for key in NAMES if self.released.truth == BRICK_KILN and keys["B07"] == SHIFTED][-3:]:
            highest = max(
                arrays_of(path, picture, self.released.side)[key].max() for path in _some(paths) for key in picture
            )
            if highest > 255:
                raise TrainingError(
                    f"task {self.info.name}: the last three arrays have values up to {highest:g}, where the official ones are "
                    "a picture of 8 bits: the bands are in another order"
                )

    def _targets(self, samples: Sequence[Sample]) -> NDArray[np.generic]:
        if self.info.kind == "segmentation":
            return np.zeros((len(samples), 0), dtype=np.int64)
        if self.info.kind == "multilabel":
            return np.stack([np.asarray(sample.label) for sample in samples]).astype(bool)
        return np.array([sample.label for sample in samples], dtype=np.int64)

    def _classes(self, folder: Path) -> tuple[str, ...]:
        """Names of the classes: of the release's description, or those that are known, or numbers."""
        count = self.released.num_classes
        path = folder / "task_specs.pkl"
        if path.is_file():
            kind = read_pickle(path.read_bytes(), what=str(path)).get("label_type")
            names = kind.get("_class_names") or kind.get("class_name") if isinstance(kind, Named) else None
            if isinstance(names, list | tuple) and len(names) == count:
                return tuple(str(name) for name in names)
        return self.released.classes or tuple(f"class {code}" for code in range(count))

    def _groups(self, count: int) -> dict[str, NDArray[np.object_]]:
        if not self.released.continent:
            return {}
        return {"continent": np.full(count, self.released.continent, dtype=object)}

    def _hash(self, samples: Sequence[Sample]) -> str:
        digest = hashlib.sha256(f"{self.info.name} {VERSION} {samples[0].order}\n".encode())
        for sample in samples:
            label = np.asarray(sample.label).tolist() if sample.label is not None else ""
            digest.update(f"{sample.name} {sample.split} {sample.size} {label}\n".encode())
        return digest.hexdigest()


def _some(paths: Sequence[Path]) -> list[Path]:
    return [paths[place] for place in np.linspace(0, len(paths) - 1, min(TELLING, len(paths))).astype(int)]


LEVEL_2A = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
CASHEW = (
    "no data",
    "well-managed plantation",
    "poorly-managed plantation",
    "non-plantation",
    "residential",
    "background",
    "uncertain",
)
CROPS = (
    "no data",
    "lucerne or medics",
    "planted pastures (perennial)",
    "fallow",
    "wine grapes",
    "weeds",
    "small grain grazing",
    "wheat",
    "canola",
    "rooibos",
)
RELEASED = {
    "m-eurosat": Released(bands=EUROSAT, side=64, samples=4_000, num_classes=10, truth=EUROSAT),
    "m-bigearthnet": Released(kind="multilabel", bands=LEVEL_2A, side=120, samples=22_000, num_classes=43),
    "m-so2sat": Released(
        bands=("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
        side=32,
        samples=21_964,
        num_classes=17,
        scale=1e4,
        lowest=0.0,
        highest=10.0,
        stand_ins={"B01": "B02", "B09": "B8A"},
    ),
    "m-brick-kiln": Released(
        bands=("B01", "B02", "B03", "B04", "B05", "B07", "B08", "B8A", "B11", "B12"),
        side=64,
        samples=17_061,
        num_classes=2,
        truth=BRICK_KILN,
        stand_ins={"B06": "B07", "B09": "B8A"},
    ),
    "m-cashew-plant": Released(
        kind="segmentation",
        bands=LEVEL_2A,
        side=256,
        samples=1_800,
        num_classes=7,
        classes=CASHEW,
        continent="Africa",
        room="segmentation_v1.0",
    ),
    "m-SA-crop-type": Released(
        kind="segmentation",
        bands=LEVEL_2A,
        side=256,
        samples=5_000,
        num_classes=10,
        classes=CROPS,
        scale=1e4 / 255,
        lowest=0.0,
        highest=255.0,
        continent="Africa",
        room="segmentation_v1.0",
    ),
}
# Title, metric of the benchmark's own tables, licence of the data, what it was made of. The release as a whole is CC-BY-SA-4.0
# on its Hub; licences of what it was made of are as torchgeo's tables of datasets tell them, where they name the set.
TOLD: dict[str, tuple[str, str, str, str]] = {
    "m-eurosat": ("land use in Europe", "accuracy", "MIT", "EuroSAT, Helber et al. (2019)"),
    "m-bigearthnet": (
        "43 labels of CORINE land cover",
        "micro_f1",
        "CDLA-Permissive-1.0",
        "BigEarthNet, Sumbul et al. (2019)",
    ),
    "m-so2sat": (
        "17 local climate zones of cities",
        "accuracy",
        "CC-BY-4.0",
        "So2Sat LCZ42, Zhu et al. (2020)",
    ),
    "m-brick-kiln": (
        "brick kilns in Bangladesh",
        "accuracy",
        "CC-BY-SA-4.0 (the release's; its source tells none)",
        "SustainBench, Yeh et al. (2021); Lee et al. (2021)",
    ),
    "m-cashew-plant": (
        "cashew plantations in Benin",
        "miou",
        "CC-BY-4.0",
        "Smallholder cashew plantations in Benin, Jin et al. (2021)",
    ),
    "m-SA-crop-type": (
        "crop types in South Africa",
        "miou",
        "CC-BY-4.0",
        "Crop type classification in South Africa, Western Cape Department of Agriculture and Radiant Earth (2021)",
    ),
}


def _benchmark(name: str) -> GeoBench:
    title, metric, licence, made_of = TOLD[name]
    released = RELEASED[name]
    info = TaskInfo(
        name=name,
        title=f"GEO-Bench: {title}",
        kind=released.kind,
        metric=metric,
        pixel_m=10.0,
        source=f"{HUB}/{released.room}/{name}.zip",
        licence=licence,
        citation="Lacoste et al. (2023): GEO-Bench: Toward foundation models for Earth monitoring, arXiv:2306.03831. "
        + made_of,
        size=f"{released.samples:,} chips of {released.side} x {released.side}, {len(released.bands)} bands",
    )
    return GeoBench(info=info, released=released)


BENCHMARKS = {name: _benchmark(name) for name in RELEASED}
ORIGINS = {
    name: Origin(parts=(Part(url=f"{HUB}/{released.room}/{name}.zip", name=f"{name}.zip", unpack="zip"),))
    for name, released in RELEASED.items()
}
