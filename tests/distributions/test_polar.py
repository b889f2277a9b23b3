import math

import pytest
import scipy.stats
import torch
from torch.nn.functional import normalize

from audio_engram.distributions import (
    CoupledConcentration,
    LogNormal,
    LogNormalMixture,
    Magnitude,
    Polar,
    mean_resultant_length,
)

F64 = torch.float64


class Chi(Magnitude):
    """The length of a standard normal vector, from SciPy."""

    def __init__(self, dim: int, batch: int) -> None:
        super().__init__(torch.Size([batch]))
        self.dim = dim

    def log_prob(self, magnitude: torch.Tensor) -> torch.Tensor:
        return torch.tensor(scipy.stats.chi(self.dim).logpdf(magnitude.numpy()))


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("dim", [2, 3, 16, 512])
def test_uniform_direction_and_chi_length_are_the_standard_normal(dim):
    """This fails without the Jacobian -(D - 1) log m."""
    points = torch.randn(20, dim, dtype=F64, generator=torch.Generator().manual_seed(1))
    density = Polar(unit(20, dim), torch.zeros(20, dtype=F64), Chi(dim, 20))
    expected = -0.5 * points.square().sum(-1) - 0.5 * dim * math.log(2 * math.pi)
    torch.testing.assert_close(density.log_prob(points), expected, rtol=1e-12, atol=1e-10)


def test_change_of_units():
    """Lengths times c: the density on R^D falls by c^D."""
    dim, c = 7, 3.0
    loc, kappa, delta = unit(5, dim), torch.full((5,), 4.0, dtype=F64), unit(5, dim, seed=2)
    small = Polar(loc, kappa, LogNormal(torch.zeros(5, dtype=F64), torch.ones(5, dtype=F64)))
    large = Polar(loc, kappa, LogNormal(torch.full((5,), math.log(c), dtype=F64), torch.ones(5, dtype=F64)))
    torch.testing.assert_close(large.log_prob(c * delta), small.log_prob(delta) - dim * math.log(c))


def coupled(batch: int, dim: int, magnitude: Magnitude) -> Polar:
    kappa = CoupledConcentration(torch.full((batch,), 3.0, dtype=F64), torch.tensor(0.8, dtype=F64))
    return Polar(unit(batch, dim), kappa, magnitude)


def test_coupled_concentration_is_the_plain_density_at_each_length():
    magnitude = LogNormal(torch.zeros(4, dtype=F64), torch.full((4,), 0.5, dtype=F64))
    density = coupled(4, 6, magnitude)
    delta = unit(4, 6, seed=3) * torch.tensor([0.01, 0.5, 2.0, 50.0], dtype=F64)[:, None]
    kappa = math.exp(3.0) / (1 + torch.exp(-delta.norm(dim=-1) / 0.8))
    assert kappa[0] == pytest.approx(0.5 * math.exp(3), rel=0.01)
    assert kappa[-1] == pytest.approx(math.exp(3), rel=1e-9)
    torch.testing.assert_close(density.log_prob(delta), Polar(density.loc, kappa, magnitude).log_prob(delta))


@pytest.mark.parametrize("scale", [0.2, 1.0, 2.0])
def test_coupled_mean_against_a_fine_grid(scale):
    magnitude = LogNormal(torch.zeros(1, dtype=F64), torch.full((1,), scale, dtype=F64))
    density = coupled(1, 16, magnitude)
    grid = torch.linspace(-10 * scale, 12 * scale, 40_001, dtype=F64)
    m = grid.exp()
    cosine = mean_resultant_length(math.exp(3.0) * torch.sigmoid(m / 0.8), 16)
    exact = torch.trapezoid(torch.exp(magnitude.log_prob(m) + 2 * grid) * cosine, grid)
    assert density.mean.norm().item() == pytest.approx(exact.item(), rel=1e-6)


def test_magnitude_mixture_enters_typical_by_its_median():
    magnitude = LogNormalMixture(
        torch.zeros(1, 2, dtype=F64),
        torch.tensor([[0.0, 2.0]], dtype=F64),
        torch.full((1, 2), 0.1, dtype=F64),
    )
    density = Polar(unit(1, 5), torch.ones(1, dtype=F64), magnitude)
    torch.testing.assert_close(density.typical, density.loc * magnitude.median[:, None])


@pytest.mark.parametrize("select", ["where", "index"])
def test_still_frames_do_not_harm_the_others(select):
    """The gradients of a masked batch are those of the moving frames alone."""
    delta = unit(3, 4, seed=4)
    delta[1] = 0

    def gradients(rows: list[int], mask: torch.Tensor) -> list[torch.Tensor]:
        points = delta[rows].clone().requires_grad_()
        shared = [torch.tensor(x, dtype=F64, requires_grad=True) for x in (2.0, 0.1, 0.5, 0.3)]
        kappa = CoupledConcentration(shared[0].expand(len(rows)), shared[1].exp())
        magnitude = LogNormal(shared[2].expand(len(rows)), shared[3].exp().expand(len(rows)))
        value = Polar(unit(3, 4)[rows], kappa, magnitude).log_prob(points)
        loss = torch.where(mask, value, 0).sum() if select == "where" else value[mask].sum()
        found = torch.autograd.grad(loss, [*shared, points])
        return [*found[:-1], found[-1][mask]]

    with_still = gradients([0, 1, 2], torch.tensor([True, False, True]))
    alone = gradients([0, 2], torch.tensor([True, True]))
    for got, expected in zip(with_still, alone, strict=True):
        torch.testing.assert_close(got, expected)


def test_a_still_frame_has_no_density():
    density = Polar(unit(2, 4), torch.ones(2), LogNormal(torch.zeros(2), torch.ones(2)))
    values = density.log_prob(torch.stack([torch.zeros(4), torch.ones(4)]))
    assert values.isnan().tolist() == [True, False]


@pytest.mark.parametrize("kappa", [0.0, 1e-6, 1e8])
@pytest.mark.parametrize("dim", [2, 2048])
def test_extremes_are_finite(kappa, dim):
    density = Polar(unit(2, dim).float(), torch.full((2,), kappa), LogNormal(torch.zeros(2), torch.full((2,), 0.5)))
    draws = density.sample((10,), torch.Generator().manual_seed(0))
    for value in (density.log_prob(draws), density.log_prob(1e-18 * draws), density.mean, density.typical):
        assert torch.isfinite(value).all()
