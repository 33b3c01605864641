"""What a task is: samples, where they are, on which side of a split, and what is to be predicted of them.

Two kinds of task come to the same :class:`TaskData`: benchmarks, which are folders of official files (:class:`Benchmark`), and
columns of a catalog (:class:`CatalogTask`). All that evaluates works on :class:`TaskData` alone.

Shapes: N samples, T times, C bands, H W pixels, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.batch import Bands, Batch
from training.probing.kinds import Kind

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Benchmark", "CatalogTask", "Chips", "Fit", "Side", "TaskData", "TaskInfo"]

Side = Literal["train", "val", "test"]
Times = Literal["first", "all"]
# How chips of another size come to the size that a model reads.
Fit = Literal["resize", "crop"]


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """What is known of a task before any of its files is there.

    Attributes:
        name: as on the command line.
        title: for people.
        kind: what is predicted.
        metric: the one that tables show, of ``METRICS[kind]`` (:mod:`training.scores`).
        classes: names of the classes or labels, in the order of their codes; empty of a regression, or until it is opened.
        unit: of numbers.
        small_error: of numbers; the loss of a probe that takes account of it is squared below, and grows straight above.
        fit: how chips of another size come to that of a model: benchmarks of whole images are resized.
        pixel_m: side of a pixel on the ground, metres, where all chips have the same; 0 where it is not known.
        source: address of the official files.
        licence: of the data, by its SPDX name where it has one.
        citation: authors, year, title.
        size: of the files and the samples, in words.
    """

    name: str
    title: str
    kind: Kind
    metric: str
    classes: tuple[str, ...] = ()
    unit: str = ""
    small_error: float = 1.0
    fit: Fit = "resize"
    pixel_m: float = 0.0
    source: str = ""
    licence: str = ""
    citation: str = ""
    size: str = ""


class Chips(Protocol):
    """Reads the pixels of samples."""

    @property
    def bands(self) -> Bands:
        """What its bands are, in order; none where there are places alone."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, C, H, W) of a sample; zeros where there are places alone."""

    def batches(
        self, rows: NDArray[np.int64], *, bands: Sequence[str], times: Times, block: int, entities: bool = False
    ) -> Iterator[Batch]:
        """These samples in this order, at most ``block`` at a time, with these bands in this order.

        Args:
            rows: which samples.
            bands: names of the bands; without any, no chips are read.
            times: the first of each sample, or all.
            block: samples at a time.
            entities: of maps, whether to read what lies on their tiles too.

        Raises:
            TrainingError: they cannot be read, or are no tiles of maps.
        """

    def masks(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """Class of each pixel, (n, H, W), -1 where there is none.

        Raises:
            TrainingError: its samples have no masks.
        """


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """An opened task.

    Attributes:
        info: what the task is, with its classes.
        ids: name of each sample, (N,), unique.
        lonlat: (N, 2) degrees, EPSG:4326; NaN where unknown.
        splits: "train", "val" or "test" of each sample, (N,).
        targets: (N,) int64 classes; (N, K) bool labels; (N,) float64 numbers; (N, 0) of a segmentation, which has masks.
        chips: reads their pixels.
        hash: identifies the samples, their labels and splits, and how their files are read.
        groups: of each sample its "continent", "biome" and "landcover", (N,) each, ``None`` where unknown: see
            :mod:`training.tasks.regions`.
        left_out: why samples do not take part, and how many.
    """

    info: TaskInfo
    ids: NDArray[np.object_]
    lonlat: NDArray[np.float64]
    splits: NDArray[np.object_]
    targets: NDArray[np.generic]
    chips: Chips
    hash: str
    groups: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.ids)
        lengths = {"lonlat": len(self.lonlat), "splits": len(self.splits), "targets": len(self.targets)}
        lengths |= {name: len(group) for name, group in self.groups.items()}
        if wrong := {name: length for name, length in lengths.items() if length != n}:
            raise TrainingError(f"task {self.info.name}: {n} samples, but {wrong}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_classes(self) -> int:
        """Classes or labels; 0 of a regression."""
        return len(self.info.classes)

    def batches(
        self,
        rows: NDArray[np.int64] | None = None,
        *,
        bands: Sequence[str],
        times: Times = "first",
        block: int = 256,
        entities: bool = False,
    ) -> Iterator[Batch]:
        """Samples in the order of ``rows`` (all by default), at most ``block`` at a time; a batch's ``rows`` are those."""
        wanted = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        return self.chips.batches(wanted, bands=bands, times=times, block=block, entities=entities)

    def masks(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """Class of each pixel of a segmentation, (n, H, W), -1 where there is none."""
        return self.chips.masks(np.asarray(rows, dtype=np.int64))

    def with_groups(self, groups: Mapping[str, NDArray[np.object_]]) -> TaskData:
        """The same with what groups its samples are in."""
        return replace(self, groups={**self.groups, **groups})


class Benchmark(Protocol):
    """A task whose samples are a folder of official files; to add one, see ``docs/adding-a-task.md``."""

    @property
    def info(self) -> TaskInfo:
        """What it is."""

    def faults(self, folder: Path) -> list[str]:
        """What is missing or half-downloaded in a folder, a line each, with where to get it; empty where all is there."""

    def open(self, folder: Path) -> TaskData:
        """The samples of a folder.

        Raises:
            TrainingError: files are missing, damaged or of another layout; tells all of :meth:`faults`.
        """


class CatalogTask(Protocol):
    """A task whose samples are a subset of a catalog, and whose targets the catalog knows."""

    @property
    def name(self) -> str:
        """As on the command line."""

    def open(self, subset: Subset) -> TaskData:
        """The labelled samples of a subset; its "val" part is tested on.

        Raises:
            TrainingError: the subset has no such labels, or too few to be scored.
        """
