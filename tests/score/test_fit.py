"""Denoising score matching: what is trained on what, resumed bit-equal, refused in one line."""

from pathlib import Path

import pytest
import torch
from worlds_of_score import SMALL, TINY, curved, driven, toy, windows_on

from audio_engram import checkpoint, training_loop
from audio_engram.data.windows import Windows
from audio_engram.errors import DataError, NumericalError, UsageError
from audio_engram.score import fit
from audio_engram.score.denoiser import Denoiser, make_denoiser
from audio_engram.score.fit import fit_denoiser, load_denoiser, validate
from killed import kill_after
from toys import walk

HERE = Path(__file__).resolve().parent


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a) and a.keys() == b.keys()


KILLED = """
import sys
from pathlib import Path
import torch
from audio_engram import training_loop
from audio_engram.score import fit
from worlds_of_score import SMALL, TINY, toy
torch.set_num_threads(1)
training_loop.SAVE_EVERY = 0.0
config = TINY.model_copy(update={"epochs": 12})
model, windows = toy(config)
fit.fit_denoiser(model, windows, config, 3, Path(sys.argv[1]), lambda line: print(line, flush=True))
"""


def test_killed_training_goes_on_to_equal_bytes(tmp_path):
    config = TINY.model_copy(update={"epochs": 12})
    model, windows = toy(config)
    history = fit_denoiser(model, windows, config, 3, tmp_path / "whole.safetensors")
    path = tmp_path / "killed.safetensors"
    kill_after("epoch 4/", KILLED, str(path), env={"PYTHONPATH": f"{HERE}:{HERE.parent}"})
    _, note = checkpoint.load(path)
    assert 3 <= len(note["history"]["epochs"]) < 12
    assert not note["history"]["finished"]
    again, windows = toy(config)
    lines = []
    resumed = fit_denoiser(again, windows, config, 3, path, lines.append)
    assert len(lines) < 10
    assert resumed == history
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert same(weights(again), weights(model))


def test_stopped_after_any_epoch_it_goes_on_bit_equal(tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "SAVE_EVERY", 0.0)
    model, windows = toy()
    fit_denoiser(model, windows, TINY, 3)

    def stop(line):
        if line.startswith(("epoch 2/", "epoch 3/")) and line not in said:
            said.append(line)
            raise KeyboardInterrupt

    said, path = [], tmp_path / "denoiser.safetensors"
    for _ in "ab":
        other, windows = toy()
        with pytest.raises(KeyboardInterrupt):
            fit_denoiser(other, windows, TINY, 3, path, stop)
    other, windows = toy()
    fit_denoiser(other, windows, TINY, 3, path, stop)
    assert same(weights(other), weights(model))


def test_a_finished_training_is_read_and_not_repeated(tmp_path):
    path = tmp_path / "denoiser.safetensors"
    model, windows = toy()
    lines = []
    history = fit_denoiser(model, windows, TINY, 3, path, lines.append)
    assert [line.split()[:2] for line in lines] == [["epoch", f"{n}/4"] for n in (1, 2, 3, 4)]
    fresh, windows = toy()
    assert fit_denoiser(fresh, windows, TINY, 3, path, pytest.fail) == history
    tensors, _ = checkpoint.load(path)
    assert all(name.startswith("best.") for name in tensors)
    for read in (fresh, load_denoiser(path)):
        assert same(weights(read), weights(model))
        assert not read.training
        assert (read.config, read.context) == (TINY, 2)


def test_the_best_epoch_is_kept(monkeypatch):
    script = iter([3.0, 1.0, 2.0, 1.5])
    monkeypatch.setattr(fit, "validate", lambda *_: next(script))
    model, windows = toy()
    after = []
    history = fit_denoiser(model, windows, TINY, 3, progress=lambda _: after.append(weights(model)))
    assert (history.best, history.best_epoch, history.finished) == (1.0, 2, True)
    assert same(weights(model), after[1])
    assert not same(weights(model), after[3])
    assert not model.training


def test_it_learns_and_context_helps():
    config = SMALL.model_copy(update={"batch_size": 32})
    best = {}
    for conditional in (False, True):
        windows = windows_on(driven(curved, 1500, 0), driven(curved, 800, 1))
        model = make_denoiser(config, windows[0], 0, conditional)
        # Untrained it is the best linear one: a loss of 1 but for the sample.
        assert validate(model, windows[1], 3) == pytest.approx(1.0, abs=0.1)
        best[conditional] = fit_denoiser(model, windows, config, 3).best
        assert validate(model, windows[1], 3) == best[conditional]
    assert best[True] < best[False] - 0.2


def test_only_training_speakers_are_trained_on():
    results = []
    for change in (0.0, 3.0):
        model, windows = toy()
        z = windows[0].frames.z
        z[~windows[0].frames.in_split("train")] += change
        once = TINY.model_copy(update={"epochs": 1})
        fit_denoiser(model, windows, once, 3)
        results.append(weights(model))
    assert same(*results)


def test_the_frame_denoised_is_the_one_after_the_context(monkeypatch):
    seen = []

    def spy(model, noisy, sigma, context):
        seen.append((noisy[:, 0] - context[:, -1, 0], sigma, len(noisy)))
        return original(model, noisy, sigma, context)

    original = Denoiser.forward
    config = TINY.model_copy(update={"epochs": 1})
    windows = windows_on(walk(300, 3, dtype=torch.float32), walk(100, 3, 1, torch.float32))
    model = make_denoiser(config, windows[0], 0, True)
    monkeypatch.setattr(Denoiser, "forward", spy)
    fit_denoiser(model, windows, config, 3)
    ahead, sigma, sizes = zip(*seen, strict=True)
    ahead, sigma = torch.cat(ahead), torch.cat(sigma)
    # The first coordinate counts the frames: a step of one, and the noise. 600 noisy numbers or fewer, none beyond 5.
    assert ((ahead - 1) / sigma).abs().max() < 5
    assert ((ahead - 1) / sigma).std() == pytest.approx(1.0, abs=0.2)
    assert 0.1 - 1e-6 < sigma.min() < 0.12
    assert 0.9 < sigma.max() < 1 + 1e-6
    assert sum(sizes) == len(windows[0]) + len(windows[1])


def test_every_epoch_has_noise_of_its_own_and_validation_the_same(monkeypatch):
    model, windows = toy()
    drawn, original = [], fit._loss

    def spy(model, segment, u, generator):
        drawn.append((model.training, u.clone()))
        return original(model, segment, u, generator)

    monkeypatch.setattr(fit, "_loss", spy)
    fit_denoiser(model, windows, TINY, 3)
    levels = [torch.cat([u for training, u in drawn if training]).chunk(4), [u for t, u in drawn if not t]]
    assert not torch.equal(levels[0][0], levels[0][1])
    assert torch.equal(levels[1][0], levels[1][1])
    assert validate(model, windows[1], 3) == validate(model, windows[1], 3)
    assert validate(model, windows[1], 3) != validate(model, windows[1], 4)


def test_the_learning_rate_falls_as_one_cosine_over_all_epochs(monkeypatch):
    seen, original = [], torch.optim.AdamW.step

    def spy(self, *arguments):
        seen.append(self.param_groups[0]["lr"])
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    model, windows = toy()
    fit_denoiser(model, windows, TINY, 3)
    done = torch.arange(len(seen)) / len(seen)
    assert seen == pytest.approx((TINY.learning_rate * (1 + (torch.pi * done).cos()) / 2).tolist(), rel=1e-4)


def test_the_seed_decides_and_the_global_stream_is_left_alone():
    results = []
    for seed in (3, 3, 4):
        model, windows = toy()
        state = torch.random.get_rng_state()
        fit_denoiser(model, windows, TINY, seed)
        assert torch.equal(torch.random.get_rng_state(), state)
        results.append(weights(model))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


@pytest.mark.parametrize("change", ["seed", "epochs", "width", "conditional", "another model"])
def test_a_checkpoint_of_another_configuration_is_refused_in_one_line(tmp_path, change):
    path = tmp_path / "denoiser.safetensors"
    if change == "another model":
        checkpoint.save(path, {"best.x": torch.zeros(1)}, {"model": {"kind": "mdn"}, "train": {}, "seed": 3})
    else:
        model, windows = toy()
        fit_denoiser(model, windows, TINY, 3, path)
    config = TINY.model_copy(update={change: 5} if change in ("epochs", "width") else {})
    model, windows = toy(config, conditional=change != "conditional")
    unlike = {"another model": "model.kind = 'mdn' there, 'denoiser' here", "seed": "seed = 3 there, 4 here"}
    what = unlike.get(change, f"{change}[a-z]* = \\d+ there, \\d+ here").replace("conditional[a-z]*", "model.context")
    line = rf"^checkpoint \S+: of another training \(\S*{what}\): delete it and run again with --resume, or use another"
    with pytest.raises(UsageError, match=line):
        fit_denoiser(model, windows, config, 4 if change == "seed" else 3, path)


def test_a_checkpoint_of_other_latents_is_refused_in_one_line(tmp_path):
    path = tmp_path / "denoiser.safetensors"
    model, windows = toy()
    fit_denoiser(model, windows, TINY, 3, path)
    other, _ = toy()
    other.data_loc.add_(0.1)
    with pytest.raises(UsageError, match=r"^checkpoint \S+: of other latents: use --overwrite or another --out, or"):
        fit_denoiser(other, windows, TINY, 3, path)


def test_a_file_without_a_denoiser_is_named(tmp_path):
    path = tmp_path / "mdn-lag1.safetensors"
    checkpoint.save(path, {"best.x": torch.zeros(1)}, {"model": {"kind": "mdn"}})
    with pytest.raises(UsageError, match=r"mdn-lag1\.safetensors: holds no denoiser but mdn: give another file$"):
        load_denoiser(path)


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "denoiser.safetensors"
    model, windows = toy()
    fit_denoiser(model, windows, TINY, 3, path)
    tensors, note = checkpoint.load(path)
    tensors.pop("best.exit.bias")
    checkpoint.save(path, tensors, note)
    for content in (path.read_bytes(), b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"denoiser\.safetensors: damaged"):
            fit_denoiser(toy()[0], windows, TINY, 3, path)


def test_windows_of_more_steps_are_refused():
    model, (train, validation) = toy()
    longer = Windows(train.frames, "train", 2, 2)
    with pytest.raises(UsageError, match="cut windows of 1 step"):
        fit_denoiser(model, (longer, validation), TINY, 3)


def test_a_loss_that_explodes_is_named():
    config = TINY.model_copy(update={"learning_rate": 1e30})
    model, windows = toy(config)
    with pytest.raises(NumericalError, match=r"^training: loss .* in epoch \d: lower score\.learning_rate$"):
        fit_denoiser(model, windows, config, 3)
