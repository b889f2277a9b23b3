"""Weights of the codecs of transformers: where they are looked for, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from audio_engram import cli
from audio_engram.codecs.base import CodecConfig, load_codec
from audio_engram.codecs.encodec import Encodec48Codec, EncodecCodec
from audio_engram.codecs.hub import HubCodec
from audio_engram.codecs.mimi import MimiCodec
from audio_engram.codecs.pocket import PocketCodec
from audio_engram.codecs.precision import full_float32
from audio_engram.errors import DataError, EngramError, MissingError, UsageError
from versions import pretend_version

KINDS: list[type[HubCodec]] = [MimiCodec, EncodecCodec, Encodec48Codec, PocketCodec]
Saved = Callable[[type[HubCodec]], Path]


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 1, samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def refusal(kind: type[HubCodec], **settings: object) -> EngramError:
    with pytest.raises(EngramError) as caught:
        kind(**settings)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_the_codec_that_was_saved(kind: type[HubCodec], saved: Saved) -> None:
    original = load_codec(CodecConfig(name=kind.name, options={"random_seed": 0}))
    loaded = load_codec(CodecConfig(name=kind.name, weights=str(saved(kind))))
    assert isinstance(loaded, kind)
    assert original.options["random_seed"] == 0
    assert "random_seed" not in loaded.options
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    audio = noise(loaded.hop * 8)
    latents = loaded.encode(audio)
    assert torch.equal(latents, original.encode(audio))
    assert torch.equal(loaded.decode(latents), original.decode(latents))
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}


def test_random_weights_follow_their_seed_and_nothing_else() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (EncodecCodec(random_seed=seed).fingerprint() for seed in (3, 3, 4))
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), before)
    for wrong in (-1, "many", 1.5):
        assert isinstance(refusal(EncodecCodec, random_seed=wrong), UsageError)


@pytest.mark.parametrize("kind", KINDS)
def test_random_codebooks_are_not_all_the_same(kind: type[HubCodec]) -> None:
    books = [
        value
        for key, value in kind(random_seed=0).model.named_buffers()
        if key.endswith(("codebook.embed", "codebook.embed_sum"))
    ]
    assert bool(books) == (kind is not PocketCodec)
    assert all(book.std() > 0.5 for book in books)


def test_two_sources_of_weights_are_refused(tmp_path: Path) -> None:
    error = refusal(MimiCodec, weights=str(tmp_path), revision="main")
    assert isinstance(error, UsageError)
    assert "codec.weights and codec.options.revision" in str(error)
    assert "codec.options.random_seed" in str(refusal(MimiCodec, revision="main", random_seed=0))


def edited(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    content = load_file(path)
    change(content)
    save_file(content, path, metadata={"format": "pt"})


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def foreign(folder: Path) -> None:
    tensors(folder, lambda content: [content.pop(key) for key in list(content)[:-1]])


BIAS = "decoder.layers.0.conv.bias"
BROKEN = [
    (MimiCodec, lambda f: (f / "config.json").unlink(), r"config\.json: No such file"),
    (MimiCodec, lambda f: (f / "model.safetensors").unlink(), "no file named model.safetensors"),
    (MimiCodec, lambda f: (f / "config.json").write_text("{"), "not a configuration of transformers"),
    (MimiCodec, lambda f: (f / "config.json").write_text("[1]"), "not a configuration of transformers"),
    (MimiCodec, lambda f: (f / "config.json").write_text("{}"), "not a configuration of transformers"),
    (MimiCodec, lambda f: edited(f, model_type="encodec"), "weights of 'encodec', not of 'mimi'"),
    (MimiCodec, lambda f: edited(f, num_hidden_layers="two"), "not loaded as MimiModel .*num_hidden_layers"),
    (MimiCodec, lambda f: edited(f, num_hidden_layers=3), "tensors are missing, among them .*layers.2"),
    (MimiCodec, lambda f: edited(f, intermediate_size=48), "tensors are mismatched"),
    (MimiCodec, lambda f: edited(f, sampling_rate=16000), "sampling_rate is 16000, not 24000"),
    (MimiCodec, lambda f: edited(f, use_causal_conv=False), "use_causal_conv is False, not True"),
    (MimiCodec, truncated, "not loaded as MimiModel"),
    (MimiCodec, foreign, "tensors are missing"),
    (MimiCodec, lambda f: tensors(f, lambda c: c[BIAS].fill_(torch.nan)), "decoder_seanet.layers.0.conv.bias .*finite"),
    (EncodecCodec, lambda f: tensors(f, lambda c: c.update(extra=torch.zeros(3))), "1 tensors are unexpected.*extra"),
    (PocketCodec, lambda f: tensors(f, lambda c: c.pop("latent_proj.weight")), "1 tensors are missing.*latent_proj"),
]


@pytest.mark.parametrize(("kind", "breakage", "message"), BROKEN)
def test_a_folder_that_is_not_the_models_is_named(
    kind: type[HubCodec], breakage: Callable[[Path], object], message: str, saved: Saved, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(saved(kind), folder)
    breakage(folder)
    with pytest.raises(DataError, match=message) as caught:
        kind(weights=str(folder))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_the_weights_of_a_relative_are_refused(saved: Saved) -> None:
    error = refusal(EncodecCodec, weights=str(saved(Encodec48Codec)))
    assert isinstance(error, DataError)
    assert "sampling_rate is 48000, not 24000: another model than facebook/encodec_24khz" in str(error)
    assert "sampling_rate is 24000" in str(refusal(Encodec48Codec, weights=str(saved(EncodecCodec))))


def test_the_command_says_it_in_one_line_with_the_exit_code(
    saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(code: int, *arguments: str) -> str:
        assert cli.main(["codec", "check", *arguments]) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        return captured.err

    weights = f"codec.weights={saved(MimiCodec)}"
    assert "there is no folder" in refused(4, "mimi", "--set", f"codec.weights={tmp_path / 'absent'}")
    assert "weights of 'mimi'" in refused(3, "encodec", "--set", weights)
    assert "no 13 Hz" in refused(2, "mimi", "--set", weights, "--set", "codec.frame_rate=13")
    assert "mel takes no random weights" in refused(2, "mel", "--random")
    assert "lyra takes no random weights" in refused(2, "lyra", "--random")


def checked(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> dict[str, dict[str, object]]:
    assert cli.main(["codec", "check", *arguments, "--json"]) == code
    return {result["name"]: result for result in json.loads(capsys.readouterr().out)}


def test_random_weights_are_checked_but_their_sound_is_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    results = checked(capsys, 0, "pocket", "--random", "--seed", "5")
    unjudged = {name for name, result in results.items() if not result["judged"]}
    assert unjudged == {"look_back", "round_trip", "delay", "gain"}


def test_real_weights_are_heard_on_the_demo_corpus_and_against_the_codes(
    saved: Saved, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = f"codec.weights={saved(MimiCodec)}"
    results = checked(capsys, 2, "mimi", "--real", "--set", weights)  # random weights do not sound
    assert not results["round_trip_audio"]["ok"]
    assert not results["codes"]["ok"]
    assert results["codes"]["judged"]
    exact = checked(capsys, 2, "mimi", "--real", "--set", weights, "--set", "codec.tap=post_q")["codes"]
    assert exact["ok"]
    assert exact["value"] == 0
    assert cli.main(["codec", "check", "mimi", "--real"]) == 4
    assert "hf download kyutai/mimi" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, "transformers is not installed"),
        ("5.20.3", "needs transformers >= 5.21, not 5.20.3"),
        ("4.57.0", "not 4.57.0"),
    ],
)
def test_without_transformers_the_extra_is_named(
    version: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_version(version, monkeypatch)
    error = refusal(MimiCodec, random_seed=0)
    assert isinstance(error, MissingError)
    assert message in str(error)
    assert str(error).endswith("install the extra hub: pip install -e '.[hub]' in the clone")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def cached(cache: Path, kind: type[HubCodec], weights: Path, revision: str) -> Path:
    repository = cache / f"models--{kind.checkpoint.repository.replace('/', '--')}"
    shutil.copytree(weights, repository / "snapshots" / revision)
    return repository


@pytest.mark.parametrize("kind", KINDS)
def test_offline_and_not_cached_names_model_cache_and_command(kind: type[HubCodec], cache: Path) -> None:
    error = refusal(kind)
    assert isinstance(error, MissingError)
    checkpoint = kind.checkpoint
    pinned = f" --revision {checkpoint.revision}" if checkpoint.revision else ""
    assert f"hf download {checkpoint.repository}{pinned} --local-dir DIR" in str(error)
    assert str(cache) in str(error)


def test_a_cached_commit_is_used_offline_and_recorded(cache: Path, saved: Saved) -> None:
    assert MimiCodec.checkpoint.revision
    repository = cached(cache, MimiCodec, saved(MimiCodec), MimiCodec.checkpoint.revision)
    assert MimiCodec().options == {"revision": MimiCodec.checkpoint.revision}
    (repository / "refs").mkdir()
    shutil.move(repository / "snapshots" / MimiCodec.checkpoint.revision, repository / "snapshots" / ("a" * 40))
    (repository / "refs/main").write_text("a" * 40)
    assert isinstance(refusal(MimiCodec), MissingError)  # another commit is not the pinned one
    assert MimiCodec(revision="main").options == {"revision": "a" * 40}


def test_a_half_downloaded_commit_is_not_taken_for_weights(cache: Path, saved: Saved) -> None:
    assert MimiCodec.checkpoint.revision
    repository = cached(cache, MimiCodec, saved(MimiCodec), MimiCodec.checkpoint.revision)
    next(repository.rglob("*.safetensors")).unlink()
    assert "cannot be fetched" in str(refusal(MimiCodec))


def test_the_pinned_commit_is_what_is_downloaded_and_no_pickle(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repository: str, revision: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
        asked.append((repository, revision, allow_patterns))
        return str(shutil.copytree(saved(EncodecCodec), tmp_path / revision))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: None)
    commit = EncodecCodec.checkpoint.revision
    assert EncodecCodec().options["revision"] == commit
    assert asked == [("facebook/encodec_24khz", commit, ["config.json", "*.safetensors"])]


def test_the_environment_is_honoured_and_transformers_waits_until_it_is_needed(saved: Saved, tmp_path: Path) -> None:
    assert MimiCodec.checkpoint.revision
    cached(tmp_path / "hub", MimiCodec, saved(MimiCodec), MimiCodec.checkpoint.revision)
    program = (
        "import sys; from audio_engram.codecs import conformance, encodec, mimi, pocket;"
        "print('transformers' in sys.modules, mimi.MimiCodec().options['revision'])"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == f"False {MimiCodec.checkpoint.revision}\n", done.stderr
    assert done.stderr == ""


def test_pins_are_whole_commits() -> None:
    for kind in KINDS:
        revision = kind.checkpoint.revision
        assert revision is None or (len(revision) == 40 and set(revision) <= set("0123456789abcdef"))


def test_encoding_keeps_tf32_out_and_leaves_the_switches_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    codec = PocketCodec(random_seed=0)
    encode = codec.model.encode

    def watched(audio: torch.Tensor) -> object:
        cudnn = torch.backends.cudnn
        seen.append([part.fp32_precision for part in (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)])
        return encode(audio)

    monkeypatch.setattr(codec.model, "encode", watched)
    codec.encode(noise(1920))
    assert seen == [["ieee"] * 3]
    with pytest.raises(KeyError), full_float32():
        raise KeyError
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (True, False)


def test_of_threads_that_encode_together_the_last_puts_the_switches_back() -> None:
    precisions = [torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul]
    before = [part.fp32_precision for part in precisions]
    one, other = full_float32(), full_float32()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)  # the first to come is the first to leave
    assert [part.fp32_precision for part in precisions] == ["ieee"] * 3
    other.__exit__(None, None, None)
    assert [part.fp32_precision for part in precisions] == before != ["ieee"] * 3


def test_older_pytorch_has_other_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn, products = SimpleNamespace(allow_tf32=True), SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch, "backends", SimpleNamespace(cudnn=cudnn, cuda=SimpleNamespace(matmul=products)))
    with full_float32():
        assert not cudnn.allow_tf32
        assert not products.allow_tf32
    assert cudnn.allow_tf32
    assert products.allow_tf32
