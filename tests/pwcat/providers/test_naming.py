"""How sources are called: two of them never alike, nothing secret, nothing of the moment."""

from __future__ import annotations

import re

import pytest

from pwcat.providers.document import Source
from pwcat.providers.source import OpenSource, open_source


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ({"provider": "earth-search"}, "earth-search/c"),
        ({"provider": "planetary-computer", "url": "https://mirror.example/"}, "planetary-computer/c"),
        ({"provider": "stac", "url": "https://Api.Example:8443/v1/"}, "stac:api.example:8443/v1/c"),
        ({"provider": "archive", "url": "http://127.0.0.1:8123"}, "archive:127.0.0.1:8123/c"),
        ({"provider": "archive", "path": "../b"}, "archive:../b/c"),
    ],
)
def test_a_name_tells_sources_apart_and_holds_no_secret(source, name):
    document = Source(collection="c", **source)
    assert document.name == name
    if document.path is None:
        with open_source(document, base_dir=None) as opened:
            assert opened.name == name


def test_what_older_recipes_have_in_addresses_is_in_no_name():
    url = "https://me:PW@api.example/v1;jsessionid=X?api_key=K#f"
    assert OpenSource(provider="stac", url=url, collection="c").name == "stac:api.example/v1/c"


def test_an_archive_is_called_by_its_path_wherever_it_is_served(archive_dir):
    document = Source(provider="archive", path=archive_dir.name, collection="c")
    with open_source(document, base_dir=archive_dir.parent) as opened:
        assert opened.name == document.name == f"archive:{archive_dir.name}/c"
        assert "127.0.0.1" in opened.url


def test_of_a_folder_named_from_the_root_only_the_last_part_is_told():
    names = {Source(provider="archive", path=path, collection="c").name for path in ("/home/me/a", "/home/you/a")}
    assert len(names) == 2
    for name in names:
        assert re.fullmatch(r"archive:a-[0-9a-f]{8}/c", name)
