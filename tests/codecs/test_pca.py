"""Principal components against NumPy in float64, and as a wrapper around a codec."""

import numpy as np
import pytest
import torch

from audio_engram.codecs.conformance import check_codec
from audio_engram.codecs.mel import MelCodec
from audio_engram.codecs.pca import Moments, Projected, check_components, principal_components
from audio_engram.errors import DataError, UsageError


def data(n: int = 4000, dim: int = 24, mean: float = 0.0, seed: int = 0, decay: float = 0.8) -> torch.Tensor:
    """Rows with a falling spectrum and a large mean if asked."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    scales = decay ** torch.arange(dim, dtype=torch.float64)
    rows = torch.randn(n, dim, generator=generator, dtype=torch.float64) * scales
    return rows @ torch.linalg.qr(mixing).Q + mean


def gathered(rows: torch.Tensor, parts: int = 3) -> Moments:
    moments = Moments()
    for part in rows.chunk(parts):
        moments.add(part)
    return moments


@pytest.mark.parametrize("mean", [0.0, 1e3, -1e6])
def test_moments_are_exact_whatever_the_mean(mean: float) -> None:
    rows = data(20_000, mean=mean)
    moments = gathered(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-12, atol=1e-12)
    # Adding a mean of 1e6 to the rows already rounds them at 1e-10.
    np.testing.assert_allclose(moments.covariance, np.cov(rows.numpy().T, bias=True), atol=1e-9)


def test_single_precision_rows_with_a_large_mean_keep_their_covariance() -> None:
    rows = (data(20_000) + 300).float()
    exact = np.cov(rows.double().numpy().T, bias=True)
    # A plain float32 product of rows around 300 would be off by about 300² x 1e-7 = 1e-2.
    np.testing.assert_allclose(gathered(rows).covariance, exact, atol=2e-6)


@pytest.mark.parametrize("keep", [1, 5, 24, 0.5, 0.9, 0.999])
def test_components_are_those_of_an_eigendecomposition(keep: float) -> None:
    rows = data(mean=1e4)
    values = np.linalg.eigvalsh(np.cov(rows.numpy().T, bias=True))[::-1]
    vectors, found, explained = principal_components(gathered(rows), keep)
    shares = np.cumsum(values) / values.sum()
    k = int(keep) if keep >= 1 else int(np.searchsorted(shares, keep)) + 1
    assert vectors.shape == (24, k)
    np.testing.assert_allclose(found, values[:k], rtol=1e-8)
    np.testing.assert_allclose(float(explained), shares[k - 1], rtol=1e-10)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(k), atol=1e-12)
    assert keep >= 1 or (shares[k - 1] >= keep and (k == 1 or shares[k - 2] < keep))


def test_more_components_than_rows_are_refused() -> None:
    with pytest.raises(DataError, match="do not span"):
        principal_components(gathered(data(3)), 5)
    with pytest.raises(DataError, match="do not span"):
        principal_components(gathered(torch.ones(10, 3)), 0.9)


def latents() -> torch.Tensor:
    return data(600, 512, mean=2.0, decay=0.99).float()


def test_all_components_restore_the_latents_and_few_are_the_nearest() -> None:
    rows, inner = latents(), MelCodec(iterations=2)
    whole = Projected(inner, [rows], 0)
    assert whole.latent_dim == 512
    torch.testing.assert_close(whole.restore(whole.project(rows[None])), rows[None], atol=2e-4, rtol=0)
    few = Projected(inner, [rows], 4)
    again = few.restore(few.project(rows[None]))
    lost = (again - rows).square().mean()
    total = (rows - rows.mean(0)).square().mean()
    assert float(1 - lost / total) == pytest.approx(few.explained, abs=1e-5)
    torch.testing.assert_close(few.project(again), few.project(rows[None]), atol=1e-3, rtol=0)


def test_whitened_components_are_uncorrelated_with_unit_variance() -> None:
    rows = latents()
    white = Projected(MelCodec(iterations=2), [rows[:300], rows[300:]], 20, whiten=True)
    projected = white.project(rows[None])[0]
    np.testing.assert_allclose(np.cov(projected.numpy().T, bias=True), np.eye(20), atol=2e-3)
    assert white.title == "mel 12.5 Hz · PCA 20 whitened"


def test_dead_dimensions_cannot_be_whitened() -> None:
    rows = torch.cat([data(600, 500, decay=0.99).float(), torch.zeros(600, 12)], 1)
    with pytest.raises(DataError, match="only 500 components vary"):
        Projected(MelCodec(), [rows], 0, whiten=True)


def test_a_share_that_one_component_explains_has_no_directions() -> None:
    rows = data(600, 512, decay=0.1).float()
    with pytest.raises(UsageError, match=r"codec\.pca = 0\.5: one component explains 9\d\.\d% .* raise the share"):
        Projected(MelCodec(), [rows], 0.5)


@pytest.mark.parametrize("keep", [513, 2.5, 1])
def test_components_that_are_not_there_are_refused(keep: float) -> None:
    with pytest.raises(UsageError, match=r"codec.pca = .*mel 12.5 Hz has 512 dimensions"):
        check_components(MelCodec(), keep)


def test_a_projected_codec_conforms() -> None:
    inner = MelCodec(iterations=4)
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(1, 1, 16000 * 8, generator=generator) * torch.linspace(0.001, 0.3, 16000 * 8)
    codec = Projected(inner, [inner.encode(audio)[0]], 64)
    failed = {result.name for result in check_codec(codec) if not result.ok}
    # Components of noise are no basis for speech, so how it sounds is not asked here.
    assert failed <= {"round_trip", "gain", "delay"}
