"""Clusters of directions on one kind of data: how tight, how well foretold, what they sound like."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.archetypes import (
    Held,
    Increments,
    Kind,
    Space,
    cosines,
    fit_space,
    hold,
    increments,
    moments_of,
    size_entropy,
    unit_means,
)
from audio_engram.breathing import fit_breathing
from audio_engram.experiments.conditioning import MOST, Components
from audio_engram.experiments.meaning import changes, explained
from audio_engram.measurements import Measurement
from audio_engram.membership import fit_classifier, predict
from audio_engram.runs import Run
from audio_engram.seeds import generator_for, seed_for
from audio_engram.statistics import Interval

SPLITS = ("train", "validation", "test")
FEATURES = 64
"""Principal components of the last frame, and as many of the increment that led to it."""


class Directions:
    """Directions of all splits of one kind of data, and the features of the contexts before them."""

    def __init__(self, run: Run, kind: Kind) -> None:
        self.run, self.kind = run, kind
        covariance = None
        if kind == "gaussian":
            windows = run.windows("train", 1)
            covariance = moments_of(windows.increments(windows.with_valid_target()))
        parts = {split: increments(run.windows(split, 1), kind, covariance, run.config.seed) for split in SPLITS}
        shortest = float(parts["train"].delta.norm(dim=1).quantile(run.config.experiments.archetype_quantile))
        longer = {split: part.above(shortest) for split, part in parts.items()}
        self.space: Space = fit_space(longer["train"].delta)
        self.parts: dict[str, Increments] = {
            split: part.where(self.space.covers(part.delta)) for split, part in longer.items()
        }
        self.left_out = sum(len(longer[split].index) - len(self.parts[split].index) for split in SPLITS)
        self.rows = {split: self.space.directions(part.delta) for split, part in self.parts.items()}

    def features(self, split: str) -> Tensor:
        """What a classifier sees of the contexts: components of unit variance in training; the same for every K.

        Of the frame and of the increment each by themselves: an increment is short beside the frames, so that among
        components of whole contexts it is the last to be kept.
        """
        return self.run.once(("archetypes", "features", self.kind, split), lambda: self._features(split))

    def _features(self, split: str) -> Tensor:
        components = self.run.once(("archetypes", "components"), self._components)
        batches = self.run.windows(split, 1).batches(self.parts[split].index, 2048)
        return torch.cat([_project(components, segment.context) for segment in batches])

    def _components(self) -> list[Components]:
        windows = self.run.windows("train", 1)
        seed = seed_for(self.run.config.seed, "archetypes", "components") % 2**32
        return [Components(part, seed, FEATURES) for part in _ends(windows.gather(windows.evenly(MOST)).context)]

    def places(self, split: str) -> Tensor:
        """Where the increments end in the flat array."""
        return self.run.windows(split, 1).target[self.parts[split].index]


class DirectionClusters:
    """K clusters of one kind of data."""

    def __init__(self, of: Directions, k: int) -> None:
        self.of, self.run, self.k = of, of.run, k
        generator = generator_for(self.run.config.seed, "archetypes", of.kind, k)
        self.means = fit_breathing(k, of.rows["train"], generator)
        self.centres = self.means.cluster_centers_
        own = self.means.labels_
        self.held: dict[str, Held] = {
            split: hold(of.rows[split], self.centres, of.rows["train"], own) for split in SPLITS
        }
        # In all dimensions: those that the components leave out turn directions too.
        self.prototypes = unit_means(of.parts["train"].delta, own, of.space.back(self.centres))
        self.bootstrap = self.run.bootstrap(of.parts["test"].speaker)
        self.tightness = self._ratios(self.held["test"].cosine)
        self.records = self._tightness()
        if of.kind != "gaussian":  # whose directions follow no context
            self.records += self._membership()
        if of.kind == "real":
            self.records += self._meaning()

    def record(self, metric: str, interval: Interval, **what: Any) -> Measurement:
        """A figure of this cell."""
        known = {"experiment": "archetypes", "model": f"K = {self.k}", "data": self.of.kind}
        return self.run.measure(interval, metric=metric, **(known | what))

    def one(self, metric: str) -> Measurement:
        """A figure of this cell on held-out speakers."""
        return next(r for r in self.records if r.metric == metric and r.split == "test")

    def places(self, split: str) -> Tensor:
        """Where the increments end in the flat array."""
        return self.of.places(split)

    def _tightness(self) -> list[Measurement]:
        test, train, b = self.held["test"], self.held["train"], self.bootstrap
        empty = [int((torch.bincount(self.held[s].labels, minlength=self.k) == 0).sum()) for s in ("test", "train")]
        entropy = size_entropy(test.labels, self.k)
        return [
            self.record("tightness", b.mean(test.cosine)),
            self.record("tightness", self._plain(float(train.cosine.double().mean()), "train"), split="train"),
            self.record("tightness_full", b.mean(cosines(self.of.parts["test"].delta, self.prototypes))),
            self.record("variance_explained", b.r2(test.within, test.total)),
            self.record("cluster_entropy", self._plain(entropy)),
            self.record("empty_clusters", self._plain(float(empty[0]))),
            self.record("empty_clusters", self._plain(float(empty[1]), "train"), split="train"),
        ]

    def _membership(self) -> list[Measurement]:
        data = {s: (self.of.features(s), self.held[s].labels) for s in SPLITS}
        seed = seed_for(self.run.config.seed, "archetypes", self.of.kind, self.k)
        features, labels = data["test"]
        most = int(torch.bincount(data["train"][1], minlength=self.k).argmax())
        said = {"membership_majority": torch.full_like(labels, most)}
        for name, hidden in (("membership_linear", False), ("membership_accuracy", True)):
            model = fit_classifier(data["train"], data["validation"], self.k, hidden, seed)
            said[name] = predict(model, features)
        right = {name: (guess == labels).double() for name, guess in said.items()}
        self.accuracy = self._ratios(right["membership_accuracy"])
        return [self.record(name, self.bootstrap.mean(values)) for name, values in right.items()]

    def _meaning(self) -> list[Measurement]:
        """How much of what is heard at an increment its cluster tells."""
        pairs = [(self.places(s), self.held[s].labels) for s in ("train", "test")]
        return [
            self.record(f"eta_squared_{name}", explained(self.run, values, pairs[0], pairs[1], self.k))
            for name, values in changes(self.run).items()
        ]

    def _ratios(self, values: Tensor) -> Tensor:
        return self.bootstrap.ratios(values, torch.ones_like(values))

    def _plain(self, value: float, split: str = "test") -> Interval:
        speaker = self.of.parts[split].speaker
        return Interval(value, None, None, len(speaker), len(speaker.unique()))


def _ends(contexts: Float[Tensor, "B W D"]) -> list[Float[Tensor, "B 1 D"]]:
    """The last frame of each context, and the increment that led to it; of contexts of one frame that alone."""
    return [contexts[:, -1:], contexts[:, -2:].diff(dim=1)][: contexts.shape[1]]


def _project(components: list[Components], contexts: Float[Tensor, "B W D"]) -> Float[Tensor, "B F"]:
    parts = zip(components, _ends(contexts), strict=True)
    return torch.cat([one.project(part) / one.scale.clamp(min=1e-6) for one, part in parts], dim=1)
