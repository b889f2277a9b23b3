"""Windows of consecutive frames as points: standardised, then the first principal components of training windows.

A window of w frames z_t .. z_{t+w-1} is one vector of w D numbers, each dimension less its training mean and over its
training standard deviation. Components are not whitened: a distance between points is one between windows, as far as
the components show it. Everything is float64.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.pca import Moments, principal_components

FLAT = 1e-10  # of the largest variance; a component below it is rounding


class WindowSpace:
    """The principal components of windows of training trajectories.

    `components` is how many at most: there are no more than training windows or dimensions that vary.

    Raises:
        ValueError: if the trajectories are shorter than a window.
        DataError: if they do not vary.
    """

    def __init__(self, train: Float[Tensor, "B S D"], window: int, components: int) -> None:
        _check_length(train, window)
        whole = train.shape[1] // window * window
        self.window = window
        flat = train.double().flatten(0, 1)
        self.loc, scale = flat.mean(0), flat.std(0, correction=0)
        self.scale = torch.where(scale > 0, scale, 1.0)
        moments = Moments()
        standardised = (train[:, :whole].double() - self.loc) / self.scale
        moments.add(standardised.reshape(-1, window * train.shape[2]))
        keep = min(components, moments.count, window * train.shape[2])
        vectors, values, _ = principal_components(moments, keep)
        alive = values > FLAT * values[0]
        self.directions: Float[Tensor, "wD k"] = vectors[:, alive]
        self.variance: Float[Tensor, " k"] = values[alive]
        self._mean = moments.mean
        self.explained = float(self.variance.sum() / moments.covariance.trace())

    def __call__(self, latents: Float[Tensor, "B S D"], stride: int = 1) -> Float[Tensor, "B M k"]:
        """Every window (every `stride`-th) of each trajectory; NaN where a frame of it is not finite.

        Raises:
            ValueError: if the trajectories are shorter than a window.
        """
        points = torch.stack([windows @ self.directions for windows in self._windows(latents, stride)])
        return points.masked_fill(~points.isfinite().all(2, keepdim=True), torch.nan)

    def distance(self, latents: Float[Tensor, "B S D"]) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M"]]:
        """How far every window is from the training mean: among the components, and beside them.

        The first is Mahalanobis, in training standard deviations, as a root mean square over components; the second
        is Euclidean, of what the components leave (Jackson & Mudholkar 1979), and 0 if they leave nothing.
        """
        among, beside = [], []
        for windows in self._windows(latents, 1):
            squares = (windows @ self.directions).square()
            among.append((squares / self.variance).mean(1).sqrt())
            left = (windows.square().sum(1) - squares.sum(1)).clamp(min=0).sqrt()
            beside.append(left if self.explained < 1 - FLAT else left * 0)
        return torch.stack(among), torch.stack(beside)

    def _windows(self, latents: Float[Tensor, "B S D"], stride: int) -> Iterator[Float[Tensor, "M wD"]]:
        """The windows of one trajectory after the other, about their mean: of all at once they would fill memory."""
        _check_length(latents, self.window)
        for one in latents:
            z = (one.double() - self.loc) / self.scale
            yield z.unfold(0, self.window, stride).mT.flatten(1) - self._mean


def _check_length(latents: Float[Tensor, "B S D"], window: int) -> None:
    if latents.shape[1] < window:
        raise ValueError(f"trajectories of {latents.shape[1]} frames hold no window of {window}: use longer ones")
