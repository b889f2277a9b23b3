"""Windows, neighbours, ranks, quantiles, cycle errors and controls against plain computations."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from audio_engram import controls
from audio_engram.against_real import Halves
from audio_engram.codecs.base import Codec
from audio_engram.cycle_error import cycle_error
from audio_engram.errors import UsageError
from audio_engram.neighbours import earlier_distance, nearest_distance, nearest_place
from audio_engram.statistics import SpeakerBootstrap
from audio_engram.trajectory_figures import (
    CovarianceFigures,
    effective_rank,
    magnitudes,
    quantile_figure,
    share_figure,
    shared_means,
    total_variance,
    variance_quantile,
)
from audio_engram.window_space import WindowSpace


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def generator():
    return torch.Generator().manual_seed(0)


# Windows


def flat_windows(z, window, stride=1):
    """(B, M, w D) by loops, standardised by the frames of `z`."""
    z = ((z - z.flatten(0, 1).mean(0)) / z.flatten(0, 1).std(0, correction=0)).numpy()
    return np.array([[row[s : s + window].ravel() for s in range(0, z.shape[1] - window + 1, stride)] for row in z])


def test_components_are_those_of_the_windows():
    train = normal(20, 40, 5) @ normal(5, 5, seed=1) + 100
    space = WindowSpace(train, 4, 6)
    pca = PCA(6, svd_solver="full").fit(flat_windows(train, 4, 4).reshape(-1, 20))
    np.testing.assert_allclose(np.abs(space.directions.numpy().T @ pca.components_.T), np.eye(6), atol=1e-9)
    np.testing.assert_allclose(space.variance.numpy() * 200 / 199, pca.explained_variance_, rtol=1e-10)
    assert space.explained == pytest.approx(pca.explained_variance_ratio_.sum())
    points = pca.transform(flat_windows(train, 4).reshape(-1, 20)).reshape(20, 37, 6)
    np.testing.assert_allclose(space(train).abs().numpy(), np.abs(points), atol=1e-9)
    torch.testing.assert_close(space(train)[:, ::4], space(train, stride=4))


def test_distances_among_and_beside_the_components():
    train = normal(20, 40, 5)
    space = WindowSpace(train, 4, 6)
    windows = flat_windows(train, 4)
    centred = windows - flat_windows(train, 4, 4).reshape(-1, 20).mean(0)
    points = space(train).numpy()
    among, beside = space.distance(train)
    np.testing.assert_allclose(among, np.sqrt((points**2 / space.variance.numpy()).mean(2)), rtol=1e-9)
    left = centred - points @ space.directions.numpy().T
    np.testing.assert_allclose(beside, np.linalg.norm(left, axis=2), rtol=1e-9)
    # Of training windows that do not overlap the mean square is 1.
    assert float(among[:, ::4].square().mean()) == pytest.approx(1)
    assert WindowSpace(train, 4, 20).distance(train)[1].unique().tolist() == [0]


def test_windows_with_a_frame_that_is_not_finite_are_nan():
    space = WindowSpace(normal(20, 40, 5), 4, 6)
    z = normal(1, 12, 5)
    z[0, 6, 2] = torch.inf
    want = [3 <= s <= 6 for s in range(9)]
    assert space(z)[0].isnan().all(1).tolist() == want
    assert (~space.distance(z)[0][0].isfinite()).tolist() == want
    assert (~space.distance(z)[1][0].isfinite()).tolist() == want


def test_a_dimension_that_does_not_vary_and_few_windows():
    train = normal(2, 9, 5)
    train[..., 3] = 7.0
    space = WindowSpace(train, 4, 30)
    assert space.directions.shape[1] == 3  # four windows about their mean
    assert space(train).isfinite().all()


@pytest.mark.parametrize("make", [lambda: WindowSpace(normal(3, 3, 2), 4, 2), lambda: short()(normal(3, 3, 2))])
def test_too_short_for_a_window(make):
    with pytest.raises(ValueError, match="hold no window of 4"):
        make()


def short():
    return WindowSpace(normal(3, 9, 2), 4, 2)


# Neighbours


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearest_by_all_distances(dtype):
    rows, among = normal(300, 16, dtype=dtype), normal(500, 16, seed=1, dtype=dtype)
    want = torch.cdist(rows.double(), among.double(), compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    torch.testing.assert_close(
        nearest_distance(rows, among), want, rtol=1e-12 if dtype == torch.float64 else 1e-6, atol=0
    )


@pytest.mark.parametrize("chunk", [1, 7, 299, 300, 1000])
def test_chunks_change_nothing(chunk):
    rows, among = normal(300, 16), normal(500, 16, seed=1)
    assert torch.equal(nearest_place(rows, among, chunk), nearest_place(rows, among))
    assert torch.equal(nearest_distance(rows, among, chunk), nearest_distance(rows, among))


def test_a_copy_is_at_no_distance_even_in_float32():
    among = 100 + normal(500, 64, dtype=torch.float32)
    assert nearest_distance(among[::7], among).max() == 0


def test_rows_that_are_not_finite_or_enormous():
    rows = normal(4, 3, dtype=torch.float32)
    rows[1, 0], rows[2, 1], rows[3] = torch.nan, torch.inf, 3e38
    found = nearest_distance(rows, normal(9, 3, dtype=torch.float32))
    assert found.isfinite().tolist() == [True, False, False, True]


def test_the_past_by_loops():
    points = normal(3, 12, 4)
    points[1, 5] = torch.nan
    found = earlier_distance(points, 4)
    for row, out in zip(points.numpy(), found.numpy(), strict=True):
        for s in range(12):
            before = [np.linalg.norm(row[s] - row[e]) for e in range(s - 4 + 1)]
            before = [b for b in before if np.isfinite(b)]
            np.testing.assert_allclose(out[s], min(before, default=np.nan), rtol=1e-12)


def test_a_loop_comes_back_to_no_distance():
    points = normal(1, 8, 4).repeat(1, 3, 1)
    found = earlier_distance(points, 4)[0]
    assert found[8:].max() == 0
    assert found[4:8].min() > 0
    assert found[:4].isnan().all()


# Figures of frames


def test_means_are_of_the_windows_that_both_sets_have():
    one, other = normal(3, 5, 2), normal(3, 5, 2, seed=1)
    one[0, 1], other[0, 3, 0], one[2] = torch.nan, torch.inf, torch.inf
    found = shared_means(one, other)
    for means, some in zip(found, (one, other), strict=True):
        assert means.shape == (3, 1, 2)
        torch.testing.assert_close(means[0, 0], some[0, [0, 2, 4]].mean(0))
        torch.testing.assert_close(means[1, 0], some[1].mean(0))
        assert means[2].isnan().all()
    torch.testing.assert_close(total_variance(torch.cov(one[1].T)[None])[0], one[1].var(0).sum())


def test_effective_rank_of_known_spectra():
    spectra = torch.tensor([[1.0, 1, 1, 1], [5, 0, 0, 0], [1, 1, 0, 0], [0.5, 0.25, 0.25, 0]], dtype=torch.float64)
    turn = torch.linalg.qr(normal(4, 4)).Q
    found = effective_rank(turn @ torch.diag_embed(spectra) @ turn.T)
    assert found.tolist() == pytest.approx([4, 1, 2, 2**1.5])
    assert effective_rank(torch.full((1, 2, 2), torch.nan).double()).isnan().all()


def test_covariance_figures_of_sets():
    generated, real = 2 * normal(12, 30, 3), normal(12, 30, 3, seed=1) + 5
    halves = Halves(SpeakerBootstrap(torch.arange(12) // 2, 10), generator())
    of = {"rank": effective_rank, "variance": lambda c: variance_quantile(c, 0.5)}
    found = CovarianceFigures(real, of, halves)(generated)
    variances = [np.cov(z.flatten(0, 1).numpy().T) for z in (generated, real)]
    assert found["variance"].generated.value == pytest.approx(np.median(np.diag(variances[0])))
    assert found["variance"].real.value == pytest.approx(np.median(np.diag(variances[1])))
    assert found["variance"].ratio.low < 4 < found["variance"].ratio.high
    shares = np.linalg.eigvalsh(variances[1]) / np.trace(variances[1])
    assert found["rank"].real.value == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert found["rank"].halves.low < 1 < found["rank"].halves.high


def test_kept_figures_of_real_frames_are_those_of_the_frames_that_are_finite_in_both():
    sets = [normal(12, 30, 3, seed=seed) for seed in (1, 2)]
    broken = sets[1].clone()
    broken[5, 20:] = torch.nan
    real = normal(12, 30, 3, seed=3)
    halves = Halves(SpeakerBootstrap(torch.arange(12) // 2, 10), generator())
    of = {"rank": effective_rank, "variance": lambda c: variance_quantile(c, 0.5)}
    kept = CovarianceFigures(real, of, halves)
    for generated in (sets[0], broken, sets[1], sets[0]):
        assert kept(generated) == CovarianceFigures(real, of, halves)(generated)
    assert kept(broken)["variance"].real.value == pytest.approx(middle_variance(real, broken))
    holes = real.clone()
    holes[0, :10] = torch.nan
    found = CovarianceFigures(holes, of, halves)
    assert found(sets[0])["variance"].real.value == pytest.approx(middle_variance(real, holes))
    assert found(broken)["variance"].real.value == pytest.approx(middle_variance(real, holes + broken))


def middle_variance(frames, *others):
    whole = torch.stack([one.isfinite().all(2) for one in others]).all(0)
    return float(np.median(np.var(frames[whole].numpy(), axis=0, ddof=1)))


def test_quantiles_and_shares():
    generated, real = normal(10, 21).exp(), normal(10, 21, seed=1).exp()
    generated[3, 4] = torch.nan
    b = SpeakerBootstrap(torch.arange(10) // 2, 100)
    found = quantile_figure((generated, real), 0.3, b, generator())
    finite = generated[generated.isfinite()].numpy()
    want = [np.quantile(finite, 0.3, method="inverted_cdf"), np.quantile(real.numpy(), 0.3, method="inverted_cdf")]
    assert [found.generated.value, found.real.value, found.ratio.value] == pytest.approx([*want, want[0] / want[1]])
    assert found.ratio.low < found.ratio.value < found.ratio.high
    share = share_figure((generated, real), 0.8, b, generator())
    assert share.generated.value == pytest.approx((finite < 0.8).mean())
    assert share.ratio.value == pytest.approx((finite < 0.8).mean() / (real < 0.8).double().mean().item())


def test_a_quantile_of_nothing_is_nan():
    b = SpeakerBootstrap(torch.arange(4), 50)
    nothing = torch.full((4, 5), torch.nan)
    found = quantile_figure((nothing, normal(4, 5)), 0.5, b, generator())
    assert np.isnan(found.ratio.value)
    assert found.ratio.low is None
    assert np.isnan(share_figure((nothing, normal(4, 5)), 0.5, b, generator()).generated.value)


def test_magnitudes_are_those_inside():
    z = torch.tensor([[[0.0, 0], [3, 4], [3, 5]]])
    assert magnitudes(z).tolist() == [[5.0, 1.0]]


# Cycle error


class Orthogonal(Codec):
    """Frames of four samples turned by a rotation; what its decoder makes of large latents does not come back."""

    name, sample_rate, frame_rate, latent_dim = "orthogonal", 400, 100.0, 4

    def __init__(self, most: float = 10.0) -> None:
        super().__init__()
        self.most = most
        self.register_buffer("matrix", torch.linalg.qr(normal(4, 4)).Q.float())

    def analyse(self, audio):
        return audio[:, 0].unflatten(-1, (-1, 4)) @ self.matrix

    def decode(self, latents):
        return (latents.clamp(-self.most, self.most) @ self.matrix.T).flatten(1).unsqueeze(1)


def test_cycle_error_is_what_does_not_come_back():
    latents, loc, scale = normal(20, 7, 4).float(), torch.full((4,), 2.0), torch.full((4,), 0.5)
    latents[19, 5, 1] = 30.0  # raw 17, which comes back as 10: 14 standard deviations short
    found = cycle_error(Orthogonal(), latents, loc, scale)
    assert found[19, 5] == pytest.approx(14, rel=1e-5)
    found[19, 5] = 0
    assert found.max() < 1e-5


def test_cycle_error_is_nan_from_the_first_frame_that_is_not_finite():
    latents = normal(2, 6, 4).float()
    latents[0, 2, 3] = torch.inf
    found = cycle_error(Orthogonal(), latents, torch.zeros(4), torch.ones(4))
    assert found.isnan().tolist() == [[False] * 2 + [True] * 4, [False] * 6]


def test_a_codec_without_a_decoder_or_of_other_length():
    mute = Orthogonal()
    mute.playable = False
    with pytest.raises(UsageError, match="no decoder"):
        cycle_error(mute, normal(1, 2, 4).float(), torch.zeros(4), torch.ones(4))
    longer = Orthogonal()
    longer.decode = lambda latents: torch.zeros(len(latents), 1, 4 * latents.shape[1] + 4)
    with pytest.raises(UsageError, match="3 frames of 2"):
        cycle_error(longer, normal(1, 2, 4).float(), torch.zeros(4), torch.ones(4))


# Controls


def test_slow_but_correct_by_hand():
    start, future = torch.tensor([1.0]), torch.tensor([[3.0], [2.0]])
    assert controls.slow_but_correct(start, future, 0.5).tolist() == [[2.0], [1.5]]
    batch = controls.slow_but_correct(start[None], future[None], 1.0)
    torch.testing.assert_close(batch, future[None])


def test_stationary_stands():
    start = normal(3, 2)
    z = controls.stationary(start, normal(3, 5, 2))
    assert z.shape == (3, 5, 2)
    assert (z == start[:, None]).all()


def test_wrong_direction_keeps_every_magnitude_and_borrows_directions():
    start, future = normal(3, 2), normal(3, 5, 2, seed=1)
    z = controls.wrong_direction(start, future, generator())
    true, wrong = (x.diff(dim=1, prepend=start[:, None]) for x in (future, z))
    torch.testing.assert_close(wrong.norm(dim=2), true.norm(dim=2))
    angles = [torch.atan2(x[..., 0], x[..., 1]).flatten() for x in (true, wrong)]
    assert not torch.allclose(*angles)
    torch.testing.assert_close(angles[0].sort().values, angles[1].sort().values)


def test_gaussian_frames_have_the_moments_of_real_ones_and_nothing_else():
    real = torch.rand(5000, 3, generator=generator()).log() @ torch.tensor([[1.0, 2, 0], [0, 1, 1], [0, 0, 1]])
    z = controls.gaussian_frames(torch.zeros(40, 250, 3), real, generator())
    assert z.shape == (40, 250, 3)
    flat = z.flatten(0, 1)
    # 10,000 draws: standard errors of 1 % of a deviation, 1.4 % of a variance; this fails once in a million seeds.
    assert ((flat.mean(0) - real.mean(0)).abs() < 0.05 * real.std(0)).all()
    torch.testing.assert_close(torch.cov(flat.T), torch.cov(real.T), rtol=0.08, atol=0.15)
    skew = [((x - x.mean(0)) / x.std(0)).pow(3).mean(0).abs().max() for x in (real, flat)]
    assert skew[0] > 1
    assert skew[1] < 0.15
    steps = z.diff(dim=1).flatten(0, 1)  # independent frames: twice the variance
    torch.testing.assert_close(steps.var(0), 2 * real.var(0), rtol=0.08, atol=0)


def test_shuffled_frames_stay_in_their_trajectory():
    future = normal(3, 50, 2)
    z = controls.shuffled_frames(future, generator())
    assert not torch.equal(z, future)
    for one, other in zip(z, future, strict=True):
        assert sorted(one.tolist()) == sorted(other.tolist())
    assert torch.equal(z, controls.shuffled_frames(future, generator()))
