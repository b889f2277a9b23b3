"""The table of codecs says what the classes say, whether or not they can be used here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from audio_engram import cli
from audio_engram.codecs import catalogue, mimi
from audio_engram.codecs.base import BUILT_IN
from audio_engram.codecs.catalogue import HEADER, UNKNOWN, format_catalogue, read_catalogue
from audio_engram.codecs.mel import MelCodec
from versions import pretend_version


def rows(table: str) -> dict[str, list[str]]:
    """The cells of each line, cut where the header's words begin."""
    header, *lines = table.splitlines()
    starts = [header.index(word) for word in HEADER]
    cells = ([line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for line in lines)
    return {row[0]: row[1:] for row in cells}


def test_the_table_has_the_facts_of_the_classes() -> None:
    found = rows(format_catalogue(read_catalogue()))
    assert found["mel"] == ["16000", "12.5 25 50 100", "512 256 128 64", "yes", "none", "-"]
    assert found["lyra"] == ["16000", "50", "64", "yes", "a file: codec.weights", "-"]
    assert found["mimi"][:5] == ["24000", "12.5 25 50", "512", "yes", "hub: kyutai/mimi"]
    assert found["encodec_48khz"][1:4] == ["150", "129", "no"]
    assert found["pocket"][:3] == ["24000", "12.5", "32"]


def test_what_is_offered_is_what_the_codec_has() -> None:
    for rate, dim in MelCodec.offers.items():
        codec = MelCodec(rate)
        assert (codec.frame_rate, codec.latent_dim) == (rate, dim)
    assert set(mimi.MimiCodec.offers) == {rate for rates in mimi.RATES.values() for rate in rates}


@pytest.mark.parametrize(
    ("version", "state", "below"),
    [
        ("5.23", "hub, installed", ""),
        (
            None,
            "hub, not installed",
            "mimi, encodec, encodec_48khz, pocket: transformers is not installed:"
            " install the extra hub: pip install -e '.[hub]' in the clone",
        ),
    ],
)
def test_the_extra_and_its_remedy(
    version: str | None, state: str, below: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_version(version, monkeypatch)
    assert cli.main(["codec", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert rows("\n".join(lines[:7]))["mimi"][-1] == state
    assert lines[7:] == ([below] if below else [])
    assert cli.main(["codec", "list", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["mimi"]["extra_installed"], facts["mel"]["extra_installed"]) == (version is not None, None)
    assert facts["mel"]["rates"][1] == {"frame_rate": 25, "latent_dim": 256}
    assert facts["lyra"] | {"sample_rate": 16000, "causal": True, "where": BUILT_IN["lyra"]} == facts["lyra"]


OTHERS = """
from audio_engram.codecs.base import Codec
from audio_engram.codecs.mel import MelCodec

class Bare(Codec):
    name = "bare"
    extra = "theirs"
    def __init__(self, weights=""): ...
    def analyse(self, audio): ...
    def decode(self, latents): ...

class Half(Codec):
    pass

class Mine(MelCodec):
    pass
"""


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of a user."""
    (tmp_path / "others.py").write_text(OTHERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "others", raising=False)


@pytest.mark.usefixtures("others")
def test_codecs_of_others_are_listed_as_far_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"bare": "others:Bare", "gone": "no_such_module:Codec", "mine": "others:Mine"}
    monkeypatch.setattr(catalogue, "list_codecs", lambda: known)
    monkeypatch.setattr("audio_engram.codecs.base.list_codecs", lambda: known)
    table = format_catalogue(read_catalogue())
    found = rows(table)
    assert found["bare"] == [UNKNOWN, UNKNOWN, UNKNOWN, "yes", "codec.weights, or its own", "-"]
    assert found["gone"] == [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, "-"]
    assert found["mine"][2] == "512 256 128 64"
    assert table.splitlines()[-1].startswith("gone: codec.name: cannot import no_such_module")


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("name", "said"), [("Nope", "known: Bare, MelCodec, Mine"), ("Min", "did you mean Mine"), ("Hal", "known: Bare")]
)
def test_only_codecs_are_offered_for_a_class_that_is_not_there(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["codec", "check", f"others:{name}"]) == 2
    assert f"codec.name: others has no {name}; {said}" in capsys.readouterr().err


def test_lyra_without_weights_names_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["codec", "check", "lyra"]) == 4
    assert "'lyra' do not come with this package: --set codec.weights=FILE" in capsys.readouterr().err


def test_listing_imports_no_model_library() -> None:
    code = (
        "import sys; from audio_engram.cli import main; main(['codec', 'list']);"
        " print(sorted({'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
