"""Sampled rollouts as sound: what the codec makes of them, beside the recordings and the codec alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram import checkpoint
from audio_engram.clips import heard
from audio_engram.cycle_error import return_error
from audio_engram.errors import UsageError
from audio_engram.experiments.listeners import SIMILARITY, Listeners
from audio_engram.experiments.outcome import Outcome
from audio_engram.experiments.trajectories import Trajectories
from audio_engram.measurements import Measurement
from audio_engram.runs import Run
from audio_engram.seeds import generator_for
from audio_engram.sound_figures import sound_figures
from audio_engram.statistics import Interval, SpeakerBootstrap
from audio_engram.trajectory_figures import quantile_figure

FILE = "rollouts.safetensors"
ORIGINAL, ROUND_TRIP, OTHER = "original", "codec round trip", "another speaker"
CONTEXT, REAL = "context", "real"


def can_be_heard(run: Run) -> bool:
    """Whether there are recordings, a decoder, and a wish to decode."""
    return run.corpus is not None and run.codec.playable and run.config.experiments.decoded > 0


@dataclass(frozen=True)
class Decoded:
    """The first few trajectories: `anchors` are stretches right after the context, `rolled` goes on for longer.

    Of every one the audio of its last stretch is measured; what comes before is decoded too, because a decoder may
    look back.
    """

    some: Trajectories
    anchors: dict[str, Float[Tensor, "B S D"]]
    rolled: dict[str, Float[Tensor, "n S2 D"]]

    def outcome(self) -> Outcome:
        """Figures of the audio and cycle errors; warnings say what has no sound.

        Raises:
            MissingError: if listeners are asked and their extra is not installed.
        """
        found = Outcome()
        self._figures(ORIGINAL, self._recorded(), self._stretch, found)
        errors: dict[str, Tensor] = {}
        lost = ""
        for name, latents in ({ROUND_TRIP: self.some.real} | self.anchors | self.rolled).items():
            sounds = self._sounds(name, latents, found)
            self._figures(name, (sound[-self._samples :] for sound in sounds), latents.shape[1], found)
            try:
                errors[name] = self._errors(latents, sounds)
            except UsageError as error:  # a codec that gives back another number of frames, or a user's that fails
                lost = f"Stability: {error}."
        if self._listeners:
            likeness = self._listeners.of_others(list(self._recorded()), self._rate)
            self._mean(OTHER, SIMILARITY, likeness, self._stretch, found)
        if lost:
            found.warnings.append(lost)
        else:
            found.measurements += self._cycle_errors(errors)
        return found

    def keep(self, words: dict[str, str]) -> None:
        """Write what is to be heard of the first trajectory into the run's folder; `words` name the rollouts."""
        parts = {CONTEXT: self.some.context, REAL: self.some.real} | self.anchors | self.rolled
        note = {"utterance": self.some.utterances[0], "words": words, "anchors": list(self.anchors)}
        checkpoint.save(self.some.run.folder / FILE, {name: z[0].clone() for name, z in parts.items()}, note)

    @property
    def _n(self) -> int:
        return min(self.some.run.config.experiments.decoded, len(self.some.context))

    @property
    def _rate(self) -> int:
        return self.some.run.codec.sample_rate

    @cached_property
    def _listeners(self) -> Listeners | None:
        run = self.some.run
        assert run.corpus is not None
        if not run.config.experiments.listeners:
            return None
        encoded = set(run.frames().utterances)  # others may be damaged
        items = [item for item in run.corpus.items if item.id in encoded]
        return Listeners(items, self.some.utterances[: self._n])

    @property
    def _stretch(self) -> int:
        return self.some.real.shape[1]

    @property
    def _samples(self) -> int:
        return self._stretch * self.some.run.codec.hop

    def _recorded(self) -> Iterator[Tensor]:
        """The recordings of the stretches."""
        run = self.some.run
        assert run.corpus is not None
        hop, rate = run.codec.hop, run.codec.sample_rate
        items, start = {item.id: item for item in run.corpus.items}, self.some.context.shape[1]
        for name in self.some.utterances[: self._n]:
            yield items[name].audio(rate)[start * hop : (start + self._stretch) * hop]

    def _sounds(self, name: str, latents: Float[Tensor, "B S D"], found: Outcome) -> list[Float[Tensor, " T"]]:
        """Every trajectory decoded, with its context; nothing where there is no sound, and why in the first."""
        run, silent, sounds = self.some.run, list[str](), list[Tensor]()
        for z in self._with_context(latents):
            audio = heard(run.codec, z, run.frames(), self.some.context.shape[1])
            if isinstance(audio, str):
                silent.append(audio)
                audio = torch.zeros(0)
            sounds.append(audio)
        if silent:
            found.warnings.append(f"Stability: {len(silent)} of {self._n} of {name} have no sound: {silent[0]}.")
        return sounds

    def _figures(self, name: str, sounds: Iterator[Tensor], step: int, found: Outcome) -> None:
        """Each figure of the sound of every trajectory."""
        of: list[dict[str, float]] = []
        for place, sound in enumerate(sounds):
            said = self._listeners.figures(place, sound, self._rate) if self._listeners else {}
            of.append(sound_figures(sound, self._rate) | said)
        for metric in of[0]:
            self._mean(name, metric, [one[metric] for one in of], step, found)

    def _mean(self, name: str, metric: str, of: list[float], step: int, found: Outcome) -> None:
        """Over the trajectories that have the figure."""
        values = torch.tensor(of, dtype=torch.float64)
        told = values.isfinite()
        interval = Interval(float("nan"), None, None, 0, 0)
        if bool(told.any()):
            interval = self._bootstrap(self.some.speaker[: self._n][told]).mean(values[told])
        found.measurements.append(self._record(name, metric, interval, step))

    def _cycle_errors(self, errors: dict[str, Float[Tensor, "n L"]]) -> list[Measurement]:
        """Medians over the frames of the last stretch, and over those of real latents."""
        real = errors[ROUND_TRIP]
        bootstrap = self._bootstrap(self.some.speaker[: self._n])
        found = []
        for place, (name, latents) in enumerate((self.anchors | self.rolled).items()):
            generator = generator_for(self.some.run.config.seed, "cycle")
            figure = quantile_figure((errors[name], real), 0.5, bootstrap, generator)
            if place == 0:
                found.append(self._record(ROUND_TRIP, "cycle_error", figure.real, self._stretch))
            found.append(self._record(name, "cycle_error", figure.generated, latents.shape[1]))
            found.append(self._record(name, "cycle_error_ratio", figure.ratio, latents.shape[1]))
        return found

    def _errors(self, latents: Float[Tensor, "B S D"], sounds: list[Tensor]) -> Float[Tensor, "n L"]:
        """Of every frame of the last stretch; NaN where there is no sound."""
        run, frames = self.some.run, self.some.run.frames()
        errors = torch.full((self._n, self._stretch), torch.nan, dtype=torch.float64)
        for row, z, sound in zip(errors, self._with_context(latents), sounds, strict=True):
            if len(sound):
                found = return_error(run.codec, sound[None, None], z[None], frames.loc, frames.scale)
                row.copy_(found[0, -self._stretch :])
        return errors

    def _with_context(self, latents: Float[Tensor, "B S D"]) -> Float[Tensor, "n S2 D"]:
        return torch.cat([self.some.context[: self._n], latents[: self._n]], dim=1)

    def _bootstrap(self, speaker: Tensor) -> SpeakerBootstrap:
        return SpeakerBootstrap(speaker, self.some.run.config.experiments.resamples, self.some.run.config.seed)

    def _record(self, model: str, metric: str, interval: Interval, step: int) -> Measurement:
        what = {"experiment": "stability", "model": model, "mode": "sampled", "step": step}
        return self.some.run.measure(interval, metric=metric, **what)
