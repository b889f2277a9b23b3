"""Sampled rollouts to hear: two seconds of each after 2, 5 and 20 s, beside what they should sound like."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from audio_engram import checkpoint
from audio_engram.clips import heard, write_clip
from audio_engram.data.corpus import CorpusItem
from audio_engram.experiments.decoded import CONTEXT, FILE, ORIGINAL, REAL
from audio_engram.runs import Run
from audio_engram.spoken import begun

AFTER = (2.0, 5.0, 20.0)
LONG = 2.0
KIND = "sampled_rollout"
ANCHORS = {
    REAL: "Codec round trip",
    "teacher-forced": "MDN, draws from true contexts",
    "shuffled frames": "True frames in random order",
}
"""What is no rollout, as it is called beside them."""


def rollout_clips(run: Run, items: Mapping[str, CorpusItem]) -> tuple[list[dict[str, object]], list[str]]:
    """Write the sounds of what the experiment stability has kept; the rows of the index, and what has no sound.

    There are none where it was not measured, or cannot be decoded.
    """
    file = run.folder / FILE
    if not file.exists():
        return [], []
    parts, note = checkpoint.load(file)
    run.log(f"audio: rollouts after {note['utterance']}")
    rows, silent = [], []
    for name, label, audio in _sounds(run, parts, note, items[note["utterance"]]):
        if isinstance(audio, str):
            silent.append(f"{label}: {audio}")
            continue
        for second, part in _excerpts(audio, len(parts[CONTEXT]), run):
            title = f"rollout-{name}-{second:g}".replace(" ", "_")
            row = write_clip(run.folder / "audio", title, part, run.codec.sample_rate)
            of = label if name in note["words"] else ORIGINAL  # what is no rollout stands together
            rows.append(row | {"kind": KIND, "label": f"{label}, {second - LONG:g} to {second:g} s", "row": of})
    return [row | {"group": f"Sampled rollouts after {note['utterance']}"} for row in rows], silent


def _sounds(
    run: Run, parts: Mapping[str, Tensor], note: Mapping[str, Any], item: CorpusItem
) -> Iterator[tuple[str, str, Tensor | str]]:
    """Name, label and audio, from the beginning of the context on."""
    context, codec = parts[CONTEXT], run.codec
    n = (len(context) + len(parts[REAL])) * codec.hop
    yield ORIGINAL, begun(ORIGINAL), item.audio(codec.sample_rate)[:n]
    words = ANCHORS | note["words"]
    for name in (REAL, *note["anchors"], *note["words"]):
        audio = heard(codec, torch.cat([context, parts[name]]), run.frames(), len(context))
        yield name, words.get(name, begun(name)), audio


def _excerpts(audio: Tensor, context: int, run: Run) -> Iterator[tuple[float, Tensor]]:
    """The last two seconds before each time that the sound reaches; times count from the end of the context."""
    rate, hop = run.codec.sample_rate, run.codec.hop
    for second in AFTER:
        end = context * hop + round(second * rate)
        if end < len(audio) + hop:  # a stretch of 5 s may have been cut to whole frames
            yield second, audio[: min(end, len(audio))][-round(LONG * rate) :]
