"""Per-band statistics of an exact subset, and the scaling of chips to a model's input.

Statistics come from counts of every digital number, one histogram a band: counts add exactly, so that blocks may come
in any order and size, and mean, standard deviation and percentiles are those of the whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from training.loader import DEFAULT_BLOCK, read_blocks

if TYPE_CHECKING:
    from catalog.subset import Subset
    from pwcat.cube import Cube

__all__ = ["Normalization", "band_counts", "measure", "summarise", "unit_of"]

LEVELS = 65536  # digital numbers are uint16
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
        num_pixels: pixels that held data, in each band; pixels of 0 (no data) are left out.
        num_samples: chips measured.
        data_hash: hash of the subset measured.
    """

    bands: tuple[str, ...]
    unit: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    percentiles: dict[str, tuple[float, ...]]
    num_pixels: tuple[int, ...]
    num_samples: int
    data_hash: str

    def apply(self, chips_BCHW: Tensor) -> Tensor:
        """Chips scaled to float32 within 0..1, on their device: ``clip((x - (mean - 2 std)) / (4 std), 0, 1)``.

        SatMAE's scaling, without its rounding to 256 levels. Source: SatMAE, ``util/datasets.py`` (as described in its
        appendix): mean ± 2 std spans the range, what is beyond is clipped.
        """
        shape = (1, -1, 1, 1)
        mean = torch.tensor(self.mean, dtype=torch.float32, device=chips_BCHW.device).view(shape)
        std = torch.tensor(self.std, dtype=torch.float32, device=chips_BCHW.device).view(shape)
        std = std.clamp_min(1e-6)  # a band without any spread becomes 0.5, not NaN
        return ((chips_BCHW.float() - mean) / (4 * std) + 0.5).clamp_(0, 1)

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


def band_counts(chips_NCHW: np.ndarray) -> np.ndarray:
    """How often each digital number occurs in each band, (C, 65536) int64."""
    bands = chips_NCHW.swapaxes(0, 1)
    return np.stack([np.bincount(band.ravel(), minlength=LEVELS) for band in bands])


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


def _unit(cube: Cube, bands: Sequence[str] | None) -> str:
    scale, offset = float(cube.attrs.get("scale", 1)), float(cube.attrs.get("offset", 0))
    plain = f"DN, reflectance*{1 / scale:g}" + (f", offset {offset:g}" if offset else "")
    meant = {band: meaning for band, meaning in zip(cube.bands, cube.meanings, strict=False) if meaning.sensor}
    asked = [band for band in (cube.bands if bands is None else bands) if band in meant]
    return "; ".join(
        [plain, *(f"{band}: {meant[band].unit} = DN*{meant[band].scale:g}{meant[band].offset:+g}" for band in asked)]
    )


def summarise(
    counts_CK: np.ndarray, *, bands: Sequence[str], unit: str, num_samples: int, data_hash: str
) -> Normalization:
    """Statistics from added-up :func:`band_counts`; no data (0) is left out.

    Raises:
        TrainingError: a band holds no data at all.
    """
    counts_CK = counts_CK.copy()
    counts_CK[:, NODATA] = 0
    pixels_C = counts_CK.sum(axis=1)
    if empty := [band for band, pixels in zip(bands, pixels_C, strict=True) if pixels == 0]:
        raise TrainingError(f"bands {', '.join(empty)} hold no data in any chip of this subset: choose other samples")
    levels = np.arange(LEVELS, dtype=np.float64)
    mean_C = counts_CK @ levels / pixels_C
    var_C = np.array([row @ (levels - m) ** 2 for row, m in zip(counts_CK, mean_C, strict=True)]) / pixels_C
    return Normalization(
        bands=tuple(bands),
        unit=unit,
        mean=tuple(mean_C.tolist()),
        std=tuple(np.sqrt(var_C).tolist()),
        percentiles={str(p): tuple(_percentile(row, p) for row in counts_CK) for p in PERCENTILES},
        num_pixels=tuple(pixels_C.tolist()),
        num_samples=num_samples,
        data_hash=data_hash,
    )


def measure(subset: Subset, *, bands: Sequence[str], blocks: Iterable[np.ndarray] | None = None) -> Normalization:
    """Statistics of the first time of every chip of a subset, read a block at a time.

    Args:
        subset: the samples.
        bands: names of the bands to measure, in order; all must be in the subset.
        blocks: the chips, (n, C, H, W) with these bands, where the caller holds them already.
    """
    if blocks is None:
        blocks = read_blocks(subset, bands=bands, block=DEFAULT_BLOCK)
    total = np.zeros((len(bands), LEVELS), dtype=np.int64)
    for chips in blocks:
        total += band_counts(chips)
    return summarise(total, bands=bands, unit=unit_of(subset, bands), num_samples=len(subset), data_hash=subset.hash)


def _percentile(counts_K: np.ndarray, percent: float) -> float:
    """The lowest value that at least this share of the pixels does not exceed (numpy's ``inverted_cdf``)."""
    cumulative = counts_K.cumsum()
    return float(np.searchsorted(cumulative, percent / 100 * cumulative[-1]))
