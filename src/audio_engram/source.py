"""Where the latents of a run come from: a corpus, a codec, a store on disk, and who is held out."""

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from audio_engram.codecs.base import Codec, load_codec
from audio_engram.codecs.soundless import Soundless, refuse_codec
from audio_engram.config import Config
from audio_engram.data.array_store import write_arrays
from audio_engram.data.arrays import Arrays, named_arrays
from audio_engram.data.corpus import Corpus, open_corpus
from audio_engram.data.extract import ExtractConfig, extract
from audio_engram.data.processes import World
from audio_engram.data.splits import Split, split_speakers
from audio_engram.data.store import LatentStore
from audio_engram.data.worlds import world, write_world


class Source:
    """Stored latents of one codec over one corpus; every representation derived from them shares it.

    `like` is the source whose speakers are held out here too, so that figures of two codecs are of the same people.
    """

    def __init__(self, config: Config, latents: Path, device: torch.device, like: "Source | None" = None) -> None:
        self.config, self.latents, self.device, self.like = config, latents, device, like

    @cached_property
    def world(self) -> World | None:
        """The known-answer world that is the corpus, if one is."""
        spec = self.config.data.corpus
        return world(spec) if spec.startswith("world:") else None

    @cached_property
    def arrays(self) -> Arrays | None:
        """The latents that somebody else made, if they are the corpus."""
        spec = self.config.data.corpus
        return named_arrays(spec) if spec.startswith("latents:") else None

    @cached_property
    def corpus(self) -> Corpus | None:
        """The recordings; a world and latents without a codec have none."""
        return open_corpus(self.config.data.corpus) if self.world is None and self.arrays is None else None

    @cached_property
    def codec(self) -> Codec:
        """The frozen codec whose latents are stored; where there is none, something that is silent."""
        if self.world is not None:
            refuse_codec(self.config)
            return Soundless(f"world:{self.world.name}", self.world.frame_rate, self.world.dim)
        if self.arrays is not None:
            refuse_codec(self.config, allowed=("frame_rate",))
            return Soundless("latents", self.config.codec.frame_rate, self.arrays.latent_dim)
        return load_codec(self.config.codec).to(self.device).eval()

    @cached_property
    def store(self) -> LatentStore:
        """The latents, extracted on first use."""
        if self.world is not None:
            return write_world(self.world, self.config.seed, self.latents)
        max_failed = self.config.data.max_failed
        if self.arrays is not None:
            return write_arrays(self.arrays, self.codec.frame_rate, self.latents, max_failed)
        assert self.corpus is not None
        return extract(self.corpus, self.codec, self.latents, ExtractConfig(max_failed=max_failed))

    @cached_property
    def split_of(self) -> dict[str, Split]:
        """The split of each speaker."""
        if self.like is not None:
            # Whoever was too short to be heard there is only trained on here.
            known = self.like.split_of
            return {name: known.get(name, "train") for name in self.store.frames_by_speaker}
        data, people = self.config.data, self.corpus or self.arrays
        if people is not None:
            # Too few speakers must not show after the hours of encoding; who counts is known only then.
            split_speakers(dict.fromkeys(people.speakers, 1), data.validation, data.test)
        return split_speakers(
            self.store.frames_by_speaker, data.validation, data.test, self.config.seed, data.max_share
        )

    def training_latents(self) -> list[Tensor]:
        """The latents of every training utterance, as they are stored."""
        return [self.store[u.id] for u in self.store.utterances if self.split_of[u.speaker] == "train"]
