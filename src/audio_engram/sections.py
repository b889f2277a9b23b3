"""What all sections of the configuration have in common, and the sections that are parts of others."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Raises: ValueError if a value stands twice."""
    if len(set(values)) < len(values):
        raise ValueError("the same value stands twice")
    return values


Sizes = Annotated[tuple[Annotated[float, Field(gt=0)], ...], AfterValidator(distinct), Field(min_length=1)]
Numbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(distinct), Field(min_length=1)]


class Section(BaseModel):
    """Values that do not change; an unknown key or a value of another type is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class MemoryConfig(Section):
    """What prototypes add to the vMF head: nothing without a role in `direction`, `concentration` or `magnitude`.

    A context selects softly among `prototypes` by the cosine of its query to their keys, times a learned `sharpness`
    that starts here. A `placebo` has as many parameters and none of what a memory is: the address tells nothing of
    what is found there (shuffled_keys), prototypes start at random (random) or are one (one), or a further layer stands
    in their place (matched).
    """

    direction: Literal["none", "blend", "alone"] = Field("none", description="blended with the head's own")
    concentration: bool = Field(False, description="prototypes add to log kappa")
    magnitude: bool = Field(False, description="prototypes add to the parameters of the log-normals")
    prototypes: int = Field(64, ge=1)
    key_width: int = Field(64, ge=1)
    sharpness: float = Field(10.0, ge=0.1, le=1000)
    learned: bool = Field(True, description="whether prototypes' directions leave their start")
    placebo: Literal["none", "shuffled_keys", "random", "one", "matched"] = "none"

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


class ScoreConfig(Section):
    """The denoiser and its training. Noise levels are standard deviations in standardised space."""

    width: int = Field(512, ge=1)
    depth: int = Field(2, ge=1)
    sigma_min: float = Field(0.05, gt=0, description="smallest noise level; training draws log-uniformly between both")
    sigma_max: float = Field(1.0, gt=0, validate_default=True, description="largest noise level")
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(512, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    gradient_norm: float = Field(1.0, gt=0)

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
    seconds: float = Field(20.0, gt=0, description="length of the sampled rollouts, of which the end is judged [s]")
