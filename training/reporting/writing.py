"""The report of a study: everything that its tables tell, as a page, as Markdown, as tables and as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from pwcat.atomic import replacing
from pwcat.errors import TrainingError
from training.figures import INK
from training.reporting.blocks import Block, Fold, Picture, Section, Sheet, Words, all_blocks
from training.reporting.cells import INTERVAL
from training.reporting.charts.forest import forest_figure, stability_figure
from training.reporting.charts.looks import Looks, looks_of
from training.reporting.completeness import completeness_of, missing_section
from training.reporting.digits import amount, gigabytes, hours
from training.reporting.diversity import datasets_section
from training.reporting.efficiency import differences_section, efficiency_frame, efficiency_section
from training.reporting.filling import embeddings_section
from training.reporting.findings import findings_of
from training.reporting.inline import png_bytes, svg_text
from training.reporting.ladder import ladder_section
from training.reporting.latex import latex_table
from training.reporting.leaking import LeftOut, leaks_caveat, leaks_section, left_out_of
from training.reporting.markdown import markdown_report
from training.reporting.models import models_sheet
from training.reporting.page import page_of
from training.reporting.places import places_frame, places_section
from training.reporting.records import CONTROL, Records, read_records
from training.reporting.relations import relations_of, relations_section
from training.reporting.rerunning import rerun_section
from training.reporting.spending import costs_section, total_cost
from training.reporting.standings import (
    RANKS,
    Standings,
    combined_sheet,
    head_of,
    overall_ranks,
    sheet_of,
    standings_of,
)
from training.reporting.views import View, foremost, probe_words, views_of

__all__ = ["write_report"]

DPI = 200
LIMITS = (
    "Datasets are the unit: seeds of one dataset are not more datasets, and a relation over few of them can only show "
    "where it is strong.",
    "Datasets differ in more than their diversity (season, cloud, sensor, size); only a study that holds these fixed "
    "can attribute.",
    "Scores of several tasks, probes and models are several chances of a difference by luck; intervals are not "
    "corrected for their number.",
    "What scores leave out is not seen here: other tasks, other architectures, longer training.",
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that is written, before it is.

    Attributes:
        title: of the page.
        lead: one paragraph.
        findings: what came out.
        caveats: what a reader has to know first.
        facts: words to value.
        sections: in order.
        frames: tables for programs alone, by name of the file.
        looks: of the datasets.
    """

    title: str
    lead: str
    findings: Sequence[str]
    caveats: Sequence[str]
    facts: Mapping[str, str]
    sections: Sequence[Section]
    frames: Mapping[str, pd.DataFrame]
    looks: Looks


def write_report(study_dir: str | Path, *, title: str | None = None) -> list[Path]:
    """Write ``report/`` in a study's folder: the files that were written, the page first.

    Reads ``results.csv``, and ``datasets.csv``, ``embeddings.csv``, ``costs.csv`` and ``study.yaml`` where they are there. The
    same tables give the same figures: whatever is drawn at random is drawn from a fixed seed.

    Args:
        study_dir: the study's folder.
        title: of the report; the study's by default.

    Raises:
        TrainingError: there are no scores, none of a task's own metric over all test samples, or a file cannot be read; see
            :func:`training.reporting.records.read_records`.
    """
    folder = Path(study_dir)
    records = read_records(folder)
    with mpl.rc_context({"text.parse_math": False}):  # a name may have dollar signs
        report = make_report(records, title=title, rng=np.random.default_rng(0))
    return _written(report, folder / "report")


def make_report(records: Records, *, title: str | None, rng: np.random.Generator) -> Report:
    """All sections of a report."""
    full = records
    records = replace(records, results=records.results[records.results["rung"] == ""])
    if not len(records.results):  # rungs alone: the last is the largest
        last = full.results["rung"].iloc[-1]
        records = replace(full, results=full.results[full.results["rung"] == last].assign(rung=""))
    looks = looks_of(records.titles, control=CONTROL)
    views = views_of(records)
    if not views:
        raise TrainingError(
            f"{records.folder / 'results.csv'} has no scores over all test samples of a task's own metric (rows of "
            "group 'all' whose 'primary' is true): there is nothing to rank"
        )
    every = {view.key: standings_of(view, rng=rng) for view in views}
    first = foremost(views)
    headline, rest = [every[v.key] for v in first], [v for v in views if v not in first]
    relations = [relations_of(standings, rng=rng) for standings in headline]
    others = [relations_of(every[view.key], rng=rng) for view in rest]
    completeness, leaking = completeness_of(records), left_out_of(records)
    sections = [
        _scores_section(list(every.values()), headline, looks),
        missing_section(completeness, records),
        leaks_section(leaking, headline, [every[view.key] for view in rest]),
        places_section(first, rest, records=records, looks=looks),
        datasets_section(records, looks),
        relations_section(relations, others, records=records, looks=looks),
        efficiency_section(first, rest, records=records, looks=looks),
        differences_section(headline, looks=looks),
        ladder_section(list(every.values()), full=full, looks=looks),
        embeddings_section(records),
        costs_section(records),
        rerun_section(records),
        _reading_section(records, leaking),
    ]
    return Report(
        title=title
        or str(records.document.get("title") or records.document.get("name") or records.folder.name or "Study"),
        lead=_lead(records, views),
        findings=findings_of(headline, relations),
        caveats=[text for text in (completeness.sentence, leaks_caveat(leaking), *records.remarks) if text],
        facts=_facts(records),
        sections=[section for section in sections if section],
        frames={"places": places_frame(views), "efficiency": efficiency_frame(views)},
        looks=looks,
    )


def _scores_section(every: Sequence[Standings], headline: Sequence[Standings], looks: Looks) -> Section:
    columns = list(dict.fromkeys(column for s in every for column in s.columns))
    heads = {c: next(head_of(s.view, c) for s in every if c in s.columns) for c in columns}
    models: dict[str, dict[str, Mapping]] = {}  # type: ignore[type-arg]
    for standings in every:
        models.setdefault(standings.view.model, {})[probe_words(standings.view.probe)] = standings.scores
    ranks = overall_ranks(every) or headline[0].ranks
    names = [name for name in looks.titles if any(name in s.scores for s in every)]
    order = sorted(names, key=lambda name: (name == CONTROL, ranks.get(name, np.inf)))
    figure = forest_figure(models, columns=columns, heads=heads, order=order, looks=looks)
    beside = models_sheet(every)
    compares_models = beside is not None and sum(name != CONTROL for name in names) < 2
    blocks: list[Block] = [
        *([] if beside is None else [beside]),
        Picture(name="scores", title="Scores of every dataset, model and probe", figure=figure,
                caption="Means with 95 % intervals over seeds and test samples, cut at the panel's edge; a marker a probe."),
        *(sheet_of(standings) for standings in headline if not compares_models),
    ]  # fmt: skip
    folded = [sheet_of(standings) for standings in every if compares_models or standings not in headline]
    if folded:
        title = "Tables of each model" if compares_models else "Tables of the other probes"
        blocks += [Fold(title=title, blocks=folded), *([] if compares_models else [combined_sheet(every)])]
    if any(standings.stability for standings in headline):
        blocks.append(_stability(headline, looks))
    return Section(key="scores", title="Scores", blocks=[*blocks, Words(RANKS, soft=True)])


def _stability(headline: Sequence[Standings], looks: Looks) -> Picture:
    held = {}
    for standings in headline:
        if stability := standings.stability:
            names = [name for name in standings.order if name in stability.names]
            places = [stability.names.index(name) for name in names]
            held[standings.view.title] = (names, stability.above[np.ix_(places, places)])
    title = "How often the row's dataset ranks above the column's when seeds are drawn anew"
    return Picture(name="ranks", title=title, figure=stability_figure(held, looks=looks), caption=f"{title}.")


def _lead(records: Records, views: Sequence[View]) -> str:
    if told := records.document.get("lead"):
        return str(told)
    counts = _counts(records)
    control = ", and random weights beside them" if CONTROL in records.names else ""
    probes = ", ".join(dict.fromkeys(probe_words(view.probe) for view in views))
    return (
        f"{counts['datasets']} to pretrain on{control}; {counts['models']}, scored on {counts['tasks']} by {probes}. "
        "Which data make the better model, for which place, and how sure that is."
    )


def _counts(records: Records) -> dict[str, str]:
    numbers = {
        "datasets": len([name for name in records.names if name != CONTROL]), "models": records.results["model"].nunique(),
        "tasks": records.results["task"].nunique(),
    }  # fmt: skip
    return {words: f"{number} {words if number != 1 else words[:-1]}" for words, number in numbers.items()}


def _facts(records: Records) -> dict[str, str]:
    results, cost = records.results, total_cost(records)
    facts = {
        "datasets": amount(len([name for name in records.names if name != CONTROL])),
        "models": amount(results["model"].nunique()),
        "tasks": amount(results["task"].nunique()),
        "probes": amount(results["probe"].nunique()),
        "seeds": amount(
            results.groupby(["model", "probe", "task"], observed=True)["seed"].nunique().max()
            * results["pretrain_seed"].nunique()
        ),
        "scores": amount(len(results)),
    }
    if np.isfinite(cost["gpu_hours"]):
        facts |= {
            "GPU hours": f"{cost['gpu_hours']:,.1f}",
            "wall time": hours(cost["seconds"]),
            "on disk": gigabytes(cost["bytes"]),
        }
    return facts


def _reading_section(records: Records, leaking: Sequence[LeftOut]) -> Section:
    notes = [str(note) for note in records.document.get("notes") or ()]
    blocks = [Words(text, soft=True) for text in (INTERVAL, *_leaks(records, bool(leaking)), *notes, *LIMITS)]
    return Section(key="reading", title="How to read it, and what it cannot say", blocks=blocks)


def _leaks(records: Records, scored: bool) -> list[str]:
    """What is done about test samples that leak from pretraining."""
    leaks = records.document.get("leaks")
    near = f" (within {leaks['km']:g} km)" if isinstance(leaks, dict) and leaks.get("km") else ""
    if scored:
        return [
            f"Test samples near a pretraining sample of any dataset{near} count in all scores, but for those of the section "
            "on leaks, which are also given without them."
        ]
    if near:
        return [f"Scores without the test samples near a pretraining sample{near} are not there yet."]
    return [
        "Test samples that lie near pretraining samples were not looked for; `pwcat audit` tells which these are, and "
        "`leaks` in the study's file gives all scores without them too."
    ]


def _written(report: Report, folder: Path) -> list[Path]:
    """Figures and tables first, so that the page is there only when all of it is; what an older report left goes."""
    blocks = list(all_blocks(report.sections))
    svgs, files = {}, []
    for picture in (block for block in blocks if isinstance(block, Picture)):
        svgs[picture.name] = svg_text(picture.figure, name=picture.name)
        picture.figure.set_layout_engine("none")  # what is laid out stays so
        files.append(_text(folder / "figures" / f"{picture.name}.svg", _standing_alone(svgs[picture.name])))
        files.append(
            _bytes(folder / "figures" / f"{picture.name}.png", png_bytes(picture.figure, dpi=DPI, transparent=False))
        )
    for sheet in (block for block in blocks if isinstance(block, Sheet)):
        files.append(_text(folder / "tables" / f"{sheet.name}.csv", sheet.frame.to_csv(index=False)))
        files.append(_text(folder / "tables" / f"{sheet.name}.tex", latex_table(sheet)))
    for name, frame in report.frames.items():
        if len(frame):
            files.append(_text(folder / "tables" / f"{name}.csv", frame.to_csv(index=False)))
    told = {"title": report.title, "lead": report.lead, "caveats": report.caveats, "sections": report.sections}
    markdown = markdown_report(**told, findings=report.findings, facts=report.facts)  # type: ignore[arg-type]
    page = page_of(**told, findings=report.findings, facts=report.facts, svgs=svgs, looks=report.looks)  # type: ignore[arg-type]
    files = [_text(folder / "report.html", page), _text(folder / "report.md", markdown), *files]
    _remove_others(folder, files)
    return files


def _standing_alone(svg: str) -> str:
    """An SVG for documents: its ink is that of print."""
    return svg.replace(INK, "#1a1a1a")


def _remove_others(folder: Path, files: Sequence[Path]) -> None:
    kept = set(files)
    for part in ("figures", "tables"):
        for path in (folder / part).glob("*"):
            if path not in kept and path.suffix in {".svg", ".png", ".csv", ".tex"}:
                path.unlink()


def _text(path: Path, text: str) -> Path:
    return _bytes(path, text.encode("utf-8"))


def _bytes(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(data)
    return path
