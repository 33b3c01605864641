"""What a loader hands to a model: the samples of one batch, and what their bands are.

Shapes: B batch, T times, C bands, H W pixels, V views, D length of a feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pwcat.errors import TrainingError

if TYPE_CHECKING:
    from catalog.subset import Subset
    from pwcat.cube import Cube
    from training.osm.entities import Entities

__all__ = ["UNKNOWN_TIME", "Bands", "Batch"]

UNKNOWN_TIME = np.iinfo(np.int64).min  # as NumPy's NaT


@dataclass(frozen=True, kw_only=True)
class Bands:
    """What the bands of chips are: the value of a pixel is ``DN * scale + offset``, in ``unit``; 0 is no data.

    Attributes:
        names: of the bands, in order.
        scale: see above.
        offset: see above.
        unit: of the value; "1" for reflectance.
    """

    names: tuple[str, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    unit: tuple[str, ...]

    @classmethod
    def of(cls, subset: Subset, names: Sequence[str]) -> Bands:
        """What these bands of a subset are.

        Raises:
            TrainingError: its collections differ in it, or have no such band.
        """
        told = {collection.name: _bands(collection.cube, names) for collection in subset.collections}
        if len(set(told.values())) > 1:
            raise TrainingError(
                f"bands of {', '.join(told)} have other scales, offsets or units in each: take one of these collections"
            )
        return next(iter(told.values()))

    def select(self, names: Sequence[str]) -> Bands:
        """Some of these bands, in the order asked for.

        Raises:
            ValueError: one is not there.
        """
        places = [self.names.index(name) for name in names]
        return Bands(
            names=tuple(names),
            scale=tuple(self.scale[place] for place in places),
            offset=tuple(self.offset[place] for place in places),
            unit=tuple(self.unit[place] for place in places),
        )

    @classmethod
    def reflectance(cls, names: Sequence[str]) -> Bands:
        """Bands of reflectance times 10,000, as pwcat's cubes keep Sentinel-2."""
        n = len(names)
        return cls(names=tuple(names), scale=(1e-4,) * n, offset=(0.0,) * n, unit=("1",) * n)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of one batch.

    Attributes:
        chips: (B, T, C, H, W) uint16, digital numbers of the bands; ``None`` where features stand in for them.
        bands: what the bands are.
        lonlat: (B, 2) float64, degrees, EPSG:4326.
        times: (B, T) int64, seconds since 1970-01-01 UTC; ``UNKNOWN_TIME`` where unknown.
        rows: (B,) int64, rows of the subset.
        features: (B, V, D), what a frozen image tower makes of V views.
        entities: what lies on the map there, where the samples are tiles of one and the model asks for it.
    """

    chips: Tensor | None
    bands: Bands
    lonlat: Tensor
    times: Tensor
    rows: np.ndarray
    features: Tensor | None = None
    entities: Entities | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        """Where its chips or features are."""
        held = self.chips if self.chips is not None else self.features
        return self.lonlat.device if held is None else held.device

    def to(self, device: torch.device | str, *, non_blocking: bool = True) -> Batch:
        """The same batch on a device."""
        moved: dict[str, Any] = {
            name: tensor.to(device, non_blocking=non_blocking)
            for name in ("chips", "lonlat", "times", "features")
            if (tensor := getattr(self, name)) is not None
        }
        if self.entities is not None:
            moved["entities"] = self.entities.to(device, non_blocking=non_blocking)
        return replace(self, **moved)

    @property
    def months(self) -> Tensor:
        """(B, T) int64: 0 is January, 11 is December; -1 where the time is unknown."""
        seconds = self.times.cpu().numpy()
        months = seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % 12
        months[seconds == UNKNOWN_TIME] = -1
        return torch.from_numpy(months).to(self.times.device)

    def first(self, bands: Sequence[str]) -> Tensor:
        """Chips of the first time, (B, C, H, W) uint16, of these bands in this order.

        Raises:
            TrainingError: the batch holds features alone, or lacks a band.
        """
        if self.chips is None:
            raise TrainingError("this batch holds features, not chips")
        if missing := [band for band in bands if band not in self.bands.names]:
            raise TrainingError(
                f"the model reads bands {', '.join(bands)}, but the batch has {', '.join(self.bands.names)}: "
                f"{', '.join(missing)} are missing"
            )
        if tuple(bands) == self.bands.names:
            return self.chips[:, 0]
        # torch has not all of its kernels for unsigned words, and a card would wait for a list of indices
        words = self.chips.view(torch.int16)[:, 0]
        return torch.stack([words[:, self.bands.names.index(band)] for band in bands], dim=1).view(torch.uint16)

    @classmethod
    def of_chips(cls, chips: Tensor, *, bands: Sequence[str], lonlat: Tensor | None = None) -> Batch:
        """A batch of chips alone, (B, T, C, H, W) or (B, C, H, W): reflectance times 10,000, times unknown."""
        chips = chips if chips.ndim == 5 else chips.unsqueeze(1)
        n = len(chips)
        return cls(
            chips=chips,
            bands=Bands.reflectance(bands),
            lonlat=torch.full((n, 2), float("nan"), dtype=torch.float64) if lonlat is None else lonlat,
            times=torch.full((n, chips.shape[1]), UNKNOWN_TIME, dtype=torch.int64),
            rows=np.arange(n),
        )


def _bands(cube: Cube, names: Sequence[str]) -> Bands:
    if missing := [name for name in names if name not in cube.bands]:
        raise TrainingError(f"the data have bands {', '.join(cube.bands)}: {', '.join(missing)} are not among them")
    scale, offset = float(cube.attrs.get("scale", 1)), float(cube.attrs.get("offset", 0))
    known = dict(zip(cube.bands, cube.meanings, strict=False))
    sensed = [known[name] if name in known and known[name].sensor else None for name in names]
    return Bands(
        names=tuple(names),
        scale=tuple(band.scale if band else scale for band in sensed),
        offset=tuple(band.offset if band else offset for band in sensed),
        unit=tuple(band.unit if band else "1" for band in sensed),
    )
