import json
import os
import shutil
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from catalog.subset import load_subset
from pwcat.cube import shard_path
from pwcat.errors import TrainingError
from training.loader import Loader, read_chips
from training.loading.counts import LEVELS, add_counts
from training.loading.kept import kept_path, statistics_folder
from training.models.satmae import BANDS
from training.normalize import Normalization, measure, summarise, unit_of

FACTS = {"bands": ("B02", "B03"), "unit": "DN", "num_samples": 6, "data_hash": "x"}


def counts_of(*blocks):
    """Counts of some chips, (n, C, H, W) each."""
    counts = np.zeros((blocks[0].shape[1], LEVELS), dtype=np.int64)
    for block in blocks:
        add_counts(block[:, None], counts)
    return counts


@pytest.fixture
def chips():
    rng = np.random.default_rng(0)
    values = rng.integers(1, 65535, size=(6, 2, 8, 8), dtype=np.uint16)
    values[0, 0, :2] = 0
    return values


def test_counts_are_those_of_numpy(chips):
    expected = [np.bincount(chips[:, band].ravel(), minlength=LEVELS) for band in range(2)]
    np.testing.assert_array_equal(counts_of(chips), expected)


@pytest.mark.parametrize("cuts", [[], [1], [2, 3, 5]])
def test_merged_blocks_equal_numpy_on_the_whole(chips, cuts):
    found = summarise(counts_of(*np.split(chips, cuts)), **FACTS)
    for band in range(2):
        held = chips[:, band][chips[:, band] > 0].astype(np.float64)
        assert found.num_pixels[band] == len(held)
        assert found.mean[band] == pytest.approx(held.mean(), rel=1e-12)
        assert found.std[band] == pytest.approx(held.std(), rel=1e-12)
        assert found.percentiles["98"][band] == np.percentile(held, 98, method="inverted_cdf")


def test_order_and_cut_of_blocks_change_no_bit(chips):
    whole = summarise(counts_of(chips), **FACTS)
    assert summarise(counts_of(*np.split(chips[::-1], [1, 4])), **FACTS) == whole


@given(st.lists(st.integers(1, 65535), min_size=1, max_size=40), st.integers(1, 10**13))
def test_moments_are_exact_however_many_pixels_there_are(values, times):
    """Counts of a hundred thousand million pixels overflow neither the sums nor the squares."""
    counts = np.bincount(values, minlength=LEVELS)[None] * times
    found = summarise(counts, bands=("B02",), unit="DN", num_samples=1, data_hash="x")
    assert found.mean[0] == pytest.approx(np.mean(values), rel=1e-13)
    assert found.std[0] == pytest.approx(np.std(values), rel=1e-9, abs=1e-9)


def test_subset_is_measured_as_its_chips(subset):
    found = measure(subset, bands=BANDS)
    chips = read_chips(subset, np.arange(len(subset)), bands=BANDS)[:, 3].astype(np.float64)
    assert found.mean[3] == pytest.approx(chips[chips > 0].mean(), rel=1e-12)
    assert (found.data_hash, found.num_samples, found.times) == (subset.hash, len(subset), "first")
    assert found.unit == unit_of(subset) == "DN, reflectance*10000"


@pytest.mark.parametrize("placement", ["device", "cache", "stream"])
def test_every_placement_measures_the_same(everything, placement):
    loader = Loader(everything, bands=BANDS, batch_size=8, seed=0, placement=placement)
    told = []
    assert loader.measure(progress=lambda done, total: told.append((done, total))) == measure(everything, bands=BANDS)
    assert told[-1] == (80, 80)


def test_ranks_count_their_part_and_get_the_whole(everything):
    """Three ranks as three threads, whose sum is made where all of them meet."""
    meeting, given_in, found = threading.Barrier(3), {}, {}

    def run(rank):
        def add(tensor):
            given_in[rank] = tensor
            meeting.wait(30)
            total = sum(given_in.values())
            meeting.wait(30)
            return total

        loader = Loader(everything, bands=BANDS, batch_size=8, seed=0, placement="cache", rank=rank, world_size=3)
        found[rank] = loader.measure(add=add), given_in[rank].sum().item()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = measure(everything, bands=BANDS)
    assert [found[rank][0] for rank in range(3)] == [whole] * 3
    pixels = len(BANDS) * 32 * 32
    assert sorted(counted for _, counted in found.values()) == [26 * pixels, 27 * pixels, 27 * pixels]


def test_scaling_spans_two_standard_deviations(chips):
    found = summarise(counts_of(chips), **FACTS)
    low, high = (found.mean[0] - 2 * found.std[0], found.mean[0] + 2 * found.std[0])
    values = torch.tensor([0.0, found.mean[0], high, high + 9.0]).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    scaled = found.apply(values)[0, 0].flatten()
    assert scaled.tolist() == pytest.approx([max(0, -low / (high - low)), 0.5, 1, 1], abs=1e-5)
    assert found.apply(torch.from_numpy(chips)).dtype == torch.float32
    series = torch.from_numpy(chips)[:, None].expand(-1, 3, -1, -1, -1)
    assert torch.equal(found.apply(series)[:, 2], found.apply(torch.from_numpy(chips)))


def test_scaling_first_used_without_gradients_trains_later(chips):
    found = summarise(counts_of(chips), **FACTS)
    with torch.inference_mode():
        found.apply(torch.from_numpy(chips))
    weight = torch.ones((), requires_grad=True)
    (found.apply(torch.from_numpy(chips)) * weight).sum().backward()
    assert weight.grad > 0


def test_band_without_spread_stays_finite():
    found = summarise(counts_of(np.full((2, 2, 4, 4), 700, dtype=np.uint16)), **FACTS)
    assert found.std == (0, 0)
    assert torch.isfinite(found.apply(torch.full((1, 2, 4, 4), 700.0))).all()


def test_band_without_data_is_refused():
    found = summarise(counts_of(np.zeros((2, 2, 4, 4), dtype=np.uint16)), **FACTS)
    with pytest.raises(TrainingError, match="bands B02, B03 hold no data"):
        found.require_data()
    assert found.mean == found.std == (0, 0)  # a model that scales by fixed numbers can do without them


def test_json_gives_the_same_again(chips, tmp_path):
    found = summarise(counts_of(chips), **FACTS)
    found.save(tmp_path / "normalization.json")
    assert Normalization.from_json(json.loads((tmp_path / "normalization.json").read_text())) == found


def test_statistics_of_earlier_runs_are_of_first_times(chips):
    values = summarise(counts_of(chips), **FACTS).to_json()
    del values["times"]
    assert Normalization.from_json(values).times == "first"


@pytest.fixture
def own(tiny_catalog, tmp_path):
    """A collection that a test may change."""
    shutil.copytree(tiny_catalog / "everywhere", tmp_path / "everywhere")
    return load_subset(tmp_path / "everywhere")


def loader_of(subset, **changes):
    return Loader(subset, **({"bands": BANDS, "batch_size": 8, "seed": 0, "placement": "cache"} | changes))


def test_statistics_are_found_again(own, tmp_path, caplog):
    keep = tmp_path / "kept"
    first = loader_of(own).measure(keep_in=keep)
    (file,) = keep.iterdir()
    assert Normalization.from_json(json.loads(file.read_text())) == first
    with caplog.at_level("INFO", logger="training.normalize"):
        assert loader_of(own, seed=1).measure(keep_in=keep, progress=lambda *_: pytest.fail("counted again")) == first
    assert f"measured before: {file}" in caplog.text
    loader_of(own, bands=BANDS[:2]).measure(keep_in=keep)
    loader_of(own.select(np.arange(9))).measure(keep_in=keep)
    assert len(list(keep.iterdir())) == 3


def test_a_cube_that_was_built_again_is_measured_again(own, tmp_path):
    keep = tmp_path / "kept"
    loader_of(own).measure(keep_in=keep)
    path = shard_path(own.collections[0].cube.path, 2)
    payload = bytearray(path.read_bytes())
    path.unlink()
    path.write_bytes(payload)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    loader_of(own).measure(keep_in=keep)
    assert len(list(keep.iterdir())) == 2


def test_statistics_that_cannot_be_read_are_made_anew(own, tmp_path, caplog):
    first = loader_of(own).measure(keep_in=tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    file.write_text("{}")
    assert loader_of(own).measure(keep_in=tmp_path / "kept") == first
    assert "cannot be read" in caplog.text
    assert Normalization.from_json(json.loads(file.read_text())) == first


def test_one_rank_that_lacks_the_statistics_makes_all_measure(own, tmp_path):
    loader_of(own).measure(keep_in=tmp_path / "kept")
    told = []
    add = iter([lambda tensor: tensor + 1, lambda tensor: tensor])  # another rank has none; then counts, all ours
    found = loader_of(own).measure(
        keep_in=tmp_path / "kept", add=lambda tensor: next(add)(tensor), progress=lambda *at: told.append(at)
    )
    assert told[-1] == (48, 48)
    assert found == measure(own, bands=BANDS)


def test_nothing_is_kept_where_nothing_can_be_written(own, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    loader_of(own).measure(keep_in=tmp_path / "file" / "kept")
    assert "cannot be written" in caplog.text


def test_statistics_of_large_data_are_kept_in_the_users_cache(own, tmp_path, monkeypatch):
    monkeypatch.setenv("PWCAT_CACHE", str(tmp_path / "cache"))
    folder = statistics_folder(10**10)
    assert folder == tmp_path / "cache" / "statistics"
    assert statistics_folder(10**6) is None
    assert kept_path(folder, own, bands=BANDS, times="first") != kept_path(folder, own, bands=BANDS, times="all")
