"""Servers that stall or fail for good: what that costs is paid once, not by every shard; and what is written is the same."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from pwcat.building import execution
from pwcat.building.ledger import read_ledger
from pwcat.materialize import build_cube
from pwcat.pixels import outages
from pwcat.pixels.outages import OUTAGES
from pwcat.readers import wire


@pytest.fixture(autouse=True)
def forgetful():
    OUTAGES.forget()
    yield
    OUTAGES.forget()


@pytest.fixture
def scene(undisturbed) -> str:
    """One that several shards want."""
    rows = undisturbed.plan.table["scene_ids"].to_pylist()
    wanted = Counter(name for name, _ in {(scenes[0], number // 2) for number, scenes in enumerate(rows)})
    name, shards = max(wanted.items(), key=lambda pair: (pair[1], pair[0]))
    assert shards > 1
    return name


@pytest.fixture
def one_by_one(monkeypatch):
    """Shards that are not made side by side."""
    monkeypatch.setattr(execution, "LOCAL_SHARDS", 1)


FAULTS = {"stalls": {"stall": 30}, "fails": {"status": 500}, "short": {"short": 0.5}}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("one_by_one")
def test_shards_after_the_first_go_to_the_fallback_at_once(faulty, calm, planned, undisturbed, scene, fault):
    case = faulty.case({"path": rf"{scene}/B02\.tif$"} | FAULTS[fault])
    report = build_cube(planned, source=case.source, fallback=[calm.source])
    assert report.counts == {"written": 16}
    undisturbed.is_end_of(planned)
    (asked,) = case.standing()["spoilt"].values()
    attempts = {"stalls": 1, "fails": 3, "short": 3}[fault]
    requests = 1 + (wire.STALLED_RETRIES if fault == "stalls" else wire.RETRIES)
    assert asked == attempts * requests
    by_scene = dict(
        zip(read_ledger(planned)["id"].to_pylist(), read_ledger(planned)["attempts"].to_pylist(), strict=True)
    )
    lost = undisturbed.samples_of(scene)
    assert sorted({by_scene[name] for name in lost}) == sorted({1, attempts + 1})
    assert {by_scene[name] for name in by_scene.keys() - set(lost)} == {1}


def test_a_stalled_file_costs_its_time_limit_twice_and_no_more(faulty, calm, planned, scene, monkeypatch):
    """Not once for each shard, and attempt, and request: in units of the limit, which tests scale down."""
    case = faulty.case({"path": rf"{scene}/B02\.tif$", "stall": 30})
    silent = []
    once = wire._fetch_once

    async def timed(address, start, end):
        started = time.monotonic()
        try:
            return await once(address, start, end)
        except wire._TransientError as exc:
            silent.append((exc.stalled, address.name, time.monotonic() - started))
            raise

    monkeypatch.setattr(wire, "_fetch_once", timed)
    build_cube(planned, source=case.source, fallback=[calm.source])
    assert [stalled for stalled, _, _ in silent] == [True, True]


@pytest.mark.usefixtures("one_by_one")
def test_without_a_fallback_later_shards_ask_with_little_patience_and_a_rerun_with_all(
    faulty, planned, undisturbed, scene
):
    case = faulty.case({"path": rf"{scene}/B02\.tif$", "status": 503})
    report = build_cube(planned, source=case.source)
    lost = undisturbed.samples_of(scene)
    assert report.counts == {"written": 16 - len(lost), "failed": len(lost)}
    entries = [entry for entry in read_ledger(planned).to_pylist() if entry["status"] == "failed"]
    assert {entry["cause"] for entry in entries} == {"server error"}
    assert {entry["attempts"] for entry in entries} == {1, 3}
    assert "503; asked 2 times" in entries[-1]["reason"]
    healed = faulty.case({"path": rf"{scene}/B02\.tif$", "times": 4, "status": 503})
    assert build_cube(planned, source=healed.source).counts == {"written": 16}
    undisturbed.is_end_of(planned)


def test_a_source_that_fails_throughout_is_left_alone_and_found_to_be_well_again(
    faulty, calm, planned, undisturbed, monkeypatch
):
    dead = faulty.case({"path": "/assets/", "status": 500})
    build_cube(planned, source=dead.source, fallback=[calm.source])
    undisturbed.is_end_of(planned)
    scenes = {scenes[0] for scenes in undisturbed.plan.table["scene_ids"].to_pylist()}
    spoilt = sum(dead.standing()["spoilt"].values())
    full = 3 * (1 + wire.RETRIES) * 2  # attempts, requests, bands
    assert spoilt <= full * (outages.IN_A_ROW + 1) < full * len(scenes)
    assert OUTAGES.is_down(dead.source, "a scene that was never asked for")
    monkeypatch.setattr(outages, "SOURCE_S", 0.0)
    OUTAGES.note(dead.source, "any", "timed out")
    assert not OUTAGES.ask(dead.source, "any")


def test_a_fallback_that_is_down_is_asked_last_and_the_reasons_keep_their_order(faulty, planned, undisturbed):
    gone = faulty.case({"path": "/assets/", "status": 404})
    dead = faulty.case({"path": "/assets/", "status": 503})
    OUTAGES.note(gone.source, undisturbed.scene, "timed out")
    build_cube(planned, source=gone.source, fallback=[dead.source])
    entries = read_ledger(planned).to_pylist()
    assert {entry["status"] for entry in entries} == {"failed"}
    for entry in entries:
        assert entry["cause"] == "not found"
        assert entry["reason"].index("no such file") < entry["reason"].index(f"; at {dead.source.name}: ")
