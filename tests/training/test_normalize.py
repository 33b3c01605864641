import json

import numpy as np
import pytest
import torch

from pwcat.errors import TrainingError
from training.loader import read_chips
from training.models.satmae import BANDS
from training.normalize import Normalization, band_counts, measure, summarise, unit_of

FACTS = {"bands": ("B02", "B03"), "unit": "DN", "num_samples": 6, "data_hash": "x"}


@pytest.fixture
def chips():
    rng = np.random.default_rng(0)
    values = rng.integers(1, 65535, size=(6, 2, 8, 8), dtype=np.uint16)
    values[0, 0, :2] = 0
    return values


@pytest.mark.parametrize("cuts", [[], [1], [2, 3, 5]])
def test_merged_blocks_equal_numpy_on_the_whole(chips, cuts):
    found = summarise(sum(band_counts(block) for block in np.split(chips, cuts)), **FACTS)
    for band in range(2):
        held = chips[:, band][chips[:, band] > 0].astype(np.float64)
        assert found.num_pixels[band] == len(held)
        assert found.mean[band] == pytest.approx(held.mean(), rel=1e-12)
        assert found.std[band] == pytest.approx(held.std(), rel=1e-12)
        assert found.percentiles["98"][band] == np.percentile(held, 98, method="inverted_cdf")


def test_order_and_cut_of_blocks_change_no_bit(chips):
    whole = summarise(band_counts(chips), **FACTS)
    merged = summarise(sum(band_counts(block) for block in np.split(chips[::-1], [1, 4])), **FACTS)
    assert merged == whole


def test_subset_is_measured_as_its_chips(subset):
    found = measure(subset, bands=BANDS)
    chips = read_chips(subset, np.arange(len(subset)), bands=BANDS)[:, 3].astype(np.float64)
    assert found.mean[3] == pytest.approx(chips[chips > 0].mean(), rel=1e-12)
    assert (found.data_hash, found.num_samples) == (subset.hash, len(subset))
    assert found.unit == unit_of(subset) == "DN, reflectance*10000"


def test_scaling_spans_two_standard_deviations(chips):
    found = summarise(band_counts(chips), **FACTS)
    low, high = (found.mean[0] - 2 * found.std[0], found.mean[0] + 2 * found.std[0])
    values = torch.tensor([0.0, found.mean[0], high, high + 9.0]).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    scaled = found.apply(values)[0, 0].flatten()
    assert scaled.tolist() == pytest.approx([max(0, -low / (high - low)), 0.5, 1, 1], abs=1e-5)
    assert found.apply(torch.from_numpy(chips)).dtype == torch.float32


def test_band_without_spread_stays_finite():
    found = summarise(band_counts(np.full((2, 2, 4, 4), 700, dtype=np.uint16)), **FACTS)
    assert torch.isfinite(found.apply(torch.full((1, 2, 4, 4), 700.0))).all()


def test_band_without_data_is_refused():
    with pytest.raises(TrainingError, match="bands B02, B03 hold no data"):
        summarise(band_counts(np.zeros((2, 2, 4, 4), dtype=np.uint16)), **FACTS)


def test_json_gives_the_same_again(chips, tmp_path):
    found = summarise(band_counts(chips), **FACTS)
    found.save(tmp_path / "normalization.json")
    assert Normalization.from_json(json.loads((tmp_path / "normalization.json").read_text())) == found
