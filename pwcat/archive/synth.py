"""A synthetic archive: places on six continents, each with its scenes and its land cover map, as a static STAC catalog."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pystac
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform as transform_points
from shapely import affinity

from pwcat.archive import folder
from pwcat.archive.folder import Grid
from pwcat.archive.landscape import Landscape, character_of, draw_landscape
from pwcat.archive.scene import Scene, draw_weather, render_scene
from pwcat.archive.spectra import BANDS, COVERS, greenness_at, snow_at, spectra_of
from pwcat.archive.world import Place, biome_shapes, choose_places, continent_shapes, mgrs_square, utm_epsg
from pwcat.errors import ArchiveError

__all__ = ["LANDCOVER", "PRETRAIN", "TEST", "SynthOptions", "synthesise", "write_regions"]

PRETRAIN, TEST, LANDCOVER = "s2-l2a-synthetic", "s2-l2a-synthetic-test", "landcover-synthetic"
OFFSET_DN = 1000  # what baselines from 04.00 on add, and -0.1 in reflectance takes away
SCL_CLASSES = (
    (0, "no_data"), (1, "saturated"), (2, "dark_area"), (3, "cloud_shadow"), (4, "vegetation"), (5, "not_vegetated"),
    (6, "water"), (7, "unclassified"), (8, "cloud_medium"), (9, "cloud_high"), (10, "thin_cirrus"), (11, "snow"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SynthOptions:
    """What to make: the same options give the same bytes.

    ``places`` and ``test_places`` count by continent, ``dates`` by place; ``size_px`` is the side of a scene in pixels of
    10 m. Places do not move when ``dates`` or ``size_px`` change.
    """

    seed: int = 0
    places: int = 4
    test_places: int = 2
    dates: int = 2
    size_px: int = 512

    def __post_init__(self) -> None:
        """Refuse what cannot be made, listing every fault."""
        limits = {
            "seed": (0, 2**32),
            "places": (1, 40),
            "test_places": (0, 20),
            "dates": (1, 24),
            "size_px": (96, 5490),
        }
        faults = [
            f"{name} is {getattr(self, name)}, allowed is {low} to {high}"
            for name, (low, high) in limits.items()
            if not low <= getattr(self, name) <= high
        ]
        if faults:
            raise ArchiveError(f"cannot make this archive: {'; '.join(faults)}")


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One date of a place: when, by which processing baseline, cloudy or not."""

    when: datetime
    baseline: str
    cloudy: bool

    @property
    def offset(self) -> int:
        """DN added to valid pixels."""
        return OFFSET_DN if self.baseline >= "04.00" else 0


def synthesise(
    directory: Path, *, options: SynthOptions, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Make the archive, or complete one that was interrupted; the number of items by collection comes back.

    Args:
        directory: Folder of the archive, new or of an earlier run with the same options.
        options: What to make.
        progress: Called with (places done, places in all).

    Raises:
        ArchiveError: The folder holds an archive made with other options.
    """
    _claim(directory, options)
    places = choose_places(
        np.random.default_rng(options.seed), per_continent=options.places, held_out=options.test_places
    )
    write_regions(directory)
    # NumPy and GDAL let go of the GIL in what takes long, so threads do.
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 16)) as pool:
        try:
            for done, _ in enumerate(pool.map(lambda place: _make_place(directory, place, options), places), start=1):
                if progress is not None:
                    progress(done, len(places))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the places at hand, not for all
            raise
    for collection in _collections(options):
        folder.write_collection(directory, collection)
    folder.write_catalog(directory)
    return {name: len(folder.read_items(directory, name)) for name in (PRETRAIN, TEST, LANDCOVER)}


def _claim(directory: Path, options: SynthOptions) -> None:
    """Write down what the folder is for, or check that it is for these options."""
    path, wanted = directory / "synth.json", asdict(options)
    if path.exists():
        found = folder.read_json(path)
        if found != wanted:
            differ = ", ".join(f"{k} {found.get(k)} (asked: {v})" for k, v in wanted.items() if found.get(k) != v)
            raise ArchiveError(
                f"{directory} holds an archive made with other options: {differ or found}; "
                "pass those options or another folder"
            )
        return
    with folder.replacing(path) as part:
        part.write_text(json.dumps(wanted) + "\n", encoding="utf-8")


def write_regions(directory: Path) -> None:
    """Write the outlines of continents and biomes that are not there yet."""
    for field, shapes in (("continent", continent_shapes()), ("biome", biome_shapes())):
        path = directory / "regions" / f"{field}.fgb"
        if not path.exists():
            frame = gpd.GeoDataFrame({field: list(shapes)}, geometry=list(shapes.values()), crs="EPSG:4326")
            with folder.replacing(path) as part:
                frame.to_file(part, driver="FlatGeobuf", layer=field, engine="pyogrio")


def _make_place(directory: Path, place: Place, options: SynthOptions) -> None:
    """Make what is missing of a place: its scenes and its land cover."""
    grid = _grid(place, options.size_px)
    square = _square(place, grid)
    collection = TEST if place.held_out else PRETRAIN
    shots = _shots(place, options)
    names = [f"S2_T{square}_{shot.when:%Y%m%d}_{place.name}" for shot in shots]
    missing = [not _whole(directory, collection, name) for name in names]
    map_name = f"landcover_T{square}_{place.name}"
    if not any(missing) and _whole(directory, LANDCOVER, map_name):
        return
    padded = -(-options.size_px // 6) * 6  # so that pixels of 20 and 60 m tile it
    landscape = draw_landscape(
        _rng(options, place, 0), size_px=padded, biome=place.biome, character=character_of(place.continent)
    )
    _write_landcover(directory, map_name, place=place, square=square, grid=grid, landscape=landscape)
    for i, (name, shot) in enumerate(zip(names, shots, strict=True)):
        if missing[i]:
            scene = _render(_rng(options, place, 2 + i), place, landscape, shot, options.size_px)
            _write_scene(directory, collection, name, place=place, square=square, grid=grid, shot=shot, scene=scene)


def _whole(directory: Path, collection: str, name: str) -> bool:
    """Whether an item and all its assets are there: the item is written last, so only deleted files are looked for."""
    path = directory / collection / name / f"{name}.json"
    if not path.exists():
        return False
    return all((path.parent / asset["href"]).exists() for asset in folder.read_json(path)["assets"].values())


def _rng(options: SynthOptions, place: Place, part: int) -> np.random.Generator:
    """The random numbers of one part of one place, whatever the order in which places are made."""
    return np.random.default_rng([options.seed, place.number, part])


def _shots(place: Place, options: SynthOptions) -> list[Shot]:
    """Dates spread over the year (over the light half of it beyond 55 degrees), half of them by either baseline.

    At most one date of a place is very cloudy, and none where there is one only, so that every place can be used.
    """
    rng = _rng(options, place, 1)
    first, days = (3, 360) if abs(place.lat) < 55 else (105, 165)
    cloudy = int(rng.integers(options.dates)) if options.dates > 1 and rng.random() < 0.4 else -1
    shots = []
    for i in range(options.dates):
        new = (i + place.number) % 2 == 1
        year = int(rng.integers(2022, 2024)) if new else 2021
        day = first + days * (i + rng.random()) / options.dates
        when = datetime(year, 1, 1, 10, 30, tzinfo=UTC) + timedelta(days=int(day) - 1, hours=-round(place.lon / 15))
        shots.append(Shot(when=when, baseline="05.10" if new else "02.14", cloudy=i == cloudy))
    return shots


def _render(rng: np.random.Generator, place: Place, landscape: Landscape, shot: Shot, size_px: int) -> Scene:
    day = shot.when.timetuple().tm_yday
    return render_scene(
        rng,
        landscape=landscape,
        spectra=spectra_of(continent=place.continent, biome=place.biome),
        green=greenness_at(biome=place.biome, lat=place.lat, day_of_year=day),
        weather=draw_weather(rng, cloudy=shot.cloudy, snow=snow_at(biome=place.biome, lat=place.lat, day_of_year=day)),
        size_px=size_px,
        offset=shot.offset,
    )


def _grid(place: Place, size_px: int) -> Grid:
    """The 10 m grid of a place: its UTM zone, centred on it, the corner on a multiple of 60 m."""
    crs = CRS.from_epsg(utm_epsg(lon=place.lon, lat=place.lat))
    (x,), (y,) = transform_points(CRS.from_epsg(4326), crs, [place.lon], [place.lat])
    west, north = (60 * round((v + s * 5 * size_px) / 60) for v, s in ((x, -1), (y, 1)))
    return Grid(crs=crs, shape=(size_px, size_px), transform=Affine(10, 0, west, 0, -10, north))


def _coarser(grid: Grid, gsd_m: int) -> Grid:
    """The grid of a coarser band with the same corner; its last row and column may reach beyond the 10 m grid."""
    side = math.ceil(grid.shape[0] * 10 / gsd_m)
    t = grid.transform
    return replace(grid, shape=(side, side), transform=Affine(gsd_m, 0, t.c, 0, -gsd_m, t.f))


def _square(place: Place, grid: Grid) -> str:
    west, south, east, north = grid.bounds
    epsg = int(grid.crs.to_epsg())
    return mgrs_square(epsg=epsg, lat=place.lat, easting=(west + east) / 2, northing=(south + north) / 2)


def _write_scene(
    directory: Path, collection: str, name: str, *, place: Place, square: str, grid: Grid, shot: Shot, scene: Scene
) -> None:
    home = directory / collection / name
    assets = {}
    for band in BANDS.values():
        at = _coarser(grid, band.gsd_m)
        folder.write_cog(home / f"{band.name}.tif", scene.bands[band.name], grid=at, nodata=0)
        fields = folder.band_fields(band.name, dtype="uint16", nodata=0, gsd_m=band.gsd_m)
        fields |= {"unit": "1", "raster:scale": 0.0001, "raster:offset": -shot.offset / 10_000}
        title = f"{band.name}, {round(band.centre_um * 1000)} nm, {band.gsd_m} m"
        assets[band.name] = folder.raster_asset(
            f"./{band.name}.tif", title=title, grid=at, bands=[fields], fields={"gsd": band.gsd_m}
        )
    at = _coarser(grid, 20)
    folder.write_cog(home / "SCL.tif", scene.scl, grid=at, nodata=0, categorical=True)
    classes = [{"value": value, "name": label} for value, label in SCL_CLASSES]
    assets["SCL"] = folder.raster_asset(
        "./SCL.tif",
        title="Scene classification, 20 m",
        grid=at,
        bands=[folder.band_fields("SCL", dtype="uint8", nodata=0, gsd_m=20)],
        fields={"gsd": 20, "classification:classes": classes},
    )
    size = grid.shape[0] * 10
    footprint = affinity.affine_transform(scene.footprint, [size, 0, 0, -size, grid.transform.c, grid.transform.f])
    properties = _about(place, square) | {
        "platform": "sentinel-2a" if place.number % 2 else "sentinel-2b",
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "gsd": 10,
        "eo:cloud_cover": scene.cloud_cover,
        "s2:processing_baseline": shot.baseline,
        "s2:nodata_pixel_percentage": scene.nodata_percentage,
    }
    item = folder.make_item(
        name,
        collection=collection,
        when=shot.when,
        grid=grid,
        properties=properties,
        assets=assets,
        extensions=("proj", "eo", "raster", "classification", "grid"),
        footprint=footprint,
    )
    folder.write_item(directory, item)


def _write_landcover(
    directory: Path, name: str, *, place: Place, square: str, grid: Grid, landscape: Landscape
) -> None:
    codes: NDArray[np.uint8] = np.array([cover.code for cover in COVERS], np.uint8)
    size = grid.shape[0]
    pixels = codes[landscape.cover[:size, :size]]
    folder.write_cog(directory / LANDCOVER / name / "map.tif", pixels, grid=grid, nodata=0, categorical=True)
    asset = folder.raster_asset(
        "./map.tif",
        title="Land cover, 10 m",
        grid=grid,
        bands=[folder.band_fields("map", dtype="uint8", nodata=0, gsd_m=10)],
        fields={"gsd": 10, "classification:classes": _classes()},
    )
    span = {"start_datetime": "2021-01-01T00:00:00Z", "end_datetime": "2023-12-31T23:59:59Z"}
    item = folder.make_item(
        name,
        collection=LANDCOVER,
        when=datetime(2021, 1, 1, tzinfo=UTC),
        grid=grid,
        properties=_about(place, square) | span | {"gsd": 10},
        assets={"map": asset},
        extensions=("proj", "raster", "classification", "grid"),
    )
    folder.write_item(directory, item)


def _about(place: Place, square: str) -> dict[str, Any]:
    """Where an item lies, in properties."""
    return {
        "s2:mgrs_tile": square,
        "grid:code": f"MGRS-{square}",
        "pwcat:place": place.name,
        "pwcat:continent": place.continent,
        "pwcat:biome": place.biome,
    }


def _classes() -> list[dict[str, Any]]:
    return [
        {
            "value": cover.code,
            "name": cover.name,
            "title": cover.title,
            "description": cover.title,
            "color_hint": cover.colour,
        }
        for cover in COVERS
    ]


def _collections(options: SynthOptions) -> Iterator[pystac.Collection]:
    """The three collections, their extents still to be set."""
    scene_assets = {
        band.name: {
            "title": f"{band.name}, {round(band.centre_um * 1000)} nm, {band.gsd_m} m",
            "type": pystac.MediaType.COG,
            "roles": ["data"],
            "gsd": band.gsd_m,
            "bands": [folder.band_fields(band.name, dtype="uint16", nodata=0)],
        }
        for band in BANDS.values()
    } | {"SCL": {"title": "Scene classification, 20 m", "type": pystac.MediaType.COG, "roles": ["data"], "gsd": 20}}
    map_assets = {
        "map": {
            "title": "Land cover, 10 m",
            "type": pystac.MediaType.COG,
            "roles": ["data"],
            "gsd": 10,
            "classification:classes": _classes(),
        }
    }
    made = f"Made by pwcat from seed {options.seed}; no satellite took part."
    for name, title, about, assets in (
        (PRETRAIN, "Synthetic Sentinel-2 L2A", "Scenes to pretrain on.", scene_assets),
        (TEST, "Synthetic Sentinel-2 L2A, held out", "Scenes of places that are in no other collection.", scene_assets),
        (LANDCOVER, "Synthetic land cover", "True land cover of every place, in WorldCover's classes.", map_assets),
    ):
        if name == TEST and not options.test_places:
            continue
        yield pystac.Collection(
            name,
            f"{about} {made}",
            folder.everywhere(),
            title=title,
            license="CC0-1.0",
            providers=[pystac.Provider("pwcat", roles=[pystac.ProviderRole.PRODUCER, pystac.ProviderRole.PROCESSOR])],
            stac_extensions=[folder.EXTENSIONS["classification"]],
            extra_fields={"item_assets": assets},
        )
