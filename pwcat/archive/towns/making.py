"""``pwcat archive towns``: towns on six continents as an extract, with aerial images, in the folder of an archive."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pystac

from pwcat.archive import folder
from pwcat.archive.folder import Grid
from pwcat.archive.synth import write_regions
from pwcat.archive.towns.extract import Extract
from pwcat.archive.towns.ground import GROUP_ZOOM, ZOOM, Ground, choose_ground
from pwcat.archive.towns.picture import GSD_M, grid_of, render_picture
from pwcat.archive.towns.sketch import Sketch
from pwcat.archive.towns.town import draw_town
from pwcat.errors import ArchiveError

__all__ = ["AERIAL", "EXTRACT", "TownOptions", "synthesise_towns"]

AERIAL, EXTRACT, RECIPE, SAID = "aerial-synthetic", "towns.osm.pbf", "towns.yaml", "towns.json"
BANDS = {"red": 0.65, "green": 0.56, "blue": 0.48, "nir": 0.83}  # centre, micrometres


@dataclass(frozen=True, kw_only=True)
class TownOptions:
    """What to make: the same options give the same bytes, and more towns the same ones first.

    ``towns`` lie in as many tiles of zoom 14, so many groups there are; each is ``across`` by ``across`` tiles of zoom 16.
    Without ``images`` there is the extract alone.
    """

    seed: int = 0
    towns: int = 12
    across: int = 4
    images: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be made, listing every fault."""
        limits = {"seed": (0, 2**32), "towns": (1, 100_000), "across": (1, 4)}
        faults = [
            f"{name} is {getattr(self, name)}, allowed is {low} to {high}"
            for name, (low, high) in limits.items()
            if not low <= getattr(self, name) <= high
        ]
        if faults:
            raise ArchiveError(f"cannot make these towns: {'; '.join(faults)}")


def synthesise_towns(
    directory: Path, *, options: TownOptions, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Make towns, or complete what was interrupted; how many nodes, ways, relations and images there are comes back.

    Args:
        directory: folder of the archive, new, or of an earlier run with the same options; it may hold other collections.
        options: what to make.
        progress: called with (towns done, towns in all).

    Raises:
        ArchiveError: the folder holds towns made with other options.
    """
    _claim(directory, options)
    write_regions(directory)
    whole = directory / EXTRACT
    counts = {"nodes": 0, "ways": 0, "relations": 0}
    # Towns go into the extract in turn; NumPy and GDAL let go of the GIL, so pictures are taken beside that.
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 16)) as pool, _unless_there(whole) as extract:
        waiting = []
        try:
            for done, (ground, sketch) in enumerate(_towns(options), start=1):
                if extract is not None:
                    extract.add(ground, sketch)
                counts["nodes"] += len(sketch.xy)
                counts["ways"] += sum(way.mapped for way in sketch.ways)
                counts["relations"] += sum(relation.mapped for relation in sketch.relations)
                if options.images:
                    waiting.append(pool.submit(_make_images, directory, options, ground, sketch))
                    if len(waiting) > 32:
                        waiting.pop(0).result()
                if progress is not None:
                    progress(done, options.towns)
            for task in waiting:
                task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the towns at hand, not for all
            raise
    if options.images:
        _write_collection(directory, options)
        counts["images"] = len(folder.read_items(directory, AERIAL))
    with folder.replacing(directory / RECIPE) as part:
        part.write_text(_recipe(options), encoding="utf-8")
    return counts


def _towns(options: TownOptions) -> Iterator[tuple[Ground, Sketch]]:
    """Towns in turn, each from random numbers of its own."""
    taken: set[tuple[int, int]] = set()
    for number in range(options.towns):
        rng = np.random.default_rng([options.seed, number, 0])
        ground = choose_ground(rng, number=number, across=options.across, taken=taken)
        yield ground, draw_town(rng, ground)


@contextmanager
def _unless_there(path: Path) -> Iterator[Extract | None]:
    """An extract to be written, or ``None`` where there is one."""
    if path.exists():
        yield None
        return
    with Extract(path) as extract:
        yield extract


def _claim(directory: Path, options: TownOptions) -> None:
    """Write down what towns the folder has, or check that it is these."""
    path, wanted = directory / SAID, asdict(options)
    if not path.exists():
        with folder.replacing(path) as part:
            part.write_text(json.dumps(wanted) + "\n", encoding="utf-8")
        return
    found = folder.read_json(path)
    if found != wanted:
        differ = ", ".join(f"{k} {found.get(k)} (asked: {v})" for k, v in wanted.items() if found.get(k) != v)
        raise ArchiveError(
            f"{directory} holds towns made with other options: {differ or found}; pass those options or another folder"
        )


def _make_images(directory: Path, options: TownOptions, ground: Ground, sketch: Sketch) -> None:
    """Make what is missing of a town's images: every fourth town has an older one too, every seventh has none of its east."""
    for year in (2019, 2022) if ground.number % 4 == 3 else (2022,):
        rng = np.random.default_rng([options.seed, ground.number, year])
        when = datetime(year, 7, 1, 10, 0, tzinfo=UTC) + timedelta(days=int(rng.integers(-60, 60)))
        name = f"town_{ground.number:05d}_{when:%Y%m%d}"
        path = directory / AERIAL / name
        if all((path / file).exists() for file in (f"{name}.json", *(f"{band}.tif" for band in BANDS))):
            continue
        grid = grid_of(ground, share=0.7 if ground.number % 7 == 6 else 1.0)
        pixels = render_picture(rng, ground, sketch, grid)
        for band, layer in zip(BANDS, pixels, strict=True):
            folder.write_cog(path / f"{band}.tif", layer, grid=grid, nodata=0)
        folder.write_item(directory, _item(name, ground=ground, grid=grid, when=when))


def _item(name: str, *, ground: Ground, grid: Grid, when: datetime) -> pystac.Item:
    assets = {}
    for band, centre in BANDS.items():
        fields = folder.band_fields(band, dtype="uint8", nodata=0, gsd_m=GSD_M)
        fields |= {"eo:common_name": band, "eo:center_wavelength": centre}
        assets[band] = folder.raster_asset(f"./{band}.tif", title=f"{band}, {GSD_M:g} m", grid=grid, bands=[fields])
    return folder.make_item(
        name,
        collection=AERIAL,
        when=when,
        grid=grid,
        properties={"gsd": GSD_M, "pwcat:town": ground.number, "pwcat:continent": ground.continent},
        assets=assets,
        extensions=("proj", "eo", "raster"),
    )


def _write_collection(directory: Path, options: TownOptions) -> None:
    collection = pystac.Collection(
        AERIAL,
        f"Aerial images of towns that are not there. Made by pwcat from seed {options.seed}; no aeroplane took part.",
        folder.everywhere(),
        title="Synthetic aerial images",
        license="CC0-1.0",
        providers=[pystac.Provider("pwcat", roles=[pystac.ProviderRole.PRODUCER, pystac.ProviderRole.PROCESSOR])],
        extra_fields={
            "item_assets": {band: {"type": pystac.MediaType.COG, "roles": ["data"], "gsd": GSD_M} for band in BANDS}
        },
    )
    folder.write_collection(directory, collection)
    folder.write_catalog(directory)


def _recipe(options: TownOptions) -> str:
    """The recipe that builds the towns into a collection, from where the archive lies."""
    images = """\
images:
  source: {provider: archive, path: ., collection: aerial-synthetic}
  license: CC0-1.0
  attribution: pwcat, synthetic images
"""
    return f"""\
# {options.towns} synthetic towns: a map with aerial images. Build it: pwcat build towns.yaml
kind: map
name: towns
title: Synthetic towns
license: CC0-1.0
seed: 0
map: {{path: {EXTRACT}, license: CC0-1.0, attribution: "pwcat, synthetic towns"}}
{images if options.images else ""}\
tiles: {{zoom: {ZOOM}, group_zoom: {GROUP_ZOOM}}}
regions:
  continent: {{path: regions/continent.fgb, field: continent}}
"""
