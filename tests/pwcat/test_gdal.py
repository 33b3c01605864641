"""What GDAL remembers of a file, and how it is made to forget it."""

from __future__ import annotations

import shutil
import socket

import numpy as np
import rasterio

from pwcat.archive import serve_archive
from pwcat.gdal import GDAL_OPTIONS, forget_files


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
