"""Operations of a training step of GeoJEPA on one tile, by arithmetic; see :mod:`training.flops`.

Left out is what hangs on more than the number of tokens: sums of tags' vectors, and the frozen network of shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.flops import block_flops, linear_flops
from training.models.geojepa_config import GeoJEPAConfig
from training.models.geojepa_masks import odds
from training.models.geojepa_network import BOX_NUMBERS, MODALITIES

__all__ = ["Tokens", "step_flops", "usual_tokens"]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """How many tokens a tile has, padding among them.

    Attributes:
        entities: of the map.
        patches: of the image, its class token among them.
        context: that the student sees.
        targets: how many targets there are.
        target: of each of them.
    """

    entities: int
    patches: int
    context: int
    targets: int
    target: int

    @property
    def all(self) -> int:
        """Of the map and of the image."""
        return self.entities + self.patches


def usual_tokens(config: GeoJEPAConfig, *, patches: int) -> Tokens:
    """Of a tile with as many entities as the data have on average, for masks as they are drawn on average."""
    m, known = config.masks, odds(config.masks)
    target = {"random": m.random_share, "area": m.area_share, "contiguous": m.contiguous_share, "modality": 0.5}
    least = {"random": m.random_context, "area": m.least_context, "contiguous": m.least_context, "modality": 0.5}
    context = {kind: max(least[kind], (1 - target[kind]) ** m.targets) for kind in known}
    count = min(config.entities_per_tile, config.max_entities) + patches
    shares = [sum(chance * of[kind] for kind, chance in known.items()) for of in (context, target)]
    return Tokens(
        entities=count - patches,
        patches=patches,
        context=max(1, round(shares[0] * count)),
        targets=m.targets,
        target=max(1, round(shares[1] * count)),
    )


def step_flops(config: GeoJEPAConfig, tokens: Tokens, *, image_width: int = 0) -> int:
    """Operations forward and backward, without the image encoder's.

    Args:
        config: of the model.
        tokens: of the tile.
        image_width: of an image's tokens before they are projected.
    """
    c, p = config, config.predictor
    encoder = c.depth * block_flops(tokens.context + c.registers, c.dim)
    teacher = c.depth * block_flops(tokens.all + c.registers, c.dim)
    together = tokens.context + tokens.target + p.registers
    wanted = tokens.targets * tokens.target
    predictor = tokens.targets * p.depth * block_flops(together, p.dim) + linear_flops(wanted, p.dim, c.dim)
    narrowed = 2 * tokens.context + wanted
    predictor += (
        linear_flops(narrowed, c.dim, p.dim) if p.projector == "linear" else _mlp(narrowed, c.dim, 4 * p.dim, p.dim)
    )
    spread = linear_flops(tokens.context + wanted, c.dim, c.dim)
    return teacher + 3 * (encoder + predictor + spread) + _embedding(c, tokens, image_width)


def _embedding(config: GeoJEPAConfig, tokens: Tokens, image_width: int) -> int:
    """Of projections, fusion and codes; what they read is data, and needs no gradient, but for an image encoder that trains."""
    c, dim = config, config.dim
    tags = linear_flops(tokens.entities, c.tags.dim, dim)
    shapes = linear_flops(tokens.entities, c.geometry.dim, dim) if c.reads_geometry else 0
    image = linear_flops(tokens.patches, image_width, dim) * (2 if c.image.frozen else 3)
    codes = linear_flops(tokens.all, BOX_NUMBERS, 4 * dim) + linear_flops(tokens.all, len(MODALITIES), 4 * dim)
    inner = 2 * linear_flops(tokens.all, 4 * dim, dim) + _mlp(tokens.all + tokens.entities, 2 * dim, 2 * dim, dim)
    return 2 * (tags + shapes + codes) + image + 3 * inner


def _mlp(rows: int, inputs: int, hidden: int, outputs: int) -> int:
    return linear_flops(rows, inputs, hidden) + linear_flops(rows, hidden, outputs)
