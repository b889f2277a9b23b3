"""Directions as frames: which increment each one is of, their density, and a chain of them that is known."""

import pytest
import torch

from audio_engram.config import ModelConfig, TrainConfig
from audio_engram.data.windows import Windows
from audio_engram.distributions import LogNormal, Polar, VonMisesFisher, mean_resultant_length
from audio_engram.dynamics.directions import (
    NextDirection,
    direction_frames,
    directions,
    measure_direction_start,
)
from audio_engram.dynamics.model import make_model
from audio_engram.forcing import free_running, teacher_forcing
from audio_engram.rollout import RolloutOptions, rollout
from audio_engram.train import fit
from toys import make_frames, walk

DIM, KAPPA = 4, 20.0
TURN = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(5)))[0]


def unit(*shape, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=-1)


def chain(n, seed, follow=True):
    """A walk of steps of random length whose directions turn by a fixed rotation, or are independent."""
    generator = torch.Generator().manual_seed(seed)
    u = [unit(1, DIM, seed=seed)[0].float()]
    for _ in range(n - 1):
        towards, kappa = (TURN @ u[-1], KAPPA) if follow else (u[-1], 0.0)
        u.append(VonMisesFisher(towards, torch.tensor(kappa)).sample(generator=generator))
    m = torch.exp(0.5 * torch.randn(n, 1, generator=generator))
    return (m * torch.stack(u)).cumsum(0)


def chains(follow=True):
    splits = ["train"] * 6 + ["validation"] * 2
    return make_frames([chain(300, seed, follow) for seed in range(8)], splits)


def test_each_frame_is_the_direction_of_its_increment():
    z = [walk(6, 3, 1), walk(1, 3, 2), walk(4, 3, 3)]
    z[0][3] = z[0][2]  # digital silence
    frames = make_frames(z, ["train", "train", "test"], [0, 0, 1])
    found = direction_frames(frames)
    assert found.offsets.tolist() == [0, 5, 8]
    assert found.utterances == ("u0", "u2")  # a single frame has no increment
    assert found.speaker.tolist() == [0] * 5 + [1] * 3
    assert found.in_split("test").tolist() == [False] * 5 + [True] * 3
    assert found.moving.tolist() == [True, True, False, True, True] + [True] * 3
    want = torch.nn.functional.normalize(z[0].diff(dim=0), dim=1)
    torch.testing.assert_close(found.z[:5][found.moving[:5]], want[found.moving[:5]])
    assert found.z[2].tolist() == [0.0] * 3
    assert found.loc is frames.loc


def test_windows_of_directions_are_those_of_latents():
    """W frames of context hold W - 1 directions, and the same increment comes next."""
    frames = make_frames([walk(20, 3, s) for s in range(3)], ["train", "train", "test"])
    latents, of_directions = Windows(frames, "train", 4, 1), Windows(direction_frames(frames), "train", 3, 1)
    assert len(latents) == len(of_directions)
    index = torch.arange(len(latents))
    one, other = latents.gather(index), of_directions.gather(index)
    torch.testing.assert_close(directions(one.context), other.context)
    torch.testing.assert_close(torch.nn.functional.normalize(one.delta[:, 0], dim=1), other.future[:, 0])
    assert torch.equal(one.speaker, other.speaker)


def test_increments_of_no_length_have_no_direction():
    z = torch.tensor([[[0.0, 0], [0, 0], [3, 4], [3, 4.001]]])
    torch.testing.assert_close(directions(z)[0, :2], torch.tensor([[0.0, 0], [0.6, 0.8]]))
    assert directions(z, least=0.01)[0, 2].tolist() == [0.0, 0.0]
    z.requires_grad_()
    directions(z).sum().backward()
    assert z.grad.isfinite().all()


def test_its_density_is_that_of_the_direction_it_leads_to():
    loc, last, next_one = unit(3, 5, DIM)
    kappa = torch.linspace(1, 50, 5, dtype=torch.float64)
    found = NextDirection(VonMisesFisher(loc, kappa), last).log_prob(next_one - last)
    torch.testing.assert_close(found, VonMisesFisher(loc, kappa).log_prob(next_one))
    # With a law of the length and the Jacobian it is the density of an increment.
    law, m = LogNormal(torch.zeros(5), torch.ones(5)), torch.linspace(0.5, 3, 5)
    whole = Polar(loc, kappa, law).log_prob(m[:, None] * next_one)
    torch.testing.assert_close(found + law.log_prob(m) - (DIM - 1) * m.double().log(), whole)


def test_draws_are_directions_around_the_mean():
    """20,000 draws: the mean cosine is off by 4 standard errors in 6e-5 of seeds."""
    loc, last = unit(2, 1, DIM)
    found = NextDirection(VonMisesFisher(loc, torch.tensor([KAPPA])), last)
    n, generator = torch.Size([20_000]), torch.Generator().manual_seed(0)
    for draw in (found.sample(n, generator), found.rsample(n, generator)):
        reached = last + draw
        torch.testing.assert_close(reached.norm(dim=-1), torch.ones(n).unsqueeze(1).double())
        cosine = (reached * loc).sum(-1)
        want = float(mean_resultant_length(torch.tensor(KAPPA), DIM))
        assert float(cosine.mean()) == pytest.approx(want, abs=4 * float(cosine.std()) / 20_000**0.5)
    torch.testing.assert_close(last + found.typical, loc)
    torch.testing.assert_close(last + found.mean, want * loc, atol=1e-6, rtol=0)


@pytest.mark.parametrize("follow", [True, False])
def test_a_known_chain_is_learned_and_noise_is_not(follow):
    """Held out, nobody is better than the truth but by luck: 600 directions of sd about 1.2 nats, 4 errors are 0.2."""
    windows = tuple(Windows(direction_frames(chains(follow)), split, 2, 1) for split in ("train", "validation"))
    start = measure_direction_start(windows[0])
    # Of a rotation what stays in each dimension is its diagonal.
    torch.testing.assert_close(start.last, TURN.diagonal() if follow else torch.zeros(DIM), atol=0.15, rtol=0)
    model = make_model("direction", ModelConfig(context=2, width=32, dropout=0.0), start, 0)
    train = TrainConfig(epochs=12, batch_size=64, learning_rate=3e-3, weight_decay=0.0, precision="float32")
    best = fit(model, windows, train, 0).best
    true = VonMisesFisher(torch.eye(DIM)[0], torch.tensor(KAPPA if follow else 0.0)).entropy()
    assert -0.2 < best - float(true) < 0.25


def test_free_running_stays_on_the_sphere_and_teacher_forcing_is_vectorised():
    windows = Windows(direction_frames(chains()), "train", 2, 5)
    model = make_model("direction", ModelConfig(context=2, width=8), measure_direction_start(windows), 0).double()
    segment = windows.gather(torch.arange(6))
    context, future = segment.context.double(), segment.future.double()
    with torch.no_grad():
        options = RolloutOptions("sample", generator=torch.Generator().manual_seed(1))
        free = rollout(model, context, free_running(50), options=options)
        torch.testing.assert_close(free.latents.norm(dim=2), torch.ones(6, 50).double())
        forced = rollout(model, context, teacher_forcing(5), future)
        whole = torch.cat([context, future], dim=1)
        for step in range(5):
            want = model(whole[:, step : step + 2]).log_prob(future[:, step] - whole[:, step + 1])
            torch.testing.assert_close(forced.log_probs[:, step], want)
