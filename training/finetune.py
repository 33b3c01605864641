"""Fine-tuning: a copy of a pretrained model and a new head, trained together on the samples of one draw.

The model that is given is never changed. What is random is fixed by the seed of the draw: on a CPU the same draw gives the same
prediction, bit by bit. Where a draw has validation samples, the weights of the epoch that is best on them predict.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pwcat.errors import TrainingError
from training.finetuning.explaining import explained
from training.finetuning.loop import Progress, Tuning
from training.finetuning.recipe import FinetuneRecipe, list_finetune_recipes, load_finetune_recipe, recipe_for
from training.models.base import Model
from training.probing.kinds import Predicted
from training.resampling import Draw
from training.tasks.base import TaskData

__all__ = ["FinetuneRecipe", "finetune", "list_finetune_recipes", "load_finetune_recipe", "recipe_for"]


def finetune(
    model: Model,
    data: TaskData,
    draw: Draw,
    *,
    recipe: FinetuneRecipe | None = None,
    device: torch.device | str = "cpu",
    other_units: bool = False,
    progress: Progress = lambda done, total: None,
) -> Predicted:
    """Train a copy of a model on a draw's training samples, and predict its test samples.

    Args:
        model: pretrained, with its normalisation; it stays as it is, and where it is.
        data: a task of any kind.
        draw: which samples are learnt from, which choose the epoch, and which are predicted; its seed fixes the rest.
        recipe: how it is trained; by default as published for the architecture.
        device: torch device.
        other_units: let values of another unit than in pretraining pass.
        progress: told of steps done, and of all.

    Returns:
        The prediction. Of a segmentation its values are classes of pixels, (M, H, W) int16 of the masks' size, -1 where the
        chip was cut away. ``chosen`` tells the ``epoch`` that predicts, how many ``epochs`` there were, its score on the
        ``validation`` samples, if there were any, and the ``num_train`` samples that were learnt from: those never are.

    Raises:
        TrainingError: the model cannot read the samples, there is nothing to learn from, the loss became no number, or
            memory does not suffice.
    """
    recipe = recipe or recipe_for(model)
    if not len(draw.rest) or not len(draw.test):
        raise TrainingError(
            f"task {data.info.name}: fine-tuning needs at least one sample to train on and one to test on, and there are "
            f"{len(draw.rest)} and {len(draw.test)}"
        )
    on = torch.device(device)
    with _seeded(draw.seed, on), explained(recipe, on):
        tuning = Tuning.of(model, data, draw, recipe=recipe, device=on, other_units=other_units)
        return tuning.predict({**tuning.train(progress), "num_train": len(draw.rest)})


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """With torch's own generators set by the seed, for branches left out at random; they go on as before afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
