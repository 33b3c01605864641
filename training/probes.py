"""What a frozen embedding knows: nearest neighbours and a linear classifier on it.

A probe is fitted on training embeddings and predicts classes of others. To add one, write a class that meets
:class:`Probe` and name it in ``PROBES``.

Shapes: N training samples, M samples to predict, D length of an embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pwcat.errors import TrainingError

__all__ = ["PROBES", "KNNProbe", "LinearProbe", "Probe", "fit_logistic", "make_probes"]

TEMPERATURE = 0.07  # of the votes: exp(similarity / 0.07), as DINO, SSL4Eco and Galileo weigh them
SMALL_PROBLEM = 2_000_000  # numbers in a feature matrix up to which one thread is fastest
CHUNK = 2048  # samples predicted at once: bounds the M x N similarities in memory
# Inverse strengths of the L2 penalty, in scikit-learn's sense (C), that the validation part chooses from.
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)


class Probe(Protocol):
    """A classifier on embeddings."""

    @property
    def name(self) -> str:
        """Its name in tables, with its settings."""

    def fit_predict(
        self,
        train_ND: np.ndarray,
        labels_N: np.ndarray,
        test_MD: np.ndarray,
        *,
        validation_N: np.ndarray,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Predicted labels (M,), and what was chosen on the way.

        Args:
            train_ND: embeddings of the training samples.
            labels_N: their labels.
            test_MD: embeddings of the samples to predict; nothing may be chosen by looking at them.
            validation_N: mask of the training samples that choices are made on; far in space from the others.
        """


@dataclass(frozen=True)
class KNNProbe:
    """Vote of the ``k`` nearest training samples by cosine similarity, each vote weighing ``exp(similarity / 0.07)``."""

    k: int

    @property
    def name(self) -> str:
        """``knn-`` and the number of neighbours."""
        return f"knn-{self.k}"

    def fit_predict(
        self,
        train_ND: np.ndarray,
        labels_N: np.ndarray,
        test_MD: np.ndarray,
        *,
        validation_N: np.ndarray,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """See :meth:`Probe.fit_predict`; with fewer than ``k`` training samples all of them vote."""
        classes, codes_N = np.unique(labels_N, return_inverse=True)
        k = min(self.k, len(train_ND))
        reference = functional.normalize(_tensor(train_ND), dim=1)
        codes = torch.from_numpy(codes_N)
        parts = [
            _vote(functional.normalize(part, dim=1) @ reference.T, codes, k=k, classes=len(classes))
            for part in torch.split(_tensor(test_MD), CHUNK)
        ]
        return classes[torch.cat(parts).numpy()], {"k": k}


def _vote(similarity_MN: Tensor, codes_N: Tensor, *, k: int, classes: int) -> Tensor:
    best = similarity_MN.topk(k, dim=1)
    weights_Mk = torch.exp((best.values - best.values[:, :1]) / TEMPERATURE)  # relative to the nearest: no overflow
    votes_MK = torch.zeros(len(similarity_MN), classes).scatter_add_(1, codes_N[best.indices], weights_Mk)
    return votes_MK.argmax(dim=1)


@dataclass(frozen=True)
class LinearProbe:
    """Logistic regression on standardised embeddings; its penalty is chosen on a part of the training samples.

    Each of ``strengths`` is fitted without the validation part and judged by its accuracy on that part; the best (the most
    penalised of equals) is fitted again on all training samples.
    """

    strengths: tuple[float, ...] = STRENGTHS
    name: str = "linear"

    def fit_predict(
        self,
        train_ND: np.ndarray,
        labels_N: np.ndarray,
        test_MD: np.ndarray,
        *,
        validation_N: np.ndarray,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """See :meth:`Probe.fit_predict`."""
        classes, codes_N = np.unique(labels_N, return_inverse=True)
        rest_N = ~validation_N
        accuracies = [
            (
                _fit_predict(
                    train_ND[rest_N], codes_N[rest_N], train_ND[validation_N], strength=strength, classes=len(classes)
                )
                == codes_N[validation_N]
            ).mean()
            for strength in self.strengths
        ]
        chosen = self.strengths[int(np.argmax(accuracies))]
        predicted = _fit_predict(train_ND, codes_N, test_MD, strength=chosen, classes=len(classes))
        return classes[predicted], {"C": chosen, "num_validation": int(validation_N.sum())}


def _fit_predict(
    train_ND: np.ndarray, codes_N: np.ndarray, test_MD: np.ndarray, *, strength: float, classes: int
) -> np.ndarray:
    mean, std = train_ND.mean(axis=0), train_ND.std(axis=0)
    std = np.where(std > 0, std, 1)
    weights, bias = fit_logistic((train_ND - mean) / std, codes_N, strength=strength, classes=classes)
    scores_MK: np.ndarray = ((test_MD - mean) / std) @ weights.T + bias
    return np.asarray(scores_MK.argmax(axis=1))


def fit_logistic(
    features_ND: np.ndarray, codes_N: np.ndarray, *, strength: float, classes: int, max_iterations: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, D) and biases (K,) of a multinomial logistic regression with an L2 penalty on the weights.

    Minimises ``sum(cross entropy) + |W|^2 / (2 strength)``, as scikit-learn's ``LogisticRegression(C=strength)`` does, by
    L-BFGS in float64.
    """
    features, codes = torch.from_numpy(features_ND).double(), torch.from_numpy(codes_N)
    weights = torch.zeros(classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weights, bias], max_iter=max_iterations, tolerance_grad=1e-7, history_size=20, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        solver.zero_grad()
        fit = functional.cross_entropy(features @ weights.T + bias, codes)
        loss = fit + weights.square().sum() / (2 * strength * len(codes))
        torch.autograd.backward(loss)
        return loss

    with _threads_for(features):
        solver.step(objective)  # type: ignore[no-untyped-call]
    return weights.detach().numpy(), bias.detach().numpy()


@contextmanager
def _threads_for(features_ND: Tensor) -> Iterator[None]:
    """One thread for small problems: handing a product of microseconds to several costs ten times the product."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if features_ND.numel() < SMALL_PROBLEM else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


PROBES: dict[str, Callable[[], Sequence[Probe]]] = {
    "knn": lambda: (KNNProbe(5), KNNProbe(20)),
    "linear": lambda: (LinearProbe(),),
}


def make_probes(names: Sequence[str]) -> list[Probe]:
    """The probes of these names; "knn" is two, of 5 and of 20 neighbours.

    Raises:
        TrainingError: a name is unknown.
    """
    if unknown := [name for name in names if name not in PROBES]:
        raise TrainingError(f"unknown probes {', '.join(unknown)}: choose from {', '.join(PROBES)}")
    return [probe for name in names for probe in PROBES[name]()]


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
