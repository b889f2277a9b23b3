"""Spherical k-means against the matrix products it cannot do without, and exact PCA against `x.T @ x`."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from audio_engram.clustering import SphericalKMeans
from audio_engram.codecs.pca import Moments, principal_components
from audio_engram.seeding import further_seeds
from timing import Row, ratio, row

N, ITERATIONS = 200_000, 10


def rows() -> Iterator[Row]:
    """All rows of this file."""
    for dim, k, demand in ((128, 256, 1.7), (128, 1024, 1.5)):
        yield from kmeans_speed(dim, k, demand)
    yield kmeans_objective()
    yield mini_batches()
    yield pca_speed()
    yield from pca_accuracy()


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _directions(n: int, dim: int, decay: float = 1.0) -> Tensor:
    """Noise of a falling spectrum."""
    return torch.randn(n, dim, generator=_generator()) * decay ** torch.arange(dim)


class Products:
    """The cosines of one assignment, written into one block that stays in the cache: faster than one large product."""

    def __init__(self, x: Tensor, centers: Tensor, times: int) -> None:
        self.x, self.centers, self.times = x, centers, times
        self.block = torch.empty((1 << 19) // len(centers), len(centers))

    def __call__(self) -> None:
        """Only the products."""
        for _ in range(self.times):
            for part in self.x.split(len(self.block)):
                torch.mm(part, self.centers.T, out=self.block[: len(part)])


def kmeans_speed(dim: int, k: int, demand: float) -> Iterator[Row]:
    """Ten iterations with everything around them, and k-means++, against products in blocks."""
    x = _directions(N, dim)
    start = x[:k].clone()

    def fit() -> None:
        SphericalKMeans(k, generator=_generator(), max_iter=ITERATIONS, tol=0.0).fit(x, start)

    size = f"N 200k, D {dim}, K {k}"
    whole = ratio(fit, Products(x, start, ITERATIONS + 1), rounds=2)
    yield row(f"spherical k-means / GEMM, {size}", whole, demand, "11 assignments, 10 updates / 11 GEMMs in blocks")
    unit = torch.nn.functional.normalize(x, dim=1)
    seeded = ratio(lambda: further_seeds(unit, torch.ones(N), k, _generator()), Products(x, start, 1), rounds=3)
    yield row(f"k-means++ seeds / GEMM, {size}", seeded, None)


def kmeans_objective() -> Row:
    """Float32 against a plain float64 Lloyd from the same start."""
    x = _directions(20_000, 64, decay=0.95)
    ours = SphericalKMeans(50, generator=_generator(), max_iter=25, tol=0.0).fit(x, x[:50])
    unit = x.double().numpy()
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    centers = unit[:50]
    for _ in range(ours.n_iter_):
        labels = (unit @ centers.T).argmax(1)
        centers = np.stack([unit[labels == c].sum(0) for c in range(50)])
        centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    objective = (unit @ centers.T).max(1).mean()
    return row("spherical k-means: objective, float32 - float64 Lloyd", abs(ours.objective_ - objective), 1e-4)


def mini_batches() -> Row:
    """What a hundred mini-batches of ten rows a cluster lose."""
    x = _directions(40_000, 64, decay=0.95)
    full = SphericalKMeans(50, generator=_generator()).fit(x)
    some = SphericalKMeans(50, generator=_generator(), batch_size=500).fit(x)
    return row("mini-batch k-means: mean cosine lost to the full mode", full.objective_ - some.objective_, None)


def pca_speed() -> Row:
    """Moments and components to 90 % of variance."""
    x = _directions(N, 512, decay=0.99) + 3

    def components() -> None:
        moments = Moments()
        moments.add(x)
        principal_components(moments, 0.9)

    return row("PCA 200k x 512 to 90 % / x.T @ x", ratio(components, lambda: x.T @ x, rounds=3), 1.5)


def pca_accuracy() -> Iterator[Row]:
    """Float32 rows with a mean of a thousand deviations against float64."""
    x = _directions(50_000, 512, decay=0.99) + 1000
    moments = Moments()
    moments.add(x)
    vectors, _, explained = principal_components(moments, 0.9)
    values = np.linalg.eigvalsh(np.cov(x.double().numpy().T, bias=True))[::-1]
    shares = values.cumsum() / values.sum()
    k = int((shares < 0.9).sum()) + 1
    yield row("PCA to 90 %, mean 1000: |k - exact k|", abs(vectors.shape[1] - k), 0)
    yield row("PCA to 90 %, mean 1000: error of the share explained", abs(float(explained) - shares[k - 1]), 1e-6)
