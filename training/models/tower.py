"""An image encoder as part of another model: fresh or pretrained, trained on or frozen.

Shapes: B batch, C bands, H W pixels, D length of the encoder's embedding.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import torch
from pydantic import ConfigDict
from torch import Tensor, nn

from pwcat.errors import TrainingError
from training.batch import Bands
from training.models import build_model, config_faults
from training.normalize import Normalization

__all__ = ["ImageEncoder", "Tower", "TowerConfig", "json_values"]

log = logging.getLogger(__name__)


@runtime_checkable
class ImageEncoder(Protocol):
    """What a registered model has where it can be a tower."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that it reads, in order."""

    @property
    def image_size(self) -> int:
        """Side of what it reads, in pixels."""

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding, D."""

    def encode_images(self, x_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of scaled images."""

    def encoder_only(self) -> nn.Module:
        """The same model without what encoding does not need."""

    def encoding_flops(self) -> tuple[int, int]:
        """Operations of encoding one image, and those of them whose input is data."""


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """Everything that fixes an image tower but its weights.

    Attributes:
        origin: folder of a run or of a model that the tower starts from; then the other fields, but ``frozen``, are found
            there. A fresh tower has none. Once the weights are known by their hash, its name is left as a note: nothing is
            read from it any more.
        architecture: of the encoder: a registered model of images.
        config: fields of its config.
        frozen: leave its weights as they are.
        weights_hash: of the model that it started from.
        normalization: of that model, by which images are scaled. A fresh tower reads reflectance, as released towers do.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    origin: str | None = None
    architecture: str = "satmae"
    config: dict[str, Any] = field(default_factory=dict)
    frozen: bool = False
    weights_hash: str | None = None
    normalization: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if faults := self._faults():
            raise TrainingError("this image tower cannot be built: " + "; ".join(faults))

    def _faults(self) -> list[str]:
        try:
            faults = [f"config: {fault}" for fault in config_faults(self.architecture, self.config)]
        except TrainingError as exc:  # of an unknown architecture
            faults = [str(exc)]
        if self.origin and self.config and not self.weights_hash:
            faults.append(f"origin {self.origin} says what the tower is: config cannot say so, too")
        if self.frozen and not self.origin:
            faults.append("a fresh tower must train: frozen needs the origin of its weights, a run or a model folder")
        return faults


class Tower(nn.Module):
    """An image encoder that scales its own input.

    Args:
        config: what it is; where its origin is still to be read, it is read, and :attr:`config` is what was found.

    Raises:
        TrainingError: the origin holds no model, or one that is no encoder of images.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        model, self.config = _load(config) if config.origin and not config.weights_hash else (_build(config), config)
        if not isinstance(model, ImageEncoder):
            raise TrainingError(
                f"a {self.config.architecture} is no encoder of images, so it cannot be a tower: take a satmae"
            )
        self.bands, self.image_size, self.width = model.bands, model.image_size, model.embedding_dim
        self.encoder = model.encoder_only().requires_grad_(not self.config.frozen)
        told = self.config.normalization
        self.normalization = Normalization.from_json(told) if told else None

    def train(self, mode: bool = True) -> Tower:
        """Set training mode; a frozen tower stays in evaluation mode."""
        return super().train(mode and not self.config.frozen)

    def scale(self, chips_BCHW: Tensor, bands: Bands) -> Tensor:
        """Digital numbers as the tower's input, (B, C, H, W) float32.

        By the normalisation of its pretraining; a fresh tower reads the values, no data as 0: of Sentinel-2 reflectance,
        which is the digital number / 10000 as the released towers read it.
        """
        if self.normalization is not None:
            return self.normalization.apply(chips_BCHW)
        return reflectance(chips_BCHW, bands)

    def require_unit(self, unit: str) -> None:
        """Raise a :class:`TrainingError` where it scales by statistics of values in another unit."""
        if self.normalization is not None and self.normalization.unit != unit:
            raise TrainingError(
                f"the image tower was trained on values in {self.normalization.unit!r}, but these data are in {unit!r}: "
                "convert them, or take another tower"
            )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Features (B, D) float32 of scaled images, pooled as the encoder's embeddings are."""
        return cast(Tensor, self.encoder.encode_images(x_BCHW)).float()  # type: ignore[operator]

    def flops(self) -> int:
        """Operations of one image: forward alone where it is frozen."""
        forward, first = cast(ImageEncoder, self.encoder).encoding_flops()
        return forward if self.config.frozen else 3 * forward - first


def reflectance(chips_BCHW: Tensor, bands: Bands) -> Tensor:
    """Values of digital numbers, (B, C, H, W) float32, in the unit of each band; 0 where there is no data."""
    scale, offset = _affine(bands.scale, bands.offset, chips_BCHW.device)
    values_BCHW = chips_BCHW.float()
    return torch.where(values_BCHW == 0, 0.0, values_BCHW * scale + offset)


@lru_cache(maxsize=16)
def _affine(scale: tuple[float, ...], offset: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and offset of each band, (C, 1, 1); copied to a card once, for it would wait for each copy."""
    with torch.inference_mode(False):  # whoever asks first, training may use them
        values = torch.tensor([scale, offset], dtype=torch.float32).to(device)
    scale_C, offset_C = values.view(2, -1, 1, 1)
    return scale_C, offset_C


def _build(config: TowerConfig) -> Any:
    return build_model(config.architecture, config.config)


def _load(config: TowerConfig) -> tuple[Any, TowerConfig]:
    from training.checkpoint import load_model_folder
    from training.models.folder import weights_hash

    assert config.origin is not None
    model = load_model_folder(config.origin)
    found = replace(
        config,
        origin=Path(config.origin).resolve().name,  # what is published tells nothing of this machine's folders
        architecture=model.architecture,
        config=json_values(model.config_json()),
        weights_hash=weights_hash(model),
        normalization=model.require_normalization().to_json(),
    )
    log.info("image tower: %s of %s, weights %s", found.architecture, config.origin, str(found.weights_hash)[:12])
    return model, found


def json_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Config values as JSON has them: lists for tuples."""
    return {key: _listed(value) for key, value in values.items()}


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
