"""What an evaluation found, as values and as ``scores.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from training.probing.kinds import Kind
from training.scores import Measure

__all__ = ["SCORES", "Figures", "ProbeScores", "Scores", "Summary", "Trial", "load_scores", "save_scores"]

SCORES = "scores.json"
FORMAT = 2  # of the file
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A draw of samples, as scores tell it.

    Attributes:
        size: training samples asked for, of a class, group or in total; ``None`` for all there are.
        seed: of the draw.
        drawn: the group within which it was drawn and tested, such as "continent=Africa"; empty where it is of all samples.
        num_train: samples that probes learn from in the end; see :meth:`ProbeScores.num_train`.
        num_validation: samples that settings were chosen on.
    """

    size: int | None
    seed: int
    drawn: str
    num_train: int
    num_validation: int


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One metric within one group of test samples, in every trial.

    Attributes:
        group: "all", "continent=Africa", "leaks=none", ...
        metric: of ``METRICS`` of the kind.
        values: of each trial; ``None`` where the group has no test samples, or the metric no value.
        ci_low: lower bound of the 95 % bootstrap interval over test samples, or test chips of a segmentation.
        ci_high: upper bound.
        num_test: test samples (chips) of the group in each trial.
    """

    group: str
    metric: str
    values: list[float | None]
    ci_low: list[float | None]
    ci_high: list[float | None]
    num_test: list[int]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One metric within one group, over the trials of one size.

    Attributes:
        metric: its name.
        group: see :class:`Figures`.
        size: see :class:`Trial`.
        drawn: likewise.
        measure: mean, deviation and interval over the trials.
        num_train: mean over the trials.
        num_test: mean over the trials.
    """

    metric: str
    group: str
    size: int | None
    drawn: str
    measure: Measure
    num_train: float
    num_test: float


@dataclass(frozen=True, kw_only=True)
class ProbeScores:
    """What one probe gave: figures of every group and metric, and what it chose in each trial."""

    probe: str
    chosen: list[dict[str, Any]]
    figures: list[Figures]

    def num_train(self, trials: Sequence[Trial]) -> list[int]:
        """Samples that it learnt from in each trial: fine-tuning never learns from those that choose its epoch."""
        told = [each.get("num_train") for each in self.chosen]
        return [trial.num_train if own is None else int(own) for trial, own in zip(trials, told, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """An evaluation; the fields are those of ``scores.json``.

    Attributes:
        run: name of the run's folder; ``None`` of the control.
        control: whether the weights are random: the row "none" of a table.
        weights_hash: hash of the weights.
        data_hash: hash of the samples of the pretraining; empty where there was none, or it is not known.
        task: name of the task.
        title: of the task, for people.
        kind: what is predicted.
        metric: the one that tables show.
        task_hash: hash of the samples, their labels and splits.
        source: where the samples are from, for people.
        num_samples: samples that take part.
        classes: samples of each class or label; empty of numbers and masks.
        left_out: why samples do not take part, and how many.
        sampling: how samples were drawn, and its settings.
        without: where it is told which samples leak from the pretraining; empty where that is not known.
        num_leaks: test samples that leak; group "leaks=none" has the scores without them.
        trials: the draws.
        results: one for each probe.
        spread: how embeddings fill their space, of :meth:`training.collapse.Spread.to_json`; empty of pixels, of fine-tuning
            alone, and of scores of earlier versions.
    """

    run: str | None
    control: bool
    weights_hash: str
    data_hash: str
    task: str
    title: str
    kind: Kind
    metric: str
    task_hash: str
    source: str
    num_samples: int
    classes: dict[str, int]
    left_out: dict[str, int]
    sampling: dict[str, Any]
    without: str
    num_leaks: int
    trials: list[Trial]
    results: list[ProbeScores]
    spread: dict[str, Any] = field(default_factory=dict)

    @property
    def num_train(self) -> int:
        """Training samples of the first trial."""
        return self.trials[0].num_train

    @property
    def num_test(self) -> int:
        """Test samples of the first trial."""
        figures = self.results[0].figures
        return next((each.num_test[0] for each in figures if each.group in {ALL, self.trials[0].drawn}), 0)

    @property
    def num_repeats(self) -> int:
        """Trials of each size."""
        first = (self.trials[0].size, self.trials[0].drawn)
        return sum((trial.size, trial.drawn) == first for trial in self.trials)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that there are, the one that tables show first."""
        found = dict.fromkeys(each.metric for result in self.results for each in result.figures)
        return tuple(dict.fromkeys([self.metric, *found]))

    @property
    def largest_size(self) -> int | None:
        """Training samples of the largest draws; ``None`` for all there are."""
        sizes = {trial.size for trial in self.trials}
        return None if None in sizes else max(size for size in sizes if size is not None)

    def result(self, probe: str) -> ProbeScores:
        """What the probe of this name gave.

        Raises:
            TrainingError: that probe was not used.
        """
        for result in self.results:
            if result.probe == probe:
                return result
        raise TrainingError(f"no probe {probe!r} in these scores; there are {', '.join(r.probe for r in self.results)}")

    def summaries(self, probe: str, metric: str | None = None) -> list[Summary]:
        """A metric of a probe (the one that tables show) in every group, where it was drawn within, and at every size.

        Raises:
            TrainingError: that probe was not used, or the metric is not among :attr:`metrics`.
        """
        metric = metric or self.metric
        if metric not in self.metrics:
            raise TrainingError(f"no {metric!r} in scores of {self.task}; there are {', '.join(self.metrics)}")
        kinds = dict.fromkeys((trial.drawn, trial.size) for trial in self.trials)
        result = self.result(probe)
        figures, num_train = [each for each in result.figures if each.metric == metric], result.num_train(self.trials)
        found = (self._summary(each, num_train, drawn, size) for each in figures for drawn, size in kinds)
        return [summary for summary in found if summary is not None]

    def summary(
        self, probe: str, metric: str | None = None, *, group: str = ALL, size: int | None = None, drawn: str = ""
    ) -> Summary:
        """One of :meth:`summaries`.

        Raises:
            TrainingError: there is none; says which there are.
        """
        found = self.summaries(probe, metric)
        for each in found:
            if (each.group, each.size, each.drawn) == (group, size, drawn):
                return each
        there = "; ".join(
            dict.fromkeys(f"{s.group}, size {s.size}" + (f", drawn {s.drawn}" * bool(s.drawn)) for s in found)
        )
        raise TrainingError(f"no scores of group {group!r}, size {size}, drawn {drawn!r}; there are: {there}")

    def headlines(self, probe: str, metric: str | None = None) -> list[Summary]:
        """Those of :meth:`summaries` that tables show: over all test samples, or within each group that was drawn within."""
        found = self.summaries(probe, metric)
        return [each for each in found if each.size == self.largest_size and each.group == (each.drawn or ALL)]

    def rows(self) -> list[dict[str, Any]]:
        """A row a figure; see :mod:`training.evaluating.rows`."""
        from training.evaluating.rows import rows_of

        return rows_of(self)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scores:
        """From what :meth:`to_json` gave."""
        results = [
            ProbeScores(**{**result, "figures": [Figures(**each) for each in result["figures"]]})
            for result in values["results"]
        ]
        return cls(**{**values, "trials": [Trial(**trial) for trial in values["trials"]], "results": results})

    def _summary(self, figures: Figures, num_train: Sequence[int], drawn: str, size: int | None) -> Summary | None:
        """``None`` where the group has no test samples in any of the trials."""
        here = [
            i
            for i, trial in enumerate(self.trials)
            if (trial.drawn, trial.size) == (drawn, size) and figures.num_test[i]
        ]
        if not here:
            return None
        here = [i for i in here if figures.values[i] is not None] or here  # R² of a single sample says nothing
        return Summary(
            metric=figures.metric,
            group=figures.group,
            size=size,
            drawn=drawn,
            measure=_measure(figures, here),
            num_train=float(np.mean([num_train[i] for i in here])),
            num_test=float(np.mean([figures.num_test[i] for i in here])),
        )


def load_scores(run_dir: str | Path) -> list[Scores]:
    """The scores in a run's folder, one for each task, set of samples and way of drawing; none where it was not evaluated.

    Raises:
        TrainingError: the file is damaged, or of an earlier version.
    """
    path = Path(run_dir) / SCORES
    if not path.is_file():
        return []
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(document, dict) and document["format"] == FORMAT:
            return [Scores.from_json(values) for values in document["scores"]]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise TrainingError(f"{path} cannot be read ({exc!r}): remove it, and evaluate the model again") from exc
    raise TrainingError(f"{path} holds scores of another version of pwcat: remove it, and evaluate the model again")


def save_scores(scores: list[Scores], folder: Path) -> None:
    """Write ``scores.json`` to a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"format": FORMAT, "scores": [each.to_json() for each in scores]}
    with replacing(folder / SCORES) as part:
        part.write_text("".join(_lines(document)) + "\n", encoding="utf-8")


def _lines(value: Any, depth: int = 0) -> Iterator[str]:
    """JSON with a line a key, but lists of plain values in one line: files that people can read."""
    if isinstance(value, dict) and value:
        yield "{\n"
        for i, (key, each) in enumerate(value.items()):
            yield " " * (depth + 1) + json.dumps(key) + ": "
            yield from _lines(each, depth + 1)
            yield ",\n" if i < len(value) - 1 else "\n"
        yield " " * depth + "}"
    elif isinstance(value, list) and any(isinstance(each, dict) and len(each) > 5 for each in value):
        yield "[\n"
        for i, each in enumerate(value):
            yield " " * (depth + 1)
            yield from _lines(each, depth + 1)
            yield ",\n" if i < len(value) - 1 else "\n"
        yield " " * depth + "]"
    else:
        yield json.dumps(value, allow_nan=False)


def _measure(figures: Figures, here: list[int]) -> Measure:
    def known(values: list[float | None]) -> list[float]:
        return [math.nan if (value := values[i]) is None else value for i in here]

    values = known(figures.values)
    return Measure(
        mean=float(np.mean(values)),
        sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        ci_low=float(np.mean(known(figures.ci_low))),
        ci_high=float(np.mean(known(figures.ci_high))),
        values=values,
    )
