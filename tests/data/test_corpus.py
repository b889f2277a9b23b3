"""Corpora list their utterances in a fixed order, and say what is wrong with a path, a layout or a table."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio_engram.data.corpus import Corpus, CorpusItem, open_corpus
from audio_engram.errors import DataError, UsageError


def sound(path: Path, value: float = 0.25, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(1600, value), rate)
    return path


def libri(root: Path, *names: str) -> Path:
    for name in names:
        subset, utterance = name.split("/")
        speaker, chapter, _ = utterance.split("-")
        sound(root / subset / speaker / chapter / f"{utterance}.flac")
    return root


class TestSpec:
    @pytest.mark.parametrize("spec", ["dmeo", "libri:/x", "folders:/x", ""])
    def test_unknown(self, spec):
        with pytest.raises(UsageError, match=r"did you mean|known: demo, folder, lhotse, librispeech"):
            open_corpus(spec)

    def test_near_miss(self):
        with pytest.raises(UsageError, match="did you mean librispeech"):
            open_corpus("librispech:/data")

    @pytest.mark.parametrize("spec", ["folder", "folder:", "librispeech", "demo:", "demo:/x"])
    def test_path_where_it_belongs(self, spec):
        with pytest.raises(UsageError, match="should be written"):
            open_corpus(spec)

    @pytest.mark.parametrize("kind", ["folder", "librispeech"])
    def test_missing_file_and_empty_paths(self, kind, tmp_path):
        with pytest.raises(DataError, match="does not exist"):
            open_corpus(f"{kind}:{tmp_path / 'nowhere'}")
        with pytest.raises(DataError, match="is a file"):
            open_corpus(f"{kind}:{sound(tmp_path / 'x.wav')}")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="check"):
            open_corpus(f"{kind}:{tmp_path / 'empty'}")


class TestFolder:
    def test_speaker_is_the_first_folder(self, tmp_path):
        for name in ["b/2.wav", "b/deep/1.FLAC", "a/x.ogg", "a/notes.txt", "a/._x.wav"]:
            sound(tmp_path / name) if "notes" not in name else (tmp_path / name).write_text("")
        corpus = open_corpus(f"folder:{tmp_path}")
        assert [item.id for item in corpus.items] == ["a/x.ogg", "b/2.wav", "b/deep/1.FLAC"]
        assert [item.speaker for item in corpus.items] == ["a", "b", "b"]
        assert corpus.speakers == ["a", "b"]
        assert corpus.name == tmp_path.name
        assert not corpus.synthetic
        assert corpus.items[1].audio(8000).shape == (800,)

    def test_same_stem_twice_has_two_ids(self, tmp_path):
        sound(tmp_path / "a/x.wav")
        sound(tmp_path / "a/x.flac")
        assert len(open_corpus(f"folder:{tmp_path}")) == 2

    def test_links_are_followed_and_circles_end(self, tmp_path):
        sound(tmp_path / "elsewhere/x.wav")
        root = tmp_path / "root"
        root.mkdir()
        (root / "speaker").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere/up").symlink_to(root)
        (root / "speaker/gone.wav").symlink_to(tmp_path / "nowhere.wav")
        assert [item.id for item in open_corpus(f"folder:{root}").items] == [
            "speaker/gone.wav",
            "speaker/x.wav",
        ]

    def test_loose_files_need_a_table(self, tmp_path):
        sound(tmp_path / "x.wav")
        with pytest.raises(DataError, match=r"no speaker.*speakers\.csv"):
            open_corpus(f"folder:{tmp_path}")

    def test_table(self, tmp_path):
        sound(tmp_path / "x.wav")
        sound(tmp_path / "d/y.wav")
        (tmp_path / "speakers.csv").write_text("\ufefffile,speaker,age\nx.wav,Zoë,7\nd/y.wav,b,8\ngone.wav,b,9\n")
        corpus = open_corpus(f"folder:{tmp_path}")
        assert {item.id: item.speaker for item in corpus.items} == {
            "x.wav": "Zoë",
            "d/y.wav": "b",
            "gone.wav": "b",
        }

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ("file,name\nx.wav,a\n", "row 1 should name the columns"),
            ("", "row 1 should name the columns"),
            ("file,speaker\nx.wav,a\nx.wav,b\n", r"row 3 lists x\.wav again"),
            ("file,speaker\nx.wav,\n", "row 2 lacks"),
            ("file,speaker\nx.wav\n", "row 2 lacks"),
            ("file,speaker\n", r"no row for x\.wav"),
        ],
    )
    def test_damaged_table(self, tmp_path, table, message):
        sound(tmp_path / "x.wav")
        (tmp_path / "speakers.csv").write_text(table)
        with pytest.raises(DataError, match=message):
            open_corpus(f"folder:{tmp_path}")


class TestLibriSpeech:
    names = ("train-clean-100/19-198-0001", "test-other/367-1-0000", "test-other/103-7-0002")

    @pytest.mark.parametrize("inside", ["", "LibriSpeech"])
    def test_layout(self, tmp_path, inside):
        libri(tmp_path / inside, *self.names)
        corpus = open_corpus(f"librispeech:{tmp_path}")
        assert [(i.subset, i.speaker, i.id) for i in corpus.items] == [
            ("test-other", "103", "103-7-0002"),
            ("test-other", "367", "367-1-0000"),
            ("train-clean-100", "19", "19-198-0001"),
        ]

    def test_one_subset(self, tmp_path):
        libri(tmp_path, *self.names)
        assert open_corpus(f"librispeech:{tmp_path / 'test-other'}").speakers == ["103", "367"]

    def test_speakers_are_checked_against_the_table(self, tmp_path):
        libri(tmp_path, *self.names)
        table = tmp_path / "SPEAKERS.TXT"
        table.write_text("; 367 | in a comment\n19   | F | x\n103 | M | y\n")
        with pytest.raises(DataError, match="no speaker 367"):
            open_corpus(f"librispeech:{tmp_path}")
        table.write_text("19   | F | x\n103 | M | y\n367 | F | a|b\n")
        assert len(open_corpus(f"librispeech:{tmp_path}")) == 3

    @pytest.mark.parametrize("name", ["x", "19-198", "20-198-0001", "19-199-0001", "19-198-a"])
    def test_file_out_of_the_layout(self, tmp_path, name):
        sound(tmp_path / "dev-clean/19/198" / f"{name}.flac")
        with pytest.raises(DataError, match="does not follow"):
            open_corpus(f"librispeech:{tmp_path}")

    @pytest.mark.shared
    def test_real_data(self, shared):
        corpus = open_corpus(f"librispeech:{shared / 'data'}")
        assert (len(corpus), len(corpus.speakers)) == (645, 261)
        assert corpus.items == open_corpus(f"librispeech:{shared / 'data/LibriSpeech'}").items


class TestCorpus:
    def test_ids_occur_once(self, tmp_path):
        item = CorpusItem("x", "s", tmp_path / "x.wav")
        with pytest.raises(DataError, match="id x more than once"):
            Corpus("c", (item, item))

    def test_fingerprint_changes_with_what_matters_and_with_nothing_else(self, tmp_path):
        def fingerprint(folder: str) -> str:
            return open_corpus(f"folder:{tmp_path / folder}").fingerprint()

        sound(tmp_path / "one/a/x.wav")
        sound(tmp_path / "two/a/x.wav")
        first = fingerprint("one")
        assert fingerprint("two") == first
        sound(tmp_path / "two/a/x.wav", value=0.5)
        changed = fingerprint("two")
        (tmp_path / "two/a/x.wav").rename(tmp_path / "two/a/y.wav")
        renamed = fingerprint("two")
        (tmp_path / "two/a").rename(tmp_path / "two/b")
        moved = fingerprint("two")
        (tmp_path / "two/b/y.wav").unlink()
        (tmp_path / "two/b/y.wav").symlink_to(tmp_path / "nowhere")
        assert len({first, changed, renamed, moved, fingerprint("two")}) == 5

    def test_fingerprint_knows_speaker_and_subset(self):
        items = [CorpusItem("x", speaker, torch.ones, subset) for speaker in "ab" for subset in "cd"]
        assert len({Corpus("c", (item,)).fingerprint() for item in items}) == 4

    def test_items_can_be_functions(self):
        item = CorpusItem("x", "s", lambda rate: torch.linspace(0, 1, rate))
        audio = item.audio(100)
        assert len(audio) == 100
        assert item.content_hash(audio) != item.content_hash(audio + 1)
        assert len(Corpus("c", (item,)).fingerprint()) == 32
