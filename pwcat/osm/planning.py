"""The plan of a map collection: which tiles there are, what they hold, which images they get; frozen as ``tiles.parquet``.

Written are, in this order, ``entities.parquet`` and ``tags.parquet`` where the recipe has a map, ``images.parquet`` where it
has images (what it takes to read each), ``recipe.yaml``, and ``tiles.parquet`` last: where it is, all are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from pwcat.atomic import replacing
from pwcat.cube import CubeSpec
from pwcat.errors import PwcatError, RecipeError, SourceError
from pwcat.lock import locked_in_turn
from pwcat.origin import note_recipe
from pwcat.osm.columns import ENTITY_COUNT, TAG_ENTROPY
from pwcat.osm.document import MapRecipe, TileGrid, load_map_recipe
from pwcat.osm.entities import ENTITIES, TAGS, Extracted, write_entities
from pwcat.osm.exclusion import Exclusion
from pwcat.osm.groups import split_groups
from pwcat.osm.imagery import Imagery, Offer, open_imagery
from pwcat.osm.imagery.offers import corners_of
from pwcat.osm.labels import count_of_tiles, label_tiles
from pwcat.osm.sources import note_map, require_same_map
from pwcat.osm.targets import TARGET_COLUMNS
from pwcat.osm.tiles import Tile, decode_tiles, encode_tiles, from_mercator, parse_tile, tiles_within
from pwcat.providers import open_source
from pwcat.recipe import differing_keys
from pwcat.regions.opening import open_regions
from pwcat.regions.vector import read_vector
from pwcat.sharding import shard_size_of
from pwcat.sites.schema import FRACTIONS

__all__ = ["TILES", "TILE_SCHEMA", "MapPlan", "OnPlanned", "freeze_tiles", "is_map_folder", "read_tiles"]

TILES: Final = "tiles.parquet"
IMAGES: Final = "images.parquet"
SEARCH: Final = "_search"

_LABELS: Final = ("continent", "biome", "ecoregion", "landcover")
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
        *(pa.field(name, pa.string()) for name in _LABELS),
        pa.field("landcover_fractions", FRACTIONS),
    ]
)
IMAGE_SCHEMA: Final = pa.schema([pa.field("id", pa.string()), pa.field("document", pa.string())])

OnPlanned = Callable[[str, int], None]


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


def freeze_tiles(
    recipe: MapRecipe,
    *,
    catalog: Path,
    base_dir: Path,
    recipe_file: Path | None = None,
    progress: OnPlanned = lambda what, done: None,
) -> MapPlan:
    """Make and write the plan of a map recipe, unless its very plan is there.

    One process at a time plans a collection: others wait for it, and take its plan. Where a source stops answering, what it has
    answered stays in the folder, and the next call goes on from there.

    Args:
        recipe: what is asked.
        catalog: the folder that gets a folder of the recipe's name.
        base_dir: the folder that relative paths of the recipe start from.
        recipe_file: where the recipe lies, to be noted for the doctor.
        progress: told what is done, and how much of it so far.

    Raises:
        RecipeError: the folder holds another plan under this name, or one of another map; nothing says when tiles are of.
        PwcatError: as the parts raise it; so where there is no tile.
    """
    folder = catalog / recipe.name
    if (folder / "plan.parquet").is_file():
        raise RecipeError(
            f"{folder}: holds a dataset of another kind; remove the folder, or give the recipe another name"
        )
    if not is_map_folder(folder):
        with locked_in_turn(catalog / f".{recipe.name}.planning", doing=f"{folder}: another planning"):
            if not is_map_folder(folder):
                with _nothing_left(folder):
                    _plan(recipe, folder, base_dir, progress)
    plan = read_tiles(folder)
    if keys := differing_keys(plan.recipe.model_dump(mode="json"), recipe.model_dump(mode="json")):
        raise RecipeError(
            f"{folder}: holds the plan of another recipe of this name ({plan.recipe.hash[:12]}, not {recipe.hash[:12]}); they "
            f"differ in {', '.join(keys)}. Remove the folder, or give the recipe another name"
        )
    if recipe.map is not None:
        require_same_map(folder, base_dir / recipe.map.path)
    if recipe_file is not None:
        note_recipe(folder, recipe_file)
    return plan


@contextmanager
def _nothing_left(folder: Path) -> Iterator[None]:
    """Where no plan comes about, take away what was written for it, but for answers of a source.

    Raises:
        PwcatError: as the plan's making does.
    """
    try:
        yield
    except PwcatError:
        for name in (ENTITIES, TAGS, IMAGES, "recipe.yaml"):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or it holds answers
            folder.rmdir()
        raise


def _plan(recipe: MapRecipe, folder: Path, base_dir: Path, progress: OnPlanned) -> None:
    """Make the plan, and write it down."""
    with open_imagery(recipe.images, base_dir=base_dir, pages=folder / SEARCH) as imagery:
        draft = _Draft(recipe=recipe, folder=folder, base_dir=base_dir, imagery=imagery, progress=progress)
        draft.settle()
    if not len(draft.codes):
        raise PwcatError(
            f"{recipe.name}: no tile of zoom {recipe.tiles.zoom} has {_wanted(recipe)}; {_why_none(draft)}"
        )
    table, layers = draft.table()
    facts = {"candidates": draft.candidates, **(_facts(draft.extracted) if draft.extracted else {})}
    if beyond := int(draft.beyond_map().sum()):
        facts["beyond_map"] = beyond
    notes = {
        "pwcat:recipe_hash": recipe.hash,
        "pwcat:layers": json.dumps(layers, sort_keys=True),
        "pwcat:facts": json.dumps(facts, sort_keys=True),
    }
    folder.mkdir(parents=True, exist_ok=True)
    if recipe.images is not None:
        used = sorted({name for names in draft.offer.items.values() for name in names})
        rows = [{"id": name, "document": json.dumps(draft.offer.documents[name], sort_keys=True)} for name in used]
        _write(folder / IMAGES, pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA))
    with replacing(folder / "recipe.yaml") as temporary:
        temporary.write_text(recipe.to_yaml(), encoding="utf-8")
    if recipe.map is not None:
        note_map(folder, base_dir / recipe.map.path)
    _write(folder / TILES, table.replace_schema_metadata(notes))
    shutil.rmtree(folder / SEARCH, ignore_errors=True)


def _wanted(recipe: MapRecipe) -> str:
    return {"any": "an entity or an image", "map": "an entity", "images": "an image", "both": "entities and an image"}[
        recipe.tiles.need
    ]


def _why_none(draft: _Draft) -> str:
    told = [] if draft.candidates is None else [f"{draft.candidates:,} tiles were asked for"]
    if draft.extracted is not None:
        told.append(f"the map has {draft.extracted.entities:,} entities there")
    if draft.imagery is not None:
        told.append(f"{len(draft.offer.items):,} tiles have an image")
    return "; ".join(told) + ". Look at `tiles` of the recipe"


def _facts(extracted: Extracted) -> dict[str, Any]:
    return {
        "entities": extracted.entities,
        "left_out": dict(extracted.left_out),
        "mended": dict(extracted.mended),
    }


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


@dataclass(kw_only=True)
class _Draft:
    """A plan in the making.

    Attributes:
        codes: of its tiles, in the order of the cube.
        offer: their images.
        candidates: how many tiles were asked for; ``None`` where the map or the images say which.
        extracted: what became of the map; ``None`` without one.
    """

    recipe: MapRecipe
    folder: Path
    base_dir: Path
    imagery: Imagery | None
    progress: OnPlanned
    codes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    offer: Offer = field(default_factory=lambda: Offer(items={}, documents={}, moments={}))
    candidates: int | None = None
    extracted: Extracted | None = None

    @property
    def zoom(self) -> int:
        """Of the tiles."""
        return self.recipe.tiles.zoom

    def settle(self) -> None:
        """Find the tiles, their images and their entities."""
        grid = self.recipe.tiles
        asked = codes_asked(grid, base_dir=self.base_dir)
        self.candidates = None if asked is None else len(asked)
        places = asked
        if places is None and self.imagery is not None:
            places = self.imagery.where(self.zoom)
        if self.imagery is not None and places is not None:
            self._look_for_images(places)
        needs_image = grid.need in ("images", "both")
        if self.recipe.map is None:
            self.codes = np.array(sorted(self.offer.items), dtype=np.int64)
            return
        if places is None and self.imagery is not None:  # the map alone says where to look
            self._extract(only=None, also=())
            self._look_for_images(self.codes)
            if needs_image and len(self.offer.items) < len(self.codes):
                self._extract(only=sorted(self.offer.items), also=())
            return
        pictured = sorted(self.offer.items)
        also = pictured if grid.need in ("any", "images") else ()
        self._extract(only=pictured if needs_image else asked, also=also)

    def _look_for_images(self, codes: NDArray[np.int64]) -> None:
        assert self.imagery is not None, "asked only where there are images"
        self.progress("images", len(codes))
        self.offer = self.imagery.offer(codes, self.zoom)

    def _extract(self, *, only: Any, also: Any) -> None:
        """Write the entities; the tiles are those that have any, and some more."""
        assert self.recipe.map is not None, "asked only where there is a map"
        source = self.base_dir / self.recipe.map.path
        excluded = self.recipe.map.exclude
        self.extracted = write_entities(
            source,
            self.folder,
            zoom=self.zoom,
            only=None if only is None else self._tiles(only),
            also=self._tiles(also),
            exclude=None if excluded is None else Exclusion(tuple(excluded)),
            leave=self.recipe.map.leave,
            progress=self.progress,
        )
        self.codes = encode_tiles(*self.extracted.tiles.T)

    def _tiles(self, codes: Any) -> list[Tile]:
        x, y = decode_tiles(np.asarray(codes, dtype=np.int64))
        return [Tile(self.zoom, *each) for each in zip(x.tolist(), y.tolist(), strict=True)]

    def table(self) -> tuple[pa.Table, dict[str, str]]:
        """:data:`TILE_SCHEMA`, and the source of each region layer."""
        recipe, tiles = self.recipe, self._tiles(self.codes)
        groups = [str(tile.at(recipe.tiles.group_zoom)) for tile in tiles]
        x0, y0, side = corners_of(self.codes, self.zoom)
        lon, lat = from_mercator(x0 + side / 2, y0 - side / 2)
        images = [list(self.offer.items.get(int(code), ())) for code in self.codes]
        labels, layers = self._labels()
        columns: dict[str, Any] = {
            "id": ["-".join(str(tile).split("/")) for tile in tiles],
            "tile": [str(tile) for tile in tiles],
            "group": groups,
            "split": split_groups(groups, val=recipe.split.val, test=recipe.split.test, seed=recipe.seed).tolist(),
            "region": _regions(recipe.tiles.regions, lon, lat),
            "lon": lon,
            "lat": lat,
            "x0": x0,
            "y0": y0,
            "images": images,
            "datetime": self._dates(images),
            **self._of_the_map(),
            **labels,
        }
        arrays = [
            pa.nulls(len(tiles), column.type)
            if column.name not in columns
            else pa.array(columns[column.name], column.type, from_pandas=True)
            for column in TILE_SCHEMA
        ]
        return pa.Table.from_arrays(arrays, schema=TILE_SCHEMA), layers

    def _of_the_map(self) -> Mapping[str, NDArray[Any]]:
        if self.extracted is None:
            return {ENTITY_COUNT: np.zeros(len(self.codes), dtype=np.int64)}
        counts = dict(count_of_tiles(self.folder, len(self.codes)))
        beyond = self.beyond_map()
        return counts | {name: np.where(beyond, np.nan, counts[name]) for name in TARGET_COLUMNS}

    def beyond_map(self) -> NDArray[np.bool_]:
        """Tiles that lie beyond what the map says it covers: that nothing is on them is not known."""
        if self.extracted is None or self.extracted.bounds is None:
            return np.zeros(len(self.codes), dtype=bool)
        x0, y0, x1, y1 = tiles_within(self.extracted.bounds, self.zoom)
        x, y = decode_tiles(self.codes)
        return np.asarray((x < x0) | (x > x1) | (y < y0) | (y > y1))

    def _labels(self) -> tuple[dict[str, pa.Array], dict[str, str]]:
        self.progress("labels", len(self.codes))
        own = any(layer.collection is not None and layer.url is None for layer in self.recipe.regions.given().values())
        source = self.recipe.images.source if self.recipe.images is not None else None
        with open_source(source, base_dir=self.base_dir) if own and source is not None else nullcontext() as opened:
            regions = open_regions(self.recipe.regions, base_dir=self.base_dir, source=opened)
            return label_tiles(self.codes, self.zoom, regions), regions.sources()

    def _dates(self, images: list[list[str]]) -> list[datetime]:
        """When each tile is of: its newest image, else the map.

        Raises:
            RecipeError: neither says it.
        """
        moments = [self.offer.moments[names[0]] if names else float("nan") for names in images]
        day = self._map_day()
        if day is None and np.isnan(moments).any():
            keys = [f"`{key}.day`" for key in ("map", "images") if getattr(self.recipe, key) is not None]
            raise RecipeError(f"{self.recipe.name}: nothing says when its tiles are of; give {' or '.join(keys)}")
        whole = datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None
        return [whole if np.isnan(each) else datetime.fromtimestamp(each, UTC) for each in moments]  # type: ignore[misc]

    def _map_day(self) -> date | None:
        said = self.recipe.map.day if self.recipe.map is not None else None
        return said or (self.extracted.day if self.extracted is not None else None)


def _regions(boxes: Mapping[str, list[float]], lon: NDArray[np.float64], lat: NDArray[np.float64]) -> list[str | None]:
    """The first box that each place lies in, by name."""
    names = np.full(len(lon), None, dtype=object)
    for name, (west, south, east, north) in reversed(list(boxes.items())):
        names[(lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)] = name
    return list(names)


def codes_asked(grid: TileGrid, *, base_dir: Path) -> NDArray[np.int64] | None:
    """Codes of the tiles that a recipe asks for by their places, sorted; ``None`` where it does not.

    Raises:
        RegionError: the file of areas cannot be read.
        SourceError: it holds no areas.
    """
    if grid.only is not None:
        tiles = [parse_tile(name) for name in grid.only]
        return np.unique(encode_tiles([tile.x for tile in tiles], [tile.y for tile in tiles]))
    if grid.areas is not None:
        return np.unique(np.concatenate([_codes_in(tuple(box), grid.zoom) for box in grid.areas]))
    if grid.within is not None:
        return _codes_on(base_dir / grid.within, grid.zoom)
    return None


def _codes_in(bounds: Any, zoom: int) -> NDArray[np.int64]:
    x0, y0, x1, y1 = tiles_within(bounds, zoom)
    columns, rows = np.meshgrid(np.arange(x0, x1 + 1), np.arange(y0, y1 + 1))
    return encode_tiles(columns.ravel(), rows.ravel())


def _codes_on(path: Path, zoom: int) -> NDArray[np.int64]:
    """Codes of the tiles that share an area with any polygon of a file."""
    if not path.is_file():
        raise SourceError(f"tiles.within: {path} is no file")
    shapes = read_vector(path, name="tiles.within").geometry.to_numpy()
    areas = np.array([shape for shape in shapes if shape is not None and shapely.area(shape) > 0], dtype=object)
    if not len(areas):
        raise SourceError(f"tiles.within: {path} holds no areas")
    codes = np.unique(np.concatenate([_codes_in(shapely.bounds(area), zoom) for area in areas]))
    x0, y0, side = corners_of(codes, zoom)
    west, north = from_mercator(x0, y0)
    east, south = from_mercator(x0 + side, y0 - side)
    boxes = shapely.box(west, south, east, north)
    tree = shapely.STRtree(boxes)
    _, touched = tree.query(areas, predicate="intersects")
    return np.asarray(codes[np.unique(touched)])
