"""What a GeoJEPA has from elsewhere: the tags that it knows, and the network of shapes, of its data or of a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from pwcat.errors import TrainingError
from training.models import Model, build_model
from training.models.folder import weights_hash
from training.models.geojepa_config import GeoJEPAConfig, GeometryConfig
from training.models.geojepa_tokens import TagVectors
from training.models.geometry import GeometryNet
from training.models.tower import json_values
from training.osm.files import ENTITIES
from training.osm.texts import encode_texts
from training.osm.vocabulary import fit_vocabulary
from training.preparing import Preparing, in_silence

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["Fitted", "fitted", "open_geometry"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What was found in the data.

    Attributes:
        config: with the vocabulary, and with what the network of shapes is.
        tag_vectors: of the vocabulary.
        geometry: the network of shapes, where shapes are read.
    """

    config: GeoJEPAConfig
    tag_vectors: TagVectors
    geometry: GeometryNet | None


def open_geometry(config: GeometryConfig) -> tuple[GeometryNet | None, GeometryConfig]:
    """The network of shapes of its folder, or a fresh one for weights that are to come, with what is known of it then.

    ``None`` where it is still to be trained.

    Raises:
        TrainingError: the folder holds no such network.
    """
    if config.origin and not config.weights_hash:
        return _load(config)
    if config.weights_hash is None:
        return None, config
    return _frozen(build_model("geometry", config.config)), config


def fitted(
    config: GeoJEPAConfig,
    subset: Subset,
    *,
    geometry: GeometryNet | None,
    device: torch.device,
    folder: Path | None,
    preparing: Preparing = in_silence,
) -> Fitted:
    """What a model of this config takes from its data; see :meth:`training.models.base.Model.fit`.

    Args:
        config: of the model.
        subset: the samples.
        geometry: its network of shapes, which stays where it came from a folder.
        device: that trains.
        folder: of the run.
        preparing: told what is done.

    Raises:
        TrainingError: the data are no maps, or have no tags; a text encoder is missing, or gives vectors of another length.
    """
    known = fit_vocabulary(subset, most=config.tags.most, least_count=config.tags.least_count)
    vectors = TagVectors(known.rows, dim=config.tags.dim)
    vectors.vectors_VW[1:] = torch.from_numpy(_encoded(known.rows, config))
    config = replace(config, vocabulary=known.rows, entities_per_tile=_entities_per_tile(subset))
    if config.reads_geometry and not config.geometry.origin:
        geometry = _trained(config.geometry, subset, device=device, folder=folder, preparing=preparing)
        config = replace(config, geometry=_told(config.geometry, geometry))
    return Fitted(config=config, tag_vectors=vectors, geometry=geometry)


def _encoded(texts: Sequence[str], config: GeoJEPAConfig) -> NDArray[np.float32]:
    vectors = encode_texts(texts, encoder=config.tags.encoder, dim=config.tags.dim)
    if vectors.shape[1] != config.tags.dim:
        raise TrainingError(
            f"encoder {config.tags.encoder!r} gives vectors of {vectors.shape[1]} numbers, but tags.dim is {config.tags.dim}: "
            f"set model.tags.dim={vectors.shape[1]}"
        )
    return vectors


def _entities_per_tile(subset: Subset) -> int:
    """Mean over all tiles of the collections, at least 1."""
    entities: int = sum(pq.read_metadata(each.path / ENTITIES).num_rows for each in subset.collections)
    tiles: int = sum(each.cube.num_samples for each in subset.collections)
    return max(1, round(entities / max(1, tiles)))


def _trained(
    config: GeometryConfig, subset: Subset, *, device: torch.device, folder: Path | None, preparing: Preparing
) -> GeometryNet:
    from training.models.geometry_training import train_geometry  # which knows all recipes

    values = {**config.training, "model.dim": config.dim}
    network = train_geometry(subset, values, seed=config.seed, device=device, folder=folder, preparing=preparing)
    return _frozen(network)


def _load(config: GeometryConfig) -> tuple[GeometryNet, GeometryConfig]:
    from training.checkpoint import load_model_folder

    assert config.origin is not None
    network = load_model_folder(config.origin)
    if not isinstance(network, GeometryNet):
        raise TrainingError(
            f"{config.origin} holds a {network.architecture}, and shapes are read by a geometry network: name the folder of "
            "one (geometry.origin), or none, and one is trained"
        )
    name = Path(config.origin).resolve().name  # what is published tells nothing of this machine's folders
    log.info("network of shapes: %s", config.origin)
    return _frozen(network), replace(_told(config, network), origin=name)


def _told(config: GeometryConfig, network: GeometryNet) -> GeometryConfig:
    """What the network is."""
    found = json_values(network.config_json())
    return replace(config, dim=network.embedding_dim, config=found, weights_hash=weights_hash(network))


def _frozen(network: Model) -> GeometryNet:
    assert isinstance(network, GeometryNet)
    return network.requires_grad_(False).eval()
