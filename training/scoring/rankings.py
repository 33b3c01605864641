"""How well scores rank the samples that have a label before those that have not."""

from __future__ import annotations

import numpy as np

__all__ = ["average_precisions"]


def average_precisions(true_NK: np.ndarray, scores_NK: np.ndarray, counts_RN: np.ndarray) -> np.ndarray:
    """The average precision of each label in each resample, (R, K), within 0..1.

    ``sum_t (recall_t - recall_{t-1}) precision_t`` over the thresholds that the scores give, tied samples entering together, as
    scikit-learn's ``average_precision_score``; 0 of a label that no sample of the resample has, NaN of one with scores that are
    no numbers.

    Args:
        true_NK: which labels each sample has.
        scores_NK: larger where a label is more likely.
        counts_RN: how often each sample is in each resample; ones for the samples themselves.
    """
    found_RK = np.zeros((len(counts_RN), true_NK.shape[1]))
    for label in range(true_NK.shape[1]):
        order_N = np.argsort(-scores_NK[:, label], kind="stable")
        ranked_N = scores_NK[order_N, label]
        last_of_tied = np.flatnonzero(np.append(ranked_N[1:] != ranked_N[:-1], True))
        ordered_RN = counts_RN[:, order_N]
        reached_RT = ordered_RN.cumsum(axis=1)[:, last_of_tied]
        hits_RT = (ordered_RN * true_NK[order_N, label]).cumsum(axis=1)[:, last_of_tied]
        gained_RT = np.diff(hits_RT, axis=1, prepend=0)
        precision_RT = np.divide(hits_RT, reached_RT, out=np.zeros_like(hits_RT), where=reached_RT > 0)
        all_R, sums_R = hits_RT[:, -1], (gained_RT * precision_RT).sum(axis=1)
        found_RK[:, label] = np.divide(sums_R, all_R, out=np.zeros_like(sums_R), where=all_R > 0)
    found_RK[:, np.isnan(scores_NK).any(axis=0)] = np.nan
    return found_RK
