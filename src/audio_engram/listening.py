"""Sounds of a run: what the codec alone does, what each model does, what direction and magnitude carry."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.archetype_sounds import archetype_clips
from audio_engram.clips import heard, write_clip
from audio_engram.codecs.base import Codec
from audio_engram.controls import slow_but_correct, stationary, wrong_direction
from audio_engram.data.corpus import CorpusItem
from audio_engram.data.publish import make_folder, publish_text
from audio_engram.forcing import free_running, teacher_forcing
from audio_engram.rollout import RolloutOptions, rollout
from audio_engram.rollout_sounds import rollout_clips
from audio_engram.runs import Run
from audio_engram.seeds import generator_for, seed_for
from audio_engram.spoken import spoken

MAX_UTTERANCES = 2
SHARES = (0.75, 0.5, 0.25)
NOTES = {"typical": "typical steps after a true context", "sample": "every step drawn, after a true context"}


@dataclass(frozen=True)
class _Sound:
    kind: str
    label: str
    latents: Float[Tensor, "N D"]
    note: str


def listen(run: Run) -> list[str]:
    """Write the sounds of a few test utterances and of archetypes, and an index of them; a world has none.

    Returns the warnings of the report: what has no sound, and why. A rollout that diverges is a result and no error.
    """
    if run.corpus is None:
        return []
    folder = run.folder / "audio"
    make_folder(folder)
    items = {item.id: item for item in run.corpus.items}
    index, silent = [], []
    # Without a decoder there is nothing to compare with the recordings, but archetypes are recordings themselves.
    for number, utterance in enumerate(_chosen(run) if run.codec.playable else []):
        run.log(f"audio: {utterance}")
        rows, without = _one_utterance(run, run.codec, folder, items[utterance], number)
        index += rows
        silent += [f"{utterance}, {one}" for one in without]
    rows, without = rollout_clips(run, items)
    index += [*rows, *archetype_clips(run, items)]
    silent += without
    publish_text(folder / "index.json", json.dumps(index, indent=1) + "\n")
    return [f"Not to be heard under Listen: {'; '.join(silent)}."] if silent else []


def _chosen(run: Run) -> list[str]:
    """Test utterances of different speakers, the ones nearest to the length that is played."""
    frames, wanted = run.frames(), _n_frames(run) + run.config.model.context
    lengths = frames.offsets.diff().tolist()
    best: dict[int, tuple[int, str]] = {}
    for place, (name, n) in enumerate(zip(frames.utterances, lengths, strict=True)):
        start = int(frames.offsets[place])
        if frames.in_split("test")[start] and n > run.config.model.context:
            speaker = int(frames.speaker[start])
            best[speaker] = min(best.get(speaker, (abs(n - wanted), name)), (abs(n - wanted), name))
    return [name for _, name in sorted(best.values())[:MAX_UTTERANCES]]


def _n_frames(run: Run) -> int:
    return max(2, round(run.config.experiments.audio_seconds * run.codec.frame_rate))


def _one_utterance(
    run: Run, codec: Codec, folder: Path, item: CorpusItem, number: int
) -> tuple[list[dict[str, object]], list[str]]:
    """The rows of the index, and what has no sound with the reason."""
    frames, context = run.frames(), run.config.model.context
    place = frames.utterances.index(item.id)
    z = frames.z[int(frames.offsets[place]) : int(frames.offsets[place + 1])]
    z = z[: _n_frames(run) + context]
    original = item.audio(codec.sample_rate)[: len(z) * codec.hop]
    rows, silent = [write_clip(folder, f"{number}-original", original, codec.sample_rate)], []
    rows[0] |= {"kind": "original", "label": "Original", "note": _both("the recording", rows[0])}
    for sound in _sounds(run, z):
        audio = heard(codec, sound.latents, frames, context)
        if isinstance(audio, str):
            silent.append(f"{sound.label}: {audio}")
            continue
        row = write_clip(folder, f"{number}-{sound.kind}-{sound.label}".replace(" ", "_"), audio, codec.sample_rate)
        rows.append(row | {"kind": sound.kind, "label": sound.label, "note": _both(sound.note, row)})
    return [row | {"group": item.id} for row in rows], silent


def _both(note: str, row: dict[str, object]) -> str:
    return "; ".join(str(part) for part in (note, row["note"]) if part)


def _sounds(run: Run, z: Float[Tensor, "N D"]) -> list[_Sound]:
    sounds = [_Sound("round_trip", "Codec round trip", z, "encoded and decoded, nothing predicted")]
    context, future = z[: run.config.model.context], z[run.config.model.context :]
    # Of the others no experiment made use, and a sound is not worth their training.
    heads = [head for head in ("mdn", "vmf") if f"{head}-lag1" in run.histories]
    for head in heads:
        sounds += _rollouts(run, head, context, future)
    return [*sounds, *_ill_treated(run, context, future)] if heads else sounds


def _ill_treated(run: Run, context: Tensor, future: Tensor) -> list[_Sound]:
    """What rollouts are to be held against: what direction and magnitude carry, each by itself."""
    start, generator = context[-1], generator_for(run.config.seed, "listen", "wrong direction")
    turned = wrong_direction(start.unsqueeze(0), future.unsqueeze(0), generator)[0]
    slow, true = "true direction of every increment, all of them shorter", "true magnitude of every increment"
    found = [
        *(
            ("magnitude", f"True direction, {s:.0%} magnitude", slow_but_correct(start, future, s), slow)
            for s in SHARES
        ),
        ("still", "Standing still", stationary(start, future), "the last true frame, held"),
        ("direction", "True magnitude, wrong direction", turned, f"{true}, in the direction of another"),
    ]
    return [_Sound(kind, label, torch.cat([context, z]), note) for kind, label, z, note in found]


def _rollouts(run: Run, head: str, context: Tensor, future: Tensor) -> list[_Sound]:
    steps, model = len(future), run.model(head)
    start, truth = context.unsqueeze(0).to(run.device), future.unsqueeze(0).to(run.device)
    ways = [
        ("teacher_forced", f"{spoken(head)} teacher-forced", teacher_forcing(steps), "typical"),
        ("free_running", f"{spoken(head)} free-running", free_running(steps), "typical"),
        ("free_running", f"{spoken(head)} free-running, sampled", free_running(steps), "sample"),
    ]
    found = []
    for kind, label, mask, step in ways:
        generator = torch.Generator(run.device).manual_seed(seed_for(run.config.seed, "listen", head))
        options = RolloutOptions(step, generator=generator)  # type: ignore[arg-type]
        with torch.no_grad():
            rolled = rollout(model, start, mask, truth, options)
        latents = torch.cat([context, rolled.latents[0].cpu()])
        found.append(_Sound(kind, label, latents, NOTES[step]))
    return found
