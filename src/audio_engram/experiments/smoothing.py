"""Does smoothing the latents make their directions more predictable, and what does the decoder lose by it?"""

import torch
from torch import Tensor

from audio_engram.codecs.probe import spectral_distance
from audio_engram.config import CodecConfig
from audio_engram.decision import Criterion, Finding, decisive
from audio_engram.experiments.outcome import Outcome, looking_ahead, show
from audio_engram.measurements import Measurement
from audio_engram.metrics import predictor, score
from audio_engram.runs import Run
from audio_engram.statistics import Interval, SpeakerBootstrap

DATA = ("real", "shuffled_within")
ALLOWED = 1.05
WORTH = 3.0  # dB; what the learned smoother may spend at most
MIN_SAMPLES = 4000

QUESTION = "Does smoothing make directions more predictable at little cost to the sound?"
CRITERION = Criterion(
    experiment="smoothing",
    question=QUESTION,
    metric="cosine_gain",
    relation="above",
    threshold=0.0,
    reason="The direction cosine of smoothed latents minus that of raw ones, less the same difference on shuffled "
    "frames that were smoothed alike: averaging makes neighbours alike, whatever they are. The distortion ratio must "
    f"be below {ALLOWED} as well.",
)
SOUND = Criterion(
    experiment="smoothing",
    question=QUESTION,
    metric="distortion_ratio",
    relation="below",
    threshold=ALLOWED,
    reason=f"The decoded sound may be at most {ALLOWED - 1:.0%} further from the recording than the codec's own "
    "(log-spectral distance). The gain in cosine must be above 0 as well.",
)


def smoothing(run: Run) -> Outcome:
    """Cosines and distortion of raw latents, 3 and 5 taps, the hybrid and, where there is sound, a learned smoother."""
    outcome = Outcome()
    raw: _Variant | None = None
    ahead: list[str] = []
    for codec in variants(run):
        other = run.represented(codec)
        run.log(f"smoothing: {other.codec.title}")
        one = _Variant(other)
        outcome.measurements += one.measurements()
        raw = raw or one
        if one is not raw:
            gained = one.gain_over(raw)
            worse = one.distortion_over(raw)
            outcome.measurements += [gained, *([worse] if worse else [])]
            outcome.findings.append(_judge(one.title, one.cosine(), gained, worse))
        if not other.codec.causal:
            ahead.append(other.codec.title)
        if other is not run:
            other.forget()
    outcome.warnings += looking_ahead(ahead)
    return outcome


def variants(run: Run) -> list[CodecConfig]:
    """The latents without smoothing, then the ways to smooth them."""
    raw = run.config.codec.model_copy(update={"smooth": 1, "hybrid": False, "smoother": 0.0})
    changes: list[dict[str, object]] = [{"smooth": 3}, {"smooth": 5}, {"smooth": 3, "hybrid": True}]
    if run.base.playable:
        changes.append({"smoother": WORTH})
    return [raw, *(raw.model_copy(update=change) for change in changes)]


class _Variant:
    """The cosines of one way to smooth, on real and on shuffled frames, and what its sound has lost."""

    def __init__(self, run: Run) -> None:
        self.run, self.title = run, run.codec.title
        self.records: list[Measurement] = []
        self.cosines = {data: self._cosines(data) for data in DATA}
        self.distortion = distortions(run)

    def measurements(self) -> list[Measurement]:
        """Cosines of both kinds of data, and the distortion in dB."""
        found = self.records
        if self.distortion is not None:
            values, b = self.distortion
            found = [*found, self._record("spectral_distance", b.mean(values), "codec")]
        return found

    def cosine(self) -> Measurement:
        """The head's direction cosine on real frames."""
        of_head = (r for r in self.records if r.metric == "direction_cosine" and r.model == "vmf" and r.data == "real")
        return next(of_head)

    def gain_over(self, raw: "_Variant") -> Measurement:
        """The gain in cosine beyond what shuffled frames gain."""
        found = [one.cosines[data] for data in DATA for one in (self, raw)]
        mine, theirs, mine_null, theirs_null = (cosines for cosines, _ in found)
        b, *others = (bootstrap for _, bootstrap in found)
        gained = b.interval(mine - theirs - (mine_null - theirs_null), len(b.index), *others)
        return self._record("cosine_gain", gained, "vmf")

    def distortion_over(self, raw: "_Variant") -> Measurement | None:
        """Distance to the recording relative to that of the raw latents' sound."""
        if self.distortion is None or raw.distortion is None:
            return None
        (mine, b), (theirs, _) = self.distortion, raw.distortion
        return self._record("distortion_ratio", b.ratio(mine, theirs), "codec")

    def _cosines(self, data: str) -> tuple[Tensor, SpeakerBootstrap]:
        run = self.run
        windows = run.windows("test", 1, data)
        index = windows.with_valid_target()
        ar1 = predictor(run.baseline("ar1", 1, data), False)
        for name, predict in (("ar1", ar1), ("vmf", predictor(run.model("vmf", 1, data), False))):
            scores = score(predict, windows, index, ar1)
            b = run.bootstrap(scores.speaker)
            self.records.append(self._record("direction_cosine", b.mean(scores.cosine), name, data))
            if name == "vmf":
                self.records.append(self._record("innovation_cosine", b.mean(scores.innovation_cosine), name, data))
        return b.ratios(scores.cosine, torch.ones_like(scores.cosine)), b

    def _record(self, metric: str, interval: Interval, model: str, data: str = "real") -> Measurement:
        return self.run.measure(interval, experiment="smoothing", model=model, metric=metric, data=data)


def distortions(run: Run) -> tuple[Tensor, SpeakerBootstrap] | None:
    """Log-spectral distance [dB] of one decoded utterance of each test speaker to its recording; None without sound."""
    if run.corpus is None or not run.codec.playable:
        return None
    items = {item.id: item for item in run.corpus.items}
    frames, codec = run.frames(), run.codec
    most = round(run.config.experiments.audio_seconds * codec.frame_rate)
    seen: dict[int, float] = {}
    for place, name in enumerate(frames.utterances):
        start, end = int(frames.offsets[place]), int(frames.offsets[place + 1])
        speaker = int(frames.speaker[start])
        n = min(most, end - start)
        if not frames.in_split("test")[start] or speaker in seen or n * codec.hop < MIN_SAMPLES:
            continue
        z = frames.z[start : start + n] * frames.scale + frames.loc
        with torch.no_grad():
            heard = codec.render(z[None].to(run.device))[0, 0].cpu()
        original = items[name].audio(codec.sample_rate)[: len(heard)]
        seen[speaker] = float(spectral_distance(original, heard[: len(original)], codec.sample_rate))
    values = torch.tensor(list(seen.values()), dtype=torch.float64)
    return values, run.bootstrap(torch.tensor(list(seen)))


def _judge(title: str, cosine: Measurement, gained: Measurement, worse: Measurement | None) -> Finding:
    """Both must hold, more cosine than the null and a sound that is near enough: the finding is of what decided."""
    nothing = gained.model_copy(update=_UNHEARD)
    criterion, measured = decisive([(CRITERION, gained), (SOUND, worse or nothing)])
    lost = f"distance to the recording {show(worse)} times the codec's own" if worse else "its sound was not measured"
    return Finding(
        criterion=criterion,
        measured=measured,
        verdict=criterion.judge(measured),
        cause=criterion.cause(measured),
        words=f"{title}: direction cosine {show(cosine)}, which is {show(gained)} more than raw latents beyond "
        f"what shuffled ones gain; {lost}.",
        would_change="A smoother that the decoder was trained with.",
    )


_UNHEARD = {"model": "codec", "metric": "distortion_ratio", "value": None, "low": None, "high": None, "n_frames": 0}
