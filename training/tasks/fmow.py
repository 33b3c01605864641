"""FMoW-Sentinel: 62 functions of places all over the world, in composites of Sentinel-2 level 1C, as SatMAE released them.

Three tables name the images of the three sides; an image is found by its row's category, location and image number. Images are
of many sizes, about 45 pixels a side, and so come to 96 pixels as SatMAE evaluates them: the shorter side at 109 pixels, the
middle 96 of these. Values between pixels are bilinear here, where SatMAE's are bicubic.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Bands
from training.fitting import resized
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import FileChips
from training.tasks.files.faults import fetch_again, no_folder, told
from training.tasks.files.fetching import Origin, Part
from training.tasks.files.official import refuse
from training.tasks.files.pixels import digital
from training.tasks.files.tiffs import look_at_all, read

__all__ = ["BENCHMARKS", "ORIGINS", "Fmow"]

VERSION = 1  # of what is made of the files

# "In order of increasing wavelength", its README says, which calls B08 and B8A by other names.
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
CIRRUS = BANDS.index("B10")
TABLES = {"train": "train.csv", "val": "val.csv", "test": "test_gt.csv"}
COLUMNS = ("category", "location_id", "image_id", "timestamp", "polygon")
# The folders of the three sides; the test images' is named either way.
FOLDERS = {"train": ("train",), "val": ("val",), "test": ("test_gt", "test")}
IMAGES = "fmow-sentinel"
SIDE = 96
SHORTER = 109  # SatMAE's: a picture of 96 pixels is the middle of one of 109
TELLING = 8  # images by which the order of the bands is told
LOOKED_AT = 500  # images whose header is read when a folder is checked

SOURCE = "https://purl.stanford.edu/vg497cb6002"
STACKS = "https://stacks.stanford.edu/file/druid:vg497cb6002"

# fmt: off
CLASSES = (
    "airport", "airport_hangar", "airport_terminal", "amusement_park", "aquaculture", "archaeological_site", "barn",
    "border_checkpoint", "burial_site", "car_dealership", "construction_site", "crop_field", "dam", "debris_or_rubble",
    "educational_institution", "electric_substation", "factory_or_powerplant", "fire_station", "flooded_road", "fountain",
    "gas_station", "golf_course", "ground_transportation_station", "helipad", "hospital", "impoverished_settlement",
    "interchange", "lake_or_pond", "lighthouse", "military_facility", "multi-unit_residential", "nuclear_powerplant",
    "office_building", "oil_or_gas_facility", "park", "parking_lot_or_garage", "place_of_worship", "police_station", "port",
    "prison", "race_track", "railway_bridge", "recreational_facility", "road_bridge", "runway", "shipyard", "shopping_mall",
    "single-unit_residential", "smokestack", "solar_farm", "space_facility", "stadium", "storage_tank", "surface_mine",
    "swimming_pool", "toll_booth", "tower", "tunnel_opening", "waste_disposal", "water_treatment_facility", "wind_farm", "zoo",
)
# fmt: on

INFO = TaskInfo(
    name="fmow-sentinel",
    title="FMoW-Sentinel: the function of a place",
    kind="classification",
    metric="accuracy",
    classes=CLASSES,
    source=SOURCE,
    licence="fMoW Challenge Public License (labels), Copernicus Sentinel data terms (images)",
    citation="Cong et al. (2022): SatMAE: Pre-training transformers for temporal and multi-spectral satellite imagery, "
    "doi:10.25740/vg497cb6002; Christie et al. (2018): Functional Map of the World",
    size="882,779 images of about 45 x 45, 13 bands; 78 GB to fetch",
)


@dataclass(frozen=True, kw_only=True)
class Fmow:
    """See the module."""

    info: TaskInfo = INFO

    def faults(self, folder: Path) -> list[str]:
        """See :meth:`training.tasks.base.Benchmark.faults`."""
        _, paths, faults = _survey(folder)
        if faults:
            return faults
        some = _spread(paths, LOOKED_AT)
        damaged: dict[str, list[str]] = {}
        for path, looked in zip(some, look_at_all(some), strict=True):
            wrong = "" if looked.bands == len(BANDS) else f"has {looked.bands} bands, and not {len(BANDS)}"
            if fault := looked.fault or wrong:
                damaged.setdefault(fault, []).append(path.name)
        return [
            line
            for fault, names in sorted(damaged.items())
            for line in told(f"{fault}, of those looked into", names, len(some), fetch_again(INFO.name, folder))
        ]

    def open(self, folder: Path) -> TaskData:
        """See :meth:`training.tasks.base.Benchmark.open`."""
        rows, paths, faults = _survey(folder)
        refuse(self.info, folder, faults)
        _check_order(paths)
        lonlat = _middles(rows["polygon"])
        return TaskData(
            info=self.info,
            ids=_names(rows).to_numpy(dtype=object),
            lonlat=lonlat,
            splits=rows["split"].to_numpy(dtype=object),
            targets=rows["category"].map({name: code for code, name in enumerate(CLASSES)}).to_numpy(dtype=np.int64),
            chips=FileChips(
                bands=Bands.reflectance(BANDS),
                shape=(1, len(BANDS), SIDE, SIDE),
                lonlat=lonlat,
                times=_seconds(rows["timestamp"])[:, None],
                read=lambda chosen: np.stack(read([Path(paths[row]) for row in chosen], bands=len(BANDS), made=_shown)),
            ),
            hash=_hash(rows),
        )


def _survey(folder: Path) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Rows of the tables, the image of each, and what is wrong."""
    # the archive's folder has the task's name, and the tables lie beside it
    home = next((at for at in (folder, folder.parent) if any((at / name).is_file() for name in TABLES.values())), None)
    if home is None or (home != folder and folder.name != IMAGES):
        return pd.DataFrame(), [], no_folder(folder, INFO.name, "train.csv", SOURCE)
    folder = home
    tables, faults = [], []
    for split, name in TABLES.items():
        table, fault = _table(folder / name, split)
        tables.append(table)
        faults += fault
    if faults:
        return pd.DataFrame(), [], faults
    rows = pd.concat(tables, ignore_index=True)
    if twice := int(_names(rows).duplicated().sum()):
        return rows, [], [f"{twice:,} rows of the tables name an image twice: get them anew from {SOURCE}"]
    paths = _paths(folder, rows)
    return rows, paths, _missing(folder, paths)


def _table(path: Path, split: str) -> tuple[pd.DataFrame, list[str]]:
    try:
        table = pd.read_csv(path, usecols=list(COLUMNS), dtype={"category": str, "timestamp": str, "polygon": str})
    except FileNotFoundError:
        return pd.DataFrame(), [f"{path.name} is missing: get it from {STACKS}/{path.name}"]
    except (ValueError, OSError) as exc:  # other columns, no text, or not whole
        reason = " ".join(str(exc).split())
        return pd.DataFrame(), [f"{path.name} cannot be read ({reason}): get it anew from {STACKS}/{path.name}"]
    numbers = table[["location_id", "image_id"]].apply(pd.to_numeric, errors="coerce")
    if len(table) == 0 or numbers.isna().any(axis=None) or table["category"].isna().any():
        return pd.DataFrame(), [f"{path.name} is empty or not whole: get it anew from {STACKS}/{path.name}"]
    if strange := sorted(set(table["category"]) - set(CLASSES)):
        return pd.DataFrame(), [f"{path.name} has categories that FMoW-Sentinel has not: {', '.join(strange[:5])}"]
    return table.assign(split=split, **numbers.astype(np.int64)), []


def _names(rows: pd.DataFrame) -> pd.Series:
    split, category, location, image = (
        rows[name].astype(str) for name in ("split", "category", "location_id", "image_id")
    )
    return split + "/" + category + "/" + location + "/" + image


def _paths(folder: Path, rows: pd.DataFrame) -> list[str]:
    """The image of each row: words, for paths of a million images take half a minute to make."""
    root = next((at for at in (folder / IMAGES / IMAGES, folder / IMAGES) if at.is_dir()), folder)
    of = {
        split: str(next((root / name for name in names if (root / name).is_dir()), root / names[0]))
        for split, names in FOLDERS.items()
    }
    place = rows["category"] + "_" + rows["location_id"].astype(str)
    paths = (
        rows["split"].map(of)
        + "/"
        + rows["category"]
        + "/"
        + place
        + "/"
        + place
        + "_"
        + rows["image_id"].astype(str)
        + ".tif"
    )
    return [str(path) for path in paths]


def _missing(folder: Path, paths: Sequence[str]) -> list[str]:
    """Images that are not there, or empty; a folder is asked once for all of its images."""
    sizes: dict[str, dict[str, int]] = {}
    missing, empty = [], []
    for path in paths:
        at, _, name = path.rpartition("/")
        if at not in sizes:
            sizes[at] = _sizes(at)
        size = sizes[at].get(name)
        if size is None:
            missing.append(name)
        elif size == 0:
            empty.append(name)
    remedy = f"unpack all of {STACKS}/{IMAGES}.tar.gz, or {fetch_again(INFO.name, folder)}"
    return [*told("is missing", missing, len(paths), remedy), *told("is empty", empty, len(paths), remedy)]


def _sizes(folder: str) -> dict[str, int]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _middles(polygons: pd.Series) -> NDArray[np.float64]:
    """Longitude and latitude of the middle of each rectangle's corners, (N, 2); NaN where there is none.

    Corners are written as WKT, longitude first; the middle of the longitudes of one that crosses the antimeridian is taken the
    short way round.
    """
    unique = {text: _middle(text) for text in polygons.dropna().unique()}
    return np.array([unique.get(text, (np.nan, np.nan)) for text in polygons], dtype=np.float64).reshape(-1, 2)


def _middle(text: str) -> tuple[float, float]:
    numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*(?:[eE][-+]?\d+)?", text)]
    if len(numbers) < 6 or len(numbers) % 2:
        return np.nan, np.nan
    lon, lat = np.array(numbers[::2]), np.array(numbers[1::2])
    if np.ptp(lon) > 180:
        lon = np.where(lon < 0, lon + 360, lon)
    middle = (lon.min() + lon.max()) / 2
    place = (float((middle + 180) % 360 - 180), float((lat.min() + lat.max()) / 2))
    return place if abs(place[1]) <= 90 else (np.nan, np.nan)


def _seconds(timestamps: pd.Series) -> NDArray[np.int64]:
    times = pd.to_datetime(timestamps, utc=True, format="ISO8601", errors="coerce")
    return np.where(times.isna(), UNKNOWN_TIME, times.dt.tz_localize(None).to_numpy("datetime64[s]").astype(np.int64))


def _spread(paths: Sequence[str], count: int) -> list[Path]:
    """A few paths, from the first to the last."""
    return [Path(paths[place]) for place in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]


def _shown(image: NDArray[np.generic]) -> NDArray[np.uint16]:
    """The part of an image (C, H, W) that is shown, (1, C, 96, 96)."""
    pixels = digital(image)
    height, width = pixels.shape[-2:]
    side = max(1, round(min(height, width) * SIDE / SHORTER))
    y, x = (height - side) // 2, (width - side) // 2
    middle = torch.from_numpy(np.ascontiguousarray(pixels[None, None, :, y : y + side, x : x + side]))
    return np.asarray(resized(middle, SIDE, bands=Bands.reflectance(BANDS))[0].numpy())


def _check_order(paths: Sequence[str]) -> None:
    """Refuse bands in another order: B10, that of cirrus, is by far the darkest.

    Raises:
        TrainingError: another band is.
    """
    some = _spread(paths, TELLING)
    votes = read(some, bands=len(BANDS), made=lambda pixels: int(digital(pixels).mean(axis=(1, 2)).argmin()))
    darkest = int(np.bincount(votes, minlength=len(BANDS)).argmax())
    if darkest != CIRRUS:
        raise TrainingError(
            f"task {INFO.name}: band {darkest + 1} of the images is the darkest, where that of cirrus (B10) is band "
            f"{CIRRUS + 1} of the official ones, whose order is {', '.join(BANDS)}: these are in another order"
        )


def _hash(rows: pd.DataFrame) -> str:
    digest = hashlib.sha256(f"{INFO.name} {VERSION}\n".encode())
    digest.update("\n".join(_names(rows)).encode())
    return digest.hexdigest()


BENCHMARKS = {INFO.name: Fmow()}
ORIGINS = {
    INFO.name: Origin(
        parts=(
            *(Part(url=f"{STACKS}/{name}", name=name) for name in TABLES.values()),
            Part(url=f"{STACKS}/{IMAGES}.tar.gz", name=f"{IMAGES}.tar.gz", bytes=77_497_587_986, unpack="tar"),
        ),
        disc_bytes=170_000_000_000,
        agreement="the fMoW Challenge Public License and the terms of Copernicus Sentinel data",
    )
}
