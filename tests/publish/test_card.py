"""The documents of a published dataset: every number of the card derived again, and what the texts say of odd datasets."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from importlib.metadata import version

import mlcroissant
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard
from PIL import Image
from pyproj import Geod

from catalog.query import open_catalog
from catalog.stac.validation import DocumentCheck
from catalog.store import build
from catalog.subset import load_subset
from catalog.subsets.matching import block_split
from publish.dataset import build_dataset_folder
from publish.describing.card_values import card_values
from publish.describing.cards import render
from publish.describing.documents import Config
from publish.describing.facts import dataset_facts, title_of
from publish.describing.papers import following
from publish.describing.terms import sources_of
from publish.manifest import FileRecord, read_manifest
from publish.shards import DEFAULT_LAYOUT, SENSOR_SCHEMA, plan_shards
from pwcat.cube import band_columns
from pwcat.errors import PublishError
from pwcat.osm.document import MapRecipe
from pwcat.recipes import list_recipes, load_builtin

# Numbers that belong to names and definitions in the card's own words, not to this dataset.
DEFINITIONS = {
    "95": "the level of the intervals",
    "0": "the value that means no data",
    "84": "WGS84",
    "4326": "EPSG:4326, of longitude and latitude",
    "256": "SHA-256",
}


def body(folder):
    return (folder / "README.md").read_text(encoding="utf-8").split("\n---\n", 1)[1]


def numbers(text):
    """Numbers of the prose and the tables; code, which is run elsewhere, and hashes are left out."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)
    return re.findall(r"(?<![A-Za-z\d])\d+(?:,\d{3})*(?:\.\d+)*(?![A-Za-z\d])|(?<=WGS)\d+", text)


def unexplained(text, explained):
    known = {part for told in explained for part in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)*", str(told))} | set(
        DEFINITIONS
    )
    return [number for number in numbers(text) if number not in known]


def entropies(labels):
    """What the table says of a layer, from its labels alone."""
    counts = np.unique([label for label in labels if label], return_counts=True)[1]
    shares = counts / counts.sum()
    shannon = float(-(shares * np.log(shares)).sum())
    evenness = f"{shannon / math.log(len(counts)):.2f}" if len(counts) > 1 else ""
    return [
        f"{shannon:.3f}", f"{math.exp(shannon):.2f}", evenness, len(counts), f"{counts.sum():,}",
        *(f"{100 * share:.1f}" for share in shares),
    ]  # fmt: skip


def nearest_km(a, b, *, same=False):
    lon, lat = (np.broadcast_arrays(a[:, None, axis], b[None, :, axis]) for axis in (0, 1))
    km = Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])[2] / 1000
    return (km + np.where(np.eye(len(a)), np.inf, 0) if same else km).min(axis=1)


def as_card(km):
    return f"{1000 * km:,.0f}" if km < 1 else f"{km:,.{2 if km < 10 else 1 if km < 100 else 0}f}"


def test_every_number_of_the_card_is_derived_again(everywhere, dataset_folder):
    card, recipe, cube = body(dataset_folder), everywhere.collections[0].recipe, everywhere.collections[0].cube
    lonlat, splits = everywhere.lonlat, everywhere.column("pwcat:split")
    statistics = everywhere.stats()
    _, records = read_manifest(dataset_folder)
    pixels = sum(record.bytes for path, record in records.items() if path.startswith("data/"))
    corners = np.array([list(box.values()) for box in everywhere.table["bbox"].to_pylist()])
    apart = nearest_km(lonlat[splits == "val"], lonlat[splits == "train"])
    alone = nearest_km(lonlat, lonlat, same=True)
    half = 1.96 * alone.std(ddof=1) / math.sqrt(len(alone))
    entropy, layers = everywhere.column("div:spectral_entropy"), ("continent", "biome", "landcover")
    told = [
        len(everywhere), (splits == "train").sum(), (splits == "val").sum(),
        *everywhere.read(np.arange(1)).shape[1:], recipe["chip"]["resolution_m"],
        *(f"{bound:.2f}" for bound in (*corners.min(axis=0), *corners.max(axis=0))),
        everywhere.table["datetime"].to_pandas().min().date(), everywhere.table["datetime"].to_pandas().max().date(),
        f"{100 * everywhere.column('div:valid_fraction').mean():.1f}",
        f"{pixels / 1e3:.1f}", f"{records['items/items.geoparquet'].bytes / 1e3:.1f}", 2, 48,
        *(number for layer in layers for number in entropies(everywhere.column(f"div:{layer}"))),
        *(f"{statistics[layer][end]:.3f}" for layer in (*layers, "spectral") for end in ("ci_low", "ci_high")),
        f"{entropy.mean():.3f}", statistics["spectral"]["version"],
        *(as_card(km) for km in (alone.mean(), alone.mean() - half, alone.mean() + half)),
        *(as_card(statistics["dispersion"][name]) for name in ("uniform_km", "globe_km")),
        recipe["num_samples"], recipe["seed"], recipe["when"]["start"], recipe["when"]["end"],
        f"{recipe['when']['max_cloud_cover']:g}", f"{recipe['split']['block_km']:g}",
        *(as_card(km) for km in (apart.min(), np.median(apart), apart.max())), (apart < 0.32).sum(), len(apart),
        f"{cube.attrs['scale']:.10g}", *(f"{nm:.1f}" for nm in cube.stored("wavelength_nm")),
        *(f"{metres:g}" for metres in cube.stored("gsd_m")), 1,
        *(version(package) for package in ("pwcat", "pyarrow", "numpy", "pillow", "matplotlib")),
    ]  # fmt: skip
    assert unexplained(card, told) == []
    assert unexplained(f"{card}\nIt has 4,711 samples.", told) == ["4,711"]
    assert len(numbers(card)) > 120
    for layer, label in zip(layers, ("continents", "biomes", "land covers"), strict=True):
        shannon, effective, evenness, classes, samples = entropies(everywhere.column(f"div:{layer}"))[:5]
        interval = " to ".join(f"{statistics[layer][end]:.3f}" for end in ("ci_low", "ci_high"))
        row = f"| {label} | {shannon} nats | {interval} | {effective} | {evenness or '–'} | {classes} | {samples} |"
        assert row in card
    assert f"| `val` | `train` | {len(apart)} | {as_card(apart.min())} " in card
    recorded = json.loads((dataset_folder / "stats/diversity.json").read_text())["separation"]
    assert recorded[0]["median_km"] == pytest.approx(np.median(apart), rel=1e-3)


def test_what_reading_back_needs_is_recorded_and_the_recipe_loads(everywhere, dataset_folder, map_catalog, tmp_path):
    recorded = json.loads((dataset_folder / "stats/diversity.json").read_text())
    mine, collection = recorded["collections"]["everywhere"], everywhere.collections[0]
    assert recorded["subset_hash"] == everywhere.hash
    assert mine["attributes"] == collection.cube.attrs
    assert mine["recipe_hash"] == collection.recipe_hash
    told = mine["statistics"]
    assert {name: told[name]["layer"] for name in ("continent", "biome", "landcover")} == {
        name: everywhere._layers()[name] for name in ("continent", "biome", "landcover")
    }
    assert {"everywhere": mine["codebook"]} == everywhere._codebooks()
    assert told == recorded["statistics"] == json.loads(json.dumps(everywhere.stats()))
    columns = {name: collection.cube.stored(name) for name in ("band", "wavelength_nm", "gsd_m")}
    for name, values in columns.items():
        key = {"band": "name"}.get(name, name)
        assert [band[key] for band in recorded["chip"]["bands"]] == values.tolist(), name
    assert set(band_columns(_spec_of(collection.cube))) == set(columns)
    folder = build_dataset_folder(load_subset(map_catalog / "hamlet"), tmp_path / "hamlet")
    document = yaml.safe_load((folder / "recipes/hamlet.yaml").read_text())
    assert MapRecipe.model_validate(document).hash == load_subset(map_catalog).collections[0].recipe_hash


def _spec_of(cube):
    from pwcat.cube import CubeSpec

    return CubeSpec(num_samples=1, num_times=1, bands=cube.bands, size_px=cube.size_px, shard_size=1)


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
def test_stac_croissant_and_front_matter_of_tiles_are_valid_and_list_every_table(map_catalog, kit, tmp_path):
    folder = build_dataset_folder(load_subset(map_catalog / "hamlet"), tmp_path / "hamlet")
    _, records = read_manifest(folder)
    stac = json.loads((folder / "stac/collection.json").read_text())
    assert list(DocumentCheck(kit / "stac_schemas").faults(stac)) == []
    assert all((folder / "stac" / asset["href"]).is_file() for asset in stac["assets"].values())
    dataset = mlcroissant.Dataset(folder / "croissant.json")
    assert not dataset.metadata.issues.errors
    document = json.loads((folder / "croissant.json").read_text())
    files = {part["contentUrl"]: part["sha256"] for part in document["distribution"] if "contentUrl" in part}
    tables = {path for path in records if path.endswith("parquet") and not path.startswith("data/")}
    assert files == {path: records[path].sha256 for path in tables}
    assert document["license"] == ["https://spdx.org/licenses/ODbL-1.0.html"]
    for name in ("chips", "items", "entities", "tags", "preview"):
        assert next(iter(dataset.records(name))), name
    pixels = next(field for field in document["recordSet"][0]["field"] if field["name"] == "pixels")
    assert pixels["geocr:bandConfiguration"]["geocr:bandNameList"] == ["red", "green", "blue"]
    data = DatasetCard.load(folder / "README.md").data
    assert (data.license, data.pretty_name, data.size_categories) == ("odbl", "Hamlet", ["n<1K"])
    assert {"geospatial", "stac", "openstreetmap", "aerial-imagery"} <= set(data.tags)
    assert "| classes | counted |" in body(folder)  # entities and tags are no samples
    assert [config["config_name"] for config in data.configs] == ["chips", "items", "entities", "tags", "preview"]


def test_the_map_shows_a_region_as_it_lies_and_the_world_else(dataset_folder, map_catalog, tmp_path):
    folder = build_dataset_folder(load_subset(map_catalog / "hamlet"), tmp_path / "hamlet")
    with Image.open(folder / "map.png") as near, Image.open(dataset_folder / "map.png") as far:
        assert (near.size, near.info.keys() & {"Software", "Creation Time", "date"}) == ((1600, 900), set())
        assert (far.width, far.info.keys() & {"Software", "Creation Time", "date"}) == (1600, set())
        colours = {colour for _, colour in near.convert("RGB").getcolors(2**24)}
    assert any(
        np.abs(np.array(colour) - (0x26, 0x87, 0xBE)).max() < 6 for colour in colours
    )  # tiles of train, 85 % blue


def test_a_recipe_of_a_paper_is_cited_with_what_was_changed(write_recipe, tmp_path):
    europe = {"strategy": "one_hot", "layer": "continent", "value": "Europe", "domain": "scenes"}
    recipe = {"name": "pretrain-where-europe", "num_samples": 12, "seed": 5, "sampler": europe}
    build(write_recipe(tmp_path, **recipe), catalog=tmp_path / "catalog")
    everything = open_catalog(tmp_path / "catalog").search()
    folder = build_dataset_folder(everything, tmp_path / "out")
    card, data = body(folder), DatasetCard.load(folder / "README.md").data
    assert "https://arxiv.org/abs/2604.21104" in card
    assert "author = {Amandeep Kaur and Mirali Purohit and Gedeon Muhawenayo and Esther Rolf and Hannah Kerner}" in card
    assert "`pretrain-where-europe` is pwcat's reading of the recipe of [Kaur et al., 2026]" in card
    assert "with other values for `num_samples`, `seed`, `sampler.domain`" in card
    assert "arxiv:2604.21104" in data.tags
    stac = json.loads((folder / "stac/collection.json").read_text())
    assert stac["sci:publications"][0]["citation"].startswith("Kaur et al., 2026. Pretrain Where?")
    assert "https://stac-extensions.github.io/scientific/v1.0.0/schema.json" in stac["stac_extensions"]
    own = build_dataset_folder(block_split(everything, val_fraction=0.5, block_km=100), tmp_path / "own")
    assert "The splits were made for this dataset, not by its recipes: the query above says how." in body(own)
    assert "block_split:\n  val_fraction: 0.5\n  block_km: 100\n" in body(own)
    assert "whole blocks" not in body(own)
    recorded = json.loads((own / "stats/diversity.json").read_text())
    assert (recorded["own_columns"], recorded["query"]["block_split"]["block_km"]) == (["pwcat:split"], 100)


def test_each_built_in_recipe_of_a_paper_is_known_unchanged():
    known = {name: following({name: load_builtin(name).model_dump(mode="json")}) for name in list_recipes()}
    assert [name for name, found in known.items() if not found] == ["global-spectral"]  # which no paper made
    assert all(not one.changed for found in known.values() for one in found)
    europe = load_builtin("pretrain-where-europe").model_dump(mode="json")
    assert following({"a": {**europe, "name": "mine"}}) == ()
    assert following({"a": {**europe, "sampler": {**europe["sampler"], "value": "Asia"}}}) == ()
    assert [one.changed for one in following({"a": {**europe, "num_samples": 7}})] == [("num_samples",)]


def test_sources_have_their_terms_and_the_words_they_ask_for():
    recipe = load_builtin("pretrain-where-europe").model_dump(mode="json")
    source = {"provider": "planetary-computer", "collection": "cop-dem-glo-30", "url": None}
    told = sources_of({**recipe, "sensors": {"dem": {"source": source}}}, years="2020 to 2023")
    assert [one.role for one in told] == [
        "pixels",
        "sensor dem",
        "labels, continent",
        "labels, biome",
        "labels, land cover",
    ]
    words = {one.role: one.words for one in told}
    assert words["pixels"] == "Contains modified Copernicus Sentinel data 2020 to 2023"
    assert words["sensor dem"].startswith("Produced using Copernicus WorldDEM-30 © DLR e.V. 2010-2014")
    assert "Dinerstein" in words["labels, biome"]
    assert all(one.page for one in told)
    naip = sources_of(load_builtin("geojepa-regions").model_dump(mode="json"), years="2018")
    assert [(one.role, one.licence) for one in naip[:2]] == [("map", "ODbL-1.0"), ("images", "public domain")]


def rendered(subset, facts):
    """The values of a card and the card, without writing any file."""
    configs = {"chips": Config(schema=SENSOR_SCHEMA, files={"train": "data/train-*-of-00001.parquet"})}
    shards = plan_shards(subset, layout=DEFAULT_LAYOUT)
    paths = [*(shard.path for shard in shards), "items/items.geoparquet"]
    records = dict.fromkeys(paths, FileRecord(bytes=9, sha256="0"))
    values = card_values(subset, facts, shards, records=records, configs=configs)
    return values, lambda **changed: render("dataset.md.j2", description="", **{**values, **changed})


def test_a_card_says_what_holds_of_places_that_are_there_twice_and_of_pixels_nobody_counted(everywhere):
    facts = dataset_facts(everywhere, repo=None, release=None)
    card = rendered(everywhere, facts)[1]()
    assert "From a sample to its nearest neighbour it is" in card
    assert "| pixels with data | 100.0 % on average |" in card
    told = {**facts.statistics, "dispersion": {**facts.statistics["dispersion"], "num_sites": 40}}
    card = rendered(everywhere, replace(facts, statistics=told, mean_valid_fraction=None))[1]()
    assert "From one place to the nearest other it is" in card
    assert "pixels with data" not in card
    assert title_of(["Asia", "Europe"]) == "Asia and Europe"
    assert title_of(["Asia", "Europe", "Africa", "Oceania", "Islands"]) == "Asia; Europe; Africa; and 2 more"


@pytest.mark.parametrize(
    "value", ["Deserts & Xeric Shrublands", "Côte d'Ivoire", 'a "b" $HOME `id` $(id) \\ !x', "two\nlines"]
)
def test_a_class_of_any_name_is_pulled_by_the_line_of_the_card_as_a_shell_reads_it(everywhere, value):
    _, card = rendered(everywhere, dataset_facts(everywhere, repo=None, release=None))
    line = card(filter_value=value).split("pwcat pull path/to/this/folder --where ")[1].split(" -o my-part")[0]
    told = subprocess.run(["/bin/sh", "-c", f"printf %s {line}"], capture_output=True, text=True, check=True).stdout
    assert told == "biome = '{}'".format(value.replace("'", "''"))


def test_a_card_of_sensors_gives_lines_that_scale_each_band(everywhere, dataset_folder):
    facts = dataset_facts(everywhere, repo="lab/x", release="v1")
    radar = replace(facts.bands[11], name="VV", sensor="s1_rtc", scale=0.001, offset=-50.001, unit="dB")
    facts = replace(facts, bands=(*facts.bands[:11], radar))
    values, card_of = rendered(everywhere, facts)
    card = card_of()
    assert "| VV | s1_rtc | pixel × 0.001 − 50.001 | dB | 20 m |" in card
    assert "- s1-rtc\n" in card  # a tag
    assert 'open_catalog("hf://datasets/lab/x@v1")' in card
    row = pq.read_table(next(dataset_folder.glob("data/train*"))).slice(0, 1).to_pylist()[0]
    row |= {"scales": [0.0001] * 11 + [0.001], "offsets": [0.0] * 11 + [-50.001]}
    names = {"np": np, "row": row, "pixels": np.frombuffer(row["pixels"], row["dtype"]).reshape(row["shape"])}
    exec("\n".join(values["values_lines"]), names)  # the lines that the card shows
    np.testing.assert_allclose(names["values"][0, 11], names["pixels"][0, 11] * 0.001 - 50.001)


def test_a_query_or_a_recipe_too_long_for_a_card_is_linked(everywhere, tmp_path):
    chosen = replace(everywhere.only(np.arange(6)), query={"ids": [f"sample-{number:06d}" for number in range(1000)]})
    folder = build_dataset_folder(chosen, tmp_path / "few")
    assert "The query is long: `stats/diversity.json` has it." in body(folder)
    assert len(json.loads((folder / "stats/diversity.json").read_text())["query"]["ids"]) == 1000
    assert "sample-000999" not in body(folder)
    assert "<details><summary>The whole recipe of everywhere</summary>\n\n```yaml\nname: everywhere\n" in body(folder)


def test_collections_whose_pixels_mean_different_things_are_not_published_together(tiny_catalog, tmp_path):
    root = shutil.copytree(tiny_catalog, tmp_path / "catalog")
    metadata = root / "europe/cube.zarr/zarr.json"
    document = json.loads(metadata.read_text())
    document["attributes"]["scale"] = 0.001
    metadata.write_text(json.dumps(document))
    with pytest.raises(
        PublishError, match=r"mean different things \(scale, offset, resolution_m: europe: 0\.001, 0, 10; every"
    ):
        build_dataset_folder(open_catalog(root).search(), tmp_path / "out")
