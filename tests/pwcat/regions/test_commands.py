from __future__ import annotations

import json
from dataclasses import replace

import geopandas as gpd
import pandas as pd
import pytest
import shapely
import yaml
from click.testing import CliRunner

from pwcat.errors import PwcatError, RegionError
from pwcat.regions.cache import place_of
from pwcat.regions.commands import regions
from pwcat.regions.datasets import DATASETS

COUNTRIES = "vectors/natural_earth/ne_110m_admin_0_countries.geojson"
IGBP = "biomes_landcover/MCD12C1.A2019001.006.IGBP.tif"


@pytest.fixture
def run(cache, monkeypatch):
    """Run the command on 80 columns with a cache of its own; what is told, or the error that the command line would print."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object) -> str:
        done = CliRunner().invoke(regions, [str(argument) for argument in arguments], standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return done.stdout

    return call


@pytest.fixture
def continents(kit):
    return ["--dataset", "natural-earth-110m", "--path", kit / COUNTRIES]


def narrow(text: str) -> bool:
    """No line of a table is wider than the screen; paths and sentences may wrap as the terminal does."""
    return max(len(line.rstrip()) for line in text.splitlines() if "/" not in line and ": " not in line) <= 80


def test_list_shows_what_there_is_and_what_is_here(run, cache):
    out = run("list")
    assert [name for name in DATASETS if name not in out] == []
    assert "read online" in out
    assert "by hand" in out
    assert str(cache) in out
    assert narrow(out)
    listed = json.loads(run("list", "--json"))
    assert [row["name"] for row in listed["datasets"]] == list(DATASETS)
    assert {row["here"] for row in listed["datasets"]} == {"no", "by hand", "read online"}


@pytest.mark.kit
def test_fetch_brings_a_dataset_and_a_second_time_nothing(run, kit, cache):
    assert "mcd12c1: fetched to" in run("fetch", "landcover", "--from", kit / IGBP)
    assert "mcd12c1: already there:" in run("fetch", "mcd12c1")
    assert "please name: MCD12C1 v6.1" in run("fetch", "mcd12c1")
    again = json.loads(run("fetch", "mcd12c1", "landcover", "--json"))
    assert [(row["name"], row["fetched"]) for row in again] == [("mcd12c1", False)]
    assert [row["here"] for row in json.loads(run("list", "--json"))["datasets"] if row["name"] == "mcd12c1"] == ["yes"]
    place_of(DATASETS["mcd12c1"]).write_bytes(b"cut")
    assert "damaged" in run("list")
    with pytest.raises(RegionError, match="is damaged"):
        run("show", "landcover")
    assert "fetched to" in run("fetch", "landcover", "--from", kit / IGBP)
    with pytest.raises(RegionError, match="--from is one dataset's: name one, not biome, continent"):
        run("fetch", "biome", "continent", "--from", "x")


@pytest.mark.kit
def test_show_lists_classes_with_areas_and_every_deviation(run, continents):
    out = run("show", "continent", *continents)
    assert narrow(out)
    assert "Russia: east of the" in out
    assert "Made with Natural Earth" in out
    shown = json.loads(run("show", "continent", *continents, "--json"))
    assert [row["class"] for row in shown["classes"]][:2] == ["Asia", "Africa"]
    assert sum(row["share"] for row in shown["classes"]) == pytest.approx(1)
    assert shown["deviations"][0]["place"] == "east of the Urals"
    assert len(shown["deviations"]) == 8
    assert shown["file"].endswith("ne_110m_admin_0_countries.geojson")


@pytest.mark.kit
def test_show_knows_rasters_files_and_recipes(run, kit, tmp_path, boxes):
    cover = json.loads(run("show", "landcover", "--path", kit / IGBP, "--classes", "igbp", "--json"))
    assert cover["classes"][0]["class"] == "water"
    assert cover["classes"][0]["share"] == pytest.approx(0.71, abs=0.01)  # of the Earth
    assert cover["pixel_m"] == pytest.approx(5566)
    boxes(tmp_path / "soil.gpkg", loam=(0, 0, 10, 10), sand=(10, 0, 11, 10))
    assert "loam" in run("show", "soil", "--path", tmp_path / "soil.gpkg", "--field", "name")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of({"soil": {"path": "soil.gpkg", "field": "name"}})))
    shown = json.loads(run("show", "soil", "--recipe", recipe, "--json"))
    assert [row["class"] for row in shown["classes"]] == ["loam", "sand"]
    with pytest.raises(RegionError, match=r"recipe\.yaml does not give the layer 'biome'; it has soil"):
        run("show", "biome", "--recipe", recipe)
    with pytest.raises(RegionError, match="--recipe says what the layers are"):
        run("show", "soil", "--recipe", recipe, "--field", "x")
    with pytest.raises(RegionError, match="no layer 'soil': name one of continent, biome"):
        run("show", "soil")
    with pytest.raises(RegionError, match="the layer 'soil': a file needs `field`"):
        run("show", "soil", "--path", tmp_path / "soil.gpkg")
    with pytest.raises(RegionError, match="'resolve-2017' is not there: run `pwcat regions fetch resolve-2017`"):
        run("show", "resolve-2017")


def recipe_of(layers):
    return {
        "name": "a", "title": "A", "license": "CC0-1.0", "num_samples": 1,
        "sampler": {"strategy": "uniform", "domain": "globe"},
        "source": {"provider": "stac", "url": "http://127.0.0.1:9", "collection": "c"},
        "when": {"start": "2021-01-01", "end": "2021-12-31"},
        "chip": {"size_px": 8, "bands": ["B02"]},
        "regions": layers,
    }  # fmt: skip


@pytest.mark.kit
def test_label_takes_a_point_a_csv_or_shapes_and_writes_tables(run, kit, tmp_path):
    run("fetch", "landcover", "--from", kit / IGBP)
    out = run("label", "--", "-60,-10")
    assert "evergreen_broadleaf_forest" in out
    assert narrow(out)
    assert json.loads(run("label", "-60,-10", "--json")) == [
        {"lon": -60.0, "lat": -10.0, "landcover": "evergreen_broadleaf_forest"}
    ]
    points = tmp_path / "points.csv"
    points.write_text("Longitude,Latitude,note\n-60,-10,a\n0,-50,b\n")
    run("label", points, "-o", tmp_path / "out.csv")
    written = pd.read_csv(tmp_path / "out.csv")
    assert written.to_dict("list") == {
        "lon": [-60, 0], "lat": [-10, -50], "note": ["a", "b"], "landcover": ["evergreen_broadleaf_forest", "water"],
    }  # fmt: skip
    run("label", tmp_path / "out.csv", "--layer", "cover=mcd12c1", "-o", tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["cover"].tolist() == ["evergreen_broadleaf_forest", "water"]
    shapes = gpd.GeoDataFrame({"lon": ["x"] * 50}, geometry=[shapely.box(-61, -11, -60, -10)] * 50, crs="EPSG:4326")
    shapes.to_file(tmp_path / "a.gpkg")
    out = run("label", tmp_path / "a.gpkg")
    assert "10 more; -o FILE writes all 50" in out
    assert "-60.5000" in out


def test_label_tells_what_is_wrong_with_points(run, tmp_path):
    def told(*arguments):
        with pytest.raises(RegionError) as error:
            run("label", *arguments)
        assert "\n" not in str(error.value)
        return str(error.value)

    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.csv").write_text("lon,lat\n1,2\n500,2\nx,3\n")
    assert "no dataset is on hand in" in told("1,2")
    assert "neither a file nor a point written LON,LAT" in told("gone.csv")
    (tmp_path / "c.csv").write_text("lon,lat\n1,2\n500,2\n")
    assert "no column 'lon' or 'longitude', and none 'lat' or 'latitude'; its columns: a, b" in told(tmp_path / "a.csv")
    assert "1 of 3 rows have no number in 'lon' or 'lat', the first of them row 3" in told(tmp_path / "b.csv")
    assert "coordinates from 1 to 500 and 2 to 2 are no longitudes and latitudes" in told(tmp_path / "c.csv")
    assert "1,91: no place on Earth" in told("1,91")
    assert "1..2,3: no point written LON,LAT in degrees" in told("1..2,3")
    assert "give both --lon and --lat" in told("1,2", "--lon", "x")
    assert "the layer 'biome': unknown dataset 'nothing'" in told("1,2", "--layer", "biome=nothing")
    assert "'resolve-2017' is not there" in told("1,2", "--layer", "biome")


@pytest.mark.kit
def test_label_refuses_to_write_other_files(run, kit, tmp_path):
    run("fetch", "landcover", "--from", kit / IGBP)
    with pytest.raises(PwcatError, match=r"-o .*out\.xlsx: the file must end in \.csv, \.parquet, \.geojson"):
        run("label", "1,2", "-o", tmp_path / "out.xlsx")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.kit
def test_label_sees_that_it_can_write_before_it_labels(run, kit, tmp_path):
    run("fetch", "landcover", "--from", kit / IGBP)
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(PwcatError, match=r"-o .*out\.csv: a folder of this name is there; name another"):
        run("label", tmp_path / "no-such-points.csv", "-o", tmp_path / "out.csv")


POINTS = {"note": ["a", "b", "c"], "size": [1, 2, 3], "lon": [-60.1, 0.0, 10.7], "lat": [-10.3, -50.0, 50.2]}


@pytest.fixture
def soil(boxes, tmp_path):
    """A recipe whose one layer, `soil`, is sand in the west and loam in the east."""
    boxes(tmp_path / "soil.gpkg", sand=(-180, -90, -5, 90), loam=(5, -90, 180, 90))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of({"soil": {"path": "soil.gpkg", "field": "name"}})))
    return ["--recipe", recipe]


def write_places(path):
    table = pd.DataFrame(POINTS)
    frame = gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(table["lon"], table["lat"]), crs=4326)
    if path.name == "plain.parquet":
        table.to_parquet(path)
    elif path.suffix == ".parquet":
        frame.drop(columns=["lon", "lat"]).rename_geometry("where").to_parquet(path)
    elif path.suffix == ".csv":
        separator, decimal = {"comma": ",.", "semicolon": ";.", "german": ";,", "tab": "\t.", "pipe": "|."}[path.stem]
        table.rename(columns={"lon": "Lng", "lat": "Latitude"}).to_csv(
            path, sep=separator, decimal=decimal, index=False
        )
    else:
        frame.to_file(path)
    return path


PLACES = [f"{stem}.csv" for stem in ("comma", "semicolon", "german", "tab", "pipe")]
PLACES += ["plain.parquet", "geo.parquet", "a.geojson", "a.gpkg", "a.fgb"]


@pytest.mark.parametrize("name", PLACES)
def test_label_reads_any_file_of_places_as_the_points_sampler_does_and_keeps_its_columns(run, tmp_path, soil, name):
    from pwcat.geo.places import read_places

    path = write_places(tmp_path / name)
    said = run("label", path, *soil, "-o", tmp_path / "out.csv")
    assert "3 points with labels:" in said
    assert "Labels: soil from soil.gpkg" in said
    written = pd.read_csv(tmp_path / "out.csv")
    assert written[["lon", "lat"]].to_numpy().tolist() == read_places(path).centres().tolist()
    assert written["soil"].where(written["soil"].notna(), None).tolist() == [
        {"a": "sand", "b": None, "c": "loam"}[note] for note in written["note"]
    ]
    assert written.sort_values("note")[list(POINTS)].to_dict("list") == POINTS  # FlatGeobuf sorts by place


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".geojson", ".gpkg", ".fgb"])
def test_label_writes_whole_files_in_any_format(run, tmp_path, soil, suffix):
    out = tmp_path / "new" / f"out{suffix}"
    run("label", write_places(tmp_path / "comma.csv"), *soil, "-o", out)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert out.is_file()
    run("label", out, *soil, "--column", "soil=again", "-o", tmp_path / "again.csv")
    again = pd.read_csv(tmp_path / "again.csv").sort_values("note")
    assert again["again"].tolist()[::2] == again["soil"].tolist()[::2] == ["sand", "loam"]


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "none.gpkg"])
def test_no_points_are_a_header(run, tmp_path, soil, name):
    empty = gpd.GeoDataFrame(pd.DataFrame(POINTS)[:0], geometry=[], crs=4326)
    if name.endswith("csv"):
        (tmp_path / name).write_text("note,size,lon,lat\n")
    else:
        empty.to_parquet(tmp_path / name) if name.endswith("parquet") else empty.to_file(tmp_path / name)
    assert "0 points with labels" in run("label", tmp_path / name, *soil, "-o", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "note,size,lon,lat,soil\n"
    assert json.loads(run("label", tmp_path / name, *soil, "--json")) == []
    assert "Soil" in run("label", tmp_path / name, *soil)


def test_label_never_replaces_a_column_of_the_points(run, tmp_path, soil):
    path = tmp_path / "points.csv"
    path.write_text("lon,lat,soil\n10,0,mine\n")
    with pytest.raises(
        RegionError, match=r"have a column 'soil' already, .* other names, as with --column soil=soil_label$"
    ):
        run("label", path, *soil, "-o", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert "loam" in run("label", path, *soil)  # shows the label alone
    run("label", path, *soil, "-o", tmp_path / "out.csv", "--column", "soil=ours")
    assert (tmp_path / "out.csv").read_text() == "lon,lat,soil,ours\n10.0,0.0,mine,loam\n"
    with pytest.raises(RegionError, match=r"--column clay=x soil: write LAYER=NAME, with LAYER one of .*: soil$"):
        run("label", path, *soil, "--column", "clay=x", "--column", "soil")


@pytest.mark.kit
def test_another_dataset_of_a_layer_is_named_and_never_taken_in_silence(run, kit, cache, caplog, countries_zip):
    run("fetch", "natural-earth-110m", "--from", countries_zip)
    with pytest.raises(
        RegionError,
        match=r"continent means the dataset 'natural-earth', which is not there: run `pwcat regions fetch natural-earth`; or "
        r"take 'natural-earth-110m', which is there: `--layer continent=natural-earth-110m`$",
    ):
        run("label", "10,50", "--layer", "continent")
    with pytest.raises(RegionError, match=r"which is there: `--dataset natural-earth-110m`$"):
        run("show", "continent")
    said = run("label", "10,50", "--layer", "continent=natural-earth-110m")
    assert "Labels: continent from natural-earth-110m" in said
    assert caplog.text == ""
    assert json.loads(run("label", "10,50", "--json"))[0]["continent"] == "Europe"
    assert "continent is labelled by natural-earth-110m, since natural-earth is not there" in caplog.text


@pytest.mark.kit
def test_one_dataset_that_cannot_be_had_does_not_keep_the_others_away(run, kit, cache, monkeypatch):
    for name, address in (("natural-earth", "http://127.0.0.1:9/a.zip"), ("resolve-2017", "http://127.0.0.1:9/b.zip")):
        monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], url=address))
    run("fetch", "landcover", "--from", kit / IGBP)
    with pytest.raises(RegionError) as error:
        run("fetch", "continent", "landcover", "biome", "ecoregion")
    first, *lines = str(error.value).splitlines()
    assert first == "2 of 3 datasets could not be fetched:"
    assert [line.partition(":")[0].strip() for line in lines] == ["natural-earth", "resolve-2017"]
    for line, name in zip(lines, ("natural-earth", "resolve-2017"), strict=True):
        dataset = DATASETS[name]
        assert f"{dataset.url} cannot be reached" in line
        assert f"get it elsewhere ({dataset.page}) and run `pwcat regions fetch {name} --from FILE`" in line
        assert line.endswith(f"place it at {place_of(dataset)}")


@pytest.mark.kit
def test_what_was_checked_and_which_version_is_at_hand_is_told(run, kit, cache, caplog):
    first = run("fetch", "landcover", "--from", kit / IGBP)
    assert "checked: what it holds; pwcat knows no SHA-256 of it, so that of today is kept" in first
    assert "the file of mcd12c1 is version 006 of 2019 (its name says so), while pwcat knows" in caplog.text
    assert "checked: SHA-256, as it was first taken on 20" in run("fetch", "landcover")
    shown = json.loads(run("show", "landcover", "--json"))
    assert shown["source"] == "mcd12c1 version 006 of 2019"
    assert shown["version"] == "006 of 2019, its name says"
    assert shown["checked"].startswith("SHA-256, as it was first taken on")
    place = place_of(DATASETS["mcd12c1"])
    place.with_name(f"{place.name}.json").unlink()
    assert "unchecked" in run("list")
    assert json.loads(run("show", "landcover", "--json"))["version"] == "not said; taken for 061"


def test_list_removes_what_a_dead_fetch_left(run, cache):
    left = place_of(DATASETS["natural-earth"]).with_name(".a.zip.999999999.abcdef01.partial")
    left.parent.mkdir(parents=True)
    left.write_text("half")
    run("list")
    assert not left.exists()
