"""A pretraining's folder: ``run.json``, ``metrics.jsonl``, ``checkpoints/``, and what is made from the model later."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from training.checkpoint import latest_checkpoint, load_model_folder
from training.models import Model

__all__ = ["Run", "load_run", "software_versions"]

RUN, METRICS = "run.json", "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a pretraining was and did.

    Attributes:
        path: its folder.
        recipe: the resolved recipe, as JSON values.
        recipe_hash: its hash.
        data: what it was trained on: hash, number of samples, names of the collections.
        normalization: the statistics of the data, as JSON values.
        finished: whether every epoch is done.
        steps: steps done, of ``total_steps``.
        total_steps: steps of the whole training.
        final_loss: mean loss of the last epoch that was logged; ``None`` before the first.
        seconds: wall time spent training, over all parts of an interrupted run.
        samples_per_second: samples seen a second, over the same.
        device: where it ran last.
        placement: whether the chips were held in memory or streamed.
        num_parameters: weights that train.
        versions: of Python and of the packages that bear on the result.
        reused: whether this call found the run finished and did nothing.
    """

    path: Path
    recipe: dict[str, Any]
    recipe_hash: str
    data: dict[str, Any]
    normalization: dict[str, Any]
    finished: bool
    steps: int
    total_steps: int
    final_loss: float | None
    seconds: float
    samples_per_second: float
    device: str
    placement: str
    num_parameters: int
    versions: dict[str, str]
    reused: bool = field(default=False, compare=False)

    @property
    def checkpoint(self) -> Path:
        """The model folder of the last checkpoint."""
        found = latest_checkpoint(self.path)
        if found is None:
            raise TrainingError(f"{self.path} has no checkpoint yet: run the pretraining again, it goes on by itself")
        return found

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The logged steps: step, epoch, loss, lr, grad_norm."""
        return [json.loads(line) for line in (self.path / METRICS).read_text().splitlines()]

    def load_model(self) -> Model:
        """The model of the last checkpoint, in eval mode."""
        return load_model_folder(self.checkpoint)

    def save(self) -> None:
        """Write ``run.json``, whole or not at all."""
        values = {name: value for name, value in self.__dict__.items() if name not in {"path", "reused"}}
        with replacing(self.path / RUN) as part:
            part.write_text(json.dumps(values, indent=2) + "\n")


def load_run(path: str | Path) -> Run:
    """The run of a folder.

    Raises:
        TrainingError: the folder is no run, or one of another version.
    """
    folder = Path(path)
    if not (folder / RUN).is_file():
        raise TrainingError(f"{folder} is no run: {RUN} missing. Give the folder that `pwcat pretrain --out` wrote")
    try:
        return Run(path=folder, **json.loads((folder / RUN).read_text()))
    except (TypeError, json.JSONDecodeError) as exc:
        raise TrainingError(f"{folder / RUN} is not of this version of pwcat: {exc}") from exc


def software_versions() -> dict[str, str]:
    """Versions of what bears on a result."""
    return {
        "pwcat": version("pwcat"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
