"""Pretraining: one loop for every model, on one device or many, resumable to the bit on a CPU.

Order, crops and masks are functions of the seed and the number of the epoch or step, not of a state that runs along:
to go on from a checkpoint, weights, optimiser and counters are all there is to restore.

The host stays a step ahead of the device: what a step gave is read while the next is under way, and then it is logged and
looked at. Before a checkpoint everything is read, so that one is only ever made of steps that went well.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pwcat.errors import TrainingError
from pwcat.lock import locked
from training.augment import check_size
from training.checkpoint import latest_checkpoint, load_state, load_trained, prune_checkpoints, save_checkpoint
from training.looping.batches import Batches
from training.looping.distributed import RankEndedError, barrier, from_main, global_sum, is_main, joined, world_size
from training.looping.engine import Engine, Share
from training.looping.faults import building_explained, diverged, step_explained, writing_explained
from training.looping.folder import LOCK, clear, earlier_run, require_own_folder
from training.looping.late import Late
from training.looping.origins import origins_of
from training.looping.records import Records, Step
from training.looping.saving import Due
from training.looping.schedule import learning_rate, weight_decay
from training.looping.stopping import Stop, listening
from training.looping.throughput import Meter, measure_peak, peak_memory_mb
from training.models import Model, build_model
from training.models.folder import WEIGHTS, load_weights
from training.normalize import Normalization
from training.preparing import Preparing, in_silence
from training.recipe import TrainRecipe, load_train_recipe
from training.run import Run, describe_hardware, device_name, software_versions

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Step", "Trainer", "learning_rate", "pick_device", "pretrain"]

log = logging.getLogger(__name__)


def pretrain(
    subset: Subset,
    recipe: TrainRecipe | str | Path,
    out_dir: str | Path,
    *,
    resume: bool = True,
    device: str | None = None,
    stop_after_steps: int | None = None,
    max_minutes: float | None = None,
    tensorboard: bool = False,
    progress: Callable[[Step], None] | None = None,
    preparing: Preparing | None = None,
) -> Run:
    """Train a model on a subset and leave its checkpoints, metrics and description in a folder; the run.

    A run that is finished with the same recipe and data is not repeated; one that was interrupted goes on from its last
    checkpoint. A folder that holds another run is left alone unless ``resume`` is false, which starts over.

    Started by ``torchrun``, the processes train one model together: ``recipe.batch_size`` is then what all of them have at
    once, losses are those of one process, and the first writes. The folder must be one that all of them see.

    Args:
        subset: the samples.
        recipe: how to train: a recipe, the name of a shipped one, or the path of a YAML file.
        out_dir: folder of the run; made where missing.
        resume: go on from what is in the folder.
        device: torch device, such as "cuda" or "cpu"; the best there is where none is given.
        stop_after_steps: stop with a checkpoint after this many steps of the whole run, for jobs of limited time.
        max_minutes: stop with a checkpoint after this many minutes of this call, for jobs of limited time.
        tensorboard: write TensorBoard's events too.
        progress: told of every step, on the first process alone.
        preparing: told what is done before the first step, and how many samples of how many; on the first process alone.

    Raises:
        TrainingError: the data do not fit the model, the folder holds another run, memory or disk do not suffice, or the
            loss is not a number; the last good checkpoint is kept.
        PwcatError: another process trains in this folder.
        KeyboardInterrupt: SIGTERM or SIGINT came; where steps were done, a checkpoint was written first.
        RankEndedError: another process of the same training has failed, and says why.
    """
    _require_positive(stop_after_steps=stop_after_steps, max_minutes=max_minutes)
    recipe = recipe if isinstance(recipe, TrainRecipe) else load_train_recipe(recipe)
    run_dir, stop = Path(out_dir), Stop(max_minutes=max_minutes)
    with joined(device or pick_device()) as target:
        before = from_main(earlier_run(run_dir, subset=subset, recipe=recipe) if resume and is_main() else None)
        if before and before.finished:
            log.info("%s is finished with this recipe and these data: nothing to do", run_dir)
            return replace(before, reused=True)
        if is_main():
            require_own_folder(run_dir)
        trainer = Trainer(subset, recipe, run_dir, device=target)
        if is_main() and len(subset) < recipe.effective_batch:
            log.warning(
                "%d samples are fewer than the %d of a step, which is a whole epoch then, at the learning rate of as many"
                ": lower batch_size or accumulate",
                len(subset), recipe.effective_batch,
            )  # fmt: skip
        hold = locked(run_dir / LOCK, doing=f"{run_dir}: another pretraining") if is_main() else nullcontext()
        with hold:
            # read again: another process may have been at work in the folder until now
            before = from_main(earlier_run(run_dir, subset=subset, recipe=recipe) if resume and is_main() else None)
            trainer.start(before, preparing=preparing if preparing and is_main() else in_silence)
            with listening(stop, patient=world_size() > 1):
                run = trainer.train(stop, last=stop_after_steps, tensorboard=tensorboard, progress=progress)
        _end_if_told(stop)
    return run


def pick_device() -> str:
    """The fastest kind of device that this machine has."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _require_positive(**limits: float | None) -> None:
    if faults := [f"{name} {limit}" for name, limit in limits.items() if limit is not None and not limit > 0]:
        raise TrainingError(f"{' and '.join(faults)} cannot be: give numbers above 0, or none for no limit")


def _end_if_told(stop: Stop) -> None:
    if not is_main() and stop.signal is not None:
        raise RankEndedError
    stop.raise_for_signal()


class Trainer:
    """The state of one training; see :func:`pretrain`. Nothing is written before :meth:`train`.

    Args:
        subset: the samples.
        recipe: how to train.
        run_dir: folder of the run.
        device: of this process.

    Raises:
        TrainingError: the data do not fit the model.
    """

    def __init__(self, subset: Subset, recipe: TrainRecipe, run_dir: Path, *, device: torch.device) -> None:
        self.subset, self.recipe, self.run_dir, self.device = subset, recipe, run_dir, device
        self.origins = origins_of(subset)
        with building_explained(device):
            self.model = _fresh_model(recipe)
        bands = self.model.choose_bands(subset.bands)
        if bands and self.model.times == "first" and recipe.augment.crop != "resized":
            check_size(*subset.chip_shape[-2:], size=self.model.image_size)
        self.batches = Batches(subset, self.model, recipe, device=device, run_dir=run_dir)
        self.due = Due(recipe.checkpoint, steps_per_epoch=self.batches.steps_per_epoch)
        self.ahead = device.type == "cuda"  # a CPU is done with a step when the host is: there is nothing to wait for
        self.step, self.seconds, self.samples, self.epoch_losses = 0, 0.0, 0, list[float]()
        self.watched = dict[str, float]()  # what the model said of itself last, and after which step

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.recipe.epochs * self.batches.steps_per_epoch

    def require_steps(self, steps: int) -> None:
        """Raise a :class:`TrainingError` where the whole training has fewer steps."""
        if self.total_steps < steps:
            raise TrainingError(
                f"{len(self.subset)} samples in {self.recipe.epochs} epochs of {self.recipe.effective_batch} samples a step "
                f"make {self.total_steps} steps, fewer than the {steps} asked for: take more samples, epochs, or smaller "
                "batches"
            )

    def start(self, before: Run | None = None, *, preparing: Preparing = in_silence) -> None:
        """Measure the data, put the model on the device, and go on from what an earlier part of the run has left.

        Raises:
            TrainingError: memory does not suffice, or the earlier part counted other steps.
        """
        if before and before.total_steps != self.total_steps:
            raise TrainingError(
                f"{self.run_dir} holds a run of {before.total_steps} steps on {before.world_size} devices; on {world_size()} "
                f"it has {self.total_steps}, for a last batch of fewer samples than devices is left out. Go on with as many as "
                "before, or start over with resume=False (--restart)"
            )
        self.model.normalization = (
            Normalization.from_json(before.normalization) if before else self.batches.measure(preparing)
        )
        self.model.require_normalization()
        self._fit(preparing)
        checkpoint = from_main(latest_checkpoint(self.run_dir) if before and is_main() else None)
        if checkpoint:
            load_trained(checkpoint, self.model)
        with building_explained(self.device):
            self.engine = Engine(self.model, self.recipe, device=self.device)
            self.peak = measure_peak(self.device, dtype=self.engine.dtype)
        self.meter = Meter(flops_per_sample=self.model.flops_per_sample(), peak=self.peak)
        if checkpoint:
            self._restore(checkpoint)
        with step_explained(self.recipe, self.run_dir, device=self.device):
            self.batches.get_ready(preparing)
        self.run = self._so_far() if checkpoint else self._describe()

    def _fit(self, preparing: Preparing) -> None:
        """Let the model take from the data what it takes: on the first process, then on the others, who find what is kept."""
        for turn in (is_main(), not is_main()):
            if turn:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(self.recipe.seed)
                    self.model.fit(self.subset, device=self.device, folder=self.run_dir, preparing=preparing)
            barrier()

    def train(
        self,
        stop: Stop,
        *,
        last: int | None = None,
        tensorboard: bool = False,
        progress: Callable[[Step], None] | None = None,
    ) -> Run:
        """Do the steps that are left, or those up to ``last``, or as many as ``stop`` allows; the run as it is then."""
        if not is_main():
            for _ in self.steps(stop, last=last):
                pass
            return self.run
        with (
            closing(self._open_folder(tensorboard=tensorboard)) as records,
            closing(self.steps(stop, last=last)) as steps,
        ):
            for step in steps:
                with writing_explained(self.run_dir, what="The metrics"):
                    records.add(step)
                if progress:
                    progress(step)
        return self.run

    def steps(self, stop: Stop, *, last: int | None = None, saving: bool = True) -> Generator[Step]:
        """Each step, told when the next one is under way; checkpoints are written where they are due.

        Args:
            stop: asked at every step; all ranks stop with the first that is told to.
            last: the step to end with, with a checkpoint; that of the whole training where ``None``.
            saving: write checkpoints.
        """
        last, told = min(self.total_steps, last or self.total_steps), False
        coming = Late[_Sent](ahead=self.ahead)
        self.meter.rest(waited=self.batches.waited)
        with closing(self.batches.steps(self.step, last)) as batches:
            for epoch, shares in batches:
                values, sent = self._one_step(shares, epoch=epoch, stop=stop)
                if read := coming.put(values, sent):
                    told = self._is_told(read[0])
                    yield self._read(*read)
                if told or self.step == last or (saving and self.due.at(self.step)):
                    if read := coming.take():
                        yield self._read(*read)
                    if saving:
                        self._save()
                if told:
                    return

    def _one_step(self, shares: list[Share], *, epoch: int, stop: Stop) -> tuple[Tensor, _Sent]:
        """Train on a step's batches; its values on the device, summed over ranks, and what is known of it already."""
        optimizer, lr = self.recipe.optimizer, self._learning_rate()
        decay = weight_decay(
            self.step, first=optimizer.weight_decay, last=optimizer.weight_decay_end, total_steps=self.total_steps
        )
        with step_explained(self.recipe, self.run_dir, device=self.device):
            values = self.engine.step(
                shares, number=self.step + 1, lr=lr, weight_decay=decay, total_steps=self.total_steps
            )
        told = torch.full((1,), float(stop.is_due()), device=self.device)
        self.step += 1
        if self._is_watched() and (said := self.engine.watch(shares)):
            self.watched = {"step": self.step, **said}
        samples = sum(share.chance.total for share in shares)
        sent = _Sent(step=self.step, epoch=epoch, lr=lr, samples=samples, watched=self._just_watched())
        return global_sum(torch.cat([values, told])), sent

    def _learning_rate(self) -> float:
        """Of the step that is next."""
        optimizer = self.recipe.optimizer
        return learning_rate(
            self.step,
            peak=self.recipe.lr,
            warmup_steps=optimizer.warmup_epochs * self.batches.steps_per_epoch,
            total_steps=self.total_steps,
            schedule=optimizer.schedule,
            first=self.recipe.lr * optimizer.warmup_from,
            last=optimizer.final_lr,
        )

    def _is_watched(self) -> bool:
        """Whether the step just done was the last of its epoch, or the last of as many samples as a step has."""
        steps = self.batches.steps_per_epoch
        whole = len(self.subset) // self.recipe.effective_batch
        return (self.step - 1) % steps + 1 == min(max(1, whole), steps)

    def _just_watched(self) -> dict[str, float]:
        """What the model said of itself after this very step."""
        told = dict(self.watched)
        return told if told.pop("step", None) == self.step else {}

    def _is_told(self, values: list[float]) -> bool:
        return values[2] > 0

    def _read(self, values: list[float], sent: _Sent) -> Step:
        """What a step was, now that its values are here.

        Raises:
            TrainingError: they are no numbers.
        """
        loss, grad_norm = (value / world_size() for value in values[:2])
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise self._diverged(loss, grad_norm, step=sent.step, lr=sent.lr)
        rates = self.meter.read(samples=sent.samples, waited=self.batches.waited)
        self.seconds, self.samples = self.seconds + rates.seconds, self.samples + sent.samples
        if (sent.step - 1) % self.batches.steps_per_epoch == 0:
            self.epoch_losses = []
        self.epoch_losses.append(loss)
        return Step(
            step=sent.step,
            total_steps=self.total_steps,
            epoch=sent.epoch,
            loss=loss,
            lr=sent.lr,
            grad_norm=grad_norm,
            samples=sent.samples,
            samples_per_second=rates.samples_per_second,
            wait_share=rates.wait_share,
            mfu=rates.mfu,
            memory_mb=peak_memory_mb(self.device),
            watched=sent.watched,
        )

    def _diverged(self, loss: float, grad_norm: float, *, step: int, lr: float) -> TrainingError:
        return diverged(
            self.recipe,
            self.run_dir,
            step=step,
            total_steps=self.total_steps,
            loss=loss,
            grad_norm=grad_norm,
            lr=lr,
            dtype=self.engine.dtype,
        )

    def _save(self) -> None:
        """Write a checkpoint, and what the run is by now; every step so far was read."""
        if not self.engine.is_finite():
            raise self._diverged(self.epoch_losses[-1], math.nan, step=self.step, lr=self.recipe.lr)
        if is_main():
            with writing_explained(self.run_dir, what=f"The checkpoint of step {self.step}"):
                self._write_checkpoint()
        self.due.written()
        self.seconds += self.meter.rest(waited=self.batches.waited)
        self.run = self._so_far()
        if is_main():
            self.run.save()

    def _write_checkpoint(self) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "samples": self.samples,
            "epoch_losses": self.epoch_losses,
            "watched": self.watched,
            "optimizer": self.engine.optimizer.state_dict(),
        }
        save_checkpoint(
            self.run_dir,
            model=self.engine.evaluated,
            trained=self.model if self.engine.ema else None,
            state=state,
            step=self.step,
        )
        prune_checkpoints(self.run_dir, keep=self.recipe.checkpoint.keep, always=self.due.milestones)

    def _restore(self, checkpoint: Path) -> None:
        state = load_state(checkpoint)
        self.step, self.seconds, self.samples = state["step"], state["seconds"], state["samples"]
        self.epoch_losses = list(state["epoch_losses"])
        self.watched = dict(state.get("watched", {}))
        self.engine.optimizer.load_state_dict(state["optimizer"])
        if self.engine.ema:
            load_weights(self.engine.ema.model, checkpoint / WEIGHTS)
        log.info("going on after step %d of %d", self.step, self.total_steps)

    def _open_folder(self, *, tensorboard: bool) -> Records:
        """Make the folder, without what is of a run that this one replaces, and open its records."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        if not self.step:
            clear(self.run_dir)
        self.run.save()
        return Records(self.run_dir, done=self.step, tensorboard=tensorboard)

    def _describe(self) -> Run:
        names = sorted({str(name) for name in self.subset.column("collection")})
        return Run(
            path=self.run_dir,
            recipe=self.recipe.told(),
            recipe_hash=self.recipe.hash,
            data={
                "hash": self.subset.hash,
                "num_samples": len(self.subset),
                "collections": names,
                **self._map(),
                **({"origins": self.origins} if self.origins else {}),
            },
            normalization=self.model.require_normalization().to_json(),
            finished=False,
            steps=self.step,
            total_steps=self.total_steps,
            final_loss=None,
            seconds=self.seconds,
            samples_per_second=0.0,
            device=device_name(self.device),
            world_size=world_size(),
            effective_batch=min(self.recipe.effective_batch, len(self.subset)),
            precision=str(self.engine.dtype).removeprefix("torch."),
            placement=self.batches.placement,
            placement_reason=self.batches.placement_reason,
            peak=asdict(self.peak),
            mfu=None,
            peak_memory_mb=peak_memory_mb(self.device),
            gpu_hours=0.0,
            hardware=describe_hardware(),
            num_parameters=sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            versions=software_versions(),
        )

    def _map(self) -> dict[str, Any]:
        """What the run says of the maps that it reads entities of: what identifies them, and whose they are."""
        if not (told := self.batches.map_hash):
            return {}
        whose = [each.document.get("pwcat:attributions", {}) for each in self.subset.collections]
        return {"map_hash": told, "attributions": {name: terms for each in whose for name, terms in each.items()}}

    def _so_far(self) -> Run:
        rate = self.samples / self.seconds if self.seconds else 0.0
        return replace(
            self._describe(),
            finished=self.step == self.total_steps,
            steps=self.step,
            final_loss=float(np.mean(self.epoch_losses)),
            seconds=round(self.seconds, 3),
            samples_per_second=round(rate, 1),
            mfu=float(f"{rate * self.model.flops_per_sample() / self.peak.flops:.4g}"),
            peak_memory_mb=round(peak_memory_mb(self.device), 1),
            gpu_hours=round(self.seconds * world_size() / 3600, 4) if self.device.type == "cuda" else 0.0,
            watched=self.watched,
        )


@dataclass(frozen=True, kw_only=True)
class _Sent:
    """What is known of a step before its values are here."""

    step: int
    epoch: int
    lr: float
    samples: int
    watched: dict[str, float]


def _fresh_model(recipe: TrainRecipe) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return build_model(recipe.architecture, recipe.model)
