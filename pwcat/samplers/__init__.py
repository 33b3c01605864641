"""Strategies of choosing places. Each is one file: what a recipe may say of it, and the strata it comes down to.

A new one is a :class:`~pwcat.samplers.strata.SamplerDocument` and one more name in ``_Plain``.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from pwcat.samplers.clustered import Clustered
from pwcat.samplers.grid import Grid
from pwcat.samplers.mixture import Mixture, Part
from pwcat.samplers.one_hot import OneHot
from pwcat.samplers.points import Points
from pwcat.samplers.spectral import Spectral
from pwcat.samplers.strata import Candidates, Domain, SamplerDocument, Stratum, apportion
from pwcat.samplers.stratified import Stratified
from pwcat.samplers.uniform import Uniform

__all__ = [
    "STRATEGIES",
    "AnySampler",
    "Candidates",
    "Domain",
    "PlainSampler",
    "SamplerDocument",
    "Spectral",
    "Stratum",
    "apportion",
]

_Plain = Uniform | OneHot | Stratified | Mixture | Clustered | Grid | Points

# What can be a part of another, and all of them.
PlainSampler = Annotated[_Plain, Field(discriminator="strategy")]
AnySampler = Annotated[_Plain | Spectral, Field(discriminator="strategy")]

for document in (Part, Mixture, Spectral):  # they hold samplers themselves
    document.model_rebuild(_types_namespace={"PlainSampler": PlainSampler})

# name: document
STRATEGIES: dict[str, type[SamplerDocument]] = {
    get_args(document.model_fields["strategy"].annotation)[0]: document
    for document in get_args(get_args(AnySampler)[0])
}
