"""Servers that fail: the build goes on, says what it could not have, and a rerun makes of it what would have been."""

from __future__ import annotations

import re

import pytest
import rasterio

from pwcat.building.ledger import read_ledger
from pwcat.errors import PwcatError
from pwcat.materialize import build_cube
from pwcat.plan import freeze_plan

READERS = ("tiles", "stackstac")

# Faults that pass: what happens to the first requests of each file, and how often.
PASSING = {
    "too many requests": {"times": 2, "status": 429, "retry_after": 0},
    "an error": {"times": 2, "status": 500},
    "unavailable": {"times": 2, "status": 503},
    "refused": {"times": 1, "status": 403},
    "not found": {"times": 1, "status": 404},
    "cut": {"skip": 1, "times": 2, "cut": 0.5},
    "short": {"skip": 1, "times": 2, "short": 0.5},
    "stalled": {"skip": 1, "times": 1, "stall": 1.5},
}
ASKED_AGAIN = ("too many requests", "an error", "unavailable", "cut", "short")
# Faults that last, and what the ledger calls them.
LASTING = {
    "too many requests": ({"status": 429}, "server error"),
    "an error": ({"status": 500}, "server error"),
    "unavailable": ({"status": 503}, "server error"),
    "refused": ({"status": 403}, "forbidden"),
    "not found": ({"status": 404}, "not found"),
    "cut": ({"cut": 0.5}, None),
    "short": ({"short": 0.5}, None),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_costs_time_and_no_sample(faulty, planned, undisturbed, no_secret, reader, fault):
    case = faulty.case({"path": r"/B0[25]\.tif$"} | PASSING[fault], signed=1000)
    report = build_cube(planned, source=case.signed, reader=reader)
    spoilt = sum(case.standing()["spoilt"].values())
    assert spoilt > 0
    if reader == "tiles" and fault in ASKED_AGAIN:
        assert report.retries == spoilt  # GDAL does not tell of its own
    assert report.counts == {"written": 16}
    undisturbed.is_end_of(planned)
    no_secret(report)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fault", LASTING)
def test_a_fault_that_lasts_is_told_and_a_rerun_mends_it(faulty, calm, planned, undisturbed, no_secret, reader, fault):
    rule, cause = LASTING[fault]
    scene = undisturbed.scene
    lost = undisturbed.samples_of(scene)
    case = faulty.case({"path": rf"{scene}/B02\.tif$"} | rule, signed=1000)
    report = build_cube(planned, source=case.signed, reader=reader)
    assert report.counts == {"written": 16 - len(lost), "failed": len(lost)}
    undisturbed.is_on_the_way(planned)
    failed = [entry for entry in read_ledger(planned).to_pylist() if entry["status"] == "failed"]
    assert [entry["id"] for entry in failed] == lost
    for entry in failed:
        assert f"archive:s2-l2a-synthetic/{scene}/B02.tif" in entry["reason"]
        assert not re.search(r"127\.0\.0\.1|[?&]sig=", entry["reason"])
        assert cause is None or entry["cause"] == cause
    no_secret(report)
    assert build_cube(planned, source=calm.source, reader=reader).counts == {"written": 16}
    undisturbed.is_end_of(planned)


@pytest.mark.parametrize("reader", READERS)
def test_signatures_that_expire_are_made_anew(faulty, planned, undisturbed, no_secret, reader):
    case = faulty.case(signed=20)
    report = build_cube(planned, source=case.signed, reader=reader)
    standing = case.standing()
    assert standing["refused"] > 0
    assert standing["tokens"] > 1
    assert report.counts == {"written": 16}
    undisturbed.is_end_of(planned)
    no_secret(report, standing["asked"])


def flip(archive, scene, place):
    """A rule that changes a bit of the first tile of a scene's B02, at that share of its bytes."""
    with rasterio.open(archive / "s2-l2a-synthetic" / scene / "B02.tif") as raster:
        offset, size = (int(raster.get_tag_item(f"BLOCK_{key}_0_0", "TIFF", bidx=1)) for key in ("OFFSET", "SIZE"))
    return {"path": rf"{scene}/B02\.tif$", "flip": [offset + int(size * place), 0x10]}


# libtiff notices it at the start of a tile alone: the tables of the code do not fit. Further on it compares no checksum where a
# tile reaches beyond the image, or where wrong bytes make more pixels than are due. At 0.907 a bit changes 928 of a chip's
# 1024 pixels.
@pytest.mark.parametrize("place", [0.01, 0.5, 0.907, 0.99])
@pytest.mark.parametrize("reader", READERS)
def test_wrong_bytes_inside_a_tile_are_never_pixels(
    archive_dir, faulty, calm, planned, undisturbed, no_secret, reader, place
):
    scene = undisturbed.scene
    lost = undisturbed.samples_of(scene)
    case = faulty.case(flip(archive_dir, scene, place), signed=1000)
    report = build_cube(planned, source=case.signed, reader=reader)
    undisturbed.is_on_the_way(planned)
    assert report.counts == {"written": 16 - len(lost), "failed": len(lost)}
    assert {loss.cause for loss in report.losses} == {"corrupt data"}
    no_secret(report)
    assert build_cube(planned, source=calm.source, reader=reader).counts == {"written": 16}
    undisturbed.is_end_of(planned)


@pytest.mark.parametrize("reader", READERS)
def test_wrong_bytes_that_come_once_are_read_again(archive_dir, faulty, planned, undisturbed, reader):
    skip = 1 if reader == "tiles" else 2  # the header, and what GDAL asks before it
    case = faulty.case(flip(archive_dir, undisturbed.scene, 0.01) | {"skip": skip, "times": 1})
    assert build_cube(planned, source=case.source, reader=reader).counts == {"written": 16}
    assert case.standing()["spoilt"]
    undisturbed.is_end_of(planned)


PAGES = {
    "repeats": {"repeat": True},
    "an error, and another": {"skip": 1, "times": 2, "status": 503, "retry_after": 0},
    "too many requests": {"skip": 1, "times": 2, "status": 429, "retry_after": 1},
    "a page that breaks off": {"skip": 1, "times": 1, "cut": 0.5},
    "a page that is no JSON": {"skip": 1, "times": 1, "short": 0.5},
    "a page that stalls": {"skip": 1, "times": 1, "delay": 0.5},
}


@pytest.mark.parametrize("fault", PAGES)
def test_pages_that_repeat_or_break_make_the_same_plan(faulty, frozen, recipe, tiny, tmp_path, fault):
    case = faulty.case({"path": "^/search$"} | PAGES[fault], page_size=5)
    folder = freeze_plan(recipe, catalog=tmp_path, base_dir=tiny.parent, source=case.source)
    standing = case.standing()
    assert standing["spoilt"]
    assert standing["asked"]["/search"] >= 3  # more pages than one
    for name in ("plan.parquet", "scenes.parquet", "recipe.yaml"):
        assert (folder / name).read_bytes() == (frozen / name).read_bytes()


def test_a_search_that_breaks_in_the_middle_leaves_no_plan_and_the_next_makes_it(
    faulty, frozen, recipe, tiny, tmp_path
):
    broken = {"path": "^/search$", "skip": 1, "times": 1, "status": 400}
    case = faulty.case(broken, page_size=5)
    with pytest.raises(PwcatError, match=r"answers a search with HTTP 400$") as caught:
        freeze_plan(recipe, catalog=tmp_path, base_dir=tiny.parent, source=case.source)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "tiny" / "plan.parquet").exists()
    folder = freeze_plan(recipe, catalog=tmp_path, base_dir=tiny.parent, source=case.source)
    assert (folder / "plan.parquet").read_bytes() == (frozen / "plan.parquet").read_bytes()
