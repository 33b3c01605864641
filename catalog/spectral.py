"""Spectral diversity: the entropy of each sample's reflectance by three estimators, and what bands hold on the whole.

``band-histogram``: per band, the histogram of reflectance over [0, 1] in 256 equal bins, brighter pixels in the last;
its Shannon entropy; the mean over bands that have data. Within [0, ln 256]. It is what
:func:`pwcat.entropy.spectral_entropy` says in NumPy, about ten times as fast, and equal but for rounding (1e-12).

``codebook``: pixels are counted to the nearest of up to 128 reflectance vectors, and the entropy is that of these
counts, jointly over bands. Within [0, ln 128]. Two numbers compare only under one codebook (:mod:`catalog.measures.codebook`).

``covariance``: the entropy of the eigenvalues of the bands' covariance over pixels, as shares of their sum: 0 where the
spectrum varies along one direction, ln(bands) where it varies alike along all. Its exponential is the effective rank of
Roy and Vetterli (2007). Pixels that do not vary at all give 0.

The last two are of pixels that have data in every band. Dates of a sample share its counts. All are in nats.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalog.measures.codebook import Codebook
from pwcat.entropy import entropies
from pwcat.errors import CatalogError

__all__ = ["ESTIMATOR_VERSIONS", "KEPT_BINS", "SpectralMeasures", "measure", "spectral_entropy"]

ESTIMATOR_VERSIONS = {"band-histogram": "1.0", "codebook": "1.0", "covariance": "1.0"}

# Bins of a band's counts, over reflectance [0, 1]: sixteen make a bin of the entropy.
KEPT_BINS = 4096

# Chips that a thread takes at a time.
CHIPS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectralMeasures:
    """What the pixels of some chips say.

    Attributes:
        band_histogram: ``(n,)`` nats by the estimator of this name; NaN for a chip without data.
        codebook: likewise; NaN without a codebook.
        covariance: likewise.
        histogram_BK: ``(bands, 4096)`` pixels with data by DN, in equal bins over reflectance [0, 1]; the last takes
            brighter ones.
        sum_B: ``(bands,)`` sums of their DN.
        sum_of_squares_B: sums of the squares.
        bands: names of the bands, where told.
        codebook_hash: which codebook it was; ``None`` without one.
    """

    band_histogram: NDArray[np.float64]
    codebook: NDArray[np.float64]
    covariance: NDArray[np.float64]
    histogram_BK: NDArray[np.int64]
    sum_B: NDArray[np.int64]
    sum_of_squares_B: NDArray[np.int64]
    bands: tuple[str, ...]
    codebook_hash: str | None


def measure(
    chips_NTBHW: NDArray[np.uint16],
    *,
    codebook: Codebook | None,
    bands: Sequence[str] = (),
    threads: int | None = None,
) -> SpectralMeasures:
    """The spectra of chips by all three estimators, and counts that add.

    What it says of a chip does not depend on which others are measured with it, nor on the number of threads.

    Args:
        chips_NTBHW: DN, reflectance times 10,000; 0 is no data.
        codebook: whose centres pixels are counted to; without one that estimator is NaN.
        bands: names of the bands; those of the codebook where there is one, else numbers.
        threads: that work; as many as there are processors. 1 where the caller has threads of its own.

    Raises:
        CatalogError: the chips are no such array, or of other bands than the codebook.
    """
    chips_NTBP = _flat(chips_NTBHW)
    names = _band_names(chips_NTBP.shape[2], codebook, bands)
    parts = _on_threads(chips_NTBP, codebook, threads)
    return SpectralMeasures(
        band_histogram=np.concatenate([part.entropies_N for part in parts]),
        codebook=np.concatenate([part.codebook_N for part in parts]),
        covariance=np.concatenate([part.covariance_N for part in parts]),
        histogram_BK=np.sum([part.counts_BK for part in parts], axis=0),
        sum_B=np.sum([part.sums_B for part in parts], axis=0),
        sum_of_squares_B=np.sum([part.squares_B for part in parts], axis=0),
        bands=names,
        codebook_hash=codebook.hash if codebook else None,
    )


def spectral_entropy(chips_NTBHW: NDArray[np.uint16], *, threads: int | None = None) -> NDArray[np.float64]:
    """Spectral entropy of each chip by ``band-histogram`` alone, nats, ``(n,)``; NaN for a chip without data.

    Args:
        chips_NTBHW: DN, reflectance times 10,000; 0 is no data.
        threads: that work; as many as there are processors.
    """
    parts = _on_threads(_flat(chips_NTBHW), None, threads, joint=False)
    return np.concatenate([part.entropies_N for part in parts])


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What one thread found of some chips."""

    entropies_N: NDArray[np.float64]
    codebook_N: NDArray[np.float64]
    covariance_N: NDArray[np.float64]
    counts_BK: NDArray[np.int64]
    sums_B: NDArray[np.int64]
    squares_B: NDArray[np.int64]


def _flat(chips_NTBHW: NDArray[np.uint16]) -> NDArray[np.uint16]:
    chips = np.asarray(chips_NTBHW)
    if chips.ndim != 5 or chips.dtype != np.uint16:
        raise CatalogError(
            f"chips are uint16 of (sample, time, band, y, x), and these are {chips.dtype} of {chips.ndim} dimensions"
        )
    n, times, bands, height, width = chips.shape
    return np.ascontiguousarray(chips).reshape(n, times, bands, height * width)


def _band_names(count: int, codebook: Codebook | None, bands: Sequence[str]) -> tuple[str, ...]:
    names = tuple(bands) or (codebook.bands if codebook else tuple(str(band) for band in range(count)))
    wanted = codebook.bands if codebook else names
    if len(names) != count or names != wanted:
        raise CatalogError(
            f"chips of {count} bands ({', '.join(names)}) do not fit the codebook's {', '.join(wanted)}: "
            "measure them with one of theirs"
        )
    return names


def _on_threads(
    chips_NTBP: NDArray[np.uint16], codebook: Codebook | None, threads: int | None, *, joint: bool = True
) -> list[_Part]:
    blocks = list(_blocks(len(chips_NTBP)))
    count = min(threads or os.cpu_count() or 1, len(blocks))
    if count <= 1:
        return [_measure(chips_NTBP[block], codebook, joint) for block in blocks]
    with ThreadPoolExecutor(count) as executor:
        return list(executor.map(lambda block: _measure(chips_NTBP[block], codebook, joint), blocks))


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + CHIPS_AT_ONCE) for start in range(0, max(n, 1), CHIPS_AT_ONCE))


def _measure(chips_NTBP: NDArray[np.uint16], codebook: Codebook | None, joint: bool) -> _Part:
    from catalog.measures.kernels import BIN_OF_DN, band_counts

    n, times, bands, pixels = chips_NTBP.shape
    counts, entropies_N = np.zeros((bands, KEPT_BINS), dtype=np.int64), np.empty(n)
    sums, squares = np.zeros(bands, dtype=np.int64), np.zeros(bands, dtype=np.int64)
    band_counts(chips_NTBP, _n_log_n(times * pixels), BIN_OF_DN, counts, sums, squares, entropies_N)
    codebook_N, covariance_N = _joint(chips_NTBP, codebook) if joint else (np.empty(0), np.empty(0))
    return _Part(
        entropies_N=entropies_N,
        codebook_N=codebook_N,
        covariance_N=covariance_N,
        counts_BK=counts,
        sums_B=sums,
        squares_B=squares,
    )


def _n_log_n(most: int) -> NDArray[np.float64]:
    """``n ln n`` of every whole number up to ``most``, 0 at 0."""
    numbers = np.arange(most + 1, dtype=np.float64)
    return numbers * np.log(np.maximum(numbers, 1))


def _joint(
    chips_NTBP: NDArray[np.uint16], codebook: Codebook | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Entropies by codebook and covariance, ``(n,)`` each."""
    from catalog.measures.kernels import LANES, chip_moments, nearest_centres, valid_pixels

    n, times, bands, pixels = chips_NTBP.shape
    room_BM = np.zeros(
        (bands, times * pixels + LANES), dtype=np.float32
    )  # the last pixels are searched with what follows
    centres = (codebook.centres_KB if codebook else np.empty((0, bands))).astype(np.float32)
    counts, held = np.zeros((n, len(centres)), dtype=np.int64), np.zeros(n, dtype=np.int64)
    sums, products = np.zeros((n, bands)), np.zeros((n, bands, bands))
    for i, chip_TBP in enumerate(chips_NTBP):
        held[i] = valid_pixels(chip_TBP, room_BM)
        if codebook:
            nearest_centres(room_BM, held[i], centres, counts[i])
        chip_moments(room_BM, held[i], sums[i], products[i])
    by_codebook = entropies(counts.astype(np.float64)) if codebook else np.full(n, np.nan)
    return by_codebook, _spectrum_entropies(held, sums, products)


def _spectrum_entropies(
    held_N: NDArray[np.int64], sums_NB: NDArray[np.float64], products_NBB: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Entropy of the shares of the covariance's eigenvalues, ``(n,)``; 0 where nothing varies, NaN without pixels."""
    count = np.maximum(held_N, 1)[:, None, None]
    scatter = count * products_NBB - sums_NB[:, :, None] * sums_NB[:, None, :]
    eigenvalues = np.maximum(np.linalg.eigvalsh(scatter / count.astype(np.float64) ** 2), 0.0)
    varies = np.einsum("nbb->n", scatter) > 0
    found = entropies(np.where(varies[:, None], eigenvalues, 1.0))
    return np.where(held_N == 0, np.nan, np.where(varies, found, 0.0))
