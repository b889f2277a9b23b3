"""Warnings follow from the data and the codec, each from its own cause."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from audio_engram.caveats import NOT_CAUSAL, STOCHASTIC, SYNTHETIC, WORLD, caveats
from audio_engram.data.leaks import Leaks
from audio_engram.data.manifest import Counts
from audio_engram.training_loop import History

CLEAN = Leaks(held_out=9, compared=9, threshold=6.0, highest=4.0, pairs=(), speakers=())
SHARED = replace(CLEAN, speakers=(("Ann", "ann"),))


def _history(epochs: int, best: int, broken: bool = False) -> History:
    return History(
        [{"epoch": e + 1, "train": 1.0, "validation": 1.0} for e in range(epochs)], best_epoch=best, broken=broken
    )


STOPPED = {"a": _history(2, 2), "b": _history(3, 2), "c": _history(1, 1), "none": _history(0, 0)}


def _run(**changes: object) -> SimpleNamespace:
    facts = {"synthetic": False, "world": None, "causal": True, "stochastic": False, "failed": 0, "n_test": 40}
    facts |= {"leaks": CLEAN, "too_short": 0, "histories": {"mdn-lag1": _history(3, 2)}}
    facts |= changes
    counts = Counts(found=100, ok=100 - int(facts["failed"]), failed=int(facts["failed"]))
    names = [f"u{i}" for i in range(6)]
    frames = SimpleNamespace(utterances=tuple(names[int(facts["too_short"]) :]))
    return SimpleNamespace(
        frames=lambda: frames,
        leaks=facts["leaks"],
        store=SimpleNamespace(
            manifest=SimpleNamespace(counts=counts, synthetic=facts["synthetic"]),
            utterances=[SimpleNamespace(id=name) for name in names],
        ),
        codec=SimpleNamespace(causal=facts["causal"], stochastic=facts["stochastic"]),
        world=facts["world"],
        histories=facts["histories"],
        split_of={str(i): "test" for i in range(int(facts["n_test"]))},
    )


@pytest.fixture(autouse=True)
def known_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audio_engram.caveats.leaks", lambda run: run.leaks)


CAVEATS = caveats.__wrapped__ if hasattr(caveats, "__wrapped__") else caveats


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"synthetic": True}, SYNTHETIC),
        ({"synthetic": True, "world": object()}, WORLD),
        ({"causal": False}, NOT_CAUSAL),
        ({"stochastic": True}, STOCHASTIC),
        ({"failed": 3}, "3 of 100 files"),
        ({"too_short": 2}, "2 of 6 utterances are shorter than one latent and left out (u0, u1): lower codec.stack."),
        ({"too_short": 4}, "4 of 6 utterances are shorter than one latent and left out (u0, u1, u2 ...)"),
        ({"leaks": SHARED}, "1 pairs of speakers in different splits differ in spelling only: Ann and ann"),
        (
            {"histories": STOPPED},
            "2 of 4 trainings ended at the limit of epochs while validation still improved",
        ),
        ({"histories": dict.fromkeys("abcdef", _history(1, 1))}, "6 of 6 trainings ended at the limit"),
        (
            {"histories": {"vmf-mean": _history(2, 1, broken=True), "mdn": _history(3, 2)}},
            "1 training on own states ended when most batches led out of the finite numbers (vmf-mean): their figures",
        ),
        (
            {"histories": {"vmf-sampled": _history(2, -1), "none": _history(0, -1)}},
            "1 training never had a finite validation loss (vmf-sampled): what is measured of them is",
        ),
        ({"n_test": 4}, "Only 4 held-out speakers: "),
        ({"n_test": 1}, "Only 1 held-out speaker: "),
    ],
)
def test_each_cause_gives_its_own_warning(changes: dict[str, object], says: str) -> None:
    (warning,) = CAVEATS(_run(**changes))
    assert says in warning


def test_plain_speech_has_no_warning() -> None:
    assert CAVEATS(_run()) == ()


def test_a_training_that_broke_did_not_end_at_the_limit() -> None:
    (said,) = CAVEATS(_run(histories={"vmf-mean": _history(2, 2, broken=True)}))
    assert said.startswith("1 training on own states ended when")
