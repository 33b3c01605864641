"""A geometry network for a model that needs one: trained on the shapes of its data before its own first step, and kept.

This is pretraining on one device, without its measurements: it is called by a model's ``fit``, by one process after the other,
so that nothing may be shared between them but files. What :func:`training.pretrain.pretrain` does with a recipe of architecture
"geometry" is the same in what it learns, and not the same to the bit.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Bands, Batch
from training.chance import Chance
from training.looping.optimizer import adamw
from training.looping.schedule import learning_rate
from training.models import build_model
from training.models.folder import CONFIG, WEIGHTS, load_model_folder, save_model_folder
from training.models.geometry import GeometryNet
from training.osm.reading import EntityReader

if TYPE_CHECKING:
    from catalog.subset import Subset
    from training.recipe import TrainRecipe

__all__ = ["FOLDER", "train_geometry"]

FOLDER = "geometry"  # in a run's
STATE = "state.pt"
SECONDS = 30.0  # of work that a kill may lose
LEAST_STEPS = 300  # of few tiles, which are seen more often for it

Preparing = Callable[[str, int, int], None]


def train_geometry(
    subset: Subset,
    config: Mapping[str, Any] | None = None,
    *,
    seed: int,
    device: torch.device,
    folder: Path | None,
    preparing: Preparing | None = None,
) -> GeometryNet:
    """A geometry network that has learned the shapes of a subset's map entities; in eval mode, on the CPU.

    It is kept in ``geometry`` of the folder, a model folder for each that differs in anything that bears on it, and read from
    there the next time; a killed training goes on from what is there.

    Args:
        subset: map tiles.
        config: ``recipe``, the name or path of a recipe of architecture "geometry" ("geometry" by default); ``least_steps``,
            for which few tiles are seen in more epochs (300 by default); and keys of the recipe with other values, such as
            ``{"epochs": 5, "model.width": 64}``.
        seed: fixes weights, order and draws.
        device: that trains.
        folder: of the run; without one, nothing is trained, and the network has fresh weights.
        preparing: told what is done, and how many tiles of how many.

    Raises:
        TrainingError: the subset holds no map, the recipe is of something else, or the loss is not a number.
        RecipeError: there is no such recipe, or it has faults.
    """
    recipe = _recipe(dict(config or {}), seed, tiles=len(subset))
    if folder is None:
        return _fresh(recipe).eval()
    reader = EntityReader(subset)
    parts = [recipe.hash, subset.hash, reader.fingerprint, "v1"]
    place = folder / FOLDER / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    if not (place / CONFIG).is_file():
        _Training(subset=subset, reader=reader, recipe=recipe, device=device, place=place).run(preparing)
    model = load_model_folder(place)
    assert isinstance(model, GeometryNet)
    return model


def _recipe(config: dict[str, Any], seed: int, *, tiles: int) -> TrainRecipe:
    from training.recipe import load_train_recipe  # which knows all architectures

    name, least = config.pop("recipe", "geometry"), int(config.pop("least_steps", LEAST_STEPS))
    overrides = {key: json.dumps(value) for key, value in {**config, "seed": seed}.items()}
    recipe = load_train_recipe(name, overrides=overrides)
    if recipe.architecture != GeometryNet.architecture:
        raise TrainingError(
            f"recipe {name!r} is of architecture {recipe.architecture!r}, and a geometry network is wanted: name one of "
            "architecture 'geometry', such as geometry or geometry-tiny"
        )
    steps_per_epoch = max(1, -(-tiles // recipe.effective_batch))
    return recipe.model_copy(update={"epochs": max(recipe.epochs, -(-least // steps_per_epoch))})


def _fresh(recipe: TrainRecipe) -> GeometryNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build_model(recipe.architecture, recipe.model)
    assert isinstance(model, GeometryNet)
    return model


@dataclass(frozen=True, kw_only=True)
class _Training:
    subset: Subset
    reader: EntityReader
    recipe: TrainRecipe
    device: torch.device
    place: Path

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.subset) // self.recipe.effective_batch)

    def run(self, preparing: Preparing | None) -> None:
        """Train, and leave a model folder."""
        model, first, samples = self._begun()
        total = self.steps_per_epoch * self.recipe.epochs
        since = time.monotonic()
        for step in range(first, total):
            samples += self._step(model, step, total)
            if preparing is not None:
                preparing("learning shapes", samples, len(self.subset) * self.recipe.epochs)
            if time.monotonic() - since >= SECONDS:
                self._keep(model, step + 1, samples)
                since = time.monotonic()
        if not all(bool(torch.isfinite(p).all()) for p in model.net.parameters()):
            raise TrainingError("the geometry network's weights are no numbers: lower its learning rate (optimizer.lr)")
        save_model_folder(model.net.cpu(), self.place.with_suffix(".part"))
        self.place.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, CONFIG):  # whoever finds the config finds all
            (self.place.with_suffix(".part") / name).replace(self.place / name)
        self.place.with_suffix(".part").rmdir()
        (self.place / STATE).unlink(missing_ok=True)

    def _step(self, model: _Learning, step: int, total: int) -> int:
        """One step of the optimiser; how many tiles it saw."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.recipe.seed, epoch]).permutation(len(self.subset))
        size = self.recipe.effective_batch
        rows = order[within * size : (within + 1) * size]
        optimizer = self.recipe.optimizer
        lr = learning_rate(
            step,
            peak=self.recipe.lr,
            warmup_steps=optimizer.warmup_epochs * self.steps_per_epoch,
            total_steps=total,
            schedule=optimizer.schedule,
        )
        for group in model.optimizer.param_groups:
            group["lr"] = lr
        chance = Chance(int(np.random.SeedSequence([self.recipe.seed, step]).generate_state(1)[0]), total=len(rows))
        with torch.no_grad():
            inputs = model.net.prepare(self._batch(rows), chance=chance)
        loss = model.net(**inputs)
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"the geometry network's loss is no number at step {step + 1} of {total}: lower its learning rate "
                "(optimizer.lr)"
            )
        model.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.net.parameters(), optimizer.clip_norm or math.inf)
        model.optimizer.step()
        return len(rows)

    def _batch(self, rows: np.ndarray) -> Batch:
        batch = Batch(
            chips=None,
            bands=Bands.reflectance(()),
            lonlat=torch.zeros(len(rows), 2, dtype=torch.float64),  # which it does not look at
            times=torch.full((len(rows), 1), UNKNOWN_TIME),
            rows=rows,
            entities=self.reader.batch(rows),
        )
        return batch.to(self.device)

    def _begun(self) -> tuple[_Learning, int, int]:
        """The network and its optimiser, and how many steps and tiles are done."""
        net = _fresh(self.recipe).to(self.device).train()
        options = self.recipe.optimizer
        optimizer = adamw(net, lr=self.recipe.lr, betas=options.betas, weight_decay=options.weight_decay)
        if not (self.place / STATE).is_file():
            return _Learning(net=net, optimizer=optimizer), 0, 0
        state = torch.load(self.place / STATE, map_location=self.device, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        return _Learning(net=net, optimizer=optimizer), int(state["step"]), int(state["samples"])

    def _keep(self, model: _Learning, step: int, samples: int) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        state = {
            "net": model.net.state_dict(),
            "optimizer": model.optimizer.state_dict(),
            "step": step,
            "samples": samples,
        }
        with replacing(self.place / STATE) as part:
            torch.save(state, part)


@dataclass(frozen=True, kw_only=True)
class _Learning:
    net: GeometryNet
    optimizer: torch.optim.AdamW
