"""What is on a tile of a map, from what else is there: the five tasks of GeoJEPA.

The label of a tile is of its whole map; its inputs lack the tags that would tell it. Source: GeoJEPA's task generator and the
thinning of its data (data/task_generator and pyscripts/prune_dataset.py at 675ce0b).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import CatalogError, TrainingError
from pwcat.osm.targets import TARGETS, Inputs, TagRule, Target
from training.osm.reading import holds_entities
from training.probing.kinds import Kind
from training.tasks.base import TaskData, TaskInfo
from training.tasks.chips import SubsetChips
from training.tasks.column import GROUPS
from training.tasks.sides import sides_of

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["CATALOG_TASKS", "MapTask"]

VERSION = 1  # to be raised when other labels or inputs are made of the same map
TITLES: Final[Mapping[Inputs, str]] = {
    "masked": "from a map without their tags",
    "removed": "from a map without what has their tags",
    "leaky": "from the whole map, which tells it",
}
REGION: Final = "map:region"  # column of the items, where the recipe names its boxes
# Beta of smooth L1 in the source's pyscripts/torch_transfer.py.
SMALL_ERRORS: Final = {"building-count": 5.0, "traffic-signals": 0.5, "max-speed": 1.0}


@dataclass(frozen=True, kw_only=True)
class MapTask:
    """A target of map tiles; tiles without a label, and most of those with label 0, are left out and counted.

    Attributes:
        target: of :data:`pwcat.osm.targets.TARGETS`.
        inputs: "masked", without the tags that tell it; "removed", without what has such tags; "leaky", as they are.
        zeros: share of the tiles with label 0 that take part, always the same ones; the source's where ``None``.
    """

    target: str
    inputs: Inputs = "masked"
    zeros: float | None = None

    @property
    def name(self) -> str:
        """The target's, and how its inputs are not the honest ones."""
        return self.target if self.inputs == "masked" else f"{self.target}-{self.inputs}"

    def open(self, subset: Subset) -> TaskData:
        """See :meth:`training.tasks.base.CatalogTask.open`."""
        target = TARGETS[self.target]
        labels_N = self._labels(subset)
        kept, left_out = self._kept(labels_N, subset.column("map:tile"))
        labelled, targets = subset.only(kept), self._targets(labels_N[kept])
        sides = sides_of(labelled)
        digest = hashlib.sha256(f"{subset.hash}\n{self}\n{VERSION}".encode())
        digest.update(np.ascontiguousarray(targets).tobytes())
        return TaskData(
            info=self._info(target, subset),
            ids=labelled.column("id"),
            lonlat=labelled.lonlat,
            splits=sides,
            targets=targets,
            chips=SubsetChips(subset=labelled, removing=self._rule),
            hash=digest.hexdigest(),
            groups={name: labelled.column(of) for name, of in GROUPS.items()} | _regions(labelled),
            left_out=left_out,
        )

    @property
    def kind(self) -> Kind:
        """What is predicted."""
        return "classification" if TARGETS[self.target].kind == "binary" else "regression"

    @property
    def _rule(self) -> TagRule | None:
        return None if self.inputs == "leaky" else TagRule(target=self.target, inputs=self.inputs)

    def _info(self, target: Target, subset: Subset) -> TaskInfo:
        names = ", ".join(each.name for each in subset.collections)
        binary = target.kind == "binary"
        return TaskInfo(
            name=self.name,
            title=f"{target.title} of {names}, {TITLES[self.inputs]}",
            kind=self.kind,
            metric="error_rate" if binary else "mae",
            classes=("none", "bridge") if binary else (),
            unit=target.unit,
            small_error=SMALL_ERRORS.get(self.target, 1.0),
            fit="resize",
            source=names,
        )

    def _labels(self, subset: Subset) -> NDArray[np.float64]:
        if not holds_entities(subset):
            names = ", ".join(each.name for each in subset.collections) or "an empty subset"
            raise TrainingError(
                f"task {self.name}: {names} is no collection of map tiles, on which something could be counted: take one that "
                "was built by a map recipe"
            )
        try:
            return subset.column(TARGETS[self.target].column).astype(np.float64)
        except CatalogError as exc:
            raise TrainingError(f"task {self.name}: {exc}") from exc

    def _kept(
        self, labels_N: NDArray[np.float64], tiles_N: NDArray[np.object_]
    ) -> tuple[NDArray[np.int64], dict[str, int]]:
        """Rows of the tiles that take part, and why others do not."""
        share = TARGETS[self.target].zeros_kept if self.zeros is None else self.zeros
        unknown_N = ~np.isfinite(labels_N)
        thinned_N = np.zeros(len(labels_N), dtype=bool)
        zeros = np.flatnonzero(labels_N == 0)
        thinned_N[zeros] = [_place(self.target, str(tile)) >= share for tile in tiles_N[zeros]]
        kept = np.flatnonzero(~unknown_N & ~thinned_N)
        told = {"no label": int(unknown_N.sum()), f"label 0, of which {share:.0%} are kept": int(thinned_N.sum())}
        left_out = {why: count for why, count in told.items() if count}
        if len(np.unique(labels_N[kept])) < 2:
            raise TrainingError(
                f"task {self.name}: {len(kept)} of {len(labels_N)} tiles have a label and take part, and two labels that "
                f"differ are needed ({', '.join(f'{why}: {n}' for why, n in left_out.items()) or 'none is left out'}): take "
                "more tiles, or more of those with label 0 (--zeros)"
            )
        return kept, left_out

    def _targets(self, labels_n: NDArray[np.float64]) -> NDArray[np.generic]:
        return labels_n.astype(np.int64) if TARGETS[self.target].kind == "binary" else labels_n


def _place(target: str, tile: str) -> float:
    """A number within 0..1 that a tile always has, whatever else takes part."""
    return int.from_bytes(hashlib.sha256(f"{target}\0{tile}".encode()).digest()[:8], "big") / 2**64


def _regions(subset: Subset) -> dict[str, NDArray[np.object_]]:
    """The named box that each tile lies in; where none are named, its collection, if there are several."""
    try:
        named = subset.column(REGION)
    except CatalogError:  # of recipes without named boxes
        named = np.full(len(subset), None, dtype=object)
    if any(each is not None for each in named):
        return {"region": named}
    return {"region": subset.column("collection")} if len(subset.collections) > 1 else {}


CATALOG_TASKS: Final = {
    task.name: task
    for target in TARGETS
    for inputs in get_args(Inputs)
    for task in [MapTask(target=target, inputs=inputs)]
}
