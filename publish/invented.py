"""An invented batch for any model, to see that it loads and computes: not data, and of no meaning."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pwcat.cube import SENTINEL2_BANDS
from pwcat.errors import TrainingError
from training.batch import Bands, Batch
from training.models import Model

__all__ = ["embed_invented", "invented_batch"]

PLACES = ((8.55, 47.37), (-60.02, -3.12))  # degrees: Zürich, Manaus
FIRST_DAY, DAYS_APART = "2021-01-15", 30


def invented_batch(model: Model) -> Batch:
    """Two samples of Sentinel-2 that a model can read, of a year where it reads all dates, with places and times."""
    bands = _bands(model)
    dates, size = 12 if model.times == "all" else 1, max(1, model.image_size)
    rng = np.random.default_rng(0)
    chips = rng.integers(200, 4000, (len(PLACES), dates, len(bands), size, size), dtype=np.uint16)
    start = np.datetime64(FIRST_DAY, "s").astype(np.int64)
    times = start + np.arange(dates) * DAYS_APART * 86_400
    return Batch(
        chips=torch.from_numpy(chips),
        bands=Bands.reflectance(bands),
        lonlat=torch.tensor(PLACES, dtype=torch.float64),
        times=torch.from_numpy(np.tile(times, (len(PLACES), 1))),
        rows=np.arange(len(PLACES)),
    )


def _bands(model: Model) -> tuple[str, ...]:
    try:
        return model.choose_bands(tuple(SENTINEL2_BANDS))
    except TrainingError:  # it needs bands of other sensors
        return model.bands


@torch.inference_mode()
def embed_invented(model: Model) -> Tensor:
    """What a model in eval mode makes of :func:`invented_batch`, (2, D).

    Raises:
        TrainingError: it is of another shape than the model says, or not finite.
    """
    embeddings = model.eval().encode(invented_batch(model))
    wanted = (len(PLACES), model.embedding_dim)
    if tuple(embeddings.shape) != wanted or not bool(torch.isfinite(embeddings).all()):
        raise TrainingError(f"embeddings of shape {tuple(embeddings.shape)} or not finite, where {wanted} are due")
    return embeddings
