"""Operations of models by arithmetic: matrix products alone, 2 for a multiply-add, as torch's ``FlopCounterMode`` counts.

What is not counted is elementwise work, norms, softmax and gathers, and products that a fused kernel does a second time in
place of keeping them: these are the model's operations, by which its utilisation of a device is told (MFU, in the sense of
Chowdhery et al., 2022, "PaLM", appendix B), not those of one implementation.

Symbols: L tokens of a sample, D width.
"""

from __future__ import annotations

__all__ = ["attention_flops", "block_flops", "linear_flops", "training_flops"]


def linear_flops(rows: int, inputs: int, outputs: int) -> int:
    """Operations of a linear layer on so many rows (tokens, patches); a convolution by patches is one over their pixels."""
    return 2 * rows * inputs * outputs


def attention_flops(length: int, dim: int) -> int:
    """Operations of queries times keys and of weights times values, L × L × D each, over all heads together."""
    return 2 * 2 * length * length * dim


def block_flops(length: int, dim: int, *, mlp_ratio: float = 4.0) -> int:
    """Operations of a transformer block on L tokens: queries, keys, values, attention, its output, and two of the MLP."""
    hidden = int(dim * mlp_ratio)
    return (
        linear_flops(length, dim, 3 * dim)
        + attention_flops(length, dim)
        + linear_flops(length, dim, dim)
        + 2 * linear_flops(length, dim, hidden)
    )


def training_flops(forward: int, *, first: int = 0) -> int:
    """Operations of a forward and a backward pass: each product has two more, the gradients of both of its factors.

    Args:
        forward: operations of the forward pass, all trained.
        first: those of them whose input is data, which needs no gradient, so that one product is spared.
    """
    return 3 * forward - first
