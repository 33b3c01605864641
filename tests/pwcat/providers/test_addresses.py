"""Addresses of strangers: what leads to this computer or its network is refused, in whatever form."""

from __future__ import annotations

import socket

import pytest

from pwcat.errors import SourceError
from pwcat.providers import OpenSource
from pwcat.providers.addresses import check_address, refusal

STRANGER = OpenSource(provider="stac", url="https://example.test/stac", collection="s2")


@pytest.mark.parametrize(
    "href",
    [
        "https://example.test/a/B02.tif",
        "http://example.test:8080/a.tif?versionId=3",
        "https://93.184.216.34/a.tif",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/a.tif",
        "https://[64:ff9b::5db8:d822]/a.tif",
        "s3://eodata/Sentinel-2/a.jp2",
        "gs://bucket/a.tif",
        "abfs://items/a.parquet",
    ],
)
def test_public_addresses_are_read(href):
    assert refusal(href) is None


@pytest.mark.parametrize(
    ("href", "why"),
    [
        ("file:///etc/passwd", "file: is not read"),
        ("FILE:///etc/passwd", "file: is not read"),
        ("file:/etc/passwd", "it is a file of this computer"),
        ("/etc/passwd", "it is a file of this computer"),
        ("./B02.tif", "it is a file of this computer"),
        ("C:/data/B02.tif", "it is a file of this computer"),
        ("/vsicurl/http://example.test/a.tif", "it is a file of this computer"),
        ("vrt:///etc/passwd", "vrt: is not read"),
        ("zip+file:///a.zip!b.tif", r"zip\+file: is not read"),
        ("GTIFF_DIR:1:/etc/passwd", "it is a file of this computer"),
        ("<VRTDataset><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>", "it is a file of this computer"),
        ("//127.0.0.1/a.tif", "it is a file of this computer"),
        ("ftp://example.test/a.tif", "ftp: is not read"),
        ("http:///a.tif", "it names no host"),
        ("http://[::1/a.tif", "it is no address"),
        ("http://example.test\\@127.0.0.1/a.tif", "a backslash or a blank"),
        ("http://exa mple.test/a.tif", "a backslash or a blank"),
        ("http://localhost/a.tif", "localhost is this computer or its network"),
        ("http://LOCALHOST.:80/a.tif", "is this computer or its network"),
        ("http://tiles.internal/a.tif", "is this computer or its network"),
        ("http://printer.local/a.tif", "is this computer or its network"),
        ("http://127.0.0.1/a.tif", "127.0.0.1 is this computer"),
        ("http://me:secret@127.0.0.1/a.tif", "127.0.0.1 is this computer"),
        ("http://127.1/a.tif", "127.1 is this computer"),
        ("http://2130706433/a.tif", "2130706433 is this computer"),
        ("http://0x7f000001/a.tif", "0x7f000001 is this computer"),
        ("http://0177.0.0.1/a.tif", "0177.0.0.1 is this computer"),
        ("http://0/a.tif", "0 is this computer"),
        ("http://①②⑦.⓪.⓪.①/a.tif", "is this computer"),
        ("http://10.1.2.3/a.tif", "10.1.2.3 is no public address"),
        ("http://192.168.0.4/a.tif", "192.168.0.4 is no public address"),
        ("http://172.16.0.1/a.tif", "is no public address"),
        ("http://100.64.0.1/a.tif", "is no public address"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254 is a link-local address"),
        ("http://0xa9fea9fe/latest", "is a link-local address"),
        ("http://224.0.0.1/a.tif", "is no public address"),
        ("http://[::1]/a.tif", "::1 is this computer"),
        ("http://[::ffff:127.0.0.1]/a.tif", "is this computer"),
        ("http://[::ffff:7f00:1]/a.tif", "is this computer"),
        ("http://[2002:7f00:1::]/a.tif", "is this computer"),
        ("http://[64:ff9b::7f00:1]/a.tif", "is this computer"),
        ("http://[fe80::1%25eth0]/a.tif", "is a link-local address"),
        ("http://[fd00::1]/a.tif", "is no public address"),
        ("http://[::]/a.tif", "is this computer"),
        ("http://[::127.0.0.1]/a.tif", "is this computer"),
        ("http://[::10.0.0.1]/a.tif", "is no public address"),
        ("http://[::ffff:0:127.0.0.1]/a.tif", "is this computer"),
        ("http://[64:ff9b:1::7f00:1]/a.tif", "is this computer"),
        ("http://[64:ff9b:1::808:808]/a.tif", "is no public address"),
        ("http://[64:ff9b::a00:1]/a.tif", "is no public address"),
        ("http://[fec0::1]/a.tif", "is no public address"),
        ("http://[3fff::1]/a.tif", "is no public address"),
        ("http://[2001:db8::1]/a.tif", "is no public address"),
        ("http://[ff02::1]/a.tif", "is no public address"),
        ("http://192.0.0.192/opc/v2/instance", "192.0.0.192 is no public address"),
        ("http://192.0.0.8/a.tif", "is no public address"),
        ("http://192.88.99.1/a.tif", "is no public address"),
        ("http://168.63.129.16/machine", "is no public address"),
        ("http://100.100.100.200/latest/meta-data", "is no public address"),
        ("http://198.18.0.1/a.tif", "is no public address"),
        ("http://240.0.0.1/a.tif", "is no public address"),
    ],
)
def test_what_leads_here_is_refused_in_one_line(href, why):
    with pytest.raises(SourceError, match=rf"^refused to read .*{why}.*`allow_private: true` in the recipe's source$"):
        check_address(href)


def test_names_that_resolve_to_this_computer_are_refused_when_they_are_read(monkeypatch):
    def resolve(host, *_args, **_options):
        if host == "nowhere.example.test":
            raise socket.gaierror
        addresses = {"rebound.example.test": ["93.184.216.34", "127.0.0.1"], "inner.example.test": ["fd00::2"]}
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in addresses[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert (
        refusal("http://rebound.example.test/a.tif") == "rebound.example.test is at 127.0.0.1, which is this computer"
    )
    assert refusal("http://inner.example.test/a.tif") == "inner.example.test is at fd00::2, which is no public address"
    assert refusal("http://rebound.example.test/a.tif", resolve=False) is None
    assert refusal("http://nowhere.example.test/a.tif") is None  # whoever reads will say so


def test_signing_is_where_it_is_held_and_a_user_may_allow_it():
    href = "http://127.0.0.1:9/a.tif"
    with pytest.raises(SourceError, match=r"refused to read 'http://127\.0\.0\.1:9/a\.tif'"):
        STRANGER.sign(href)
    trusted = OpenSource(provider="stac", url="https://example.test", collection="s2", allow_private=True)
    assert trusted.sign(href) == href
    assert trusted.sign("/data/a.tif") == "/data/a.tif"


def test_an_archive_reads_its_own_files_and_no_others():
    archive = OpenSource(provider="archive", url="http://127.0.0.1:5", collection="s2")
    assert archive.sign("archive:s2/a/B02.tif") == "http://127.0.0.1:5/assets/s2/a/B02.tif"
    for href in ("http://127.0.0.1:55/assets/s2/a.tif", "file:///etc/passwd", "/etc/passwd"):
        with pytest.raises(SourceError, match="refused to read"):
            archive.sign(href)
    with pytest.raises(SourceError, match="refused to read"):
        STRANGER.sign("archive:s2/a/B02.tif")


def test_a_refusal_shows_no_signature():
    with pytest.raises(SourceError, match=r"^refused to read 'http://10\.0\.0\.1/a\.tif': ") as raised:
        STRANGER.sign("http://10.0.0.1/a.tif?se=2026&sig=s3cr3t")
    assert "s3cr3t" not in str(raised.value)
