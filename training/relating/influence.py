"""What becomes of a coefficient and its p when one dataset leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.relating.estimates import Method, coefficient, coefficients
from training.relating.orders import exact_p, exact_within
from training.relating.significance import PMethod, approximate_p

__all__ = ["LeftOut", "leave_one_out"]

EXACT: PMethod = "exact"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """The coefficient of the datasets that stay.

    Attributes:
        dataset: the one that left.
        rho: the coefficient without it; NaN where a side is then constant.
        moved: that, less the coefficient of all.
        p: two-sided.
        by: "exact" where every order of all datasets can be counted, else the approximation: "t" or "normal".
    """

    dataset: str
    rho: float
    moved: float
    p: float
    by: PMethod


def leave_one_out(x_N: np.ndarray, y_N: np.ndarray, *, names: Sequence[str], method: Method) -> tuple[LeftOut, ...]:
    """The coefficient without each dataset in turn, in their order."""
    exact = exact_within(x_N, y_N, method=method)
    stay = np.array([np.delete(np.arange(len(x_N)), left) for left in range(len(x_N))])
    without, whole = coefficients(x_N[stay], y_N[stay], method=method), coefficient(x_N, y_N, method=method)
    rows = []
    for name, kept, rho in zip(names, stay, without.tolist(), strict=True):
        x, y = x_N[kept], y_N[kept]
        p, by = (exact_p(x, y, method=method), EXACT) if exact else approximate_p(x, y, method=method)
        rows.append(LeftOut(dataset=name, rho=rho, moved=rho - whole, p=p, by=by))
    return tuple(rows)
