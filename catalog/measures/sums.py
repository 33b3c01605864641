"""The parts of a tally: whole numbers by class, bin or band, which add and can be taken away again."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from catalog.spectral import KEPT_BINS

__all__ = ["BIN_WIDTH", "ENTROPY_UNIT", "NUM_BINS", "SHARE_UNIT", "AreaTally", "BandTally", "EntropyTally", "added"]

K = TypeVar("K")

# Entropies are counted in bins of this width (nats), those beyond the last in the last: ln 256 is 5.5.
BIN_WIDTH = 1 / 64
NUM_BINS = 6 * 64

# Sums of real numbers are kept as multiples of these. Python's integers
# take sums of any size.
ENTROPY_UNIT = 2.0**-36
SHARE_UNIT = 2.0**-40


@dataclass(frozen=True, kw_only=True)
class AreaTally:
    """Shares of area by class, over samples: each counts as one, whatever the size of its chip.

    Attributes:
        num_samples: those that have any.
        sums: by class, the sum of its shares in units of 2**-40.
        products: by two classes in their order, the sum of the products of their shares in units of 2**-40.
    """

    num_samples: int = 0
    sums: Mapping[str, int] = field(default_factory=dict)
    products: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def combined(self, other: AreaTally, sign: int) -> AreaTally:
        """The sum with another's, or for a sign of -1 the difference."""
        return AreaTally(
            num_samples=self.num_samples + sign * other.num_samples,
            sums=added(self.sums, other.sums, sign),
            products=added(self.products, other.products, sign),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        products = [[*pair, total] for pair, total in self.products.items()]
        return {"num_samples": self.num_samples, "sums": dict(self.sums), "products": products}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AreaTally:
        """What :meth:`to_json` wrote."""
        products = {(a, b): total for a, b, total in values["products"]}
        return cls(num_samples=values["num_samples"], sums=dict(values["sums"]), products=products)


@dataclass(frozen=True, kw_only=True)
class EntropyTally:
    """One estimator's entropies of samples.

    Attributes:
        count: samples that have one.
        total: their sum in units of 2**-36 nats.
        total_of_squares: the sum of their squares in units of 2**-36.
        bins: samples by bin of 1/64 nat, only those that hold any.
    """

    count: int = 0
    total: int = 0
    total_of_squares: int = 0
    bins: Mapping[int, int] = field(default_factory=dict)

    @property
    def sum(self) -> float:
        """Sum of the entropies, nats."""
        return self.total * ENTROPY_UNIT

    @property
    def sum_of_squares(self) -> float:
        """Sum of their squares."""
        return self.total_of_squares * ENTROPY_UNIT

    def combined(self, other: EntropyTally, sign: int) -> EntropyTally:
        """The sum with another's, or for a sign of -1 the difference."""
        return EntropyTally(
            count=self.count + sign * other.count,
            total=self.total + sign * other.total,
            total_of_squares=self.total_of_squares + sign * other.total_of_squares,
            bins=added(self.bins, other.bins, sign),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "count": self.count,
            "total": self.total,
            "total_of_squares": self.total_of_squares,
            "bins": [[k, count] for k, count in self.bins.items()],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EntropyTally:
        """What :meth:`to_json` wrote."""
        return cls(
            count=values["count"],
            total=values["total"],
            total_of_squares=values["total_of_squares"],
            bins={int(k): count for k, count in values["bins"]},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class BandTally:
    """Pixels of one band that have data.

    Attributes:
        counts_K: ``(4096,)`` by DN, in equal bins over reflectance [0, 1]; the last takes brighter ones.
        sum: of DN.
        sum_of_squares: of the squares of DN.
    """

    counts_K: NDArray[np.int64] = field(default_factory=lambda: np.zeros(KEPT_BINS, dtype=np.int64))
    sum: int = 0
    sum_of_squares: int = 0

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.counts_K.sum())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, BandTally)
            and (self.sum, self.sum_of_squares) == (other.sum, other.sum_of_squares)
            and np.array_equal(self.counts_K, other.counts_K)
        )

    def combined(self, other: BandTally, sign: int) -> BandTally:
        """The sum with another's, or for a sign of -1 the difference."""
        return BandTally(
            counts_K=self.counts_K + sign * other.counts_K,
            sum=self.sum + sign * other.sum,
            sum_of_squares=self.sum_of_squares + sign * other.sum_of_squares,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; the counts are compressed."""
        packed = zlib.compress(np.ascontiguousarray(self.counts_K, dtype="<i8").tobytes(), 6)
        counts = base64.b64encode(packed).decode("ascii")
        return {"sum": self.sum, "sum_of_squares": self.sum_of_squares, "counts": counts}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> BandTally:
        """What :meth:`to_json` wrote."""
        counts = np.frombuffer(zlib.decompress(base64.b64decode(values["counts"])), dtype="<i8").astype(np.int64)
        if len(counts) != KEPT_BINS:
            raise ValueError(f"{len(counts)} bins of a band, not {KEPT_BINS}")
        return cls(counts_K=counts, sum=values["sum"], sum_of_squares=values["sum_of_squares"])


def added(one: Mapping[K, int], other: Mapping[K, int], sign: int) -> dict[K, int]:
    """Sums, or for a sign of -1 differences, by key in order; those of nothing are left out."""
    keys: list[Any] = sorted({*one, *other})
    return {key: count for key in keys if (count := one.get(key, 0) + sign * other.get(key, 0))}
