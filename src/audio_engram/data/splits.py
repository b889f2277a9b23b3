"""Divide speakers, never utterances, into train, validation and test."""

import hashlib
import math
from typing import Literal, get_args

from audio_engram.errors import DataError, UsageError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


def split_speakers(
    frames_by_speaker: dict[str, int],
    validation: float = 0.15,
    test: float = 0.25,
    seed: int = 0,
    max_share: float = 0.02,
) -> dict[str, Split]:
    """Give every speaker one split; `validation` and `test` are shares of the speakers, each at least one.

    A speaker with more than `max_share` of all frames, and more than twice an equal share, goes to train:
    held out, a few such speakers would be most of the frames and decide every interval by themselves.

    Raises: DataError for fewer than 3 speakers, UsageError for shares that leave nothing to train on.
    """
    _check_shares(validation, test)
    n_speakers = len(frames_by_speaker)
    if n_speakers < 3:
        found = f"{n_speakers} speaker" + ("" if n_speakers == 1 else "s")
        raise DataError(
            f"{found} cannot fill train, validation and test; add speakers to the corpus"
            " (3 at least, 20 for intervals that mean something)"
        )
    # At most half of the speakers can hold more than twice an equal share, so two or more always remain.
    limit = max(max_share, 2 / n_speakers) * sum(frames_by_speaker.values())
    free = sorted((s for s in frames_by_speaker if frames_by_speaker[s] <= limit), key=lambda s: _draw(s, seed))
    n_test, n_validation = _held_out(n_speakers, len(free), test, validation)
    splits: dict[str, Split] = dict.fromkeys(sorted(frames_by_speaker), "train")
    splits |= dict.fromkeys(free[:n_test], "test")
    splits |= dict.fromkeys(free[n_test : n_test + n_validation], "validation")
    return splits


def _draw(speaker: str, seed: int) -> str:
    # A hash in place of a generator: a speaker's draw depends on no other, no order and no library version.
    return hashlib.sha256(f"{seed}:{speaker}".encode()).hexdigest()


def _held_out(n_speakers: int, n_free: int, test: float, validation: float) -> tuple[int, int]:
    room = min(n_free, n_speakers - 1)
    n_test = max(1, round(test * n_speakers))
    n_validation = max(1, round(validation * n_speakers))
    if n_test + n_validation > room:
        n_test = min(room - 1, max(1, math.floor(room * test / (test + validation))))
        n_validation = room - n_test
    return n_test, n_validation


def _check_shares(validation: float, test: float) -> None:
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise UsageError(
            f"data.validation = {validation:g} and data.test = {test:g} leave no train split;"
            " both must be above 0 and their sum below 1"
        )
