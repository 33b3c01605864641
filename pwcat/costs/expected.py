"""What a plan promises before a pixel is read: how diverse its samples are, and how far they lie from each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pwcat.entropy import shannon_entropy
from pwcat.geo.geodesy import SiteIndex, geodesic_km

__all__ = ["Distances", "Diversity", "class_codes", "expected_diversity", "layers_of", "site_distances"]

# Columns of text in a plan that are no region layer.
NO_LAYERS = frozenset({"id", "stratum", "split"})

# By how much of itself the distance of a validation site may be too large, where many training sites are about as far.
TOLERANCE = 0.001


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """How evenly the samples are spread over the classes of a layer.

    Attributes:
        shannon: entropy in nats, within ``[0, ln classes]``; ``None`` where no sample has a class.
        effective: number of classes of equal share that have this entropy, ``exp(shannon)``.
        classes: how many are present.
        labelled: share of the samples that have a class.
    """

    shannon: float | None
    effective: float | None
    classes: int
    labelled: float


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Geodesic distances between sites, kilometres on WGS84.

    Attributes:
        spacing: smallest between two sites; ``None`` for fewer than two.
        split_smallest: smallest between a training and a validation site; ``None`` where there is but one split.
        split_median: median, over validation sites, of the distance to the nearest training site.
    """

    spacing: float | None
    split_smallest: float | None
    split_median: float | None


def class_codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    """A column of text as numbers, ``(n,)`` with -1 for none, and the names that they stand for."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    chunks = column.unify_dictionaries().chunks
    if not chunks:
        return np.empty(0, dtype=np.int64), []
    codes = np.concatenate([chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in chunks])
    return codes.astype(np.int64), chunks[0].dictionary.to_pylist()


def expected_diversity(table: pa.Table) -> dict[str, Diversity]:
    """The diversity of a plan's samples by layer, as a build would find it if every sample could be read.

    Land cover is told twice: by the class that covers most of each chip, as the catalog does, and by area
    (``landcover_area``), where each chip counts with the shares of all its classes.
    """
    found = {name: _diversity(*_counts(table[name]), samples=len(table)) for name in layers_of(table)}
    if "landcover_fractions" in table.column_names:
        areas, labelled = _areas(table["landcover_fractions"])
        found["landcover_area"] = _diversity(areas, labelled, samples=len(table))
    return found


def layers_of(table: pa.Table) -> list[str]:
    """The columns of a plan that hold classes of a region layer."""
    return [field.name for field in table.schema if is_text(field.type) and field.name not in NO_LAYERS]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, plain or dictionary-encoded."""
    return pa.types.is_string(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _counts(column: pa.ChunkedArray) -> tuple[NDArray[np.float64], int]:
    """Samples by class, and how many have one."""
    codes, names = class_codes(column)
    counts = np.bincount(codes[codes >= 0], minlength=len(names)).astype(np.float64)
    return counts, int(counts.sum())


def _areas(column: pa.ChunkedArray) -> tuple[NDArray[np.float64], int]:
    """Area by class in chips, and how many samples have any; chunk by chunk, for a list of a million is large."""
    areas: dict[str, float] = {}
    labelled = 0
    for chunk in column.chunks:
        labelled += int(np.count_nonzero(chunk.value_lengths().fill_null(0)))
        shares = chunk.flatten()
        codes, names = class_codes(pa.chunked_array([shares.field("name")]))
        sums = np.bincount(codes[codes >= 0], weights=shares.field("fraction").to_numpy()[codes >= 0])
        for name, area in zip(names, sums.tolist(), strict=False):
            areas[name] = areas.get(name, 0.0) + area
    return np.array(list(areas.values())), labelled


def _diversity(counts_K: NDArray[np.float64], labelled: int, *, samples: int) -> Diversity:
    entropy = shannon_entropy(counts_K) if labelled else math.nan
    return Diversity(
        shannon=None if math.isnan(entropy) else entropy,
        effective=None if math.isnan(entropy) else math.exp(entropy),
        classes=int((counts_K > 0).sum()),
        labelled=labelled / samples if samples else 0.0,
    )


def site_distances(lonlat: NDArray[np.float64], is_val: NDArray[np.bool_]) -> Distances:
    """Distances between the sites of a plan; the smallest are exact, the median to .1 %.

    Args:
        lonlat: ``(n, 2)`` EPSG:4326, in the plan's order.
        is_val: ``(n,)``, which are for validation.
    """
    train, val = lonlat[~is_val], lonlat[is_val]
    smallest, median = _apart(train, val) if len(train) and len(val) else (None, None)
    return Distances(spacing=_spacing(lonlat), split_smallest=smallest, split_median=median)


def _apart(train: NDArray[np.float64], val: NDArray[np.float64]) -> tuple[float, float]:
    """Smallest and median distance of a validation site to the nearest training site."""
    index = SiteIndex(train)
    about = index.nearest_km(val, tolerance=TOLERANCE)
    nearest = val[about <= about.min() * (1 + 2 * TOLERANCE)]
    return float(index.nearest_km(nearest).min()), float(np.median(about))


def _spacing(lonlat: NDArray[np.float64]) -> float | None:
    """Smallest distance between two sites.

    Neighbours in the plan's Hilbert order are near each other, so that few pairs are nearer than the nearest of them.
    """
    if len(lonlat) < 2:
        return None
    bound = float(geodesic_km(lonlat[:-1], lonlat[1:]).min())
    nearer = SiteIndex(lonlat).pairs_within(bound) if bound else np.empty((0, 2), dtype=np.intp)
    return min(bound, float(geodesic_km(lonlat[nearer[:, 0]], lonlat[nearer[:, 1]]).min(initial=np.inf)))
