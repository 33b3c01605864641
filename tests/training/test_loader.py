import threading

import numpy as np
import pytest
import torch

from pwcat.errors import TrainingError
from training.loader import Loader, read_chips

BANDS = ("B04", "B08")
STREAM = {"memory_budget_mb": 1e-6, "window_chips": 20}


def rows_of(loader, epoch=0, start_batch=0):
    return [batch.rows.tolist() for batch in loader.epoch(epoch, start_batch=start_batch)]


@pytest.mark.parametrize("placement", ["memory", "stream"])
def test_every_epoch_gives_every_sample_once(everything, placement):
    loader = Loader(everything, bands=BANDS, batch_size=7, seed=0, **(STREAM if placement == "stream" else {}))
    assert loader.placement == placement
    for epoch in range(2):
        batches = rows_of(loader, epoch)
        assert [len(batch) for batch in batches] == [7] * 11 + [3]
        assert sorted(row for batch in batches for row in batch) == list(range(80))
    assert rows_of(loader, 0) != rows_of(loader, 1)


@pytest.mark.parametrize("limits", [{}, STREAM], ids=["memory", "stream"])
def test_batches_hold_the_chips_of_their_rows(everything, limits):
    loader = Loader(everything, bands=BANDS, batch_size=7, seed=0, **limits)
    for batch in loader.epoch(3):
        assert batch.chips.dtype == torch.uint16
        np.testing.assert_array_equal(batch.chips[:, 0].numpy(), read_chips(everything, batch.rows, bands=BANDS))


@pytest.mark.parametrize("limits", [{}, STREAM], ids=["memory", "stream"])
@pytest.mark.parametrize("start", [1, 5, 11])
def test_an_epoch_goes_on_from_any_batch(everything, limits, start):
    first, second = (Loader(everything, bands=BANDS, batch_size=7, seed=3, **limits) for _ in range(2))
    assert rows_of(second, 4, start_batch=start) == rows_of(first, 4)[start:]


def test_streaming_takes_whole_shards_shuffled_in_windows(subset):
    size = subset.collections[0].cube.shard_size
    assert size <= 8, "this test wants several shards a window"
    loader = Loader(subset, bands=BANDS, batch_size=5, seed=0, **STREAM)
    windows = loader.order(0)
    assert len(windows) > 1
    assert all(len(window) >= 20 for window in windows[:-1])
    shards = [set(subset.column("pwcat:index")[window] // size) for window in windows]
    assert sum(map(len, shards)) == len(set().union(*shards)) == -(-48 // size)  # no shard is in two windows
    assert (np.diff(windows[0] // size) != 0).sum() > len(shards[0])  # mixed within the window, not shard after shard
    assert [window.tolist() for window in loader.order(1)] != [window.tolist() for window in windows]


def test_the_reading_thread_ends_with_the_iterator(subset):
    batches = Loader(subset, bands=BANDS, batch_size=4, seed=0).epoch(0)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pwcat-loader")]


def test_missing_bands_are_listed_with_those_there_are(subset):
    with pytest.raises(
        TrainingError, match=r"reads bands B04, VV, B10, but the data have B01, B02.*VV, B10 are missing"
    ):
        Loader(subset, bands=("B04", "VV", "B10"), batch_size=4, seed=0)


def test_an_empty_subset_is_refused(subset):
    with pytest.raises(TrainingError, match="no samples"):
        Loader(subset.select(np.array([], dtype=np.int64)), bands=BANDS, batch_size=4, seed=0)


def test_the_placement_is_logged(subset, caplog):
    with caplog.at_level("INFO", logger="training.loader"):
        Loader(subset, bands=BANDS, batch_size=4, seed=0)
        Loader(subset, bands=BANDS, batch_size=4, seed=0, **STREAM)
    assert "held in memory" in caplog.text
    assert "streamed, 20 shuffled at a time" in caplog.text
