"""The contrastive loss of CLIP, over all ranks' samples.

Shapes: B own samples of this rank, N samples of the global batch, E width of embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.looping.distributed import gather_with_grad

__all__ = ["contrastive_losses"]


def contrastive_losses(
    images_BE: Tensor, places_BE: Tensor, *, scale: Tensor, own_B: Tensor, lonlat_B2: Tensor, num_rows: int
) -> Tensor:
    """The loss of each own sample, (B,) float32: its image among all places and its place among all images, averaged.

    Each is the cross-entropy of ``scale * cosine similarity`` over the global batch, with the sample's own partner as the
    truth. Source: Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision", figure 3.

    Samples of the very same place are not told apart: as each other's negatives they would ask for what cannot be. They are
    left out of each other's sums. The released code does not look; in its data, no place comes twice.

    Args:
        images_BE: embeddings of the own images, of any length.
        places_BE: embeddings of their places.
        scale: inverse temperature, a scalar.
        own_B: which rows of the global batch the own ones are.
        lonlat_B2: the own places, before they were moved at random.
        num_rows: of the global batch, N.
    """
    with torch.autocast(images_BE.device.type, enabled=False):  # similarities times up to 100: eight bits are too few
        images_BE, places_BE = (functional.normalize(x.float(), dim=1) for x in (images_BE, places_BE))
        images_NE, places_NE = (gather_with_grad(x, total=num_rows) for x in (images_BE, places_BE))
        apart_BN = _apart(lonlat_B2, gather_with_grad(lonlat_B2, total=num_rows), own_B)
        of_images_BN = (scale * images_BE @ places_NE.T).masked_fill(~apart_BN, -torch.inf)
        of_places_BN = (scale * places_BE @ images_NE.T).masked_fill(~apart_BN, -torch.inf)
        losses = [
            functional.cross_entropy(logits_BN, own_B, reduction="none") for logits_BN in (of_images_BN, of_places_BN)
        ]
        return (losses[0] + losses[1]) / 2


def _apart(lonlat_B2: Tensor, lonlat_N2: Tensor, own_B: Tensor) -> Tensor:
    """Whether a row of the global batch is another place, or the sample itself, (B, N)."""
    other_BN = (lonlat_B2.unsqueeze(1) != lonlat_N2).any(dim=-1)
    itself_BN = own_B.unsqueeze(1) == torch.arange(len(lonlat_N2), device=own_B.device)
    return other_BN | itself_BN
