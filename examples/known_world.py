"""A world whose truth is known, measured like any corpus: `python examples/known_world.py`, under a minute.

The analytic values are those of the true process: no model does better, and a longer training comes nearer.
"""

import tempfile

from audio_engram.config import read_config
from audio_engram.data.worlds import AR, WORLDS
from audio_engram.experiments import predictability
from audio_engram.measurements import Measurements
from audio_engram.runs import Run


class SmallAR(AR):
    """A rotating linear process, drawn small enough for a few seconds of training."""

    name = "small_ar"
    speakers, utterances_per_speaker, frames = 40, 2, 250


WORLDS[SmallAR.name] = SmallAR
SETTINGS = (
    "data.corpus=world:small_ar",
    "model.context=2",
    "model.width=64",
    "model.components=1",
    "train.batch_size=128",
    "train.learning_rate=0.002",
    "train.epochs=6",
    "experiments.lags=[1, 2]",
    "experiments.surrogate_lags=[]",
    "experiments.resamples=1000",
)

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder, read_config(settings=SETTINGS), log=lambda line: None)
        measured = Measurements(predictability(run).measurements)
    print(f"{'metric':17} lag {'analytic':>9} {'measured (mdn)':>15}  95 % interval over speakers")
    for known in measured.select(mode="analytic", model="truth"):
        metric = known.metric.removesuffix("_analytic")
        found = measured.one(metric=metric, model="mdn", lag=known.lag)
        interval = f"[{found.low:.3f}, {found.high:.3f}]"
        print(f"{metric:17} {known.lag:3} {known.value:9.3f} {found.value:15.3f}  {interval}")
