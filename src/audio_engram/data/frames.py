"""The frames of a store in memory: standardised, divided by speaker, with their digital silence marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audio_engram.codecs.projected import Wrapper, apply
from audio_engram.data.splits import Split
from audio_engram.data.store import LatentStore
from audio_engram.errors import DataError

SPLITS: tuple[Split, ...] = get_args(Split)
SILENCE = 1e-3  # of the training split's median magnitude: below it an increment has no direction


@dataclass(frozen=True)
class Frames:
    """All frames of a corpus, utterance after utterance.

    `z` is standardised per dimension by `loc` and `scale`, the training split's mean and standard deviation.
    `speaker`, `utterance` and `split` are indices per frame; `moving` is False at the first frame of an
    utterance and where the increment is digital silence, whose density and direction do not exist.
    """

    z: Float[Tensor, "N D"]
    loc: Float[Tensor, " D"]
    scale: Float[Tensor, " D"]
    offsets: Int[Tensor, " U1"]
    speaker: Int[Tensor, " N"]
    split: Int[Tensor, " N"]
    moving: Bool[Tensor, " N"]
    speakers: tuple[str, ...]
    utterances: tuple[str, ...]

    @property
    def dim(self) -> int:
        """D."""
        return self.z.shape[1]

    @property
    def utterance(self) -> Int[Tensor, " N"]:
        """The utterance of each frame."""
        lengths = self.offsets.diff()
        return torch.repeat_interleave(torch.arange(len(lengths)), lengths)

    def in_split(self, split: str) -> Bool[Tensor, " N"]:
        """Which frames belong to `train`, `validation` or `test`."""
        return self.split == SPLITS.index(split)

    def silent(self) -> int:
        """How many increments are left out because they are digital silence."""
        return int((~self.moving).sum()) - (len(self.offsets) - 1)

    @property
    def quiet(self) -> Bool[Tensor, " N"]:
        """The frames of digital silence: both ends of every increment that is. Surrogates leave them where they are,
        so that what is scored, and what stands in contexts, are as many of these as among the frames themselves."""
        still = ~self.moving
        still[self.offsets[:-1]] = False
        return still | torch.cat([still[1:], still.new_zeros(1)])

    @property
    def sounding(self) -> Int[Tensor, " M"]:
        """The places of all other frames."""
        return (~self.quiet).nonzero().flatten()

    def stretches(self) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"]]:
        """Starts and lengths of what digital silence leaves of the utterances: of whole ones, where there is none."""
        sounding = self.sounding
        begins = torch.ones(len(sounding), dtype=torch.bool)
        begins[1:] = (sounding.diff() > 1) | (self.utterance[sounding].diff() > 0)
        first = begins.nonzero().flatten()
        return sounding[first], torch.cat([first, torch.tensor([len(sounding)])]).diff()

    def shuffled(self, where: Literal["within", "across"], seed: int) -> "Frames":
        """The surrogate: frames in random order `within` each utterance, or `across` all of a split.

        A frame keeps its speaker, so that speakers pair between data and surrogate. Digital silence stays in place.
        """
        generator = torch.Generator().manual_seed(seed)
        group = self.utterance if where == "within" else self.split
        sounding = self.sounding
        order = torch.arange(len(self.z))
        order[sounding] = sounding[_permutation_within(group[sounding], generator)]
        z = self.z[order]
        moving = _moving(z * self.scale, self.offsets, self.in_split("train"))
        return replace(self, z=z, speaker=self.speaker[order], moving=moving)

    def phase_randomised(self, seed: int) -> "Frames":
        """The surrogate that is a linear filter's: Gaussian noise with the spectra of every utterance.

        The Fourier phases of an utterance are drawn anew, the same in all dimensions, so that auto- and
        cross-correlations stay as they were and all else is lost (Prichard & Theiler 1994). Means stay, and digital
        silence, which parts an utterance into stretches with phases of their own.
        """
        generator = torch.Generator().manual_seed(seed)
        z = self.z.clone()
        for start, length in zip(*(one.tolist() for one in self.stretches()), strict=True):
            z[start : start + length] = _random_phases(self.z[start : start + length], generator)
        return replace(self, z=z, moving=_moving(z * self.scale, self.offsets, self.in_split("train")))

    def treated(self, treatments: list[Wrapper]) -> "Frames":
        """The frames after wrappers that keep their number, standardised anew."""
        raw = self.z * self.scale + self.loc
        parts = [apply(treatments, one) for one in raw.split(self.offsets.diff().tolist())]
        return _standardised(self, torch.cat(parts))


def load_frames(store: LatentStore, split_of: Mapping[str, str], treatments: list[Wrapper] | None = None) -> Frames:
    """Read a store, derive the latents that `treatments` make of it, and standardise them by the training speakers.

    Utterances too short for a single latent are left out.

    Raises:
        DataError: if all of them are, or a dimension does not vary in the training split.
    """
    flat = store.frames().float()
    parts = flat.split([u.frames for u in store.utterances])
    if treatments:
        parts = tuple(apply(treatments, one) for one in parts)
    kept = [(u, one) for u, one in zip(store.utterances, parts, strict=True) if len(one)]
    if not kept:
        raise too_short(max(u.frames for u in store.utterances))
    speakers = sorted({u.speaker for u, _ in kept})
    lengths = torch.tensor([len(one) for _, one in kept])
    place = {name: i for i, name in enumerate(speakers)}
    speaker = torch.tensor([place[u.speaker] for u, _ in kept]).repeat_interleave(lengths)
    split = torch.tensor([SPLITS.index(split_of[name]) for name in speakers])[speaker]
    raw = flat if not treatments else torch.cat([one for _, one in kept])
    whole = Frames(
        z=raw,
        loc=torch.zeros(raw.shape[1]),
        scale=torch.ones(raw.shape[1]),
        offsets=torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]),
        speaker=speaker,
        split=split,
        moving=torch.zeros(len(raw), dtype=torch.bool),
        speakers=tuple(speakers),
        utterances=tuple(u.id for u, _ in kept),
    )
    return _standardised(whole, raw)


def without_latent(stored: Sequence[str], heard: Sequence[str]) -> str:
    """What to say of stored utterances that `load_frames` left out; empty if there are none."""
    left_out = sorted(set(stored) - set(heard))
    if not left_out:
        return ""
    names = ", ".join(left_out[:3]) + (" ..." if len(left_out) > 3 else "")
    return (
        f"{len(left_out)} of {len(stored)} utterances are shorter than one latent and left out ({names}): "
        "lower codec.stack."
    )


def too_short(longest: int) -> DataError:
    """The one line for utterances of which the longest, of so many stored frames, fills no latent."""
    return DataError(
        f"codec.stack: the longest utterance has {longest} frames, which fill no latent: lower codec.stack"
    )


def refuse_short(frames: Frames, smooth: int) -> None:
    """Raises: DataError for an average over more latents than any utterance has: little but its mean would be left."""
    longest = int(frames.offsets.diff().max())
    if smooth > longest:
        raise DataError(
            f"codec.smooth = {smooth}: the longest utterance has {longest} latents: lower it or use longer audio"
        )


def _standardised(frames: Frames, raw: Float[Tensor, "N D"]) -> Frames:
    """The frames with these raw values, and what is computed from them."""
    train = frames.in_split("train")
    loc, scale = _moments(raw[train])
    return replace(frames, z=(raw - loc) / scale, loc=loc, scale=scale, moving=_moving(raw, frames.offsets, train))


def _moments(raw: Float[Tensor, "N D"]) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    loc = raw.double().mean(0)
    scale = (raw.double() - loc).square().mean(0).sqrt()
    flat = (scale <= 1e-12 * loc.abs().clamp(min=1.0)).nonzero().flatten().tolist()
    if flat:
        raise DataError(
            f"latents: dimension {flat[0]} ({len(flat)} in all) never varies in the training split: "
            "drop it or use another tap"
        )
    return loc.float(), scale.float()


def _moving(raw: Float[Tensor, "N D"], offsets: Int[Tensor, " U1"], train: Bool[Tensor, " N"]) -> Bool[Tensor, " N"]:
    magnitude = torch.zeros(len(raw))
    magnitude[1:] = (raw[1:] - raw[:-1]).norm(dim=1)
    inner = torch.ones(len(raw), dtype=torch.bool)
    inner[offsets[:-1]] = False
    threshold = SILENCE * magnitude[inner & train].median()
    return inner & (magnitude > threshold)


def _random_phases(z: Float[Tensor, "N D"], generator: torch.Generator) -> Float[Tensor, "N D"]:
    spectrum = torch.fft.rfft(z.double(), dim=0)
    turn = 2 * torch.pi * torch.rand(len(spectrum), 1, generator=generator, dtype=torch.float64)
    turn[0] = 0.0
    if len(z) % 2 == 0:
        turn[-1] = 0.0  # the highest frequency is real
    return torch.fft.irfft(spectrum * torch.polar(torch.ones_like(turn), turn), n=len(z), dim=0).to(z.dtype)


def _permutation_within(group: Int[Tensor, " N"], generator: torch.Generator) -> Int[Tensor, " N"]:
    """A random order of all frames that keeps every frame inside the places of its group."""
    places = torch.argsort(group, stable=True)
    order = torch.empty_like(places)
    random = torch.randperm(len(group), generator=generator)
    order[places] = random[torch.argsort(group[random], stable=True)]
    return order
