"""Audio files: exact round trips, and one DataError for whatever can be wrong with a file."""

import io
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio_engram.audio import file_sample_rate, read_audio, rms_db, source_hash, write_audio
from audio_engram.errors import DataError, NumericalError, UsageError

RATE = 16000
CONTAINERS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def noise(samples: int = RATE, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.squeeze(0.1 * rng.standard_normal((samples, channels))).astype(np.float32)


def encoded(samples: np.ndarray, container: str = "WAV", subtype: str = "FLOAT", rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "clip.bin"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".FLAC"])
def test_every_16_bit_value_survives_writing_and_reading(tmp_path: Path, suffix: str) -> None:
    audio = torch.arange(-32768, 32768).float() / 32768
    write_audio(tmp_path / f"ramp{suffix}", audio, RATE)
    assert torch.equal(read_audio(tmp_path / f"ramp{suffix}"), audio)


@pytest.mark.parametrize(("container", "subtype"), CONTAINERS)
def test_a_whole_file_is_read_and_a_truncated_one_refused(tmp_path: Path, container: str, subtype: str) -> None:
    data = encoded(noise(), container, subtype)
    assert read_audio(saved(tmp_path, data)).shape == (RATE,)
    for kept in (len(data) - 2, round(0.99 * len(data)), len(data) // 2, 60, 3):
        if container == "MP3" and kept == len(data) - 2:
            continue  # the last MP3 frame's padding: nothing is lost
        with pytest.raises(DataError, match=r"clip\.bin"):
            read_audio(saved(tmp_path, data[:kept]))


def test_a_wav_that_lost_one_byte_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="truncated"):
        read_audio(saved(tmp_path, encoded(noise(), "WAV", "PCM_16")[:-1]))


def test_an_ogg_that_lost_its_last_page_is_refused(tmp_path: Path) -> None:
    data = encoded(noise(4 * RATE), "OGG", "VORBIS")
    assert data.count(b"OggS") > 3
    with pytest.raises(DataError, match="last page"):
        read_audio(saved(tmp_path, data[: data.rfind(b"OggS")]))


def test_bytes_after_the_audio_do_no_harm(tmp_path: Path) -> None:
    data = encoded(noise(), "WAV", "PCM_16") + b"LIST\x04\x00\x00\x00abcd"
    assert read_audio(saved(tmp_path, data)).shape == (RATE,)


def test_a_wav_from_a_pipe_has_no_declared_length_and_is_read(tmp_path: Path) -> None:
    data = bytearray(encoded(noise(), "WAV", "PCM_16"))
    assert data[36:40] == b"data"
    data[4:8] = data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    assert read_audio(saved(tmp_path, bytes(data))).shape == (RATE,)


@pytest.mark.parametrize("total", [0, RATE + 1, 2**36 - 1])
def test_a_flac_that_declares_no_length_or_too_much_is_refused(tmp_path: Path, total: int) -> None:
    data = bytearray(encoded(noise(), "FLAC", "PCM_16"))
    data[21] = data[21] & 0xF0 | total >> 32  # STREAMINFO ends in 36 bits of total samples
    data[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
    with pytest.raises(DataError, match=r"clip\.bin"):
        read_audio(saved(tmp_path, bytes(data)))


# The names are given: a float WAV holds the time it was written, and parallel workers must name their tests alike.
@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"RIFF", bytes(1000), encoded(np.zeros(0, np.float32))],
    ids=["empty", "text", "four bytes", "zeros", "no samples"],
)
def test_what_is_no_audio_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match=r"clip\.bin"):
        read_audio(saved(tmp_path, data))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_samples_that_are_not_finite_are_refused_with_their_place(tmp_path: Path, bad: float) -> None:
    samples = noise(channels=2)
    samples[77, 1] = bad
    with pytest.raises(DataError, match="sample 77"):
        read_audio(saved(tmp_path, encoded(samples)))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.wav", tmp_path):
        for reader in (read_audio, source_hash, file_sample_rate):
            with pytest.raises(DataError, match="cannot be read"):
                reader(path)


def test_one_sample_is_read(tmp_path: Path) -> None:
    assert read_audio(saved(tmp_path, encoded(np.full(1, 0.5, np.float32)))).tolist() == [0.5]


def test_channels_are_averaged(tmp_path: Path) -> None:
    samples = noise(channels=2)
    audio = read_audio(saved(tmp_path, encoded(samples)))
    torch.testing.assert_close(audio, torch.from_numpy(samples.mean(axis=1)))


def test_resampling_keeps_a_tone_and_removes_what_would_alias(tmp_path: Path) -> None:
    seconds = np.arange(48000) / 48000
    kept, removed = (np.sin(2 * np.pi * hz * seconds) for hz in (1000.0, 11000.0))
    path = saved(tmp_path, encoded((0.3 * kept + 0.3 * removed).astype(np.float32), rate=48000))
    assert file_sample_rate(path) == 48000
    audio = read_audio(path, RATE)
    wanted = torch.from_numpy(0.3 * np.sin(2 * np.pi * 1000.0 * np.arange(RATE) / RATE)).float()
    assert audio.shape == (RATE,)
    # Away from the edges, where the filter sees the start and end of the tone.
    torch.testing.assert_close(audio[2000:-2000], wanted[2000:-2000], atol=1e-4, rtol=0)


def test_loud_samples_are_clipped_and_never_wrap(tmp_path: Path) -> None:
    write_audio(tmp_path / "loud.wav", torch.tensor([-3.0, -1.0, 1.0, 1.00002, 40000.0]), RATE)
    top = 32767 / 32768
    assert read_audio(tmp_path / "loud.wav").tolist() == [-1.0, -1.0, top, top, top]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    for name, audio, kind in (
        ("a.mp4", torch.zeros(3), UsageError),
        ("a.wav", torch.tensor([0.0, math.nan]), NumericalError),
        ("absent/a.wav", torch.zeros(3), UsageError),
    ):
        with pytest.raises(kind, match=name):
            write_audio(tmp_path / name, audio, RATE)
    (tmp_path / "taken.wav").mkdir()
    with pytest.raises(UsageError, match="taken"):
        write_audio(tmp_path / "taken.wav", torch.zeros(3), RATE)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.wav"]


def test_the_source_hash_is_of_the_bytes(tmp_path: Path) -> None:
    first = source_hash(saved(tmp_path, b"abc"))
    assert source_hash(saved(tmp_path, b"abd")) != first == source_hash(saved(tmp_path, b"abc"))


def test_levels_of_a_sine_and_of_silence() -> None:
    sine = torch.sin(2 * torch.pi * torch.arange(RATE) / 16)
    levels = rms_db(torch.stack([sine, sine / 10, torch.zeros(RATE)]))
    torch.testing.assert_close(levels, torch.tensor([-3.0103, -23.0103, -200.0]))
    assert rms_db(torch.zeros(0)).item() == -200
