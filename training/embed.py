"""Embeddings of a subset by a frozen model, kept beside the run so that they are computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from training.batch import UNKNOWN_TIME, Bands, Batch
from training.loader import in_order
from training.models import Model
from training.models.folder import weights_hash
from training.normalize import unit_of

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["check_data", "embed_subset"]

# Part of the name of a kept embedding: to be raised when the way from chip to embedding changes.
PREPROCESSING = "first-time, normalised, centre-cropped, v1"
PLACES = 8192  # encoded at once


def check_data(model: Model, subset: Subset, *, other_units: bool = False) -> None:
    """Make sure that a model can read a subset as what it was trained on.

    Args:
        model: a model with its normalisation.
        subset: the samples.
        other_units: let values of another unit pass.

    Raises:
        TrainingError: bands are missing, or values have another unit than in pretraining.
    """
    if model.encodes == "places":
        return  # of chips it reads nothing
    if model.scales_itself:
        model.choose_bands(subset.bands)
        return  # and refuses what it cannot convert
    trained = model.require_normalization().unit
    here = unit_of(subset, model.choose_bands(subset.bands))
    if trained != here and not other_units:
        raise TrainingError(
            f"the model was trained on values in {trained!r}, but these data are in {here!r}: convert them, or say that "
            "this is meant (other_units=True, --other-units)"
        )


def embed_subset(
    model: Model, subset: Subset, *, cache_dir: Path | None = None, device: str = "cpu", other_units: bool = False
) -> np.ndarray:
    """Embeddings of a subset's samples in its order, (N, D) float32.

    A model that encodes places reads no chips: what they are, and whether they are there, is nothing to it.

    Args:
        model: a model with its normalisation; it is left on ``device``, in eval mode.
        subset: the samples; of several times the first is taken, and larger chips are cut to their middle.
        cache_dir: where embeddings are kept, by hashes of weights, normalisation, samples and preprocessing.
        device: torch device.
        other_units: let values of another unit than in pretraining pass.
    """
    check_data(model, subset, other_units=other_units)
    path = cache_dir / f"{_key(model, subset)}.npy" if cache_dir else None
    if path and path.is_file():
        return np.asarray(np.load(path, allow_pickle=False))
    embeddings = _compute(model, subset, device=device)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            np.save(file, embeddings)
    return embeddings


@torch.inference_mode()
def _compute(model: Model, subset: Subset, *, device: str) -> np.ndarray:
    model.to(device)
    model.eval()
    if model.encodes == "places":
        batches = _places(subset)
    else:
        batches = in_order(subset, bands=model.choose_bands(subset.bands), times=model.times)
    return np.concatenate([model.encode(batch.to(device)).float().cpu().numpy() for batch in batches])


def _places(subset: Subset) -> Iterator[Batch]:
    """Samples in their order without their chips."""
    for start in range(0, len(subset), PLACES):
        rows = np.arange(start, min(start + PLACES, len(subset)))
        yield Batch(
            chips=None,
            bands=Bands.reflectance(()),
            lonlat=torch.from_numpy(subset.lonlat[rows]),
            times=torch.full((len(rows), 1), UNKNOWN_TIME),
            rows=rows,
        )


def _key(model: Model, subset: Subset) -> str:
    normalization = model.normalization.to_json() if model.normalization else None
    parts = [weights_hash(model), subset.hash, repr(normalization), PREPROCESSING]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
