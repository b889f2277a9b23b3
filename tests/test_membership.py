"""The classifier that foretells the cluster of the next increment."""

import torch

from audio_engram.config import make_config
from audio_engram.data.processes import World
from audio_engram.experiments.archetypes import archetypes
from audio_engram.measurements import Measurements
from audio_engram.membership import fit_classifier, predict
from audio_engram.runs import Run


def test_a_hidden_layer_learns_what_no_linear_rule_can():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6000, 2, generator=generator)
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).long()
    train, validation, test = ((x[p], y[p]) for p in (slice(0, 4000), slice(4000, 5000), slice(5000, None)))
    accuracy = {
        hidden: float((predict(fit_classifier(train, validation, 2, hidden, 0), test[0]) == test[1]).double().mean())
        for hidden in (True, False)
    }
    # Softmax regression on a balanced exclusive or: 0.5 with a standard error of 0.016; three-sided corners reach 0.75.
    assert accuracy[True] > 0.95
    assert accuracy[False] < 0.76


def test_a_classifier_is_the_same_from_the_same_seed_and_leaves_the_global_stream_alone():
    x, y = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 5
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (fit_classifier((x, y), (x, y), 5, True, seed)(x) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_context_of_one_frame_foretells_from_it_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(World, "speakers", 12)
    monkeypatch.setattr(World, "utterances_per_speaker", 2)
    config = {
        "device": "cpu",
        "data": {"corpus": "world:correlated", "test": 0.4},
        "model": {"context": 1},
        "experiments": {"archetype_counts": [8]},
    }
    records = Measurements(archetypes(Run(tmp_path, make_config(config), log=lambda line: None)).measurements)
    linear, majority = (
        records.one(metric=f"membership_{name}", data="real", model="K = 8") for name in ("linear", "majority")
    )
    assert linear.low > majority.high  # frames return to their mean
