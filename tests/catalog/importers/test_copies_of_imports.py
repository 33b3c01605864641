"""Copies of what others published: its pixels, which lie where they lay, get a cube of ours."""

from __future__ import annotations

import numpy as np
import pytest

from catalog.copying import copy_subset
from catalog.query import open_catalog
from catalog.stac.validation import validate_catalog
from pwcat.cube import open_cube
from pwcat.doctor.examination import examine
from pwcat.errors import CatalogError


@pytest.mark.parametrize(("layout", "format_name"), [("geotiffs", "geotiff"), ("ssl4eo", "ssl4eo-s12")])
def test_a_copy_of_an_import_is_a_cube_of_our_own(layout, format_name, add, request, tmp_path):
    added = add(request.getfixturevalue(layout), format_name)
    subset = open_catalog(added.folder).search()
    copy_subset(subset, tmp_path / "copy", origin={"source": "elsewhere"})
    found = open_catalog(tmp_path / "copy").search()
    rows = np.arange(len(subset))
    np.testing.assert_array_equal(found.read(rows), subset.read(rows))
    names = [name for name in subset.table.column_names if name != "pwcat:index"]
    assert found.columns(names).equals(subset.columns(names))
    assert found.stats() == subset.stats()
    assert found.hash == subset.hash
    cube = open_cube(tmp_path / "copy" / added.folder.name / "cube.zarr")
    np.testing.assert_array_equal(cube.dates(found.index), subset.collections[0].cube.dates(subset.index))
    with pytest.raises(CatalogError, match=r"no recipe.yaml: what was added from elsewhere has none, nor has a copy"):
        _ = found.collections[0].recipe
    assert examine(tmp_path / "copy" / added.folder.name).is_well
    assert validate_catalog(tmp_path / "copy").faults == []
