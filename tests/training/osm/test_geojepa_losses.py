"""The objective of GeoJEPA against values worked out by hand, and against torch's own over tokens without padding."""

import pytest
import torch
from torch.nn import functional

from training.models.geojepa_losses import distances, variance_and_covariance

SEEN = torch.tensor([[True, True, False]])


def tokens(*rows):
    """One tile, its last token padding that must not matter."""
    return torch.tensor([[*rows, [9e3] * len(rows[0])]])


def test_distances_are_means_over_tokens_and_sums_over_targets():
    guess, want = torch.tensor([[[[0.0, 2.0]]], [[[1.0, 1.0]]]]), torch.tensor([[[[0.5, 0.0]]], [[[1.0, 4.0]]]])
    seen = torch.ones(2, 1, 1, dtype=torch.bool)
    first, second = (0.5 * 0.5**2 + (2 - 0.5)) / 2, (0 + (3 - 0.5)) / 2
    assert distances(guess, want, seen, beta=1.0).tolist() == pytest.approx([first + second])
    assert distances(guess[:1], want[:1], seen[:1], beta=2.0).tolist() == pytest.approx([(0.0625 + 1) / 2])


def test_distances_of_tiles_add_up_to_those_of_all_tokens():
    torch.manual_seed(0)
    guess, want, seen = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4), torch.rand(2, 3, 5) < 0.6
    each = distances(guess, want, seen, beta=1.0)
    oracle = sum(functional.smooth_l1_loss(guess[s][seen[s]], want[s][seen[s]]) for s in range(2))
    torch.testing.assert_close(each.sum(), oracle)
    alone = (functional.smooth_l1_loss(guess, want, reduction="none").mean(-1) * seen).sum(2)
    torch.testing.assert_close(each, (alone / seen.sum(dim=(1, 2)).unsqueeze(1)).sum(0))


def test_variance_and_covariance_by_hand():
    # variances 1 and 0: what lacks to 1 is 0 and 1 - sqrt(1e-4)
    variance, covariance = variance_and_covariance([(tokens([0.0, 5.0], [2.0, 5.0]), SEEN)])
    assert variance.tolist() == pytest.approx([25 * 0.99 / 2], rel=1e-5)
    assert covariance.tolist() == [0.0]
    # of a sample both variances and the covariance are 2: twice its square, over two numbers
    variance, covariance = variance_and_covariance([(tokens([0.0, 0.0], [2.0, 2.0]), SEEN)])
    assert variance.tolist() == [0.0]
    assert covariance.tolist() == pytest.approx([4.0])


def test_terms_are_those_of_torch_over_valid_tokens():
    torch.manual_seed(1)
    x, seen = 0.3 * torch.randn(4, 7, 6), torch.rand(4, 7) < 0.5
    valid = x[seen]
    variance, covariance = variance_and_covariance([(x, seen), (x[:1], seen[:1])])
    wanted = 25 * functional.relu(1 - (valid.var(dim=0, unbiased=False) + 1e-4).sqrt()).mean()
    torch.testing.assert_close(variance[0], wanted)
    table = torch.cov(valid.T)
    torch.testing.assert_close(covariance[0], (table - table.diagonal().diag()).square().sum() / 6)
    assert covariance[1] != covariance[0]


def test_one_token_has_no_covariance_and_full_lack_of_variance():
    variance, covariance = variance_and_covariance([(torch.ones(1, 1, 3), torch.ones(1, 1, dtype=torch.bool))])
    assert variance.tolist() == pytest.approx([25 * 0.99])
    assert covariance.tolist() == [0.0]


def test_all_padding_is_nought_and_so_is_its_gradient():
    guess = torch.randn(2, 3, 4, 5, requires_grad=True)
    seen = torch.zeros(2, 3, 4, dtype=torch.bool)
    variance, covariance = variance_and_covariance([(guess[0], seen[0]), (guess[1], seen[1])])
    loss = distances(guess, torch.randn(2, 3, 4, 5), seen, beta=1.0).sum() + variance.sum() + covariance.sum()
    assert loss.item() == 0.0
    loss.backward()
    assert torch.equal(guess.grad, torch.zeros_like(guess))


def test_half_precision_does_not_reach_the_terms():
    torch.manual_seed(2)
    x, seen = torch.randn(3, 50, 8), torch.ones(3, 50, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = variance_and_covariance([(x, seen)])
    assert all(torch.equal(one, other) for one, other in zip(half, variance_and_covariance([(x, seen)]), strict=True))
