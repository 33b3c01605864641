"""Map entities and image patches as the tokens of GeoJEPA.

Shapes: B tiles, E entities, A tags, V known tags, W length of a tag's or shape's vector, D width of tokens, P patches,
L tokens of a tile: first entities, then the class token and the patches of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.blocks import Mlp
from training.models.geojepa_network import BOX_NUMBERS
from training.osm.entities import Entities, TagList
from training.osm.vocabulary import TagIndex

__all__ = ["EntityTokens", "ImageTokens", "Places", "TagVectors", "patch_boxes", "place_entities"]


class TagVectors(nn.Module):
    """Sums of the vectors of entities' tags; nothing of it is learnt.

    Args:
        rows: the tags and keys that are known.
        dim: length of a vector.
    """

    vectors_VW: Tensor  # the first is of what is unknown, and nought

    def __init__(self, rows: Sequence[str], *, dim: int) -> None:
        super().__init__()
        self.index = _Lookup(rows)
        self.register_buffer("vectors_VW", torch.zeros(1 + len(rows), dim))

    def forward(self, entities: Entities) -> Tensor:
        """The sum over each entity's tags, brought to mean 0 and variance 1, (E, W); of unknown tags alone, zeros."""
        places_A = self.index.of(entities.tag_list, self.vectors_VW.device)[entities.tags]
        counts_E = torch.bincount(entities.tag_entity, minlength=len(entities))
        starts_E = counts_E.cumsum(0) - counts_E
        summed_EW = functional.embedding_bag(places_A, self.vectors_VW, starts_E, mode="sum")
        return functional.layer_norm(summed_EW, summed_EW.shape[-1:])


class _Lookup:
    """Places of a list's tags among those that are known, looked up once a list and device; never copied with its model."""

    def __init__(self, rows: Sequence[str]) -> None:
        self.rows = tuple(rows)
        self._found: tuple[TagList, Tensor] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Lookup:
        return _Lookup(self.rows)

    def of(self, tag_list: TagList, device: torch.device) -> Tensor:
        """(V of the list,) int64: 0 where nothing of a tag is known."""
        if self._found is None or self._found[0] is not tag_list or self._found[1].device != device:
            with torch.inference_mode(False):  # whoever asks first, training may use them
                self._found = tag_list, torch.from_numpy(TagIndex(self.rows).places(tag_list) + 1).to(device)
        return self._found[1]


class EntityTokens(nn.Module):
    """One token an entity, of its tags and, where that is read, its shape."""

    def __init__(self, dim: int, *, tags: int, geometry: int | None) -> None:
        super().__init__()
        self.tag_projection, self.tag_norm = nn.Linear(tags, dim), nn.LayerNorm(dim)
        self.geometry_projection = None if geometry is None else nn.Linear(geometry, dim)
        self.geometry_norm = None if geometry is None else nn.LayerNorm(dim)
        self.fusion = Mlp(2 * dim, hidden=2 * dim, outputs=dim)

    def forward(self, tags_EW: Tensor, geometry_EW: Tensor | None, kept_2: Tensor | None = None) -> Tensor:
        """Tokens (E, D).

        Args:
            tags_EW: of :class:`TagVectors`.
            geometry_EW: vectors of shapes; ``None`` where they are not read.
            kept_2: what tags and shapes are multiplied with, 0 or 1.
        """
        tags_ED = self.tag_norm(self.tag_projection(tags_EW))
        if self.geometry_projection is None or self.geometry_norm is None:
            shapes_ED = torch.zeros_like(tags_ED)
        else:
            assert geometry_EW is not None  # the model that reads shapes hands them over
            shapes_ED = self.geometry_norm(self.geometry_projection(geometry_EW))
        if kept_2 is not None:
            tags_ED, shapes_ED = tags_ED * kept_2[0], shapes_ED * kept_2[1]
        tokens_ED: Tensor = self.fusion(torch.cat([tags_ED, shapes_ED.to(tags_ED.dtype)], dim=-1))
        return tokens_ED


class ImageTokens(nn.Module):
    """Class token and patches of an image as tokens."""

    def __init__(self, dim: int, *, width: int) -> None:
        super().__init__()
        self.projection, self.norm = nn.Linear(width, dim), nn.LayerNorm(dim)

    def forward(self, image_BPW: Tensor) -> Tensor:
        """Tokens (B, P, D)."""
        tokens_BPD: Tensor = self.norm(self.projection(image_BPW))
        return tokens_BPD


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the entities of a batch stand among the tokens of their tiles.

    Attributes:
        kept: (E,) int64, entities that are read; all where ``None``.
        tile: (E kept,) int64.
        slot: (E kept,) int64, 0 up to one less than the tile has.
        counts: (B,) int64, of each tile, that are read.
        longest: the largest of them, at least 1.
    """

    kept: Tensor | None
    tile: Tensor
    slot: Tensor
    counts: Tensor
    longest: int

    def of(self, x_E: Tensor) -> Tensor:
        """What belongs to entities, of those that are read."""
        return x_E if self.kept is None else x_E[self.kept]

    def spread(self, x_E: Tensor) -> Tensor:
        """What belongs to entities that are read, (E kept, ...), in the slots of their tiles, (B, longest, ...); else 0."""
        out = x_E.new_zeros(len(self.counts) * self.longest, *x_E.shape[1:])
        out = out.index_copy(0, self.tile * self.longest + self.slot, x_E)
        return out.view(len(self.counts), self.longest, *x_E.shape[1:])


def place_entities(entities: Entities, *, tiles: int, most: int | None) -> Places:
    """Places of entities: in their order; of a tile with more than ``most``, as many, evenly spaced in that order.

    Args:
        entities: of a batch.
        tiles: of the batch, B.
        most: of a tile that are read; all where ``None``.
    """
    tile_E = entities.sample
    counts_B = torch.bincount(tile_E, minlength=tiles)
    longest = int(counts_B.max()) if tiles else 0  # the one thing for which a card is waited for
    within_E = torch.arange(len(tile_E), device=tile_E.device) - (counts_B.cumsum(0) - counts_B)[tile_E]
    if most is None or longest <= most:
        return Places(kept=None, tile=tile_E, slot=within_E, counts=counts_B, longest=max(1, longest))
    count_E = counts_B[tile_E]
    part_E = count_E.clamp(max=most)
    slot_E = within_E * part_E // count_E
    kept = ((within_E + 1) * part_E // count_E > slot_E).nonzero().squeeze(1)
    whole = Places(kept=kept, tile=tile_E, slot=slot_E, counts=counts_B.clamp(max=most), longest=most)
    return replace(whole, tile=whole.of(tile_E), slot=whole.of(slot_E))


def patch_boxes(side: int) -> Tensor:
    """Corners of the whole tile, for the class token, and of its patches row by row, (1 + side ** 2, 8) float32.

    Clockwise from the top left, in tile coordinates: x, y, x, y, ...; y runs down, as in images.
    """
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    left, top = column.flatten() / side, row.flatten() / side
    right, bottom = (column.flatten() + 1) / side, (row.flatten() + 1) / side
    boxes = torch.stack([left, top, right, top, right, bottom, left, bottom], dim=1)
    whole = torch.tensor([[0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]])
    return torch.cat([whole, boxes]).view(-1, BOX_NUMBERS)
