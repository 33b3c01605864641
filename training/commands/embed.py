"""``pwcat embed``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from pwcat.progress import show_counts
from training.collapse import Spread, spread_of
from training.embeddings import Embeddings, embed_run, embedding_name
from training.tasks import open_task

if TYPE_CHECKING:
    from catalog.subset import Subset
    from training.tasks.base import TaskData

__all__ = ["embed"]


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("data", type=click.Path(exists=True))
@click.option("--task", metavar="NAME", help="DATA are the files of this benchmark; see pwcat tasks list.")
@click.option("--name", metavar="NAME", help="Of the column; emb: and the name of RUN's folder by default.")
@click.option("--entities", is_flag=True, help="Embed what lies on the tiles of maps, a row an entity; needs -o.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help=".parquet or .npy, and no column.")
@click.option("--replace", is_flag=True, help="Let it take the place of a column of that name.")
@click.option("--device", help="Torch device, such as cuda or cpu; the fastest there is by default.")
@click.option(
    "--dtype",
    default="float32",
    show_default=True,
    type=click.Choice(["float16", "float32"]),
    help="Of what is written; float16 takes half the space.",
)
@click.option("--other-units", is_flag=True, help="Let data of another unit than in pretraining pass.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def embed(
    run: Path,
    data: str,
    task: str | None,
    name: str | None,
    entities: bool,
    out: Path | None,
    replace: bool,
    device: str | None,
    dtype: str,
    other_units: bool,
    as_json: bool,
) -> None:
    """Embed the samples of DATA by the model of RUN, and keep the vectors as a column of their collections.

    RUN is a run's folder or a model's, DATA a subset's file, or the folder of a dataset or a catalog; with --task a benchmark's
    folder. What is computed is kept in RUN, and gone on with after a stop. Samples can be compared then: pwcat similar CATALOG
    --like ID, pwcat duplicates CATALOG --above .99

    With --entities, the entities of map tiles are embedded, and FILE.parquet tells of each what it is: pwcat similar
    FILE.parquet --like way/123
    """
    if entities:
        _require_entity_options(out, task=task, name=name)
        assert out is not None
        _embed_entities(run, data, out, device=device, dtype=dtype, other_units=other_units, as_json=as_json)
        return
    samples, name = _samples(data, task, out), name or embedding_name(run)
    if out is None:
        _require_room(samples, name, replace=replace)  # before the work
    with show_counts(Console(stderr=True), "samples embedded") as tell:
        found = embed_run(run, samples, device=device, other_units=other_units, progress=tell)
    found = found.of_type("float16" if dtype == "float16" else "float32")
    files = found.save(out, name) if out is not None else found.keep(name, overwrite=replace)
    spread = spread_of(found.values)
    if as_json:
        told = {"name": name, "files": [str(path) for path in files], **found.to_json(), "spread": spread.to_json()}
        click.echo(json.dumps(told, indent=2))
        return
    _show(
        found,
        spread,
        name,
        files,
        is_column=out is None,
        attachable=out is not None and out.suffix != ".npy" and not task,
    )


def _samples(data: str, task: str | None, out: Path | None) -> Subset | TaskData:
    from catalog.subset import load_subset

    if out is not None and out.suffix not in {".npy", ".parquet"}:
        raise click.UsageError(f"{out}: embeddings are written to FILE.parquet or FILE.npy")
    if task is None:
        return load_subset(data)
    if out is None:
        raise click.UsageError("with --task, say where to write them: -o FILE.parquet or -o FILE.npy")
    return open_task(task, data)


def _require_entity_options(out: Path | None, *, task: str | None, name: str | None) -> None:
    if task is not None or name is not None:
        raise click.UsageError("--entities: of a map's tiles; it goes with neither --task nor --name")
    if out is None or out.suffix != ".parquet":
        raise click.UsageError("with --entities, say where to write them: -o FILE.parquet")


def _embed_entities(
    run: Path, data: str, out: Path, *, device: str | None, dtype: str, other_units: bool, as_json: bool
) -> None:
    from catalog.subset import load_subset
    from training.entity_embeddings import embed_run_entities, require_own

    require_own(out)  # before the work
    subset = load_subset(data)
    with show_counts(Console(stderr=True), "entities embedded") as tell:
        found = embed_run_entities(run, subset, device=device, other_units=other_units, progress=tell)
    path, spread = found.save(out, dtype="float16" if dtype == "float16" else "float32"), spread_of(found.values)
    if as_json:
        click.echo(json.dumps({"file": str(path), **found.to_json(), "spread": spread.to_json()}, indent=2))
        return
    entities, numbers = found.values.shape
    click.echo(f"{entities:,} entities of {len(subset):,} tiles, {numbers:,} numbers each, {dtype}: {found.meaning}")
    click.echo(_sentence(spread))
    click.echo(f"Written to {path}")
    click.echo(f"Next: pwcat similar {shlex.quote(str(path))} --like {found.first_name()}")


def _sentence(spread: Spread) -> str:
    return str(spread)[:1].upper() + str(spread)[1:]


def _require_room(samples: Subset | TaskData, name: str, *, replace: bool) -> None:
    from catalog.columns import require_room
    from catalog.subset import Subset

    if isinstance(samples, Subset):
        require_room(samples, name, overwrite=replace)


def _show(
    found: Embeddings, spread: Spread, name: str, files: list[Path], *, is_column: bool, attachable: bool
) -> None:
    samples, numbers = found.values.shape
    click.echo(f"{samples:,} samples, {numbers:,} numbers each, {found.values.dtype}: {found.meaning}")
    click.echo(found.made["pooling"])
    click.echo(_sentence(spread))
    if is_column:
        click.echo(f"Column {name} of {', '.join(path.parent.parent.name for path in files)}")
        click.echo(f"Next: pwcat similar CATALOG --like ID --column {name}")
        return
    click.echo(f"Written to {' and '.join(str(path) for path in files)}")
    if attachable:
        click.echo(f"Next: pwcat catalog columns CATALOG --add {files[0]}")
