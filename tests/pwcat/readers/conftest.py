"""A scene of small COGs on loopback, on a server that can be told to fail."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from pwcat.providers import OpenSource
from pwcat.readers.kept import KEPT
from pwcat.scenes import Scene

EPSG, LEFT, TOP = 32631, 399960.0, 5300040.0


@dataclass
class Server:
    """Serves a folder by ranges.

    Attributes:
        fault: what to do to an answer instead of sending it whole: given path, number of the request and body.
        asked: path and range of each request.
    """

    folder: Path
    url: str = ""
    fault: Callable[[str, int, bytes], object] | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        self.asked.clear()
        self.sent, self.fault = 0, None
        KEPT.forget(self.url)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def log_message(self, *arguments) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        state = self.state
        path = self.path.partition("?")[0]
        with state.lock:
            state.asked.append((self.path, self.headers.get("Range", "")))
            number = len(state.asked)
        file = state.folder / path.removeprefix("/")
        if not file.is_file():
            return self.answer(404, b"")
        data, wanted = file.read_bytes(), re.match(r"bytes=(\d+)-(\d+)?", self.headers.get("Range", ""))
        start, end = (int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)) if wanted else (0, len(data) - 1)
        body = data[start : end + 1]
        fault = state.fault(path, number, body) if state.fault else None
        if isinstance(fault, str):
            return self.answer(302, b"", Location=fault)
        if self.command == "HEAD" and not isinstance(fault, int):
            fault = None
        if isinstance(fault, int):
            return self.answer(fault, b"<Error>a body with a secret</Error>")
        length = len(body)
        if isinstance(fault, tuple):  # headers of the whole, some of the body
            kind, body = fault
            length = len(body) if kind == "short" else length
        elif isinstance(fault, bytes):
            body = fault
        elif isinstance(fault, float):
            time.sleep(fault)
        fields = {"Content-Range": f"bytes {start}-{end}/{len(data)}"} if wanted else {}
        state.sent += 0 if self.command == "HEAD" else len(body)
        return self.answer(206 if wanted else 200, body, length=length, etag=f'"{file.stat().st_mtime_ns}"', **fields)

    def answer(self, code: int, body: bytes, *, length: int | None = None, etag: str = "", **fields: str) -> None:
        try:
            self.send_response(code)
            fields = {
                "Content-Length": str(len(body) if length is None else length),
                "Accept-Ranges": "bytes",
                **fields,
            }
            if etag:
                fields["ETag"] = etag
            for name, value in fields.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.close_connection = length is not None and length != len(body)
        except OSError:  # the client gave up, as it may
            self.close_connection = True


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address) -> None: ...


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Server]:
    state = Server(tmp_path_factory.mktemp("served"))
    server = QuietServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(running: Server) -> Server:
    running.reset()
    return running


@pytest.fixture
def source(server: Server) -> OpenSource:
    return OpenSource(provider="stac", url=server.url, collection="c", allow_private=True)


def pixels(side: int, *, seed: int, dtype: str = "uint16", gaps: float = 0.0, gap: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 250 if dtype == "uint8" else 12_000, (side, side)).astype(dtype)
    return np.where(rng.random(values.shape) < gaps, gap, values).astype(dtype)


def write(
    path: Path, values: np.ndarray, *, gsd: float, epsg: int = EPSG, left: float = LEFT, top: float = TOP, **profile
):
    profile = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", "predictor": 2, **profile}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        crs=f"EPSG:{epsg}",
        transform=from_origin(left, top, gsd, gsd),
        **profile,
    ) as raster:
        raster.write(values, 1)


@pytest.fixture
def make_scene(server: Server) -> Callable[..., Scene]:
    """A scene of bands by name: side of a pixel, and what is particular about the file."""

    def make(name: str, *, extent_px: int = 240, query: str = "", **bands: dict) -> Scene:
        assets = {}
        for seed, (band, options) in enumerate(bands.items()):
            gsd = options.pop("gsd", 10.0)
            values = options.pop("values", None)
            if values is None:
                kinds = {key: options.pop(key) for key in ("dtype", "gaps", "gap") if key in options}
                values = pixels(int(extent_px * 10 // gsd), seed=seed, **kinds)
            write(server.folder / name / f"{band}.tif", values, gsd=gsd, **options)
            assets[band] = {
                "href": f"{server.url}/{name}/{band}.tif{query}",
                "proj:transform": [gsd, 0, LEFT, 0, -gsd, TOP],
                "proj:shape": list(values.shape),
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            }
        item = {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": name,
            "properties": {"datetime": "2024-06-01T00:00:00Z", "proj:code": f"EPSG:{EPSG}"},
            "geometry": {"type": "Polygon", "coordinates": [[[0, 47], [4, 47], [4, 49], [0, 49], [0, 47]]]},
            "bbox": [0, 47, 4, 49],
            "assets": assets,
            "links": [],
        }
        return Scene.from_item(
            item,
            source=OpenSource(provider="stac", url=server.url, collection="c", allow_private=True),
            bands=list(bands),
        )

    return make


@pytest.fixture
def corner() -> Callable[..., tuple[float, float]]:
    """Easting and northing of the chip whose upper-left pixel is in a row and column of the scene's grid."""

    def at(row: int, column: int, side: float = 10.0) -> tuple[float, float]:
        return LEFT + column * side, TOP - row * side

    return at
