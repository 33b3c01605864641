"""Scores of a pretrained model on a labelled subset: frozen embeddings, probes, resampled and split in space."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from training.checkpoint import load_model_folder
from training.embed import embed_subset
from training.models import Model, build_model
from training.models.folder import weights_hash
from training.normalize import measure
from training.probes import Probe, make_probes
from training.recipe import TrainRecipe
from training.resampling import Draw, Resampling, Split
from training.scores import Measure, Score, measure_of, score, score_by
from training.tasks import Labels, Task, make_task

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Measure", "ProbeScores", "Scores", "Summary", "evaluate", "load_scores"]

SCORES = "scores.json"
CONTINENT = "div:continent"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Accuracy and macro F1 over the repeats, and how many samples were tested on (mean over the repeats)."""

    accuracy: Measure
    macro_f1: Measure
    num_test: float


@dataclass(frozen=True, kw_only=True)
class ProbeScores:
    """What one probe gave: over all test samples, within each continent, and what it chose in each repeat."""

    probe: str
    overall: Summary
    by_continent: dict[str, Summary]
    chosen: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """An evaluation; the fields are those of ``scores.json``.

    Attributes:
        run: name of the run's folder; ``None`` of the control.
        control: whether the weights are random: the row "none" of a table.
        weights_hash: hash of the weights.
        task: name of the task.
        data: hash, number of samples and collections of the labelled subset.
        split: how train and test are told apart: "column" reads ``pwcat:split``, "blocks" takes places.
        block_km: side of a place, for "blocks" and for the validation part.
        seed: fixes every draw.
        repeats: how often train samples (and places, for "blocks") were drawn.
        num_train: training samples of the first repeat.
        num_test: test samples of the first repeat.
        classes: samples of each class.
        dropped: samples of each class that was too rare.
        unlabelled: samples without a label.
        results: one for each probe.
    """

    run: str | None
    control: bool
    weights_hash: str
    task: str
    data: dict[str, Any]
    split: str
    block_km: float
    seed: int
    repeats: int
    num_train: int
    num_test: int
    classes: dict[str, int]
    dropped: dict[str, int]
    unlabelled: int
    results: list[ProbeScores]

    def result(self, probe: str) -> ProbeScores:
        """What the probe of this name gave.

        Raises:
            TrainingError: that probe was not used.
        """
        for result in self.results:
            if result.probe == probe:
                return result
        raise TrainingError(f"no probe {probe!r} in these scores; there are {', '.join(r.probe for r in self.results)}")

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scores:
        """From what :meth:`to_json` gave."""
        results = [
            ProbeScores(
                probe=result["probe"],
                overall=_summary_from(result["overall"]),
                by_continent={name: _summary_from(summary) for name, summary in result["by_continent"].items()},
                chosen=result["chosen"],
            )
            for result in values["results"]
        ]
        return cls(**{**values, "results": results})


def evaluate(
    run_dir: str | Path | None,
    subset: Subset,
    *,
    task: str | Task = "landcover",
    probes: Sequence[str] = ("knn", "logistic"),
    seed: int = 0,
    repeats: int = 5,
    split: Split = "column",
    block_km: float = 100.0,
    test_fraction: float = 0.3,
    control: TrainRecipe | None = None,
    out_dir: str | Path | None = None,
    device: str = "cpu",
    other_units: bool = False,
) -> Scores:
    """Score a pretrained model, or random weights, on a labelled subset and write ``scores.json`` in the run's folder.

    Train and test are apart in space: by the subset's ``pwcat:split``, which was made of whole blocks, or by blocks drawn
    here. Each of several repeats draws four fifths of the training samples (and with "blocks" new test blocks), so that
    mean ± sd say what the choice of samples does; one repeat uses them all.

    Args:
        run_dir: folder of a run, or a model folder; ``None`` for the control.
        subset: labelled samples; not those pretrained on, if the score is to say something.
        task: name of a task, or a task.
        probes: names of probes: "knn" (5 and 20 neighbours), "linear", "logistic", "mlp", "forest".
        seed: fixes every draw.
        repeats: how many draws.
        split: "column" or "blocks".
        block_km: side of a block, kilometres.
        test_fraction: share of samples in the test blocks, for "blocks".
        control: with ``run_dir=None``, the recipe whose architecture is scored with fresh weights (of its seed); chips are
            scaled by the statistics of the labelled subset.
        out_dir: where scores and embeddings are written; the run's folder by default, nowhere for a control without it.
        device: torch device.
        other_units: let values of another unit than in pretraining pass.

    Raises:
        TrainingError: the data do not fit the model, or too few labelled samples are left on one side.
    """
    model = _model(run_dir, subset, control)
    folder = Path(out_dir) if out_dir else Path(run_dir) if run_dir else None
    chosen_task, chosen_probes = make_task(task) if isinstance(task, str) else task, make_probes(probes, device=device)
    resampling = Resampling(split=split, block_km=block_km, test_fraction=test_fraction, seed=seed, repeats=repeats)
    bench = _Bench.prepare(subset, chosen_task, resampling)
    cache = folder / "embeddings" if folder else None
    features = embed_subset(model, subset, cache_dir=cache, device=device, other_units=other_units)[bench.labels.rows]
    scores = Scores(
        run=Path(run_dir).name if run_dir else None,
        control=run_dir is None,
        weights_hash=weights_hash(model),
        task=chosen_task.name,
        data={"hash": subset.hash, "num_samples": len(subset), "collections": [c.name for c in subset.collections]},
        split=split,
        block_km=block_km,
        seed=seed,
        repeats=repeats,
        num_train=len(bench.draws[0].train),
        num_test=len(bench.draws[0].test),
        classes=bench.labels.classes,
        dropped=bench.labels.dropped,
        unlabelled=bench.labels.unlabelled,
        results=[bench.score(probe, features, seed=seed) for probe in chosen_probes],
    )
    if folder:
        _write(scores, folder)
    return scores


def load_scores(run_dir: str | Path) -> list[Scores]:
    """The scores in a run's folder, one for each task, labelled subset and split; none where it was not evaluated."""
    path = Path(run_dir) / SCORES
    if not path.is_file():
        return []
    return [Scores.from_json(values) for values in json.loads(path.read_text())]


def _model(run_dir: str | Path | None, subset: Subset, control: TrainRecipe | None) -> Model:
    if run_dir is not None:
        return load_model_folder(run_dir)
    if control is None:
        raise TrainingError("nothing to evaluate: give a run folder, or a recipe as `control` for random weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(control.seed)
        model = build_model(control.architecture, control.model)
    if model.encodes == "chips":
        model.normalization = measure(subset, bands=model.choose_bands(subset.bands))
    model.eval()
    return model


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """The labelled samples, where they are, and how they are divided."""

    labels: Labels
    continents: np.ndarray
    draws: list[Draw]

    @classmethod
    def prepare(cls, subset: Subset, task: Task, resampling: Resampling) -> _Bench:
        labels = task.labels(subset)
        known = CONTINENT in subset.table.column_names
        draws = resampling.draws(
            labels.values, lonlat=subset.lonlat[labels.rows], sides_N=subset.column("pwcat:split")[labels.rows]
        )
        continents = subset.column(CONTINENT)[labels.rows] if known else np.full(len(labels.rows), None, dtype=object)
        return cls(labels=labels, continents=continents, draws=draws)

    def score(self, probe: Probe, features_ND: np.ndarray, *, seed: int) -> ProbeScores:
        """What a probe on these embeddings gives over the draws."""
        classes, codes = np.unique(self.labels.values, return_inverse=True)
        every = probe.fit_predict_many(features_ND, codes, self.draws, kind="classification", num_classes=len(classes))
        overall: list[Score] = []
        within: dict[str, list[Score]] = {}
        for repeat, (draw, predicted) in enumerate(zip(self.draws, every, strict=True)):
            truth, rng = codes[draw.test], np.random.default_rng([seed, repeat, 1])
            overall.append(score(truth, predicted.values, rng=rng))
            for name, part in score_by(self.continents[draw.test], truth, predicted.values, rng=rng).items():
                within.setdefault(name, []).append(part)
        chosen = [predicted.chosen for predicted in every]
        by_continent = {name: _summarise(scores) for name, scores in sorted(within.items())}
        return ProbeScores(probe=probe.name, overall=_summarise(overall), by_continent=by_continent, chosen=chosen)


def _summarise(scores: list[Score]) -> Summary:
    return Summary(
        accuracy=measure_of([s.accuracy for s in scores]),
        macro_f1=measure_of([s.macro_f1 for s in scores]),
        num_test=float(np.mean([s.num_samples for s in scores])),
    )


def _summary_from(values: Mapping[str, Any]) -> Summary:
    return Summary(
        accuracy=Measure(**values["accuracy"]), macro_f1=Measure(**values["macro_f1"]), num_test=values["num_test"]
    )


def _write(scores: Scores, folder: Path) -> None:
    """Add the scores to the folder's, in place of earlier ones of the same task, data and split."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = [old for old in load_scores(folder) if _key(old) != _key(scores)]
    with replacing(folder / SCORES) as part:
        part.write_text(json.dumps([each.to_json() for each in [*kept, scores]], indent=2) + "\n")


def _key(scores: Scores) -> tuple[str, str, str]:
    return scores.task, scores.data["hash"], scores.split
