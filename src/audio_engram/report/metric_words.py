"""What metrics are called on the page, their units and their meaning."""

from typing import NamedTuple

from audio_engram.spoken import begun


class Metric(NamedTuple):
    """A metric's name on the page, its unit and its meaning in a sentence; `whole` for numbers that are whole."""

    label: str
    unit: str
    meaning: str
    whole: bool = False

    @property
    def title(self) -> str:
        """The name at the beginning of a line; a Greek letter means something else as a capital."""
        return begun(self.label)


ETA_SQUARED = (
    "Share of the variance that the clusters' training means explain, held-out speakers; below 0 they are worse than "
    "one mean for all."
)

METRICS = {
    "delta_nll": Metric(
        "ΔNLL",
        "nats/frame",
        "Negative log-likelihood minus that of the increment baseline; negative is better.",
    ),
    "delta_nll_median": Metric("ΔNLL, median", "nats/frame", "Median over frames: single frames cannot move it."),
    "delta_nll_trimmed": Metric(
        "ΔNLL, 5 % trimmed", "nats/frame", "Mean without the lowest and the highest 5 % of frames."
    ),
    "delta_nll_excess": Metric(
        "ΔNLL excess", "nats/frame", "NLL minus that of the best trivial baseline; the verdict rests on it."
    ),
    "exploded_share": Metric("exploded frames", "share", "Share of frames above the baseline plus 100 nats."),
    "bits_per_dim": Metric("bits/dim", "bits", "Density of the raw increments, per dimension."),
    "nats_per_dim": Metric("nats/dim", "nats", "ΔNLL divided by the number of dimensions."),
    "direction_cosine": Metric(
        "direction cosine",
        "",
        "Cosine between predicted and true increment, in raw latents. Predicted is E[δ] under Predictability and in "
        "the ceiling, and the step taken in a rollout.",
    ),
    "direction_cosine_standardised": Metric(
        "direction cosine, standardised", "", "The same where every dimension has unit variance."
    ),
    "ceiling_direction_cosine": Metric(
        "ceiling of the direction cosine",
        "",
        "Reached by E[δ] of a predictor trained directly at a lag: the best of heads and baselines, and of all lags "
        "from that step to the longest trained.",
    ),
    "innovation_cosine": Metric(
        "innovation cosine", "", "Predicted against true increment, both after the AR(1) part is removed."
    ),
    "state_r2": Metric("next-state R²", "", "Share of the variance of the next state that is explained."),
    "increment_r2": Metric("increment R²", "", "Share of the squares of the increment that is explained."),
    "magnitude_r2": Metric("log-magnitude R², own E[log m]", "", "R² of log m by the model's own E[log m]."),
    "magnitude_r2_of_mean": Metric(
        "log-magnitude R², norm of the mean",
        "",
        "R² of log m by the norm of the predicted mean; a shrunken mean makes it negative by construction.",
    ),
    "magnitude_ratio": Metric("magnitude ratio", "", "Predicted magnitude over true magnitude; 1 is right."),
    "state_error": Metric(
        "state error", "", "Distance of the rolled-out state to the true one, in standardised latents."
    ),
    "state_error_vs_still": Metric(
        "state error / standing still", "", "Below 1: closer to the truth than not moving at all."
    ),
    "state_error_vs_mean": Metric(
        "state error / training mean", "", "Below 1: closer to the truth than the mean of the training data."
    ),
    "state_error_difference": Metric("difference of state errors", "", "Negative: the first model is closer."),
    "sampled_state_error_difference": Metric(
        "difference of state errors, sampled", "", "The same of rollouts that draw every increment."
    ),
    "parameters": Metric("parameters", "", "Numbers that training changes.", whole=True),
    "delta_nll_difference": Metric("difference in NLL", "nats/frame", "Negative: the first model is better."),
    "delta_nll_rollout": Metric(
        "ΔNLL in rollout", "nats/frame", "Mean over steps 2 to the last of a rollout that is given no true frame."
    ),
    "delta_nll_rollout_difference": Metric(
        "difference in NLL in rollout", "nats/frame", "Negative: the first model is better."
    ),
    "prototypes_in_use": Metric("prototypes in use", "", "Exp of the entropy of how often each is read."),
    "prototypes_at_once": Metric("prototypes at once", "", "Exp of the mean entropy of what one context reads."),
    "prototypes_apart": Metric(
        "read elsewhere", "share", "What held-out speakers read of other prototypes than training speakers."
    ),
    "prototype_gate": Metric("gate", "", "The memory's part in the direction, 0 to 1."),
    "frechet_latents_times": Metric(
        "times as far, latents", "", "Fréchet distance to real stretches over the second's: below 1 it is nearer."
    ),
    "frechet_increments_times": Metric(
        "times as far, increments", "", "Fréchet distance to real stretches over the second's: below 1 it is nearer."
    ),
    "corrector_broken_share": Metric(
        "broken by the corrector",
        "share",
        "Rollouts that leave the numbers with it, at a step where they do not without.",
    ),
    "corrector_broken_step": Metric(
        "broken at step", "", "The first step at which it did so; 0 where it never did.", whole=True
    ),
    "first_nonfinite_step": Metric(
        "first non-finite step", "steps", "Where a rollout left the finite numbers; 0: nowhere."
    ),
    "recovery": Metric("recovery", "", "Share of the gap that one true frame closes."),
    "dynamics_per_second": Metric(
        "dynamics a second", "nats/s", "ΔNLL that only the order of the frames carries, in a second of audio."
    ),
    "delta_nll_per_second": Metric("ΔNLL a second", "nats/s", "ΔNLL times the frame rate."),
    "delta_nll_excess_per_second": Metric("ΔNLL excess a second", "nats/s", "The excess times the frame rate."),
    "nll_per_second": Metric(
        "NLL a second",
        "nats/s",
        "Of the raw increments; comparable only between representations that hold the same numbers.",
    ),
    "advantage_kept": Metric(
        "advantage kept",
        "",
        "Share of the teacher-forced advantage that free running keeps from step 2 on; negative where it is worse than "
        "the increment baseline.",
    ),
    "dynamics_ratio": Metric("ratio of dynamics", "", "Dynamics a second over those of the run's own representation."),
    "spectral_distance": Metric(
        "log-spectral distance", "dB", "Between the recording and what the decoder makes of it."
    ),
    "distortion_ratio": Metric(
        "distortion ratio", "", "Log-spectral distance to the recording over that of the latents before smoothing."
    ),
    "cosine_gain": Metric(
        "gain in cosine",
        "",
        "Direction cosine beyond raw latents', less what shuffled frames gain by the same smoothing.",
    ),
    "excess_dynamics": Metric(
        "excess beyond AR(1)",
        "nats/frame",
        "The excess less that of the same model where AR(1) tells all of the order.",
    ),
    "part_mean_reversion": Metric(
        "mean reversion",
        "nats/frame",
        "What differencing alone makes predictable: the state marginal against the increment marginal.",
    ),
    "part_shape": Metric(
        "shape", "nats/frame", "What a better-shaped density gains: the same head on frames shuffled across utterances."
    ),
    "part_static": Metric("static", "nats/frame", "Who speaks and how loud: what order in time does not carry."),
    "part_dynamics": Metric("dynamics", "nats/frame", "What only the order of the frames carries."),
    "variance_ratio": Metric(
        "variance ratio",
        "",
        "Variance of increments within clusters of contexts over their total variance; 1 is nothing.",
    ),
    "degradation": Metric(
        "degradation", "", "The variance ratio on held-out speakers over that on training speakers, less 1."
    ),
    "entropy_reduction": Metric(
        "entropy reduction",
        "nats/frame",
        "Held-out log-likelihood gained by a Gaussian for each cluster over one for all.",
    ),
    "mass_kept": Metric("mass kept", "share", "Held-out frames in clusters of at least 100 training frames."),
    "clusters_kept": Metric("clusters kept", "", "Clusters of at least 100 training frames.", whole=True),
    "variance_ratio_excess": Metric(
        "variance ratio less the null's", "", "Below 0: clusters explain more than on the null."
    ),
    "variance_ratio_middle": Metric("variance ratio, middle", "", "In the middle half of every utterance."),
    "variance_ratio_high_energy": Metric("variance ratio, louder half", "", "In the louder half of every utterance."),
    "variance_ratio_confident_50%": Metric("variance ratio, surest 50 %", "", "On the most confident assignments."),
    "variance_ratio_confident_25%": Metric("variance ratio, surest 25 %", "", "On the most confident assignments."),
    "variance_ratio_confident_10%": Metric("variance ratio, surest 10 %", "", "On the most confident assignments."),
    "variance_ratio_speakers_p10": Metric("variance ratio, 10 % of speakers", "", "A tenth of speakers lies below."),
    "variance_ratio_speakers_p50": Metric("variance ratio, median speaker", "", "Half of the speakers lie below."),
    "variance_ratio_speakers_p90": Metric("variance ratio, 90 % of speakers", "", "A tenth of speakers lies above."),
    "tightness": Metric("tightness", "", "Mean cosine of directions to their cluster's centroid, among components."),
    "tightness_full": Metric("tightness, all dimensions", "", "Mean cosine of directions to the nearest prototype."),
    "tightness_excess": Metric("tightness beyond the null", "", "Above 0: tighter than the null's directions."),
    "tightness_state_conditioned": Metric(
        "tightness, states first", "", "As many clusters, but groups of states first and directions within each."
    ),
    "variance_explained": Metric("variance explained", "", "Of held-out directions, by the means of their clusters."),
    "cluster_entropy": Metric("entropy of sizes", "", "1 where all clusters are alike in size."),
    "empty_clusters": Metric("empty clusters", "", "Clusters that no direction falls into.", whole=True),
    "membership_accuracy": Metric(
        "membership foretold",
        "share",
        "Clusters of the next increment that a network foretells from the last frame and the increment to it.",
    ),
    "membership_linear": Metric("membership, linear", "share", "The same by softmax regression."),
    "membership_majority": Metric(
        "membership, majority", "share", "The same by always naming the most frequent cluster."
    ),
    "membership_excess": Metric("membership beyond the null", "", "More foretold than for random pairs of frames."),
    "found_k": Metric(
        "K found",
        "",
        "Least K whose tightness beyond the nulls is as good as the best; none if no K is clearly tighter.",
        whole=True,
    ),
    "eta_squared_energy_change": Metric("η², change of level", "", ETA_SQUARED),
    "eta_squared_flux": Metric("η², spectral flux", "", ETA_SQUARED),
    "eta_squared_pitch_change": Metric("η², change of pitch", "", ETA_SQUARED),
}
