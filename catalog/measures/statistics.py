"""Statistics of a dataset, a subset, any union: ``div:statistics`` of collections, ``statistics`` of ``stats.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from catalog.diversity import describe_area, describe_classes, describe_coverage, describe_things
from catalog.measures.sums import BIN_WIDTH, ENTROPY_UNIT, EntropyTally
from catalog.measures.tally import CODEBOOK, Tally
from catalog.spectral import ESTIMATOR_VERSIONS
from pwcat.entropy import BINS

__all__ = ["describe_spectral", "lonlat_of", "statistics_from", "statistics_of"]

# Layers that are always told, and those that are where any sample has them.
ALWAYS = ("continent", "biome", "landcover")
SPECTRAL_MEMBERS = {"spectral": "band-histogram", "spectral_codebook": CODEBOOK, "spectral_covariance": "covariance"}
REFLECTANCE = "surface reflectance, [0, 1]"

# Bootstrap of the mean entropy: resamples, quantiles of a 95 % interval, and quantiles of the distribution that are
# told.
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)
QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}


def statistics_of(
    items: pa.Table,
    *,
    layers: Mapping[str, str | None],
    codebooks: Mapping[str, str] | None = None,
    things: Mapping[str, Mapping[str, int]] | None = None,
    dispersion: bool = True,
) -> dict[str, Any]:
    """The diversity of some items, from their columns alone: no pixel is read.

    Args:
        items: rows of ``items.parquet``; columns that are missing count as empty.
        layers: source of each region layer.
        codebooks: hash of each collection's codebook, by its name.
        things: what a map holds on them, by class.
        dispersion: whether nearest neighbours are looked for, which takes seconds for a million items.
    """
    lonlat = lonlat_of(items) if dispersion else None
    return statistics_from(Tally.of(items, codebooks=codebooks, things=things), layers=layers, lonlat=lonlat)


def statistics_from(
    tally: Tally, *, layers: Mapping[str, str | None], lonlat: NDArray[np.float64] | None = None
) -> dict[str, Any]:
    """The same from a tally: of one collection, or of the sum of many.

    Args:
        tally: of the samples.
        layers: source of each region layer.
        lonlat: ``(n, 2)`` where they lie, EPSG:4326, in any order; without it nothing is said of their dispersion.
    """
    statistics: dict[str, Any] = {}
    n = tally.num_samples
    for name in (*ALWAYS[:2], "ecoregion", *ALWAYS[2:]):
        if name in ALWAYS or name in tally.classes:
            statistics[name] = describe_classes(tally.classes.get(name, {}), num_samples=n, layer=layers.get(name))
    if tally.area.num_samples:
        statistics["landcover_area"] = describe_area(tally.area, num_samples=n, layer=layers.get("landcover"))
    for member, estimator in SPECTRAL_MEMBERS.items():
        if (described := _described(tally, estimator)) or member == "spectral":
            statistics[member] = described or describe_spectral(EntropyTally(), estimator=estimator)
    for name, counts in tally.things.items():
        statistics[name] = describe_things(counts, num_samples=n, layer=layers.get(name))
    if lonlat is not None:
        from catalog.measures.dispersion import describe_dispersion  # SciPy and pandas, which a search has no need of

        statistics["dispersion"] = describe_dispersion(lonlat, num_samples=n)
    statistics["coverage"] = describe_coverage(tally.cells, num_samples=n, layers=layers)
    return statistics


def lonlat_of(items: pa.Table) -> NDArray[np.float64] | None:
    """Where items lie, ``(n, 2)`` EPSG:4326, but for those that do not say; ``None`` without such a column."""
    if "proj:centroid" not in items.column_names:
        return None
    centroid = items["proj:centroid"].combine_chunks()
    columns = [pa.compute.struct_field(centroid, name).to_numpy(zero_copy_only=False) for name in ("lon", "lat")]
    lonlat = np.column_stack(columns).astype(np.float64)
    return np.asarray(lonlat[np.isfinite(lonlat).all(axis=1)])


def _described(tally: Tally, estimator: str) -> dict[str, Any] | None:
    """What is said of one estimator; entropies of several codebooks have no mean together."""
    if estimator != CODEBOOK:
        return describe_spectral(tally.spectra[estimator], estimator=estimator) if estimator in tally.spectra else None
    kinds = {name.partition(":")[2]: held for name, held in tally.spectra.items() if name.startswith(f"{CODEBOOK}:")}
    if not kinds:
        return None
    if len(kinds) > 1:
        described = describe_spectral(EntropyTally(), estimator=estimator)
        return described | {"codebook": None, "codebooks": sorted(kinds), "num_samples": tally.num_samples}
    ((codebook, held),) = kinds.items()
    return describe_spectral(held, estimator=estimator) | {"codebook": codebook or None}


def describe_spectral(entropies: EntropyTally, *, estimator: str = "band-histogram") -> dict[str, Any]:
    """Mean and distribution of samples' spectral entropies, ready for ``stats.json``; NaN is ``None`` there.

    The interval is a bootstrap of the mean: samples are drawn anew from the distribution by bins, and the spread of
    their means is scaled to the exact variance, which bins blur. Where all lie in one bin it is normal.

    Args:
        entropies: those of the samples, added up.
        estimator: by which they were made.
    """
    count, total = entropies.count, entropies.sum
    mean = total / count if count else math.nan
    variance = _variance(entropies)
    low, high = _mean_interval(entropies, mean, variance)
    numbers = {"mean": mean, "ci_low": low, "ci_high": high, "standard_deviation": math.sqrt(variance)}
    numbers |= {name: _quantile(entropies.bins, share) for name, share in QUANTILES.items()}
    first, last = (min(entropies.bins), max(entropies.bins)) if count else (0, -1)
    histogram = [entropies.bins.get(k, 0) for k in range(first, last + 1)]
    return {
        **{name: None if math.isnan(number) else number for name, number in numbers.items()},
        "distribution": {"start": first * BIN_WIDTH, "bin_width": BIN_WIDTH, "counts": histogram},
        "count": count,
        "sum": total,
        "sum_of_squares": entropies.sum_of_squares,
        "num_samples": count,
        "unit": "nat",
        "estimator": estimator,
        **({"bins": BINS} if estimator == "band-histogram" else {}),
        "interval": f"95 %, bootstrap of {RESAMPLES}",
        "version": ESTIMATOR_VERSIONS[estimator],
        "layer": REFLECTANCE,
    }


def _variance(entropies: EntropyTally) -> float:
    """Of the samples' entropies, unbiased; of sums that are whole numbers, so that nothing cancels."""
    n = entropies.count
    if n < 2:
        return math.nan
    scale = round(1 / ENTROPY_UNIT)
    scatter = n * entropies.total_of_squares * scale - entropies.total**2
    return max(0.0, scatter * ENTROPY_UNIT**2) / (n * (n - 1))


def _mean_interval(entropies: EntropyTally, mean: float, variance: float) -> tuple[float, float]:
    n = entropies.count
    if n < 2:
        return math.nan, math.nan
    error = math.sqrt(variance / n)
    middles = (np.array(list(entropies.bins)) + 0.5) * BIN_WIDTH
    counts = np.array(list(entropies.bins.values()), dtype=np.float64)
    spread = math.sqrt(float((counts / n) @ (middles - counts @ middles / n) ** 2) / (n - 1))
    if spread == 0:
        return mean - 1.96 * error, mean + 1.96 * error
    drawn = np.random.default_rng(0).multinomial(n, counts / n, size=RESAMPLES) @ middles / n
    low, high = np.percentile((drawn - counts @ middles / n) / spread, INTERVAL)
    return mean + float(low) * error, mean + float(high) * error


def _quantile(bins: Mapping[int, int], share: float) -> float:
    """The value that so many samples are below, as if they lay evenly within each bin."""
    if not bins:
        return math.nan
    wanted = share * sum(bins.values())
    passed = 0
    for k in sorted(bins):
        if passed + bins[k] >= wanted:
            return (k + (wanted - passed) / bins[k]) * BIN_WIDTH
        passed += bins[k]
    return (max(bins) + 1) * BIN_WIDTH
