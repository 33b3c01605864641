"""Everything that fixes a GeoJEPA but its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from pwcat.errors import TrainingError
from training.models.geojepa_masks import MaskConfig
from training.models.tower import TowerConfig
from training.osm.texts import HASHING

__all__ = ["GeoJEPAConfig", "GeometryConfig", "PredictorConfig", "TagConfig"]

FORBID = ConfigDict(extra="forbid")

# An image encoder of our own, trained along: tokens of 768 numbers as the source's ViT-B/16 gives, from fewer blocks.
IMAGE: dict[str, Any] = {
    "image_size": 224,
    "patch_size": 16,
    "bands": ["red", "green", "blue"],
    "groups": [["red", "green", "blue"]],
    "dim": 768,
    "depth": 4,
    "heads": 12,
    "group_dim": 128,
}


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """What guesses targets. The defaults are the published GTI's; those of T, GT and TI are 192, "mlp" and 2.

    Attributes:
        dim: width.
        depth: blocks.
        heads: attention heads.
        projector: what narrows tokens and codes: one linear layer, or two.
        registers: tokens of its own, learnt, that stand beside the others.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    dim: int = 256
    depth: int = 4
    heads: int = 8
    projector: Literal["linear", "mlp"] = "linear"
    registers: int = 0


@dataclass(frozen=True, kw_only=True)
class TagConfig:
    """Which tags are known, and where their vectors come from.

    Attributes:
        encoder: of their texts: "hashing", or a sentence model; see :func:`training.osm.texts.encode_texts`.
        dim: length of a vector.
        most: tags and keys that are known, the most frequent ones.
        least_count: entities that a tag or key is on, of those that are known.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    encoder: str = HASHING
    dim: int = 1024
    most: int = 4096
    least_count: int = 2


@dataclass(frozen=True, kw_only=True)
class GeometryConfig:
    """The frozen network that makes vectors of shapes.

    Attributes:
        origin: folder of a run or a model of architecture "geometry"; without one, a network is trained on the shapes of the
            data before the first step. Once the weights are known by their hash, its name is left as a note.
        training: how it is trained then: ``recipe`` and values of it; see
            :func:`training.models.geometry_training.train_geometry`.
        seed: of that training.
        dim: length of a shape's vector; that of the folder's, where there is one.
        config: of the network, once it is known.
        weights_hash: likewise.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    origin: str | None = None
    training: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    dim: int = 1024
    config: dict[str, Any] | None = None
    weights_hash: str | None = None


@dataclass(frozen=True, kw_only=True)
class GeoJEPAConfig:
    """See the module. The defaults are the published GTI, with image and geometry encoders of our own.

    Attributes:
        modalities: what it reads: tags (T), geometry and tags (GT), tags and images (TI), or all three (GTI).
        dim: width of tokens.
        depth: blocks of the encoder.
        heads: attention heads of the encoder.
        dropout: see :class:`training.models.blocks.Block`; in the codes, of hidden units.
        registers: tokens of the encoder's own, learnt, that stand beside the others. The published recipes ask for two, the
            published code gives none.
        predictor: what guesses targets.
        masks: what is hidden.
        tags: which tags are known.
        geometry: the network of shapes, where geometry is read.
        image: the encoder of images, where they are read: fresh and trained along, or frozen, as SatCLIP's tower.
        max_entities: of a tile, in a batch: of more, as many are read, evenly spaced in the order of the file.
        one_sided: share of the training batches in which every entity lacks its tags, or its geometry; where both are read.
        position_noise: standard deviation of what is added to the corners of boxes in training, in tile coordinates.
        momentum: share of the teacher that stays at the first step, and that at the last, in a line between.
        vicreg_beta: weight of the variance and covariance terms.
        smooth_l1_beta: where the square of the distance goes over into a line.
        pool_padding: whether padding takes part in the embedding of a tile, as in the source: it then hangs on the longest tile
            of its batch.
        vocabulary: the tags and keys that are known, once they are.
        entities_per_tile: of the data, on average, once known; by it operations are told.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    modalities: Literal["T", "GT", "TI", "GTI"] = "GTI"
    dim: int = 384
    depth: int = 12
    heads: int = 8
    dropout: float = 0.1
    registers: int = 0
    predictor: PredictorConfig = PredictorConfig()
    masks: MaskConfig = field(default_factory=MaskConfig)
    tags: TagConfig = TagConfig()
    geometry: GeometryConfig = GeometryConfig()
    image: TowerConfig = field(default_factory=lambda: TowerConfig(config=IMAGE))
    max_entities: int = 1024
    one_sided: float = 0.3
    position_noise: float = 5e-4
    momentum: tuple[float, float] = (0.997, 0.99999)
    vicreg_beta: float = 0.02
    smooth_l1_beta: float = 1.0
    pool_padding: bool = False
    vocabulary: tuple[str, ...] = ()
    entities_per_tile: int = 100

    def __post_init__(self) -> None:
        if faults := self._faults():
            raise TrainingError("this GeoJEPA cannot be built: " + "; ".join(faults))

    @property
    def reads_geometry(self) -> bool:
        """Whether shapes are read."""
        return "G" in self.modalities

    @property
    def reads_images(self) -> bool:
        """Whether images are read."""
        return "I" in self.modalities

    def _faults(self) -> list[str]:
        p, t = self.predictor, self.tags
        sizes = {
            "dim": self.dim, "depth": self.depth, "predictor.dim": p.dim, "predictor.depth": p.depth, "tags.dim": t.dim,
            "tags.most": t.most, "tags.least_count": t.least_count, "max_entities": self.max_entities,
        }  # fmt: skip
        checks = {
            **{f"{name} {value} must be at least 1": value >= 1 for name, value in sizes.items()},
            f"heads {self.heads} must divide dim {self.dim}": self.heads > 0 and self.dim % self.heads == 0,
            f"predictor.heads {p.heads} must divide predictor.dim {p.dim}": p.heads > 0 and p.dim % p.heads == 0,
            f"registers {self.registers} and predictor.registers {p.registers} must be 0 or more": min(
                self.registers, p.registers
            )
            >= 0,
            f"dropout {self.dropout} must be 0 or more and below 1": 0 <= self.dropout < 1,
            f"one_sided {self.one_sided} must be 0 to 1": 0 <= self.one_sided <= 1,
            f"position_noise {self.position_noise} must be 0 or more": self.position_noise >= 0,
            f"momentum {self.momentum} must be two numbers of 0 to 1": all(0 <= m <= 1 for m in self.momentum),
            f"vicreg_beta {self.vicreg_beta} must be 0 or more": self.vicreg_beta >= 0,
            f"smooth_l1_beta {self.smooth_l1_beta} must be above 0": self.smooth_l1_beta > 0,
            f"masks.modality {self.masks.modality} needs two modalities, a map and its image: modalities {self.modalities} "
            "have one": self.reads_images or not self.masks.modality,
        }
        return [text for text, holds in checks.items() if not holds]
