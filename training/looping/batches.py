"""The batches of each step, for one rank: its own samples, with draws that know the whole global batch."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pwcat.errors import TrainingError
from training.batch import Batch
from training.chance import Chance
from training.features import FEATURES, FeatureLoader
from training.loader import Loader
from training.loading.kept import statistics_folder
from training.looping.distributed import global_sum, own_rows, rank, world_size
from training.looping.engine import Share
from training.models import Model
from training.normalize import Normalization
from training.preparing import Preparing, in_silence
from training.recipe import TrainRecipe

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Batches"]


class Batches:
    """A subset as steps of the optimiser.

    Args:
        subset: the samples.
        model: what reads them.
        recipe: how many at once, in what order.
        device: where they go.
        run_dir: folder of the run, where features are kept if the recipe asks for them.

    Raises:
        TrainingError: the data do not fit the model, or are too few.
    """

    def __init__(
        self, subset: Subset, model: Model, recipe: TrainRecipe, *, device: torch.device, run_dir: Path | None = None
    ) -> None:
        self._subset, self._recipe = subset, recipe
        self._loader: Loader | FeatureLoader = Loader(
            subset,
            bands=model.choose_bands(subset.bands),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            times=model.times,
            rank=rank(),
            world_size=world_size(),
            device=device,
            placement="stream" if recipe.cached_views else recipe.placement,  # chips that are seen once are not held
            memory_budget_mb=recipe.memory_budget_mb,
            window_chips=recipe.window_chips,
            entities=model.reads_entities,
        )
        if not self._loader.num_batches:
            raise TrainingError(
                f"{len(subset)} samples are fewer than the {world_size()} processes that are to share them: start fewer"
            )
        if recipe.cached_views:
            self._loader = FeatureLoader(
                self._loader,
                model,
                views=recipe.cached_views,
                augment=recipe.augment,
                seed=recipe.seed,
                folder=(run_dir or Path()) / FEATURES,
                dtype=recipe.dtype(device),
            )

    @property
    def map_hash(self) -> str | None:
        """What identifies the maps that entities are read of; ``None`` where none are."""
        return self._loader.map_hash if isinstance(self._loader, Loader) else None

    def get_ready(self, preparing: Preparing = in_silence) -> None:
        """Do what is done once, before the first step: chips that are held are read, features of a tower computed."""
        self._loader.fill(partial(preparing, "computing features" if self._recipe.cached_views else "reading chips"))

    @property
    def waited(self) -> float:
        """Seconds that were spent waiting for data."""
        return self._loader.waited

    @property
    def placement(self) -> str:
        """Where the chips are."""
        return self._loader.placement

    @property
    def placement_reason(self) -> str:
        """Why there: a sentence with the numbers that led to it."""
        return self._loader.placement_reason

    @property
    def steps_per_epoch(self) -> int:
        """Steps an epoch; the last one may be of fewer batches."""
        return -(-self._loader.num_batches // self._recipe.accumulate)

    def measure(self, preparing: Preparing = in_silence) -> Normalization:
        """The statistics of the data; of large ones, an earlier run's on the very same files."""
        keep_in = statistics_folder(self._loader.decoded_bytes)
        return self._loader.measure(add=global_sum, keep_in=keep_in, progress=partial(preparing, "measuring bands"))

    def steps(self, start: int, last: int) -> Generator[tuple[int, list[Share]]]:
        """Epoch and this rank's batches of each step after ``start``, until ``last`` are done."""
        while start < last:
            epoch, within = divmod(start, self.steps_per_epoch)
            ends = min(last, (epoch + 1) * self.steps_per_epoch)
            batches = self._loader.epoch(epoch, start_batch=within * self._recipe.accumulate)
            try:
                for step in range(start, ends):
                    yield epoch, self._shares(batches, step)
            finally:
                batches.close()  # ends the reading threads
            start = ends

    def _shares(self, batches: Iterator[Batch], step: int) -> list[Share]:
        first = step % self.steps_per_epoch * self._recipe.accumulate
        numbers = range(first, min(first + self._recipe.accumulate, self._loader.num_batches))
        return [Share(batch=next(batches), chance=self._chance(step, number)) for number in numbers]

    def _chance(self, step: int, number: int) -> Chance:
        """Draws of its own for every batch of every step.

        Args:
            step: those before it.
            number: of the batch in its epoch.
        """
        recipe = self._recipe
        total = min(recipe.batch_size, len(self._subset) - number * recipe.batch_size)
        entropy = [recipe.seed, step, number % recipe.accumulate]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, dtype=np.uint64)[0] >> np.uint64(1))
        return Chance(seed, total=total, rows=own_rows(total), world_size=world_size())
