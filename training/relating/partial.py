"""A relation that is left once others are given: partial correlation, its chance, and a refusal where too little is left.

Shapes: N datasets, K columns that the covariates make, R orders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from math import factorial

import numpy as np
import pandas as pd

from pwcat.errors import TrainingError
from training.relating.estimates import Method, values_of
from training.relating.intervals import Interval, fisher
from training.relating.orders import TOLERANCE
from training.relating.significance import AT_ONCE, DRAWS, drawn_bounds, student_p

__all__ = ["Partial", "partial"]

LEAST_FREEDOM = 3  # with 3 only |r| above .88 reaches p = .05, with 2 .95, with 1 .997
ALL_ORDERS_UP_TO = 8  # 40,320 orders
FLAT = 1e-9  # of its length: what is left of a vector that the covariates give wholly, up to rounding


@dataclass(frozen=True, kw_only=True)
class Partial:
    """The correlation of a measure with the score, given covariates.

    Attributes:
        given: the covariates.
        rho: the coefficient of what they leave of both sides.
        freedom: degrees of freedom left, N - 2 - K.
        p: two-sided, by the permutations of Freedman and Lane.
        low: lower 99 % bound of the p of all orders, where orders were drawn; else p itself.
        high: upper bound.
        draws: orders drawn; 0 where all were gone through.
        values: p by each method: "freedman-lane", and "t", Student's with the degrees of freedom left.
        interval: 95 % interval by Fisher's z, of N - K datasets.
        p_holm: p corrected over the metrics asked for.
    """

    given: tuple[str, ...]
    rho: float
    freedom: int
    p: float
    low: float
    high: float
    draws: int
    values: dict[str, float]
    interval: Interval
    p_holm: float


def partial(
    x_N: np.ndarray, y_N: np.ndarray, *, given: pd.DataFrame, method: Method, rng: np.random.Generator
) -> Partial:
    """The partial correlation, for Spearman of ranks (of the covariates too), for Pearson of values.

    What the covariates explain of either side by least squares is taken away; the coefficient is Pearson's of the rest. p is
    Freedman and Lane's (1983): what is left of the score is permuted, put back on what the covariates give, and taken apart
    anew; an approximate test whose level holds well at few datasets (Winkler et al., 2014).

    Args:
        x_N: the measure.
        y_N: the score.
        given: the covariates, a row a dataset: numbers, or words, which become an indicator for each word but one.
        method: "spearman" or "pearson".
        rng: what orders are drawn from beyond eight datasets.

    Raises:
        TrainingError: too few datasets for so many covariates, a covariate is constant or given by the others, the measure or
            the score is given by them wholly, or the method is Kendall's.
    """
    _check_given(given, method=method)
    columns = _columns(given, method=method)
    basis_NK = _basis(list(columns.values()))
    freedom = len(x_N) - 2 - len(columns)
    _check_freedom(list(columns), given=given, freedom=freedom, rank=basis_NK.shape[1] - 1)
    left_x, left_y = (_left_of(side, basis_NK, given=given, method=method) for side in (x_N, y_N))
    rho = _cosines(left_x, left_y[None])[0]
    hits, draws = 0, 0
    for orders_RN in _orders(left_y, rng):
        found = np.abs(_cosines(left_x, _left(orders_RN, basis_NK)))
        hits, draws = hits + int((found >= abs(rho) - TOLERANCE).sum()), draws + len(orders_RN)
    every = draws == factorial(len(x_N)) and len(x_N) <= ALL_ORDERS_UP_TO
    p, low, high = (hits / draws,) * 3 if every else drawn_bounds(hits, draws)
    return Partial(
        given=tuple(map(str, given)),
        rho=float(rho),
        freedom=freedom,
        p=p,
        low=low,
        high=high,
        draws=0 if every else draws,
        values={"freedman-lane": p, "t": student_p(float(rho), freedom=freedom)},
        interval=fisher(float(rho), n=len(x_N) - len(columns), method=method),
        p_holm=p,
    )


def _columns(given: pd.DataFrame, *, method: Method) -> dict[str, np.ndarray]:
    """A column a number, one less than there are words otherwise; named for messages."""
    columns: dict[str, np.ndarray] = {}
    for name, values in given.items():
        if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
            words = sorted(set(values.astype(str)))
            columns |= {
                f"{name} = {word}": (values.astype(str) == word).to_numpy(dtype=np.float64) for word in words[1:]
            }
        else:
            columns[str(name)] = values_of(values.to_numpy(dtype=np.float64), method=method)
    return columns


def _basis(columns: list[np.ndarray]) -> np.ndarray:
    """An orthonormal basis of the constant and the columns, (N, 1 + rank)."""
    table = np.stack([np.ones(len(columns[0])), *(column - column.mean() for column in columns)], axis=1)
    left, sizes, _ = np.linalg.svd(table / np.linalg.norm(table, axis=0), full_matrices=False)
    return np.asarray(left[:, sizes > FLAT * sizes[0]])


def _left(values_RN: np.ndarray, basis_NK: np.ndarray) -> np.ndarray:
    """What the covariates leave of each row."""
    return np.asarray(values_RN - (values_RN @ basis_NK) @ basis_NK.T)


def _cosines(x_N: np.ndarray, y_RN: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(x_N) * np.linalg.norm(y_RN, axis=1)
    return np.asarray(np.divide(y_RN @ x_N, norm, out=np.zeros(len(y_RN)), where=norm > 0))


def _orders(values_N: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    if len(values_N) <= ALL_ORDERS_UP_TO:
        yield values_N[np.array(list(permutations(range(len(values_N)))))]
        return
    step = max(1, AT_ONCE // len(values_N))
    for start in range(0, DRAWS, step):
        yield rng.permuted(np.broadcast_to(values_N, (min(step, DRAWS - start), len(values_N))), axis=1)


def _left_of(side_N: np.ndarray, basis_NK: np.ndarray, *, given: pd.DataFrame, method: Method) -> np.ndarray:
    values = values_of(side_N, method=method)
    left = np.asarray(_left(values[None], basis_NK)[0])
    if np.linalg.norm(left) <= FLAT * np.linalg.norm(values):
        raise TrainingError(
            f"{', '.join(map(str, given))} wholly give the measure or the score of these {len(given)} datasets, and leave "
            "nothing to relate: take another --given"
        )
    return left


def _check_given(given: pd.DataFrame, *, method: Method) -> None:
    if method == "kendall":
        raise TrainingError(
            "there is no partial correlation by Kendall's tau here: --given goes with spearman and pearson"
        )
    flat = [str(name) for name in given if given[name].nunique() < 2]
    if flat:
        raise TrainingError(
            f"{', '.join(map(repr, flat))} is the same for all {len(given)} datasets and explains nothing: leave it out "
            "of --given"
        )


def _check_freedom(columns: list[str], *, given: pd.DataFrame, freedom: int, rank: int) -> None:
    if freedom < LEAST_FREEDOM:
        raise TrainingError(
            f"{len(given)} datasets are too few for a partial correlation given {', '.join(map(str, given))}: "
            f"{len(columns)} covariates ({', '.join(columns)}) leave {len(given)} - 2 - {len(columns)} = {freedom} degrees "
            f"of freedom, and {LEAST_FREEDOM} are needed. Give fewer covariates, or add datasets"
        )
    if rank < len(columns):
        raise TrainingError(
            f"the covariates {', '.join(columns)} give one another among these {len(given)} datasets: only {rank} of "
            f"{len(columns)} are independent; leave some out of --given"
        )
