"""R² of log m where E[log m] is a mean over draws: what the draws err is no error of the model."""

import sys

import pytest
import torch
from torch import nn

from audio_engram.config import make_config
from audio_engram.distributions import DiagonalGaussianMixture
from audio_engram.dynamics.model import DynamicsModel
from audio_engram.experiments.magnitude import magnitude
from audio_engram.metrics import expected_log_magnitude, predictor
from audio_engram.runs import Run
from toys import make_frames

module = sys.modules[magnitude.__module__]
D, LAG = 2, 2
LOG_SCALE = torch.tensor([0.5, 1.5], dtype=torch.float64).log()


def law(n):
    """Two Gaussians around 0, the wider in a quarter of all steps; the same in every context."""
    logits = torch.tensor([0.75, 0.25], dtype=torch.float64).log()
    loc = torch.zeros(n, 2, D, dtype=torch.float64)
    return DiagonalGaussianMixture(logits.expand(n, 2), loc, LOG_SCALE[:, None].expand(n, 2, D))


class Exact(DynamicsModel):
    """The law that the frames were drawn from."""

    def __init__(self):
        nn.Module.__init__(self)
        self.free = nn.Parameter(torch.zeros(()))

    def forward(self, context, utterance=None):
        return law(len(context))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Walks whose steps are independent, so that nothing tells of the next magnitude."""
    config = {"data": {"corpus": "world:noise"}, "model": {"context": 2}, "device": "cpu"}
    run = Run(tmp_path_factory.mktemp("run"), make_config(config), log=lambda line: None)
    steps = law(40).sample((4000,), torch.Generator().manual_seed(0))
    run._cache["frames", "real"] = make_frames(list(steps.cumsum(0).unbind(1)), ["train", "test"] * 20)
    run._cache["model", f"mdn-lag{LAG}"] = Exact()
    return run


def test_the_draws_for_an_expected_magnitude_do_not_lower_its_r2(run):
    """R² is 0. The mean of 32 draws has 1/32 of the variance v of log m, which would be taken from it.

    Of N = 80,000 frames, whose draws are the same in every batch of 256, the mean of 2 (log m - E) (error of E) has the
    deviation v √(4 / 32 N), that of error² less its estimate at most v √(2.2 / 32² 256): together 0.0032 v. The bound
    of 1/64 lies five of them from 0 and from -1/32: squares are skewed, and either side fails by chance once in 10^5 at
    most; the seed is fixed.
    """
    found = next(m for m in module._measure(run, "mdn", LAG) if m.metric == "magnitude_r2")
    windows = run.windows("test", LAG)
    index = windows.with_valid_target()
    expected, _ = expected_log_magnitude(predictor(Exact(), False), windows, index)
    log_m = windows.increments(index).norm(dim=1).log()
    drawn = 1 - float((log_m - expected).square().sum() / (log_m - module._training_mean(windows)).square().sum())
    assert found.n_frames > 79_000
    assert drawn < -1 / 64
    assert abs(found.value) < 1 / 64
