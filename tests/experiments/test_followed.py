"""Rollouts that are followed piece by piece are those that would not fit into memory at once, and nothing else."""

from importlib import import_module

import pytest
import torch

from audio_engram.config import make_config
from audio_engram.data.processes import World
from audio_engram.distributions import DiagonalGaussian
from audio_engram.experiments.followed import Wanted, follow
from audio_engram.experiments.trajectories import find_trajectories
from audio_engram.manifold import Manifold, ManifoldOptions
from audio_engram.runs import Run
from audio_engram.score.correction import Langevin

MODULE = import_module("audio_engram.experiments.trajectories")
B, S, D = 9, 83, 3
WANTED = Wanted(ends=(20, 55, 83), stretch=20, beginning=(5, 30))


@pytest.fixture(scope="module")
def span():
    noise = torch.randn(50, 30, D, generator=torch.Generator().manual_seed(0))
    return Manifold(noise, ManifoldOptions(hold=5)).range


@pytest.fixture(scope="module")
def rollouts():
    """Rows that live, drift away, freeze, and leave the finite numbers."""
    z = torch.randn(B, S, D, generator=torch.Generator().manual_seed(1))
    z[1] += torch.linspace(0, 30, S)[:, None]
    z[2, 40:] = z[2, 40]
    z[3, 17:] = torch.nan
    z[4, 55, 1] = torch.inf
    z[5, 0] = torch.nan
    return z


def in_pieces(z, lengths, rows):
    return [list(torch.split(some, lengths, dim=1)) for some in z.split(rows)]


@pytest.mark.parametrize("rows", [B, 4, 1])
@pytest.mark.parametrize("lengths", [[S], [40, 43], [1, 2, 1, 3, 13, 63], [1] * S])
def test_pieces_tell_what_the_whole_tells(span, rollouts, lengths, rows):
    found = follow(in_pieces(rollouts, lengths, rows), WANTED, span)
    whole = span.diverge(rollouts)
    assert set(whole.why()) > {"", "not finite", "far"}
    for field in ("frames", "diverged", "cause"):
        assert torch.equal(getattr(found.divergence, field), getattr(whole, field))
    assert found.steps == S
    assert found.finite.tolist() == [S, S, S, 17, 55, 0, S, S, S]
    for end in WANTED.ends:
        torch.testing.assert_close(found.stretches[end], rollouts[:, end - 20 : end], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(found.beginning, rollouts[:5, :30], rtol=0, atol=0, equal_nan=True)


class Turning(torch.nn.Module):
    """Reads two frames, so that a piece must begin with both."""

    def forward(self, context):
        loc = 0.3 * (context[:, -1] - context[:, -2]) - 0.2 * context[:, -1]
        return DiagonalGaussian(loc, torch.full_like(loc, 0.5))


@pytest.fixture
def some(tmp_path, monkeypatch):
    monkeypatch.setattr(World, "utterances_per_speaker", 1)
    monkeypatch.setattr(World, "frames", 60)
    settings = {"stretch_seconds": 2.5, "resamples": 1000}
    config = {"device": "cpu", "data": {"corpus": "world:noise:12"}, "model": {"context": 2}, "experiments": settings}
    return find_trajectories(Run(tmp_path, make_config(config), log=lambda line: None))


def corrector():
    return Langevin(lambda noisy, sigma, context: 0.9 * noisy, 0.5, 0.01, 2, torch.Generator().manual_seed(2))


@pytest.mark.parametrize("steps_at_once", [1, 7, 49])
def test_draws_do_not_depend_on_how_much_is_made_at_once(some, monkeypatch, steps_at_once):
    whole = some.sampled(Turning(), 50, "test", corrector())
    rows, _, dim = some.context.shape
    monkeypatch.setattr(MODULE, "PIECE", steps_at_once * rows * dim + 1)
    sizes = [z.shape[1] for pieces in some.batches(Turning(), 50, "test") for z in pieces]
    assert sum(sizes) == 50
    assert max(sizes) == steps_at_once
    assert torch.equal(some.sampled(Turning(), 50, "test", corrector()), whole)
