"""The pretraining loss of each sample, for writing back to the catalog: what a model finds hard, and where that is.

A sample's loss hangs on its own masks: each sample draws from a seed of its own, made of its collection and id, so that the
loss is the same in any subset, order and batch size. A model that compares samples, as SatCLIP does, is the exception: there
every sample is compared with ``batch_size - 1`` others of the subset, drawn likewise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from hashlib import sha256
from operator import xor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pwcat.errors import TrainingError
from training.batch import Batch
from training.chance import Chance
from training.checkpoint import load_model_folder
from training.embed import check_data
from training.loader import in_order
from training.models import Model
from training.models.folder import weights_hash
from training.osm.entities import Entities
from training.osm.reading import EntityReader
from training.pretrain import pick_device
from training.run import RUN, load_run, software_versions

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Losses", "SampleChance", "Summary", "column_name", "measure_losses", "sample_losses", "told_of_training"]

REPEATS = 4  # masks of each sample
BATCH_SIZE = 256
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


class SampleChance(Chance):
    """Draws that are each sample's own: the same whatever batch it is in.

    Args:
        seeds: of each sample of the batch.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        super().__init__(reduce(xor, seeds, 0), total=len(seeds))  # what a batch draws as one hangs on who is in it
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def uniform(self, *shape: int) -> Tensor:
        """Numbers of [0, 1), (samples, \\*shape) float32."""
        return torch.stack([torch.rand(shape, generator=one) for one in self._generators])

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, (samples, \\*shape) float32."""
        return torch.stack([torch.randn(shape, generator=one) for one in self._generators])

    def integers(self, high: int, *shape: int) -> Tensor:
        """Integers of 0 to ``high`` - 1, (samples, \\*shape) int64."""
        return torch.stack([torch.randint(high, shape, generator=one) for one in self._generators])


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Losses in a few numbers.

    Attributes:
        samples: that have a loss.
        without: samples that have none, as those without data.
        mean: over the samples.
        sd: standard deviation over them (n - 1).
        percentiles: by per cent.
        highest: collection, id and loss of the samples with the highest, these first.
    """

    samples: int
    without: int
    mean: float
    sd: float
    percentiles: dict[int, float]
    highest: list[tuple[str, str, float]]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The losses of a subset's samples.

    Attributes:
        subset: the samples.
        values: of each, (N,) float32; NaN where it has none.
        meaning: what they are, in a few words.
        made: how they were made, as a column's notes have it.
    """

    subset: Subset
    values: NDArray[np.float32]
    meaning: str
    made: Mapping[str, Any]

    def summary(self, *, highest: int = 10) -> Summary:
        """See :class:`Summary`.

        Raises:
            TrainingError: no sample has a loss.
        """
        known = np.flatnonzero(np.isfinite(self.values))
        if not len(known):
            raise TrainingError(f"none of {len(self.values):,} samples has a loss: is there data in their chips?")
        values = self.values[known].astype(np.float64)
        first = known[np.argsort(-values, kind="stable")[:highest]]
        names = self.subset.only(np.sort(first)).columns(["collection", "id"]).to_pylist()
        of_row = dict(zip(np.sort(first).tolist(), names, strict=True))
        return Summary(
            samples=len(known),
            without=len(self.values) - len(known),
            mean=float(values.mean()),
            sd=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
            percentiles={p: float(q) for p, q in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)},
            highest=[(of_row[row]["collection"], of_row[row]["id"], float(self.values[row])) for row in first.tolist()],
        )

    def keep(self, name: str, *, overwrite: bool = False) -> list[Path]:
        """Keep them as a column of their collections; see :func:`catalog.columns.add_column`."""
        from catalog.columns import add_column

        return add_column(self.subset, name, self.values, meaning=self.meaning, made=self.made, overwrite=overwrite)

    def save(self, path: Path, name: str) -> Path:
        """Write them to a file of their own, which ``pwcat catalog columns --add`` reads."""
        from catalog.columns import save_column

        return save_column(self.subset, path, name, self.values, meaning=self.meaning, made=self.made)

    def to_json(self, *, highest: int = 10) -> dict[str, Any]:
        """The summary, and how they were made, as JSON values."""
        return {"meaning": self.meaning, **asdict(self.summary(highest=highest)), "made": dict(self.made)}


def measure_losses(
    run: str | Path,
    subset: Subset,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    device: str | None = None,
    other_units: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Losses:
    """The losses of a subset's samples by the model of a run, or of a model's folder.

    Args:
        run: the folder.
        subset: the samples; they need not be those that it was trained on.
        repeats: masks of each sample, over which the mean is taken.
        seed: fixes the masks.
        batch_size: samples at once.
        device: torch device; the best there is where none is given.
        other_units: let values of another unit than in pretraining pass.
        progress: told how many losses are done, and of how many.

    Raises:
        TrainingError: there is no model, or the data do not fit it.
    """
    folder = Path(run)
    model = load_model_folder(folder)
    values = sample_losses(
        model,
        subset,
        repeats=repeats,
        seed=seed,
        batch_size=batch_size,
        device=device,
        other_units=other_units,
        progress=progress,
    )
    made: dict[str, Any] = {
        "by": "pwcat losses",
        "run": folder.resolve().name,
        "architecture": model.architecture,
        "weights_hash": weights_hash(model),
        "repeats": repeats,
        "seed": seed,
        "device": str(device or pick_device()),  # bfloat16 on CUDA, float32 elsewhere
        **({"batch_size": batch_size} if model.compares_samples else {}),
        **told_of_training(folder),
        "versions": software_versions(),
    }
    draws = f"mean over {repeats} draws" if repeats > 1 else "one draw"
    return Losses(subset=subset, values=values, meaning=f"loss of {model.facts().name}, {draws}", made=made)


def told_of_training(folder: Path) -> dict[str, Any]:
    """What a run says of its training; nothing, where the folder is a model's alone."""
    if not (folder / RUN).is_file():
        return {}
    run = load_run(folder)
    return {"recipe_hash": run.recipe_hash, "trained_on": run.data["hash"], "steps": run.steps}


def column_name(run: str | Path) -> str:
    """The name of a run's column of losses, ``loss:`` and the name of its folder in lower case."""
    plain = re.sub(r"[^a-z0-9_.-]+", "-", Path(run).resolve().name.lower()).strip("-._")
    return f"loss:{plain or 'run'}"


@torch.inference_mode()
def sample_losses(
    model: Model,
    subset: Subset,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    device: str | None = None,
    other_units: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """The pretraining loss of each sample, (N,) float32, mean over ``repeats`` masks; NaN where none gives it any.

    Nothing is augmented: images are cut to their middle. On CUDA it computes in bfloat16, as training does there. The model is
    left on ``device``, in eval mode. See :func:`measure_losses` for the arguments.

    Raises:
        TrainingError: the data do not fit the model, or there are none.
    """
    if not len(subset):
        raise TrainingError("the subset holds no samples, so there are no losses to measure")
    check_data(model, subset, other_units=other_units)
    target = torch.device(device or pick_device())
    model.to(target)
    model.eval()
    sums, known, done = np.zeros(len(subset)), np.zeros(len(subset)), 0
    for drawn in _draws(model, subset, repeats=repeats, seed=seed, batch_size=batch_size):
        inputs = model.prepare(drawn.batch.to(target), chance=SampleChance(drawn.seeds))
        with torch.autocast(target.type, dtype=torch.bfloat16, enabled=target.type == "cuda"):  # as in training
            losses = model.sample_losses(**inputs).float().cpu().numpy()[: len(drawn.rows)]
        sums[drawn.rows] += np.nan_to_num(losses, nan=0.0)
        known[drawn.rows] += ~np.isnan(losses)  # with some masks, nothing that has data may be hidden
        progress(done := done + len(drawn.rows), repeats * len(subset))
    return np.where(known > 0, sums / np.maximum(known, 1), np.nan).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class _Draw:
    """A batch, seeds of its samples, and rows of the subset that its first samples are; the others are company."""

    batch: Batch
    seeds: list[int]
    rows: NDArray[np.int64]


def _draws(model: Model, subset: Subset, *, repeats: int, seed: int, batch_size: int) -> Iterator[_Draw]:
    keys = subset.columns(["collection", "id"])
    names = [
        f"{one}\0{other}" for one, other in zip(*(keys[name].to_pylist() for name in keys.column_names), strict=True)
    ]
    if model.compares_samples:
        for repeat in range(repeats):
            yield from _in_company(model, subset, np.array(_seeds(names, seed, repeat)), batch_size=batch_size)
        return
    bands = model.choose_bands(subset.bands)
    for batch in in_order(subset, bands=bands, times=model.times, block=batch_size, entities=model.reads_entities):
        mine = [names[row] for row in batch.rows]
        for repeat in range(repeats):  # a batch is read once
            yield _Draw(batch=batch, seeds=_seeds(mine, seed, repeat), rows=batch.rows)


def _in_company(model: Model, subset: Subset, seeds: NDArray[np.int64], *, batch_size: int) -> Iterator[_Draw]:
    """Batches of samples drawn together; the last is filled up, so that each is compared with as many."""
    order, reader = np.argsort(seeds, kind="stable"), EntityReader(subset) if model.reads_entities else None
    for start in range(0, len(order), batch_size):
        own = order[start : start + batch_size]
        lacking = min(batch_size, len(order)) - len(own)
        rows = np.concatenate([own, order[:lacking]])
        places = np.argsort(rows)  # a subset has its samples in its own order
        read = subset.only(rows[places])
        (batch,) = in_order(read, bands=model.choose_bands(subset.bands), times=model.times, block=len(read))
        entities = reader.batch(rows) if reader else None
        yield _Draw(batch=_taken(batch, np.argsort(places), entities), seeds=seeds[rows].tolist(), rows=own)


def _taken(batch: Batch, rows: NDArray[np.int64], entities: Entities | None) -> Batch:
    """The samples of a batch in another order, with what lies on them."""
    place = torch.from_numpy(rows)
    return Batch(
        chips=None if batch.chips is None else batch.chips[place],
        bands=batch.bands,
        lonlat=batch.lonlat[place],
        times=batch.times[place],
        rows=batch.rows[rows],
        features=None if batch.features is None else batch.features[place],
        entities=entities,
    )


def _seeds(names: Sequence[str], seed: int, repeat: int) -> list[int]:
    """A number of 63 bits for each name."""
    before = sha256(f"{seed}\0{repeat}\0".encode())
    found = []
    for name in names:
        digest = before.copy()
        digest.update(name.encode())
        found.append(int.from_bytes(digest.digest()[:8], "little") >> 1)
    return found
