"""A catalog's explorer on loopback, and a headless Chromium to look at it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from catalog.explorer import explorer_routes
from catalog.query import open_catalog

# As root, without a graphics card, and asking nobody for anything
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of the explorer over a catalog."""
    app = Starlette(routes=[Mount("/explorer", routes=explorer_routes(open_catalog(folder)))])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended before it began"
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/explorer/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def served():
    """A function that serves the explorer of a catalog for the length of a block."""
    return serving


@pytest.fixture(scope="module")
def url(tiny_catalog) -> Iterator[str]:
    """The explorer of the tiny catalog."""
    with serving(tiny_catalog) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Debian's Chromium, or whichever is on the PATH."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium on the PATH (looked for {', '.join(NAMES)}); scripts/chromium.sh installs Debian's")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is in the extra dev")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=found, headless=True, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser, url):
    """Open the explorer at a width, with the filters of an address; whatever it logs as an error fails the test."""
    contexts, faults = [], []

    def open_page(filters: str = "", *, width: int = 1440, height: int = 1000, **options: object):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: faults.append(request.url) if not _is_ours(request.url, url) else None)
        page.goto(f"{url}#{filters}" if filters else url)
        page.wait_for_selector("body.ready")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def _is_ours(asked: str, url: str) -> bool:
    return asked.startswith((url, "data:", "blob:"))
