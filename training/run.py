"""A pretraining's folder: ``run.json``, ``metrics.jsonl``, ``checkpoints/``, and what is made from the model later."""

from __future__ import annotations

import json
import os
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
from training.looping.records import METRICS
from training.models import Model

__all__ = ["Run", "describe_hardware", "device_name", "load_run", "software_versions"]

RUN = "run.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a pretraining was and did.

    Attributes:
        path: its folder.
        recipe: the resolved recipe, as JSON values; the folder of an image tower by its name alone.
        recipe_hash: its hash.
        data: what it was trained on: hash, number of samples, names of the collections; of entities, hash of the maps;
            where samples were pulled from a published dataset, ``origins`` (:mod:`training.looping.origins`).
        normalization: the statistics of the data, as JSON values.
        finished: whether every epoch is done.
        steps: steps done, of ``total_steps``.
        total_steps: steps of the whole training.
        final_loss: mean loss of the last epoch that was logged; ``None`` before the first.
        seconds: wall time spent training, over all parts of an interrupted run.
        samples_per_second: samples seen a second, over the same.
        device: where it ran last.
        world_size: processes that trained together last, each with a device.
        effective_batch: samples a step, of all of them.
        precision: of the matrix products.
        placement: where the chips were: device, cache or stream.
        placement_reason: why there, a sentence with the numbers that led to it.
        peak: the measured rate of matrix products that ``mfu`` is of: flops, dtype, how it was measured.
        mfu: model operations a second over all of ``seconds``, of that rate, 0..1; ``None`` before the first checkpoint.
        peak_memory_mb: most memory that was held at once, in MB (10^6 bytes), on the device of the first process.
        gpu_hours: hours of all GPUs together; 0 without one.
        hardware: of the machine of the first process: system, processor, cores, memory, GPUs.
        num_parameters: weights that train.
        versions: of Python, CUDA and the packages that bear on the result.
        watched: what the model said of itself last, as in ``metrics.jsonl``, and the step; empty where it says nothing.
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
    world_size: int
    effective_batch: int
    precision: str
    placement: str
    peak: dict[str, Any]
    mfu: float | None
    peak_memory_mb: float
    gpu_hours: float
    hardware: dict[str, Any]
    num_parameters: int
    versions: dict[str, str]
    placement_reason: str = ""
    watched: dict[str, Any] = field(default_factory=dict)
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
        """The logged steps: step, epoch, loss, lr, grad_norm, samples_per_s, wait_share, mfu, memory_mb; some with more.

        That is what the model said of itself.
        """
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
    versions = {
        "pwcat": version("pwcat"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    if torch.version.cuda:
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        versions |= {"cuda": torch.version.cuda, "cudnn": str(cudnn)}
    return versions


def device_name(device: torch.device) -> str:
    """A device, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def describe_hardware() -> dict[str, Any]:
    """This machine: system, processor, cores, memory in GB (10^9 bytes), GPUs."""
    values: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
    }
    count = torch.cuda.device_count()
    return values | {"gpus": [torch.cuda.get_device_name(number) for number in range(count)]}


def _processor() -> str:
    """Its name, where the system tells it."""
    told = Path("/proc/cpuinfo")
    if not told.is_file():
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in told.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()
