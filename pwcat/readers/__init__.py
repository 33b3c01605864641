"""Pixels of a scene's chips, by one of two readers that give the same bytes.

:class:`~pwcat.readers.tiles.Tiles` fetches each tile of a scene's files once; :class:`~pwcat.readers.stackstac.Stackstac` reads
whatever GDAL reads.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pwcat.providers import OpenSource
from pwcat.readers.headers import UnsuitedError
from pwcat.readers.stackstac import Stackstac
from pwcat.readers.tiles import Tiles
from pwcat.recipe import Chip
from pwcat.scenes import Scene

__all__ = ["Reader", "ReaderName", "read_chips"]

log = logging.getLogger(__name__)

ReaderName = Literal["auto", "tiles", "stackstac"]


class Reader(Protocol):
    """Reads chips from the files of a scene."""

    def read(
        self, scene: Scene, corners: Sequence[tuple[float, float]], *, chip: Chip, source: OpenSource, threads: int
    ) -> NDArray[np.uint16]:
        """Chips of one scene, ``(n, band, y, x)``; see :func:`read_chips`."""
        ...


def read_chips(
    scene: Scene,
    corners: Sequence[tuple[float, float]],
    *,
    chip: Chip,
    source: OpenSource,
    threads: int,
    reader: ReaderName = "auto",
) -> NDArray[np.uint16]:
    """Chips of one scene as stored there, ``(n, band, y, x)``; pixels outside the scene's data are 0.

    Args:
        scene: where from.
        corners: easting and northing of each chip's upper-left corner, on the scene's pixel grid.
        chip: size, resolution, bands, resampling of coarser bands.
        source: signs the hrefs.
        threads: reads at a time, of the reader that uses GDAL.
        reader: ``tiles`` or ``stackstac``; ``auto`` takes tiles where they can read every asset of the bands.

    Raises:
        DamagedError: tiles are damaged, asked for twice; says which chips touch them.
        ForbiddenError: a server refuses an asset.
        RuntimeError: an asset cannot be opened or read; the message holds its address, unsigned.
    """
    if reader != "stackstac":
        try:
            return Tiles().read(scene, corners, chip=chip, source=source, threads=threads)
        except UnsuitedError as exc:
            if reader == "tiles":
                raise RuntimeError(f"the tile reader cannot read {exc}; read it with stackstac") from exc
            log.debug("read with stackstac: %s", exc)
    return Stackstac().read(scene, corners, chip=chip, source=source, threads=threads)
