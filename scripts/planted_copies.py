"""Which copies across splits are found: `python scripts/planted_copies.py runs/mel`.

Utterances of a run stand again under another name in another split, changed as sound and encoded anew; the same search
that every report rests on looks for them. Prints a column of the table of docs/data.md, and whether the corpus as it is
raises an alarm under several divisions into splits. The run needs its recordings and latents alone.
"""

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from audio_engram.config import read_config
from audio_engram.data.corpus import CorpusItem
from audio_engram.data.frames import SPLITS, Frames
from audio_engram.data.leaks import find_leaks
from audio_engram.data.splits import split_speakers
from audio_engram.runs import Run

PLANTED, SEEDS = 41, 3
RATE = 16_000


def opus(audio: Tensor) -> Tensor:
    """Coded and decoded again."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.numpy(), RATE, format="OGG", subtype="OPUS")
    buffer.seek(0)
    return torch.from_numpy(soundfile.read(buffer, dtype="float32")[0][: len(audio)].copy())


def noisy(audio: Tensor) -> Tensor:
    """White noise 20 dB below."""
    generator = torch.Generator().manual_seed(0)
    return audio + 0.1 * audio.square().mean().sqrt() * torch.randn(audio.shape, generator=generator)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda audio: audio,
    "1 dB quieter": lambda audio: 10**-0.05 * audio,
    "coded with Opus": opus,
    "3 ms cut off": lambda audio: audio[3 * RATE // 1000 :],
    "6 dB quieter": lambda audio: 10**-0.3 * audio,
    "40 ms cut off": lambda audio: audio[40 * RATE // 1000 :],
    "a quarter cut off": lambda audio: audio[len(audio) // 4 :],
    "a half cut off": lambda audio: audio[len(audio) // 2 :],
    "white noise 20 dB below": noisy,
}


def no_alarm(run: Run, frames: Frames, seed: int) -> str:
    """What is found in the corpus as it is, under another division."""
    split_of = split_speakers(run.store.frames_by_speaker, seed=seed)
    of_speaker = torch.tensor([SPLITS.index(split_of[name]) for name in frames.speakers])
    found = find_leaks(replace(frames, split=of_speaker[frames.speaker]))
    return f"{len(found.pairs)} alarms, highest score {found.highest:.1f}, threshold {found.threshold:.1f}"


def with_copies(frames: Frames, originals: Sequence[CorpusItem], copies: list[Tensor]) -> Frames:
    """The frames, then the copies, each of a speaker of its own in another split."""
    count, known = len(copies), len(frames.speakers)
    lengths = torch.tensor([len(z) for z in copies])
    places = [int(frames.offsets[frames.utterances.index(item.id)]) for item in originals]
    trained = frames.split[places] == SPLITS.index("train")
    split = torch.where(trained, SPLITS.index("test"), SPLITS.index("train"))
    return replace(
        frames,
        z=torch.cat([frames.z, (torch.cat(copies) - frames.loc) / frames.scale]),
        offsets=torch.cat([frames.offsets, frames.offsets[-1] + lengths.cumsum(0)]),
        speaker=torch.cat([frames.speaker, (known + torch.arange(count)).repeat_interleave(lengths)]),
        split=torch.cat([frames.split, split.repeat_interleave(lengths)]),
        moving=torch.cat([frames.moving, torch.ones(int(lengths.sum()), dtype=torch.bool)]),
        speakers=(*frames.speakers, *(f"thief {number}" for number in range(count))),
        utterances=(*frames.utterances, *(f"copy of {item.id}" for item in originals)),
    )


def main() -> None:
    """Print the column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    folder = parser.parse_args().run
    run = Run(folder, read_config(folder / "config.toml"))
    frames = run.frames()
    assert run.corpus is not None, "a run of recordings"
    assert run.codec.sample_rate == RATE, "through a codec of 16 kHz"
    print(f"{run.codec_name}, {len(frames.utterances)} utterances")
    for seed in range(SEEDS):
        print(f"as it is, split {seed}: {no_alarm(run, frames, seed)}", flush=True)
    heard = [item for item in run.corpus.items if item.id in frames.utterances]
    chosen = heard[:: max(1, len(heard) // PLANTED)][:PLANTED]
    wanted = {(item.id, f"copy of {item.id}") for item in chosen}
    for name, change in CHANGES.items():
        audio = [change(item.audio(RATE)) for item in chosen]
        copies = [run.codec.encode(one[None, None])[0] for one in audio]
        pairs = {one.utterances for one in find_leaks(with_copies(frames, chosen, copies)).pairs}
        print(f"{name} | {len(pairs & wanted)} of {len(wanted)} | others {len(pairs - wanted)}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
