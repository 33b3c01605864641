"""What a report writes: a page that needs nothing beside it, Markdown, LaTeX, figures; of whole studies and of poor ones."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from pwcat.errors import TrainingError
from training.reporting import write_report
from training.reporting.blocks import Cell, Row, Sheet
from training.reporting.charts.looks import apart, looks_of
from training.reporting.digits import decimal, gigabytes, hours, signed_decimal
from training.reporting.latex import escape_latex, latex_table
from training.reporting.markdown import escape_markdown, markdown_table

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Page(HTMLParser):
    """Tags in their order, ids, what would be fetched, and whether all that opens is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.fetched, self.tags, self.links = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in {"src", "href", "xlink:href", "srcset", "action"} and not value.startswith("data:"):
                (self.links if value.startswith("#") else self.fetched).append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def reported(tmp_path_factory, request):
    made = request.getfixturevalue("made")
    table = made.results(
        models=("satmae",), tasks=("forty", "m-eurosat", "m-so2sat"), probes=("knn", "linear"), sizes=(5, None), seeds=3
    )
    gone = (table["dataset"] == "asia") & (table["task"] == "forty") & (table["probe"] == "linear")
    table.loc[table["dataset"] == "global", "dataset"] = "all_of & <them>"
    datasets = made.datasets()
    datasets["dataset"] = datasets["dataset"].replace({"global": "all_of & <them>"})
    datasets["title"] = datasets["title"].replace({"Global": "100 % of_it & <all>"})
    document = {"name": "made", "title": "Where & <why>?", "notes": ["Made up."], "leaks": {"km": 2}}
    folder = made.write(tmp_path_factory.mktemp("study"), table[~gone], datasets=datasets, document=document)
    made.write(folder / "rungs", pd.DataFrame(), costs=False)
    small = table.assign(value=table["value"] - 0.05)
    small.to_csv(folder / "rungs" / "short.csv", index=False)
    (folder / "rungs" / "results.csv").unlink()
    stray = folder / "report" / "figures" / "of-an-older-study.svg"
    stray.parent.mkdir(parents=True)
    stray.write_text("<svg/>")
    return folder, write_report(folder)


@pytest.fixture(scope="module")
def folder(reported):
    return reported[0]


def test_every_file_is_told_and_there_and_no_older_one(reported):
    folder, files = reported
    assert files[0] == folder / "report" / "report.html"
    assert files[1] == folder / "report" / "report.md"
    assert all(path.stat().st_size > 0 for path in files)
    assert set(files) == {path for path in (folder / "report").rglob("*") if path.is_file()}
    names = {path.name for path in files}
    assert {
        "scores-satmae-linear.tex",
        "scores-all.csv",
        "places.csv",
        "ladder.csv",
        "missing.csv",
        "relations.csv",
    } <= names
    assert {"scores.svg", "scores.png", "places-continent-satmae-linear.svg", "relations-satmae-linear.png"} <= names


def test_the_page_is_sound_and_needs_nothing_beside_it(folder):
    html = (folder / "report" / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.fetched == []
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert not re.findall(r"url\((?!#)", html)
    assert "@import" not in html
    for text in ("Where &amp; &lt;why&gt;?", "100 % of_it &amp; &lt;all&gt;", "Made up.", "within 2 km"):
        assert text in html
    assert "<all>" not in html
    assert "light dark" in html


def test_missing_evaluations_are_told_on_top_and_listed(folder):
    html = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "1 of 48 evaluations have no scores" in html[: html.index("<section")]
    listed = pd.read_csv(folder / "report" / "tables" / "missing.csv", keep_default_na=False)
    assert listed.to_dict("records") == [
        {"dataset": "asia", "model": "satmae", "pretrain_seed": 0, "task": "forty", "probe": "linear", "draws": "none"}
    ]


def test_the_ladder_compares_rungs_with_the_study(folder):
    ladder = pd.read_csv(folder / "report" / "tables" / "ladder.csv")
    assert ladder[["probe", "rung", "rho", "same_best"]].to_numpy().tolist() == [
        ["knn", "short", 1.0, "yes"], ["linear", "short", 1.0, "yes"],
    ]  # fmt: skip
    assert ladder["n"].tolist() == [7, 6]  # one lacks a score of the linear probe


def test_tables_for_programs_read_back(folder):
    table = pd.read_csv(folder / "results.csv")
    told = pd.read_csv(folder / "report" / "tables" / "places.csv")
    row = told[
        (told["dataset"] == "europe")
        & (told["place"] == "Asia")
        & (told["column"] == "ForTy")
        & (told["probe"] == "linear")
    ]
    by_hand = table[
        (table["dataset"] == "europe") & (table["group"] == "continent=Asia") & (table["task"] == "forty")
        & (table["probe"] == "linear") & table["size"].isna()
    ]  # fmt: skip
    assert row["value"].item() == pytest.approx(by_hand["value"].mean())
    curve = pd.read_csv(folder / "report" / "tables" / "efficiency.csv")
    assert set(curve["size"].dropna()) == {5}
    assert curve["size"].isna().any()


def test_figures_are_images(folder):
    figures = folder / "report" / "figures"
    for path in figures.glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
        assert (path.with_suffix(".png")).read_bytes().startswith(b"\x89PNG")


def test_markdown_names_figures_that_are_there(folder):
    text = (folder / "report" / "report.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert shown
    assert all((folder / "report" / name).is_file() for name in shown)
    widths = [{len(re.findall(r"(?<!\\)\|", line)) for line in table.split("\n")} for table in _tables(text)]
    assert widths
    assert all(len(width) == 1 for width in widths)


def _tables(text):
    return [part for part in text.split("\n\n") if part.startswith("|")]


def test_latex_tables_compile(folder, tmp_path):
    latex = shutil.which("pdflatex")
    if latex is None:
        pytest.skip("no pdflatex on the PATH")
    inputs = "\n\n".join(rf"\input{{{path}}}" for path in sorted((folder / "report" / "tables").glob("*.tex")))
    source = "\n".join(
        [r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}", inputs, r"\end{document}"]
    )
    (tmp_path / "all.tex").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [latex, "-interaction=nonstopmode", "-halt-on-error", "all.tex"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def sheet(*texts, **cell):
    rows = (Row(cells=tuple(Cell(text=text, **cell) for text in texts)),)
    return Sheet(name="t", title="T", heads=tuple("ABCDEF"[: len(texts)]), rows=rows, frame=pd.DataFrame())


def test_latex_is_escaped():
    assert escape_latex(r"a_b & 50% #1 {x} \ ~^ $") == (
        r"a\_b \& 50\% \#1 \{x\} \textbackslash{} \textasciitilde{}\textasciicircum{} \$"
    )
    text = latex_table(sheet("[a", "−.03", best=True, near=True, bounds="[−.1, .2]"))
    assert r"\textbf{[a}$^\dagger$" in text
    assert r"$-$.03" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3  # one in each cell that has bounds
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")


def test_a_bracket_is_no_option_of_the_line_before():
    assert "\n{[}a" in latex_table(sheet("[a", "b"))


def test_markdown_is_escaped():
    assert escape_markdown("a|b *c* <d> _e_") == r"a\|b \*c\* \<d\> \_e\_"
    assert markdown_table(sheet("x|y", ".5", bounds="[.4, .6]", best=True)).split("\n")[2] == (
        r"| **x\|y**<br>\[.4, .6\] | **.5**<br>\[.4, .6\] |"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.334, ".33"), (-0.026, "−.03"), (-0.001, ".00"), (1.0, "1.00"), (np.nan, "–"), (12.5, "12.50")],
)
def test_scores_are_written_as_papers_do(value, text):
    assert decimal(value) == text


def test_units_fit():
    assert (signed_decimal(0.1), signed_decimal(-0.1), signed_decimal(0.0)) == ("+.10", "−.10", ".00")
    assert [gigabytes(v) for v in (12, 1.5e6, 154e9, 2e15)] == ["12 B", "1.5 MB", "154 GB", "2000 TB"]
    assert [hours(v) for v in (3, 600, 7200)] == ["3.0 s", "10 min", "2.0 h"]


def test_names_beside_lines_are_apart_and_in_order():
    places = np.array([0.5, 0.1, 0.52, 0.51])
    moved = apart(places, 0.1)
    assert np.diff(np.sort(moved)).min() >= 0.1 - 1e-12
    assert (np.argsort(moved) == np.argsort(places)).all()
    assert moved[1] == 0.1
    assert moved[[0, 2, 3]].mean() == pytest.approx(places[[0, 2, 3]].mean())


def test_a_dataset_keeps_its_look_whatever_is_beside_it():
    titles = {"a": "A", "b": "B", "none": "None"}
    looks = looks_of(titles, control="none")
    assert looks.color("a") != looks.color("b")
    assert looks.by_title().color("B") == looks.color("b")
    assert looks.line("none") == "--"


def poor(made, **columns):
    return made.results(
        datasets=("europe", "asia"),
        models=("satmae",),
        tasks=("forty",),
        probes=("linear",),
        sizes=(None,),
        seeds=1,
        groups=False,
    ).assign(**columns)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t[t["dataset"] == "europe"], "There are no two datasets"),  # one dataset, no control, one seed
        (lambda t: t.assign(ci_low=np.nan, ci_high=np.nan), "Every probe learned from one number of samples"),
        (lambda t: t[["dataset", "model", "task", "probe", "metric", "value"]], "No scores by place"),
        (lambda t: t.replace({"europe": "Île-de-$France$ 北"}), "Île-de-$France$ 北"),
        (lambda t: t.replace({"europe": "none"}), "None"),
    ],
)
def test_poor_studies_have_reports_that_say_what_is_not_there(made, tmp_path, change, told):
    folder = made.write(tmp_path / "étude", change(poor(made)), costs=False)
    html = write_report(folder, title="Poor")[0].read_text(encoding="utf-8")
    Page(html)
    assert told in html
    assert "There is no datasets.csv" in html
    assert "There is no costs.csv" in html
    assert "There is no study.yaml" in html
    assert "nan" not in re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL).casefold()


def test_a_second_report_is_the_same_bytes(made, tmp_path):
    folder = made.write(tmp_path, poor(made), costs=False)
    before = {path: path.read_bytes() for path in write_report(folder)}
    assert {path: path.read_bytes() for path in write_report(folder)} == before


def test_scores_of_no_metric_of_a_task_are_refused(made, tmp_path):
    folder = made.write(tmp_path, poor(made, primary=False), costs=False)
    with pytest.raises(TrainingError, match="nothing to rank"):
        write_report(folder)


def test_a_document_that_is_none_is_refused(made, tmp_path):
    folder = made.write(tmp_path, poor(made), costs=False)
    (folder / "study.yaml").write_text("- a list\n")
    with pytest.raises(TrainingError, match="a mapping is needed"):
        write_report(folder)
