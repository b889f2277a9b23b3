"""What an archetype sounds like: the held-out increments nearest to it, in the recordings that they come from."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram import numbers
from audio_engram.archetype_map import FILE, Archetype, ArchetypeMap, Moment
from audio_engram.clips import write_clip
from audio_engram.data.corpus import CorpusItem
from audio_engram.runs import Run

GROUP = "Archetypes"
HALF = 0.4  # seconds of the recording before and after an increment
FADE = 0.01
GAP = 0.3


def archetype_clips(run: Run, items: Mapping[str, CorpusItem]) -> list[dict[str, object]]:
    """Write one sound for each archetype of `archetypes.json` that is to be heard, and return the rows of the index.

    There are none where the run measured no archetypes.
    """
    file = run.folder / FILE
    if not file.exists():
        return []
    found = ArchetypeMap.model_validate_json(file.read_text(encoding="utf-8")).archetypes
    heard = sorted((k for k, one in enumerate(found) if one.nearest), key=lambda k: (-found[k].size, k))
    return [_one(run, items, k, found[k]) for k in heard]


def _one(run: Run, items: Mapping[str, CorpusItem], k: int, archetype: Archetype) -> dict[str, object]:
    run.log(f"audio: archetype {k}")
    rate, hop = run.codec.sample_rate, run.codec.hop
    parts = [around(items[m.utterance].audio(rate), m.frame * hop, rate) for m in archetype.nearest]
    row = write_clip(run.folder / "audio", f"archetype-{k}", joined(parts, rate), rate)
    known = numbers.plural(archetype.size, "training increment")
    return row | {
        "group": GROUP,
        "kind": "archetype",
        "label": f"Archetype {k}",
        "note": "; ".join(filter(None, [known, archetype.heard, str(row["note"])])),
        "parts": [_said(moment) for moment in archetype.nearest],
    }


def around(audio: Float[Tensor, " T"], middle: int, sample_rate: int) -> Float[Tensor, " T2"]:
    """The recording around a sample, faded at both ends; silence stands where the recording has ended."""
    half = round(HALF * sample_rate)
    start, end = middle - half, middle + half
    heard = audio[max(0, start) : max(0, end)].clone()
    n = min(round(FADE * sample_rate), len(heard) // 2)
    ramp = torch.sin(torch.pi / 2 * (torch.arange(n) + 0.5) / max(n, 1)).square()
    heard[:n] *= ramp
    heard[len(heard) - n :] *= ramp.flip(0)
    before = max(0, -start)
    return torch.nn.functional.pad(heard, (before, 2 * half - before - len(heard)))


def joined(parts: list[Tensor], sample_rate: int) -> Float[Tensor, " T"]:
    """Clips one after another, with silence between them."""
    gap = torch.zeros(round(GAP * sample_rate))
    return torch.cat([piece for part in parts for piece in (gap, part)][1:])


def _said(moment: Moment) -> str:
    return f"{moment.utterance} at {moment.second:.2f} s, speaker {moment.speaker}, cosine {moment.cosine:.3f}"
