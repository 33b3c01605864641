import re
from dataclasses import replace
from html.parser import HTMLParser

import geopandas as gpd
import numpy as np
import pytest
from matplotlib.figure import Figure
from shapely import box

from training.evaluate import Resampling, evaluate
from training.figures import (
    bar_figure,
    chips_figure,
    color_limits,
    heat_figure,
    map_figure,
    scatter_figure,
    style_of,
)
from training.report import Cell, Study, cells_of, describe_dataset, relate, render_report
from training.tasks.column import ColumnTask

LAND = gpd.GeoDataFrame(geometry=[box(-20, -30, 50, 60)], crs="EPSG:4326")


class Page(HTMLParser):
    """Tags, ids and what a page would fetch."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.fetched, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in {"src", "href", "xlink:href"} and not value.startswith(("#", "data:")):
                self.fetched.append(value)


@pytest.fixture(scope="module")
def study(run, everything):
    task = ColumnTask(name="landcover", column="div:landcover", min_samples=4)
    blocks = Resampling(split="blocks", block_km=20.0, repeats=2)
    scores = evaluate(run.path, everything, task=task, sampling=blocks)
    parts = {c.name: everything.select(everything.column("collection") == c.name) for c in everything.collections}
    datasets = [describe_dataset(part, name=name, scores=[scores]) for name, part in parts.items()]
    datasets.append(describe_dataset(everything.split("val"), name="<both> & all", scores=[scores]))
    return Study(
        title="Where?",
        lead="What was done.",
        caveat="A miniature.",
        datasets=datasets,
        control={name: Cell(0.1) for name in cells_of([scores])},
        facts={"chips": "80"},
        rerun="make demo",
        notes=["Entropy in nats."],
    )


def test_the_page_needs_nothing_beside_it(study):
    html = render_report(study, correlations=relate(study.datasets, rng=np.random.default_rng(0)), land=LAND)
    page = Page(html)
    assert page.fetched == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids))
    assert not re.findall(r"url\((?!#)", html)
    assert page.tags.count("svg") == 1 + 1 + 4 + 4  # map, heat map, bars, scatters
    assert page.tags.count("img") == 3


def test_the_page_says_what_the_study_says(study):
    html = render_report(study, correlations={}, land=None)
    for text in ("Where?", "A miniature.", "make demo", "none (random weights)", "&lt;both&gt; &amp; all", "± "):
        assert text in html
    assert "<both>" not in html
    for reference in re.findall(r'(?:url\(#|href="#)([^)"]+)', html):
        assert f'id="{reference}"' in html


def test_a_study_without_scores_within_continents_chips_or_control_renders(study):
    bare = [replace(d, by_continent={}, rgb=np.empty((0, 3, 8, 8), np.uint16)) for d in study.datasets]
    page = Page(render_report(replace(study, datasets=bare, control={}), correlations={}))
    assert page.tags.count("img") == 0
    assert page.tags.count("svg") == 9


def test_a_described_dataset_is_the_subsets(study, everything):
    europe = study.datasets[0]
    assert (europe.name, europe.num_samples, len(europe.rgb)) == ("europe", 32, 6)
    assert europe.value("spectral") == pytest.approx(
        np.nanmean(everything.column("div:spectral_entropy")[everything.column("collection") == "europe"])
    )
    assert europe.value("continent") == 0
    rows = np.flatnonzero(everything.column("collection") == "europe")
    red = everything.read(rows[:1])[0, 0, everything.bands.index("B04")]
    np.testing.assert_array_equal(europe.rgb[0, 0], red)


def test_missing_diversity_is_not_zero(study):
    unknown = replace(study.datasets[0], statistics={})
    assert np.isnan(unknown.value("biome"))
    figure = bar_figure({"a": 1.0, "b": unknown.value("biome")}, label="Biome entropy (nat)", intervals={})
    axes = figure.axes[0]
    assert len(axes.patches) == 1
    assert "no value" in [text.get_text() for text in axes.texts]


def test_one_stretch_serves_all_datasets():
    dark, bright = np.full((2, 3, 4, 4), 100, np.uint16), np.full((2, 3, 4, 4), 3000, np.uint16)
    dark[0, :, 0] = 0  # no data does not count
    limits = color_limits({"dark": dark, "bright": bright})
    np.testing.assert_array_equal(limits, [[100] * 3, [3000] * 3])
    image = chips_figure(bright, limits=limits).axes[0].images[0].get_array()
    assert (image == 1).all()


def test_figures_name_their_units_and_their_points():
    points = {name: (i / 3, 0.5 + 0.001 * i) for i, name in enumerate(["Europe", "Asia", "Africa", "Oceania"])}
    figures = {
        "map": map_figure({"Europe": np.array([[10.0, 50.0]])}, land=LAND),
        "scatter": scatter_figure(points, xlabel="Biome entropy (nat)", ylabel="mean score", correlation=None),
        "heat": heat_figure(np.array([[0.1, np.nan]]), rows=["Europe"], columns=["Asia", "Africa"], label="accuracy"),
    }
    assert all(isinstance(figure, Figure) for figure in figures.values())
    scatter = figures["scatter"].axes[0]
    assert scatter.get_xlabel() == "Biome entropy (nat)"
    assert {text.get_text() for text in scatter.texts} == set(points)
    assert [text.get_text() for text in figures["heat"].axes[0].texts] == ["0.10"]


def test_many_datasets_keep_their_looks():
    styles = style_of([str(i) for i in range(8)])
    assert len(set(styles.values())) == 8
