"""What figures of sampled rollouts against real stretches are called on the page (docs/manifold.md)."""

from audio_engram.report.metric_words import Metric

_RATIO = "over that of real stretches; 1 is real."

MANIFOLD = {
    "frechet_latents_ratio": Metric(
        "Fréchet distance",
        "times real",
        "Of windows of frames to real ones of other speakers, with their bias, over that of real ones; 1 is real.",
    ),
    "frechet_increments_ratio": Metric(
        "Fréchet distance, increments", "times real", "The same of windows of increments."
    ),
    "mmd_latents_ratio": Metric("MMD²", "times real", f"Kernel distance of windows of frames, {_RATIO}"),
    "mmd_increments_ratio": Metric("MMD², increments", "times real", "The same of windows of increments."),
    "variance_p05_ratio": Metric(
        "variance, least 5 % of dimensions", "times real", f"That of the 5 % quantile {_RATIO}"
    ),
    "variance_p50_ratio": Metric("variance, median dimension", "times real", f"Median over dimensions, {_RATIO}"),
    "variance_p95_ratio": Metric(
        "variance, most 5 % of dimensions", "times real", f"That of the 95 % quantile {_RATIO}"
    ),
    "variance_between_ratio": Metric(
        "variance between rollouts", "times real", f"That of the means of stretches, {_RATIO}"
    ),
    "effective_rank_ratio": Metric("effective rank", "times real", f"Directions of movement that count, {_RATIO}"),
    "magnitude_p05_ratio": Metric("magnitude, 5 % quantile", "times real", f"Length of the shortest steps {_RATIO}"),
    "magnitude_p50_ratio": Metric("magnitude, median", "times real", f"Median length of a step {_RATIO}"),
    "magnitude_p95_ratio": Metric("magnitude, 95 % quantile", "times real", f"Length of the longest steps {_RATIO}"),
    "frozen_ratio": Metric("frozen windows", "times real", f"Share of windows that hardly move, {_RATIO}"),
    "repetition_ratio": Metric("repetition", "times real", f"Share of windows that came before, {_RATIO}"),
    "copying_p05_ratio": Metric(
        "distance to training, 5 % quantile", "times real", f"To the nearest training frame, {_RATIO}"
    ),
    "copying_p50_ratio": Metric(
        "distance to training, median", "times real", f"To the nearest training frame, {_RATIO}"
    ),
    "copying_p95_ratio": Metric(
        "distance to training, 95 % quantile", "times real", f"To the nearest training frame, {_RATIO}"
    ),
    "survival": Metric("surviving", "share", "Rollouts that have not diverged by then, by the bounds of real speech."),
    "diverged_far": Metric("diverged: far", "share", "Rollouts that went far from all speech."),
    "diverged_collapsed": Metric("diverged: collapsed", "share", "Rollouts that came nearer to the mean than speech."),
    "diverged_racing": Metric("diverged: racing", "share", "Rollouts whose steps became longer than speech's."),
    "diverged_frozen": Metric("diverged: frozen", "share", "Rollouts that stopped moving."),
    "diverged_not_finite": Metric("diverged: not finite", "share", "Rollouts that left the finite numbers."),
    "finite_share": Metric("finite rollouts", "share", "Rollouts without a step that is not finite."),
    "cycle_error": Metric("cycle error", "", "How far latents are from what their own sound is encoded to, median."),
    "cycle_error_ratio": Metric("cycle error", "times real", "The same over that of real latents; 1 is real."),
    "level_slope": Metric("slope of the level", "dB/s", "Of the decoded stretch: below 0 it fades."),
    "spectral_flatness": Metric("spectral flatness", "", "Of the decoded stretch: 0.56 is white noise, 0 a tone."),
    "modulation": Metric(
        "modulation, 2 to 10 Hz", "", "Variance of the amplitude at the rates of syllables over its mean²."
    ),
    "speech_share": Metric("speech", "share", "Frames of the decoded stretch that are voiced or near a voiced one."),
    "dnsmos": Metric(
        "DNSMOS",
        "",
        "Overall quality of the decoded stretch from 1 to 5, as a trained model expects listeners to rate it.",
    ),
    "speaker_similarity": Metric(
        "likeness of voice",
        "",
        "Cosine of embeddings of the decoded stretch and another recording of the speaker.",
    ),
    "excess_share": Metric(
        "excess ΔNLL, of the best",
        "share",
        "Teacher-forced excess over that of the best training on true contexts alone.",
    ),
}
