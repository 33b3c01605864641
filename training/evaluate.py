"""Scores of a pretrained model on a task: frozen embeddings or a fine-tuned copy, drawn, tested and told by group.

Samples come as :class:`~training.tasks.base.TaskData`, of a benchmark's files or of a catalog. The steps are in
:mod:`training.evaluating`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pwcat.errors import TrainingError
from training.embed import check_data
from training.evaluating.bench import Bench
from training.evaluating.dense import PIXELS_A_CHIP
from training.evaluating.document import SCORES, Figures, ProbeScores, Scores, Summary, Trial, load_scores, save_scores
from training.evaluating.draws import default_sampling, described, draws_of, key_of
from training.evaluating.leaks import Leaks, leaks_of, warn_of_maps_seen, with_leaks
from training.evaluating.models import model_of, pretrained_on
from training.evaluating.work import Progress, Work, check_probes
from training.models.folder import weights_hash
from training.probing.kinds import Kind
from training.resampling import FewShot, Official, Resampling, Sampling
from training.scores import RESAMPLES, Measure
from training.tasks import CATALOG_TASKS
from training.tasks.base import CatalogTask, TaskData

if TYPE_CHECKING:
    from catalog.subset import Subset
    from training.finetuning.recipe import FinetuneRecipe
    from training.recipe import TrainRecipe

__all__ = [
    "SCORES",
    "FewShot",
    "Figures",
    "Measure",
    "Official",
    "ProbeScores",
    "Resampling",
    "Scores",
    "Summary",
    "Trial",
    "default_probes",
    "evaluate",
    "load_scores",
    "save_scores",
]

log = logging.getLogger(__name__)


def default_probes(kind: Kind) -> tuple[str, ...]:
    """The probes of a plain evaluation: neighbours, and linear heads of classes, labels or numbers."""
    return ("knn", "ridge") if kind == "regression" else ("knn", "logistic")


def evaluate(
    run_dir: str | Path | None,
    data: TaskData | Subset,
    *,
    task: str | CatalogTask | None = None,
    probes: Sequence[str] = (),
    sampling: Sampling | None = None,
    seed: int | None = None,
    control: TrainRecipe | None = None,
    without: Leaks | None = None,
    metric: str | None = None,
    pixels_a_chip: int = PIXELS_A_CHIP,
    test_pixels_a_chip: int | None = None,
    resamples: int = RESAMPLES,
    finetuning: FinetuneRecipe | None = None,
    out_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    device: str = "cpu",
    other_units: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Scores:
    """Score a pretrained model, or random weights, on a task and write ``scores.json`` in the run's folder.

    Every metric of the task's kind is given over all test samples and within each of their groups (continent, biome, land
    cover), with a 95 % bootstrap interval over test samples, or over test chips of a segmentation.

    Args:
        run_dir: folder of a run, or a model folder; ``None`` for the control.
        data: a task's samples, or a subset of a catalog; not those pretrained on, if the score is to say something.
        task: of a subset: name of a catalog's task, or such a task; "landcover" by default.
        probes: names of probes: "knn" (5 and 20 neighbours), "linear", "logistic", "mlp", "forest", "ridge" (numbers),
            "mlp-plateau" (GeoJEPA's head), "dummy" (the best constant), and "finetune", which trains a copy of the model. See
            :func:`default_probes`.
        sampling: ``Resampling`` (a catalog's tasks by default), ``Official`` (benchmarks by default) or ``FewShot``.
        seed: fixes every draw, in place of the sampling's own.
        control: with ``run_dir=None``, the recipe whose architecture is scored with fresh weights (of its seed); chips are
            scaled by the statistics of the task's training samples.
        without: names of test samples that leak from the pretraining, or the Parquet of an audit: scores without them are given
            beside those with them, as group "leaks=none".
        metric: the one that tables show; the task's by default.
        pixels_a_chip: labelled pixels of a training chip that probes of a segmentation learn from.
        test_pixels_a_chip: of a test chip that they predict; all of them by default.
        resamples: bootstrap resamples of an interval.
        finetuning: recipe of "finetune"; as published for the architecture by default (:mod:`training.finetune`).
        out_dir: where scores and embeddings are written; the run's folder by default, nowhere for a control without it.
        cache_dir: where embeddings are kept; "embeddings" in ``out_dir`` by default.
        device: torch device.
        other_units: let values of another unit than in pretraining pass.
        progress: told what is being done, and how far it is.

    Raises:
        TrainingError: the data do not fit the model, or too few labelled samples are left on one side.
    """
    names = tuple(probes) or None
    check_probes(names or ())
    data, leaking = _marked(_task_data(data, task, metric=metric), without, pretraining=pretrained_on(run_dir))
    warn_of_maps_seen(data, pretrained_on(run_dir))
    sampling = sampling or default_sampling(data)
    if seed is not None:
        sampling = replace(sampling, seed=seed)
    grouping = sampling.grouping if isinstance(sampling, FewShot) else ""
    draws = draws_of(data, sampling)
    bench = Bench(data=data, draws=draws, grouping=grouping, seed=sampling.seed, resamples=resamples)
    model = model_of(run_dir, data, control)
    check_data(model, data, other_units=other_units)
    digest = weights_hash(model)
    pixels = {"pixels_a_chip": pixels_a_chip, "test_pixels_a_chip": test_pixels_a_chip}
    if wrong := {name: number for name, number in pixels.items() if number is not None and number < 1}:
        raise TrainingError(f"{wrong}: at least one pixel of a chip is learnt from, and predicted")
    folder = Path(out_dir) if out_dir else Path(run_dir) if run_dir else None
    work = Work(
        model=model,
        bench=bench,
        cache_dir=Path(cache_dir) if cache_dir else folder / "embeddings" if folder else None,
        device=device,
        other_units=other_units,
        pixels_a_chip=pixels_a_chip,
        test_pixels_a_chip=test_pixels_a_chip,
        finetuning=finetuning,
        progress=progress,
    )
    scores = Scores(
        run=Path(run_dir).name if run_dir else None,
        control=run_dir is None,
        weights_hash=digest,
        data_hash=pretrained_on(run_dir),
        task=data.info.name,
        title=data.info.title,
        kind=data.info.kind,
        metric=data.info.metric,
        task_hash=data.hash,
        source=data.info.source,
        num_samples=len(data),
        classes=_class_counts(data),
        left_out=dict(data.left_out),
        sampling=described(sampling) | (pixels if data.info.kind == "segmentation" else {}),
        without=_name_of(without),
        num_leaks=sum(str(each) in leaking for each in data.ids[np.unique(np.concatenate([d.test for d in draws]))]),
        trials=bench.trials,
        results=work.results(names or default_probes(data.info.kind)),
        spread=work.spread,
    )
    if folder:
        _write(scores, folder)
    return scores


def _task_data(data: TaskData | Subset, task: str | CatalogTask | None, *, metric: str | None) -> TaskData:
    if isinstance(data, TaskData):
        if task is not None:
            raise TrainingError(
                f"task {data.info.name} is opened already: leave out `task`, or give a subset of a catalog"
            )
        opened = data
    else:
        asked = "landcover" if task is None else task
        opened = (_named(asked) if isinstance(asked, str) else asked).open(data)
    return replace(opened, info=replace(opened.info, metric=metric)) if metric else opened


def _named(name: str) -> CatalogTask:
    if name not in CATALOG_TASKS:
        raise TrainingError(
            f"unknown task {name!r} of a catalog: choose from {', '.join(CATALOG_TASKS)}, column:NAME or number:NAME; "
            "benchmarks are opened by training.tasks.open_task"
        )
    return CATALOG_TASKS[name]


def _marked(data: TaskData, without: Leaks | None, *, pretraining: str) -> tuple[TaskData, frozenset[str]]:
    """The task with its leaking samples in groups of their own, and their names."""
    if without is None:
        return data, frozenset()
    leaking = leaks_of(without, data, pretraining=pretraining)
    return with_leaks(data, leaking), leaking


def _name_of(without: Leaks | None) -> str:
    if without is None:
        return ""
    return (
        Path(without).name if isinstance(without, str | Path) else "names given"
    )  # no one's folders in what is published


def _class_counts(data: TaskData) -> dict[str, int]:
    """Samples of each class or label."""
    if data.info.kind == "classification":
        counts: Any = Counter(data.targets.tolist())
        return {name: counts[code] for code, name in enumerate(data.info.classes)}
    if data.info.kind == "multilabel":
        return dict(zip(data.info.classes, np.asarray(data.targets, dtype=bool).sum(axis=0).tolist(), strict=True))
    return {}


def _write(scores: Scores, folder: Path) -> None:
    """Add the scores to the folder's, in place of earlier ones of the same task, samples and way of drawing."""
    try:
        others = load_scores(folder)
    except TrainingError as exc:
        log.warning("earlier scores are replaced: %s", exc)
        others = []
    save_scores([*(old for old in others if _key(old) != _key(scores)), scores], folder)


def _key(scores: Scores) -> tuple[Any, ...]:
    return scores.task, scores.task_hash, *key_of(scores.sampling)
