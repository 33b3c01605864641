import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from training.models.harmonics import Harmonics, spherical_harmonics

# Of the released weights' basis, at a place of theirs (the repository's example): facts of the release.
GOLDEN_PLACE = (-87.6298, 41.8781)
GOLDEN = [
    0.886226925452758, 0.36348594939440054, -1.0246795621946738, -0.01504519508312529, -0.02502734371075034,
    -0.5425691992759157, 0.33377263838622884, 0.022457702870775625, -0.3018073931985375,
]  # fmt: skip


def places(*lonlat):
    return torch.tensor(lonlat, dtype=torch.float64)


def anywhere(count, seed=0):
    rng = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    return torch.from_numpy(np.column_stack([rng.uniform(-180, 180, count), lat]))


def textbook(lonlat, degrees):
    """SciPy's complex harmonics made real, as the released basis has them: no Condon-Shortley sign, pi on m = 0."""
    phi, theta = np.radians(lonlat[:, 0].numpy() + 180), np.radians(lonlat[:, 1].numpy() + 90)
    columns = []
    for degree in range(degrees):
        for m in range(-degree, degree + 1):
            y = sph_harm_y(degree, abs(m), theta, phi) * (-1) ** m
            columns.append(math.pi * y.real if m == 0 else math.sqrt(2) * (y.imag if m < 0 else y.real))
    return np.column_stack(columns)


def test_the_released_basis_is_met():
    basis = spherical_harmonics(places(GOLDEN_PLACE), degrees=3)
    assert basis.shape == (1, 9)
    assert basis.dtype == torch.float64
    np.testing.assert_allclose(basis[0].numpy(), GOLDEN, rtol=0, atol=1e-12)


def test_the_textbooks_basis_is_another():
    place = places(GOLDEN_PLACE)
    released, plain = (spherical_harmonics(place, degrees=3, zonal=zonal)[0] for zonal in (math.pi, 1.0))
    differs = (released != plain).tolist()
    assert [column for column, other in enumerate(differs) if other] == [0, 2, 6]
    assert released[0].item() == pytest.approx(math.sqrt(math.pi) / 2, abs=1e-15)


def test_all_degrees_below_40_agree_with_scipy():
    lonlat = anywhere(200)
    ours = spherical_harmonics(lonlat, degrees=40).numpy()
    assert ours.shape == (200, 1600)
    np.testing.assert_allclose(ours, textbook(lonlat, 40), rtol=0, atol=5e-13)


@pytest.mark.parametrize("degrees", [40, 300])
def test_the_squares_of_a_degree_add_up(degrees):
    """Unsöld's theorem: at any place, the squares of the 2 l + 1 orthonormal harmonics sum to (2 l + 1) / 4 pi."""
    lonlat = torch.cat([anywhere(20), places((0, 90), (0, -90), (12, 89.9999), (180, 0), (-180, 45))])
    squares = spherical_harmonics(lonlat, degrees=degrees, zonal=1.0).square()
    for degree in range(degrees):
        total = squares[:, degree**2 : (degree + 1) ** 2].sum(1)
        torch.testing.assert_close(total, torch.full_like(total, (2 * degree + 1) / (4 * math.pi)), rtol=1e-11, atol=0)


def test_the_plain_basis_is_orthonormal():
    nodes, weights = np.polynomial.legendre.leggauss(24)
    lon = np.arange(48) * 7.5 - 180
    grid = np.stack(np.meshgrid(lon, np.degrees(np.arcsin(nodes))), axis=-1).reshape(-1, 2)
    area = np.repeat(weights, 48) * 2 * math.pi / 48
    basis = spherical_harmonics(torch.from_numpy(grid), degrees=12, zonal=1.0).numpy()
    np.testing.assert_allclose((basis * area[:, None]).T @ basis, np.eye(144), atol=1e-13)


@pytest.mark.parametrize("degrees", [1, 2, 10, 40, 120])
def test_poles_are_finite_and_have_no_longitude(degrees):
    for latitude in (90.0, -90.0):
        basis = spherical_harmonics(places((-180, latitude), (0, latitude), (77.7, latitude)), degrees=degrees)
        assert torch.isfinite(basis).all()
        torch.testing.assert_close(basis[1:], basis[:1].expand(2, -1), rtol=0, atol=1e-12)
        zonal = [degree * (degree + 1) for degree in range(degrees)]  # columns of order 0
        assert (basis[0].abs() > 1e-12).nonzero().flatten().tolist() == zonal


def test_the_antimeridian_is_no_seam():
    east, west = (spherical_harmonics(places((lon, 12.5), (lon, -70)), degrees=40) for lon in (180, -180))
    torch.testing.assert_close(east, west, rtol=0, atol=1e-11)


def test_places_are_independent_of_each_other():
    lonlat, harmonics = anywhere(50), Harmonics(10)
    whole = harmonics(lonlat)
    one_by_one = torch.cat([harmonics(place) for place in lonlat.split(1)])
    torch.testing.assert_close(one_by_one, whole, rtol=0, atol=1e-14)


def test_a_module_has_no_weights_to_save():
    harmonics = Harmonics(10)
    assert harmonics.width == 100
    assert not harmonics.state_dict()
    assert not list(harmonics.parameters())


def test_compiled_agrees_with_eager():
    harmonics, lonlat = Harmonics(4), anywhere(30)
    compiled = torch.compile(harmonics, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(lonlat), harmonics(lonlat), rtol=0, atol=1e-14)
