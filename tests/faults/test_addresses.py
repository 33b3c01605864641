"""Addresses in the items of a STAC API are data from strangers: what leads to this computer is refused, and not read."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from pwcat.building.ledger import read_ledger
from pwcat.errors import SourceError
from pwcat.materialize import build_cube
from pwcat.plan import freeze_plan
from pwcat.providers import OpenSource
from pwcat.recipe import Recipe

HREFS = {
    "file:///{canary}": "file: is not read",
    "file:{canary}": "it is a file of this computer",
    "{canary}": "127.0.0.1 is this computer",  # relative to the API, which this test's own computer serves
    "/vsizip/{canary}": "127.0.0.1 is this computer",
    "{bait}/assets/{{item}}/{{asset}}.tif": "127.0.0.1 is this computer",
    "http://localhost:{port}/bait.tif": "localhost is this computer or its network",
    "http://2130706433:{port}/bait.tif": "2130706433 is this computer",
    "http://[::ffff:127.0.0.1]:{port}/bait.tif": "::ffff:127.0.0.1 is this computer",
    "http://10.0.0.1/bait.tif": "10.0.0.1 is no public address",
    "http://192.168.1.1/bait.tif": "192.168.1.1 is no public address",
    "http://169.254.169.254/latest/meta-data": "169.254.169.254 is a link-local address",
}


@pytest.fixture
def canary(tmp_path, archive_dir):
    """A file that could be read; it was read last at the beginning of time."""
    path = tmp_path / "canary.tif"
    shutil.copy(next((archive_dir / "s2-l2a-synthetic").glob("*/B02.tif")), path)
    os.utime(path, ns=(0, path.stat().st_mtime_ns))
    yield path
    assert path.stat().st_atime_ns == 0


@pytest.fixture
def stranger(recipe):
    """The recipe over an API that is not trusted."""

    def of(url: str) -> tuple[Recipe, OpenSource]:
        source = {"provider": "stac", "url": url, "collection": "s2-l2a-synthetic"}
        document = recipe.model_dump(mode="json", exclude={"regions", "split"}) | {"source": source}
        return Recipe.model_validate(document), OpenSource(**source)

    return of


@pytest.mark.parametrize("href", HREFS)
def test_a_plan_refuses_addresses_of_this_computer_in_one_line(faulty, stranger, tmp_path, canary, href):
    bait = faulty.case()
    port = bait.url.split(":")[2].partition("/")[0]
    led = href.format(canary=canary, bait=bait.url, port=port)
    case = faulty.case({"path": "^/search$", "hrefs": led})
    recipe, source = stranger(case.url)
    told = (
        rf"^scene \S+ of stac: refused to read .*: {re.escape(HREFS[href])}; addresses of a STAC answer must be public"
    )
    with pytest.raises(SourceError, match=told) as caught:
        freeze_plan(recipe, catalog=tmp_path, base_dir=tmp_path, source=source)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "tiny" / "plan.parquet").exists()
    assert bait.standing()["asked"] == {}


@pytest.mark.parametrize("reader", ["tiles", "stackstac"])
def test_a_build_refuses_them_as_well_whoever_made_the_plan(faulty, planned, undisturbed, tmp_path, canary, reader):
    """A plan can come from elsewhere; and what a name stands for is known only when it is read."""
    case = faulty.case()
    source = OpenSource(provider="stac", url="https://example.test/stac", collection="s2-l2a-synthetic")
    for led in (case.url + "/assets/", f"file://{canary}?"):
        _lead(planned, led)
        report = build_cube(planned, source=source, reader=reader)
        assert report.counts == {"failed": 16}
        for entry in read_ledger(planned).to_pylist():
            assert re.search(r"refused to read .*; addresses of a STAC answer must be public", entry["reason"])
            assert "\n" not in entry["reason"]
        assert case.standing()["asked"] == {}


def _lead(folder, address):
    """Lead a plan's addresses elsewhere."""
    from pwcat.scenes import read_scenes, write_scenes

    path = folder / "scenes.parquet"
    scenes = read_scenes(path, source=OpenSource(provider="archive", url="", collection=""), bands=["B02", "B05"])
    for scene in scenes:
        for asset in scene.item["assets"].values():
            asset["href"] = address + asset["href"].rpartition(":")[2]
    path.unlink()
    write_scenes(path, scenes)
