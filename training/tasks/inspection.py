"""What is in an opened task, in numbers: samples by class and side, what their bands hold, how many have a place and a date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.batch import UNKNOWN_TIME
from training.tasks.base import TaskData

__all__ = ["BandLook", "Inspected", "inspect"]

LOOKED_AT = 16  # samples whose pixels are read
BLOCK = 16


@dataclass(frozen=True, kw_only=True)
class BandLook:
    """Values of one band in a few samples, in its unit; NaN where all is no data."""

    name: str
    unit: str
    least: float
    middle: float
    most: float
    no_data: float


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """See the module.

    Attributes:
        counted: what ``classes`` counts: samples, or pixels of a few.
        splits: samples of each side.
        classes: of each class, those of each side; of a regression its least, middle and largest number instead.
        shape: times, bands, height and width of a sample.
        bands: what they hold in the samples that were looked at.
        looked_at: how many these are.
        placed: share of the samples whose place is known.
        dated: share of the samples that were looked at whose time is known.
        years: first and last of these times; ``None`` where none is known.
        left_out: why samples do not take part, and how many.
        groups: names of the groups that are known.
        hash: of the samples.
    """

    counted: str
    splits: dict[str, int]
    classes: dict[str, dict[str, int | float]]
    shape: tuple[int, int, int, int]
    bands: tuple[BandLook, ...]
    looked_at: int
    placed: float
    dated: float
    years: tuple[int, int] | None
    left_out: Mapping[str, int]
    groups: tuple[str, ...]
    hash: str

    def lines(self) -> Iterator[str]:
        """What tables do not tell, for people."""
        times, bands, height, width = self.shape
        if bands:
            yield f"A sample: {times} {'time' if times == 1 else 'times'}, {bands} bands, {height} x {width} pixels"
        known = f", of {self.years[0]} to {self.years[1]}" if self.years else ""
        yield f"Places known: {self.placed:.1%} of the samples. Dates known: {self.dated:.0%} of those looked at{known}"
        if self.groups:
            yield f"Groups known: {', '.join(self.groups)}"
        for reason, number in self.left_out.items():
            yield f"Left out, {reason}: {number:,}"
        yield f"Hash: {self.hash}"

    def to_json(self) -> dict[str, Any]:
        """For programs; numbers that are none are ``None``."""
        told = asdict(self)
        told["left_out"] = dict(self.left_out)
        for band in told["bands"]:
            band.update(
                {key: None for key, value in band.items() if isinstance(value, float) and not np.isfinite(value)}
            )
        return told


def inspect(data: TaskData) -> Inspected:
    """What is in a task: all of its labels, and the pixels of a few samples, spread over all."""
    rows = (
        np.unique(np.linspace(0, len(data) - 1, min(LOOKED_AT, len(data))).astype(np.int64))
        if len(data)
        else np.zeros(0, np.int64)
    )
    sides = [side for side in ("train", "val", "test") if (data.splits == side).any()]
    batches = list(data.batches(rows, bands=data.chips.bands.names, times="all", block=BLOCK))
    times = np.concatenate([batch.times.numpy().ravel() for batch in batches]) if batches else np.zeros(0, np.int64)
    known = times[times != UNKNOWN_TIME]
    years = known.astype("datetime64[s]").astype("datetime64[Y]").astype(int) + 1970
    counted, classes = _counted(data, rows, sides)
    return Inspected(
        counted=counted,
        splits={side: int((data.splits == side).sum()) for side in sides},
        classes=classes,
        shape=data.chips.shape,
        bands=tuple(_look(data, batches, place) for place in range(len(data.chips.bands.names))),
        looked_at=len(rows),
        placed=float(np.isfinite(data.lonlat).all(axis=1).mean()) if len(data) else 0.0,
        dated=float((times != UNKNOWN_TIME).mean()) if len(times) else 0.0,
        years=(int(years.min()), int(years.max())) if len(years) else None,
        left_out=data.left_out,
        groups=tuple(data.groups),
        hash=data.hash,
    )


def _look(data: TaskData, batches: list[Any], place: int) -> BandLook:
    bands = data.chips.bands
    numbers = np.concatenate([batch.chips[:, :, place].numpy().ravel() for batch in batches])
    there = numbers[numbers != 0].astype(np.float64) * bands.scale[place] + bands.offset[place]
    values = np.quantile(there, [0, 0.5, 1]) if len(there) else np.full(3, np.nan)
    least, middle, most = (float(value) for value in values)
    return BandLook(
        name=bands.names[place],
        unit=bands.unit[place],
        least=least,
        middle=middle,
        most=most,
        no_data=1 - len(there) / max(1, len(numbers)),
    )


def _counted(
    data: TaskData, rows: NDArray[np.int64], sides: list[str]
) -> tuple[str, dict[str, dict[str, int | float]]]:
    """What is to be predicted, by side."""
    of = {side: data.splits == side for side in sides}
    if data.info.kind == "regression":
        numbers = {side: np.asarray(data.targets, dtype=np.float64)[there] for side, there in of.items()}
        parts = {"least": 0.0, "middle": 0.5, "most": 1.0}
        return data.info.unit or "number", {
            part: {side: float(f"{np.quantile(values, at):.6g}") for side, values in numbers.items()}
            for part, at in parts.items()
        }
    if data.info.kind == "segmentation":
        masks, at = data.masks(rows), data.splits[rows]
        return f"pixels of {len(rows)} samples", {
            name: {side: int((masks[at == side] == code).sum()) for side in sides}
            for code, name in enumerate(data.info.classes)
        }
    hot = data.targets if data.targets.ndim == 2 else np.eye(data.num_classes, dtype=bool)[data.targets]
    return "label" if data.targets.ndim == 2 else "class", {
        name: {side: int(np.asarray(hot)[there, code].sum()) for side, there in of.items()}
        for code, name in enumerate(data.info.classes)
    }
