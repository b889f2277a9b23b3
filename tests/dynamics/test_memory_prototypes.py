"""Prototypes from files and other standardisations, how many there may be, and which of them are read."""

from dataclasses import replace
from math import log

import pytest
import torch
from memory_toys import D, K, configured, directions, lively, started
from safetensors.torch import save_file

from audio_engram.data.windows import Windows
from audio_engram.dynamics.baselines import fit_baseline
from audio_engram.dynamics.heads import measure_start
from audio_engram.dynamics.model import make_model
from audio_engram.dynamics.prototype_use import PrototypeUse, prototype_use
from audio_engram.dynamics.prototypes import load_prototypes, restandardised, with_prototypes
from audio_engram.errors import DataError, MissingError, UsageError
from toys import ar_frames


def saved(folder, rows, **further):
    path = folder / "k4.safetensors"
    save_file({"directions": rows, "share": torch.full((len(rows),), 1 / len(rows)), **further}, path)
    return path


def test_prototypes_are_read_as_they_were_kept(tmp_path):
    own = torch.linspace(0.2, 3.0, D)
    assert torch.equal(load_prototypes(saved(tmp_path, directions()), own), directions())
    assert torch.equal(load_prototypes(saved(tmp_path, directions(), scale=own), own), directions())


def test_prototypes_of_another_standardisation_are_turned_into_this_one(tmp_path):
    former, own = torch.linspace(0.2, 3.0, D), torch.linspace(5.0, 0.1, D)
    found = load_prototypes(saved(tmp_path, directions(), scale=former), own)
    raw = [torch.nn.functional.normalize(rows, dim=1) for rows in (found * own, directions() * former)]
    torch.testing.assert_close(raw[0], raw[1])
    torch.testing.assert_close(found.norm(dim=1), torch.ones(K))


def test_prototypes_that_cannot_be_used_are_one_clear_line(tmp_path):
    def file(name, rows, **further):
        folder = tmp_path / name
        folder.mkdir()
        return saved(folder, rows, **further)

    empty, other = tmp_path / "empty.safetensors", tmp_path / "other.safetensors"
    empty.write_bytes(b"")
    save_file({"share": torch.ones(3)}, other)
    cases = [
        (tmp_path / "k9.safetensors", MissingError, "no prototypes: make them with engram run"),
        (file("wide", directions(dim=D + 1)), DataError, r"prototypes \(4 x 7\) of other latents than these of 6:"),
        (file("flat", directions()[0]), DataError, r"prototypes \(6\) of other latents"),
        (file("long", 2 * directions()), DataError, r"damaged \(not unit vectors\)"),
        (file("nan", directions() * torch.nan), DataError, r"damaged \(not unit vectors\)"),
        (file("scale", directions(), scale=torch.zeros(D)), DataError, r"damaged \(scales that are not positive\)"),
        (file("short", directions(), scale=torch.ones(2)), DataError, "of other latents"),
        (empty, DataError, "damaged"),
        (other, DataError, "damaged"),
    ]
    for path, family, message in cases:
        with pytest.raises(family, match=message) as caught:
            load_prototypes(path, torch.ones(D))
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_a_direction_of_raw_increments_is_the_same_in_both_standardisations():
    raw = torch.randn(K, D, generator=torch.Generator().manual_seed(0))
    former, own = torch.linspace(0.2, 3.0, D), torch.linspace(5.0, 0.1, D)
    before, after = (torch.nn.functional.normalize(raw / scale, dim=1) for scale in (former, own))
    torch.testing.assert_close(restandardised(before, former, own), after)
    torch.testing.assert_close(restandardised(before, own, own), before)


def test_a_models_prototype_is_the_direction_that_standardised_increments_have():
    # Increments of training frames, as archetypes are made of, are what the head scores: cosine 1, not in raw space.
    frames = replace(ar_frames(dim=D), scale=torch.linspace(0.1, 4.0, D))
    windows = Windows(frames, "train", 3, 1)
    delta = windows.increments(windows.with_valid_target()[:K])
    config = configured(direction="alone", key_width=K, sharpness=1000.0)
    start = measure_start(windows, fit_baseline("ar1", windows))
    rows = torch.nn.functional.normalize(delta, dim=1)
    model = make_model("vmf", config, with_prototypes(start, config, windows, rows), seed=0)
    with torch.no_grad():
        model.head.memory.keys.copy_(torch.eye(K))
        model.head.linear.weight.zero_()
        model.head.linear.bias[-K:] = torch.eye(K)[1]
        found = model(windows.gather(windows.with_valid_target()[:1]).context).direction[0]
    assert torch.cosine_similarity(found, delta[1], dim=0).item() == pytest.approx(1.0, abs=1e-6)
    raw = torch.cosine_similarity(found * frames.scale, delta[1] * frames.scale, dim=0).item()
    assert raw == pytest.approx(1.0, abs=1e-6)
    assert torch.cosine_similarity(found, delta[1] * frames.scale, dim=0).item() < 0.99


def test_more_prototypes_than_training_increments_are_refused():
    windows = Windows(ar_frames(dim=D), "train", 3, 1)
    n = len(windows.with_valid_target())
    assert with_prototypes(started(), configured(prototypes=n), windows).prototypes is None
    with pytest.raises(UsageError, match=rf"model.memory.prototypes = {n + 1}: the training split has {n} frames"):
        with_prototypes(started(), configured(prototypes=n + 1), windows)
    off = configured(direction="none", prototypes=n + 1)
    assert torch.equal(with_prototypes(started(), off, windows, directions()).prototypes, directions())


def used(share, entropy=0.0):
    share = torch.tensor(share, dtype=torch.float64)
    return PrototypeUse(share, torch.full((3,), entropy, dtype=torch.float64), torch.zeros(3))


def test_perplexity_counts_prototypes():
    assert used([0.25, 0.25, 0.25, 0.25]).perplexity == pytest.approx(4)
    assert used([0.0, 1.0, 0.0, 0.0]).perplexity == pytest.approx(1)
    assert used([0.5, 0.25, 0.25, 0.0]).perplexity == pytest.approx(2**1.5)
    assert used([0.5, 0.5], log(2)).at_once == pytest.approx(2)
    assert used([0.5, 0.5, 0.0]).apart(used([0.5, 0.0, 0.5])) == pytest.approx(0.5)
    assert used([1.0, 0.0]).apart(used([1.0, 0.0])) == 0


@pytest.mark.parametrize("n_features", [0, D + 1])
def test_use_is_measured_on_the_contexts_of_a_split(n_features):
    frames = ar_frames(dim=D)
    config = configured(key_width=K, sharpness=1000.0)
    model = make_model("vmf", config, started(directions()), seed=0, n_features=n_features)
    with torch.no_grad():
        model.head.memory.keys.copy_(torch.eye(K))
    windows = Windows(frames, "train", 3, 1)
    index = windows.evenly(100)
    use = prototype_use(model, windows, index)
    segment = windows.gather(index)
    with torch.no_grad():
        raw = model.outputs(segment.context, segment.utterance)
    expected = (1000 * torch.nn.functional.normalize(raw[:, -K:], dim=1).double()).softmax(1)
    torch.testing.assert_close(use.share, expected.mean(0), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(use.entropy, -(expected * expected.clamp(min=1e-300).log()).sum(1), rtol=0.05, atol=5e-3)
    torch.testing.assert_close(use.gate, torch.sigmoid(raw[:, -K - 1] - 2.0))
    assert use.share.sum().item() == pytest.approx(1)
    held = prototype_use(model, Windows(frames, "test", 3, 1), index[:20])
    assert 0 < use.apart(held) < 1
    assert 1 <= use.at_once <= use.perplexity <= K


def test_a_model_without_a_memory_has_no_use_of_it():
    windows = Windows(ar_frames(dim=D), "train", 3, 1)
    for config in (configured(direction="none"), configured(placebo="matched")):
        with pytest.raises(UsageError, match="model vmf: has no memory"):
            prototype_use(lively(config).float(), windows, windows.evenly(4))
