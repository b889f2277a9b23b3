"""Breathing k-means finds what plain k-means misses, and never ends below it."""

import pytest
import torch
import torch.nn.functional as F

from audio_engram.breathing import fit_breathing
from audio_engram.clustering import SphericalKMeans
from audio_engram.errors import DataError


def planted(n_clusters=48, each=60, dim=16, spread=0.08, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(n_clusters, dim, generator=generator), dim=1)
    rows = centres.repeat_interleave(each, 0) + spread * torch.randn(n_clusters * each, dim, generator=generator)
    return F.normalize(rows, dim=1), torch.arange(n_clusters).repeat_interleave(each)


@pytest.mark.parametrize("seed", range(5))
def test_every_planted_cluster_is_found_from_any_start(seed):
    rows, truth = planted()
    found = fit_breathing(48, rows, torch.Generator().manual_seed(seed))
    joint = torch.zeros(48, 48).index_put_((truth, found.labels_), torch.ones(len(rows)), accumulate=True)
    assert (joint.amax(1) > 55).all()  # each planted cluster is one of those found, but for a few stray rows
    assert len(joint.argmax(1).unique()) == 48


def test_it_never_ends_below_the_k_means_it_starts_from():
    rows = F.normalize(torch.randn(800, 6, generator=torch.Generator().manual_seed(1)), dim=1)
    for k in (2, 3, 7, 40):
        plain = SphericalKMeans(k, generator=torch.Generator().manual_seed(k), n_init=1).fit(rows)
        assert fit_breathing(k, rows, torch.Generator().manual_seed(k)).objective_ >= plain.objective_


def test_the_result_is_a_partition_into_the_number_asked_for_and_repeats_itself():
    rows, _ = planted(seed=2)
    first, again = (fit_breathing(10, rows, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.cluster_centers_, again.cluster_centers_)
    assert first.cluster_centers_.shape == (10, 16)
    assert torch.equal(first.labels_, (rows @ first.cluster_centers_.T).argmax(1))
    assert len(first.labels_.unique()) == 10


def test_as_many_clusters_as_rows_leave_no_room_to_breathe():
    rows, _ = planted(4, 2)
    assert fit_breathing(8, rows, torch.Generator().manual_seed(0)).objective_ == pytest.approx(1.0)
    with pytest.raises(DataError, match="n_clusters = 9, but only 8 rows"):
        fit_breathing(9, rows, torch.Generator().manual_seed(0))
