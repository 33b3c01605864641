"""Tokens of the Planetary Computer, from an endpoint on loopback: one a container, fetched by one thread, renewed in time."""

from __future__ import annotations

import json
import logging
import pickle
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pwcat.errors import SourceError
from pwcat.providers import PROVIDERS, OpenSource, Signing
from pwcat.providers.signing import Tokens
from pwcat.providers.transport import Patience

HREF = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/10/T/a.tif"
SOON = Patience(attempts=3, first_attempts=0, pause_s=0.01, most_s=0.2, timeout_s=(5, 5))


class Endpoint:
    """Hands out `se=…&sig=s3cr3t-N`; what it does with the next requests can be said."""

    def __init__(self) -> None:
        self.lives_s: float = 3600.0
        self.asked: Counter[str] = Counter()
        self.faults: list[tuple[int, dict[str, str]]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_args) -> None:
                pass

            def do_GET(self) -> None:
                endpoint.asked[self.path] += 1
                status, headers = endpoint.faults.pop(0) if endpoint.faults else (200, {})
                expiry = datetime.now(UTC) + timedelta(seconds=endpoint.lives_s)
                number = sum(endpoint.asked.values())
                document = {"token": f"se={number}&sp=rl&sig=s3cr3t-{number}", "msft:expiry": expiry.isoformat()}
                body = json.dumps(document if status == 200 else {"message": "Try again in 23 seconds."}).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"
        self.signing = Signing(endpoint=self.url, hosts=(".blob.core.windows.net",), public=("open",), patience=SOON)


@pytest.fixture
def endpoint():
    made = Endpoint()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_many_threads_share_one_token_a_container(endpoint):
    tokens = Tokens(endpoint.signing)
    hrefs = [HREF, HREF.replace("a.tif", "b.tif"), HREF.replace("sentinel2-l2/", "other/")] * 40
    with ThreadPoolExecutor(16) as pool:
        signed = list(pool.map(tokens.sign, hrefs))
    assert endpoint.asked == {"/token/sentinel2l2a01/sentinel2-l2": 1, "/token/sentinel2l2a01/other": 1}
    assert len({href.partition("?")[2] for href in signed}) == 2
    assert all(one.startswith(f"{href}?se=") for one, href in zip(signed, hrefs, strict=True))
    assert tokens.sign(signed[0]) == signed[0]  # what is signed already is signed anew, not twice


@pytest.mark.parametrize(
    "href",
    [
        "https://example.test/sentinel2-l2/a.tif",
        "https://evil.test/?x=.blob.core.windows.net",
        "https://blob.core.windows.net.evil.test/c/a.tif",
        "https://open.blob.core.windows.net/c/a.tif",
        "s3://bucket.blob.core.windows.net/a.tif",
    ],
)
def test_nobody_else_sees_a_token(endpoint, href):
    assert Tokens(endpoint.signing).sign(href) == href
    assert not endpoint.asked


def test_a_token_is_replaced_before_it_expires(endpoint):
    tokens = Tokens(endpoint.signing)
    endpoint.lives_s = 0.6  # so that it is replaced after half of that
    first = tokens.sign(HREF)
    assert tokens.sign(HREF) == first
    time.sleep(0.35)
    endpoint.lives_s = 3600
    assert tokens.sign(HREF) != first
    assert endpoint.asked.total() == 2


def test_a_refused_token_is_forgotten_once(endpoint):
    tokens = Tokens(endpoint.signing)
    first = tokens.sign(HREF)
    tokens.forget(first)
    second = tokens.sign(HREF)
    for _ in range(5):
        tokens.forget(first)  # other threads that had the old one
    assert tokens.sign(HREF) == second != first
    tokens.forget(HREF)
    assert tokens.sign(HREF) != second


def test_429_and_expired_tokens_are_waited_for(endpoint):
    endpoint.faults = [(429, {"Retry-After": "0"}), (503, {}), (429, {})]
    assert "sig=" in Tokens(endpoint.signing).sign(HREF)
    assert endpoint.asked.total() == 4
    endpoint.lives_s = -10
    with pytest.raises(SourceError, match="hands out tokens that have expired; is the clock of this computer right"):
        Tokens(endpoint.signing).sign(HREF)


@pytest.mark.parametrize(
    ("faults", "match"),
    [([(429, {})] * 4, "gives no token: HTTP 429 after all"), ([(404, {})], "gives no token: HTTP 404")],
)
def test_an_endpoint_that_will_not_is_told(endpoint, faults, match):
    endpoint.faults = faults
    with pytest.raises(SourceError, match=match):
        Tokens(endpoint.signing).sign(HREF)


def test_no_token_in_a_frozen_href_a_message_or_a_worker_s_copy(endpoint, caplog):
    caplog.set_level(logging.DEBUG)
    source = OpenSource(
        provider="planetary-computer",
        url=PROVIDERS["planetary-computer"].url,
        collection="sentinel-2-l2a",
        signing=endpoint.signing,
    )
    signed = source.sign(HREF)
    assert "s3cr3t" in signed
    assert source.freeze(signed) == HREF
    assert source.unsign(f"Error opening {signed}: 403") == f"Error opening {HREF}: 403"
    assert b"s3cr3t" not in pickle.dumps(source)
    assert "s3cr3t" not in repr(source) + caplog.text
    source.forget(signed)
    assert pickle.loads(pickle.dumps(source)).sign(HREF) != signed  # noqa: S301


def test_a_refusal_is_told_of_as_signed_anew_where_that_was_done():
    refused = "the server refuses it (403)"
    plain = OpenSource(provider="stac", url="https://example.test/stac", collection="s2")
    assert plain.refused("https://a.test/B02.tif") == f"https://a.test/B02.tif: {refused}"
    signing = OpenSource(provider="planetary-computer", url="https://example.test/stac", collection="s2")
    stored, elsewhere = "https://one.blob.core.windows.net/c/B02.tif", "https://a.test/B02.tif"
    assert signing.refused(stored) == f"{stored}: {refused}, signed anew as well"
    assert signing.refused(elsewhere) == f"{elsewhere}: {refused}"
