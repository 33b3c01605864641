"""The synthetic archive on disk: COGs, offsets, clouds, footprints, same bytes, and going on after an interruption."""

from __future__ import annotations

import hashlib
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
import shapely
from rasterio.transform import xy
from rasterio.warp import transform as transform_points
from rio_cogeo.cogeo import cog_validate

from pwcat.archive import SynthOptions, synthesise_archive
from pwcat.archive.folder import read_items
from pwcat.archive.spectra import BANDS, COVERS
from pwcat.archive.world import BIOMES, CONTINENTS
from pwcat.errors import ArchiveError

SCENES, TEST, LANDCOVER = "s2-l2a-synthetic", "s2-l2a-synthetic-test", "landcover-synthetic"
TINY = SynthOptions(places=1, test_places=0, dates=1, size_px=96)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(archive: Path, item: dict, key: str) -> np.ndarray:
    with rasterio.open(archive / item["collection"] / item["id"] / item["assets"][key]["href"]) as raster:
        return raster.read(1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    synthesise_archive(folder, options=TINY)
    return folder


def test_same_options_same_bytes_and_another_seed_others(tiny: Path, tmp_path: Path):
    synthesise_archive(tmp_path / "again", options=TINY)
    assert digest(tmp_path / "again") == digest(tiny)
    synthesise_archive(tmp_path / "other", options=SynthOptions(seed=1, places=1, test_places=0, dates=1, size_px=96))
    assert not set(digest(tmp_path / "other").values()) & {v for k, v in digest(tiny).items() if k.endswith("B02.tif")}


def test_what_is_missing_is_made_again_to_the_same_bytes(tmp_path: Path):
    synthesise_archive(tmp_path, options=TINY)
    before = digest(tmp_path)
    items = sorted((tmp_path / SCENES).glob("*/*.json"))
    items[0].unlink()
    (items[1].parent / "B05.tif").unlink()
    (tmp_path / "regions/biome.fgb").unlink()
    (tmp_path / "catalog.json").unlink()
    synthesise_archive(tmp_path, options=TINY)
    assert digest(tmp_path) == before


def test_an_interrupted_archive_is_completed_to_the_same_bytes(tiny: Path, tmp_path: Path):
    def interrupt(done: int, total: int) -> None:
        assert (done, total) == (1, 6)
        raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        synthesise_archive(tmp_path, options=TINY, progress=interrupt)
    assert not (tmp_path / "catalog.json").exists()
    seen: list[tuple[int, int]] = []
    synthesise_archive(tmp_path, options=TINY, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]
    assert digest(tmp_path) == digest(tiny)


def test_a_folder_of_other_options_is_refused(tiny: Path):
    with pytest.raises(ArchiveError, match=r"made with other options: seed 0 \(asked: 5\)"):
        synthesise_archive(tiny, options=SynthOptions(seed=5, places=1, test_places=0, dates=1, size_px=96))


def test_impossible_options_are_all_listed():
    with pytest.raises(ArchiveError, match=r"places is 0, allowed is 1 to 40; .*size_px is 8, allowed is 96 to 5490"):
        SynthOptions(places=0, size_px=8)


def test_collections_hold_what_was_asked_and_test_places_are_apart(archive_dir: Path):
    counts = {name: len(read_items(archive_dir, name)) for name in (SCENES, TEST, LANDCOVER)}
    assert counts == {SCENES: 24, TEST: 12, LANDCOVER: 18}
    train, test, maps = (
        {item["properties"]["pwcat:place"] for item in read_items(archive_dir, name)}
        for name in (SCENES, TEST, LANDCOVER)
    )
    assert not train & test
    assert maps == train | test


def test_every_asset_is_a_valid_cog_on_a_grid_of_60_m(archive_dir: Path):
    for item in [*read_items(archive_dir, SCENES)[:2], *read_items(archive_dir, LANDCOVER)[:1]]:
        for key, asset in item["assets"].items():
            path = archive_dir / item["collection"] / item["id"] / asset["href"]
            valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
            assert valid, (path, errors, warnings)
            with rasterio.open(path) as raster:
                assert raster.crs.to_string() == asset["proj:code"]
                assert list(raster.shape) == asset["proj:shape"]
                assert list(raster.transform)[:6] == asset["proj:transform"]
                assert raster.nodata == 0
                assert raster.compression.name == "deflate"
                assert raster.transform.c % 60 == 0
                assert raster.transform.f % 60 == 0
                expected = BANDS[key].gsd_m if key in BANDS else {"SCL": 20, "map": 10}[key]
                assert raster.res == (expected, expected)
                assert raster.dtypes == (("uint16" if key in BANDS else "uint8"),)
                assert bool(raster.overviews(1)) == (min(raster.shape) >= 256)


def test_half_of_the_scenes_carry_the_offset_and_it_is_really_there(archive_dir: Path):
    items = [*read_items(archive_dir, SCENES), *read_items(archive_dir, TEST)]
    new = [item for item in items if item["properties"]["s2:processing_baseline"] == "05.10"]
    assert len(new) == len(items) / 2
    darkest: dict[bool, list[int]] = {True: [], False: []}
    for item in items:
        band = item["assets"]["B02"]["bands"][0]
        carries = item in new
        assert (item["properties"]["datetime"] >= "2022") == carries
        assert band["raster:scale"] == 0.0001
        assert band["raster:offset"] == (-0.1 if carries else 0)
        dark = read(archive_dir, item, "B12")
        darkest[carries].append(int(dark[dark > 0].min()))
    assert min(darkest[True]) > 1000
    assert np.median(darkest[False]) < 1000


def test_without_the_offset_two_dates_of_a_place_agree_on_bare_and_built_ground(archive_dir: Path):
    compared = 0
    for ground in read_items(archive_dir, LANDCOVER):
        place = ground["properties"]["pwcat:place"]
        pair = [
            item
            for name in (SCENES, TEST)
            for item in read_items(archive_dir, name)
            if item["properties"]["pwcat:place"] == place
        ]
        steady = np.isin(read(archive_dir, ground, "map"), (50, 60, 80))
        for item in pair:
            scl = np.repeat(np.repeat(read(archive_dir, item, "SCL"), 2, 0), 2, 1)
            steady &= np.isin(scl, (4, 5, 6))
        if steady.sum() < 500:
            continue
        medians = [
            np.median(read(archive_dir, item, "B04")[steady].astype(int))
            - (1000 if item["properties"]["s2:processing_baseline"] == "05.10" else 0)
            for item in pair
        ]
        assert medians[0] == pytest.approx(medians[1], rel=0.2, abs=60)
        compared += 1
    assert compared >= 4


def test_cloud_cover_is_that_of_scl_and_every_place_has_a_usable_scene(archive_dir: Path):
    clearest: dict[str, float] = {}
    for item in [*read_items(archive_dir, SCENES), *read_items(archive_dir, TEST)]:
        scl = read(archive_dir, item, "SCL")
        share = 100 * np.isin(scl, (8, 9, 10)).sum() / (scl > 0).sum()
        cover = item["properties"]["eo:cloud_cover"]
        assert cover == pytest.approx(share, abs=1e-5)
        place = item["properties"]["pwcat:place"]
        clearest[place] = min(clearest.get(place, 100), cover)
    assert max(clearest.values()) < 20
    assert any(item["properties"]["eo:cloud_cover"] > 30 for item in read_items(archive_dir, SCENES))


def test_geometry_covers_the_valid_pixels_and_no_more(archive_dir: Path):
    items = [*read_items(archive_dir, SCENES), *read_items(archive_dir, TEST)]
    cut = [item for item in items if item["properties"]["s2:nodata_pixel_percentage"] > 0]
    assert 1 <= len(cut) < len(items) / 2
    for item in [*cut, items[0]]:
        with rasterio.open(archive_dir / item["collection"] / item["id"] / "B02.tif") as raster:
            valid = raster.read(1) > 0
            rows, columns = (grid.ravel() for grid in np.mgrid[: raster.height, : raster.width])
            lon, lat = transform_points(raster.crs, "EPSG:4326", *xy(raster.transform, rows, columns))
        inside = shapely.contains_xy(shapely.geometry.shape(item["geometry"]), np.array(lon), np.array(lat))
        assert (inside == valid.ravel()).mean() > 0.999


def test_land_cover_is_described_by_its_classes(archive_dir: Path):
    codes = {cover.code: cover.name for cover in COVERS}
    document = pystac.Collection.from_file(archive_dir / LANDCOVER / "collection.json").to_dict()
    classes = document["item_assets"]["map"]["classification:classes"]
    assert {one["value"]: one["name"] for one in classes} == codes
    for item in read_items(archive_dir, LANDCOVER):
        assert item["assets"]["map"]["classification:classes"] == classes
        assert set(np.unique(read(archive_dir, item, "map")).tolist()) <= set(codes)


def test_regions_are_layers_with_a_field_of_their_name(archive_dir: Path):
    for field, names in (("continent", CONTINENTS), ("biome", BIOMES)):
        frame = gpd.read_file(archive_dir / "regions" / f"{field}.fgb")
        assert frame.crs.to_epsg() == 4326
        assert sorted(frame[field]) == sorted(names)
        for item in read_items(archive_dir, SCENES):
            centre = shapely.geometry.shape(item["geometry"]).centroid
            assert list(frame[frame.contains(centre)][field]) == [item["properties"][f"pwcat:{field}"]]
