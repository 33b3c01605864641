"""A map recipe: one YAML document that says everything about one collection of map tiles with images.

It is told from other recipes by its first key, ``kind: map``, and read by the same commands.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from pwcat.document import Document, read_recipe_file
from pwcat.errors import RecipeError
from pwcat.faults import describe_faults
from pwcat.layers import RegionLayers
from pwcat.providers.document import Source
from pwcat.recipe import Recipe, load_recipe

__all__ = [
    "OSM_ATTRIBUTION",
    "MapImages",
    "MapRecipe",
    "MapSource",
    "MapSplit",
    "TileGrid",
    "is_map_recipe",
    "load_any_recipe",
    "load_map_recipe",
]

OSM_ATTRIBUTION: Final = "© OpenStreetMap contributors"
# Tiles that one group may be wide: 4**6 of them.
MOST_LEVELS: Final = 6

Box = Annotated[list[float], Field(min_length=4, max_length=4)]


class MapSource(Document):
    """Where entities come from: an extract of OpenStreetMap, or any vector file whose columns are tags."""

    path: str = Field(min_length=1, description="the file, relative to the recipe: .osm.pbf, or a vector file of GDAL")
    attribution: str = Field(OSM_ATTRIBUTION, min_length=1, description="whose map it is, as they ask to be named")
    license: str = Field("ODbL-1.0", min_length=1, description="SPDX identifier of the map's licence")
    day: date | None = Field(
        None,
        description="of the extract: when tiles without a dated image are of; of a .osm.pbf its own where not given",
    )
    exclude: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None, description="patterns of keys that are no tags, `name:*`; a list of ours where not given"
    )
    leave: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description="columns of a vector file that are no tags, such as a label that somebody added"
    )


class MapImages(Document):
    """Where images come from: a collection of a provider, local rasters, or a folder of tiles; one of the three."""

    source: Source | None = Field(None, description="a provider's collection, such as `naip` at `planetary-computer`")
    files: str | None = Field(
        None, min_length=1, description="georeferenced rasters: a pattern, relative to the recipe"
    )
    tiles: str | None = Field(
        None, min_length=1, description="a folder of `zoom_x_y.webp`, `.png` or `.jpg`, relative to the recipe"
    )
    start: date | None = Field(None, description="images of this day or later; `source` only")
    end: date | None = Field(None, description="images of this day or earlier; `source` only")
    day: date | None = Field(None, description="that `files` or `tiles` are of, which do not say it themselves")
    bands: list[Annotated[str, Field(min_length=1)]] = Field(
        ["red", "green", "blue"], min_length=1, description="of `source` by their names, else in the order of the files"
    )
    size_px: int = Field(224, ge=1, le=2048, description="pixels a side of a tile's image")
    resampling: Literal["nearest", "bilinear"] = Field("bilinear", description="onto the tile's pixels")
    depth: Literal[8, 16] = Field(
        8,
        description="bits of the images' numbers: of 8, values are numbers / 255; of 16, numbers / 10000, 0 is no data",
    )
    attribution: str | None = Field(None, min_length=1, description="whose images they are, as they ask to be named")
    license: str | None = Field(None, min_length=1, description="of the images: an SPDX identifier, or a few words")

    @field_validator("bands")
    @classmethod
    def _distinct(cls, bands: list[str]) -> list[str]:
        if repeated := sorted({band for band in bands if bands.count(band) > 1}):
            raise ValueError(f"`bands` repeats {', '.join(repeated)}")
        return bands

    @field_validator("license")
    @classmethod
    def _one_place(cls, license: str | None, info: ValidationInfo) -> str | None:
        if not {"source", "files", "tiles", "start", "end", "day"} <= info.data.keys():
            return license
        faults, given = [], [name for name in ("source", "files", "tiles") if info.data[name] is not None]
        if len(given) != 1:
            got = f"not {' and '.join(f'`{name}`' for name in given)}" if given else "and none is given"
            faults.append(f"images come from one place: `source`, `files` or `tiles`, {got}")
        start, end = info.data["start"], info.data["end"]
        if given == ["source"]:
            if info.data["day"] is not None:
                faults.append("`day` is for `files` and `tiles`: the items of a source say theirs")
            if start is not None and end is not None and end < start:
                faults.append(f"`end` ({end}) lies before `start` ({start})")
            if info.data["source"].fallback:
                faults.append("the source of images has no `fallback`: leave it out")
        elif given and (start is not None or end is not None):
            faults.append("`start` and `end` are for a `source`: choose among files by the pattern, and give `day`")
        if faults:
            raise ValueError("; ".join(faults))
        return license


class TileGrid(Document):
    """Which tiles of the web mercator grid: how large they and their groups are, and where."""

    zoom: int = Field(16, ge=1, le=22, description="of a tile: a sample")
    group_zoom: int = Field(14, ge=0, le=22, description="of the groups that the split keeps together")
    boxes: list[Box] | dict[str, Box] | None = Field(
        None, description="west, south, east, north, degrees: tiles that touch one of these; by name, they are regions"
    )
    within: str | None = Field(
        None, min_length=1, description="a vector file of areas, relative to the recipe: tiles that touch one of these"
    )
    only: list[Annotated[str, Field(pattern=r"^\d+/\d+/\d+$")]] | None = Field(
        None, min_length=1, description="these tiles alone, as zoom/x/y"
    )
    need: Literal["any", "map", "images", "both"] = Field(
        "any", description="what a tile must have to be a sample: entities, an image, either or both"
    )

    @field_validator("group_zoom")
    @classmethod
    def _coarser(cls, group_zoom: int, info: ValidationInfo) -> int:
        zoom = info.data.get("zoom", group_zoom)
        if not zoom - MOST_LEVELS <= group_zoom <= zoom:
            raise ValueError(f"groups are of {zoom - MOST_LEVELS} to {zoom}, the zoom of their tiles; got {group_zoom}")
        return group_zoom

    @field_validator("boxes")
    @classmethod
    def _upright(cls, boxes: list[Box] | dict[str, Box] | None) -> list[Box] | dict[str, Box] | None:
        if boxes is not None and not boxes:
            raise ValueError("give one box at least, or leave `boxes` out")
        for box in (boxes.values() if isinstance(boxes, dict) else boxes) or []:
            west, south, east, north = box
            if not (-180 <= west < east <= 180 and -86 <= south < north <= 86):
                raise ValueError(f"a box is west, south, east, north in degrees, one on each side of ±180°; got {box}")
        return boxes

    @field_validator("only")
    @classmethod
    def _of_the_grid(cls, only: list[str] | None, info: ValidationInfo) -> list[str] | None:
        zoom = info.data.get("zoom")
        for name in only or [] if zoom is not None else []:
            z, x, y = (int(part) for part in name.split("/"))
            if z != zoom or max(x, y) >= 2**zoom:
                raise ValueError(f"{name} is no tile of zoom {zoom}, as zoom/x/y")
        return only

    @field_validator("need")
    @classmethod
    def _one_way(cls, need: str, info: ValidationInfo) -> str:
        given = [f"`{name}`" for name in ("boxes", "within", "only") if info.data.get(name) is not None]
        if len(given) > 1:
            raise ValueError(f"say where in one way: {' or '.join(given)}")
        return need

    @property
    def regions(self) -> dict[str, list[float]]:
        """The boxes that have names, in the order of the recipe."""
        return dict(self.boxes) if isinstance(self.boxes, dict) else {}

    @property
    def areas(self) -> list[list[float]] | None:
        """All boxes; ``None`` where there are none."""
        return list(self.boxes.values()) if isinstance(self.boxes, dict) else self.boxes


class MapSplit(Document):
    """Groups of tiles are held back whole, never tiles of one group."""

    val: float = Field(0.1, ge=0, lt=1, description="share of the groups that are validated with")
    test: float = Field(0.1, ge=0, lt=1, description="share of the groups that are tested with")

    @field_validator("test")
    @classmethod
    def _leaves_some(cls, test: float, info: ValidationInfo) -> float:
        if test + info.data.get("val", 0) >= 1:
            raise ValueError("`val` and `test` leave nothing to train with")
        return test


class MapRecipe(Document):
    """One collection of map tiles: which map, which images, which tiles, from which seed."""

    kind: Literal["map"]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="lower case, digits, . _ -; names the folder")
    title: str = Field(min_length=1)
    license: str = Field(min_length=1, description="SPDX identifier of the collection made")
    seed: int = Field(0, ge=0, description="of the split")
    map: MapSource | None = Field(None, description="the map; tiles of images alone where not given")
    images: MapImages | None = Field(None, description="the images; tiles of the map alone where not given")
    tiles: TileGrid = TileGrid()
    regions: RegionLayers = RegionLayers()
    split: MapSplit = MapSplit()

    @field_validator("tiles")
    @classmethod
    def _of_something(cls, tiles: TileGrid, info: ValidationInfo) -> TileGrid:
        if not {"map", "images"} <= info.data.keys():
            return tiles
        there, images = info.data["map"] is not None, info.data["images"]
        faults = []
        if not there and images is None:
            faults.append("give a `map`, `images` or both")
        if not there and tiles.need in ("map", "both"):
            faults.append(f"tiles need a map (`need: {tiles.need}`), and the recipe has none")
        if images is None and tiles.need in ("images", "both"):
            faults.append(f"tiles need an image (`need: {tiles.need}`), and the recipe has none")
        if not there and images is not None and images.source is not None and not _says_where(tiles):
            faults.append("without a map, say where: `boxes`, `within` or `only`")
        if faults:
            raise ValueError("; ".join(faults))
        return tiles

    @field_validator("regions")
    @classmethod
    def _known_layers(cls, regions: RegionLayers) -> RegionLayers:
        known = RegionLayers.model_fields
        if others := [name for name in regions.given() if name not in known]:
            raise ValueError(f"items have no column for {', '.join(others)}; layers are {', '.join(known)}")
        return regions

    @property
    def attributions(self) -> dict[str, str]:
        """Whom to name, with the licence of each: empty where it is not said."""
        parts = [(part.attribution, part.license) for part in (self.map, self.images) if part is not None]
        return {named: licence or "" for named, licence in parts if named}

    @property
    def attribution(self) -> str | None:
        """The same as one line; ``None`` where nobody is named."""
        told = [f"{named} ({licence})" if licence else named for named, licence in self.attributions.items()]
        return "; ".join(told) or None

    @property
    def bands(self) -> list[str]:
        """Of the cube. Without images they are named all the same: their one pixel is empty."""
        return list((self.images or MapImages.model_construct()).bands)

    @property
    def size_px(self) -> int:
        """Pixels a side of the cube's chips: 1 without images."""
        return 1 if self.images is None else self.images.size_px

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of this recipe, defaults included; in every artefact made from it."""
        document = self.model_dump(mode="json")
        if self.tiles.regions:  # of boxes that overlap, the first counts
            document["tiles"]["boxes"] = list(self.tiles.regions.items())
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_yaml(self) -> str:
        """This recipe as a YAML document that loads back to the same hash."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _says_where(tiles: TileGrid) -> bool:
    return any(part is not None for part in (tiles.boxes, tiles.within, tiles.only))


def is_map_recipe(path: str | Path) -> bool:
    """Whether a recipe's file says that it is of a map; what cannot be read is none.

    Other kinds are not known here: their reader says what is wrong with them.
    """
    try:
        return read_recipe_file(Path(path)).get("kind") == "map"
    except RecipeError:
        return False


def load_map_recipe(path: str | Path, *, planned: bool = False) -> MapRecipe:
    """The map recipe in a YAML file.

    Args:
        path: of the file.
        planned: whether it is the copy beside a plan; in one of older versions, addresses may not be fit to be published.

    Raises:
        RecipeError: the file is missing or no YAML, or the recipe has faults; all of them are listed with their path.
    """
    path = Path(path)
    document = read_recipe_file(path)
    try:
        return MapRecipe.model_validate(document, context={"planned": planned})
    except ValidationError as exc:
        raise RecipeError(describe_faults(path, exc, document=document)) from exc


def load_any_recipe(path: str | Path) -> Recipe | MapRecipe:
    """The recipe in a YAML file, of either kind, by its ``kind``.

    Raises:
        RecipeError: the file is missing or no YAML, or the recipe has faults; all of them are listed with their path.
    """
    return load_map_recipe(path) if is_map_recipe(path) else load_recipe(path)
