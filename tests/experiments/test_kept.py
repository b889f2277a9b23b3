"""A run that is cut short takes its finished experiments from its folder, and only its own."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_engram.config import make_config
from audio_engram.data.manifest import text_checksum
from audio_engram.experiments import EXPERIMENTS, Outcome
from audio_engram.experiments.kept import keep, take
from audio_engram.measurements import Measurement
from audio_engram.pipeline import climb
from audio_engram.provenance import begun_by
from audio_engram.runs import Run
from audio_engram.training_loop import History

NAMES = ["predictability", "magnitude", "injection"]
SMALL = {
    "device": "cpu",
    "model": {"context": 2, "width": 8, "depth": 1, "components": 2},
    "train": {"epochs": 1, "precision": "float32"},
    "experiments": {
        "names": NAMES,
        "lags": [1],
        "surrogate_lags": [1],
        "steps": 3,
        "resamples": 1000,
        "max_segments": 50,
        "audio_seconds": 0.5,
    },
}
TIMED = {"provenance.json", "report.html"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An uninterrupted run on six speakers with an utterance each."""
    place = tmp_path_factory.mktemp("whole")
    for speaker in range(6):
        path = place / f"speech/s{speaker}/a.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.random.default_rng(speaker).uniform(-0.5, 0.5, 32_000), 16_000)
    config = make_config(SMALL | {"data": {"corpus": f"folder:{place}/speech", "test": 0.4}})
    run = Run(place / "run", config, log=lambda line: None)
    climb(run, "test")
    return run


def never(run: Run) -> Outcome:
    raise AssertionError("measured again")


def interrupted(run: Run) -> Outcome:
    raise KeyboardInterrupt


def bytes_below(folder: Path) -> dict[str, bytes]:
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: data for name, data in files.items() if name not in TIMED}


def test_finished_experiments_are_taken_and_the_end_is_the_same_to_the_byte(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, lines = tmp_path / "cut", list[str]()
    with monkeypatch.context() as patch:
        patch.setitem(EXPERIMENTS, "magnitude", interrupted)
        with pytest.raises(KeyboardInterrupt):
            climb(Run(cut, whole.config, log=lambda line: None), "first")
    assert json.loads((cut / "provenance.json").read_text()) == {"command": "first", "resumed_by": []}
    assert [p.name for p in (cut / "outcomes").iterdir()] == ["predictability.json"]
    assert not (cut / "measurements.json").exists()
    with monkeypatch.context() as patch:
        patch.setitem(EXPERIMENTS, "predictability", never)
        climb(Run(cut, whole.config, log=lines.append), "second")
    assert lines.count(f"predictability: taken from {cut}/outcomes/predictability.json") == 1
    assert [line for line in lines if ": experiment " in line] == [
        "magnitude: experiment 2 of 3 ...",
        "injection: experiment 3 of 3 ...",
    ]
    found = bytes_below(cut)
    assert found == bytes_below(whole.folder)
    assert {"measurements.json", "decision.json", "training.json", "audio/index.json"} <= set(found)
    assert b"free_running" in found["audio/index.json"]  # what listens plays the models whose training it finds
    facts = json.loads((cut / "provenance.json").read_text())
    assert (facts["command"], facts["resumed_by"], facts["precision"]) == ("first", ["second"], "float32")
    assert [stage["name"] for stage in facts["stages"]] == ["encode", "magnitude", "injection", "audio"]
    assert '<pre class="command">first\nsecond</pre>' in (cut / "report.html").read_text()


def test_a_finished_run_is_measured_no_more(whole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bytes_below(whole.folder)
    for name in NAMES:
        monkeypatch.setitem(EXPERIMENTS, name, never)
    climb(Run(whole.folder, whole.config, log=lambda line: None), "test")
    assert bytes_below(whole.folder) == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, ("again", [])),
        ('{"command": "first", "seed": 0}', ("first", ["again"])),  # as they were before resuming was noted
        ('{"command": "first", "resumed_by": ["second"]}', ("first", ["second", "again"])),
        ("{", ("again", [])),
        ("[]", ("again", [])),
        ('{"command": 3}', ("again", [])),
    ],
)
def test_provenance_keeps_the_first_command_and_who_resumed(place: Path, before: str | None, after: object) -> None:
    lines: list[str] = []
    run, file = world(lines.append), Path("run/provenance.json")
    if before is not None:
        file.write_text(before)
    commands = begun_by(run, "again")
    assert (commands["command"], commands["resumed_by"]) == after
    found = json.loads(file.read_text())
    assert found.items() >= commands.items()
    assert found.get("seed") == (0 if before and "seed" in before else None)  # an earlier end is not forgotten
    damaged = before is not None and "first" not in before
    assert lines == ["run/provenance.json: damaged: which command began the run is not known any more"] * damaged


OUTCOME = Outcome(warnings=["Beware."])
OUTCOME.measurements.append(Measurement(experiment="magnitude", model="m", metric="x", value=0.1 + 0.2, low=1e-300))
HISTORY = History([{"epoch": 1, "train": 0.1, "validation": 1 / 3}], best=float("inf"), finished=True)


@pytest.fixture
def kept(place: Path) -> Path:
    """A world of which one outcome was kept."""
    run = world()
    run.histories["mdn-lag1"] = HISTORY
    keep(run, "magnitude", OUTCOME)
    return Path("run/outcomes/magnitude.json")


def world(log: Callable[[str], None] = lambda line: None, **settings: object) -> Run:
    return Run("run", make_config(SMALL | {"data": {"corpus": "world:ar", "test": 0.4}} | settings), log=log)


def test_an_outcome_comes_back_as_it_was(kept: Path) -> None:
    run = world()
    assert take(run, "magnitude") == OUTCOME
    assert run.histories == {"mdn-lag1": HISTORY}
    assert take(run, "predictability") is None


def resealed(text: str, **changes: object) -> str:
    fields = json.loads(text)
    fields.pop("checksum")
    fields |= changes
    return json.dumps(fields | {"checksum": text_checksum(json.dumps(fields))})


DAMAGE: dict[str, tuple[Callable[[str], str], str]] = {
    "half": (lambda text: text[: len(text) // 2], "damaged"),
    "empty": (lambda text: "", "damaged"),
    "list": (lambda text: "[1]", "damaged (its checksum is not that of its content)"),
    "deep": (lambda text: "[" * 100_000, "damaged"),
    "number": (lambda text: text.replace("0.30000000000000004", "0.4"), "damaged (its checksum is not that of its"),
    "a field gone": (lambda text: resealed(text, outcome={"measurements": 3}), "damaged ("),
    "no identity": (lambda text: resealed(text, of={}), "of another experiment and another version and another conf"),
    "identity of another kind": (lambda text: resealed(text, of=["magnitude"]), "of another experiment and"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_outcome_is_measured_again_and_the_log_says_so(kept: Path, kind: str) -> None:
    damage, said = DAMAGE[kind]
    before = kept.read_text()
    kept.write_text(damage(before))
    assert kept.read_text() != before
    lines: list[str] = []
    run = world(lines.append)
    assert take(run, "magnitude") is None
    assert run.histories == {}
    assert len(lines) == 1
    assert lines[0].startswith(f"{kept}: {said}")
    assert lines[0].endswith(": measured again")


def test_a_file_of_other_bytes_is_damaged(kept: Path) -> None:
    kept.write_bytes(b"\xff\xfe")
    assert take(world(), "magnitude") is None


def test_an_outcome_of_another_version_is_not_taken(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    run = world(lines.append)
    monkeypatch.setattr("audio_engram.experiments.kept.version", lambda name: "9.9")
    assert take(run, "magnitude") is None
    assert lines == [f"{kept}: of another version: measured again"]


@pytest.mark.parametrize("change", [{"seed": 4}, {"experiments": SMALL["experiments"] | {"names": ["magnitude"]}}])
def test_an_outcome_of_another_configuration_is_not_taken(kept: Path, change: dict[str, object]) -> None:
    lines: list[str] = []
    run = world(lines.append)
    run.config = make_config(run.config.model_dump() | change)  # as a configuration that was edited by hand
    assert take(run, "magnitude") is None
    assert lines == [f"{kept}: of another configuration: measured again"]


def test_a_raised_limit_on_failures_keeps_it(kept: Path) -> None:
    assert take(world(data={"corpus": "world:ar", "test": 0.4, "max_failed": 0.5}), "magnitude") == OUTCOME


def test_an_outcome_of_other_latents_is_not_taken(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in Path("run/latents").iterdir():
        path.unlink()
    monkeypatch.setattr("audio_engram.data.processes.AR.frames", 61)
    lines: list[str] = []
    assert take(world(lines.append), "magnitude") is None
    assert lines == [f"{kept}: of another set of latents: measured again"]


def test_an_outcome_under_another_name_is_not_taken(kept: Path) -> None:
    other = kept.with_name("injection.json")
    other.write_bytes(kept.read_bytes())
    lines: list[str] = []
    assert take(world(lines.append), "injection") is None
    assert lines == [f"{other}: of another experiment: measured again"]


BESIDE = ("archetypes.json", "prototypes/k8.safetensors")


@pytest.fixture
def beside(place: Path) -> Path:
    """A run of which the outcome was kept of an experiment that writes files of its own."""
    run = world()
    for name in BESIDE:
        (run.folder / name).parent.mkdir(exist_ok=True)
        (run.folder / name).write_bytes(b"\xff written")
    (run.folder / "prototypes/notes.txt").write_text("mine")
    keep(run, "archetypes", OUTCOME)
    (run.folder / "prototypes/notes.txt").unlink()
    assert take(world(), "archetypes") == OUTCOME
    return run.folder


@pytest.mark.parametrize("name", BESIDE)
def test_an_outcome_whose_files_are_gone_or_damaged_is_measured_again(beside: Path, name: str) -> None:
    damage: tuple[tuple[Callable[[Path], object], str], ...] = (
        (lambda path: path.write_bytes(b"other"), "is damaged"),
        (Path.unlink, "cannot be read (No such file or directory)"),
        (Path.mkdir, "cannot be read (Is a directory)"),
    )
    for harm, said in damage:
        harm(beside / name)
        lines: list[str] = []
        assert take(world(lines.append), "archetypes") is None
        assert lines == [f"run/outcomes/archetypes.json: {name}, which belongs to it, {said}: measured again"]


def test_the_files_of_an_experiment_are_no_matter_of_another(beside: Path) -> None:
    keep(world(), "magnitude", OUTCOME)
    (beside / BESIDE[0]).unlink()
    assert take(world(), "magnitude") == OUTCOME


def test_overwriting_deletes_outcomes(kept: Path) -> None:
    config = world().config
    Run("run", config, log=lambda line: None, overwrite=True)
    assert not kept.parent.exists()
