"""How diverse a dataset is over classes: entropy, Hill numbers, evenness, by samples or by area, from what adds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.measures.rarefaction import SIZES, rarefy
from catalog.measures.sums import SHARE_UNIT, AreaTally
from catalog.pairs import pairs_on_earth
from pwcat.entropy import entropies, evenness, hill_number, shannon_entropy

__all__ = [
    "describe_area",
    "describe_classes",
    "describe_coverage",
    "describe_things",
    "evenness",
    "hill_number",
    "shannon_entropy",
]

ESTIMATOR = "plug-in"
VERSION = "1.1"
AREA_ESTIMATOR = "plug-in of mean shares"
COVERAGE_ESTIMATOR = "occupied cells"

# Bootstrap of the confidence intervals: resamples and the quantiles of a 95 % interval.
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)
# Of a map's tags there may be a hundred thousand classes: so many are told, and so many numbers resampled.
MOST_TOLD = 100
MOST_RESAMPLED, FEWEST_RESAMPLES = 4_000_000, 100


def describe_classes(counts: Mapping[str, int], *, num_samples: int, layer: str | None) -> dict[str, Any]:
    """The diversity of one layer, ready for ``stats.json``; NaN is ``None`` there.

    Args:
        counts: samples by class; samples without a class are in none of them.
        num_samples: all samples, those without a class included.
        layer: where the classes come from.
    """
    counts = dict(sorted(counts.items()))
    values = np.array(list(counts.values()), dtype=np.int64)
    return {
        **_diversity(values.astype(np.float64), _resampled_counts(values)),
        "rarefied": _rarefied(values),
        "num_classes": len(counts),
        "num_samples": num_samples,
        "num_labelled": int(values.sum()),
        "counts": counts,
        "unit": "nat",
        "estimator": ESTIMATOR,
        "interval": f"95 %, multinomial bootstrap of {RESAMPLES}, less its bias",
        "version": VERSION,
        "layer": layer,
    }


def describe_things(counts: Mapping[str, int], *, num_samples: int, layer: str | None) -> dict[str, Any]:
    """The diversity of what a map holds, as :func:`describe_classes` has it; of very many classes the most frequent are told.

    Args:
        counts: things by class.
        num_samples: tiles that they lie on.
        layer: where the classes come from.
    """
    values = np.array([count for _, count in sorted(counts.items())], dtype=np.int64)
    resamples = max(FEWEST_RESAMPLES, min(RESAMPLES, MOST_RESAMPLED // max(len(values), 1)))
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return {
        **_diversity(values.astype(np.float64), _resampled_counts(values, resamples)),
        "rarefied": _rarefied(values),
        "num_classes": len(counts),
        "num_samples": num_samples,
        "num_labelled": int(values.sum()),
        "counts": dict(sorted(ranked[:MOST_TOLD])),
        "unit": "nat",
        "estimator": ESTIMATOR,
        "interval": f"95 %, multinomial bootstrap of {resamples}, less its bias",
        "version": VERSION,
        "layer": layer,
    }


def describe_area(area: AreaTally, *, num_samples: int, layer: str | None) -> dict[str, Any]:
    """The diversity of land cover by area, where each sample counts as one and is shared among its classes.

    The interval is of the mean shares: draws from the normal distribution that their covariance over samples gives.

    Args:
        area: shares of the samples.
        num_samples: all samples, those without shares included.
        layer: where the classes come from.
    """
    names = sorted(area.sums)
    sums = np.array([area.sums[name] * SHARE_UNIT for name in names])
    return {
        **_diversity(sums, _resampled_shares(area, names, sums)),
        "num_classes": len(names),
        "num_samples": num_samples,
        "num_labelled": area.num_samples,
        "shares": {name: float(part) for name, part in zip(names, sums / max(sums.sum(), SHARE_UNIT), strict=True)},
        "unit": "nat",
        "estimator": AREA_ESTIMATOR,
        "interval": f"95 %, {RESAMPLES} normal draws of the mean shares",
        "version": VERSION,
        "layer": layer,
    }


def describe_coverage(
    cells: Mapping[tuple[str, str], int], *, num_samples: int, layers: Mapping[str, str | None]
) -> dict[str, Any]:
    """Which pairs of biome and continent hold samples, of those that are on Earth.

    Which these are is known for the layers ``resolve-2017`` and ``natural-earth``. For others ``num_on_earth`` and
    ``share`` are ``None``, and there are but the pairs of the biomes and continents present, ``num_present``.

    Args:
        cells: samples by biome and continent.
        num_samples: all samples, those without either included.
        layers: where the classes come from.
    """
    counts: dict[str, dict[str, int]] = {}
    for (biome, continent), count in sorted(cells.items()):
        counts.setdefault(biome, {})[continent] = count
    continents = {continent for _, continent in cells}
    values = np.array([count for _, count in sorted(cells.items())], dtype=np.int64)
    on_earth = pairs_on_earth(layers)
    return {
        "num_cells": len(cells),
        "num_on_earth": len(on_earth) if on_earth else None,
        "share": len(on_earth & cells.keys()) / len(on_earth) if on_earth else None,
        "num_present": len(counts) * len(continents),
        **_diversity(values.astype(np.float64), _resampled_counts(values)),
        "rarefied": _rarefied(values),
        "num_biomes": len(counts),
        "num_continents": len(continents),
        "num_samples": num_samples,
        "num_labelled": int(values.sum()),
        "counts": counts,
        "unit": "cell of biome and continent",
        "estimator": COVERAGE_ESTIMATOR,
        "interval": f"95 %, multinomial bootstrap of {RESAMPLES}, less its bias",
        "version": VERSION,
        "layer": " × ".join(layers.get(name) or name for name in ("biome", "continent")),
    }


def _diversity(counts_K: NDArray[np.float64], resampled_RK: NDArray[np.float64]) -> dict[str, Any]:
    """Entropy, Hill numbers and evenness of counts or areas, with intervals by what was resampled."""
    numbers = {
        "shannon": shannon_entropy(counts_K) if len(counts_K) else math.nan,
        "hill_0": hill_number(counts_K, q=0),
        "hill_1": hill_number(counts_K, q=1),
        "hill_2": hill_number(counts_K, q=2),
        "evenness": evenness(counts_K),
    }
    intervals = _intervals(numbers, resampled_RK)
    low, high = intervals["shannon"] or (None, None)
    return {
        **{name: None if math.isnan(number) else number for name, number in numbers.items()},
        "ci_low": low,
        "ci_high": high,
        "intervals": intervals,
    }


def _intervals(numbers: Mapping[str, float], resampled_RK: NDArray[np.float64]) -> dict[str, list[float] | None]:
    """Intervals of entropy, Hill numbers 1 and 2, and evenness; ``None`` where nothing was resampled.

    They are percentiles, less the bias: counts drawn anew are less even than those they are drawn from, by about as
    much as these are less even than the truth. Bounds stay within what the classes seen can reach. Resampling never
    shows a class that was not seen, so that the number of classes has none.
    """
    if not resampled_RK.size:
        return dict.fromkeys(("shannon", "hill_1", "hill_2", "evenness"))
    shannon = entropies(resampled_RK)
    shares = resampled_RK / resampled_RK.sum(axis=1, keepdims=True)
    present = (resampled_RK > 0).sum(axis=1)
    found = {
        "shannon": shannon,
        "hill_2": 1 / (shares**2).sum(axis=1),
        "evenness": (shannon / np.log(np.maximum(present, 2)))[present > 1],
    }
    most = {"shannon": math.log(numbers["hill_0"]), "evenness": 1.0, "hill_2": numbers["hill_0"]}
    bounds = {
        name: _interval(values, numbers[name], low=float(name == "hill_2"), high=most[name])
        for name, values in found.items()
    }
    return {**bounds, "hill_1": [math.exp(bound) for bound in bounds["shannon"]] if bounds["shannon"] else None}


def _interval(values_R: NDArray[np.float64], number: float, *, low: float, high: float) -> list[float] | None:
    if not len(values_R) or math.isnan(number):
        return None
    bounds = np.percentile(values_R, INTERVAL) + (number - values_R.mean())
    return [float(bound) for bound in np.clip(bounds, min(low, number), max(high, number))]


def _resampled_counts(counts_K: NDArray[np.int64], resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """As many samples drawn anew with replacement, ``(resamples, classes)``.

    The seed is fixed, so that the same counts have the same interval.
    """
    total = int(counts_K.sum())
    if total == 0:
        return np.empty((0, 0))
    return np.random.default_rng(0).multinomial(total, counts_K / total, size=resamples).astype(np.float64)


def _resampled_shares(area: AreaTally, names: list[str], sums_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean shares as other samples of as many would have them, ``(resamples, classes)``."""
    n = area.num_samples
    if n < 2 or not sums_K.any():
        return np.empty((0, 0))
    products = np.array([[area.products.get((min(a, b), max(a, b)), 0) * SHARE_UNIT for b in names] for a in names])
    mean = sums_K / n
    covariance = (products / n - np.outer(mean, mean)) / (n - 1)
    values, vectors = np.linalg.eigh(covariance)
    directions = vectors * np.sqrt(np.maximum(values, 0))
    drawn = np.random.default_rng(0).standard_normal((RESAMPLES, len(names))) @ directions.T
    resampled = np.maximum(mean + drawn, 0)
    return resampled[resampled.sum(axis=1) > 0]


def _rarefied(counts_K: NDArray[np.int64]) -> list[dict[str, Any]]:
    return [asdict(rarefy(counts_K, size)) for size in SIZES if size <= counts_K.sum()]
