"""How large a relation must be for so few datasets to find it."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import optimize, stats

from training.relating.estimates import Method, coefficients
from training.relating.intervals import spread_of_z
from training.relating.orders import kendall_critical, spearman_critical

__all__ = ["POWER", "critical", "detectable"]

POWER = 0.8
TABLES = 10_000
SIMULATED_UP_TO = {"spearman": 60, "pearson": 60, "kendall": 25}  # datasets; a second
EXACT_CRITICAL_UP_TO = {"spearman": 10, "kendall": 60}  # a tenth of a second; beyond, the approximation is within .01


def critical(n: int, *, method: Method, alpha: float) -> float:
    """The smallest |coefficient| of n datasets without ties whose two-sided p is at most alpha; infinite where there is none.

    Exact for Spearman up to 10 datasets and for Kendall up to 60; beyond by Student's t and the normal approximation, and for
    Pearson always by t, because its exact p depends on the data.
    """
    if n <= EXACT_CRITICAL_UP_TO.get(method, 0):
        return spearman_critical(n, alpha) if method == "spearman" else kendall_critical(n, alpha)
    if method == "kendall":
        return float(stats.norm.isf(alpha / 2) * np.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1))))
    t = stats.t.isf(alpha / 2, n - 2)
    return float(t / np.sqrt(n - 2 + t * t))


@cache
def detectable(n: int, *, method: Method, alpha: float) -> float:
    """The smallest true |coefficient| that n datasets find (p at most alpha) in 80 % of studies; NaN where none can be found.

    Up to 60 datasets (Kendall: 25) by simulation: the coefficient of which 80 % of 10,000 tables of two-dimensional normal
    data, drawn once, reach :func:`critical`, found by bisection; good to .01. The normal data have Pearson's r of
    ``2 sin(pi rho / 6)`` for Spearman's rho and ``sin(pi tau / 2)`` for Kendall's tau (Kruskal, 1958), and any monotone
    change of either side changes neither. Beyond by the root of ``atanh(r) = atanh(critical) + 0.8416 s(r)``, s being
    :func:`training.relating.intervals.spread_of_z`.
    """
    least = critical(n, method=method, alpha=alpha)
    if least > 1:
        return float("nan")
    found = _found_by_formula if n > SIMULATED_UP_TO[method] else _found_by_simulation
    return found(n, least, method)


def _found_by_simulation(n: int, least: float, method: Method) -> float:
    x_RN, noise_RN = np.random.default_rng(0).normal(size=(n, 2, TABLES)).transpose(1, 2, 0)
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        r = _pearson_of(middle, method)
        reached = np.abs(coefficients(x_RN, r * x_RN + np.sqrt(1 - r * r) * noise_RN, method=method)) >= least - 1e-9
        low, high = (middle, high) if reached.mean() < POWER else (low, middle)
    return high


def _pearson_of(coefficient: float, method: Method) -> float:
    """Pearson's r of normal data that have this coefficient."""
    if method == "spearman":
        return float(2 * np.sin(np.pi * coefficient / 6))
    return float(np.sin(np.pi * coefficient / 2)) if method == "kendall" else coefficient


def _found_by_formula(n: int, least: float, method: Method) -> float:
    start, quantile = float(np.arctanh(least)), float(stats.norm.ppf(POWER))

    def short(z: float) -> float:
        return float(z - start - quantile * spread_of_z(float(np.tanh(z)), n=n, method=method))

    return float(np.tanh(optimize.brentq(short, start, start + 10 * quantile)))
