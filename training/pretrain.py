"""Pretraining: one loop, resumable to the bit on a CPU.

Order, crops and masks are functions of the seed and the number of the epoch or step, not of a state that runs along:
to go on from a checkpoint, weights, optimiser and counters are all there is to restore.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pwcat.errors import TrainingError
from training.augment import check_size
from training.batch import Batch
from training.chance import Chance
from training.checkpoint import latest_checkpoint, load_model_folder, load_state, save_checkpoint
from training.loader import Loader
from training.models import Model, build_model
from training.normalize import Normalization, measure
from training.recipe import TrainRecipe, load_train_recipe
from training.run import METRICS, RUN, Run, load_run, software_versions

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Step", "learning_rate", "pick_device", "pretrain"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the optimiser, as logged and as told to ``progress``."""

    step: int
    total_steps: int
    epoch: int
    loss: float
    lr: float
    grad_norm: float
    samples: int
    samples_per_second: float


def pretrain(
    subset: Subset,
    recipe: TrainRecipe | str | Path,
    out_dir: str | Path,
    *,
    resume: bool = True,
    device: str | None = None,
    stop_after_steps: int | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Run:
    """Train a model on a subset and leave its checkpoints, metrics and description in a folder; the run.

    A run that is finished with the same recipe and data is not repeated; one that was interrupted goes on from its last
    checkpoint. A folder that holds another run is left alone unless ``resume`` is false, which starts over.

    Args:
        subset: the samples.
        recipe: how to train: a recipe, the name of a shipped one, or the path of a YAML file.
        out_dir: folder of the run; made where missing.
        resume: go on from what is in the folder.
        device: torch device, such as "cuda" or "cpu"; the best there is where none is given.
        stop_after_steps: stop with a checkpoint after this many steps of the whole run, for jobs of limited time.
        progress: told of every step.

    Raises:
        TrainingError: the data do not fit the model, the folder holds another run, or the loss is not a number; then
            the last good checkpoint is kept.
    """
    recipe = recipe if isinstance(recipe, TrainRecipe) else load_train_recipe(recipe)
    run_dir, target = Path(out_dir), _device(device or pick_device())
    _require_own_folder(run_dir)
    before = _earlier_run(run_dir, subset=subset, recipe=recipe) if resume else None
    if before and before.finished:
        log.info("%s is finished with this recipe and these data: nothing to do (resume=False repeats it)", run_dir)
        return replace(before, reused=True)
    trainer = _Trainer(subset, recipe, run_dir, device=target, before=before)
    return trainer.train(stop_after_steps=stop_after_steps, progress=progress)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as exc:  # an unknown name; a kind that this build or machine lacks
        raise TrainingError(f"no device {name!r} here: {str(exc).splitlines()[0]}") from exc
    return device


def _require_own_folder(run_dir: Path) -> None:
    if run_dir.is_dir() and any(run_dir.iterdir()) and not (run_dir / RUN).is_file():
        known = {"checkpoints", METRICS, "scores.json", "embeddings"}
        if {path.name for path in run_dir.iterdir()} - known:
            raise TrainingError(f"{run_dir} holds other files and no run: give a folder of its own")


def learning_rate(step: int, *, peak: float, warmup_steps: float, total_steps: int) -> float:
    """The rate of the step after ``step`` others: a line from 0 to ``peak``, then half a cosine to 0. Source: MAE."""
    if step < warmup_steps:
        return peak * step / warmup_steps
    part = (step - warmup_steps) / max(1.0, total_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * part))


def pick_device() -> str:
    """The fastest device that this machine has."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class _Trainer:
    """The state of one training; see :func:`pretrain`."""

    def __init__(
        self, subset: Subset, recipe: TrainRecipe, run_dir: Path, *, device: torch.device, before: Run | None
    ) -> None:
        self.recipe, self.run_dir, self.device = recipe, run_dir, device
        self.model = _fresh_model(recipe)
        if recipe.augment.crop != "resized":
            check_size(*subset.chip_shape[-2:], size=self.model.image_size)
        self.loader = Loader(
            subset,
            bands=self.model.choose_bands(subset.bands),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            memory_budget_mb=recipe.memory_budget_mb,
            window_chips=recipe.window_chips,
        )
        self.step, self.seconds, self.samples, self.epoch_losses = 0, 0.0, 0, list[float]()
        normalization = Normalization.from_json(before.normalization) if before else self._measure(subset)
        self.model.normalization = normalization
        checkpoint = latest_checkpoint(run_dir) if before else None
        if checkpoint:
            self.model.load_state_dict(load_model_folder(checkpoint).state_dict())
        self.model.to(device)
        self.optimizer = _adamw(self.model, recipe)
        if checkpoint:
            self._restore(load_state(checkpoint))
        self.run = self._describe(subset, normalization)

    def train(self, *, stop_after_steps: int | None, progress: Callable[[Step], None] | None) -> Run:
        """Do the steps that are left; see :func:`pretrain`."""
        self._open_folder()
        last = min(self.total_steps, stop_after_steps or self.total_steps)
        self.model.train()
        clock = time.perf_counter()
        for epoch, batches in self._steps(last):
            done = self._one_step(batches, epoch=epoch, total_samples=sum(len(batch.rows) for batch in batches))
            now = time.perf_counter()
            self.seconds, clock = self.seconds + now - clock, now
            self._log(done, progress)
            ends_epoch = self.step % self.steps_per_epoch == 0
            due = ends_epoch and (epoch + 1) % self.recipe.checkpoint_every_epochs == 0
            if due or self.step == last:
                self._save()
        return self.run

    @property
    def steps_per_epoch(self) -> int:
        """Steps an epoch; the last one may be of fewer batches."""
        return -(-self.loader.num_batches // self.recipe.accumulate)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.recipe.epochs * self.steps_per_epoch

    def _steps(self, last: int) -> Iterator[tuple[int, list[Batch]]]:
        """Epoch and batches of each step that is left, until ``last`` are done."""
        while self.step < last:
            epoch, within = divmod(self.step, self.steps_per_epoch)
            batches = self.loader.epoch(epoch, start_batch=within * self.recipe.accumulate)
            for _ in range(min(self.steps_per_epoch - within, last - self.step)):
                yield epoch, [batch for _, batch in zip(range(self.recipe.accumulate), batches, strict=False)]
            batches.close()  # type: ignore[attr-defined]  # ends the reading thread

    def _one_step(self, batches: list[Batch], *, epoch: int, total_samples: int) -> Step:
        lr = learning_rate(
            self.step,
            peak=self.recipe.lr,
            warmup_steps=self.recipe.optimizer.warmup_epochs * self.steps_per_epoch,
            total_steps=self.total_steps,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss = torch.zeros((), device=self.device)
        for number, batch in enumerate(batches):
            part = self._loss(batch, number) * (len(batch.rows) / total_samples)
            torch.autograd.backward(part)
            loss += part.detach()
        grad_norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.recipe.optimizer.clip_norm or math.inf, foreach=True
        )
        value, norm = float(loss), float(grad_norm)
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise self._diverged(value, norm, lr)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step, self.samples = self.step + 1, self.samples + total_samples
        return Step(
            step=self.step, total_steps=self.total_steps, epoch=epoch, loss=value, lr=lr, grad_norm=norm,
            samples=total_samples, samples_per_second=self.samples / self.seconds if self.seconds else 0.0,
        )  # fmt: skip

    def _loss(self, batch: Batch, number: int) -> Tensor:
        # draws of its own for every batch of every step
        chance = Chance(_batch_seed(self.recipe.seed, self.step, number), total=len(batch))
        inputs = self.model.prepare(batch.to(self.device), chance=chance, augment=self.recipe.augment)
        with self._autocast():
            loss: Tensor = self.model(**inputs)
        return loss

    def _autocast(self) -> AbstractContextManager[Any]:
        wanted = {"auto": self.device.type == "cuda", "float32": False, "bfloat16": True}[self.recipe.precision]
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if wanted else nullcontext()

    def _diverged(self, loss: float, grad_norm: float, lr: float) -> TrainingError:
        kept, now = latest_checkpoint(self.run_dir), self.recipe.optimizer
        return TrainingError(
            f"step {self.step + 1} of {self.total_steps} gave loss {loss:g} and gradient norm {grad_norm:g} at "
            f"learning rate {lr:.3g}. Lower optimizer.base_lr (now {now.base_lr:g}), set optimizer.clip_norm (now "
            f"{now.clip_norm}) or lengthen optimizer.warmup_epochs (now {now.warmup_epochs:g}), and train into a new "
            "folder. " + (f"The last good checkpoint is kept: {kept}" if kept else "No checkpoint was due before it")
        )

    def _measure(self, subset: Subset) -> Normalization:
        return measure(subset, bands=self.loader.bands, blocks=self.loader.blocks())

    def _describe(self, subset: Subset, normalization: Normalization) -> Run:
        names = sorted({str(name) for name in subset.column("collection")})
        return Run(
            path=self.run_dir,
            recipe=self.recipe.model_dump(mode="json"),
            recipe_hash=self.recipe.hash,
            data={"hash": subset.hash, "num_samples": len(subset), "collections": names},
            normalization=normalization.to_json(),
            finished=False,
            steps=self.step,
            total_steps=self.total_steps,
            final_loss=None,
            seconds=self.seconds,
            samples_per_second=0.0,
            device=_device_name(self.device),
            placement=self.loader.placement,
            num_parameters=sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            versions=software_versions(),
        )

    def _open_folder(self) -> None:
        """Make the folder and cut the metrics to the steps that are kept: those after a checkpoint are done again."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        if not self.step:
            shutil.rmtree(self.run_dir / "checkpoints", ignore_errors=True)  # of a run that this one replaces
        path = self.run_dir / METRICS
        lines = path.read_text().splitlines() if path.is_file() and self.step else []
        path.write_text("".join(line + "\n" for line in lines[: self.step]))
        self.run.save()

    def _log(self, done: Step, progress: Callable[[Step], None] | None) -> None:
        if (done.step - 1) % self.steps_per_epoch == 0:
            self.epoch_losses = []
        self.epoch_losses.append(done.loss)
        row = {"step": done.step, "epoch": done.epoch, "loss": done.loss, "lr": done.lr, "grad_norm": done.grad_norm}
        with (self.run_dir / METRICS).open("a") as file:
            file.write(json.dumps(row) + "\n")
        if progress:
            progress(done)

    def _save(self) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "samples": self.samples,
            "epoch_losses": self.epoch_losses,
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(self.run_dir, model=self.model, state=state, step=self.step)
        self.run = replace(
            self.run,
            finished=self.step == self.total_steps,
            steps=self.step,
            final_loss=float(np.mean(self.epoch_losses)),
            seconds=round(self.seconds, 3),
            samples_per_second=round(self.samples / self.seconds, 1),
        )
        self.run.save()

    def _restore(self, state: dict[str, Any]) -> None:
        self.step, self.seconds, self.samples = state["step"], state["seconds"], state["samples"]
        self.epoch_losses = list(state["epoch_losses"])
        self.optimizer.load_state_dict(state["optimizer"])
        log.info("going on after step %d of %d", self.step, self.total_steps)


def _earlier_run(run_dir: Path, *, subset: Subset, recipe: TrainRecipe) -> Run | None:
    if not (run_dir / RUN).is_file():
        return None
    run = load_run(run_dir)
    others = [
        name
        for name, old, new in (("recipe", run.recipe_hash, recipe.hash), ("data", run.data["hash"], subset.hash))
        if old != new
    ]
    if others:
        raise TrainingError(
            f"{run_dir} holds a run of another {' and other '.join(others)}: train into another folder, or start this "
            "one over with resume=False (--restart)"
        )
    return run


def _fresh_model(recipe: TrainRecipe) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return build_model(recipe.architecture, recipe.model)


def _adamw(model: Model, recipe: TrainRecipe) -> torch.optim.AdamW:
    """AdamW that decays what has several axes, but neither biases nor norms, which have one; as MAE does."""
    trained = [parameter for _, parameter in sorted(model.named_parameters()) if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.optimizer.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.optimizer.betas)


def _batch_seed(seed: int, step: int, batch: int) -> int:
    return int(np.random.SeedSequence([seed, step, batch]).generate_state(1, dtype=np.uint64)[0] >> np.uint64(1))


def _device_name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {torch.get_num_threads()} threads"
    )
