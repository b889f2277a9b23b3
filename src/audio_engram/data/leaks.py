"""Do the splits share recordings or speakers? Asked of the stored latents alone.

A copy keeps the course of its latents over time, whatever was done to its level, its format or its beginning; two
recordings never have the same course. So pairs of utterances in different splits are laid over each other, and an
alignment that random pairs of the same corpus would not reach by chance is a copy.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio_engram.data.frames import SPLITS, Frames

SKETCH = 32
"""Random projections that stand for the D dimensions when two courses are compared."""
CANDIDATES = 3
"""Nearest utterances of other splits, by each of the two signatures, that are laid over a held-out one."""
RANDOM_PAIRS = 1000
ALARMS = 0.01
"""Expected number of false alarms in a whole corpus."""
MIN_SIMILARITY = 0.3
FEW_PAIRS, HIGH_SIMILARITY = 200, 0.9
"""Fewer random pairs say little about the tail of their scores; then only what is plainly a copy counts."""
MIN_OVERLAP = 9
CHUNK = 512


@dataclass(frozen=True)
class Pair:
    """Two utterances of different splits; `similarity` is the cosine of their courses where they lie best."""

    utterances: tuple[str, str]
    speakers: tuple[str, str]
    splits: tuple[str, str]
    similarity: float
    score: float

    @property
    def identical(self) -> bool:
        """The same bytes, by the hash of the source."""
        return self.score == math.inf


@dataclass(frozen=True)
class Leaks:
    """What the splits share. `pairs` are copies, the surest first; `compared` pairs were laid over each other."""

    held_out: int
    compared: int
    threshold: float
    highest: float
    pairs: tuple[Pair, ...]
    speakers: tuple[tuple[str, str], ...]

    def __bool__(self) -> bool:
        return bool(self.pairs or self.speakers)

    def sentence(self) -> str:
        """One sentence for a reader of the results."""
        found = []
        if self.pairs:
            first = self.pairs[0]
            places = zip(first.utterances, first.speakers, first.splits, strict=True)
            found.append(
                f"{len(self.pairs)} pairs of utterances in different splits are copies of each other"
                f" ({sum(pair.identical for pair in self.pairs)} byte for byte), such as "
                + " and ".join(f"{utterance} of {speaker} in {split}" for utterance, speaker, split in places)
            )
        if self.speakers:
            names = " and ".join(self.speakers[0])
            found.append(f"{len(self.speakers)} pairs of speakers in different splits differ in spelling only: {names}")
        if not found and not self.compared:
            return "Whether splits share recordings is not known: no two utterances are long enough to be compared."
        if not found:
            return (
                f"No copies across splits: {self.compared} pairs laid over each other, the highest score is"
                f" {self.highest:.1f} of the {self.threshold:.1f} that random pairs would not reach."
            )
        return "; ".join(found) + ": held-out figures are better than they should be."


@dataclass(frozen=True)
class _Courses:
    """The utterances of a corpus: split, speaker, sketch (frames, 32) and the two signatures."""

    split: Int[Tensor, " U"]
    speaker: Int[Tensor, " U"]
    sketches: tuple[Tensor, ...]
    level: Float[Tensor, "U D2"]
    spread: Float[Tensor, "U D"]

    @property
    def held_out(self) -> Int[Tensor, " H"]:
        return (self.split != SPLITS.index("train")).nonzero().flatten()


def find_leaks(frames: Frames, sources: Mapping[str, str] | None = None) -> Leaks:
    """Utterances and speakers that stand in two splits; `sources` maps an utterance's id to the hash of its source.

    Two utterances are laid over each other at every lag that leaves half of the shorter one, their means removed. With
    r the cosine of the overlapping courses and n its frames, the score is the largest atanh(r) √n. As the maximum of
    many, it follows a Gumbel distribution for recordings that have nothing in common, which is fitted to random pairs
    of the corpus by its median and 90 % quantile; the threshold is passed by 0.01 of all compared pairs in expectation.
    Every held-out utterance is compared with the nearest of other splits: by mean and standard deviation over time of
    each dimension, and by the standard deviation alone, which a change of level does not move.

    It finds copies that were cut shorter by less than half, made louder or coded again. It does not find one person's
    different utterances under two names, which latents cannot tell from two persons who sound alike.
    """
    courses = _courses(frames)
    pairs = _candidates(courses)
    scores = _scores(courses, pairs)
    threshold, floor = _thresholds(courses, len(pairs))
    found = {
        (int(i), int(j)): (float(r), float(score))
        for (i, j), (score, r) in zip(pairs.tolist(), scores.tolist(), strict=True)
        if score > threshold and r >= floor
    }
    found |= {pair: (1.0, math.inf) for pair in _identical(frames, courses, sources or {})}
    return Leaks(
        held_out=len(courses.held_out),
        compared=int((scores[:, 0] > 0).sum()),
        threshold=threshold,
        highest=float(scores[:, 0].max()) if len(pairs) else 0.0,
        pairs=tuple(sorted((_pair(frames, courses, *which) for which in found.items()), key=lambda p: -p.score)),
        speakers=_alike_names(frames, courses),
    )


def _courses(frames: Frames) -> _Courses:
    lengths = frames.offsets.diff().tolist()
    projection = torch.randn(frames.dim, SKETCH, generator=torch.Generator().manual_seed(0)) / math.sqrt(SKETCH)
    level, spread, sketches = [], [], []
    for z in frames.z.split(lengths):
        mean, std = z.mean(0), z.std(0, unbiased=False)
        level.append(torch.cat([mean, std]))
        spread.append(std)
        sketches.append((z - mean) @ projection)
    first = frames.offsets[:-1]
    return _Courses(
        frames.split[first], frames.speaker[first], tuple(sketches), torch.stack(level), torch.stack(spread)
    )


def _candidates(courses: _Courses) -> Int[Tensor, "M 2"]:
    """Pairs of a held-out utterance and one of another split, each pair once."""
    pairs = []
    for rows in courses.held_out.split(CHUNK):
        same = courses.split[rows, None] == courses.split
        for signature in (courses.level, courses.spread):
            distance = torch.cdist(signature[rows], signature).masked_fill(same, math.inf)
            nearest = distance.topk(min(CANDIDATES, len(signature)), largest=False)
            near = torch.stack([rows[:, None].expand_as(nearest.indices), nearest.indices], -1)
            pairs.append(near[nearest.values < math.inf])
    return torch.cat(pairs).sort(1).values.unique(dim=0)


def _scores(courses: _Courses, pairs: Int[Tensor, "M 2"]) -> Float[Tensor, "M 2"]:
    """Score and similarity of each pair; 0 for those too short to be laid over each other."""
    found = [_align(courses.sketches[i], courses.sketches[j]) for i, j in pairs.tolist()]
    return torch.tensor(found).reshape(-1, 2)


def _align(a: Float[Tensor, "N D"], b: Float[Tensor, "M D"]) -> tuple[float, float]:
    """The largest atanh(r) √n over all lags, and its r."""
    lags = torch.arange(1 - len(a), len(b))
    start, end = (-lags).clamp(min=0), (len(b) - lags).clamp(max=len(a))
    n = end - start
    allowed = n >= max(MIN_OVERLAP, math.ceil(min(len(a), len(b)) / 2))
    if not allowed.any():
        return 0.0, 0.0
    lags, start, end, n = lags[allowed], start[allowed], end[allowed], n[allowed]
    size = 1 << (len(a) + len(b) - 1).bit_length()
    spectrum = torch.fft.rfft(a, n=size, dim=0).conj() * torch.fft.rfft(b, n=size, dim=0)
    product = torch.fft.irfft(spectrum.sum(1), n=size)[lags % size]
    power = _power(a, start, end) * _power(b, start + lags, end + lags)
    # An exact copy has r = 1, whose atanh is infinite; this one stands for 16-bit floats.
    r = (product / power.sqrt().clamp(min=1e-12)).clamp(max=1 - 1e-6)
    score = r.atanh() * n.sqrt()
    best = int(score.argmax())
    return float(score[best]), float(r[best])


def _power(x: Float[Tensor, "N D"], start: Int[Tensor, " L"], end: Int[Tensor, " L"]) -> Float[Tensor, " L"]:
    total = torch.cat([torch.zeros(1, dtype=torch.float64), x.double().square().sum(1).cumsum(0)])
    return (total[end] - total[start]).float()


def _thresholds(courses: _Courses, n_pairs: int) -> tuple[float, float]:
    """The score that 0.01 of `n_pairs` unrelated pairs would pass, and the least similarity of a copy."""
    generator = torch.Generator().manual_seed(1)
    rows = courses.held_out[torch.randint(len(courses.held_out), (2 * RANDOM_PAIRS,), generator=generator)]
    columns = torch.randint(len(courses.split), (2 * RANDOM_PAIRS,), generator=generator)
    pairs = torch.stack([rows, columns], 1)[courses.split[rows] != courses.split[columns]][:RANDOM_PAIRS]
    median, high = _scores(courses, pairs)[:, 0].quantile(torch.tensor([0.5, 0.9])).tolist()
    # Quantiles of a Gumbel distribution: location - scale ln(-ln p).
    scale = (high - median) / (math.log(math.log(2)) - math.log(-math.log(0.9)))
    location = median + scale * math.log(math.log(2))
    threshold = location + scale * math.log(max(n_pairs, 1) / ALARMS)
    distinct = len(pairs.sort(1).values.unique(dim=0))
    return threshold, MIN_SIMILARITY if distinct >= FEW_PAIRS else HIGH_SIMILARITY


def _identical(frames: Frames, courses: _Courses, sources: Mapping[str, str]) -> list[tuple[int, int]]:
    by_source: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(frames.utterances):
        if source := sources.get(name):
            by_source[source].append(index)
    pairs = (pair for same in by_source.values() for pair in combinations(same, 2))
    return [(i, j) for i, j in pairs if courses.split[i] != courses.split[j]]


def _alike_names(frames: Frames, courses: _Courses) -> tuple[tuple[str, str], ...]:
    """Speakers of different splits whose names differ in case, spaces, hyphens or underscores only."""
    split_of = dict(zip(courses.speaker.tolist(), courses.split.tolist(), strict=True))
    alike: dict[str, list[int]] = defaultdict(list)
    for index in sorted(split_of):
        alike[" ".join(frames.speakers[index].casefold().replace("_", " ").replace("-", " ").split())].append(index)
    pairs = (pair for same in alike.values() for pair in combinations(same, 2))
    return tuple((frames.speakers[i], frames.speakers[j]) for i, j in pairs if split_of[i] != split_of[j])


def _pair(frames: Frames, courses: _Courses, which: tuple[int, int], found: tuple[float, float]) -> Pair:
    i, j = which
    return Pair(
        utterances=(frames.utterances[i], frames.utterances[j]),
        speakers=(frames.speakers[courses.speaker[i]], frames.speakers[courses.speaker[j]]),
        splits=(SPLITS[courses.split[i]], SPLITS[courses.split[j]]),
        similarity=found[0],
        score=found[1],
    )
