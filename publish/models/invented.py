"""An invented batch for any model, to see that it loads and computes: not data, and of no meaning."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pwcat.cube import SENTINEL2_BANDS
from pwcat.errors import TrainingError
from pwcat.osm.schema import KINDS
from training.batch import Bands, Batch
from training.models import Model
from training.osm.entities import Entities, TagList
from training.osm.visibility import edges_of

__all__ = ["embed_invented", "invented_batch"]

PLACES = ((8.55, 47.37), (-60.02, -3.12))  # degrees: Zürich, Manaus
FIRST_DAY, DAYS_APART = "2021-01-15", 30


def invented_batch(model: Model) -> Batch:
    """Two samples of Sentinel-2 that a model can read, of a year where it reads all dates, with places and times.

    Where it reads maps, a crossing, a road and a house lie on each.
    """
    bands = _bands(model)
    dates, size = 12 if model.times == "all" else 1, max(1, model.image_size)
    rng = np.random.default_rng(0)
    chips = rng.integers(200, 4000, (len(PLACES), dates, len(bands), size, size), dtype=np.uint16)
    start = np.datetime64(FIRST_DAY, "s").astype(np.int64)
    times = start + np.arange(dates) * DAYS_APART * 86_400
    return Batch(
        chips=torch.from_numpy(chips) if bands else None,
        bands=Bands.reflectance(bands),
        lonlat=torch.tensor(PLACES, dtype=torch.float64),
        times=torch.from_numpy(np.tile(times, (len(PLACES), 1))),
        rows=np.arange(len(PLACES)),
        entities=_entities() if model.reads_entities else None,
    )


def _entities() -> Entities:
    """Three entities on each of two tiles, one of each kind, with a tag each."""
    sizes = np.array([1, 2, 4] * len(PLACES))
    drawn = [[(0.2, 0.2)], [(0.0, 0.5), (1.0, 0.6)], [(0.6, 0.7), (0.8, 0.7), (0.8, 0.9), (0.6, 0.9)]]
    shapes = [np.array(shape, dtype=np.float32) for shape in drawn] * len(PLACES)
    entity, vertices = np.arange(len(sizes)), np.concatenate(shapes)
    owner, kinds = np.repeat(entity, sizes), entity % len(KINDS)
    edges, edge_kinds = edges_of(vertices, owner, entity, kinds)
    low = np.array([shape.min(axis=0) for shape in shapes])
    high = np.array([shape.max(axis=0) for shape in shapes])
    corners = [low, np.stack([high[:, 0], low[:, 1]], axis=1), high, np.stack([low[:, 0], high[:, 1]], axis=1)]
    return Entities(
        sample=torch.from_numpy(np.repeat(np.arange(len(PLACES)), len(KINDS))),
        boxes=torch.from_numpy(np.stack(corners, axis=1)),
        kinds=torch.from_numpy(kinds),
        tags=torch.from_numpy(kinds),
        tag_entity=torch.from_numpy(entity),
        vertices=torch.from_numpy(vertices),
        vertex_entity=torch.from_numpy(owner),
        edges=torch.from_numpy(edges),
        edge_kinds=torch.from_numpy(edge_kinds),
        tag_list=TagList(pairs=(("highway", "crossing"), ("highway", "residential"), ("building", "house"))),
        rows=torch.from_numpy(entity),
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
