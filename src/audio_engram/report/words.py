"""The words of the page: what metrics, models and experiments are called, and how to read them."""

from typing import NamedTuple

from markupsafe import Markup

from audio_engram.measurements import Measurement
from audio_engram.regimes import KNOWN
from audio_engram.report.manifold_words import MANIFOLD
from audio_engram.report.metric_words import METRICS, Metric


class Experiment(NamedTuple):
    """An experiment's title, its question where no criterion states one, and how to read its figures."""

    title: str
    question: str
    reading: str


PARTS = ("part_mean_reversion", "part_shape", "part_static", "part_dynamics")

ANCHORS = {
    "real": "recordings",
    "original": "recordings",
    "codec round trip": "codec round trip",
    "real halves": "one half of the recordings to the other",
    "teacher-forced": "draws from true contexts",
    "shuffled frames": "true frames in random order",
    "Gaussian frames": "Gaussian frames",
    "half magnitude": "increments half as long",
    "standing still": "standing still",
    "two_stage_true_directions": "second stage on true directions",
}
"""Stretches that are no rollouts, which these are held against."""

MODELS = {
    "mdn": "MDN",
    "vmf": "vMF × log-normal",
    "mdn_k16": "MDN, unrolled K = 16",
    "vmf_k16": "vMF, unrolled K = 16",
    "mdn_k32": "MDN, unrolled K = 32",
    "vmf_k32": "vMF, unrolled K = 32",
    "coupled": "vMF, κ(m), two log-normals",
    "coupled_k16": "vMF, κ(m), unrolled K = 16",
    "increment": "increment marginal",
    "state": "state marginal",
    "ar1": "diagonal AR(1)",
    "utterance": "utterance mean",
    "ceiling": "ceiling (direct at that lag)",
    "magnitude": "magnitude only",
    "magnitude_utterance": "magnitude only + utterance features",
    "two_stage": "two stages",
    "codec": "codec",
    "residual-memory": "residual memory",
    **{f"anchor-{strength}": f"anchor, {strength} a step" for strength in (0.1, 0.3)},
    **{f"towards-mean-{strength}": f"towards the mean, {strength} a step" for strength in (0.1, 0.3)},
    "vmf-without-memory": "vMF × log-normal, no memory",
    **{name: one.words for name, one in KNOWN.items()},
    **ANCHORS,
}

DATA = {
    "real": "",
    "shuffled_within": "shuffled within",
    "shuffled_across": "shuffled across",
    "phase_randomised": "same spectrum",
    "autoregressed": "AR(1), own residuals",
    "permuted": "permuted labels",
    "gaussian": "Gaussian null",
    "random_pairs": "random pairs",
}

MODES = {
    "teacher_forced": "teacher-forced",
    "free_running": "free-running",
    "analytic": "analytic",
    "A": "A: true state every step",
    "B": "B: true state after steps 4, 8, 12",
    "C": "C: true state after step 1 only",
    "D": "D: never",
}

EXPERIMENTS = {
    "predictability": Experiment(
        "Predictability",
        "How predictable is the next increment, at which lag, beyond regression to the mean?",
        "Differencing makes noise look predictable: frames that are independent in time already reach a "
        "direction cosine of 0.707 and −0.347 nats per dimension against the increment baseline. The "
        "trivial baselines and the frame-shuffled surrogates therefore share the axes of the models, and "
        "the excess is what is left over the best trivial baseline. At lags of 2 and more the context "
        "leaves out the frame before the target, so those figures are free of that effect; what a "
        "better-shaped density gains is in them still, as the shuffled twin shows.",
    ),
    "magnitude": Experiment(
        "Magnitude",
        "Is the magnitude of the increments truly unpredictable?",
        "A mean that shrinks towards nothing has a small norm, so R² by the norm of the predicted mean is "
        "negative by construction. A model's own E[log m] is the fair figure; both are shown. Models of the magnitude "
        "only know no direction.",
    ),
    "factorisation": Experiment(
        "Factorisation",
        "Does direction × magnitude hold up in a rollout?",
        "At rollout step s the last true frame is s frames old, so a predictor trained directly at lag s "
        "bounds what any mean rollout can know: the grey ceiling, which is the best of that lag and all longer ones. "
        "Dotted lines are the same models fed "
        "the truth at every step. A magnitude ratio near zero is stability bought by predicting nothing.",
    ),
    "injection": Experiment(
        "Injection",
        "Where does the rollout gap come from?",
        "The same rollout is given the true state at every step (A), after steps 4, 8 and 12 (B), after "
        "step 1 only (C) or never (D). What is lost is asked in this order: is half of it kept, is all of it gone "
        "after one step on its own states, does B return to A after each injection? AR(1) is asked the same. On true "
        "states these figures differ a little from those of Predictability: they are of the frames in rollouts alone.",
    ),
    "structure": Experiment(
        "Structure",
        "Do coarse clusters of contexts explain increments?",
        "Contexts are put into clusters in three ways; a ratio of 1 means that clusters tell nothing of the increment. "
        "Regression to the mean makes it smaller on frames in random order too, and a filter on noise with the same "
        "spectrum: only what lies below both is structure.",
    ),
    "representation": Experiment(
        "Representation",
        "Is the gap the codec's?",
        "The same speech and the same held-out speakers in every representation; what is told in a second makes frame "
        "rates comparable. Rollouts all last the same time, so that a higher frame rate means more steps. All that is "
        "told in a second grows with the frame rate, because neighbours are nearer to each other: hold only rows of "
        "one frame rate against each other, or, where the rows hold the same numbers, the NLL a second.",
    ),
    "smoothing": Experiment(
        "Smoothing",
        "Does smoothing make directions more predictable?",
        "An average over neighbouring frames makes any sequence look predictable, a shuffled one too, and the shuffled "
        "twin shows by how much. What the decoder loses is measured on the recordings themselves.",
    ),
    "archetypes": Experiment(
        "Archetypes",
        "Do reusable directions exist?",
        "Clusters of directions are tight wherever a few axes carry most of the variance, and foretold wherever frames "
        "return to their mean. Both nulls go through the same procedure: Gaussian increments of the same covariance, "
        "and increments to a random frame of the same utterance. Only what lies beyond both is an archetype.",
    ),
    "stability": Experiment(
        "Stability",
        "Are sampled free-running rollouts still like real speech after 20 s?",
        "Rollouts draw every increment and go on from their own frames. Stretches of them are held against real "
        "stretches of other speakers, and 1 is as far as these are from one another. Frames in random order can be as "
        "near, so that a small distance counts only beside the anchors. No verdict rests on survival, cycle error or "
        "the share of speech.",
    ),
    "sampling": Experiment(
        "Sampling",
        "Does training on samples keep the magnitude?",
        "Every unrolled training starts from the teacher-forced model of the same head. Rollouts by means shrink "
        "however good the model is, because what is expected is shorter than what happens; rollouts that draw every "
        "increment need not. The difference in NLL is on true contexts, frame by frame.",
    ),
    "memory": Experiment(
        "Memory",
        "Does memory as a basis help?",
        "Prototypes help if they are better than everything that has as many parameters and is no memory: prototypes "
        "under keys that lead elsewhere in every context, random ones, copies of one, a further layer. All have the "
        "same training and see the same examples in the same order. Directions alone start from prototypes, so that "
        "other roles have no random ones. An anchor is held against a pull towards the training mean, as strong.",
    ),
    "correction": Experiment(
        "Score correction",
        "Does score correction help?",
        "After every step of a rollout a corrector moves the state along the score of real frames, learned by a "
        "denoiser at the noise level σ: Tweedie at once to the expected clean frame, Langevin in small steps with "
        "noise. All correctors see the same draws. The state error is that of rollouts by the typical step, all else "
        "is of the end of sampled ones. The corrector that is judged was chosen on validation speakers.",
    ),
    "two_stage": Experiment(
        "Two stages",
        "Can magnitudes be filled in afterwards?",
        "The first stage draws directions from directions alone, the second all magnitudes at once, given all of "
        "these and what the context says of the utterance. Increments are summed up from the last true frame, so that "
        "nothing calls a rollout back that walks away: survival shows how far that goes. On true directions the second "
        "stage is seen by itself. One model of direction and magnitude has as many parameters and the same training.",
    ),
}

SOUNDS = {
    "round_trip": "What cosines against one true future cannot tell. The codec round trip is the best any model can "
    "sound.",
    "sampled_rollout": "Sampled rollouts are played for the two seconds before 2, 5 and 20 s after one true context. "
    "The recording, the codec alone, draws from true contexts and true frames in random order are there to compare.",
    "archetype": "An archetype is played as the held-out increments nearest to its centroid, ten at most and one of "
    "each speaker, one after another; each stands in the middle of 0.8 s of its recording. If an archetype is a thing "
    "that is heard, all clips of it change alike in their middle. Played are the largest, those that are met most "
    "often, so that none was chosen for how it sounds.",
}

VERDICTS = {
    "pass": "the whole interval is on the good side of the threshold",
    "fail": "the whole interval is on the bad side of the threshold",
    "undecided": "the interval straddles the threshold or there is none, there are too few speakers or frames, "
    "or a head stands still",
    "unattainable": "no predictor trained directly at that lag reaches the threshold, so no rollout is asked to",
}

GLOSSARY = (
    (
        Markup("<i>z<sub>t</sub></i>"),
        "latent frame t, a vector of D numbers, as the codec's encoder gives it",
    ),
    (
        Markup("<i>δ<sub>t</sub></i> = <i>z<sub>t</sub></i> − <i>z</i><sub><i>t</i>−1</sub>"),
        "the increment; every model predicts it, always one step",
    ),
    (
        Markup("<i>m<sub>t</sub></i>, <i>d<sub>t</sub></i>"),
        Markup(
            "magnitude ‖<i>δ<sub>t</sub></i>‖ and direction <i>δ<sub>t</sub></i> / <i>m<sub>t</sub></i>, "
            "a point on the unit sphere"
        ),
    ),
    ("context, W", "the last W frames, oldest first"),
    ("E[δ]", "the mean of the increment that a model predicts; its direction, for vMF, is the mean direction"),
    ("lag k", "the context ends k frames before the target; k = 1 is ordinary next-step prediction"),
    ("typical step", "the mean direction at the median magnitude; of the MDN the mean of its most probable component"),
    ("step s", "the s-th step of a rollout, in which the model continues from its own states"),
    (
        "ΔNLL",
        "negative log-likelihood minus that of a Gaussian over increments; nats per frame, lower is better",
    ),
    ("excess", "the same against the best of the trivial baselines"),
    ("MDN", "mixture density network: a mixture of diagonal Gaussians over the increment"),
    ("vMF", "von Mises–Fisher distribution of the direction, here with a log-normal magnitude"),
    ("AR(1)", "each dimension returns to its mean at its own rate: no learned dynamics"),
    ("shuffled", "the same frames in random order, within each utterance or across all of them"),
    ("innovation", "what is left of an increment after its AR(1) part is removed"),
    ("interval", "95 %, bootstrap over speakers (not frames)"),
)


def metric(name: str) -> Metric:
    """The words for a metric; an unknown one keeps its own name."""
    base, analytic, _ = name.rpartition("_analytic")
    if analytic and base in METRICS:
        return METRICS[base]._replace(label=f"{METRICS[base].label}, analytic", meaning="The known truth of a world.")
    return METRICS.get(name) or MANIFOLD.get(name) or Metric(name.replace("_", " "), "", "")


def first(name: str) -> str:
    """Of a difference between models the one that it is of, by the name it has in records."""
    return name.partition(" - ")[0]


def model(name: str) -> str:
    """The words for a model; an unknown one keeps its own name, and a difference names both sides.

    A placebo beside its memory is called no more than what it is.
    """
    first, *others = (MODELS.get(side, side) for side in name.split(" - "))
    beside = (f"placebo{other[len(first) :]}" if other.startswith(f"{first}: ") else other for other in others)
    return " − ".join([first, *beside])


def brief(label: str) -> str:
    """The words for a model or series where there is little room."""
    return label.replace(" × log-normal", "")


def counted(record: Measurement) -> str:
    """What a measurement counts in place of frames: the rollouts that it is of, or stretches that are none."""
    if record.mode not in ("sampled", "mean"):
        return "frame"
    return "stretch" if record.model in ANCHORS else "rollout"


def mode(name: str) -> str:
    """The words for how the context was fed."""
    return MODES.get(name, name.replace("_", " "))


def series(model_name: str, data: str = "real") -> str:
    """A model on its data: `MDN`, `MDN, shuffled within`."""
    return of_data(model(model_name), data)


def of_data(label: str, data: str) -> str:
    """A label with the kind of data; real data go without saying."""
    words = DATA.get(data, data.replace("_", " "))
    return f"{label}, {words}" if words else label


def experiment(name: str) -> Experiment:
    """The words for an experiment; an unknown one keeps its own name."""
    return EXPERIMENTS.get(name, Experiment(name.replace("_", " ").capitalize(), "", ""))
