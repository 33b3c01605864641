"""What is shown while sites are drawn: a line that goes away on a terminal, elsewhere one in ten seconds at most."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pwcat.plan import draw_sites
from pwcat.progress import show_counts, show_drawing
from pwcat.recipe import Recipe
from pwcat.sites.drawing import Drawn


def drawn(placed, *, strata=3):
    return Drawn(placed=placed, wanted=5_000, filled=1, strata=strata, tried=9 * placed)


def test_elsewhere_a_line_is_told_every_ten_seconds_at_most():
    told, seconds = io.StringIO(), iter([0, 1, 9.9, 10, 10, 15, 20.5, 20.5])
    console = Console(file=told, force_terminal=False, width=40)
    with show_drawing(console, clock=lambda: next(seconds)) as progress:
        for placed in (1, 2, 3_000, 3_500):
            progress(drawn(placed))
        progress(drawn(4_000, strata=1))
    assert told.getvalue().splitlines() == [
        "choosing sites: 3,000 of 5,000 sites, 1 of 3 strata, 27,000 places tried",
        "choosing sites: 4,000 of 5,000 sites, 36,000 places tried",
    ]


def test_what_is_counted_is_told_of_how_many_where_that_is_known():
    told, seconds = io.StringIO(), iter([0, 10, 10, 20, 20])
    with show_counts(Console(file=told, force_terminal=False), "export", clock=lambda: next(seconds)) as progress:
        progress(1_000, None)
        progress(2_000, 3_000)
    assert told.getvalue().splitlines() == ["export: 1,000", "export: 2,000 of 3,000"]


def test_on_a_terminal_the_line_counts_and_goes_away():
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100, legacy_windows=False)
    with show_drawing(console) as progress:
        progress(drawn(3_000))
    assert "choosing sites, 1 of 3 strata" in shown.getvalue()
    assert "3000/5000" in shown.getvalue()
    assert shown.getvalue().endswith("\x1b[2K")  # the line is cleared


@pytest.mark.kit
def test_a_draw_tells_after_each_round_how_far_it_has_come(kit):
    told = []
    recipe = Recipe.model_validate(
        {
            "name": "told",
            "title": "Told",
            "license": "CC0-1.0",
            "num_samples": 600,
            "sampler": {"strategy": "stratified", "by": ["continent"], "exclude": ["Antarctica"]},
            "constraints": {"reserve_fraction": 0.1},
            "source": {"provider": "stac", "url": "http://127.0.0.1:1", "collection": "none"},
            "when": {"start": "2021-01-01", "end": "2021-12-31"},
            "chip": {"size_px": 96, "bands": ["B02"]},
            "regions": {"continent": {"path": "vectors/natural_earth/ne_continents.fgb", "field": "continent"}},
        }
    )
    draw_sites(recipe, base_dir=kit, progress=told.append)
    strata = told[0].strata
    assert [one.placed for one in told] == sorted(one.placed for one in told)
    assert (told[-1].placed, told[-1].wanted, told[-1].filled) == (
        600 + 9 * strata,
        600 + 9 * strata,
        strata,
    )  # 85 or 86 each, and a tenth
    assert all(one.tried >= one.placed for one in told)
