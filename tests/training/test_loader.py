"""Batches of real subsets: every placement, share and beginning gives the samples that the order says, with their chips."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import weakref

import numpy as np
import pytest
import torch

from catalog.subset import load_subset
from pwcat.cube import Cube, CubeSpec, create_cube, encode_shard, open_cube, shard_path, write_coordinates, write_shard
from pwcat.errors import CubeError, TrainingError
from training.batch import UNKNOWN_TIME
from training.loader import Loader, in_order, read_blocks, read_chips

BANDS = ("B04", "B08", "B02")
PLACEMENTS = ("device", "cache", "stream")
SIZE = 7  # of batches, so that the last is partial


@pytest.fixture
def make(everything):
    """A loader with windows of some shards."""

    def build(subset=everything, **changes):
        settings = {"bands": BANDS, "batch_size": SIZE, "seed": 3, "window_chips": 20} | changes
        return Loader(subset, **settings)

    return build


@pytest.fixture(scope="module")
def series(tiny_catalog, tmp_path_factory):
    """The samples of a collection with three dates each, of which one is not known. Do not change it."""
    folder = tmp_path_factory.mktemp("series") / "everywhere"
    shutil.copytree(tiny_catalog / "everywhere", folder)
    before = open_cube(folder / "cube.zarr")
    spec = CubeSpec(num_samples=48, num_times=3, bands=before.bands, size_px=4, shard_size=8)
    made_by = {"recipe_hash": before.attrs["recipe_hash"]}
    shutil.rmtree(folder / "cube.zarr")
    create_cube(folder / "cube.zarr", spec, attributes=made_by)
    chips = np.random.default_rng(0).integers(1, 9999, (48, *spec.chip_shape), dtype=np.uint16)
    for shard in range(spec.num_shards):
        write_shard(folder / "cube.zarr", shard, encode_shard(spec, shard, chips[8 * shard : 8 * shard + 8]))
    seconds = np.arange(48 * 3).reshape(48, 3) * 86400 * 40
    seconds[5, 1] = UNKNOWN_TIME
    write_coordinates(folder / "cube.zarr", {"datetime": seconds})
    return load_subset(folder)


@pytest.fixture
def damaged(tiny_catalog, tmp_path):
    """A collection, one of whose shards is cut short; and that shard's number."""
    folder = tmp_path / "everywhere"
    shutil.copytree(tiny_catalog / "everywhere", folder)
    file = shard_path(folder / "cube.zarr", 4)
    file.write_bytes(file.read_bytes()[:-500])
    return load_subset(folder), 4


def rows_of(loader, epoch=0, start_batch=0):
    return [batch.rows.tolist() for batch in loader.epoch(epoch, start_batch=start_batch)]


def our_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pwcat-loader")]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_epoch_gives_every_sample_once(make, placement):
    loader = make(placement=placement)
    assert (loader.placement, loader.num_batches) == (placement, 12)
    for epoch in range(2):
        batches = rows_of(loader, epoch)
        assert [len(batch) for batch in batches] == [7] * 11 + [3]
        assert sorted(row for batch in batches for row in batch) == list(range(80))
    assert rows_of(loader, 0) != rows_of(loader, 1)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_batches_hold_the_chips_places_and_times_of_their_rows(make, everything, placement):
    for batch in make(placement=placement).epoch(3):
        assert (batch.chips.dtype, batch.chips.shape[1:]) == (torch.uint16, (1, 3, 32, 32))
        np.testing.assert_array_equal(batch.chips.numpy(), everything.read(batch.rows)[:, :, [3, 7, 1]])
        np.testing.assert_array_equal(batch.lonlat.numpy(), everything.lonlat[batch.rows])
        told = everything.columns(["datetime"])["datetime"].to_numpy()[batch.rows].astype("datetime64[s]")
        np.testing.assert_array_equal(batch.times[:, 0].numpy(), told.astype(np.int64))
        assert batch.bands.names == BANDS


def test_placements_and_numbers_of_ranks_give_the_same_global_batches(make):
    alone = rows_of(make(placement="device"), 2)
    for placement in PLACEMENTS:
        for ranks in (1, 2, 3):
            loaders = [make(placement=placement, rank=rank, world_size=ranks) for rank in range(ranks)]
            parts = zip(*(rows_of(loader, 2) for loader in loaders), strict=True)
            together = [[row for rows in of_ranks for row in rows] for of_ranks in parts]
            assert together == alone, (placement, ranks)


def test_a_last_batch_smaller_than_the_ranks_is_left_out(make):
    loaders = [make(rank=rank, world_size=4, placement="cache") for rank in range(4)]
    assert {loader.num_batches for loader in loaders} == {11}
    assert [len(rows_of(loader)) for loader in loaders] == [11] * 4
    assert make(batch_size=100, world_size=81, rank=80).num_batches == 0


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("start", [1, 5, 11, 12])
def test_an_epoch_goes_on_from_any_batch(make, placement, start):
    assert rows_of(make(placement=placement), 4, start_batch=start) == rows_of(make(placement="device"), 4)[start:]


def test_what_is_before_the_beginning_is_not_read(damaged, make):
    subset, number = damaged
    loader = make(subset, placement="cache", batch_size=4)
    size = subset.collections[0].cube.shard_size
    shards = [set(subset.index[rows] // size) for rows in rows_of_order(loader)]
    last = max(place for place, found in enumerate(shards) if number in found)
    assert last < len(shards) - 1, "the seed must leave some batches behind the damage"
    assert len(rows_of(loader, start_batch=last + 1)) == len(shards) - last - 1


def rows_of_order(loader):
    order = loader.order(0)
    return [order.rows(start, min(start + 4, len(order))) for start in range(0, len(order), 4)]


@pytest.mark.parametrize("placement", ["cache", "stream"])
def test_a_damaged_shard_ends_the_epoch_with_its_name_at_the_batch_that_wants_it(damaged, make, placement):
    subset, number = damaged
    loader = make(subset, placement=placement, batch_size=4)
    size = subset.collections[0].cube.shard_size
    hit = next(i for i, rows in enumerate(rows_of_order(loader)) if number in set(subset.index[rows] // size))
    got = []
    with pytest.raises(CubeError, match=r"shard 4 is damaged .*build again") as caught:
        got.extend(batch.rows.tolist() for batch in loader.epoch(0))
    assert got == [rows.tolist() for rows in rows_of_order(loader)[:hit]]
    assert caught.value.__cause__ is not None
    assert not our_threads()


def test_a_damaged_shard_cannot_be_held_or_measured(damaged, make):
    subset, _ = damaged
    with pytest.raises(CubeError, match="shard 4 is damaged"):
        make(subset, placement="device").fill()
    with pytest.raises(CubeError, match="shard 4 is damaged"):
        make(subset, placement="cache").measure()
    assert not our_threads()


def interrupt_in(batches):
    for _ in batches:
        raise KeyboardInterrupt


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_threads_end_with_the_iterator_wherever_it_ends(make, placement):
    loader = make(placement=placement)
    closed = loader.epoch(0)
    next(closed)
    closed.close()
    assert not our_threads()
    dropped = loader.epoch(0)
    next(dropped)
    del dropped
    gc.collect()
    assert not our_threads()
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        interrupt_in(loader.epoch(1))
    gc.collect()
    assert not our_threads()
    assert len(rows_of(loader, 1)) == 12
    assert not our_threads()


def test_batches_are_read_ahead_but_not_far(make, everything):
    loader = make(placement="cache", batch_size=1)
    began = []
    read = loader._source.read_into
    loader._source.read_into = lambda out, rows: (began.append(rows), read(out, rows))
    batches = loader.epoch(0)
    next(batches)
    deadline = time.monotonic() + 10
    while len(began) < 9 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(began) == 9  # the one in use and eight behind it
    batches.close()


def test_memory_is_used_again_and_never_while_it_is_in_use(make, everything):
    loader = make(placement="cache", batch_size=1)
    held, used = [], set()
    for batch in loader.epoch(0):
        used.add(batch.chips.data_ptr())
        if len(held) < 30:
            held.append((batch.rows, batch.chips[:, 0]))  # a view keeps what it is of
    assert len({chips.data_ptr() for _, chips in held}) == 30
    assert len(used) < 60
    for rows, chips in held:
        np.testing.assert_array_equal(chips.numpy(), read_chips(everything, rows, bands=BANDS))


def test_nothing_holds_on_to_a_batch_that_is_let_go_of(make):
    batches = make(placement="cache").epoch(0)
    seen = weakref.ref(next(batches).chips)
    gc.collect()
    assert seen() is None
    batches.close()


def test_waiting_is_counted(make):
    loader = make(placement="cache")
    assert loader.waited == 0
    rows_of(loader)
    first = loader.waited
    rows_of(loader)
    assert 0 < first < loader.waited


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_all_times_are_read_where_they_are_asked_for(series, make, placement):
    first, whole = make(series, placement=placement), make(series, placement=placement, times="all")
    chips = series.read(np.arange(48))
    for one, all_of_them in zip(first.epoch(0), whole.epoch(0), strict=True):
        np.testing.assert_array_equal(all_of_them.chips.numpy(), chips[all_of_them.rows][:, :, [3, 7, 1]])
        np.testing.assert_array_equal(one.chips.numpy(), all_of_them.chips.numpy()[:, :1])
        seconds = 86400 * 40 * (3 * all_of_them.rows[:, None] + np.arange(3))
        seconds[all_of_them.rows == 5, 1] = UNKNOWN_TIME
        np.testing.assert_array_equal(all_of_them.times.numpy(), seconds)
        np.testing.assert_array_equal(one.times.numpy(), seconds[:, :1])


def test_a_few_samples_of_each_shard_are_enough(everything, make):
    few = everything.select(np.arange(0, 80, 9))
    for placement in PLACEMENTS:
        loader = make(few, placement=placement, batch_size=100)
        (batch,) = loader.epoch(0)
        assert sorted(batch.rows) == list(range(9))
        np.testing.assert_array_equal(batch.chips[:, 0].numpy(), read_chips(few, batch.rows, bands=BANDS))


class Elsewhere(Cube):
    """A cube of files that are not ours to seek in."""


@pytest.mark.parametrize(("ram", "given_up"), [(2**40, False), (1000, True)])
def test_pages_are_given_up_only_where_memory_does_not_hold_all(make, monkeypatch, ram, given_up):
    monkeypatch.setattr("training.loading.placement.available_ram", lambda: ram)
    loader, told = make(placement="stream"), []
    for reader in loader._source._readers:
        monkeypatch.setattr(reader._chips, "advise", lambda shards, will_need: told.append((will_need, len(shards))))
    rows_of(loader)
    assert (True, 0) not in told
    assert {will_need for will_need, _ in told} == ({True, False} if given_up else {True})


def test_files_of_others_are_read_once_a_window_and_held_no_longer(tiny_catalog, make):
    subset = load_subset(tiny_catalog)
    for collection in subset.collections:
        cube = Elsewhere(collection.cube.path)
        vars(collection)["cube"] = cube
    loader = make(subset, placement="stream", batch_size=1, window_chips=8)
    readers = loader._source._readers
    fetched = []
    for reader in readers:
        read = reader._cube.read
        object.__setattr__(reader._cube, "read", lambda index, read=read: (fetched.append(len(index)), read(index))[1])
    most = 0
    for batch in loader.epoch(0):
        most = max(most, sum(len(part) for reader in readers for part, _ in reader._held.values()))
        np.testing.assert_array_equal(batch.chips[:, 0].numpy(), read_chips(subset, batch.rows, bands=BANDS))
    assert sum(fetched) == 80 + 80, "each chip by its window, and once more by this test"
    assert most <= 48  # the windows of nine batches, and the next one
    assert not any(reader._held for reader in readers)
    assert "not known" in loader.placement_reason or "asked for" in loader.placement_reason


def test_of_others_files_no_more_is_held_than_memory_allows(tiny_catalog, make, caplog, monkeypatch):
    monkeypatch.setattr("training.loading.source.HELD_BYTES", 10 * 2 * 12 * 32 * 32)
    subset = load_subset(tiny_catalog / "everywhere")
    vars(subset.collections[0])["cube"] = Elsewhere(subset.collections[0].cube.path)
    loader = make(subset, placement="stream", window_chips=24)
    for batch in loader.epoch(0):
        assert all(len(part) <= 10 for part, _ in loader._source._readers[0]._held.values())
        np.testing.assert_array_equal(batch.chips[:, 0].numpy(), read_chips(subset, batch.rows, bands=BANDS))
    assert caplog.text.count("10 can be held in memory; the others are read one by one") == 1


def test_ranks_read_no_more_of_others_files_than_is_theirs(tiny_catalog, make):
    subset = load_subset(tiny_catalog / "everywhere")
    vars(subset.collections[0])["cube"] = Elsewhere(subset.collections[0].cube.path)
    fetched = []
    for rank in range(3):
        loader = make(subset, placement="stream", rank=rank, world_size=3, batch_size=16)
        cube = loader._source._readers[0]._cube
        read = Elsewhere.read.__get__(cube)
        object.__setattr__(cube, "read", lambda index, read=read: (fetched.extend(index), read(index))[1])
        rows_of(loader)
    assert sorted(fetched) == list(range(48))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_on_a_card_batches_are_those_of_memory(make, placement):
    there, here = make(placement=placement, device="cuda"), make(placement="cache")
    for batch, same in zip(there.epoch(0), here.epoch(0), strict=True):
        assert batch.chips.device.type == batch.lonlat.device.type == batch.times.device.type == "cuda"
        for name in ("chips", "lonlat", "times"):
            np.testing.assert_array_equal(getattr(batch, name).cpu().numpy(), getattr(same, name).numpy())
        assert batch.rows.tolist() == same.rows.tolist()
    assert there.measure() == here.measure()


def test_the_subset_in_its_own_order(everything):
    batches = list(in_order(everything, bands=BANDS, block=30))
    assert [batch.rows.tolist() for batch in batches] == [[*range(30)], [*range(30, 60)], [*range(60, 80)]]
    expected = everything.read(np.arange(80))[:, :1, [3, 7, 1]]
    np.testing.assert_array_equal(np.concatenate([batch.chips.numpy() for batch in batches]), expected)
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(everything, bands=BANDS))), expected[:, 0])
    assert (batches[0].times > 0).all()
    assert not our_threads()


def test_missing_bands_are_listed_with_those_there_are(subset):
    with pytest.raises(
        TrainingError, match=r"reads bands B04, VV, B10, but the data have B01, B02.*VV, B10 are missing"
    ):
        Loader(subset, bands=("B04", "VV", "B10"), batch_size=4, seed=0)


def test_an_empty_subset_is_refused(subset):
    with pytest.raises(TrainingError, match="no samples"):
        Loader(subset.select(np.array([], dtype=np.int64)), bands=BANDS, batch_size=4, seed=0)


def test_more_ranks_than_samples_of_a_batch_are_refused(make):
    with pytest.raises(TrainingError, match=r"rank 0 of 8 cannot share batches of 7"):
        make(world_size=8)


def test_windows_of_nothing_and_batches_before_the_first_are_refused(make):
    with pytest.raises(TrainingError, match="window_chips is 0: a window is of one chip at least"):
        make(window_chips=0)
    with pytest.raises(TrainingError, match="goes on from batch 0 or a later one, not from -1"):
        make().epoch(0, start_batch=-1)


def test_the_placement_is_said_with_its_numbers(make, caplog):
    with caplog.at_level("INFO", logger="training.loader"):
        held, read = make(), make(memory_budget_mb=0.1)
    assert held.placement == "device"
    assert "80 chips, placement device: 0.5 MB of chips are within the 2.0 GB" in caplog.text
    assert read.placement == "cache"
    assert "placement cache: " in caplog.text
    assert "stored fit in 70% of the" in caplog.text
