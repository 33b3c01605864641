"""``pwcat demo``: the whole road in miniature on the embedded archive, from places to a published dataset.

*Pretrain Where?* (Kaur et al., 2026) in small: six one-hot continents and a global dataset, one tiny SatMAE each, scores on
held-out places, and the rank correlation of each diversity with the scores. It shows that the road works; at this size the
order of the datasets says nothing about the Earth, the less so as the scenes are synthetic.
"""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import geopandas as gpd
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from catalog.query import Catalog, open_catalog
from catalog.store import build
from catalog.subset import Subset
from publish.dataset import publish_dataset
from publish.demo_recipes import DATASETS, HELD_OUT, DemoOptions, held_out_places, write_recipes
from publish.stages import Stages
from publish.weights import load_model, publish_model
from pwcat.archive import SynthOptions, synthesise_archive
from pwcat.atomic import replacing
from pwcat.errors import PwcatError
from training.correlation import Correlation, mean_dense_ranks
from training.evaluate import Scores, evaluate, load_scores
from training.pretrain import pretrain
from training.recipe import TrainRecipe, load_train_recipe
from training.report import (
    MEASURES,
    Cell,
    Dataset,
    Study,
    cells_of,
    describe_dataset,
    relate,
    render_report,
)
from training.tasks import CATALOG_TASKS

__all__ = ["demo"]

PUBLISHED = "europe"
MODEL = "satmae-tiny"
DEMO_VERSION = 1  # of what the folder holds; one more whenever the recipes or the archive change

# What the stages can bear; with fewer test chips, too few classes have enough of them to be scored.
SIZE, TEST_SIZE = click.IntRange(8, 16_384), click.IntRange(192, 16_384)
PLACES, EPOCHS = click.IntRange(1, 40), click.IntRange(1, 10_000)
NOTES = (
    "After Kaur et al. (2026), Pretrain Where?, arXiv 2604.21104, whose seven datasets of 700,000 Sentinel-2 chips and "
    "SatMAE-B this plays in small. Scenes, land cover and the outlines of continents and biomes are synthetic.",
    "Whole places are on one side of the probes' training and test, and none of them was pretrained on.",
)


@click.command()
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default="pwcat-demo",
    show_default=True,
    help="Folder; a rerun goes on.",
)
@click.option("--chips", default=DemoOptions.chips, show_default=True, type=SIZE, help="Samples a dataset.")
@click.option(
    "--test-chips", default=DemoOptions.test_chips, show_default=True, type=TEST_SIZE, help="Samples to score on."
)
@click.option(
    "--places", default=DemoOptions.places, show_default=True, type=PLACES, help="Of the archive, a continent."
)
@click.option("--epochs", default=DemoOptions.epochs, show_default=True, type=EPOCHS, help="Of each pretraining.")
def demo(out: Path, **sizes: int) -> None:
    """Play the whole road in miniature: archive, datasets, catalog, models, scores, report, publication."""
    started = time.monotonic()
    console = Console()
    options = DemoOptions(**sizes)
    _claim(out, options)
    with Stages(console) as stages:
        archive = _make_archive(out, options, stages)
        catalog = _build_datasets(out, archive, options, stages)
        runs = _pretrain_all(out, catalog, options, stages)
        scores, control = _evaluate_all(out, catalog, runs, options, stages)
        study, correlations = _report(out, archive, catalog, scores, control, stages)
        read_back = _publish(out, catalog, runs[PUBLISHED], stages)
    console.print(_score_table(study))
    console.print(_correlation_table(correlations))
    for line in _last_screen(out, catalog, read_back, seconds=time.monotonic() - started):
        console.print(line, highlight=False, soft_wrap=True)


def _claim(out: Path, options: DemoOptions) -> None:
    """Note in the folder what demo it holds.

    Raises:
        PwcatError: it holds another one, or other files.
    """
    note = out / "demo.json"
    mine = {"version": DEMO_VERSION, **asdict(options)}
    if note.is_file():
        if json.loads(note.read_text(encoding="utf-8")) != mine:
            raise PwcatError(
                f"{out}: holds a demo of other sizes or of another version; remove it, or give another --out"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise PwcatError(f"{out}: holds other files; remove it, or give another --out")
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(mine) + "\n", encoding="utf-8")


def _make_archive(out: Path, options: DemoOptions, stages: Stages) -> Path:
    archive = out / "archive"
    synth = SynthOptions(places=options.places, test_places=held_out_places(options))
    with stages.stage("Archive: synthetic scenes as COGs behind a STAC API") as progress:
        counts = synthesise_archive(archive, options=synth, progress=progress)
        stages.say(f"{sum(counts.values())} items in {len(counts)} collections")
    return archive


def _build_datasets(out: Path, archive: Path, options: DemoOptions, stages: Stages) -> Catalog:
    recipes = write_recipes(out / "recipes", archive=f"../{archive.name}", options=options)
    with stages.stage("Datasets: places sampled, scenes found, chips in Zarr") as progress:
        total = options.chips * len(DATASETS) + options.test_chips
        done = 0
        for path in recipes.values():
            before = done

            def count(stage: str, samples: int, of: int, before: int = before) -> None:
                if stage == "build":
                    progress(before + samples, total)

            built = build(path, catalog=out / "catalog", progress=count)
            done += sum(built.report.counts.values())
        stages.say(f"{done} chips in {len(recipes)} collections")
    return open_catalog(out / "catalog")


def _pretrain_all(out: Path, catalog: Catalog, options: DemoOptions, stages: Stages) -> dict[str, Path]:
    recipe = _train_recipe(options)
    runs = {}
    with stages.stage(f"Models: a {MODEL} pretrained on each dataset") as progress:
        for number, name in enumerate(DATASETS):

            def count(step: Any, number: int = number) -> None:
                progress(number * step.total_steps + step.step, len(DATASETS) * step.total_steps)

            run = pretrain(catalog.search(collections=name), recipe, out / "runs" / name, progress=count)
            runs[name] = run.path
        stages.say(f"{len(runs)} runs of {run.total_steps} steps, {run.samples_per_second:.0f} samples/s")
    return runs


def _train_recipe(options: DemoOptions) -> TrainRecipe:
    warmup = min(2, options.epochs // 2)
    return load_train_recipe(MODEL, overrides={"epochs": str(options.epochs), "optimizer.warmup_epochs": str(warmup)})


def _evaluate_all(
    out: Path, catalog: Catalog, runs: Mapping[str, Path], options: DemoOptions, stages: Stages
) -> tuple[dict[str, Scores], Scores]:
    held_out = catalog.search(collections=HELD_OUT)
    scores = {}
    with stages.stage("Scores: k-NN and logistic probe of land cover, held-out places") as progress:
        for number, (name, run) in enumerate(runs.items()):
            scores[name] = _scored(run, held_out) or evaluate(run, held_out)
            progress(number + 1, len(runs) + 1)
        nothing = out / "runs" / "none"
        control = _scored(nothing, held_out) or evaluate(
            None, held_out, control=_train_recipe(options), out_dir=nothing
        )
        progress(len(runs) + 1, len(runs) + 1)
        stages.say(f"{control.num_train} training and {control.num_test} test chips, {len(control.classes)} classes")
    return scores, control


def _scored(run: Path, held_out: Subset) -> Scores | None:
    """The scores of an earlier demo in this folder, on these very samples; its runs are those that are there now."""
    data = CATALOG_TASKS["landcover"].open(held_out)
    return next((scores for scores in load_scores(run) if scores.task_hash == data.hash), None)


def _report(
    out: Path, archive: Path, catalog: Catalog, scores: Mapping[str, Scores], control: Scores, stages: Stages
) -> tuple[Study, dict[str, Correlation]]:
    with stages.stage("Report: tables, maps, chips, correlations") as progress:
        study = _study(catalog, scores, control)
        correlations = relate(study.datasets, rng=np.random.default_rng(0))
        land = gpd.read_file(archive / "regions" / "continent.fgb")
        page = render_report(study, correlations=correlations, land=land)
        with replacing(out / "report.html") as temporary:
            temporary.write_text(page, encoding="utf-8")
        _write_scores(out / "scores.csv", study)
        progress(1, 1)
        stages.say(f"{out / 'report.html'}, {out / 'scores.csv'}")
    return study, correlations


def _study(catalog: Catalog, scores: Mapping[str, Scores], control: Scores) -> Study:
    datasets = [
        describe_dataset(
            catalog.search(collections=name),
            name=name,
            scores=[scores[name]],
            statistics=catalog.collection(name).stats["statistics"],
        )
        for name in DATASETS
    ]
    chips = datasets[0].num_samples
    return Study(
        title="Pretrain where? In miniature",
        lead=(
            f"Seven datasets of {chips} chips were drawn from a synthetic archive: one a continent, and one from all of "
            f"them. A small SatMAE was pretrained on each, frozen, and scored on land cover at places that none of them "
            "saw. Below are the scores, the diversity of each dataset, and how the two go together."
        ),
        caveat=(
            "This is a miniature on synthetic scenes. It shows that every step works and can be rerun; with models and "
            "datasets this small, the order of the datasets says nothing about the Earth. "
            + _against_nothing(datasets, cells_of([control]))
        ),
        datasets=datasets,
        control=cells_of([control]),
        facts={
            "chips a dataset": str(chips),
            "test chips": str(control.num_test),
            "classes": str(len(control.classes)),
            "bands": "12",
        },
        rerun="make demo",
        notes=NOTES,
        tested=f"Land cover of {control.num_samples} chips at held-out places.",
        heat_label="accuracy of the logistic probe",
    )


def _against_nothing(datasets: Sequence[Dataset], control: Mapping[str, Cell]) -> str:
    """A sentence on how many datasets score better than random weights, by the mean of all scores."""
    nothing = sum(cell.mean for cell in control.values()) / len(control)
    better = sum(dataset.mean_score > nothing for dataset in datasets)
    return f"By their mean score, {better} of {len(datasets)} pretrained models are better than random weights."


def _write_scores(path: Path, study: Study) -> None:
    """The table that ``pwcat correlate`` reads: one row a dataset, one column a diversity, and the mean score."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", *MEASURES, *study.columns, "score"])
        for dataset in study.datasets:
            diversities = [repr(float(dataset.value(measure))) for measure in MEASURES]
            cells = [repr(float(dataset.scores[column].mean)) for column in study.columns]
            writer.writerow([dataset.name, *diversities, *cells, repr(float(dataset.mean_score))])


def _publish(out: Path, catalog: Catalog, run: Path, stages: Stages) -> str:
    """Publish one dataset and its model to folders, and read both back as a stranger would."""
    from datasets import load_dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    folder, weights = out / "published" / PUBLISHED, out / "published" / f"{PUBLISHED}-{MODEL}"
    with stages.stage("Publication: a dataset and weights, read back") as progress:
        publish_dataset(catalog.search(collections=PUBLISHED), to=folder)
        publish_model(run, to=weights)
        progress(1, 2)
        splits = load_dataset(str(folder), cache_dir=str(out / "cache"))
        model = load_model(weights)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        progress(2, 2)
        rows = sum(map(len, splits.values()))
        text = f"{rows} rows by load_dataset, a model of {parameters:,} parameters by pwcat.load_model"
        stages.say(text)
    return text


def _score_table(study: Study) -> Table:
    table = Table(title="Scores on held-out places, best rank first (accuracy, mean ± sd)", box=SIMPLE_HEAD)
    table.title_justify = "left"
    table.add_column("Pretrained on")
    for column in (*study.columns, "Rank"):
        table.add_column(column, justify="right")
    rows = {dataset.name: dataset.scores for dataset in study.datasets} | {"none": study.control}
    ranks = mean_dense_ranks({name: [cells[column].mean for column in study.columns] for name, cells in rows.items()})
    for name in sorted(rows, key=lambda name: (ranks[name], name)):
        cells = [rows[name][column] for column in study.columns]
        shown = [f"{cell.mean:.2f}" + ("" if cell.sd is None else f" ± {cell.sd:.2f}") for cell in cells]
        table.add_row(name, *shown, f"{ranks[name]:.2f}")
    return table


def _correlation_table(correlations: Mapping[str, Correlation]) -> Table:
    table = Table(title="Spearman's rho of each diversity with the mean score", box=SIMPLE_HEAD)
    table.title_justify = "left"
    table.add_column("Diversity")
    for column in ("rho", "p", "n"):
        table.add_column(column, justify="right")
    table.add_column("Verdict")
    for measure, found in correlations.items():
        row = (MEASURES[measure][1].lower(), f"{found.rho:+.3f}", f"{found.p:.3f}", str(found.n), found.verdict.word)
        table.add_row(*row)
    return table


def _last_screen(out: Path, catalog: Catalog, read_back: str, *, seconds: float) -> list[str]:
    """What was made, where, and commands to try, a line each; none is broken, so that they can be copied."""
    labels = catalog.search().table.select(["div:biome", "div:landcover"]).to_pylist()
    (biome, landcover), _ = Counter(tuple(label.values()) for label in labels if all(label.values())).most_common(1)[0]
    return [
        f"[bold]Done in {seconds:.0f} seconds. There are now:[/bold]",
        f"  {out}/report.html   the page to open first",
        f"  {out}/catalog       a STAC catalog of {len(catalog.collections)} collections, with their chips in Zarr",
        f"  {out}/runs          the models, their metrics and scores",
        f"  {out}/published     {read_back}",
        "",
        "[bold]Try next[/bold] (after `source .venv/bin/activate`):",
        f'  pwcat search {out}/catalog --biome "{biome}" --landcover {landcover}',
        f"  pwcat serve {out}/catalog      # a map of it, its chips and spectra, in the browser",
        f"  pwcat plan {out}/recipes/global.yaml --catalog {out}/catalog",
        f"  pwcat correlate {out}/scores.csv --score score --by continent,biome,landcover,spectral",
    ]
