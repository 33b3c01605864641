from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

from pwcat.errors import RegionError
from pwcat.layers import Layer
from pwcat.regions import dataset_path, open_layer
from pwcat.regions.cache import cache_folder, checked, fetch_dataset, place_of, read_receipt, tidy_cache
from pwcat.regions.datasets import DATASETS, find_dataset
from pwcat.regions.opening import check_file

IGBP = "biomes_landcover/MCD12C1.A2019001.006.IGBP.tif"


@pytest.fixture
def server(countries_zip):
    """An HTTP server on loopback: whole.zip, cut.zip (half of what it promises), slow.zip (half, and then nothing for long);

    anything else is not found.
    """
    content = countries_zip.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            if self.path not in ("/whole.zip", "/cut.zip", "/slow.zip"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if self.path == "/whole.zip" else content[: len(content) // 2])
            if self.path == "/slow.zip":
                self.server.go_on.wait(60)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.asked, http.go_on = [], threading.Event()
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        http.url = f"http://127.0.0.1:{http.server_port}"
        yield http
        http.shutdown()
        thread.join()


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.kit
def test_a_dataset_is_fetched_once_and_verified_ever_after(cache, server, countries_zip):
    seen = []
    path, fetched = fetch_dataset(
        "natural-earth-110m", origin=f"{server.url}/whole.zip", progress=lambda done, total: seen.append((done, total))
    )
    size = countries_zip.stat().st_size
    assert fetched
    assert path == cache / "regions/natural-earth-110m/ne_110m_admin_0_countries.zip"
    assert seen[-1] == (size, size)
    receipt = read_receipt(path)
    assert receipt.sha256 == hashlib.sha256(countries_zip.read_bytes()).hexdigest()
    assert (receipt.bytes, receipt.source) == (size, f"{server.url}/whole.zip")
    assert dataset_path("natural-earth-110m") == path
    assert fetch_dataset("natural-earth-110m") == (path, False)  # there already: nobody is asked
    assert server.asked == ["/whole.zip"]
    layer = open_layer("continent", Layer(dataset="natural-earth-110m"), base_dir=Path())
    assert layer.label(np.array([[61.4, 55.2], [-52.8, 4.0]])).tolist() == ["Asia", "South America"]
    assert files_in(cache) == [path.name, f"{path.name}.json"]


@pytest.mark.kit
def test_a_damaged_file_is_one_clear_line_and_fetching_mends_it(cache, countries_zip):
    path, _ = fetch_dataset("natural-earth-110m", origin=str(countries_zip))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(
        RegionError, match=r"is damaged: [\d,]+ bytes instead of [\d,]+; run `pwcat regions fetch natural-"
    ):
        dataset_path("natural-earth-110m")
    path.write_bytes(whole[:1000] + b"x" + whole[1001:])
    with pytest.raises(
        RegionError, match=r"is damaged: its SHA-256 is \w{64} instead of \w{64}; run `pwcat regions fetch"
    ):
        open_layer("continent", Layer(dataset="natural-earth-110m"), base_dir=Path())
    fetch_dataset("natural-earth-110m", origin=str(countries_zip))
    assert dataset_path("natural-earth-110m").read_bytes() == whole
    (cache / "regions/natural-earth-110m" / f"{path.name}.json").write_text("{")
    with pytest.raises(RegionError, match=r"\.zip\.json cannot be read .*: remove it, and fetch again"):
        dataset_path("natural-earth-110m")


@pytest.mark.kit
@pytest.mark.parametrize(
    ("name", "page", "fault"),
    [
        (
            "natural-earth",
            "whole.zip",
            "is not the natural-earth that is known: SHA-256 .* instead of ce1ac703.*nothing was",
        ),
        ("natural-earth-110m", "cut.zip", "broke off.*nothing was kept: try again"),
        ("natural-earth-110m", "gone.zip", "answered 404 Not Found; nothing was kept"),
    ],
)
def test_what_cannot_be_had_whole_and_right_leaves_nothing_behind(cache, server, name, page, fault):
    with pytest.raises(RegionError, match=fault):
        fetch_dataset(name, origin=f"{server.url}/{page}")
    assert files_in(cache) == []


def test_no_one_there_is_one_line(cache):
    with pytest.raises(RegionError) as error:
        fetch_dataset("natural-earth-110m", origin="http://127.0.0.1:9/a.zip")
    text = str(error.value)
    assert text.startswith("http://127.0.0.1:9/a.zip cannot be reached: ")
    assert "get https://naciscdn.org/naturalearth/110m/cultural/ne_110m_admin_0_countries.zip elsewhere" in text
    assert "(https://www.naturalearthdata.com/downloads/110m-cultural-vectors/)" in text
    assert "`pwcat regions fetch natural-earth-110m --from FILE`" in text
    assert text.endswith(f"place it at {cache}/regions/natural-earth-110m/ne_110m_admin_0_countries.zip")
    with pytest.raises(RegionError, match=r"nowhere\.zip: no such file to fetch from"):
        fetch_dataset("natural-earth-110m", origin="nowhere.zip")
    assert files_in(cache) == []


@pytest.mark.kit
def test_a_failed_fetch_leaves_what_was_there(cache, server, countries_zip):
    path, _ = fetch_dataset("natural-earth-110m", origin=str(countries_zip))
    with pytest.raises(RegionError, match="broke off"):
        fetch_dataset("natural-earth-110m", origin=f"{server.url}/cut.zip")
    assert dataset_path("natural-earth-110m") == path
    with pytest.raises(RegionError, match="refused by the check"):
        fetch_dataset("natural-earth-110m", origin=str(countries_zip), check=refuse)
    assert dataset_path("natural-earth-110m") == path


def refuse(dataset, path):
    raise RegionError("refused by the check")


@pytest.mark.kit
def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch, countries_zip):
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("PWCAT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RegionError, match=r"cannot be written .*: set PWCAT_CACHE to a folder that can"):
        fetch_dataset("natural-earth-110m", origin=str(countries_zip))


@pytest.mark.kit
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into folders that are read-only")
def test_a_read_only_cache_can_still_be_read(cache, countries_zip):
    path, _ = fetch_dataset("natural-earth-110m", origin=str(countries_zip))
    path.parent.chmod(0o555)
    try:
        assert dataset_path("natural-earth-110m") == path
        with pytest.raises(RegionError, match="cannot be written"):
            fetch_dataset("natural-earth-110m", origin=str(countries_zip))
    finally:
        path.parent.chmod(0o755)


def test_a_missing_dataset_says_how_to_get_it_and_where_it_goes(cache):
    with pytest.raises(RegionError) as error:
        open_layer("biome", Layer(dataset="resolve-2017"), base_dir=Path())
    text = str(error.value)
    assert "pwcat regions fetch resolve-2017" in text
    assert "https://storage.googleapis.com/teow2016/Ecoregions2017.zip" in text
    assert str(cache / "regions/resolve-2017/Ecoregions2017.zip") in text
    for name in ("mcd12c1", "landcover"):
        with pytest.raises(
            RegionError, match=r"(?s)Earthdata login.*gdal_translate.*fetch landcover --from MCD12C1\.tif"
        ):
            fetch_dataset(name)
    with pytest.raises(
        RegionError, match="worldcover is read tile by tile where it is needed: there is nothing to fetch"
    ):
        fetch_dataset("worldcover")
    with pytest.raises(RegionError, match="worldcover is read tile by tile where it is needed: there is no file"):
        dataset_path("worldcover")
    assert not cache.exists()


@pytest.mark.kit
def test_a_file_placed_by_hand_is_used_and_a_pinned_one_must_be_the_very_file(cache, kit):
    place = place_of(DATASETS["mcd12c1"])
    place.parent.mkdir(parents=True)
    place.write_bytes((kit / IGBP).read_bytes())
    assert open_layer("landcover", Layer(dataset="mcd12c1"), base_dir=Path()).source == "mcd12c1"
    place = place_of(DATASETS["natural-earth"])
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x" * 4_930_492)
    with pytest.raises(RegionError, match="is damaged: its SHA-256 is"):
        dataset_path("natural-earth")
    place.write_bytes(b"x")
    with pytest.raises(RegionError, match=r"is damaged: 1 bytes instead of 4,930,492"):
        dataset_path("natural-earth")


def test_a_file_of_the_right_name_and_wrong_content_is_refused_before_it_takes_its_place(cache, tmp_path):
    gpd.GeoDataFrame({"name": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326").to_file(
        tmp_path / "a.shz", driver="ESRI Shapefile", layer="ne_110m_admin_0_countries"
    )
    with pytest.raises(
        RegionError, match=r"is not the file of natural-earth-110m: it has no CONTINENT. Nothing was kept"
    ):
        fetch_dataset("natural-earth-110m", origin=str(tmp_path / "a.shz"), check=check_file)
    (tmp_path / "a.tif").write_text("no raster")
    with pytest.raises(RegionError, match=r"cannot be read as a georeferenced raster: .*[^.]\. Nothing was kept"):
        fetch_dataset("landcover", origin=str(tmp_path / "a.tif"), check=check_file)
    assert files_in(cache) == []


def test_the_cache_lies_where_the_user_says_or_usual(monkeypatch, tmp_path):
    monkeypatch.setenv("PWCAT_CACHE", str(tmp_path / "a"))
    assert cache_folder() == tmp_path / "a"
    monkeypatch.delenv("PWCAT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_folder() == tmp_path / "b/pwcat"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/pwcat"


def test_records_of_datasets_are_complete():
    for name, dataset in DATASETS.items():
        assert name == dataset.name
        assert dataset.title
        assert dataset.licence
        assert dataset.attribution
        assert dataset.page.startswith("https://")
        assert dataset.url.startswith("https://") or dataset.by_hand
        assert dataset.kind == "stac" or dataset.filename
        assert dataset.sha256 is None or len(dataset.sha256) == 64
        json.dumps(dataset.title)
    assert find_dataset("ecoregion").name == "resolve-2017"
    with pytest.raises(RegionError, match="unknown dataset 'naturalearth': did you mean 'natural-earth'"):
        find_dataset("naturalearth")


@pytest.mark.kit
def test_what_has_no_pinned_sum_is_held_against_that_of_the_first_time_and_that_is_told(
    cache, countries_zip, tmp_path, caplog
):
    dataset = DATASETS["natural-earth-110m"]
    assert checked(DATASETS["natural-earth"]) == "SHA-256, pinned in pwcat"
    assert checked(dataset).startswith("nothing: placed by hand, and pwcat knows no SHA-256 of it")
    place = place_of(dataset)
    place.parent.mkdir(parents=True)
    place.write_bytes(countries_zip.read_bytes())
    assert dataset_path(dataset.name) == place  # nothing is known to hold against it
    assert fetch_dataset(dataset.name, check=check_file) == (place, False)
    receipt = read_receipt(place)
    assert receipt.source == "placed by hand"
    assert receipt.sha256 == hashlib.sha256(countries_zip.read_bytes()).hexdigest()
    assert checked(dataset) == f"SHA-256, as it was first taken on {receipt.fetched[:10]}; pwcat knows none of its own"
    place.write_bytes(place.read_bytes()[:-1] + b"x")
    with pytest.raises(RegionError, match="is damaged: its SHA-256 is"):
        dataset_path(dataset.name)
    assert caplog.text == ""
    (tmp_path / "other.zip").write_bytes(countries_zip.read_bytes() + b"x")
    fetch_dataset(dataset.name, origin=str(tmp_path / "other.zip"))
    assert re.search(
        r"natural-earth-110m is another file than that of 20\S+: SHA-256 \w{64} instead of \w{64}", caplog.text
    )


def test_a_file_placed_by_hand_that_cannot_be_it_is_not_taken(cache):
    place = place_of(DATASETS["natural-earth-110m"])
    place.parent.mkdir(parents=True)
    place.write_text("no archive")
    with pytest.raises(RegionError, match=r"\.zip cannot be natural-earth-110m: .* is no zip archive"):
        fetch_dataset("natural-earth-110m", check=check_file)
    assert read_receipt(place) is None


def test_what_comes_as_an_archive_is_asked_for_as_one(cache, tmp_path):
    (tmp_path / "a.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(
        RegionError,
        match=r"a\.geojson is no zip archive, and natural-earth-110m comes as one, with ne_110m_admin_0_countries\.shp in it\. "
        r"A vector file can be used where it is: `\{dataset: natural-earth-110m, path: FILE\}` in a recipe.*Nothing was kept",
    ):
        fetch_dataset("natural-earth-110m", origin=str(tmp_path / "a.geojson"), check=check_file)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(
        RegionError, match=r"a\.zip does not hold ne_110m_admin_0_countries\.shp, but readme\.txt\. Noth"
    ):
        fetch_dataset("natural-earth-110m", origin=str(tmp_path / "a.zip"), check=check_file)
    assert files_in(cache) == []


@pytest.fixture
def igbp(tmp_path):
    """A class raster under a name, with tags."""

    def write(name: str, **tags: str) -> Path:
        transform = rasterio.transform.from_origin(0, 1, 1, 1)
        profile = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8", "crs": "EPSG:4326"}
        with rasterio.open(tmp_path / name, "w", transform=transform, **profile) as raster:
            raster.write(np.ones((1, 1, 1), dtype=np.uint8))
            raster.update_tags(**tags)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("name", "tags", "source", "known"),
    [
        ("MCD12C1.A2019001.006.IGBP.tif", {}, "mcd12c1 version 006 of 2019", False),
        ("MCD12C1.A2022001.061.2023244164746.tif", {}, "mcd12c1 version 061 of 2022", True),
        # What the tags say, which came with the pixels, counts for more than the name.
        (
            "MCD12C1.A2019001.006.tif",
            {"LOCALGRANULEID": "MCD12C1.A2021001.061.2022217040006.hdf"},
            "mcd12c1 version 061 of 2021",
            True,
        ),
        ("cover.tif", {"AREA": "none"}, "mcd12c1", True),
    ],
)
def test_the_version_is_what_the_file_says_and_another_is_told(cache, igbp, caplog, name, tags, source, known):
    path = igbp(name, **tags)
    given = open_layer("landcover", Layer(dataset="mcd12c1", path=str(path)), base_dir=Path())
    assert given.source == source
    assert (caplog.text == "") == known
    fetch_dataset("mcd12c1", origin=str(path))  # whose name it was fetched by is in the receipt
    assert open_layer("landcover", Layer(dataset="mcd12c1"), base_dir=Path()).source == source
    if not known:
        assert (
            "the file of mcd12c1 is version 006 of 2019 (its name says so), while pwcat knows and credits"
            in caplog.text
        )


FETCH = "import sys; from pwcat.regions.cache import fetch_dataset; fetch_dataset(*sys.argv[1:2], origin=sys.argv[2])"


def test_what_a_killed_fetch_leaves_is_removed_by_the_next_and_a_living_one_is_let_be(cache, server):
    fetching = subprocess.Popen([sys.executable, "-c", FETCH, "natural-earth-110m", f"{server.url}/slow.zip"])
    try:
        deadline = time.monotonic() + 60
        while not (partials := files_in(cache)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [name.endswith(".partial") for name in partials] == [True]
        tidy_cache()
        assert files_in(cache) == partials
    finally:
        fetching.kill()
        fetching.wait()
        server.go_on.set()
    assert files_in(cache) == partials
    with pytest.raises(RegionError, match="no such file"):
        fetch_dataset("natural-earth-110m", origin="nowhere.zip")
    assert files_in(cache) == []
