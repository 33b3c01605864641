"""What a frozen embedding knows: neighbours, linear heads, small networks and forests on it.

A probe is fitted on training embeddings and predicts the targets of others: classes, labels that a sample has or not, or
numbers. All draws of the samples (seeds, few-shot sizes) are given at once, and are fitted side by side. To add one, write a
class that meets :class:`Probe` and name it in ``PROBES``.

Shapes: N samples, D length of an embedding, K classes or labels, M samples to predict.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pwcat.errors import TrainingError
from training.probing.descent import Recipe, steps_per_epoch
from training.probing.dummy import DummyProbe
from training.probing.forest import fit_forests, fit_predict_forest
from training.probing.given import check_features, tensors_of
from training.probing.heads import Affine, Fitted, Head
from training.probing.kinds import EVERY, Kind, Predicted, check_targets, num_outputs
from training.probing.knn import KNNProbe, predict_with_all
from training.probing.linear import fit_linear
from training.probing.logistic import fit_labels, fit_logistic, precision_for
from training.probing.mlp import MLP, fit_mlp
from training.probing.one_draw import OneDraw
from training.probing.plateau import PlateauProbe
from training.probing.ridge import fit_ridge
from training.probing.stacks import stacked
from training.probing.strengths import Choice, Plan, choose_and_fit, choose_and_predict
from training.resampling import Draw

__all__ = [
    "PROBES",
    "DummyProbe",
    "ForestProbe",
    "KNNProbe",
    "LinearProbe",
    "LogisticProbe",
    "MLPProbe",
    "PlateauProbe",
    "Predicted",
    "Probe",
    "RidgeProbe",
    "make_probes",
    "predict_with_all",
]

# Inverse strengths of the L2 penalty, in scikit-learn's sense (C).
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
PENALTIES = (1e4, 1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2)
# Sixteen from 1e-4 to 8e-1, as the public probe of SatMAE on GEO-Bench has (Galileo, `src/eval/linear_probe.py`).
RATES = tuple(digit * 10.0**power for power in (-4, -3, -2, -1) for digit in (1, 3, 5, 8))
LINEAR = Recipe(epochs=50, batch=256)
NETWORK = Recipe(epochs=200, batch=200)


class Probe(Protocol):
    """A classifier or regressor on embeddings."""

    @property
    def name(self) -> str:
        """Its name in tables, with its settings."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What it can predict."""

    def fit_predict_many(
        self, features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int
    ) -> list[Predicted]:
        """What it predicts for the test samples of each draw.

        Args:
            features_ND: embeddings of all samples.
            targets_N: (N,) whole numbers from 0 to ``num_classes`` - 1; (N, K) labels; (N,) numbers.
            draws: which samples are trained on, which of those choices are made on, and which are predicted; nothing may be
                chosen by looking at the targets of the latter.
            kind: what is predicted.
            num_classes: classes or labels there are; 0 of a regression.

        Raises:
            TrainingError: it cannot predict this kind, or the targets are not of it.
        """

    def fit_many(
        self, features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int
    ) -> list[Head]:
        """The fitted head of each draw, to predict samples that come later, such as the pixels of more chips than fit memory.

        See :meth:`fit_predict_many`, with which they agree; the test samples of the draws play no part.
        """


class _Planned(OneDraw, ABC):
    """Heads whose settings are chosen on validation."""

    @abstractmethod
    def _plan(
        self, features_ND: np.ndarray, targets_N: np.ndarray, *, kind: Kind, num_classes: int
    ) -> tuple[Plan, Tensor, Tensor]:
        """How heads are fitted, with embeddings and targets as tensors."""

    def fit_predict_many(
        self, features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int
    ) -> list[Predicted]:
        """See :meth:`Probe.fit_predict_many`."""
        plan, features, targets = self._plan(features_ND, targets_N, kind=kind, num_classes=num_classes)
        return choose_and_predict(plan, features, targets, draws, kind=kind)

    def fit_many(
        self, features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int
    ) -> list[Head]:
        """See :meth:`Probe.fit_many`."""
        plan, features, targets = self._plan(features_ND, targets_N, kind=kind, num_classes=num_classes)
        return choose_and_fit(plan, features, targets, draws, kind=kind)


@dataclass(frozen=True, kw_only=True)
class LogisticProbe(_Planned):
    """Logistic regression on standardised embeddings; its penalty is chosen on a part of the training samples.

    Each of ``strengths`` is fitted without the validation part and judged by its accuracy on that part (labels: by micro F1);
    the best (the most penalised of equals) is fitted again on all training samples. As scikit-learn's
    ``LogisticRegression``, one for each label where samples have several.

    Attributes:
        strengths: inverse strengths C of the penalty.
        default: that of draws without a validation part.
        balanced: let classes weigh the same.
        device: torch device.
        name: in tables.
    """

    strengths: tuple[float, ...] = STRENGTHS
    default: float = 1.0
    balanced: bool = False
    device: str = "cpu"
    name: str = "logistic"
    kinds: tuple[Kind, ...] = ("classification", "multilabel")

    def _plan(
        self, features_ND: np.ndarray, targets_N: np.ndarray, *, kind: Kind, num_classes: int
    ) -> tuple[Plan, Tensor, Tensor]:
        """How heads are fitted, with embeddings and targets as tensors."""
        features, targets = tensors_of(self, features_ND, targets_N, kind, num_classes)

        def fit(rows: Sequence[np.ndarray], settings_SQ: Tensor, seeds: Sequence[int]) -> Fitted:
            stack = stacked(rows, dtype=precision_for(max(map(len, rows))), device=self.device)
            strengths_SQ = settings_SQ.to(stack.real_SN)
            if kind == "multilabel":
                return Affine.of(fit_labels(features, targets, stack, strengths_SQ=strengths_SQ))
            fitted = fit_logistic(
                features, targets, stack, strengths_SQ=strengths_SQ, classes=num_classes, balanced=self.balanced
            )
            return Affine.of(fitted)

        def cost(samples: int, settings: int) -> int:
            variables = min(samples, features.shape[1]) + 1
            return (
                samples * (4 * features.shape[1] + 4 * settings * num_classes) + 20 * variables * settings * num_classes
            )

        choice = Choice(name="C", settings=self.strengths, default=self.default)
        return Plan(fit=fit, choice=choice, cost=cost, alike=precision_for), features, targets


@dataclass(frozen=True, kw_only=True)
class RidgeProbe(_Planned):
    """Linear regression with an L2 penalty on standardised embeddings, in closed form; its strength is chosen on validation.

    Attributes:
        penalties: strengths alpha, in scikit-learn's sense, strongest first.
        default: that of draws without a validation part.
        device: torch device.
        name: in tables.
    """

    penalties: tuple[float, ...] = PENALTIES
    default: float = 1e2
    device: str = "cpu"
    name: str = "ridge"
    kinds: tuple[Kind, ...] = ("regression",)

    def _plan(
        self, features_ND: np.ndarray, targets_N: np.ndarray, *, kind: Kind, num_classes: int
    ) -> tuple[Plan, Tensor, Tensor]:
        """How heads are fitted, with embeddings and targets as tensors."""
        features, targets = tensors_of(self, features_ND, targets_N, kind, num_classes)

        def fit(rows: Sequence[np.ndarray], settings_SQ: Tensor, seeds: Sequence[int]) -> Fitted:
            stack = stacked(rows, dtype=torch.float64, device=self.device)
            return Affine.of(fit_ridge(features, targets, stack, penalties_SQ=settings_SQ.to(stack.real_SN)))

        def cost(samples: int, settings: int) -> int:
            return 6 * samples * features.shape[1]

        choice = Choice(name="alpha", settings=self.penalties, default=self.default)
        return Plan(fit=fit, choice=choice, cost=cost), features, targets


@dataclass(frozen=True, kw_only=True)
class _DescentProbe(_Planned, ABC):
    """A head trained by AdamW, all draws and learning rates side by side; the rate is chosen on validation."""

    rates: tuple[float, ...]
    default: float
    recipe: Recipe
    name: str
    refit: bool = True
    device: str = "cpu"
    kinds: tuple[Kind, ...] = EVERY

    def _plan(
        self, features_ND: np.ndarray, targets_N: np.ndarray, *, kind: Kind, num_classes: int
    ) -> tuple[Plan, Tensor, Tensor]:
        """How heads are fitted, with embeddings and targets as tensors."""
        outputs, length = num_outputs(kind, num_classes), int(features_ND.shape[1])
        features, targets = tensors_of(self, features_ND, targets_N, kind, num_classes)

        def fit(rows: Sequence[np.ndarray], rates_SQ: Tensor, seeds: Sequence[int]) -> Fitted:
            return self._train(features, targets, rows, seeds, kind=kind, outputs=outputs, rates_SQ=rates_SQ)

        def cost(samples: int, settings: int) -> int:
            return self._cost(samples, settings, length=length, outputs=outputs)

        def steps(samples: int) -> int:
            return steps_per_epoch(samples, self.recipe)

        choice = Choice(name="lr", settings=self.rates, default=self.default, refit=self.refit, by_loss=True)
        return Plan(fit=fit, choice=choice, cost=cost, alike=steps), features, targets

    @abstractmethod
    def _train(self, *data: Any, outputs: int, **settings: Any) -> Fitted:
        """Heads of all draws and rates, of features, targets, and the rows and the seed of each draw."""

    @abstractmethod
    def _cost(self, samples: int, settings: int, *, length: int, outputs: int) -> int:
        """Numbers in memory for a draw of so many samples and rates, of embeddings of this length."""


@dataclass(frozen=True, kw_only=True)
class LinearProbe(_DescentProbe):
    """Batch normalisation and a linear layer, AdamW for 50 epochs; the learning rate is the best of 16 on validation.

    The recipe is that of the public probe of SatMAE on GEO-Bench: 10 % of the steps warm up, then a cosine to 1e-5. Its batches
    are not known; ours have at most 256 samples. Of rates that do equally well on validation, that of least loss is taken.

    Attributes:
        rates: learning rates to choose from, lowest first.
        default: that of draws without a validation part.
        recipe: epochs, batch and schedule.
        refit: train again on all training samples with the chosen rate.
        device: torch device.
        name: in tables.
    """

    rates: tuple[float, ...] = RATES
    default: float = 1e-2
    recipe: Recipe = LINEAR
    name: str = "linear"

    def _train(self, *data: Any, outputs: int, **settings: Any) -> Affine:
        return fit_linear(*data, outputs=outputs, recipe=self.recipe, **settings)

    def _cost(self, samples: int, settings: int, *, length: int, outputs: int) -> int:
        batch = min(samples, self.recipe.batch)
        return settings * outputs * (6 * length + 4 * batch) + 4 * batch * length


@dataclass(frozen=True, kw_only=True)
class MLPProbe(_DescentProbe):
    """One hidden layer of 100 rectified units on standardised embeddings, AdamW; the learning rate is chosen on validation.

    Width, epochs and batch are the defaults of scikit-learn's ``MLPClassifier``; the schedule is the linear probe's.

    Attributes:
        hidden: units of the hidden layer.
        rates: learning rates to choose from, lowest first.
        default: that of draws without a validation part.
        recipe: epochs, batch and schedule.
        refit: train again on all training samples with the chosen rate.
        device: torch device.
        name: in tables.
    """

    hidden: int = 100
    rates: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    default: float = 1e-3
    recipe: Recipe = NETWORK
    name: str = "mlp"

    def _train(self, *data: Any, outputs: int, **settings: Any) -> MLP:
        return fit_mlp(*data, hidden=self.hidden, outputs=outputs, recipe=self.recipe, **settings)

    def _cost(self, samples: int, settings: int, *, length: int, outputs: int) -> int:
        batch = min(samples, self.recipe.batch)
        return settings * self.hidden * (6 * (length + outputs) + 4 * batch) + samples * length


@dataclass(frozen=True, kw_only=True)
class ForestProbe(OneDraw):
    """A random forest of scikit-learn, with its defaults; a draw's seed grows its trees.

    Attributes:
        trees: of the forest.
        name: in tables.
    """

    trees: int = 100
    name: str = "forest"
    kinds: tuple[Kind, ...] = EVERY

    def fit_predict_many(
        self, features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int
    ) -> list[Predicted]:
        """See :meth:`Probe.fit_predict_many`."""
        targets = check_targets(
            self.name, self.kinds, targets_N, kind=kind, num_classes=num_classes, num_samples=len(features_ND)
        )
        check_features(features_ND)
        return fit_predict_forest(features_ND, targets, draws, kind=kind, num_classes=num_classes, trees=self.trees)

    def fit_many(
        self, features_ND: np.ndarray, targets_N: np.ndarray, draws: Sequence[Draw], *, kind: Kind, num_classes: int
    ) -> list[Head]:
        """See :meth:`Probe.fit_many`."""
        targets = check_targets(
            self.name, self.kinds, targets_N, kind=kind, num_classes=num_classes, num_samples=len(features_ND)
        )
        check_features(features_ND)
        return fit_forests(features_ND, targets, draws, kind=kind, num_classes=num_classes, trees=self.trees)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What probes know of the task and the machine.

    Attributes:
        device: torch device.
        metric: of the task, in which the dummy is the best constant.
        beta: of the task's numbers, below which an error is small (:attr:`training.tasks.base.TaskInfo.small_error`).
    """

    device: str = "cpu"
    metric: str = ""
    beta: float = 1.0


PROBES: dict[str, Callable[[Setting], Sequence[Probe]]] = {
    "knn": lambda of: (KNNProbe(5, of.device), KNNProbe(20, of.device)),
    "linear": lambda of: (LinearProbe(device=of.device),),
    "logistic": lambda of: (LogisticProbe(device=of.device),),
    "mlp": lambda of: (MLPProbe(device=of.device),),
    "forest": lambda of: (ForestProbe(),),
    "ridge": lambda of: (RidgeProbe(device=of.device),),
    "mlp-plateau": lambda of: (PlateauProbe(device=of.device, beta=of.beta),),
    "dummy": lambda of: (DummyProbe(metric=of.metric),),
}


def make_probes(names: Iterable[str], *, device: str = "cpu", metric: str = "", beta: float = 1.0) -> list[Probe]:
    """The probes of these names; "knn" is two, of 5 and of 20 neighbours. See :class:`Setting`.

    Raises:
        TrainingError: a name is unknown.
    """
    names = list(names)
    if unknown := [name for name in names if name not in PROBES]:
        raise TrainingError(f"unknown probes {', '.join(unknown)}: choose from {', '.join(PROBES)}")
    setting = Setting(device=device, metric=metric, beta=beta)
    return [probe for name in names for probe in PROBES[name](setting)]
