"""What all sections of the configuration have in common, and the sections that are parts of others."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_serializer


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Raises: ValueError if a value stands twice."""
    if len(set(values)) < len(values):
        raise ValueError("the same value stands twice")
    return values


DAY = 86_400.0
"""The longest that a setting in seconds may be."""

Sizes = Annotated[tuple[Annotated[float, Field(gt=0)], ...], AfterValidator(distinct), Field(min_length=1)]
Numbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(distinct), Field(min_length=1)]


class Section(BaseModel):
    """Values that do not change; an unknown key or a value of another type is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataConfig(Section):
    """Which speech, and how speakers are divided."""

    corpus: str = Field("demo", description="demo, folder:PATH, world:NAME, ...: see docs/data.md")
    max_failed: float = Field(0.01, ge=0, le=1, description="share of failed items above which encoding stops")
    validation: float = Field(0.15, gt=0, lt=1, description="share of speakers on whom trainings stop and choices rest")
    test: float = Field(0.25, gt=0, lt=1, description="share of speakers on whom everything is measured")
    max_share: float = Field(
        0.02, gt=0, le=1, description="a speaker with more of all frames, and twice an equal share, is for training"
    )


class MemoryConfig(Section):
    """What prototypes add to the vMF head: nothing without a role in `direction`, `concentration` or `magnitude`.

    A context selects softly among `prototypes` by the cosine of its query to their keys, times a learned `sharpness`
    that starts here. A `placebo` has as many parameters and none of what a memory is: the address tells nothing of
    what is found there (shuffled_keys), prototypes start at random (random) or are one (one), or a further layer stands
    in their place (matched).
    """

    direction: Literal["none", "blend", "alone"] = Field(
        "none", description="of prototypes: blended with the head's own, or alone"
    )
    concentration: bool = Field(False, description="prototypes add to log kappa")
    magnitude: bool = Field(False, description="prototypes add to the parameters of the log-normals")
    prototypes: int = Field(64, ge=1, description="how many there are")
    key_width: int = Field(64, ge=1, description="dimensions of queries and keys")
    sharpness: float = Field(10.0, ge=0.1, le=1000, description="of the selection, where it starts")
    learned: bool = Field(True, description="whether prototypes' directions leave their start")
    placebo: Literal["none", "shuffled_keys", "random", "one", "matched"] = Field(
        "none", description="what stands in the memory's place"
    )

    @property
    def on(self) -> bool:
        """Whether the prototypes have any role."""
        return self.direction != "none" or self.concentration or self.magnitude

    @field_validator("placebo")
    @classmethod
    def _of_something(cls, value: str, info: Any) -> str:
        roles = [info.data.get(name) for name in ("direction", "concentration", "magnitude")]
        if value != "none" and not any(role not in ("none", False, None) for role in roles):
            raise ValueError("of a memory that has no role: set model.memory.direction, concentration or magnitude")
        return value


class ModelConfig(Section):
    """The dynamics model: a context, a backbone that reads it, and a head for the density of the next increment."""

    backbone: Literal["mlp", "gru", "transformer"] = Field("mlp", description="what reads the context")
    context: int = Field(8, ge=1, description="frames that the model sees")
    width: int = Field(512, ge=1, description="units in a layer of the backbone")
    depth: int = Field(2, ge=1, description="layers of the backbone")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of units that are left out while training")
    components: int = Field(8, ge=1, description="mdn: Gaussians in the mixture")
    covariance: Literal["diagonal", "semi-tied"] = Field(
        "diagonal",
        description="mdn: of each Gaussian; semi-tied: diagonal along the principal axes of what AR(1) leaves over, "
        "and so full among the latents' own dimensions",
    )
    min_scale: float = Field(
        0.01, gt=0, description="mdn: least standard deviation of a Gaussian, in those of the latents"
    )
    magnitude_components: int = Field(1, ge=1, description="vmf: log-normals of the magnitude")
    concentration: Literal["free", "coupled"] = Field(
        "free", description="vmf: of directions; coupled: a function of the magnitude as well"
    )
    memory: MemoryConfig = MemoryConfig()

    @model_serializer(mode="wrap")
    def _without_unused_memory(self, dump: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        # Models without one are described as they were before there were any, so that their checkpoints go on.
        values = dump(self)
        return {k: v for k, v in values.items() if k != "memory" or self.memory != MemoryConfig()}


class TrainConfig(Section):
    """One training. Its noise levels are standard deviations in standardised space."""

    epochs: int = Field(30, ge=1, description="most passes over the training frames")
    batch_size: int = Field(512, ge=1, description="increments in a batch")
    learning_rate: float = Field(5e-4, gt=0, description="of AdamW, halved after every epoch without gain")
    weight_decay: float = Field(1.0, ge=0, description="of AdamW")
    gradient_norm: float = Field(1.0, gt=0, description="a longer gradient is shortened to this")
    patience: int = Field(4, ge=1, description="epochs without gain on validation speakers after which training stops")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the layers while training; auto: bfloat16 where the machine is faster with it"
    )
    context_noise: float = Field(
        0.0, ge=0, description="most noise on the context; each example draws its own level up to it"
    )
    clean_frames: int = Field(0, ge=0, description="last frames of the context that stay without noise")
    unroll: int = Field(1, ge=1, description="steps on the model's own states; 1 is teacher forcing")
    step: Literal["typical", "mean", "sample"] = Field(
        "typical", description="what own states advance by: the typical increment, the mean one, or one that is drawn"
    )
    estimator: Literal["marginal", "gumbel", "reinforce"] = Field(
        "marginal",
        description="how the gradient meets the choice of a drawn component: averaged over rollouts, relaxed, "
        "or by its score",
    )
    draws: int = Field(1, ge=1, description="rollouts of each example, where states are drawn")
    temperature: float = Field(0.5, gt=0, description="gumbel: of the relaxed choice")
    detach: bool = Field(False, description="no gradient passes through own states")
    sampling_start: float = Field(
        0.5, ge=0, le=1, description="share of true frames fed back at first; none from halfway through training on"
    )
    teacher_weight: float = Field(0.5, ge=0, description="weight of the loss on true contexts in unrolled training")
    state_weight: float = Field(0.0, ge=0, description="weight of squared distances to the true states")
    adversary: float = Field(0.0, ge=0, description="weight of being told apart from true stretches")
    checkpoint_steps: bool = Field(False, description="compute steps again in the backward pass, to save memory")


class ScoreConfig(Section):
    """The denoiser and its training. Noise levels are standard deviations in standardised space."""

    width: int = Field(512, ge=1, description="units in a layer")
    depth: int = Field(2, ge=1, description="layers")
    sigma_min: float = Field(0.05, gt=0, description="smallest noise level; training draws log-uniformly between both")
    sigma_max: float = Field(1.0, gt=0, validate_default=True, description="largest noise level")
    epochs: int = Field(20, ge=1, description="passes over the training frames; the best on validation speakers stays")
    batch_size: int = Field(512, ge=1, description="frames in a batch")
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW; falls as one cosine over all epochs")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    gradient_norm: float = Field(1.0, gt=0, description="a longer gradient is shortened to this")

    @field_validator("sigma_max")
    @classmethod
    def _ordered(cls, value: float, info: Any) -> float:
        least = info.data.get("sigma_min", value)
        if least > value:
            raise ValueError(f"sigma_min = {least:g} is larger: lower that, or raise this")
        return value


class CorrectionConfig(Section):
    """The correctors that are tried on the rollouts of one model: every combination.

    Tweedie has a noise level and nothing else. Langevin makes so many steps of so many squares of the noise level, and
    is tried as it is and ended by Tweedie.
    """

    regime: str = Field("mdn", description="the training whose rollouts are corrected")
    levels: Sizes = Field((0.2, 0.8), description="noise levels, in standard deviations of the latents")
    step_sizes: Sizes = Field((0.5,), description="of Langevin, in squares of the noise level")
    steps: Numbers = Field((1, 4), description="of Langevin, after each step of the rollout")
    seconds: float = Field(
        20.0, gt=0, le=DAY, description="length of the sampled rollouts, of which the end is judged [s]"
    )
