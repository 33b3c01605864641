"""Per-band statistics of an exact subset, and the scaling of chips to a model's input.

Statistics come from counts of every digital number, one histogram a band (:mod:`training.loading.counts`): counts add
exactly, so that threads and ranks may share the shards in any way, and mean, standard deviation and percentiles are those
of the whole.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from training.loading.ahead import num_threads
from training.loading.source import Source, Times

if TYPE_CHECKING:
    from catalog.subset import Subset
    from pwcat.cube import Cube
    from training.batch import Bands

__all__ = ["Normalization", "measure", "measured", "summarise", "unit_of", "unit_of_bands"]

log = logging.getLogger(__name__)

NODATA = 0
PERCENTILES = (1, 2, 50, 98, 99)


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Mean and standard deviation of each band of one subset, with what they were measured on.

    Attributes:
        bands: names of the bands, in the order of the other lists.
        unit: unit of the values.
        mean: mean of each band over all pixels that hold data.
        std: standard deviation of each band (of the population) over the same.
        percentiles: for each percentile, its value in each band.
        num_pixels: pixels that held data, in each band; pixels of 0 (no data) are left out; empty where that is
            not known, as of released weights.
        num_samples: chips measured.
        data_hash: hash of the subset measured.
        times: whether the first time of each sample was measured, or all.
    """

    bands: tuple[str, ...]
    unit: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    percentiles: dict[str, tuple[float, ...]]
    num_pixels: tuple[int, ...]
    num_samples: int
    data_hash: str
    times: Times = "first"

    def apply(self, chips_BCHW: Tensor) -> Tensor:
        """Chips scaled to float32 within 0..1, on their device: ``clip((x - (mean - 2 std)) / (4 std), 0, 1)``.

        Any axes may stand before the bands, such as times.

        SatMAE's scaling, without its rounding to 256 levels. Source: SatMAE, ``util/datasets.py`` (as described in its
        appendix): mean ± 2 std spans the range, what is beyond is clipped.
        """
        scaling: tuple[Tensor, Tensor] = _scaling(self.mean, self.std, chips_BCHW.device)
        mean, spread = scaling
        return ((chips_BCHW.float() - mean) / spread + 0.5).clamp_(0, 1)

    def require_data(self) -> None:
        """Make sure that every band has been measured on some data: one that has none cannot be scaled by it.

        Raises:
            TrainingError: a band held no data at all.
        """
        if empty := [band for band, pixels in zip(self.bands, self.num_pixels, strict=False) if pixels == 0]:
            raise TrainingError(
                f"bands {', '.join(empty)} hold no data in any chip of this subset: choose other samples, or bands that hold "
                "some"
            )

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Normalization:
        """From what :meth:`to_json` gave."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        fields["percentiles"] = {name: tuple(row) for name, row in values["percentiles"].items()}
        return cls(**fields)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        with replacing(path) as part:
            part.write_text(json.dumps(self.to_json(), indent=2) + "\n")


@torch.compiler.disable  # type: ignore[untyped-decorator]  # else the cache is traced away, and each step copies to the card
@lru_cache(maxsize=16)
def _scaling(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and four standard deviations of each band, (C, 1, 1); copied to a card once, for it would wait for each copy."""
    with torch.inference_mode(False):  # whoever asks first, training may use them
        values = torch.tensor([mean, std], dtype=torch.float32).to(device)
    mean_C, std_C = values.view(2, -1, 1, 1)
    return mean_C, 4 * std_C.clamp_min(1e-6)  # a band without any spread becomes 0.5, not NaN


def unit_of(subset: Subset, bands: Sequence[str] | None = None) -> str:
    """The unit of a subset's values, such as ``"DN, reflectance*10000"``, from the scale and offset of its cubes.

    Args:
        subset: the samples.
        bands: whose unit is asked for; those of sensors among them are told one by one. All where ``None``.

    Raises:
        TrainingError: its collections differ in it.
    """
    units = {collection.name: _unit(collection.cube, bands) for collection in subset.collections}
    if len(set(units.values())) > 1:
        listed = ", ".join(f"{name}: {unit}" for name, unit in units.items())
        raise TrainingError(f"the collections of this subset hold different units ({listed}): take one unit at a time")
    return next(iter(units.values()))


def unit_of_bands(bands: Bands) -> str:
    """The unit of these bands' values, in the words of :func:`unit_of`; those of reflectance are told as one."""
    each = list(zip(bands.names, bands.scale, bands.offset, bands.unit, strict=True))
    reflectance = next(((scale, offset) for _, scale, offset, unit in each if unit == "1"), (1e-4, 0.0))
    others = [_sensed(*band) for band in each if band[1:] != (*reflectance, "1")]
    return "; ".join([_plain(*reflectance), *others])


def _unit(cube: Cube, bands: Sequence[str] | None) -> str:
    scale, offset = float(cube.attrs.get("scale", 1)), float(cube.attrs.get("offset", 0))
    meant = {band: meaning for band, meaning in zip(cube.bands, cube.meanings, strict=False) if meaning.sensor}
    asked = [band for band in (cube.bands if bands is None else bands) if band in meant]
    others = [_sensed(band, meant[band].scale, meant[band].offset, meant[band].unit) for band in asked]
    return "; ".join([_plain(scale, offset), *others])


def _plain(scale: float, offset: float) -> str:
    return f"DN, reflectance*{1 / scale:g}" + (f", offset {offset:g}" if offset else "")


def _sensed(band: str, scale: float, offset: float, unit: str) -> str:
    return f"{band}: {unit} = DN*{scale:g}{offset:+g}"


def summarise(
    counts_CK: np.ndarray, *, bands: Sequence[str], unit: str, num_samples: int, data_hash: str, times: Times = "first"
) -> Normalization:
    """Statistics from the counts of each digital number, (C, 65536); no data (0) is left out, and of no data at all 0 comes."""
    counts_CK = counts_CK.copy()
    counts_CK[:, NODATA] = 0
    pixels_C = counts_CK.sum(axis=1)
    moments = [_moments(row) for row in counts_CK]
    return Normalization(
        bands=tuple(bands),
        unit=unit,
        mean=tuple(mean for mean, _ in moments),
        std=tuple(std for _, std in moments),
        percentiles={str(p): tuple(_percentile(row, p) for row in counts_CK) for p in PERCENTILES},
        num_pixels=tuple(pixels_C.tolist()),
        num_samples=num_samples,
        data_hash=data_hash,
        times=times,
    )


def measure(
    subset: Subset,
    *,
    bands: Sequence[str],
    times: Times = "first",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Normalization:
    """Statistics of a subset's chips, each read once; :meth:`training.loader.Loader.measure` shares that out to ranks.

    Args:
        subset: the samples.
        bands: names of the bands to measure, in order; all must be in the subset.
        times: the first of each sample, or all.
        progress: told of samples done, and of all.

    Raises:
        TrainingError: bands are missing, or collections have different units.
    """
    from training.loading.counts import counts_of_source  # compiles its loop: not for those who only apply statistics

    def count() -> np.ndarray:
        source = Source(subset, bands=bands, times=times)
        return counts_of_source(source, slice(0, len(subset)), threads=num_threads(), progress=progress)

    return measured(subset, bands=bands, times=times, count=count)


def measured(
    subset: Subset,
    *,
    bands: Sequence[str],
    times: Times,
    count: Callable[[], np.ndarray],
    keep_in: Path | None = None,
    all_have: Callable[[bool], bool] = lambda here: here,
) -> Normalization:
    """Statistics of a subset, from its counts; or those that an earlier run left of the very same files.

    Args:
        subset: the samples.
        bands: names of the bands.
        times: see :func:`measure`.
        count: gives the counts of every chip, (C, 65536), if they are needed.
        keep_in: folder where statistics are found and left, see :mod:`training.loading.kept`; none where ``None``.
        all_have: whether all ranks have what this one has: either all of them count, or none.
    """
    from training.loading.kept import kept_path

    if not bands:
        return summarise(
            np.zeros((0, 1), dtype=np.int64), bands=(), unit="", num_samples=len(subset), data_hash=subset.hash
        )
    unit = unit_of(subset, bands)
    path = kept_path(keep_in, subset, bands=bands, times=times) if keep_in else None
    kept = _find(path) if path else None
    if keep_in and all_have(kept is not None) and kept:
        log.info("statistics of these %d samples were measured before: %s", len(subset), path)
        return kept
    found = summarise(count(), bands=bands, unit=unit, num_samples=len(subset), data_hash=subset.hash, times=times)
    if path:
        _keep(found, path)
    return found


def _find(path: Path) -> Normalization | None:
    """Statistics that an earlier run left at a path; ``None`` if there are none, or none that can be read."""
    try:
        return Normalization.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        log.warning("%s cannot be read (%s): the data are measured again", path, exc)
        return None


def _keep(normalization: Normalization, path: Path) -> None:
    """Leave statistics at a path, for later runs on the same data. Where nothing can be written, they go without."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        normalization.save(path)
    except OSError as exc:
        log.warning("%s cannot be written (%s): the next run measures these data again", path, exc)


def _moments(counts_K: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, from whole numbers without bounds: rounded once, the same on every machine."""
    held = np.flatnonzero(counts_K)
    n, total, squares = 0, 0, 0
    for level, count in zip(held.tolist(), counts_K[held].tolist(), strict=True):
        n, total, squares = n + count, total + count * level, squares + count * level * level
    return (total / n, math.sqrt((n * squares - total * total) / (n * n))) if n else (0.0, 0.0)


def _percentile(counts_K: np.ndarray, percent: float) -> float:
    """The lowest value that at least this share of the pixels does not exceed (numpy's ``inverted_cdf``)."""
    cumulative = counts_K.cumsum()
    return float(np.searchsorted(cumulative, percent / 100 * cumulative[-1]))
