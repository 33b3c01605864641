"""Landscapes and scenes before they are written: fractals, patches, seasons, offset, clouds."""

from __future__ import annotations

import numpy as np
import pytest

from pwcat.archive import world
from pwcat.archive.landscape import character_of, draw_landscape, fractal_field, smallest_fast_length
from pwcat.archive.scene import CLOUD_CLASSES, Scene, Weather, render_scene
from pwcat.archive.spectra import BANDS, COVER_INDEX, COVERS, greenness_at, season_wave, snow_at, spectra_of

CLEAR = Weather(cloud=0.0, snow=0.0, haze=0.0, light=1.0, strip=None)


def render(
    *, continent="Europe", biome=world.BROADLEAF, lat=50.0, day=200, weather=CLEAR, offset=0, size_px=120, seed=1
) -> tuple[Scene, np.ndarray]:
    rng = np.random.default_rng(seed)
    landscape = draw_landscape(rng, size_px=-(-size_px // 6) * 6, biome=biome, character=character_of(continent))
    scene = render_scene(
        rng,
        landscape=landscape,
        spectra=spectra_of(continent=continent, biome=biome),
        green=greenness_at(biome=biome, lat=lat, day_of_year=day),
        weather=weather,
        size_px=size_px,
        offset=offset,
    )
    return scene, landscape.cover[:size_px, :size_px]


def ndvi(scene: Scene) -> np.ndarray:
    red, infrared = scene.bands["B04"].astype(float), scene.bands["B08"].astype(float)
    return (infrared - red) / (infrared + red)


@pytest.mark.parametrize("beta", [1.0, 2.0, 3.0])
def test_fractal_fields_have_the_spectrum_they_are_asked_for(beta: float):
    rng = np.random.default_rng(0)
    n = 256
    rows = np.concatenate([fractal_field(rng, size_px=n, beta=beta) for _ in range(8)])
    power = (np.abs(np.fft.rfft(rows, axis=1)) ** 2).mean(0)
    frequency = np.arange(4, n // 4)  # of a profile: away from the ends, where the grid shows
    slope = np.polyfit(np.log(frequency), np.log(power[4 : n // 4]), 1)[0]
    assert -slope == pytest.approx(beta, abs=0.25)


def test_fast_lengths_have_small_factors_only():
    assert [smallest_fast_length(n) for n in (96, 97, 516, 512, 7)] == [96, 100, 540, 512, 8]


def edge_density(cover: np.ndarray) -> float:
    """Share of neighbours along x and y of another land cover: the patchiness of a map."""
    return float(((cover[1:] != cover[:-1]).mean() + (cover[:, 1:] != cover[:, :-1]).mean()) / 2)


def test_patchiness_and_land_cover_differ_by_continent():
    density, farmed, richness = {}, {}, {}
    for continent in world.CONTINENTS:
        rng = np.random.default_rng(0)
        lands = [
            draw_landscape(rng, size_px=240, biome=world.BROADLEAF, character=character_of(continent)) for _ in range(6)
        ]
        density[continent] = np.mean([edge_density(land.cover) for land in lands])
        farmed[continent] = np.mean([(land.cover == COVER_INDEX["cropland"]).mean() for land in lands])
        richness[continent] = np.mean([land.hue.std() for land in lands])
    assert density["Europe"] > 1.5 * density["South America"] > 1.5 * density["Oceania"]
    assert density["Asia"] > density["North America"] > density["Oceania"]
    assert farmed["Europe"] > 1.5 * farmed["Oceania"]
    assert richness["Europe"] > 2 * richness["Oceania"]


@pytest.mark.parametrize("biome", world.BIOMES)
def test_every_biome_has_land_cover_of_its_kind(biome: str):
    rng = np.random.default_rng(3)
    cover = draw_landscape(rng, size_px=120, biome=biome, character=character_of("Africa")).cover
    kinds = {COVERS[i].name for i in np.unique(cover)}
    assert len(kinds) >= 3
    assert ("mangroves" in kinds) == (biome == world.MANGROVE)
    assert ("moss_lichen" in kinds) == (biome == world.TUNDRA)


@pytest.mark.parametrize("biome", [world.BROADLEAF, world.STEPPE, world.SAVANNA])
def test_ndvi_follows_the_season_of_the_hemisphere(biome: str):
    peak = max(range(1, 366), key=lambda day: season_wave(biome=biome, lat=40, day_of_year=day))
    low = (peak + 182) % 365
    means = {
        (lat, day): np.mean([ndvi(scene)[np.isin(cover, [0, 2, 3])].mean()])
        for lat in (40.0, -40.0)
        for day in (peak, low)
        for scene, cover in [render(biome=biome, lat=lat, day=day)]
    }
    assert means[40.0, peak] > means[40.0, low] + 0.15
    assert means[-40.0, low] > means[-40.0, peak] + 0.15


def test_the_offset_is_added_to_valid_pixels_and_to_nothing_else():
    corner = Weather(cloud=0.2, snow=0.0, haze=50.0, light=1.0, strip=(0.8, 0.6, 1.1))
    (old, _), (new, _) = (render(weather=corner, offset=offset) for offset in (0, 1000))
    for name in BANDS:
        valid = old.bands[name] > 0
        np.testing.assert_array_equal(new.bands[name], np.where(valid, old.bands[name] + 1000, 0))
    assert (old.bands["B02"] == 0).any()
    assert old.footprint.area == pytest.approx(1 - old.nodata_percentage / 100, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.8])
def test_cloud_cover_is_that_of_the_mask_and_clouds_are_bright(share: float):
    weather = Weather(cloud=share, snow=0.0, haze=0.0, light=1.0, strip=None)
    scene, _ = render(weather=weather, size_px=240)
    clouds = np.isin(scene.scl, CLOUD_CLASSES)
    assert scene.cloud_cover == pytest.approx(100 * clouds.mean(), abs=1e-5)
    assert scene.cloud_cover == pytest.approx(100 * share, abs=0.1)
    if share:
        thick = np.repeat(np.repeat(scene.scl == 9, 2, 0), 2, 1)
        clear = np.repeat(np.repeat(np.isin(scene.scl, (4, 5, 6)), 2, 0), 2, 1)
        assert np.median(scene.bands["B02"][thick]) > 4 * np.median(scene.bands["B02"][clear])


@pytest.mark.parametrize("size_px", [96, 100, 512])
def test_bands_come_at_their_own_sampling(size_px: int):
    scene, _ = render(size_px=size_px)
    for band in BANDS.values():
        side = -(-size_px * 10 // band.gsd_m)
        assert scene.bands[band.name].shape == (side, side)
        assert scene.bands[band.name].dtype == np.uint16


def test_snow_lies_in_cold_winters_only():
    assert snow_at(biome=world.BOREAL, lat=62, day_of_year=20) > 0.5
    assert snow_at(biome=world.BOREAL, lat=62, day_of_year=200) == 0
    assert snow_at(biome=world.MOIST, lat=-3, day_of_year=20) == 0
    snowy = Weather(cloud=0.0, snow=0.7, haze=0.0, light=1.0, strip=None)
    scene, _ = render(biome=world.TUNDRA, lat=68, day=110, weather=snowy)
    assert (scene.scl == 11).mean() > 0.3
