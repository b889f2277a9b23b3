"""Where sampled rollouts start, what they are held against, and the rollouts themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio_engram import numbers
from audio_engram.controls import gaussian_frames, shuffled_frames, slow_but_correct, stationary
from audio_engram.data.frames import Frames
from audio_engram.dynamics.drawn_residuals import DrawnResiduals
from audio_engram.dynamics.model import DynamicsModel
from audio_engram.errors import DataError
from audio_engram.forcing import free_running, teacher_forcing
from audio_engram.manifold import Manifold, ManifoldOptions, Traits
from audio_engram.rollout import Corrector, Forward, RolloutOptions, rollout
from audio_engram.runs import Run
from audio_engram.seeds import generator_for, seed_for
from audio_engram.statistics import SpeakerBootstrap

HOLD_SECONDS = 2.0  # that a departure must last to be a divergence
MOST_TRAINING = 1024  # stretches
BATCH = 64
PIECE = 2**25  # numbers that a piece of a batch of rollouts has at most


@dataclass(frozen=True)
class Trajectories:
    """Contexts of held-out utterances, the stretch of true frames after each, the frames of the whole utterance, its
    name, the split, and the place of the first frame in the flat array."""

    run: Run
    context: Float[Tensor, "B W D"]
    real: Float[Tensor, "B S D"]
    whole: list[Tensor]
    speaker: Int[Tensor, " B"]
    utterances: list[str]
    split: str
    starts: Int[Tensor, " B"]

    @cached_property
    def features(self) -> Float[Tensor, "B F"]:
        """What each utterance is like without the stretch (`Segment.utterance`)."""
        windows = self.run.windows(self.split, self.real.shape[1])
        return windows.gather(torch.searchsorted(windows.starts, self.starts)).utterance

    @cached_property
    def bootstrap(self) -> SpeakerBootstrap:
        """Over the speakers that have a trajectory."""
        return SpeakerBootstrap(self.speaker, self.run.config.experiments.resamples, self.run.config.seed)

    @cached_property
    def manifold(self) -> Manifold:
        """What stretches of training speakers are like."""
        frames, n = self.run.frames(), self.real.shape[1]
        cuts = [part for z in _utterances(frames, "train") for part in z.split(n) if len(part) == n]
        if len(cuts) < 2:
            raise DataError(
                f"train split: {len(cuts)} stretches of {n} frames: use longer audio, or lower "
                "experiments.stretch_seconds"
            )
        every = -(-len(cuts) // MOST_TRAINING)
        hold = max(2, round(HOLD_SECONDS * self.run.codec.frame_rate))
        return Manifold(torch.stack(cuts[::every]), ManifoldOptions(hold=hold, seed=self.run.config.seed))

    @cached_property
    def real_traits(self) -> Traits:
        """What the real stretches are held by."""
        return self.manifold.traits(self.real)

    @property
    def counted(self) -> str:
        """`the 24 sampled rollouts`."""
        return f"the {numbers.plural(len(self.context), 'sampled rollout')}"

    @property
    def fewer(self) -> str:
        """How many were asked for, in a sentence where there are fewer: no more utterances are long enough."""
        asked = self.run.config.experiments.trajectories
        seconds = (self.context.shape[1] + self.real.shape[1]) / self.run.codec.frame_rate
        told = f" {asked} rollouts were asked for, but no more held-out utterances last {seconds:.1f} s."
        return told if len(self.context) < asked else ""

    def sampled(
        self, model: Forward, steps: int, name: str, corrector: Corrector | None = None
    ) -> Float[Tensor, "B S D"]:
        """Free-running rollouts that draw every increment, a few trajectories at a time; one name, the same draws."""
        batches = self.batches(model, steps, name, corrector)
        return torch.cat([torch.cat(list(pieces), dim=1) for pieces in batches])

    def batches(
        self, model: Forward, steps: int, name: str, corrector: Corrector | None = None
    ) -> Iterator[Iterator[Float[Tensor, "_ _ D"]]]:
        """The same a few trajectories at a time, each batch in pieces that go on where the one before ended.

        Memory holds one piece and not hours of latents; the draws are those of the whole.
        """
        generator = torch.Generator(self.run.device).manual_seed(seed_for(self.run.config.seed, name))
        reads = isinstance(model, DynamicsModel | DrawnResiduals) and model.n_features
        for rows in torch.arange(len(self.context)).split(BATCH):
            told = self.features[rows].to(self.run.device) if reads else None
            options = RolloutOptions("sample", corrector, generator, utterance=told)
            yield _pieces(model, self.context[rows].to(self.run.device), steps, options)

    def anchors(self, model: Forward) -> dict[str, Float[Tensor, "B S D"]]:
        """Stretches whose faults are known: one-step draws from true contexts, and true frames ill-treated."""
        generator = generator_for(self.run.config.seed, "anchors")
        draws = torch.Generator(self.run.device).manual_seed(seed_for(self.run.config.seed, "anchors"))
        start, device, frames = self.context[:, -1], self.run.device, self.run.frames()
        known = frames.z[frames.in_split("train")]
        with torch.no_grad():
            forced = rollout(
                model,
                self.context.to(device),
                teacher_forcing(self.real.shape[1]),
                self.real.to(device),
                RolloutOptions("sample", generator=draws),
            )
        return {
            "teacher-forced": forced.latents.cpu(),
            "shuffled frames": shuffled_frames(self.real, generator),
            "Gaussian frames": gaussian_frames(self.real, known, generator_for(self.run.config.seed, "Gaussian")),
            "half magnitude": slow_but_correct(start, self.real, 0.5),
            "standing still": stationary(start, self.real),
        }


def _pieces(
    model: Forward, context: Float[Tensor, "B W D"], steps: int, options: RolloutOptions
) -> Iterator[Float[Tensor, "B _ D"]]:
    size = max(1, PIECE // context[:, 0].numel())
    for start in range(0, steps, size):
        # Not as a decorator: around an annotated generator it ends before the first piece is asked for.
        with torch.no_grad():
            latents = rollout(model, context, free_running(min(size, steps - start)), options=options).latents
        context = torch.cat([context, latents], dim=1)[:, -context.shape[1] :].clone()
        yield latents.cpu()


def find_trajectories(run: Run, split: str = "test") -> Trajectories:
    """The longest utterances of a split, as many of each speaker; contexts are their first frames.

    Raises:
        DataError: if fewer than two speakers have one that is long enough.
    """
    settings, context = run.config.experiments, run.config.model.context
    stretch = stretch_frames(run)
    frames = run.frames()
    chosen = _longest(frames, split, context + stretch, settings.trajectories)
    if len({speaker for speaker, _, _ in chosen}) < 2:
        raise DataError(
            f"{split} split: no two speakers have {context + stretch} frames ({context} of context + {stretch} for "
            "experiments.stretch_seconds): use longer audio or more speakers, or lower it"
        )
    cut = [z[: context + stretch] for _, z, _ in chosen]
    places = [place for _, _, place in chosen]
    return Trajectories(
        run,
        torch.stack([z[:context] for z in cut]),
        torch.stack([z[context:] for z in cut]),
        [z for _, z, _ in chosen],
        torch.tensor([speaker for speaker, _, _ in chosen]),
        [frames.utterances[place] for place in places],
        split,
        frames.offsets[places],
    )


def stretch_frames(run: Run) -> int:
    """Frames in a stretch: what is asked for, and no fewer than a divergence can be seen in."""
    rate = run.codec.frame_rate
    least = max(2, round(HOLD_SECONDS * rate)) + ManifoldOptions().window
    return max(least, round(run.config.experiments.stretch_seconds * rate))


def _longest(frames: Frames, split: str, least: int, most: int) -> list[tuple[int, Tensor, int]]:
    """Speaker, frames and number of utterances with at least so many: every speaker's longest, then second, ..."""
    of_speaker: dict[int, list[tuple[Tensor, int]]] = {}
    inside = frames.in_split(split)
    for place, z in enumerate(frames.z.split(frames.offsets.diff().tolist())):
        start = int(frames.offsets[place])
        if len(z) >= least and bool(inside[start]):
            of_speaker.setdefault(int(frames.speaker[start]), []).append((z, place))
    ranked = [
        (rank, speaker, z, place)
        for speaker, some in sorted(of_speaker.items())
        for rank, (z, place) in enumerate(sorted(some, key=lambda one: len(one[0]), reverse=True))
    ]
    return [(speaker, z, place) for _, speaker, z, place in sorted(ranked, key=lambda one: one[:2])][:most]


def _utterances(frames: Frames, split: str) -> list[Tensor]:
    inside = frames.in_split(split)
    parts = zip(frames.offsets[:-1].tolist(), frames.offsets[1:].tolist(), strict=True)
    return [frames.z[start:end] for start, end in parts if bool(inside[start])]
