"""A job of scores: one model, one task, one probe, one sampling; its rows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from training.evaluate import evaluate
from training.resampling import FewShot, Official, Resampling
from training.studying.document import SamplingEntry
from training.studying.job import EvaluateWork
from training.tasks import TaskData

__all__ = ["sampling_of", "score"]


def sampling_of(entry: SamplingEntry) -> Resampling | FewShot | Official:
    """A sampling of a study's document."""
    if entry.kind == "official":
        return Official(repeats=entry.seeds, seed=entry.seed, block_km=entry.block_km)
    if entry.kind == "resampling":
        return Resampling(split=entry.split, block_km=entry.block_km, seed=entry.seed, repeats=entry.seeds)
    return FewShot(
        sizes=entry.sizes,
        per=entry.per,
        within_groups=entry.within is not None,
        grouping=entry.within or "continent",
        seeds=entry.seeds,
        seed=entry.seed,
        block_km=entry.block_km,
    )


def score(
    work: EvaluateWork,
    *,
    run_dir: Path | None,
    data: TaskData,
    cache_dir: Path,
    out_dir: Path,
    device: str,
    without: Collection[str] | None,
    tell: Callable[[int, int, str], None],
) -> list[dict[str, Any]]:
    """The rows of a model on a task by one probe; see :func:`training.evaluate.evaluate`.

    Args:
        work: what is to be scored.
        run_dir: folder of its run or weights; ``None`` of a control.
        data: the samples.
        cache_dir: where embeddings are kept.
        out_dir: gets the scores.
        device: torch device.
        without: names of samples that leak.
        tell: told how far it is.

    Raises:
        TrainingError: the samples do not fit the model or the sampling.
    """
    return evaluate(
        run_dir,
        data,
        probes=[work.probe.probe],
        sampling=sampling_of(work.sampling),
        control=work.model.control,
        without=without,
        finetuning=work.finetuning,
        out_dir=out_dir,
        cache_dir=cache_dir,
        device=device,
        progress=lambda what, done, total: tell(done, total, what),
    ).rows()
