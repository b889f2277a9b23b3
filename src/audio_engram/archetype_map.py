"""What `archetypes.json` says: where the archetypes of one K lie, how large they are and what is heard at them."""

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, computed_field

from audio_engram import numbers

FILE = "archetypes.json"
KNOWN = 10
"""Increments that a mean is taken over at least."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Moment(_Frozen):
    """A held-out increment, from frame `frame` - 1 to `frame` of an utterance, at `second` of its recording.

    `cosine` is that to the prototype in its file, in all dimensions of the latents.
    """

    utterance: str
    speaker: str
    frame: int
    second: float
    cosine: float


class Archetype(_Frozen):
    """A centroid in the plane, the training increments around it and the mean change at them.

    A change is None where fewer than `KNOWN` increments have one. `nearest` are held-out increments, the nearest first,
    of archetypes that are to be heard.
    """

    x: float
    y: float
    size: NonNegativeInt
    energy_change: float | None = None
    """[dB]"""
    flux: float | None = None
    pitch_change: float | None = None
    """[semitones]"""
    nearest: tuple[Moment, ...] = ()

    @property
    def heard(self) -> str:
        """What is heard at it, in words; empty where nothing is."""
        known = (
            ("level", self.energy_change, " dB"),
            ("spectral flux", self.flux, ""),
            ("pitch", self.pitch_change, " semitones"),
        )
        return ", ".join(
            f"{name} {'+' if unit and value > 0 else ''}{numbers.number(value)}{unit}"
            for name, value, unit in known
            if value is not None
        )


class ArchetypeMap(_Frozen):
    """All archetypes, in the order of `prototypes/kK.safetensors`.

    `plane` is the share of the centroids' variance that x and y hold; `average_flux` is that of all training increments
    that were clustered; `null_sizes` are the sizes of as many clusters on each null.
    """

    plane: float
    average_flux: float | None = None
    null_sizes: dict[str, tuple[NonNegativeInt, ...]] = {}
    archetypes: tuple[Archetype, ...] = Field(min_length=2)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def k(self) -> int:
        """K, by which `prototypes/kK.safetensors` is found."""
        return len(self.archetypes)
