"""Predicted opinions and voices of sounds whose order is known: the real models of the extra."""

import math
import sys

import pytest
import torch

from audio_engram.errors import MissingError
from audio_engram.perception import Listener

RATE = 16_000
TIME = torch.arange(3 * RATE) / RATE


def voice(pitch, tilt=1.0):
    """Harmonics under two formants, in syllables of 4 Hz."""
    sound = torch.zeros(len(TIME))
    for k in range(1, int(4000 / pitch)):
        f = k * pitch
        weight = math.exp(-(((f - 500 * tilt) / 200) ** 2)) + 0.5 * math.exp(-(((f - 1500 * tilt) / 300) ** 2)) + 0.01
        sound += weight * torch.sin(2 * math.pi * f * TIME)
    return 0.05 * sound * (1 + torch.sin(8 * math.pi * TIME))


@pytest.fixture(scope="module")
def listener():
    return Listener()


def test_noise_is_worth_less_than_a_voice_and_both_are_on_the_scale(listener):
    noise = 0.1 * torch.randn(len(TIME), generator=torch.Generator().manual_seed(0))
    opinions = [listener.opinion(sound, RATE) for sound in (noise, voice(120))]
    assert 1 <= opinions[0] < opinions[1] <= 5


def test_an_opinion_is_that_of_the_package(listener):
    from speechmos import dnsmos

    loud = 40 * voice(120)
    assert listener.opinion(loud, RATE) == pytest.approx(float(dnsmos.run(loud.clamp(-1, 1).numpy(), RATE)["ovrl_mos"]))


def test_a_voice_is_like_itself_whatever_its_level_and_rate_and_less_like_another(listener):
    one, louder, other = (listener.voice(s, RATE) for s in (voice(110), 4 * voice(110), voice(230, 1.3)))
    assert float(one.norm()) == pytest.approx(1, abs=1e-5)
    assert float(one @ louder) == pytest.approx(1, abs=1e-4)
    assert float(one @ other) < 0.9
    halved = listener.voice(voice(110)[::2], RATE // 2)
    assert float(one @ halved) > 0.95


@pytest.mark.parametrize(
    "sound", [torch.zeros(0), voice(110)[: RATE - 1], torch.zeros(2 * RATE), voice(110) + math.nan], ids=str
)
def test_what_cannot_be_heard_has_no_figure(listener, sound):
    assert math.isnan(listener.opinion(sound, RATE))
    found = listener.voice(sound, RATE)
    assert found.shape == (256,)
    assert bool(found.isnan().all())


@pytest.mark.parametrize("package", ["speechmos", "resemblyzer"])
def test_without_the_extra_the_remedy_is_told(package, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingError, match=rf"experiments.listeners needs {package}.*pip install -e '.\[metrics\]'"):
        Listener()
