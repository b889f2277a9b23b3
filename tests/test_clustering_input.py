"""What k-means is given by hand from Python: every mistake is one line of the house, and nothing else is refused."""

from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor

from audio_engram import unit_rows
from audio_engram.clustering import SphericalKMeans, TooFewDirectionsError, assign, cluster_sums
from audio_engram.errors import DataError, EngramError, UsageError

N, D, K = 30, 4, 3


@pytest.fixture(autouse=True)
def annotations_are_not_executed() -> Iterator[None]:
    """As in use, where types of arguments are not checked beforehand."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def rows(n: int = N, dim: int = D) -> Tensor:
    return torch.randn(n, dim, generator=seeded(), dtype=torch.float64)


def means(k: Any = K, **options: Any) -> SphericalKMeans:
    return SphericalKMeans(k, **{"generator": seeded(), "n_init": 1, "max_iter": 5} | options)


def refused(kind: type[EngramError], words: str, do: Callable[[], Any]) -> None:
    with pytest.raises(kind) as caught:
        do()
    assert str(caught.value) == f"k-means: {words}"
    assert caught.value.__cause__ is None


class Computed:
    """Rows that `make` makes of their numbers."""

    def __init__(self, make: Callable[[Tensor], Any], n: int = N) -> None:
        self.make, self.n = make, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: Tensor) -> Any:
        return self.make(index)


@pytest.mark.parametrize("name", ["n_clusters", "n_init", "max_iter", "batch_size"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        *((value, f"{value}: give 1 or more") for value in (0, -3)),
        *((value, f"{value}: give a whole number") for value in (2.0, "3", [2], float("nan"))),
    ],
)
def test_numbers_of_things_are_whole_and_1_or_more(name: str, value: Any, words: str) -> None:
    refused(UsageError, f"{name} = {words}", lambda: means(**({"k": value} if name == "n_clusters" else {name: value})))


def test_other_kinds_of_whole_numbers_will_do() -> None:
    found = means(np.int64(K), n_init=torch.tensor(1), max_iter=np.int32(5), tol=np.float32(0.0)).fit(rows())
    assert torch.equal(found.labels_, means(tol=0).fit(rows()).labels_)


@pytest.mark.parametrize("tol", [-1e-9, float("nan"), "0.1", None])
def test_a_tolerance_is_0_or_more(tol: Any) -> None:
    refused(UsageError, f"tol = {tol}: give 0 or more", lambda: means(tol=tol))


@pytest.mark.parametrize("generator", [None, 0, np.random.default_rng(0)])
def test_a_generator_is_one_of_torch(generator: Any) -> None:
    refused(
        UsageError, f"generator = {generator}: give a torch.Generator of the CPU", lambda: means(generator=generator)
    )


NO_ROWS = {
    "a vector": (rows()[0], "of shape (4,): give (N, D)"),
    "a number": (torch.tensor(1.0), "of shape (): give (N, D)"),
    "three axes": (rows().view(N, 2, 2), "of shape (30, 2, 2): give (N, D)"),
    "whole numbers": (torch.ones(N, D, dtype=torch.long), "of torch.int64: give floating-point numbers"),
    "truth values": (torch.ones(N, D, dtype=torch.bool), "of torch.bool: give floating-point numbers"),
    "complex numbers": (torch.ones(N, D, dtype=torch.complex64), "of torch.complex64: give floating-point numbers"),
    "a list": (rows().tolist(), "in a list: give a tensor (N, D), or what returns one"),
    "an array": (rows().numpy(), "in a ndarray: give a tensor (N, D), or what returns one"),
    "nothing": (None, "in a NoneType: give a tensor (N, D), or what returns one"),
}
NO_PARTS = {
    "computes an array": (Computed(lambda index: np.ones((len(index), D))), "rows in a ndarray: give a tensor (N, D)"),
    "computes a vector": (Computed(lambda index: torch.ones(len(index))), "rows of shape ({n},): give (N, D)"),
    "computes too few": (
        Computed(lambda index: rows()[:2]),
        "2 rows came where {n} were asked for: return one for each number",
    ),
}


@pytest.mark.parametrize("batch_size", [None, 10])
@pytest.mark.parametrize("given", NO_ROWS)
def test_what_is_no_table_of_numbers_is_refused(given: str, batch_size: int | None) -> None:
    wrong, words = NO_ROWS[given]
    refused(UsageError, f"rows {words}", lambda: means(batch_size=batch_size).fit(wrong))
    fitted = means().fit(rows())
    refused(UsageError, f"rows {words}", lambda: fitted.predict(wrong))
    refused(UsageError, f"rows {words}", lambda: fitted.score(wrong))


@pytest.mark.parametrize("given", [name for name in NO_ROWS if name != "nothing"])
def test_a_start_is_held_to_the_same(given: str) -> None:
    wrong, words = NO_ROWS[given]
    refused(UsageError, f"start {words}", lambda: means().fit(rows(), wrong))


@pytest.mark.parametrize("batch_size", [None, 10])
@pytest.mark.parametrize("given", NO_PARTS)
def test_what_computes_no_rows_is_refused(given: str, batch_size: int | None) -> None:
    wrong, words = NO_PARTS[given]
    refused(UsageError, words.format(n=batch_size or N), lambda: means(batch_size=batch_size).fit(wrong))


def test_rows_of_several_widths_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_rows, "READ", 10)
    # One wide would fit everywhere, if it were taken for what all have in common.
    uneven = Computed(lambda index: rows()[index][:, : 1 if int(index[0]) else D])
    refused(UsageError, "row 10 has 1 dimensions, row 0 has 4", lambda: means().fit(uneven))


@pytest.mark.parametrize("batch_size", [None, 10])
def test_widths_must_agree(batch_size: int | None) -> None:
    fitted, other = means(batch_size=batch_size).fit(rows()), rows(N, D + 1)
    words = "rows (30, 5) and centroids (3, 4): give (N, D), (K, D)"
    refused(UsageError, words, lambda: fitted.predict(other))
    refused(UsageError, words, lambda: fitted.score(other))
    words = f"rows ({batch_size or N}, 4) and centroids (3, 5): give (N, D), (K, D)"
    refused(UsageError, words, lambda: means(batch_size=batch_size).fit(rows(), rows(K, D + 1)))


@pytest.mark.parametrize("batch_size", [None, 10])
def test_more_clusters_than_rows_and_no_rows_are_refused(batch_size: int | None) -> None:
    for n in (0, 2):
        words = f"n_clusters = 3, but only {n} rows: ask for at most that"
        refused(TooFewDirectionsError, words, lambda n=n: means(batch_size=batch_size).fit(rows(n)))
    fitted = means().fit(rows())
    for ask in (fitted.predict, fitted.score):
        refused(DataError, "no rows: give at least one", lambda ask=ask: ask(rows(0)))
    refused(UsageError, "start has 0 centroids for n_clusters = 3: give one each", lambda: means().fit(rows(), rows(0)))


def test_nothing_is_foretold_before_a_fit() -> None:
    for ask in (means().predict, means().score):
        refused(UsageError, "no centroids yet: call fit first", lambda ask=ask: ask(rows()))


@pytest.mark.parametrize(
    ("value", "fault"),
    [(0.0, "zero and has no direction"), (torch.nan, "not finite"), (-torch.inf, "not finite")],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_rows_without_a_direction_are_refused_wherever_they_stand(value: float, fault: str, dtype: torch.dtype) -> None:
    wrong = rows(K).to(dtype)
    wrong[1] = value
    refused(DataError, f"row 1 is {fault}: leave such rows out", lambda: means().fit(wrong))
    refused(DataError, f"row 1 is {fault}: leave such rows out", lambda: means(batch_size=90).fit(wrong))
    fitted = means().fit(rows())
    refused(DataError, f"row 1 is {fault}: leave such rows out", lambda: fitted.predict(wrong))
    refused(DataError, f"row of start 1 is {fault}: leave such rows out", lambda: means().fit(rows(), wrong))


@pytest.mark.parametrize("batch_size", [None, 10])
def test_rows_may_lie_anywhere_in_memory_and_carry_gradients(batch_size: int | None) -> None:
    plain = means(batch_size=batch_size).fit(rows(), rows()[:K])
    wide = rows().repeat_interleave(2, 1)
    views = {
        "transposed": rows().T.contiguous().T,
        "strided": wide[:, ::2],
        "expanded": rows().unsqueeze(0).expand(2, -1, -1)[1],
        "with gradients": rows().requires_grad_(),
    }
    for name, view in views.items():
        found = means(batch_size=batch_size).fit(view, view[:K])
        assert torch.equal(found.cluster_centers_, plain.cluster_centers_), name
        assert torch.equal(found.predict(view), plain.predict(rows())), name
        assert not found.cluster_centers_.requires_grad


def test_sums_and_nearest_centroids_refuse_what_does_not_belong_together() -> None:
    x, labels = rows(), torch.arange(N) % K
    words = "labels are not one of 0 to 2 for each of 30 rows: mend them"
    for wrong in (labels[:-1], labels + 1, labels - 1, labels.unsqueeze(1), torch.zeros(0, dtype=torch.long)):
        refused(UsageError, words, lambda wrong=wrong: cluster_sums(x, wrong, K, False))
    assert not cluster_sums(x[:0], labels[:0], K, False).any()
    for centers in (rows(K, D + 1), rows(0), rows()[0]):
        words = f"rows (30, 4) and centroids {tuple(centers.shape)}: give (N, D), (K, D)"
        refused(UsageError, words, lambda centers=centers: assign(x, centers))
