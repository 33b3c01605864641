"""The explorer in headless Chromium, held against what Python finds."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from catalog.atlas import write_atlas
from catalog.commands.search import search
from catalog.explorer.columns import read_columns
from catalog.query import open_catalog

LABELLED = ("continent", "biome", "landcover")


@pytest.fixture(scope="module")
def catalog(tiny_catalog):
    return open_catalog(tiny_catalog)


@pytest.fixture(scope="module")
def columns(catalog):
    return read_columns(catalog)


def count_of(page):
    return int(page.inner_text("#count").replace(",", ""))


def found_on(page, columns):
    """Collections and ids of the samples that the page shows."""
    rows = page.evaluate("Array.from(window.explorer.selection.rows())")
    return sorted((columns.collection_of(row), columns.ids[row].as_py()) for row in rows)


def found_in(subset):
    return sorted(zip(subset.table["collection"].to_pylist(), subset.table["id"].to_pylist(), strict=True))


def until(page, condition):
    """Wait until an expression holds; Playwright's own way would need what the page's policy forbids."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"never: {condition}")


def biome_of(catalog):
    return catalog.search().table["div:biome"].drop_null()[0].as_py()


def test_a_filter_changes_counts_statistics_and_map_together(visit, catalog):
    page = visit()
    assert count_of(page) == 80
    biome = biome_of(catalog)
    page.get_by_role("checkbox", name=biome).check()
    found = catalog.search(biome=biome)
    assert count_of(page) == len(found) < 80
    assert page.evaluate("window.explorer.map.shown") == len(found)
    counts = dict(found.stats()["landcover"]["counts"])
    for item in page.locator("details[data-layer=landcover] li").all():
        name, number = item.locator(".name").text_content(), item.locator(".count").text_content()
        assert int(number) == counts.get(name.replace(" ", "_"), 0), name
    told = page.locator("details[data-layer=biome] li .count").all_text_contents()
    assert sum(map(int, told)) == 80  # a facet is counted under the filters of the others
    assert sum(page.evaluate("Array.from(window.explorer.selection.tally.histogram)")) == len(found)
    page.get_by_role("button", name="Clear filters").click()
    assert count_of(page) == 80


def test_statistics_are_those_of_python(visit, catalog):
    page = visit("continent=Europe&collection=everywhere&collection=europe")
    stats = catalog.search(continent="Europe").stats()
    for layer in LABELLED:
        cells = page.locator(f"#statistics tr[data-layer={layer}] td").all_text_contents()
        expected = stats[layer]
        even = "–" if expected["evenness"] is None else f"{expected['evenness']:.2f}"
        assert cells == [str(expected["num_classes"]), f"{expected['shannon']:.3f}", f"{expected['hill_1']:.2f}", even]
    spectral = stats["spectral"]
    assert page.inner_text("#spectral-mean") == f"{spectral['mean']:.3f} ± {spectral['standard_deviation']:.3f} nats"


QUESTIONS = {
    "everything": "",
    "classes": "continent=Europe&continent=Asia&landcover=tree_cover&landcover=grassland",
    "a collection and a split": "collection=europe&split=train",
    "both splits": "split=train&split=val",
    "entropy between": "entropy=2.5,3.25",
    "entropy to a whole number": "entropy=0,3",
    "days": "days=2021-06-01,2023-01-15",
    "an area": "box=-20.5,10,60.25,71.5",
    "across the antimeridian": "box=100,-60,-30,80",
    "without a label": "biome=&continent=Africa",
    "all at once": "collection=everywhere&split=val&entropy=1.5,4&days=2020-01-01,2025-01-01&box=-180,-50,180,80",
}


def test_the_lines_to_copy_find_exactly_what_is_shown(visit, columns):
    page = visit()
    for question, address in QUESTIONS.items():
        page.evaluate("(address) => { location.hash = `${address}&by=split`; }", address)
        page.evaluate("new Promise((done) => setTimeout(done, 20))")  # the page hears of it in a task of its own
        shown = found_on(page, columns)
        assert len(shown) == count_of(page), question
        _, verb, *arguments = shlex.split(page.text_content("#command").replace("\\\n", " "))
        assert verb == "search"
        answer = CliRunner().invoke(search, [*arguments, "--json"], catch_exceptions=False)
        samples = json.loads(answer.stdout)["samples"]
        assert sorted((sample["collection"], sample["id"]) for sample in samples) == shown, question
        names: dict[str, object] = {}
        exec(page.text_content("#python"), names)
        assert found_in(names["found"]) == shown, question
        asked = page.evaluate("Object.keys(window.explorer.selection.filters).length")
        assert asked == len({part.partition("=")[0] for part in address.split("&") if part}), question


def test_names_with_marks_survive_the_shell(visit, catalog, columns):
    biomes = sorted(set(catalog.search().table["div:biome"].drop_null().to_pylist()))
    page = visit("&".join(f"biome={quote(name)}" for name in biomes))
    assert any("&" in name for name in biomes)
    _, _, *arguments = shlex.split(page.text_content("#command").replace("\\\n", " "))
    answer = CliRunner().invoke(search, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(answer.stdout)["matched"] == count_of(page) == len(catalog.search(biome=biomes))


def test_the_lines_are_copied(visit):
    page = visit("continent=Europe", permissions=["clipboard-read", "clipboard-write"])
    page.click("#copy-command")
    until(page, "document.getElementById('said').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == page.text_content("#command")
    page.click("#copy-python")
    until(page, "navigator.clipboard.readText().then((text) => text.startsWith('import pwcat'))")


def test_the_histogram_is_brushed(visit, columns):
    page = visit()
    box = page.locator("#histogram").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 30)
    page.mouse.up()
    low, high = page.evaluate("window.explorer.selection.filters.entropy")
    entropy = columns.values["entropy"]
    assert count_of(page) == int(((entropy >= low) & (entropy <= high)).sum())
    assert f"{low:.2f} to {high:.2f}" in page.inner_text("#entropy-bounds")
    page.get_by_role("button", name="Clear the filter by spectral entropy").click()
    assert count_of(page) == 80


def test_a_chip_opens_in_true_and_false_colour_with_its_spectrum(visit, columns):
    page = visit()
    card = page.locator("#gallery button").first
    row = int(card.get_attribute("data-row"))
    card.click()
    dialog = page.get_by_role("dialog")
    dialog.locator(".pictures img").nth(2).wait_for()
    until(
        page,
        "[...document.querySelectorAll('.pictures img')].every((image) => image.complete && image.naturalWidth === 32)",
    )
    assert dialog.locator("h2").inner_text() == columns.ids[row].as_py()
    assert dialog.locator("#spectrum circle").count() == 12
    assert f"{columns.values['entropy'][row]:.3f} nats" in dialog.inner_text()
    page.keyboard.press("ArrowRight")
    until(page, f"document.getElementById('sample-title').textContent !== '{columns.ids[row].as_py()}'")
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


def test_a_point_of_the_map_opens_its_sample(visit, columns):
    page = visit()
    row, x, y = page.evaluate(
        """() => { const { map } = window.explorer; const at = map.picked.findIndex((row) => row >= 0);
                   return [map.picked[at], (at % map.dots.width) / map.ratio, Math.floor(at / map.dots.width) / map.ratio]; }"""
    )
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.locator("#tip").wait_for()
    page.mouse.click(box["x"] + x, box["y"] + y)
    until(page, "document.querySelector('.pictures img')?.complete")
    assert page.inner_text("#sample-title") == columns.ids[row].as_py()


def test_it_works_by_keyboard_alone(visit, columns):
    page = visit()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link that skips to the map
    page.focus("#map")
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    zoom, x = page.evaluate("[window.explorer.map.view.k, window.explorer.map.view.x]")
    assert zoom == pytest.approx(1.5)
    assert x > 0
    page.keyboard.press("0")
    assert page.evaluate("window.explorer.map.view.k") == 1
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.locator("details[data-layer=continent] input").first.focus()
    page.keyboard.press("Space")
    ticked = count_of(page)
    assert 0 < ticked < 80
    page.focus("#entropy-low")
    for _ in range(3):
        page.keyboard.press("PageUp")
    assert count_of(page) < ticked or page.evaluate("window.explorer.selection.filters.entropy[0]") > 0


def test_the_area_of_the_map_filters(visit, columns):
    page = visit()
    for _ in range(4):
        page.click("#zoom-in")
    page.click("#area")
    west, south, east, north = page.evaluate("window.explorer.selection.filters.box")
    lon, lat = columns.values["lon"], columns.values["lat"]
    inside = (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)
    assert count_of(page) == int(inside.sum())
    page.click("#area")
    assert count_of(page) == 80


@pytest.mark.parametrize("width", [360, 768])
def test_a_narrow_page_has_the_map_first_and_nothing_beyond_its_edge(visit, width):
    page = visit(width=width, height=800, color_scheme="dark", device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    if width < 400:
        map_top, filters_top = (page.locator(at).bounding_box()["y"] for at in ("#map", "#facets"))
        assert map_top < filters_top
    page.locator("#compare summary").click()
    page.locator("#compare-table tr").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_light_and_dark_follow_the_screen_and_the_button(visit):
    page = visit(color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(18, 22, 24)"
    page.get_by_role("button", name="Dark page").click()
    assert page.evaluate(paper) == "rgb(251, 250, 247)"


def test_two_collections_stand_side_by_side(visit, catalog):
    page = visit()
    page.locator("#compare summary").click()
    page.select_option("#compare-a", label="everywhere")
    page.select_option("#compare-b", label="europe")
    until(page, "document.querySelectorAll('#compare-table tr').length > 4")
    cells = [row.locator("td").all_text_contents() for row in page.locator("#compare-table tr").all()]
    stats = [catalog.search(collections=name).stats() for name in ("everywhere", "europe")]
    assert cells[0][:2] == ["48", "32"]
    a, b = (each["biome"]["shannon"] for each in stats)
    biome = next(row for row in page.locator("#compare-table tr").all() if "Biome entropy" in row.inner_text())
    told = biome.locator("td").all_text_contents()
    assert told[:2] == [f"{a:.3f}", f"{b:.3f}"]
    assert math.isclose(float(told[2].replace("−", "-")), b - a, abs_tol=6e-4)
    assert page.locator("#compare-histogram path").count() == 2


def test_a_selection_is_pinned_and_compared(visit):
    page = visit("continent=Europe")
    pinned = count_of(page)
    page.locator("#compare summary").click()
    page.click("#pin")
    page.locator("details[data-layer=continent]").get_by_role("button", name="Clear").click()
    until(page, "document.querySelector('#compare-table td')?.textContent !== ''")
    until(page, "document.querySelectorAll('#compare-table tr td')[1].textContent === '80'")
    cells = page.locator("#compare-table tr").first.locator("td").all_text_contents()
    assert cells == [str(pinned), "80", f"{pinned} in both"]


def test_the_address_keeps_the_view(visit):
    page = visit("continent=Europe&entropy=2,4&by=landcover")
    count = count_of(page)
    again = visit(page.evaluate("location.hash.slice(1)"))
    assert count_of(again) == count < 80
    assert again.input_value("#colour") == "landcover"


def test_colours_of_entropy_span_all_but_the_outliers(visit, columns):
    page = visit("by=entropy")
    low, high = page.evaluate("[window.explorer.selection.colours.low, window.explorer.selection.colours.high]")
    entropy = columns.values["entropy"]
    outside = ((entropy < low) | (entropy > high)).mean()
    assert outside <= 0.04
    assert page.inner_text("#legend").startswith(f"≤ {low:.1f}")


@pytest.mark.parametrize("width", [360, 1440])
def test_a_name_of_one_long_word_stays_on_the_page(browser, served, tiny_catalog, tmp_path, width):
    """On the explorer and on the atlas: names are strangers' words, and one of them must not push the map aside."""
    shutil.copytree(tiny_catalog / "europe", tmp_path / "europe")
    items = tmp_path / "europe" / "items.parquet"
    table = pq.read_table(items)
    for column in ("div:biome", "div:landcover"):
        field = table.schema.field(column)
        words = pa.array([f"{'<b>Waldundwiese' * 9}{k % 2}" for k in range(len(table))]).cast(field.type)
        table = table.set_column(table.column_names.index(column), field, words)
    pq.write_table(table, items)
    write_atlas(tmp_path / "europe", tmp_path / "atlas.html", title="Waldundwiese" * 9)
    with served(tmp_path / "europe") as address:
        for at in (address, (tmp_path / "atlas.html").as_uri()):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(at)
            page.get_by_text("Waldundwiese").first.wait_for(state="attached")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            page.close()


def test_the_lines_to_copy_are_read_without_scrolling(visit):
    page = visit("continent=Europe&continent=Asia&landcover=tree_cover&entropy=1.5,4&box=-180,-50,180,80")
    for lines in ("#command", "#python"):
        assert page.evaluate(
            f"document.querySelector('{lines}').scrollWidth <= document.querySelector('{lines}').clientWidth"
        )


def test_a_catalog_without_labels_and_entropies_shows_no_empty_filters(browser, served, tiny_catalog, tmp_path):
    shutil.copytree(tiny_catalog / "europe", tmp_path / "europe")
    items = tmp_path / "europe" / "items.parquet"
    table = pq.read_table(items)
    for number, field in enumerate(table.schema):
        if field.name.startswith(("div:", "pwcat:split", "datetime")):
            table = table.set_column(number, field, pa.nulls(len(table), field.type))
    pq.write_table(table, items)
    with served(tmp_path / "europe") as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("body.ready")
        for hidden in ("#entropy", "#dates", "aside"):
            assert not page.locator(hidden).is_visible()
        assert page.inner_text("#spectral-mean") == "–"
        assert page.locator("#gallery button").count() == 12
        page.close()
