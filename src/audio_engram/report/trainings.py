"""Losses by epoch, each training under the words that its model has everywhere on the page."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from audio_engram.report import words
from audio_engram.report.figure import Drawn, Figure, figure
from audio_engram.report.folder import Epoch
from audio_engram.report.lines import Look, epoch_records, line_panel
from audio_engram.report.series import Curve, data_order, model_order, style_of

FORM = re.compile(
    r"(?:regime-)?(?P<model>.+?)(?:-lag(?P<lag>\d+))?(?:-(?:unroll|k)(?P<unroll>\d+))?"
    rf"(?:-(?P<data>{'|'.join(words.DATA)}))?"
)
"""What a run calls its trainings: `mdn-lag2-shuffled_within`, `vmf-unroll16`, `regime-vmf-coupled-k16`."""
WORDS = {
    "two-stage-directions": "two stages: directions",
    "two-stage-magnitudes": "two stages: magnitudes",
    "denoiser-unconditional": "denoiser of frames alone",
    "denoiser-conditional": "denoiser given the context",
}
STOPPED = "Ended by the limit of epochs: validation still improved."
NATS = "Loss by epoch, nats per frame: training dotted, validation solid."
DENOISERS = (
    "Loss of denoisers by epoch: the squared error over that of the best linear denoiser at the same noise level. "
    "Training dotted, validation solid."
)


class Training(NamedTuple):
    """What was trained: a model as the page knows it, at which lag, over how many steps, and on which data."""

    model: str
    lag: int = 1
    unroll: int = 1
    data: str = "real"

    @property
    def label(self) -> str:
        """The words of the panel's title."""
        lag = f", lag {self.lag}" if self.lag > 1 else ""
        unrolled = f", unrolled K = {self.unroll}" if self.unroll > 1 else ""
        return words.of_data((WORDS.get(self.model) or words.model(self.model)) + unrolled + lag, self.data)


def training_of(name: str) -> Training:
    """What a run's name of a training says; one that says nothing known is its own words."""
    found = FORM.fullmatch(name)
    if found is None:
        return Training(name)
    model, lag, unroll, data = found.group("model", "lag", "unroll", "data")
    if unroll and f"{model}_k{unroll}" in words.MODELS:
        model, unroll = f"{model}_k{unroll}", None
    return Training(model, int(lag or 1), int(unroll or 1), data or "real")


def training(losses: Mapping[str, list[Epoch]]) -> list[Figure]:
    """Training and validation loss of each model by epoch; what is no likelihood apart."""
    drawn: dict[str, list[Drawn]] = {NATS: [], DENOISERS: []}
    for place, name in enumerate(sorted(losses, key=_order)):
        caption = DENOISERS if name.startswith("denoiser-") else NATS
        drawn[caption].append(_panel(name, f"training-{place}", losses[name]))
    return [one for caption, panels in drawn.items() for one in figure(caption, panels)]


def _order(name: str) -> tuple[object, ...]:
    what = training_of(name)
    return (data_order(what.data), model_order(what.model), what.lag, what.unroll, name)


def _panel(name: str, prefix: str, epochs: Iterable[Epoch]) -> Drawn:
    what, epochs = training_of(name), list(epochs)
    style = style_of(what.model)._replace(marker="")
    drawn = [
        Curve("training", style._replace(dash="dotted"), epoch_records([(e.epoch, e.train) for e in epochs])),
        Curve("validation", style, epoch_records([(e.epoch, e.validation) for e in epochs])),
    ]
    panel = line_panel(what.label, prefix, drawn, Look("step", x_label="epoch"))
    return replace(panel, note=panel.note or (STOPPED if _still_improving(epochs) else "")), []


def _still_improving(epochs: Sequence[Epoch]) -> bool:
    """Whether the last epoch was the best on validation speakers, so that it was no want of gain that ended it."""
    losses = [e.validation for e in epochs if e.validation is not None]
    return bool(epochs) and bool(losses) and epochs[-1].validation == min(losses)
