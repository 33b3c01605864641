"""``pwcat catalog build | merge | validate | export`` over small real catalogs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
from click.testing import CliRunner

from catalog.extension import require_known_version, statistics_of
from catalog.stac.export import MOST_ITEMS
from catalog.stac.merging import merge_catalogs
from catalog.stac.mirror import read_items
from catalog.stac.validation import DocumentCheck
from pwcat.cli import cli
from pwcat.errors import CatalogError


def run(*arguments):
    return CliRunner().invoke(cli, ["catalog", *map(str, arguments)])


@pytest.fixture
def catalog(tiny_catalog, tmp_path):
    """A copy of the catalog, without the pixels' shards of one collection."""
    root = tmp_path / "catalog"
    shutil.copytree(tiny_catalog, root)
    return root


@pytest.mark.kit
def test_a_catalog_is_valid_with_the_schemas_of_the_kit(tiny_catalog, kit):
    told = run("validate", tiny_catalog, "--schemas", kit / "stac_schemas", "--items", 3)
    assert told.exit_code == 0, told.output
    unchecked, last = told.output.splitlines()
    assert unchecked.startswith("Not checked, for want of a schema (--schemas): ")
    assert "datacube" not in unchecked
    assert "/zarr/" not in unchecked
    assert last == f"{tiny_catalog}: 0 faults in 9 documents and 80 rows of items"


def reading(path):
    return json.loads(path.read_text())


def rewrite(path, change):
    document = reading(path)
    change(document)
    path.write_text(json.dumps(document))


def of_version_nine(document):
    document["stac_extensions"] = [uri.replace("v0.3.0", "v0.9.0") for uri in document["stac_extensions"]]


def rename_class(document):
    document["div:statistics"]["biome"]["counts"]["Moon"] = 1


def other_recipe(root):
    rewrite(root / "europe" / "cube.zarr" / "zarr.json", lambda d: d["attributes"].update(recipe_hash="f" * 64))


FAULTS = {
    "no items": (lambda root: (root / "europe" / "items.parquet").unlink(), "europe/items.parquet: no items there"),
    "items cut short": (
        lambda root: (root / "europe" / "items.parquet").write_bytes(b"PAR1"),
        "europe/items.parquet: cut short or no Parquet",
    ),
    "items of another": (
        lambda root: shutil.copy(root / "everywhere" / "items.parquet", root / "europe" / "items.parquet"),
        "its items are of 'everywhere', not of 'europe'",
    ),
    "cube of another": (other_recipe, "europe: its cube is of another dataset: made from recipe ffffffffffff, the"),
    "version": (
        lambda root: rewrite(root / "europe" / "collection.json", of_version_nine),
        "collection.json: made with the diversity extension v0.9.0, this pwcat reads v0.1.0, v0.2.0, v0.3.0; update pwcat",
    ),
    "counts": (
        lambda root: rewrite(root / "europe" / "collection.json", rename_class),
        "its biome classes are not those that the statistics count",
    ),
    "core": (lambda root: rewrite(root / "europe" / "collection.json", lambda d: d.pop("license")), "not STAC: "),
    "ours": (
        lambda root: rewrite(root / "europe" / "collection.json", lambda d: d["div:statistics"].pop("biome")),
        "diversity/v0.3.0/schema.json: div:statistics: 'biome' is a required property",
    ),
    "file": (lambda root: (root / "europe" / "recipe.yaml").unlink(), "its asset recipe is missing: ./recipe.yaml"),
    "listing": (
        lambda root: rewrite(root / "catalog.json", lambda d: d.update(links=d["links"][:2])),
        "catalog.json: does not list everywhere",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_told_in_a_line(catalog, name):
    change, message = FAULTS[name]
    change(catalog)
    told = run("validate", catalog, "--items", 1, "--json")
    assert told.exit_code == 1
    document = json.loads(told.output)
    assert any(message in fault for fault in document["faults"]), document["faults"]
    assert not any("\n" in fault for fault in document["faults"])


def test_every_item_can_be_validated_and_a_wrong_one_is_named(catalog):
    path = catalog / "europe" / "items.parquet"
    items = pq.read_table(path)
    shares = pa.array(np.where(np.arange(32) == 7, 1.5, 0.5))
    pq.write_table(
        items.set_column(items.column_names.index("div:landcover_share"), "div:landcover_share", shares), path
    )
    told = run("validate", catalog / "europe", "--all-items")
    assert told.exit_code == 1
    assert f"item {items['id'][7].as_py()}: " in told.output
    assert "properties/div:landcover_share: 1.5 is greater than the maximum of 1" in told.output


def test_a_folder_of_schemas_that_is_none_is_no_fault_of_the_catalog(catalog):
    (catalog.parent / "schemas").write_text("")
    told = run("validate", catalog, "--schemas", catalog.parent / "schemas")
    assert isinstance(told.exception, CatalogError)
    assert "schemas: no folder of schemas there" in str(told.exception)


def test_unknown_versions_are_refused_and_known_ones_named():
    uri = "https://pwcat.github.io/diversity/{}/schema.json"
    assert require_known_version({"stac_extensions": [uri.format("v0.1.0")]}, where="x") == "v0.1.0"
    assert require_known_version({}, where="x") is None
    with pytest.raises(CatalogError, match=r"x: made with the diversity extension v1\.0\.0, this pwcat reads v0\.1\.0"):
        require_known_version({"stac_extensions": [uri.format("v1.0.0")]}, where="x")


def test_merging_adds_the_tallies_and_links_to_what_is_there(catalog, tmp_path):
    told = run("merge", catalog / "europe", catalog, "--to", tmp_path / "one", "--json")
    assert told.exit_code == 0, told.output
    document = json.loads(told.output)
    assert document["collections"] == {"europe": 32, "everywhere": 48}
    assert (tmp_path / "one" / "europe").is_symlink()
    items = [read_items(catalog / name / "items.parquet") for name in ("europe", "everywhere")]
    layers = {name: f"{name}.fgb" for name in ("continent", "biome")} | {"landcover": "landcover-synthetic"}
    codebooks = {
        name: reading(catalog / name / "stats.json")["statistics"]["spectral_codebook"]["codebook"]
        for name in ("europe", "everywhere")
    }
    scratch = statistics_of(pa.concat_tables(items), layers=layers, codebooks=codebooks)
    for name, measured in scratch.items():
        told_of = {key: value for key, value in document["statistics"][name].items() if key != "layer"}
        assert told_of == {key: value for key, value in measured.items() if key != "layer"}, name
    assert reading(tmp_path / "one" / "stats.json")["statistics"] == document["statistics"]
    root = pystac.Catalog.from_file(str(tmp_path / "one" / "catalog.json"))
    assert sorted(child.id for child in root.get_children()) == ["europe", "everywhere"]
    assert run("validate", tmp_path / "one", "--items", 1).exit_code == 0
    again = run("merge", catalog, "--to", tmp_path / "one", "--json")
    assert json.loads(again.output) == document


def test_datasets_that_differ_are_not_merged_under_one_name(catalog, tmp_path):
    shutil.copytree(catalog / "everywhere", tmp_path / "other" / "europe")
    told = run("merge", catalog, tmp_path / "other", "--to", tmp_path / "one")
    assert isinstance(told.exception, CatalogError)
    assert str(told.exception).startswith("two datasets that differ are called 'europe': ")
    assert not (tmp_path / "one").exists()


def test_nothing_is_merged_into_a_collection_or_a_file(catalog, tmp_path):
    before = {path: path.read_bytes() for path in (catalog / "europe").iterdir() if path.is_file()}
    with pytest.raises(CatalogError, match="europe: is a collection, not a catalog"):
        merge_catalogs([catalog], to=catalog / "europe")
    assert {path: path.read_bytes() for path in (catalog / "europe").iterdir() if path.is_file()} == before
    (tmp_path / "file").touch()
    with pytest.raises(CatalogError, match="file: is no folder"):
        merge_catalogs([catalog], to=tmp_path / "file")


def test_copies_are_whole(catalog, tmp_path):
    assert run("merge", catalog / "europe", "--to", tmp_path / "one", "--copy").exit_code == 0
    shutil.rmtree(catalog)
    assert run("validate", tmp_path / "one", "--items", 1).exit_code == 0


def test_a_copy_that_was_killed_is_no_dataset_and_is_made_anew(catalog, tmp_path, monkeypatch):
    def killed(source, target):
        """As far as the collection's document: the copy that a kill leaves behind."""
        target.mkdir(parents=True)
        shutil.copyfile(source / "collection.json", target / "collection.json")
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr("catalog.stac.merging.shutil.copytree", killed)
        with pytest.raises(SystemExit, match="killed"):
            merge_catalogs([catalog / "europe"], to=tmp_path / "one", copy=True)
    assert not list((tmp_path / "one").glob("*/collection.json"))
    assert merge_catalogs([catalog / "europe"], to=tmp_path / "one", copy=True).samples == {"europe": 32}
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"catalog.json", "europe", "stats.json"}


@pytest.mark.kit
def test_an_export_is_a_static_catalog_that_pystac_walks(catalog, tmp_path, kit):
    told = run("export", catalog, "--to", tmp_path / "static", "--sample", 3, "--json")
    assert told.output.splitlines()[0] == f"{tmp_path / 'static' / 'europe'}: 3 of 32 items"
    root = pystac.Catalog.from_file(str(tmp_path / "static" / "catalog.json"))
    check = DocumentCheck(kit / "stac_schemas")
    found = list(root.get_items(recursive=True))
    assert len(found) == 6
    for item in found:
        assert item.get_parent().id == item.collection_id
        chips = item.assets["chips"]
        assert (tmp_path / chips.get_absolute_href()).resolve() == catalog / item.collection_id / "cube.zarr"
    for path in (tmp_path / "static").rglob("*.json"):
        assert list(check.faults(reading(path))) == []
    document = reading(tmp_path / "static" / "europe" / "collection.json")
    for asset in document["assets"].values():
        assert (tmp_path / "static" / "europe" / asset["href"]).exists()


def test_an_export_of_too_many_or_over_something_is_refused(catalog, tmp_path, monkeypatch):
    monkeypatch.setattr("catalog.stac.export.MOST_ITEMS", 50)
    told = run("export", catalog, "--to", tmp_path / "static")
    assert isinstance(told.exception, CatalogError)
    assert "80 items, and a static catalog has 50 at most: take a spread of each collection with --sample 25" in str(
        told.exception
    )
    assert not (tmp_path / "static").exists()
    assert "is there already" in str(run("export", catalog, "--to", catalog, "--sample", 1).exception)
    assert "no collection 'x'; there are europe, everywhere" in str(
        run("export", catalog, "--to", tmp_path / "static", "--collection", "x").exception
    )
    assert MOST_ITEMS == 5_000


def test_build_describes_a_catalog_anew(catalog):
    before = {path: path.read_bytes() for path in catalog.rglob("*.json")}
    (catalog / "europe" / "items.parquet").unlink()
    told = run("build", catalog, "--anew")
    assert told.output == "europe: 32 samples described\neverywhere: 48 samples described\n"
    assert {path: path.read_bytes() for path in catalog.rglob("*.json")} == before
    refused = run("build", catalog / "europe" / "ledger")
    assert "no dataset there that was built here" in str(refused.exception)
