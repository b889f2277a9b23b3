"""Walks whose magnitudes follow from the directions around them, or from nothing."""

from math import e, log, pi, sqrt

import torch

from audio_engram.config import ModelConfig
from audio_engram.data.windows import Windows
from audio_engram.dynamics.baselines import fit_baseline
from audio_engram.dynamics.heads import measure_start
from audio_engram.dynamics.magnitudes import MagnitudeModel
from toys import make_frames

DIM, NOISE, FAR = 4, 0.1, 2.0
STEPS = 24


def walk_of(n, seed, told):
    """log m_t = first coordinate of the next direction + half of the second of the one before + noise, or noise of as
    large a spread. Directions are uniform, but point inward where the walk is far out."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.nn.functional.normalize(torch.randn(n + 2, DIM, generator=generator), dim=1)
    noise = torch.randn(n, generator=generator)
    u, z, frames = [drawn[0], drawn[1]], torch.zeros(DIM), []
    for t in range(n):
        outward = float(z.norm()) > FAR and float(z @ drawn[t + 2]) > 0
        u.append(-drawn[t + 2] if outward else drawn[t + 2])
        log_m = u[t + 2][0] + 0.5 * u[t][1] + NOISE * noise[t] if told else sqrt(1.25 / DIM + NOISE**2) * noise[t]
        z = z + log_m.exp() * u[t + 1]
        frames.append(z)
    return torch.stack(frames)


def windows_of(told, n=400):
    splits = ["train"] * 8 + ["validation"] * 4
    frames = make_frames([walk_of(n, seed, told) for seed in range(12)], splits)
    return tuple(Windows(frames, split, 4, STEPS) for split in ("train", "validation"))


def entropy(spread):
    """Of a log-normal with E[log m] = 0 [nats]."""
    return 0.5 * log(2 * pi * e * spread**2)


def magnitude_model(windows, width=24, **config):
    at_one = Windows(windows[0].frames, "train", 4, 1)
    start = measure_start(at_one, fit_baseline("ar1", at_one))
    model = MagnitudeModel(ModelConfig(context=4, width=width, dropout=0.0, **config), start)
    model.initialise(0)
    return model.eval()
