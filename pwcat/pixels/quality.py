"""What a chip's pixels are, by the scene's quality band; and whether a scene's pixels carry the offset that it states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pwcat.pixels.harmonise import OffsetCheck, check_offset
from pwcat.providers import Bits, Classes, OpenSource
from pwcat.readers import ReaderName, read_chips
from pwcat.recipe import Chip
from pwcat.scenes import Scene

__all__ = ["clear_pixels", "offset_check", "read_quality", "unusable"]


def read_quality(
    scene: Scene,
    corners: Sequence[tuple[float, float]],
    *,
    chip: Chip,
    source: OpenSource,
    threads: int,
    reader: ReaderName = "auto",
) -> NDArray[np.uint16]:
    """The quality band on the grid of chips, ``(n, y, x)``, by nearest; 0 outside the scene's data.

    Raises:
        ForbiddenError: a server refuses it.
        RuntimeError: it cannot be read.
        SourceError: the scene has none.
    """
    band = source.quality_asset(scene.item["assets"])
    like = Chip(size_px=chip.size_px, resolution_m=chip.resolution_m, bands=[band])
    return read_chips(scene, corners, chip=like, source=source, threads=threads, reader=reader)[:, 0]


def unusable(quality: NDArray[np.uint16], rule: Classes | Bits) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of each chip's pixels that are cloud, shadow or no data, and that are no data alone, ``(n,)`` each, ``[0, 1]``.

    Args:
        quality: ``(n, y, x)`` of :func:`read_quality`.
        rule: what its values mean.
    """
    no_data = _any_of(quality, rule, rule.nodata) | (quality == 0)  # outside the scene's data, whatever 0 means in it
    hidden = _any_of(quality, rule, (*rule.cloud, *rule.shadow))
    return (no_data | hidden).mean(axis=(1, 2)), no_data.mean(axis=(1, 2))


def clear_pixels(quality: NDArray[np.uint16], rule: Classes | Bits) -> NDArray[np.bool_]:
    """Which pixels are neither cloud nor shadow nor without data, ``(n, y, x)``; arguments as of :func:`unusable`."""
    unclear = _any_of(quality, rule, (*rule.nodata, *rule.cloud, *rule.shadow))
    return np.asarray(~unclear & (quality != 0))


def _any_of(quality: NDArray[np.uint16], rule: Classes | Bits, meant: Sequence[int]) -> NDArray[np.bool_]:
    if isinstance(rule, Classes):
        return np.isin(quality, meant)
    mask = np.uint16(sum(1 << bit for bit in meant))
    return (quality & mask) != 0


def offset_check(dn: NDArray[np.uint16], scene: Scene, *, chip: Chip, source: OpenSource) -> OffsetCheck | None:
    """Whether pixels of a scene carry the offset that it states; ``None`` where there is no such thing as an offset.

    Args:
        dn: ``(n, band, y, x)`` as stored, chips of the scene.
        scene: what is stated.
        chip: whose bands they are.
        source: of the scene.
    """
    rule, properties = source.record.offset, scene.item["properties"]
    if rule is None or not (rule.baseline in properties or properties.get("constellation") == "sentinel-2"):
        return None
    known = [source.record.band(band) for band in chip.bands]
    names = [band if record is None else record.name for band, record in zip(chip.bands, known, strict=True)]
    return check_offset(dn, bands=names, expected_offset=source.boa_offset(properties))
