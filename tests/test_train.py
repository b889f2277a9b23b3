"""The training loop: resumes bit-equal, keeps the best, says what went wrong."""

import json
from pathlib import Path

import pytest
import torch

from audio_engram import checkpoint, train, training_loop
from audio_engram.config import TrainConfig
from audio_engram.data.windows import Windows
from audio_engram.dynamics.model import training_precision
from audio_engram.errors import DataError, MissingError, NumericalError, UsageError
from audio_engram.train import fit, load_model, validate
from killed import kill_after
from toys import make_frames, training_toy, walk

SHORT = TrainConfig(epochs=5, batch_size=32, learning_rate=5e-3, precision="float32")
UNROLLED = SHORT.model_copy(update={"unroll": 4, "batch_size": 16})
NOISY = SHORT.model_copy(update={"context_noise": 0.3})
ADVERSE = UNROLLED.model_copy(update={"step": "sample", "adversary": 0.5})
HERE = Path(__file__).resolve().parent


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a) and a.keys() == b.keys()


def uninterrupted(kind, config, dropout):
    model, windows = training_toy(kind, config, dropout)
    history = fit(model, windows, config, seed=3)
    return weights(model), history


@pytest.mark.parametrize(
    ("kind", "config", "dropout"),
    [("mdn", SHORT, 0.2), ("vmf", NOISY, 0.0), ("mdn", UNROLLED, 0.0), ("mdn", ADVERSE, 0.0)],
)
def test_resumed_in_the_middle_is_bit_equal(kind, config, dropout, tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "SAVE_EVERY", 0.0)
    path = tmp_path / "model.safetensors"
    expected, history = uninterrupted(kind, config, dropout)

    class Stop:
        def __init__(self, epoch):
            self.start = f"epoch {epoch}/"

        def __call__(self, line):
            if line.startswith(self.start):
                raise KeyboardInterrupt

    for epoch in (2, 4):
        model, windows = training_toy(kind, config, dropout)
        with pytest.raises(KeyboardInterrupt):
            fit(model, windows, config, 3, path, Stop(epoch))
    model, windows = training_toy(kind, config, dropout)
    seen = []
    resumed = fit(model, windows, config, 3, path, seen.append)
    assert [line.split()[1] for line in seen] == ["4/5", "5/5"]
    assert same(weights(model), expected)
    assert resumed.epochs == history.epochs
    assert (resumed.best, resumed.best_epoch) == (history.best, history.best_epoch)


KILLED = """
import sys
from pathlib import Path
import torch
from toys import training_toy
from audio_engram import train, training_loop
from audio_engram.config import TrainConfig
torch.set_num_threads(1)
training_loop.SAVE_EVERY = 0.0
config = TrainConfig(**eval(sys.argv[2]))
model, windows = training_toy("mdn", config)
train.fit(model, windows, config, 3, Path(sys.argv[1]), lambda line: print(line, flush=True))
"""


def test_killed_training_goes_on_bit_equal(tmp_path):
    config = SHORT.model_copy(update={"epochs": 40, "patience": 40})
    path = tmp_path / "model.safetensors"
    kill_after("epoch 4/", KILLED, str(path), repr(config.model_dump()), cwd=HERE)
    _, note = checkpoint.load(path)
    assert 3 <= len(note["history"]["epochs"]) < 40
    assert not note["history"]["finished"]
    expected, history = uninterrupted("mdn", config, 0.0)
    model, windows = training_toy("mdn", config)
    resumed = fit(model, windows, config, 3, path)
    assert same(weights(model), expected)
    assert resumed.epochs == history.epochs


def test_a_finished_training_is_read_and_not_repeated(tmp_path):
    path = tmp_path / "model.safetensors"
    model, windows = training_toy("vmf", SHORT)
    history = fit(model, windows, SHORT, 3, path)
    fresh, windows = training_toy("vmf", SHORT)
    again = fit(fresh, windows, SHORT, 3, path, pytest.fail)
    assert same(weights(fresh), weights(model))
    assert again == history
    assert again.finished
    tensors, _ = checkpoint.load(path)
    assert all(name.startswith("best.") for name in tensors)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_early_stopping_keeps_the_best(monkeypatch):
    config = SHORT.model_copy(update={"epochs": 20, "patience": 3})
    script = iter([5.0, 3.0, 4.0, 2.0, 2.5, 2.0, 9.0])
    monkeypatch.setattr(train, "validate", lambda *_: next(script))
    model, windows = training_toy("mdn", config)
    after = []
    history = fit(model, windows, config, 3, progress=lambda _: after.append(weights(model)))
    assert len(history.epochs) == 7
    assert (history.best, history.best_epoch, history.waited) == (2.0, 4, 3)
    assert same(weights(model), after[3])
    assert not same(weights(model), after[6])
    assert history.learning_rate == pytest.approx(config.learning_rate / 2**4)
    assert not model.training


def test_the_learning_rate_reported_is_the_one_used(monkeypatch):
    script = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(train, "validate", lambda *_: next(script))
    seen = []
    original = torch.optim.AdamW.step

    def spy(self, *arguments):
        seen.append(self.param_groups[0]["lr"])
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    config = SHORT.model_copy(update={"epochs": 3, "batch_size": 4096})
    model, windows = training_toy("mdn", config)
    fit(model, windows, config, 3)
    assert seen == pytest.approx([5e-3, 5e-3, 2.5e-3])


@pytest.mark.parametrize("kind", ["mdn", "vmf", "magnitude"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_head_learns_in_both_precisions(kind, precision):
    config = SHORT.model_copy(update={"precision": precision, "epochs": 8})
    model, windows = training_toy(kind, config)
    before = validate(model, windows[1], config)
    history = fit(model, windows, config, 3)
    assert history.best < before - (0.02 if kind == "magnitude" else 0.3)
    assert history.best == pytest.approx(validate(model, windows[1], config))
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("kind", ["mdn", "vmf"])
@pytest.mark.parametrize("extra", [{}, {"detach": True}, {"checkpoint_steps": True}, {"state_weight": 1.0}])
def test_unrolled_training_lowers_its_loss(kind, extra):
    config = UNROLLED.model_copy(update=extra | {"epochs": 3})
    model, windows = training_toy(kind, config)
    before = validate(model, windows[1], config)
    assert fit(model, windows, config, 3).best < before - 0.1


def test_checkpointed_steps_change_nothing_but_memory():
    short = UNROLLED.model_copy(update={"epochs": 2})
    plain, windows = training_toy("mdn", short)
    fit(plain, windows, short, 3)
    config = short.model_copy(update={"checkpoint_steps": True})
    saved, windows = training_toy("mdn", config)
    fit(saved, windows, config, 3)
    for one, other in zip(plain.parameters(), saved.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_seed_decides_and_the_global_stream_is_left_alone():
    results = []
    for seed in (3, 3, 4):
        model, windows = training_toy("mdn", SHORT, dropout=0.2)
        state = torch.random.get_rng_state()
        fit(model, windows, SHORT, seed)
        assert torch.equal(torch.random.get_rng_state(), state)
        results.append(weights(model))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_validation_speakers_are_not_trained_on():
    model, windows = training_toy("mdn", SHORT)
    other, swapped = training_toy("mdn", SHORT)
    z = swapped[1].frames.z
    z[swapped[1].frames.in_split("validation")] *= -3.0
    once = SHORT.model_copy(update={"epochs": 1})
    fit(model, windows, once, 3)
    fit(other, swapped, once, 3)
    assert same(weights(model), weights(other))


def test_each_epoch_has_a_stream_of_its_own(monkeypatch):
    drawn, original = [], train._epoch_batches

    def spy(windows, config, generator):
        drawn.append([])
        for segment in original(windows, config, generator):
            drawn[-1].append(segment.future.clone())
            yield segment

    monkeypatch.setattr(train, "_epoch_batches", spy)
    model, windows = training_toy("mdn", SHORT)
    fit(model, windows, SHORT.model_copy(update={"epochs": 3}), 3)
    epochs = [torch.cat(parts) for parts in drawn]
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])


def test_each_epoch_shuffles_anew_and_sees_every_segment():
    _, windows = training_toy("mdn", SHORT)
    generator = torch.Generator().manual_seed(0)
    batches = (train._epoch_batches(windows[0], SHORT, generator) for _ in "ab")
    epochs = [torch.cat([s.future.clone() for s in batch]) for batch in batches]
    assert not torch.equal(*epochs)
    assert all(len(e) == len(windows[0].with_valid_target()) for e in epochs)
    assert torch.equal(epochs[0].flatten().sort().values, epochs[1].flatten().sort().values)
    _, windows = training_toy("mdn", UNROLLED)
    n = sum(len(s.context) for s in train._epoch_batches(windows[0], UNROLLED, generator))
    assert n == len(windows[0]) // 4


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    model, windows = training_toy("mdn", SHORT)
    fit(model, windows, SHORT, 3, path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint at all", whole[:200]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"model\.safetensors: damaged"):
            fit(model, windows, SHORT, 3, path)


def test_a_flipped_bit_anywhere_is_found(tmp_path):
    """In the middle of the weights no format can tell: the number is only another one."""
    path = tmp_path / "model.safetensors"
    model, windows = training_toy("mdn", SHORT)
    fit(model, windows, SHORT, 3, path)
    whole = bytearray(path.read_bytes())
    for place in range(7, len(whole), len(whole) // 150):
        flipped = whole.copy()
        flipped[place] ^= 0x40
        path.write_bytes(flipped)
        with pytest.raises(DataError, match=r"damaged \(.*\): delete it and run again with --resume$"):
            checkpoint.load(path)


def test_a_note_that_was_changed_is_found(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, {"a": torch.zeros(2)}, {"best": 3.25})
    path.write_bytes(path.read_bytes().replace(b"3.25", b"2.25"))
    with pytest.raises(DataError, match="its checksum is not that of its content"):
        checkpoint.load(path)


def test_a_folder_in_the_place_of_a_checkpoint_is_named(tmp_path):
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(DataError, match=r"x\.safetensors: damaged"):
        checkpoint.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(("config", "seed"), [(SHORT.model_copy(update={"learning_rate": 0.001}), 3), (SHORT, 4)])
def test_a_checkpoint_of_another_configuration_is_refused(config, seed, tmp_path):
    path = tmp_path / "model.safetensors"
    model, windows = training_toy("mdn", SHORT)
    fit(model, windows, SHORT, 3, path)
    with pytest.raises(
        UsageError, match=r"of another training \((train.learning_rate|seed) = \S+ there, \S+ here\): delete it"
    ):
        fit(model, windows, config, seed, path)


def test_checkpoints_hold_tensors_and_note_and_no_pickle(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(True)}
    note = {"best": float("inf"), "list": [1, None, "ü"]}
    checkpoint.save(tmp_path / "x.safetensors", tensors, note)
    loaded, read = checkpoint.load(tmp_path / "x.safetensors")
    assert same(tensors, loaded)
    assert read == note
    assert json.loads(json.dumps(read)) == note


@pytest.mark.parametrize(("note", "held"), [({"model": {"kind": "denoiser"}}, "denoiser"), ({}, "no model")])
def test_a_file_without_a_dynamics_model_is_named(tmp_path, note, held):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, {"best.x": torch.zeros(1)}, note)
    with pytest.raises(UsageError, match=rf"x\.safetensors: holds no dynamics model but {held}: give another file$"):
        load_model(path)


def test_a_model_that_is_not_there_is_missing_and_not_damaged(tmp_path):
    with pytest.raises(MissingError, match=r"x\.safetensors: missing: make it with engram run or engram train$"):
        load_model(tmp_path / "x.safetensors")


def test_windows_that_do_not_suit_the_unrolling_are_refused():
    model, windows = training_toy("mdn", SHORT)
    with pytest.raises(UsageError, match="unroll 4: the windows have 1 steps"):
        fit(model, windows, UNROLLED, 3)


def test_a_loss_that_is_not_finite_is_a_numerical_error():
    model, windows = training_toy("mdn", SHORT)
    with torch.no_grad():
        model.head.linear.bias[0] = float("nan")
    with pytest.raises(NumericalError, match=r"in epoch 1: lower train\.learning_rate"):
        fit(model, windows, SHORT, 3)


def test_nothing_but_silence_is_said_in_words():
    model, _ = training_toy("mdn", SHORT)
    z = walk(60, 4).float()
    silent = make_frames([z, z[:1].repeat(20, 1), z], ["train", "validation", "test"])
    pair = (Windows(silent, "train", 3, 1), Windows(silent, "validation", 3, 1))
    with pytest.raises(NumericalError, match="validation split: nothing but digital silence"):
        fit(model, pair, SHORT, 3)
    silent = make_frames([z[:1].repeat(20, 1), z], ["train", "validation"])
    with pytest.raises(NumericalError, match="training split: nothing but digital silence"):
        fit(model, (Windows(silent, "train", 3, 1), Windows(silent, "validation", 3, 1)), SHORT, 3)


def test_precision_is_what_the_configuration_says():
    cpu = torch.device("cpu")
    assert training_precision("float32", cpu) == torch.float32
    assert training_precision("bfloat16", cpu) == torch.bfloat16
    assert training_precision("auto", cpu) in (torch.float32, torch.bfloat16)


def test_noise_on_the_context_teaches_the_way_back():
    """A model of the rotation, from states it has never seen: noise in training makes it return to the data."""
    plain = SHORT.model_copy(update={"epochs": 12})
    off = {}
    for name, noise in (("plain", 0.0), ("noisy", 1.0)):
        model, windows = training_toy("mdn", plain.model_copy(update={"context_noise": noise}))
        fit(model, windows, plain.model_copy(update={"context_noise": noise}), seed=3)
        segment = windows[1].gather(torch.arange(0, len(windows[1]), 7))
        context = segment.context.clone()
        context[:, -1] += torch.randn(context[:, -1].shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            off[name] = float((context[:, -1] + model(context).mean - segment.future[:, 0]).square().mean())
    assert off["noisy"] < 0.7 * off["plain"]


def test_no_noise_without_a_frame_for_it():
    model, windows = training_toy("mdn", SHORT)
    config = SHORT.model_copy(update={"context_noise": 0.5, "clean_frames": 3})
    with pytest.raises(UsageError, match=r"train.clean_frames = 3: leaves no frame of 3 for train.context_noise"):
        fit(model, windows, config, seed=3)


def test_validation_has_no_noise():
    model, windows = training_toy("mdn", SHORT)
    assert validate(model, windows[1], SHORT) == validate(
        model, windows[1], SHORT.model_copy(update={"context_noise": 1.0})
    )
