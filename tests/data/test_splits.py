"""No speaker in two splits; the draw depends on the speakers and the seed alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_engram.data.splits import SPLITS, split_speakers
from audio_engram.errors import DataError, UsageError

speakers = st.dictionaries(st.text(max_size=4), st.integers(1, 10**6), min_size=3, max_size=60)
equal = {f"speaker {i}": 100 for i in range(100)}


def count(splits: dict[str, str]) -> list[int]:
    return [list(splits.values()).count(name) for name in SPLITS]


@given(speakers, st.integers(0, 5), st.floats(0.01, 0.6), st.floats(0.01, 0.39))
def test_every_speaker_has_one_split_and_no_split_is_empty(frames, seed, validation, test):
    splits = split_speakers(frames, validation, test, seed)
    assert set(splits) == set(frames)
    assert min(count(splits)) >= 1
    assert set(splits.values()) == set(SPLITS)


@given(speakers, st.randoms(use_true_random=False))
def test_order_of_the_speakers_does_not_matter(frames, random):
    shuffled = list(frames.items())
    random.shuffle(shuffled)
    assert split_speakers(dict(shuffled)) == split_speakers(frames)
    assert list(split_speakers(dict(shuffled))) == list(split_speakers(frames))


@given(speakers, st.integers(0, 5))
def test_no_speaker_with_a_large_share_is_held_out(frames, seed):
    limit = max(0.02, 2 / len(frames)) * sum(frames.values())
    splits = split_speakers(frames, seed=seed)
    assert all(frames[name] <= limit for name, split in splits.items() if split != "train")


def test_shares_are_of_speakers():
    assert count(split_speakers(equal)) == [60, 15, 25]
    assert count(split_speakers(equal, validation=0.1, test=0.3)) == [60, 10, 30]
    assert count(split_speakers(dict(list(equal.items())[:3]))) == [1, 1, 1]


def test_max_share_applies_once_it_is_more_than_twice_an_equal_share():
    frames = equal | {"large": 320}  # 3.1 % of all frames, three times an equal share
    drawn = {seed: split_speakers(frames, seed=seed, max_share=0.02)["large"] for seed in range(40)}
    assert set(drawn.values()) == {"train"}
    drawn = {seed: split_speakers(frames, seed=seed, max_share=0.04)["large"] for seed in range(40)}
    assert set(drawn.values()) == set(SPLITS)  # 40 fixed seeds, so this cannot fail by chance


def test_few_equal_speakers_are_all_drawn_though_each_is_above_max_share():
    frames = dict.fromkeys("abcdefgh", 10)
    seen = {(name, split) for seed in range(60) for name, split in split_speakers(frames, seed=seed).items()}
    assert len(seen) == 8 * 3


def test_the_seed_draws():
    assert split_speakers(equal, seed=0) == split_speakers(equal, seed=0)
    assert split_speakers(equal, seed=0) != split_speakers(equal, seed=1)


def test_other_speakers_do_not_change_the_order_of_the_draw():
    # One more speaker moves at most the speakers at the borders of the held-out splits.
    before, after = split_speakers(equal), split_speakers(equal | {"new": 100})
    assert sum(before[name] != after[name] for name in equal) <= 2


@pytest.mark.parametrize("frames", [{}, {"a": 1}, {"a": 1, "b": 1}])
def test_fewer_than_three_speakers(frames):
    with pytest.raises(DataError, match="add speakers"):
        split_speakers(frames)


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (0.0, 0.2), (0.2, -0.1), (float("nan"), 0.2)])
def test_shares_that_leave_no_train_split(validation, test):
    with pytest.raises(UsageError, match="sum below 1"):
        split_speakers(equal, validation, test)
