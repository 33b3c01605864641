"""What goes with published tiles of a map: its entities and tags, whom to name, under which licences."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset

from catalog.query import open_catalog
from catalog.subset import load_subset
from publish.dataset import publish_dataset
from publish.describing.sampling import describe_recipe
from publish.models.weights_card import weights_front_matter
from publish.weights import build_model_folder
from training.models import build_model
from training.pretrain import pretrain
from training.recipe import load_train_recipe

X, Y = 4 * 8500, 4 * 5500


@pytest.fixture(scope="module")
def published(map_catalog, tmp_path_factory):
    return publish_dataset(map_catalog / "hamlet", to=tmp_path_factory.mktemp("published") / "hamlet").folder


def test_entities_name_their_items_and_load(published, tmp_path):
    rows = load_dataset(str(published), "entities", split="entities", cache_dir=str(tmp_path)).to_list()
    assert [row["id"] for row in rows] == [f"16-{X}-{Y}"] * 3 + [f"16-{X + 1}-{Y}", f"16-{X + 4}-{Y}"]
    assert {"key": "building", "value": "café"} in rows[1]["tags"]
    assert len(rows[0]["box"]) == 8
    tags = load_dataset(str(published), "tags", split="tags", cache_dir=str(tmp_path)).to_list()
    assert (tags[0]["key"], tags[0]["value"], tags[0]["count"], tags[0]["tiles"]) == ("building", "yes", 2, 2)


def test_pixels_items_and_splits_are_those_of_the_tiles(published, tmp_path):
    items = pq.read_table(published / "items" / "items.geoparquet")
    assert {"map:tile", "map:building_count", "map:group"} <= set(items.column_names)
    chips = [pq.read_table(path).to_pylist() for path in sorted((published / "data").glob("*.parquet"))]
    assert sum(map(len, chips)) == 4
    row = next(row for part in chips for row in part if row["id"] == f"16-{X + 4}-{Y}")
    pixels = np.frombuffer(row["pixels"], row["dtype"]).reshape(row["shape"])
    assert pixels[0, :, 5, 5].tolist() == [11, 21, 31]
    assert row["attribution"] == "© OpenStreetMap contributors (ODbL-1.0); A plane (CC-BY-4.0)"


def test_the_card_and_the_licences_name_map_and_images(published):
    card, licences = ((published / name).read_text(encoding="utf-8") for name in ("README.md", "LICENSES.md"))
    assert "license: odbl" in card
    assert "| map: `map.geojson` | ODbL-1.0 | © OpenStreetMap contributors |" in card
    assert "| images: files of whoever made the collection | CC-BY-4.0 | A plane |" in card
    assert "values = np.where(pixels > 0, (pixels - 1.0) / 255, np.nan)" in card
    assert "(pixel − 1) / 255" in card
    assert "Reflectance" not in card
    assert "cloud" not in card
    assert "- Licence: ODbL-1.0\n- Words that its makers ask for: © OpenStreetMap contributors\n" in licences
    assert "- Licence: CC-BY-4.0\n- Words that its makers ask for: A plane\n" in licences
    assert "Open Database License" in licences
    collection = json.loads((published / "stac" / "collection.json").read_text(encoding="utf-8"))
    assert collection["assets"]["entities"]["href"] == "../map/entities.parquet"
    assert collection["div:statistics"]["entity"]["num_labelled"] == 5


def test_a_part_has_the_map_of_its_tiles_alone(map_catalog, tmp_path):
    part = open_catalog(map_catalog).search(ids=[f"16-{X + 1}-{Y}", f"16-{X + 8}-{Y}"])
    folder = publish_dataset(part, to=tmp_path / "part").folder
    assert pq.read_table(folder / "map" / "entities.parquet")["id"].to_pylist() == [f"16-{X + 1}-{Y}"]
    tags = pq.read_table(folder / "map" / "tags.parquet").to_pylist()
    assert [(row["key"], row["count"], row["tiles"]) for row in tags] == [("building", 1, 1), ("roof:shape", 1, 1)]
    alone = open_catalog(map_catalog).search(ids=[f"16-{X + 8}-{Y}"])
    assert not pq.read_table(publish_dataset(alone, to=tmp_path / "alone").folder / "map" / "entities.parquet").num_rows


def test_an_entity_on_several_of_the_tiles_counts_once(map_catalog, tmp_path):
    part = open_catalog(map_catalog).search(ids=[f"16-{X}-{Y}", f"16-{X + 1}-{Y}"])
    folder = publish_dataset(part, to=tmp_path / "part").folder
    assert pq.read_metadata(folder / "map" / "entities.parquet").num_rows == 4
    tags = {(row["key"], row["value"]): row for row in pq.read_table(folder / "map" / "tags.parquet").to_pylist()}
    assert (tags["building", "yes"]["count"], tags["building", "yes"]["tiles"]) == (2, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_how_tiles_were_chosen_is_told(map_catalog):
    told = describe_recipe(open_catalog(map_catalog).collection("hamlet").recipe)
    assert told == (
        "Tiles of zoom 16 for hamlet are those of the whole map that have entities or an image, split by groups of zoom 14 "
        "from seed 0: 10 % of the groups are `val`, 10 % `test`. Entities are those of map.geojson that have tags."
    )


def test_a_model_of_maps_names_whose_they_are(map_catalog, tmp_path):
    recipe = load_train_recipe(
        "geojepa-tiny", overrides={"model.dim": "16", "model.tags": "{dim: 32, least_count: 1}", "batch_size": "4"}
    )
    run = pretrain(load_subset(map_catalog / "hamlet"), recipe, tmp_path / "run", device="cpu", stop_after_steps=1)
    assert run.data["attributions"]["© OpenStreetMap contributors"] == "ODbL-1.0"
    folder = build_model_folder(run.path, tmp_path / "model", license="odbl-1.0")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| whose data | © OpenStreetMap contributors (ODbL-1.0)" in card
    assert "license: odbl\n" in card
    assert "map tiles of hamlet" in card


def test_a_licence_that_the_hub_does_not_know_points_to_the_card():
    model = build_model("tagcount", {"vocabulary": ["building"]})
    front = yaml.safe_load(weights_front_matter("m", license="My terms", model=model))
    assert (front["license"], front["license_name"], front["license_link"]) == ("other", "My terms", "README.md")
