"""Encoding: `extract` beside the bare codec's loop, and how fast and how large, for the table in docs/scale.md.

`python -m benchmarks encode` measures the demo corpus with mel. Real speech and real weights:

    python -m benchmarks.encode --corpus librispeech:PATH --items 300 --codec mel
    python -m benchmarks.encode --corpus librispeech:PATH --items 300 --codec lyra --set codec.weights=PATH
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch

from audio_engram.codecs.base import Codec, load_codec
from audio_engram.codecs.mel import MelCodec
from audio_engram.config import read_config
from audio_engram.data.batches import plan_batches
from audio_engram.data.corpus import Corpus, open_corpus
from audio_engram.data.extract import ExtractConfig, extract, extract_part
from audio_engram.data.merge import merge_parts
from audio_engram.data.parts import plan_part
from audio_engram.data.store import LatentStore
from audio_engram.device import find_device
from timing import Row, row, single_thread

ROUNDS = 4
PARTS = 8


def rows() -> Iterator[Row]:
    """The row of the table, on what every clone has."""
    yield from compare(open_corpus("demo"), MelCodec().eval())


def compare(corpus: Corpus, codec: Codec) -> Iterator[Row]:
    """`extract` from files to a finished, checked store against bare loops over all utterances by length.

    The first reads them, one after another, calls the codec and keeps nothing; one saves what it gets; one has the
    audio in memory already and only calls the codec. Extraction reads beside the codec, so by the clock it wants a
    second core that is free; processor time shows its work on any machine.
    """
    lengths = [len(audio) for audio in read(corpus, codec)]
    times = []
    for _ in range(ROUNDS):
        held, *reading = timed(lambda: read(corpus, codec))
        _, *coding = timed(lambda audio=held: bare(codec, audio))
        with tempfile.TemporaryDirectory() as folder:
            _, *ours = timed(lambda out=folder: extract(corpus, codec, Path(out) / "latents"))
        with tempfile.TemporaryDirectory() as folder:
            _, *keeping = timed(lambda audio=held, out=folder: bare(codec, audio, Path(out)))
        times.append([*ours, reading[0] + coding[0], reading[1] + coding[1], *coding, reading[0] + keeping[0]])
    ours, ours_cpu, both, both_cpu, coding, coding_cpu, script = (min(column) for column in zip(*times, strict=True))
    seconds = sum(lengths) / codec.sample_rate
    note = f"{codec.name}, {len(lengths)} utterances, {seconds / 60:.1f} min, {seconds / ours:.0f}x real time"
    yield row("encode / reading, then the bare codec by length", ours / both, 1.0, note)
    yield row("the same, processor time", ours_cpu / both_cpu, None, "with hashes, threads and writing the store")
    yield row("encode / the same loop that saves an .npy file an utterance", ours / script, None)
    yield row("encode / the bare codec by length, audio in memory", ours / coding, None, "reading is not free")
    yield row("the same, processor time", ours_cpu / coding_cpu, None)


def read(corpus: Corpus, codec: Codec) -> list[torch.Tensor]:
    """All audio of a corpus."""
    return [item.audio(codec.sample_rate) for item in corpus.items]


def bare(codec: Codec, audio: list[torch.Tensor], folder: Path | None = None) -> None:
    """The loop that one writes without this package; with a `folder` it saves what it gets."""
    lengths = [len(one) for one in audio]
    most = int(ExtractConfig().batch_seconds * codec.sample_rate)
    device = next(codec.parameters(), next(codec.buffers(), torch.zeros(()))).device
    for batch in plan_batches(lengths, most):
        padded = torch.nn.utils.rnn.pad_sequence([audio[i] for i in batch], batch_first=True)
        latents = codec.encode(padded[:, None].to(device)).float().cpu()
        for i, rows in zip(batch, latents, strict=True) if folder else ():
            np.save(folder / f"{i}.npy", rows[: codec.n_frames(lengths[i])].half().numpy())


def timed(work):  # type: ignore[no-untyped-def]
    """What `work` gives, and the seconds that it took, by the clock and of all processors."""
    start, start_cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - start, time.process_time() - start_cpu


def table(corpus: Corpus, codec: Codec) -> Iterator[str]:
    """Throughput and size, and what parts and the merge cost, as lines."""
    config = ExtractConfig(max_failed=1.0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        store, seconds, _ = timed(lambda: extract(corpus, codec, folder / "whole", config))
        plan = [plan_part(len(corpus), index, PARTS, config) for index in range(1, PARTS + 1)]
        apart = timed(lambda: [extract_part(corpus, codec, folder / "parts", part, config) for part in plan])[1]
        joined = timed(lambda: merge_parts(corpus, codec, folder / "parts", folder / "merged", config))[1]
        reading = timed(lambda: LatentStore.open(folder / "whole").frames())[1]
        same = all((folder / "merged" / path.name).read_bytes() == path.read_bytes() for path in store.path.iterdir())
        size = sum(path.stat().st_size for path in store.path.iterdir())
    hours = store.manifest.seconds / 3600
    yield f"{codec.name}: {store.manifest.latent_dim}-d at {store.manifest.frame_rate:g} Hz, {hours:.3f} h of audio"
    yield f"  encode {store.manifest.seconds / seconds:10.0f} s of audio per second on {store.manifest.devices[0]}"
    yield f"  {PARTS} parts {apart / seconds:9.2f} of that time, merged in {joined:.2f} s, the same bytes: {same}"
    yield f"  store  {size / hours / 1e6:10.1f} MB per hour of audio, read and checked in {reading:.2f} s"
    for many in (1_000, 60_000):
        device_hours = many * seconds / store.manifest.seconds
        yield f"  {many:>6} h: {size / hours * many / 1e9:8.1f} GB, {device_hours:8.1f} device-hours"


def main() -> int:
    """Print the rows and the table for a corpus and a codec."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--corpus", default="demo")
    parser.add_argument("--items", type=int, help="only this many of its utterances")
    parser.add_argument("--codec", default="mel")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    single_thread()
    config = read_config(None, (f"codec.name={options.codec}", *options.settings))
    codec = load_codec(config.codec).to(find_device(options.device)).eval()
    corpus = open_corpus(options.corpus)
    corpus = Corpus(corpus.name, corpus.items[: options.items], corpus.synthetic)
    for line in (*compare(corpus, codec), *table(corpus, codec)):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
