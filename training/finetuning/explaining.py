"""What ends a fine-tuning, told as what to change."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pwcat.errors import TrainingError
from training.finetuning.recipe import FinetuneRecipe
from training.looping.faults import is_of_the_compiler, is_out_of_memory

__all__ = ["explained"]


@contextmanager
def explained(recipe: FinetuneRecipe, device: torch.device) -> Iterator[None]:
    """Tell of memory that does not suffice, and of a compiler that fails, in terms of the recipe.

    Raises:
        TrainingError: the block ran out of memory, or the model could not be compiled.
    """
    try:
        with warnings.catch_warnings():
            # where a compiled part hands a tensor to the next, its gradient is looked at, and nothing is made of it
            warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
            yield
    except (MemoryError, RuntimeError) as exc:
        first = (str(exc).splitlines() or [type(exc).__name__])[0]
        if is_out_of_memory(exc):
            raise TrainingError(
                f"fine-tuning ran out of memory on {device} with {recipe.batch_size} samples at once ({first}). Lower "
                f"batch_size and raise accumulate (now {recipe.accumulate}) as much, or lower memory_budget_mb (now "
                f"{recipe.memory_budget_mb:g})"
            ) from exc
        if recipe.compile and is_of_the_compiler(exc):
            raise TrainingError(
                f"the model cannot be compiled here ({first}). Install what is missing (a C++ compiler), or go without: "
                "compile: false"
            ) from exc
        raise
