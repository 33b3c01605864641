"""Predictions of several draws, judged in every group of test samples by every metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pwcat.errors import TrainingError
from training.evaluating.document import ALL, Figures, ProbeScores, Trial
from training.probing.kinds import Predicted
from training.resampling import Draw
from training.scores import METRICS, RESAMPLES, Estimate, estimates_by, pixel_estimates_by
from training.scoring.metrics import ON_REQUEST
from training.tasks.base import TaskData

__all__ = ["Bench"]

LEAST = {"r2": 2}  # test samples without which a metric says nothing

# By group, and by metric, the estimates of one draw.
Found = Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The samples of a task, and how they are divided.

    Attributes:
        data: the samples.
        draws: how they are divided.
        grouping: what the groups are that draws were made within; empty of draws of all samples.
        seed: fixes the bootstrap.
        resamples: of the bootstrap.
    """

    data: TaskData
    draws: Sequence[Draw]
    grouping: str
    seed: int
    resamples: int = RESAMPLES

    def __post_init__(self) -> None:
        if self.data.info.metric not in self.metrics:
            raise TrainingError(
                f"task {self.data.info.name}: {self.data.info.metric!r} is no metric of this {self.data.info.kind}; there are "
                f"{', '.join(self.metrics)}"
            )

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are given; F1 of class 1 only where there are two classes, the error rate only where it is shown."""
        info = self.data.info
        lacking = ON_REQUEST - {info.metric} | (set() if self.data.num_classes == 2 else {"f1"})
        return tuple(name for name in METRICS[info.kind] if name not in lacking)

    @property
    def trials(self) -> list[Trial]:
        """The draws, as scores tell them."""
        return [
            Trial(
                size=draw.size,
                seed=draw.seed,
                drawn=self._drawn(draw),
                num_train=len(draw.learnt),
                num_validation=int(draw.validation.sum()),
            )
            for draw in self.draws
        ]

    def judge(self, probe: str, predicted: Sequence[Predicted]) -> ProbeScores:
        """The scores of predictions for the test samples of each draw."""

        def found(i: int, groups: Mapping[str, np.ndarray], rng: np.random.Generator) -> Found:
            return estimates_by(
                groups,
                self.data.targets[self.draws[i].test],
                predicted[i].values,
                kind=self.data.info.kind,
                rng=rng,
                metrics=self.metrics if predicted[i].scores is not None else [m for m in self.metrics if m != "map"],
                scores_NK=predicted[i].scores if self.data.info.kind == "multilabel" else None,
                resamples=self.resamples,
            )

        return self._judged(probe, found, [each.chosen for each in predicted])

    def judge_pixels(self, probe: str, counts: Sequence[np.ndarray], chosen: Sequence[dict[str, Any]]) -> ProbeScores:
        """The scores of counts (M, 3, K): hits, true and predicted pixels of each test chip of each draw, by class."""

        def found(i: int, groups: Mapping[str, np.ndarray], rng: np.random.Generator) -> Found:
            return pixel_estimates_by(groups, counts[i], rng=rng, metrics=self.metrics, resamples=self.resamples)

        return self._judged(probe, found, chosen)

    def _judged(
        self,
        probe: str,
        found: Callable[[int, Mapping[str, np.ndarray], np.random.Generator], Found],
        chosen: Sequence[dict[str, Any]],
    ) -> ProbeScores:
        table = _Table(len(self.draws))
        for i, draw in enumerate(self.draws):
            within = {name: of_N[draw.test] for name, of_N in self._groupings(draw).items()}
            sizes = _sizes(within, len(draw.test))
            for group, each in found(i, within, np.random.default_rng([self.seed, i, 1])).items():
                table.add(i, self._drawn(draw) if group == ALL and draw.group else group, sizes[group], each)
        return ProbeScores(probe=probe, chosen=list(chosen), figures=table.figures())

    def _groupings(self, draw: Draw) -> dict[str, np.ndarray]:
        """Groups to score within; where all test samples are of one group, it is that draw's "all"."""
        return {name: of_N for name, of_N in self.data.groups.items() if not (draw.group and name == self.grouping)}

    def _drawn(self, draw: Draw) -> str:
        return f"{self.grouping}={draw.group}" if draw.group else ""


class _Table:
    """Figures as they come, draw by draw."""

    def __init__(self, draws: int) -> None:
        self._draws = draws
        self._figures: dict[tuple[str, str], Figures] = {}

    def add(self, draw: int, group: str, size: int, found: Mapping[str, Estimate]) -> None:
        """Put in the estimates of a group of so many test samples in one draw."""
        for metric, estimate in found.items():
            held = self._figures.setdefault((group, metric), self._empty(group, metric))
            held.num_test[draw] = size
            if size < LEAST.get(metric, 1):
                continue
            held.values[draw] = _known(estimate.value)
            held.ci_low[draw], held.ci_high[draw] = _known(estimate.ci_low), _known(estimate.ci_high)

    def figures(self) -> list[Figures]:
        """By group, "all" first, then by name."""
        return [self._figures[key] for key in sorted(self._figures, key=lambda key: (key[0] != ALL, key[0]))]

    def _empty(self, group: str, metric: str) -> Figures:
        def nothing() -> list[float | None]:
            return [None] * self._draws

        return Figures(
            group=group,
            metric=metric,
            values=nothing(),
            ci_low=nothing(),
            ci_high=nothing(),
            num_test=[0] * self._draws,
        )


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _sizes(groups: Mapping[str, np.ndarray], samples: int) -> dict[str, int]:
    """Test samples of each group, by the names that estimates have."""
    sizes = {ALL: samples}
    for grouping, of_N in groups.items():
        names, counts = np.unique([str(each) for each in of_N if each is not None], return_counts=True)
        sizes |= {f"{grouping}={name}": int(count) for name, count in zip(names, counts, strict=True)}
    return sizes
