"""What listeners are likely to say of decoded trajectories: how good they sound, and whether it is the same voice."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.data.corpus import CorpusItem
from audio_engram.perception import Listener

OPINION, SIMILARITY = "dnsmos", "speaker_similarity"
RATE, SECONDS = 16_000, 10  # of the other recording


class Listeners:
    """They know every trajectory's speaker from another recording of that speaker, if the corpus has one.

    Raises:
        MissingError: if the extra `metrics` is not installed.
    """

    def __init__(self, items: Sequence[CorpusItem], utterances: Sequence[str]) -> None:
        self._listener = Listener()
        by_name = {item.id: item for item in items}
        self._speakers = [by_name[name].speaker for name in utterances]
        self._known = [self._voice_beside(by_name[name], items) for name in utterances]

    def figures(self, place: int, sound: Float[Tensor, " T"], sample_rate: int) -> dict[str, float]:
        """Both figures of the sound of the trajectory at this place; NaN where there is nothing to tell."""
        alike = float(self._listener.voice(sound, sample_rate) @ self._known[place])
        return {OPINION: self._listener.opinion(sound, sample_rate), SIMILARITY: alike}

    def of_others(self, recorded: Sequence[Float[Tensor, " T"]], sample_rate: int) -> list[float]:
        """How like each recording is to the voice that another trajectory has: what is no likeness at all."""
        return [
            float(self._listener.voice(sound, sample_rate) @ self._stranger(place))
            for place, sound in enumerate(recorded)
        ]

    def _stranger(self, place: int) -> Float[Tensor, "256"]:
        """The voice at the next place of another speaker, of whom there is another recording."""
        following = [*range(place + 1, len(self._known)), *range(place)]
        return _first(self._known[one] for one in following if self._speakers[one] != self._speakers[place])

    def _voice_beside(self, mine: CorpusItem, items: Sequence[CorpusItem]) -> Float[Tensor, "256"]:
        others = (item for item in items if item.speaker == mine.speaker and item.id != mine.id)
        return _first(self._listener.voice(other.audio(RATE)[: SECONDS * RATE], RATE) for other in others)


def _first(voices: Iterable[Float[Tensor, "256"]]) -> Float[Tensor, "256"]:
    """The first that there is; NaN without any."""
    return next((voice for voice in voices if bool(voice.isfinite().all())), torch.full((256,), torch.nan))
