"""A provider is asked no more often than it bears, however many threads and processes ask."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

import pytest

from pwcat.providers import PROVIDERS, OpenSource
from pwcat.providers.limits import BURST_S, Limit, limit_of, share_limits
from pwcat.readers import wire
from pwcat.readers.wire import Address

RATE, WANTED = 60.0, 30


@pytest.fixture
def server():
    """Its address, and the moments at which it was asked."""
    moments: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args) -> None: ...

        def do_GET(self) -> None:
            moments.append(time.monotonic())
            self.send_response(206)
            for name, value in {"Content-Length": "1", "Content-Range": "bytes 0-0/1", "ETag": '"a"'}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"x")

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", moments
    running.shutdown()
    thread.join()
    running.server_close()


def source_at(url: str, rate: float | None = RATE) -> OpenSource:
    return OpenSource(provider="stac", url=url, collection="c", allow_private=True, files_per_s=rate)


def least_s(requests: int, *, processes: int = 1) -> float:
    """Seconds that so many requests take at least: a busy machine only makes them longer."""
    return (requests - processes - RATE * BURST_S) / RATE


def test_threads_share_the_rate(server):
    url, moments = server
    started = time.monotonic()
    limit = limit_of(source_at(url))

    def ask(_: int) -> None:
        limit.wait()
        urlopen(f"{url}/file").read()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(WANTED)))
    assert len(moments) == WANTED
    assert max(moments) - started >= least_s(WANTED)


WORKER = """
import sys
from urllib.request import urlopen
from pwcat.providers.limits import limit_of, share_limits
from pwcat.providers import OpenSource

url, rate, share, times = sys.argv[1], *map(float, sys.argv[2:])
source = OpenSource(provider="stac", url=url, collection="c", files_per_s=rate)
share_limits(source, share)
for _ in range(int(times)):
    limit_of(source).wait()
    urlopen(url + "/file").read()
"""


def test_processes_have_a_share_each(server):
    url, moments = server
    started = time.monotonic()
    command = [sys.executable, "-c", WORKER, url, str(RATE), "0.5", str(WANTED // 2)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(moments) == WANTED
    assert max(moments) - started >= least_s(WANTED, processes=2)


def test_the_tile_reader_waits_before_each_request(server):
    url, moments = server
    address = Address.of(f"{url}/file.tif", name="file", limit=limit_of(source_at(url)))

    async def many() -> None:
        await asyncio.gather(*[wire.fetch(address, 0, 1) for _ in range(WANTED)])

    started = time.monotonic()
    wire.run(many())
    assert len(moments) == WANTED
    assert max(moments) - started >= least_s(WANTED)


def test_permits_hold_when_they_are_due(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    limit = Limit(10)
    # The burst: a tenth of a second's worth, and one more
    assert [limit.reserve() for _ in range(4)] == pytest.approx([0, 0, 0.1, 0.2])
    assert limit.reserve(5) == pytest.approx(0.7)
    now[0] += 60  # an idle minute saves up no more than the burst
    assert [limit.reserve() for _ in range(3)] == pytest.approx([0, 0, 0.1])
    assert limit.reserve(0) == 0
    limit.per_second = None
    assert limit.reserve(1000) == 0


def test_a_share_of_files_and_api(server):
    source = OpenSource(provider="earth-search", url="http://a.test", collection="c", files_per_s=200)
    assert limit_of(source).per_second == pytest.approx(200)
    share_limits(source, 0.25)
    assert limit_of(source).per_second == pytest.approx(50)
    assert limit_of(source, "api").per_second == pytest.approx(PROVIDERS["earth-search"].requests_per_s / 4)
    assert limit_of(source_at("http://b.test", None)).per_second is None
