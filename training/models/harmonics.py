"""Real spherical harmonics of places on Earth, in the basis that SatCLIP's released weights were trained on.

That basis is not the textbook's: the harmonics of order m = 0 are pi times as large, and there is no Condon-Shortley sign.
Weights trained on the one give wrong embeddings with the other. The facts were checked against constants in public copies of
the released code; the polynomials here come from recurrences instead, which hold to a few units of rounding where expanded
polynomials of degree 39 lose most digits near the poles.

Shapes: N places, L degrees (l = 0 to L - 1), M = L orders (m = 0 to L - 1). Columns of the basis go by l, and within l by
m = -l to l: L * L of them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["Harmonics", "spherical_harmonics"]

ZONAL = math.pi  # factor of the harmonics of order 0 in the released basis; 1 in the textbook's


class Harmonics(nn.Module):
    """The basis functions of degrees below ``degrees``, as a module that moves with its model and has no weights.

    Args:
        degrees: L; the released models have 10 or 40. Sound up to about 1,900, where the smallest of the starting values
            underflow while their descendants count (Holmes and Featherstone, 2002).
        zonal: factor of the harmonics of order 0.
    """

    _along: Tensor
    _back: Tensor
    _sectoral: Tensor
    _orders: Tensor

    def __init__(self, degrees: int, *, zonal: float = ZONAL) -> None:
        super().__init__()
        self.degrees, self.zonal = degrees, zonal
        along_LM, back_LM = _recurrence(degrees)
        self.register_buffer("_along", along_LM.unsqueeze(-1), persistent=False)
        self.register_buffer("_back", back_LM.unsqueeze(-1), persistent=False)
        self.register_buffer("_sectoral", _sectoral(degrees).unsqueeze(-1), persistent=False)
        self.register_buffer("_orders", torch.arange(degrees, dtype=torch.float64).unsqueeze(-1), persistent=False)

    @property
    def width(self) -> int:
        """Basis functions, L * L."""
        return self.degrees**2

    def forward(self, lonlat_N2: Tensor) -> Tensor:
        """Values of the basis, (N, L * L) float64.

        Args:
            lonlat_N2: longitude and latitude in degrees, EPSG:4326.

        Source: the fully normalised column recurrence of Holmes and Featherstone (2002), "A unified approach to the Clenshaw
        summation and the recursive computation of very high degree and order normalised associated Legendre functions",
        equations 11 to 13; nothing in it divides by the sine of the colatitude, so that it is finite at the poles.
        """
        # in columns of places, so that every operation runs along memory; written in place, which halves the time
        out_KN = lonlat_N2.new_empty((self.width, len(lonlat_N2)), dtype=torch.float64)
        phi_N, latitude_N = torch.deg2rad(lonlat_N2.to(torch.float64)).unbind(1)
        # theta = latitude + 90 degrees, as released: counted from the south pole; phi from the antimeridian
        cos_N, sin_N = -torch.sin(latitude_N), torch.cos(latitude_N)
        angles_MN = self._orders * (phi_N + math.pi)
        turns_MN, shifts_MN = angles_MN.cos(), angles_MN.sin()
        sectoral_MN = self._sectoral * sin_N**self._orders
        p_MN = before_MN = self.zonal * sectoral_MN[:1]
        out_KN[0] = p_MN[0]
        for degree in range(1, self.degrees):
            p_MN, before_MN = self._next(degree, p_MN, before_MN, cos_N, sectoral_MN), p_MN
            zonal = degree * (degree + 1)  # the column of order 0
            out_KN[zonal] = p_MN[0]
            torch.mul(p_MN[1:], turns_MN[1 : degree + 1], out=out_KN[zonal + 1 : zonal + degree + 1])
            out_KN[zonal - degree : zonal] = (p_MN[1:] * shifts_MN[1 : degree + 1]).flip(0)
        return out_KN.T

    def _next(self, degree: int, p_MN: Tensor, before_MN: Tensor, cos_N: Tensor, sectoral_MN: Tensor) -> Tensor:
        """Legendre functions of a degree, orders 0 to the degree, from those of the two degrees before."""
        next_MN = p_MN.new_empty((degree + 1, p_MN.shape[1]))
        torch.mul(p_MN, cos_N, out=next_MN[:degree])
        next_MN[:degree] *= self._along[degree, :degree]
        if degree > 1:
            next_MN[: degree - 1].addcmul_(self._back[degree, : degree - 1], before_MN, value=-1)
        next_MN[degree] = sectoral_MN[degree]
        return next_MN


def spherical_harmonics(lonlat_N2: Tensor, *, degrees: int, zonal: float = ZONAL) -> Tensor:
    """Values of the basis at places, (N, degrees * degrees) float64; see :class:`Harmonics`, which keeps its constants.

    Args:
        lonlat_N2: longitude and latitude in degrees, EPSG:4326.
        degrees: L, degrees 0 to L - 1.
        zonal: factor of the harmonics of order 0: pi in the released basis, 1 for an orthonormal one.
    """
    values: Tensor = Harmonics(degrees, zonal=zonal).to(lonlat_N2.device)(lonlat_N2)
    return values


def _recurrence(degrees: int) -> tuple[Tensor, Tensor]:
    """Factors (L, M) of the two degrees before: ``p[l, m] = along[l, m] cos p[l-1, m] - back[l, m] p[l-2, m]``."""
    l_L1 = torch.arange(degrees, dtype=torch.float64).unsqueeze(1)
    m_M = torch.arange(degrees, dtype=torch.float64)
    below = m_M < l_L1
    along_LM = torch.where(below, (4 * l_L1**2 - 1) / (l_L1**2 - m_M**2), 0.0)
    back_LM = torch.where(below, ((l_L1 - 1) ** 2 - m_M**2) / (4 * (l_L1 - 1) ** 2 - 1), 0.0).clamp_min(0.0)
    return along_LM.sqrt(), (along_LM * back_LM).sqrt()


def _sectoral(degrees: int) -> Tensor:
    """Factors (M,) of the powers of the sine: normalised, with the square root of two that real harmonics have."""
    m_M = torch.arange(1, degrees, dtype=torch.float64)
    steps_M = ((2 * m_M + 1) / (2 * m_M)).sqrt().cumprod(0) * math.sqrt(2)
    return torch.cat([torch.ones(1, dtype=torch.float64), steps_M]) / math.sqrt(4 * math.pi)
