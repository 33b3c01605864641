"""``pwcat regions``: which datasets there are, fetching them, looking at a layer, labelling points."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from pwcat.errors import RegionError
from pwcat.geo.tables import POINT_FORMATS, write_points
from pwcat.layers import Layer, RegionLayers
from pwcat.outputs import require_output
from pwcat.providers import OpenSource, open_source
from pwcat.recipe import load_recipe
from pwcat.regions.cache import (
    cache_folder,
    checked,
    dataset_path,
    fetch_dataset,
    is_here,
    place_of,
    read_receipt,
    tidy_cache,
)
from pwcat.regions.datasets import DATASETS, DEFAULTS, Dataset, find_dataset

__all__ = ["regions"]

log = logging.getLogger(__name__)

# What `show` and `label` may be told about a layer, in the words of a recipe.
_DATASET = click.option("--dataset", help="A dataset by name; default: the layer's usual one.")
_PATH = click.option("--path", help="A file instead; with --dataset, that dataset's own.")
_FIELD = click.option("--field", help="Vector files: the attribute that holds the class.")
_CLASSES = click.option("--classes", type=click.Choice(["igbp", "worldcover"]), help="Raster files: the legend.")
_RECIPE = click.option("--recipe", type=click.Path(path_type=Path), help="Take the layers from this recipe.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def regions() -> None:
    """Region layers: continents, biomes, ecoregions, land cover."""


@regions.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """Show the datasets that are known by name, and which are on this computer."""
    tidy_cache()
    rows = [_row(dataset) for dataset in DATASETS.values()]
    if as_json:
        click.echo(json.dumps({"cache": str(cache_folder()), "datasets": rows}, indent=2))
        return
    table = Table(box=SIMPLE_HEAD)
    for name in ("Dataset", "Layer", "Licence", "Size", "Here"):
        table.add_column(name, justify="right" if name == "Size" else "left", no_wrap=name != "Layer", overflow="fold")
    for row, dataset in zip(rows, DATASETS.values(), strict=True):
        layers = ", ".join(dataset.layers) or "points"
        table.add_row(dataset.name, layers, dataset.licence, _size(dataset), str(row["here"]))
    console = Console()
    console.print(table)
    console.print(f"Files lie in {cache_folder()}.", highlight=False, soft_wrap=True)
    console.print("Next: pwcat regions fetch NAME, pwcat regions show LAYER", highlight=False)


def _row(dataset: Dataset) -> dict[str, object]:
    return {
        "name": dataset.name,
        "title": dataset.title,
        "layers": list(dataset.layers),
        "licence": dataset.licence,
        "attribution": dataset.attribution,
        "page": dataset.page,
        "url": dataset.url or None,
        "bytes": dataset.bytes,
        "sha256": dataset.sha256,
        "path": None if dataset.kind == "stac" else str(place_of(dataset)),
        "here": (here := _here(dataset)),
        "checked": checked(dataset) if here == "yes" else None,
    }


def _here(dataset: Dataset) -> str:
    if dataset.kind == "stac":
        return "read online"
    if not place_of(dataset).is_file():
        return "by hand" if dataset.by_hand else "no"
    try:
        dataset_path(dataset.name)
    except RegionError:
        return "damaged"
    return "yes" if dataset.sha256 or read_receipt(place_of(dataset)) else "unchecked"


def _size(dataset: Dataset) -> str:
    path = None if dataset.kind == "stac" else place_of(dataset)
    size = path.stat().st_size if path is not None and path.is_file() else dataset.bytes
    return "" if size is None else f"{size / 1e6:,.1f} MB"


@regions.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--from", "origin", help="Take it from this file or address instead of its official source.")
@click.option("--again", is_flag=True, help="Replace what is there.")
@_JSON
def fetch(names: tuple[str, ...], origin: str | None, again: bool, as_json: bool) -> None:
    """Bring the datasets NAMES into the cache, from their official source, and verify them.

    A layer's name (continent, biome, ecoregion, landcover) stands for its usual dataset. This is the only command that
    downloads. What cannot be had is told at the end; the others are brought all the same.
    """
    if origin is not None and len(names) > 1:
        raise RegionError(f"--from is one dataset's: name one, not {', '.join(names)}")
    datasets = [find_dataset(name) for name in dict.fromkeys(find_dataset(name).name for name in names)]
    results, faults = [], {}
    for dataset in datasets:
        try:
            path, fetched = _fetch(dataset, origin=origin, again=again)
        except RegionError as exc:
            faults[dataset.name] = str(exc)
            continue
        results.append(
            {
                "name": dataset.name,
                "path": str(path),
                "fetched": fetched,
                "checked": checked(dataset),
                "attribution": dataset.attribution,
            }
        )
        if not as_json:
            _tell(dataset, path, fetched)
    if as_json:
        click.echo(json.dumps(results, indent=2))
    if len(datasets) == 1 and faults:
        raise RegionError(*faults.values())
    if faults:
        listed = "\n".join(f"  {name}: {fault}" for name, fault in faults.items())
        raise RegionError(f"{len(faults)} of {len(datasets)} datasets could not be fetched:\n{listed}")


def _fetch(dataset: Dataset, *, origin: str | None, again: bool) -> tuple[Path, bool]:
    from pwcat.regions.opening import check_file

    with _progress() as bar:
        task = bar.add_task(dataset.name, total=None)
        return fetch_dataset(
            dataset.name,
            origin=origin,
            again=again,
            check=check_file,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _tell(dataset: Dataset, path: Path, fetched: bool) -> None:
    from pwcat.regions.editions import edition_of, warn_of_another

    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{dataset.name}: {'fetched to' if fetched else 'already there:'} {path}")
    first = (
        "what it holds; pwcat knows no SHA-256 of it, so that of today is kept, and asked for from now on"
        if fetched and dataset.sha256 is None
        else checked(dataset)
    )
    console.print(f"  checked: {first}")
    console.print(f"  {dataset.licence}; please name: {dataset.attribution}")
    edition = edition_of(dataset, path)
    warn_of_another(dataset, edition)
    if edition is not None and edition.version == dataset.version:
        console.print(f"  {edition}, {edition.said_by} says")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


@regions.command()
@click.argument("layer")
@_DATASET
@_PATH
@_FIELD
@_CLASSES
@_RECIPE
@_JSON
def show(
    layer: str,
    dataset: str | None,
    path: str | None,
    field: str | None,
    classes: str | None,
    recipe: Path | None,
    as_json: bool,
) -> None:
    """Show the classes of LAYER with their area and share, its source, licence, and where its file lies.

    LAYER is continent, biome, ecoregion, landcover, a name of your recipe's, or a dataset. Of continents, every place is
    listed that lies on another continent than its country's attribute says.
    """
    from pwcat.regions.inspection import describe_layer
    from pwcat.regions.tables import show_layer

    name, document = _layer_document(layer, dataset=dataset, path=path, field=field, classes=classes, recipe=recipe)
    with _source_of(recipe) as source:
        description = describe_layer(name, document, base_dir=_base(recipe), source=source)
    if as_json:
        click.echo(json.dumps(description.to_dict(), indent=2))
        return
    show_layer(description, console=Console())


@regions.command(context_settings={"ignore_unknown_options": True})  # a point may start with a minus
@click.argument("points")
@click.option("--layer", "layers", multiple=True, help="NAME or NAME=DATASET; may be repeated. Default: those on hand.")
@_RECIPE
@click.option("--lon", help="Tables: the column of longitudes. Default: lon, longitude, lng, long or x.")
@click.option("--lat", help="Tables: the column of latitudes. Default: lat, latitude or y.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help=f"Write all points with their columns and labels instead of a table: {', '.join(POINT_FORMATS)}.",
)
@click.option("--column", "columns", multiple=True, metavar="LAYER=NAME", help="-o: call a layer's column so.")
@_JSON
def label(
    points: str,
    layers: tuple[str, ...],
    recipe: Path | None,
    lon: str | None,
    lat: str | None,
    out: Path | None,
    columns: tuple[str, ...],
    as_json: bool,
) -> None:
    """Label POINTS: one point as LON,LAT, or a file of places.

    Files are CSV with any separator, Parquet and GeoParquet (a plan, too), and what GDAL reads: GeoJSON, GeoPackage,
    FlatGeobuf, shapefiles. Of lines and polygons the centroid is labelled.
    """
    from pwcat.regions.inspection import label_points, read_points
    from pwcat.regions.tables import show_labels, sources_line

    require_output(out, POINT_FORMATS, "-o")
    if (lon is None) != (lat is None):
        raise RegionError("give both --lon and --lat, or neither")
    table = read_points(points, lon=lon, lat=lat)
    documents = _label_documents(layers, recipe)
    with _source_of(recipe) as source:
        labelled = label_points(
            table if out is not None else table[["lon", "lat"]],  # no other column is shown, so none is in the way
            documents,
            base_dir=_base(recipe),
            source=source,
            columns=_columns(columns, documents),
        )
    if out is not None:
        write_points(out, labelled.rows, layer="points")
        console = Console(soft_wrap=True, highlight=False)
        console.print(f"{len(labelled.rows):,} {'point' if len(labelled.rows) == 1 else 'points'} with labels: {out}")
        console.print(sources_line(labelled), markup=False)
    elif as_json:
        click.echo(json.dumps(labelled.to_records(), indent=2))
    else:
        show_labels(labelled, console=Console())


def _columns(given: Sequence[str], documents: Mapping[str, Layer]) -> dict[str, str]:
    """The columns that layers are written to, from ``LAYER=NAME``."""
    pairs = [text.partition("=") for text in given]
    wrong = [text for text, (layer, _, name) in zip(given, pairs, strict=True) if layer not in documents or not name]
    if wrong:
        raise RegionError(
            f"--column {' '.join(wrong)}: write LAYER=NAME, with LAYER one of those that are asked: {', '.join(documents)}"
        )
    return {layer: name for layer, _, name in pairs}


def _layer_document(
    layer: str, *, dataset: str | None, path: str | None, field: str | None, classes: str | None, recipe: Path | None
) -> tuple[str, Layer]:
    """The name of a layer, and what it is, from the options."""
    options = {"dataset": dataset, "path": path, "field": field, "classes": classes}
    given = {key: value for key, value in options.items() if value is not None}
    if recipe is not None:
        if given:
            raise RegionError("--recipe says what the layers are: leave the other options out")
        return layer, _of_recipe([layer], recipe)[layer]
    if layer in DATASETS and not given:
        name = next(iter(DATASETS[layer].layers), layer)
        return name, _checked(name, {"dataset": layer})
    if not given and layer not in DEFAULTS:
        raise RegionError(
            f"no layer {layer!r}: name one of {', '.join(DEFAULTS)} or a dataset ({', '.join(DATASETS)}), or say what it is "
            "with --path and --field or --classes, or with --recipe"
        )
    return layer, _checked(layer, given or {"dataset": _usual(layer, "--dataset {dataset}")})


def _label_documents(layers: tuple[str, ...], recipe: Path | None) -> dict[str, Layer]:
    if recipe is not None:
        return _of_recipe(layers, recipe)
    if layers:
        pairs = [x.partition("=") for x in layers]
        usual = {name: dataset or _usual(name, "--layer {layer}={dataset}") for name, _, dataset in pairs}
        return {name: _checked(name, {"dataset": dataset}) for name, dataset in usual.items()}
    here = {name: dataset for name in DEFAULTS for dataset in _here_for(name)[:1]}
    if not here:
        raise RegionError(
            f"no dataset is on hand in {cache_folder()}: run `pwcat regions fetch continent biome`, or name layers with "
            "--layer or --recipe"
        )
    for name, dataset in here.items():
        if dataset != DEFAULTS[name]:
            log.warning("%s is labelled by %s, since %s is not there", name, dataset, DEFAULTS[name])
    return {name: _checked(name, {"dataset": dataset}) for name, dataset in here.items()}


def _here_for(layer: str) -> list[str]:
    """The datasets on this computer that give a layer, the usual one first."""
    ranked = sorted(DATASETS, key=lambda name: name != DEFAULTS[layer])
    return [name for name in ranked if layer in DATASETS[name].layers and is_here(DATASETS[name])]


def _usual(layer: str, option: str) -> str:
    """The dataset that a layer's name alone stands for.

    Raises:
        RegionError: it is not there, but another of that layer is: that is named, never taken by itself, so that the same
            command gives the same answer on every computer.
    """
    if layer not in DEFAULTS:
        return layer
    usual, here = DEFAULTS[layer], _here_for(layer)
    if here and usual not in here:
        raise RegionError(
            f"{layer} means the dataset {usual!r}, which is not there: run `pwcat regions fetch {usual}`; or take "
            f"{here[0]!r}, which is there: `{option.format(layer=layer, dataset=here[0])}`"
        )
    return usual


def _of_recipe(layers: Sequence[str], recipe: Path) -> dict[str, Layer]:
    given = load_recipe(recipe).regions.given()
    lacking = [name for name in layers if name not in given]
    if lacking or not given:
        has = ", ".join(given) or "no layers"
        raise RegionError(f"{recipe} does not give the layer {' or '.join(map(repr, lacking))}; it has {has}")
    return {name: given[name] for name in layers or given}


def _checked(name: str, document: dict[str, str]) -> Layer:
    try:
        return RegionLayers.model_validate({name: document}).given()[name]
    except ValidationError as exc:
        faults = "; ".join(error["msg"].removeprefix("Value error, ") for error in exc.errors())
        raise RegionError(f"the layer {name!r}: {faults}") from exc


def _base(recipe: Path | None) -> Path:
    return recipe.parent if recipe is not None else Path()


@contextmanager
def _source_of(recipe: Path | None) -> Iterator[OpenSource | None]:
    """The recipe's source, where one of its layers is a collection there."""
    loaded = load_recipe(recipe) if recipe is not None else None
    if loaded is None or not any(x.collection and not x.url for x in loaded.regions.given().values()):
        yield None
        return
    with open_source(loaded.source, base_dir=_base(recipe)) as source:
        yield source
