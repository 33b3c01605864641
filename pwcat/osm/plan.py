"""The plan of a map collection as it lies on disk: a row a tile, and what it takes to read each image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pwcat.cube import CubeSpec
from pwcat.errors import PwcatError, RecipeError
from pwcat.osm.columns import ENTITY_COUNT, TAG_ENTROPY
from pwcat.osm.document import MapRecipe, load_map_recipe
from pwcat.osm.targets import TARGET_COLUMNS
from pwcat.osm.tiles import Tile
from pwcat.sharding import shard_size_of
from pwcat.sites.schema import FRACTIONS

__all__ = ["IMAGES", "IMAGE_SCHEMA", "LABELS", "TILES", "TILE_SCHEMA", "MapPlan", "is_map_folder", "read_tiles"]

TILES: Final = "tiles.parquet"
IMAGES: Final = "images.parquet"

LABELS: Final = ("continent", "biome", "ecoregion", "landcover")
TILE_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("tile", pa.string()),
        pa.field("group", pa.string()),
        pa.field("split", pa.string()),
        pa.field("region", pa.string()),  # the first named box that its middle lies in
        pa.field("lon", pa.float64()),  # of its middle
        pa.field("lat", pa.float64()),
        pa.field("x0", pa.float64()),  # upper-left corner, EPSG:3857
        pa.field("y0", pa.float64()),
        pa.field("images", pa.list_(pa.string())),  # the first that has data for a pixel gives it
        pa.field("datetime", pa.timestamp("us", tz="UTC")),  # of the first image, else of the map
        pa.field(ENTITY_COUNT, pa.int64()),
        pa.field(TAG_ENTROPY, pa.float64()),
        *(pa.field(name, pa.float64()) for name in TARGET_COLUMNS),
        *(pa.field(name, pa.string()) for name in LABELS),
        pa.field("landcover_fractions", FRACTIONS),
    ]
)
IMAGE_SCHEMA: Final = pa.schema([pa.field("id", pa.string()), pa.field("document", pa.string())])


@dataclass(frozen=True, kw_only=True, eq=False)
class MapPlan:
    """A plan as it lies on disk.

    Attributes:
        folder: the collection's.
        recipe: what was asked.
        table: :data:`TILE_SCHEMA`, in the order of the cube.
        layers: source of each region layer.
        facts: counts of what was left out of the map and mended in it, of tiles that were left out, and the like.
    """

    folder: Path
    recipe: MapRecipe
    table: pa.Table
    layers: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the plan's bytes, which ledgers are tied to."""
        with (self.folder / TILES).open("rb") as file:
            return file_digest(file, "sha256").hexdigest()

    @property
    def spec(self) -> CubeSpec:
        """Shape and layout of its cube."""
        recipe = self.recipe
        chip_bytes = 2 * len(recipe.bands) * recipe.size_px**2
        return CubeSpec(
            num_samples=len(self),
            num_times=1,
            bands=tuple(recipe.bands),
            size_px=recipe.size_px,
            shard_size=shard_size_of(len(self), chip_bytes),
        )

    @property
    def pixel_m(self) -> float:
        """Side of a pixel, in metres of EPSG:3857: those on the ground are shorter, by the cosine of the latitude."""
        west, _, east, _ = Tile(self.recipe.tiles.zoom, 0, 0).mercator_bounds()
        return (east - west) / self.recipe.size_px

    def documents(self) -> dict[str, dict[str, Any]]:
        """What it takes to read each image, by id.

        Raises:
            PwcatError: it cannot be read.
        """
        table = _read(self.folder / IMAGES)
        return {row["id"]: json.loads(row["document"]) for row in table.to_pylist()}


def is_map_folder(folder: Path) -> bool:
    """Whether a collection's folder is that of a map recipe."""
    return (folder / TILES).is_file()


def read_tiles(folder: Path) -> MapPlan:
    """The plan in a collection's folder.

    Raises:
        PwcatError: there is none, or it is of another recipe than the one beside it.
    """
    path = folder / TILES
    if not path.is_file():
        raise PwcatError(f"{path}: no plan there; make one with `pwcat plan RECIPE`")
    table = _read(path)
    recipe = load_map_recipe(folder / "recipe.yaml", planned=True)
    notes = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if notes.get("pwcat:recipe_hash") != recipe.hash:
        raise RecipeError(f"{folder}: recipe.yaml is not the recipe that {TILES} was made from; plan again")
    return MapPlan(
        folder=folder,
        recipe=recipe,
        table=table.replace_schema_metadata(None),
        layers=json.loads(notes.get("pwcat:layers", "{}")),
        facts=json.loads(notes.get("pwcat:facts", "{}")),
    )


def _read(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError) as exc:
        raise PwcatError(f"{path}: cannot be read ({exc}); remove it and plan again") from exc
