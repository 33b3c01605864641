"""GeoJEPA: tokens of map entities and image patches that are guessed from one another in the space of a slow teacher.

After Lundqvist and Delvret (2025), "GeoJEPA: Towards Eliminating Augmentation- and Sampling Bias in Multimodal Geospatial
Learning", and the configurations 01 to 07 of its repository. Written anew.

Shapes: B tiles, E entities, L tokens of a tile, C tokens of its context, M targets, K tokens of a target, D width of tokens,
W length of a vector of tags, shapes or patches, P tokens of an image.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.batch import Batch
from training.chance import Chance, to_device
from training.collapse import effective_rank
from training.looping.distributed import gather_with_grad, is_main
from training.models.base import Model, ModelFacts, ModelInput
from training.models.blocks import Block
from training.models.geojepa_config import GeoJEPAConfig
from training.models.geojepa_fitting import fitted, open_geometry
from training.models.geojepa_flops import step_flops, usual_tokens
from training.models.geojepa_losses import distances, variance_and_covariance
from training.models.geojepa_masks import Scene, draw_masks
from training.models.geojepa_network import BOX_NUMBERS, Encoder, Predictor, take
from training.models.geojepa_reading import Reader
from training.models.geojepa_tokens import Places
from training.preparing import Preparing, in_silence

if TYPE_CHECKING:
    from catalog.subset import Subset
    from training.normalize import Normalization
    from training.recipe import Augment

__all__ = ["GeoJEPA", "GeoJEPAConfig"]

log = logging.getLogger(__name__)

# Effective ranks below these are warned of: that of the embeddings as they are, 1 where all are the same, and that about their
# mean, as a share of the largest there could be.
LOW_RANK, LOW_SHARE = 1.2, 0.05


class GeoJEPA(Model):
    """Student, teacher and predictor over the tokens of map tiles."""

    architecture: ClassVar[str] = "geojepa"
    config_class: ClassVar[type[GeoJEPAConfig]] = GeoJEPAConfig
    compares_samples: ClassVar[bool] = True
    reads_entities: ClassVar[bool] = True
    drops_out: ClassVar[bool] = True
    is_watched: ClassVar[bool] = True
    config: GeoJEPAConfig

    def __init__(self, config: GeoJEPAConfig, *, normalization: Normalization | None = None) -> None:
        geometry = None
        if config.reads_geometry:
            geometry, known = open_geometry(config.geometry)
            config = replace(config, geometry=known)
        super().__init__(config, normalization=normalization)
        c, p = config, config.predictor
        self.encoder = Encoder(c.dim, depth=c.depth, heads=c.heads, dropout=c.dropout, registers=c.registers)
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)
        self.predictor = Predictor(
            c.dim,
            width=p.dim,
            depth=p.depth,
            heads=p.heads,
            dropout=c.dropout,
            projector=p.projector,
            registers=p.registers,
        )
        self.reader = Reader(c, geometry=geometry)
        self.config = replace(c, image=self.reader.tower.config) if self.reader.tower else c

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands of its images, in order; none where it reads no images."""
        return self.reader.tower.bands if self.reader.tower else ()

    @property
    def image_size(self) -> int:
        """Side of its images, in pixels, to which others are resized, for they show the whole tile; 0 without any."""
        return self.reader.tower.image_size if self.reader.tower else 0

    @property
    def embedding_dim(self) -> int:
        """Length of the embedding of a tile: 2 D."""
        return 2 * self.config.dim

    @property
    def entity_dim(self) -> int:
        """Length of the embedding of an entity: D."""
        return self.config.dim

    def fit(
        self, subset: Subset, *, device: torch.device, folder: Path | None, preparing: Preparing = in_silence
    ) -> None:
        """Take the vocabulary and its vectors from the data; and a network of shapes, trained here where none is named.

        Raises:
            TrainingError: the data are no maps, or a text encoder is missing.
        """
        geometry = self.reader.geometry
        found = fitted(self.config, subset, geometry=geometry, device=device, folder=folder, preparing=preparing)
        self.config = found.config
        self.reader.tag_vectors, self.reader.geometry = found.tag_vectors, found.geometry

    def train(self, mode: bool = True) -> GeoJEPA:
        """Set training mode; the teacher drops nothing out, unless it is the teacher that trains."""
        super().train(mode)
        self.teacher.train(mode and any(p.requires_grad for p in self.teacher.parameters()))
        return self

    def prepare(self, batch: Batch, *, chance: Chance, augment: Augment | None = None) -> dict[str, Tensor]:
        """Vectors of entities and images, where they stand, what is context and what is to be guessed.

        Images are neither cut nor flipped: they lie on the map as they are.

        Raises:
            TrainingError: the samples are no map tiles, or the model knows no tags yet.
        """
        inputs, places = self.reader.frozen_inputs(
            batch, most=self.config.max_entities, normalization=self.normalization
        )
        if self.training and self.config.reads_geometry:
            inputs["kept_2"] = self._one_sided(chance).to(batch.device)
        inputs |= self._masked(inputs, places, chance)
        if self.training and self.config.position_noise:
            noise_BS8 = chance.normal(self._slots, BOX_NUMBERS) * self.config.position_noise
            noise_BL8 = self._of_slots(to_device(noise_BS8, batch.device), places.longest)
            inputs["boxes_BL8"] = inputs["boxes_BL8"] + noise_BL8
        total = torch.full((), float(chance.total), device=batch.device)
        return inputs | {"total": total, "share": self.share(batch, chance)}

    def forward(self, **inputs: Tensor) -> Tensor:
        """The loss, a scalar: this rank's share of that of the global batch, times the number of ranks.

        Takes what :meth:`prepare` gives.
        """
        return self.sample_losses(**inputs).mean() * inputs["share"]

    def sample_losses(self, **inputs: Tensor) -> Tensor:
        """The loss of each tile, (B,) float32, whose mean over the global batch is the loss.

        That is the sum over targets of the smooth L1 between guesses and the teacher's tokens, mean over all tokens of the
        batch, and variance and covariance terms of guesses and context, which all tiles have in common.
        """
        c = self.config
        tokens_BLD, codes_BLD = self.reader(inputs)
        every_BLD = tokens_BLD + codes_BLD
        with torch.no_grad():
            taught_BLD = self.teacher(every_BLD.detach(), inputs["modality_BL"] > 0).float()
            taught_BLD = functional.layer_norm(taught_BLD, taught_BLD.shape[-1:])
        context_BC, context_seen_BC = inputs["context_BC"], inputs["context_seen_BC"]
        targets_MBK, seen_MBK = inputs["targets_MBK"], inputs["targets_seen_MBK"]
        context_BCD = self.encoder(take(every_BLD, context_BC), context_seen_BC)
        guesses_MBKD = self.predictor(
            context_BCD,
            take(codes_BLD, context_BC),
            context_seen_BC,
            torch.stack([take(codes_BLD, places_BK) for places_BK in targets_MBK.unbind()]),
            seen_MBK,
        )
        wanted_MBKD = torch.stack([take(taught_BLD, places_BK) for places_BK in targets_MBK.unbind()])
        distance_B = distances(guesses_MBKD, wanted_MBKD, seen_MBK, beta=c.smooth_l1_beta)
        sets = [*zip(guesses_MBKD.unbind(), seen_MBK.unbind(), strict=True), (context_BCD, context_seen_BC)]
        variance_S, covariance_S = variance_and_covariance(sets)
        return distance_B * inputs["total"] + c.vicreg_beta * (variance_S.sum() + covariance_S.sum())

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Move the teacher towards the student, by a share that falls in a line from the first step to the last."""
        first, last = self.config.momentum
        stays = first + (last - first) * (step - 1) / max(1, total_steps)
        slow, now = (cast(list[Tensor], list(part.parameters())) for part in (self.teacher, self.encoder))
        torch._foreach_lerp_(slow, now, 1 - stays)

    @torch.no_grad()
    def watch(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Effective rank of the embeddings of these batches' tiles on all ranks, as they are and about their mean.

        A rank that is low is warned of: then the teacher says the same, or nearly so, of all tiles.
        """
        embeddings_ND = gather_with_grad(torch.cat([self.encode(batch) for batch in batches])).cpu().numpy()
        most = min(embeddings_ND.shape[0] - 1, embeddings_ND.shape[1])
        rank, centred = effective_rank(embeddings_ND), effective_rank(embeddings_ND, centred=True)
        if is_main() and most > 1 and not (rank >= LOW_RANK and centred >= LOW_SHARE * most):
            log.warning(
                "embeddings may have collapsed: of %d tiles their effective rank is %.2f, %.2f about their mean, of %d at "
                "most: raise model.vicreg_beta, or lower the learning rate",
                len(embeddings_ND), rank, centred, most,
            )  # fmt: skip
        return {"effective_rank": rank, "effective_rank_centred": centred, "watched_samples": float(len(embeddings_ND))}

    def encode(self, batch: Batch) -> Tensor:
        """Embeddings (B, 2 D) float32 of tiles: the largest and the mean of the teacher's tokens, number by number.

        Padding takes no part, unless the config says so; a tile without a token has zeros.
        """
        tokens_BLD, seen_BL, _ = self._taught(batch, most=self.config.max_entities)
        empty_B1 = ~seen_BL.any(dim=1, keepdim=True)
        counted_BL1 = (torch.ones_like(seen_BL) if self.config.pool_padding else seen_BL | empty_B1).unsqueeze(-1)
        largest_BD = tokens_BLD.masked_fill(~counted_BL1, -torch.inf).amax(dim=1)
        mean_BD = (tokens_BLD * counted_BL1).sum(dim=1) / counted_BL1.sum(dim=1)
        return torch.cat([largest_BD, mean_BD], dim=1).masked_fill(empty_B1, 0.0)

    def encode_entities(self, batch: Batch) -> Tensor:
        """Embeddings (E, D) float32 of a batch's entities: the teacher's tokens, of all entities of each tile."""
        tokens_BLD, _, places = self._taught(batch, most=None)
        return tokens_BLD[places.tile, places.slot]

    def encoder_layers(self) -> list[list[nn.Parameter]]:
        """What makes tokens and codes of the input, then each block of the teacher; the last norm goes with the last."""
        first = list(self.reader.parameters())
        first += [] if self.teacher.registers is None else [self.teacher.registers]
        layers = [first, *(list(block.parameters()) for block in self.teacher.blocks)]
        layers[-1] += self.teacher.norm.parameters()
        return layers

    def unfreeze_encoder(self) -> None:
        """Let the teacher train by gradients: it is what embeds."""
        self.teacher.requires_grad_(True)
        self.train(self.training)

    def encoder_blocks(self) -> Sequence[Block]:
        """The teacher's blocks."""
        return [cast(Block, block) for block in self.teacher.blocks]

    def flops_per_sample(self) -> int:
        """Operations of a training step on a tile with as many entities as the data have on average.

        Vectors of tags and shapes are left out: these are frozen, and no products of as many numbers.
        """
        tower, tokens = self.reader.tower, usual_tokens(self.config, patches=self.reader.patches)
        step = step_flops(self.config, tokens, image_width=tower.width if tower else 0)
        return step + (tower.flops() if tower else 0)

    def facts(self) -> ModelFacts:
        """What a model card says of it."""
        c = self.config
        shapes = " and shape" if c.reads_geometry else ""
        image = f", and an aerial image of it, {self.image_size} x {self.image_size} pixels" if c.reads_images else ""
        padding = "; padding takes part" if c.pool_padding else ""
        return ModelFacts(
            name=f"GeoJEPA, {c.modalities}",
            paper="Lundqvist and Delvret (2025), GeoJEPA: Towards Eliminating Augmentation- and Sampling Bias in Multimodal "
            "Geospatial Learning",
            arxiv="2503.05774",
            source="https://github.com/theolundqvist/geojepa",
            reads=f"the entities of a map tile, by their tags{shapes}{image}",
            pooling=f"largest and mean of the teacher's tokens of a tile, {self.embedding_dim} numbers{padding}; without "
            "any token, zeros",
            scaling=f"{len(c.vocabulary):,} tags and keys, vectors of {c.tags.dim} numbers by {c.tags.encoder}"
            + ("; images: clip((x - (mean - 2 std)) / (4 std), 0, 1), band by band" if c.reads_images else ""),
            limits=(
                "Tags that it does not know are taken for their keys, and keys that it does not know for nothing.",
                f"Of a tile with more than {c.max_entities:,} entities, as many are read, evenly spaced.",
                "An entity's embedding knows its neighbours on the tile.",
            ),
        )

    def inputs(self) -> tuple[ModelInput, ...]:
        """What it takes, for a catalog of models."""
        given = [
            ModelInput(
                name="tags",
                shape=(-1, -1),
                dim_order=("entity", "tag"),
                dtype="string",
                description="Keys and values of each entity of a map tile.",
            ),
            ModelInput(
                name="boxes",
                shape=(-1, 4, 2),
                dim_order=("entity", "corner", "coordinate"),
                dtype="float32",
                description="Corners of the smallest rotated rectangle around each entity, clockwise, in tile coordinates.",
            ),
        ]
        if self.reader.geometry is not None:
            given += self.reader.geometry.inputs()
        if self.config.reads_images:
            size = self.image_size
            given.append(
                ModelInput(
                    name="chips",
                    shape=(-1, len(self.bands), size, size),
                    dim_order=("batch", "bands", "height", "width"),
                    dtype="uint16",
                    description="Images of the whole tiles in digital numbers; all 0 where there is none.",
                    bands=self.bands,
                )
            )
        return tuple(given)

    @property
    def _slots(self) -> int:
        """Tokens that a tile may have: what is drawn is drawn for all of them, whatever a batch holds."""
        return self.config.max_entities + self.reader.patches

    def _taught(self, batch: Batch, *, most: int | None) -> tuple[Tensor, Tensor, Places]:
        """The teacher's tokens of whole tiles, (B, L, D) float32, where there are any (B, L), and places of entities."""
        inputs, places = self.reader.frozen_inputs(batch, most=most, normalization=self.normalization)
        tokens_BLD, codes_BLD = self.reader(inputs)
        seen_BL = inputs["modality_BL"] > 0
        return self.teacher(tokens_BLD + codes_BLD, seen_BL).float(), seen_BL, places

    def _one_sided(self, chance: Chance) -> Tensor:
        """What tags and shapes of the whole batch are multiplied with, (2,): now and then one of them with 0."""
        drawn, side = chance.common(2).tolist()
        kept = [1.0, 1.0]
        if drawn < self.config.one_sided:
            kept[int(side < 0.5)] = 0.0
        return torch.tensor(kept)

    def _masked(self, inputs: dict[str, Tensor], places: Places, chance: Chance) -> dict[str, Tensor]:
        """Places of context and targets among the tokens, and which of them are no padding."""
        scene = Scene(
            modality_BS=self._in_slots(inputs["modality_BL"].unsqueeze(-1), places.longest).squeeze(-1),
            centres_BS2=self._in_slots(inputs["boxes_BL8"].unfold(2, 2, 2).mean(dim=2), places.longest),
        )
        context_BS, targets_MBS = draw_masks(self.config.masks, scene, chance)
        masks = [self._of_slots(mask_BS, places.longest) for mask_BS in (context_BS, *targets_MBS.unbind())]
        longest = [max(1, count) for count in torch.stack([mask.sum(dim=1).max() for mask in masks]).tolist()]
        context, *targets = [
            _listed(mask, longest[0] if number == 0 else max(longest[1:])) for number, mask in enumerate(masks)
        ]
        return {
            "context_BC": context[0],
            "context_seen_BC": context[1],
            "targets_MBK": torch.stack([places_BK for places_BK, _ in targets]),
            "targets_seen_MBK": torch.stack([seen_BK for _, seen_BK in targets]),
        }

    def _in_slots(self, x_BLX: Tensor, longest: int) -> Tensor:
        """What belongs to tokens, in as many slots as there could be, (B, S, X)."""
        entities = functional.pad(x_BLX[:, :longest], (0, 0, 0, self.config.max_entities - longest))
        return torch.cat([entities, x_BLX[:, longest:]], dim=1)

    def _of_slots(self, x_BS: Tensor, longest: int) -> Tensor:
        """What belongs to slots, of the tokens that a batch has, (B, L, ...)."""
        return torch.cat([x_BS[:, :longest], x_BS[:, self.config.max_entities :]], dim=1)


def _listed(mask_BL: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Places where a mask holds, in their order, (B, length) int64, and which of them it does hold at."""
    places_BL = (~mask_BL).to(torch.uint8).argsort(dim=1, stable=True)[:, :length]
    return places_BL, mask_BL.gather(1, places_BL)
