"""ForTy: types of forest, pixel by pixel, from four seasons of Sentinel-2 and Sentinel-1, and heights.

The files are the shards of version 1.0.0, TensorFlow's records of one example each. All of them are a terabyte; any of them
will do, if each side has one. Sides are the official ones: blocks of 100 km.

What no document of the release says was settled so:

- *Classes.* Labels are numbers from 0 to 8. 0 is unknown, and the others are in the order of the legend in the paper's
  figures: natural forest, planted forest, tree crops, other vegetation, built, water, ice, bare ground. The README lists the
  last four otherwise. Scores do not hang on the names.
- *Bands.* Of ten of Sentinel-2, the first three are B02, B03 and B04, by the release's example; the others are taken in the
  order of the instrument. Values are reflectance times 10,000. Leaves tell whether that holds: files in which it cannot are
  refused.
- *Dates.* Four seasons of 2020 are taken as its quarters, in their order, and have the dates of their middles. The first date
  of a sample is that of its summer, July to September north of the equator and January to March south of it, for models that
  read one date.

Radar is the pass, ascending or descending, that has more pixels in a chip. Climate is left out: its variables are not named.

Source: google-deepmind/forest_typology, ``forty_v1``; Jiang and Neumann (2025), arXiv:2505.01805; google-deepmind/geeflow,
``ee_data.py`` and ``data_sources/elevation.py``, for the units of radar and heights. The order of the legend was held against
radar on 5,052 chips by saverin0/sar-transfer-domains, ``domains/forest.py``: water is dark, and buildings are bright.

Shapes: N samples, T = 4 seasons, C bands, H = W = 128 pixels of 10 m.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from pwcat.sensors.encoding import encode
from training.batch import Bands
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import FileChips
from training.tasks.files.fetching import Origin, Part
from training.tasks.files.official import partial_downloads, refuse
from training.tasks.files.tfrecords import Read, Record, array_of, features_of, reader, records_of
from training.tasks.monthly import ENCODINGS

__all__ = ["BENCHMARKS", "ORIGINS", "Forty"]

READER = "forty, v1"  # part of the hash: to be raised when the way from file to sample changes
SEASONS, SIDE = 4, 128
SPLITS = {"train": "train", "validation": "val", "test": "test"}
SAMPLES = {"train": 160_191, "validation": 19_661, "test": 20_148}
SHARDS = 1024
SHARD = re.compile(r"forty_v1-(train|validation|test)\.tfrecord-\d{5}-of-\d{5}")
INFO_FILE = "dataset_info.json"  # beside the shards: how many records each has

OPTICAL = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
RADAR = ("VV", "VH")  # and the angle of incidence behind them
GROUND = ("elevation", "slope")  # and the aspect behind them
BANDS = (*OPTICAL, *RADAR, *GROUND)
ORBITS = ("s1_desc", "s1_asc")
SHAPES: Mapping[str, tuple[int, ...]] = {
    "s2": (SEASONS, SIDE, SIDE, len(OPTICAL)),
    "s2_mask": (SEASONS, SIDE, SIDE, len(OPTICAL)),
    **{f"{orbit}{mask}": (SEASONS, SIDE, SIDE, 3) for orbit in ORBITS for mask in ("", "_mask")},
    "elevation": (SIDE, SIDE, 3),
    "segmentation_labels": (SIDE, SIDE),
    "id": (1,),
    "lat": (1,),
    "lon": (1,),
}
PIXELS = ("s2", "s2_mask", "s1_desc", "s1_desc_mask", "s1_asc", "s1_asc_mask", "elevation")
CLASSES = (
    "natural forest",
    "planted forest",
    "tree crops",
    "other vegetation",
    "built",
    "water",
    "ice",
    "bare ground",
)
FOREST = (0, 1, 2)

# Middles of the quarters; and which are first, second, … in a sample's series, north and south of the equator.
MIDDLES = np.array(["2020-02-15", "2020-05-16", "2020-08-16", "2020-11-15"], dtype="datetime64[s]").astype(np.int64)
NORTH, SOUTH = np.array([2, 3, 0, 1]), np.array([0, 1, 2, 3])
# Chips, and pixels of leaves in them, by which the order of the bands is told; leaves are dark in the red, as snow is not.
TELLING, FEWEST_TELLING, DARKEST_RED = 16, 500, 800

BUCKET = "https://storage.googleapis.com/forest_typology/forty_v1/1.0.0"
INFO = TaskInfo(
    name="forty",
    title="Types of forest, pixel by pixel",
    kind="segmentation",
    metric="macro_f1",
    classes=CLASSES,
    fit="crop",
    source=BUCKET,
    licence="CC-BY-SA-4.0",
    citation="Jiang and Neumann (2025), Not every tree is a forest: benchmarking forest types from satellite remote sensing",
    size="200,000 chips of 128 x 128 in 3 x 1,024 shards, 1.1 TB; fetched: 8, 32 and 32 shards, 14 GB, some 2,500 chips",
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a sample lies: its shard and record, on the disc, and its place on the ground."""

    path: Path
    record: Record
    split: str
    identity: int
    lon: float
    lat: float


@dataclass(frozen=True, kw_only=True)
class Forty:
    """See the module."""

    info: TaskInfo = INFO

    def faults(self, folder: Path) -> list[str]:
        """See :meth:`training.tasks.base.Benchmark.faults`."""
        return _survey(folder)[1]

    def open(self, folder: Path) -> TaskData:
        """See :meth:`training.tasks.base.Benchmark.open`."""
        samples, faults = _survey(folder)
        refuse(self.info, folder, faults)
        _check_bands(samples)
        lonlat = np.array([[sample.lon, sample.lat] for sample in samples])
        orders = np.where((lonlat[:, 1] >= 0)[:, None], NORTH, SOUTH)
        missing = {
            f"in shards of {split} that are not here": total - sum(sample.split == SPLITS[split] for sample in samples)
            for split, total in SAMPLES.items()
        }
        return TaskData(
            info=self.info,
            ids=np.array([str(sample.identity) for sample in samples], dtype=object),
            lonlat=lonlat,
            splits=np.array([sample.split for sample in samples], dtype=object),
            targets=np.zeros((len(samples), 0)),
            chips=FileChips(
                bands=_bands(),
                shape=(SEASONS, len(BANDS), SIDE, SIDE),
                lonlat=lonlat,
                times=MIDDLES[orders],
                read=lambda rows: np.stack([_chip(samples[row])[orders[row]] for row in rows]),
                read_masks=lambda rows: np.array([_mask(samples[row]) for row in rows], dtype=np.int16).reshape(
                    -1, SIDE, SIDE
                ),
            ),
            hash=_hash(samples),
            left_out={reason: number for reason, number in missing.items() if number > 0},
        )


def _bands() -> Bands:
    known = [ENCODINGS[name] for name in BANDS]
    return Bands(
        names=BANDS,
        scale=tuple(encoding.scale for encoding in known),
        offset=tuple(encoding.offset for encoding in known),
        unit=tuple(encoding.unit for encoding in known),
    )


def _survey(folder: Path) -> tuple[list[Place], list[str]]:
    """The samples of a folder, in the order of its files' names, and what is wrong."""
    faults = partial_downloads(folder, source=BUCKET)
    shards = sorted(path for path in folder.glob("forty_v1-*") if SHARD.fullmatch(path.name)) if folder.is_dir() else []
    for split in SPLITS:
        if not any(SHARD.fullmatch(path.name)[1] == split for path in shards):  # type: ignore[index]
            example = f"forty_v1-{split}.tfrecord-00000-of-01024"
            faults.append(f"there is no shard of {split}, such as {example}: get some from {BUCKET}")
    counts = _counts(folder, faults)
    samples: list[Place] = []
    for path in shards:
        stat = path.stat()
        try:
            found = _index(path, stat.st_size, stat.st_mtime_ns)
        except ValueError as exc:
            faults.append(f"{path.name} cannot be read: {exc}; get it anew from {BUCKET}")
            continue
        if (told := counts.get(path.name)) is not None and told != len(found):
            faults.append(
                f"{path.name} has {len(found)} records, where {INFO_FILE} tells {told}; get it anew from {BUCKET}"
            )
        samples += found
    if twice := len(samples) - len({sample.identity for sample in samples}):
        faults.append(f"{twice} samples are there twice: shards of two releases, or copies under other names")
    return samples, faults


def _counts(folder: Path, faults: list[str]) -> dict[str, int]:
    """How many records each shard should have, by name, where the release's own note is there."""
    path = folder / INFO_FILE
    if not path.exists():
        return {}
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
        return {
            f"forty_v1-{split['name']}.tfrecord-{place:05d}-of-{len(split['shardLengths']):05d}": int(length)
            for split in splits
            for place, length in enumerate(split["shardLengths"])
        }
    except (ValueError, KeyError, TypeError) as exc:
        faults.append(f"{INFO_FILE} is damaged ({exc!r}); get it anew from {BUCKET}, or remove it")
        return {}


@lru_cache(maxsize=4 * SHARDS)
def _index(path: Path, size: int, changed_ns: int) -> tuple[Place, ...]:
    """The samples of a shard of this size and time of change; pixels are not read."""
    split = SHARD.fullmatch(path.name)
    assert split is not None, "_survey() has seen to it"
    with _opened(path) as read:
        return tuple(_place(path, record, SPLITS[split[1]], read) for record in records_of(path))


def _place(path: Path, record: Record, split: str, read: Read) -> Place:
    at = features_of(read, record.start, record.length)
    if missing := [name for name in SHAPES if name not in at]:
        raise ValueError(f"its examples have no {', '.join(missing)}: they are not those of ForTy")
    identity, lon, lat = (array_of(read(*at[name])) for name in ("id", "lon", "lat"))
    return Place(path=path, record=record, split=split, identity=int(identity[0]), lon=float(lon[0]), lat=float(lat[0]))


@contextmanager
def _opened(path: Path) -> Iterator[Read]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield reader(descriptor)
    finally:
        os.close(descriptor)


def _features(sample: Place, names: tuple[str, ...], *, whole: bool) -> dict[str, NDArray[Any]]:
    """Some features of a sample, in their shapes.

    Args:
        sample: see above.
        names: of the features.
        whole: read all of the record and hold it against its checksum; else these features alone.

    Raises:
        TrainingError: the record is damaged, or has other shapes.
    """
    try:
        with _opened(sample.path) as file:
            read, start = file, sample.record.start
            if whole:
                data = sample.record.data(file)
                read, start = (lambda place, length: data[place : place + length]), 0
            at = features_of(read, start, sample.record.length)
            return {name: array_of(read(*at[name])).reshape(SHAPES[name]) for name in names}
    except (ValueError, KeyError, OSError) as exc:
        raise TrainingError(
            f"{sample.path}: sample {sample.identity} cannot be read ({exc}); get the shard anew from {BUCKET}"
        ) from exc


def _chip(sample: Place) -> NDArray[np.uint16]:
    """Digital numbers of a sample, (T, C, H, W), the seasons in the file's order."""
    found = _features(sample, PIXELS, whole=True)
    orbit = max(ORBITS, key=lambda name: int(found[f"{name}_mask"][..., 0].sum()))
    optical = np.where((found["s2_mask"] != 0) & (found["s2"] > 0), found["s2"], np.nan) * 1e-4
    radar = np.where(found[f"{orbit}_mask"] != 0, found[orbit], np.nan)[..., : len(RADAR)]
    ground = np.broadcast_to(found["elevation"][..., : len(GROUND)], (SEASONS, SIDE, SIDE, len(GROUND)))
    bands = np.moveaxis(np.concatenate([optical, radar, ground], axis=-1), -1, 1)
    return np.stack([encode(bands[:, place], ENCODINGS[name]) for place, name in enumerate(BANDS)], axis=1)


def _mask(sample: Place) -> NDArray[np.int16]:
    """Class of each pixel, (H, W); -1 where it is unknown."""
    labels = _features(sample, ("segmentation_labels",), whole=False)["segmentation_labels"]
    if labels.min() < 0 or labels.max() > len(CLASSES):
        raise TrainingError(
            f"{sample.path}: sample {sample.identity} has labels from {labels.min()} to {labels.max()}, where those of ForTy "
            f"are 0 to {len(CLASSES)}"
        )
    return (labels - 1).astype(np.int16)


def _check_bands(samples: list[Place]) -> None:
    """Refuse bands in another order: in leaves, reflectance rises from B05 by B06 to B07, and falls from B8A by B11 to B12.

    Raises:
        TrainingError: in the forests of some chips it does not.
    """
    some = [samples[place] for place in np.linspace(0, len(samples) - 1, min(TELLING, len(samples))).astype(int)]
    pixels = []
    for sample in some:
        chip, forest = _chip(sample)[:, : len(OPTICAL)], np.isin(_mask(sample), FOREST)
        seen = np.moveaxis(chip, 1, -1)[:, forest]
        pixels.append(seen[(seen > 0).all(axis=-1) & (seen[..., 2] < DARKEST_RED) & (seen[..., 2] < seen[..., 1])])
    found = np.concatenate(pixels)
    if len(found) < FEWEST_TELLING:
        return
    median = dict(zip(OPTICAL, np.median(found, axis=0), strict=True))
    if not (median["B05"] < median["B06"] <= median["B07"] and median["B8A"] > median["B11"] > median["B12"]):
        told = ", ".join(f"{name} {value / 1e4:.3f}" for name, value in median.items())
        raise TrainingError(
            f"task forty: the bands of Sentinel-2 cannot be {', '.join(OPTICAL)}: in forests their medians are {told}, where "
            "leaves reflect more from B05 to B07 and less from B8A to B12"
        )


def _hash(samples: list[Place]) -> str:
    """Of the checksums of all records, which are those of their content."""
    digest = hashlib.sha256(READER.encode())
    for sample in samples:
        digest.update(f"\n{sample.path.name} {sample.split} {sample.identity} {sample.record.crc}".encode())
    return digest.hexdigest()


def _shard(split: str, place: int) -> Part:
    name = f"forty_v1-{split}.tfrecord-{place:05d}-of-{SHARDS:05d}"
    return Part(url=f"{BUCKET}/{name}", name=name)


BENCHMARKS = {INFO.name: Forty()}
ORIGINS = {
    INFO.name: Origin(
        parts=(
            Part(url=f"{BUCKET}/{INFO_FILE}", name=INFO_FILE),
            *(_shard("train", place) for place in range(8)),
            *(_shard("validation", place) for place in range(32)),
            *(_shard("test", place) for place in range(32)),
        ),
        disc_bytes=15_000_000_000,
    )
}
