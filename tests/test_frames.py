"""Frames: standardised by the training split alone, silence marked, surrogates that only reorder."""

import pytest
import torch

from audio_engram.data.frames import Frames, _random_phases, load_frames
from audio_engram.data.manifest import StoreInfo, Utterance
from audio_engram.data.store import StoreWriter
from audio_engram.data.windows import Windows
from audio_engram.dynamics.baselines import autoregressed
from audio_engram.errors import DataError
from toys import ar_frames, make_frames, walk

D = 4
SPLIT_OF = {"anna": "train", "ben": "train", "cleo": "validation", "dora": "test"}


def write_store(folder, utterances):
    info = StoreInfo(
        codec="toy",
        codec_fingerprint="toy",
        tap="",
        sample_rate=16_000,
        frame_rate=12.5,
        latent_dim=D,
        dtype="float32",
        corpus="toy",
        corpus_hash="toy",
    )
    writer = StoreWriter(folder, info)
    for number, (speaker, z) in enumerate(utterances):
        writer.add(Utterance(f"{speaker}-{number}", speaker, len(z) / 12.5), z)
    return writer.finish(len(utterances))


def utterances(seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for n, speaker in enumerate(["dora", "anna", "cleo", "ben", "anna", "dora", "ben", "cleo"]):
        offset, spread = (5.0, 3.0) if speaker in ("cleo", "dora") else (1.0, 0.5)
        found.append((speaker, offset + spread * torch.randn(20 + n, D, generator=generator)))
    return found


@pytest.fixture
def frames(tmp_path):
    return load_frames(write_store(tmp_path / "store", utterances()), SPLIT_OF)


def test_standardised_by_the_training_split_alone(frames, tmp_path):
    train = torch.cat([z for speaker, z in utterances() if SPLIT_OF[speaker] == "train"])
    torch.testing.assert_close(frames.loc, train.mean(0))
    torch.testing.assert_close(frames.scale, train.std(0, correction=0))
    inside = frames.z[frames.in_split("train")]
    torch.testing.assert_close(inside.mean(0), torch.zeros(D), atol=1e-5, rtol=0)
    torch.testing.assert_close(inside.std(0, correction=0), torch.ones(D), atol=1e-5, rtol=0)
    # Held-out speakers may stand anywhere; they change nothing.
    moved = [(s, z + 100 if SPLIT_OF[s] != "train" else z) for s, z in utterances()]
    other = load_frames(write_store(tmp_path / "moved", moved), SPLIT_OF)
    assert torch.equal(frames.loc, other.loc)
    assert torch.equal(frames.scale, other.scale)
    assert torch.equal(inside, other.z[other.in_split("train")])


def test_frames_know_their_speaker_split_and_utterance(frames):
    raw = frames.z * frames.scale + frames.loc
    for number, (speaker, z) in enumerate(utterances()):
        rows = slice(int(frames.offsets[number]), int(frames.offsets[number + 1]))
        torch.testing.assert_close(raw[rows], z, rtol=1e-4, atol=1e-4)
        assert frames.utterances[number] == f"{speaker}-{number}"
        assert {frames.speakers[i] for i in frames.speaker[rows].tolist()} == {speaker}
        assert frames.in_split(SPLIT_OF[speaker])[rows].all()
        assert (frames.utterance[rows] == number).all()
        assert not frames.moving[rows][0]
        assert frames.moving[rows][1:].all()
    assert frames.silent() == 0
    assert frames.dim == D


def test_a_dimension_that_never_varies_is_refused(tmp_path):
    flat = [(s, torch.cat([z[:, :2], torch.full((len(z), 1), 3.0), z[:, 3:]], 1)) for s, z in utterances()]
    with pytest.raises(DataError, match=r"dimension 2 \(1 in all\) never varies in the training split"):
        load_frames(write_store(tmp_path / "flat", flat), SPLIT_OF)


def rows(z):
    """A multiset of frames."""
    return sorted(map(tuple, z.tolist()))


def test_shuffled_within_keeps_the_frames_of_every_utterance(frames):
    shuffled = frames.shuffled("within", 0)
    for u in range(len(frames.utterances)):
        inside = frames.utterance == u
        assert rows(shuffled.z[inside]) == rows(frames.z[inside])
        assert not torch.equal(shuffled.z[inside], frames.z[inside])
    assert torch.equal(shuffled.speaker, frames.speaker)


def test_shuffled_across_keeps_the_frames_and_their_speakers_in_every_split(frames):
    shuffled = frames.shuffled("across", 0)
    speaker_of = {tuple(z): s for z, s in zip(frames.z.tolist(), frames.speaker.tolist(), strict=True)}
    for split in ("train", "validation", "test"):
        inside = frames.in_split(split)
        assert rows(shuffled.z[inside]) == rows(frames.z[inside])
    assert shuffled.speaker.tolist() == [speaker_of[tuple(z)] for z in shuffled.z.tolist()]
    # Frames do leave their utterance.
    first = frames.utterance == 1
    assert rows(shuffled.z[first]) != rows(frames.z[first])


@pytest.mark.parametrize("where", ["within", "across"])
def test_a_surrogate_is_standardised_and_cut_like_the_frames(frames, where):
    shuffled = frames.shuffled(where, 0)
    for name in ("loc", "scale", "offsets", "split"):
        assert torch.equal(getattr(shuffled, name), getattr(frames, name))
    assert torch.equal(shuffled.z, frames.shuffled(where, 0).z)
    assert not torch.equal(shuffled.z, frames.shuffled(where, 1).z)
    assert len(Windows(shuffled, "test", 3, 2)) == len(Windows(frames, "test", 3, 2))
    assert not shuffled.moving[shuffled.offsets[:-1]].any()


@pytest.mark.parametrize("where", ["within", "across"])
def test_shuffling_leaves_no_order(where):
    # Lag-1 autocorrelation of 4,000 exchangeable frames has deviation 0.016: five of them.
    z = walk(4000, 2)[:, 1:].float() / 60
    frames = make_frames([z, z[:50]], ["train", "test"])
    s = frames.shuffled(where, 0).z[:4000, 0]
    s = s - s.mean()
    assert abs(float((s[1:] * s[:-1]).mean() / s.square().mean())) < 0.08


def test_shuffling_is_uniform():
    # Each of the 6 orders of 3 frames has probability 1/6: 1,200 draws, deviation 13 of 200, five of them.
    z = torch.tensor([[0.0], [1.0], [3.0]])
    frames = make_frames([z], ["train"])
    orders = [tuple(frames.shuffled("within", seed).z.flatten().tolist()) for seed in range(1200)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert max(abs(c - 200) for c in counts) < 65


def test_silence_is_counted_and_threshold_comes_from_training():
    train, test = walk(41, D, 0), 20 * walk(91, D, 1)
    train[:, 0], test[:, 0] = 0, 0
    for t in (10, 11, 30):
        train[t] = train[t - 1]
    test[7] = test[6]
    median = train.diff(dim=0).norm(dim=1).sort().values[19]
    test[20] = test[19] + torch.tensor([0.0, float(0.0009 * median), 0.0, 0.0])
    test[25] = test[24] + torch.tensor([0.0, float(0.0011 * median), 0.0, 0.0])
    frames = make_frames([train, test], ["train", "test"])
    assert (~frames.moving).nonzero().flatten().tolist() == [0, 10, 11, 30, 41, 41 + 7, 41 + 20]
    assert frames.silent() == 5
    assert isinstance(frames, Frames)


def test_random_phases_keep_spectra_and_means_and_lose_the_rest():
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(3, 3, generator=generator)
    one = torch.randn(60, 3, generator=generator).exp() @ mixed
    for rows in (one, one[:59]):
        made = _random_phases(rows, generator)
        f, g = torch.fft.rfft(rows.double(), dim=0), torch.fft.rfft(made.double(), dim=0)
        torch.testing.assert_close(g.abs(), f.abs(), rtol=1e-4, atol=1e-4)
        cross = f.unsqueeze(2) * f.conj().unsqueeze(1)
        torch.testing.assert_close(g.unsqueeze(2) * g.conj().unsqueeze(1), cross, rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(made.mean(0), rows.mean(0), rtol=1e-4, atol=1e-5)
        assert (made - rows).abs().max() > 0.1


def test_the_phase_surrogate_stays_inside_utterances_and_is_the_same_from_the_same_seed():
    frames = ar_frames(6, 40)
    first, again, other = (frames.phase_randomised(seed) for seed in (0, 0, 1))
    assert torch.equal(first.z, again.z)
    assert not torch.equal(first.z, other.z)
    for start, end in zip(frames.offsets[:-1].tolist(), frames.offsets[1:].tolist(), strict=True):
        torch.testing.assert_close(first.z[start:end].mean(0), frames.z[start:end].mean(0), rtol=1e-4, atol=1e-5)
        assert not first.moving[start]


def with_silence():
    """Two utterances of which the first is silent for a while at both ends and once within."""
    z = walk(60, D)
    for start, end in ((0, 5), (20, 24), (57, 60)):
        z[start:end] = -2.0
    return make_frames([z, walk(30, D, 1)], ["train", "test"])


def test_silence_parts_an_utterance_into_stretches():
    frames = with_silence()
    quiet = [*range(5), *range(20, 24), *range(57, 60)]
    assert frames.quiet.nonzero().flatten().tolist() == quiet
    starts, lengths = frames.stretches()
    assert (starts.tolist(), lengths.tolist()) == ([5, 24, 60], [15, 33, 30])


@pytest.mark.parametrize(
    "make",
    [
        lambda frames: frames.shuffled("within", 0),
        lambda frames: frames.shuffled("across", 0),
        lambda frames: frames.phase_randomised(0),
        lambda frames: autoregressed(frames, 0),
    ],
)
def test_every_surrogate_leaves_silence_where_it_is(make):
    frames = with_silence()
    made = make(frames)
    assert torch.equal(made.z[frames.quiet], frames.z[frames.quiet])
    assert torch.equal(made.moving, frames.moving)
    sounding = ~frames.quiet
    assert (made.z[sounding] != frames.z[sounding]).any(1).double().mean() > 0.8


@pytest.mark.parametrize("where", ["within", "across"])
def test_what_sounds_is_shuffled_among_itself(where):
    frames = with_silence()
    made, sounding = frames.shuffled(where, 0), ~frames.quiet
    for part in (slice(0, 60), slice(60, 90)):
        mine, theirs = (one.z[part][sounding[part]] for one in (made, frames))
        assert torch.equal(mine.sort(0).values, theirs.sort(0).values)
