"""Embeddings of samples by a frozen model, kept beside the run so that they are computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Bands, Batch
from training.fitting import fitted
from training.kept import kept_matrix
from training.models import Model
from training.models.folder import weights_hash
from training.normalize import unit_of, unit_of_bands
from training.osm.entities import Entities
from training.osm.reading import EntityReader
from training.tasks.base import Chips, Fit, TaskData
from training.tasks.chips import SubsetChips

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["check_data", "embed_entities", "embed_subset", "embed_task", "entities_of"]

# Part of the name of a kept embedding: to be raised when the way from chip to embedding changes.
PREPROCESSING = "dates that the model reads, fitted, normalised, v2"
Progress = Callable[[int, int], None]

PLACES = 8192  # encoded at once
CHIPS = 256
TILES = 16  # whose entities are embedded at once, however many they are
GLANCED = 16  # chips by which it is seen whether pixels are still the same


def check_data(model: Model, data: TaskData | Subset, *, other_units: bool = False) -> None:
    """Make sure that a model can read samples as what it was trained on.

    Args:
        model: a model with its normalisation.
        data: the samples.
        other_units: let values of another unit pass.

    Raises:
        TrainingError: bands, pixels, places or entities are missing, or values have another unit than in pretraining.
    """
    if model.encodes == "places":
        return  # of chips it reads nothing
    if model.reads_entities:
        entities_of(data)
    available = _bands_of(model, data)
    if model.scales_itself:
        model.choose_bands(available)
        return  # and refuses what it cannot convert
    trained, chosen = model.require_normalization().unit, model.choose_bands(available)
    if not chosen:
        return
    here = unit_of_bands(data.chips.bands.select(chosen)) if isinstance(data, TaskData) else unit_of(data, chosen)
    if trained != here and not other_units:
        raise TrainingError(
            f"the model was trained on values in {trained!r}, but these data are in {here!r}: convert them, or say that "
            "this is meant (other_units=True, --other-units)"
        )


def entities_of(data: TaskData | Subset) -> EntityReader:
    """What reads the entities of samples that are tiles of maps.

    Raises:
        TrainingError: they are none.
    """
    if not isinstance(data, TaskData):
        return EntityReader(data)
    if not isinstance(data.chips, SubsetChips):
        raise TrainingError(
            f"task {data.info.name}: its samples are no tiles of maps, whose entities this model reads: take a task of a map "
            "collection, or a model of chips alone"
        )
    return data.chips.entities


def embed_task(
    model: Model,
    data: TaskData,
    *,
    cache_dir: Path | None = None,
    device: str = "cpu",
    other_units: bool = False,
    progress: Progress = lambda done, total: None,
) -> NDArray[np.float32]:
    """Embeddings of a task's samples in its order, (N, D).

    A model that encodes places reads no chips: what they are, and whether they are there, is nothing to it.

    Args:
        model: a model with its normalisation; it is left on ``device``, in eval mode.
        data: the samples; chips of another size come to that of the model as the task says.
        cache_dir: where embeddings are kept, by hashes of weights, normalisation, samples, a few of their chips, fit and
            preprocessing. They are written while they are made, gone on with after a kill, and read as they are used.
        device: torch device.
        other_units: let values of another unit than in pretraining pass.
        progress: told how many samples are done, and of how many.

    Raises:
        TrainingError: the model cannot read the samples.
    """
    check_data(model, data, other_units=other_units)
    # tasks of the same samples share what is kept; a subset's hash says which those are, a task's has its labels too
    identity = data.chips.subset.hash if isinstance(data.chips, SubsetChips) else data.hash
    samples = _Samples(chips=data.chips, lonlat=data.lonlat, fit=data.info.fit, hash=identity)
    return _kept(model, samples, cache_dir=cache_dir, device=device, progress=progress)


def embed_subset(
    model: Model,
    subset: Subset,
    *,
    cache_dir: Path | None = None,
    device: str = "cpu",
    other_units: bool = False,
    fit: Fit = "crop",
    progress: Progress = lambda done, total: None,
) -> NDArray[np.float32]:
    """Embeddings of a subset's samples in its order, (N, D); see :func:`embed_task`.

    Args:
        model: a model with its normalisation; it is left on ``device``, in eval mode.
        subset: the samples.
        cache_dir: where embeddings are kept.
        device: torch device.
        other_units: let values of another unit than in pretraining pass.
        fit: how chips of another size come to that of the model; larger ones are cut to their middle by default.
        progress: told how many samples are done, and of how many.
    """
    check_data(model, subset, other_units=other_units)
    samples = _Samples(chips=SubsetChips(subset=subset), lonlat=subset.lonlat, fit=fit, hash=subset.hash)
    return _kept(model, samples, cache_dir=cache_dir, device=device, progress=progress)


def embed_entities(
    model: Model,
    subset: Subset,
    *,
    cache_dir: Path | None = None,
    device: str = "cpu",
    other_units: bool = False,
    progress: Progress = lambda done, total: None,
) -> NDArray[np.float32]:
    """Embeddings of the map entities of a subset's tiles, (E, D): tile by tile in its order, within a tile as the map has them.

    Args:
        model: one that embeds entities; it is left on ``device``, in eval mode.
        subset: map tiles.
        cache_dir: where embeddings are kept, as :func:`embed_task` says.
        device: torch device.
        other_units: let values of another unit than in pretraining pass.
        progress: told how many entities are done, and of how many.

    Raises:
        TrainingError: the model embeds no entities, or the samples are no map tiles.
    """
    if not (width := model.entity_dim):
        model.encode_entities(Batch.of_chips(torch.zeros(0, 0, 0, 0), bands=()))  # which says so
    check_data(model, subset, other_units=other_units)
    chips = SubsetChips(subset=subset)
    samples = _Samples(chips=chips, lonlat=subset.lonlat, fit="resize", hash=subset.hash)
    starts = np.concatenate([[0], np.cumsum(chips.entities.counts(np.arange(len(subset))))])

    def compute(done: int) -> Iterator[NDArray[np.float32]]:
        model.to(device)
        model.eval()
        tile = int(np.searchsorted(starts, done, side="right")) - 1
        for batch in samples.batches(model, device=device, start=tile, block=TILES):
            with torch.inference_mode():
                part = model.encode_entities(batch).float().cpu().numpy()
            done += len(part)
            yield part
            progress(done, int(starts[-1]))

    shape = (int(starts[-1]), width)
    if cache_dir is None or not shape[0]:
        return np.concatenate([np.empty((0, width), dtype=np.float32), *(compute(0) if shape[0] else ())])
    return kept_matrix(cache_dir / f"{_key(model, samples)}-entities.npy", compute, shape=shape)


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """What is to be embedded."""

    chips: Chips
    lonlat: NDArray[np.float64]
    fit: Fit
    hash: str

    def batches(self, model: Model, *, device: str, start: int = 0, block: int = CHIPS) -> Iterator[Batch]:
        """The samples from a row on, in their order, as the model reads them, on its device."""
        if model.encodes == "places":
            yield from self._places(device, start)
            return
        rows, bands = np.arange(start, len(self.lonlat)), model.choose_bands(self.chips.bands.names)
        for batch in self._read(model, rows, bands=bands, block=block):
            moved = batch.to(device)
            yield moved if moved.chips is None else fitted(moved, model.image_size, self._fit(model))

    def glance(self, model: Model) -> str:
        """What a few samples look like: a dataset built anew from other scenes has the same recipe, and the same ids."""
        digest = hashlib.sha256()
        if model.encodes != "places" and len(self.lonlat):
            rows = np.unique(np.linspace(0, len(self.lonlat) - 1, GLANCED).astype(np.int64))
            bands = model.choose_bands(self.chips.bands.names)
            for batch in self._read(model, rows, bands=bands, block=GLANCED):
                if batch.chips is not None:
                    digest.update(batch.chips.numpy().tobytes())
                digest.update(batch.times.numpy().tobytes())
                if batch.entities is not None:
                    digest.update(_looks_of(batch.entities))
        return digest.hexdigest()

    def _read(self, model: Model, rows: NDArray[np.int64], *, bands: Sequence[str], block: int) -> Iterator[Batch]:
        return self.chips.batches(rows, bands=bands, times=model.times, block=block, entities=model.reads_entities)

    def _fit(self, model: Model) -> Fit:
        """Entities lie on the whole chip: beside them it is not cut."""
        return "resize" if model.reads_entities else self.fit

    def _places(self, device: str, start: int) -> Iterator[Batch]:
        """Samples from a row on, in their order, without their chips."""
        if unknown := int((~np.isfinite(self.lonlat).all(axis=1)).sum()):
            raise TrainingError(
                f"the model encodes places, and {unknown} of {len(self.lonlat)} samples have none: take a task whose samples "
                "have longitude and latitude, or a model of chips"
            )
        for first in range(start, len(self.lonlat), PLACES):
            rows = np.arange(first, min(first + PLACES, len(self.lonlat)))
            yield Batch(
                chips=None,
                bands=Bands.reflectance(()),
                lonlat=torch.from_numpy(np.ascontiguousarray(self.lonlat[rows])).to(device),
                times=torch.full((len(rows), 1), UNKNOWN_TIME).to(device),
                rows=rows,
            )


def _bands_of(model: Model, data: TaskData | Subset) -> tuple[str, ...]:
    if not isinstance(data, TaskData):
        return data.bands
    if not data.chips.bands.names:
        raise TrainingError(
            f"task {data.info.name}: its samples are places without pixels, and {model.architecture} reads chips: take a model "
            "of places, such as satclip"
        )
    return data.chips.bands.names


def _kept(
    model: Model, samples: _Samples, *, cache_dir: Path | None, device: str, progress: Progress
) -> NDArray[np.float32]:
    shape = (len(samples.lonlat), model.embedding_dim)

    def compute(start: int) -> Iterator[NDArray[np.float32]]:
        for done, part in _compute(model, samples, start, device=device):
            yield part
            progress(done, shape[0])

    if cache_dir is None:
        return np.concatenate([np.empty((0, shape[1]), dtype=np.float32), *compute(0)])
    return kept_matrix(cache_dir / f"{_key(model, samples)}.npy", compute, shape=shape)


def _compute(model: Model, samples: _Samples, start: int, *, device: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Embeddings from a row on, some at a time, each with how many rows are done then."""
    model.to(device)
    model.eval()
    for batch in samples.batches(model, device=device, start=start):
        with torch.inference_mode():  # not around the whole: a generator would leave it on for whoever asks
            part = model.encode(batch).float().cpu().numpy()
        start += len(part)
        yield start, part


def _key(model: Model, samples: _Samples) -> str:
    normalization = model.normalization.to_json() if model.normalization else None
    reads = "places" if model.encodes == "places" else [model.times, samples.fit]
    parts = [
        weights_hash(model),
        samples.hash,
        samples.glance(model),
        repr(normalization),
        json.dumps(reads),
        PREPROCESSING,
    ]
    if model.reads_entities and isinstance(samples.chips, SubsetChips):
        parts.append(samples.chips.entities.fingerprint)  # of the maps, and of what is taken away of them
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _looks_of(entities: Entities) -> bytes:
    """What tells apart the tags and shapes of some tiles."""
    pairs, numbers = entities.tag_list.pairs, torch.unique(entities.tags)
    tags = [pairs[number] for number in numbers.tolist()]
    shapes = (entities.sample, entities.boxes, entities.kinds, entities.vertices, entities.vertex_entity)
    places = torch.searchsorted(numbers, entities.tags)
    return repr(tags).encode() + b"".join(each.numpy().tobytes() for each in (places, entities.tag_entity, *shapes))
