"""Moving averages, hybrids and the learned smoother."""

import pytest
import torch
import torch.nn.functional as F

from audio_engram.codecs.conformance import check_codec
from audio_engram.codecs.mel import MelCodec
from audio_engram.codecs.projected import Stacked
from audio_engram.codecs.smoothed import Hybrid, Smoothed
from audio_engram.codecs.smoother import LearnedSmoother, fit_smoother
from audio_engram.codecs.soundless import Soundless
from audio_engram.errors import DataError, NumericalError, UsageError
from sample_codec import SampleCodec


def noise(n: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, n, dim, generator=torch.Generator().manual_seed(seed))


def plain(dim: int = 8) -> Soundless:
    return Soundless("latents", 12.5, dim)


@pytest.mark.parametrize("taps", [3, 5])
def test_a_straight_line_stays_and_noise_loses_its_variance(taps: int) -> None:
    codec = Smoothed(plain(), taps)
    line = torch.arange(40.0)[None, :, None].expand(1, 40, 8)
    inside = slice(taps // 2, -(taps // 2))
    torch.testing.assert_close(codec.project(line)[:, inside], line[:, inside])
    smooth = codec.project(noise(20_000))
    # Standard error of a variance of 160,000 correlated numbers: about 0.4 % x sqrt(taps); 5 sd.
    assert float(smooth.var()) == pytest.approx(1 / taps, rel=0.03)
    lagged = (smooth[:, 1:] * smooth[:, :-1]).mean() / smooth.var()
    assert float(lagged) == pytest.approx((taps - 1) / taps, rel=0.03)


def test_every_tap_weighs_the_same_and_the_ends_repeat() -> None:
    codec = Smoothed(plain(1), 3)
    given = torch.tensor([3.0, 6.0, 0.0, 9.0])[None, :, None]
    assert codec.project(given).flatten().tolist() == pytest.approx([4.0, 3.0, 5.0, 6.0])
    assert codec.project(given[:, :1]).flatten().tolist() == [3.0]
    assert codec.project(given[:, :0]).shape == (1, 0, 1)


def test_a_hybrid_has_raw_magnitudes_and_smoothed_directions() -> None:
    raw, codec = noise(200), Hybrid(plain(), 3)
    made = codec.project(raw)
    torch.testing.assert_close(made[:, 0], raw[:, 0])
    steps, smooth = made.diff(dim=1), codec.__class__.__mro__[1](plain(), 3).project(raw).diff(dim=1)
    torch.testing.assert_close(steps.norm(dim=2), raw.diff(dim=1).norm(dim=2), rtol=1e-4, atol=1e-4)
    assert float(F.cosine_similarity(steps, smooth, dim=2).min()) > 1 - 1e-4
    assert codec.title == "latents 12.5 Hz · hybrid 3"


@pytest.mark.parametrize("taps", [0, 1, 2, 4])
def test_an_average_has_an_odd_number_of_taps(taps: int) -> None:
    with pytest.raises(UsageError, match="3, 5, 7"):
        Smoothed(plain(), taps)


@pytest.mark.parametrize("taps", [3, 5])
def test_smoothed_mel_conforms_and_looks_ahead(taps: int) -> None:
    codec = Smoothed(Stacked(MelCodec(100, iterations=8), 2), taps)
    results = {result.name: result for result in check_codec(codec)}
    # Mel frames smoothed over 100 ms are a blur: how they sound is measured by the experiment `smoothing`.
    assert {name for name, result in results.items() if not result.ok} <= {"round_trip", "gain", "delay"}
    assert results["look_ahead"].value == taps // 2 * 20


def speech(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(200, 32, generator=generator)


def acceleration(z: torch.Tensor) -> float:
    return float(z.diff(n=2, dim=-2).square().mean())


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    from audio_engram.codecs.probe import spectral_distance

    return float(spectral_distance(first.flatten(), second.flatten(), 16000))


def test_a_learned_smoother_trades_acceleration_for_distortion_at_the_price_asked() -> None:
    utterances, test = [speech(s) for s in range(4)], speech(9)[None]
    found = []
    for worth in (0.5, 20.0):
        codec = fit_smoother(LearnedSmoother(SampleCodec(), worth), utterances, seed=0)
        smooth = codec.project(test)
        found.append((acceleration(smooth) / acceleration(test), distance(test, smooth)))
    (little, near), (much, far) = found
    assert much < little < 1.01
    assert far > near
    # Worth 20 dB, acceleration must fall by more than the distortion costs.
    assert 20 * much + far < 20


def test_a_learned_smoother_is_the_same_from_the_same_seed() -> None:
    utterances = [speech(s) for s in range(2)]
    first, second, other = (fit_smoother(LearnedSmoother(SampleCodec(), 5.0), utterances, s) for s in (0, 0, 1))
    assert torch.equal(first.project(speech()[None]), second.project(speech()[None]))
    assert not torch.equal(first.project(speech()[None]), other.project(speech()[None]))
    assert first.title == "samples 500 Hz · learned smoother 5 dB"


def test_training_a_smoother_is_not_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("audio_engram.codecs.smoother.STEPS", 3)
    monkeypatch.setattr("audio_engram.codecs.smoother.SAID_EVERY", 2)
    fit_smoother(LearnedSmoother(SampleCodec(), 1.0), [speech()], seed=0)
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", ["train smoother: step 1/3", "train smoother: step 3/3"])


def test_a_smoother_needs_sound_and_long_utterances() -> None:
    with pytest.raises(UsageError, match="cannot be decoded"):
        LearnedSmoother(plain(), 1.0)
    with pytest.raises(DataError, match="no training utterance has 32 frames"):
        fit_smoother(LearnedSmoother(SampleCodec(), 1.0), [speech()[:20]], 0)


class _Thorny(SampleCodec):
    """Has no gradient wherever the first latent of a batch lies above a value."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        thorn = torch.where(latents[:1, :1, :1] > self.bound, torch.nan, 0.0)
        if latents.requires_grad:
            latents.register_hook(lambda gradient: gradient + thorn)
        return super().decode(latents)


def test_a_batch_without_a_gradient_is_left_out_and_many_are_an_error() -> None:
    # A latent of 0.1 standard deviation lies above 0.25 in one of 160 batches, above 0 in every second.
    utterances = [speech(s) for s in range(4)]
    codec = fit_smoother(LearnedSmoother(_Thorny(0.25), 5.0), utterances, seed=0)
    assert all(bool(values.isfinite().all()) for values in codec.last.parameters())
    assert acceleration(codec.project(speech(9)[None])) < acceleration(speech(9)[None])
    with pytest.raises(NumericalError, match=r"no finite sound or gradient in 21 of \d+ steps"):
        fit_smoother(LearnedSmoother(_Thorny(0.0), 5.0), utterances, seed=0)
