"""Worlds to draw from: one without regions, and one of two continents with a scene in one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely

from pwcat.regions import Regions, VectorLayer
from pwcat.samplers.world import World


@pytest.fixture
def anywhere(tmp_path: Path) -> World:
    return World(regions=Regions(), footprints=[], base_dir=tmp_path, chip_km=0.96)


@pytest.fixture(scope="session")
def two_continents(tmp_path_factory) -> World:
    continent = VectorLayer(
        name="continent",
        source="boxes",
        class_of=np.array(["Europe", "Antarctica"], dtype=object),
        polygons=np.array([shapely.box(0, 40, 20, 60), shapely.box(0, -80, 90, -70)], dtype=object),
    )
    return World(
        regions=Regions(layers={"continent": continent}),
        footprints=[shapely.box(5, 45, 10, 50), shapely.box(9, 49, 15, 55), shapely.box(5, 45, 10, 50)],
        base_dir=tmp_path_factory.mktemp("two-continents"),
        chip_km=0.96,
    )
