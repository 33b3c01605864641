"""Which tokens of a tile are context, and which are to be guessed from it.

A batch has one way of masking, drawn from the config's chances; what is drawn besides is each tile's own. All is done for all
tiles at once, on their device, over fixed slots of tokens, so that the same is drawn however a batch is shared out.

Shapes: B tiles, S slots of tokens, M targets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from pydantic import ConfigDict
from torch import Tensor

from pwcat.errors import TrainingError
from training.chance import Chance, to_device
from training.models.geojepa_network import MODALITIES

__all__ = ["KINDS", "MaskConfig", "Scene", "draw_masks", "odds"]

Kind = Literal["random", "area", "modality", "contiguous"]
KINDS: tuple[Kind, ...] = ("random", "area", "modality", "contiguous")

# Boxes of an area mask begin within this much beyond the tile's edges. Source: GeoJEPA, ``modules/masks.py``.
BEYOND = 0.1


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """How tokens are hidden. The defaults are those of the published T recipe.

    Attributes:
        random: chance of tokens anywhere, in the choice that ``choice`` tells of.
        area: chance of tokens whose centre lies within a box.
        modality: chance that one modality is the context and the other the target.
        contiguous: chance of runs of tokens in their order.
        choice: "loop" asks each way in turn, with its chance, until one is taken, as the source does, so that the first are
            taken more often than their chances say; "listed" takes each with its chance of all.
        targets: of each tile, M; they may overlap. Of a modality mask it is one.
        random_share: tokens of a random target, of all.
        area_share: area of a box, of the tile's.
        aspect: smallest and largest aspect of a box: its height is ``sqrt(area_share) / aspect``, at most 1.
        contiguous_share: tokens of a run, of all.
        random_context: least context, of all tokens, where targets are random; less is topped up with a run of tokens.
        least_context: likewise, where they are not.
        disjoint: whether tokens that topped up the context are targets no more; in the source they remain.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    random: float = 0.25
    area: float = 0.75
    modality: float = 0.0
    contiguous: float = 0.0
    choice: Literal["loop", "listed"] = "loop"
    targets: int = 4
    random_share: float = 0.45
    area_share: float = 0.35
    aspect: tuple[float, float] = (0.5, 2.0)
    contiguous_share: float = 0.25
    random_context: float = 0.10
    least_context: float = 0.15
    disjoint: bool = False

    def __post_init__(self) -> None:
        if faults := self._faults():
            raise TrainingError("these masks cannot be drawn: " + "; ".join(faults))

    def _faults(self) -> list[str]:
        shares = ("random_share", "area_share", "contiguous_share")
        least = ("random_context", "least_context")
        checks = {
            **{f"{kind} {getattr(self, kind)} must be 0 to 1": 0 <= getattr(self, kind) <= 1 for kind in KINDS},
            "one of random, area, modality and contiguous must be above 0": any(getattr(self, kind) for kind in KINDS),
            **{
                f"{name} {getattr(self, name)} must be above 0 and below 1": 0 < getattr(self, name) < 1
                for name in shares
            },
            **{f"{name} {getattr(self, name)} must be 0 to 0.5": 0 <= getattr(self, name) <= 0.5 for name in least},
            f"aspect {self.aspect} must be two numbers above 0, the smaller first": 0
            < self.aspect[0]
            <= self.aspect[1],
            f"targets {self.targets} must be at least 1": self.targets >= 1,
        }
        return [text for text, holds in checks.items() if not holds]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The tokens of a batch in their slots.

    Attributes:
        modality_BS: of each token, a number of ``MODALITIES``; 0 where there is none.
        centres_BS2: the middle of each token's box, tile coordinates.
    """

    modality_BS: Tensor
    centres_BS2: Tensor

    @property
    def present_BS(self) -> Tensor:
        """Where there are tokens."""
        return self.modality_BS > 0


@lru_cache(maxsize=16)
def odds(config: MaskConfig) -> Mapping[Kind, float]:
    """How often each way of masking is taken, of 1."""
    chances = [getattr(config, kind) for kind in KINDS]
    if config.choice == "loop":
        missed = [math.prod(1 - chance for chance in chances[:number]) for number in range(len(KINDS))]
        chances = [chance * before for chance, before in zip(chances, missed, strict=True)]
    return {kind: chance / sum(chances) for kind, chance in zip(KINDS, chances, strict=True)}


def choose_kind(config: MaskConfig, chance: Chance) -> Kind:
    """The batch's way of masking."""
    drawn, known = chance.common().item(), odds(config)
    for kind in KINDS:
        if drawn < known[kind]:
            return kind
        drawn -= known[kind]
    return max(KINDS, key=lambda kind: known[kind])  # where rounding left a crumb


def draw_masks(config: MaskConfig, scene: Scene, chance: Chance) -> tuple[Tensor, Tensor]:
    """Context (B, S) and targets (M, B, S) of each tile.

    No tile that has a token is without context, or without a target: where no box holds a token, and where a tile has one
    modality alone, targets are random; and what is all target is topped up with context. Of a tile of one token, that is
    both. Tiles without tokens have neither.
    """
    kind = choose_kind(config, chance)
    least = config.random_context if kind == "random" else config.least_context
    if kind == "modality":
        context_BS, targets_MBS = _by_modality(config, scene, chance)
    else:
        targets_MBS = _TARGETS[kind](config, scene, chance)
        context_BS = scene.present_BS & ~targets_MBS.any(dim=0)
    context_BS = context_BS | _top_up(context_BS, scene.present_BS, least=least, chance=chance)
    return context_BS, _disjoint(targets_MBS, context_BS) if config.disjoint else targets_MBS


def _random(config: MaskConfig, scene: Scene, chance: Chance, *, targets: int | None = None) -> Tensor:
    """As many tokens anywhere, (M, B, S); one at least, of a tile that has any."""
    targets = config.targets if targets is None else targets
    present_BS = scene.present_BS
    noise_BMS = to_device(chance.uniform(targets, present_BS.shape[1]), present_BS.device)
    noise_BMS = noise_BMS.masked_fill(~present_BS.unsqueeze(1), -1.0)
    wanted_B11 = _share_of(present_BS, config.random_share).view(-1, 1, 1)
    ranks_BMS = noise_BMS.argsort(dim=2, descending=True, stable=True).argsort(dim=2)
    return ((ranks_BMS < wanted_B11) & present_BS.unsqueeze(1)).transpose(0, 1)


def _by_area(config: MaskConfig, scene: Scene, chance: Chance) -> Tensor:
    """Tokens whose centre is within a box, (M, B, S)."""
    device = scene.modality_BS.device
    aspect_BM, right_BM, down_BM = to_device(chance.uniform(3, config.targets), device).unbind(dim=1)
    aspect_BM = config.aspect[0] + (config.aspect[1] - config.aspect[0]) * aspect_BM
    tall_BM = math.sqrt(config.area_share) / aspect_BM
    sides_BM2 = torch.stack([config.area_share / tall_BM, tall_BM], dim=-1).clamp(max=1)
    low_BM2 = torch.stack([right_BM, down_BM], dim=-1) * (1 + 2 * BEYOND - sides_BM2) - BEYOND
    centres_B1S2 = scene.centres_BS2.unsqueeze(1)
    low_BM12, high_BM12 = low_BM2.unsqueeze(2), (low_BM2 + sides_BM2).unsqueeze(2)
    inside_BMS = ((centres_B1S2 >= low_BM12) & (centres_B1S2 <= high_BM12)).all(dim=-1)
    inside_MBS = (inside_BMS & scene.present_BS.unsqueeze(1)).transpose(0, 1)
    empty_B1 = ~inside_MBS.any(dim=2).any(dim=0).unsqueeze(1)
    return torch.where(empty_B1, _random(config, scene, chance), inside_MBS)


def _contiguous(config: MaskConfig, scene: Scene, chance: Chance) -> Tensor:
    """Runs of tokens, (M, B, S); one token at least, of a tile that has any."""
    present_BS = scene.present_BS
    long_B = _share_of(present_BS, config.contiguous_share)
    starts_BM = to_device(chance.uniform(config.targets), present_BS.device)
    return torch.stack([_run(present_BS, long_B, starts_B) for starts_B in starts_BM.unbind(dim=1)])


def _by_modality(config: MaskConfig, scene: Scene, chance: Chance) -> tuple[Tensor, Tensor]:
    """Context (B, S), all tokens of one modality, and the others as target (1, B, S); at random where one is not there."""
    seen, other = MODALITIES["map"], MODALITIES["image"]
    if chance.common().item() < 0.5:
        seen, other = other, seen
    context_BS, target_BS = scene.modality_BS == seen, scene.modality_BS == other
    both_B1 = (context_BS.any(dim=1) & target_BS.any(dim=1)).unsqueeze(1)
    target_BS = torch.where(both_B1, target_BS, _random(config, scene, chance, targets=1)[0])
    return torch.where(both_B1, context_BS, scene.present_BS & ~target_BS), target_BS.unsqueeze(0)


def _share_of(present_BS: Tensor, share: float) -> Tensor:
    """A share of the tokens of each tile, (B,) int64, at least one."""
    return (present_BS.sum(dim=1) * share).long().clamp(min=1)


def _run(present_BS: Tensor, long_B: Tensor, start_B: Tensor) -> Tensor:
    """Runs of so many of the tokens there are, (B, S); each begins at a place drawn as a number of [0, 1)."""
    places_BS = present_BS.cumsum(dim=1) - 1
    room_B = (present_BS.sum(dim=1) - long_B + 1).clamp(min=1)
    first_B1 = (start_B * room_B).long().unsqueeze(1)
    return present_BS & (places_BS >= first_B1) & (places_BS < first_B1 + long_B.unsqueeze(1))


def _top_up(context_BS: Tensor, present_BS: Tensor, *, least: float, chance: Chance) -> Tensor:
    """Runs of tokens for tiles whose context is too small, (B, S); one token at least, where there is no context.

    What is context already is no part of a run, so that the least is met. (In the source runs begin anywhere.)
    """
    count_B, has_B = present_BS.sum(dim=1), context_BS.sum(dim=1)
    lacking_B = torch.maximum((least * count_B - has_B).ceil().long(), (has_B == 0).long())
    start_B = to_device(chance.uniform(), present_BS.device)
    return _run(present_BS & ~context_BS, lacking_B.clamp(min=0), start_B)


def _disjoint(targets_MBS: Tensor, context_BS: Tensor) -> Tensor:
    """Targets without what is context, but of tiles that would have none."""
    rest_MBS = targets_MBS & ~context_BS
    return torch.where(rest_MBS.any(dim=2).any(dim=0).unsqueeze(1), rest_MBS, targets_MBS)


_TARGETS = {"random": _random, "area": _by_area, "contiguous": _contiguous}
