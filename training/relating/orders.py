"""The exact chance of a coefficient: over all N! orders of one side, without going through them one by one.

Shapes: N datasets; C choices of the first half of them, with A orders of that half and B of the other.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations, permutations
from math import factorial

import numpy as np

from training.relating.estimates import Method, values_of

__all__ = [
    "EXACT_UP_TO",
    "TOLERANCE",
    "exact_p",
    "exact_within",
    "kendall_critical",
    "smallest_p",
    "smallest_p_of",
    "spearman_critical",
]

EXACT_UP_TO = 12  # its 479,001,600 orders take 0.2 s on one core; every further dataset three to five times as long
TIED_KENDALL_UP_TO = 10  # 0.2 s, and three to five times as long with every further dataset
UNTIED_KENDALL_UP_TO = 200  # a tenth of a second
TOLERANCE = 1e-9  # of the largest possible sum: orders of equal |coefficient| count as equal whatever the rounding


def exact_within(x_N: np.ndarray, y_N: np.ndarray, *, method: Method) -> bool:
    """Whether :func:`exact_p` is for so many datasets: up to 12; Kendall's up to 10 with ties, 200 without."""
    if method == "kendall":
        untied = len(np.unique(x_N)) == len(np.unique(y_N)) == len(x_N)
        return len(x_N) <= (UNTIED_KENDALL_UP_TO if untied else TIED_KENDALL_UP_TO)
    return len(x_N) <= EXACT_UP_TO


def smallest_p(n: int, *, method: Method) -> float:
    """The smallest p that n datasets can have: ``2 / n!``, of a perfect order without ties and its reverse.

    ``1 / n!`` for Pearson, whose reverse need not be as extreme.
    """
    return (1 if method == "pearson" else 2) / factorial(n)


def smallest_p_of(x_N: np.ndarray, y_N: np.ndarray, *, method: Method) -> float:
    """The smallest p that these values can have, ties as they are: of the order in which both sides rise, or of its reverse.

    No order has a larger sum of products, or more pairs that agree. Beyond :func:`exact_within` it is :func:`smallest_p`.
    """
    tied = min(len(np.unique(x_N)), len(np.unique(y_N))) < len(x_N)
    if not tied or not exact_within(x_N, y_N, method=method):
        return smallest_p(len(x_N), method=method)
    x_N, y_N = np.sort(x_N), np.sort(y_N)
    return min(exact_p(x_N, y_N, method=method), exact_p(x_N, y_N[::-1], method=method))


def exact_p(x_N: np.ndarray, y_N: np.ndarray, *, method: Method) -> float:
    """The share of all N! orders of one side whose |coefficient| is at least the observed; two-sided, never 0.

    Ties are as observed: every order of the values counts, equal ones too. A constant side gives NaN.
    """
    if np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return float("nan")
    if method == "kendall":
        return _kendall_p(x_N, y_N)
    return _linear_p(values_of(x_N, method=method), values_of(y_N, method=method))


def _linear_p(x_N: np.ndarray, y_N: np.ndarray) -> float:
    """For coefficients that rise with the sum of products: each choice of the first half is met with all orders of both.

    The sum over an order is one sum from each half, so that of A and B sums the pairs beyond the observed are counted by
    bisection instead of being formed.
    """
    x, y = x_N - x_N.mean(), y_N - y_N.mean()
    return _share_beyond(x, y, least=abs(float(x @ y)) - TOLERANCE * float(np.sqrt((x @ x) * (y @ y))))


def _share_beyond(x: np.ndarray, y: np.ndarray, *, least: float) -> float:
    """The share of orders whose sum of products is ``least`` or more on either side; both vectors have mean 0."""
    if least <= 0:
        return 1.0
    half = len(x) // 2
    chosen, rest = _halves(len(x), half)
    first_CA = y[chosen][:, _orders(half)] @ x[:half]
    second_CB = np.sort(y[rest][:, _orders(len(x) - half)] @ x[half:], axis=1)
    span = 3 * (least + float(np.abs(first_CA).max()) + float(np.abs(second_CB).max()))
    place_C1 = span * np.arange(len(chosen))[:, None]  # the rows, one after another, are a single sorted vector
    line, before = (second_CB + place_C1).ravel(), second_CB.size * np.arange(len(chosen))[:, None] // len(chosen)
    below = np.searchsorted(line, place_C1 + least - first_CA, side="left") - before
    above = np.searchsorted(line, place_C1 - least - first_CA, side="right") - before
    beyond = first_CA.size * second_CB.shape[1] - int(below.sum()) + int(above.sum())
    return float(beyond / factorial(len(x)))


@cache
def _orders(n: int) -> np.ndarray:
    """All orders of n places, (n!, n)."""
    return np.array(list(permutations(range(n))), dtype=np.int64).reshape(factorial(n), n)


@cache
def _halves(n: int, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Each choice of ``half`` places of n, and the places left over."""
    chosen = np.array(list(combinations(range(n), half)), dtype=np.int64)
    rest = np.array([np.setdiff1d(np.arange(n), row) for row in chosen], dtype=np.int64)
    return chosen, rest


@cache
def spearman_critical(n: int, alpha: float) -> float:
    """The smallest |rho| of n datasets without ties whose exact p is at most alpha; infinite where there is none."""
    ranks = np.arange(n) - (n - 1) / 2
    top = float(ranks @ ranks)
    low, high = -1, n * (n * n - 1) // 6  # half the sum of squared differences of ranks: rho = 1 - 2 k / high
    while high - low > 1:
        middle = (low + high) // 2
        least = top * (1 - 12 * middle / (n * (n * n - 1))) - TOLERANCE * top
        low, high = (middle, high) if _share_beyond(ranks, ranks, least=least) <= alpha else (low, middle)
    return float("inf") if low < 0 else 1 - 12 * low / (n * (n * n - 1))


@cache
def kendall_critical(n: int, alpha: float) -> float:
    """The smallest |tau| of n datasets without ties whose exact p is at most alpha; infinite where there is none."""
    share, top = _inversions(n), n * (n - 1) // 2
    tail = 2 * np.cumsum(share)  # the score of k inversions is top - 2 k
    within = np.flatnonzero((tail <= alpha + 1e-12) & (np.arange(top + 1) < top / 2))
    return float("inf") if not len(within) else float(1 - 2 * within[-1] / top)


def _kendall_p(x_N: np.ndarray, y_N: np.ndarray) -> float:
    """From the number of orders of each score, concordant less discordant pairs; ties only shrink what divides it."""
    x, y = x_N[np.argsort(x_N, kind="stable")], y_N[np.argsort(x_N, kind="stable")]
    sizes = np.unique(x, return_counts=True)[1]
    observed = abs(int(_score(x, y)))
    if len(sizes) == len(x) == len(np.unique(y)):
        share, top = _inversions(len(x)), len(x) * (len(x) - 1) // 2
        scores = np.abs(top - 2 * np.arange(top + 1))
        return min(1.0, float(share[scores >= observed].sum()))
    counts = _scores_of_orders(y, sizes)
    top = len(counts) // 2
    return float(counts[np.abs(np.arange(-top, top + 1)) >= observed].sum()) / factorial(len(x))


def _score(x_N: np.ndarray, y_N: np.ndarray) -> np.int64:
    products = np.sign(x_N[:, None] - x_N) * np.sign(y_N[:, None] - y_N)
    return np.int64(products.sum() // 2)


def _inversions(n: int) -> np.ndarray:
    """The share of the orders of n different values that have k inversions, (n (n - 1) / 2 + 1,)."""
    share = np.ones(1)
    for size in range(2, n + 1):
        share = np.convolve(share, np.full(size, 1 / size))
    return share


def _scores_of_orders(y_N: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """How many orders of the values give each score, from -n (n - 1) / 2 on, where x has groups of equal values.

    The places are filled group by group. What a group adds depends only on which values were placed before it, so that the
    orders are counted set by set (2^N of them), not one by one.
    """
    n = len(y_N)
    top, above = n * (n - 1) // 2, _above(y_N)
    begun: dict[int, np.ndarray] = {0: np.eye(1, 2 * top + 1, k=top, dtype=np.int64)[0]}
    for size in sizes.tolist():
        grown: dict[int, np.ndarray] = {}
        for placed, counts in begun.items():
            free = [v for v in range(n) if not placed >> v & 1]
            for group in combinations(free, size):
                key = placed | sum(1 << v for v in group)
                added = int(above[list(group), placed].sum())
                into = grown.setdefault(key, np.zeros_like(counts))
                into += factorial(size) * np.roll(counts, added)  # never rolls over an end: |score| is at most top
        begun = grown
    return begun[(1 << n) - 1]


def _above(y_N: np.ndarray) -> np.ndarray:
    """For each value and set of values (as bits) how many of the set it exceeds, less how many exceed it, (N, 2^N)."""
    signs: np.ndarray = np.sign(y_N[:, None] - y_N).astype(np.int64)
    above = np.zeros((len(y_N), 1 << len(y_N)), dtype=np.int64)
    for other in range(len(y_N)):
        above[:, 1 << other : 2 << other] = above[:, : 1 << other] + signs[:, other : other + 1]
    return above
