"""What one evaluation computes: predictions of each probe for each draw, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pwcat.errors import TrainingError
from training.collapse import spread_of
from training.embed import embed_task
from training.evaluating.bench import Bench
from training.evaluating.dense import CHIPS, UNLABELLED, count_pixels, score_pixels
from training.evaluating.document import ProbeScores
from training.probes import PROBES, Predicted, make_probes

if TYPE_CHECKING:
    from training.finetuning.recipe import FinetuneRecipe
    from training.models import Model
    from training.resampling import Draw

__all__ = ["FINETUNE", "Progress", "Work", "check_probes"]

FINETUNE = "finetune"
# What is done, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]


def check_probes(names: Sequence[str]) -> None:
    """Make sure that all names are of probes, or "finetune".

    Raises:
        TrainingError: some are not; all of them are listed.
    """
    if unknown := [name for name in names if name not in {*PROBES, FINETUNE}]:
        raise TrainingError(f"unknown probes {', '.join(unknown)}: choose from {', '.join([*PROBES, FINETUNE])}")


@dataclass(frozen=True, kw_only=True)
class Work:
    """A model and the samples that it is to be scored on.

    Attributes:
        model: pretrained, or with random weights.
        bench: the samples and how they are divided.
        cache_dir: where embeddings are kept; ``None`` for nowhere.
        device: torch device.
        other_units: let values of another unit than in pretraining pass.
        pixels_a_chip: labelled pixels of a training chip that probes of a segmentation learn from.
        test_pixels_a_chip: of a test chip that they predict; all of them where ``None``.
        finetuning: recipe of "finetune"; as published for the architecture where ``None``.
        progress: told what is being done, and how far it is.
        spread: of embeddings, once probes were fitted on them; see :class:`training.collapse.Spread`.
    """

    model: Model
    bench: Bench
    cache_dir: Path | None
    device: str
    other_units: bool
    pixels_a_chip: int
    test_pixels_a_chip: int | None
    finetuning: FinetuneRecipe | None
    progress: Progress
    spread: dict[str, Any] = field(default_factory=dict, init=False)

    def results(self, names: Sequence[str]) -> list[ProbeScores]:
        """The scores of these probes, and last of fine-tuning where it is among them."""
        check_probes(names)
        frozen = [name for name in names if name != FINETUNE]
        segments = self.bench.data.info.kind == "segmentation"
        found = (self._of_pixels(frozen) if segments else self._of_embeddings(frozen)) if frozen else []
        return [*found, *([self._finetuned()] if FINETUNE in names else [])]

    def _of_embeddings(self, names: Sequence[str]) -> list[ProbeScores]:
        data, found = self.bench.data, []
        probes = make_probes(names, device=self.device, metric=data.info.metric, beta=data.info.small_error)
        if unfit := [probe.name for probe in probes if data.info.kind not in probe.kinds]:
            raise TrainingError(
                f"task {data.info.name} is a {data.info.kind}, which {', '.join(unfit)} cannot predict: leave "
                f"{'it' if len(unfit) == 1 else 'them'} out"
            )
        self.progress("embeddings", 0, len(data))
        features_ND = embed_task(
            self.model,
            data,
            cache_dir=self.cache_dir,
            device=self.device,
            other_units=self.other_units,
            progress=lambda done, total: self.progress("embeddings", done, total),
        )
        self.spread.update(spread_of(features_ND).to_json())
        for done, probe in enumerate(probes):
            self.progress(f"probe {probe.name}", done, len(probes))
            predicted = probe.fit_predict_many(
                features_ND, data.targets, self.bench.draws, kind=data.info.kind, num_classes=data.num_classes
            )
            found.append(self.bench.judge(probe.name, predicted))
        return found

    def _of_pixels(self, names: Sequence[str]) -> list[ProbeScores]:
        probes = make_probes(names, device=self.device)
        if unfit := [probe.name for probe in probes if "classification" not in probe.kinds]:
            raise TrainingError(f"pixels have classes, which {', '.join(unfit)} cannot predict: take other probes")
        counted = score_pixels(
            probes,
            self.model,
            self.bench.data,
            self.bench.draws,
            per_chip=self.pixels_a_chip,
            per_test_chip=self.test_pixels_a_chip,
            seed=self.bench.seed,
            device=self.device,
            progress=lambda done, total: self.progress("pixels of test chips", done, total),
        )
        return [
            self.bench.judge_pixels(probe.name, counts, chosen)
            for probe, (counts, chosen) in zip(probes, counted, strict=True)
        ]

    def _finetuned(self) -> ProbeScores:
        from training.finetune import finetune

        predicted: list[Predicted] = []
        for number, draw in enumerate(self.bench.draws):
            what = f"fine-tuning, draw {number + 1} of {len(self.bench.draws)}, steps"
            predicted.append(
                finetune(
                    self.model,
                    self.bench.data,
                    draw,
                    recipe=self.finetuning,
                    device=self.device,
                    other_units=self.other_units,
                    progress=partial(self.progress, what),
                )
            )
        if self.bench.data.info.kind != "segmentation":
            return self.bench.judge(FINETUNE, predicted)
        counts = [self._counts(draw, each) for draw, each in zip(self.bench.draws, predicted, strict=True)]
        return self.bench.judge_pixels(FINETUNE, counts, [each.chosen for each in predicted])

    def _counts(self, draw: Draw, predicted: Predicted) -> np.ndarray:
        """Hits, true and predicted pixels of each test chip, (M, 3, K), of predicted masks (M, Y, X), -1 where none is."""
        data, counts = self.bench.data, []
        for start in range(0, len(draw.test), CHIPS):
            part = slice(start, start + CHIPS)
            for mask_YX, values_YX in zip(data.masks(draw.test[part]), predicted.values[part], strict=True):
                seen = values_YX != UNLABELLED
                counts.append(count_pixels(mask_YX[seen], values_YX[seen], data.num_classes))
        return np.stack(counts)
