"""Segments against naive slicing: which frame follows which, and what the utterance features may know."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import audio_engram.data.windows as windows_module
from audio_engram.data.windows import Windows
from audio_engram.errors import DataError
from toys import make_frames, same_segment, walk

D = 3


def numbered(lengths):
    """Utterances whose frames say which one they are of (coordinate 1) and where they stand in it (0)."""
    utterances = []
    for u, n in enumerate(lengths):
        z = walk(n, D, seed=u)
        z[:, 1] = u
        utterances.append(z)
    return utterances


@st.composite
def corpora(draw):
    lengths = draw(st.lists(st.integers(1, 14), min_size=3, max_size=7))
    splits = draw(st.lists(st.sampled_from(["train", "test"]), min_size=len(lengths), max_size=len(lengths)))
    context, steps = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    # Something to train on, and something long enough in each split.
    lengths[0], splits[0] = context + steps + 1, "train"
    lengths[1], splits[1] = context + steps, "test"
    return lengths, splits, context, steps


def naive(utterances, splits, split, context, steps):
    found = []
    for z, where in zip(utterances, splits, strict=True):
        if where == split:
            found += [z[i : i + context + steps] for i in range(len(z) - context - steps + 1)]
    return torch.stack(found)


@settings(max_examples=60, deadline=None)
@given(corpora())
def test_segments_are_exactly_the_contiguous_runs_of_the_split(corpus):
    lengths, splits, context, steps = corpus
    utterances = numbered(lengths)
    frames = make_frames(utterances, splits)
    for split in ("train", "test"):
        windows = Windows(frames, split, context, steps)
        segment = windows.gather(torch.arange(len(windows)))
        expected = naive(utterances, splits, split, context, steps)
        assert torch.equal(torch.cat([segment.context, segment.future], dim=1), expected)
        assert segment.context.shape[1] == context
        # Contiguous inside one utterance: places count up by one, and the utterance stays the same.
        run = torch.cat([segment.context, segment.future], dim=1)
        assert (run[:, :, 0].diff(dim=1) == 1).all()
        assert (run[:, :, 1] == run[:, :1, 1]).all()
        owners = frames.speaker[windows.target]
        assert (segment.speaker == owners[:, None]).all()
        assert (segment.speaker == run[:, context:, 1].long()).all()


@pytest.mark.parametrize("lag", [1, 2, 4])
def test_at_lag_k_the_context_ends_k_frames_before_the_target(lag):
    z = walk(20, D)
    windows = Windows(make_frames([z], ["train"]), "train", 3, lag)
    segment = windows.gather(torch.arange(len(windows)))
    for row, t in enumerate(windows.target.tolist()):
        assert torch.equal(segment.future[row, -1], z[t])
        assert torch.equal(segment.delta[row, -1], z[t] - z[t - 1])
        assert torch.equal(segment.context[row], z[t - lag - 2 : t - lag + 1])
        assert torch.equal(segment.previous[row, -1], z[t - 1])


def test_increments_are_those_of_the_future_frames():
    z = walk(12, D)
    windows = Windows(make_frames([z], ["train"]), "train", 4, 5)
    segment = windows.gather(torch.tensor([2]))
    assert torch.equal(segment.delta[0], z[6:11] - z[5:10])
    assert torch.equal(segment.previous[0], z[5:10])


def naive_features(z, moving, t):
    others = torch.cat([z[:t], z[t + 1 :]]).mean(0)
    log_m = [float((z[s] - z[s - 1]).norm().log()) for s in range(1, len(z)) if moving[s] and s not in (t, t + 1)]
    return others, sum(log_m) / max(len(log_m), 1)


def test_utterance_features_against_naive_sums():
    utterances = [walk(9, D, seed=1), walk(6, D, seed=2), walk(8, D, seed=3)]
    utterances[0][4] = utterances[0][3]  # an increment of digital silence
    frames = make_frames(utterances, ["train"] * 3)
    windows = Windows(frames, "train", 2, 1)
    features = windows.gather(torch.arange(len(windows))).utterance
    for row, place in enumerate(windows.target.tolist()):
        u = int(frames.utterance[place])
        first = int(frames.offsets[u])
        moving = frames.moving[first : int(frames.offsets[u + 1])]
        mean, log_m = naive_features(utterances[u], moving, place - first)
        torch.testing.assert_close(features[row, :D], mean.float())
        assert float(features[row, D]) == pytest.approx(log_m, abs=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_utterance_features_do_not_know_the_target(steps):
    z = walk(15, D)
    windows = Windows(make_frames([z], ["train"]), "train", 2, steps)
    for row, t in enumerate(windows.target.tolist()):
        other = z.clone()
        other[t - steps + 1 : t + 1, 1:] += 50.0  # the target and every frame between it and the context
        changed = Windows(make_frames([other], ["train"]), "train", 2, steps)
        one, two = (w.gather(torch.tensor([row])).utterance for w in (windows, changed))
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_utterance_features_know_the_other_frames():
    z = walk(15, D)
    other = z.clone()
    other[14] += 50.0
    one, two = (
        Windows(make_frames([x], ["train"]), "train", 2, 1).gather(torch.tensor([0])).utterance for x in (z, other)
    )
    assert (one != two).any()


def test_features_of_an_utterance_ignore_its_neighbours():
    a, b, c = walk(8, D, 0), walk(8, D, 1), walk(8, D, 2)
    alone = Windows(make_frames([b], ["train"]), "train", 2, 1)
    between = Windows(make_frames([a, b, c], ["test", "train", "test"]), "train", 2, 1)
    everything = torch.arange(len(alone))
    torch.testing.assert_close(alone.gather(everything).utterance, between.gather(everything).utterance)


def test_silence_has_no_valid_increment():
    z = walk(12, D)
    z[6] = z[5]
    z[7] = z[6] + 1e-9
    windows = Windows(make_frames([z], ["train"]), "train", 2, 3)
    segment = windows.gather(torch.arange(len(windows)))
    for row, start in enumerate(windows.starts.tolist()):
        assert segment.valid[row].tolist() == [t not in (6, 7) for t in range(start + 2, start + 5)]
    kept = windows.target[windows.with_valid_target()].tolist()
    assert kept == [t for t in range(4, 12) if t not in (6, 7)]


def test_batches_keep_order_and_lose_nothing():
    windows = Windows(make_frames([walk(30, D)], ["train"]), "train", 3, 2)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    parts = list(windows.batches(order, 7))
    assert [len(p.context) for p in parts] == [7, 7, 7, 5]
    whole = windows.gather(order)
    assert torch.equal(torch.cat([p.context for p in parts]), whole.context)
    assert torch.equal(torch.cat([p.utterance for p in parts]), whole.utterance)
    assert same_segment(parts[0], windows.gather(order[:7]))


def test_a_batch_of_no_stated_size_holds_so_many_numbers_or_one_segment(monkeypatch):
    windows = Windows(make_frames([walk(30, D)], ["train"]), "train", 3, 2)
    index = torch.arange(len(windows))
    for numbers, rows in ((4 * 5 * D, 4), (5 * 5 * D - 1, 4), (1, 1)):
        monkeypatch.setattr(windows_module, "NUMBERS", numbers)
        parts = list(windows.batches(index))
        assert {len(p.context) for p in parts[:-1]} == {rows}
        assert torch.equal(torch.cat([p.future for p in parts]), windows.gather(index).future)


@given(st.integers(1, 60))
def test_evenly_spreads_over_the_split(most):
    windows = Windows(make_frames([walk(30, D)], ["train"]), "train", 3, 2)
    index = windows.evenly(most)
    n = len(windows)
    assert len(index) == min(most, n)
    assert torch.equal(index, index.unique())
    assert index[0] == 0
    if len(index) > 1:
        assert index[-1] == n - 1
        assert int(index.diff().max()) - int(index.diff().min()) <= 1


def test_utterances_that_are_too_short_are_named_with_the_remedy():
    frames = make_frames([walk(6, D), walk(4, D)], ["train", "test"])
    with pytest.raises(DataError, match=r"test split: no utterance has 7 frames \(3 of context \+ 4 steps"):
        Windows(frames, "test", 3, 4)


def test_a_segment_moves_as_a_whole():
    segment = Windows(make_frames([walk(9, D)], ["train"]), "train", 3, 2).gather(torch.tensor([0, 1]))
    assert same_segment(segment, segment.to(torch.device("cpu")))
