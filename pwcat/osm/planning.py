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
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pwcat.atomic import replacing
from pwcat.copies import require_no_copy
from pwcat.errors import PwcatError, RecipeError
from pwcat.lock import locked_in_turn
from pwcat.origin import note_recipe
from pwcat.osm.asked import codes_asked
from pwcat.osm.columns import ENTITY_COUNT
from pwcat.osm.document import MapRecipe
from pwcat.osm.entities import ENTITIES, TAGS, Extracted, write_entities
from pwcat.osm.exclusion import Exclusion
from pwcat.osm.groups import split_groups
from pwcat.osm.imagery import Imagery, Offer, open_imagery
from pwcat.osm.imagery.offers import corners_of
from pwcat.osm.labels import count_of_tiles, label_tiles
from pwcat.osm.plan import IMAGE_SCHEMA, IMAGES, TILE_SCHEMA, TILES, MapPlan, is_map_folder, read_tiles
from pwcat.osm.sources import note_map, require_same_map
from pwcat.osm.targets import TARGET_COLUMNS
from pwcat.osm.tiles import Tile, decode_tiles, encode_tiles, from_mercator, tiles_within
from pwcat.providers import open_source
from pwcat.recipe import differing_keys
from pwcat.regions.opening import open_regions

__all__ = ["OnPlanned", "freeze_tiles"]

SEARCH: Final = "_search"

OnPlanned = Callable[[str, int], None]


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
    require_no_copy(folder, doing="plan or build")
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
