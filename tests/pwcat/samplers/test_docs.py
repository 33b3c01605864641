"""What the documentation shows is played: recipes are accepted, and the sampler that it adds works."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import yaml

from pwcat.recipe import Recipe
from pwcat.samplers import STRATEGIES
from pwcat.samplers.grid import equal_area_cells, major_tom_cells

DOCS = Path(__file__).parents[3] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize("text", blocks("samplers.md", "yaml"))
def test_a_recipe_may_say_what_the_page_on_samplers_shows(text):
    document = {
        "name": "shown",
        "title": "Shown",
        "license": "CC0-1.0",
        "num_samples": 1000,
        "sampler": {"strategy": "uniform"},
        "source": {"provider": "earth-search", "collection": "sentinel-2-c1-l2a"},
        "when": {"start": "2021-01-01", "end": "2021-12-31"},
        "chip": {"size_px": 96, "bands": ["B02"]},
        "regions": {"continent": "natural-earth", "biome": "resolve-2017", "landcover": "mcd12c1"},
    }
    assert Recipe.model_validate({**document, **yaml.safe_load(text)})


def test_every_strategy_has_its_section():
    headings = re.findall(r"^### `(\w+)`$", (DOCS / "samplers.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(headings) == set(STRATEGIES)


def test_the_grids_are_as_large_as_the_page_says():
    page = (DOCS / "samplers.md").read_text(encoding="utf-8")
    for cells in (major_tom_cells(10), equal_area_cells(10), equal_area_cells(23)):
        assert f"{len(cells):,}" in page


def test_the_sampler_that_the_documentation_adds_works(monkeypatch):
    written, test = blocks("adding-a-sampler.md", "python")
    module = types.ModuleType("pwcat.samplers.latitude")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(written, "latitude.py", "exec"), module.__dict__)
    names: dict[str, object] = {}
    exec(compile(test, "test_latitude.py", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    for play in tests:
        play()
    (asked,) = blocks("adding-a-sampler.md", "yaml")
    assert module.Latitude.model_validate(yaml.safe_load(asked)["sampler"]).draws_from_scenes()
