"""What a linear rule knows of a frame: the Gaussian that a denoiser starts from."""

import torch
from jaxtyping import Float
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn

from audio_engram.data.windows import Windows

MAX_MEASURED = 20_000  # frames


class LinearGaussian(nn.Module):
    """N(loc + weight · last frame, basis · diag(scale²) · basisᵀ): the frame given the one before, or by itself.

    The columns of `basis` are principal axes, `scale` the standard deviation along each.
    """

    loc: Tensor
    weight: Tensor | None
    basis: Tensor
    scale: Tensor

    def __init__(self, dim: int, conditional: bool) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(dim))
        self.register_buffer("weight", torch.zeros(dim, dim) if conditional else None)
        self.register_buffer("basis", torch.eye(dim))
        self.register_buffer("scale", torch.ones(dim))

    def forward(self, context: Float[Tensor, "B W D"]) -> Float[Tensor, "#B D"]:
        """The expected frame."""
        return self.loc.unsqueeze(0) if self.weight is None else self.loc + context[:, -1] @ self.weight.T

    def measure(self, windows: Windows) -> None:
        """Read mean and covariance off the windows: their future frames, and those directly before.

        Covariances are shrunk (Ledoit & Wolf 2004), since few frames in many dimensions would make some of it zero.
        """
        place = windows.target[windows.evenly(MAX_MEASURED)]
        z, dim = windows.frames.z, windows.frames.dim
        rows = (z[place] if self.weight is None else torch.cat([z[place], z[place - 1]], dim=1)).double()
        loc, covariance = rows.mean(0), torch.from_numpy(ledoit_wolf(rows.numpy())[0])
        own, centre = covariance[:dim, :dim], loc[:dim]
        if self.weight is not None:
            across, before = covariance[:dim, dim:], covariance[dim:, dim:]
            weight = torch.linalg.solve(before, across, left=False)
            own, centre = own - weight @ across.T, centre - weight @ loc[dim:]
            self.weight.copy_(weight)
        variance, basis = torch.linalg.eigh((own + own.T) / 2)
        self.loc.copy_(centre)
        self.basis.copy_(basis)
        self.scale.copy_(variance.clamp(min=0).sqrt())
