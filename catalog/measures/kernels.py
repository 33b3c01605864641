"""Loops over pixels, compiled by numba: histograms, nearest centres, moments.

NumPy's own histograms take a pass over all pixels for each step, and a tenth of the speed. Every kernel works on one
thread and lets go of the interpreter's lock, so that callers may have threads of their own. None is compiled with
re-ordered arithmetic but where every partial sum is a whole number that a double holds: what comes out is the same on
every machine.

Shapes: N chips, T dates, B bands, P pixels of a chip's band and date, K centres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pwcat.compiling import compiled

__all__ = ["BIN_OF_DN", "KEPT_BINS", "LANES", "band_counts", "chip_moments", "nearest_centres", "valid_pixels"]

# Bins of a sample's entropy, and of the counts that are kept, sixteen to one of those; over [0, FULL_SCALE_DN).
BINS = 256
KEPT_BINS = 4096
FOLD = KEPT_BINS // BINS
FULL_SCALE_DN = 10_000

# Bin of every possible DN; no data has one of its own, behind the others.
BIN_OF_DN = np.minimum(np.arange(2**16) * KEPT_BINS // FULL_SCALE_DN, KEPT_BINS - 1).astype(np.uint16)
BIN_OF_DN[0] = KEPT_BINS

# Pixels that the search for nearest centres takes at a time: several vector registers' worth, all of them in L1.
LANES = 128


def _band_counts(
    chips_NTBP: NDArray[np.uint16],
    n_log_n: NDArray[np.float64],
    bin_of_dn: NDArray[np.uint16],
    counts_BK: NDArray[np.int64],
    sums_B: NDArray[np.int64],
    squares_B: NDArray[np.int64],
    entropies_N: NDArray[np.float64],
) -> None:
    """Add each band's counts, sums and sums of squares of DN; set each chip's mean entropy over bands; 0 is no data."""
    chips, times, bands, pixels = chips_NTBP.shape
    fine = np.zeros(KEPT_BINS + 1, dtype=np.int32)  # the last is for pixels without data
    for i in range(chips):
        total, held_bands = 0.0, 0
        for b in range(bands):
            lowest, highest = np.uint16(2**16 - 1), np.uint16(0)
            for t in range(times):
                plane = chips_NTBP[i, t, b]
                added, squared = np.uint64(0), np.uint64(0)
                for p in range(pixels):
                    value = np.uint64(plane[p])
                    added += value
                    squared += value * value
                for p in range(pixels):
                    highest = max(highest, plane[p])
                    lowest = min(lowest, np.uint16(plane[p] - np.uint16(1)))  # no data is the highest of all then
                for p in range(pixels):
                    fine[bin_of_dn[plane[p]]] += 1
                sums_B[b] += np.int64(added)
                squares_B[b] += np.int64(squared)
            held = times * pixels - fine[KEPT_BINS]
            fine[KEPT_BINS] = 0
            if highest == 0:
                continue
            spread, most_in_one = 0.0, 0
            first, last = bin_of_dn[lowest + 1] // FOLD, bin_of_dn[highest] // FOLD
            for k in range(first, last + 1):  # all others are empty
                count = 0
                for j in range(k * FOLD, (k + 1) * FOLD):
                    count += fine[j]
                    counts_BK[b, j] += fine[j]
                    fine[j] = 0
                spread += n_log_n[count]
                most_in_one = max(most_in_one, count)
            held_bands += 1
            if most_in_one < held:  # all in one bin: exactly nothing, whatever the rounding
                total += np.log(held) - spread / held
        entropies_N[i] = total / held_bands if held_bands > 0 else np.nan


def _valid_pixels(chip_TBP: NDArray[np.uint16], pixels_BM: NDArray[np.float32]) -> int:
    """Set the pixels that have data in every band, one behind the other; how many there are."""
    times, bands, pixels = chip_TBP.shape
    valid = np.empty(pixels, dtype=np.bool_)
    found = 0
    for t in range(times):
        valid[:] = True
        for b in range(bands):
            plane = chip_TBP[t, b]
            for p in range(pixels):
                valid[p] &= plane[p] > 0
        every = True
        for p in range(pixels):
            every &= valid[p]
        for b in range(bands):
            plane, row, m = chip_TBP[t, b], pixels_BM[b], found
            if every:
                for p in range(pixels):
                    row[found + p] = plane[p]
                m += pixels
            else:
                for p in range(pixels):
                    if valid[p]:
                        row[m] = plane[p]
                        m += 1
        found = m
    return found


def _nearest_centres(
    pixels_BM: NDArray[np.float32], held: int, centres_KB: NDArray[np.float32], counts_K: NDArray[np.int64]
) -> None:
    """Count, for each centre, the pixels that it is nearest to, the first of several as near; Euclidean over bands."""
    bands, centres = pixels_BM.shape[0], centres_KB.shape[0]
    far, best, which = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.int32)
    near = np.empty((bands, LANES), dtype=np.float32)
    fours = bands - bands % 4
    for start in range(0, held, LANES):
        near[:] = pixels_BM[:, start : start + LANES]
        best[:] = np.inf
        for k in range(centres):
            far[:] = 0
            for b in range(0, fours, 4):  # four bands at a time: sums stay in registers
                c0, c1, c2, c3 = centres_KB[k, b], centres_KB[k, b + 1], centres_KB[k, b + 2], centres_KB[k, b + 3]
                for p in range(LANES):
                    d0, d1, d2, d3 = near[b, p] - c0, near[b + 1, p] - c1, near[b + 2, p] - c2, near[b + 3, p] - c3
                    far[p] = (((far[p] + d0 * d0) + d1 * d1) + d2 * d2) + d3 * d3
            for b in range(fours, bands):
                centre = centres_KB[k, b]
                for p in range(LANES):
                    apart = near[b, p] - centre
                    far[p] += apart * apart
            for p in range(LANES):
                nearer = far[p] < best[p]
                best[p] = far[p] if nearer else best[p]
                which[p] = k if nearer else which[p]
        for p in range(min(LANES, held - start)):
            counts_K[which[p]] += 1


def _chip_moments(
    pixels_BM: NDArray[np.float32], held: int, sums_B: NDArray[np.float64], products_BB: NDArray[np.float64]
) -> None:
    """Set sums and sums of products over pixels, whole numbers below 2**53: exact, whatever the order of adding."""
    bands = pixels_BM.shape[0]
    for a in range(bands):
        left, total = pixels_BM[a], 0.0
        for p in range(held):
            total += np.float64(left[p])
        sums_B[a] = total
        for b in range(a, bands):
            right, product = pixels_BM[b], 0.0
            for p in range(held):
                product += np.float64(left[p]) * np.float64(right[p])
            products_BB[a, b] = product
            products_BB[b, a] = product


band_counts = compiled(_band_counts)
valid_pixels = compiled(_valid_pixels)
nearest_centres = compiled(_nearest_centres)
chip_moments = compiled(_chip_moments, fastmath={"reassoc", "contract"})
