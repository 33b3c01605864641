from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from catalog.atlas import MOST_BYTES, parts_of, render_atlas
from catalog.commands.atlas import atlas
from catalog.figures import histogram_svg, interval_svg, map_svg, nice_ticks
from catalog.query import open_catalog
from pwcat.errors import CatalogError, PwcatError


class Page(HTMLParser):
    """What a page asks for, its tables' cells, and whether its tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.asked, self.open, self.cells, self.images = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.asked += [values[name] for name in ("src", "href") if name in values]
        self.images += tag == "img"
        if tag not in {"meta", "img", "br", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


@pytest.fixture(scope="module")
def page(tiny_catalog):
    return render_atlas(parts_of(tiny_catalog), title="Tiny")


def test_it_is_one_file_that_asks_for_nothing(page):
    read = Page(page)
    assert read.open == []
    assert all(address.startswith("data:image/png;base64,") for address in read.asked)
    assert "url(" not in page
    assert "@import" not in page
    assert "<script" not in page


def test_the_same_catalog_gives_the_same_bytes(tiny_catalog, tmp_path, page):
    for name in ("a.html", "b.html"):
        done = CliRunner().invoke(
            atlas, [str(tiny_catalog), "-o", str(tmp_path / name), "--title", "Tiny"], catch_exceptions=False
        )
        assert done.exit_code == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes() == page.encode()


def test_it_counts_pairs_of_biome_and_land_cover(tiny_catalog, page):
    table = open_catalog(tiny_catalog).search().columns(["div:biome", "div:landcover"]).to_pandas()
    expected = table.fillna("none").value_counts().to_dict()
    heat = page[page.index("samples by biome and land cover") :]
    heat = heat[heat.index("<tbody>") : heat.index("</tbody>")]
    numbers = [int(cell) for cell in Page(heat + "</tbody>").cells if cell.isdecimal()]
    assert sorted(numbers) == sorted(expected.values())
    assert sum(numbers) == 80


def test_it_tells_statistics_with_their_intervals(tiny_catalog, page):
    catalog = open_catalog(tiny_catalog)
    for name in catalog.collections:
        stats = catalog.search(collections=name).stats()
        for measure, key in (("biome", "shannon"), ("landcover", "shannon"), ("spectral", "mean")):
            told = stats[measure]
            assert f"<td>{told[key]:.3f}<small>{told['ci_low']:.3f} to {told['ci_high']:.3f}</small></td>" in page


def test_galleries_go_from_plain_to_varied(page):
    bounds = [tuple(map(float, pair)) for pair in re.findall(r"<b>([\d.]+) to ([\d.]+)</b>", page)]
    assert len(bounds) == 5
    assert all(low <= high for low, high in bounds)
    assert all(before[1] <= after[0] for before, after in pairwise(bounds))
    assert Page(page).images == 30


def test_a_page_of_noise_is_small_enough_for_a_card(page):
    # The pictures are all that grows with what is shown: thirty chips of noise, which no compression helps
    from catalog.explorer.pictures import encode_png

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    assert len(page.encode()) + 30 * len(encode_png(noise)) * 4 / 3 < MOST_BYTES


def test_a_saved_subset_has_an_atlas(tiny_catalog, tmp_path):
    found = open_catalog(tiny_catalog).search(continent="Europe")
    path = found.save(tmp_path / "europe.parquet")
    (part,) = parts_of(path)
    assert len(part.subset) == len(found)
    assert "<h1>europe</h1>" in render_atlas([part], title="europe")


def test_names_of_strangers_are_text(tiny_catalog):
    parts = parts_of(tiny_catalog / "europe")
    page = render_atlas(parts, title="<script>alert(1)</script>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_what_cannot_be_shown_is_said(tmp_path, tiny_catalog):
    with pytest.raises(CatalogError, match="no catalog there"):
        parts_of(tmp_path)
    with pytest.raises(PwcatError, match=r"must end in \.html"):
        CliRunner().invoke(atlas, [str(tiny_catalog), "-o", str(tmp_path / "a.pdf")], catch_exceptions=False)
    assert not list(tmp_path.iterdir())
    wrong = tmp_path / "wrong.parquet"
    pq.write_table(open_catalog(tiny_catalog).search().columns(["id"]), wrong)
    with pytest.raises(CatalogError, match="subset"):
        parts_of(wrong)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.4, 4.7), (0, 1.8), (2, 2.1), (-3, 11)])
def test_ticks_are_round_and_within(low, high):
    ticks = nice_ticks(low, high)
    assert 3 <= len(ticks) <= 11
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])


def test_a_map_places_samples_as_the_projection_does():
    here = np.array([[0.0, 0.0], [180.0, 0.0], [0.0, 90.0]])
    drawn = map_svg(here, {"a": ("#000000", np.ones(3, bool))}, land=[], title="<three>")
    dots = re.search(r'class="dots"[^>]*d="([^"]+)"', drawn)
    assert dots is not None
    assert sorted(re.findall(r"M([\d.]+) ([\d.]+)h0", dots[1])) == [("500", "1.1"), ("500", "243.5"), ("998", "243.5")]
    assert "&lt;three&gt;" in drawn


def test_many_samples_are_drawn_as_cells_of_their_most_frequent_class():
    rng = np.random.default_rng(0)
    many = np.column_stack([rng.uniform(-180, 180, 50_000), rng.uniform(-80, 80, 50_000)])
    rare = np.arange(50_000) % 10 == 0
    drawn = map_svg(many, {"often": ("#111111", ~rare), "rare": ("#222222", rare)}, land=[], title="many")
    assert len(drawn) < 250_000
    assert drawn.count("h0") < 200 * 98
    often, rarely = (
        sum(part.count("h0") for part in re.findall(rf'stroke="{c}"[^>]+', drawn)) for c in ("#111111", "#222222")
    )
    assert often > 10 * rarely


def test_a_histogram_has_a_bar_a_bin_that_holds_any():
    drawn = histogram_svg([0, 3, 1], low=0, high=3, marks=[1.5], title="t", colour="#123456")
    heights = [float(height) for height in re.findall(r'<rect[^>]*height="([\d.]+)"', drawn)]
    assert heights[0] == pytest.approx(3 * heights[1], abs=0.1)
    assert 'x1="180.0"' in drawn


def test_an_interval_without_a_value_says_so():
    drawn = interval_svg([("a", 1.0, 0.5, 1.5, "#1"), ("b", float("nan"), float("nan"), float("nan"), "#2")], title="t")
    assert drawn.count("<circle") == 1
    assert ">none<" in drawn


def test_datasets_without_labels_are_coloured_by_name(tiny_catalog, tmp_path):
    shutil.copytree(tiny_catalog / "europe", tmp_path / "europe", ignore=shutil.ignore_patterns("cube.zarr"))
    path = tmp_path / "europe" / "items.parquet"
    items = pq.read_table(path)
    for name in ("div:biome", "div:landcover"):
        at = items.column_names.index(name)
        items = items.set_column(at, items.schema.field(at), pa.nulls(len(items), pa.string()))
    pq.write_table(items, path)
    page = render_atlas(parts_of(tmp_path / "europe"), title="Europe")
    assert "Coloured by dataset;" in page
    assert "samples by biome and land cover" not in page
    assert Page(page).images == 0  # it has no cube
