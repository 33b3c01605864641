"""The land cover of each pixel of a catalog's chips, by the layer that their recipe names, as a task.

The class of a pixel is that of the layer at its centre: the chip's grid says where that is, and the layer's own pixels may be
finer or coarser, in another CRS, or a collection of files that a STAC API is asked for.

Shapes: n chips, H W pixels of a chip, k = H * W.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from catalog.importers.importer import Grid
from catalog.importers.labels import metres_of, to_lonlat
from pwcat.errors import CatalogError, TrainingError
from pwcat.layers import Layer
from pwcat.origin import noted_recipe
from pwcat.providers import open_source
from pwcat.recipe import Recipe, load_recipe
from pwcat.regions import RegionLayer, open_layer
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import SubsetChips
from training.tasks.column import GROUPS
from training.tasks.sides import sides_of

if TYPE_CHECKING:
    from catalog.query import Collection
    from catalog.subset import Subset

__all__ = ["CATALOG_TASKS", "LandcoverMapTask", "Masks"]

NO_CLASS = -1
LAYER = "landcover"
PIXELS_AT_ONCE = 1 << 18  # whose places are computed and asked for together
KEPT_MB = 256  # of masks


@dataclass(frozen=True, kw_only=True)
class LandcoverMapTask:
    """Predict the land cover of each pixel.

    Attributes:
        name: of the task.
        layer: another layer than those of the collections' recipes, of whatever classes.
        kept_mb: MB of masks that are kept in memory once they have been read.
    """

    name: str = "landcover-map"
    layer: RegionLayer | None = None
    kept_mb: float = KEPT_MB

    def open(self, subset: Subset) -> TaskData:
        """See :meth:`training.tasks.base.CatalogTask.open`; the layers are opened now, and their pixels read when asked for.

        Raises:
            TrainingError: a collection has no such layer, its layer cannot be found, or its items do not say where their
                pixels are.
        """
        if not len(subset):
            raise TrainingError(f"task {self.name}: the subset holds no samples")
        layers = _Opened(task=self.name, given=self.layer)
        of_part = {collection.name: layers.of(collection) for collection in subset.collections}
        classes = tuple(sorted({name for layer in of_part.values() for name in layer.classes}))
        grids = _grids(subset, self.name)
        masks = Masks(
            grids=grids,
            layers=[of_part[collection.name] for collection, _ in subset.parts()],
            starts=[rows.start for _, rows in subset.parts()],
            classes=classes,
            kept_mb=self.kept_mb,
            alive=layers,
        )
        info = TaskInfo(
            name=self.name,
            title=f"land cover of each pixel of {', '.join(of_part)}",
            kind="segmentation",
            metric="miou",
            classes=classes,
            fit="crop",
            pixel_m=_pixel_m(grids),
            source=", ".join(sorted({layer.source for layer in of_part.values()})),
        )
        told = [subset.hash, self.name, *layers.told, *classes]
        return TaskData(
            info=info,
            ids=subset.column("id"),
            lonlat=subset.lonlat,
            splits=sides_of(subset),
            targets=np.empty((len(subset), 0)),
            chips=SubsetChips(subset=subset, read_masks=masks),
            hash=hashlib.sha256("\n".join(told).encode()).hexdigest(),
            groups={name: subset.column(of) for name, of in GROUPS.items() if of in subset.table.column_names},
        )


class Masks:
    """Reads the class of each pixel of chips, and keeps what was read last.

    Args:
        grids: of all chips.
        layers: that say the classes, each of the chips from one row on.
        starts: the first row of each layer, ascending, from 0.
        classes: names of the classes, in the order of their codes.
        kept_mb: MB of masks that are kept.
        alive: is kept as long as the masks can be asked for.

    Raises:
        TrainingError: the chips are not all of one size.
    """

    def __init__(
        self,
        *,
        grids: Sequence[Grid],
        layers: Sequence[RegionLayer],
        starts: Sequence[int],
        classes: Sequence[str],
        kept_mb: float = KEPT_MB,
        alive: object = None,
    ) -> None:
        sizes = sorted({(grid.height, grid.width) for grid in grids})
        if len(sizes) != 1:
            raise TrainingError(
                f"chips are of several sizes ({', '.join(f'{h} x {w}' for h, w in sizes)} pixels): take collections whose "
                "chips are alike"
            )
        self._grids, self._layers, self._alive = grids, layers, alive
        self._starts = np.asarray(starts, dtype=np.int64)
        self.shape: tuple[int, int] = sizes[0]
        codes = {name: code for code, name in enumerate(classes)}
        # of each layer, the code of each of its own; the last stands for none
        self._codes = [np.array([*(codes[name] for name in layer.classes), NO_CLASS], np.int16) for layer in layers]
        self._kept: OrderedDict[int, NDArray[np.int16]] = OrderedDict()
        self._most = int(kept_mb * 1e6 / (2 * self.shape[0] * self.shape[1]))
        self._lock = threading.Lock()

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """Class of each pixel of these chips, (n, H, W), -1 where there is none."""
        with self._lock:
            here = {int(row): self._kept[int(row)] for row in rows if int(row) in self._kept}
            missing = sorted({int(row) for row in rows} - here.keys())
            step = max(1, PIXELS_AT_ONCE // (self.shape[0] * self.shape[1]))
            for part in (missing[start : start + step] for start in range(0, len(missing), step)):
                here.update(self._read(part))
            for row in dict.fromkeys(rows.tolist()):
                self._kept[row] = here[row]
                self._kept.move_to_end(row)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return np.stack([here[int(row)] for row in rows]) if len(rows) else np.empty((0, *self.shape), np.int16)

    def _read(self, rows: Sequence[int]) -> Mapping[int, NDArray[np.int16]]:
        found: dict[int, NDArray[np.int16]] = {}
        of_layer = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(of_layer):
            asked = [row for row, of in zip(rows, of_layer, strict=True) if of == number]
            own = self._layers[number].codes(_centres([self._grids[row] for row in asked]))
            masks_nHW = self._codes[number][own].reshape(len(asked), *self.shape)
            found.update(zip(asked, masks_nHW, strict=True))
        return found


class _Opened:
    """Layers of recipes, held open as long as this lives; recipes that say the same share one."""

    def __init__(self, *, task: str, given: RegionLayer | None) -> None:
        self._task, self._given = task, given
        self._stack = ExitStack()
        self._layers: dict[str, RegionLayer] = {}
        self._told: set[str] = set()
        weakref.finalize(self, self._stack.close)

    @property
    def told(self) -> list[str]:
        """What identifies the layers, on any computer: where each came from, and what its recipe says of it."""
        return sorted(self._told) if self._given is None else [self._given.source]

    def of(self, collection: Collection) -> RegionLayer:
        """The layer of a collection."""
        if self._given is not None:
            return self._given
        recipe, base = self._recipe(collection)
        layer = recipe.regions.get(LAYER)
        if layer is None:
            raise TrainingError(
                f"task {self._task}: the recipe of {collection.name} names no land cover (regions.{LAYER}), so its pixels "
                "have no classes: build a collection whose recipe does, or give a layer (LandcoverMapTask(layer=...))"
            )
        key = f"{layer.model_dump_json()}\n{recipe.source.model_dump_json() if layer.collection else ''}\n{base}"
        if key not in self._layers:
            self._layers[key] = self._open(layer, recipe, base)
            self._told.add(f"{self._layers[key].source} {layer.model_dump_json()}")
        return self._layers[key]

    def _open(self, layer: Layer, recipe: Recipe, base: Path) -> RegionLayer:
        needed = layer.collection is not None
        source = self._stack.enter_context(open_source(recipe.source, base_dir=base)) if needed else None
        return open_layer(LAYER, layer, base_dir=base, source=source)

    def _recipe(self, collection: Collection) -> tuple[Recipe, Path]:
        """The recipe of a collection, and where its relative paths start: where it lay, if it still does."""
        if (noted := noted_recipe(collection.path)) is not None and noted[1].hash == collection.recipe_hash:
            return noted[1], noted[0].parent
        path = collection.path / "recipe.yaml"
        if not path.is_file():
            raise TrainingError(
                f"task {self._task}: {collection.name} was added from elsewhere, and no recipe says which land cover its "
                "pixels have: give a layer (LandcoverMapTask(layer=...))"
            )
        return load_recipe(path, planned=True), path.parent


def _grids(subset: Subset, task: str) -> list[Grid]:
    columns = [subset.column(name) for name in ("proj:code", "proj:transform", "proj:shape")]
    unknown = sum(any(value is None for value in values) for values in zip(*columns, strict=True))
    if unknown:
        raise TrainingError(
            f"task {task}: {unknown} of {len(subset)} samples do not say where their pixels are (proj:code, "
            "proj:transform, proj:shape of their items): leave them out"
        )
    return [
        Grid(str(code), tuple(float(number) for number in transform), int(shape[0]), int(shape[1]))  # type: ignore[arg-type]
        for code, transform, shape in zip(*columns, strict=True)
    ]


def _pixel_m(grids: Sequence[Grid]) -> float:
    """Side of a pixel, metres; 0 where chips differ in it."""
    sides = {round(metres_of(grid), 6) for grid in grids}
    return sides.pop() if len(sides) == 1 else 0.0


def _centres(grids: Sequence[Grid]) -> NDArray[np.float64]:
    """Longitude and latitude of the pixels' centres, (n, k, 2), row by row."""
    height, width = grids[0].height, grids[0].width
    across, down = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    try:
        return to_lonlat(grids, across, down).reshape(len(grids), -1, 2)
    except CatalogError as exc:
        raise TrainingError(str(exc)) from exc


CATALOG_TASKS = {"landcover-map": LandcoverMapTask()}
