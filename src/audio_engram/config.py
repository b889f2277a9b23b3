"""The configuration of a run: defaults, TOML files, `--set a.b=1`. An unknown key names the near miss."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from audio_engram.errors import UsageError
from audio_engram.sections import (
    DAY,
    CorrectionConfig,
    DataConfig,
    ModelConfig,
    ScoreConfig,
    Section,
    TrainConfig,
    distinct,
)

Option = str | int | float | bool


def _with_one(values: tuple[int, ...]) -> tuple[int, ...]:
    if 1 not in values:
        raise ValueError("1 must be among them: the verdicts rest on it")
    return values


def _fits(seed: int) -> int:
    if not -(2**63) <= seed < 2**63:
        raise ValueError("a seed has 64 bits")
    return seed


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("an average around a frame has 1, 3, 5, ... taps")
    return value


def _whole_or_share(value: float) -> float:
    if value >= 1 and value != int(value):
        raise ValueError("a whole number of components, or a share of variance below 1")
    return value


def _rate(value: float) -> float:
    if value and not 1e-3 <= value <= 1e6:
        raise ValueError("0, or 0.001 to 1000000 Hz")
    return value


Seed = Annotated[int, AfterValidator(_fits)]
Odd = Annotated[int, AfterValidator(_odd)]
Components = Annotated[float, AfterValidator(_whole_or_share)]
Rate = Annotated[float, AfterValidator(_rate)]
Names = Annotated[tuple[str, ...], AfterValidator(distinct)]
Lags = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(distinct)]
Counts = Annotated[tuple[Annotated[int, Field(ge=2)], ...], AfterValidator(distinct)]
Seconds = Annotated[tuple[Annotated[float, Field(gt=0, le=DAY)], ...], AfterValidator(distinct)]
LagsWithOne = Annotated[Lags, AfterValidator(_with_one)]
Roles = Annotated[tuple[Literal["blend", "alone", "concentration", "magnitude"], ...], AfterValidator(distinct)]
Unrolls = Annotated[tuple[Annotated[int, Field(ge=2)], ...], AfterValidator(distinct)]


class CodecConfig(Section):
    """Which codec, with which weights, read at which tap."""

    name: str = Field("mel", description="built-in or installed codec, or package.module:Class")
    weights: str = Field("", description="file or folder with the weights, for codecs that have any")
    tap: str = Field("", description="which tensor of the codec is the latent; empty: the codec's default")
    frame_rate: Rate = Field(0.0, ge=0, description="latents per second [Hz]; 0: the codec's default")
    stack: int = Field(1, ge=1, description="this many consecutive frames make one latent")
    unstack: int = Field(1, ge=1, description="every latent is cut into this many consecutive frames")
    smooth: Odd = Field(1, ge=1, le=1001, description="moving average over this many latents, an odd number")
    hybrid: bool = Field(False, description="keep the magnitudes of the latents before smoothing")
    smoother: float = Field(
        0.0, ge=0, description="a learned smoother; dB of distortion that losing all jerks is worth"
    )
    pca: Components = Field(0.0, ge=0, description="principal components: a number, or a share of variance below 1")
    whiten: bool = Field(False, description="divide each principal component by its standard deviation")
    options: dict[str, Option] = Field({}, description="further keyword arguments of the codec's class")


ENCODING = ("name", "weights", "tap", "frame_rate", "options")
"""Settings of a codec that decide what is stored; all others are applied to stored latents."""


class ExperimentConfig(Section):
    """What is measured, how far, and how often it is resampled."""

    names: Names = Field(
        ("tree",), min_length=1, description="which experiments; tree: what the decision tree asks for; all: everything"
    )
    lags: LagsWithOne = Field((1, 2, 4, 8), description="lags at which increments are predicted")
    surrogate_lags: Lags = Field((1, 2), description="lags at which shuffled frames are predicted too")
    ceiling_lags: LagsWithOne = Field(
        (1, 2, 4, 8, 16), description="lags at which predictors are trained directly, as a bound for rollouts"
    )
    steps: int = Field(16, ge=2, description="length of the rollouts that are held against the true future")
    unrolls: Unrolls = Field((16, 32), description="factorisation: lengths of the trainings on own states")
    unroll_epochs: int = Field(6, ge=1, description="train.epochs of trainings on own states")
    unroll_batch_size: int = Field(128, ge=1, description="train.batch_size of trainings on own states")
    resamples: int = Field(2000, ge=1000, description="times that speakers are drawn again for an interval")
    max_segments: int = Field(4096, ge=1, description="most stretches that are rolled out")
    audio_seconds: float = Field(
        5.0,
        gt=0,
        le=DAY,
        description="length of a sound in the report, and of every recording that smoothing decodes [s]",
    )
    representations: tuple[CodecConfig, ...] = Field((), description="compared with [codec]; empty: variants of it")
    structure_lags: Lags = Field((1, 2, 4), min_length=1, description="lags at which clusters of contexts are asked")
    archetype_counts: Counts = Field(
        (32, 64, 128, 256, 512, 1024), min_length=1, description="numbers of direction clusters that are tried"
    )
    archetype_quantile: float = Field(
        0.25, ge=0, lt=1, description="share of the smallest increments whose directions are left out"
    )
    regimes: Names = Field(
        ("mdn", "vmf", "mdn-tied", "mdn-noise", "mdn-tied-noise", "mdn-tied-residuals", "mdn-tied-utterance"),
        min_length=1,
        description="trainings against drift, see docs/training.md",
    )
    memories: Roles = Field(
        ("blend", "concentration", "magnitude"), min_length=1, description="what prototypes are tried for"
    )
    sampling_regimes: Names = Field(
        ("mdn-mean", "mdn-sampled", "vmf-mean", "vmf-sampled"),
        min_length=1,
        description="trainings on own states, see docs/training.md",
    )
    correction: CorrectionConfig = CorrectionConfig()
    horizons: Seconds = Field((1.0, 5.0, 20.0, 60.0), min_length=1, description="how far sampled rollouts go [s]")
    stretch_seconds: float = Field(
        5.0, gt=0, le=DAY, description="length of the stretches that are held against real ones [s]"
    )
    trajectories: int = Field(64, ge=2, description="sampled rollouts, of different speakers as far as they go")
    decoded: int = Field(8, ge=0, description="so many of them are decoded and measured as audio; the first is heard")
    listeners: bool = Field(
        False, description="whether DNSMOS and the likeness of voices are measured of them too (extra metrics)"
    )
    rollout_seconds: float = Field(
        1.28, gt=0, le=DAY, description="length of the rollouts of all representations, and their ceiling's lag [s]"
    )


class Config(Section):
    """A run."""

    seed: Seed = Field(0, description="root of every random stream")
    device: str = Field("auto", description="auto, cpu or cuda; auto: CUDA where there is one")
    codec: CodecConfig = CodecConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    score: ScoreConfig = ScoreConfig()
    experiments: ExperimentConfig = ExperimentConfig()

    def toml(self) -> str:
        """The configuration as TOML text, every value written out."""
        return tomli_w.dumps(self.model_dump(mode="json"))


def read_config(
    path: Path | str | None = None, settings: tuple[str, ...] = (), given: Mapping[str, Any] | None = None
) -> Config:
    """Read a TOML file (or the defaults) and apply settings of the form `section.key=value`, then values by their key.

    Raises:
        UsageError: for an unreadable file, an unknown key (with the near miss) or a value of the wrong type.
    """
    values = _read_toml(Path(path)) if path else {}
    # The file by itself first, so that a message names the file or the setting, whichever it is.
    config = make_config(values, where=str(path))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {setting}: write it as section.key=value")
        _put(values, key.strip(), _parse(text.strip()))
    for key, value in (given or {}).items():
        _put(values, key, value)
    return make_config(values, where="settings") if settings or given else config


def make_config(values: dict[str, Any], where: str = "config") -> Config:
    """Validate plain values; the first problem becomes one clear line."""
    try:
        config = Config.model_validate(_tuples(values))
        config.toml().encode()  # a path may hold bytes that are no text, and no run could write them down
        return config
    except ValidationError as error:
        raise UsageError(f"{where}: {_explain(error)}") from None
    except UnicodeEncodeError as error:
        before, after = error.object[: error.start], error.object[error.start :]
        line = before.rpartition("\n")[2] + after.partition("\n")[0]
        raise UsageError(f"{where}: {line!a} is not named in UTF-8: rename it") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"config {path}: {error.strerror}: give the path of a TOML file") from None
    except (ValueError, RecursionError) as error:  # of tomllib, for what is no TOML, too deep or too long a number
        raise UsageError(f"config {path}: not TOML: {error}") from None


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UsageError(f"{key}: {section} is set to a value, but is a section: set a key in it")
    values[last] = value


def _parse(text: str) -> Any:
    """Read the value as TOML; what is not TOML is a plain string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _tuples(value: Any) -> Any:
    """TOML has lists where the configuration has tuples, and whole numbers where it has floats."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _explain(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{key} = {problem['input']!r}: {problem['msg']}"
    known = _known_keys(Config, "")
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    same = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    # Right but for its section: more likely the first one's than that of the section whose name is most alike.
    mistaken = "." in key and key.partition(".")[0] not in Config.model_fields
    near = same if not near or (near[0] in same and not mistaken) else near
    hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
    return f"{key}: no such key: {hint}"


def _known_keys(section: type[BaseModel], prefix: str) -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += _known_keys(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys
