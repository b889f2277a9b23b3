"""The trainings that are tried against drift: each changes one thing of its control, or goes on from it otherwise."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from audio_engram.errors import UsageError


@dataclass(frozen=True)
class Regime:
    """A head, what it changes of the configuration's model, memory and training, and whose weights it starts from.

    Regimes of one `stream` see the same examples in the same order. With a `bandwidth` nothing is trained: the model
    of `control` draws from stored residuals, this `share` of its increments. A model may read the `utterance`: what
    the rest of the recording is like.
    """

    name: str
    words: str
    head: str
    control: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    start: str = ""
    memory: dict[str, Any] = field(default_factory=dict)
    stream: str = ""
    bandwidth: float = 0.0
    share: float = 1.0
    utterance: bool = False


NOISE = {"context_noise": 1.0}
QUIET = {"context_noise": 0.3}
TIED = {"covariance": "semi-tied"}
COUPLED = {"concentration": "coupled", "magnitude_components": 2}
MEAN = {"step": "mean", "unroll": 16}
SAMPLED = {"step": "sample", "unroll": 16}

REGIMES = {
    one.name: one
    for one in (
        Regime("mdn", "MDN", "mdn"),
        Regime("vmf", "vMF × log-normal", "vmf"),
        Regime("vmf-coupled", "vMF × log-normals, κ(m)", "vmf", "vmf", COUPLED),
        Regime("mdn-tied", "MDN, semi-tied covariances", "mdn", "mdn", TIED),
        Regime("mdn-noise", "MDN, noise on contexts", "mdn", "mdn", train=NOISE),
        Regime("vmf-noise", "vMF × log-normal, noise on contexts", "vmf", "vmf", train=NOISE),
        Regime("mdn-tied-noise", "MDN, semi-tied, noise on contexts", "mdn", "mdn-tied", TIED, NOISE),
        Regime("mdn-tied-quiet", "MDN, semi-tied, little noise on contexts", "mdn", "mdn-tied", TIED, QUIET),
        Regime(
            "gru-tied-noise", "GRU, semi-tied MDN, noise", "mdn", "mdn-tied-noise", TIED | {"backbone": "gru"}, NOISE
        ),
        Regime(
            *("transformer-tied-noise", "Transformer, semi-tied MDN, noise", "mdn", "mdn-tied-noise"),
            TIED | {"backbone": "transformer"},
            NOISE,
        ),
        Regime("mdn-tied-utterance", "MDN, semi-tied, utterance features", "mdn", "mdn-tied", TIED, utterance=True),
        Regime(
            *("gru-tied-utterance", "GRU, semi-tied MDN, utterance features", "mdn", "mdn-tied-utterance"),
            TIED | {"backbone": "gru"},
            utterance=True,
        ),
        Regime(
            *("transformer-tied-utterance", "Transformer, semi-tied MDN, utterance features"),
            *("mdn", "mdn-tied-utterance"),
            TIED | {"backbone": "transformer"},
            utterance=True,
        ),
        Regime("mdn-mean", "MDN, unrolled on means", "mdn", "mdn", train=MEAN, start="mdn"),
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
        Regime("vmf-mean", "vMF × log-normal, unrolled on means", "vmf", "vmf", train=MEAN, start="vmf"),
        Regime("vmf-sampled", "vMF × log-normal, unrolled on samples", "vmf", "vmf-mean", train=SAMPLED, start="vmf"),
    )
}

RESIDUALS: dict[str, tuple[str, float, float]] = {
    "residuals": ("draws of stored residuals", 0.5, 1.0),
    "residuals-wide": ("draws near stored residuals", 0.9, 1.0),
    "residuals-most": ("most draws of stored residuals", 0.5, 0.9),  # costs at most log 10 nats
}


def drawn_regime(control: Regime, way: str) -> Regime:
    """The same training, that advances by draws of what it left over."""
    words, bandwidth, share = RESIDUALS[way]
    name, words = f"{control.name}-{way}", f"{control.words}, {words}"
    return replace(control, name=name, words=words, control=control.name, bandwidth=bandwidth, share=share)


DRAWN = {
    one.name: one
    for control in REGIMES.values()
    if control.head == "mdn"
    for one in map(partial(drawn_regime, control), RESIDUALS)
}

ROLES: dict[str, tuple[str, dict[str, Any]]] = {
    "blend": ("memory blended into the direction", {"direction": "blend"}),
    "alone": ("memory as the direction", {"direction": "alone"}),
    "concentration": ("memory for the concentration", {"concentration": True}),
    "magnitude": ("memory for the magnitude", {"magnitude": True}),
}
PLACEBOS = {
    "shuffled_keys": "shuffled keys",
    "random": "random prototypes",
    "one": "one prototype",
    "matched": "a layer of as many parameters",
}


def placebos(role: str) -> list[str]:
    """The placebos of a role: only directions start from prototypes, so that elsewhere random ones are the memory."""
    return [name for name in PLACEBOS if name != "random" or "direction" in ROLES[role][1]]


def memory_regime(role: str, placebo: str = "none") -> Regime:
    """A memory in this role, or one of its placebos, all of which are trained alike."""
    words, changed = ROLES[role]
    if placebo == "none":
        return Regime(f"memory-{role}", words, "vmf", f"memory-{role}-matched", memory=changed, stream="memory")
    of_placebo = changed | {"placebo": placebo}
    name, words = f"memory-{role}-{placebo}", f"{words}: {PLACEBOS[placebo]}"
    return Regime(name, words, "vmf", "vmf", memory=of_placebo, stream="memory")


MEMORIES = {one.name: one for role in ROLES for one in map(partial(memory_regime, role), ("none", *placebos(role)))}

KNOWN = REGIMES | DRAWN | MEMORIES


def regime(name: str, setting: str = "experiments.regimes") -> Regime:
    """Raises: UsageError for one that does not exist, with the setting that names it."""
    if name not in KNOWN:
        raise UsageError(
            f"{setting}: {name}: no such regime: use {', '.join(REGIMES)}; an MDN of these, followed by "
            f"-{'|'.join(RESIDUALS)}; or memory-{'|'.join(ROLES)}, followed by -{'|'.join(PLACEBOS)} for a placebo"
        )
    return KNOWN[name]
