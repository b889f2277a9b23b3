"""What clusters of contexts (`structure`) and of directions (`archetypes`) must reach: experiments judge by it, and the
report draws it."""

from audio_engram.archetypes import EXPLAINED
from audio_engram.decision import Criterion

SMALLEST = 100  # training frames, below which a cluster of contexts is left out
LEAST_KEPT = 0.5  # of the held-out frames, of real data and of every null, for a conditioning to be judged
LARGEST_DEGRADATION = 0.2
CONTEXT_NULLS = ("shuffled_within", "phase_randomised", "autoregressed")
BEYOND = 0.05  # of the variance; the surrogates share the spectrum up to what a finite utterance leaves of it
ACCURATE = 0.6
TIGHTER_BY = 0.01  # more than two k-means from other starts differ by

EXPLAINS = Criterion(
    experiment="structure",
    question="Do coarse clusters of contexts explain the next increment?",
    metric="variance_ratio",
    relation="below",
    threshold=0.6,
    reason="Variance of standardised increments within clusters over their total variance, on held-out speakers with "
    f"the clusters' training means; at most {LARGEST_DEGRADATION:.0%} above the ratio on training speakers, and "
    f"{BEYOND} below that of frames in random order, of noise with the same spectrum and of AR(1) with the frames' own "
    "residuals in random order: differencing and filtering alone make increments predictable from their context. "
    f"Judged where clusters of at least {SMALLEST} training "
    f"frames hold {LEAST_KEPT:.0%} of the held-out frames, of these nulls too.",
)
GENERALISES = EXPLAINS.model_copy(update={"metric": "degradation", "threshold": LARGEST_DEGRADATION})
BEYOND_NULL = EXPLAINS.model_copy(update={"metric": "variance_ratio_excess", "threshold": -BEYOND})
ENOUGH = EXPLAINS.model_copy(update={"metric": "mass_kept", "relation": "above", "threshold": LEAST_KEPT})

TIGHT = Criterion(
    experiment="archetypes",
    question="Do reusable directions exist, and do contexts foretell them?",
    metric="tightness",
    relation="above",
    threshold=0.75,
    reason="Mean cosine of held-out directions to their centroid, among the principal components that hold "
    f"{EXPLAINED:.0%} of the variance of directions, for some number of clusters; {TIGHTER_BY} above both nulls' "
    "(Gaussian increments of the same covariance; increments to random frames of the same utterance), with "
    f"{ACCURATE:.0%} of the clusters of held-out speakers' next increments foretold from their contexts, more than "
    "where the next frame is a random one.",
)
FORETOLD = TIGHT.model_copy(update={"metric": "membership_accuracy", "threshold": ACCURATE})
TIGHTER = TIGHT.model_copy(update={"metric": "tightness_excess", "threshold": TIGHTER_BY})
KNOWN = TIGHT.model_copy(update={"metric": "membership_excess", "threshold": 0.0})
