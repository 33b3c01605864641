"""Plans whose source stops answering: what it has answered is not asked again."""

from __future__ import annotations

import pytest

from pwcat.errors import SourceError
from pwcat.plan import freeze_plan
from pwcat.recipe import Recipe


@pytest.fixture
def recipe(api):
    return Recipe.model_validate(
        {
            "name": "broken",
            "title": "B",
            "license": "CC0-1.0",
            "num_samples": 20,
            "sampler": {"strategy": "uniform", "domain": "scenes"},
            "source": {"provider": "stac", "url": api.url, "collection": "c", "allow_private": True},
            "when": {"start": "2021-06-01", "end": "2021-06-30", "max_cloud_cover": 100},
            "chip": {"size_px": 32, "bands": ["B02"]},
        }
    )


@pytest.fixture
def scenes(api, item_at):
    """600 scenes of 10 km in UTM zone 31, in three pages."""
    api.items = []
    for number in range(600):
        item = item_at(f"i{number:04d}", 3.0, 0.5 + number / 10, half=0.04, **{"proj:code": "EPSG:32631"})
        transform = [10, 0, 495_000, 0, -10, 60_000 + 11_057 * number]
        item["assets"]["B02"] |= {"proj:transform": transform, "proj:shape": [1000, 1000]}
        api.items.append(item)


@pytest.mark.usefixtures("scenes")
def test_a_plan_goes_on_where_its_source_stopped_and_is_the_same(api, recipe, tmp_path):
    def freeze(catalog):
        return freeze_plan(recipe, catalog=catalog, base_dir=tmp_path, source=api.source)

    undisturbed = freeze(tmp_path / "undisturbed")
    pages = len(api.searches)
    assert pages >= 3
    api.faults = [*[None] * (pages - 1), (400, {})]
    with pytest.raises(SourceError, match="did not answer a search"):
        freeze(tmp_path / "broken")
    assert list((tmp_path / "broken" / "broken" / "_search").rglob("page-*"))
    api.searches.clear()
    folder = freeze(tmp_path / "broken")
    assert len(api.searches) == 1
    for name in ("plan.parquet", "scenes.parquet"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not (folder / "_search").exists()


@pytest.mark.usefixtures("scenes")
def test_answers_of_a_plan_that_cannot_be_are_not_kept(api, recipe, tmp_path):
    crowded = recipe.model_copy(update={"constraints": recipe.constraints.model_copy(update={"min_spacing_km": 5000})})
    with pytest.raises(Exception, match="sites could be placed"):
        freeze_plan(crowded, catalog=tmp_path, base_dir=tmp_path, source=api.source)
    assert not list(tmp_path.rglob("page-*"))
