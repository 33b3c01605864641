"""Downstream tasks, by name: benchmarks, which are folders of official files, and columns of a catalog.

To add one: write a class that meets :class:`Benchmark` or :class:`CatalogTask`, put it into a mapping ``BENCHMARKS`` or
``CATALOG_TASKS`` of its module, and name the module below. A module is imported when one of its tasks is asked for. Where the
files of a benchmark can be fetched from is in the mapping ``ORIGINS`` of its module.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pwcat.errors import TrainingError
from pwcat.osm.targets import TARGETS
from training.tasks.base import Benchmark, CatalogTask, TaskData, TaskInfo
from training.tasks.column import ColumnTask

if TYPE_CHECKING:
    from training.tasks.files.fetching import Origin

__all__ = [
    "BENCHMARKS",
    "CATALOG_TASKS",
    "Benchmark",
    "CatalogTask",
    "TaskData",
    "TaskInfo",
    "folder_of",
    "open_task",
    "origin_of",
    "task_info",
    "unknown_task",
]

# Which module of training.tasks has each benchmark in its mapping BENCHMARKS.
BENCHMARK_MODULES = {
    "eurosat": "eurosat",
    "m-eurosat": "geobench",
    "m-bigearthnet": "geobench",
    "m-so2sat": "geobench",
    "m-brick-kiln": "geobench",
    "m-cashew-plant": "geobench",
    "m-SA-crop-type": "geobench",
    "fmow-sentinel": "fmow",
    "mosaiks-population": "mosaiks",
    "forty": "forty",
    "cropharvest": "cropharvest",
    "cropharvest-blocks": "cropharvest",
    "ecoregions": "ecoregions",
    "fuel-moisture": "fuel_moisture",
}

# Which module has each task of a catalog in its mapping CATALOG_TASKS.
CATALOG_MODULES = {
    "landcover": "column",
    "biome": "column",
    "continent": "column",
    "landcover-map": "landcover_map",
    **{f"{target}{inputs}": "map_targets" for target in TARGETS for inputs in ("", "-removed", "-leaky")},
}

# Any column is a task: its words are classes, its numbers are numbers.
COLUMN, NUMBER = "column:", "number:"

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Tasks by name, each of a module that is imported when the task is asked for."""

    def __init__(self, modules: Mapping[str, str], *, mapping: str) -> None:
        self._modules = modules
        self._mapping = mapping

    def __getitem__(self, name: str) -> T:
        module = importlib.import_module(f"{__name__}.{self._modules[name]}")
        found: T = getattr(module, self._mapping)[name]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)

    def __contains__(self, name: object) -> bool:
        return name in self._modules


class CatalogRegistry(Registry[CatalogTask]):
    """Tasks of a catalog by name; ``column:NAME`` and ``number:NAME`` are tasks too, of any column."""

    def __getitem__(self, name: str) -> CatalogTask:
        if name.startswith(COLUMN) and name != COLUMN:
            return ColumnTask(name=name, column=name.removeprefix(COLUMN))
        if name.startswith(NUMBER) and name != NUMBER:
            return ColumnTask(name=name, column=name.removeprefix(NUMBER), kind="regression")
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        columns = isinstance(name, str) and name.startswith((COLUMN, NUMBER)) and name not in {COLUMN, NUMBER}
        return columns or super().__contains__(name)


BENCHMARKS: Mapping[str, Benchmark] = Registry(BENCHMARK_MODULES, mapping="BENCHMARKS")
CATALOG_TASKS: Mapping[str, CatalogTask] = CatalogRegistry(CATALOG_MODULES, mapping="CATALOG_TASKS")


def task_info(name: str) -> TaskInfo | None:
    """What the benchmark of this name is; ``None`` of catalog tasks, which are known once they are opened.

    Raises:
        TrainingError: there is no task of this name.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name].info
    if name in CATALOG_TASKS:
        return None
    raise unknown_task(name)


def open_task(name: str, place: str | Path, *, min_samples: int | None = None, zeros: float | None = None) -> TaskData:
    """The samples of a task.

    Args:
        name: of :data:`BENCHMARKS` or :data:`CATALOG_TASKS`.
        place: the folder of a benchmark's files, or one that holds it under the benchmark's name; of a catalog task a subset
            file, a collection folder or a catalog folder.
        min_samples: of a catalog task: samples that a class needs to take part.
        zeros: of a task of map tiles: share of those with label 0 that take part.

    Raises:
        TrainingError: there is no such task, its files are missing or damaged, or the subset has no such labels.
    """
    if name in BENCHMARKS:
        for option, value in (("min_samples", min_samples), ("zeros", zeros)):
            if value is not None:
                raise TrainingError(f"task {name}: {option} is for tasks of a catalog; a benchmark's samples are fixed")
        return BENCHMARKS[name].open(folder_of(name, Path(place)))
    if name not in CATALOG_TASKS:
        raise unknown_task(name)
    from catalog.subset import load_subset

    return _limited(CATALOG_TASKS[name], min_samples=min_samples, zeros=zeros).open(load_subset(place))


def origin_of(name: str) -> Origin:
    """Where a benchmark's official files come from."""
    from training.tasks.files.fetching import Origin

    module = importlib.import_module(f"{__name__}.{BENCHMARK_MODULES[name]}")
    known: Mapping[str, Origin] = getattr(module, "ORIGINS", {})
    return known.get(name) or Origin(by_hand=f"get its official files from {BENCHMARKS[name].info.source}")


def folder_of(name: str, folder: Path) -> Path:
    """The folder of a benchmark's files: this one, or the one of its name in it, as ``pwcat tasks fetch`` makes it."""
    return folder / name if (folder / name).is_dir() else folder


def unknown_task(name: str) -> TrainingError:
    """The error that there is no task of this name."""
    return TrainingError(
        f"unknown task {name!r}: choose from {', '.join([*BENCHMARKS, *CATALOG_TASKS])}, or take any column of a catalog as "
        f"{COLUMN}NAME, or {NUMBER}NAME where it holds numbers"
    )


def _limited(task: CatalogTask, **options: float | None) -> CatalogTask:
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    known: set[str] = {field.name for field in fields(task)} if is_dataclass(task) else set()
    if unknown := [name for name in given if name not in known]:
        raise TrainingError(f"task {task.name} does not take {' or '.join(unknown)}")
    if not given:
        return task
    limited: Any = replace(task, **given)  # type: ignore[type-var]
    return limited  # type: ignore[no-any-return]
