from __future__ import annotations

import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from pwcat.errors import RegionError
from pwcat.layers import Layer
from pwcat.regions import dataset_path, open_layer
from pwcat.regions.cache import cache_folder, fetch_dataset, place_of, read_receipt
from pwcat.regions.datasets import DATASETS, find_dataset

IGBP = "biomes_landcover/MCD12C1.A2019001.006.IGBP.tif"


@pytest.fixture
def server(countries_zip):
    """An HTTP server on loopback: whole.zip, cut.zip (half of what it promises), anything else is not found."""
    content = countries_zip.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            if self.path not in ("/whole.zip", "/cut.zip"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if self.path == "/whole.zip" else content[: len(content) // 2])

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.asked = []
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
    with pytest.raises(RegionError, match=r"http://127.0.0.1:9/a.zip cannot be reached: .*refused"):
        fetch_dataset("natural-earth-110m", origin="http://127.0.0.1:9/a.zip")
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
    from pwcat.regions.opening import check_file

    gpd.GeoDataFrame({"name": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326").to_file(
        tmp_path / "a.shz", driver="ESRI Shapefile", layer="ne_110m_admin_0_countries"
    )
    with pytest.raises(
        RegionError, match="is not the file of natural-earth-110m: it has no CONTINENT; nothing was kept"
    ):
        fetch_dataset("natural-earth-110m", origin=str(tmp_path / "a.shz"), check=check_file)
    (tmp_path / "a.tif").write_text("no raster")
    with pytest.raises(RegionError, match="cannot be read as a georeferenced raster"):
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
