"""Breathing k-means on the sphere: leave the local optimum in which two groups share a centroid and another has two.

After Fritzke (2020), "The breathing k-means algorithm": a few centroids are added where directions fit worst, as many
are taken away where they are missed least, and both ends are settled by k-means; what is better is kept.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.clustering import SphericalKMeans
from audio_engram.seeding import chunk_rows

DEPTH = 5
GAIN = 1e-5  # of mean cosine, below which a breath was in vain


def fit_breathing(n_clusters: int, rows: Float[Tensor, "N D"], generator: torch.Generator) -> SphericalKMeans:
    """Cluster unit rows; the objective is never below that of the k-means it starts from.

    Raises:
        DataError: as `SphericalKMeans.fit`.
    """
    best = SphericalKMeans(n_clusters, generator=generator, n_init=1).fit(rows)
    depth = min(DEPTH, n_clusters - 1, len(rows) - n_clusters)
    while depth > 0:
        wide = SphericalKMeans(n_clusters + depth, generator=generator).fit(rows, _with_more(rows, best, depth))
        again = SphericalKMeans(n_clusters, generator=generator).fit(rows, _with_fewer(rows, wide, depth))
        if again.objective_ > best.objective_ + GAIN:
            best = again
        else:
            depth -= 1
    return best


def _with_more(rows: Tensor, means: SphericalKMeans, depth: int) -> Float[Tensor, "K D"]:
    """A second centroid in each of the clusters that fit worst: the row that fits it worst."""
    centres, labels = means.cluster_centers_, means.labels_
    apart = 1 - _two_best(rows, centres)[:, 0].double()
    error = torch.zeros(len(centres), dtype=torch.float64, device=rows.device).index_add(0, labels, apart)
    worst = error.topk(depth).indices
    added = [rows[torch.where(labels == cluster, apart, -1.0).argmax()] for cluster in worst]
    return torch.cat([centres, torch.stack(added)])


def _with_fewer(rows: Tensor, means: SphericalKMeans, depth: int) -> Float[Tensor, "K D"]:
    """Without the centroids whose rows would lose least by going to the next; of two neighbours only one goes."""
    centres, labels = means.cluster_centers_, means.labels_
    first, second = _two_best(rows, centres).double().unbind(1)
    missed = torch.zeros(len(centres), dtype=torch.float64, device=rows.device).index_add(0, labels, first - second)
    neighbour = (centres @ centres.T).fill_diagonal_(-2.0).argmax(1).tolist()
    gone: list[int] = []
    kept: set[int] = set()
    for cluster in missed.argsort().tolist():
        if len(gone) < depth and cluster not in kept:
            gone.append(cluster)
            kept.add(neighbour[cluster])
    # Where neighbours of neighbours leave too few to choose from, the rest goes by what is missed least alone.
    gone += [cluster for cluster in missed.argsort().tolist() if cluster not in gone][: depth - len(gone)]
    stays = torch.ones(len(centres), dtype=torch.bool, device=rows.device)
    stays[gone] = False
    return centres[stays]


def _two_best(rows: Tensor, centres: Tensor) -> Float[Tensor, "N 2"]:
    """Cosines to the nearest centroid and to the next."""
    return torch.cat([(part @ centres.T).topk(2, dim=1).values for part in rows.split(chunk_rows(rows, len(centres)))])
