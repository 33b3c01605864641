"""What ends a training, told as what to change."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from pwcat.errors import TrainingError
from training.checkpoint import latest_checkpoint
from training.looping.distributed import world_size
from training.recipe import TrainRecipe

__all__ = [
    "building_explained",
    "diverged",
    "is_of_the_compiler",
    "is_out_of_memory",
    "kept",
    "step_explained",
    "writing_explained",
]

# How torch's CPU allocator says it, in a plain RuntimeError
NO_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")


def kept(run_dir: Path) -> str:
    """What a run can go on from, as a sentence."""
    checkpoint = latest_checkpoint(run_dir)
    return f"The last good checkpoint is kept: {checkpoint}" if checkpoint else "No checkpoint was due before it"


def diverged(
    recipe: TrainRecipe,
    run_dir: Path,
    *,
    step: int,
    total_steps: int,
    loss: float,
    grad_norm: float,
    lr: float,
    dtype: torch.dtype,
) -> TrainingError:
    """The error of a loss, gradient or weight that is no number, in matrix products of ``dtype``."""
    now = recipe.optimizer
    rate = f"optimizer.lr (now {now.lr:g})" if now.lr is not None else f"optimizer.base_lr (now {now.base_lr:g})"
    limit = "there is none" if now.clip_norm is None else f"now {now.clip_norm:g}"
    half = "" if dtype == torch.float32 else ", try precision: float32"
    return TrainingError(
        f"step {step} of {total_steps} gave loss {loss:g} and gradient norm {grad_norm:g} at learning rate {lr:.3g}. "
        f"Lower {rate}, set optimizer.clip_norm ({limit}), lengthen optimizer.warmup_epochs (now "
        f"{now.warmup_epochs:g}){half}, and train into a new folder. {kept(run_dir)}"
    )


@contextmanager
def step_explained(recipe: TrainRecipe, run_dir: Path, *, device: torch.device) -> Iterator[None]:
    """Tell of memory that does not suffice, and of a compiler that fails, in terms of the recipe.

    Raises:
        TrainingError: the block ran out of memory, or the model could not be compiled.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as exc:
        if is_out_of_memory(exc):
            raise _out_of_memory(recipe, run_dir, device, exc) from exc
        if recipe.compile and is_of_the_compiler(exc):
            raise TrainingError(
                f"the model cannot be compiled here ({_first_line(exc)}). Install what is missing (a C++ compiler), or go "
                f"without: compile: false (--no-compile). {kept(run_dir)}"
            ) from exc
        raise


@contextmanager
def building_explained(device: torch.device) -> Iterator[None]:
    """Tell of a model that does not fit a device, be it of one sample.

    Raises:
        TrainingError: the block ran out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as exc:
        if not is_out_of_memory(exc):
            raise
        raise TrainingError(
            f"the model alone, with its optimiser, takes more memory than {device} has ({_first_line(exc)}). Make it "
            "smaller (model: its depth and widths), or take a larger device"
        ) from exc


def is_out_of_memory(exc: Exception) -> bool:
    """Whether it is of memory that does not suffice, be it a device's."""
    return isinstance(exc, (MemoryError, torch.OutOfMemoryError)) or any(words in str(exc) for words in NO_MEMORY)


def is_of_the_compiler(exc: Exception) -> bool:
    """Whether it is of ``torch.compile``."""
    from torch._dynamo.exc import TorchDynamoException  # heavy, and loaded already where something was compiled

    return isinstance(exc, TorchDynamoException)


def _first_line(exc: BaseException) -> str:
    lines = str(exc).splitlines()
    return lines[0] if lines else type(exc).__name__


def _out_of_memory(recipe: TrainRecipe, run_dir: Path, device: torch.device, exc: BaseException) -> TrainingError:
    ranks = world_size()
    here = f"{recipe.batch_size} samples at once" + (f" over {ranks} devices" if ranks > 1 else "")
    ways = [
        f"take fewer at once and as many a step: batch_size {max(1, recipe.batch_size // 2)} with accumulate "
        f"{recipe.accumulate * 2}"
    ]
    if recipe.precision == "float32" and device.type == "cuda":
        ways.append("precision: auto, which is bfloat16")
    if not recipe.compile and device.type == "cuda":
        ways.append("compile: true, which keeps less between forward and backward")
    return TrainingError(
        f"{device} has not enough memory for {here} ({_first_line(exc)}). To mend it, {'; or '.join(ways)}; then train into "
        f"a new folder. {kept(run_dir)}"
    )


@contextmanager
def writing_explained(run_dir: Path, *, what: str) -> Iterator[None]:
    """Tell of a disk that takes no more, with what is kept.

    Args:
        run_dir: folder of the run.
        what: is written.

    Raises:
        TrainingError: the block could not write.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as exc:  # safetensors and torch.save each tell it their own way
        full = isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}
        raise TrainingError(
            f"{what} could not be written ({'the disk is full' if full else _first_line(exc)}; {_free_mb(run_dir):,.0f} MB "
            "are free there). Make room, or keep fewer checkpoints (checkpoint.keep), and run the same command again: it goes "
            f"on from there. {kept(run_dir)}"
        ) from exc


def _free_mb(folder: Path) -> float:
    return shutil.disk_usage(folder).free / 1e6
