"""Corpora that a table lists: manifests and Lhotse cuts, what is cut out of a file, and what is wrong with a row."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio_engram import cli
from audio_engram.audio import read_audio
from audio_engram.data.corpus import Corpus, CorpusItem, open_corpus
from audio_engram.data.cuts import Cut
from audio_engram.data.extract import ExtractConfig, extract
from audio_engram.errors import DataError

RATE = 8000


def recording(path: Path, seconds: float = 2.0, channels: int = 2) -> Path:
    """A ramp in each channel, so that every sample names its time and channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.arange(round(seconds * RATE)) / 2**15
    soundfile.write(path, np.stack([ramp, -ramp / 2][:channels], 1), RATE, subtype="PCM_16")
    return path


def table(folder: Path, *rows: dict, name: str = "list.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class TestCut:
    def test_only_the_part_is_read_to_the_sample(self, tmp_path):
        file = recording(tmp_path / "x.wav")
        part = Cut(file, 0.5, 0.75, channel=0)(RATE)
        assert torch.equal(part, torch.arange(4000, 6000) / 2**15)

    def test_channels(self, tmp_path):
        file = recording(tmp_path / "x.wav")
        left, right, both = (Cut(file, 0.5, 0.75, channel)(RATE) for channel in (0, 1, None))
        assert torch.allclose(right, -left / 2, atol=2**-15)
        assert torch.equal(both, (left + right) / 2)

    def test_without_an_end_it_is_the_rest_and_resampled_like_a_file(self, tmp_path):
        file = recording(tmp_path / "x.wav", channels=1)
        assert torch.equal(Cut(file)(16000), read_audio(file, 16000))
        assert len(Cut(file, 1.5)(RATE)) == 4000

    @pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
    def test_long_cuts_of_any_format_go_over_blocks(self, tmp_path, suffix, monkeypatch):
        monkeypatch.setattr("audio_engram.data.cuts._BLOCK", 777)
        file = recording(tmp_path / f"x{suffix}", channels=1) if suffix != ".ogg" else tmp_path / "x.ogg"
        if suffix == ".ogg":
            soundfile.write(file, np.sin(np.arange(2 * RATE) / 9) / 3, RATE, format="OGG", subtype="VORBIS")
        whole = read_audio(file)
        assert torch.allclose(Cut(file, 0.25, 1.9)(RATE), whole[2000:15200], atol=1e-6)

    def test_the_end_may_be_rounded_but_not_wrong(self, tmp_path):
        file = recording(tmp_path / "x.wav")
        assert len(Cut(file, 1.0, 2.02)(RATE)) == RATE
        for start, end in [(1.0, 2.05), (2.0, 2.01), (5.0, 6.0), (5.0, None)]:
            with pytest.raises(DataError, match=r"x\.wav from .* reaches past the end"):
                Cut(file, start, end)(RATE)

    def test_damage_is_named(self, tmp_path):
        file = recording(tmp_path / "x.wav")
        with pytest.raises(DataError, match=r"has 2 channels, none of number 2; mend the row"):
            Cut(file, 0.0, 1.0, 2)(RATE)
        with pytest.raises(DataError, match=r"gone\.wav: cannot be read \(No such file"):
            Cut(tmp_path / "gone.wav", 0.0, 1.0)(RATE)
        (tmp_path / "text.wav").write_text("no audio at all")
        with pytest.raises(DataError, match="not audio that can be read"):
            Cut(tmp_path / "text.wav")(RATE)
        whole = recording(tmp_path / "half.flac").read_bytes()
        (tmp_path / "half.flac").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=r"half\.flac from 1\.5 s to 2 s: (not audio|reaches past)"):
            Cut(tmp_path / "half.flac", 1.5, 2.0)(RATE)
        soundfile.write(tmp_path / "nan.wav", np.where(np.arange(RATE) == 5000, np.nan, 0.1), RATE, subtype="FLOAT")
        with pytest.raises(DataError, match="not a finite number"):
            Cut(tmp_path / "nan.wav", 0.5)(RATE)
        assert len(Cut(tmp_path / "nan.wav", 0.0, 0.5)(RATE)) == 4000

    def test_a_corpus_of_cuts_changes_with_file_start_end_and_channel(self, tmp_path):
        def fingerprint(*cut: object) -> str:
            return Corpus("c", (CorpusItem("x", "s", Cut(*cut)),)).fingerprint()

        one, two = recording(tmp_path / "one.wav"), recording(tmp_path / "two.wav", 3.0)
        cuts = [(one, 0.0, 1.0), (two, 0.0, 1.0), (one, 0.5, 1.0), (one, 0.0, 1.5), (one, 0.0, 1.0, 1), (one, 0.0)]
        assert len({fingerprint(*cut) for cut in cuts}) == len(cuts)
        assert fingerprint(*cuts[0]) == fingerprint(recording(tmp_path / "copy.wav"), 0.0, 1.0)


class TestManifest:
    @pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.jsonl.gz"])
    def test_three_forms_are_one_corpus(self, tmp_path, name):
        rows = [
            {"file": "b/x.wav", "speaker": "7", "subset": "dev"},
            {"file": "b/x.wav", "speaker": "7", "start": 0.5, "end": 1, "id": "part"},
            {"file": "b/x.wav", "speaker": "Zoë", "start": 1.5},
        ]
        recording(tmp_path / "b/x.wav")
        if name.endswith(".csv"):
            lines = ["\ufefffile,speaker,id,start,end,subset", "b/x.wav,7,,,,dev", "b/x.wav,7,part,0.5,1,", ""]
            (tmp_path / name).write_text("\n".join([*lines, '"b/x.wav",Zoë,,1.5,,\n']), encoding="utf-8")
        else:
            rows[0]["speaker"] = 7  # a number is a name as well
            text = "\n\n".join(json.dumps(row) for row in rows)
            data = text.encode()
            (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        corpus = open_corpus(f"manifest:{tmp_path / name}")
        found = [(item.id, item.speaker, item.subset, len(item.audio(RATE))) for item in corpus.items]
        assert found == [
            ("b/x.wav", "7", "dev", 16000),
            ("part", "7", "", 4000),
            ("b/x.wav#1.5-", "Zoë", "", 4000),
        ]
        assert corpus.name == "list"
        assert corpus.items[0].source == tmp_path / "b/x.wav"

    def test_absolute_paths_and_paths_upwards(self, tmp_path):
        file = recording(tmp_path / "x.wav")
        (tmp_path / "lists").mkdir()
        rows = [{"file": str(file), "speaker": "a"}, {"file": "../x.wav", "speaker": "b"}]
        corpus = open_corpus(f"manifest:{table(tmp_path / 'lists', *rows)}")
        assert [len(item.audio(RATE)) for item in corpus.items] == [16000, 16000]

    def test_a_missing_file_is_counted_with_its_reason(self, tmp_path):
        from audio_engram.codecs.mel import MelCodec

        recording(tmp_path / "x.wav")
        rows = [
            {"file": "x.wav", "speaker": "a"},
            {"file": "gone.wav", "speaker": "a"},
            {"file": "x.wav", "speaker": "a", "start": 1, "end": 9},
            {"file": "x.wav", "speaker": "b", "start": 1, "end": 1.2},
        ]
        corpus = open_corpus(f"manifest:{table(tmp_path, *rows)}")
        store = extract(corpus, MelCodec(), tmp_path / "store", ExtractConfig(max_failed=0.5))
        counts = store.manifest.counts
        assert (counts.found, counts.ok, counts.skipped, counts.failed) == (4, 1, 1, 2)
        reasons = {problem.id: problem.reason for problem in store.manifest.problems}
        assert "gone.wav: cannot be read (No such file" in reasons["gone.wav"]
        assert "reaches past the end of the file" in reasons["x.wav#1-9"]
        with pytest.raises(DataError, match="2 of 4 items failed"):
            extract(corpus, MelCodec(), tmp_path / "store", ExtractConfig(max_failed=0.4))

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"speaker": "a"}, r"list\.jsonl row 2 lacks a file; mend the row"),
            ({"file": "", "speaker": "a"}, "row 2 lacks a file"),
            ({"file": "y.wav"}, "row 2 lacks a speaker"),
            ({"file": "y.wav", "speaker": " "}, "row 2 lacks a speaker"),
            ({"file": "y.wav", "speaker": None}, "row 2 lacks a speaker"),
            ({"file": "y.wav", "speaker": True}, "row 2 has speaker = True, which is no text"),
            ({"file": ["y.wav"], "speaker": "a"}, r"row 2 has file = \['y\.wav'\], which is no text"),
            ({"file": "y\0.wav", "speaker": "a"}, "row 2 has a zero byte in its file"),
            ({"file": "y.wav", "speaker": "\ud800"}, r"row 2 has speaker = '\\ud800', which is no text in UTF-8"),
            ({"file": "y.wav", "speaker": "a", "start": "soon"}, "row 2 has start = 'soon', wanted seconds"),
            ({"file": "y.wav", "speaker": "a", "start": -1}, "row 2 has start = -1, wanted seconds"),
            ({"file": "y.wav", "speaker": "a", "end": float("nan")}, "row 2 has end = nan, wanted seconds"),
            ({"file": "y.wav", "speaker": "a", "end": [1]}, r"row 2 has end = \[1\], wanted seconds"),
            ({"file": "y.wav", "speaker": "a", "start": 2, "end": 2}, "row 2 ends at 2 s, before it starts"),
            ({"file": "x.wav", "speaker": "b"}, r"row 2 has the id x\.wav of .*list\.jsonl row 1; give each row"),
            (["y.wav", "a"], "row 2 is no JSON object"),
            ("text", "row 2 is no JSON object"),
        ],
    )
    def test_a_bad_row_is_named(self, tmp_path, row, message):
        path = table(tmp_path, {"file": "x.wav", "speaker": "a"}, row)
        with pytest.raises(DataError, match=message):
            open_corpus(f"manifest:{path}")

    @pytest.mark.parametrize(
        ("name", "data", "message"),
        [
            ("list.csv", b"path,speaker\nx,a\n", "row 1 should name the columns file,speaker; found"),
            ("list.csv", b"", "row 1 should name the columns"),
            ("list.csv", b"file,speaker\nx, y.wav,a\n", "row 2 has more fields than columns; put quotes"),
            ("list.csv", b"file,speaker\nx.wav\n", "row 2 lacks a speaker"),
            ("list.csv", b"file,speaker\n\n\n,a\n", "row 4 lacks a file"),
            ("list.csv", b"file,speaker\n\xff\xfe,a\n", "cannot be read, or damaged .*utf-8"),
            ("list.csv", b"file,speaker\n" + b"x" * 200_000, "cannot be read, or damaged .*field larger"),
            ("list.csv", b"file,speaker\n", "corpus list is empty"),
            ("list.jsonl", b'{"file": "x.wav"', "row 1 is no JSON"),
            ("list.jsonl", b"[" * 100_000, "row 1 is no JSON"),
            ("list.jsonl", b"\n", "corpus list is empty"),
            ("list.jsonl.gz", b"no gzip", "cannot be read, or damaged .*gzipped"),
            ("list.jsonl.gz", gzip.compress(b'{"file": "x.wav", "speaker": "a"}\n' * 99, mtime=0)[:-20], "damaged"),
            ("list.tsv", b"file\tspeaker\n", r"a table is read as \.csv, \.jsonl or \.jsonl\.gz"),
        ],
    )
    def test_a_damaged_table_is_one_line(self, tmp_path, name, data, message):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=message) as caught:
            open_corpus(f"manifest:{tmp_path / name}")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("kind", ["manifest", "lhotse"])
    def test_the_path_is_a_file(self, tmp_path, kind):
        with pytest.raises(DataError, match="does not exist; give the file"):
            open_corpus(f"{kind}:{tmp_path / 'no.csv'}")
        with pytest.raises(DataError, match="is a folder; give the file"):
            open_corpus(f"{kind}:{tmp_path}")


def cut(**changes: object) -> dict:
    row = {
        "id": "c1",
        "start": 0.5,
        "duration": 0.25,
        "channel": 1,
        "supervisions": [{"id": "s1", "recording_id": "r", "start": 0.0, "duration": 0.25, "speaker": "Ann"}],
        "recording": {
            "id": "r",
            "sources": [{"type": "file", "channels": [0, 1], "source": "wav/x.wav"}],
            "sampling_rate": RATE,
            "num_samples": 16000,
            "duration": 2.0,
        },
        "type": "MonoCut",
    }
    return row | changes


def source(**changes: object) -> dict:
    return {"sources": [{"type": "file", "channels": [0, 1], "source": "wav/x.wav"} | changes]}


class TestLhotse:
    @pytest.mark.parametrize("where", ["", "data/manifests"])
    def test_cuts(self, tmp_path, where):
        """Relative paths start at the manifest's folder or the nearest one above it that has the file."""
        recording(tmp_path / "wav/x.wav")
        (tmp_path / where).mkdir(parents=True, exist_ok=True)
        row = cut(id="c2", channel=0, recording={"sources": [{"type": "file", "channels": [0], "source": "wav/x.wav"}]})
        data = "".join(json.dumps(one) + "\n" for one in (cut(), row)).encode()
        path = tmp_path / where / "cuts.jsonl.gz"
        path.write_bytes(gzip.compress(data))
        corpus = open_corpus(f"lhotse:{path}")
        assert [(item.id, item.speaker) for item in corpus.items] == [("c1", "Ann"), ("c2", "Ann")]
        right, left = (item.audio(RATE) for item in corpus.items)
        assert torch.equal(left, torch.arange(4000, 6000) / 2**15)
        assert torch.allclose(right, -left / 2, atol=2**-15)
        assert corpus.name == "cuts"

    def test_the_source_that_has_the_channel_is_taken(self, tmp_path):
        recording(tmp_path / "a.wav", channels=1)
        recording(tmp_path / "b.wav", channels=2)
        sources = [{"type": "file", "channels": [4], "source": "a.wav"}]
        sources += [{"type": "file", "channels": [2, 3], "source": "b.wav"}]
        corpus = open_corpus(f"lhotse:{table(tmp_path, cut(channel=3, recording={'sources': sources}))}")
        assert corpus.items[0].source == Cut(tmp_path / "b.wav", 0.5, 0.75, 1)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"type": "MixedCut"}, "is a MixedCut, which is not read here; write simple cuts with CutSet.save_audios"),
            ({"type": "MultiCut", "channel": [0, 1]}, "is a MultiCut"),
            ({"type": "PaddingCut"}, "is a PaddingCut"),
            ({"recording": source(type="command")}, "has audio of type 'command', .*save_audios"),
            ({"recording": source(type="url")}, "has audio of type 'url'"),
            ({"recording": source(source=7)}, "has audio of type 'file'"),
            ({"recording": source(channels=[0])}, "has no source with its channel 1"),
            ({"recording": source(channels=None)}, "has no source with its channel 1"),
            ({"recording": {"sources": None}}, "has no source with its channel 1"),
            ({"recording": {"sources": ["x.wav"]}}, "has no source with its channel 1"),
            ({"recording": None}, "has no recording"),
            ({"recording": source() | {"transforms": [{"name": "Speed"}]}}, "has a recording with transforms"),
            ({"supervisions": []}, "names no speaker"),
            ({"supervisions": [{"id": "s"}]}, "names no speaker"),
            ({"supervisions": None}, "names no speaker"),
            ({"supervisions": [{"speaker": "a"}, {"speaker": "b"}]}, "has 2 speakers, .*trim_to_supervisions"),
            ({"supervisions": [{"speaker": ["a"]}]}, r"has speaker = \['a'\], which is no text"),
            ({"duration": None}, "has no duration"),
            ({"duration": -1}, "has duration = -1, wanted seconds"),
            ({"id": ""}, "lacks a id"),
            ({"id": "c0"}, "has the id c0 of"),
        ],
    )
    def test_what_is_not_read_is_named_with_a_remedy(self, tmp_path, changes, message):
        path = table(tmp_path, cut(id="c0"), cut(**changes))
        with pytest.raises(DataError, match=rf"list\.jsonl row 2 {message}"):
            open_corpus(f"lhotse:{path}")


HUGE = "9" * 400
BAD_VALUES = [
    ('{"file": "a.wav", "speaker": "s", "start": 1e308}', r"start = 1e\+308, wanted seconds from 0 to 1e\+09"),
    (f'{{"file": "a.wav", "speaker": "s", "end": {HUGE}}}', r"end = 9{40}, wanted seconds"),
    (f'{{"file": "a.wav", "speaker": "s", "end": {"9" * 5000}}}', "is no JSON"),
    ("[" * 100_000, "is no JSON"),
    ('{"file": "\\ud800.wav", "speaker": "s", "id": "x"}', r"file = '\\ud800\.wav', which is no text in UTF-8"),
]


@pytest.mark.parametrize(("line", "says"), BAD_VALUES)
def test_values_that_no_row_can_mean(tmp_path, line, says):
    (tmp_path / "list.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=rf"list\.jsonl row 1 .*{says}.*; mend the row"):
        open_corpus(f"manifest:{tmp_path / 'list.jsonl'}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"duration": 1e308}, "duration = .* wanted seconds"),
        ({"source": "a\0.wav"}, "zero byte in its source"),
        ({"source": "\ud800.wav"}, "which is no text in UTF-8"),
    ],
)
def test_values_that_no_cut_can_mean(tmp_path, change, says):
    change = {"duration": 1.0, "source": "a.wav"} | change
    row = {
        "id": "x",
        "duration": change["duration"],
        "recording": {"sources": [{"type": "file", "channels": [0], "source": change["source"]}]},
        "supervisions": [{"speaker": "s"}],
    }
    with pytest.raises(DataError, match=rf"row 1 has .*{says}"):
        open_corpus(f"lhotse:{table(tmp_path, row)}")


def test_a_path_too_long_for_any_disk_is_a_missing_file(tmp_path, capsys):
    long = "a" * 5000 + ".wav"
    row = {
        "id": "x",
        "duration": 1.0,
        "recording": {"sources": [{"type": "file", "channels": [0], "source": long}]},
        "supervisions": [{"speaker": "s"}],
    }
    lhotse = table(tmp_path, row, name="cuts.jsonl")
    listed = table(tmp_path, {"file": "b" * 300, "speaker": "s"})
    for spec in (f"lhotse:{lhotse}", f"manifest:{listed}"):
        assert len(open_corpus(spec)) == 1
        assert cli.main(["corpus", "check", spec]) == 3
        assert "1 of 1 utterances have no file" in capsys.readouterr().err


def test_a_home_that_nobody_has_is_a_folder_of_that_name(tmp_path):
    for spec in ("folder:~nosuchuser/x", "manifest:~nosuchuser/x.csv"):
        with pytest.raises(DataError, match=r"~nosuchuser/x.* does not exist"):
            open_corpus(spec)
    corpus = open_corpus(f"manifest:{table(tmp_path, {'file': '~nosuchuser/a.wav', 'speaker': 's'})}")
    assert corpus.items[0].file == tmp_path / "~nosuchuser/a.wav"


@pytest.mark.parametrize("kind", ["folder", "manifest", "lhotse"])
def test_a_path_that_is_too_long(kind):
    with pytest.raises(DataError, match="does not exist"):
        open_corpus(f"{kind}:{'a' * 5000}")


def test_a_pipe_is_no_list(tmp_path):
    os.mkfifo(tmp_path / "list.csv")
    with pytest.raises(DataError, match=r"list\.csv is no plain file"):
        open_corpus(f"manifest:{tmp_path / 'list.csv'}")


def test_a_column_that_is_named_twice(tmp_path):
    (tmp_path / "list.csv").write_text("file,speaker,speaker\na.wav,x,y\n")
    with pytest.raises(DataError, match=r"list\.csv row 1 names the column 'speaker' more than once"):
        open_corpus(f"manifest:{tmp_path / 'list.csv'}")


@pytest.mark.parametrize("spoil", [lambda p: p.write_bytes(b"1 | \xe9"), lambda p: p.mkdir()])
def test_a_table_of_librispeech_that_cannot_be_read(tmp_path, spoil):
    recording(tmp_path / "dev-clean/1/2/1-2-0000.flac")
    spoil(tmp_path / "SPEAKERS.TXT")
    with pytest.raises(DataError, match=r"SPEAKERS\.TXT: cannot be read, or damaged .*; fetch it again or remove it"):
        open_corpus(f"librispeech:{tmp_path}")
