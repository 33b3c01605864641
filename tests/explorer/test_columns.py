from __future__ import annotations

import json
import shutil
import struct
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from catalog.explorer import explorer_routes
from catalog.explorer.columns import read_columns
from catalog.explorer.pictures import COMPOSITES, composites_of, encode_png, render, spectrum
from catalog.land import land_of
from catalog.query import open_catalog
from pwcat.cube import open_cube

KINDS = {"f64": "<f8", "i32": "<i4", "u16": "<u2"}


@pytest.fixture(scope="module")
def catalog(tiny_catalog):
    return open_catalog(tiny_catalog)


@pytest.fixture(scope="module")
def columns(catalog):
    return read_columns(catalog)


def decode(block):
    """The block as a reader of another language takes it."""
    (length,) = struct.unpack_from("<I", block)
    header = json.loads(block[4 : 4 + length])
    values = {
        told["name"]: np.frombuffer(block, KINDS[told["type"]], header["rows"], 4 + length + told["offset"])
        for told in header["columns"]
    }
    return header, values, {told["name"]: told["names"] for told in header["columns"] if "names" in told}


def test_the_block_holds_what_the_items_say(catalog, columns):
    header, values, names = decode(columns.encode())
    everything = catalog.search()
    rows = everything.table.to_pylist()
    assert header["rows"] == header["of"] == len(rows) == 80
    for k, place in enumerate(columns.order):
        row = rows[place]
        assert columns.ids[k].as_py() == row["id"]
        assert (values["lon"][k], values["lat"][k]) == (row["proj:centroid"]["lon"], row["proj:centroid"]["lat"])
        assert values["entropy"][k] == row["div:spectral_entropy"]
        assert values["day"][k] == (row["datetime"] - datetime(1970, 1, 1, tzinfo=UTC)).days
        for layer, field in (("biome", "div:biome"), ("landcover", "div:landcover"), ("split", "pwcat:split")):
            number = values[layer][k]
            assert (names[layer][number - 1] if number else None) == row[field]
        assert columns.collection_of(k) == row["collection"]
    assert all(column["offset"] % 8 == 0 for column in header["columns"])


def test_of_too_many_a_fair_sample_is_taken(catalog, columns):
    fewer = read_columns(catalog, most_rows=30)
    assert (len(fewer), fewer.of) == (30, 80)
    assert fewer.ids.to_pylist() == columns.ids.to_pylist()[:30]


def test_classes_are_numbered_by_frequency(columns):
    for layer, names in columns.names.items():
        counts = np.bincount(columns.values[layer], minlength=len(names) + 1)[1:]
        assert (np.diff(counts) <= 0).all(), layer


def test_a_png_is_read_back_as_it_was():
    rng = np.random.default_rng(0)
    for channels, mode in ((3, "RGB"), (4, "RGBA")):
        pixels = rng.integers(0, 256, (7, 5, channels), dtype=np.uint8)
        read = Image.open(BytesIO(encode_png(pixels)))
        assert read.mode == mode
        assert np.array_equal(np.asarray(read), pixels)
    opaque = np.full((2, 2, 4), 255, np.uint8)
    assert Image.open(BytesIO(encode_png(opaque))).mode == "RGB"


def test_pixels_without_data_are_clear_and_bright_ones_are_full():
    chip = np.array([[[0, 3000]], [[100, 3000]], [[100, 9000]]], np.uint16)
    shown = render(chip, composite=COMPOSITES[0], bands=(0, 1, 2), scale=1e-4)
    assert shown[0, 0, 3] == 0
    assert shown[0, 1].tolist() == [255, 255, 255, 255]
    assert shown[0, 0, 1] == round((0.01 / 0.3) ** 0.6 * 255)


def test_composites_are_found_by_name_and_by_wavelength(tiny_catalog):
    cube = open_cube(tiny_catalog / "europe" / "cube.zarr")
    named = composites_of(cube)
    assert {name: [cube.bands[k] for k in bands] for name, bands in named.items()} == {
        "true": ["B04", "B03", "B02"],
        "infrared": ["B08", "B04", "B03"],
        "shortwave": ["B11", "B08", "B04"],
    }
    other = replace(cube)
    other.__dict__["bands"] = tuple(f"x{k}" for k in range(12))
    by_wavelength = composites_of(other)
    assert by_wavelength["true"] == named["true"]
    other = replace(cube)
    other.__dict__["bands"] = ("vv", "vh")
    other.__dict__["meanings"] = ()
    assert composites_of(other) == {}  # two bands, neither of them red or infrared


def test_a_spectrum_is_percentiles_of_pixels_with_data(tiny_catalog):
    cube = open_cube(tiny_catalog / "europe" / "cube.zarr")
    chip = np.zeros((1, 12, 1, 4), np.uint16)
    chip[0, 0] = [0, 1000, 2000, 3000]
    (told,) = spectrum(chip, cube)
    assert told[0] == {"band": "B01", "wavelength_nm": 442.7, "p10": 0.12, "p50": 0.2, "p90": 0.28}
    assert told[1]["p50"] is None


def test_land_is_that_of_the_recipes_own_layer(catalog):
    land = land_of(catalog.members.values())
    assert "continent.fgb" in land.source
    rings = land.rings(tolerance_deg=0.1)
    assert all(len(ring) % 2 == 0 and min(ring) >= -18000 and max(ring) <= 18000 for ring in rings)


def get(url):
    with urlopen(url) as answer:
        return answer.status, answer.headers, answer.read()


def test_the_server_answers_for_rows_alone(url, columns):
    status, headers, body = get(url)
    assert status == 200
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert b"pwcat" in body
    told = json.loads(get(f"{url}samples/3.json")[2])
    assert told["id"] == columns.ids[3].as_py()
    picture = Image.open(BytesIO(get(f"{url}samples/3/true.png?px=16")[2]))
    assert picture.size == (16, 16)
    for wrong in ("samples/80.json", "samples/80/true.png", "samples/3/thermal.png", "samples/3/true.png?date=9",
                  "subsets/5.bin", "..%2f..%2fpyproject.toml", "nothing.js"):  # fmt: skip
        with pytest.raises(HTTPError, match="404"):
            get(url + wrong)


def test_the_page_without_a_slash_moves_to_the_one_with(url):
    with urlopen(url.rstrip("/")) as answer:
        assert answer.url == url


def test_a_saved_subset_is_known_by_its_rows(tiny_catalog, columns, tmp_path, served):
    shutil.copytree(tiny_catalog, tmp_path / "catalog")
    wanted = open_catalog(tmp_path / "catalog").search(continent="Asia")
    wanted.save(tmp_path / "catalog" / "asia.parquet")
    with served(tmp_path / "catalog") as address:
        assert json.loads(get(f"{address}facts.json")[2])["subsets"] == ["asia"]
        rows = np.frombuffer(get(f"{address}subsets/0.bin")[2], "<u4")
    assert sorted(columns.ids[int(row)].as_py() for row in rows) == sorted(wanted.columns(["id"])["id"].to_pylist())


def test_a_collection_without_pixels_says_so(tiny_catalog, tmp_path, served):
    shutil.copytree(tiny_catalog / "europe", tmp_path / "europe", ignore=shutil.ignore_patterns("cube.zarr"))
    with served(tmp_path / "europe") as address:
        told = json.loads(get(f"{address}samples/0.json")[2])
        assert "no cube there" in told["why"]
        assert told["pictures"] == []
        with pytest.raises(HTTPError, match="409"):
            get(f"{address}samples/0/true.png")


def test_items_that_are_truncated_are_told_to_the_page(tiny_catalog, tmp_path, served):
    shutil.copytree(tiny_catalog / "europe", tmp_path / "europe", ignore=shutil.ignore_patterns("cube.zarr"))
    items = tmp_path / "europe" / "items.parquet"
    items.write_bytes(items.read_bytes()[:-100])
    with served(tmp_path / "europe") as address:
        with pytest.raises(HTTPError, match="409") as refused:
            get(f"{address}samples.bin")
        assert "items.parquet" in json.loads(refused.value.read())["error"]
        refused.value.close()


@pytest.mark.parametrize(
    ("client", "host", "here"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "localhost", True),
        ("::1", "[::1]:8000", True),
        ("192.0.2.7", "localhost", False),
        ("192.0.2.7", "192.0.2.1:8000", False),
        ("127.0.0.1", "catalogs.example.org", False),
    ],
)
def test_others_are_not_told_where_the_catalog_lies(tiny_catalog, tmp_path, client, host, here):
    shutil.copytree(tiny_catalog / "europe", tmp_path / "europe", ignore=shutil.ignore_patterns("cube.zarr"))
    app = Starlette(routes=explorer_routes(open_catalog(tmp_path / "europe")))
    asks = TestClient(app, base_url=f"http://{host}", client=(client, 50_000))
    assert asks.get("/facts.json").json()["path"] == (str(tmp_path / "europe") if here else "europe")
    assert (str(tmp_path) in asks.get("/samples/0.json").json()["why"]) == here
    assert (str(tmp_path) in asks.get("/samples/0/true.png").json()["error"]) == here
