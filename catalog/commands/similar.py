"""``pwcat similar`` and ``pwcat duplicates``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from catalog.commands.asking import GroupedCommand, GroupedOption, asked, filter_options, shown_place
from catalog.commands.similar_entities import read_vectors, require_no_more, show_entities
from pwcat.errors import CatalogError
from pwcat.outputs import require_same_kind

if TYPE_CHECKING:
    from rich.table import Table

    from catalog.query import Catalog
    from catalog.similar import Duplicates, Neighbours
    from catalog.subset import Subset

__all__ = ["duplicates", "similar"]

NOTES = b"pwcat:duplicates"  # that a file of pairs has
ENTITIES = "Of map entities"
ID_WIDTH, BIOME_WIDTH, LANDCOVER_WIDTH = 22, 20, 14


@click.command(cls=GroupedCommand)
@click.argument("catalog")
@click.option(
    "--like",
    multiple=True,
    required=True,
    metavar="ID|LON,LAT|FILE.npy",
    help="A sample; the sample nearest to a place; vectors. Of entities: way/123. May be repeated: like any.",
)
@click.option("--column", metavar="NAME", help="Of vectors, as emb:europe; the only one there is by default.")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1), metavar="N", help="How many to find.")
@filter_options
@click.option(
    "--other-tiles", is_flag=True, cls=GroupedOption, group=ENTITIES, help="Leave out those on its own tiles."
)
@click.option(
    "--same-kind", is_flag=True, cls=GroupedOption, group=ENTITIES, help="Points, lines or polygons only, as it is."
)
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="Save them as a subset.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def similar(
    catalog: str,
    like: tuple[str, ...],
    column: str | None,
    limit: int,
    other_tiles: bool,
    same_kind: bool,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the samples of CATALOG whose vectors are most like those of a sample, of a place or of a file.

    CATALOG is a catalog's or a collection's folder; `pwcat embed` adds such vectors. The options of `pwcat search` narrow where
    is searched, and not what is to be like. Or it is a file of `pwcat embed --entities`: then entities of maps are found, by
    the number that OpenStreetMap knows them by, as in --like way/123.
    """
    from catalog.entities import is_entity_file
    from catalog.query import open_catalog
    from catalog.similar import nearest
    from catalog.vectors import choose_column

    if is_entity_file(catalog):
        require_no_more(out=out, column=column, **options)
        show_entities(catalog, like, limit=limit, other_tiles=other_tiles, same_kind=same_kind, as_json=as_json)
        return
    if other_tiles or same_kind:
        raise click.UsageError(
            f"--other-tiles and --same-kind are of entities, and {catalog} is no file of such embeddings"
        )
    whole = open_catalog(catalog)
    name = choose_column(whole.search(), column)
    wanted, told = _like(whole, like, name)
    found = nearest(asked(catalog, **options), name, wanted, limit=limit)
    if out is not None and len(found):
        found.samples().save(out)
    samples = _samples(found)
    if as_json:
        click.echo(json.dumps({"column": name, "like": told, "samples": samples}, indent=2))
        return
    for one in told:
        click.echo(_told(one))
    _show(samples, name)
    if out is not None:
        click.echo(f"Saved to {out}. Next: pwcat stats {out}" if len(found) else f"Nothing is saved to {out}")


def _like(catalog: Catalog, like: tuple[str, ...], column: str) -> tuple[Subset | np.ndarray, list[dict[str, Any]]]:
    """What is to be like, and what is said of each."""
    if any(text.endswith(".npy") for text in like):
        if len(like) > 1:
            raise CatalogError("--like: a file of vectors is asked for alone; stack several into one file")
        vectors = read_vectors(Path(like[0]))
        return vectors, [{"file": like[0], "vectors": len(np.atleast_2d(vectors))}]
    found: Subset | None = None
    told = []
    for text in like:
        one, km = _one(catalog, text, column)
        lon, lat = one.lonlat[0].tolist()
        about = one.columns(["collection", "id", "div:biome", "div:landcover"]).to_pylist()[0]
        told.append(
            {**_plain(about), "lon": lon, "lat": lat, **({} if km is None else {"km_from_there": round(km, 3)})}
        )
        found = one if found is None else found | one
    assert found is not None  # click asks for at least one
    return found, told


def _one(catalog: Catalog, text: str, column: str) -> tuple[Subset, float | None]:
    """A sample by its id, or the one nearest to a place, which is how many kilometres from it."""
    from catalog.similar import nearest_to

    collection, slash, rest = text.partition("/")
    found = catalog.search(ids=[text])
    if not len(found) and slash and collection in catalog.members:
        found = catalog.search(ids=[rest], collections=[collection])
    if len(found) == 1:
        return found, None
    if len(found):
        names = ", ".join(f"{member.name}/{text}" for member in found.collections)
        raise CatalogError(f"--like {text}: {len(found)} collections have a sample of that id; name one of {names}")
    lon, comma, lat = text.partition(",")
    try:
        place = (float(lon), float(lat)) if comma else None
    except ValueError:
        place = None
    if place is None:
        raise CatalogError(
            f"--like {text}: {catalog.place} has no sample of that id; the id of a sample, LON,LAT in degrees as in 8.5,47.4, "
            "or a .npy file of vectors is wanted"
        )
    return nearest_to(catalog.search(), column, *place)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key.rpartition(":")[2]: value for key, value in row.items()}


def _told(one: dict[str, Any]) -> str:
    if "file" in one:
        return f"Like {one['vectors']:,} vector{'' if one['vectors'] == 1 else 's'} of {one['file']}"
    far = f"; {one['km_from_there']:,.1f} km from there" if "km_from_there" in one else ""
    labels = ", ".join(one[name] for name in ("biome", "landcover") if one[name])
    return f"Like {one['id']} of {one['collection']}{f': {labels}' if labels else ''}{far}"


def _samples(found: Neighbours) -> list[dict[str, Any]]:
    rows, back = np.unique(found.rows, return_inverse=True)
    some = found.subset.only(rows)
    about = some.columns(["collection", "id", "div:biome", "div:landcover", "div:continent"]).to_pylist()
    lonlat = some.lonlat.tolist()
    return [
        {
            **_plain(about[k]),
            "lon": lonlat[k][0],
            "lat": lonlat[k][1],
            "similarity": float(similarity),
            "km": None if np.isnan(km) else round(float(km), 3),
        }
        for k, similarity, km in zip(back.tolist(), found.similarity, found.km, strict=True)
    ]


def _table(title: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _show(samples: list[dict[str, Any]], column: str) -> None:
    from rich.console import Console

    if not samples:
        click.echo(f"No other sample that was asked for has a vector in column {column}")
        return
    table = _table(f"The {len(samples):,} most similar by {column}")
    for heading in ("Sample", "Similarity", "km", "Biome", "Land cover"):
        table.add_column(heading, justify="right" if heading in {"Similarity", "km"} else "left", no_wrap=True)
    for one in samples:
        table.add_row(
            shown_place(one["id"], ID_WIDTH),
            f"{one['similarity']:.6f}",
            "" if one["km"] is None else f"{one['km']:,.1f}",
            shown_place(one["biome"], BIOME_WIDTH),
            shown_place(one["landcover"], LANDCOVER_WIDTH),
        )
    Console().print(table)


@click.command()
@click.argument("data", type=click.Path(exists=True))
@click.option("--column", metavar="NAME", help="Of vectors, as emb:europe; the only one there is by default.")
@click.option("--above", required=True, type=click.FloatRange(-1, 1), help="Pairs at least so similar, as .99.")
@click.option("--other", type=click.Path(exists=True), metavar="DATA", help="Compare with these samples instead.")
@click.option("--pairs", type=click.Path(path_type=Path), metavar="FILE", help="Write the pairs, as Parquet.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="Save DATA without them.")
@click.option("--show", default=8, show_default=True, type=click.IntRange(0), metavar="N", help="Pairs to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def duplicates(
    data: str,
    column: str | None,
    above: float,
    other: str | None,
    pairs: Path | None,
    out: Path | None,
    show: int,
    as_json: bool,
) -> None:
    """Find samples of DATA, a subset's file or a dataset's or catalog's folder, whose vectors are nearly the same.

    With -o all but one of each are left out: the first stays, what is like it goes. With --other, all that are like a sample of
    the other go.
    """
    from rich.console import Console

    from catalog.similar import near_duplicates
    from catalog.subset import load_subset
    from catalog.vectors import choose_column
    from pwcat.progress import show_counts

    require_same_kind(pairs, NOTES, "--pairs")
    subset = load_subset(data)
    name = choose_column(subset, column)
    with show_counts(Console(stderr=True), "blocks of pairs") as tell:
        found = near_duplicates(
            subset, name, above=above, other=None if other is None else load_subset(other), progress=tell
        )
    if pairs is not None:
        _write_pairs(found, pairs)
    if out is not None and len(found.left_out) < len(subset):
        found.remaining().save(out)
    summary = _summary(found)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    _show_pairs(found, summary, show)
    if out is not None:
        kept = len(subset) - len(found.left_out)
        click.echo(
            f"{kept:,} sample{'s'[: kept != 1]} without them saved to {out}"
            if kept
            else f"No sample is left to save to {out}"
        )


def _write_pairs(found: Duplicates, path: Path) -> None:
    import pyarrow.parquet as pq

    from pwcat.atomic import replacing

    notes = {NOTES: json.dumps({"column": found.column, "above": found.above}).encode()}
    with replacing(path) as temporary:
        pq.write_table(found.table().replace_schema_metadata(notes), temporary, compression="zstd")


def _summary(found: Duplicates) -> dict[str, Any]:
    groups = {} if found.other is not None else {"groups": len(found.groups), "group_sizes": _sizes(found)}
    return {
        "column": found.column,
        "above": found.above,
        "samples": len(found.subset),
        "without_vector": found.without,
        "pairs": len(found),
        **groups,
        "left_out": len(found.left_out),
        "km_percentiles": {
            str(p): round(float(q), 3) for p, q in zip((5, 50, 95), np.percentile(found.km, (5, 50, 95)), strict=True)
        }
        if len(found)
        else {},
    }


def _sizes(found: Duplicates) -> dict[str, int]:
    sizes, counts = np.unique([len(group) for group in found.groups], return_counts=True)
    return {str(int(size)): int(count) for size, count in zip(sizes, counts, strict=True)}


def _show_pairs(found: Duplicates, summary: dict[str, Any], show: int) -> None:
    from rich.console import Console

    without = f"; {found.without:,} have no vector" if found.without else ""
    groups = f" in {summary['groups']:,} group{'s'[: summary['groups'] != 1]}" if summary.get("groups") else ""
    click.echo(
        f"{len(found):,} pairs{groups} of {len(found.subset):,} samples are {found.above:.7g} or more similar by {found.column}"
        f"{without}"
    )
    if not len(found):
        return
    far = summary["km_percentiles"]
    click.echo(f"They lie {far['50']:,.1f} km apart in the middle, {far['5']:,.1f} to {far['95']:,.1f} km of 5 to 95 %")
    click.echo(f"{summary['left_out']:,} samples have to go so that no pair is left")
    if show:
        rows = found.table().slice(0, show).to_pylist()
        table = _table("Most similar")
        for heading in ("Sample", "Like", "Similarity", "km"):
            table.add_column(heading, justify="right" if heading in {"Similarity", "km"} else "left", no_wrap=True)
        for row in rows:
            names = (shown_place(row[key], ID_WIDTH) for key in ("id", "like_id"))
            table.add_row(*names, f"{row['similarity']:.6f}", f"{row['km']:,.1f}")
        Console().print(table)
