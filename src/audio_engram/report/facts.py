"""Where the numbers come from: short lists of facts for the head and the foot of the page."""

from audio_engram import numbers
from audio_engram.measurements import Measurements
from audio_engram.report.folder import CodecFacts, CorpusFacts, Provenance, as_dict
from audio_engram.report.tables import Table

Facts = list[tuple[str, str]]


def summary(provenance: Provenance, measured: Measurements) -> Facts:
    """The run in one line."""
    codec, corpus = provenance.codec, provenance.corpus
    heard = numbers.duration(corpus.seconds) if corpus.seconds else ""
    facts = [
        ("Codec", codec.name),
        ("Latents", _latents(codec)),
        ("Corpus", f"{corpus.name}{', ' + heard if heard else ''}"),
        (f"Speakers ({' / '.join(corpus.speakers)})", _counts(corpus.speakers)),
        ("Seed", str(provenance.seed)),
        ("Version", provenance.version),
    ]
    return [(name, value) for name, value in facts if value]


def _latents(codec: CodecFacts) -> str:
    parts = [
        "" if codec.latent_dim is None else f"{codec.latent_dim} dimensions",
        "" if codec.frame_rate is None else f"{codec.frame_rate:g} Hz",
    ]
    return " at ".join(part for part in parts if part)


def _counts(counts: dict[str, int]) -> str:
    return " / ".join(numbers.count(n) for n in counts.values())


def run_facts(provenance: Provenance) -> Facts:
    """Version, seed, machine."""
    facts = [
        ("Version", provenance.version),
        ("Seed", str(provenance.seed)),
        ("Device", provenance.device),
    ]
    if provenance.precision:  # of older runs it is not known
        facts.append(("Training in", provenance.precision))
    if provenance.peak_memory_bytes is not None:
        facts.append(("Peak memory", numbers.size(provenance.peak_memory_bytes)))
    return facts


def codec_facts(provenance: Provenance) -> Facts:
    """All that is known of the codec."""
    return [(_name(key), _fact(key, value)) for key, value in as_dict(provenance.codec).items()]


def corpus_facts(provenance: Provenance) -> Facts:
    """The corpus and the length of what was used."""
    corpus = provenance.corpus
    short = [("Utterances shorter than one latent, left out", numbers.count(corpus.without_latent))]
    shared = [("Splits", corpus.shared_between_splits)]
    return [
        ("Name", corpus.name),
        ("Kind", _kind(corpus)),
        ("Length", numbers.duration(corpus.seconds)),
        ("Silent frames left out", numbers.count(corpus.silent_frames)),
        *(short if corpus.without_latent else []),
        *(shared if corpus.shared_between_splits else []),
    ]


def _kind(corpus: CorpusFacts) -> str:
    if corpus.synthetic:
        return "synthetic"
    return "latents without recordings" if corpus.name.startswith("latents:") else "recorded"


def provenance_tables(provenance: Provenance) -> list[Table]:
    """Counts with their reasons, the split, and the wall time of each stage."""
    corpus = provenance.corpus
    splits = tuple(dict.fromkeys([*corpus.speakers, *corpus.frames]))
    found = [
        _pairs("Files of the corpus.", ("files", "count"), corpus.counts),
        _pairs("Why files were skipped or failed.", ("reason", "files"), corpus.reasons),
        Table(
            "The split by speaker: no speaker stands in two splits.",
            ("split", "speakers", "frames"),
            tuple((s, _known(corpus.speakers.get(s)), _known(corpus.frames.get(s))) for s in splits),
        ),
        Table(
            "Wall time by stage.",
            ("stage", "time"),
            tuple((stage.name, numbers.duration(stage.seconds)) for stage in provenance.stages),
        ),
    ]
    return [table for table in found if table.rows]


def _pairs(caption: str, columns: tuple[str, str], counts: dict[str, int]) -> Table:
    return Table(caption, columns, tuple((name, numbers.count(n)) for name, n in counts.items()))


def _known(value: int | None) -> str:
    return "–" if value is None else numbers.count(value)


def _name(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _fact(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,g} Hz" if key.endswith("_rate") else f"{value:,g}"
    return str(value)
