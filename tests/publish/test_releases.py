"""Changelogs: what is kept of earlier releases, and what is said of their samples."""

from __future__ import annotations

import json

import numpy as np
import pytest

from catalog.query import open_catalog
from publish.dataset import build_dataset_folder
from publish.describing.releases import read_release


@pytest.fixture(scope="module")
def both(tiny_catalog):
    return open_catalog(tiny_catalog).search()


def test_entries_accumulate_and_say_what_changed(both, tmp_path):
    out = tmp_path / "out"
    first, second = both.only(np.arange(0, 40)), both.only(np.arange(36, 80))  # 32 of europe, 48 of everywhere
    build_dataset_folder(first, out)
    untagged = (out / "CHANGELOG.md").read_text()
    assert f"## Without a tag: {first.hash[:16]}\n" in untagged
    build_dataset_folder(first, out, release="v1")
    one = (out / "CHANGELOG.md").read_text()
    assert one == untagged.replace(f"Without a tag: {first.hash[:16]}", "v1")
    build_dataset_folder(second, out, release="v2")
    two = (out / "CHANGELOG.md").read_text()
    assert "\n- Since v1: 40 added, 36 removed, 4 kept.\n" in two
    assert "- No samples of europe any more.\n" in two
    assert two.index("## v2\n") < two.index("## v1\n")
    assert two.count("- 40 samples: ") == 1
    assert two.endswith("Earlier releases are the tags of this repository; a release is never moved or changed.\n")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    build_dataset_folder(second, out, release="v2")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    build_dataset_folder(second, out, release="v3")
    three = (out / "CHANGELOG.md").read_text()
    assert "- The same samples as v2.\n" in three
    assert three.count("\n## ") == 3
    again = build_dataset_folder(second, tmp_path / "again", release="v3", earlier=read_release(out))
    assert (again / "CHANGELOG.md").read_bytes() == (out / "CHANGELOG.md").read_bytes()
    assert (again / "MANIFEST.json").read_bytes() == (out / "MANIFEST.json").read_bytes()


def test_what_is_no_release_of_ours_is_none_and_unreadable_samples_are_said_so(both, tmp_path):
    assert read_release(tmp_path) is None
    out = build_dataset_folder(both.only(np.arange(40)), tmp_path / "out", release="v1")
    (out / "items/items.geoparquet").write_bytes(b"cut")
    assert read_release(out).samples is None
    build_dataset_folder(both.only(np.arange(41)), out, release="v2")
    assert (
        "- Before it stood v1, whose samples could not be read to compare them.\n" in (out / "CHANGELOG.md").read_text()
    )
    (out / "MANIFEST.json").write_text(json.dumps({"kind": "model"}))
    assert read_release(out) is None


PUBLISH = """
import sys
import numpy as np
from catalog.query import open_catalog
from publish.dataset import publish_dataset

both = open_catalog(sys.argv[1]).search()
for tag, rows in (("v1", np.arange(40)), ("v2", np.arange(80)), ("v2", np.arange(80))):
    done = publish_dataset(both.only(rows), repo="lab/both", tag=tag)
    print(tag, done.push.files_sent > 0)
"""


def test_the_changelog_of_a_repository_goes_on_and_publishing_again_sends_nothing(hub, fresh, tiny_catalog):
    assert fresh(PUBLISH, tiny_catalog).split() == ["v1", "True", "v2", "True", "v2", "False"]
    text = hub.read("datasets", "lab/both", "CHANGELOG.md").decode()
    assert "- Since v1: 40 added, 0 removed, 40 kept.\n" in text
    assert text.count("\n## ") == 2
    assert hub.read("datasets", "lab/both", "CHANGELOG.md", revision="v1").decode().count("\n## ") == 1
