"""A run: its folder, its data and its trained models. Experiments ask it for windows and models, and it keeps them.

On disk: config.toml, latents/, checkpoints/, outcomes/, measurements.json, decision.json, report.html, audio/.
"""

import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from audio_engram.codecs.base import Codec
from audio_engram.codecs.derived import base_config, check_derived, derive_codec, folder_name
from audio_engram.codecs.projected import wrappers
from audio_engram.config import CodecConfig, Config
from audio_engram.data.corpus import Corpus
from audio_engram.data.frames import Frames, load_frames, refuse_short, too_short, without_latent
from audio_engram.data.processes import World
from audio_engram.data.splits import Split
from audio_engram.data.store import LatentStore
from audio_engram.data.windows import Windows, check_length
from audio_engram.dynamics.baselines import Baseline, BaselineName, autoregressed, fit_baseline
from audio_engram.errors import UsageError
from audio_engram.measurements import Measurement, measurement
from audio_engram.models import Log, Models
from audio_engram.run_folder import claim, clear
from audio_engram.seeds import seed_for
from audio_engram.source import Source
from audio_engram.statistics import Interval, SpeakerBootstrap
from audio_engram.training_loop import History

SURROGATES: dict[str, Callable[[Frames, int], Frames]] = {
    "shuffled_within": lambda frames, seed: frames.shuffled("within", seed),
    "shuffled_across": lambda frames, seed: frames.shuffled("across", seed),
    "phase_randomised": Frames.phase_randomised,
    "autoregressed": autoregressed,
}


def to_stderr(line: str) -> None:
    """The default log."""
    print(line, file=sys.stderr, flush=True)


class Run(Models):
    """One configuration in one folder. Everything it makes is kept there and found again by `resume`.

    `overwrite` deletes the run that stands there first, and nothing that a run did not write.

    Raises:
        UsageError: if the folder holds a run of another configuration, a run and `resume` is False, or other files
            under a run's names; for an unknown device, world, corpus or codec.
        DataError: if there is no such corpus.
        MissingError: if the codec's package or weights are not there.
    """

    def __init__(
        self,
        folder: Path | str,
        config: Config,
        resume: bool = True,
        log: Log = to_stderr,
        overwrite: bool = False,
        source: Source | None = None,
    ) -> None:
        self.folder, self.config, self.log = Path(folder), config, log
        self.source = source or Source(config, self.folder / "latents", self.device)
        self.histories: dict[str, History] = {}
        self._cache: dict[tuple[Any, ...], Any] = {}
        # Whatever is wrong with these must show before anything is deleted or written.
        _ = self.corpus
        check_derived(self.base, config.codec)
        if overwrite:
            clear(self.folder)
        claim(self.folder, config, resume)

    @property
    def world(self) -> World | None:
        """The known-answer world that is the corpus, if one is."""
        return self.source.world

    @property
    def corpus(self) -> Corpus | None:
        """The recordings; a world and latents without a codec have none."""
        return self.source.corpus

    @property
    def base(self) -> Codec:
        """The frozen codec whose latents are stored."""
        return self.source.codec

    @property
    def store(self) -> LatentStore:
        """The latents of `base`, extracted on first use."""
        return self.source.store

    @property
    def split_of(self) -> dict[str, Split]:
        """The split of each speaker."""
        return self.source.split_of

    @cached_property
    def codec(self) -> Codec:
        """The codec of the latents that are measured: `base` with what the configuration derives from it."""
        seed, kept = seed_for(self.config.seed, "smoother"), self.folder / "checkpoints"
        return derive_codec(self.base, self.config.codec, self._training_latents, kept, seed)

    def _training_latents(self) -> list[Tensor]:
        latents = self.source.training_latents()
        longest = max(map(len, latents))
        if longest < self.config.codec.stack:
            raise too_short(longest)
        return latents

    @property
    def codec_name(self) -> str:
        """What the latents are called in measurements."""
        return self.codec.title

    def frames(self, data: str = "real") -> Frames:
        """The frames, or one of their surrogates: `shuffled_within` and so on."""
        return self.once(("frames", data), lambda: self._load(data))

    def _load(self, data: str) -> Frames:
        split_of = self.split_of  # first: too few speakers must show before anything is encoded
        chain = wrappers(self.codec)
        if data == "real":
            frames = load_frames(self.store, split_of, chain)
            if left_out := without_latent([u.id for u in self.store.utterances], frames.utterances):
                self.log(left_out)
            refuse_short(frames, self.config.codec.smooth)
            return frames
        if data not in SURROGATES:
            raise UsageError(f"data {data}: no such surrogate: real, {', '.join(SURROGATES)}")
        make, seed = SURROGATES[data], seed_for(self.config.seed, data)
        first = next((place for place, one in enumerate(chain) if one.mixes_frames), None)
        if first is None or data == "phase_randomised":  # which has the spectrum of the frames as they are
            return make(self.frames(), seed)
        # What mixes neighbours makes them alike, shuffled or not: the surrogate must have gone through it as well.
        return make(load_frames(self.store, split_of, chain[:first]), seed).treated(chain[first:])

    def represented(self, codec: CodecConfig) -> "Run":
        """The same speech in another representation: a run of its own, in a folder below this one.

        The same speakers are held out, with the same resamples of them. Latents are shared with representations that
        are derived from the same codec.
        """
        if codec == self.config.codec:
            return self
        below = self.folder / "representations"
        settings = self.config.experiments.model_copy(update={"representations": ()})
        config = self.config.model_copy(update={"codec": codec, "experiments": settings})
        base, source = base_config(codec), self.source
        if base != base_config(self.config.codec):
            source = Source(config, below / f"latents-{folder_name(base)}", self.device, like=self.source)
        return Run(below / folder_name(codec), config, log=self.log, source=source)

    def windows(self, split: str, steps: int, data: str = "real") -> Windows:
        """Segments of a split; for lag k, `steps = k`."""
        return self.once(
            ("windows", split, steps, data),
            lambda: Windows(self.frames(data), split, self.config.model.context, steps),
        )

    def check_length(self, split: str, steps: int, setting: str) -> None:
        """Raises: DataError naming the `setting` that asks for more steps than any utterance of the split has."""
        check_length(self.frames(), split, self.config.model.context, steps, setting)

    def baseline(self, name: BaselineName, lag: int = 1, data: str = "real") -> Baseline:
        """A trivial baseline, fitted on the training split."""
        return self.once(("baseline", name, lag, data), lambda: fit_baseline(name, self.windows("train", lag, data)))

    def held_out(self) -> frozenset[str]:
        """The test speakers that were heard, by name."""
        frames = self.frames()
        return frozenset(frames.speakers[i] for i in frames.speaker[frames.in_split("test")].unique().tolist())

    def bootstrap(self, speaker: Int[Tensor, " M"], split: str = "test") -> SpeakerBootstrap:
        """Resamples of the split's speakers: the same draws in every call, so that differences are paired.

        Only those among `speaker` are counted, since others have no frame in the figure.
        """
        frames = self.frames()
        among = frames.speaker[frames.in_split(split)].unique()
        seed = seed_for(self.config.seed, "bootstrap")
        return SpeakerBootstrap(speaker, self.config.experiments.resamples, seed, among)

    def measure(self, interval: Interval, **what: Any) -> Measurement:
        """A record of this run from an interval."""
        return measurement(interval, codec=self.codec_name, **what)

    def forget(self) -> None:
        """Let go of frames, windows and models; whoever asks for them again gets them from disk."""
        self._cache.clear()

    def once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What `make` makes, made once per run and key."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, codec={self.config.codec.name}, corpus={self.config.data.corpus})"
