"""From batches of map tiles to the tokens of GeoJEPA and their codes.

Reading is in two parts. ``inputs`` does what has no gradient: vectors of tags, of shapes, and of images where their encoder is
frozen, and where everything stands. ``forward`` makes tokens of these.

Shapes: B tiles, E entities, L tokens of a tile (entities first, then those of its image), P tokens of an image, D width of
tokens, W length of a vector of tags, shapes or patches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from pwcat.errors import TrainingError
from training.batch import Batch
from training.fitting import resized
from training.models.geojepa_config import GeoJEPAConfig
from training.models.geojepa_network import MODALITIES, Codes
from training.models.geojepa_tokens import EntityTokens, ImageTokens, Places, TagVectors, patch_boxes, place_entities
from training.models.tower import Tower

if TYPE_CHECKING:
    from training.models.geometry import GeometryNet
    from training.normalize import Normalization
    from training.osm.entities import Entities

__all__ = ["Reader"]


class Reader(nn.Module):
    """Tags, shapes and images as tokens.

    Args:
        config: of the model.
        geometry: the network of shapes, where they are read and it is known.

    Attributes:
        tower: the encoder of images, where they are read.
        patches: tokens of an image, P, its class token among them; 0 where none is read.
    """

    patch_boxes_P8: Tensor

    def __init__(self, config: GeoJEPAConfig, *, geometry: GeometryNet | None) -> None:
        super().__init__()
        c = config
        self.tag_vectors = TagVectors(c.vocabulary, dim=c.tags.dim)
        self.entities = EntityTokens(c.dim, tags=c.tags.dim, geometry=c.geometry.dim if c.reads_geometry else None)
        self.codes = Codes(c.dim, dropout=c.dropout)
        self.geometry = geometry
        self.tower = Tower(c.image) if c.reads_images else None
        self.images = ImageTokens(c.dim, width=self.tower.width) if self.tower else None
        self.register_buffer("patch_boxes_P8", patch_boxes(_side(self.tower)), persistent=False)
        self.patches = len(self.patch_boxes_P8) if self.tower else 0

    def train(self, mode: bool = True) -> Reader:
        """Set training mode; the network of shapes stays in evaluation mode."""
        super().train(mode)
        if self.geometry is not None:
            self.geometry.eval()
        return self

    @torch.no_grad()
    def frozen_inputs(
        self, batch: Batch, *, most: int | None, normalization: Normalization | None
    ) -> tuple[dict[str, Tensor], Places]:
        """What tokens are made of, and where entities stand.

        Args:
            batch: map tiles.
            most: entities of a tile that are read; all where ``None``.
            normalization: by which images are scaled, where their encoder brings none.

        Raises:
            TrainingError: the samples are no map tiles, or no tags are known yet.
        """
        entities = self._entities(batch)
        places = place_entities(entities, tiles=len(batch), most=most)
        is_map_E = torch.full_like(places.tile, MODALITIES["map"])
        inputs = {
            "tags_EW": places.of(self.tag_vectors(entities)),
            "place_E": places.tile * places.longest + places.slot,
            "boxes_BL8": places.spread(places.of(entities.boxes.flatten(1))),
            "modality_BL": places.spread(is_map_E),
        }
        if self.geometry is not None:
            inputs["geometry_EW"] = places.of(self.geometry.encode_entities(entities))
        if self.tower is not None:
            inputs |= self._with_image(self.tower, batch, inputs, normalization)
        return inputs, places

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens and their codes, (B, L, D) both; tokens are nought where there are none."""
        modality_BL = inputs["modality_BL"]
        tokens_ED = self.entities(inputs["tags_EW"], inputs.get("geometry_EW"), inputs.get("kept_2"))
        batch, longest = len(modality_BL), modality_BL.shape[1] - self.patches
        empty = tokens_ED.new_zeros(batch * longest, tokens_ED.shape[1])
        tokens_BLD = empty.index_copy(0, inputs["place_E"], tokens_ED).view(batch, longest, -1)
        if self.images is not None:
            image_BPW = inputs["image_BPW"] if "image_BPW" in inputs else self._encoded(inputs["x_BCHW"])
            image_BPD = self.images(image_BPW) * (modality_BL[:, longest:] > 0).unsqueeze(-1)
            tokens_BLD = torch.cat([tokens_BLD, image_BPD.to(tokens_BLD.dtype)], dim=1)
        return tokens_BLD, self.codes(inputs["boxes_BL8"], modality_BL)

    def _entities(self, batch: Batch) -> Entities:
        if batch.entities is None:
            raise TrainingError(
                "GeoJEPA reads the entities of map tiles, and these samples have none: take a map collection (`pwcat build` of "
                "a recipe of kind map)"
            )
        if not self.tag_vectors.index.rows:
            raise TrainingError("this GeoJEPA knows no tags yet: pretrain it, or call fit with a subset of map tiles")
        return batch.entities

    def _with_image(
        self, tower: Tower, batch: Batch, inputs: dict[str, Tensor], normalization: Normalization | None
    ) -> dict[str, Tensor]:
        """The image, or its tokens where its encoder is frozen; boxes and modalities with those of the image."""
        chips_BCHW = _whole(tower, batch)
        there_B = (chips_BCHW.view(torch.int16) != 0).flatten(1).any(dim=1)
        boxes_BP8 = self.patch_boxes_P8.expand(len(batch), -1, -1)
        modality_BP = (there_B.long() * MODALITIES["image"]).unsqueeze(1).expand(-1, self.patches)
        found = {
            "boxes_BL8": torch.cat([inputs["boxes_BL8"], boxes_BP8], dim=1),
            "modality_BL": torch.cat([inputs["modality_BL"], modality_BP], dim=1),
        }
        x_BCHW = _scaled(tower, chips_BCHW, batch, normalization)
        return found | ({"image_BPW": self._encoded(x_BCHW)} if tower.config.frozen else {"x_BCHW": x_BCHW})

    def _encoded(self, x_BCHW: Tensor) -> Tensor:
        """Class token and patches of scaled images, (B, P, W)."""
        assert self.tower is not None
        encoder: Any = self.tower.encoder
        return cast(Tensor, encoder.encode_tokens(x_BCHW)).float()


def _whole(tower: Tower, batch: Batch) -> Tensor:
    """Images of the encoder's bands and size, (B, C, H, W) uint16: resized, for they show whole tiles."""
    chips_BCHW, size = batch.first(tower.bands), tower.image_size
    if tuple(chips_BCHW.shape[-2:]) == (size, size):
        return chips_BCHW
    return resized(chips_BCHW.unsqueeze(1), size, bands=batch.bands.select(tower.bands)).squeeze(1)


def _scaled(tower: Tower, chips_BCHW: Tensor, batch: Batch, normalization: Normalization | None) -> Tensor:
    """Images as their encoder reads them, by its own statistics or else by those given."""
    if tower.normalization is not None:
        if normalization is not None:
            tower.require_unit(normalization.unit)
        return tower.scale(chips_BCHW, batch.bands.select(tower.bands))
    if normalization is None:
        raise TrainingError("images cannot be scaled: the model has no normalisation. Take a pretrained one")
    return normalization.apply(chips_BCHW)


def _side(tower: Tower | None) -> int:
    """Patches along one side of an image.

    Raises:
        TrainingError: the encoder has no tokens.
    """
    if tower is None:
        return 0
    if not hasattr(tower.encoder, "encode_tokens"):
        raise TrainingError(f"a {tower.config.architecture} has no tokens of an image's patches: take a satmae")
    config: Any = tower.encoder.config
    return int(config.grid_side)
