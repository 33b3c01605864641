"""The model that is evaluated: pretrained, or of the same architecture with random weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pwcat.errors import TrainingError
from training.checkpoint import load_model_folder
from training.models import Model, build_model
from training.normalize import Normalization, summarise, unit_of_bands
from training.run import RUN
from training.tasks.chips import SubsetChips

if TYPE_CHECKING:
    from catalog.subset import Subset
    from training.recipe import TrainRecipe
    from training.tasks.base import TaskData, Times

__all__ = ["measure_task", "model_of", "pretrained_on", "with_random_weights"]

LEVELS = 65536  # of digital numbers


def model_of(run_dir: str | Path | None, data: TaskData, control: TrainRecipe | None) -> Model:
    """The model of a run or model folder; without one, that of a recipe with random weights.

    Raises:
        TrainingError: there is neither a folder nor a recipe, or the folder holds no model.
    """
    if run_dir is not None:
        return load_model_folder(run_dir)
    if control is None:
        raise TrainingError("nothing to evaluate: give a run folder, or a recipe as `control` for random weights")
    return with_random_weights(control, data)


def with_random_weights(recipe: TrainRecipe, data: TaskData) -> Model:
    """A model of a recipe with fresh weights of its seed, in eval mode; the task's statistics scale its chips.

    What it takes from its data beside weights, it takes from the task's training samples.

    Raises:
        TrainingError: the task's samples are not what it needs.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build_model(recipe.architecture, recipe.model)
        if model.encodes == "chips" and data.chips.bands.names:
            model.normalization = measure_task(
                data, bands=model.choose_bands(data.chips.bands.names), times=model.times
            )
        if type(model).fit is not Model.fit:
            model.fit(_learnt_from(model, data), device=torch.device("cpu"), folder=None)
    model.eval()
    return model


def _learnt_from(model: Model, data: TaskData) -> Subset:
    """The training samples of a task, as a subset."""
    if not isinstance(data.chips, SubsetChips):
        raise TrainingError(
            f"a {model.architecture} takes more from its data than weights, such as a vocabulary, and samples of task "
            f"{data.info.name} are no catalog's: take a task of a catalog, or the run of a trained one"
        )
    rows = np.flatnonzero(data.splits == "train")
    if not len(rows):
        raise TrainingError(
            f"task {data.info.name} has no training samples, from which a {model.architecture} would learn"
        )
    return data.chips.subset.only(rows)


def measure_task(data: TaskData, *, bands: Sequence[str], times: Times) -> Normalization:
    """Statistics of a task's chips: those of its training samples, as nothing may be learnt from those tested on.

    Of no bands, there are none, and nothing is read.
    """
    rows = np.flatnonzero(data.splits == "train")
    counts_CK = np.zeros((len(bands), LEVELS), dtype=np.int64)
    for batch in data.batches(rows, bands=bands, times=times) if bands else ():
        assert batch.chips is not None, "a task with bands has chips"
        numbers_BTCHW = batch.chips.numpy()
        for c in range(len(bands)):
            counts_CK[c] += np.bincount(numbers_BTCHW[:, :, c].ravel(), minlength=LEVELS)
    return summarise(
        counts_CK,
        bands=bands,
        unit=unit_of_bands(data.chips.bands.select(bands)) if bands else "",
        num_samples=len(rows),
        data_hash=data.hash,
        times=times,
    )


def pretrained_on(run_dir: str | Path | None) -> str:
    """Hash of the samples that a run was pretrained on; empty where that is not known, as of released weights."""
    if run_dir is None or not (Path(run_dir) / RUN).is_file():
        return ""
    document = json.loads((Path(run_dir) / RUN).read_text(encoding="utf-8"))  # of whatever version: the hash is all
    return str(document.get("data", {}).get("hash", ""))
