"""Connections for strangers' files go where they may, whoever encrypts what is on them."""

from __future__ import annotations

import re
import socket
import threading
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import pytest

from pwcat.errors import SourceError
from pwcat.providers import OpenSource, addresses, guard
from pwcat.providers.addresses import locate


@pytest.fixture(autouse=True)
def world(monkeypatch):
    """A world whose public addresses are 127.0.0.1, and one name there; proxies of this computer's user are not of it."""
    known = {"files.example.test": "127.0.0.1", "inner.example.test": "10.0.0.1"}

    really = socket.getaddrinfo

    def resolve(host, *args, **options):
        if host == "127.0.0.1":
            return really(host, *args, **options)
        if host not in known:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known[host], 0))]

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(addresses, "_is_public", lambda address: str(address) == "127.0.0.1")
    monkeypatch.setattr(addresses.socket, "getaddrinfo", resolve)
    addresses._resolved.cache_clear()
    yield
    addresses._resolved.cache_clear()


@pytest.fixture
def echo():
    """A server that says back what it is told; its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            while data := connection.recv(100_000):
                connection.sendall(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.close()


def tunnel(href: str, to: str, port: int) -> HTTPConnection:
    guard.watch(href)
    proxy = guard.proxy_of(href)
    assert proxy is not None
    connection = HTTPConnection("127.0.0.1", urlsplit(proxy).port, timeout=10)
    connection.set_tunnel(to, port)
    connection.connect()
    return connection


def test_what_is_encrypted_goes_through_as_it_is(echo):
    connection = tunnel("https://one.example.test/a.tif", "files.example.test", echo)
    sent, got = bytes(range(256)) * 4000, b""
    thread = threading.Thread(target=connection.sock.sendall, args=(sent,))
    thread.start()
    while len(got) < len(sent):
        got += connection.sock.recv(100_000)
    thread.join()
    assert got == sent
    connection.close()


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("inner.example.test", "inner.example.test is at 10.0.0.1, which is no public address"),
        ("169.254.169.254", "169.254.169.254 is a link-local address"),
        ("localhost", "localhost is this computer or its network"),
        ("[::1]", "::1 is this computer"),
    ],
)
def test_connections_to_this_computer_and_its_network_are_refused_and_told(to, why):
    href = "https://two.example.test/a.tif"
    with pytest.raises((OSError, HTTPException), match="421"):
        tunnel(href, to, 443)
    assert guard.why_refused(href) == (
        f"refused to read it: its server leads elsewhere, and {why}; see `allow_private` of the recipe's source"
    )
    assert guard.why_refused("https://three.example.test/a.tif") is None


def test_a_server_that_cannot_be_found_is_no_refusal():
    href = "https://four.example.test/a.tif"
    with pytest.raises((OSError, HTTPException), match="502"):
        tunnel(href, "nowhere.example.test", 443)
    assert guard.why_refused(href) is None


def test_what_is_trusted_and_a_provider_s_own_store_are_read_directly():
    def proxied(provider: str, href: str, **options: object) -> bool:
        OpenSource(provider=provider, url="https://api.test", collection="c", **options).watch(href)
        return guard.proxy_of(href) is not None

    assert proxied("stac", "https://files.example.test/a.tif")
    assert not proxied("stac", "https://files.example.test/a.tif", allow_private=True)
    assert proxied("stac", "https://sentinel-cogs.s3.us-west-2.amazonaws.com/a.tif")
    assert not proxied("earth-search", "https://sentinel-cogs.s3.us-west-2.amazonaws.com/a.tif")
    assert proxied("earth-search", "https://evil-sentinel-cogs.s3.us-west-2.amazonaws.com/a.tif")
    assert not proxied("planetary-computer", "https://account.blob.core.windows.net/a.tif")
    assert proxied("planetary-computer", "http://account.blob.core.windows.net/a.tif")
    assert proxied("planetary-computer", "https://account.blob.core.windows.net.example.test/a.tif")
    assert not proxied("archive", "https://api.test/assets/a.tif")
    assert not proxied("copernicus", "s3://eodata/a.jp2")


def test_threads_that_open_files_at_once_have_one_guard_between_them(monkeypatch):
    """Else what one of them refuses is not known to the others, and files are asked for again that cannot be had."""
    href, threads, asked = "https://six.example.test/a.tif", 16, []
    monkeypatch.setattr(guard, "_guards", {})
    guard.watch(href)
    gate = threading.Barrier(threads)

    def ask() -> None:
        gate.wait()
        asked.append(guard.proxy_of(href))

    asking = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(asked) == threads
    assert len(set(asked)) == 1


def test_servers_are_told_apart(monkeypatch):
    """Else what one of them did is said of another, which is then not asked again."""
    monkeypatch.setattr(guard, "_guards", {})
    hrefs = [f"https://server{number}.example.test/a.tif" for number in range(40)]
    for href in hrefs:
        guard.watch(href)
    assert len({guard.proxy_of(href) for href in hrefs}) == 40
    assert guard.proxy_of(hrefs[7].replace("a.tif", "b.tif")) == guard.proxy_of(hrefs[7])


def test_a_proxy_of_the_user_s_own_is_left_alone(monkeypatch):
    href = "https://five.example.test/a.tif"
    guard.watch(href)
    assert set(guard.gdal_options(href)) == {"GDAL_HTTP_PROXY", "GDAL_HTTPS_PROXY"}
    guard._guards.clear()
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    assert guard.gdal_options(href) == {}
    guard._guards.clear()


def test_addresses_are_tried_in_the_resolvers_order(monkeypatch):
    told = [f"93.184.{number}.{7 * number % 11}" for number in (9, 2, 30, 5, 17, 1, 40, 3)]
    monkeypatch.setattr(addresses, "_is_public", lambda address: True)
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, 0)) for text in (*told, told[0])]
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_args, **_options: entries)
    assert [str(one) for one in locate("http://many.example.test/a.tif")] == told


def test_a_server_is_where_all_its_addresses_are():
    assert [str(one) for one in locate("http://files.example.test:8080/a.tif")] == ["127.0.0.1"]
    assert locate("http://nowhere.example.test/a.tif") == ()
    with pytest.raises(SourceError, match=re.escape("inner.example.test is at 10.0.0.1, which is no public address")):
        locate("http://inner.example.test/a.tif")
