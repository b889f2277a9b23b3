"""What is known of a world beforehand, as a record beside the measured ones."""

from audio_engram.data.processes import Analytic
from audio_engram.measurements import Measurement
from audio_engram.runs import Run


def analytic(run: Run, known: Analytic, experiment: str) -> Measurement:
    """The exact value of a figure, which has no interval."""
    return Measurement(
        experiment=experiment,
        model=known.model,
        metric=f"{known.metric}_analytic",
        value=known.value,
        codec=run.codec_name,
        lag=known.lag,
        mode="analytic",
    )
