"""EuroSAT, multispectral: ten classes of land use in 27,000 chips of Sentinel-2 over Europe, as released.

The GeoTIFFs name no bands. They lie as B01 to B08, B09, B10, B11, B12 and then B8A, which the paper's table does not say
(https://github.com/phelber/EuroSAT/issues/7); files in which the band of cirrus is elsewhere are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Bands
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import FileChips
from training.tasks.files.faults import fetch_again, no_folder, told
from training.tasks.files.fetching import Origin, Part
from training.tasks.files.official import refuse
from training.tasks.files.pixels import digital
from training.tasks.files.tiffs import Looked, look_at_all, places, read

__all__ = ["BENCHMARKS", "ORIGINS", "EuroSat"]

VERSION = 1  # of what is made of the files

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A")
CIRRUS = BANDS.index("B10")
CLASSES = (
    "AnnualCrop",
    "Forest",
    "HerbaceousVegetation",
    "Highway",
    "Industrial",
    "Pasture",
    "PermanentCrop",
    "Residential",
    "River",
    "SeaLake",
)
SIDE = 64
SPLITS = ("train", "val", "test")

# Where the folders of classes lie: in the release on Zenodo, in the older one that the Hub has, or in the folder itself.
IMAGES = ("EuroSAT_MS", "ds/images/remote_sensing/otherDatasets/sentinel_2/tif", ".")
HUB = "https://huggingface.co/datasets/torchgeo/eurosat/resolve/1ce6f1bfb56db63fd91b6ecc466ea67f2509774c"
# Chips by which the order of the bands is told; more would cost time and say the same.
TELLING = 8

INFO = TaskInfo(
    name="eurosat",
    title="EuroSAT: land use in Europe",
    kind="classification",
    metric="accuracy",
    classes=CLASSES,
    pixel_m=10.0,
    source=HUB,
    licence="MIT",
    citation="Helber, Bischke, Dengel and Borth (2019): EuroSAT: A novel dataset and deep learning benchmark for land use and "
    "land cover classification. Splits: Neumann, Pinto, Zhai and Houlsby (2019), arXiv:1911.06721",
    size="27,000 chips of 64 x 64, 13 bands; 2.1 GB to fetch, 2.9 GB unpacked",
)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A chip that the lists of the splits name, and its file."""

    name: str
    split: str
    path: Path

    @property
    def label(self) -> int:
        """Code of its class."""
        return CLASSES.index(self.name.rpartition("_")[0])


@dataclass(frozen=True, kw_only=True)
class EuroSat:
    """See the module."""

    info: TaskInfo = INFO

    def faults(self, folder: Path) -> list[str]:
        """See :meth:`training.tasks.base.Benchmark.faults`."""
        return _survey(folder)[2]

    def open(self, folder: Path) -> TaskData:
        """See :meth:`training.tasks.base.Benchmark.open`."""
        listed, looked, faults = _survey(folder)
        refuse(self.info, folder, faults)
        paths = [one.path for one in listed]
        _check_order(paths)
        lonlat = places(looked)
        unlisted = sum(1 for of in {path.parent for path in paths} for _ in of.glob("*.tif")) - len(listed)
        return TaskData(
            info=self.info,
            ids=np.array([one.name for one in listed], dtype=object),
            lonlat=lonlat,
            splits=np.array([one.split for one in listed], dtype=object),
            targets=np.array([one.label for one in listed], dtype=np.int64),
            chips=FileChips(
                bands=Bands.reflectance(BANDS),
                shape=(1, len(BANDS), SIDE, SIDE),
                lonlat=lonlat,
                times=np.full((len(listed), 1), UNKNOWN_TIME),
                read=lambda rows: np.stack(_chips([paths[row] for row in rows])),
            ),
            hash=_hash(listed),
            left_out={"in no list of a split": unlisted} if unlisted else {},
        )


def _survey(folder: Path) -> tuple[list[Listed], list[Looked], list[str]]:
    """The chips, what their headers say, and what is wrong."""
    images = _images(folder)
    if images is None:
        return [], [], no_folder(folder, INFO.name, f"folder {CLASSES[0]} of GeoTIFFs", INFO.source)
    listed, faults = _listed(folder, images)
    if faults:
        return listed, [], faults
    looked = look_at_all([one.path for one in listed])
    return listed, looked, _faults_of(listed, looked, folder)


def _images(folder: Path) -> Path | None:
    """The folder of the folders of classes."""
    found = [folder / place for place in IMAGES if (folder / place / CLASSES[0]).is_dir()]
    return found[0] if found else None


def _listed(folder: Path, images: Path) -> tuple[list[Listed], list[str]]:
    """The chips of all lists, in the order of their names; and what is wrong with the lists."""
    listed, faults = [], []
    for split in SPLITS:
        path = next(
            (at / f"eurosat-{split}.txt" for at in (folder, images) if (at / f"eurosat-{split}.txt").is_file()), None
        )
        if path is None:
            faults.append(f"eurosat-{split}.txt is missing: get it from {HUB}/eurosat-{split}.txt")
            continue
        names = [Path(line.strip()).stem for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        strange = [name for name in names if name.rpartition("_")[0] not in CLASSES]
        faults += told(f"named in {path.name} but of no class of EuroSAT", strange, len(names), f"get it from {HUB}")
        if not names:
            faults.append(f"{path.name} is empty: get it from {HUB}/{path.name}")
        listed += [
            Listed(name=name, split=split, path=images / name.rpartition("_")[0] / f"{name}.tif") for name in names
        ]
    twice = len(listed) - len({one.name for one in listed})
    if twice:
        faults.append(f"{twice:,} chips are in more than one list of a split: get eurosat-*.txt from {HUB}")
    return sorted(listed, key=lambda one: (one.name.rpartition("_")[0], len(one.name), one.name)), faults


def _faults_of(listed: Sequence[Listed], looked: Sequence[Looked], folder: Path) -> list[str]:
    faults: dict[str, list[str]] = {}
    for one, seen in zip(listed, looked, strict=True):
        fault = seen.fault or ("" if seen.bands == len(BANDS) else f"has {seen.bands} bands, and not {len(BANDS)}")
        fault = fault or ("" if seen.height == seen.width == SIDE else f"is not {SIDE} x {SIDE} pixels")
        if fault:
            faults.setdefault(fault, []).append(one.path.name)
    remedy = fetch_again(INFO.name, folder)
    return [line for fault, names in sorted(faults.items()) for line in told(fault, names, len(listed), remedy)]


def _check_order(paths: Sequence[Path]) -> None:
    """Refuse bands in another order: cirrus absorbs nearly all light, so B10 is by far the darkest, in every chip.

    Raises:
        TrainingError: another band is.
    """
    some = [paths[place] for place in np.linspace(0, len(paths) - 1, min(TELLING, len(paths))).astype(int)]
    votes = [int(chip[0].mean(axis=(1, 2)).argmin()) for chip in _chips(some)]
    darkest = int(np.bincount(votes, minlength=len(BANDS)).argmax())
    if darkest != CIRRUS:
        raise TrainingError(
            f"task eurosat: band {darkest + 1} of the files is the darkest, where that of cirrus (B10) is band {CIRRUS + 1} in "
            f"the official ones, whose order is {', '.join(BANDS)}: these have been written anew in another order"
        )


def _chips(paths: Sequence[Path]) -> list[NDArray[np.uint16]]:
    """(1, C, H, W) each."""
    return read(paths, bands=len(BANDS), made=lambda pixels: digital(pixels)[None])


def _hash(listed: Sequence[Listed]) -> str:
    lines = [f"eurosat {VERSION}", *(f"{one.name} {one.split} {one.path.stat().st_size}" for one in listed)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


BENCHMARKS = {"eurosat": EuroSat()}
ORIGINS = {
    "eurosat": Origin(
        parts=(
            Part(
                url=f"{HUB}/EuroSATallBands.zip",
                name="EuroSATallBands.zip",
                md5="5ac12b3b2557aa56e1826e981e8e200e",
                unpack="zip",
            ),
            Part(url=f"{HUB}/eurosat-train.txt", name="eurosat-train.txt", md5="908f142e73d6acdf3f482c5e80d851b1"),
            Part(url=f"{HUB}/eurosat-val.txt", name="eurosat-val.txt", md5="95de90f2aa998f70a3b2416bfe0687b4"),
            Part(url=f"{HUB}/eurosat-test.txt", name="eurosat-test.txt", md5="7ae5ab94471417b6e315763121e67c5f"),
        ),
        disc_bytes=5_200_000_000,
    )
}
