"""Command line of the core: ``pwcat sites`` and ``pwcat plan``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import pyarrow as pa
import shapely
from rich.console import Console

from pwcat.atomic import replacing
from pwcat.costs.design import Design, design_of
from pwcat.costs.estimate import RATE_MB_S, estimate_plan
from pwcat.costs.tables import cost_facts, design_facts, sensor_facts, show_design, show_facts, spectral_facts
from pwcat.errors import PwcatError
from pwcat.geo.tables import POINT_FORMATS, write_points
from pwcat.osm.document import is_map_recipe, load_map_recipe
from pwcat.outputs import require_output
from pwcat.plan import draw_sites, freeze_plan, read_plan
from pwcat.progress import show_drawing
from pwcat.providers import open_source
from pwcat.recipe import Recipe, load_recipe
from pwcat.regions.opening import open_layer
from pwcat.regions.vector import VectorLayer
from pwcat.sensors.frozen import read_tallies
from pwcat.sites.drawing import OnDrawn

__all__ = ["DEFAULT_CATALOG", "plan", "sites"]

DEFAULT_CATALOG = "pwcat-data"

MAP_FORMATS = (".png", ".pdf", ".svg")

_options = (
    click.option(
        "--map", "map_file", type=click.Path(path_type=Path), metavar="FILE", help="Draw the sites: png, pdf, svg."
    ),
    click.option(
        "--map-by",
        metavar="LAYER",
        help="The layer that colours it, all points drawn; biome, and density beyond 20,000 sites, where left out.",
    ),
    click.option("--cells", is_flag=True, help="Count continent × biome × land cover as well."),
    click.option("--json", "as_json", is_flag=True, help="Print all counts, crossed ones included, as JSON."),
)


def _with_output(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_options):
        command = option(command)
    return command


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help=f"Write them: {', '.join(POINT_FORMATS)}."
)
@_with_output
def sites(
    recipe: Path, out: Path | None, map_file: Path | None, map_by: str | None, cells: bool, as_json: bool
) -> None:
    """Choose the places of RECIPE alone: labelled, counted and mapped, without asking for a scene.

    Where a scene is wanted as well, `pwcat plan` goes on drawing until one holds each site; so its places are others.
    """
    require_output(out, POINT_FORMATS, "--out")
    if is_map_recipe(recipe):
        raise PwcatError(f"{recipe}: a map recipe has tiles, not sites; `pwcat plan {recipe}` says which")
    loaded = load_recipe(recipe)
    _require_map(map_file, map_by, loaded)
    with show_drawing(Console(stderr=True)) as progress:
        table = _draw(loaded, recipe.parent, progress)
    design = design_of(table)
    if out is not None:
        _write_sites(out, table)
    if map_file is not None:
        layers = dict.fromkeys(loaded.regions.given(), "")
        _write_map(map_file, loaded, table, layers, map_by, design=design, base_dir=recipe.parent)
    if as_json:
        click.echo(json.dumps({"recipe_hash": loaded.hash, **design.to_dict()}, indent=2))
        return
    console = Console()
    show_design(design, title=loaded.title, cells=cells, console=console)
    show_facts([*design_facts(design)], console=console)
    _say(console, f"Sites: {out}" if out else None, f"Map: {map_file}" if map_file else None)
    _say(console, f"Next: pwcat plan {recipe}")


def _draw(recipe: Recipe, base_dir: Path, progress: OnDrawn) -> pa.Table:
    """The sites; a source is opened only where a layer is a collection there."""
    own = any(layer.collection is not None and layer.url is None for layer in recipe.regions.given().values())
    if not own:
        return draw_sites(recipe, base_dir=base_dir, progress=progress)
    with open_source(recipe.source, base_dir=base_dir) as source:
        return draw_sites(recipe, base_dir=base_dir, source=source, progress=progress)


def _require_map(path: Path | None, by: str | None, recipe: Recipe) -> None:
    """See that a map can be drawn as asked before anything else is done."""
    require_output(path, MAP_FORMATS, "--map")
    if by is None:
        return
    if path is None:
        raise PwcatError(f"--map-by {by}: there is no map to colour; add --map FILE, a {', '.join(MAP_FORMATS)}")
    known = [*recipe.regions.given(), "stratum", "split"]
    if by not in known:
        raise PwcatError(f"--map-by {by}: the recipe has no such layer; it has {', '.join(known)}")


def _write_sites(path: Path, table: pa.Table) -> None:
    """The sites as points, EPSG:4326, with their labels."""
    unknown = {"id", "scene_ids", "composite_ids", "datetime", "landcover_fractions", "shard"}
    frame = table.select([name for name in table.column_names if name not in unknown]).to_pandas()
    write_points(path, frame, layer="sites")


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--catalog", type=click.Path(path_type=Path), default=DEFAULT_CATALOG, show_default=True, help="Folder.")
@click.option(
    "--rate",
    default=RATE_MB_S,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Megabytes a second, for the estimate of hours.",
)
@_with_output
def plan(
    recipe: Path, catalog: Path, rate: float, map_file: Path | None, map_by: str | None, cells: bool, as_json: bool
) -> None:
    """Choose the sites, scenes and pixel windows of RECIPE, write them down, show counts and costs, and stop.

    `pwcat build` goes on from what is written: the same scenes, the same windows. Of a recipe of `kind: map`: its tiles, their
    images, and the entities of the map.
    """
    if is_map_recipe(recipe):
        _plan_map(recipe, catalog, drawn=map_file is not None or map_by is not None or cells, as_json=as_json)
        return
    loaded = load_recipe(recipe)
    _require_map(map_file, map_by, loaded)
    with open_source(loaded.source, base_dir=recipe.parent) as source:
        with show_drawing(Console(stderr=True)) as progress:
            folder = freeze_plan(
                loaded,
                catalog=catalog,
                base_dir=recipe.parent,
                source=source,
                recipe_file=recipe,
                progress=progress,
            )
        frozen = read_plan(folder)
        sensors = read_tallies(folder)
        estimate = estimate_plan(loaded, frozen.table, frozen.scenes(source), rate_mb_s=rate)
    if map_file is not None:
        _write_map(map_file, loaded, frozen.table, frozen.layers, map_by, design=estimate, base_dir=recipe.parent)
    if as_json:
        known = {"folder": str(folder), "recipe_hash": frozen.recipe.hash, "reserve": len(frozen.reserve)}
        known |= {"spectral": frozen.spectral} if frozen.spectral else {}
        known |= {"sensors": sensors} if sensors else {}
        click.echo(json.dumps({**known, **estimate.to_dict()}, indent=2))
        return
    console = Console()
    show_design(estimate, title=loaded.title, cells=cells, console=console)
    beside = sensor_facts(loaded.sensors, sensors)
    chosen = spectral_facts(frozen.spectral) if frozen.spectral else ()
    facts = [*design_facts(estimate, reserve=len(frozen.reserve)), *chosen, *beside, *cost_facts(estimate)]
    show_facts(facts, console=console)
    _say(console, f"Map: {map_file}" if map_file else None, f"Written to {folder}")
    _say(console, f"Next: pwcat build {recipe} --catalog {catalog}")


def _plan_map(recipe: Path, catalog: Path, *, drawn: bool, as_json: bool) -> None:
    """Plan the tiles of a map recipe, and say what there is."""
    from pwcat.osm.planning import freeze_tiles
    from pwcat.osm.showing import plan_counts, show_tiles

    if drawn:
        raise PwcatError("--map, --map-by and --cells: are for sites, and a map recipe has tiles; leave them out")
    loaded = load_map_recipe(recipe)
    frozen = freeze_tiles(loaded, catalog=catalog, base_dir=recipe.parent, recipe_file=recipe)
    if as_json:
        known = {"folder": str(frozen.folder), "recipe_hash": frozen.recipe.hash}
        click.echo(json.dumps({**known, **plan_counts(frozen)}, indent=2))
        return
    console = Console()
    show_tiles(frozen, console)
    _say(console, f"Written to {frozen.folder}", f"Next: pwcat build {recipe} --catalog {catalog}")


def _say(console: Console, *lines: str | None) -> None:
    """Print lines that may hold a path, which is not to be broken."""
    for line in filter(None, lines):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _write_map(
    path: Path,
    recipe: Recipe,
    table: pa.Table,
    layers: Mapping[str, str],
    by: str | None,
    *,
    design: Design,
    base_dir: Path,
) -> None:
    """Draw the sites by a layer; if none is asked for, by the best there is, or how dense they are where they are many."""
    from pwcat.maps import draw_map

    layer = by or _best_layer(design)
    named = f"{layer}: {layers[layer]}" if layers.get(layer) else None
    figure = draw_map(
        table,
        title=recipe.title,
        colour_by=layer,
        density=False if by else None,
        land=_land(recipe, base_dir),
        attribution=" · ".join(filter(None, (recipe.attribution, named))) or None,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lower().removeprefix("."))


def _best_layer(design: Design) -> str:
    """Biome, or whichever layer labels any sample."""
    labelled = [name for name in ("biome", "continent", "landcover") if design.classes[name]]
    return [*labelled, "split"][0]


def _land(recipe: Recipe, base_dir: Path) -> list[shapely.Geometry] | None:
    """The polygons of the first layer that has any, EPSG:4326."""
    for name in ("continent", "biome", "ecoregion"):
        layer = recipe.regions.given().get(name)
        if layer is not None and layer.collection is None and layer.classes is None:
            opened = open_layer(name, layer, base_dir=base_dir)
            if isinstance(opened, VectorLayer):
                return opened.polygons_of()
    return None
