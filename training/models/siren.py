"""Sinusoidal networks (SIREN), as SatCLIP's location encoder uses one.

After Sitzmann et al. (2020), "Implicit Neural Representations with Periodic Activation Functions". Names of parameters are
those of the released weights, so that these load by name.

Shapes: N places, K inputs, H hidden width, J hidden layers, E outputs.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["Siren", "unpack_bits"]

W0_FIRST, W0 = 30.0, 1.0  # of the released models: frequency of the first sine, and of the others
WORD = 32  # bits of a draw


class Siren(nn.Module):
    """Hidden layers with sines, then a linear one, all in double precision, as released.

    Args:
        inputs: K.
        hidden: H.
        layers: J.
        outputs: E.
    """

    def __init__(self, inputs: int, *, hidden: int, layers: int, outputs: int) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * layers]
        self.layers = nn.ModuleList(_linear(a, hidden, first=number == 0) for number, a in enumerate(widths[:-1]))
        self.last_layer = _linear(widths[-1], outputs, first=False)

    def forward(self, x_NK: Tensor, keep_NJH: Tensor | None = None) -> Tensor:
        """Outputs, (N, E) float64.

        Args:
            x_NK: inputs, float64.
            keep_NJH: true where a hidden unit is kept, one half of them: dropout as released, before the sine. Kept ones are
                doubled, dropped ones become sin(0) = 0. All are kept, as they are, where it is ``None``.
        """
        for number, layer in enumerate(self.layers):
            x_NH = layer(x_NK)
            if keep_NJH is not None:
                x_NH = x_NH * (keep_NJH[:, number] * 2)
            x_NK = torch.sin((W0_FIRST if number == 0 else W0) * x_NH)
        return cast(Tensor, self.last_layer(x_NK))


def unpack_bits(words_NJW: Tensor, *, width: int) -> Tensor:
    """The lowest 32 bits of each of W integers in a row, cut to ``width``: (N, J, width) bool."""
    places = torch.arange(WORD, device=words_NJW.device)
    bits_NJW32 = (words_NJW.unsqueeze(-1) >> places) & 1
    return bits_NJW32.flatten(-2)[..., :width].bool()


def _linear(inputs: int, outputs: int, *, first: bool) -> nn.Linear:
    """A layer with SIREN's start: such that inputs of the following sines keep one distribution through the depth.

    Source: Sitzmann et al. (2020), section 3.2 and supplement 1.5; the bias starts like the weights, as in the released code.
    """
    layer = nn.Linear(inputs, outputs, dtype=torch.float64)
    bound = 1 / inputs if first else math.sqrt(6 / inputs) / W0
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.uniform_(layer.bias, -bound, bound)
    return layer
