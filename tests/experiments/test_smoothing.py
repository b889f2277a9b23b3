"""The verdict on a way to smooth: two conditions, each judged as everywhere, and the one that decided is shown."""

import pytest

from audio_engram.experiments.smoothing import ALLOWED, CRITERION, SOUND, _judge
from audio_engram.measurements import Measurement


def record(metric, low, high, n_speakers=8):
    value = (low + high) / 2
    return Measurement(
        experiment="smoothing", model="vmf", metric=metric, value=value, low=low, high=high, n_speakers=n_speakers
    )


def judged(gain, sound, n_speakers=8):
    worse = record("distortion_ratio", *sound, n_speakers) if sound else None
    return _judge(
        "mel · smooth 3", record("direction_cosine", 0.1, 0.3), record("cosine_gain", *gain, n_speakers), worse
    )


MORE, LESS, EITHER = (0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1)
NEAR, FAR, ABOUT = (1.0, 1.04), (1.06, 1.2), (1.0, 1.2)


@pytest.mark.parametrize(
    ("gain", "sound", "verdict", "cause", "metric"),
    [
        (MORE, NEAR, "pass", "", "cosine_gain"),
        (MORE, FAR, "fail", "", "distortion_ratio"),
        (MORE, ABOUT, "undecided", "straddles", "distortion_ratio"),
        (MORE, None, "undecided", "no interval", "distortion_ratio"),
        (LESS, NEAR, "fail", "", "cosine_gain"),
        (LESS, FAR, "fail", "", "cosine_gain"),
        (LESS, None, "fail", "", "cosine_gain"),
        (EITHER, NEAR, "undecided", "straddles", "cosine_gain"),
        (EITHER, FAR, "fail", "", "distortion_ratio"),
        (EITHER, ABOUT, "undecided", "straddles", "cosine_gain"),
    ],
)
def test_the_condition_that_decided_is_the_one_shown(gain, sound, verdict, cause, metric):
    found = judged(gain, sound)
    assert (found.verdict, found.cause, found.criterion.metric, found.measured.metric) == (
        *(verdict, cause),
        *(metric, metric),
    )
    assert found.criterion.judge(found.measured) == found.verdict


@pytest.mark.parametrize("sound", [NEAR, FAR, None])
def test_few_speakers_decide_nothing(sound):
    found = judged(MORE, sound, n_speakers=3)
    assert (found.verdict, found.cause) == ("undecided", "too few speakers")


def test_both_criteria_are_of_one_question_and_name_each_other():
    assert CRITERION.question == SOUND.question
    assert str(ALLOWED) in CRITERION.reason
    assert "gain in cosine must be above 0" in SOUND.reason


def test_the_sentence_tells_both():
    words = judged(MORE, FAR).words
    assert "0.150 [0.100, 0.200] more than raw" in words
    assert "distance to the recording 1.13 [1.06, 1.20] times" in words
    assert "its sound was not measured" in judged(MORE, None).words
