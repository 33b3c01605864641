"""Group-channel SatMAE: a masked autoencoder whose tokens are patches of one group of bands each.

After Cong et al. (2022), "SatMAE: Pre-training Transformers for Temporal and Multi-Spectral Satellite Imagery", section
3.4, as *Pretrain Where?* (Kaur et al., 2026) uses it. Written anew; names of parameters are those of the released
weights, so that these load by name.

Shapes: B batch, C bands, H W pixels, G groups of bands, P patches of one group, L = G * P tokens, V visible tokens,
D width of the encoder, E width of the decoder, Q = patch_size ** 2 pixels of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from pwcat.errors import TrainingError
from training.augment import augment as cut
from training.augment import center_crop
from training.batch import Batch
from training.chance import Chance, to_device
from training.flops import block_flops, linear_flops, training_flops
from training.models.base import Model, ModelFacts, ModelInput
from training.models.blocks import LAYER_NORM_EPS, Block, fixed, grid_code, initialise_linear, line_code

if TYPE_CHECKING:
    from training.normalize import Normalization
    from training.recipe import Augment

__all__ = ["SatMAE", "SatMAEConfig"]

# The ten Sentinel-2 bands of the papers, in their order, and SatMAE's three groups of them (SatMAE, section 5.2).
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
GROUPS = (("B02", "B03", "B04", "B08"), ("B05", "B06", "B07", "B8A"), ("B11", "B12"))


@dataclass(frozen=True, kw_only=True)
class SatMAEConfig:
    """Everything that fixes a SatMAE but its weights. The defaults are SatMAE-B at 96 pixels and patches of 8.

    Attributes:
        image_size: side of the input, in pixels.
        patch_size: side of a patch, in pixels.
        bands: names of the input bands, in order.
        groups: groups of bands; every band is in exactly one.
        dim: width of the encoder.
        depth: blocks of the encoder.
        heads: attention heads of the encoder.
        group_dim: the part of ``dim`` that codes the group; the rest codes the place.
        decoder_dim: width of the decoder.
        decoder_depth: blocks of the decoder.
        decoder_heads: attention heads of the decoder.
        decoder_group_dim: the part of ``decoder_dim`` that codes the group.
        mask_ratio: share of tokens hidden, over all groups together.
        norm_pix_loss: compare with each patch standardised over all bands of its place.
        head_order: "band" lets each head predict the bands of its own group. "released" repeats the published code,
            which joins the heads' outputs in the order of the groups and reads them in the order of the bands, so that
            with the default groups the fourth output of the first head stands for B05 and the third of the second for
            B08. Weights published by SatMAE and by Pretrain Where? want "released"; their encoders fit both.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    image_size: int = 96
    patch_size: int = 8
    bands: tuple[str, ...] = BANDS
    groups: tuple[tuple[str, ...], ...] = GROUPS
    dim: int = 768
    depth: int = 12
    heads: int = 12
    group_dim: int = 256
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    decoder_group_dim: int = 128
    mask_ratio: float = 0.75
    norm_pix_loss: bool = False
    head_order: Literal["band", "released"] = "band"

    def __post_init__(self) -> None:
        if faults := self._faults():
            raise TrainingError("this SatMAE cannot be built: " + "; ".join(faults))

    def _faults(self) -> list[str]:
        grouped = [band for group in self.groups for band in group]
        checks = {
            f"patch_size {self.patch_size} must divide image_size {self.image_size}": self.patch_size > 0
            and self.image_size % self.patch_size == 0,
            f"groups {self.groups} must hold each of the bands {self.bands} exactly once": bool(self.groups)
            and all(self.groups)
            and sorted(grouped) == sorted(set(self.bands)),
            f"bands {self.bands} must differ from each other": len(set(self.bands)) == len(self.bands),
            f"heads {self.heads} must divide dim {self.dim}": self.heads > 0 and self.dim % self.heads == 0,
            f"decoder_heads {self.decoder_heads} must divide decoder_dim {self.decoder_dim}": self.decoder_heads > 0
            and self.decoder_dim % self.decoder_heads == 0,
            f"group_dim {self.group_dim} must be even and leave a multiple of 4 of dim {self.dim}": _splits(
                self.dim, self.group_dim
            ),
            f"decoder_group_dim {self.decoder_group_dim} must be even and leave a multiple of 4 of decoder_dim "
            f"{self.decoder_dim}": _splits(self.decoder_dim, self.decoder_group_dim),
            f"mask_ratio {self.mask_ratio} must be above 0 and below 1": 0 < self.mask_ratio < 1,
        }
        return [text for text, holds in checks.items() if not holds]

    @property
    def grid_side(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        """Patches of one group, P."""
        return self.grid_side**2

    @property
    def num_tokens(self) -> int:
        """Tokens of all groups, L."""
        return self.num_patches * len(self.groups)

    @property
    def num_visible(self) -> int:
        """Tokens that the encoder sees in pretraining, V."""
        return int(self.num_tokens * (1 - self.mask_ratio))

    @property
    def grouped_bands(self) -> list[int]:
        """Indices into ``bands``, group after group."""
        return [self.bands.index(band) for group in self.groups for band in group]


def _splits(dim: int, group_dim: int) -> bool:
    return 0 < group_dim < dim and group_dim % 2 == 0 and (dim - group_dim) % 4 == 0


class SatMAE(Model):
    """Group-channel masked autoencoder. Input is scaled to 0..1 by its :class:`~training.normalize.Normalization`."""

    architecture: ClassVar[str] = "satmae"
    config_class: ClassVar[type[SatMAEConfig]] = SatMAEConfig

    pos_embed: Tensor
    channel_embed: Tensor
    decoder_pos_embed: Tensor
    decoder_channel_embed: Tensor
    grouped_bands: Tensor  # indices of bands, group after group; kept on the device, so that no step copies them there

    config: SatMAEConfig

    def __init__(self, config: SatMAEConfig, *, normalization: Normalization | None = None) -> None:
        super().__init__(config, normalization=normalization)
        self._build_encoder(config)
        self._build_decoder(config)
        self._initialise()

    def _build_encoder(self, c: SatMAEConfig) -> None:
        self.register_buffer("grouped_bands", torch.tensor(c.grouped_bands), persistent=False)
        self.patch_embed = nn.ModuleList(_PatchEmbed(len(group), c.dim, c.patch_size) for group in c.groups)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c.dim))
        self.register_buffer("pos_embed", torch.zeros(1, 1 + c.num_patches, c.dim - c.group_dim))
        self.register_buffer("channel_embed", torch.zeros(1, len(c.groups), c.group_dim))
        self.blocks = nn.ModuleList(Block(c.dim, heads=c.heads) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.dim, eps=LAYER_NORM_EPS)

    def _build_decoder(self, c: SatMAEConfig) -> None:
        self.decoder_embed = nn.Linear(c.dim, c.decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, c.decoder_dim))
        self.register_buffer(
            "decoder_pos_embed", torch.zeros(1, 1 + c.num_patches, c.decoder_dim - c.decoder_group_dim)
        )
        # one row more than groups: the class token has a code of its own here
        self.register_buffer("decoder_channel_embed", torch.zeros(1, len(c.groups) + 1, c.decoder_group_dim))
        self.decoder_blocks = nn.ModuleList(Block(c.decoder_dim, heads=c.decoder_heads) for _ in range(c.decoder_depth))
        self.decoder_norm = nn.LayerNorm(c.decoder_dim, eps=LAYER_NORM_EPS)
        self.decoder_pred = nn.ModuleList(nn.Linear(c.decoder_dim, len(group) * c.patch_size**2) for group in c.groups)

    def _initialise(self) -> None:
        c = self.config
        for name, dim, rows in (
            ("", c.dim - c.group_dim, len(c.groups)),
            ("decoder_", c.decoder_dim - c.decoder_group_dim, len(c.groups) + 1),
        ):
            place, group = self.get_buffer(f"{name}pos_embed"), self.get_buffer(f"{name}channel_embed")
            place.copy_(fixed(grid_code(c.grid_side, dim=dim)))
            group.copy_(fixed(line_code(np.arange(rows), dim=group.shape[-1])))
        self.apply(initialise_linear)
        for embed in self.patch_embed.children():
            assert isinstance(embed, _PatchEmbed)
            nn.init.xavier_uniform_(embed.proj.weight.view(c.dim, -1))  # as a linear layer over the patch
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    @classmethod
    def base(cls, *, normalization: Normalization | None = None, **changes: Any) -> SatMAE:
        """SatMAE-B: 111.6 million weights at 96 pixels, patches of 8, ten bands; ``changes`` replace fields of its config."""
        return cls(SatMAEConfig(**changes), normalization=normalization)

    @classmethod
    def large(cls, *, normalization: Normalization | None = None, **changes: Any) -> SatMAE:
        """SatMAE-L: 329.2 million weights, likewise: an encoder of 24 blocks, and the decoder of SatMAE-B."""
        return cls(SatMAEConfig(**{"dim": 1024, "depth": 24, "heads": 16, **changes}), normalization=normalization)

    @classmethod
    def tiny(cls, *, normalization: Normalization | None = None, **changes: Any) -> SatMAE:
        """A SatMAE for a CPU: 0.8 million parameters, patches of 16."""
        fields: dict[str, Any] = {
            "patch_size": 16, "dim": 96, "depth": 3, "heads": 3, "group_dim": 32,
            "decoder_dim": 64, "decoder_depth": 1, "decoder_heads": 2, "decoder_group_dim": 16,
        }  # fmt: skip
        return cls(SatMAEConfig(**{**fields, **changes}), normalization=normalization)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the input bands, in order."""
        return self.config.bands

    @property
    def image_size(self) -> int:
        """Side of the input, in pixels."""
        return self.config.image_size

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding, D."""
        return self.config.dim

    def prepare(self, batch: Batch, *, chance: Chance, augment: Augment | None = None) -> dict[str, Tensor]:
        """Images scaled to 0..1 (B, C, H, W), the noise (B, L) that masks are made of, and the rank's share."""
        images_BCHW = self.require_normalization().apply(batch.first(self.bands))
        if augment is None:
            images_BCHW = center_crop(images_BCHW, size=self.image_size)
        else:
            images_BCHW = cut(images_BCHW, size=self.image_size, chance=chance, **augment.of_images())
        noise_BL = to_device(chance.uniform(self.config.num_tokens), batch.device)
        return {"x_BCHW": images_BCHW, "noise_BL": noise_BL, "share": self.share(batch, chance)}

    def forward(self, x_BCHW: Tensor, noise_BL: Tensor, share: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """The loss of a masked reconstruction, a scalar.

        Args:
            x_BCHW: images scaled to 0..1, float.
            noise_BL: numbers of which each sample's smallest are the tokens that stay visible.
            share: what the mean over these samples is multiplied with.
        """
        loss = self.sample_losses(x_BCHW, noise_BL).mean()
        return loss if share is None else loss * share

    def sample_losses(self, x_BCHW: Tensor, noise_BL: Tensor, share: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """The loss of each sample, (B,) float32: the mean over its hidden tokens, of which all samples have as many.

        A token's is the mean squared error over its bands and pixels, so that all weigh the same, whatever their bands.
        """
        patches_BPCQ = self.patches(x_BCHW)
        keep_BV, hidden_BL = self.mask(noise_BL)
        error_BGP = self._errors(self._predict(patches_BPCQ, keep_BV), self.target(patches_BPCQ))
        return (error_BGP.flatten(1) * hidden_BL).sum(dim=1) / (self.config.num_tokens - self.config.num_visible)

    def reconstruct(self, x_BCHW: Tensor, noise_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Prediction (B, C, P, Q), bands in their order, and mask (B, G, P; 1 is hidden) of a masked reconstruction."""
        keep_BV, hidden_BL = self.mask(noise_BL)
        pred_BPCQ = torch.cat(self._predict(self.patches(x_BCHW), keep_BV), dim=2)
        hidden_BGP = hidden_BL.view(-1, len(self.config.groups), self.config.num_patches)
        return pred_BPCQ[:, :, self.grouped_bands.argsort()].transpose(1, 2), hidden_BGP

    def encode(self, batch: Batch) -> Tensor:
        """Embeddings (B, D) float32: the mean over the encoder's patch tokens of all groups; no class token.

        Mean pooling, as SatMAE's own finetuning and the public probes of it do: in pretraining the class token takes
        part in no loss of its own. Larger chips are cut to their middle.
        """
        return self.embed(center_crop(batch.first(self.bands), size=self.image_size))

    def encode_dense(self, batch: Batch) -> Tensor:
        """Embeddings (B, h, w, D) float32 of the patches: of each, the mean over its tokens of all groups.

        Their mean over the patches is what :meth:`encode` gives.
        """
        chips_BCHW = center_crop(batch.first(self.bands), size=self.image_size)
        tokens_BLD = self._encode_images(self.scale(chips_BCHW)).float()
        groups, side = len(self.config.groups), self.config.grid_side
        return tokens_BLD.view(len(batch), groups, side, side, -1).mean(dim=1)

    def encode_images(self, x_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of images scaled to 0..1; see :meth:`encode`."""
        return self._encode_images(x_BCHW).mean(dim=1).float()

    def encode_tokens(self, x_BCHW: Tensor) -> Tensor:
        """Class token and patches (B, 1 + P, D) of images scaled to 0..1: of a patch, the mean over its tokens of groups."""
        tokens_BLD = self._encode(self.tokens(self.patches(x_BCHW)))
        groups_BGPD = tokens_BLD[:, 1:].view(len(x_BCHW), len(self.config.groups), -1, tokens_BLD.shape[-1])
        return torch.cat([tokens_BLD[:, :1], groups_BGPD.mean(dim=1)], dim=1)

    def encoder_layers(self) -> list[list[nn.Parameter]]:
        """Patch embeddings and class token, then each block; the last norm goes with the last of them."""
        embedding = [*self.patch_embed.parameters(), self.cls_token]
        layers = [embedding, *(list(block.parameters()) for block in self.blocks)]
        layers[-1] += self.norm.parameters()
        return layers

    def encoder_blocks(self) -> Sequence[Block]:
        """The encoder's blocks."""
        return [cast(Block, block) for block in self.blocks]

    def encoder_only(self) -> Self:
        """The same model without its decoder, as part of another model: it encodes, but is not trained by itself any more."""
        for name in [*self._modules, *self._parameters, *self._buffers]:
            if name.startswith(("decoder_", "mask_token")):
                delattr(self, name)
        return self

    def encoding_flops(self) -> tuple[int, int]:
        """Operations of encoding one image without masking, and those of them whose input is data."""
        c = self.config
        patches = linear_flops(c.num_patches, len(c.bands) * c.patch_size**2, c.dim)
        return patches + c.depth * block_flops(1 + c.num_tokens, c.dim), patches

    def embed(self, chips_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of chips in digital numbers (uint16), of the model's bands and size."""
        return self.encode_images(self.scale(chips_BCHW))

    def scale(self, chips_BCHW: Tensor) -> Tensor:
        """Images scaled to 0..1, (B, C, H, W) float32, of chips in digital numbers (uint16).

        Raises:
            TrainingError: they are of other bands, size or type, or there is no normalisation.
        """
        wanted = (len(self.config.bands), self.config.image_size, self.config.image_size)
        if tuple(chips_BCHW.shape[1:]) != wanted:
            raise TrainingError(
                f"this model takes chips of (band, y, x) {wanted}, bands {', '.join(self.config.bands)} in that order; "
                f"got {tuple(chips_BCHW.shape[1:])}"
            )
        normalization = self.require_normalization()
        if chips_BCHW.is_floating_point():
            raise TrainingError(
                f"this model takes digital numbers (uint16), as cubes keep them, and scales them itself; got "
                f"{chips_BCHW.dtype}: round them, reflectance times 10,000 first"
            )
        return normalization.apply(chips_BCHW)

    def flops_per_sample(self) -> int:
        """See :meth:`training.models.base.Model.flops_per_sample`."""
        c = self.config
        pixels = len(c.bands) * c.patch_size**2
        first = linear_flops(c.num_patches, pixels, c.dim)
        encoder = c.depth * block_flops(1 + c.num_visible, c.dim)
        between = linear_flops(1 + c.num_visible, c.dim, c.decoder_dim)
        decoder = c.decoder_depth * block_flops(1 + c.num_tokens, c.decoder_dim)
        heads = linear_flops(c.num_patches, c.decoder_dim, pixels)
        return training_flops(first + encoder + between + decoder + heads, first=first)

    def facts(self) -> ModelFacts:
        """What a model card says of it."""
        c = self.config
        return ModelFacts(
            name="SatMAE, group-channel",
            paper="Cong et al. (2022), SatMAE: Pre-training Transformers for Temporal and Multi-Spectral Satellite Imagery",
            arxiv="2207.08051",
            source="https://github.com/sustainlab-group/SatMAE",
            reads=f"one Sentinel-2 image of {len(c.bands)} bands, {c.image_size} x {c.image_size} pixels",
            pooling="mean over the encoder's patch tokens of all groups of bands, without masking; no class token",
            scaling="clip((x - (mean - 2 std)) / (4 std), 0, 1), band by band",
            limits=("One date an image: time plays no part.", "Pixels of no data (0) are read like dark ones."),
        )

    def inputs(self) -> tuple[ModelInput, ...]:
        """What it takes, for a catalog of models."""
        size = self.image_size
        return (
            ModelInput(
                name="chips",
                shape=(-1, len(self.bands), size, size),
                dim_order=("batch", "bands", "height", "width"),
                dtype="uint16",
                description="Chips in digital numbers, which the model scales itself, clipped to 0..1.",
                bands=self.bands,
            ),
        )

    def patches(self, x_BCHW: Tensor) -> Tensor:
        """Pixels of each patch, (B, P, C, Q), bands group after group: what is embedded, and what is to be predicted."""
        side, size = self.config.grid_side, self.config.patch_size
        rows = x_BCHW.index_select(1, self.grouped_bands).view(
            len(x_BCHW), len(self.config.bands), side, size, side, size
        )
        return rows.permute(0, 2, 4, 1, 3, 5).flatten(4, 5).flatten(1, 2)

    def tokens(self, patches_BPCQ: Tensor) -> Tensor:
        """All patch tokens with their codes, (B, L, D): groups one after the other, patches row by row."""
        groups = zip(self.patch_embed, self._split(patches_BPCQ), strict=True)
        x_BGPD = torch.stack([embed(own) for embed, own in groups], dim=1)
        return (x_BGPD + _join(self.pos_embed[:, 1:], self.channel_embed)).flatten(1, 2)

    def mask(self, noise_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the visible tokens (B, V), those of least noise, and the mask (B, L; 1 is hidden)."""
        keep_BV = noise_BL.argsort(dim=1)[:, : self.config.num_visible]
        return keep_BV, torch.ones_like(noise_BL).scatter_(1, keep_BV, 0.0)

    def target(self, patches_BPCQ: Tensor) -> Tensor:
        """What is to be predicted, float32; with ``norm_pix_loss`` each place is standardised over its bands and pixels."""
        target_BPCQ = patches_BPCQ.float()
        if not self.config.norm_pix_loss:
            return target_BPCQ
        var, mean = torch.var_mean(target_BPCQ, dim=(2, 3), keepdim=True)
        return (target_BPCQ - mean) / (var + 1e-6).sqrt()

    def _split(self, x_BPCQ: Tensor) -> tuple[Tensor, ...]:
        """Each group's bands of (B, P, C, Q)."""
        return torch.split_with_sizes(x_BPCQ, [len(group) for group in self.config.groups], dim=2)

    def _errors(self, pred: Sequence[Tensor], target_BPCQ: Tensor) -> Tensor:
        """Mean squared error of each token, (B, G, P) float32."""
        pairs = zip(pred, self._split(target_BPCQ), strict=True)
        return torch.stack([(own.float() - wanted).square().mean(dim=(2, 3)) for own, wanted in pairs], dim=1)

    def _encode_images(self, x_BCHW: Tensor) -> Tensor:
        """Patch tokens of all groups after the encoder, (B, L, D), of images scaled to 0..1."""
        return self._encode(self.tokens(self.patches(x_BCHW)))[:, 1:]

    def _encode(self, tokens_BLD: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(len(tokens_BLD), -1, -1), tokens_BLD], dim=1)
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.norm(x))

    def _predict(self, patches_BPCQ: Tensor, keep_BV: Tensor) -> tuple[Tensor, ...]:
        """Prediction of each group's bands, (B, P, bands, Q), from the visible tokens."""
        tokens_BLD = self.tokens(patches_BPCQ)
        visible_BVD = tokens_BLD.gather(1, keep_BV.unsqueeze(-1).expand(-1, -1, tokens_BLD.shape[-1]))
        return self._heads(self._decode(self._encode(visible_BVD), keep_BV))

    def _decode(self, latent: Tensor, keep_BV: Tensor) -> Tensor:
        """Tokens of the decoder, (B, L, E): visible ones in their places, hidden ones from the mask token."""
        x = self.decoder_embed(latent)  # B, 1 + V, E
        full_BLE = self.mask_token.to(x.dtype).expand(len(x), self.config.num_tokens, -1)
        full_BLE = full_BLE.scatter(1, keep_BV.unsqueeze(-1).expand(-1, -1, x.shape[-1]), x[:, 1:])
        x = torch.cat([x[:, :1], full_BLE], dim=1) + self._decoder_code()
        for block in self.decoder_blocks:
            x = block(x)
        return cast(Tensor, self.decoder_norm(x))[:, 1:]

    def _decoder_code(self) -> Tensor:
        cls = torch.cat([self.decoder_pos_embed[:, :1], self.decoder_channel_embed[:, -1:]], dim=-1)
        tokens = _join(self.decoder_pos_embed[:, 1:], self.decoder_channel_embed[:, :-1]).flatten(1, 2)
        return torch.cat([cls, tokens], dim=1)

    def _heads(self, x_BLE: Tensor) -> tuple[Tensor, ...]:
        c = self.config
        groups_BGPE = x_BLE.reshape(len(x_BLE), len(c.groups), c.num_patches, -1).unbind(1)
        heads = zip(self.decoder_pred, groups_BGPE, strict=True)
        pred = tuple(head(x_BPE).view(len(x_BLE), c.num_patches, -1, c.patch_size**2) for head, x_BPE in heads)
        if c.head_order == "band":
            return pred
        return self._split(torch.cat(pred, dim=2).index_select(2, self.grouped_bands))


class _PatchEmbed(nn.Module):
    """Patches of one group of bands as tokens: a convolution in name and weights, done as the linear layer that it is."""

    def __init__(self, bands: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(bands, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, patches_BPCQ: Tensor) -> Tensor:
        """Tokens, (B, P, D)."""
        return functional.linear(patches_BPCQ.flatten(2), self.proj.weight.flatten(1), self.proj.bias)


def _join(place_1PA: Tensor, group_1GA: Tensor) -> Tensor:
    """Codes of all tokens, (1, G, P, D): place, then group."""
    groups, patches = group_1GA.shape[1], place_1PA.shape[1]
    place = place_1PA.unsqueeze(1).expand(-1, groups, -1, -1)
    group = group_1GA.unsqueeze(2).expand(-1, -1, patches, -1)
    return torch.cat([place, group], dim=-1)
