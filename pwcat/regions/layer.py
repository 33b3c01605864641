"""What a region layer is, whatever it was read from, and the layers of a recipe together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pwcat.errors import RegionError

__all__ = ["NONE", "RegionLayer", "Regions", "majority", "named", "require_class", "shares"]

# The code of a place that has no class.
NONE = -1


class RegionLayer(Protocol):
    """Says which class a place has: continent, biome, ecoregion, land cover, or whatever a file holds."""

    @property
    def name(self) -> str:
        """Key in the recipe's ``regions``."""
        ...

    @property
    def source(self) -> str:
        """Where it came from, for the record."""
        ...

    @property
    def classes(self) -> list[str]:
        """The classes, sorted; a code is an index into them."""
        ...

    @property
    def pixel_m(self) -> float | None:
        """Native sampling in metres; ``None`` where the layer has no pixels."""
        ...

    def codes(self, lonlat: NDArray[np.float64]) -> NDArray[np.int16]:
        """Code of each point, ``(n,)`` or ``(n, k)``; -1 where there is no class.

        Args:
            lonlat: ``(n, 2)`` or ``(n, k, 2)``, EPSG:4326; the ``k`` points of one chip lie near each other.
        """
        ...

    def label(self, lonlat: NDArray[np.float64]) -> NDArray[np.object_]:
        """Class of each point, in the shape of :meth:`codes`; ``None`` where there is none."""
        ...

    def possible(self, codes: Sequence[int] | None, *, margin_km: float = 0.0) -> NDArray[np.bool_]:
        """True in each cell of :mod:`pwcat.regions.cells` where a point with one of these codes can lie, ``(3600, 7200)``.

        Conservative: a False cell holds none, and none lies within the margin of it.

        Args:
            codes: ``None`` for any code at all.
            margin_km: geodesic.
        """
        ...

    def rough(self) -> RegionLayer | None:
        """A layer that answers nearly the same, for millions of points in seconds; itself where it does.

        ``None`` where every place is a request over a network.
        """
        ...


def named(codes: NDArray[np.int16], classes: Sequence[str]) -> NDArray[np.object_]:
    """The names of codes; ``None`` for -1."""
    names = np.array([*classes, None], dtype=object)
    return np.asarray(names[codes], dtype=object)


def shares(layer: RegionLayer, grids: NDArray[np.float64]) -> NDArray[np.float32]:
    """Share of each class over the points of a chip that have one, ``(n, K)``; rows of zeros where none has.

    Args:
        layer: with ``K`` classes.
        grids: ``(n, k, 2)``, longitude and latitude of ``k`` points spread evenly over each chip.
    """
    codes = layer.codes(grids)
    chips, classes = len(codes), len(layer.classes)
    rows, columns = np.nonzero(codes >= 0)
    cells = rows * classes + codes[rows, columns]
    counts = np.bincount(cells, minlength=chips * classes).reshape(chips, classes)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), dtype=np.float32)


def majority(shares_NK: NDArray[np.float32]) -> NDArray[np.int16]:
    """Code of the largest share of each row, ``(n,)``; ties go to the first by name, and -1 stands where there is none."""
    if not shares_NK.shape[1]:
        return np.full(len(shares_NK), NONE, dtype=np.int16)
    return np.where(shares_NK.any(axis=1), shares_NK.argmax(axis=1), NONE).astype(np.int16)


@dataclass(frozen=True, kw_only=True)
class Regions:
    """The layers of a recipe, by name; a layer that it leaves out labels nothing."""

    layers: Mapping[str, RegionLayer] = field(default_factory=dict)

    def get(self, name: str) -> RegionLayer | None:
        """The layer of that name, or ``None``."""
        return self.layers.get(name)

    def require(self, name: str) -> RegionLayer:
        """The layer of that name.

        Raises:
            RegionError: the recipe does not give it; says how.
        """
        if name not in self.layers:
            given = ", ".join(self.layers) or "none"
            raise RegionError(
                f"the layer {name!r} is not given (there are: {given}); add `regions.{name}` to the recipe: a dataset's "
                "name (`pwcat regions list` shows them), or a `path` with its `field` or `classes`"
            )
        return self.layers[name]

    def sources(self) -> dict[str, str]:
        """Where each layer came from, for the record."""
        return {name: layer.source for name, layer in self.layers.items()}


def require_class(value: str, classes: Iterable[str], *, layer: str) -> str:
    """The class as the layer spells it; case, spaces and underscores do not matter.

    Raises:
        RegionError: no such class; names the close matches and lists every class.
    """
    spelt = {_fold(name): name for name in classes}
    if _fold(value) in spelt:
        return spelt[_fold(value)]
    parts = [name for name in spelt if _fold(value) in name]
    close = dict.fromkeys([*parts, *difflib.get_close_matches(_fold(value), spelt, n=3, cutoff=0.5)])
    hint = f"did you mean {' or '.join(repr(spelt[name]) for name in [*close][:3])}? " if close else ""
    raise RegionError(f"unknown {layer} {value!r}: {hint}Known: {', '.join(sorted(spelt.values()))}")


def _fold(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())
