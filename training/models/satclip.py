"""SatCLIP: an encoder of places, trained to tell which satellite image is of which place.

After Klemmer et al. (2023), "SatCLIP: Global, General-Purpose Location Embeddings with Satellite Imagery". Written anew; names
of the location encoder's parameters are those of the released weights, so that these load by name.

Shapes: B batch, N samples of the global batch, V views, C bands, H W pixels, K basis functions, J hidden layers of width H,
W words of 32 bits, D length of the tower's features, E width of embeddings.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import ConfigDict
from torch import Tensor, nn

from pwcat.errors import TrainingError
from training.augment import augment as cut
from training.augment import center_crop
from training.batch import Batch
from training.chance import Chance, to_device
from training.flops import linear_flops
from training.models.base import Model, ModelFacts, ModelInput
from training.models.contrast import contrastive_losses
from training.models.harmonics import Harmonics
from training.models.siren import WORD, Siren, unpack_bits
from training.models.tower import Tower, TowerConfig

if TYPE_CHECKING:
    from training.normalize import Normalization
    from training.recipe import Augment

__all__ = ["LocationEncoder", "SatCLIP", "SatCLIPConfig"]

# The scale of similarities begins at 1 / .07 and stays at or below 100. Source: CLIP, section 2.5.
FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0


@dataclass(frozen=True, kw_only=True)
class SatCLIPConfig:
    """Everything that fixes a SatCLIP but its weights. The defaults are the released location encoder at L = 40.

    Attributes:
        degrees: of the spherical harmonics, L: 10 or 40 in released weights. The finest detail is about 20,000 km / L.
        hidden: width of the location encoder's hidden layers.
        layers: hidden layers of the location encoder.
        dim: width of the embeddings.
        dropout: whether half of the hidden units of the location encoder are dropped in training, before each sine.
        tower: the image tower; without one, places can be encoded, but nothing can be trained.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    degrees: int = 40
    hidden: int = 512
    layers: int = 2
    dim: int = 256
    dropout: bool = True
    tower: TowerConfig | None = None

    def __post_init__(self) -> None:
        sizes = {"degrees": self.degrees, "hidden": self.hidden, "layers": self.layers, "dim": self.dim}
        if faults := [f"{name} {value} must be at least 1" for name, value in sizes.items() if value < 1]:
            raise TrainingError("this SatCLIP cannot be built: " + "; ".join(faults))


class LocationEncoder(nn.Module):
    """Places on Earth as vectors: spherical harmonics, then a SIREN, in double precision."""

    def __init__(self, config: SatCLIPConfig) -> None:
        super().__init__()
        self.posenc = Harmonics(config.degrees)
        self.nnet = Siren(self.posenc.width, hidden=config.hidden, layers=config.layers, outputs=config.dim)

    def forward(self, lonlat_B2: Tensor) -> Tensor:
        """Embeddings (B, E) float32 of longitudes and latitudes in degrees."""
        return cast(Tensor, self.nnet(self.posenc(lonlat_B2))).float()


class SatCLIP(Model):
    """Location encoder and image tower."""

    architecture: ClassVar[str] = "satclip"
    config_class: ClassVar[type[SatCLIPConfig]] = SatCLIPConfig
    encodes: ClassVar[Literal["chips", "places"]] = "places"
    compares_samples: ClassVar[bool] = True
    config: SatCLIPConfig

    def __init__(self, config: SatCLIPConfig, *, normalization: Normalization | None = None) -> None:
        super().__init__(config, normalization=normalization)
        self.location = LocationEncoder(config)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self.tower: Tower | None = None
        self.reads_features = False  # whether training is given features of the tower in place of chips
        if config.tower is not None:
            self.tower = Tower(config.tower)
            self.projection = nn.Linear(self.tower.width, config.dim)
            self.config = SatCLIPConfig(**{**vars(config), "tower": self.tower.config})

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that the image tower reads, in order; none without a tower."""
        return self.tower.bands if self.tower else ()

    @property
    def image_size(self) -> int:
        """Side of the image tower's input, in pixels; 0 without a tower."""
        return self.tower.image_size if self.tower else 0

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding, E."""
        return self.config.dim

    def encode(self, batch: Batch) -> Tensor:
        """Embeddings (B, E) float32 of the samples' places, which is what SatCLIP is made for; chips are not looked at."""
        return self.encode_locations(batch.lonlat)

    def encode_locations(self, lonlat: Tensor | ArrayLike) -> Tensor:
        """Embeddings (B, E) float32 of places, as long as they are: not brought to length 1.

        Args:
            lonlat: (B, 2) longitudes and latitudes in degrees, EPSG:4326.

        Raises:
            TrainingError: these are no such places; says how many are not.
        """
        device = self.logit_scale.device
        tensor_B2 = lonlat if isinstance(lonlat, Tensor) else torch.from_numpy(np.asarray(lonlat, dtype=np.float64))
        _require_places(tensor_B2)
        return cast(Tensor, self.location(tensor_B2.to(device)))

    def encoder_layers(self) -> list[list[nn.Parameter]]:
        """The layers of the location encoder; nothing of the image tower."""
        network = self.location.nnet
        return [list(layer.parameters()) for layer in (*network.layers, network.last_layer)]

    def encode_images(self, batch: Batch) -> Tensor:
        """Embeddings (B, E) float32 of the samples' images, cut to their middle, beside those of places; not of length 1."""
        tower = self.require_tower()
        chips_BCHW = center_crop(batch.first(tower.bands), size=tower.image_size)
        return cast(Tensor, self.projection(tower(tower.scale(chips_BCHW, batch.bands.select(tower.bands))))).float()

    def prepare(self, batch: Batch, *, chance: Chance, augment: Augment | None = None) -> dict[str, Tensor]:
        """The basis (B, K) at the places, moved at random; images (B, C, H, W), or the features (B, D) of one view of each;
        which hidden units are kept, as bits; and what says which rows of the global batch these are.

        Raises:
            TrainingError: there is no tower, or no place is known.
        """
        tower = self.require_tower()
        if batch.lonlat.device.type == "cpu":  # on a GPU, looking at values would make it wait
            _require_places(batch.lonlat)
        with torch.no_grad():  # where an earlier step has led beyond the limit
            self.logit_scale.clamp_(max=math.log(LARGEST_SCALE))
        device, lonlat_B2 = batch.device, batch.lonlat
        inputs = {
            "basis_BK": self.location.posenc(self._moved(lonlat_B2, chance=chance, augment=augment)),
            "lonlat_B2": lonlat_B2,
            "rows_N": torch.arange(chance.total, device=device),
            "own_B": torch.arange(chance.total, device=device)[chance.rows],
            "share": self.share(batch, chance),
        }
        if self.training and self.config.dropout:
            words = -(-self.config.hidden // WORD)
            inputs["words_BJW"] = to_device(chance.integers(2**WORD, self.config.layers, words), device)
        if batch.features is not None:
            view_B = to_device(chance.integers(batch.features.shape[1]), device)
            return inputs | {"features_BD": batch.features[torch.arange(len(batch), device=device), view_B]}
        return inputs | {"x_BCHW": self.images(batch, tower=tower, chance=chance, augment=augment)}

    def images(self, batch: Batch, *, tower: Tower, chance: Chance, augment: Augment | None) -> Tensor:
        """The tower's input, (B, C, H, W): one view of each image, or its middle where there is no ``augment``.

        Raises:
            TrainingError: the data of this pretraining have another unit than those that the tower was trained on.
        """
        if self.normalization is not None:
            tower.require_unit(self.normalization.unit)
        scaled_BCHW = tower.scale(batch.first(tower.bands), batch.bands.select(tower.bands))
        if augment is None:
            return center_crop(scaled_BCHW, size=tower.image_size)
        return cut(scaled_BCHW, size=tower.image_size, chance=chance, **augment.of_images())

    def forward(self, **inputs: Tensor) -> Tensor:
        """The loss, a scalar: this rank's share of the mean over the global batch, times the number of ranks.

        Takes what :meth:`prepare` gives.
        """
        return self.sample_losses(**inputs).mean() * inputs["share"]

    def sample_losses(self, **inputs: Tensor) -> Tensor:
        """The loss of each sample, (B,) float32, which depends on the samples that it is batched with.

        See :func:`~training.models.contrast.contrastive_losses`.
        """
        features_BD = inputs["features_BD"] if "features_BD" in inputs else self.require_tower()(inputs["x_BCHW"])
        keep_BJH = unpack_bits(inputs["words_BJW"], width=self.config.hidden) if "words_BJW" in inputs else None
        return contrastive_losses(
            self.projection(features_BD.float()),
            self.location.nnet(inputs["basis_BK"], keep_BJH),
            scale=self.logit_scale.exp(),
            own_B=inputs["own_B"],
            lonlat_B2=inputs["lonlat_B2"],
            num_rows=len(inputs["rows_N"]),
        )

    def flops_per_sample(self) -> int:
        """Operations of a training sample: matrix products, 2 a multiply-add; the tower's among them only where it is run.

        Similarities are left out: they grow with the batch, and are 0.3 % of the location encoder's at 512 samples.
        """
        c, tower = self.config, self.require_tower()
        first = linear_flops(1, c.degrees**2, c.hidden)
        inner = (c.layers - 1) * linear_flops(1, c.hidden, c.hidden) + linear_flops(1, c.hidden, c.dim)
        projection = linear_flops(1, tower.width, c.dim)
        projected = 2 if tower.config.frozen else 3
        return 2 * first + 3 * inner + projected * projection + (0 if self.reads_features else tower.flops())

    def facts(self) -> ModelFacts:
        """What a model card says of it."""
        c = self.config
        return ModelFacts(
            name=f"SatCLIP, L = {c.degrees}",
            paper="Klemmer et al. (2023), SatCLIP: Global, General-Purpose Location Embeddings with Satellite Imagery",
            arxiv="2311.17179",
            source="https://github.com/microsoft/satclip",
            reads="a place on Earth: longitude and latitude in degrees (EPSG:4326)",
            pooling=f"the location encoder's output, {c.dim} numbers; not brought to length 1",
            scaling=f"real spherical harmonics of degrees 0 to {c.degrees - 1}, in the basis of the released weights",
            limits=(
                f"It tells apart what is about {20_000 / c.degrees:,.0f} km apart, half a wave of its finest harmonics.",
                "A place's embedding says nothing about a date, nor about what changed there.",
                "Where no place of the pretraining was near, it is the harmonics' guess.",
                *_of_tower(c.tower),
            ),
        )

    def inputs(self) -> tuple[ModelInput, ...]:
        """What it takes, for a catalog of models."""
        return (
            ModelInput(
                name="lonlat",
                shape=(-1, 2),
                dim_order=("batch", "coordinate"),
                dtype="float64",
                description="Longitude and latitude of each place in degrees, EPSG:4326.",
            ),
        )

    def config_json(self) -> dict[str, Any]:
        """The config as JSON values, with what the tower started from."""
        return asdict(self.config)

    def require_tower(self) -> Tower:
        """Its image tower.

        Raises:
            TrainingError: it has none.
        """
        if self.tower is None:
            raise TrainingError(
                "this SatCLIP is a location encoder alone: it encodes places, but images cannot be encoded and nothing can be "
                "trained. Pretrain with an image tower (model.tower of the recipe)"
            )
        return self.tower

    def _moved(self, lonlat_B2: Tensor, *, chance: Chance, augment: Augment | None) -> Tensor:
        """Places moved east and north by up to so many degrees, as released; not beyond the pole."""
        if augment is None or not augment.jitter_deg:
            return lonlat_B2
        moved_B2 = lonlat_B2 + augment.jitter_deg * to_device(chance.uniform(2), lonlat_B2.device).double()
        return torch.stack([moved_B2[:, 0], moved_B2[:, 1].clamp(max=90)], dim=1)


def _of_tower(tower: TowerConfig | None) -> tuple[str, ...]:
    """What a model card says of the image tower, a sentence."""
    if tower is None:
        return ()
    started = f" that started from {tower.origin} (weights {tower.weights_hash})" if tower.origin else ""
    kept = " and stayed as it was" if tower.frozen else ""
    return (f"It knows of places what its image tower saw there: a {tower.architecture}{started}{kept}.",)


def _require_places(lonlat_B2: Tensor) -> None:
    """Raise a :class:`TrainingError` where some are no longitude and latitude."""
    if lonlat_B2.ndim != 2 or lonlat_B2.shape[1] != 2:
        raise TrainingError(
            f"places are (n, 2) longitudes and latitudes in degrees, but these are {tuple(lonlat_B2.shape)}"
        )
    faulty = ~torch.isfinite(lonlat_B2).all(dim=1) | (lonlat_B2[:, 0].abs() > 360) | (lonlat_B2[:, 1].abs() > 90)
    if count := int(faulty.sum()):
        first = tuple(lonlat_B2[faulty][0].tolist())
        raise TrainingError(
            f"{count} of {len(lonlat_B2)} places are no longitude (-360 to 360) and latitude (-90 to 90) in degrees, in this "
            f"order; the first of them is {first}"
        )
