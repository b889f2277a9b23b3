"""What every reader of a run's numbers must know before believing one."""

from collections.abc import Mapping

from audio_engram import numbers
from audio_engram.data.frames import without_latent
from audio_engram.data.leaks import Leaks, find_leaks
from audio_engram.runs import Run
from audio_engram.training_loop import History

FEW_SPEAKERS = 10

SYNTHETIC = (
    "Synthetic corpus: these voices are not people. The findings show how the measurement behaves; "
    "they say nothing about human speech."
)
WORLD = (
    "A world with a known answer: these latents were drawn from a process and nobody spoke. "
    "The findings check the measurement itself."
)
NOT_CAUSAL = (
    "The codec is not causal: a latent frame has already seen sound that comes after it, "
    "so predicting the next frame is easier than a real-time model could find it."
)
STOCHASTIC = "The codec's encoder is stochastic: part of every increment is its own noise, which no model can predict."


def leaks(run: Run) -> Leaks | None:
    """What the splits share, asked once in a run; the utterances of a world share nothing but their process."""
    if run.world is not None:
        return None
    sources = {u.id: u.source for u in run.store.utterances}
    return run.once(("leaks",), lambda: find_leaks(run.frames(), sources))


def _stopped_early(histories: Mapping[str, History]) -> str:
    """How many trainings had not ended by themselves: their verdicts are of models that know less than they could."""
    stopped = sum(0 < len(one.epochs) == one.best_epoch and not one.broken for one in histories.values())
    if not stopped:
        return ""
    return (
        f"{stopped} of {numbers.plural(len(histories), 'training')} ended at the limit of epochs while validation "
        "still improved, as the report marks under Training: verdicts may be of models that know too little yet. Raise "
        "train.epochs, and experiments.unroll_epochs for trainings on own states."
    )


def _broken(histories: Mapping[str, History]) -> str:
    """Which trainings ended because their rollouts left the finite numbers."""
    names = [name for name, history in histories.items() if history.broken and history.best_epoch > 0]
    if not names:
        return ""
    return (
        f"{numbers.plural(len(names), 'training')} on own states ended when most batches led out of the finite numbers "
        f"({', '.join(names)}): their figures are of the best epoch until then."
    )


def _never_finite(histories: Mapping[str, History]) -> str:
    """Which trainings have no epoch that could be the best."""
    names = [name for name, history in histories.items() if history.epochs and history.best_epoch < 0]
    if not names:
        return ""
    return (
        f"{numbers.plural(len(names), 'training')} never had a finite validation loss ({', '.join(names)}): what is "
        "measured of them is the model that they started from."
    )


def caveats(run: Run) -> tuple[str, ...]:
    """The warnings of a run, shown wherever its results appear."""
    manifest, codec = run.store.manifest, run.codec
    failed = manifest.counts.failed
    n_test = sum(split == "test" for split in run.split_of.values())
    shared, without = leaks(run), without_latent([u.id for u in run.store.utterances], run.frames().utterances)
    stopped, broken, never = (of(run.histories) for of in (_stopped_early, _broken, _never_finite))
    found = [
        (run.world is not None, WORLD),
        (manifest.synthetic and run.world is None, SYNTHETIC),
        (not codec.causal, NOT_CAUSAL),
        (codec.stochastic, STOCHASTIC),
        (
            failed > 0,
            f"{failed} of {manifest.counts.found} files could not be read; the reasons stand under Provenance.",
        ),
        (bool(without), without),
        (bool(stopped), stopped),
        (bool(broken), broken),
        (bool(never), never),
        (bool(shared), shared.sentence() if shared else ""),
        (n_test < FEW_SPEAKERS, f"Only {numbers.plural(n_test, 'held-out speaker')}: intervals are wide and rough."),
    ]
    return tuple(text for applies, text in found if applies)
