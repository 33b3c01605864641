"""The offset by metadata, and by pixels, on real tiles: with it and without, as they are and as they would be."""

from __future__ import annotations

import re

import numpy as np
import pytest
import rasterio

from pwcat.pixels.harmonise import OFFSET, boa_offset, check_offset

BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
WITH_OFFSET = {"57755", "766272"}
DESERT, ICE, SEA, SHADE = "759128", "25630", "752389", "286743"


@pytest.fixture(scope="module")
def tiles(kit):
    """Numbers of twelve tiles, ``(1, band, y, x)``, by their numbers."""
    found = {}
    for path in sorted((kit / "s2_satclip").glob("*.tif")):
        with rasterio.open(path) as raster:
            found[path.stem.rsplit("_", 1)[-1]] = raster.read()[np.newaxis]
    assert len(found) == 12
    return found


def without(dn):
    """The same where the offset was taken away."""
    return np.maximum(dn.astype(np.int32) - OFFSET, 1).astype(np.uint16)


def having(dn):
    """The same as a product of baseline 04.00 has it."""
    return np.where(dn > 0, dn + OFFSET, 0).astype(np.uint16)


@pytest.mark.kit
def test_every_tile_is_told_rightly_or_not_at_all(tiles):
    found, other = {}, {}
    for name, dn in tiles.items():
        carries = name in WITH_OFFSET
        found[name] = check_offset(dn, bands=BANDS, expected_offset=OFFSET if carries else 0)
        turned = check_offset(without(dn) if carries else having(dn), bands=BANDS, expected_offset=OFFSET * carries)
        assert not found[name].suspect, name
        assert turned.found in ("unknown", "absent" if carries else "present"), name
        assert turned.suspect == (turned.found != "unknown")
        other[name] = turned.found
    assert {name for name, check in found.items() if check.found == "unknown"} == {DESERT}
    # what has no plants and nothing dark with the offset on top cannot be told
    assert {name for name, what in other.items() if what == "unknown"} == {DESERT, ICE, SEA, "33188"}


@pytest.mark.kit
def test_the_thresholds_stand_well_apart_from_all_tiles(tiles):
    dark, plants = {False: [], True: []}, {False: [], True: []}
    for name, dn in tiles.items():
        for carries in (False, True):
            turned = dn if carries == (name in WITH_OFFSET) else having(dn) if carries else without(dn)
            check = check_offset(turned, bands=BANDS, expected_offset=0)
            if name != DESERT:
                dark[carries].append(check.dark)
            plants[carries].append(check.plants)
    assert max(dark[False]) <= 460
    assert min(dark[True]) >= 1000
    assert np.nanmax(plants[False]) <= 620
    assert np.nanmin(plants[True]) >= 1030


@pytest.mark.kit
def test_over_snow_only_the_short_wave_infrared_tells(tiles):
    visible = tiles[ICE][:, 1:4]
    assert check_offset(visible, bands=BANDS[1:4], expected_offset=OFFSET).found == "unknown"
    lies = check_offset(tiles[ICE], bands=BANDS, expected_offset=OFFSET)
    assert lies.suspect
    assert str(lies) == "metadata says an offset of 1000; pixels as dark as 172 have none"


def test_no_data_and_too_few_pixels_tell_nothing():
    dn = np.zeros((3, 2, 32, 32), dtype=np.uint16)
    dn[0, :, :10, :10] = 300
    check = check_offset(dn, bands=["B04", "B08"], expected_offset=OFFSET)
    assert check.found == "unknown"
    assert np.isnan(check.dark)
    dn[:2] = 300
    assert check_offset(dn, bands=["B04", "B08"], expected_offset=OFFSET).suspect
    with pytest.raises(ValueError, match=r"dn is \(3, 2, 32, 32\), needs \(n, 1, y, x\)"):
        check_offset(dn, bands=["B04"], expected_offset=0)


@pytest.mark.kit
def test_the_rule_is_that_of_real_products(kit):
    folders = sorted((kit / "stac" / "s2_safe_metadata").glob("*.SAFE"))
    rules = {}
    for folder in folders:
        text = (folder / "MTD_MSIL2A.xml").read_text()
        baseline = re.search(r"<PROCESSING_BASELINE>([\d.]+)</", text).group(1)
        said = {int(value) for value in re.findall(r"<BOA_ADD_OFFSET[^>]*>(-?\d+)<", text)}
        rules[baseline] = said
        expected = -said.pop() if said else 0
        assert boa_offset({"s2:processing_baseline": baseline}, baseline="s2:processing_baseline") == expected
        assert boa_offset({"processing:version": baseline}, baseline="processing:version") == expected
    assert sorted(rules) == ["02.14", "04.00"]
