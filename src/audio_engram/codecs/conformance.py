"""What every codec must do before its latents are worth a measurement.

A codec that looks ahead leaks the future into "predictability"; one that answers differently in a batch,
after padding or on a second call gives latents that mean nothing.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audio_engram.audio import rms_db
from audio_engram.codecs.base import Codec
from audio_engram.codecs.check_result import CheckResult
from audio_engram.codecs.hub import HubCodec
from audio_engram.codecs.probe import Subject, delay_ms, make_subject, spectral_distance

# Relative to the standard deviation of the latents: above float32 rounding, far below any use of the future.
CHANGED = 1e-5
# Other shapes may run other kernels, whose sums round differently.
SAME = 1e-4
GAIN_DB = 6.0
GAIN_TOLERANCE_DB = 3.0
DELAY_TOLERANCE_MS = 20.0


def check_codec(codec: Codec, seed: int = 0, audio: Float[Tensor, " T"] | None = None) -> list[CheckResult]:
    """Measure a codec's conformance on synthetic signals, and its sound on `audio` as well if given."""
    subject = make_subject(codec, seed)
    look_ahead = check_look_ahead(subject)
    results = [
        look_ahead,
        check_look_back(subject),
        check_batch(subject),
        check_right_padding(subject, round((look_ahead.value or 0) / subject.frame_ms)),
        check_determinism(subject),
        check_length(subject),
        check_dtype(subject),
        check_finite(subject),
    ]
    if not codec.playable:
        note = f"tap {codec.tap!r} cannot be decoded"
        return [*results, CheckResult(name="round_trip", value=None, unit="", ok=True, note=note, judged=False)]
    results += [check_round_trip(subject, subject.audio), check_delay(subject)]
    if audio is not None:
        given = check_round_trip(subject, audio[None, None])
        results.append(given.model_copy(update={"name": "round_trip_audio"}))
    results += check_codes(subject, subject.audio if audio is None else audio[None, None])
    return [*results, check_gain(subject), check_gradient(subject)]


def check_look_ahead(subject: Subject) -> CheckResult:
    """How many frames before a change of the audio differ: none, in a causal codec."""
    n_frames = subject.latents.shape[1]
    ahead = 0
    # At the beginning, where padding by reflection shows, and before a second is over, where chunks of one show.
    starts = (1, 2, 4, 8, round(subject.codec.frame_rate) - 1, n_frames // 4, n_frames // 2, 3 * n_frames // 4)
    for start in starts:
        cut = start * subject.codec.hop
        spliced = torch.cat([subject.audio[..., :cut], subject.other[..., cut:]], -1)
        changed = (subject.difference(subject.encode(spliced))[0, :start] > CHANGED).nonzero()
        ahead = max(ahead, start - int(changed[0]) if len(changed) else 0)
    value = ahead * subject.frame_ms
    note = f"{ahead} frames" if ahead else ""
    if ahead and not subject.codec.causal:
        note = f"warning: {ahead} frames see up to {value:.4g} ms of their future; predictability is inflated"
    elif ahead:
        note = f"{ahead} frames see their future, though the codec declares itself causal"
    ok = ahead == 0 or not subject.codec.causal
    demand = "0 ms" if subject.codec.causal else "any: causal = False"
    return CheckResult(name="look_ahead", value=value, unit="ms", ok=ok, note=note, demand=demand)


def check_look_back(subject: Subject) -> CheckResult:
    """How long a change of the past is still seen; a measurement, never a failure."""
    start = subject.latents.shape[1] // 4
    cut = start * subject.codec.hop
    spliced = torch.cat([subject.other[..., :cut], subject.audio[..., cut:]], -1)
    after = subject.difference(subject.encode(spliced))[0, start:]
    changed = (after > CHANGED).nonzero()
    back = int(changed[-1]) + 1 if len(changed) else 0
    note = (
        "at least: it reaches the end of the test signal"
        if back == len(after)
        else f"{back} frame{'' if back == 1 else 's'}"
    )
    value = back * subject.frame_ms
    return CheckResult(name="look_back", value=value, unit="ms", ok=True, note=note, judged=False)


def check_batch(subject: Subject) -> CheckResult:
    """The latents of a signal must not depend on what shares its batch."""
    first = subject.encode(torch.cat([subject.audio, subject.other, torch.zeros_like(subject.audio)]))
    last = subject.encode(torch.cat([subject.other * 8, subject.audio]))
    value = max(float(subject.difference(row).max()) for row in (first[:1], last[1:]))
    return CheckResult(name="batch", value=value, unit="sd", ok=value <= SAME, demand=f"<= {SAME:g} sd")


def check_right_padding(subject: Subject, look_ahead: int) -> CheckResult:
    """Zeros after the signal must not change its latents, but for the frames that look ahead."""
    padded = subject.encode(F.pad(subject.audio, (0, 3 * subject.codec.hop + subject.codec.hop // 3)))
    kept = subject.latents.shape[1] - look_ahead
    if kept <= 0:
        note = "nothing to compare: every frame looks ahead to the end"
        return CheckResult(name="right_padding", value=None, unit="sd", ok=True, note=note, judged=False)
    value = float(subject.difference(padded)[0, :kept].max())
    return CheckResult(name="right_padding", value=value, unit="sd", ok=value <= SAME, demand=f"<= {SAME:g} sd")


def check_determinism(subject: Subject) -> CheckResult:
    """Two calls must give the same bits, unless the codec declares itself stochastic."""
    codec = subject.codec
    first, second = (codec.encode(subject.audio) for _ in range(2))
    value = _largest(first, second)
    if codec.playable:
        with torch.no_grad():
            value = max(value, _largest(codec.render(first), codec.render(first)))
    demand = "any: stochastic = True" if codec.stochastic else "0, to the bit"
    return CheckResult(name="determinism", value=value, unit="", ok=value == 0 or codec.stochastic, demand=demand)


def check_length(subject: Subject) -> CheckResult:
    """T samples must give T // hop latents, and N latents N * hop samples."""
    codec, hop = subject.codec, subject.codec.hop
    wrong = []
    for samples in (1, hop - 1, hop, hop + 1, 3 * hop + hop // 2, 10 * hop - 1, 10 * hop):
        latents = codec.encode(subject.audio[..., :samples])
        expected = (1, samples // hop, codec.latent_dim)
        if tuple(latents.shape) != expected:
            wrong.append(f"{samples} samples gave {tuple(latents.shape)} instead of {expected}")
        elif codec.playable and expected[1]:
            decoded = tuple(codec.render(latents).shape)
            if decoded != (1, 1, expected[1] * hop):
                wrong.append(f"{expected[1]} frames gave audio {decoded} instead of {(1, 1, expected[1] * hop)}")
    note = wrong[0] if wrong else ""
    return CheckResult(name="length", value=len(wrong), unit="lengths", ok=not wrong, note=note, demand="0 lengths")


def check_dtype(subject: Subject) -> CheckResult:
    """Float32 audio must give float32 latents, and those float32 audio."""
    types = {"latents": subject.latents.dtype}
    if subject.codec.playable:
        types["decoded audio"] = subject.codec.render(subject.latents).dtype
    wrong = [f"{what} of {kind}" for what, kind in types.items() if kind != torch.float32]
    note = ", ".join(wrong)
    return CheckResult(name="dtype", value=len(wrong), unit="outputs", ok=not wrong, note=note, demand="0 outputs")


def check_finite(subject: Subject) -> CheckResult:
    """Silence, a constant and full-scale noise must give finite latents and audio."""
    silence = torch.zeros_like(subject.audio)
    noise = torch.where(subject.other > 0, 1.0, -1.0)
    bad = []
    for what, audio in (("silence", silence), ("a constant", silence + 1), ("full-scale noise", noise)):
        latents = subject.encode(audio)
        outputs = [latents, subject.codec.render(latents)] if subject.codec.playable else [latents]
        if not all(bool(torch.isfinite(output).all()) for output in outputs):
            bad.append(what)
    note = f"not finite on {', '.join(bad)}" if bad else ""
    return CheckResult(name="finite", value=len(bad), unit="signals", ok=not bad, note=note, demand="0 signals")


def check_round_trip(subject: Subject, audio: Float[Tensor, "1 1 T"]) -> CheckResult:
    """Decoded audio must be nearer to its original than half the distance of the same audio out of place."""
    codec = subject.codec
    latents = subject.encode(audio)
    with torch.no_grad():
        decoded = codec.render(latents)[0, 0]
    original = audio[0, 0, : len(decoded)]
    decoded = decoded[: len(original)]
    value = float(spectral_distance(original, decoded, codec.sample_rate))
    null = float(spectral_distance(original, _displaced(decoded, codec), codec.sample_rate))
    note = f"half of {null:.4g} dB, the distance to the same audio out of place"
    demand = f"< {null / 2:.4g} dB"
    return CheckResult(name="round_trip", value=value, unit="dB", ok=value < null / 2, note=note, demand=demand)


def check_codes(subject: Subject, audio: Float[Tensor, "1 1 T"]) -> list[CheckResult]:
    """Audio decoded through the tap must be near the model's own, from its codes; nothing for a codec without codes.

    Near: less than half as far from it as the same audio out of place. A tap that is not the decoder's input fails.
    """
    codec = subject.codec
    if not isinstance(codec, HubCodec):
        return []
    audio = audio[..., : codec.n_frames(audio.shape[-1]) * codec.hop]
    with torch.no_grad():
        coded = codec.decode_codes(audio)
        decoded = codec.render(subject.encode(audio))[0, 0]
    if coded is None:
        return []
    coded, original = coded[0, 0, : len(decoded)], audio[0, 0]
    value, null, own = (
        float(spectral_distance(first, second, codec.sample_rate))
        for first, second in ((coded, decoded), (coded, _displaced(decoded, codec)), (coded, original))
    )
    note = f"half of {null:.4g} dB, the distance out of place; the codes' own to the original is {own:.4g} dB"
    demand = f"< {null / 2:.4g} dB"
    return [CheckResult(name="codes", value=value, unit="dB", ok=value < null / 2, note=note, demand=demand)]


def check_delay(subject: Subject) -> CheckResult:
    """Decoded audio must not lag behind its original."""
    with torch.no_grad():
        decoded = subject.codec.render(subject.latents)[0, 0]
    length = min(len(decoded), subject.audio.shape[-1])
    value = delay_ms(subject.audio[0, 0, :length], decoded[:length], subject.codec.sample_rate)
    demand = f"within {DELAY_TOLERANCE_MS:g} ms"
    return CheckResult(name="delay", value=value, unit="ms", ok=abs(value) <= DELAY_TOLERANCE_MS, demand=demand)


def check_gain(subject: Subject) -> CheckResult:
    """Audio 6 dB louder or softer must come back so, within 3 dB; else loudness is not in the latents."""
    levels = []
    for gain in (-GAIN_DB, 0.0, GAIN_DB):
        with torch.no_grad():
            decoded = subject.codec.render(subject.encode(subject.audio * 10 ** (gain / 20)))
        levels.append(float(rms_db(decoded[0, 0])))
    softer, louder = levels[0] - levels[1], levels[2] - levels[1]
    value = max(abs(softer + GAIN_DB), abs(louder - GAIN_DB))
    note = f"decoded {softer:+.2f} and {louder:+.2f} dB for {-GAIN_DB:+g} and {GAIN_DB:+g} dB"
    demand = f"<= {GAIN_TOLERANCE_DB:g} dB"
    return CheckResult(name="gain", value=value, unit="dB", ok=value <= GAIN_TOLERANCE_DB, note=note, demand=demand)


def check_gradient(subject: Subject) -> CheckResult:
    """A loss on decoded audio must reach every latent frame that is decoded with a finite gradient."""
    latents = subject.latents.clone().requires_grad_(True)
    audio = subject.codec.render(latents)
    # A codec may declare that neighbours hold the same sound and only the last of so many is decoded.
    every = subject.codec.decoded_every
    demand = f">= {100 / every:.4g} % of frames"
    if not audio.requires_grad:
        note = "decoded audio is cut off from the latents"
        return CheckResult(name="gradient", value=0, unit="% of frames", ok=False, note=note, demand=demand)
    (gradient,) = torch.autograd.grad(audio.square().mean(), latents)
    reached = torch.isfinite(gradient).all(-1) & (gradient != 0).any(-1)
    note = f"one frame in {every} is decoded" if every > 1 else ""
    ok = bool(reached[:, every - 1 :: every].all())
    value = 100 * float(reached.float().mean())
    return CheckResult(name="gradient", value=value, unit="% of frames", ok=ok, note=note, demand=demand)


def _displaced(audio: Float[Tensor, " T"], codec: Codec) -> Float[Tensor, " T"]:
    return audio.roll(len(audio) // 2 + codec.sample_rate // 7)


def _largest(first: Float[Tensor, "*shape"], second: Float[Tensor, "*shape"]) -> float:
    return float((first - second).abs().max().nan_to_num(nan=torch.inf))
