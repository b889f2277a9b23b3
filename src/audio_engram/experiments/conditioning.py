"""Coarse clusters of contexts: three ways to say in one number where a trajectory is."""

from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor

from audio_engram.data.windows import Windows
from audio_engram.errors import DataError

COMPONENTS = 8
QUARTILES = (0.25, 0.5, 0.75)
MOST = 32_768
"""Training contexts that clusters are fitted on, evenly spread; all are assigned."""
BATCH = 2048


class Conditioning(ABC):
    """Assigns a cluster to a context; `confidence` grows with the distance from where the cluster would change."""

    name: str

    @abstractmethod
    def assign(self, contexts: Float[Tensor, "B W D"]) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
        """Return cluster and confidence of each context."""

    def assign_all(self, windows: Windows, index: Int[Tensor, " M"]) -> tuple[Int[Tensor, " M"], Float[Tensor, " M"]]:
        """The same for segments of a split, a few at a time."""
        found = [self.assign(segment.context) for segment in windows.batches(index, BATCH)]
        return torch.cat([labels for labels, _ in found]), torch.cat([sure for _, sure in found])


class MeanPooled(Conditioning):
    """K-means on the mean of the context's frames."""

    def __init__(self, contexts: Float[Tensor, "N W D"], n_clusters: int, seed: int) -> None:
        self.name = f"mean pool, k-means {n_clusters}"
        self._means = _fit(contexts.mean(1).numpy(), n_clusters, seed)

    def assign(self, contexts: Float[Tensor, "B W D"]) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
        """The nearest centroid."""
        return _nearest(self._means, contexts.mean(1))


class Components:
    """The first principal components of the whole context, flattened."""

    def __init__(self, contexts: Float[Tensor, "N W D"], seed: int, n: int = COMPONENTS) -> None:
        flat = contexts.flatten(1)
        self._pca = PCA(min(n, *flat.shape), svd_solver="randomized", iterated_power=7, random_state=seed)
        self.fitted = torch.from_numpy(self._pca.fit_transform(flat.numpy()))
        self.scale = self.fitted.std(0)

    def project(self, contexts: Float[Tensor, "B W D"]) -> Float[Tensor, "B k"]:
        """Return the components of each context."""
        return torch.from_numpy(self._pca.transform(contexts.flatten(1).numpy()))


class Flattened(Conditioning):
    """K-means on the components."""

    def __init__(self, components: Components, n_clusters: int, seed: int) -> None:
        self.name = f"PCA {COMPONENTS}, k-means {n_clusters}"
        self._components = components
        self._means = _fit(components.fitted.numpy(), n_clusters, seed)

    def assign(self, contexts: Float[Tensor, "B W D"]) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
        """The nearest centroid."""
        return _nearest(self._means, self._components.project(contexts))


class Quartiles(Conditioning):
    """Each component cut at its quartiles: 4^8 cells, most of them empty."""

    name = f"PCA {COMPONENTS}, quartiles"

    def __init__(self, components: Components) -> None:
        self._components = components
        quartiles = torch.tensor(QUARTILES, dtype=components.fitted.dtype)
        self._edges = components.fitted.quantile(quartiles, dim=0)
        self._scale = components.scale

    def assign(self, contexts: Float[Tensor, "B W D"]) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
        """The cell; confidence is the distance to its nearest wall in standard deviations of that component."""
        x = self._components.project(contexts)
        above = x.unsqueeze(1) > self._edges
        places = 4 ** torch.arange(x.shape[1])
        walls = ((x.unsqueeze(1) - self._edges).abs() / self._scale).flatten(1)
        return (above.sum(1) * places).sum(1), walls.min(1).values


def conditionings(windows: Windows, n_clusters: tuple[int, int], seed: int) -> list[Conditioning]:
    """The three, fitted on training contexts: pooled with `n_clusters[0]`, flattened with `n_clusters[1]`, quartiles.

    Raises:
        DataError: fewer contexts than clusters.
    """
    contexts = windows.gather(windows.evenly(MOST)).context
    if len(contexts) < max(n_clusters):
        raise DataError(
            f"structure: {len(contexts)} training contexts cannot make {max(n_clusters)} clusters: add audio"
        )
    components = Components(contexts, seed)
    pooled, flattened = n_clusters
    return [
        MeanPooled(contexts, pooled, seed),
        Flattened(components, flattened, seed),
        Quartiles(components),
    ]


def _fit(rows: np.ndarray, n_clusters: int, seed: int) -> Float[Tensor, "K D"]:
    fitted = KMeans(n_clusters, n_init=4, random_state=seed).fit(rows)
    return torch.from_numpy(fitted.cluster_centers_).to(torch.from_numpy(rows).dtype)


def _nearest(means: Float[Tensor, "K D"], rows: Float[Tensor, "B D"]) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """The nearest centroid, and by how much the next one is further away, relative to both."""
    distance = torch.cdist(rows, means)
    near, place = distance.topk(2, dim=1, largest=False)
    return place[:, 0], (near[:, 1] - near[:, 0]) / (near[:, 1] + near[:, 0]).clamp(min=1e-12)
