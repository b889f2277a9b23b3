"""Each check fails for the codec that breaks its rule, and for no other."""

import pytest
import torch
from torch import Tensor

from audio_engram.codecs.base import Codec, CodecConfig, load_codec
from audio_engram.codecs.check_result import HEADER, MEASURES, CheckResult, format_checks, without_sound
from audio_engram.codecs.conformance import check_codec
from audio_engram.codecs.probe import delay_ms, spectral_distance, speech_like

RATE = 16000


class Frames(Codec):
    """The samples of 10 ms are the latent: it satisfies every check exactly."""

    name = "frames"
    sample_rate = RATE
    frame_rate = 100.0
    latent_dim = 160

    def analyse(self, audio: Tensor) -> Tensor:
        return audio.reshape(audio.shape[0], -1, 160)

    def decode(self, latents: Tensor) -> Tensor:
        return latents.reshape(latents.shape[0], 1, -1)


def later(latents: Tensor, frames: int) -> Tensor:
    """The latents of `frames` later (earlier if negative), zeros beyond the ends."""
    before, after = max(-frames, 0), max(frames, 0)
    padded = torch.nn.functional.pad(latents, (0, 0, before, after))
    return padded[:, after : after + latents.shape[1]]


class LeaksFuture(Frames):
    def analyse(self, audio: Tensor) -> Tensor:
        latents = super().analyse(audio)
        return latents + 1e-3 * later(latents, 5)


class ReflectsTheStart(Frames):
    def analyse(self, audio: Tensor) -> Tensor:
        latents = super().analyse(audio)
        is_first = (torch.arange(latents.shape[1]) == 0)[:, None]
        return latents + 0.1 * is_first * later(latents, 1)


class NormalisesSeconds(Frames):
    causal = False

    def analyse(self, audio: Tensor) -> Tensor:
        seconds = super().analyse(audio).split(100, 1)
        return torch.cat([x / (x.square().mean((1, 2), keepdim=True) + 1e-6) for x in seconds], 1)

    def decode(self, latents: Tensor) -> Tensor:
        seconds = latents.split(100, 1)
        return super().decode(torch.cat([x / (x.square().mean((1, 2), keepdim=True) + 1e-6) for x in seconds], 1))


class LeaksWholeUtterance(Frames):
    causal = False

    def analyse(self, audio: Tensor) -> Tensor:
        return super().analyse(audio) * (0.9 + 1e-2 * audio.square().mean((1, 2), keepdim=True))


class LooksAheadOpenly(LeaksFuture):
    causal = False


class LooksBack(Frames):
    def analyse(self, audio: Tensor) -> Tensor:
        latents = super().analyse(audio)
        return latents + 0.1 * later(latents, -4)


class DependsOnBatch(Frames):
    def analyse(self, audio: Tensor) -> Tensor:
        latents = super().analyse(audio)
        return latents - 1e-2 * latents.mean(0)


class BreaksInBatch(Frames):
    def analyse(self, audio: Tensor) -> Tensor:
        latents = super().analyse(audio)
        return latents if len(audio) == 1 else latents * torch.nan


class DependsOnLength(Frames):
    def analyse(self, audio: Tensor) -> Tensor:
        return super().analyse(audio) * (1 + 0.5 / audio.shape[-1] ** 0.1)


class Noisy(Frames):
    def analyse(self, audio: Tensor) -> Tensor:
        return super().analyse(audio) + 1e-4 * torch.randn(())


class OpenlyNoisy(Noisy):
    stochastic = True


class NoisyDecoder(Frames):
    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents) + 1e-6 * torch.randn(())


class ExtraFrame(Frames):
    def analyse(self, audio: Tensor) -> Tensor:
        latents = super().analyse(audio)
        return torch.cat([latents, latents[:, -1:]], 1)


class ShortDecoder(Frames):
    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents)[..., :-1]


class DoubleLatents(Frames):
    def analyse(self, audio: Tensor) -> Tensor:
        return super().analyse(audio).double()


class DoubleAudio(Frames):
    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents).double()


class BreaksOnSilence(Frames):
    def analyse(self, audio: Tensor) -> Tensor:
        latents = super().analyse(audio)
        energy = latents.square().sum(-1, keepdim=True)
        return latents * (energy / energy)


class MirrorsSpectrum(Frames):
    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents * (1 - 2 * (torch.arange(160) % 2)))


class LateDecoder(Frames):
    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents.roll(3, 1))


class LosesLoudness(Frames):
    def decode(self, latents: Tensor) -> Tensor:
        audio = super().decode(latents)
        return audio * (0.05 / (audio.detach().square().mean().sqrt() + 1e-9))


class BadGradient(Frames):
    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents + (0 * latents).sqrt())


class CutGradient(Frames):
    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents.detach())


class DecodesEveryOther(Frames):
    decoded_every = 2

    def decode(self, latents: Tensor) -> Tensor:
        mask = (torch.arange(latents.shape[1]) % 2)[:, None]
        return super().decode(latents * mask + latents.detach() * (1 - mask))


class IgnoresAFrame(Frames):
    def decode(self, latents: Tensor) -> Tensor:
        mask = torch.ones(latents.shape[1], 1)
        mask[7:8] = 0
        return super().decode(latents * mask)


BROKEN = [
    (LeaksFuture, "look_ahead"),
    (ReflectsTheStart, "look_ahead"),
    (DependsOnBatch, "batch"),
    (BreaksInBatch, "batch"),
    (DependsOnLength, "right_padding"),
    (Noisy, "determinism"),
    (NoisyDecoder, "determinism"),
    (ExtraFrame, "length"),
    (ShortDecoder, "length"),
    (DoubleLatents, "dtype"),
    (DoubleAudio, "dtype"),
    (BreaksOnSilence, "finite"),
    (MirrorsSpectrum, "round_trip"),
    (LateDecoder, "delay"),
    (LosesLoudness, "gain"),
    (BadGradient, "gradient"),
    (CutGradient, "gradient"),
    (IgnoresAFrame, "gradient"),
]


def failures(results: list[CheckResult]) -> list[str]:
    return [result.name for result in results if not result.ok]


def named(results: list[CheckResult], name: str) -> CheckResult:
    return next(result for result in results if result.name == name)


@pytest.mark.parametrize(("kind", "rule"), BROKEN)
def test_a_broken_codec_fails_its_own_check_alone(kind: type[Codec], rule: str) -> None:
    assert failures(check_codec(kind())) == [rule]


def test_every_check_that_can_fail_has_a_broken_codec() -> None:
    names = {result.name for result in check_codec(Frames())}
    assert names == {rule for _, rule in BROKEN} | {"look_back"}


@pytest.mark.parametrize(
    "kind",
    [
        Frames,
        LooksBack,
        OpenlyNoisy,
        LooksAheadOpenly,
        LeaksWholeUtterance,
        NormalisesSeconds,
        DecodesEveryOther,
    ],
)
def test_a_codec_that_says_what_it_does_passes(kind: type[Codec]) -> None:
    assert failures(check_codec(kind())) == []


def test_look_ahead_and_look_back_are_measured_in_milliseconds() -> None:
    assert named(check_codec(Frames()), "look_ahead").value == 0
    assert named(check_codec(Frames()), "look_back").value == 0
    assert named(check_codec(LooksBack()), "look_back").value == 40
    open_leak = named(check_codec(LooksAheadOpenly()), "look_ahead")
    assert open_leak.value == 50
    assert "warning" in open_leak.note


def test_a_leak_through_the_whole_utterance_reaches_the_first_frame() -> None:
    # The last of the altered places lies 2250 ms in; the very first frames are too quiet to show a gain.
    value = named(check_codec(LeaksWholeUtterance()), "look_ahead").value
    assert value is not None
    assert 2100 < value <= 2250


def test_chunks_of_a_second_show_their_whole_look_ahead() -> None:
    assert named(check_codec(NormalisesSeconds()), "look_ahead").value == 990


def test_frames_declared_to_repeat_the_same_sound_need_no_gradient() -> None:
    gradient = named(check_codec(DecodesEveryOther()), "gradient")
    assert (gradient.value, gradient.note) == (50, "one frame in 2 is decoded")
    assert gradient.demand == ">= 50 % of frames"


def test_sound_of_random_weights_is_measured_and_not_judged() -> None:
    results = without_sound(check_codec(MirrorsSpectrum()) + check_codec(LeaksFuture()), "random weights")
    assert failures(results) == ["look_ahead"]
    unjudged = [result for result in results if not result.judged and result.name != "look_back"]
    assert {result.name for result in unjudged} == {"round_trip", "delay", "gain"}
    assert all(result.value is not None and "not judged: random weights" in result.note for result in unjudged)
    assert {result.verdict for result in unjudged} == {"-"}


def test_a_tap_that_cannot_be_decoded_is_not_asked_to() -> None:
    codec = Frames()
    codec.playable = False
    results = check_codec(codec)
    assert failures(results) == []
    assert named(results, "round_trip").value is None
    assert "gradient" not in [result.name for result in results]


def test_given_audio_gets_its_own_round_trip() -> None:
    speech = speech_like(RATE, RATE, torch.Generator().manual_seed(5))
    assert named(check_codec(Frames(), audio=speech), "round_trip_audio").value == pytest.approx(0, abs=1e-9)


def test_the_same_seed_gives_the_same_results_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (check_codec(load_codec(CodecConfig(options={"iterations": 2})), seed=3) for _ in range(2))
    assert first == second
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_stochastic_codec_is_measured_with_the_seeds_noise() -> None:
    first = check_codec(OpenlyNoisy(), seed=3)
    torch.randn(7)  # the global generator has moved on
    second = check_codec(OpenlyNoisy(), seed=3)
    assert named(first, "gain") == named(second, "gain")
    assert named(first, "round_trip") == named(second, "round_trip")


def cells(table: str) -> list[list[str]]:
    """The table's rows, cut where its header's words begin."""
    header, *lines = table.partition("\n\n")[0].splitlines()
    starts = [header.index(word) for word in HEADER]
    return [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for line in lines]


def test_the_table_says_of_each_check_what_is_measured_demanded_and_found() -> None:
    results = check_codec(LeaksFuture())
    table = format_checks(results)
    rows = {row[0]: row[1:] for row in cells(table)}
    assert list(rows) == [result.name for result in results]
    assert rows["look_ahead"][:4] == [MEASURES["look_ahead"], "50 ms", "0 ms", "FAILED"]
    assert rows["look_back"][1:4] == ["0 ms", "any", "-"]
    assert rows["batch"][1:4] == ["0 sd", "<= 0.0001 sd", "ok"]
    assert rows["determinism"][1:4] == ["0", "0, to the bit", "ok"]
    assert rows["dtype"][1:4] == ["0 outputs", "0 outputs", "ok"]
    assert rows["gradient"][1:4] == ["100 % of frames", ">= 100 % of frames", "ok"]
    assert [name for name, row in rows.items() if row[3] == "FAILED"] == ["look_ahead"]
    assert "sd: standard deviations of the latents" in table.splitlines()[-1]


def test_what_is_declared_is_no_demand() -> None:
    assert named(check_codec(LooksAheadOpenly()), "look_ahead").demand == "any: causal = False"
    assert named(check_codec(OpenlyNoisy()), "determinism").demand == "any: stochastic = True"


def test_every_judged_check_has_a_demand_and_every_name_a_meaning() -> None:
    speech = speech_like(RATE, RATE, torch.Generator().manual_seed(5))
    results = check_codec(Frames(), audio=speech)
    assert [result.name for result in results if result.judged and not result.demand] == []
    assert {result.name for result in results} | {"codes"} == set(MEASURES)


def test_delay_is_found_with_its_sign() -> None:
    speech = speech_like(3 * RATE, RATE, torch.Generator().manual_seed(1))
    for delay in (-50, 0, 35):
        assert delay_ms(speech, speech.roll(delay * RATE // 1000), RATE) == delay


def test_spectral_distance_of_a_gain_is_the_gain() -> None:
    speech = torch.randn(RATE, generator=torch.Generator().manual_seed(1))
    assert float(spectral_distance(speech, speech * 2, RATE)) == pytest.approx(6.0206, abs=1e-3)
    assert float(spectral_distance(speech, speech, RATE)) == 0
