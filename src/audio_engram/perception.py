"""What listeners are likely to say of a sound, by two trained models that the extra `metrics` brings.

Opinion: DNSMOS P.835, overall (Reddy, Gopal and Cutler 2022; package `speechmos`). Voice: GE2E embedding (Wan, Wang,
Papir and Lopez Moreno 2018; package `resemblyzer`); voices are alike as far as the cosine of theirs is high.
"""

import warnings

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.acoustics import _resampled
from audio_engram.audio import rms_db
from audio_engram.extras import require
from audio_engram.pitch import SAMPLE_RATE
from audio_engram.sound_figures import SILENT_DB

WHAT = "experiments.listeners"
LEVEL_DB = -30.0  # that the model of voices was trained at


class Listener:
    """Both models, which are loaded here.

    Raises:
        MissingError: if the extra is not installed.
    """

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated names that they import
            self._opinions = require("speechmos.dnsmos", WHAT, "metrics")
            self._voices = require("resemblyzer", WHAT, "metrics").VoiceEncoder("cpu", verbose=False)

    def opinion(self, samples: Float[Tensor, " T"], sample_rate: int) -> float:
        """Overall quality, 1 to 5. What is louder than full scale is clipped, as a file would be; what is shorter than
        the 9.01 s of the model is repeated. NaN as for `voice`."""
        heard = _heard(samples, sample_rate)
        if heard is None:
            return float("nan")
        return float(self._opinions.run(heard.clip(-1, 1), SAMPLE_RATE)["ovrl_mos"])

    def voice(self, samples: Float[Tensor, " T"], sample_rate: int) -> Float[Tensor, "256"]:
        """The embedding, of length 1; NaN for what is shorter than a second, not finite or silent."""
        heard = _heard(samples, sample_rate)
        if heard is None:
            return torch.full((256,), torch.nan)
        gain = 10 ** ((LEVEL_DB - float(rms_db(torch.from_numpy(heard)))) / 20)
        return torch.from_numpy(self._voices.embed_utterance(heard * np.float32(gain)))


def _heard(samples: Float[Tensor, " T"], sample_rate: int) -> np.ndarray | None:
    if len(samples) < sample_rate or not bool(samples.isfinite().all()):
        return None
    heard = _resampled(samples.float(), sample_rate)
    return None if float(rms_db(heard)) <= SILENT_DB else heard.numpy()
