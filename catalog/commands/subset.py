"""``pwcat subset``: subsets saved, joined, matched, nested, split and shown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from catalog.commands.asking import GroupedCommand, asked, search_options
from pwcat.errors import CatalogError

if TYPE_CHECKING:
    from catalog.subset import Subset

__all__ = ["subset"]

OUT = click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="File to write, *.parquet.")
FOLDER = click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the subsets.")
SEED = click.option("--seed", type=int, default=0, show_default=True, help="Of the draw.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
DATA = click.argument("data")


@click.group()
def subset() -> None:
    """Save, join, match, nest and split subsets. DATA is a subset's file, or the folder of a dataset or a catalog.

    A subset is a small file of sample ids: it trains and publishes straight from the datasets it was found in.
    """


@subset.command(cls=GroupedCommand, short_help="Save what a search finds.")
@click.argument("catalog")
@search_options
@OUT
@JSON
def save(catalog: str, out: Path, as_json: bool, **options: Any) -> None:
    """Save what a search in CATALOG finds; its options are those of `pwcat search`."""
    _write({"": asked(catalog, **options)}, out, as_json=as_json)


@subset.command(short_help="Samples of A, B or any other.")
@click.argument("parts", metavar="A B ...", nargs=-1, required=True)
@OUT
@JSON
def union(parts: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Samples of A, B or any other."""
    _write({"": _joined(parts, lambda a, b: a | b)}, out, as_json=as_json)


@subset.command(short_help="Samples that all of A, B, ... have.")
@click.argument("parts", metavar="A B ...", nargs=-1, required=True)
@OUT
@JSON
def intersect(parts: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Samples of A and B and all others."""
    _write({"": _joined(parts, lambda a, b: a & b)}, out, as_json=as_json)


@subset.command(short_help="Samples of A that are in no other.")
@click.argument("parts", metavar="A B ...", nargs=-1, required=True)
@OUT
@JSON
def subtract(parts: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Samples of A that are in no other."""
    _write({"": _joined(parts, lambda a, b: a - b)}, out, as_json=as_json)


@subset.command(short_help="Subsets that differ in one factor alone.")
@DATA
@click.option(
    "--vary", required=True, metavar="FACTOR,...", help="What they differ in; several make a factorial design."
)
@click.option("--match", "agree", default="", metavar="FACTOR,...", help="What they agree in, class by class.")
@click.option("--level", "levels", multiple=True, metavar="NAME", help="Only this level of --vary; several times.")
@click.option("--n", type=int, help="Samples of each; as many as can be where it is not given.")
@SEED
@FOLDER
@JSON
def match(
    data: str, vary: str, agree: str, levels: tuple[str, ...], n: int | None, seed: int, out: Path, as_json: bool
) -> None:
    """Subsets of DATA that differ in one factor and agree in others, and in number.

    \b
    Factors: continent, biome, ecoregion, landcover, split, collection,
    season, month, year, cloud, latitude, valid, entropy (quarters; entropy:10
    for tenths).

    \b
    Example: what does Europe do, at equal season, cloud and land cover?
    pwcat subset match catalog --vary continent --level Europe --level Asia \\
      --match season,cloud,landcover -o europe-or-asia
    """
    from catalog.subset import load_subset
    from catalog.subsets.matching import match as matched

    varied, agreeing = ([name.strip() for name in text.split(",") if name.strip()] for text in (vary, agree))
    found = matched(load_subset(data), vary=varied, agree=agreeing, levels=list(levels) or None, n=n, seed=seed)
    _write(found.subsets, out, as_json=as_json, more={"agree": dict(found.agree), "most": found.most})
    if not as_json and agreeing:
        classes = "1 class" if len(found.agree) == 1 else f"{len(found.agree):,} classes"
        click.echo(
            f"Each has the same number of samples in {classes} of {' x '.join(agreeing)}; at most {found.most:,} could be had"
        )


@subset.command(short_help="Subsets of growing size, one in the other.")
@DATA
@click.option("--sizes", required=True, metavar="N,...", help="Samples of each.")
@click.option("--by", metavar="FACTOR", help="Keep the shares of its classes; factors are those of `match`.")
@SEED
@FOLDER
@JSON
def nest(data: str, sizes: str, by: str | None, seed: int, out: Path, as_json: bool) -> None:
    """Subsets of DATA of growing size, each of which holds all smaller ones."""
    from catalog.subset import load_subset
    from catalog.subsets.matching import nest as nested

    try:
        numbers = [int(size.strip().replace("_", "")) for size in sizes.split(",")]
    except ValueError as exc:
        raise CatalogError(f"--sizes {sizes}: whole numbers are wanted, as in 1000,3000,10000") from exc
    found = nested(load_subset(data), numbers, by=by, seed=seed)
    _write({str(len(part)): part for part in found}, out, as_json=as_json)


@subset.command(short_help="Split into train and val by blocks of land.")
@DATA
@click.option("--val-fraction", type=float, default=0.2, show_default=True, help="Wanted share of validation samples.")
@click.option("--block-km", type=float, default=50.0, show_default=True, help="Side of a block.")
@SEED
@OUT
@JSON
def split(data: str, val_fraction: float, block_km: float, seed: int, out: Path, as_json: bool) -> None:
    """DATA with a split of its own: whole blocks of land go to train or to val."""
    from catalog.subset import load_subset
    from catalog.subsets.matching import block_split

    found = block_split(load_subset(data), val_fraction=val_fraction, block_km=block_km, seed=seed)
    counts = {name: len(found.split(name)) for name in ("train", "val")}
    _write({"": found}, out, as_json=as_json, more={"split": counts})
    if not as_json:
        click.echo(f"{counts['train']:,} samples to train with, {counts['val']:,} to validate with")


@subset.command(short_help="What a subset's file holds.")
@click.argument("file", type=click.Path(path_type=Path))
@JSON
def show(file: Path, as_json: bool) -> None:
    """What a subset's FILE holds: its query, its datasets, its hash; and whether these are still what they were."""
    from catalog.subset import Subset
    from catalog.subsets.saved import read_notes

    notes = read_notes(file)
    found = Subset.load(file)
    parents = {collection.name: rows.stop - rows.start for collection, rows in found.parts()}
    if as_json:
        click.echo(json.dumps({"samples": len(found), "collections": parents, **notes}, indent=2))
        return
    click.echo(f"{file}: {len(found):,} samples, {found.hash[:12]}; its datasets are as they were")
    for name, count in parents.items():
        click.echo(f"  {count:,} of {name} ({notes['collections'][name]['place']})")
    click.echo(f"  query: {json.dumps(notes.get('query', {}), ensure_ascii=False)}")


def _joined(parts: tuple[str, ...], join: Any) -> Subset:
    from catalog.subset import load_subset

    first, *rest = map(load_subset, parts)
    if not rest:
        raise CatalogError(f"two subsets or more are wanted, got {parts[0]} alone")
    for other in rest:
        first = join(first, other)
    return first


def _write(subsets: Mapping[str, Subset], out: Path, *, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    """Save subsets, one to a file or several to a folder, and say so."""
    if empty := [name or "the answer" for name, part in subsets.items() if not len(part)]:
        raise CatalogError(f"{empty[0]} holds no samples, and nothing is saved to {out}")
    paths = {name: out if name == "" else out / f"{_file_name(name)}.parquet" for name in subsets}
    if len(set(paths.values())) < len(paths):
        raise CatalogError(
            f"{out}: names of these subsets differ in signs that names of files have not: {', '.join(subsets)}"
        )
    for name, part in subsets.items():
        part.save(paths[name])
    if as_json:
        written = {
            name or out.stem: {"path": str(paths[name]), "samples": len(part), "hash": part.hash}
            for name, part in subsets.items()
        }
        click.echo(json.dumps({"subsets": written, **(more or {})}, indent=2))
        return
    for name, part in subsets.items():
        click.echo(f"{paths[name]}: {len(part):,} samples, {part.hash[:12]}")


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name.strip().lower()).strip("-.") or "subset"
