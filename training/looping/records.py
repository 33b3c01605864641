"""What is written down of each step: ``metrics.jsonl`` always, TensorBoard's events where they are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pwcat.atomic import replacing
from pwcat.errors import TrainingError

__all__ = ["METRICS", "TENSORBOARD", "Records", "Step"]

METRICS, TENSORBOARD = "metrics.jsonl", "tensorboard"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the optimiser, as logged and as told to ``progress``.

    Attributes:
        step: its number, from 1.
        total_steps: of the whole training.
        epoch: from 0.
        loss: mean over the samples of the step, of all ranks.
        lr: learning rate.
        grad_norm: norm of all gradients together, before clipping.
        samples: of the step, of all ranks.
        samples_per_second: of this step, of all ranks.
        wait_share: share of the step's time in which the loop waited for data, 0..1.
        mfu: share of the measured rate of matrix products, 0..1.
        memory_mb: most memory held so far, in MB (10^6 bytes).
        watched: what the model said of itself after this step; empty at most steps.
    """

    step: int
    total_steps: int
    epoch: int
    loss: float
    lr: float
    grad_norm: float
    samples: int
    samples_per_second: float
    wait_share: float = 0.0
    mfu: float = 0.0
    memory_mb: float = 0.0
    watched: Mapping[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """As in ``metrics.jsonl``; loss, rate and norm to the bit, what time is part of to four digits."""
        exact = {name: getattr(self, name) for name in ("step", "epoch", "loss", "lr", "grad_norm")}
        rounded = {
            "samples_per_s": self.samples_per_second,
            "wait_share": self.wait_share,
            "mfu": self.mfu,
            "memory_mb": self.memory_mb,
        }
        return exact | {name: float(f"{value:.4g}") for name, value in rounded.items()} | dict(self.watched)


class Records:
    """Appends steps to the records of a run, which are cut to those that its checkpoint has seen.

    Args:
        run_dir: folder of the run.
        done: steps that are kept; those after a checkpoint are done again.
        tensorboard: write TensorBoard's events as well.

    Raises:
        TrainingError: TensorBoard is asked for and not installed.
    """

    def __init__(self, run_dir: Path, *, done: int, tensorboard: bool = False) -> None:
        self._board = _board(run_dir / TENSORBOARD, done) if tensorboard else None
        path = run_dir / METRICS
        lines = path.read_text().splitlines() if path.is_file() and done else []
        with replacing(path) as part:  # who is killed here loses nothing
            part.write_text("".join(line + "\n" for line in lines[:done]))
        self._file = path.open("a")

    def add(self, step: Step) -> None:
        """Write a step down; each line is whole when this comes back."""
        row = step.row()
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board:
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, step.step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board:
            self._board.close()


def _board(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as exc:
        raise TrainingError(
            "--tensorboard needs the package tensorboard, which is not installed: pip install 'pwcat[tensorboard]', or "
            "go without, for metrics.jsonl has the same values"
        ) from exc
    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)
