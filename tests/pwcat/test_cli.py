from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from pwcat.cli import Told


@pytest.mark.parametrize(
    ("level", "name", "text", "line"),
    [
        (logging.WARNING, "pwcat.geo.places", "2 of 3 rows are left out", "Warning: 2 of 3 rows are left out"),
        (logging.ERROR, "rasterio._env", "no such file", "Error: no such file"),
    ],
)
def test_what_is_logged_is_one_line_for_people(level, name, text, line):
    assert Told().format(logging.LogRecord(name, level, "file.py", 1, text, None, None)) == line


def test_warnings_are_yellow_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    said = Told().format(logging.LogRecord("pwcat", logging.WARNING, "file.py", 1, "careful", None, None))
    assert said == "\x1b[33mWarning:\x1b[0m careful"


def test_warnings_of_libraries_are_told_without_the_code_that_warns():
    done = subprocess.run([sys.executable, "-c", WARNS, "any"], capture_output=True, text=True, check=True)
    assert done.stderr == "Warning: a and b\n"


WARNS = """
import click, warnings
from pwcat import cli
command = click.Command("any", callback=lambda: warnings.warn("a\\n  and b"))
cli.LazyGroup.get_command = lambda *_: command
cli.main()
"""


def test_the_command_warns_on_stderr_and_without_the_name_of_a_module(pwcat, tmp_path):
    (tmp_path / "points.geojson").write_text(
        '{"type": "FeatureCollection", "features": ['
        '{"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [1, 2]}},'
        '{"type": "Feature", "properties": {}, "geometry": null}]}'
    )
    (tmp_path / "cover.geojson").write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"CONTINENT": "A"}, "geometry": '
        '{"type": "Polygon", "coordinates": [[[0, 0], [5, 0], [5, 5], [0, 5], [0, 0]]]}}]}'
    )
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    code, out, err = pwcat("regions", "label", "points.geojson", "--recipe", "recipe.yaml", "--json")
    assert (code, err) == (0, "Warning: points.geojson: 1 of 2 rows have no geometry and are left out\n")
    assert '"soil": "A"' in out


RECIPE = """
name: a
title: A
license: CC0-1.0
num_samples: 1
sampler: {strategy: uniform, domain: globe}
source: {provider: stac, url: "http://127.0.0.1:9", collection: c}
when: {start: 2021-01-01, end: 2021-12-31}
chip: {size_px: 8, bands: [B02]}
regions: {soil: {path: cover.geojson, field: CONTINENT}}
"""
