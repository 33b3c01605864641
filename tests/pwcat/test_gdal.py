"""What GDAL remembers of a file, and how it is made to forget it."""

from __future__ import annotations

import shutil
import socket

import numpy as np
import pytest
import rasterio

from pwcat.archive import serve_archive
from pwcat.gdal import GDAL_OPTIONS, forget_files
from pwcat.plain import open_plain


def read(url):
    with rasterio.Env(**GDAL_OPTIONS), rasterio.open(url) as raster:
        return raster.read(1)


def test_another_archive_at_the_same_address_is_read_as_it_is(archive_dir, archive_copy):
    first, other = sorted(archive_dir.glob("s2-l2a-synthetic/*/B02.tif"))[:2]
    name = first.relative_to(archive_dir)
    (archive_copy / name).unlink()
    shutil.copy(other, archive_copy / name)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serve_archive(archive_dir, port=port) as url:
        before = read(f"{url}/assets/{name}")
    with serve_archive(archive_copy, port=port) as url:
        forget_files(url)
        after = read(f"{url}/assets/{name}")
    with rasterio.open(first) as raster:
        np.testing.assert_array_equal(before, raster.read(1))
    with rasterio.open(other) as raster:
        np.testing.assert_array_equal(after, raster.read(1))
    assert not np.array_equal(before, after)


def test_what_is_kept_of_a_store_is_forgotten_as_well(monkeypatch):
    """GDAL remembers that a file could not be had: the second time it says that there is none."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    options = {
        "AWS_S3_ENDPOINT": endpoint,
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_HTTPS": "NO",
        "GDAL_HTTP_MAX_RETRY": "0",
    }
    for name, value in {**options, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        with (
            rasterio.Env(**{**GDAL_OPTIONS, "GDAL_HTTP_MAX_RETRY": 0}),
            pytest.raises(rasterio.errors.RasterioIOError, match="Could not connect to server"),
        ):
            open_plain("s3://bucket/a.jp2")
        forget_files("s3://bucket/a.jp2")


@pytest.mark.parametrize(
    "href", ["s3://bucket/a.tif", "gs://bucket/a.tif", "/data/a.tif", "archive:a/B02.tif", "abfs://c/a"]
)
def test_nothing_is_said_where_nothing_can_be_forgotten(capfd, href):
    forget_files(href)
    assert capfd.readouterr() == ("", "")
