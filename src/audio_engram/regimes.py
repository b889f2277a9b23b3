"""The trainings that are tried against drift: each changes one thing of another, so that it has its control."""

from dataclasses import dataclass, field
from typing import Any

from audio_engram.errors import UsageError


@dataclass(frozen=True)
class Regime:
    """A head, what it changes of the configuration's model and training, and whose weights it starts from."""

    name: str
    words: str
    head: str
    control: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    start: str = ""


NOISE = {"context_noise": 1.0}
TIED = {"covariance": "semi-tied"}
SAMPLED = {"step": "sample", "unroll": 16}

REGIMES = {
    one.name: one
    for one in (
        Regime("mdn", "MDN", "mdn"),
        Regime("vmf", "vMF × log-normal", "vmf"),
        Regime("mdn-tied", "MDN, semi-tied covariances", "mdn", "mdn", TIED),
        Regime("mdn-noise", "MDN, noise on contexts", "mdn", "mdn", train=NOISE),
        Regime("vmf-noise", "vMF × log-normal, noise on contexts", "vmf", "vmf", train=NOISE),
        Regime("mdn-tied-noise", "MDN, semi-tied, noise on contexts", "mdn", "mdn-tied", TIED, NOISE),
        Regime(
            "gru-tied-noise", "GRU, semi-tied MDN, noise", "mdn", "mdn-tied-noise", TIED | {"backbone": "gru"}, NOISE
        ),
        Regime(
            *("transformer-tied-noise", "Transformer, semi-tied MDN, noise", "mdn", "mdn-tied-noise"),
            TIED | {"backbone": "transformer"},
            NOISE,
        ),
        Regime("mdn-mean", "MDN, unrolled on means", "mdn", "mdn", train={"step": "mean", "unroll": 16}, start="mdn"),
        Regime("mdn-sampled", "MDN, unrolled on samples", "mdn", "mdn-mean", train=SAMPLED, start="mdn"),
        Regime(
            *("mdn-reinforce", "MDN, unrolled on samples, REINFORCE", "mdn", "mdn-sampled"),
            train=SAMPLED | {"estimator": "reinforce"},
            start="mdn",
        ),
        Regime(
            *("mdn-gumbel", "MDN, unrolled on samples, Gumbel-softmax", "mdn", "mdn-sampled"),
            train=SAMPLED | {"estimator": "gumbel"},
            start="mdn",
        ),
        Regime(
            *("mdn-adversary", "MDN, unrolled on samples, discriminator", "mdn", "mdn-sampled"),
            train=SAMPLED | {"adversary": 1.0},
            start="mdn",
        ),
        Regime("vmf-sampled", "vMF × log-normal, unrolled on samples", "vmf", "vmf", train=SAMPLED, start="vmf"),
    )
}


def regime(name: str) -> Regime:
    """Raises: UsageError for one that does not exist."""
    if name not in REGIMES:
        raise UsageError(f"experiments.regimes: {name}: no such regime: use {', '.join(REGIMES)}")
    return REGIMES[name]
