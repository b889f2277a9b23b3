"""The words of trainings and the figures of their losses."""

import re

import pytest

from audio_engram.regimes import REGIMES
from audio_engram.report import words
from audio_engram.report.folder import Epoch
from audio_engram.report.trainings import training, training_of

EPOCHS = [Epoch(epoch=1, train=3.0, validation=4.0), Epoch(epoch=2, train=2.0, validation=None)]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("mdn-lag1", "MDN"),
        ("mdn-lag2", "MDN, lag 2"),
        ("vmf-lag2-shuffled_within", "vMF × log-normal, lag 2, shuffled within"),
        ("vmf-unroll16", "vMF, unrolled K = 16"),
        ("mdn-unroll5", "MDN, unrolled K = 5"),
        ("regime-mdn-tied-noise", "MDN, semi-tied, noise on contexts"),
        ("regime-vmf-coupled-k16", "vMF × log-normals, κ(m), unrolled K = 16"),
        ("regime-memory-blend-one", "memory blended into the direction: one prototype"),
        ("regime-vmf-without-memory", "vMF × log-normal, no memory"),
        ("two-stage-directions", "two stages: directions"),
        ("denoiser-conditional", "denoiser given the context"),
        ("something-else", "something-else"),
        ("-lag2", "-lag2"),
        ("", ""),
    ],
)
def test_a_training_has_the_words_of_its_model(name, label):
    assert training_of(name).label == label


def test_no_regime_is_called_by_what_the_run_calls_it():
    assert all(training_of(f"regime-{name}").label == one.words for name, one in REGIMES.items())


def test_no_row_needs_the_one_above_it():
    assert not [name for name, said in words.MODELS.items() if "the same" in said]


def test_losses_of_denoisers_are_no_nats():
    nats, squares = training(dict.fromkeys(("denoiser-unconditional", "vmf-lag2", "mdn-lag1"), EPOCHS))
    assert [panel.title for panel in nats.panels] == ["MDN", "vMF × log-normal, lag 2"]
    assert [panel.title for panel in squares.panels] == ["denoiser of frames alone"]
    assert "nats" in nats.caption
    assert "nats" not in squares.caption
    assert training({}) == []
    [alone] = training({"denoiser-unconditional": EPOCHS})
    assert alone.caption == squares.caption


def test_a_training_that_its_limit_ended_says_so():
    def fell(*validation):
        return [Epoch(epoch=e + 1, train=1.0, validation=v) for e, v in enumerate(validation)]

    trained = {
        "mdn-lag1": fell(3.0, 2.0),
        "mdn-lag2": fell(2.0, 3.0),
        "vmf-lag1": fell(1.0),
        "vmf-lag2": fell(1.0, None),
    }
    [figure] = training(trained)
    noted = {panel.title: "limit of epochs" in panel.note for panel in figure.panels}
    assert noted == {"MDN": True, "MDN, lag 2": False, "vMF × log-normal": True, "vMF × log-normal, lag 2": False}


def test_a_model_has_its_look_whatever_its_training_is_called():
    [figure] = training({"mdn-lag1": EPOCHS, "mdn-lag2-shuffled_within": EPOCHS, "regime-vmf-noise": EPOCHS})
    assert [panel.title for panel in figure.panels][:2] == ["MDN", "vMF × log-normal, noise on contexts"]
    assert figure.panels[2].title == "MDN, lag 2, shuffled within"
    assert all("var(--mdn)" in figure.panels[place].svg for place in (0, 2))
    assert len({key for panel in figure.panels for key in re.findall(r' id="(training-\d+)', panel.svg)}) == 3
