"""What a plan says of itself in a terminal: everything in 80 columns, no word cut, the long tail in one row."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from pwcat.costs.design import design_of
from pwcat.costs.estimate import Estimate
from pwcat.costs.tables import cost_facts, design_facts, show_design, show_facts, spectral_facts

LONG = "Tropical & Subtropical Grasslands, Savannas & Shrublands"


def design(n, *, strata=None, **layers):
    """Of ``n`` samples along the equator, a tenth of a degree apart; layers by name, repeated as often as needed."""
    columns = {name: layers.pop(name, [None]) for name in ("continent", "biome", "landcover")} | layers
    table = {
        name: pa.array(np.resize(np.array(values, dtype=object), n).tolist(), pa.string())
        for name, values in columns.items()
    }
    return design_of(
        pa.table(
            {
                "lon": np.arange(n) / 10, "lat": np.zeros(n), "split": ["train"] * (n - 1) + ["val"], **table,
                "stratum": pa.array(strata or ["all"] * n, pa.string()),
            }
        )
    )  # fmt: skip


def shown(what, *, width=80, cells=False, facts=()):
    stream = io.StringIO()
    console = Console(file=stream, width=width)
    show_design(what, title="Title [of] a plan", cells=cells, console=console)
    show_facts([*facts], console=console)
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_no_word_is_cut_and_no_line_is_too_long(width):
    regions = [f"Region-{k:03d} of some {'length ' * (k % 9)}" for k in range(846)]
    strata = [
        f"North America × {LONG} × evergreen_broadleaf_forest {k % 3}" for k in range(1000) for _ in range(1 + k % 3)
    ]
    what = design(
        2000 - 1, strata=strata[:1999], continent=["North America", "Asia"], biome=[LONG, "Tundra", None],
        landcover=["evergreen_broadleaf_forest", "barren"], ecoregion=regions,
    )  # fmt: skip
    text = shown(what, width=width, cells=True, facts=design_facts(what))
    words = set(text.split())
    assert max(map(len, text.splitlines())) <= width
    assert {"Title", "[of]", *LONG.split(), "evergreen_broadleaf_forest", "North", "America"} <= words
    assert all(word.startswith("Region-") <= (len(word) == 10) for word in words)
    assert len(text.splitlines()) < 110


def test_counts_are_told_by_layer_the_tail_and_the_unlabelled_together():
    many = [f"c{k:02d}" for k in range(16) for _ in range(20 - k)]  # 20, 19, ... 5: 200 samples
    lines = [
        " ".join(line.split()) for line in shown(design(250, soil=[*many, *[None] * 50], biome=["x"])).splitlines()
    ]
    assert lines[lines.index("Soil") + 1] == "c00 20 8.0%"
    assert "c09 11 4.4%" in lines
    assert f"and 6 more {10 + 9 + 8 + 7 + 6 + 5} 18.0%" in lines
    assert "none 50 20.0%" in lines
    assert "c10 10 4.0%" not in lines
    assert "x 250 100.0%" in lines
    assert "Continent" not in lines  # labels nothing
    fifteen = shown(design(30, soil=[f"c{k:02d}" for k in range(15)]))
    assert "c14" in fifteen
    assert "more" not in fifteen


def test_strata_are_counted_where_a_line_does_not_say_all():
    even = design(30, strata=["wet"] * 15 + ["dry"] * 15)
    assert dict(design_facts(even))["Strata"] == "2, of 15 samples each, as wanted"
    assert "wet" not in shown(even)
    uneven = design(30, strata=["wet"] * 20 + ["dry"] * 10)
    assert dict(design_facts(uneven))["Strata"] == "2, of 10 to 20 samples each, as wanted"
    assert "wet" in shown(uneven)
    assert "Strata" not in dict(design_facts(design(30)))
    by_biome = design(30, biome=["a", "a", "b"], strata=["a", "a", "b"] * 10)
    assert "Stratum" not in shown(by_biome)  # the biomes are told already


def test_facts_name_reserve_distances_and_costs():
    what = design(3)
    facts = dict(design_facts(what, reserve=2))
    assert facts["Samples"] == "3: 2 train, 1 val; 2 more in reserve"
    assert facts["Spacing"] == "sites are at least 11.13 km apart"
    assert facts["Split"] == "validation is at least 11.1 km from training, 11.1 km in the median"
    costs = {"scenes": 1, "shards": 2, "requests": 1234, "download_bytes": 9_600_000, "cube_bytes": 123_400_000}
    told = dict(cost_facts(Estimate(**vars(what), **costs, hours=0.05, rate_mb_s=20)))
    assert told["Reads"] == "about 1,234 requests, 9.6 MB of 1 scene: 3.0 minutes at 20 MB/s"
    assert told["Cube"] == "123 MB of pixels in 2 shards"


def test_what_was_not_counted_is_not_made_up():
    rank = {"rank_correlation": None, "ci_low": None, "ci_high": None, "n": 0}
    choice = {"calibration": rank, "candidates": 50, "unread": 1, "mean_of_chosen": 3, "mean_of_candidates": 2}
    choice |= {"spent_bytes": None, "calibration_bytes": None, "full_bytes": 25_000_000_000}
    facts = dict(spectral_facts(choice))
    assert facts["Chosen"] == "among 50 candidates (1 without pixels): no calibration"
    assert facts["Scoring"] == "what was read was not counted; all candidates in full: about 25.0 GB"
