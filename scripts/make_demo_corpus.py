"""Speak the demo corpus again: `python scripts/make_demo_corpus.py` writes src/audio_engram/data/demo/.

Needs the Debian packages espeak-ng, flite, festival, festvox-kdlpc16k and festvox-us-slt-hts.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

ROOT = Path(__file__).resolve().parents[1]
SENTENCES = Path(__file__).with_name("demo_sentences.txt")
README = Path(__file__).with_name("demo_README.md")
RATE = 16000
LEVEL, PEAK = 10 ** (-23 / 20), 0.8
PACKAGES = {
    "espeak-ng": ("espeak-ng", "espeak-ng-data"),
    "flite": ("flite",),
    "festival": ("festival", "festvox-kdlpc16k", "festvox-us-slt-hts"),
}


@dataclass(frozen=True)
class Voice:
    """`pace` is words a minute for espeak-ng, else a stretch; `pitch` is espeak-ng's 0-99, else a mean [Hz].

    `tract` scales every frequency, formants and pitch alike, as a vocal tract of another length would.
    """

    synthesiser: str
    voice: str
    pitch: int
    pace: float
    tract: float = 1.0
    noise_db: float = -62.0

    @property
    def name(self) -> str:
        """The speaker's name."""
        return f"{self.synthesiser.split('-')[0]}-{self.voice.replace('+', '-').replace('_', '-')}".lower()


VOICES = (
    Voice("flite", "rms", 0, 1.08),
    Voice("flite", "slt", 0, 1.15, noise_db=-64),
    Voice("flite", "awb", 0, 1.25, noise_db=-60),
    Voice("flite", "kal16", 112, 1.22),
    Voice("festival", "ked_diphone", 0, 1.2, tract=1.06),
    Voice("festival", "cmu_us_slt_arctic_hts", 0, 1.0, tract=0.86),
    Voice("espeak-ng", "en-us+m1", 38, 132),
    Voice("espeak-ng", "en-us+f2", 62, 141, noise_db=-58),
    Voice("espeak-ng", "en-gb+m3", 78, 151, tract=0.93),
    Voice("espeak-ng", "en-gb-x-rp+f4", 50, 130),
    Voice("espeak-ng", "en-gb-scotland+m7", 55, 139),
    Voice("espeak-ng", "en-gb-scotland+Annie", 55, 132, noise_db=-66),
    Voice("espeak-ng", "en-gb-x-gbclan+Gene", 42, 145),
    Voice("espeak-ng", "en-gb-x-gbclan+linda", 70, 148),
    Voice("espeak-ng", "en-gb-x-gbcwmd+Denis", 20, 128, tract=1.05),
    Voice("espeak-ng", "en-gb-x-gbcwmd+belinda", 48, 136),
    Voice("espeak-ng", "en-029+boris", 8, 143),
    Voice("espeak-ng", "en-029+steph", 58, 128, tract=1.08),
    Voice("espeak-ng", "en-us-nyc+Mario", 62, 146),
    Voice("espeak-ng", "en-us-nyc+f5", 44, 146),
    Voice("espeak-ng", "en-us+klatt", 40, 134),
    Voice("espeak-ng", "en-gb+klatt2", 92, 144, tract=0.95),
    Voice("espeak-ng", "en-us-nyc+klatt4", 12, 138, tract=1.1),
    Voice("espeak-ng", "en-us+Andy", 60, 137),
    Voice("espeak-ng", "en-gb+Alicia", 70, 143, tract=1.04),
    Voice("espeak-ng", "en-us+victor", 80, 132, noise_db=-60),
    Voice("espeak-ng", "en-gb+grandma", 66, 141),
    Voice("espeak-ng", "en-us+grandpa", 36, 148),
    Voice("espeak-ng", "en-gb-x-rp+Michael", 45, 136),
    Voice("espeak-ng", "en-gb-scotland+aunty", 60, 139),
    Voice("espeak-ng", "en-029+quincy", 84, 150),
    Voice("espeak-ng", "en-gb-x-gbclan+anika", 64, 132, tract=0.94),
)


def command(voice: Voice, text: str, out: Path) -> list[str]:
    """The synthesiser's command line."""
    if voice.synthesiser == "espeak-ng":
        options = ["-v", voice.voice, "-p", str(voice.pitch), "-s", str(round(voice.pace))]
        return ["espeak-ng", *options, "-w", str(out), text]
    if voice.synthesiser == "flite":
        pitch = ["--setf", f"int_f0_target_mean={voice.pitch}"] if voice.pitch else []
        stretch = ["--setf", f"duration_stretch={voice.pace}", *pitch]
        return ["flite", "-voice", voice.voice, *stretch, "-t", text, "-o", str(out)]
    stretch = f"(Parameter.set 'Duration_Stretch {voice.pace})"
    return ["text2wave", "-eval", f"(voice_{voice.voice})", "-eval", stretch, "-o", str(out)]


def speak(voice: Voice, text: str) -> np.ndarray:
    """Mono audio at 16 kHz, as the synthesiser gives it, with the vocal tract scaled."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "speech.wav")
        subprocess.run(command(voice, text, out), input=text, text=True, check=True, capture_output=True)
        samples, rate = soundfile.read(out, dtype="float64")
    return soxr.resample(samples, rate * voice.tract, RATE, quality="VHQ")


def finish(samples: np.ndarray, voice: Voice, seed: int) -> np.ndarray:
    """Cut silent ends to 0.1 s, set the level, and lay a faint room noise under it.

    Without the noise every pause would be digital silence, which no recording has.
    """
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    samples = samples[max(loud[0] - RATE // 10, 0) : loud[-1] + RATE // 10]
    gain = min(LEVEL / np.sqrt(np.mean(samples**2)), PEAK / np.abs(samples).max())
    white = np.random.default_rng(seed).standard_normal(len(samples) + 1)
    room = white[1:] + 0.7 * white[:-1]
    return gain * samples + 10 ** (voice.noise_db / 20) * room / np.std(room)


def write_utterance(folder: Path, voice: Voice, number: int, text: str) -> dict:
    """Speak one sentence into `folder`; return its row of the index."""
    samples = finish(speak(voice, text), voice, seed=number)
    file = f"{voice.name}-{number:03d}.ogg"
    # libsndfile maps the level linearly onto 256 to 6 kbit/s: this is about 36.
    soundfile.write(folder / file, samples, RATE, format="OGG", subtype="OPUS", compression_level=0.88)
    return {
        "id": file.removesuffix(".ogg"),
        "file": file,
        "speaker": voice.name,
        "seconds": round(len(samples) / RATE, 3),
        "text": text,
    }


def describe(voice: Voice) -> dict:
    """What the index says of a voice."""
    settings = {"voice": voice.voice, "pitch": voice.pitch, "pace": voice.pace, "tract": voice.tract}
    return {"speaker": voice.name, "synthesiser": voice.synthesiser} | settings | {"noise_db": voice.noise_db}


def versions() -> dict[str, str]:
    """Versions of the packages that speak."""
    names = [name for group in PACKAGES.values() for name in group]
    shown = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *names],
        check=True,
        text=True,
        capture_output=True,
    )
    return dict(line.split() for line in shown.stdout.splitlines())


def main() -> None:
    """Write the corpus to a new folder, then exchange it with the old one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "src/audio_engram/data/demo")
    out = parser.parse_args().out
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    new = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    new.mkdir(parents=True)
    rows = [write_utterance(new, VOICES[number % len(VOICES)], number, text) for number, text in enumerate(sentences)]
    index = {
        "synthetic": True,
        "packages": versions(),
        "voices": [describe(voice) for voice in VOICES],
        "utterances": sorted(rows, key=lambda row: row["id"]),
    }
    (new / "demo.json").write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copyfile(README, new / "README.md")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(new, out)
    minutes = sum(row["seconds"] for row in rows) / 60
    size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    print(f"{len(VOICES)} voices, {len(rows)} utterances, {minutes:.2f} min, {size:.2f} MB in {out}")


if __name__ == "__main__":
    main()
