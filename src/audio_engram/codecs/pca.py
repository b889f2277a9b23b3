"""Principal components of latents: exact, in one pass over data of any size."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.base import Codec
from audio_engram.codecs.projected import Wrapper
from audio_engram.errors import DataError, UsageError

CHUNK = 8192


class Moments:
    """Mean and covariance of rows, gathered in chunks.

    Products are taken in the data's own type after the first chunk's mean is subtracted, and added up in float64, so
    that a large mean costs no digits (Chan, Golub and LeVeque 1983, on shifted data).
    """

    def __init__(self) -> None:
        self.count = 0
        self._shift = self._sum = self._products = torch.empty(0)

    def add(self, rows: Float[Tensor, "N D"]) -> None:
        """Take rows into account."""
        for part in rows.split(CHUNK):
            if self.count == 0:
                self._shift = part.double().mean(0).to(rows.dtype)
                self._sum = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
                self._products = torch.zeros(*2 * rows.shape[1:], dtype=torch.float64, device=rows.device)
            shifted = part - self._shift
            self._sum += shifted.sum(0, dtype=torch.float64)
            self._products += shifted.T @ shifted
            self.count += len(part)

    @property
    def mean(self) -> Float[Tensor, " D"]:
        """Mean, float64."""
        return self._shift.double() + self._sum / self.count

    @property
    def covariance(self) -> Float[Tensor, "D D"]:
        """Covariance with divisor N, float64."""
        about = self._sum / self.count
        return self._products / self.count - torch.outer(about, about)


def principal_components(
    moments: Moments, keep: int | float
) -> tuple[Float[Tensor, "D k"], Float[Tensor, " k"], Float[Tensor, ""]]:
    """Directions (columns, by falling variance), their variances, and the share of all variance they explain.

    `keep` at or above 1 is how many; below 1 it is the share of variance that the fewest of them must reach.

    Raises:
        DataError: the data have no variance, or fewer rows than components asked for.
    """
    values, vectors = torch.linalg.eigh(moments.covariance)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    total = values.sum()
    if not total > 0 or moments.count < max(2, keep):
        raise DataError(f"codec.pca = {keep:g}: {moments.count} training frames do not span as many components")
    shares = values.cumsum(0) / total
    k = int(keep) if keep >= 1 else int((shares < keep - 1e-12).sum()) + 1
    # A component's sign is arbitrary: its largest entry is made positive, so that every machine finds the same.
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return (vectors * largest.sign())[:, :k], values[:k], shares[k - 1]


class Projected(Wrapper):
    """The first principal components of latents, whitened if asked: each divided by its standard deviation."""

    centre: Tensor
    directions: Tensor
    deviation: Tensor

    def __init__(
        self, inner: Codec, rows: Iterable[Float[Tensor, "N D"]], keep: int | float, whiten: bool = False
    ) -> None:
        """`rows` are latents of `inner` of training speakers; `keep` as in `principal_components`, 0 for all."""
        super().__init__(inner)
        check_components(inner, keep)
        moments = Moments()
        for part in rows:
            moments.add(part)
        vectors, values, explained = principal_components(moments, keep or inner.latent_dim)
        if not bool((values > 1e-10 * values[0]).all()):
            alive = int((values > 1e-10 * values[0]).sum())
            raise DataError(f"codec.pca: only {alive} components vary: set codec.pca to at most that")
        self.latent_dim = vectors.shape[1]
        self.explained = float(explained)
        if self.latent_dim < 2:
            raise UsageError(
                f"codec.pca = {keep:g}: one component explains {self.explained:.1%} of the variance of {inner.title},"
                " and a direction needs at least 2: raise the share, or give a number of components"
            )
        self.options = {"pca": keep, "whiten": whiten}
        self.register_buffer("centre", moments.mean.float())
        self.register_buffer("directions", vectors.float())
        self.register_buffer("deviation", (values.sqrt() if whiten else torch.ones_like(values)).float())

    @property
    def treatment(self) -> str:
        """`PCA 32`, `whitened`."""
        pca = f"PCA {self.latent_dim}" if self.options["pca"] else ""
        return f"{pca} whitened".strip() if self.options["whiten"] else pca

    def project(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B N2 D2"]:
        """Return the components."""
        return (latents - self.centre) @ self.directions / self.deviation

    def restore(self, latents: Float[Tensor, "B N2 D2"]) -> Float[Tensor, "B N D"]:
        """Return the nearest latents in the space of the components."""
        return (latents * self.deviation) @ self.directions.T + self.centre


def check_components(inner: Codec, keep: int | float) -> None:
    """Raises: UsageError for a number of components that these latents do not have, or that has no directions."""
    if inner.latent_dim < 2:
        raise UsageError(
            f"codec.stack: {inner.title} has 1 dimension, and a direction needs at least 2: give latents with more"
            " channels, or put frames side by side with codec.stack=2"
        )
    if keep >= 1 and (keep != int(keep) or not 2 <= keep <= inner.latent_dim):
        raise UsageError(
            f"codec.pca = {keep:g}: {inner.title} has {inner.latent_dim} dimensions: give a whole number from 2 to"
            " that, or a share of the variance below 1"
        )
